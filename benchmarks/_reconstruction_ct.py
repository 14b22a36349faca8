"""The CT half of `reconstruction`: slices of a head behind few views, few photons and half of the angles.

One model serves the four scanners. Its network starts from filtered back-projections and works in steps, each of which
is shown the back-projection of what the answer so far leaves over; the answer to pure noise is the reconstruction.
Half of the angles takes by far the most to learn: the network begins with it, on slices of half the resolution, which
cost a quarter.

Held-out slices are of the crown, which axial slices below it do not look like. The head is therefore also cut at other
angles, and taken apart from the head rest, which stays where it is while the head is turned, zoomed and moved. Towards
the crown the arc of the rest ends higher up (`varied`).

Total variation that begins at the network's answer takes in what this leaves over of the measurement; with which share
and after how many iterations is chosen on other slices, as its strength is.

Slices are cut off at -1000 HU, which the padding of this scan falls below: nothing attenuates less than a vacuum, and
total variation is told so.
"""

import tempfile
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _reconstruction import LEVEL, ROUNDS, SPREAD, checks, finish_of, saved, trained
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from ornstein.core.nn import Refiner
from ornstein.domains.medical import HeadCTData, MedicalReconstruction, Scan, ScanData, apart, oblique_slices
from ornstein.domains.medical.classical import CGLS, FBP, TotalVariation, tune
from ornstein.domains.medical.judging import judge_slices
from ornstein.domains.medical.physics import LogCounts, ParallelBeam, Projector, spread_angles

SIDE, PIXEL, THICK, WINDOW = 256, 0.96, 1.5, (-1000.0, 1000.0)
BETWEEN, BONE = -400.0, 200.0  # what lies between the head and its rest is below the one, bone above the other
OBLIQUE = 216  # slices at other angles, beside 72
COARSE = 0.4  # of the time, on slices of half the resolution
JUDGED, FITTED = (2, 8, 14, 20), (0, 5, 17, 23)  # of the 24 held-out slices: to judge by, and to calibrate on
TUNED = (5, 17)  # of these, to choose total variation's strength on
GUESS = FBP("hann", matched=True)
BASELINE = TotalVariation(300.0, nonnegative=True, start=CGLS(10))
STRENGTHS = (150.0, 300.0, 600.0)
FINISHES = (100, 400)  # iterations of total variation from the network's answer, to choose among


class Head(HeadCTData):
    """The head, from a vacuum upwards, alone and at any angle to train on; held-out slices as they are.

    Args:
        file: of the slices.
        oblique: how many slices at other angles.
        halves: whether slices have half the resolution.
    """

    def __init__(self, file: str, oblique: int, halves: bool = False) -> None:
        super().__init__(file, WINDOW)
        self.oblique, self.factor = oblique, 2 if halves else 1

    def read(self) -> tuple[Tensor, Tensor]:
        train, heldout = (avg_pool2d(part.clamp(min=-1000), self.factor) for part in super().read())
        spacing = (THICK, self.factor * PIXEL, self.factor * PIXEL)
        bodies, rests = apart(train, BETWEEN)
        oblique, _ = apart(oblique_slices(train, spacing, self.oblique, BONE), BETWEEN)
        self._rests = varied(rests)
        return torch.cat([bodies, oblique]), heldout

    @property
    def rests(self) -> Tensor:
        """What does not move with the head, ``(M, 1, rows, columns)``."""
        _ = self.parts  # which are read with it
        return self._rests


def varied(rests: Tensor, copies: int = 3) -> Tensor:
    """Rests ``(N, 1, rows, columns)`` that differ as those of the crown do from those to learn from.

    Each comes so many times, moved by up to a hundredth of a side and zoomed by up to two hundredths, every other one
    without what lies below a row of the upper third.
    """
    rests = rests.repeat(copies, 1, 1, 1)
    (count, _, rows, _), empty = rests.shape, rests.min()
    u = torch.rand(4, count, generator=torch.Generator().manual_seed(0))
    factor, shift, none = 1 + 0.02 * (2 * u[0] - 1), 0.02 * (2 * u[1:3] - 1), torch.zeros(count)
    matrix = torch.stack([factor, none, shift[0], none, factor, shift[1]], 1).reshape(count, 2, 3)
    grid = affine_grid(matrix, list(rests.shape), align_corners=False)
    moved = grid_sample(rests - empty, grid, mode="bicubic", align_corners=False).clamp(min=0) + empty
    ends = torch.where(torch.arange(count) % 2 == 0, u[3] * rows / 3, float(rows)).reshape(-1, 1, 1, 1)
    return torch.where(torch.arange(rows).reshape(1, 1, rows, 1) > ends, empty, moved)


@dataclass(frozen=True)
class Task:
    """What is scanned.

    Args:
        name: of figures.
        views: how many, parallel and evenly spread.
        arc: over so many degrees.
        photons: a ray.
        bar: how many decibels above total variation are asked for.
        iterations: of total variation, to choose among.
    """

    name: str
    views: int
    arc: float
    photons: float
    bar: float = 1.5
    iterations: tuple[int, ...] = (150, 400)

    def scan(self, factor: int = 1) -> Scan:
        """The scanner, and how it counts; pixels are so many times as wide."""
        side = SIDE // factor
        beam = ParallelBeam((side, side), spread_angles(self.views, self.arc), pixel=factor * PIXEL)
        return Scan(Projector(beam), LogCounts(self.photons))


TASKS = (
    Task("ct60", 60, 180.0, 1e5),
    Task("ct23", 23, 180.0, 1e5),
    Task("ct_low", 180, 180.0, 1e4),
    Task("ct_limited", 90, 90.0, 1e5, 4.0, (400, 1000)),
)


