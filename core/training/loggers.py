"""Loggers of a run: ``metrics.csv``, which survives a resume, and TensorBoard files where tensorboard is installed."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

__all__ = ["MetricsLogger", "tensorboard_logger"]


class MetricsLogger(Logger):
    """Writes one row a logged step to ``FOLDER/metrics.csv``.

    A resumed run repeats the steps after its checkpoint; rows of such steps are replaced, those before are kept.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._rows: dict[int, dict[str, str]] = {}
        self._columns = ["step"]
        self._opened = False

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.path.parent.name

    @property
    def version(self) -> str:
        """A run has one version."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add numbers to the row of ``step``, which counts steps taken."""
        step = (step or 0) + 1
        if not self._opened:
            self._read_before(step)
        columns = [key for key in metrics if key not in self._columns and key != "epoch"]
        row = self._rows.setdefault(step, {"step": str(step)})
        new = len(row) == 1
        row |= {key: repr(float(value)) for key, value in metrics.items() if key != "epoch"}
        if columns or not new:
            self._columns += sorted(columns)
            self._write_all()
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, restval="").writerow(row)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Hyper-parameters are in ``config.yaml``."""

    def _read_before(self, step: int) -> None:
        self._opened = True
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                # A process killed while it wrote may leave half a row, which has no step or lacks columns.
                rows = [row for row in reader if (row["step"] or "").isdigit() and None not in row.values()]
                self._columns = list(reader.fieldnames or ["step"])
            self._rows = {int(row["step"]): row for row in rows if int(row["step"]) < step}
        self._write_all()

    def _write_all(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".csv.partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows[step] for step in sorted(self._rows))
        os.replace(partial, self.path)


def tensorboard_logger(folder: str | Path, step: int) -> Logger | None:
    """A TensorBoard logger in ``FOLDER/tensorboard`` that hides what an earlier process logged from ``step`` on.

    None when tensorboard is not installed.
    """
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(
            folder, name="", version="tensorboard", default_hp_metric=False, purge_step=step or None
        )
    except ModuleNotFoundError:
        return None
