"""Positions on a grid of any size and any number of axes, computed from its shape and never learned.

Rotary positions turn pairs of query and key features by an angle proportional to the token's coordinate, so that
their product depends on the difference of coordinates alone (Su et al. 2021, arXiv 2104.09864).  The axial form
gives each axis its own share of the pairs (Heo et al. 2024, arXiv 2403.13298).  Sinusoids of the distance from the
grid's middle tell a token where it stands in the whole.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["axial_rotation", "axial_sinusoids", "rotate", "rotation"]


def axial_rotation(
    shape: tuple[int, ...], features: int, *, base: float = 100.0, device: torch.device | None = None
) -> tuple[Float[Tensor, "tokens half"], Float[Tensor, "tokens half"]]:
    """Cosines and sines that :func:`rotate` needs for the tokens of a grid, the last axis running fastest.

    Each of the D axes turns ``features // (2 D)`` pairs at angular frequencies base^(-k / pairs); pairs that are left
    over do not turn.

    Args:
        shape: the number of tokens along each axis.
        features: length of one head's query, even and at least twice the number of axes.
        base: ratio of the highest frequency (one radian a token) to the lowest.
        device: where the result lies.

    Returns:
        Two float32 tensors (tokens, features // 2).

    >>> cos, sin = axial_rotation((4, 6), 32)
    >>> cos.shape
    torch.Size([24, 16])
    """
    pairs = features // (2 * len(shape))
    if features % 2 or not pairs:
        raise ValueError(f"features must be even and at least {2 * len(shape)} for {len(shape)} axes, got {features}")
    frequencies = base ** (-torch.arange(pairs, device=device, dtype=torch.float32) / pairs)
    angles = [axis[:, None] * frequencies for axis in _coordinates(shape, device)]
    angles.append(angles[0].new_zeros(angles[0].shape[0], features // 2 - pairs * len(shape)))
    joined = torch.cat(angles, dim=-1)
    return joined.cos(), joined.sin()


def rotation(
    position: Float[Tensor, "*tokens"], features: int, *, base: float = 100.0
) -> tuple[Float[Tensor, "*tokens half"], Float[Tensor, "*tokens half"]]:
    """Cosines and sines that :func:`rotate` needs for tokens at any positions along one axis, such as times.

    Args:
        position: of each token.
        features, base: as in :func:`axial_rotation`, with which it agrees at 0, 1, 2, ...

    Returns:
        Two float32 tensors (*tokens, features // 2).
    """
    pairs = features // 2
    if features % 2 or not pairs:
        raise ValueError(f"features must be even and at least 2, got {features}")
    frequencies = base ** (-torch.arange(pairs, device=position.device, dtype=torch.float32) / pairs)
    angles = position.float()[..., None] * frequencies
    return angles.cos(), angles.sin()


def rotate(
    x: Float[Tensor, "batch tokens heads features"],
    cos: Float[Tensor, "*rows tokens half"],
    sin: Float[Tensor, "*rows tokens half"],
) -> Float[Tensor, "batch tokens heads features"]:
    """Turn the pairs (x_k, x_{k + features / 2}) of every token by its angles, without changing their length.

    The angles are those of all samples, or of each.
    """
    cos, sin = cos[..., None, :].to(x.dtype), sin[..., None, :].to(x.dtype)
    if not torch.compiler.is_compiling():
        return _Rotation.apply(x, cos, sin)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class _Rotation(torch.autograd.Function):
    """The turning of :func:`rotate` in two passes over memory each way, a fifth of the time of autograd's own.

    What is compiled is fused by the compiler.
    """

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        turned = x * torch.cat([cos, cos], dim=-1)
        turned[..., :half].addcmul_(x[..., half:], sin, value=-1)
        turned[..., half:].addcmul_(x[..., :half], sin)
        return turned

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _Rotation.apply(grad, cos, -sin), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *constants: None) -> Tensor:
        return _Rotation.apply(tangent, *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *parts: Tensor) -> tuple[Tensor, int]:
        """All parts broadcast against x, so that a further axis in front is all that is needed."""
        rank = max(part.ndim - (axis is not None) for part, axis in zip(parts, in_dims))
        wide = [
            part if axis is None else part.movedim(axis, 0).unflatten(0, (-1, *[1] * (rank + 1 - part.ndim)))
            for part, axis in zip(parts, in_dims)
        ]
        return _Rotation.apply(wide[0].expand(info.batch_size, *wide[0].shape[-rank:]), *wide[1:]), 0


def axial_sinusoids(
    shape: tuple[int, ...], features: int, *, base: float = 100.0, device: torch.device | None = None
) -> Float[Tensor, "tokens features"]:
    """Cosines and sines of each axis' coordinate, counted from the middle of the grid, the last axis running fastest.

    Args:
        shape: the number of tokens along each axis.
        features: length of the description; each axis gets ``features // (2 D)`` frequencies, the rest is zero.
        base: ratio of the highest frequency (one radian a token) to the lowest.
        device: where the result lies.

    Returns:
        Float32, (tokens, features).
    """
    pairs = features // (2 * len(shape))
    if not pairs:
        raise ValueError(f"features must be at least {2 * len(shape)} for {len(shape)} axes, got {features}")
    frequencies = base ** (-torch.arange(pairs, device=device, dtype=torch.float32) / pairs)
    centred = [axis - (size - 1) / 2 for axis, size in zip(_coordinates(shape, device), shape)]
    angles = torch.cat([axis[:, None] * frequencies for axis in centred], dim=-1)
    rest = angles.new_zeros(math.prod(shape), features - 2 * pairs * len(shape))
    return torch.cat([angles.cos(), angles.sin(), rest], dim=-1)


def _coordinates(shape: tuple[int, ...], device: torch.device | None) -> list[Tensor]:
    axes = [torch.arange(size, device=device, dtype=torch.float32) for size in shape]
    return [axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")]
