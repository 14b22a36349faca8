"""Whether texts are copies: the longest span of each that stands in the training texts, in words and in characters.

Exact, by one sorted table of all suffixes. Texts and training texts are joined into one row of units, with a separator
of its own after each so that no span reaches over it. Ranks of all runs of ``1, 2, 4, ...`` units come by doubling
(Karp, Miller and Rosenberg 1972; Manber and Myers 1993), until runs are longer than any judged text. In the sorted
table, the training suffix that shares most with a suffix of a judged text is the nearest one before or after it, and
the common length is read off the ranks. The cost is ``O(N log N log L)`` for ``N`` units in all, ``L`` in the
longest text.

Common phrases are copied by everyone: set the figures beside those of real texts that were not trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ornstein.domains.text.judges._texts import as_texts
from ornstein.domains.text.words import split_words

__all__ = ["Copying", "copied_spans"]


@dataclass(frozen=True)
class Copying:
    """What of each text stands in the training texts.

    Attributes:
        words: words of the longest copied span, one number a text.
        characters: characters of the longest copied span; it may start and end within words.
        shares: ``words`` over the number of words in the text; 0 for a text without words.
        spans: the longest copied span itself, in characters; the first, if several are as long.
        exact: whether the text's words are those of a whole training text, spacing aside.
    """

    words: tuple[int, ...]
    characters: tuple[int, ...]
    shares: tuple[float, ...]
    spans: tuple[str, ...]
    exact: tuple[bool, ...]

    @property
    def exact_rate(self) -> float:
        """Share of the texts that are exact copies."""
        return sum(self.exact) / len(self.exact)

    def summary(self) -> dict[str, float]:
        """Means over the texts, the longest span of all, and the rate of exact copies."""
        return {
            "copied_words": float(np.mean(self.words)),
            "copied_words_max": float(max(self.words)),
            "copied_characters": float(np.mean(self.characters)),
            "copied_share": float(np.mean(self.shares)),
            "exact_copies": self.exact_rate,
        }


def copied_spans(texts: Sequence[str], training: Sequence[str]) -> Copying:
    """The longest span of each text that occurs in one of the training texts; see the module's text.

    Case and punctuation count. An empty text copies nothing, though it is an exact copy of an empty training text.

    Args:
        texts: what to judge.
        training: what the model was trained on.

    Raises:
        TypeError: no lists of strings.
        ValueError: an empty list.
    """
    texts, training = as_texts(texts, "texts"), as_texts(training, "training")
    rows, known = [split_words(text) for text in texts], [split_words(text) for text in training]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(w for row in (*rows, *known) for w in row))}
    lengths, _ = _longest(
        *([np.array([vocabulary[w] for w in row], np.int64) for row in part] for part in (rows, known))
    )
    characters, starts = _longest(*([_code_points(text) for text in part] for part in (texts, training)))
    whole = {tuple(row) for row in known}
    return Copying(
        words=tuple(lengths),
        characters=tuple(characters),
        shares=tuple(length / max(len(row), 1) for length, row in zip(lengths, rows)),
        spans=tuple(text[start : start + length] for text, start, length in zip(texts, starts, characters)),
        exact=tuple(tuple(row) in whole for row in rows),
    )


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)


def _longest(texts: list[np.ndarray], training: list[np.ndarray]) -> tuple[list[int], list[int]]:
    """Length and start of each text's longest run of units that occurs in ``training``."""
    lengths = np.array([len(text) for text in texts])
    separator = 1 + max((int(row.max()) for row in (*texts, *training) if len(row)), default=0)
    joined = np.concatenate([np.append(row, separator + number) for number, row in enumerate((*texts, *training))])
    ends = np.cumsum(lengths + 1)
    judged = int(ends[-1])
    ranks = _ranks(joined, int(lengths.max()))
    order = np.argsort(ranks[-1], kind="stable")
    place = np.arange(len(order))
    is_training = order >= judged
    before = np.maximum.accumulate(np.where(is_training, place, -1))
    after = np.minimum.accumulate(np.where(is_training, place, len(order))[::-1])[::-1]
    best = np.zeros(judged, dtype=np.int64)
    suffixes = order[~is_training]
    for neighbour in (before[~is_training], after[~is_training]):
        there = (neighbour >= 0) & (neighbour < len(order))
        ours, theirs = suffixes[there], order[neighbour[there]]
        best[ours] = np.maximum(best[ours], _common(ranks, ours, theirs))
    begins = ends - lengths - 1
    starts = [int(best[begin:end].argmax()) for begin, end in zip(begins, ends)]
    return [int(best[begin + start]) for begin, start in zip(begins, starts)], starts


def _ranks(joined: np.ndarray, longest: int) -> list[np.ndarray]:
    """Ranks of the runs of ``2 ** k`` units from each place, up to runs longer than ``longest``; 0 is past the end."""
    ranks = [np.unique(joined, return_inverse=True)[1].reshape(-1) + 1]
    while 1 << (len(ranks) - 1) <= longest:
        size, last = 1 << (len(ranks) - 1), ranks[-1]
        second = np.zeros_like(last)
        second[: max(len(last) - size, 0)] = last[size:]
        pairs = last * (last.max() + 1) + second
        ranks.append(np.unique(pairs, return_inverse=True)[1].reshape(-1) + 1)
    return ranks


def _common(ranks: list[np.ndarray], ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Length of the common prefix of the suffixes at ``ours`` and ``theirs``, the largest powers of two first."""
    length = np.zeros(len(ours), dtype=np.int64)
    size = len(ranks[0])
    for level in reversed(range(len(ranks))):
        a, b = np.minimum(ours + length, size - 1), np.minimum(theirs + length, size - 1)
        length += (ranks[level][a] == ranks[level][b]).astype(np.int64) << level
    return length
