r"""Wasserstein distances: exact on the line, and averaged over directions in higher dimensions.

On the line the optimal plan is monotone, so with quantile functions `F^{-1}`, `G^{-1}`

    W_p^p = int_0^1 |F^{-1}(u) - G^{-1}(u)|^p du,

a finite sum for two samples of any sizes: both quantile functions are constant between the breakpoints `i / n` and
`j / m`. The sliced distance is `(E_theta W_p^p(<theta, x>, <theta, y>))^{1/p}` over uniform unit vectors (Rabin et al.
2011; Bonneel et al. 2015).
"""

import torch
from torch import Tensor

from ornstein.core.evaluation._features import Features, as_pair, row_blocks

__all__ = ["sliced_wasserstein", "wasserstein_1d"]


def wasserstein_1d(x: Features, y: Features, p: float = 1) -> Tensor:
    """`W_p` between the samples in each column of `x` and of `y`.

    Args:
        x: `(n, k)`, each column a sample of n equally weighted points.
        y: `(m, k)`; n and m may differ.
        p: order, at least 1.

    Returns:
        `(k,)` float64 distances in units of the samples.

    Raises:
        ValueError: `p < 1`, or shapes that do not fit.

    Example:
        >>> wasserstein_1d(torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0]])).item()
        4.5
    """
    a, b = as_pair(x, y, ("x", "y"))
    return _transport_cost(a, b, _check_order(p)) ** (1 / p)


def sliced_wasserstein(x: Features, y: Features, p: float = 1, *, projections: int = 500, seed: int = 0) -> float:
    """Sliced `W_p` between two sets of vectors, by Monte Carlo over `projections` seeded directions.

    Args:
        x: `(n, d)`.
        y: `(m, d)`; n and m may differ.
        p: order, at least 1.
        projections: number of directions; the Monte-Carlo error falls as its square root. On the line one is exact.
        seed: of the directions.

    Returns:
        The distance, in units of the features.

    Raises:
        ValueError: `p < 1`, `projections < 1`, or shapes that do not fit.
    """
    _check_order(p)
    if projections < 1:
        raise ValueError(f"projections must be at least 1, got {projections}")
    a, b = as_pair(x, y, ("x", "y"))
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(a.shape[1], projections, dtype=torch.float64, generator=generator).to(a.device)
    directions /= directions.norm(dim=0)
    # A block of directions costs (n + m) numbers each, and as many breakpoints again.
    costs = [
        _transport_cost(a @ directions[:, block], b @ directions[:, block], p)
        for block in row_blocks(projections, 2 * (len(a) + len(b)))
    ]
    return torch.cat(costs).mean().item() ** (1 / p)


def _check_order(p: float) -> float:
    if not p >= 1:
        raise ValueError(f"p must be at least 1, got {p}")
    return p


def _transport_cost(a: Tensor, b: Tensor, p: float) -> Tensor:
    """`W_p^p` for each column."""
    a, b = a.sort(dim=0).values, b.sort(dim=0).values
    n, m = len(a), len(b)
    if n == m:
        return (a - b).abs().pow(p).mean(0)
    # Breakpoints i/n and j/m as integers over n*m, so that coinciding ones coincide exactly.
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    widths = torch.diff(ends, prepend=ends.new_zeros(1)).to(a) / (n * m)
    i, j = (((ends - 1) // size).to(a.device) for size in (m, n))
    return (widths.unsqueeze(1) * (a[i] - b[j]).abs().pow(p)).sum(0)
