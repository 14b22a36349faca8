"""Everything that texts alone can tell about samples, beside the same figures of real texts.

A figure says little without the one that real texts get, at the same number of texts. So the reference is parted in
two: texts to compare with, and real texts that are compared with them as the samples are. With ``heldout_texts`` the
parts are given. Without, the reference is halved, each half is compared with the other, and figures are means of both.

How it is halved matters: of texts that say the same, a half that has some knows the others, and real texts look better
than any new text could. ``groups`` names what must stay together, as the restaurant that a text is about. Without, ten
blocks of neighbours go to the halves in turn, since what belongs together mostly stands side by side in a file.
"""

import random
from collections.abc import Collection, Hashable, Sequence

from ornstein.core.schedules import require
from ornstein.domains.text.judges._texts import Units, as_texts
from ornstein.domains.text.judges.copying import copied_spans
from ornstein.domains.text.judges.diversity import distinct_n, repetition, self_bleu, unigram_entropy
from ornstein.domains.text.judges.mauve import AT_LEAST as MAUVE_AT_LEAST
from ornstein.domains.text.judges.mauve import Features, mauve_score
from ornstein.domains.text.judges.ngram import NgramModel

__all__ = ["MEASURES", "judge_texts"]

MEASURES = ("fluency", "diversity", "mauve", "copying")
"""What `judge_texts` can measure."""

BLOCKS = 10


