"""How surprising texts are, in every unit: per token, word and character, with the error of the estimate."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ornstein.domains.text.adapter import TextModel

__all__ = ["Perplexity"]

Condition = dict[str, Tensor]
Nats = Callable[[Tensor, Tensor, Tensor | None, Condition], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Perplexity:
    """``-log p`` of texts or an upper bound on it, and what it was divided among.

    Texts that were cut are weighed part by part, each without what stands before it.

    Attributes:
        nats: of each text, ``(N,)``, float64.
        standard_error: Monte-Carlo error of each, 0 where nothing is drawn, ``(N,)``.
        tokens, words, characters: numbers in all texts; words are what stands between spaces.
        exact: whether ``nats`` is the likelihood itself and not a bound.
    """

    nats: Tensor
    standard_error: Tensor
    tokens: int
    words: int
    characters: int
    exact: bool

    @property
    def bits(self) -> float:
        """In all."""
        return float(self.nats.sum()) / math.log(2)

    @property
    def bits_error(self) -> float:
        """Monte-Carlo error of `bits`: of the draws alone, not of the choice of texts."""
        return float(self.standard_error.square().sum().sqrt()) / math.log(2)

    @property
    def per_token(self) -> float:
        """Perplexity of a token, ``2^(bits / tokens)``."""
        return _power(self.bits / self.tokens)

    @property
    def per_word(self) -> float:
        """Perplexity of a word."""
        return _power(self.bits / self.words)

    @property
    def per_character(self) -> float:
        """Perplexity of a character."""
        return _power(self.bits / self.characters)

    @property
    def bits_per_token(self) -> float:
        """Bits divided by tokens."""
        return self.bits / self.tokens

    @property
    def bits_per_word(self) -> float:
        """Bits divided by words."""
        return self.bits / self.words

    @property
    def bits_per_character(self) -> float:
        """Bits divided by characters (code points)."""
        return self.bits / self.characters

    @property
    def bits_per_character_error(self) -> float:
        """Monte-Carlo error of `bits_per_character`."""
        return self.bits_error / self.characters

    def __str__(self) -> str:
        sign = "" if self.exact else "<= "
        error = "" if self.exact else f" +- {self.bits_per_character_error:.4f}"
        return (
            f"{sign}{self.bits_per_character:.4f}{error} bits per character; perplexity {sign}{self.per_token:.4g} per "
            f"token, {sign}{self.per_word:.4g} per word ({self.tokens} tokens, {self.words} words)"
        )


def _power(bits: float) -> float:
    """``2^bits``, infinite where that is too large a number."""
    return 2.0**bits if bits < 1024 else math.inf


def weigh(
    model: "TextModel", nats: Nats, texts: Sequence[str], batch_size: int | None, *, exact: bool, **attributes: Any
) -> Perplexity:
    """The nats of texts, by parts of at most ``model.length`` tokens.

    Args:
        model: whose tokenizer and length count.
        nats: of the numbers ``(B,)`` of some parts, their tokens ``(B, L)``, mask and conditions: value and error
            ``(B,)``.
        texts: of at least a token each.
        batch_size: parts at a time.
        exact: as in `Perplexity`.
        attributes: of the texts.

    Raises:
        ValueError: no texts, or one without tokens.
    """
    ids = model.tokenizer.encode_batch(texts)
    if not ids or not all(ids):
        what = f"text {[bool(one) for one in ids].index(False)} has no tokens" if ids else "texts is empty"
        raise ValueError(f"{what}: expected texts of at least a token each")
    parts = [(i, one[k : k + model.length]) for i, one in enumerate(ids) for k in range(0, len(one), model.length)]
    owners, lengths = torch.tensor([i for i, _ in parts]), torch.tensor([len(part) for _, part in parts])
    conditions = {name: value[owners] for name, value in model.prepare_condition(len(ids), **attributes).items()}

    def work(numbers: Tensor, width: int, told: Condition) -> Tensor:
        tokens = torch.tensor([parts[n][1] + [0] * (width - len(parts[n][1])) for n in numbers.tolist()])
        mask = torch.arange(width) < lengths[numbers, None]
        real = None if bool(mask.all()) else mask.to(model.device)
        return torch.stack([part.double().cpu() for part in nats(numbers, tokens.to(model.device), real, told)], 1)

    found = torch.stack(model.by_size(lengths, work, conditions, batch_size))
    value, error = found[:, 0], found[:, 1]
    return Perplexity(
        torch.zeros(len(ids), dtype=torch.float64).index_add_(0, owners, value),
        torch.zeros(len(ids), dtype=torch.float64).index_add_(0, owners, error**2).sqrt(),
        tokens=int(lengths.sum()),
        words=max(1, sum(len(text.split()) for text in texts)),
        characters=sum(map(len, texts)),
        exact=exact,
    )
