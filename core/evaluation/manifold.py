r"""Fidelity and diversity apart: measures on balls around each point.

Let `B_k(z)` be the closed ball around `z` that reaches its k-th nearest neighbour within its own set.

- Improved precision and recall (Kynkäänniemi et al. 2019, 1904.06991): precision is the fraction of samples in the
  union of the balls of the real points, recall the fraction of real points in the union of the balls of the samples.
- Density and coverage (Naeem et al. 2020, 2002.09797): density is `1/(k n) sum_ij [y_j in B_k(x_i)]` over n samples `y`
  and real points `x`, coverage the fraction of real points whose ball holds at least one sample. Both use the real
  points' balls only, so an outlier among the samples does not inflate them. For equal distributions the expected
  density is 1 and the expected coverage `1 - (m-1)...(m-k) / ((2m-1)...(2m-k))` at equal sizes m, about `1 - 2^-k`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.evaluation._features import Features, as_pair, row_blocks, squared_distances
from ornstein.core.evaluation.neighbours import nearest_neighbours

__all__ = ["DensityCoverage", "PrecisionRecall", "density_coverage", "precision_recall"]

ROUNDING = 1e-12
"""Slack for distances that equal a radius: relative to the mean squared norm of the centred points."""


class PrecisionRecall(NamedTuple):
    """Fidelity (`precision`) and diversity (`recall`), each in [0, 1]."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Fidelity (`density`, unbounded, about 1 when equal) and diversity (`coverage`, in [0, 1])."""

    density: float
    coverage: float


def precision_recall(samples: Features, real: Features, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall of `samples` against `real`.

    Args:
        samples: `(n, d)`, n > k.
        real: `(m, d)`, m > k. Use as many of one as of the other: recall grows with the number of samples.
        k: neighbours that set the radius of each ball.

    Raises:
        ValueError: `k` outside `1..min(n, m) - 1`, or shapes that do not fit.
    """
    a, b = _prepare(samples, real, k)
    return PrecisionRecall(
        _counts(a, b, k)[0].gt(0).double().mean().item(), _counts(b, a, k)[0].gt(0).double().mean().item()
    )


def density_coverage(samples: Features, real: Features, k: int = 5) -> DensityCoverage:
    """Density and coverage of `samples` against `real`.

    Args:
        samples: `(n, d)`.
        real: `(m, d)`, m > k.
        k: neighbours that set the radius of each real point's ball.

    Raises:
        ValueError: `k` outside `1..m - 1`, or shapes that do not fit.
    """
    a, b = _prepare(samples, real, k, both=False)
    balls, members = _counts(a, b, k)
    return DensityCoverage(balls.double().mean().item() / k, members.gt(0).double().mean().item())


def _prepare(samples: Features, real: Features, k: int, *, both: bool = True) -> tuple[Tensor, Tensor]:
    a, b = as_pair(samples, real, ("samples", "real"))
    smallest = min(len(a), len(b)) if both else len(b)
    if not 1 <= k < smallest:
        raise ValueError(f"k must lie in 1..{smallest - 1} for sets of {len(a)} and {len(b)} points, got {k}")
    centre = b.mean(0)
    return a - centre, b - centre


def _counts(queries: Tensor, centres: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """How many balls of the centres each query lies in, and how many queries each centre's ball holds."""
    radii = nearest_neighbours(centres, k=k).distances[:, -1].square() + ROUNDING * centres.square().sum(1).mean()
    balls = torch.empty(len(queries), dtype=torch.int64, device=queries.device)
    members = torch.zeros(len(centres), dtype=torch.int64, device=queries.device)
    for rows in row_blocks(len(queries), len(centres)):
        inside = squared_distances(queries[rows], centres) <= radii
        balls[rows] = inside.sum(1)
        members += inside.sum(0)
    return balls, members