def judge_texts(
    samples: Sequence[str],
    reference_texts: Sequence[str],
    training_texts: Sequence[str] | None = None,
    *,
    heldout_texts: Sequence[str] | None = None,
    groups: Sequence[Hashable] | None = None,
    measures: Collection[str] = MEASURES,
    order: int = 5,
    units: Units = "word",
    lowercase: bool = False,
    features: Features | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """All figures of samples by name; those with ``real_`` before the name are of real texts.

    | measure | figures |
    | --- | --- |
    | ``fluency`` | ``bits_per_word``, ``unknown_rate`` under an `NgramModel` of the reference; ``bits_ratio`` to real |
    | ``diversity`` | ``unigram_entropy``, ``distinct_1``, ``_2``, ``_3``, ``self_bleu``, ``repetition`` |
    | ``mauve`` | ``mauve``, on `NgramFeatures` unless others are given |
    | ``copying`` | what `copied_spans` finds of ``training_texts``; left out without them |

    ``unigram_entropy`` comes with ``fluency`` too: low bits of texts that all say the same are worth nothing. Bits and
    copies are those of all samples. What depends on the number of texts (diversity, MAUVE) is measured on as many
    samples as real texts, the larger set drawn from with ``seed``; ``texts_compared`` is that number.

    Args:
        samples: what the model wrote.
        reference_texts: real texts that it was not trained on.
        training_texts: what it was trained on.
        heldout_texts: more real texts, to be compared with the reference as the samples are; without them, halves of
            the reference.
        groups: of each reference text, what it must not be parted from when the reference is halved.
        measures: which of `MEASURES`.
        order: of the n-gram model.
        units: what texts are cut into for bits, entropy, distinct n-grams and repetition.
        lowercase: judge without case.
        features: of MAUVE.
        seed: of all draws.

    Raises:
        ImportError: sacrebleu (for ``diversity``) or scikit-learn (for ``mauve``) is missing.
        TypeError: no lists of strings.
        ValueError: too few texts (``mauve`` needs 20 on every side, the others 2), samples without a word, both
            ``groups`` and ``heldout_texts``, fewer than two groups, or an unknown measure.
    """
    measures = {measures} if isinstance(measures, str) else set(measures)
    require(bool(measures) and measures <= set(MEASURES), "measures", sorted(measures), f"some of {MEASURES}")
    fold = str.lower if lowercase else str
    made = list(map(fold, as_texts(samples, "samples", at_least=2)))
    reference = list(map(fold, as_texts(reference_texts, "reference_texts", at_least=2)))
    training = None if training_texts is None else list(map(fold, as_texts(training_texts, "training_texts")))
    require(groups is None or heldout_texts is None, "groups", "groups", "none beside heldout_texts: nothing is halved")
    if heldout_texts is not None:
        pairs = [(reference, list(map(fold, as_texts(heldout_texts, "heldout_texts", at_least=2))))]
    else:
        one, other = _halves(reference, groups, seed)
        pairs = [(one, other), (other, one)]
    _require_enough(made, pairs, measures)
    found = [_figures(made, *pair, measures, order, units, features, seed) for pair in pairs]
    figures = {name: sum(each[name] for each in found) / len(found) for name in found[0]}
    if "fluency" in measures:
        figures["bits_ratio"] = figures["bits_per_word"] / figures["real_bits_per_word"]
    if "copying" in measures and training is not None:
        real = pairs[0][1] if heldout_texts is not None else reference
        for prefix, texts in (("", made), ("real_", real)):
            figures |= {prefix + name: value for name, value in copied_spans(texts, training).summary().items()}
    return figures


def _require_enough(samples: list[str], pairs: list[tuple[list[str], list[str]]], measures: set[str]) -> None:
    sides = {
        "samples": len(samples),
        "real texts on the smaller side": min(len(part) for pair in pairs for part in pair),
    }
    for measure, least in (("mauve", MAUVE_AT_LEAST), ("diversity", 2)):
        for name, count in sides.items():
            if measure in measures and count < least:
                raise ValueError(
                    f"{count} {name}: {measure!r} needs at least {least}; give more (a reference without "
                    "heldout_texts is halved) or leave it out of measures"
                )


def _halves(texts: list[str], groups: Sequence[Hashable] | None, seed: int) -> tuple[list[str], list[str]]:
    """Two halves of whole groups, in random order each to the smaller half; without groups, of blocks in turn."""
    parts: tuple[list[str], list[str]] = ([], [])
    if groups is None:
        blocks = min(BLOCKS, len(texts))
        for number in range(blocks):
            parts[number % 2].extend(texts[number * len(texts) // blocks : (number + 1) * len(texts) // blocks])
        return parts
    require(
        len(groups) == len(texts), "groups", f"{len(groups)} groups", f"one for each of the {len(texts)} references"
    )
    members: dict[Hashable, list[str]] = {}
    for group, text in zip(groups, texts):
        members.setdefault(group, []).append(text)
    require(len(members) >= 2, "groups", f"{len(members)} group", "at least two, to halve the reference by")
    order = list(members.values())
    random.Random(seed).shuffle(order)
    for each in order:
        min(parts, key=len).extend(each)
    return parts


def _figures(
    samples: list[str],
    known: list[str],
    real: list[str],
    measures: set[str],
    order: int,
    units: Units,
    features: Features | None,
    seed: int,
) -> dict[str, float]:
    """The figures of the samples and, after ``real_``, of ``real``, both against ``known``."""
    count = min(map(len, (samples, known, real)))
    draw = random.Random(seed)
    few_known, few_samples, few_real = (
        texts if len(texts) == count else draw.sample(texts, count) for texts in (known, samples, real)
    )
    model = NgramModel(order, units).fit(known) if "fluency" in measures else None
    figures = {"texts_compared": float(count)}
    for prefix, texts, few in (("", samples, few_samples), ("real_", real, few_real)):
        made: dict[str, float] = {}
        if model is not None:
            made["bits_per_word"] = model.bits_per_word(texts)
            made["unknown_rate"] = model.unknown_rate(texts)
        if measures & {"fluency", "diversity"}:
            made["unigram_entropy"] = unigram_entropy(few, units=units)
        if "diversity" in measures:
            made |= {f"distinct_{n}": distinct_n(few, n, units=units) for n in (1, 2, 3)}
            made["self_bleu"] = self_bleu(few, seed=seed)
            made["repetition"] = repetition(few, units=units)
        if "mauve" in measures:
            made["mauve"] = mauve_score(few, few_known, features=features, seed=seed).value
        figures |= {prefix + name: value for name, value in made.items()}
    return figures
