"""A run killed with SIGKILL and continued ends bit for bit where an uninterrupted one ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ornstein.core.training import load_state

sys.path.insert(0, str(Path(__file__).parent))
from resume_script import train

HERE = Path(__file__).parent
OPTIONS = {
    "max_steps": 20,
    "checkpoint_every": 5,
    "sample_every": 8,
    "num_samples": 2,
    "log_every_n_steps": 5,
    "lr": 1e-2,
}


def _run(options: dict[str, Any], step: int, *runs: Path) -> int:
    """Train in processes of their own; its exit status."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "plugin"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "resume_script.py"), json.dumps(options), str(step), *map(str, runs)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode in (0, -signal.SIGKILL), run.stderr
    return run.returncode


def _differences(a: Any, b: Any, where: str = "") -> list[str]:
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [where]
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        return [found for key in a for found in _differences(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        return [
            found for i, pair in enumerate(zip(a, b, strict=True)) for found in _differences(*pair, f"{where}[{i}]")
        ]
    return [] if a == b else [where]


def _check(whole: Path, killed: Path) -> None:
    states = [load_state(run / "checkpoints" / "last.ckpt") for run in (whole, killed)]
    assert states[0]["global_step"] == 20
    assert _differences(*states) == []
    models = [(run / "model" / "model.safetensors").read_bytes() for run in (whole, killed)]
    assert models[0] == models[1]


def _step(run: Path) -> int:
    return load_state(run / "checkpoints" / "last.ckpt")["global_step"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_on_one_process(workers: int, tmp_path: Path) -> None:
    options = OPTIONS | {"data": {"num_workers": workers, "validation": 10}, "validate_every": 5}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert _run(options, 13, killed) == -signal.SIGKILL
    assert _step(killed) == 10
    train(str(killed), 0, options)
    train(str(whole), 0, options)
    _check(whole, killed)


@pytest.mark.slow
def test_on_two_processes(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPU cores")
    options = OPTIONS | {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert _run(options, 13, killed) == -signal.SIGKILL
    assert _step(killed) == 10
    assert _run(options, 0, killed, whole) == 0
    _check(whole, killed)
