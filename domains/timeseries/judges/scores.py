"""Scores of single entries: errors of points, CRPS in its three printed forms, and quantile losses.

"CRPS" is three different numbers in print; each has its own function here.

| function | definition | where it is printed |
| --- | --- | --- |
| `crps` | ``E|X - y| - E|X - X'| / 2``, mean over entries | statistics (Gneiting and Raftery 2007); sktime |
| `csdi_crps` | quantile loss at 19 levels over the sum of absolute truths | CSDI (2107.03502), PyPOTS |
| `weighted_quantile_loss` | the same at 9 levels, quantiles that are samples | gluonts; TSDiff (2307.11494) |
| `crps_sum` | the same, of sums over variables | TimeGrad (2101.12072, at 19 levels), gluonts' ``m_sum_`` |

All are least in expectation for samples of the true distribution. Samples are ``(n, ...)``, the truth and the mask of
entries that count ``(...)``; arrays or tensors.
"""

from collections.abc import Sequence

import numpy as np

from ornstein.core.schedules import require
from ornstein.domains.timeseries.judges._samples import (
    Array,
    Method,
    as_array,
    as_levels,
    as_mask,
    as_samples,
    counted,
    marginals,
)

__all__ = [
    "CSDI_LEVELS",
    "GLUONTS_LEVELS",
    "crps",
    "crps_sum",
    "csdi_crps",
    "mae",
    "mre",
    "quantile_loss",
    "rmse",
    "weighted_quantile_loss",
]

CSDI_LEVELS = tuple(k / 20 for k in range(1, 20))
"""0.05, 0.10 ... 0.95, of CSDI and of TimeGrad's notebooks."""

GLUONTS_LEVELS = tuple(k / 10 for k in range(1, 10))
"""0.1, 0.2 ... 0.9, those of gluonts' Evaluator unless it is told others."""


def mae(prediction: Array, truth: Array, mask: Array | None = None) -> float:
    """Mean absolute error ``mean |p - y|``, in units of the data. Papers on imputation take the median of samples.

    Args:
        prediction: ``(...)``.
        truth: ``(...)``.
        mask: ``(...)`` bool, the entries that count; None: all.

    Raises:
        TypeError: no arrays of numbers.
        ValueError: shapes that differ, nothing that counts, or NaN where entries count.
    """
    return float(np.abs(_errors(prediction, truth, mask)).mean())


def rmse(prediction: Array, truth: Array, mask: Array | None = None) -> float:
    """Root of the mean squared error ``sqrt(mean (p - y)^2)``, in units of the data; arguments as for `mae`."""
    return float(np.sqrt(np.square(_errors(prediction, truth, mask)).mean()))


def mre(prediction: Array, truth: Array, mask: Array | None = None) -> float:
    """Mean relative error ``sum |p - y| / sum |y|`` (BRITS, 1805.10572); arguments as for `mae`.

    gluonts calls it ND. It depends on where zero lies: print it in the units that others print it in.

    Raises:
        ValueError: as `mae`; a truth of zero everywhere.
    """
    errors = _errors(prediction, truth, mask)
    truth = as_array(truth, "truth")
    return float(np.abs(errors).sum()) / _size(counted(truth, as_mask(mask, truth.shape), "truth"))


def crps(samples: Array, truth: Array, mask: Array | None = None) -> float:
    r"""Continuous ranked probability score ``E|X - y| - E|X - X'| / 2``, mean over entries, in units of the data.

    ``X, X'`` are independent draws of the prediction (Gneiting and Raftery 2007, eq. 21). Expectations are over the
    ``n`` samples and over the ``n (n - 1)`` pairs of different ones, so that the estimate is unbiased at every ``n``
    ("fair", Ferro 2014); with ``E|X - X'|`` over all ``n^2`` pairs it would favour narrow samples. Pairs are summed by
    sorting, ``sum_{i,j} |x_i - x_j| = 2 sum_i (2 i - n - 1) x_(i)``. One sample is a point, its score
    the absolute error.

    Args:
        samples: ``(n, ...)``.
        truth: ``(...)``.
        mask: ``(...)`` bool, the entries that count; None: all.

    Raises:
        TypeError: no arrays of numbers.
        ValueError: shapes that do not fit, nothing that counts, or NaN where entries count.

    Example:
        >>> crps(np.array([[0.0], [2.0]]), np.array([3.0]))
        1.0
    """
    return float(marginals(samples, truth, mask).crps.mean())


def csdi_crps(samples: Array, truth: Array, mask: Array | None = None, levels: Sequence[float] = CSDI_LEVELS) -> float:
    """CSDI's normalised form: mean over levels ``a`` of ``sum 2 L_a(q_a, y) / sum |y|`` (2107.03502; PyPOTS).

    ``L_a(q, y) = (a - 1[y < q]) (y - q)`` is the quantile loss and ``q_a`` the quantile of the samples, linear between
    them. Doubled and averaged over levels it is near `crps` (the levels are few and leave the tails out); the divisor
    makes it free of units, yet depend on where zero lies: un-scale first where the published number did. CSDI's for
    PhysioNet are in scaled units.

    Args:
        samples: ``(n, ...)``.
        truth: ``(...)``.
        mask: ``(...)`` bool, the entries that count; None: all.
        levels: ``a``.

    Raises:
        TypeError, ValueError: as `crps`; a truth of zero everywhere, levels outside (0, 1).
    """
    return _weighted(samples, truth, mask, levels, "linear")


