"""Pictures of pictures: grids, the reverse process as an animation, noise levels. Drawn with Pillow alone.

Pictures are tensors ``(N, C, H, W)`` in [0, 1] with one or three channels. They are enlarged by whole factors, pixel by
pixel, so that what is seen is what was made.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.core import SDE
from ornstein.core.optional import need
from ornstein.domains.images.pictures import to_pil

__all__ = ["grid", "noise_levels", "save_gif", "save_grid"]

GAP = 2
PAPER = 255


def grid(images: Tensor, columns: int | None = None, *, scale: int | None = None) -> np.ndarray:
    """Lay pictures out row by row.

    Args:
        images: ``(N, C, H, W)`` in [0, 1]; values outside are cut off.
        columns: pictures a row; about a square when not given.
        scale: enlargement; by default the largest that keeps a picture within 64 pixels.

    Returns:
        ``uint8 (height, width, C)``, two white pixels between pictures.

    Raises:
        ValueError: another shape, or a number of channels other than 1 and 3.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(
            f"images have shape {tuple(images.shape)}: expected (N, C, H, W) with 1 or 3 channels and N > 0"
        )
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    scale = max(1, 64 // max(height, width)) if scale is None else scale
    pixels = (images.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    height, width = height * scale, width * scale
    rows = math.ceil(count / columns)
    sheet = torch.full((channels, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), PAPER, dtype=torch.uint8)
    for i, picture in enumerate(pixels):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        sheet[:, top : top + height, left : left + width] = picture
    return sheet.permute(1, 2, 0).numpy()


def save_grid(images: Tensor, path: str | Path, columns: int | None = None, *, scale: int | None = None) -> None:
    """Write a `grid` as a PNG file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    to_pil(grid(images, columns, scale=scale)).save(path, format="PNG")


def save_gif(
    frames: Sequence[Tensor] | Tensor,
    path: str | Path | Any,
    columns: int | None = None,
    *,
    scale: int | None = None,
    milliseconds: int = 80,
    hold: int = 1500,
) -> None:
    """Write an endless animation of grids.

    Args:
        frames: each ``(N, C, H, W)`` in [0, 1].
        path: a file name, or a file open for writing.
        columns: as in `grid`.
        scale: as in `grid`.
        milliseconds: how long a frame is shown.
        hold: how long the last one is.
    """
    image = need("PIL.Image", to="write animations", extra="images")
    sheets = [to_pil(grid(frame, columns, scale=scale)) for frame in frames]
    if sheets[0].mode == "RGB":  # one palette for all frames, or colours would flicker
        palette = sheets[-1].quantize(256, dither=image.Dither.NONE)
        sheets = [sheet.quantize(palette=palette, dither=image.Dither.NONE) for sheet in sheets]
    times = [milliseconds] * (len(sheets) - 1) + [hold]
    sheets[0].save(path, format="GIF", save_all=True, append_images=sheets[1:], duration=times, loop=0, optimize=False)


def noise_levels(images: Tensor, process: SDE, times: Sequence[float], *, seed: int = 0) -> Tensor:
    """What the forward process makes of pictures: ``x_t / sqrt(alpha^2 + sigma^2)``, brought to [0, 1] like any state.

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        process: the forward process.
        times: in [0, 1], one column each.
        seed: of the noise, the same for all times.

    Returns:
        ``(N * len(times), C, H, W)``, for `grid` with ``len(times)`` columns.
    """
    x0 = images.float() * 2 - 1
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    columns = []
    for t in times:
        level = process.level(t)
        alpha, sigma = float(level.alpha), float(level.sigma)
        columns.append((alpha * x0 + sigma * noise) / math.hypot(alpha, sigma))
    return (torch.stack(columns, 1).flatten(0, 1) + 1) / 2
