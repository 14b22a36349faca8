"""Figures of slices as the bytes of PNG files: pictures in a window, maps of error and deviation, calibration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.evaluation.drawing import COLOURS, INK, MARKERS, PAPER, figure_bytes, new_axes
from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.medical.judges.certainty import DeviationBin
from ornstein.domains.medical.scale import shown

__all__ = ["Panel", "deviation_figure", "panels_figure", "slices_figure"]

SHOWN = 16  # slices of a sheet


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a sheet.

    Args:
        title: above it.
        picture: ``(rows, columns)``.
        limits: values of the darkest and the lightest shade.
        colours: a colour map of matplotlib: grey for pictures, ``"magma"`` for what is at least 0, ``"RdBu_r"`` for
            differences.
    """

    title: str
    picture: Tensor
    limits: tuple[float, float]
    colours: str = "gray"


def panels_figure(panels: Sequence[Panel], columns: int, unit: str = "", width: float = 2.0) -> bytes:
    """Panels in rows, each with the scale of its shades.

    Args:
        panels: row by row.
        columns: panels in a row.
        unit: of all values.
        width: of a panel in inches.
    """
    require(len(panels) > 0 and columns >= 1, "panels", len(panels), "at least one, in at least one column")
    need("matplotlib", to="draw figures", extra="medical")
    from matplotlib.figure import Figure  # no pyplot: nothing global, and no display

    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(width * columns, 1.25 * width * rows), layout="constrained", facecolor=PAPER)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(grid, panels):
        low, high = panel.limits
        values = panel.picture.detach().float().cpu().numpy()
        image = axes.imshow(values, cmap=panel.colours, vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(panel.title, color=INK, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        bar = figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.9, pad=0.02)
        bar.ax.tick_params(colors=INK, labelsize=6)
        bar.set_label(unit, color=INK, fontsize=7)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return figure_bytes(figure)


def slices_figure(samples: Tensor, window: tuple[float, float]) -> bytes:
    """Slices ``(N, C, H, W)`` side by side without titles, about a square; at most `SHOWN`.

    Args:
        samples: in units of the data.
        window: what is black and white; for magnitudes of complex slices from 0 on.
    """
    pictures = shown(samples[:SHOWN].detach().float().cpu())
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    high, wide = pictures.shape[1:]
    low = 0.0 if samples.shape[1] == 2 else window[0]
    sheet = torch.full((rows * (high + 1) - 1, columns * (wide + 1) - 1), window[1])
    for i, picture in enumerate(pictures):
        top, left = i // columns * (high + 1), i % columns * (wide + 1)
        sheet[top : top + high, left : left + wide] = picture
    need("matplotlib", to="draw figures", extra="medical")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 5.0 * sheet.shape[0] / sheet.shape[1]), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(sheet.numpy(), cmap="gray", vmin=low, vmax=window[1], interpolation="nearest")
    axes.set_axis_off()
    return figure_bytes(figure)


def deviation_figure(bins: Mapping[str, Sequence[DeviationBin]], unit: str = "") -> bytes:
    """Errors against stated deviations, a line for each problem; on the diagonal, statements are right.

    Args:
        bins: of `error_versus_deviation`, by name.
        unit: of both.
    """
    require(bool(bins), "bins", bins, "at least one name")
    suffix = f" ({unit})" if unit else ""
    figure, axes = new_axes(f"stated deviation{suffix}", f"error{suffix}", extra="medical")
    largest = max(max(b.deviation, b.error) for rows in bins.values() for b in rows)
    axes.plot([0, largest], [0, largest], color=INK, linewidth=0.8, linestyle="--")
    for i, (name, rows) in enumerate(bins.items()):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "markersize": 4}
        axes.plot([b.deviation for b in rows], [b.error for b in rows], label=name, **style)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return figure_bytes(figure)
