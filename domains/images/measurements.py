"""What the restoring tasks of `ImageDiffusion` measure, as measurements of states in [-1, 1].

Pictures ``p`` in [0, 1] are states ``x = 2 p - 1``, so a linear ``y = A p + std z`` is ``2 y - A 1 = A x + 2 std z``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.core import (
    AveragePool,
    FunctionOperator,
    GaussianNoise,
    LinearOperator,
    Mask,
    Measurement,
    NoiseModel,
    Operator,
)
from ornstein.domains.images.classifier import as_floats

__all__ = ["inpainting", "of_states", "upscaling"]


def of_states(y: Tensor, operator: Operator, noise: NoiseModel | float = 0.0) -> Measurement:
    """A measurement of pictures as one of states.

    Args:
        y: ``(N, *operator.measured)``, of pictures in [0, 1].
        operator: acts on pictures ``(N, C, H, W)`` in [0, 1].
        noise: its model, or the standard deviation of Gaussian noise.
    """
    noise = noise if isinstance(noise, NoiseModel) else GaussianNoise(noise)
    if isinstance(operator, LinearOperator) and isinstance(noise, GaussianNoise):
        white = operator(torch.ones(1, *operator.shape, device=y.device))
        return Measurement(2 * operator.restrict(y) - white, operator, GaussianNoise(2 * noise.std))
    return Measurement(y, FunctionOperator(lambda x: operator((x + 1) / 2), operator.shape, operator.measured), noise)


def inpainting(images: Tensor, known: Tensor, shape: Sequence[int], noise: float = 0.0) -> Measurement:
    """Pictures ``(N, *shape)`` of which ``known`` is seen: ``(H, W)`` or ``(C, H, W)`` for all, or ``(N, 1 or C, H,
    W)``.
    """
    if not isinstance(known, Tensor) or known.dtype != torch.bool:
        kind = known.dtype if isinstance(known, Tensor) else type(known).__name__
        raise TypeError(f"known is {kind}: expected a boolean tensor, True where the pictures are known")
    if tuple(images.shape[1:]) != tuple(shape):
        raise ValueError(f"images of shape {tuple(images.shape)}: expected (N, {', '.join(map(str, shape))})")
    whole = (len(images), *shape) if known.ndim == 4 else tuple(shape)
    try:
        mask = known.expand(whole)
    except RuntimeError:
        raise ValueError(f"known of shape {tuple(known.shape)}: expected a mask for pictures {whole}") from None
    return of_states(as_floats(images), Mask(mask.clone(), per_sample=known.ndim == 4), noise)


def upscaling(images: Tensor, shape: Sequence[int], noise: float = 0.0) -> Measurement:
    """Small pictures ``(N, C, h, w)``, each pixel the mean of a square of a picture of ``shape``."""
    channels, height, width = shape
    factor = height // images.shape[2] if images.ndim == 4 and images.shape[2] > 0 else 0
    small = (channels, height // factor, width // factor) if factor > 1 else None
    if small is None or tuple(images.shape[1:]) != small or height % factor or width % factor:
        raise ValueError(
            f"images of shape {tuple(images.shape)}: expected (N, {channels}, {height} / k, {width} / k) with a whole "
            f"number k of at least 2, for pictures of {height} x {width}"
        )
    return of_states(as_floats(images), AveragePool(shape, factor), noise)
