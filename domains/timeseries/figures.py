"""Figures of series as PNG bytes: fills and forecasts with bands, calibration, errors by gap, anomalies.

A time axis is of numbers (in the unit that its label says) or of ``datetime64`` stamps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ornstein.core.evaluation.drawing import COLOURS, FAINT, INK, MARKERS, axes_grid, figure_bytes, new_axes
from ornstein.core.schedules import require
from ornstein.domains.timeseries.judges._samples import Array, as_array, as_levels
from ornstein.domains.timeseries.judges.calibration import Calibration, interval_ends
from ornstein.domains.timeseries.judges.gaps import GapScore

__all__ = ["anomaly_figure", "calibration_figure", "forecast_figure", "gap_figure", "imputation_figure"]

EXTRA = "timeseries"
BAND, MIDDLE, TRUTH = COLOURS[0], COLOURS[0], COLOURS[1]


def imputation_figure(
    values: Array,
    samples: Array,
    *,
    truth: Array | None = None,
    mask: Array | None = None,
    time: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    levels: Sequence[float] = (0.5, 0.9),
    time_label: str = "step",
    unit: str = "",
) -> bytes:
    """One window, a row a variable: what is known, the median of the fill, its central intervals, and held-out truth.

    Args:
        values: ``(L, K)`` with NaN where a value was filled in.
        samples: ``(n, L, K)``; one sample is drawn as a line without bands.
        truth: ``(L, K)``, shown where ``mask`` is True.
        mask: ``(L, K)`` bool; all that ``values`` lacks when not given.
        time: ``(L,)`` numbers or ``datetime64``; steps when not given.
        names: of the variables.
        levels: of the intervals, at most three.
        time_label: of the time axis.
        unit: of the values, beside the name.

    Raises:
        ImportError: matplotlib is missing.
        TypeError, ValueError: shapes that do not fit, or levels outside (0, 1).
    """
    known, drawn = as_array(values, "values").astype(float), as_array(samples, "samples")
    require(known.ndim == 2, "shape of values", known.shape, "(L, K), one window")
    require(drawn.shape[1:] == known.shape and len(drawn) > 0, "shape of samples", drawn.shape, f"(n, {known.shape})")
    figure, rows = axes_grid(known.shape[1], extra=EXTRA, width=7.6, height=1.75 if known.shape[1] > 1 else 3.2)
    filled = np.where(np.isnan(known), drawn, known)
    wanted = np.isnan(known) if mask is None else as_array(mask, "mask")
    for k, (axes, name) in enumerate(zip(rows, _names(names, known.shape[1]))):
        x = _clock(axes, time, len(known))
        # The median also at the known values beside a gap, so that it meets them.
        gaps = np.convolve(np.isnan(known[:, k]), np.ones(3), "same")[: len(known)] > 0
        _bands(axes, x, filled[:, :, k], levels, shown=gaps)
        axes.plot(x, known[:, k], color=INK, marker=".", markersize=4, linewidth=0.8, label="known")
        if truth is not None:
            hidden = np.where(wanted[:, k], as_array(truth, "truth")[:, k], np.nan)
            axes.plot(x, hidden, "o", color=TRUTH, markersize=3.6, markerfacecolor="none", label="held out")
        axes.set_ylabel(_with_unit(name, unit), color=INK, fontsize=9)
    rows[-1].set_xlabel(time_label, color=INK)
    _legend(figure, rows)
    return figure_bytes(figure)


def forecast_figure(
    past: Array,
    samples: Array,
    *,
    truth: Array | None = None,
    time: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    levels: Sequence[float] = (0.5, 0.8, 0.95),
    paths: int = 0,
    time_label: str = "step",
    unit: str = "",
) -> bytes:
    """A fan: the past, the median forecast with central intervals, some sample paths, and what came.

    Args:
        past: ``(L, K)``, NaN where a value is missing.
        samples: ``(n, H, K)`` of the steps after it.
        truth: ``(H, K)``, what came.
        time: ``(L + H,)`` numbers or ``datetime64``; steps when not given.
        names: of the variables.
        levels: of the intervals, at most three.
        paths: samples drawn as lines, from the first.
        time_label: of the time axis.
        unit: of the values, beside the name.

    Raises:
        ImportError: matplotlib is missing.
        TypeError, ValueError: shapes that do not fit, or levels outside (0, 1).
    """
    before, drawn = as_array(past, "past").astype(float), as_array(samples, "samples").astype(float)
    require(before.ndim == 2 and len(before) > 0, "shape of past", before.shape, "(L, K), one window")
    require(
        drawn.ndim == 3 and drawn.shape[2] == before.shape[1] and drawn.size > 0,
        "shape of samples",
        drawn.shape,
        f"(n, H, {before.shape[1]})",
    )
    figure, rows = axes_grid(before.shape[1], extra=EXTRA, width=7.6, height=1.75 if before.shape[1] > 1 else 3.2)
    for k, (axes, name) in enumerate(zip(rows, _names(names, before.shape[1]))):
        x = _clock(axes, time, len(before) + drawn.shape[1])
        axes.plot(x[: len(before)], before[:, k], color=INK, linewidth=1.2, label="past")
        # The fan starts from the last value, of which nothing is uncertain.
        future = np.concatenate([np.broadcast_to(before[-1:, k], (len(drawn), 1)), drawn[:, :, k]], axis=1)
        ahead = x[len(before) - 1 :]
        _bands(axes, ahead, future, levels)
        for number, path in enumerate(future[:paths]):
            axes.plot(ahead, path, color=MIDDLE, linewidth=0.6, alpha=0.6, label="samples" if number == 0 else None)
        if truth is not None:
            came = as_array(truth, "truth")[:, k]
            axes.plot(x[len(before) :], came, color=TRUTH, linewidth=1.2, linestyle="--", label="what came")
        axes.set_ylabel(_with_unit(name, unit), color=INK, fontsize=9)
    rows[-1].set_xlabel(time_label, color=INK)
    _legend(figure, rows)
    return figure_bytes(figure)


def calibration_figure(curves: Mapping[str, Calibration]) -> bytes:
    """Observed against nominal shares, a line a method, beside the diagonal; see `calibration_curve`.

    Args:
        curves: method to its curve.

    Raises:
        ImportError: matplotlib is missing.
    """
    require(bool(curves), "curves", curves, "one or more")
    figure, axes = new_axes("nominal probability", "share of truths below the quantile", extra=EXTRA)
    figure.set_size_inches(4.8, 4.4)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle="--", label="right")
    for i, (name, curve) in enumerate(curves.items()):
        label = f"{name} (error {curve.error:.3f})"
        axes.plot(curve.nominal, curve.observed, label=label, linewidth=1.5, markersize=4, **_style(i))
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure_bytes(figure)


def gap_figure(scores: Mapping[str, Sequence[GapScore]], *, measure: str = "crps", unit: str = "") -> bytes:
    """A score by the length of the gap, a line a method; under each group the number of its entries.

    Args:
        scores: method to its `scores_by_gap`, all of the same entries.
        measure: ``mae`` or ``crps``.
        unit: of the values.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: no scores, another measure, or methods whose groups differ.
    """
    require(measure in ("mae", "crps"), "measure", measure, "'mae' or 'crps'")
    groups = [[score[:3] for score in each] for each in scores.values()]
    require(bool(groups) and bool(groups[0]), "scores", scores, "one method or more, with scores")
    require(
        all(each == groups[0] for each in groups), "scores", "groups that differ", "the same entries of each method"
    )
    figure, axes = new_axes("length of the gap in steps (entries)", _with_unit(measure.upper(), unit), extra=EXTRA)
    for i, (name, each) in enumerate(scores.items()):
        heights = [getattr(score, measure) for score in each]
        axes.plot(range(len(each)), heights, label=name, linewidth=1.6, markersize=5, **_style(i))
    spans = [f"{low}" if low == high else f"{low}–{high}" for low, high, _ in groups[0]]
    axes.set_xticks(range(len(spans)), [f"{span}\n({count})" for span, (*_, count) in zip(spans, groups[0])])
    axes.set_xlim(-0.4, len(spans) - 0.6)
    axes.set_ylim(bottom=0)
    _legend(figure, [axes], columns=3)
    return figure_bytes(figure)


def anomaly_figure(
    values: Array,
    scores: Array,
    *,
    threshold: float | None = None,
    truth: Array | None = None,
    time: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    time_label: str = "step",
    score_label: str = "score",
    unit: str = "",
) -> bytes:
    """Each variable with its anomaly scores under it; what is above the threshold is marked in both.

    Args:
        values: ``(L, K)``, NaN where a value is missing.
        scores: ``(L, K)``, higher is stranger; NaN where there is none.
        threshold: drawn as a line; no marks without.
        truth: ``(L,)`` or ``(L, K)`` bool, known anomalies, shaded.
        time: ``(L,)`` numbers or ``datetime64``; steps when not given.
        names: of the variables.
        time_label: of the time axis.
        score_label: of the axes of scores.
        unit: of the values, beside the name.

    Raises:
        ImportError: matplotlib is missing.
        TypeError, ValueError: shapes that do not fit.
    """
    series, strange = as_array(values, "values").astype(float), as_array(scores, "scores").astype(float)
    require(series.ndim == 2, "shape of values", series.shape, "(L, K)")
    require(strange.shape == series.shape, "shape of scores", strange.shape, f"{series.shape}, that of the values")
    steps, variables = series.shape
    marks = np.zeros(series.shape, bool) if threshold is None else strange > threshold
    shaded = None if truth is None else np.broadcast_to(as_array(truth, "truth").reshape(steps, -1), series.shape)
    figure, rows = axes_grid(2 * variables, extra=EXTRA, width=7.6, ratios=[1.0, 0.55] * variables, height=1.6)
    for k, name in enumerate(_names(names, variables)):
        upper, lower = rows[2 * k], rows[2 * k + 1]
        x = _clock(upper, time, steps)
        upper.plot(x, series[:, k], color=INK, linewidth=1)
        lower.fill_between(x, strange[:, k], color=FAINT, linewidth=0)
        lower.plot(x, strange[:, k], color=BAND, linewidth=1)
        if threshold is not None:
            lower.axhline(threshold, color=TRUTH, linewidth=0.9, linestyle="--", label="threshold")
            upper.plot(x[marks[:, k]], series[marks[:, k], k], "o", color=TRUTH, markersize=4, label="anomaly")
        if shaded is not None:
            half = (x[1] - x[0]) / 2 if steps > 1 else 0.5
            style: dict[str, Any] = {"color": COLOURS[4], "alpha": 0.25, "linewidth": 0, "label": "known anomaly"}
            for first, last in _runs(shaded[:, k]):
                for axes in (upper, lower):
                    axes.axvspan(x[first] - half, x[last] + half, **style)
        upper.set_ylabel(_with_unit(name, unit), color=INK, fontsize=9)
        lower.set_ylabel(score_label, color=INK, fontsize=9)
        if np.isfinite(strange[:, k]).any():
            lower.set_ylim(bottom=min(0.0, float(np.nanmin(strange[:, k]))))
    rows[-1].set_xlabel(time_label, color=INK)
    _legend(figure, rows)
    return figure_bytes(figure)


def _bands(
    axes: Any, x: np.ndarray, samples: np.ndarray, levels: Sequence[float], shown: np.ndarray | None = None
) -> None:
    """Central intervals of samples ``(n, L)``, widest first and lightest, and the median where it is shown."""
    if len(samples) > 1:
        nominal = np.sort(as_levels(levels))[::-1]
        require(len(nominal) <= 3, "levels", tuple(levels), "at most three")
        edges = np.quantile(samples, interval_ends(nominal), axis=0)
        for number, level in enumerate(nominal):
            shade = 0.16 + 0.14 * number
            low, high = edges[number], edges[number + len(nominal)]
            axes.fill_between(x, low, high, color=BAND, alpha=shade, linewidth=0, label=f"{100 * level:g} %")
    middle = np.median(samples, axis=0)
    middle = middle if shown is None else np.where(shown, middle, np.nan)
    axes.plot(x, middle, color=MIDDLE, linewidth=1.3, label="median" if len(samples) > 1 else "fill")


def _clock(axes: Any, time: np.ndarray | None, steps: int) -> np.ndarray:
    """The horizontal positions, with tick labels that fit where they are stamps."""
    if time is None:
        return np.arange(steps)
    time = np.asarray(time)
    require(time.shape == (steps,), "shape of time", time.shape, f"({steps},), a time a step")
    if time.dtype.kind == "M":
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(minticks=3, maxticks=8)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return time


def _legend(figure: Any, rows: Sequence[Any], columns: int = 8) -> None:
    """One legend of what the rows show, above them and off the data; and the labels of the rows in one line."""
    found: dict[str, Any] = {}
    for axes in rows:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            found.setdefault(label, handle)
    if found:
        place: dict[str, Any] = {"loc": "outside upper center", "frameon": False, "fontsize": 8}
        figure.legend(list(found.values()), list(found), ncols=min(columns, len(found)), **place)
    figure.align_ylabels(rows)


def _names(names: Sequence[str] | None, count: int) -> list[str]:
    found = [f"variable {k}" for k in range(count)] if names is None else [str(name) for name in names]
    require(len(found) == count, "names", found, f"{count}, one a variable")
    return found


def _with_unit(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name


def _style(number: int) -> dict[str, str]:
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and last step of each run of True."""
    edges = np.diff(np.concatenate([[0], flags.astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), (np.flatnonzero(edges == -1) - 1).tolist()))
