"""All figures of predictions at once, and the same figures of the baselines beside them."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ornstein.core.schedules import require
from ornstein.domains.timeseries.judges._samples import Array, as_array, as_levels, as_samples, marginals
from ornstein.domains.timeseries.judges.baselines import (
    Baseline,
    KNearest,
    LastValue,
    Linear,
    ProbabilisticBaseline,
    Seasonal,
    TrainingMean,
)
from ornstein.domains.timeseries.judges.calibration import calibration_of, interval_ends, intervals_of, pit_of
from ornstein.domains.timeseries.judges.gaussian import GaussianConditional
from ornstein.domains.timeseries.judges.gaussian_process import GaussianProcess
from ornstein.domains.timeseries.judges.generation import (
    discriminative_score,
    linear_predictive_score,
    moment_differences,
    predictive_score,
)
from ornstein.domains.timeseries.judges.joint import energy_score, variogram_score
from ornstein.domains.timeseries.judges.scores import (
    CSDI_LEVELS,
    crps_sum,
    mae,
    mre,
    relative_loss,
    rmse,
    weighted_quantile_loss,
)

__all__ = [
    "default_baselines",
    "judge_generation",
    "judge_imputation",
    "predict_baselines",
    "score_rows",
    "score_text",
]

SHOWN = ("mae", "rmse", "crps", "csdi_crps", "coverage_50", "coverage_90", "width_90", "energy_score")
"""What `score_rows` shows unless it is told."""


def judge_imputation(
    samples: Array,
    truth: Array,
    mask: Array | None = None,
    *,
    levels: Sequence[float] = (0.5, 0.9),
    joint: bool = True,
    seed: int = 0,
) -> dict[str, float]:
    """All scores of samples, or of a point as one sample, by name; of forecasts too, whose entries are the horizon.

    | figures | of |
    | --- | --- |
    | ``mae``, ``rmse``, ``mre`` | the median of the samples |
    | ``crps``, ``csdi_crps``, ``weighted_quantile_loss`` | single entries, see `scores` |
    | ``coverage_50``, ``width_50``, ... ``calibration_error`` | intervals at ``levels`` and `calibration_curve` |
    | ``crps_sum``, ``energy_score``, ``variogram_score`` | joint samples; the first only of several variables |
    | ``entries`` | how many count |

    Of a single sample, what needs two is left out. The relative ones need a truth that is not zero everywhere.

    Args:
        samples: ``(n, ..., L, K)``, in the units that the figures shall have.
        truth: ``(..., L, K)``.
        mask: ``(..., L, K)`` bool, the entries that count; None: all.
        levels: of intervals.
        joint: also those of joint samples, whose cost grows with the square of the entries of a window.
        seed: of the draws of `pit`.

    Raises:
        TypeError, ValueError: as `crps`; fewer than two axes.
    """
    samples, truth, mask = as_samples(samples, truth, mask)
    require(truth.ndim >= 2, "shape of truth", truth.shape, "(..., L, K)")
    nominal = as_levels(levels)
    found = marginals(samples, truth, mask, np.concatenate([np.asarray(CSDI_LEVELS), interval_ends(nominal)]))
    few = len(CSDI_LEVELS)
    figures = {
        "entries": float(len(found.truth)),
        "mae": mae(found.median, found.truth),
        "rmse": rmse(found.median, found.truth),
        "mre": mre(found.median, found.truth),
        "crps": float(found.crps.mean()),
        "csdi_crps": relative_loss(found.quantiles[:few], found.truth, CSDI_LEVELS),
        "weighted_quantile_loss": weighted_quantile_loss(samples, truth, mask),
    }
    if len(samples) > 1:
        for interval in intervals_of(found.quantiles[few:], found.truth, nominal):
            name = f"{100 * interval.level:g}"
            figures |= {f"coverage_{name}": interval.coverage, f"width_{name}": interval.width}
        figures["calibration_error"] = calibration_of(pit_of(found, seed), found.count, None).error
    if joint:
        if truth.shape[-1] > 1:
            figures["crps_sum"] = crps_sum(samples, truth, mask)
        figures["energy_score"] = energy_score(samples, truth, mask)
        if len(samples) > 1 and (mask.reshape(-1, *mask.shape[-2:]).sum((1, 2)) > 1).any():
            figures["variogram_score"] = variogram_score(samples, truth, mask)
    return figures


def default_baselines(*, period: int | None = None, regular: bool = True) -> list[Baseline]:
    """Those that suit the data, not yet fitted.

    Args:
        period: of the season in steps; without, no seasonal one.
        regular: one step between neighbours, and windows of one length.
    """
    rules: list[Baseline] = [TrainingMean(), LastValue(), Linear()]
    if not regular:
        return [*rules, GaussianProcess(period=period)]
    return [*rules, *([] if period is None else [Seasonal(period)]), KNearest(), GaussianConditional()]


def predict_baselines(
    baselines: Iterable[Baseline],
    values: Array,
    mask: Array | None = None,
    *,
    n: int = 100,
    time: Array | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """What fitted baselines make of windows, by name: samples ``(n, B, L, K)``, or ``(1, B, L, K)`` of a point.

    Args:
        baselines: fitted.
        values: ``(B, L, K)`` with NaN where a value is wanted.
        mask: ``(B, L, K)`` bool, the entries that are going to count: refused where ``values`` has them.
        n: samples of those that have a distribution.
        time: ``(B, L)``, in steps.
        seed: of the draws.

    Raises:
        TypeError, ValueError: see `as_windows`; an entry that counts and is known, or two baselines of one name.
    """
    values = as_array(values, "values")
    if mask is not None and bool((~np.isnan(values) & as_array(mask, "mask")).any()):
        raise ValueError("values hold entries that count: set them to NaN, or the baselines see the answers")
    found: dict[str, np.ndarray] = {}
    for baseline in baselines:
        require(baseline.name not in found, "baselines", baseline.name, "one of each name")
        if isinstance(baseline, ProbabilisticBaseline):
            found[baseline.name] = baseline.sample(values, n, time=time, seed=seed)
        else:
            found[baseline.name] = baseline.impute(values, time=time)[None]
    return found


def score_rows(
    scores: Mapping[str, Mapping[str, float]], columns: Sequence[str] = SHOWN
) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table, a row a method in their order; columns that none has are left out, gaps are a dash.

    Args:
        scores: method to figures, as of `judge_imputation`.
        columns: names of figures.
    """
    kept = [column for column in columns if any(column in figures for figures in scores.values())]
    head = ["", *(column.replace("_", " ") for column in kept)]
    rows = [[name, *(_shown(figures.get(column)) for column in kept)] for name, figures in scores.items()]
    return head, rows