def weighted_quantile_loss(
    samples: Array, truth: Array, mask: Array | None = None, levels: Sequence[float] = GLUONTS_LEVELS
) -> float:
    """gluonts' ``mean_wQuantileLoss``: as `csdi_crps`, at 9 levels, where ``q_a`` is the sample of the nearest rank.

    It is what forecasting papers print as CRPS (TSDiff 2307.11494; TimeGrad 2101.12072 takes 19 levels), in units of
    the data. For a point it is `mre`, at levels that lie about 1/2 in symmetry.

    Args:
        samples: ``(n, ...)``.
        truth: ``(...)``.
        mask: ``(...)`` bool, the entries that count; None: all.
        levels: ``a``.

    Raises:
        TypeError, ValueError: as `crps`; a truth of zero everywhere, levels outside (0, 1).
    """
    return _weighted(samples, truth, mask, levels, "nearest")


def crps_sum(
    samples: Array, truth: Array, mask: Array | None = None, levels: Sequence[float] = GLUONTS_LEVELS
) -> float:
    """`weighted_quantile_loss` of sums over variables, the last axis: gluonts' ``m_sum_mean_wQuantileLoss``.

    CRPS-sum of multivariate forecasting (Salinas et al. 2019, 1910.03002; TimeGrad 2101.12072, CSDI 2107.03502, both at
    `CSDI_LEVELS`). A sum is over the variables that count at its time; times where none does are left out.

    Args:
        samples: ``(n, ..., K)``, in units in which the variables may be added.
        truth: ``(..., K)``.
        mask: ``(..., K)`` bool, the entries that count; None: all.
        levels: ``a``.

    Raises:
        TypeError, ValueError: as `crps`; sums of zero everywhere, levels outside (0, 1).
    """
    samples, truth, mask = as_samples(samples, truth, mask)
    require(truth.ndim > 0, "shape of truth", truth.shape, "(..., K), variables last")
    total = np.where(mask, truth, 0).sum(-1, dtype=np.float64)
    sums = np.stack([np.where(mask, sample, 0).sum(-1, dtype=np.float64) for sample in samples])
    return _weighted(sums, total, np.any(mask, axis=-1, keepdims=True)[..., 0], levels, "nearest")


def quantile_loss(quantiles: np.ndarray, truth: np.ndarray, levels: Sequence[float] | np.ndarray) -> np.ndarray:
    """Twice the quantile loss, ``2 (a - 1[y < q]) (y - q)``, of quantiles ``(q, ...)`` at levels ``(q,)``.

    Args:
        quantiles: ``(q, ...)``.
        truth: ``(...)``.
        levels: ``(q,)``, each in (0, 1).

    Returns:
        ``(q, ...)``, in units of the data.

    Raises:
        ValueError: shapes that do not fit or levels outside (0, 1).
    """
    probabilities = as_levels(levels)
    require(
        quantiles.shape == (len(probabilities), *truth.shape),
        "shape of quantiles",
        quantiles.shape,
        f"{(len(probabilities), *truth.shape)}: a row a level",
    )
    over = quantiles - truth
    return 2 * over * ((over >= 0) - probabilities.reshape(-1, *[1] * truth.ndim))


def _weighted(
    samples: Array, truth: Array, mask: Array | None, levels: Sequence[float] | np.ndarray, method: Method
) -> float:
    found = marginals(samples, truth, mask, as_levels(levels), method)
    return relative_loss(found.quantiles, found.truth, levels)


def relative_loss(quantiles: np.ndarray, truth: np.ndarray, levels: Sequence[float] | np.ndarray) -> float:
    """Mean over levels of the sum of `quantile_loss` over ``sum |y|``, of quantiles ``(q, N)``, a level at a time."""
    total = sum(float(quantile_loss(row[None], truth, [level]).sum()) for row, level in zip(quantiles, levels))
    return total / len(quantiles) / _size(truth)


def _errors(prediction: Array, truth: Array, mask: Array | None) -> np.ndarray:
    prediction, truth = as_array(prediction, "prediction"), as_array(truth, "truth")
    require(
        prediction.shape == truth.shape, "shape of prediction", prediction.shape, f"{truth.shape}, that of the truth"
    )
    kept = as_mask(mask, truth.shape)
    return counted(prediction, kept, "prediction") - counted(truth, kept, "truth")


def _size(truth: np.ndarray) -> float:
    size = float(np.abs(truth).sum())
    if size == 0:
        raise ValueError("the truth is zero wherever it counts, and the score is relative to it: take crps or mae")
    return size
