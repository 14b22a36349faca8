"""Parts of different lengths, one behind the other in an array."""

from collections.abc import Sequence

import numpy as np

__all__ = ["ragged", "starts_of"]


def starts_of(sizes: np.ndarray) -> np.ndarray:
    """Where each part begins and the last ends, ``(M + 1,)`` int64, of the sizes ``(M,)``."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def ragged(starts: np.ndarray, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the entries of some parts ``starts[i] ... starts[i + 1] - 1`` are.

    Returns:
        For each entry its row, which is the place of ``i`` in ``indices``, and its place in the array; and the size of
        each part.
    """
    chosen = np.asarray(indices, dtype=np.int64)
    sizes = starts[chosen + 1] - starts[chosen]
    rows = np.repeat(np.arange(len(chosen)), sizes)
    before = np.cumsum(sizes) - sizes
    return rows, np.arange(len(rows)) - before[rows] + starts[chosen][rows], sizes
