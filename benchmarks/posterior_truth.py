"""Posterior methods against the truth: known posteriors of Gaussian pictures, and digits whose originals are known.

First Gaussian pictures behind inpainting, blur, CT and MRI (`_gaussian_tasks`): for every method TASK_METHOD_MEASURE,
where measures are those of `GaussianTask.judge` from 128 draws for each of four measurements, and the seconds of
processor time for 128 draws; ``exact`` are draws from the posterior itself.  `best_mean_error` is the error of the
posterior mean in posterior deviations of the method that is best at its worst task; 128 exact draws have 0.09, which is
the draws' own noise.  With deepinv 0.5 among the packages or in the folder of --peer (pip install --no-deps --target
FOLDER deepinv==0.5.0 torchvision natsort einops), its methods of the same names run on the same measurements at their
defaults: TASK_METHOD_theirs_MEASURE.  Else ours are compared with what was measured of it once.

Then the suite of `ornstein.core.certify.posterior`: a correlated Gaussian in 64 dimensions behind seven linear
operators at three noise levels.  Figures are the mean over the problems, METHOD_gaussian_{mean,std,calibration}_error,
and `suite_best_mean_error`, the largest error in the posterior mean of the method that is best at its worst problem.

Last the tasks of `ImageDiffusion` on held-out digits, at equal numbers of network evaluations: the lower half
inpainted, a quarter of the resolution, and blur with noise.  Figures are METHOD_TASK_class (how often a support-vector
machine reads the original's class), METHOD_TASK_pixel_error (root mean square, pictures in [0, 1]) and
METHOD_TASK_misfit (root mean square of what the result's measurement misses).  Half a digit does not tell its class:
the figure to compare with is another method's, and that of the originals is `originals_class`.

The model is trained as `make demo` trains it, unless one is given by --model.  --only runs a part and leaves the
figures of the others as they are recorded.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import common
import torch
from _deepinv_posteriors import RECORDED, deepinv_methods
from _gaussian_tasks import SCALE, GaussianTask, gaussian_tasks
from torch import Tensor

from ornstein.core import (
    MMPS,
    AveragePool,
    Blur,
    Denoiser,
    GaussianNoise,
    Mask,
    Measurement,
    Operator,
    PiGDM,
    Sampler,
    posterior_sampler,
)
from ornstein.core.certify.posterior import posterior_table
from ornstein.core.inverse import POSTERIOR_METHODS
from ornstein.domains.images import DigitsData, ImageDiffusion
from ornstein.domains.images.classifier import as_floats
from ornstein.domains.images.demo import QUICK, Settings, digits_model, training_options
from ornstein.domains.images.metrics import LabelJudge

DRAWS, MEASUREMENTS = 128, 4
EVALUATIONS = {"ddrm": 40, "diffpir": 30}
"""Of the methods that get other than 50, so that they take half of deepinv's time or less."""
TOLERANCE = 0.03
"""What the noise of so many draws is worth where two methods are compared."""
PARTS = ("pictures", "suite", "digits")

SHAPE = (1, 8, 8)
TASKS: dict[str, tuple[Operator, float]] = {
    "inpaint": (Mask(torch.arange(8).lt(4)[None, :, None].expand(SHAPE).clone()), 0.0),
    "upscale": (AveragePool(SHAPE, 4), 0.0),
    "deblur": (Blur.gaussian(SHAPE, 1.0), 0.025),
}


def conditioned(method: str, task: GaussianTask, seen: Measurement) -> tuple[Sampler, Denoiser]:
    """The sampler and denoiser of a method: the preset's, but PiGDM knows the data's deviation and MMPS solves on."""
    prior = task.denoiser()
    sampler, denoiser = posterior_sampler(method, prior, seen, EVALUATIONS.get(method, 50))
    if method == "pigdm":
        denoiser = PiGDM(prior, seen, data_std=task.states_std)
    if method == "mmps":
        denoiser = MMPS(prior, seen, iterations=32, solver="cg", tolerance=1e-4)
    return sampler, denoiser


