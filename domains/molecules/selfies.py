"""Molecules as sequences of SELFIES tokens (Krenn et al. 2020, 1905.13741), and back.

Any sequence of tokens decodes to a molecule that respects valences. Token 0 is ``[nop]``, which means nothing: it is
the padding, and may stand anywhere. What of a molecule the tokens do not hold is found by decoding them again. Runs of
tokens that are frequent may be one number, a piece.

A token is a symbol, or that of a branch or ring with the symbols behind it, which are its number: ``[Ring1][=Branch1]``
closes a ring of six.
"""

import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ornstein.core.config import near
from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import quiet
from ornstein.domains.molecules.pieces import Pair, expand_pieces, learn_pieces, merge_pieces
from ornstein.domains.molecules.ragged import ragged, starts_of

__all__ = ["NOTHING", "SelfiesCollector", "SelfiesVocabulary", "Sequences", "index_of", "selfies_of", "symbols_of"]

NOTHING = "[nop]"
DIGITS = (
    "[C]", "[Ring1]", "[Ring2]", "[Branch1]", "[=Branch1]", "[#Branch1]", "[Branch2]", "[=Branch2]", "[#Branch2]",
    "[O]", "[N]", "[=N]", "[=C]", "[#C]", "[S]", "[P]",
)  # fmt: skip
INDEX = {symbol: number for number, symbol in enumerate(DIGITS)}
"""Symbols as digits, to the base of 16 (SELFIES 2.0)."""
COUNTED = re.compile(r"\[.*?(?:Branch|Ring)([1-3])\]")  # a branch or ring, and how many symbols are its number
PIECES_FROM = 20_000  # molecules that pieces are learned from, in seconds


@lru_cache(maxsize=1)
def _libraries() -> tuple[Any, Any]:
    what = {"to": "write molecules as SELFIES", "extra": "molecules"}
    return need("selfies", **what), need("rdkit.Chem", **what)


def selfies_of(mol: Any) -> list[str]:
    """The tokens of a molecule, in the order of its canonical SMILES.

    Args:
        mol: sanitised, or SMILES.

    Raises:
        ValueError: invalid SMILES; valences beyond those of SELFIES (seven bonds of chlorine, say); or a molecule that
            does not come back from its tokens.

    Example:
        >>> selfies_of("OC=C")
        ['[C]', '[=C]', '[O]']
    """
    selfies, Chem = _libraries()
    if isinstance(mol, str):
        text, mol = mol, Chem.MolFromSmiles(mol)
        if mol is None:
            raise ValueError(f"{text!r} is no valid SMILES")
    smiles = Chem.MolToSmiles(mol)
    try:
        tokens = _joined(list(selfies.split_selfies(selfies.encoder(smiles))))
    except selfies.EncoderError as error:
        found = " ".join(str(error).partition("Errors:")[2].split()) or "no reason given"
        raise ValueError(f"SELFIES do not hold it ({found[:80]})") from error
    if not tokens or smiles_of(tokens) != smiles:
        raise ValueError("SELFIES do not hold it (its tokens are another molecule's)")
    return tokens


def symbols_of(token: str) -> list[str]:
    """The symbols of a token.

    >>> symbols_of("[=Branch1][C]")
    ['[=Branch1]', '[C]']
    """
    return list(_libraries()[0].split_selfies(token))


def index_of(symbols: Sequence[str]) -> int:
    """The number that symbols behind a branch or ring stand for: the branch has one symbol more, the ring closes one
    atom further back.

    >>> index_of(["[=Branch1]"]), index_of(["[Ring1]", "[C]"])
    (4, 16)
    """
    return sum(INDEX.get(symbol, 0) * 16**power for power, symbol in enumerate(reversed(symbols)))


def _joined(symbols: list[str]) -> list[str]:
    """Tokens of symbols, branches and rings with their numbers."""
    tokens, place = [], 0
    while place < len(symbols):
        counted = COUNTED.fullmatch(symbols[place])
        end = place + 1 + (int(counted[1]) if counted else 0)
        tokens.append("".join(symbols[place:end]))
        place = end
    return tokens


def smiles_of(tokens: Sequence[str]) -> str:
    """Canonical SMILES of tokens; empty for none."""
    selfies, Chem = _libraries()
    with quiet():
        mol = Chem.MolFromSmiles(selfies.decoder("".join(tokens)))
    return "" if mol is None else Chem.MolToSmiles(mol)


