"""What every judge does first: samples, truth and mask are checked, and the entries that count are sorted in blocks.

Samples are ``(n, ...)``, the truth and the mask ``(...)``. Nothing but what the mask keeps is looked at, so the truth
may be NaN elsewhere. A block of entries is copied to float64 at a time: a hundred samples of a million entries cost the
arrays that came and a few figures an entry.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from ornstein.core.schedules import require

__all__ = [
    "Array",
    "Marginals",
    "Method",
    "as_array",
    "as_levels",
    "as_mask",
    "as_samples",
    "counted",
    "marginals",
    "sorted_quantiles",
]

Array = np.ndarray | Tensor
Method = Literal["linear", "nearest"]

BLOCK_ELEMENTS = 1 << 21
"""Numbers in one block of samples (16 MiB of float64)."""


def as_array(x: Array, name: str) -> np.ndarray:
    """``x`` as an array of real numbers or truth values, not copied where it lies on the CPU.

    Raises:
        TypeError: anything else.
    """
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        x = x.float().numpy() if x.is_floating_point() and x.element_size() < 4 else x.numpy()
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub":
        kind = f"dtype {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"{name} must be an array or tensor of real numbers, got {kind}")
    return x


def as_mask(mask: Array | None, shape: tuple[int, ...], name: str = "mask") -> np.ndarray:
    """The entries that count as ``shape`` truth values; None: all of them.

    Raises:
        TypeError: no truth values.
        ValueError: another shape, or nothing that counts.
    """
    if mask is None:
        return np.ones(shape, bool)
    mask = as_array(mask, name)
    if mask.dtype != bool:
        raise TypeError(f"{name} must hold truth values (bool), got dtype {mask.dtype}")
    require(mask.shape == shape, f"shape of {name}", mask.shape, f"{shape}, that of the truth")
    require(bool(mask.any()), name, "all False", "at least one entry that counts")
    return mask


def as_samples(samples: Array, truth: Array, mask: Array | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three as arrays of shapes ``(n, ...)``, ``(...)`` and ``(...)``.

    Raises:
        TypeError: no arrays of numbers, or a mask that is not of truth values.
        ValueError: shapes that do not fit, or nothing that counts.
    """
    samples, truth = as_array(samples, "samples"), as_array(truth, "truth")
    require(
        samples.ndim == truth.ndim + 1 and samples.shape[1:] == truth.shape and len(samples) > 0,
        "shape of samples",
        samples.shape,
        f"(n, ...) with ... = {truth.shape}, that of the truth",
    )
    return samples, truth, as_mask(mask, truth.shape)


def as_levels(levels: Sequence[float] | np.ndarray, name: str = "levels") -> np.ndarray:
    """Probabilities inside (0, 1) as float64.

    Raises:
        ValueError: none, or one outside (0, 1).
    """
    array = np.asarray(levels, np.float64).reshape(-1)
    require(bool(array.size and (array > 0).all() and (array < 1).all()), name, levels, "numbers between 0 and 1")
    return array


def counted(x: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:
    """The entries ``(N,)`` of ``x`` that count, in float64.

    Raises:
        ValueError: one of them is NaN or infinite.
    """
    return _finite(x[mask].astype(np.float64), name)


def _finite(x: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).sum())
        raise ValueError(f"{name} holds {bad} NaN or infinite values at entries that count: leave them out by the mask")
    return x


def _blocks(samples: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sorted samples ``(n, c)`` and truth ``(c,)`` in float64, a block of entries that count at a time."""
    rows = samples.reshape(len(samples), -1)
    wanted, places = truth.reshape(-1), np.flatnonzero(mask)
    step = max(1, BLOCK_ELEMENTS // len(samples))
    for start in range(0, len(places), step):
        at = places[start : start + step]
        ordered = np.sort(rows[:, at], axis=0)  # in the dtype that came: half the work for float32
        yield _finite(ordered.astype(np.float64), "samples"), _finite(wanted[at].astype(np.float64), "truth")


def sorted_quantiles(ordered: np.ndarray, levels: np.ndarray, method: Method) -> np.ndarray:
    """Quantiles ``(q, c)`` of sorted samples ``(n, c)``, as of ``np.quantile``, which would sort again."""
    position = (len(ordered) - 1) * levels
    if method == "nearest":
        return ordered[np.round(position).astype(int)]
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low)[:, None] * (ordered[high] - ordered[low])


@dataclass(frozen=True)
class Marginals:
    """What samples say of each of the ``N`` entries that count, in the order of ``truth[mask]``.

    Attributes:
        truth: ``(N,)``.
        median: ``(N,)``.
        crps: ``(N,)``, see `crps`; the absolute error where there is one sample.
        below: ``(N,)`` number of samples less than the truth.
        ties: ``(N,)`` number of samples equal to it.
        quantiles: ``(q, N)`` at the levels asked for.
        count: ``n``, the number of samples.
    """

    truth: np.ndarray
    median: np.ndarray
    crps: np.ndarray
    below: np.ndarray
    ties: np.ndarray
    quantiles: np.ndarray
    count: int


def marginals(
    samples: Array,
    truth: Array,
    mask: Array | None = None,
    levels: Sequence[float] | np.ndarray = (),
    method: Method = "linear",
) -> Marginals:
    """One pass over samples ``(n, ...)`` that every figure of single entries is taken from; see `Marginals`.

    Args:
        samples: ``(n, ...)``.
        truth: ``(...)``.
        mask: ``(...)`` bool, the entries that count; None: all.
        levels: of quantiles.
        method: between two samples the quantile is ``linear``, or the ``nearest`` sample.

    Raises:
        TypeError, ValueError: see `as_samples`; NaN or infinite values where entries count.
    """
    samples, truth, mask = as_samples(samples, truth, mask)
    require(method in ("linear", "nearest"), "method", method, "'linear' or 'nearest'")
    probabilities = as_levels(levels) if len(levels) else np.empty(0)
    found = [_block(ordered, y, probabilities, method) for ordered, y in _blocks(samples, truth, mask)]
    y, median, crps, below, ties, quantiles = (np.concatenate(parts, axis=-1) for parts in zip(*found))
    return Marginals(y, median, crps, below, ties, quantiles, len(samples))


def _block(ordered: np.ndarray, y: np.ndarray, levels: np.ndarray, method: Method) -> tuple[np.ndarray, ...]:
    n = len(ordered)
    scores = np.abs(ordered - y).mean(0)
    if n > 1:  # sum over i < j of x_(j) - x_(i) = sum_i (2 i - n - 1) x_(i)
        scores -= (2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * (n - 1))
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    quantiles = sorted_quantiles(ordered, levels, method)
    return y, median, scores, (ordered < y).sum(0), (ordered == y).sum(0), quantiles
