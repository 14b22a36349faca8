r"""Structural features of graphs, for networks that cannot see them by themselves, from their adjacency matrices.

Cycles of length 3 to 6, counted by closed walks without those that turn back (as in Vignac et al. 2022, DiGress, arXiv
2209.14734, appendix B.2), with ``d`` the degrees, ``x`` entry by entry and ``t = diag(A^3)``:

    X_3 = t / 2
    X_4 = (diag(A^4) - d (d - 1) - A d) / 2
    X_5 = (diag(A^5) - 2 d t - A t - 2 (A x A^2) d + 5 t) / 2
    y_k = sum_i X_k(i) / k   for k = 3, 4, 5

and ``y_6`` of the whole graph by the ten terms given there.  Distances are numbers of bonds along the shortest path.
Spectral features are heat kernels ``exp(-tau L)`` of the Laplacian ``L = D - A``: functions of its eigenvectors that
neither their signs nor the choice of a basis within an eigenspace changes.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["cycle_counts", "graph_distances", "heat_kernels", "smallest_rings"]

FAR = 1e6  # eigenvalue of the padding, whose heat is gone at once


def cycle_counts(adjacency: Float[Tensor, "batch n n"]) -> tuple[Float[Tensor, "batch n 3"], Float[Tensor, "batch 4"]]:
    """On how many cycles of length 3, 4 and 5 each atom lies, and how many cycles of length 3 to 6 there are.

    Args:
        adjacency: symmetric, of zeros and ones, with a diagonal of zeros.
    """
    a = adjacency
    a2 = a @ a
    a3 = a2 @ a
    a4 = a2 @ a2
    degree, d3, d4 = (m.diagonal(dim1=1, dim2=2) for m in (a2, a3, a4))
    d5 = (a3 * a2).sum(2)  # the diagonal of A^3 A^2
    x3 = d3 / 2
    x4 = (d4 - degree * (degree - 1) - (a @ degree[..., None]).squeeze(-1)) / 2
    beside = ((a * a2) @ degree[..., None] * 2 + a @ d3[..., None]).squeeze(-1)
    x5 = (d5 - 2 * d3 * degree - beside + 5 * d3) / 2
    closed = a3.square().sum((1, 2))  # the trace of A^6
    y6 = (
        closed
        - 3 * d3.square().sum(1)
        + 9 * (a * a2.square()).sum((1, 2))
        - 6 * (degree * d4).sum(1)
        + 6 * d4.sum(1)
        - 4 * d3.sum(1)
        + 4 * degree.pow(3).sum(1)
        + 3 * a3.sum((1, 2))
        - 12 * degree.square().sum(1)
        + 4 * degree.sum(1)
    ) / 12
    return torch.stack([x3, x4, x5], -1), torch.stack([x3.sum(1) / 3, x4.sum(1) / 4, x5.sum(1) / 5, y6], -1)


def graph_distances(adjacency: Float[Tensor, "batch n n"], largest: int) -> Int[Tensor, "batch n n"]:
    """Bonds on the shortest path between two atoms, 0 to ``largest``; ``largest + 1`` if there are more, or none leads
    there.

    Args:
        adjacency: symmetric, not negative; bonds where it is positive.
        largest: at least 1.
    """
    n = adjacency.shape[1]
    reached = torch.eye(n, dtype=adjacency.dtype, device=adjacency.device).expand_as(adjacency)
    step = (adjacency > 0).to(adjacency.dtype) + reached
    total = torch.full_like(adjacency, float(largest + 1)) - reached * (largest + 1)
    for length in range(1, largest + 1):
        further = ((reached @ step) > 0).to(adjacency.dtype)
        total = total - (further - reached) * (largest + 1 - length)
        reached = further
    return total.round().long()


def smallest_rings(adjacency: Float[Tensor, "batch n n"]) -> Int[Tensor, "batch n n"]:
    """Atoms of the smallest ring that each bond is in; 0 where it is in none, and where there is no bond.

    Args:
        adjacency: symmetric, of zeros and ones, with a diagonal of zeros.
    """
    batch, n = adjacency.shape[:2]
    sample = torch.arange(batch, device=adjacency.device)
    sizes = torch.zeros_like(adjacency, dtype=torch.long)
    upper = adjacency.triu(1).flatten(1)
    most = int(upper.sum(1).max()) if batch else 0
    for place in upper.topk(most, 1).indices.unbind(1):  # a bond of each graph; of some a pair without one
        i, j = place // n, place % n
        without = adjacency.clone()
        without[sample, i, j] = without[sample, j, i] = 0
        reached, bonds = torch.nn.functional.one_hot(i, n).to(adjacency), torch.zeros_like(i)
        for length in range(1, n):
            further = ((reached[:, None] @ without).squeeze(1) + reached > 0).to(adjacency)
            bonds = torch.where((bonds == 0) & (further[sample, j] > 0), length, bonds)
            if bool((further == reached).all()):
                break
            reached = further
        ring = torch.where((bonds > 0) & (adjacency[sample, i, j] > 0), bonds + 1, 0)
        sizes[sample, i, j] = sizes[sample, j, i] = ring
    return sizes


def heat_kernels(
    adjacency: Float[Tensor, "batch n n"], mask: Bool[Tensor, "batch n"], times: Sequence[float]
) -> Float[Tensor, "batch n n times"]:
    """``exp(-tau L)`` of the graph's Laplacian at several times ``tau``, 0 where padded.

    Args:
        adjacency: symmetric, not negative.
        mask: where atoms are real; bonds of others are left out.
        times: in units of the inverse of the eigenvalues, which lie between 0 and twice the largest degree.
    """
    real = mask.to(adjacency.dtype)
    a = adjacency * real[:, :, None] * real[:, None, :]
    laplacian = torch.diag_embed(a.sum(2) + FAR * (1 - real)) - a
    values, vectors = torch.linalg.eigh(laplacian)
    kernels = [(vectors * torch.exp(-tau * values.clamp(min=0))[:, None, :]) @ vectors.transpose(1, 2) for tau in times]
    both = real[:, :, None] * real[:, None, :]
    return torch.stack(kernels, -1) * both[..., None]