def picture_figures(quick: bool, peer: bool) -> dict[str, float]:
    """Ours and deepinv's on Gaussian pictures whose posterior is known."""
    figures: dict[str, float] = {}
    for task in gaussian_tasks():
        seen = task.measurements(1 if quick else MEASUREMENTS)
        exact = [task.exact_draws(one, DRAWS, i) for i, one in enumerate(seen)]
        found = {"exact": task.judge(seen, exact)}
        theirs = deepinv_methods(task) if peer else {}
        for method in POSTERIOR_METHODS:
            draws, seconds = [], 0.0
            for i, one in enumerate(seen):
                sampler, denoiser = conditioned(method, task, SCALE.measurement_of_states(one))
                start = time.process_time()
                states = sampler.sample(denoiser, (DRAWS, *task.operator.shape), seed=i)
                seconds += time.process_time() - start
                draws.append(SCALE.to_units(states).double().flatten(1))
            found[method] = task.judge(seen, draws) | {"seconds": seconds / len(seen)}
            if method not in theirs:
                continue
            draws, seconds = [], 0.0
            for i, one in enumerate(seen):
                y = one.y.expand(DRAWS, *one.y.shape[1:]).contiguous()
                start = time.process_time()
                pictures = theirs[method](y, i)
                seconds += time.process_time() - start
                draws.append(pictures.double().flatten(1))
            found[f"{method}_theirs"] = task.judge(seen, draws) | {"seconds": seconds / len(seen)}
        for name, row in found.items():
            print(f"{task.name:10s} {name:22s}", "  ".join(f"{key} {v:.3f}" for key, v in row.items()), flush=True)
            figures |= {f"{task.name}_{name}_{key}": v for key, v in row.items()}
    worst = [max(figures[f"{task}_{method}_mean"] for task in RECORDED) for method in POSTERIOR_METHODS]
    return figures | {"best_mean_error": min(worst)}


def picture_checks(figures: dict[str, float], peer: bool) -> dict[str, bool]:
    """Whether a method is true on all tasks, and each no worse than deepinv's of its name."""

    def true(task: str, method: str) -> bool:
        of = {key: figures[f"{task}_{method}_{key}"] for key in ("mean", "spread", "data", "chi2", "coverage")}
        within = {"spread": (0.98, 1.02), "data": (0.98, 1.02), "chi2": (0.95, 1.05), "coverage": (0.88, 0.92)}
        return of["mean"] <= 0.1 and all(low <= of[key] <= high for key, (low, high) in within.items())

    passed = {"best_mean_error": figures["best_mean_error"] <= 0.1}
    passed["a_method_is_true"] = any(all(true(task, method) for task in RECORDED) for method in POSTERIOR_METHODS)
    for task, method, mean, spread in _theirs(figures, peer):
        name = f"{task}_{method}"
        key = "bias" if peer else "mean"
        passed[f"{name}_mean_no_worse"] = figures[f"{name}_{key}"] <= mean + TOLERANCE
        passed[f"{name}_spread_no_worse"] = abs(figures[f"{name}_spread"] - 1) <= abs(spread - 1) + TOLERANCE
        if peer:
            ratio = figures[f"{name}_seconds"] / figures[f"{name}_theirs_seconds"]
            passed[f"{name}_at_most_half_the_time"] = ratio <= 0.5
    return passed


def _theirs(figures: dict[str, float], peer: bool) -> Iterator[tuple[str, str, float, float]]:
    """Task, method, mean error (without the draws' noise where it ran) and spread of deepinv."""
    for task, methods in RECORDED.items():
        for method, (mean, spread) in methods.items():
            if peer:
                name = f"{task}_{method}_theirs"
                mean, spread = figures[f"{name}_bias"], figures[f"{name}_spread"]
            yield task, method, mean, spread


