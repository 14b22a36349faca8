r"""Kernel distance: the squared maximum mean discrepancy, estimated without bias.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)

with `x, x'` independent from one distribution and `y, y'` from the other (Gretton et al. 2012). The estimate leaves the
pairs `i = j` out, so it is unbiased and may be negative when the distributions are equal. With the cubic polynomial
kernel on Inception features it is the KID of Binkowski et al. 2018 (1801.01401).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ornstein.core.evaluation._features import Features, as_pair, row_blocks, squared_distances

__all__ = ["Kernel", "KernelDistance", "PolynomialKernel", "RBFKernel", "kernel_distance", "median_bandwidth"]


class Kernel(Protocol):
    """A positive-definite function of two sets of vectors."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Values `k(a_i, b_j)` of shape `(len(a), len(b))`."""


@dataclass(frozen=True)
class PolynomialKernel:
    """`k(a, b) = (scale <a, b> + offset)^degree`, `scale = None` for `1 / d`; the default is KID's kernel."""

    degree: int = 3
    scale: float | None = None
    offset: float = 1.0

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        scale = 1 / a.shape[1] if self.scale is None else self.scale
        return (scale * (a @ b.T) + self.offset) ** self.degree


@dataclass(frozen=True)
class RBFKernel:
    """`k(a, b) = exp(-|a - b|^2 / (2 bandwidth^2))`, the bandwidth in units of the features.

    Raises:
        ValueError: a bandwidth that is not a positive number.
    """

    bandwidth: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bandwidth) and self.bandwidth > 0):
            raise ValueError(f"bandwidth must be a positive number, got {self.bandwidth}")

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        centre = b.mean(0)
        return squared_distances(a - centre, b - centre).mul_(-0.5 / self.bandwidth**2).exp_()


class KernelDistance(NamedTuple):
    """A kernel distance: `value` in units of the kernel, and the `standard_error` of it (NaN from a single block)."""

    value: float
    standard_error: float


def median_bandwidth(x: Features, y: Features, *, limit: int = 2000, seed: int = 0) -> float:
    """The median distance between points of the pooled sets: a common choice for `RBFKernel`.

    Args:
        x: features `(n, d)`.
        y: features `(m, d)`.
        limit: pooled points used at most, drawn by `seed`.
        seed: of the draw.

    Raises:
        ValueError: more than half of the pooled points coincide, so the median is zero.
    """
    pool = torch.cat(as_pair(x, y, ("x", "y")))
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))[:limit].to(pool.device)
    pool = pool[order] - pool.mean(0)
    rows, columns = torch.triu_indices(len(pool), len(pool), offset=1)
    median = squared_distances(pool, pool)[rows, columns].median().sqrt().item() if len(rows) else 0.0
    if median == 0:
        raise ValueError("the median distance between the points is zero: give RBFKernel a bandwidth of your own")
    return median


def kernel_distance(
    x: Features, y: Features, kernel: Kernel | None = None, *, blocks: int = 10, seed: int = 0
) -> KernelDistance:
    """Unbiased squared MMD as the mean over disjoint random blocks of both sets, with its standard error.

    Args:
        x: features `(n, d)`.
        y: features `(m, d)`.
        kernel: `PolynomialKernel()` (KID) when not given.
        blocks: disjoint parts of each set, of `n // blocks` and `m // blocks` rows; 1 uses every pair, with no error.
        seed: of the partition.

    Returns:
        The mean of the blocks' estimates and their standard deviation over `sqrt(blocks)`; blocks are independent.

    Raises:
        ValueError: a block would hold fewer than two rows.
    """
    a, b = as_pair(x, y, ("x", "y"), at_least=2)
    smallest = min(len(a), len(b))
    if not 1 <= blocks <= smallest // 2:
        raise ValueError(f"blocks must lie in 1..{smallest // 2} for {smallest} rows (two a block), got {blocks}")
    kernel = PolynomialKernel() if kernel is None else kernel
    if blocks == 1:
        return KernelDistance(_unbiased(a, b, kernel), math.nan)
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.randperm(len(s), generator=generator)[: len(s) // blocks * blocks].reshape(blocks, -1) for s in (a, b)
    ]
    values = torch.tensor([_unbiased(a[i.to(a.device)], b[j.to(a.device)], kernel) for i, j in zip(*parts)])
    return KernelDistance(values.mean().item(), values.std().item() / blocks**0.5)


def _unbiased(a: Tensor, b: Tensor, kernel: Kernel) -> float:
    within = sum(_pair_sum(s, s, kernel, skip_diagonal=True) / (len(s) * (len(s) - 1)) for s in (a, b))
    return within - 2 * _pair_sum(a, b, kernel) / (len(a) * len(b))


def _pair_sum(a: Tensor, b: Tensor, kernel: Kernel, *, skip_diagonal: bool = False) -> float:
    total = 0.0
    for rows in row_blocks(len(a), len(b)):
        values = kernel(a[rows], b)
        if skip_diagonal:
            values.diagonal(rows.start).zero_()
        total += values.sum().item()
    return total
