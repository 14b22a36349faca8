"""Runs in a folder: what they leave, and when they are continued or refused."""

import csv
import json
import os
import shutil
import signal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ornstein_toy as toy
import pytest
import torch
import yaml
from lightning.pytorch import Callback
from PIL import Image

from ornstein.core.config import from_config
from ornstein.core.training import EMA, DiffusionModule, PowerEMA, Run, TrainingOptions, load_state, reconstruct


def _fit(run: Path, *, data: dict[str, Any] | None = None, **options: Any) -> tuple[toy.ToyDiffusion, Run]:
    torch.manual_seed(0)
    adapter = toy.ToyDiffusion()
    options = {"max_steps": 12, "checkpoint_every": 4, "sample_every": 0, "log_every_n_steps": 4, **options}
    return adapter, adapter.fit(toy.ToyData(**(data or {})), run=run, **options)


def test_a_run_leaves_all_that_the_folder_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    adapter, result = _fit(run, data={"validation": 20}, sample_every=6, num_samples=4, validate_every=6, lr=1e-2)
    assert result == Run(run, 12, finished=True)
    names = {
        "config.yaml",
        "versions.json",
        "status.json",
        "metrics.csv",
        "tensorboard",
        "samples",
        "checkpoints",
        "model",
    }
    assert {path.name for path in run.iterdir()} == names
    assert json.loads((run / "status.json").read_text()) == {"state": "finished", "step": 12}
    assert json.loads((run / "versions.json").read_text())["versions"]["torch"] == version("torch")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert from_config(config["data"]).validation == 20
    assert config["training"]["lr"] == 1e-2
    assert [path.name for path in sorted((run / "samples").iterdir())] == ["00000006.png", "00000012.png"]
    assert Image.open(run / "samples" / "00000012.png").size == (32, 32)
    loaded = toy.ToyDiffusion.from_pretrained(result.model)
    assert torch.equal(loaded.sample(3, seed=0), adapter.sample(3, seed=0))
    assert not adapter.training

    rows = list(csv.DictReader((run / "metrics.csv").open(newline="")))
    logged = {row["step"]: float(row["loss"]) for row in rows if row["loss"]}
    assert list(logged) == ["4", "8", "12"]
    assert [row["step"] for row in rows if row["val_loss"]] == ["6", "12"]
    assert all(float(row["samples_per_second"]) > 0 for row in rows if row["samples_per_second"])
    printed = capsys.readouterr()
    assert "step 12/12: loss" in printed.err
    assert "GPU" not in printed.err


def test_the_model_has_the_averaged_weights(tmp_path: Path) -> None:
    adapter, _ = _fit(tmp_path / "run", lr=1e-2, ema=EMA(0.9))
    state = load_state(tmp_path / "run" / "checkpoints" / "last.ckpt")
    average = state["callbacks"]["EMACallback"]["averages"][0]
    for name, parameter in adapter.named_parameters():
        assert torch.equal(parameter, average[name])
        assert not torch.equal(parameter, state["state_dict"][f"adapter.{name}"])
    adapter, _ = _fit(tmp_path / "plain", lr=1e-2, ema=None)
    state = load_state(tmp_path / "plain" / "checkpoints" / "last.ckpt")
    assert all(torch.equal(p, state["state_dict"][f"adapter.{name}"]) for name, p in adapter.named_parameters())


def test_power_averages_leave_snapshots(tmp_path: Path) -> None:
    adapter, _ = _fit(tmp_path / "run", ema=PowerEMA((0.1, 0.2), snapshot_every=4))
    answer = reconstruct(tmp_path / "run" / "ema", 0.1)
    for name, parameter in adapter.named_parameters():
        torch.testing.assert_close(answer.weights[name], parameter.detach(), rtol=0, atol=1e-6)


def test_training_learns_and_validation_sees_it(tmp_path: Path) -> None:
    _fit(tmp_path / "run", data={"validation": 40, "batch_size": 32}, max_steps=60, lr=2e-2, validate_every=30)
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open(newline="")))
    losses = [float(row["val_loss"]) for row in rows if row["val_loss"]]
    assert len(losses) == 2
    assert losses[1] < losses[0] < 0.75  # about 0.75 without training


def test_a_finished_run_and_another_configuration_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    _fit(run)
    with pytest.raises(FileExistsError, match=r"holds a finished run; start anew with overwrite"):
        _fit(run)
    with pytest.raises(FileExistsError, match=r"another configuration \(data.init_args.batch_size: 8 there, 4 now\)"):
        _fit(run, data={"batch_size": 4})
    with pytest.raises(FileExistsError, match=r"\(training.lr: 0.0002 there, 0.001 now\)"):
        _fit(run, lr=1e-3)
    (run / "notes.txt").write_text("mine")
    (run / "samples").mkdir()
    (run / "samples" / "old.png").write_text("")
    _, result = _fit(run, lr=1e-3, overwrite=True)
    assert result.finished
    assert (run / "notes.txt").exists()
    assert not (run / "samples").exists()


