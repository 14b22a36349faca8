"""``ornstein demo images``: train on handwritten digits, sample by class, judge, and write it all down.

Everything goes through the public ways: a data module, ``ImageDiffusion.fit``, ``sample`` and `ImageJudge`. The
settings are those of ``configs/images/digits.yaml``. Written are ``report.html`` and ``metrics.json``, beside what a
run folder holds.
"""

import io
import json
import resource
import sys
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ornstein.core import (
    DDIM,
    DDPM,
    DenoisingObjective,
    DPMSolver,
    EDMWeighting,
    Heun,
    LogNormalTimes,
    Sampler,
)
from ornstein.core.evaluation import frechet_distance
from ornstein.core.evaluation.report import Report, picture, table
from ornstein.core.nn import UNet
from ornstein.core.provenance import commit, machine
from ornstein.core.training import EMA
from ornstein.domains.images.adapter import ImageDiffusion
from ornstein.domains.images.classifier import as_floats
from ornstein.domains.images.figures import loss_curve, neighbour_figure, png, quality_figure, read_losses
from ornstein.domains.images.grids import grid, noise_levels, save_gif
from ornstein.domains.images.metrics import ImageJudge
from ornstein.domains.images.sources import DigitsData

__all__ = ["Settings", "digits_model", "run_demo"]

GUIDANCE = 1.2
LIMITS = {"class_agreement": 0.97, "frechet_ratio": 2.0, "recall": 0.7, "copy_excess": 0.0, "seconds": 360.0}
AT_MOST = {"frechet_ratio", "copy_excess", "seconds"}
COMPARED: dict[str, Sampler] = {"DPM-Solver++ 2M": DPMSolver(), "DDIM": DDIM(), "Heun": Heun(), "DDPM": DDPM()}


@dataclass(frozen=True)
class Settings:
    """How large the demonstration is.

    Args:
        steps: of training.
        batch_size: pictures a training step.
        samples: pictures judged.
        evaluations: of the network a picture, for the comparison of samplers.
        compared: pictures in that comparison.
        seed: of training and sampling.
    """

    steps: int = 1500
    batch_size: int = 128
    samples: int = 1000
    evaluations: tuple[int, ...] = (5, 11, 21, 41)
    compared: int = 300
    seed: int = 0


QUICK = Settings(steps=60, batch_size=32, samples=50, evaluations=(3, 5), compared=50)


def digits_model() -> ImageDiffusion:
    """The model of the demonstration: a U-Net of two levels for digits of 8 x 8 pixels."""
    network = UNet(1, classes=10, widths=(32, 64), depths=(1, 2), attention=(False, True), dropout=0.1)
    objective = DenoisingObjective(EDMWeighting(), LogNormalTimes())
    return ImageDiffusion(8, channels=1, classes=10, network=network, objective=objective)


