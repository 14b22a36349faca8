"""Distillation through an adapter's ``fit``: rounds, what is saved, and runs that were interrupted."""

from pathlib import Path
from typing import Any

import ornstein_toy as toy
import pytest
import torch
import yaml
from lightning.pytorch import Callback

from ornstein.core import (
    DDIM,
    AnnealedPairs,
    ConsistencyObjective,
    UniformTime,
    progressive_distillation,
)
from ornstein.core.distillation import halved
from ornstein.core.training import load_state

OPTIONS: dict[str, Any] = {"max_steps": 6, "checkpoint_every": 2, "sample_every": 0, "log_every_n_steps": 2}


def made() -> toy.ToyDiffusion:
    torch.manual_seed(0)
    return toy.ToyDiffusion()


class Fail(Callback):
    """Ends the run once, after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("a failure")


def test_rounds_leave_a_student_with_its_sampler_and_without_its_teacher(tmp_path: Path) -> None:
    adapter = made()
    teacher = DDIM(8, grid=UniformTime())
    names, objective = set(adapter.state_dict()), adapter.objective
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    runs = progressive_distillation(
        adapter, toy.ToyData(), sampler=teacher, steps=2, guidance=1.5, run=tmp_path, **OPTIONS
    )
    assert [run.folder.name for run in runs] == ["4-steps", "2-steps"]
    assert all(run.finished for run in runs)
    assert adapter.sampler == halved(halved(teacher, adapter.denoiser.process), adapter.denoiser.process)
    assert adapter.objective is objective
    assert set(adapter.state_dict()) == names
    assert any(not torch.equal(before[name], value) for name, value in adapter.state_dict().items())
    loaded = toy.ToyDiffusion.from_pretrained(runs[-1].model)
    assert set(loaded.state_dict()) == names
    config = yaml.safe_load((runs[1].folder / "config.yaml").read_text())
    assert config["objective"]["class_path"] == "ornstein.core.ProgressiveObjective"
    assert config["objective"]["init_args"]["sampler"]["init_args"]["steps"] == 4
    state = load_state(runs[1].folder / "checkpoints" / "last.ckpt")["state_dict"]
    assert any(name.startswith("objective.teacher.") for name in state)


def test_an_interrupted_call_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = made()
    arguments: dict[str, Any] = {"sampler": DDIM(4), "steps": 1, **OPTIONS}
    progressive_distillation(whole, toy.ToyData(), run=tmp_path / "whole", **arguments)
    broken = made()
    progressive_distillation(broken, toy.ToyData(), run=tmp_path / "run", **{**arguments, "steps": 2})
    with pytest.raises(RuntimeError, match="a failure"):
        progressive_distillation(made(), toy.ToyData(), run=tmp_path / "run", callbacks=[Fail(4)], **arguments)
    again = made()
    runs = progressive_distillation(again, toy.ToyData(), run=tmp_path / "run", **arguments)
    assert [run.step for run in runs] == [6, 6]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert again.sampler == whole.sampler


def test_a_curriculum_resumes_at_its_step(tmp_path: Path) -> None:
    """A run that failed and went on ends with the weights of one that did not: the pairs depend on the step."""

    def fit(run: Path, **options: Any) -> toy.ToyDiffusion:
        adapter = made()
        objective = ConsistencyObjective(AnnealedPairs(stage=1), adapter.denoiser)
        adapter.fit(toy.ToyData(), run=run, objective=objective, **OPTIONS, **options)
        assert int(objective.taken) == 6
        return adapter

    whole = fit(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="a failure"):
        fit(tmp_path / "run", callbacks=[Fail(5)])
    again = fit(tmp_path / "run")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize("steps", [0, 3, 8, 16])
def test_steps_that_halving_does_not_reach_are_named(steps: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"steps={steps}"):
        progressive_distillation(made(), toy.ToyData(), sampler=DDIM(8), steps=steps, run=tmp_path)
