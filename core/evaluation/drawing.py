"""The look of figures: one palette, plain axes, and figures as the bytes of PNG files without a display."""

import io
from typing import Any

from ornstein.core.optional import need

__all__ = ["COLOURS", "FAINT", "INK", "MARKERS", "PAPER", "axes_grid", "figure_bytes", "new_axes"]

INK, FAINT, PAPER = "#26323a", "#c9d1d6", "#ffffff"
COLOURS = ("#1f6f8b", "#d1603d", "#6a8d3f", "#7b4f8f", "#b8912b", "#4a5a66")
MARKERS = "osD^v*"


def new_axes(x: str, y: str, *, extra: str) -> tuple[Any, Any]:
    """A figure of 6.4 by 3.6 inches and its axes, labelled.

    Args:
        x: label of the horizontal axis.
        y: label of the vertical axis.
        extra: of ornstein that brings matplotlib.

    Raises:
        ImportError: matplotlib is missing.
    """
    figure, rows = axes_grid(1, extra=extra, height=3.6)
    axes = rows[0]
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    return figure, axes


def axes_grid(
    rows: int, *, extra: str, width: float = 6.4, height: float = 1.7, ratios: list[float] | None = None
) -> tuple[Any, list[Any]]:
    """A figure and ``rows`` axes below one another that share the horizontal axis.

    Args:
        rows: number of axes.
        extra: of ornstein that brings matplotlib.
        width: of the figure in inches.
        height: of a row of ratio 1 in inches.
        ratios: of the heights; all 1 when not given.

    Raises:
        ImportError: matplotlib is missing.
    """
    need("matplotlib", to="draw figures", extra=extra)
    from matplotlib.figure import Figure  # no pyplot: nothing global, and no display

    ratios = [1.0] * rows if ratios is None else ratios
    figure = Figure(figsize=(width, height * sum(ratios)), layout="constrained", facecolor=PAPER)
    grid = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    for axes in grid:
        axes.tick_params(colors=INK, labelsize=8)
        axes.grid(color=FAINT, linewidth=0.4)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure, list(grid)


def figure_bytes(figure: Any) -> bytes:
    """A figure of matplotlib as the bytes of a PNG file at 150 dots an inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
