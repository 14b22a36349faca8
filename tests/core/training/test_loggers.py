"""metrics.csv: rows by step, and what a resume does to them."""

import csv
from pathlib import Path

from ornstein.core.training import MetricsLogger


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_a_step_whatever_comes_when(tmp_path: Path) -> None:
    logger = MetricsLogger(tmp_path)
    logger.log_metrics({"loss": 0.5, "epoch": 0}, 9)
    logger.log_metrics({"lr": 1e-3}, 9)
    logger.log_metrics({"loss": 0.25}, 19)
    logger.log_metrics({"val_loss": 1.0}, 29)
    assert _rows(tmp_path) == [
        {"step": "10", "loss": "0.5", "lr": "0.001", "val_loss": ""},
        {"step": "20", "loss": "0.25", "lr": "", "val_loss": ""},
        {"step": "30", "loss": "", "lr": "", "val_loss": "1.0"},
    ]


def test_a_resumed_run_replaces_the_steps_it_repeats(tmp_path: Path) -> None:
    first = MetricsLogger(tmp_path)
    for step in (9, 19, 29):
        first.log_metrics({"loss": float(step)}, step)
    second = MetricsLogger(tmp_path)
    second.log_metrics({"loss": 0.0}, 19)
    assert [(row["step"], row["loss"]) for row in _rows(tmp_path)] == [("10", "9.0"), ("20", "0.0")]


def test_half_a_row_of_a_killed_process_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss,lr\n10,0.5,0.1\n20,0.")
    MetricsLogger(tmp_path).log_metrics({"loss": 1.0}, 29)
    assert [row["step"] for row in _rows(tmp_path)] == ["10", "30"]
