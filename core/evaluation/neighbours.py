"""Nearest neighbours by brute force in chunks, and the copy check built on them.

**Memorisation.** A generator that repeats its training data puts samples closer to training points than fresh data lie.
Whether a distance is small is judged by the training set itself: the threshold is a low quantile of the distances from
each training point to its nearest other one. A sample below it is called a copy. Real data have near-duplicates too, so
the fraction of copies among samples is set against the same fraction among held-out data; the excess is what the
generator adds. (Distance to the nearest training sample, calibrated by held-out data: Meehan et al. 2020, 2004.05675.)
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.core.evaluation._features import Features, as_features, as_pair, row_blocks, squared_distances

__all__ = ["Memorisation", "Neighbours", "memorisation", "nearest_neighbours"]


class Neighbours(NamedTuple):
    """The k nearest points of each query, nearest first: `distances (n, k)` float64 and `indices (n, k)` int64."""

    distances: Tensor
    indices: Tensor


def nearest_neighbours(queries: Features, points: Features | None = None, k: int = 1) -> Neighbours:
    """Euclidean nearest neighbours of each query, without ever holding the whole distance matrix.

    Args:
        queries: `(n, d)`.
        points: `(m, d)` candidates; None searches among the queries themselves, each without itself.
        k: neighbours wanted.

    Returns:
        Distances (recomputed from differences, so an exact copy has distance 0) and indices into the points.

    Raises:
        ValueError: `k` is less than 1 or more than the number of candidates.
    """
    a, b = as_pair(queries, queries if points is None else points, ("queries", "points"))
    available = len(b) - (points is None)
    if not 1 <= k <= available:
        raise ValueError(f"k must lie in 1..{available} for {len(b)} points, got {k}")
    centre = b.mean(0)
    a, b = a - centre, b - centre
    distances, indices = [], []
    for rows in row_blocks(len(a), max(len(b), k * b.shape[1])):
        squared = squared_distances(a[rows], b)
        if points is None:
            squared.diagonal(rows.start).fill_(torch.inf)
        near = squared.topk(k, largest=False).indices
        exact = (a[rows].unsqueeze(1) - b[near]).norm(dim=2)
        exact, order = exact.sort(dim=1, stable=True)
        distances.append(exact)
        indices.append(near.gather(1, order))
    return Neighbours(torch.cat(distances), torch.cat(indices))


@dataclass(frozen=True)
class Memorisation:
    """The result of a copy check.

    Attributes:
        threshold: distance below which a point counts as a copy of a training point.
        copy_rate: fraction of the samples that are copies.
        heldout_rate: the same fraction of the held-out data.
        distances: `(n,)` from each sample to its nearest training point.
        indices: `(n,)` which training point that is.
        distance_ratio: median of `distances` over the median of the held-out data's; about 1 is healthy.
    """

    threshold: float
    copy_rate: float
    heldout_rate: float
    distances: Tensor
    indices: Tensor
    distance_ratio: float

    @property
    def copy_excess(self) -> float:
        """`copy_rate - heldout_rate`: positive when samples are copies more often than fresh data are."""
        return self.copy_rate - self.heldout_rate


def memorisation(samples: Features, train: Features, heldout: Features, *, quantile: float = 0.01) -> Memorisation:
    """Check whether samples copy the training set more often than held-out data do.

    Args:
        samples: generated points `(n, d)`.
        train: what the generator was trained on `(m, d)`, m >= 2.
        heldout: fresh data from the same source `(h, d)`.
        quantile: of the training points' leave-one-out nearest-neighbour distances; it sets the threshold.

    Raises:
        ValueError: `quantile` outside (0, 1), or shapes that do not fit.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie between 0 and 1, got {quantile}")
    known = as_features(train, "train", at_least=2)
    made, fresh = (as_pair(x, known, (name, "train"))[0] for x, name in ((samples, "samples"), (heldout, "heldout")))
    threshold = torch.quantile(nearest_neighbours(known).distances[:, 0], quantile).item()
    sample, heldout_near = nearest_neighbours(made, known), nearest_neighbours(fresh, known)
    distances, reference = sample.distances[:, 0], heldout_near.distances[:, 0]
    middle = reference.median().item()
    return Memorisation(
        threshold=threshold,
        copy_rate=(distances <= threshold).double().mean().item(),
        heldout_rate=(reference <= threshold).double().mean().item(),
        distances=distances,
        indices=sample.indices[:, 0],
        distance_ratio=distances.median().item() / middle if middle > 0 else float("nan"),
    )
