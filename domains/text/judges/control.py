"""Whether texts do what they were asked to: the controls of Diffusion-LM (Li et al. 2022, 2205.14217, section 6).

| control | judged by | gives |
| --- | --- | --- |
| semantic content | `attribute_occurs` | whether a phrase for the value stands in the text |
| length | `length_within` | whether the number of words is within a tolerance |
| parts of speech | `tag_agreement` | share of the places where the tag is the one asked for |
| syntax tree | `tree_agreement` | F-measure of labelled spans |
| span | `span_occurs` | whether the parse has the labelled span |
| infilling | `infill_intact` | whether the text given is still there, in order, with gaps as long as asked for |

Outcomes are lists, one entry a text. `control_success` turns those of one or several controls into rates with
confidence intervals, and into the rate of all at once; of agreements, say which are successes (``a == 1``).
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ornstein.core.schedules import require
from ornstein.domains.text.judges._texts import Units, as_texts, splitter

__all__ = ["Rate", "control_success", "infill_intact", "length_within", "wilson_interval"]


class Rate(NamedTuple):
    """A share of successes with its Wilson interval."""

    rate: float
    low: float
    high: float
    trials: int


def wilson_interval(successes: int, count: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of Wilson (1927) for a share: the shares ``p`` that a normal test does not reject.

    ``(s + z^2 / 2 +- z sqrt(s (n - s) / n + z^2 / 4)) / (n + z^2)`` for ``s`` successes of ``n`` and the normal
    quantile ``z``. Within [0, 1], and of width above 0 for shares of 0 and 1.

    Raises:
        ValueError: no trials, more successes than trials, or ``confidence`` not between 0 and 1.
    """
    require(count >= 1, "count", count, "at least one trial")
    require(0 <= successes <= count, "successes", successes, f"from 0 to {count}")
    require(0 < confidence < 1, "confidence", confidence, "between 0 and 1")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (successes + z * z / 2) / (count + z * z)
    reach = z * math.sqrt(successes * (count - successes) / count + z * z / 4) / (count + z * z)
    low, high = max(0.0, centre - reach), min(1.0, centre + reach)
    return (0.0 if successes == 0 else low), (1.0 if successes == count else high)


def control_success(
    outcomes: Sequence[bool] | Mapping[str, Sequence[bool]], *, confidence: float = 0.95
) -> dict[str, Rate]:
    """The rate at which controls succeed, with its Wilson interval.

    Args:
        outcomes: whether each text did what it was asked to, for one control, or by name for several controls of the
            same texts. Negate entries for a control that was to be avoided.
        confidence: of the intervals.

    Returns:
        The rate of each control by its name, and under ``"all"`` that of all at once.

    Raises:
        TypeError: an outcome that is neither true nor false.
        ValueError: no outcomes, controls of different numbers of texts, or one named ``"all"``.
    """
    named = dict(outcomes) if isinstance(outcomes, Mapping) else {"": outcomes}
    require("all" not in named, "outcomes", "a control named 'all'", "another name, since all is that of all at once")
    require(len(named) > 0, "outcomes", named, "at least one control")
    counts = {name: len(flags) for name, flags in named.items()}
    require(len(set(counts.values())) == 1, "outcomes", counts, "as many outcomes of each control")
    for name, flags in named.items():
        for number, flag in enumerate(flags):
            if not isinstance(flag, bool | np.bool_):
                raise TypeError(f"outcomes {name!r} hold {flag!r} at {number}: expected True or False for each text")
    joint = [all(flags) for flags in zip(*named.values())]
    rates = {name: _rate(flags, confidence) for name, flags in named.items() if name}
    return rates | {"all": _rate(joint, confidence)}


def _rate(flags: Sequence[bool], confidence: float) -> Rate:
    require(len(flags) > 0, "outcomes", flags, "at least one text")
    successes = sum(map(bool, flags))
    return Rate(successes / len(flags), *wilson_interval(successes, len(flags), confidence=confidence), len(flags))


def length_within(
    texts: Sequence[str], targets: Sequence[int], *, tolerance: int = 2, units: Units = "word"
) -> list[bool]:
    """Whether the length of each text is within ``tolerance`` of the one asked for.

    Args:
        texts: what was written.
        targets: lengths asked for.
        tolerance: words too few or too many that are no failure.
        units: what is counted. Words include punctuation marks, as tokens do in Diffusion-LM.

    Raises:
        TypeError: ``texts`` is no list of strings.
        ValueError: lists of different lengths, or a negative number.
    """
    texts, split = as_texts(texts, "texts"), splitter(units)
    require(len(targets) == len(texts), "targets", f"{len(targets)} targets", f"one for each of the {len(texts)} texts")
    require(tolerance >= 0, "tolerance", tolerance, "at least 0")
    require(all(target >= 0 for target in targets), "targets", min(targets), "lengths of at least 0")
    return [abs(len(split(text)) - target) <= tolerance for text, target in zip(texts, targets)]


def infill_intact(
    texts: Sequence[str], templates: Sequence[Sequence[str | int | None]], *, units: Units = "word"
) -> list[bool]:
    """Whether each text still holds what was given around its gaps.

    A template is a row of given strings and gaps: None is a gap of any length, also of none, a number a gap of that
    many words. ``["The pub", None, "by the river."]`` is kept by "The pub serves lunch by the river.". The text must
    match from its first word to its last. Case counts and spacing does not.

    Raises:
        TypeError: ``texts`` is no list of strings, or a piece that is neither a string, a number nor None.
        ValueError: lists of different lengths, an empty template, or a gap of negative length.
    """
    texts, split = as_texts(texts, "texts"), splitter(units)
    require(
        len(templates) == len(texts), "templates", f"{len(templates)} templates", f"one for each of {len(texts)} texts"
    )
    intact = []
    for number, (text, template) in enumerate(zip(texts, templates)):
        if isinstance(template, str):
            raise TypeError(f"templates[{number}]={template!r}: expected a list of strings and gaps")
        require(len(template) > 0, f"templates[{number}]", template, "at least one piece")
        row = split(text)
        ends = {0}
        for piece in template:
            ends = _after(row, ends, split(piece) if isinstance(piece, str) else piece, f"templates[{number}]")
        intact.append(len(row) in ends)
    return intact


def _after(row: list[str], starts: set[int], piece: list[str] | int | None, name: str) -> set[int]:
    """Where a piece may end in ``row`` if it begins at one of ``starts``."""
    if piece is None:
        return set(range(min(starts), len(row) + 1)) if starts else set()
    if isinstance(piece, list):
        return {start + len(piece) for start in starts if row[start : start + len(piece)] == piece}
    if isinstance(piece, bool) or not isinstance(piece, int):
        raise TypeError(f"{name} holds {piece!r}: expected a string, a number of words or None")
    require(piece >= 0, name, piece, "gaps of at least 0 words")
    return {start + piece for start in starts if start + piece <= len(row)}
