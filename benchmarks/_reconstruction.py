"""What both halves of `reconstruction` share: training for so long, the finish of a mean, and the bars of a task."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import TRAINING, recorded, steps_within
from torch import Tensor

from ornstein.core.training import EMA
from ornstein.domains.medical import Finish, MedicalReconstruction, ScanData, TotalVariation
from ornstein.domains.medical.judging import judge_slices

LEVEL = 0.9
SPREAD = 0.1  # of the guesses about the truth, in states
ROUNDS = 1000  # of scans, more than there is time for: each is seen once
RATE = 0.0025  # of learning
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of total variation in a finished mean, to choose among


def fitted(model: MedicalReconstruction, data: ScanData, steps: int, given: Any, folder: Path) -> float:
    """Trains a model for so many steps; the seconds of the processor that they took."""
    start = time.process_time()
    model.fit(
        data,
        run=folder,
        max_steps=steps,
        seed=given.seed,
        lr=RATE,
        warmup=min(30, steps // 4),
        ema=EMA(min(0.995, 1 - 10 / max(steps, 20))),
        accelerator="cpu",
        precision="bf16-mixed",
        devices=1,
        **TRAINING | {"log_every_n_steps": 20},
    )
    return time.process_time() - start


def trained(
    name: str, make: Callable[[], MedicalReconstruction], data: ScanData, given: Any, folder: Path
) -> tuple[MedicalReconstruction, dict[str, float]]:
    """A model after ``given.minutes`` on ``given.threads`` cores, saved in the folder; what it took.

    Args:
        name: of figures.
        make: a model that knows nothing yet.
        data: what it learns from.
        given: ``minutes``, ``threads``, ``seed`` and ``quick``, for two steps.
        folder: of the run.
    """
    model, steps = make(), 2
    if not given.quick:
        seconds = 60 * given.minutes * given.threads
        # Scans differ in what they cost: many steps, so that each has its part.
        steps = steps_within(seconds, lambda n: fitted(make(), data, n, given, folder / f"{n}"), 3, 45)
    spent = fitted(model, data, steps, given, folder / "run")
    model.save_pretrained(folder / "model")
    return model, {f"{name}_training_seconds": spent, f"{name}_steps": steps}


def saved(folder: str, prefix: str) -> tuple[MedicalReconstruction, dict[str, float]]:
    """The model of the run that was recorded last, and what the record says of its training.

    Args:
        folder: of the model.
        prefix: of the half's figures.
    """
    known = {
        name: value
        for name, value in recorded("reconstruction")[0].items()
        if name.startswith(f"{prefix}_") and name.endswith(("_steps", "_training_seconds"))
    }
    return MedicalReconstruction.from_pretrained(folder), known


def finish_of(
    model: MedicalReconstruction,
    pictures: Tensor,
    scan: Any,
    method: TotalVariation,
    iterations: Sequence[int],
    seed: int,
) -> Finish | None:
    """The finish by a tuned method that serves pictures of known truth best, in decibels; None if the answer does."""
    seen = model.simulate(pictures, scan.operator, scan.noise, seed=seed)
    answer = model.reconstruct(seen, num=2, evaluations=2, seed=seed).mean
    best, decibels = None, judge_slices(answer, pictures, model.scale)["psnr"]
    for count in iterations:
        method = replace(method, iterations=count)
        whole = Finish(method, 1.0)(seen, model.scale.to_operator(answer, scan.operator))
        change = model.scale.from_operator(whole, scan.operator) - answer
        for share in SHARES:
            found = judge_slices(answer + share * change, pictures, model.scale)["psnr"]
            if found > decibels:
                best, decibels = Finish(method, share), found
    return best


def checks(name: str, row: dict[str, float], bar: float) -> dict[str, bool]:
    """Whether a task's figures reach the bars, ``bar`` decibels among them."""
    return {
        f"{name}_gain": row["gain"] >= bar,
        f"{name}_ssim": row["ssim"] > row["tv_ssim"],
        f"{name}_coverage": 0.85 <= row["coverage"] <= 0.95,
    }
