"""Tokenizers: text to whole numbers and back, and what is lost on the way.

A tokenizer has the ids ``0 ... size - 1``. One of them, ``boundary``, ends a document, parts those that share a row,
and is what an autoregressive model starts from; ``separator`` stands between the source and the target of sequence to
sequence, and may be the boundary itself. Neither is text: ``decode`` writes nothing for them.

``normalise(x) = decode(encode(x))`` is what of a text a tokenizer keeps, so that a loss can be seen:

| tokenizer | ``normalise(x)`` |
| --- | --- |
| `CharacterTokenizer` | ``x``; unknown characters are refused, or become the unknown symbol if there is one |
| `WordTokenizer` | ``" ".join(x.split())``, in small letters if so asked, rare words as the unknown symbol |
| `SubwordTokenizer` | ``x`` for those that work on bytes; else what the tokenizer's own normaliser leaves |

No tokenizer truncates. A lone surrogate (half of a UTF-16 pair) is no text anywhere, and each refuses it.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from torch import Tensor

__all__ = ["CharacterTokenizer", "Ids", "Tokenizer"]

Ids = Sequence[int] | np.ndarray | Tensor
T = TypeVar("T")


class Tokenizer(ABC):
    """Text to ids ``0 ... size - 1`` and back; a subclass gives ``encode_text``, ``decode_ids`` and the properties.

    The constructor's arguments are plain data: a checkpoint rebuilds the tokenizer from its ``config.json``.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of ids, special ones included."""

    @property
    @abstractmethod
    def boundary(self) -> int:
        """The id that ends a document."""

    @property
    @abstractmethod
    def unknown(self) -> int | None:
        """The id that stands for what has none, or None where nothing is unknown or the unknown is refused."""

    @property
    def separator(self) -> int:
        """The id between source and target; the boundary unless there is one of its own."""
        return self.boundary

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """What each id adds to a text, printable: joined without spaces, symbols read as the text does."""

    @abstractmethod
    def encode_text(self, text: str) -> list[int]:
        """The ids of a text that ``encode`` has checked."""

    @abstractmethod
    def decode_ids(self, ids: list[int]) -> str:
        """The text of ids that ``decode`` has checked, without boundaries and separators."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text; none for the empty text. No boundary is added.

        Raises:
            TypeError: ``text`` is no string.
            ValueError: a lone surrogate, or a character that this tokenizer does not know and may not replace.
        """
        return self.encode_text(checked_text(text))

    def decode(self, ids: Ids) -> str:
        """The text of ids; boundaries and separators write nothing.

        Args:
            ids: whole numbers ``(n,)`` in ``0 ... size - 1``: a list, an array or a tensor.

        Raises:
            TypeError: numbers that are not whole.
            ValueError: another shape, or an id out of range.
        """
        return self.decode_ids([i for i in self._checked(ids) if i not in (self.boundary, self.separator)])

    def split(self, ids: Ids) -> list[str]:
        """The texts between the boundaries of a packed row: one more than there are boundaries."""
        texts: list[list[int]] = [[]]
        for i in self._checked(ids):
            if i == self.boundary:
                texts.append([])
            else:
                texts[-1].append(i)
        return [self.decode(part) for part in texts]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """``encode`` of each text; an error names the number of its text, from 0."""
        return [numbered(number, self.encode, text) for number, text in enumerate(listed(texts))]

    def normalise(self, text: str) -> str:
        """What of a text survives: ``decode(encode(text))``."""
        return self.decode(self.encode(text))

    def _checked(self, ids: Ids) -> list[int]:
        array = np.asarray(ids)
        if array.size == 0:
            return []
        if array.ndim != 1:
            raise ValueError(f"ids have shape {array.shape}: expected one text, (n,)")
        if array.dtype.kind not in "iu":
            raise TypeError(f"ids have dtype {array.dtype}: expected whole numbers")
        wrong = (array < 0) | (array >= self.size)
        if wrong.any():
            where = int(wrong.argmax())
            raise ValueError(f"ids hold {array[where]} at position {where}: expected 0 to size - 1 = {self.size - 1}")
        return array.tolist()


