"""Distil the digits model of the demonstration into few-step samplers, and judge what they draw.

From one teacher come two students, each trained by ``ImageDiffusion.fit``:

* progressive distillation (Salimans and Ho 2022, arXiv 2202.00512): DDIM with 16 steps is halved to 8 and to 4;
* a consistency model by easy consistency tuning (Geng et al. 2024, arXiv 2406.14548), sampled in 1 and in 2 steps.

Class agreement is the fraction of samples to which a support-vector machine on pixels, trained on the training digits,
gives the class that was asked for.  Few steps of an undistilled model agree too, with blurred digits that are all
alike, so the Fréchet distance on the features of a small classifier and the recall stand beside it: those of the
teacher with its own sampler (DPM-Solver++ 2M, 20 steps, guidance 1.2, as in the demonstration), of the students, and
of the teacher with as few evaluations as the students take (``undistilled_N``: DDIM in 4 steps, and in 1 and 2 steps
the consistency sampler on the teacher's posterior mean).

Figures: ``NAME`` is the class agreement, ``NAME_frechet`` and ``NAME_recall`` the others, for ``teacher``,
``progressive_4``, ``consistency_1``, ``consistency_2`` and ``undistilled_4``, ``_2``, ``_1``, each the mean over the
seeds of sampling (``_worst`` the lowest agreement of a seed); ``progressive_seconds`` and ``consistency_seconds`` are
spent in training, ``training_seconds`` together, and ``..._cpu_seconds`` the processor time in them, which other work
on the machine does not change; ``progressive_steps`` and ``consistency_steps`` are optimiser steps.
It passes if every student agrees in at least 95 % of its samples at a Fréchet distance of at most half of the
undistilled model's, the teacher in 97 %, and both students were trained within 15 minutes.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from common import parser, record, set_threads

from ornstein.core import (
    DDIM,
    AnnealedPairs,
    ConsistencyObjective,
    ConsistencySampler,
    Sampler,
    progressive_distillation,
)
from ornstein.core.training import EMA
from ornstein.domains.images import DigitsData, ImageDiffusion
from ornstein.domains.images.demo import GUIDANCE, Settings, digits_model, training_options
from ornstein.domains.images.grids import save_grid
from ornstein.domains.images.metrics import ImageJudge

GOAL, TEACHER_GOAL, SECONDS = 0.95, 0.97, 900.0
STEPS = {"progressive": 150, "consistency": 500}  # optimiser steps of a round, and in all
QUICK = {"progressive": 4, "consistency": 8}


def options(steps: int, seed: int) -> dict:
    """What both students tell ``fit``."""
    return {
        "max_steps": steps,
        "lr": 1e-3,
        "ema": EMA(0.99),
        "seed": seed,
        "sample_every": 0,
        "validate_every": steps,
        "checkpoint_every": steps,
        "accelerator": "cpu",
        "log_every_n_steps": max(1, steps // 10),
        "overwrite": True,
    }


def teacher_of(folder: str | None, run: Path, quick: bool) -> ImageDiffusion:
    """The model in ``folder``, or one that is trained as the demonstration trains it."""
    if folder is not None:
        return ImageDiffusion.from_pretrained(folder)
    torch.manual_seed(0)
    model = digits_model()
    settings = Settings(steps=20, batch_size=32) if quick else Settings()
    model.fit(DigitsData(batch_size=settings.batch_size), run=run / "teacher", **training_options(settings))
    return model


@contextmanager
def timed(name: str, figures: dict[str, float]) -> Iterator[None]:
    """Note the seconds that a block takes, by the clock and of the processor."""
    start, busy = time.perf_counter(), time.process_time()
    yield
    figures[f"{name}_seconds"] = time.perf_counter() - start
    figures[f"{name}_cpu_seconds"] = time.process_time() - busy


def judged(
    name: str, model: ImageDiffusion, judge: ImageJudge, sampler: Sampler | None, seeds: list[int], num: int, run: Path
) -> dict[str, float]:
    """Agreement, Fréchet distance and recall of ``num`` samples a seed; the first hundred are drawn in a picture."""
    labels = torch.arange(num) % 10
    rows = []
    for seed in seeds:
        guidance = GUIDANCE if name == "teacher" else None
        images = model.sample(num, seed=seed, label=labels, sampler=sampler, guidance=guidance, batch_size=250)
        rows.append(judge.evaluate(images, labels))
        if seed == seeds[0]:
            save_grid(images[:100], run / f"{name}.png", columns=10)
    measures = {name: "class_agreement", f"{name}_frechet": "frechet", f"{name}_recall": "recall"}
    figures = {key: statistics.mean(row[measure] for row in rows) for key, measure in measures.items()}
    figures[f"{name}_worst"] = min(row["class_agreement"] for row in rows)
    print("  ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)
    return figures


def distilled(given: argparse.Namespace, run: Path) -> dict[str, float]:
    """Train both students of one teacher and judge everything."""
    steps = QUICK if given.quick else STEPS
    seeds, num = ([0], 100) if given.quick else ([0, 1], 1000)
    data = DigitsData(batch_size=32 if given.quick else 128)
    teacher = teacher_of(given.teacher, run, given.quick)
    teacher.save_pretrained(run / "model")
    judge = ImageJudge.train(data.reference())
    figures = judged("teacher", teacher, judge, None, seeds, num, run)
    for count, sampler in ((4, DDIM(4)), (2, ConsistencySampler(2)), (1, ConsistencySampler(1))):
        figures |= judged(f"undistilled_{count}", teacher, judge, sampler, seeds, num, run)

    student = ImageDiffusion.from_pretrained(run / "model")
    with timed("progressive", figures):
        rounds = progressive_distillation(
            student,
            data,
            sampler=DDIM(16),
            steps=4,
            run=run / "progressive",
            **options(steps["progressive"], given.seed),
        )
    figures["progressive_steps"] = steps["progressive"] * len(rounds)
    figures |= judged("progressive_4", student, judge, None, seeds, num, run)

    student = ImageDiffusion.from_pretrained(run / "model")
    student.sampler = ConsistencySampler(2)
    objective = ConsistencyObjective(AnnealedPairs(stage=max(1, steps["consistency"] // 6)))
    with timed("consistency", figures):
        student.fit(data, run=run / "consistency", objective=objective, **options(steps["consistency"], given.seed))
    figures["consistency_steps"] = steps["consistency"]
    for count in (1, 2):
        figures |= judged(f"consistency_{count}", student, judge, ConsistencySampler(count), seeds, num, run)
    for kind in ("seconds", "cpu_seconds"):
        figures[f"training_{kind}"] = figures[f"progressive_{kind}"] + figures[f"consistency_{kind}"]
    return figures


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--teacher", help="folder of a trained digits model (default: train one)")
    arguments.add_argument("--run", help="folder for models and pictures (default: a temporary one)")
    arguments.add_argument("--seed", type=int, default=0, help="of training (default: %(default)s)")
    given = arguments.parse_args()
    set_threads(given.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(given.run or temporary)
        run.mkdir(parents=True, exist_ok=True)
        figures = distilled(given, run)
    students = ("progressive_4", "consistency_1", "consistency_2")
    passed = {name: figures[f"{name}_worst"] >= GOAL for name in students}
    halves = {name: f"undistilled_{name[-1]}" for name in students}
    passed["frechet"] = all(figures[f"{a}_frechet"] <= figures[f"{b}_frechet"] / 2 for a, b in halves.items())
    passed["teacher"] = figures["teacher_worst"] >= TEACHER_GOAL
    passed["training_seconds"] = figures["training_seconds"] <= SECONDS
    if given.quick:  # figures of a training that short mean nothing
        passed = {"finished": True}
    return record(
        "distillation", figures, passed, seeds=[given.seed], quick=given.quick, threads=given.threads, packages=()
    )


if __name__ == "__main__":
    sys.exit(main())
