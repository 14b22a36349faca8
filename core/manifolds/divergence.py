"""The divergence of tangent fields, exact and by Hutchinson's estimate."""

import math

import torch
from torch import Tensor

from .base import Manifold
from .masks import blanked

__all__ = ["divergence"]


def divergence(
    manifold: Manifold,
    field: Tensor,
    x: Tensor,
    mask: Tensor | None = None,
    probe: Tensor | None = None,
    *,
    create_graph: bool = False,
) -> Tensor:
    """Divergence ``(B,)`` of a tangent field: ``sum_i <e_i, D field e_i>`` over an orthonormal basis of the tangent
    space, or Hutchinson's estimate ``<e, D field e>`` along a random tangent vector with ``E[e e^T]`` the identity.

    Args:
        manifold: where the points lie.
        field: tangent vectors, each sample's a function of that sample alone.
        x: points that the field was computed from, ``(B, *N, *point)``, requiring a gradient.
        mask: real points; the rest does not count.
        probe: direction of the estimate; None for the exact value.
        create_graph: whether the result is to be differentiated.
    """
    directions = [probe] if probe is not None else _basis(manifold, x.detach())
    result = x.new_zeros(len(x))
    if not field.requires_grad:
        return result
    for e in (blanked(e, mask) for e in directions):
        along = manifold.inner(field, e.to(field)).sum()
        (row,) = torch.autograd.grad(along, x, create_graph=create_graph, retain_graph=True, allow_unused=True)
        if row is not None:
            result = result + (row * e).flatten(1).sum(1)
    return result


def _basis(manifold: Manifold, x: Tensor) -> list[Tensor]:
    """Orthonormal tangent vectors at ``x``, one a dimension of a sample, each the state's shape."""
    grid = x.shape[1 : x.ndim - len(manifold.point)]
    ones = torch.eye(math.prod(grid), dtype=x.dtype, device=x.device).reshape(-1, 1, *grid)
    return [manifold.spread(one) * e for one in ones for e in manifold.frame(x)]
