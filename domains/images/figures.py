"""Figures of a run as PNG bytes: loss curve, quality against steps, samples beside their nearest training pictures."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.core.evaluation import Memorisation
from ornstein.core.optional import need
from ornstein.domains.images.grids import grid
from ornstein.domains.images.pictures import to_pil

__all__ = ["loss_curve", "neighbour_figure", "png", "quality_figure", "read_losses"]

INK, FAINT, PAPER = "#26323a", "#c9d1d6", "#ffffff"
COLOURS = ("#1f6f8b", "#d1603d", "#6a8d3f", "#7b4f8f", "#b8912b", "#4a5a66")
MARKERS = "osD^v*"


def png(image: np.ndarray) -> bytes:
    """A picture ``(h, w, 1 or 3)`` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def read_losses(path: str | Path) -> dict[str, np.ndarray]:
    """The curves of a run's ``metrics.csv``: name to ``(n, 2)`` steps and values.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; give the metrics.csv of a run folder")
    curves: dict[str, list[tuple[float, float]]] = {}
    with Path(path).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name != "step" and value not in (None, ""):
                    curves.setdefault(name, []).append((float(row["step"]), float(value)))
    return {name: np.array(points) for name, points in curves.items()}


def loss_curve(curves: Mapping[str, np.ndarray]) -> bytes:
    """Training loss, raw and smoothed, and validation loss where there is one, over the steps; logarithmic."""
    figure, axes = _axes("step", "loss")
    raw, smooth, held_out = (curves.get(name) for name in ("loss", "smooth_loss", "val_loss"))
    if raw is not None:
        axes.plot(*raw.T, color=FAINT, linewidth=0.8, label="a batch")
    if smooth is not None:
        axes.plot(*smooth.T, color=COLOURS[0], linewidth=1.8, label="smoothed")
    if held_out is not None:
        axes.plot(
            *held_out.T, color=COLOURS[1], linewidth=1.6, marker="o", markersize=3.5, label="held-out, averaged weights"
        )
    axes.set_yscale("log")
    axes.legend(frameon=False)
    return _bytes(figure)


def quality_figure(results: Mapping[str, Sequence[tuple[float, float]]], *, floor: float, measure: str) -> bytes:
    """Quality against evaluations of the network, a line a sampler.

    Args:
        results: name of the sampler to pairs of evaluations and value.
        floor: the value of real data.
        measure: what the vertical axis shows.
    """
    figure, axes = _axes("evaluations of the network a picture", measure)
    for i, (name, points) in enumerate(results.items()):
        x, y = np.array(points).T
        style: Any = {"color": COLOURS[i % 6], "marker": MARKERS[i % 6], "markersize": 5, "linewidth": 1.6}
        axes.plot(x, y, label=name, **style)
    axes.axhline(floor, color=INK, linewidth=1, linestyle="--")
    axes.annotate(
        "training pictures", (0.01, floor), xycoords=("axes fraction", "data"), ha="left", va="top", fontsize=8
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    evaluations = sorted({x for points in results.values() for x, _ in points})
    axes.set_xticks(evaluations, [f"{x:g}" for x in evaluations])
    axes.minorticks_off()
    axes.legend(frameon=False)
    return _bytes(figure)


def neighbour_figure(samples: Tensor, train: Tensor, copies: Memorisation, count: int = 12) -> np.ndarray:
    """The ``count`` samples nearest to a training picture in the upper row, those pictures below; for `png`.

    Args:
        samples: ``(N, C, H, W)`` in [0, 1].
        train: ``(M, C, H, W)`` in [0, 1].
        copies: the copy check of these samples.
        count: pairs shown.
    """
    nearest = copies.distances.argsort()[:count]
    pairs = torch.cat([samples[nearest].cpu(), train[copies.indices[nearest]].cpu()])
    return grid(pairs, columns=len(nearest))


def _axes(x: str, y: str) -> tuple[Any, Any]:
    need("matplotlib", to="draw figures", extra="images")
    from matplotlib.figure import Figure  # no pyplot: nothing global, and no display

    figure = Figure(figsize=(6.4, 3.6), layout="constrained", facecolor=PAPER)
    axes = figure.subplots()
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(color=FAINT, linewidth=0.4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _bytes(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
