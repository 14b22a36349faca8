"""Pieces: runs of tokens that come together often, as one (byte-pair encoding).

From single tokens on, the two neighbours that come together most often become one piece, again and again (Gage 1994;
Sennrich et al. 2016, arXiv 1508.07909).  Sequences of pieces are several times shorter, and pieces such as a benzene
ring are never drawn wrong.  What a sequence says does not change: a piece stands for its tokens.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from ornstein.core.schedules import require
from ornstein.domains.molecules.ragged import starts_of

__all__ = ["expand_pieces", "learn_pieces", "merge_pieces"]

END = -1
MOST = 4096  # all pairs of as many are counted at once
Pair = tuple[int, int]


def learn_pieces(tokens: np.ndarray, starts: np.ndarray, first: int, count: int, min_count: int) -> tuple[Pair, ...]:
    """The pieces of sequences; piece ``k`` is the pair of numbers that becomes the number ``first + k``.

    Args:
        tokens: of all sequences, one behind the other, ``(sum of n,)``, 0 to ``first - 1``.
        starts: where each begins, ``(M + 1,)``.
        first: number of the first piece.
        count: how many pieces, at most.
        min_count: how often two neighbours must come together.

    Raises:
        ValueError: a number of pieces below 0, or above 4096 together with the tokens.
    """
    require(0 <= count <= MOST - first, "pieces", count, f"0 to {MOST - first}, of {first} tokens")
    flat, base = _with_ends(tokens, starts), first + count
    pieces: list[Pair] = []
    for number in range(first, base):
        inside = (flat[:-1] != END) & (flat[1:] != END)
        counts = np.bincount(flat[:-1][inside] * base + flat[1:][inside], minlength=1)
        if counts.max() < min_count:
            break
        left, right = divmod(int(counts.argmax()), base)
        pieces.append((left, right))
        flat = _merged(flat, left, right, number)
    return tuple(pieces)


def merge_pieces(
    tokens: np.ndarray, starts: np.ndarray, first: int, pieces: Iterable[Pair]
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences in pieces, as they were learned: each in its turn, from the left.

    Args:
        tokens, starts, first: as for `learn_pieces`.
        pieces: as it gives them.

    Returns:
        Numbers of tokens and pieces, and where each sequence begins.
    """
    flat = _with_ends(tokens, starts)
    for number, (left, right) in enumerate(pieces, first):
        flat = _merged(flat, left, right, number)
    ends = np.flatnonzero(flat == END)
    return flat[flat != END], starts_of(np.diff(ends, prepend=-1) - 1)


def expand_pieces(first: int, pieces: Sequence[Pair]) -> list[tuple[int, ...]]:
    """The tokens of each number, those of pieces behind those of tokens."""
    found: list[tuple[int, ...]] = [(number,) for number in range(first)]
    for left, right in pieces:
        found.append(found[left] + found[right])
    return found


def _with_ends(tokens: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sequences one behind the other, ``END`` behind each, so that none of its pairs reach into the next."""
    sizes = np.diff(starts)
    flat = np.full(len(tokens) + len(sizes), END, dtype=np.int64)
    flat[np.arange(len(tokens)) + np.repeat(np.arange(len(sizes)), sizes)] = tokens
    return flat


def _merged(flat: np.ndarray, left: int, right: int, number: int) -> np.ndarray:
    """All neighbours ``left, right`` as ``number``; of three equal ones the first two."""
    hits = np.flatnonzero((flat[:-1] == left) & (flat[1:] == right))
    if left == right and len(hits):
        begins = np.diff(hits, prepend=-2) != 1  # a run of equal ones overlaps with itself
        within = np.arange(len(hits)) - np.flatnonzero(begins)[begins.cumsum() - 1]
        hits = hits[within % 2 == 0]
    merged = flat.copy()
    merged[hits] = number
    return np.delete(merged, hits + 1)
