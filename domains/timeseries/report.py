"""A page that judges predictions: the model beside baselines, where it fails, and what its windows look like."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ornstein.core.evaluation.report import Report, picture, table
from ornstein.core.schedules import require
from ornstein.domains.timeseries.figures import calibration_figure, gap_figure, imputation_figure
from ornstein.domains.timeseries.judges._samples import Array, as_array, as_mask
from ornstein.domains.timeseries.judges.calibration import calibration_curve
from ornstein.domains.timeseries.judges.gaps import scores_by_gap
from ornstein.domains.timeseries.judges.report import judge_imputation, score_rows

__all__ = ["imputation_report"]

WINDOWS, VARIABLES = 3, 8
"""Windows that are drawn, and variables of each: those with the most entries that count."""


def imputation_report(
    path: str | Path,
    predictions: Mapping[str, Array],
    truth: Array,
    mask: Array,
    *,
    values: Array | None = None,
    time: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    unit: str = "scaled",
    time_label: str = "step",
    title: str = "Imputation",
    lead: str = "",
    joint: bool = True,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Write one HTML page with scores, calibration, errors by gap and windows, and give the scores by method.

    Args:
        path: of the page; folders are made.
        predictions: method to samples ``(n, B, L, K)``, or ``(1, B, L, K)`` of a point. The first is the model; the
            others, as of `predict_baselines`, stand beside it.
        truth: ``(B, L, K)``.
        mask: ``(B, L, K)`` bool, the entries that count.
        values: ``(B, L, K)`` what was known, NaN elsewhere; the truth outside of the mask when not given.
        time: ``(B, L)`` numbers or ``datetime64``; steps when not given.
        names: of the variables.
        unit: of the values.
        time_label: of the time axes.
        title: of the page.
        lead: a paragraph under it.
        joint: also judge joint samples.
        seed: of the draws of `pit`.

    Raises:
        ImportError: matplotlib is missing.
        TypeError, ValueError: as `judge_imputation`; no predictions.
    """
    require(bool(predictions), "predictions", predictions, "one method or more")
    truth, mask = as_array(truth, "truth"), as_mask(mask, np.shape(truth))
    require(truth.ndim == 3, "shape of truth", truth.shape, "(B, L, K)")
    known = np.where(mask, np.nan, truth) if values is None else as_array(values, "values")
    scores = {name: judge_imputation(x, truth, mask, joint=joint, seed=seed) for name, x in predictions.items()}
    model = next(iter(predictions))
    page = Report(title, lead or f"{int(mask.sum())} held-out entries of {len(truth)} windows, in units: {unit}.")
    _tiles(page, scores, model)
    page.add(
        "Scores",
        "MAE and RMSE are of the median of the samples, CRPS is the proper score of single entries (for a point its "
        "MAE), CSDI CRPS that of 19 quantiles over the sum of absolute truths. Coverage is the share of truths inside "
        "the central interval, width its mean length.",
        table(*score_rows(scores)),
    )
    curves = {
        name: calibration_curve(x, truth, mask, seed=seed)
        for name, x in predictions.items()
        if len(as_array(x, name)) > 1
    }
    if curves:
        caption = "Share of truths below each predicted quantile; on the diagonal, probabilities are right."
        page.add(
            "Calibration",
            "A line that is too flat tells of intervals that are too narrow, one that is too steep of wide ones.",
            picture(calibration_figure(curves), caption, width=480),
        )
    gaps = {name: scores_by_gap(x, truth, mask, known=~np.isnan(known)) for name, x in predictions.items()}
    page.add(
        "By length of the gap",
        "Steps without a known value of the variable, from the last to the next.",
        picture(gap_figure(gaps, unit=unit), "CRPS by the length of the gap that an entry lies in.", width=640),
    )
    _windows(page, predictions[model], truth, mask, known, time, names, unit, time_label)
    page.write(path)
    return scores


def _tiles(page: Report, scores: Mapping[str, Mapping[str, float]], model: str) -> None:
    """The model's figures in large type, green where it is ahead of all others."""
    others = [figures for name, figures in scores.items() if name != model]
    for name, label in (("mae", "MAE"), ("crps", "CRPS"), ("csdi_crps", "CRPS of CSDI")):
        value, best = scores[model][name], min((each[name] for each in others), default=None)
        beside = "" if best is None else f", the best baseline has {best:.3f}"
        page.add_tile(f"{value:.3f}", f"{label} of {model}{beside}", None if best is None else value < best)
    if "coverage_90" in scores[model]:
        page.add_tile(f"{100 * scores[model]['coverage_90']:.1f} %", "of truths inside the 90 % interval")


def _windows(
    page: Report,
    samples: Array,
    truth: np.ndarray,
    mask: np.ndarray,
    known: np.ndarray,
    time: np.ndarray | None,
    names: Sequence[str] | None,
    unit: str,
    time_label: str,
) -> None:
    drawn = as_array(samples, "samples")
    labels = [f"variable {k}" for k in range(truth.shape[2])] if names is None else names
    parts = [part for part in np.array_split(np.arange(len(truth)), WINDOWS) if len(part)]
    chosen = [int(part[mask[part].sum((1, 2)).argmax()]) for part in parts]
    columns = {b: np.sort(np.argsort(-mask[b].sum(0), kind="stable")[:VARIABLES]) for b in chosen}
    blocks = [
        picture(
            imputation_figure(
                np.where(mask[b], np.nan, known[b])[:, columns[b]],
                drawn[:, b][..., columns[b]],
                truth=truth[b][:, columns[b]],
                mask=mask[b][:, columns[b]],
                time=None if time is None else time[b],
                names=[labels[k] for k in columns[b]],
                unit=unit,
                time_label=time_label,
            ),
            f"Window {b}: what was known, the median with its 50 % and 90 % intervals, and what was held out.",
            width=760,
        )
        for b in chosen
        if mask[b].any()
    ]
    text = "Of each third of the windows, the one with the most entries held out"
    page.add("Windows", text + (f"; {VARIABLES} of its variables." if truth.shape[2] > VARIABLES else "."), *blocks)
