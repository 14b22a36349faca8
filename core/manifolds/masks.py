"""Masks ``(B, *N)`` of states whose points are partly padding."""

import torch
from torch import Tensor

__all__ = ["blanked", "over", "total"]


def over(mask: Tensor, like: Tensor) -> Tensor:
    """The mask with as many axes as ``like``."""
    return mask.reshape(*mask.shape, *[1] * (like.ndim - mask.ndim))


def blanked(x: Tensor, mask: Tensor | None) -> Tensor:
    """States with zeros where the mask says that nothing is."""
    return x if mask is None else x * over(mask, x).to(x)


def total(values: Tensor, mask: Tensor | None) -> Tensor:
    """Sum of numbers ``(B, *N)`` over the real points of each sample, ``(B,)``."""
    if mask is not None:
        values = torch.where(over(mask, values), values, 0.0)
    return values.reshape(len(values), -1).sum(1)