@dataclass(frozen=True)
class SelfiesVocabulary:
    """SELFIES tokens and pieces of several of them, numbered in their order.

    Args:
        tokens: the first of them ``[nop]``.
        pieces: pairs of numbers of tokens or of pieces before them, numbered behind the tokens; see `learn_pieces`.

    Raises:
        ValueError: another first token, one twice, one that is no SELFIES token, or a piece of what is not there.

    Example:
        >>> vocabulary = SelfiesVocabulary(("[nop]", "[C]", "[=C]", "[O]"), pieces=((2, 3),))
        >>> vocabulary.encode("CC=CO").tolist(), vocabulary.decode([1, 1, 4, 0, 0])
        ([1, 1, 4], 'CC=CO')
    """

    tokens: tuple[str, ...]
    pieces: tuple[Pair, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))
        object.__setattr__(self, "pieces", tuple((int(left), int(right)) for left, right in self.pieces))
        require(self.tokens[:1] == (NOTHING,), "tokens", self.tokens[:1], f"{NOTHING!r} first")
        if twice := [token for token in self.tokens if self.tokens.count(token) > 1]:
            raise ValueError(f"tokens hold {twice[0]!r} twice: expected each once")
        if wrong := [t for t in self.tokens if t != "." and not (t.startswith("[") and t.endswith("]"))]:
            raise ValueError(f"tokens hold {wrong[0]!r}: expected SELFIES tokens, such as '[C]' or '[=Branch1]'")
        for number, pair in enumerate(self.pieces, len(self.tokens)):
            require(0 < min(pair) <= max(pair) < number, f"piece {number}", pair, f"two numbers from 1 to {number - 1}")

    def __len__(self) -> int:
        return len(self.tokens) + len(self.pieces)

    @cached_property
    def runs(self) -> list[tuple[str, ...]]:
        """The tokens that each number stands for."""
        return [tuple(self.tokens[i] for i in run) for run in expand_pieces(len(self.tokens), self.pieces)]

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each token."""
        return {token: number for number, token in enumerate(self.tokens)}

    def encode(self, mol: Any) -> Int[Tensor, "tokens"]:
        """The numbers of a molecule's tokens and pieces, ``(n,)`` int64.

        Args:
            mol: sanitised, or SMILES.

        Raises:
            ValueError: as `selfies_of`, or a token that is not in the vocabulary.
        """
        tokens = selfies_of(mol)
        if lost := [token for token in tokens if token not in self.numbers]:
            raise ValueError(
                f"the molecule has {lost[0]!r}{near(lost[0], self.tokens)}, which is not in the vocabulary"
            )
        numbers = np.array([self.numbers[token] for token in tokens])
        return torch.from_numpy(self.merged(Sequences(numbers, starts_of(np.array([len(numbers)])))).tokens)

    def merged(self, sequences: "Sequences") -> "Sequences":
        """Sequences of tokens in pieces."""
        if not self.pieces:
            return sequences
        tokens, starts = merge_pieces(sequences.tokens, sequences.starts, len(self.tokens), self.pieces)
        return Sequences(tokens, starts)

    def decode(self, numbers: Sequence[int] | np.ndarray | Tensor) -> str:
        """Canonical SMILES of tokens ``(n,)``; empty if they are none, or of nothing.

        Raises:
            ValueError: numbers that are not in the vocabulary.
        """
        found = np.asarray(numbers).tolist()
        if wrong := [number for number in found if not 0 <= number < len(self)]:
            raise ValueError(f"token {wrong[0]}: expected 0 to {len(self) - 1}")
        return smiles_of([token for number in found if number for token in self.runs[number]])

    def decode_batch(self, tokens: Int[Tensor, "batch length"], mask: Tensor | None = None) -> list[str]:
        """Canonical SMILES of each row; ``mask`` ``(B, L)`` says which tokens are real, all without one."""
        real = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
        return [self.decode(row[keep]) for row, keep in zip(tokens.cpu(), real.cpu())]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences of tokens, one behind the other.

    Attributes:
        tokens: ``(sum of n,)`` int16, numbers in a vocabulary.
        starts: ``(M + 1,)`` int64, where each sequence begins.
    """

    tokens: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> np.ndarray:
        """``(M,)``, tokens of each sequence."""
        return np.diff(self.starts)

    def batch(self, indices: Sequence[int] | np.ndarray, width: int | None = None) -> dict[str, Any]:
        """Some sequences as a batch ``{"tokens": (B, L), "mask": (B, L)}``, 0 where padded.

        Args:
            indices: which.
            width: tokens to pad to; the longest of them when not given.

        Raises:
            ValueError: a width that is too small.
        """
        _, places, sizes = ragged(self.starts, indices)
        longest = int(sizes.max(initial=1))
        width = longest if width is None else width
        require(width >= longest, "width", width, f"at least {longest} tokens")
        mask = np.arange(width) < sizes[:, None]
        tokens = np.zeros(mask.shape, dtype=np.int64)
        tokens[mask] = self.tokens[places]
        return {"tokens": torch.from_numpy(tokens), "mask": torch.from_numpy(mask)}

    def subset(self, indices: Sequence[int] | np.ndarray) -> "Sequences":
        """Some sequences, in the order given."""
        _, places, sizes = ragged(self.starts, indices)
        return Sequences(self.tokens[places], starts_of(sizes))