def score_text(scores: Mapping[str, Mapping[str, float]], columns: Sequence[str] = SHOWN) -> str:
    """`score_rows` as aligned text."""
    head, rows = score_rows(scores, columns)
    table = [head, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    lines = (
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))
        )
        for row in table
    )
    return "\n".join(line.rstrip() for line in lines)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def judge_generation(
    synthetic: Array, real: Array, *, horizon: int | None = None, steps: int = 500, seed: int = 0
) -> dict[str, float]:
    """All figures of generated windows, and after ``real_`` the same of real ones.

    ``real`` is halved at random: one half is what both are compared with, the other is judged as the samples are. As
    many windows are judged of both, ``windows`` is that number. Windows that overlap make real ones look better than
    any new window could be: give windows apart from one another.

    Args:
        synthetic: ``(N, L, K)``, at least ten.
        real: ``(M, L, K)``, at least twenty.
        horizon: of `linear_predictive_score`; a quarter of the steps when not given.
        steps: of the networks' training.
        seed: of halves, draws, weights and batches.

    Raises:
        ImportError: scikit-learn is missing.
        TypeError, ValueError: see `discriminative_score` and the others.
    """
    made, true = as_array(synthetic, "synthetic"), as_array(real, "real")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(true))
    reference, held = true[order[: len(true) // 2]], true[order[len(true) // 2 :]]
    count = min(len(made), len(held))
    drawn = made[rng.permutation(len(made))[:count]]
    horizon = max(1, true.shape[1] // 4) if horizon is None else horizon
    figures = {"windows": float(count)}
    for prefix, windows in (("", drawn), ("real_", held[:count])):
        figures |= {
            f"{prefix}discriminative": discriminative_score(windows, reference, steps=steps, seed=seed),
            f"{prefix}predictive": predictive_score(windows, reference, steps=steps, seed=seed),
            f"{prefix}linear_predictive": linear_predictive_score(windows, reference, horizon=horizon),
        }
        figures |= {prefix + name: value for name, value in moment_differences(windows, reference).items()}
    return figures
