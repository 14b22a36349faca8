"""Is the stated uncertainty right?  Intervals and errors against the truth, residuals against the noise."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.core.inverse.measurement import Measurement
from ornstein.core.schedules import require

__all__ = [
    "Consistency",
    "Coverage",
    "DeviationBin",
    "coverage",
    "data_consistency",
    "error_versus_deviation",
    "sample_interval",
]


class Coverage(NamedTuple):
    """How often central intervals hold the truth.

    Attributes:
        level: that they claim.
        share: of the pixels whose interval holds the truth.
        width: mean width of the intervals, in units of the picture.
    """

    level: float
    share: float
    width: float


class Consistency(NamedTuple):
    """Residuals of a reconstruction in units of the noise, for each sample.

    Attributes:
        chi2: ``sum |A x - y|^2 / variance``, ``(B,)``.
        measured: number of measured values.
        ratio: ``chi2 / measured``, 1 for the truth on average.
        p_value: the chance of a larger ``chi2`` with the true picture, ``(B,)``.
    """

    chi2: Tensor
    measured: int
    ratio: Tensor
    p_value: Tensor


class DeviationBin(NamedTuple):
    """Pixels of like stated deviation.

    Attributes:
        deviation: root mean square of what is stated.
        error: root mean square of the errors.
        pixels: how many.
    """

    deviation: float
    error: float
    pixels: int


def sample_interval(samples: Tensor, level: float = 0.9) -> tuple[Tensor, Tensor]:
    """The central interval of posterior samples ``(K, ...)`` at each pixel: lower and upper ends ``(...)``.

    Quantiles ``p`` are at the place ``p (K + 1)`` among the samples (Hyndman and Fan's type 6), between two of them
    where that is no whole number.  Where it is, exact samples cover as often as they claim, however few they are.

    Args:
        samples: ``K`` draws.
        level: between 0 and 1; at most ``(K - 1) / (K + 1)``, which the extremes cover.

    Raises:
        ValueError: too few samples for the level.
    """
    count = len(samples)
    require(0 < level < 1, "level", level, "between 0 and 1")
    most = (count - 1) / (count + 1)
    if level > most + 1e-12:
        raise ValueError(f"level={level} of {count} samples: expected at most {most:.4g}; draw more samples")
    ordered = samples.sort(0).values
    place = round((1 - level) / 2 * (count + 1) - 1, 9)
    low = min(max(int(place), 0), count - 2)
    share = place - low
    lower = (1 - share) * ordered[low] + share * ordered[low + 1]
    upper = (1 - share) * ordered[count - 1 - low] + share * ordered[count - 2 - low]
    return lower, upper


def coverage(
    samples: Tensor, truth: Tensor, levels: Sequence[float] = (0.5, 0.9), mask: Tensor | None = None
) -> tuple[Coverage, ...]:
    """How often central intervals of samples hold the truth, over all pixels.

    Args:
        samples: ``(K, ...)`` posterior draws.
        truth: ``(...)``.
        levels: of the intervals.
        mask: pixels that count, True; all when not given.  Air, which everyone knows, flatters.
    """
    if samples.shape[1:] != truth.shape:
        raise ValueError(f"samples of shape {tuple(samples.shape)}: expected (K, *{tuple(truth.shape)}) as truth")
    where = _where(truth, mask)
    rows = []
    for level in levels:
        lower, upper = (end[where] for end in sample_interval(samples, level))
        held = (truth[where] >= lower) & (truth[where] <= upper)
        rows.append(Coverage(level, float(held.double().mean()), float((upper - lower).double().mean())))
    return tuple(rows)


def error_versus_deviation(
    mean: Tensor, deviation: Tensor, truth: Tensor, bins: int = 10, mask: Tensor | None = None
) -> tuple[DeviationBin, ...]:
    """Errors of pixels sorted by their stated deviation, in bins of equal numbers: the diagonal is honest.

    Args:
        mean, deviation: of the posterior at each pixel.
        truth: of the same shape.
        bins: how many.
        mask: as in `coverage`.
    """
    for name, value in (("mean", mean), ("deviation", deviation)):
        if value.shape != truth.shape:
            raise ValueError(f"{name} of shape {tuple(value.shape)}: expected {tuple(truth.shape)} as truth")
    require(bool((deviation >= 0).all()), "deviation", float(deviation.min()), "at least 0")
    where = _where(truth, mask)
    stated, order = deviation[where].double().sort()
    error = (mean - truth)[where].double()[order]
    require(1 <= bins <= len(stated), "bins", bins, f"1 to {len(stated)}, the number of pixels")
    return tuple(
        DeviationBin(float((s**2).mean().sqrt()), float((e**2).mean().sqrt()), len(s))
        for s, e in zip(stated.tensor_split(bins), error.tensor_split(bins))
    )


def data_consistency(x: Tensor, measurement: Measurement) -> Consistency:
    """Whether reconstructions fit the data as well as the noise allows, neither worse nor better.

    The exact posterior mean fits a little better than the truth (by the number of directions that the data determine),
    a posterior sample as well as the truth.

    Args:
        x: ``(B, *shape)`` as the operator takes.
        measurement: of Gaussian noise, or noise with a variance, above zero.
    """
    operator, y = measurement.operator, measurement.like(x)
    variance: Any = measurement.variance
    if isinstance(variance, Tensor):
        variance = operator.restrict(variance.to(x))
    measured = operator.restrict(torch.ones_like(y[:1])) != 0
    noise = torch.as_tensor(variance, dtype=torch.float64, device=x.device).expand(y.shape)
    if not bool((noise[measured.expand_as(noise)] > 0).all()):
        raise ValueError("measurement has no noise: a residual has no scale to be judged by")
    residual = operator.restrict(operator(x) - y).double() ** 2 / torch.where(measured, noise, 1.0)
    chi2, count = residual.flatten(1).sum(1), int(measured.sum())
    p_value = torch.special.gammaincc(torch.full_like(chi2, count / 2), chi2 / 2)
    return Consistency(chi2, count, chi2 / count, p_value)


def _where(truth: Tensor, mask: Tensor | None) -> Tensor:
    where = torch.ones_like(truth, dtype=torch.bool) if mask is None else mask.expand(truth.shape)
    if where.dtype != torch.bool or not bool(where.any()):
        raise ValueError("mask: expected boolean, True for at least one pixel")
    return where
