"""A page that judges reconstructions: the model beside classical methods, pictures, errors, and what is uncertain."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ornstein.core.evaluation.report import Report, picture, table
from ornstein.core.schedules import require
from ornstein.domains.medical.figures import Panel, deviation_figure, panels_figure
from ornstein.domains.medical.judges.certainty import error_versus_deviation
from ornstein.domains.medical.judging import MODEL, Judgement, Problem
from ornstein.domains.medical.results import Reconstruction
from ornstein.domains.medical.scale import shown

__all__ = ["reconstruction_figure", "reconstruction_report"]

COLUMNS = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "nmse": "NMSE",
    "haarpsi": "HaarPSI",
    "chi2": "chi2 / n",
    "chi2_samples": "of samples",
    "coverage_50": "50 % intervals",
    "coverage_90": "90 % intervals",
}


def reconstruction_figure(
    found: Reconstruction, index: int = 0, truth: Tensor | None = None, others: Mapping[str, Tensor] | None = None
) -> bytes:
    """One slice: other methods, the mean, two samples, the deviation, what was invented and, with the truth, the error.

    Args:
        found: as `reconstruct` gives it.
        index: which slice.
        truth: ``(slices, C, H, W)`` in units of the data.
        others: reconstructions by other methods, of the same shape, by name.
    """
    grey = (0.0 if found.mean.shape[1] == 2 else found.window[0], found.window[1])
    mean = shown(found.mean[index])
    deviation = torch.linalg.vector_norm(found.deviation[index], dim=0)
    errors = [] if truth is None else [(mean - shown(truth[index])).abs()]
    # Errors and deviations share their shades: they are to be compared.
    top = max(float(torch.quantile(x, 0.995)) for x in [deviation, *errors]) or 1e-6
    panels = [] if truth is None else [Panel("truth", shown(truth[index]), grey)]
    panels += [Panel(name, shown(x[index]), grey) for name, x in (others or {}).items()]
    panels += [Panel("posterior mean", mean, grey)]
    panels += [Panel(f"sample {k + 1}", shown(found.samples[index, k]), grey) for k in range(2)]
    panels += [Panel("deviation", deviation, (0.0, top), "magma")]
    panels += [Panel("error of the mean", error, (0.0, top), "magma") for error in errors]
    if found.null_space is not None:
        invented = found.null_space[index]
        part = invented[0] if len(invented) == 1 else torch.linalg.vector_norm(invented, dim=0)
        limit = float(torch.quantile(part.abs(), 0.995)) or 1e-6
        limits, colours = ((-limit, limit), "RdBu_r") if len(invented) == 1 else ((0.0, limit), "magma")
        panels.append(Panel("invented (null space)", part, limits, colours))
    return panels_figure(panels, columns=min(4, len(panels)), unit=found.units)


def reconstruction_report(
    path: str | Path,
    judgements: Mapping[str, tuple[Problem, Judgement]],
    *,
    title: str = "Reconstruction",
    lead: str = "",
    slices: int = 2,
) -> None:
    """Write one HTML page: scores, pictures in their window, maps of error and deviation, calibration.

    Args:
        path: of the page; folders are made.
        judgements: by name, each problem with what `judge_problem` found.
        title: of the page.
        lead: a paragraph under it.
        slices: that are shown of each problem, evenly spaced.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: no judgements.
    """
    require(bool(judgements), "judgements", judgements, "at least one")
    require(slices >= 1, "slices", slices, "at least 1")
    count = sum(len(one.truth) for _, one in judgements.values())
    page = Report(title, lead or f"{count} slices of known truth; all measurements were simulated from them.")
    for name, (problem, found) in judgements.items():
        _scores(page, name, problem, found)
        last = len(found.truth) - 1
        chosen = sorted({round(i * last / max(1, slices - 1)) for i in range(min(slices, last + 1))})
        others = {key: x for key, x in found.pictures.items() if key != MODEL}
        figures = [
            picture(
                reconstruction_figure(found.reconstruction, i, found.truth, others),
                f"{name}, slice {i}: pictures in the window {found.reconstruction.window[0]:g} to "
                f"{found.reconstruction.window[1]:g} {found.reconstruction.units}; error and deviation share a scale.",
            )
            for i in chosen
        ]
        page.add(
            f"{name}: slices",
            "The invented part is what the prior added and no measured value could contradict: a finding that lies in "
            "it has not been seen.",
            *figures,
        )
    bins = {
        name: error_versus_deviation(found.reconstruction.mean, found.reconstruction.deviation, found.truth)
        for name, (_, found) in judgements.items()
    }
    unit = next(iter(judgements.values()))[1].reconstruction.units
    page.add(
        "Errors as large as stated?",
        "Pixels sorted by the stated deviation, in ten bins. Above the diagonal, errors are larger than stated.",
        picture(deviation_figure(bins, unit), "Root mean square error against stated deviation.", width=640),
    )
    page.write(path)


def _scores(page: Report, name: str, problem: Problem, found: Judgement) -> None:
    columns = [key for key in COLUMNS if any(key in row for row in found.scores.values())]
    rows = [
        [method, *(f"{row[key]:.3f}" if key in row else "" for key in columns)] for method, row in found.scores.items()
    ]
    psnr = found.scores[MODEL]["psnr"]
    best = max((row["psnr"] for method, row in found.scores.items() if method != MODEL), default=None)
    beside = "" if best is None else f"; the best classical method has {best:.1f}"
    page.add_tile(f"{psnr:.1f} dB", f"PSNR of {name}{beside}", None if best is None else psnr > best)
    tuned = "; ".join(f"{method}: {setting}" for method, setting in found.settings.items())
    calibration = found.reconstruction.calibration
    intervals = (
        "Intervals are quantiles of the samples, not calibrated."
        if calibration is None
        else f"Intervals are calibrated on {calibration.slices} other slices ({calibration.name})."
    )
    finish = found.reconstruction.finish
    finished = "" if finish is None else f"Means are {finish.share:.0%} what {finish.method} makes of them. "
    page.add(
        name,
        f"Simulated: {problem.simulated}. Drawn by {found.reconstruction.method} with "
        f"{found.reconstruction.evaluations} evaluations, {found.reconstruction.samples.shape[1]} samples. {finished}"
        f"{intervals} Classical methods, tuned on other slices: {tuned}.",
        table(["method", *(COLUMNS[key] for key in columns)], rows),
    )