class _Send(Callback):
    """Sends this process a signal after a step."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_an_interrupted_run_is_whole_and_continues(
    number: int, error: type[BaseException], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(error):
        _fit(tmp_path / "run", callbacks=[_Send(number, 6)])
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert json.loads((tmp_path / "run" / "status.json").read_text()) == {"state": "interrupted", "step": 6}
    assert toy.ToyDiffusion.from_pretrained(tmp_path / "run" / "model").sample(1).shape == (1, 2)
    continued, result = _fit(tmp_path / "run")
    assert result.finished
    assert "from step 6" in capsys.readouterr().err
    whole, _ = _fit(tmp_path / "whole")
    assert all(map(torch.equal, continued.parameters(), whole.parameters()))


class _Fail(Callback):
    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 6:
            raise RuntimeError("a failure")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_failed_run_continues_from_its_last_checkpoint(accumulate: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {"accumulate_grad_batches": accumulate, "data": {"validation": 10}, "validate_every": 2}
    options |= {"sample_every": 3, "num_samples": 2, "ema": PowerEMA((0.1, 0.2))}
    with pytest.raises(RuntimeError, match="a failure"):
        _fit(tmp_path / "run", callbacks=[_Fail()], **options)
    assert load_state(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 4
    _fit(tmp_path / "run", **options)
    _fit(tmp_path / "whole", **options)
    ours, theirs = (load_state(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("run", "whole"))
    assert _equal(ours, theirs)
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in ("run", "whole")]
    columns = [[(r["step"], r["loss"], r["val_loss"]) for r in csv.DictReader(text.splitlines())] for text in metrics]
    assert columns[0] == columns[1]


def test_a_run_killed_after_its_last_step_still_gets_its_model(tmp_path: Path) -> None:
    adapter, result = _fit(tmp_path / "run")
    (result.folder / "status.json").write_text('{"state": "running", "step": 8}')
    shutil.rmtree(result.model)
    again, result = _fit(tmp_path / "run")
    assert result.finished
    assert all(map(torch.equal, again.parameters(), adapter.parameters()))
    assert result.model.is_dir()


def test_a_signal_in_the_last_step_does_not_undo_it(tmp_path: Path) -> None:
    _, result = _fit(tmp_path / "run", callbacks=[_Send(signal.SIGINT, 12)])
    assert result.finished


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a == b


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _fit(tmp_path / "run", callbacks=[_Send(signal.SIGINT, 6)])
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-50])
    with pytest.raises(
        ValueError, match=r"last.ckpt is truncated or damaged .*; delete it, or start anew with overwrite"
    ):
        _fit(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_step": 3}, r"unknown option 'max_step' \(did you mean 'max_steps'"),
        ({"learning_rate": 3}, "unknown option 'learning_rate'"),
        ({"max_epochs": 3}, "'max_epochs' is decided by the run; give max_steps"),
        ({"max_steps": 0}, "max_steps must be an integer of at least 1, got 0"),
        ({"devices": 10_000, "accelerator": "cpu"}, r"devices=10000: this machine has \d+ CPU cores"),
        ({"devices": 0, "accelerator": "cpu"}, "devices=0"),
        ({"precision": "bf17"}, "the trainer cannot be set up: .*bf17"),
        ({"lr": -1.0}, "lr must be positive"),
    ],
)
def test_impossible_runs(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        _fit(tmp_path / "run", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = DiffusionModule.training_step
    monkeypatch.setattr(DiffusionModule, "training_step", lambda *a: step(*a) * float("nan"))
    with pytest.raises(ValueError, match=r"the loss is nan at step 4; lower training\.lr"):
        _fit(tmp_path / "run", lr=1e30)


def test_options_may_come_as_an_object(tmp_path: Path) -> None:
    _, result = _fit(tmp_path / "run", training=TrainingOptions(lr=5e-3), checkpoint_every=3)
    config = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert (config["training"]["lr"], config["training"]["checkpoint_every"]) == (5e-3, 3)


def test_an_adapter_in_evaluation_mode_trains_in_training_mode(tmp_path: Path) -> None:
    seen = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
            seen.append(pl_module.adapter.network.drop.training)

    adapter = toy.ToyDiffusion().eval()
    adapter.fit(toy.ToyData(), run=tmp_path / "run", max_steps=2, sample_every=0, callbacks=[Watch()])
    assert seen == [True, True]


def test_bfloat16_trains(tmp_path: Path) -> None:
    adapter, result = _fit(tmp_path / "run", precision="bf16-mixed")
    assert result.finished
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in adapter.parameters())
