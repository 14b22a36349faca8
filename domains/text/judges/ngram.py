"""How likely texts are under an n-gram model that owes nothing to the model that wrote them.

With ``c(h, w)`` the count of unit ``w`` after the context ``h``, ``c(h)`` its sum over ``w``, ``T(h)`` the number of
different units seen after ``h``, and ``h'`` the context without its first unit, interpolated Witten–Bell is

    p(w | h) = (c(h, w) + T(h) p(w | h')) / (c(h) + T(h)),        p(w | h) = p(w | h')  where  c(h) = 0,

down to ``p(w) = (c(w) + T / V) / (c + T)``, which leans on the uniform distribution over the ``V`` entries of the
vocabulary (Witten and Bell 1991, method C; Chen and Goodman 1998, TR-10-98, section on Witten–Bell smoothing).

A text is ``order - 1`` marks of its start, its units, and the mark of its end. The start is never predicted; the end
is, and counts as a unit. The vocabulary is open by one rule: it holds the units that were seen at least ``min_count``
times, the end and one class for all units that are none of these; the class gets what its count and the uniform part
give it, and no further bits are charged for which unit it is. So the share of unknown units stands beside every figure.

Low bits alone can be had by saying the same likely sentence again and again; `Fluency` has the unigram entropy with it.
"""

import math
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from itertools import chain
from typing import NamedTuple

from ornstein.core.schedules import require
from ornstein.domains.text.judges._texts import Units, as_texts, splitter
from ornstein.domains.text.judges.diversity import unigram_entropy

__all__ = ["Fluency", "Mark", "NgramModel"]


class Mark(Enum):
    """Entries of the vocabulary that no text can spell."""

    UNKNOWN = 0
    START = 1
    END = 2


class Fluency(NamedTuple):
    """Bits under a judge, with what must be read beside them."""

    bits_per_word: float
    """Mean of ``-log2 p`` over all words and ends."""
    unigram_entropy: float
    """Bits of the judged texts' own distribution of words (`unigram_entropy`): low where texts repeat themselves."""
    unknown_rate: float
    """Share of the words that the judge does not know."""
    judge: str
    """Which model judged."""


