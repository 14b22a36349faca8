"""Are the probabilities right? Coverage and width of intervals, probability integral transforms, calibration curves."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ornstein.core.schedules import require
from ornstein.domains.timeseries.judges._samples import Array, Marginals, as_levels, marginals

__all__ = ["Calibration", "Interval", "calibration_curve", "intervals", "pit"]


class Interval(NamedTuple):
    """A central interval over all entries: nominal ``level``, share of truths inside, mean ``width``."""

    level: float
    coverage: float
    width: float


class Calibration(NamedTuple):
    """Shares ``observed (q,)`` of truths below the predicted quantiles at levels ``nominal (q,)``.

    ``error = mean |observed - nominal|`` is the mean absolute calibration error (Chung et al. 2021, 2109.10254).
    """

    nominal: np.ndarray
    observed: np.ndarray
    error: float


def intervals(
    samples: Array, truth: Array, mask: Array | None = None, levels: Sequence[float] = (0.5, 0.9)
) -> list[Interval]:
    """Coverage and mean width of the central intervals at ``levels``.

    The interval at level ``c`` lies between the quantiles ``(1 - c) / 2`` and ``(1 + c) / 2`` of the samples, linear
    between them, ends included. From ``n`` samples of the very distribution of the truth it covers about ``c (n - 1) /
    (n + 1)``, not ``c``: 0.882 for 0.9 and a hundred samples. `pit` has no such bias.

    Args:
        samples: ``(n, ...)``.
        truth: ``(...)``.
        mask: ``(...)`` bool, the entries that count; None: all.
        levels: ``c``.

    Raises:
        TypeError, ValueError: as `crps`; levels outside (0, 1).
    """
    nominal = as_levels(levels)
    found = marginals(samples, truth, mask, interval_ends(nominal))
    return intervals_of(found.quantiles, found.truth, nominal)


def interval_ends(levels: np.ndarray) -> np.ndarray:
    """Lower ends of the central intervals, then upper ones."""
    return np.concatenate([(1 - levels) / 2, (1 + levels) / 2])


def intervals_of(quantiles: np.ndarray, truth: np.ndarray, levels: np.ndarray) -> list[Interval]:
    """`intervals` from quantiles ``(2 levels, N)`` at `interval_ends`."""
    low, high = quantiles[: len(levels)], quantiles[len(levels) :]
    inside = ((low <= truth) & (truth <= high)).mean(1)
    return [Interval(*map(float, row)) for row in zip(levels, inside, (high - low).mean(1))]


def pit(samples: Array, truth: Array, mask: Array | None = None, *, seed: int = 0) -> np.ndarray:
    """Probability integral transform of each truth among its samples, ``(N,)`` in (0, 1), uniform if these are right.

    ``(r + u) / (n + 1)`` with ``u`` uniform and ``r`` the rank of the truth among the ``n`` samples, from 0, ties
    broken at random (Czado et al. 2009; Hamill 2001). If truth and samples are draws of one distribution, all ranks are
    equally likely, so the values are exactly uniform at every ``n``.

    Args:
        samples: ``(n, ...)``.
        truth: ``(...)``.
        mask: ``(...)`` bool, the ``N`` entries that count; None: all.
        seed: of the draws.

    Raises:
        TypeError, ValueError: as `crps`.
    """
    return pit_of(marginals(samples, truth, mask), seed)


def pit_of(found: Marginals, seed: int) -> np.ndarray:
    """`pit` from ranks: each of the ``ties + 1`` places that the truth may take is a slot of width ``1 / (n + 1)``."""
    uniform = np.random.default_rng(seed).random(len(found.truth))
    return (found.below + uniform * (found.ties + 1)) / (found.count + 1)


def calibration_curve(
    samples: Array,
    truth: Array,
    mask: Array | None = None,
    levels: Sequence[float] | np.ndarray | None = None,
    *,
    seed: int = 0,
) -> Calibration:
    """Share of truths whose `pit` is at most each level (Kuleshov et al. 2018, 1807.00263), and its error.

    On the diagonal if right; flatter than it at both ends and steep in the middle if intervals are too wide, steep at
    the ends if too narrow.

    Args:
        samples: ``(n, ...)``, at least two.
        truth: ``(...)``.
        mask: ``(...)`` bool, the entries that count; None: all.
        levels: 0.05, 0.10 ... 0.95 when not given.
        seed: of the draws of `pit`.

    Raises:
        TypeError, ValueError: as `crps`; a single sample, levels outside (0, 1).
    """
    return calibration_of(pit(samples, truth, mask, seed=seed), len(samples), levels)


def calibration_of(values: np.ndarray, count: int, levels: Sequence[float] | np.ndarray | None) -> Calibration:
    """`calibration_curve` from the values of `pit` among ``count`` samples."""
    require(count > 1, "samples", count, "at least two: a point has no probabilities")
    nominal = np.arange(1, 20) / 20 if levels is None else as_levels(levels)
    observed = np.searchsorted(np.sort(values), nominal, side="right") / len(values)
    return Calibration(nominal, observed, float(np.abs(observed - nominal).mean()))
