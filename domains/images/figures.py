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
from ornstein.core.evaluation.drawing import COLOURS, FAINT, INK, MARKERS, figure_bytes, new_axes
from ornstein.domains.images.grids import grid
from ornstein.domains.images.pictures import to_pil

__all__ = ["loss_curve", "neighbour_figure", "png", "quality_figure", "read_losses"]


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
    figure, axes = new_axes("step", "loss", extra="images")
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
    return figure_bytes(figure)


def quality_figure(results: Mapping[str, Sequence[tuple[float, float]]], *, floor: float, measure: str) -> bytes:
    """Quality against evaluations of the network, a line a sampler.

    Args:
        results: name of the sampler to pairs of evaluations and value.
        floor: the value of real data.
        measure: what the vertical axis shows.
    """
    figure, axes = new_axes("evaluations of the network a picture", measure, extra="images")
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
    return figure_bytes(figure)


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