def suite_figures(quick: bool) -> dict[str, float]:
    """The suite's figures; prints its table on the way."""
    rows: list[dict[str, Any]] = posterior_table(quick=quick, report=_print_row)
    figures: dict[str, float] = {}
    worst: dict[str, float] = {}
    for name in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == name]
        for key in ("mean_error", "std_error", "calibration_error"):
            figures[f"{name}_gaussian_{key}"] = sum(row[key] for row in mine) / len(mine)
        worst[name] = max(row["mean_error"] for row in mine)
        if mine[0]["exact"]:
            figures[f"{name}_worst_mean_error"] = worst[name]
            figures[f"{name}_worst_std_error"] = max(row["std_error"] for row in mine)
    return figures | {"suite_best_mean_error": min(worst.values())}


def _print_row(row: dict[str, Any]) -> None:
    errors = "  ".join(f"{key} {row[f'{key}_error']:.4f}" for key in ("mean", "std", "calibration"))
    problem = f"{row['operator']:18s} {row['noise_std']:5.2f}"
    print(f"{problem}  {row['method']:12s} {errors}  {row['nfe']:4d} evaluations; {row['bias']}", flush=True)


def trained_model(quick: bool) -> ImageDiffusion:
    settings = QUICK if quick else Settings()
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(settings.seed)
        model = digits_model()
        model.fit(DigitsData(batch_size=settings.batch_size), run=Path(folder) / "run", **training_options(settings))
    return model


def digit_figures(model: ImageDiffusion, count: int, evaluations: int) -> dict[str, float]:
    """Every method on every task, without telling it the class."""
    reference = DigitsData().reference()
    judge = LabelJudge(reference.train)
    assert reference.heldout.labels is not None
    images, labels = as_floats(reference.heldout.images[:count]), reference.heldout.labels[:count]
    figures = {"originals_class": judge.agreement(images, labels)}
    for task, (operator, std) in TASKS.items():
        clean = Measurement.simulate(images, operator, GaussianNoise(std), torch.Generator().manual_seed(0))
        for method in POSTERIOR_METHODS:
            if method == "tds":  # whose population is of one measurement; see the Gaussian suite
                continue
            found = model.restore(clean.y, operator, std, method=method, evaluations=evaluations, seed=0)
            name = f"{method}_{task}"
            figures[f"{name}_class"] = judge.agreement(found, labels)
            figures[f"{name}_pixel_error"] = _size(found - images)
            figures[f"{name}_misfit"] = _size(operator(found) - clean.y)
            values = "  ".join(f"{key} {figures[f'{name}_{key}']:.4f}" for key in ("class", "pixel_error", "misfit"))
            print(f"{task:18s} {method:12s} {values}", flush=True)
    return figures


def _size(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def main() -> int:
    options = common.parser(__doc__)
    options.add_argument("--model", help="folder of a trained digits model")
    options.add_argument("--peer", help="folder in which deepinv is installed, if not among the packages")
    options.add_argument("--only", choices=PARTS, help="one part; the figures of the others stay as recorded")
    given = options.parse_args()
    if given.peer:
        sys.path.append(given.peer)
    peer = find_spec("deepinv") is not None
    common.set_threads(given.threads)
    parts = PARTS if given.only is None else (given.only,)
    figures, passed = ({}, {}) if given.quick or given.only is None else common.recorded("posterior_truth")
    if "pictures" in parts:
        found = picture_figures(given.quick, peer)
        figures, passed = figures | found, passed | picture_checks(found, peer)
    if "suite" in parts:
        found = suite_figures(given.quick)
        limit = 0.05 if given.quick else 0.02  # a quick run has a quarter of the particles
        bounds = ("suite_best_mean_error", *(f"{m}_worst_{e}_error" for m in ("mmps", "tds") for e in ("mean", "std")))
        figures, passed = figures | found, passed | {key: found[key] <= limit for key in bounds}
    if "digits" in parts:
        model = ImageDiffusion.from_pretrained(given.model) if given.model else trained_model(given.quick)
        figures |= digit_figures(model, 10 if given.quick else 100, 6 if given.quick else 50)
    return common.record(
        "posterior_truth",
        figures,
        passed,
        seeds=[0],
        quick=given.quick,
        threads=given.threads,
        packages=("torch", *(("deepinv",) if peer else ())),
    )


if __name__ == "__main__":
    sys.exit(main())
