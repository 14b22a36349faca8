"""Whether a text says the value of an attribute.

Text and phrase are compared as rows of words: Unicode form NFKC, case folded, apostrophes dropped (``Brown's`` is
``Browns``), and then each run of letters and digits is a word, with a currency sign before it part of it; everything
else only parts words (``family-friendly`` is ``family friendly``). A phrase occurs where its words stand in the text as
whole words, side by side and in order. For scripts without spaces, ``units="character"`` looks for characters in a row.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ornstein.core.schedules import require
from ornstein.domains.text.judges._texts import Units, as_texts, splitter

__all__ = ["Phrases", "attribute_occurs", "matched_words"]

_WORD = re.compile(r"[$£€¥]?[^\W_]+")
_APOSTROPHES = str.maketrans("", "", "'’‘`´")


def matched_words(text: str) -> list[str]:
    """The words of a text as phrases are compared: see the module's text."""
    return _WORD.findall(unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).casefold())


@dataclass(frozen=True)
class Phrases:
    """What counts as saying a value.

    A mention is denied if one of ``deniers`` stands among the ``window`` words before it. The value is said where a
    phrase of ``accept`` occurs that is not denied, or one of ``denied`` that is: "not family-friendly" denies a mention
    of "family-friendly", which says ``yes`` to nobody and ``no`` to who asks for that.

    Attributes:
        accept: phrases that say it.
        denied: phrases that say it when denied.
        deniers: words that deny; none by default.
        aside: phrases in which a mention does not count: "Indian" in the name "Raja Indian Cuisine".
        window: how many words before a phrase are looked at.

    Raises:
        TypeError: a field that is no tuple of strings.
        ValueError: no phrases, or one without a word; ``denied`` without ``deniers``; ``window`` below 1.
    """

    accept: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    deniers: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    window: int = 4

    def __post_init__(self) -> None:
        for name in ("accept", "denied", "deniers", "aside"):
            phrases = getattr(self, name)
            if not isinstance(phrases, tuple) or not all(isinstance(phrase, str) for phrase in phrases):
                raise TypeError(f"{name}={phrases!r}: expected a tuple of strings")
            require(all(phrase.strip() for phrase in phrases), name, phrases, "phrases that are not empty")
        require(bool(self.accept or self.denied), "accept", self.accept, "at least one phrase in accept or denied")
        require(
            bool(self.deniers) or not self.denied, "deniers", self.deniers, "words that deny, for the phrases denied"
        )
        require(self.window >= 1, "window", self.window, "at least 1 word")


def attribute_occurs(
    texts: Sequence[str],
    values: Sequence[str],
    *,
    phrases: Mapping[str, Phrases | Sequence[str]] | None = None,
    units: Units | None = None,
) -> list[bool]:
    """Whether each text says its value: semantic content as Diffusion-LM counts it (Li et al. 2022, 2205.14217).

    Args:
        texts: what was written.
        values: what each was asked to say.
        phrases: for a value, what counts as saying it: `Phrases`, or the phrases one of which must occur. A value that
            is not in it must occur itself.
        units: how texts and phrases are cut, if not as the module's text says; case is folded before.

    Raises:
        TypeError: no lists of strings.
        ValueError: lists of different lengths, or a value or phrase in which there is no word to look for.
    """
    texts, values = as_texts(texts, "texts"), as_texts(values, "values")
    require(len(texts) == len(values), "values", f"{len(values)} values", f"one for each of the {len(texts)} texts")
    rules = {value: _rule(value, phrases) for value in set(values)}
    return [_says(_cut(text, units), rules[value], units) for text, value in zip(texts, values)]


def _rule(value: str, phrases: Mapping[str, Phrases | Sequence[str]] | None) -> Phrases:
    given = value if phrases is None else phrases.get(value, value)
    if isinstance(given, str):
        given = (given,)
    return given if isinstance(given, Phrases) else Phrases(tuple(given))


def _cut(text: str, units: Units | None) -> list[str]:
    if units is None:
        return matched_words(text)
    return [unit for unit in splitter(units)(unicodedata.normalize("NFKC", text).casefold()) if not unit.isspace()]


def _says(row: list[str], rule: Phrases, units: Units | None) -> bool:
    deniers = {unit for word in rule.deniers for unit in _cut(word, units)}
    for phrase in rule.aside:
        for start in _mentions(row, phrase, units):
            end = start + len(_cut(phrase, units))
            row = row[:start] + [""] * (end - start) + row[end:]  # no word is empty, so nothing is found there

    def denied(start: int) -> bool:
        return not deniers.isdisjoint(row[max(0, start - rule.window) : start])

    return any(not denied(start) for phrase in rule.accept for start in _mentions(row, phrase, units)) or any(
        denied(start) for phrase in rule.denied for start in _mentions(row, phrase, units)
    )


def _mentions(row: list[str], phrase: str, units: Units | None) -> list[int]:
    """Where a phrase starts in a row of words."""
    wanted = _cut(phrase, units)
    require(bool(wanted), "phrase", phrase, "at least one word to look for")
    return [start for start in range(len(row) - len(wanted) + 1) if row[start : start + len(wanted)] == wanted]
