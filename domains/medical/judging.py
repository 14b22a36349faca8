"""The model beside classical methods, on measurements that are simulated from slices of known truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ornstein.core.evaluation import sliced_wasserstein
from ornstein.core.inverse import GaussianNoise, Measurement, NoiseModel, Operator
from ornstein.domains.medical.classical import CGLS, FBP, Classical, TotalVariation, Wavelet, ZeroFilled, tune
from ornstein.domains.medical.data import MedicalReference
from ornstein.domains.medical.judges.certainty import coverage, data_consistency
from ornstein.domains.medical.judges.pictures import haarpsi, nmse, psnr, ssim
from ornstein.domains.medical.physics.counts import LogCounts
from ornstein.domains.medical.physics.geometry import ParallelBeam, spread_angles
from ornstein.domains.medical.physics.masks import random_mask
from ornstein.domains.medical.physics.mri import CartesianMRI
from ornstein.domains.medical.physics.projector import Projector
from ornstein.domains.medical.results import Reconstruction
from ornstein.domains.medical.scale import Scale, shown

if TYPE_CHECKING:
    from ornstein.domains.medical.reconstruction import MedicalReconstruction

__all__ = ["Judgement", "Problem", "judge_prior", "judge_problem", "judge_slices", "standard_problem"]

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)
MODEL = "model"


@dataclass(frozen=True, eq=False)
class Problem:
    """A measurement to simulate, and the classical methods to set beside the model.

    Args:
        name: for tables.
        operator, noise: of the measurement.
        baselines: by name: a method and the settings to choose among, none where there is nothing to choose.
        simulated: what was simulated and how, for reports.
    """

    name: str
    operator: Operator
    noise: NoiseModel
    baselines: Mapping[str, tuple[Classical, Mapping[str, Sequence[Any]]]]
    simulated: str


@dataclass(frozen=True, eq=False)
class Judgement:
    """What `judge_problem` found.

    Attributes:
        scores: figures by method, the model's first.
        pictures: reconstructions ``(slices, C, H, W)`` by method, in units of the data.
        reconstruction: the model's, with its samples and certificates.
        truth: the slices.
        settings: of the classical methods as they were tuned.
    """

    scores: dict[str, dict[str, float]]
    pictures: dict[str, Tensor]
    reconstruction: Reconstruction
    truth: Tensor
    settings: dict[str, str] = field(default_factory=dict)


def standard_problem(scale: Scale, shape: tuple[int, int, int]) -> Problem:
    """What `evaluate` simulates: of real slices a CT of 60 views with 1e5 photons a ray, of complex ones fourfold
    Cartesian MRI.

    A field of view is 240 mm in Hounsfield units; in other units, of a window ``w``, a line across it sums to ``3 w``.

    Args:
        scale: of the model.
        shape: of its slices.
    """
    channels, rows, columns = shape
    width = scale.window[1] - scale.window[0]
    grid = {"strength": STRENGTHS}
    if channels == 2:
        noise = 0.01 * width / 2
        return Problem(
            "MRI, 4x Cartesian",
            CartesianMRI(random_mask(columns), rows=rows),
            GaussianNoise(noise),
            {
                "zero-filled": (ZeroFilled(), {}),
                "total variation": (TotalVariation(1.0, 200), grid),
                "wavelet": (Wavelet(1.0), grid),
            },
            f"k-space of one coil: random columns, fourfold, with Gaussian noise of {noise:.3g} a value",
        )
    pixel = (240.0 if scale.units == "HU" else 3.0 / width) / max(rows, columns)
    return Problem(
        "CT, 60 views",
        Projector(ParallelBeam((rows, columns), spread_angles(60), pixel=pixel)),
        LogCounts(1e5),
        {
            "FBP": (FBP(), {"window": ("ramp", "hann")}),
            "CGLS": (CGLS(), {"iterations": (4, 8, 16, 32)}),
            "total variation": (TotalVariation(1.0, 200, nonnegative=True), grid),
        },
        "line integrals along 60 parallel views, from Poisson counts of 1e5 photons a ray",
    )


def judge_prior(samples: Tensor, reference: MedicalReference) -> dict[str, float]:
    """How far slices of the prior are from held-out ones, beside how far training slices are from them.

    Args:
        samples: ``(N, C, H, W)`` in units of the data.
        reference: slices of both parts.

    Returns:
        ``sliced_wasserstein`` and ``sliced_wasserstein_train``, of slices as vectors, in units of the data.
    """
    shape = tuple(reference.heldout.shape[1:])
    if tuple(samples.shape[1:]) != shape:
        raise ValueError(f"samples of shape {tuple(samples.shape)}: expected (N, *{shape})")
    made, train, heldout = (x.flatten(1).double() for x in (samples, reference.train, reference.heldout))
    return {
        "sliced_wasserstein": sliced_wasserstein(made, heldout),
        "sliced_wasserstein_train": sliced_wasserstein(train, heldout),
    }


def judge_slices(pictures: Tensor, truth: Tensor, scale: Scale) -> dict[str, float]:
    """PSNR, SSIM, NMSE and HaarPSI of a stack, of magnitudes where slices are complex.

    By fastMRI's definitions, with the largest value of the truth as range; Hounsfield units are counted from the
    window's low end, with its width as range.

    Args:
        pictures, truth: ``(slices, C, H, W)`` in units of the data.
        scale: of the model.
    """
    low, span = (scale.window[0], scale.window[1] - scale.window[0]) if scale.units == "HU" else (0.0, None)
    x, y = shown(pictures) - low, shown(truth) - low
    figures = {"psnr": psnr(x, y, span), "ssim": ssim(x, y, span), "nmse": nmse(x, y)}
    return figures | ({"haarpsi": haarpsi(x, y, span)} if min(x.shape[1:]) >= 16 else {})


def judge_problem(
    model: "MedicalReconstruction",
    problem: Problem,
    truth: Tensor,
    tuning: Tensor,
    *,
    seed: int = 0,
    **options: Any,
) -> Judgement:
    """The model and the baselines on simulated measurements of slices that none of them has seen.

    Args:
        model: with its prior.
        problem: what to simulate.
        truth: ``(slices, C, H, W)`` in units of the data, to judge by.
        tuning: other slices, on which the baselines choose their settings.
        seed: of the noise and the samples.
        options: of `MedicalReconstruction.reconstruct`.

    Returns:
        For each method ``psnr``, ``ssim``, ``nmse``, ``haarpsi`` and ``chi2`` (residuals over the noise, 1 for the
        truth); for the model also ``coverage_50``, ``coverage_90`` and ``chi2_samples``.
    """
    scale, operator = model.scale, problem.operator
    seen = model.simulate(truth, operator, problem.noise, seed=seed)
    known = model.simulate(tuning, operator, problem.noise, seed=seed + 1)
    found = model.reconstruct(seen, seed=seed, **options)
    pictures, settings = {MODEL: found.mean}, {}
    operator.cpu()  # the model has taken it to its device
    target = scale.to_operator(tuning, operator)
    for name, (method, grid) in problem.baselines.items():
        chosen = tune(method, grid, [(known, target)])[0] if grid else method
        settings[name] = repr(chosen)
        pictures[name] = scale.from_operator(chosen(seen), operator)
    scores = {name: judge_slices(x, truth, scale) | _chi2(x, seen, scale) for name, x in pictures.items()}
    scores[MODEL] |= _certainty(found, truth)
    return Judgement(scores, pictures, found, truth, settings)


def _chi2(pictures: Tensor, seen: Measurement, scale: Scale) -> dict[str, float]:
    return {"chi2": float(data_consistency(scale.to_operator(pictures, seen.operator), seen).ratio.mean())}


def _certainty(found: Reconstruction, truth: Tensor) -> dict[str, float]:
    """Coverage by the calibration where there is one, else by as many of the levels as the samples allow."""
    figures = {}
    if found.sample_consistency is not None:
        figures["chi2_samples"] = float(found.sample_consistency.ratio.mean())
    if found.calibration is not None:
        for level in found.calibration.levels:
            lower, upper = found.interval(level)
            figures[f"coverage_{100 * level:.0f}"] = float(((truth >= lower) & (truth <= upper)).double().mean())
        return figures
    count = found.samples.shape[1]
    levels = [level for level in (0.5, 0.9) if level <= (count - 1) / (count + 1)]
    for row in coverage(found.samples.movedim(1, 0), truth, levels):
        figures[f"coverage_{100 * row.level:.0f}"] = row.share
    return figures
