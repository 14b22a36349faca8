"""What every judge does first: lists of texts that are checked, and one rule for what a word is.

Words are the pieces of `WordTokenizer`, whether or not a space stood before them: runs of letters, digits and marks
with apostrophes and hyphens inside (``don't``, ``family-friendly``, ``£20-25``), single characters of scripts without
spaces, and each other character by itself. So ``city.`` and ``city .`` read alike, and texts that came out of different
tokenizers can be compared. Case is kept.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from ornstein.domains.text.words import split_words

__all__ = ["Units", "as_texts", "grams", "split_units", "splitter"]

Units = Literal["word", "character"] | Callable[[str], list[str]]
"""What texts are cut into: words by the rule above, characters (code points), or what a function makes of a text."""


def splitter(units: Units) -> Callable[[str], list[str]]:
    """The function that cuts a text into ``units``.

    Raises:
        ValueError: ``units`` is another name than ``"word"`` or ``"character"``.
    """
    if callable(units):
        return units
    if units not in ("word", "character"):
        raise ValueError(
            f"units={units!r}: expected 'word', 'character' or a function from a text to a list of strings"
        )
    return split_words if units == "word" else list


def as_texts(texts: Sequence[str], name: str, *, at_least: int = 1) -> list[str]:
    """``texts`` as a list, if it is a sequence of at least ``at_least`` strings; empty strings are texts.

    Raises:
        TypeError: one string, no sequence, or an item that is no string.
        ValueError: too few.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        raise TypeError(f"{name} must be a list of strings, got {type(texts).__name__}")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{number}] must be a string, got {type(text).__name__}: decode tokens first")
    if len(texts) < at_least:
        raise ValueError(f"{name} holds {len(texts)} texts: expected at least {at_least}")
    return list(texts)


def split_units(texts: Sequence[str], units: Units, name: str) -> list[list[str]]:
    """Each text cut into ``units``, at least one unit in all.

    Raises:
        TypeError: as `as_texts`.
        ValueError: no texts, or nothing but white space in them.
    """
    split = splitter(units)
    rows = [split(text) for text in as_texts(texts, name)]
    if not any(rows):
        raise ValueError(f"{name} holds no words: all {len(rows)} texts are empty")
    return rows


def grams(row: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """The runs of ``n`` neighbouring units of one text, in order."""
    return list(zip(*(row[start:] for start in range(n))))
