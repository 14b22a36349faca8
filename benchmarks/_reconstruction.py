"""What both halves of `reconstruction` share: training of so many steps, and the bars of a task."""

import time
from pathlib import Path
from typing import Any

from common import TRAINING

from ornstein.core.training import EMA
from ornstein.domains.medical import MedicalReconstruction, ScanData

LEVEL = 0.9


def fitted(model: MedicalReconstruction, data: ScanData, steps: int, lr: float, given: Any, folder: Path) -> float:
    """Trains a model for so many steps; the seconds of the processor that they took."""
    start = time.process_time()
    model.fit(
        data,
        run=folder,
        max_steps=steps,
        seed=given.seed,
        lr=lr,
        warmup=min(30, steps // 4),
        ema=EMA(min(0.995, 1 - 10 / max(steps, 20))),
        accelerator="cpu",
        precision="bf16-mixed",
        devices=1,
        **TRAINING | {"optimizer": "adamw", "log_every_n_steps": 20},
    )
    return time.process_time() - start


def checks(name: str, row: dict[str, float], bar: float) -> dict[str, bool]:
    """Whether a task's figures reach the bars, ``bar`` decibels among them."""
    return {
        f"{name}_gain": row["gain"] >= bar,
        f"{name}_ssim": row["ssim"] > row["tv_ssim"],
        f"{name}_coverage": 0.85 <= row["coverage"] <= 0.95,
    }
