"""Posterior methods against the truth: an exact posterior, and digits whose originals are known.

First the suite of `ornstein.core.certify.posterior`: a correlated Gaussian in 64 dimensions behind seven linear
operators at three noise levels.  Figures are the mean over the problems, METHOD_gaussian_{mean,std,calibration}_error,
and `best_mean_error`, the largest error in the posterior mean of the method that is best at its worst problem.

Then the tasks of `ImageDiffusion` on held-out digits, at equal numbers of network evaluations: the lower half
inpainted, a quarter of the resolution, and blur with noise.  Figures are METHOD_TASK_class (how often a support-vector
machine reads the original's class), METHOD_TASK_pixel_error (root mean square, pictures in [0, 1]) and
METHOD_TASK_misfit (root mean square of what the result's measurement misses).  Half a digit does not tell its class:
the figure to compare with is another method's, and that of the originals is `originals_class`.

The model is trained as `make demo` trains it, unless one is given by --model.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor

from ornstein.core import AveragePool, Blur, GaussianNoise, Mask, Measurement, Operator
from ornstein.core.certify.posterior import posterior_table
from ornstein.core.inverse import POSTERIOR_METHODS
from ornstein.domains.images import DigitsData, ImageDiffusion
from ornstein.domains.images.classifier import as_floats
from ornstein.domains.images.demo import QUICK, Settings, digits_model, training_options
from ornstein.domains.images.metrics import LabelJudge

SHAPE = (1, 8, 8)
TASKS: dict[str, tuple[Operator, float]] = {
    "inpaint": (Mask(torch.arange(8).lt(4)[None, :, None].expand(SHAPE).clone()), 0.0),
    "upscale": (AveragePool(SHAPE, 4), 0.0),
    "deblur": (Blur.gaussian(SHAPE, 1.0), 0.025),
}


def gaussian_figures(quick: bool) -> dict[str, float]:
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
    return figures | {"best_mean_error": min(worst.values())}


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
    given = options.parse_args()
    common.set_threads(given.threads)
    figures = gaussian_figures(given.quick)
    model = ImageDiffusion.from_pretrained(given.model) if given.model else trained_model(given.quick)
    figures |= digit_figures(model, 10 if given.quick else 100, 6 if given.quick else 50)
    limit = 0.05 if given.quick else 0.02  # a quick run has a quarter of the particles
    passed = {
        key: figures[key] <= limit
        for key in ("best_mean_error", *(f"{m}_worst_{e}_error" for m in ("mmps", "tds") for e in ("mean", "std")))
    }
    return common.record("posterior_truth", figures, passed, seeds=[0], quick=given.quick, threads=given.threads)


if __name__ == "__main__":
    sys.exit(main())
