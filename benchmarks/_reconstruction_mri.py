"""The MRI half of `reconstruction`: slices of the mean brain behind k-space of one coil, 4x, 8x and radial.

One model serves the three. Its network starts from what the adjoint makes of the measurement, weighted by the density
off the grid, and works in steps, each of which is shown the same of what the answer so far leaves over; the answer to
pure noise is the reconstruction.
"""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _reconstruction import LEVEL, ROUNDS, SPREAD, checks, saved, trained
from torch import Tensor

from ornstein.core.inverse import GaussianNoise, LinearOperator, Measurement
from ornstein.core.nn import Refiner
from ornstein.domains.medical import BrainData, MedicalReconstruction, Scan, ScanData
from ornstein.domains.medical.classical import CGLS, TotalVariation, Wavelet, ZeroFilled, tune
from ornstein.domains.medical.judging import judge_slices
from ornstein.domains.medical.physics import (
    CartesianMRI,
    NonCartesianMRI,
    RealPicture,
    radial_trajectory,
    random_mask,
)

SIDE, NOISE = 192, 0.01  # of a value of k-space, where pictures reach 1
SPOKES = 60  # of the 302 that the disc of k-space takes
JUDGED, FITTED = (2, 10, 18, 26), (6, 14, 22, 30)  # of the 33 held-out slices: to judge by, and to calibrate on
TUNED = (6, 22)  # of these, to choose the classical methods' strengths on
STRENGTHS = (10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
GUESS = ZeroFilled()


@dataclass(frozen=True)
class Task:
    """What is scanned.

    Args:
        name: of figures.
        operator: of the measurement.
        start: of total variation.
    """

    name: str
    operator: LinearOperator
    start: CGLS | None = None


def tasks() -> list[Task]:
    """Cartesian with the acceleration 4 and 8, as fastMRI's masks have it, and 60 spokes; slices are real."""
    real = RealPicture((SIDE, SIDE))
    coil = torch.ones(1, SIDE, SIDE, dtype=torch.complex64)
    four = CartesianMRI(random_mask(SIDE, 4.0, 0.08), rows=SIDE) @ real
    eight = CartesianMRI(random_mask(SIDE, 8.0, 0.04), rows=SIDE) @ real
    spokes = NonCartesianMRI(coil, radial_trajectory(SPOKES, (SIDE, SIDE))) @ real
    return [Task("mri4", four), Task("mri8", eight, CGLS(2)), Task("mri_radial", spokes, CGLS(8))]


def make(data: ScanData, given: Any) -> MedicalReconstruction:
    """A model that knows nothing yet: it answers the guess."""
    torch.manual_seed(given.seed)
    network = Refiner(4, 1, steps=1, widths=(16,)) if given.quick else None
    return MedicalReconstruction.for_data(data, network=network, spread=SPREAD, seed=given.seed)


def measured(task: Task, slices: Tensor, seed: int) -> Measurement:
    """A simulated measurement."""
    generator = torch.Generator().manual_seed(seed)
    return Measurement.simulate(slices, task.operator, GaussianNoise(NOISE), generator)


def classical(task: Task, seen: Measurement, truth: Tensor, fit: Tensor, given: Any, model: Any) -> dict[str, float]:
    """The better of total variation and wavelets, each at the strength that is best on other slices."""
    known = [(measured(task, fit, given.seed + 1), fit)]
    iterations, strengths = (10, STRENGTHS[1:3]) if given.quick else (400, STRENGTHS)
    found = {}
    for name, method in (
        ("tv", TotalVariation(1.0, iterations, start=task.start)),
        ("wavelet", Wavelet(1.0, iterations)),
    ):
        few = replace(method, iterations=iterations // 2)  # the ranking of strengths settles sooner
        chosen = replace(method, strength=tune(few, {"strength": strengths}, known)[0].strength)
        found[name] = judge_slices(chosen(seen), truth, model.scale) | {"strength": chosen.strength}
    best = max(found.values(), key=lambda row: row["psnr"])
    return {
        "tv_psnr": best["psnr"],
        "tv_ssim": best["ssim"],
        "tv_strength": found["tv"]["strength"],
        "wavelet_psnr": found["wavelet"]["psnr"],
        "total_variation_psnr": found["tv"]["psnr"],
    }


def judge(task: Task, model: MedicalReconstruction, given: Any) -> dict[str, float]:
    """The model's figures on slices that it has not seen, with intervals that were fitted on others."""
    heldout = BrainData().parts[1]
    judged, fitted = (list(JUDGED[:1]), list(FITTED[:1])) if given.quick else (list(JUDGED), list(FITTED))
    truth, fit = heldout[judged], heldout[fitted]
    num, evaluations = (2, 2) if given.quick else (8, 8)
    options = {"num": num, "evaluations": evaluations, "seed": given.seed}
    model.calibrate(fit, task.operator, GaussianNoise(NOISE), name=task.name, levels=(LEVEL,), **options)
    seen = measured(task, truth, given.seed)
    start = time.process_time()
    found = model.reconstruct(seen, calibration=task.name, seed=given.seed)
    seconds = (time.process_time() - start) / len(truth)
    lower, upper = found.interval(LEVEL)
    scores = judge_slices(found.mean, truth, model.scale)
    shown = judge_slices(GUESS(seen), truth, model.scale)
    row = {
        "psnr": scores["psnr"],
        "ssim": scores["ssim"],
        "guess_psnr": shown["psnr"],
        "coverage": float(((truth >= lower) & (truth <= upper)).double().mean()),
        "seconds_a_slice": seconds,
    }
    row |= classical(task, seen, truth, heldout[list(TUNED)] if not given.quick else fit, given, model)
    return row | {"gain": row["psnr"] - row["tv_psnr"]}


def figures(given: Any) -> tuple[dict[str, float], dict[str, bool]]:
    """Figures and checks of the three tasks.

    Args:
        given: ``minutes`` of training on ``threads`` cores, ``quick``, ``seed`` and, for the model to stay, ``run``;
            ``checkpoint`` for the model of the run that was recorded last.
    """
    scanned = tasks()
    scans = [Scan(task.operator, GaussianNoise(NOISE)) for task in scanned]
    data = ScanData(BrainData(), scans, GUESS, ROUNDS, residual=GUESS, batch_size=4)
    passed: dict[str, bool] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if given.checkpoint is not None:
            model, found = saved(given.checkpoint, "mri")
        else:
            model, found = trained("mri", lambda: make(data, given), data, given, Path(given.run or scratch) / "mri")
    for task in scanned:
        row = judge(task, model, given)
        print(task.name, "  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
        found |= {f"{task.name}_{key}": value for key, value in row.items()}
        passed |= checks(task.name, row, 2)
    return found, passed
