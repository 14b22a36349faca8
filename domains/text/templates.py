"""Texts with gaps: what is known of them, in strings, and as tokens with the places that are free."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.domains.text.tokenizers import Tokenizer

__all__ = ["Gap", "Template", "parse_template"]

Gap = int | None
"""Tokens of a gap, or None for as many as fit."""

Template = str | Sequence[str | int | None]
"""A text with ``[3]`` for a gap of three tokens and ``[...]`` for one of any length, or its parts one by one."""

GAP = re.compile(r"\[(\d+|\.\.\.|…)\]")


def parse_template(template: Template) -> list[str | Gap]:
    """The parts of a template.

    >>> parse_template("the [1] is [...]")
    ['the ', 1, ' is ', None]

    Raises:
        TypeError: a part of another kind.
        ValueError: a template without a gap, or a gap of no tokens.
    """
    if isinstance(template, str):
        pieces = GAP.split(template)
        parts: list[str | Gap] = []
        for i, piece in enumerate(pieces):
            if i % 2:
                parts.append(int(piece) if piece.isdigit() else None)
            elif piece:
                parts.append(piece)
    else:
        parts = list(template)
    for part in parts:
        if part is not None and (isinstance(part, bool) or not isinstance(part, str | int)):
            raise TypeError(f"a template has a part {part!r}: expected strings, numbers of tokens, or None")
    gaps = [part for part in parts if not isinstance(part, str)]
    if not gaps or any(gap is not None and gap < 1 for gap in gaps):
        raise ValueError(f"template {template!r}: expected at least one gap, [3] or [...], of at least one token")
    return parts


@dataclass(frozen=True)
class Filled:
    """A template with the lengths of its gaps decided.

    Attributes:
        tokens: ``(L,)``, 0 in the gaps.
        given: ``(L,)``, False in the gaps.
    """

    tokens: Tensor
    given: Tensor


def fill_lengths(
    parts: Sequence[str | Gap], tokenizer: Tokenizer, weights: Sequence[float], length: int, u: tuple[float, float]
) -> Filled:
    """Decide how long the free gaps are, and lay the tokens out.

    The length of the whole text is drawn in proportion to ``weights[n]`` from those that leave each free gap a token,
    and what is free is parted among the gaps evenly at random.

    Args:
        parts: of a template.
        tokenizer: of the strings; each is encoded by itself, as what goes on after a gap where it follows one.
        weights: how often a text has ``0, 1, 2, ...`` tokens.
        length: tokens of the longest text.
        u: two uniform numbers, for the length and for its parting.

    Raises:
        ValueError: a text that is too long with its gaps, or holds what the tokenizer does not know.
    """
    ids = [_known(tokenizer, part, i > 0) if isinstance(part, str) else part for i, part in enumerate(parts)]
    free = sum(part is None for part in ids)
    known = sum(len(part) if isinstance(part, list) else part or 0 for part in ids)
    if known + free > length:
        raise ValueError(f"the text has {known + free} tokens with its gaps: the model takes at most length={length}")
    sizes = []
    if free:
        likely = [weights[n] if n < len(weights) else 0.0 for n in range(known + free, length + 1)]
        likely = likely if sum(likely) > 0 else [1.0] * len(likely)  # no text of the data is as long: any will do
        total = known + free + _pick(likely, u[0])
        sizes = _parted(total - known, free, u[1])
    tokens, given = [], []
    for part in ids:
        gap = 0 if isinstance(part, list) else sizes.pop() if part is None else part
        tokens += part if isinstance(part, list) else [0] * gap
        given += [isinstance(part, list)] * (len(part) if isinstance(part, list) else gap)
    return Filled(torch.tensor(tokens, dtype=torch.int64), torch.tensor(given, dtype=torch.bool))


def _known(tokenizer: Tokenizer, part: str, goes_on: bool) -> list[int]:
    """The tokens of a part; behind a word, if it goes on after a gap, since a comma there is another token."""
    ids = tokenizer.encode(part)
    if goes_on and not part[:1].isspace():
        anchor = next(i for i in range(tokenizer.size) if tokenizer.decode([i]).isalnum())
        together = tokenizer.encode(tokenizer.decode([anchor]) + part)
        ids = together[1:] if together[:1] == [anchor] else ids
    if tokenizer.unknown is not None and tokenizer.unknown in ids:
        raise ValueError(f"{part!r} holds a word that the tokenizer does not know, so that it could not stay as it is")
    return ids


def _pick(weights: Sequence[float], u: float) -> int:
    left = u * sum(weights)
    for i, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return i
    return max(i for i, weight in enumerate(weights) if weight > 0)


def _parted(total: int, parts: int, u: float) -> list[int]:
    """``total`` in ``parts`` numbers of at least 1; the number ``u`` decides all of them."""
    sizes = []
    for left in range(parts, 1, -1):
        most = total - left + 1
        spread = u * most
        size = 1 + min(int(spread), most - 1)
        u = spread - int(spread)
        sizes.append(size)
        total -= size
    return [*sizes, total]
