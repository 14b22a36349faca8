"""Cutting a grid of any number of axes into patches, and putting it together again."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["join_patches", "split_patches"]


def split_patches(
    x: Float[Tensor, "batch channels *space"], patch: int
) -> tuple[Float[Tensor, "batch tokens features"], tuple[int, ...]]:
    """Cut every spatial axis of ``x`` into ceil(n / patch) pieces, with zeros after the end where n is no multiple.

    Args:
        x: a grid, (B, channels, *space).
        patch: points along each side of a patch.

    Returns:
        The patches (B, tokens, channels * patch^D), the last axis of the grid running fastest, and the number of
        patches along each axis.

    >>> import torch
    >>> patches, grid = split_patches(torch.randn(2, 3, 5, 8), 2)
    >>> patches.shape, grid
    (torch.Size([2, 12, 12]), (3, 4))
    """
    dims = x.dim() - 2
    excess = [-size % patch for size in x.shape[2:]]
    if any(excess):
        x = nn.functional.pad(x, [side for size in reversed(excess) for side in (0, size)])
    grid = tuple(size // patch for size in x.shape[2:])
    pieces = x.reshape(x.shape[0], x.shape[1], *(side for count in grid for side in (count, patch)))
    order = (0, *range(2, 2 + 2 * dims, 2), 1, *range(3, 3 + 2 * dims, 2))
    return pieces.permute(order).flatten(1 + dims).flatten(1, dims), grid


def join_patches(
    patches: Float[Tensor, "batch tokens features"], grid: Sequence[int], patch: int, shape: Sequence[int]
) -> Float[Tensor, "batch channels *space"]:
    """The inverse of :func:`split_patches`: the grid of which ``patches`` are the pieces, cropped to ``shape``."""
    dims = len(grid)
    channels = patches.shape[2] // patch**dims
    pieces = patches.reshape(patches.shape[0], *grid, channels, *(patch,) * dims)
    order = (0, 1 + dims, *(axis for i in range(dims) for axis in (1 + i, 2 + dims + i)))
    x = pieces.permute(order).reshape(patches.shape[0], channels, *(count * patch for count in grid))
    for axis, size in enumerate(shape, start=2):
        x = x.narrow(axis, 0, size)
    return x