def listed(texts: Iterable[str]) -> Iterable[str]:
    """``texts``, after a check that they are several and not the characters of one."""
    if isinstance(texts, str):
        raise TypeError("texts is one string: expected a list of strings; give [text]")
    return texts


def numbered(number: int, check: Callable[[str], T], text: str, what: str = "text") -> T:
    """``check(text)``, with the number of the text in its error."""
    try:
        return check(text)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what} {number}: {error}") from None


def checked_text(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"text is of type {type(text).__name__}: expected a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text holds the lone surrogate U+{ord(text[error.start]):04X} at position {error.start}, which is no "
            "character; repair it, for example with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from None
    return text


def printable(text: str) -> str:
    """``text`` with characters that a screen does not show as their escapes; spaces stay."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True)
class CharacterTokenizer(Tokenizer):
    """One id a character (Unicode code point), from a given alphabet; the boundary is the last id.

    Args:
        characters: the alphabet, in the order of the ids, each character once.
        unknown_symbol: a further character that stands for all others, such as ``"\\ufffd"``; without it they are
            refused.

    Raises:
        ValueError: a character twice, a lone surrogate, an empty alphabet, an unknown symbol that is not one further
            character.

    Example:
        >>> tokenizer = CharacterTokenizer.fit(["abba", "c d"])
        >>> tokenizer.characters, tokenizer.size, tokenizer.boundary
        (' abcd', 6, 5)
        >>> tokenizer.encode("bad")
        [2, 1, 4]
    """

    characters: str
    unknown_symbol: str | None = None

    def __post_init__(self) -> None:
        checked_text(self.characters)
        if not self.characters:
            raise ValueError("characters is empty: expected an alphabet; CharacterTokenizer.fit(texts) finds one")
        if twice := [c for c, count in Counter(self.characters).items() if count > 1]:
            raise ValueError(f"characters hold {twice[0]!r} more than once: expected each character once")
        if self.unknown_symbol is not None and (
            len(checked_text(self.unknown_symbol)) != 1 or self.unknown_symbol in self.characters
        ):
            raise ValueError(
                f"unknown_symbol={self.unknown_symbol!r}: expected one character that is not among characters"
            )

    @classmethod
    def fit(cls, texts: Iterable[str], *, unknown_symbol: str | None = None) -> "CharacterTokenizer":
        """The tokenizer of all characters in ``texts``, sorted by code point.

        Raises:
            ValueError: there is no character in the texts.
        """
        found: set[str] = set()
        for text in listed(texts):
            found.update(text)
        if not found - {unknown_symbol}:
            raise ValueError("texts hold no character: expected at least one text that is not empty")
        return cls("".join(sorted(found - {unknown_symbol})), unknown_symbol)

    @cached_property
    def _table(self) -> dict[str, int]:
        return {c: i for i, c in enumerate(self.characters + (self.unknown_symbol or ""))}

    @property
    def size(self) -> int:
        return len(self._table) + 1

    @property
    def boundary(self) -> int:
        return len(self._table)

    @property
    def unknown(self) -> int | None:
        return None if self.unknown_symbol is None else len(self.characters)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        return (*map(printable, self._table), "⏎")

    def encode_text(self, text: str) -> list[int]:
        table, unknown = self._table, self.unknown
        if unknown is not None:
            return [table.get(c, unknown) for c in text]
        try:
            return [table[c] for c in text]
        except KeyError as error:
            c = error.args[0]
            raise ValueError(
                f"text has {c!r} (U+{ord(c):04X}) at position {text.index(c)}, which is not in the alphabet of "
                f"{len(self.characters)} characters; fit the tokenizer on texts that hold it, or give "
                r"unknown_symbol='\ufffd'"
            ) from None

    def decode_ids(self, ids: list[int]) -> str:
        letters = self.characters + (self.unknown_symbol or "")
        return "".join([letters[i] for i in ids])
