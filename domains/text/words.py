"""Words and punctuation marks as tokens, with the spaces between them kept."""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np

from ornstein.domains.text.tokenizers import Tokenizer, checked_text, listed, printable

__all__ = ["WordTokenizer", "split_words"]

JOINED = "##"  # before a piece that follows the one before it without a space, as in WordPiece
CURRENCIES = "£$€¥"
# Scripts that are written without spaces between words: kana and Han, Thai and Lao, Burmese, Khmer.
UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3040, 0x30FF),
    (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
)  # fmt: skip


@cache
def _letters() -> str:
    """Letters, digits, ``_`` and combining marks as a regular expression's set, without the unspaced scripts."""
    inside = np.zeros(sys.maxunicode + 2, dtype=bool)
    for code in range(sys.maxunicode + 1):
        c = chr(code)
        inside[code] = c.isalnum() or c == "_" or unicodedata.category(c)[0] == "M"
    for low, high in UNSPACED:
        inside[low : high + 1] = False
    edges = np.flatnonzero(np.diff(inside, prepend=False)).reshape(-1, 2)
    return "".join(f"\\U{low:08x}-\\U{high - 1:08x}" for low, high in edges)


@cache
def _pieces(unknown_symbol: str) -> re.Pattern[str]:
    run = f"[{CURRENCIES}]?[{_letters()}]+"
    # Where a piece ends depends on what follows its start alone: spaces put between pieces never change the pieces.
    inner = "(?:['’\u200c\u200d-]|(?<=\\d)[.,:](?=\\d))"
    return re.compile(f"{re.escape(unknown_symbol)}|{run}(?:{inner}{run})*|\\S")


def split_words(text: str, unknown_symbol: str = "<unk>") -> list[str]:
    """The words and marks of a text by the rule of `WordTokenizer`, wherever spaces stand between them."""
    return _pieces(unknown_symbol).findall(text)


@dataclass(frozen=True)
class WordTokenizer(Tokenizer):
    """One id a word or punctuation mark; spaces come back where they were.

    A piece is a run of letters, digits and combining marks, with a currency sign before it and with apostrophes,
    hyphens and (between digits) ``. , :`` inside, so that ``don't``, ``family-friendly``, ``£20-25`` and ``3.5`` stay
    whole; or any other single character. In scripts without spaces (Chinese, Japanese, Thai) each character is a piece.
    A piece written without a space before it is the word ``"##" + piece``: ``"centre, (see"`` is ``centre ##, (
    ##see``. So punctuation attaches exactly as it did in the text. A joined piece that is not among the words is read
    as the same piece with a space before it, if that is; other pieces are unknown.

    The ids are those of ``words`` in their order, then the unknown symbol, then the boundary.

    Args:
        words: pieces, with ``##`` before joined ones, each once.
        lower: turn texts to small letters first.
        unknown_symbol: what unknown pieces are written as; in a text it is read as unknown too.

    Raises:
        ValueError: no words, one twice, or one that the rule above would never cut out.

    Example:
        >>> tokenizer = WordTokenizer.fit(["The Mill is cheap (less than £20).", "The Mill, by the river."])
        >>> tokenizer.normalise("The  Mill (by the river) is\\nfree.")
        'The Mill ( by the river) is <unk>.'
    """

    words: Sequence[str] = field(repr=False)
    lower: bool = False
    unknown_symbol: str = "<unk>"

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        if not self.words:
            raise ValueError("words is empty: expected at least one; WordTokenizer.fit(texts) finds them")
        if not self.unknown_symbol or self._lowered(self.unknown_symbol) != "".join(self.unknown_symbol.split()):
            raise ValueError(
                f"unknown_symbol={self.unknown_symbol!r}: expected a symbol without spaces, in small letters if lower"
            )
        if twice := [word for word, count in Counter(self.words).items() if count > 1]:
            raise ValueError(f"words hold {twice[0]!r} more than once: expected each word once")
        for word in self.words:
            piece = word.removeprefix(JOINED) or word
            match = _pieces(self.unknown_symbol).fullmatch(self._lowered(checked_text(piece)))
            if match is None or self._lowered(piece) != piece or piece == self.unknown_symbol:
                raise ValueError(
                    f"words hold {word!r}, which no text is cut into (lower={self.lower}); WordTokenizer.fit(texts) "
                    "shows the form"
                )

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        *,
        min_count: int = 1,
        max_words: int | None = None,
        lower: bool = False,
        unknown_symbol: str = "<unk>",
    ) -> "WordTokenizer":
        """The tokenizer of the words in ``texts``, the most frequent first, equal ones in the order of their letters.

        Args:
            texts: what to count in.
            min_count: how often a word must occur to be kept.
            max_words: how many words to keep at most.
            lower, unknown_symbol: as in the constructor.

        Raises:
            ValueError: no word is left.
        """
        counts: Counter[str] = Counter()
        for text in listed(texts):
            counts.update(_cut(checked_text(text).lower() if lower else text, _pieces(unknown_symbol)))
        for form in (unknown_symbol, JOINED + unknown_symbol):
            counts.pop(form, None)
        kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        if not kept[:max_words]:
            raise ValueError(
                f"no word is left of {len(counts)} with min_count={min_count} and max_words={max_words}; give more "
                "texts or a smaller min_count"
            )
        return cls(tuple(kept[:max_words]), lower, unknown_symbol)

    def _lowered(self, text: str) -> str:
        return text.lower() if self.lower else text

    @cached_property
    def _table(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @property
    def size(self) -> int:
        return len(self.words) + 2

    @property
    def unknown(self) -> int:
        return len(self.words)

    @property
    def boundary(self) -> int:
        return len(self.words) + 1

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        written = (*self._written, " " + self.unknown_symbol)
        return (*map(printable, written), "⏎")

    @cached_property
    def _written(self) -> tuple[str, ...]:
        return tuple(word[len(JOINED) :] if _is_joined(word) else " " + word for word in self.words)

    def encode_text(self, text: str) -> list[int]:
        table, unknown, ids = self._table, self.unknown, []
        for piece in _cut(self._lowered(text), _pieces(self.unknown_symbol)):
            found = table.get(piece)
            if found is None and _is_joined(piece):
                found = table.get(piece[len(JOINED) :])
            ids.append(unknown if found is None else found)
        return ids

    def decode_ids(self, ids: list[int]) -> str:
        written = (*self._written, " " + self.unknown_symbol)
        # A joined piece at the very start has nothing to join; only the space before a first free word goes.
        return "".join([written[i] for i in ids]).removeprefix(" ")


def _is_joined(piece: str) -> bool:
    # No piece but a joined one has "##" and more: a mark such as "#" is a piece by itself.
    return len(piece) > len(JOINED) and piece.startswith(JOINED)


def _cut(text: str, pattern: re.Pattern[str]) -> list[str]:
    """The pieces of a text, ``##`` before those that follow the one before them without a space."""
    pieces, last = [], -1
    for match in pattern.finditer(text):
        start, end = match.span()
        pieces.append(JOINED + match.group() if start == last else match.group())
        last = end
    return pieces