class SelfiesCollector:
    """Gathers molecules as SELFIES; the vocabulary is known when all are there. The like of `GraphCollector`.

    Args:
        pieces: how many pieces of tokens are learned, at most.
    """

    def __init__(self, pieces: int = 0) -> None:
        self.pieces = pieces
        self._numbers: dict[str, int] = {}
        self._tokens, self._sizes = array("H"), array("Q")

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, mol: Any) -> None:
        """Add a molecule.

        Raises:
            ValueError: as `selfies_of`.
        """
        tokens = selfies_of(mol)
        numbers = self._numbers
        self._tokens.extend([numbers.setdefault(token, len(numbers)) for token in tokens])
        self._sizes.append(len(tokens))

    def vocabulary(self, min_count: int = 1, rows: Iterable[int] | np.ndarray | None = None) -> SelfiesVocabulary:
        """The tokens of the molecules that were added, most frequent first, behind ``[nop]``.

        Args:
            min_count: how many molecules must have a token.
            rows: numbers of the molecules to learn from; all when not given.

        Raises:
            ValueError: no token is that frequent.
        """
        raw = self._raw()
        raw = raw if rows is None else raw.subset(np.asarray(rows))
        kinds = max(len(self._numbers), 1)
        seen = np.unique(np.repeat(np.arange(len(raw)), raw.sizes) * kinds + raw.tokens) % kinds
        found = np.bincount(seen, minlength=kinds)
        counts = {token: int(found[number]) for token, number in self._numbers.items()}
        tokens = [t for t in sorted(counts, key=lambda t: (-counts[t], t)) if counts[t] >= max(min_count, 1)]
        if not tokens:
            raise ValueError(f"no token that {min_count} molecules have: expected some; give another min_count")
        vocabulary = SelfiesVocabulary((NOTHING, *tokens))
        if not self.pieces:
            return vocabulary
        known, _ = self._in(vocabulary, raw)
        some = known.subset(np.arange(0, len(known), -(-len(known) // PIECES_FROM)))
        pieces = learn_pieces(some.tokens, some.starts, len(vocabulary), self.pieces, max(2, len(some) // 1000))
        return SelfiesVocabulary(vocabulary.tokens, pieces)

    def sequences(self, vocabulary: SelfiesVocabulary) -> tuple[Sequences, dict[int, str]]:
        """All molecules in the tokens and pieces of a vocabulary, and those that it cannot hold: number and reason."""
        known, left_out = self._in(vocabulary, self._raw())
        merged = vocabulary.merged(known)
        return Sequences(merged.tokens.astype(np.int16), merged.starts), left_out

    def _in(self, vocabulary: SelfiesVocabulary, raw: Sequences) -> tuple[Sequences, dict[int, str]]:
        """Sequences in the tokens of a vocabulary, those that it holds, and why not the others."""
        table = np.array([vocabulary.numbers.get(token, -1) for token in self._numbers], dtype=np.int16)
        tokens = table[raw.tokens] if len(raw.tokens) else np.zeros(0, dtype=np.int16)
        names, left_out = list(self._numbers), {}
        for place in np.flatnonzero(tokens < 0)[::-1]:
            row = int(np.searchsorted(raw.starts, place, side="right")) - 1
            left_out[row] = f"a token '{names[raw.tokens[place]]}', which is not in the vocabulary"
        whole = Sequences(tokens, raw.starts)
        kept = np.setdiff1d(np.arange(len(whole)), list(left_out))
        return (whole.subset(kept) if left_out else whole), left_out

    def _raw(self) -> Sequences:
        sizes = np.array(self._sizes, dtype=np.int64)
        return Sequences(np.array(self._tokens, dtype=np.int32), starts_of(sizes))