class NgramModel:
    """An interpolated Witten–Bell n-gram of words or characters; see the module's text.

    Args:
        order: longest n-gram, ``order - 1`` units of context.
        units: what texts are cut into.
        min_count: a unit that is rarer in the fitted texts counts as unknown. At 1 no fitted unit is unknown.

    Attributes:
        vocabulary: what `probability` distributes over, once fitted: units in order, `Mark.UNKNOWN`, `Mark.END`.

    Raises:
        ValueError: ``order`` or ``min_count`` below 1, or unknown ``units``.
    """

    def __init__(self, order: int = 5, units: Units = "word", min_count: int = 1) -> None:
        require(order >= 1, "order", order, "a whole number of at least 1")
        require(min_count >= 1, "min_count", min_count, "a whole number of at least 1")
        self.order, self.units, self.min_count = order, units, min_count
        self._split = splitter(units)
        self._ids: dict[str, int] = {}
        # context -> what followed it and how often, and the sum
        self._contexts: dict[tuple[int, ...], tuple[dict[int, int], int]] = {}
        self.vocabulary: tuple[str | Mark, ...] = ()

    def fit(self, texts: Sequence[str]) -> "NgramModel":
        """Count the n-grams of ``texts``, forgetting earlier ones, and return the model.

        Raises:
            TypeError: ``texts`` is no list of strings.
            ValueError: no texts.
        """
        rows = [self._split(text) for text in as_texts(texts, "texts")]
        seen = Counter(chain.from_iterable(rows))
        known = sorted(unit for unit, count in seen.items() if count >= self.min_count)
        self._ids = {unit: number for number, unit in enumerate(known, len(Mark))}
        self.vocabulary = (*known, Mark.UNKNOWN, Mark.END)
        following: dict[tuple[int, ...], dict[int, int]] = {}
        for row in rows:
            ids = self._padded(row)
            for place in range(self.order - 1, len(ids)):
                unit = ids[place]
                for size in range(self.order):
                    counts = following.setdefault(ids[place - size : place], {})
                    counts[unit] = counts.get(unit, 0) + 1
        self._contexts = {context: (counts, sum(counts.values())) for context, counts in following.items()}
        return self

    def probability(self, unit: str | Mark, context: Sequence[str | Mark] = ()) -> float:
        """``p(unit | context)``, of the whole class of unknown units if ``unit`` is not in the vocabulary.

        Args:
            unit: a unit, `Mark.END` or `Mark.UNKNOWN`.
            context: what stands before it; the last ``order - 1`` are used, and nothing is added (a text starts after
                ``order - 1`` times `Mark.START`).

        Raises:
            ValueError: the model is not fitted, or the start is to be predicted.
        """
        self._require_fitted()
        require(unit is not Mark.START, "unit", unit, "a unit that can follow; a start never does")
        last = context[max(0, len(context) - self.order + 1) :]
        ids = tuple(self._id(item) for item in (*last, unit))
        return self._probability(ids, len(ids) - 1)

    def distribution(self, context: Sequence[str | Mark] = ()) -> dict[str | Mark, float]:
        """`probability` of each entry of the vocabulary; they sum to 1."""
        return {unit: self.probability(unit, context) for unit in self.vocabulary}

    def bits(self, text: str) -> float:
        """``-log2`` of the probability of one text, its end included."""
        self._require_fitted()
        ids = self._padded(self._split(as_texts([text], "text")[0]))
        return -sum(math.log2(self._probability(ids, place)) for place in range(self.order - 1, len(ids)))

    def bits_per_word(self, texts: Sequence[str]) -> float:
        """Bits of all texts over their number of units (characters, if ``units`` are), ends included in both.

        Raises:
            TypeError: ``texts`` is no list of strings.
            ValueError: no texts, or the model is not fitted.
        """
        texts = as_texts(texts, "texts")
        return sum(map(self.bits, texts)) / sum(len(self._split(text)) + 1 for text in texts)

    def perplexity(self, texts: Sequence[str]) -> float:
        """``2 ** bits_per_word``."""
        return 2.0 ** self.bits_per_word(texts)

    def unknown_rate(self, texts: Sequence[str]) -> float:
        """Share of the units of ``texts``, ends not counted, that are unknown; 0 if there are none."""
        self._require_fitted()
        units = [unit for text in as_texts(texts, "texts") for unit in self._split(text)]
        return sum(unit not in self._ids for unit in units) / max(len(units), 1)

    def fluency(self, texts: Sequence[str]) -> Fluency:
        """`bits_per_word` with the unigram entropy and the unknown rate of the same texts.

        Raises:
            TypeError: ``texts`` is no list of strings.
            ValueError: no texts, no units in them, or the model is not fitted.
        """
        unit = self.units if isinstance(self.units, str) else "unit"
        return Fluency(
            self.bits_per_word(texts),
            unigram_entropy(texts, units=self.units),
            self.unknown_rate(texts),
            f"Witten-Bell {self.order}-gram of {unit}s",
        )

    def _require_fitted(self) -> None:
        if not self._contexts:
            raise ValueError("the n-gram model has counted nothing: call fit with the texts to judge by")

    def _id(self, unit: str | Mark) -> int:
        return unit.value if isinstance(unit, Mark) else self._ids.get(unit, Mark.UNKNOWN.value)

    def _padded(self, row: Sequence[str]) -> tuple[int, ...]:
        return (*[Mark.START.value] * (self.order - 1), *map(self._id, row), Mark.END.value)

    def _probability(self, ids: tuple[int, ...], place: int) -> float:
        """``p`` of the unit at ``place`` after what stands before it in ``ids``."""
        p = 1 / len(self.vocabulary)
        for size in range(min(self.order, place + 1)):
            found = self._contexts.get(ids[place - size : place])
            if found is None:  # then longer contexts, which end in this one, are unseen too
                break
            counts, total = found
            p = (counts.get(ids[place], 0) + len(counts) * p) / (total + len(counts))
        return p
