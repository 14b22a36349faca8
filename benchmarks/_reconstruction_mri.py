"""The MRI half of `reconstruction`: slices of the mean brain behind k-space of one coil, 4x, 8x and radial.

A model a task. Its network is shown the total variation's reconstruction after a few iterations, and the samples are
held to the measurement by DiffPIR, those behind spokes by DDS, whose few steps of conjugate gradients take less time.
The second and the third start from the weights of the first.
"""

import copy
import math
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _reconstruction import LEVEL, checks, fitted
from torch import Tensor, nn

from ornstein.core import DenoisingObjective, EDMWeighting, LogNormalTimes
from ornstein.core.inverse import GaussianNoise, LinearOperator, Measurement
from ornstein.core.nn import Folded, UNet
from ornstein.domains.medical import BrainData, MedicalReconstruction, Scan, ScanData
from ornstein.domains.medical.classical import CGLS, TotalVariation, Wavelet, tune
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
RATE = 0.002  # of learning
CALIBRATION = 20  # steps, to find how long one takes


@dataclass(frozen=True)
class Task:
    """What is scanned, and how a model reconstructs it.

    Args:
        name: of figures.
        operator: of the measurement.
        guess: what the network is shown.
        spread: of the guess about the truth, in states.
        rounds: how often each slice is scanned for training.
        share: of the time.
        method: of posterior sampling.
    """

    name: str
    operator: LinearOperator
    guess: TotalVariation
    spread: float
    rounds: int
    share: float
    method: str = "diffpir"


def tasks(quick: bool) -> list[Task]:
    """Cartesian with the acceleration 4 and 8, as fastMRI's masks have it, and 60 spokes; slices are real."""
    iterations, rounds = (5, 1) if quick else (120, 4)
    real = RealPicture((SIDE, SIDE))
    coil = torch.ones(1, SIDE, SIDE, dtype=torch.complex64)
    four = CartesianMRI(random_mask(SIDE, 4.0, 0.08), rows=SIDE) @ real
    eight = CartesianMRI(random_mask(SIDE, 8.0, 0.04), rows=SIDE) @ real
    spokes = NonCartesianMRI(coil, radial_trajectory(SPOKES, (SIDE, SIDE))) @ real
    return [
        Task("mri4", four, TotalVariation(30.0, iterations), 0.07, rounds, 0.37),
        Task("mri8", eight, TotalVariation(30.0, iterations, start=CGLS(2)), 0.12, rounds, 0.33),
        Task("mri_radial", spokes, TotalVariation(30.0, iterations, start=CGLS(8)), 0.032, min(rounds, 2), 0.3, "dds"),
    ]


def network(quick: bool) -> Folded:
    """A U-Net on blocks of 2 x 2 pixels."""
    widths, depths = ((16, 32), (1, 1)) if quick else ((64, 128, 128, 128), (1, 1, 2, 2))
    return Folded(UNet(8, out_channels=4, widths=widths, depths=depths, attention=[False] * len(widths)))


def make(data: ScanData, task: Task, net: nn.Module, seed: int) -> MedicalReconstruction:
    """A model that is to reconstruct the task, with weights from another if ``net`` has any."""
    objective = DenoisingObjective(EDMWeighting(task.spread), LogNormalTimes(math.log(task.spread) + 1, 1.8))
    return MedicalReconstruction.for_data(data, network=net, spread=task.spread, objective=objective, seed=seed)


def train(task: Task, net: nn.Module, seconds: float, given: Any, folder: Path) -> tuple[Any, dict[str, float]]:
    """A model after about so many seconds of the processor, scans and guesses included; what it took."""
    start = time.process_time()
    data = ScanData(BrainData(), [Scan(task.operator, GaussianNoise(NOISE))], task.guess, task.rounds, keep=True)
    scans = data.train_dataset()
    for index in range(len(scans)):
        scans[index]
    made = time.process_time() - start
    few, more = (
        fitted(make(data, task, copy.deepcopy(net), given.seed), data, n, RATE, given, folder / f"{task.name}-{n}")
        for n in ((1, 2) if given.quick else (3, 3 + CALIBRATION))
    )
    each = max((more - few) / (1 if given.quick else CALIBRATION), 1e-3)
    steps = 4 if given.quick else max(10, int((seconds - (time.process_time() - start)) / each))
    print(f"{task.name}: scans {made:.0f} s, {each:.3f} s a step: {steps} steps", file=sys.stderr, flush=True)
    model = make(data, task, net, given.seed)
    fitted(model, data, steps, RATE, given, folder / task.name)
    return model, {"training_seconds": time.process_time() - start, "steps": steps}


def measured(task: Task, slices: Tensor, seed: int) -> Measurement:
    """A simulated measurement."""
    generator = torch.Generator().manual_seed(seed)
    return Measurement.simulate(slices, task.operator, GaussianNoise(NOISE), generator)


def classical(task: Task, seen: Measurement, truth: Tensor, fit: Tensor, given: Any, model: Any) -> dict[str, float]:
    """The better of total variation and wavelets, each at the strength that is best on other slices."""
    known = [(measured(task, fit, given.seed + 1), fit)]
    iterations, strengths = (10, STRENGTHS[1:3]) if given.quick else (400, STRENGTHS)
    start = task.guess.start
    found = {}
    for name, method in (("tv", TotalVariation(1.0, iterations, start=start)), ("wavelet", Wavelet(1.0, iterations))):
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
    num, evaluations = (2, 3) if given.quick else (8, 12)
    options = {"method": task.method, "num": num, "evaluations": evaluations, "seed": given.seed}
    model.calibrate(fit, task.operator, GaussianNoise(NOISE), name=task.name, levels=(LEVEL,), **options)
    seen = measured(task, truth, given.seed)
    start = time.process_time()
    found = model.reconstruct(seen, calibration=task.name, seed=given.seed)
    seconds = (time.process_time() - start) / len(truth)
    lower, upper = found.interval(LEVEL)
    scores = judge_slices(found.mean, truth, model.scale)
    shown = judge_slices(task.guess(seen), truth, model.scale)
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
        given: ``minutes`` of training on ``threads`` cores, ``quick``, ``seed`` and, where models are to stay, ``run``.
    """
    found: dict[str, float] = {}
    passed: dict[str, bool] = {}
    torch.manual_seed(given.seed)
    net: nn.Module = network(given.quick)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(getattr(given, "run", None) or scratch)
        for number, task in enumerate(tasks(given.quick)):
            seconds = 60 * given.minutes * given.threads * task.share
            model, spent = train(task, copy.deepcopy(net), seconds, given, folder)
            if number == 0:
                net = model.network
            row = spent | judge(task, model, given)
            print(task.name, "  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
            found |= {f"{task.name}_{key}": value for key, value in row.items()}
            passed |= checks(task.name, row, 2)
    return found, passed
