r"""Distances of a reconstruction from the truth, by fastMRI's definitions.

Zbontar et al. 2018 (fastMRI, 1811.08839), section 5: a volume ``(slices, rows, columns)`` of magnitudes is judged as a
whole, and the data range is the largest value of the true volume.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from ornstein.core.schedules import require

__all__ = ["haarpsi", "nmse", "psnr", "ssim"]


def _volumes(x: Any, truth: Any, data_range: float | None) -> tuple[Tensor, Tensor, float]:
    """Both as ``(slices, rows, columns)`` float64, and the range."""
    a, b = (torch.as_tensor(volume) for volume in (x, truth))
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(
            f"x of shape {tuple(a.shape)}: expected that of truth, {tuple(b.shape)}, (slices, rows, columns)"
        )
    if a.is_complex() or b.is_complex():
        raise ValueError("x or truth is complex: judge magnitudes, x.abs()")
    a, b = (volume.detach().double().reshape(-1, *volume.shape[-2:]) for volume in (a, b))
    for name, volume in (("x", a), ("truth", b)):
        if not bool(volume.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinite numbers")
    span = float(b.max()) if data_range is None else data_range
    require(span > 0, "data_range", span, "a positive range; without one, the largest value of truth")
    return a, b.to(a.device), span


def psnr(x: Any, truth: Any, data_range: float | None = None) -> float:
    """``10 log10(range^2 / mean (x - truth)^2)`` in decibels; infinite where they are equal.

    Args:
        x, truth: volumes ``(slices, rows, columns)``, arrays or tensors.
        data_range: the largest value of ``truth`` when not given; of Hounsfield units, the window that matters.
    """
    a, b, span = _volumes(x, truth, data_range)
    error = float(((a - b) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(span**2 / error)


def nmse(x: Any, truth: Any) -> float:
    """``|x - truth|^2 / |truth|^2`` of the volume."""
    a, b, _ = _volumes(x, truth, 1.0)
    square = float((b**2).sum())
    require(square > 0, "truth", "all zero", "a volume that is not zero")
    return float(((a - b) ** 2).sum()) / square


def ssim(x: Any, truth: Any, data_range: float | None = None, window: int = 7) -> float:
    """Structural similarity of slices, the mean over them.

    Wang et al. 2004, with uniform windows, sample covariances, ``k1 = 0.01`` and ``k2 = 0.03``; windows that reach over
    the edge do not count.

    Args:
        x, truth, data_range: as in `psnr`.
        window: side of a window in pixels.

    Raises:
        ValueError: slices smaller than a window.
    """
    a, b, span = _volumes(x, truth, data_range)
    require(1 < window <= min(a.shape[1:]), "window", window, f"2 to {min(a.shape[1:])}, the shorter side")

    def mean(v: Tensor) -> Tensor:
        return avg_pool2d(v[:, None], window, 1)

    count = window**2
    sample = count / (count - 1)
    ma, mb = mean(a), mean(b)
    va, vb = sample * (mean(a * a) - ma * ma), sample * (mean(b * b) - mb * mb)
    both = sample * (mean(a * b) - ma * mb)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    return float(((2 * ma * mb + c1) * (2 * both + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean())


def haarpsi(x: Any, truth: Any, data_range: float | None = None) -> float:
    r"""Haar wavelet-based perceptual similarity, from 0 to 1, the mean over slices.

    With Haar coefficients of three scales in two directions of pictures halved in size, the coefficients of the two
    fine scales are compared, ``(2 a b + C) / (a^2 + b^2 + C)``, and weighted by the larger of the coarse ones, behind a
    sigmoid.  Reisenhofer et al. 2018 (1607.06140), eqs. 9-11, with their ``C = 30`` and ``alpha = 4.2`` for a range of
    255.

    Args:
        x, truth, data_range: as in `psnr`.
    """
    a, b, span = _volumes(x, truth, data_range)
    require(min(a.shape[1:]) >= 16, "x", tuple(a.shape), "slices of at least 16 pixels a side")
    c, alpha = 30.0, 4.2
    fine, coarse = zip(*(_haar(255 / span * volume) for volume in (a, b)))
    similarity = ((2 * fine[0] * fine[1] + c) / (fine[0] ** 2 + fine[1] ** 2 + c)).mean(2)
    weights = torch.maximum(*coarse)
    total = weights.flatten(1).sum(1)
    score = (torch.sigmoid(alpha * similarity) * weights).flatten(1).sum(1) / torch.where(total > 0, total, 1.0)
    # Two flat pictures are alike.
    score = torch.where(total > 0, torch.logit(score.clamp(max=1 - 1e-15)) / alpha, 1.0)
    return float((score**2).mean())


def _haar(x: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitudes of the fine coefficients ``(slices, directions, 2 scales, ...)`` and of the coarse ones."""
    half = conv2d(torch.nn.functional.pad(x[:, None], (0, 1, 0, 1)), x.new_full((1, 1, 2, 2), 0.25))[..., ::2, ::2]
    scales = []
    for scale in (1, 2, 3):
        side = 2**scale
        step = x.new_full((side, side), 1 / side)
        step[: side // 2] *= -1
        kernels = torch.stack([step, step.T])[:, None]
        left, right = side // 2 - 1, side // 2  # as the authors' code places even kernels
        scales.append(conv2d(torch.nn.functional.pad(half, (left, right, left, right)), kernels).abs())
    return torch.stack(scales[:2], 2), scales[2]