def training_options(settings: Settings) -> dict[str, Any]:
    """What the demonstration tells ``fit``."""
    return {
        "max_steps": settings.steps,
        "lr": 2e-3,
        "ema": EMA(0.998),
        "seed": settings.seed,
        "sample_every": 0,
        "validate_every": max(1, settings.steps // 10),
        "checkpoint_every": settings.steps,
        "accelerator": "cpu",
        "log_every_n_steps": min(25, settings.steps),
    }


def run_demo(run: str | Path, settings: Settings | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Train, sample, judge and report.

    Args:
        run: the folder to write to; a run in it is replaced.
        settings: of another size.
        quick: a run of seconds, whose figures mean nothing.

    Returns:
        The content of ``metrics.json``.
    """
    settings = settings or (QUICK if quick else Settings())
    run, started = Path(run), time.perf_counter()
    # Weights and samples come from seeds of their own; this one is for the initial weights.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = digits_model()
    data = DigitsData(batch_size=settings.batch_size)
    _say("training on 1,297 digits")
    model.fit(data, run=run, overwrite=True, **training_options(settings))
    trained = time.perf_counter()

    reference = data.reference()
    judge = ImageJudge.train(reference)
    _say(f"drawing {settings.samples} digits by class")
    labels = torch.arange(settings.samples) % 10
    drawing = time.perf_counter()
    samples = model.sample(settings.samples, seed=settings.seed, label=labels, guidance=GUIDANCE, batch_size=250)
    drawn = time.perf_counter()
    figures = judge.evaluate(samples, labels)
    _say("comparing samplers")
    curves, floor = _quality_against_evaluations(model, judge, settings)
    states, means = model.reverse_process(10, seed=settings.seed, label=range(10), sampler=DPMSolver(30))

    figures |= {
        "train_seconds": trained - started,
        "sample_seconds": drawn - drawing,
        "memory_mb": _peak_memory(),
        "seconds": time.perf_counter() - started,
    }
    result = _result(figures, settings, quick=quick)
    report = _report(model, judge, samples, result)
    report.add("Loss", *_loss_section(run, trained - started, settings))
    report.add("The reverse process", *_reverse_section(states, means))
    report.add("The forward process", *_forward_section(model, reference.heldout.images))
    report.add("Nearest training pictures", *_neighbour_section(judge, samples))
    report.add("Quality against steps", *_quality_section(curves, floor))
    path = report.write(run / "report.html")
    (run / "metrics.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _say(f"report: {path}")
    print(json.dumps(result))
    return result


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _quality_against_evaluations(
    model: ImageDiffusion, judge: ImageJudge, settings: Settings
) -> tuple[dict[str, list[tuple[float, float]]], float]:
    """Fréchet distance at a few numbers of evaluations for each sampler, without guidance; and that of real digits."""
    real = judge.features(judge.reference.heldout.images)
    labels = torch.arange(settings.compared) % 10
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, sampler in COMPARED.items():
        for evaluations in settings.evaluations:
            steps = (evaluations + 1) // 2 if isinstance(sampler, Heun) else evaluations
            chosen = replace(sampler, steps=steps)
            images = model.sample(settings.compared, sampler=chosen, seed=1, label=labels, batch_size=250)
            point = (float(chosen.nfe(process=model.process)), frechet_distance(judge.features(images), real))
            curves.setdefault(name, []).append(point)
    return curves, judge.floor(settings.compared)["frechet"]


def _result(figures: dict[str, float], settings: Settings, *, quick: bool) -> dict[str, Any]:
    """The record in the form of the benchmarks."""
    passed = {
        name: figures[name] <= limit if name in AT_MOST else figures[name] >= limit for name, limit in LIMITS.items()
    }
    return {
        "name": "demo",
        "commit": commit(),
        "machine": machine(),
        "seeds": [settings.seed],
        "quick": quick,
        "figures": {name: round(value, 6) for name, value in figures.items()},
        "passed": passed,
    }


def _peak_memory() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


ROWS = (
    ("frechet", "Fréchet distance to held-out digits, on the classifier's features; lower is better"),
    ("kernel", "kernel distance (MMD, cubic kernel), likewise; about 0 for equal distributions"),
    ("precision", "fraction of pictures that look like held-out ones"),
    ("recall", "fraction of held-out digits that the pictures reach"),
    ("density", "how densely held-out digits are surrounded; about 1 for equal distributions"),
    ("coverage", "fraction of held-out digits with a picture close by"),
)


def _report(model: ImageDiffusion, judge: ImageJudge, samples: Tensor, result: dict[str, Any]) -> Report:
    figures, passed = result["figures"], result["passed"]
    size = sum(parameter.numel() for parameter in model.parameters())
    report = Report(
        "Ornstein: handwritten digits from noise",
        f"A diffusion model of {size:,} parameters, trained on 1,297 digits of 8 x 8 pixels and asked for each class. "
        f"{len(samples):,} of its samples are judged against 500 digits that it never saw.",
        footer=f"Ornstein {version('ornstein')}, commit {result['commit']}, torch {torch.__version__}, "
        f"{result['machine']['cores']} cores, {result['machine']['system']}.",
    )
    if result["quick"]:
        report.lead += " This was a quick run, to see that everything works: its figures mean nothing."
    tiles = (
        ("class_agreement", f"{figures['class_agreement']:.1%}", "are given the class asked for (goal: 97 %)"),
        ("frechet_ratio", f"{figures['frechet_ratio']:.2f}", "times the training digits' own distance (goal: 2)"),
        ("recall", f"{figures['recall']:.2f}", f"recall; training digits {figures['floor_recall']:.2f} (goal: 0.7)"),
        ("copy_excess", f"{figures['copy_excess']:+.1%}", "copies beyond those among held-out digits (goal: 0)"),
        ("seconds", f"{figures['seconds']:.0f} s", f"in all, {figures['memory_mb']:.0f} MB of memory (goal: 360 s)"),
    )
    for name, value, label in tiles:
        report.add_tile(value, label, passed[name])
    shown = min(100, len(samples) // 10 * 10)
    report.add(
        "Samples by class",
        f"One column a class, drawn with DPM-Solver++ 2M in {model.sampler.steps} steps and guidance {GUIDANCE:g}; "
        "not selected.",
        picture(png(grid(samples[:shown], 10, scale=6)), "The first samples, 0 to 9 from left to right.", pixels=True),
    )
    rows = [(name, f"{figures[name]:.3f}", f"{figures['floor_' + name]:.3f}", note) for name, note in ROWS]
    rows += [
        ("class agreement", f"{figures['class_agreement']:.3f}", f"{figures['judge_accuracy']:.3f}", LABELS_NOTE),
        ("copies", f"{figures['copy_rate']:.3f}", f"{figures['heldout_copy_rate']:.3f}", COPIES_NOTE),
    ]
    report.add(
        "Measures and their floors",
        "The floor is the same measure of real digits: as many training digits in place of the samples; for class "
        "agreement and copies, the held-out digits. Features come from a small convolutional network trained on the "
        f"training digits, right about {judge.accuracy or 0:.1%} of the held-out ones. This is not the FID of papers.",
        table(("measure", "samples", "real digits", "meaning"), rows, notes=True),
    )
    return report


LABELS_NOTE = "fraction given their class by a support-vector machine on pixels, trained on the training digits"
COPIES_NOTE = "fraction nearer to a training digit than 99 % of those are to one another"


def _loss_section(run: Path, seconds: float, settings: Settings) -> tuple[str, ...]:
    text = f"{settings.steps:,} steps of {settings.batch_size} digits in {seconds:.0f} seconds on the processor."
    return text, picture(loss_curve(read_losses(run / "metrics.csv")), "Loss over the course of training.", width=640)


def _reverse_section(states: Tensor, means: Tensor) -> tuple[str, ...]:
    frames = torch.cat([states, means], dim=1)
    buffer = io.BytesIO()
    save_gif(list(frames), buffer, columns=10, scale=6)
    chosen = torch.linspace(0, len(states) - 1, 10).round().long()
    strip = torch.cat([states[chosen, 3], means[chosen, 3]])
    return (
        "From noise to digits. Upper row: the state. Lower row: what the network believes the digit to be.",
        picture(buffer.getvalue(), "Ten digits as they emerge, state above, belief below.", pixels=True),
        picture(png(grid(strip, 10, scale=6)), "The three, step by step from left to right.", pixels=True),
    )


def _forward_section(model: ImageDiffusion, images: Tensor) -> tuple[str, ...]:
    times = [i / 9 for i in range(10)]
    rows = noise_levels(as_floats(images[:4]), model.process, times)
    caption = "Held-out digits at t = 0, 1/9, ..., 1."
    text = "What the model learns to undo: real digits at growing noise levels."
    return text, picture(png(grid(rows, len(times), scale=6)), caption, pixels=True)


def _neighbour_section(judge: ImageJudge, samples: Tensor) -> tuple[str, ...]:
    copies = judge.copies(samples)
    figure = neighbour_figure(samples, as_floats(judge.reference.train.images), copies)
    text = (
        "The samples that come closest to a training digit (above) and that digit (below). The median distance to the "
        f"nearest training digit is {copies.distance_ratio:.2f} times that of held-out digits."
    )
    return text, picture(png(figure), "Closest pairs, the closest first.", pixels=True)


def _quality_section(curves: dict[str, list[tuple[float, float]]], floor: float) -> tuple[str, ...]:
    figure = quality_figure(curves, floor=floor, measure="Fréchet distance")
    rows = [(name, *(f"{value:.2f}" for _, value in points)) for name, points in curves.items()]
    columns = ("sampler", *(f"{x:g}" for x, _ in next(iter(curves.values()))))
    return (
        "The same network under four samplers, without guidance. Every evaluation of the network costs the same.",
        picture(figure, "Fréchet distance against evaluations of the network a picture.", width=640),
        table(columns, rows),
    )
