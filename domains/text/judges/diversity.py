"""How varied a set of texts is: entropy of its words, distinct n-grams, likeness to one another, repetition.

All of these depend on how many texts are judged: more texts show more words and fewer new n-grams. Set them beside the
same figure of as many real texts.
"""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from math import log2

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.text.judges._texts import Units, as_texts, grams, split_units

__all__ = ["distinct_n", "repetition", "self_bleu", "unigram_entropy"]


def unigram_entropy(texts: Sequence[str], *, units: Units = "word", per_text: bool = False) -> float:
    """Bits of the distribution of words, ``-sum_w p(w) log2 p(w)`` with ``p`` the shares of the words in the texts.

    Args:
        texts: what to judge.
        units: what texts are cut into.
        per_text: take the entropy of each text alone and average over the texts that have words, which repetition
            within a text lowers (Zheng et al. 2024, 2409.02908); else that of all words together.

    Raises:
        TypeError: ``texts`` is no list of strings.
        ValueError: no texts, or no words in them.
    """
    rows = split_units(texts, units, "texts")
    if not per_text:
        return _entropy(Counter(chain.from_iterable(rows)))
    filled = [row for row in rows if row]
    return sum(_entropy(Counter(row)) for row in filled) / len(filled)


def _entropy(counts: Counter[str]) -> float:
    total = counts.total()
    return log2(total) - sum(count * log2(count) for count in counts.values()) / total


def distinct_n(texts: Sequence[str], n: int, *, units: Units = "word") -> float:
    """Number of different n-grams over the number of n-grams, of all texts together (Li et al. 2016, 1510.03055).

    1 where no n-gram comes twice. n-grams do not reach from one text into the next. (Some codes divide by the number of
    words, which bounds the figure below 1.)

    Raises:
        TypeError: ``texts`` is no list of strings.
        ValueError: ``n`` below 1, no texts, or none of ``n`` words.
    """
    require(n >= 1, "n", n, "a whole number of at least 1")
    counts = Counter(chain.from_iterable(grams(row, n) for row in split_units(texts, units, "texts")))
    if not counts:
        raise ValueError(f"no text has {n} words: distinct_n needs n-grams, take a smaller n")
    return len(counts) / counts.total()


def repetition(texts: Sequence[str], n: int = 3, *, units: Units = "word") -> float:
    """Mean share of a text's n-grams that came in it before, ``1 - different / all`` (Welleck et al. 2019, 1908.04319).

    Over the texts of at least ``n`` words; shorter ones have no n-gram to repeat.

    Raises:
        TypeError: ``texts`` is no list of strings.
        ValueError: ``n`` below 1, no texts, or none of ``n`` words.
    """
    require(n >= 1, "n", n, "a whole number of at least 1")
    runs = [found for row in split_units(texts, units, "texts") if (found := grams(row, n))]
    if not runs:
        raise ValueError(f"no text has {n} words: repetition needs n-grams, take a smaller n")
    return sum(1 - len(set(found)) / len(found) for found in runs) / len(runs)


def self_bleu(
    texts: Sequence[str], n: int = 4, *, size: int = 100, seed: int = 0, tokenize: str = "13a", lowercase: bool = False
) -> float:
    """Mean BLEU-n of each text against the others as references, in [0, 1] (Zhu et al. 2018, 1802.01886, "Texygen").

    1 where all texts are alike. Sentence BLEU by sacrebleu with its exponential smoothing; texts shorter than ``n``
    words are scored by the n-grams that they have. The cost grows with the square of ``size``.

    Args:
        texts: what to judge, at least two.
        n: longest n-gram.
        size: texts that are drawn without replacement and compared with one another; all, if there are no more.
        seed: of the draw.
        tokenize: sacrebleu's name of a tokenizer ("13a", "intl", "zh", "char").
        lowercase: compare without case.

    Raises:
        ImportError: sacrebleu is missing.
        TypeError: ``texts`` is no list of strings.
        ValueError: fewer than two texts, or ``n`` or ``size`` too small.
    """
    require(n >= 1, "n", n, "a whole number of at least 1")
    require(size >= 2, "size", size, "at least 2 texts to compare")
    texts = as_texts(texts, "texts", at_least=2)
    drawn = random.Random(seed).sample(texts, size) if len(texts) > size else texts
    bleu = need("sacrebleu.metrics", to="compute BLEU", extra="text").BLEU(
        max_ngram_order=n, effective_order=True, tokenize=tokenize, lowercase=lowercase
    )
    scores = [
        bleu.sentence_score(text, drawn[:number] + drawn[number + 1 :]).score for number, text in enumerate(drawn)
    ]
    return sum(scores) / len(scores) / 100
