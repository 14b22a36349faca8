"""Runs the conformance suites on the library's own classes, and on an adapter as a third party would."""

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from ornstein.core import (
    SDE,
    FlowSchedule,
    GaussianDenoiser,
    Grid,
    Sampler,
    Schedule,
    TrainingTimes,
    Weighting,
    conformance,
)
from ornstein.core.conformance import EXAMPLES, instances

pytest_generate_tests = conformance.pytest_generate_tests
globals().update(
    {
        name: value
        for name, value in vars(conformance).items()
        if name.startswith("test_") and not name.startswith("test_adapter")
    }
)


@pytest.mark.parametrize(
    "subject",
    [one for base in (Schedule, Grid, Weighting, TrainingTimes, Sampler) for one in instances(base)],
    ids=lambda subject: repr(subject)[:70],
)
def test_components_go_to_other_processes(subject: object) -> None:
    """Lightning spawns processes and data loaders fork them, both through pickle."""
    assert repr(pickle.loads(pickle.dumps(subject))) == repr(subject)


def test_denoisers_go_to_other_processes() -> None:
    denoiser = GaussianDenoiser(SDE(FlowSchedule()), torch.zeros(2), torch.eye(2))
    x = torch.ones(1, 2)
    assert torch.equal(pickle.loads(pickle.dumps(denoiser))(x, 0.3).mean, denoiser(x, 0.3).mean)


def test_suites_find_every_public_class() -> None:
    import ornstein.core

    for base in (Schedule, Grid, Weighting, TrainingTimes, Sampler):
        public = {
            value
            for value in vars(ornstein.core).values()
            if isinstance(value, type) and issubclass(value, base) and not getattr(value, "__abstractmethods__", None)
        }
        # Some samplers are made for one measurement, classifier or denoiser, and tested with one.
        given = {cls for cls in public if {"measurement", "classifier"} & {*getattr(cls, "__dataclass_fields__", ())}}
        given |= {cls for cls in public if EXAMPLES.get(cls) == ()}
        assert public - given == {type(one) for one in instances(base)}


def test_suites_leave_test_doubles_alone() -> None:
    @dataclass(frozen=True)
    class Double(Grid):
        def times(self, steps: int, process: SDE) -> torch.Tensor:
            return torch.zeros(steps)

    assert not any(isinstance(grid, Double) for grid in instances(Grid))


def _pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    repository = Path(__file__).resolve().parents[2]
    paths = [str(repository), str(repository / "tests" / "core" / "plugin")]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "pytest_ornstein", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_third_party_tests_its_adapter_by_name(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    suite = ("--pyargs", "ornstein.core.conformance", "-k", "test_adapter")
    run = _pytest(tmp_path, *suite, "--adapter", "toy", "--adapter-args", '{"steps": 3}')
    assert run.returncode == 0, run.stdout
    assert "6 passed" in run.stdout