def make(data: ScanData, given: Any) -> MedicalReconstruction:
    """A model that knows nothing yet: it answers the guess."""
    torch.manual_seed(given.seed)
    # Down to grids of 8 x 8, for what a missing wedge of angles hides runs through the whole slice.
    network = Refiner(4, 1, steps=1, widths=(16,)) if given.quick else Refiner(4, 1, widths=(48, 96, 128, 160, 192))
    return MedicalReconstruction.for_data(data, network=network, spread=SPREAD, least=-1000, seed=given.seed)


def classical(task: Task, scan: Scan, fit: Tensor, model: MedicalReconstruction, given: Any) -> TotalVariation:
    """Total variation with the strength and the number of iterations that are best on other slices."""
    known = model.simulate(fit, scan.operator, scan.noise, seed=given.seed + 1)
    grid: dict[str, Any] = {"strength": STRENGTHS, "iterations": task.iterations}
    if given.quick:
        grid = {"strength": STRENGTHS[1:2], "iterations": (10,)}
    return tune(BASELINE, grid, [(known, model.scale.to_operator(fit, scan.operator))])[0]


def judge(task: Task, scan: Scan, model: MedicalReconstruction, heldout: Tensor, given: Any) -> dict[str, float]:
    """The model's figures on slices that it has not seen, with intervals that were fitted on others."""
    count = 1 if given.quick else len(JUDGED)
    truth, fit, tuned = (heldout[list(part[:count])] for part in (JUDGED, FITTED, TUNED))
    num, evaluations = (2, 2) if given.quick else (8, 8)
    chosen = classical(task, scan, tuned, model, given)
    finish = finish_of(model, tuned, scan, chosen, (10,) if given.quick else FINISHES, given.seed + 1)
    options = {"num": num, "evaluations": evaluations, "seed": given.seed, "finish": finish}
    model.calibrate(fit, scan.operator, scan.noise, name=task.name, levels=(LEVEL,), **options)
    seen = model.simulate(truth, scan.operator, scan.noise, seed=given.seed)
    start = time.process_time()
    found = model.reconstruct(seen, calibration=task.name, seed=given.seed)
    seconds = (time.process_time() - start) / len(truth)
    lower, upper = found.interval(LEVEL)
    scores = judge_slices(found.mean, truth, model.scale)
    beside, shown = (
        judge_slices(model.scale.from_operator(method(seen), scan.operator), truth, model.scale)
        for method in (chosen, model.guess)
    )
    return {
        "psnr": scores["psnr"],
        "ssim": scores["ssim"],
        "tv_psnr": beside["psnr"],
        "tv_ssim": beside["ssim"],
        "tv_strength": chosen.strength,
        "tv_iterations": chosen.iterations,
        "guess_psnr": shown["psnr"],
        "finish_share": 0.0 if finish is None else finish.share,
        "finish_iterations": 0 if finish is None else finish.method.iterations,
        "gain": scores["psnr"] - beside["psnr"],
        "coverage": float(((truth >= lower) & (truth <= upper)).double().mean()),
        "seconds_a_slice": seconds,
    }


def learn(head: Head, scans: list[Scan], given: Any, folder: Path) -> tuple[MedicalReconstruction, dict[str, float]]:
    """A model of the scans, the last of which it learns by itself on slices of half the resolution before."""

    def slices(head: Head, scans: list[Scan], size: int) -> ScanData:
        options = {"zoom": 0.3, "residual": GUESS, "still": head.rests, "batch_size": size}
        return ScanData(head, scans, GUESS, ROUNDS, **options)

    def lasting(minutes: float) -> Any:
        return Namespace(**vars(given) | {"minutes": minutes})

    coarse = slices(Head(given.head, head.oblique, halves=True), [TASKS[-1].scan(2)], 8)
    start = lasting(COARSE * given.minutes)
    begun, found = trained("ct_coarse", lambda: make(coarse, given), coarse, start, folder / "coarse")
    spent = found["ct_coarse_training_seconds"]
    left = given.minutes - spent / 60 / given.threads
    whole = slices(head, [*scans, scans[-1], scans[-1]], 4)  # every other batch is of the last

    def going_on() -> MedicalReconstruction:
        model = make(whole, given)
        model.load_state_dict(begun.state_dict())
        return model

    model, more = trained("ct", going_on, whole, lasting(left), folder)
    return model, found | more | {"ct_training_seconds": spent + more["ct_training_seconds"]}


def figures(given: Any) -> tuple[dict[str, float], dict[str, bool]]:
    """Figures and checks of the four tasks.

    Args:
        given: ``head``, the file of the slices; ``minutes`` of training on ``threads`` cores, ``quick``, ``seed`` and,
            where the model is to stay, ``run``; ``checkpoint`` for the model of the run that was recorded last.
    """
    scans = [task.scan() for task in TASKS]
    head = Head(given.head, 4 if given.quick else OBLIQUE)
    with tempfile.TemporaryDirectory() as scratch:
        if given.checkpoint is not None:
            model, found = saved(given.checkpoint, "ct")
        else:
            model, found = learn(head, scans, given, Path(given.run or scratch) / "ct")
    passed: dict[str, bool] = {}
    for task, scan in zip(TASKS, scans):
        row = judge(task, scan, model, head.parts[1], given)
        print(task.name, "  ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)
        found |= {f"{task.name}_{key}": value for key, value in row.items()}
        passed |= checks(task.name, row, task.bar)
    return found, passed
