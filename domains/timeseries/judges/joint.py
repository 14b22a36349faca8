"""Scores of joint samples: do they agree between times and variables, and not only entry by entry?

An event is a window ``(L, K)``; of each, only the ``d`` entries that count are compared. Marginal scores cannot tell
samples that wander together from ones that do not; these can.
"""

from collections.abc import Iterator

import numpy as np

from ornstein.core.schedules import require
from ornstein.domains.timeseries.judges._samples import Array, as_samples, counted

__all__ = ["energy_score", "variogram_score"]


def energy_score(samples: Array, truth: Array, mask: Array | None = None, *, event_axes: int = 2) -> float:
    """``E|X - y| - E|X - X'| / 2`` with Euclidean norms over an event, mean over events.

    The CRPS of vectors, strictly proper (Gneiting and Raftery 2007, eq. 22). ``E|X - X'|`` is over pairs of
    different samples, hence unbiased; a single sample scores its distance. In units of the data; it grows like
    ``sqrt(d)``, so compare on equal entries only.

    Args:
        samples: ``(n, ..., L, K)``.
        truth: ``(..., L, K)``.
        mask: ``(..., L, K)`` bool, the entries that count; None: all. Events where none does are left out.
        event_axes: number of last axes that make an event.

    Raises:
        TypeError: no arrays of numbers.
        ValueError: shapes that do not fit, nothing that counts, or NaN where entries count.
    """
    return float(np.mean([_energy(x, y) for x, y in _events(samples, truth, mask, event_axes)]))


def _energy(x: np.ndarray, y: np.ndarray) -> float:
    from scipy.spatial.distance import pdist

    distance = float(np.linalg.norm(x - y, axis=1).mean())
    return distance - float(pdist(x).mean()) / 2 if len(x) > 1 else distance


def variogram_score(
    samples: Array, truth: Array, mask: Array | None = None, *, p: float = 0.5, event_axes: int = 2
) -> float:
    """Mean over pairs ``i != j`` of ``(|y_i - y_j|^p - mean |X_i - X_j|^p)^2`` (Scheuerer and Hamill 2015).

    Weights are ``1 / (d (d - 1))``, the mean over events. Proper, not strictly: what it sees are differences between
    entries, in which it tells wrong correlations better than `energy_score` does. The mean of few samples adds its own
    variance, so compare at equal ``n``. The cost is ``n d^2`` an event. In units of the data to the power ``2 p``.

    Args:
        samples: ``(n, ..., L, K)``.
        truth: ``(..., L, K)``.
        mask: ``(..., L, K)`` bool, the entries that count; None: all. Events with fewer than two are left out.
        p: order, positive.
        event_axes: number of last axes that make an event.

    Raises:
        TypeError: no arrays of numbers.
        ValueError: shapes that do not fit, no event of two entries that count, NaN where entries count, or ``p <= 0``.
    """
    require(p > 0, "p", p, "a positive number")
    found = [_variogram(x, y, p) for x, y in _events(samples, truth, mask, event_axes) if len(y) > 1]
    require(bool(found), "mask", "at most one entry an event", "an event of two entries: the score is of pairs")
    return float(np.mean(found))


def _variogram(x: np.ndarray, y: np.ndarray, p: float) -> float:
    total = 0.0
    for i in range(len(y) - 1):  # a row at a time: all pairs of all samples would not fit
        drawn = _power(np.abs(x[:, i + 1 :] - x[:, i, None]), p).mean(0)
        total += float(np.square(_power(np.abs(y[i + 1 :] - y[i]), p) - drawn).sum())
    return total / (len(y) * (len(y) - 1) / 2)


def _power(x: np.ndarray, p: float) -> np.ndarray:
    return np.sqrt(x) if p == 0.5 else x**p  # ten times as fast


def _events(
    samples: Array, truth: Array, mask: Array | None, event_axes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Samples ``(n, d)`` and truth ``(d,)`` of each event that has entries that count."""
    samples, truth, mask = as_samples(samples, truth, mask)
    require(1 <= event_axes <= truth.ndim, "event_axes", event_axes, f"1 to {truth.ndim}, the axes of the truth")
    size = int(np.prod(truth.shape[truth.ndim - event_axes :]))
    rows = samples.reshape(len(samples), -1, size)
    for number, (y, kept) in enumerate(zip(truth.reshape(-1, size), mask.reshape(-1, size))):
        if kept.any():
            every = np.broadcast_to(kept, (len(rows), size))
            yield counted(rows[:, number], every, "samples").reshape(len(rows), -1), counted(y, kept, "truth")
