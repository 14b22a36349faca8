"""Documents to rows of one length: packed with boundaries between them, padded with masks, or cut as windows.

With documents ``d_1, d_2, ...`` and the boundary ``b`` the stream is

    d_1  b  d_2  b  ...  b  d_n                 (a boundary between two documents, and none after the last).

| packing | a row is | for |
| --- | --- | --- |
| `Windows` | ``length`` tokens of the stream, from a random place | a long text |
| `Pack` | tokens ``k * length ... (k + 1) * length - 1`` of the stream | many documents, no token idle |
| `Pad` | one document, and padding behind it | short documents, attributes, sequence to sequence |

Rows lie in memory as one array, so a batch is one index into it. Padding holds the boundary, where the mask is False.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.data import Dataset

from ornstein.core.config import near
from ornstein.domains.text.tokenizers import Ids

__all__ = [
    "Documents",
    "Pack",
    "Packing",
    "Pad",
    "TokenRows",
    "TokenWindows",
    "Windows",
    "join",
    "pack",
    "packing_of",
    "pad",
]

Batch = dict[str, Tensor]

STEP = 16  # of the widths of batches
RESERVED = ("tokens", "mask", "segments", "given")  # names of the batch itself, which no attribute may have


@dataclass(frozen=True, eq=False)
class TokenRows(Dataset[Batch]):
    """Rows of tokens in memory; indexed with a list, a whole batch at once.

    Attributes:
        tokens: ``(M, N)`` int32; batches have them as int64.
        mask: ``(M, N)``, True where a token is real; None where all are.
        segments: ``(M, N)`` int32, the number of the document within its row, -1 at padding; None unless asked for.
        given: ``(M, N)``, True at tokens that are known and not noised; None without sources.
        documents: ``(M,)``, the number of the document that a row is (a part of); None where rows hold several.
        conditions: by name ``(M,)`` int64, the attributes of the rows, -1 for none.
        dropped: tokens that are in no row.
    """

    tokens: Int[Tensor, "rows length"]
    mask: Bool[Tensor, "rows length"] | None = None
    segments: Int[Tensor, "rows length"] | None = None
    given: Bool[Tensor, "rows length"] | None = None
    documents: Int[Tensor, "rows"] | None = None
    conditions: Mapping[str, Int[Tensor, "rows"]] = field(default_factory=dict)
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> Batch:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch at once, as wide as its longest row needs; data modules pass it on instead of stacking rows."""
        chosen = torch.as_tensor(indices)
        width = self._width(chosen)
        batch = {"tokens": self.tokens[chosen, :width].long()}
        if self.mask is not None:
            batch["mask"] = self.mask[chosen, :width]
        if self.segments is not None:
            batch["segments"] = self.segments[chosen, :width].long()
        if self.given is not None:
            batch["given"] = self.given[chosen, :width]
        return {**batch, **{name: value[chosen] for name, value in self.conditions.items()}}

    def _width(self, chosen: Tensor) -> int:
        """Tokens of the longest of some rows, in steps of `STEP`, so that there are few shapes to compile."""
        length = self.tokens.shape[1]
        longest = length if self.mask is None else int(self.mask[chosen].sum(1).max())
        return min(length, max(1, -(-longest // STEP)) * STEP)

    def sizes(self) -> Int[Tensor, "rows"]:
        """How many tokens of each row are real and not given."""
        free = torch.ones_like(self.tokens, dtype=torch.bool) if self.mask is None else self.mask
        return (free if self.given is None else free & ~self.given).sum(1)


@dataclass(frozen=True, eq=False)
class TokenWindows(Dataset[Batch]):
    """Windows of a stream, each from a place that is drawn anew whenever it is asked for.

    Window ``i`` of ``n = ceil(S / length)`` starts at ``floor((i + u) S / n)``, ``u`` uniform on [0, 1) from torch's
    global generator (which a data module seeds for each batch) and ``S = len(stream) - length + 1`` the number of
    possible starts. So all starts are equally likely, and an epoch covers the text evenly.

    Args:
        stream: ``(L,)`` int32.
        length: tokens of a window.

    Raises:
        ValueError: the stream is shorter than a window.
    """

    stream: Int[Tensor, "stream"]
    length: int

    def __post_init__(self) -> None:
        _check_length(self.length)
        if len(self.stream) < self.length:
            raise ValueError(
                f"the text has {len(self.stream)} tokens, less than a window of length={self.length}; give a shorter "
                "length, or packing='pad'"
            )

    @property
    def starts(self) -> int:
        """Number of places where a window can start."""
        return len(self.stream) - self.length + 1

    def __len__(self) -> int:
        return -(-self.starts // self.length)

    def __getitem__(self, index: int) -> Batch:
        return {"tokens": self.__getitems__([index])["tokens"][0]}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch at once."""
        places = torch.as_tensor(indices, dtype=torch.float64)
        places = (places + torch.rand(len(places), dtype=torch.float64)) * (self.starts / len(self))
        first = places.long().clamp(max=self.starts - 1)  # rounding may reach the end
        return {"tokens": self.stream.unfold(0, self.length, 1)[first].long()}

    def sizes(self) -> Int[Tensor, "rows"]:
        """``length`` for each window."""
        return torch.full((len(self),), self.length)


def _check_length(length: int) -> None:
    if length < 1:
        raise ValueError(f"length must be at least 1 token, got {length}")


def _flat(documents: Sequence[Ids]) -> tuple[np.ndarray, np.ndarray]:
    """All tokens one behind the other, and the length of each document."""
    if len(documents) == 0:
        raise ValueError("documents is empty: expected at least one")
    arrays = [np.asarray(document, dtype=np.int32) for document in documents]
    return np.concatenate(arrays), np.array([len(array) for array in arrays])


def join(documents: Sequence[Ids], boundary: int) -> tuple[Tensor, Tensor]:
    """The stream of documents with a boundary between each two, and the number of the document at each place.

    Args:
        documents: ids of each document; an empty one leaves two boundaries side by side.
        boundary: the id between them, which counts to the document before it.

    Returns:
        Tokens and numbers, both ``(L,)`` int32.
    """
    tokens, lengths = _flat(documents)
    ends = np.cumsum(lengths + 1) - 1
    stream = np.full(ends[-1] + 1, boundary, dtype=np.int32)
    real = np.ones(len(stream), dtype=bool)
    real[ends] = False
    stream[real] = tokens
    numbers = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths + 1)
    return torch.from_numpy(stream[:-1]), torch.from_numpy(numbers[:-1])


def pack(
    documents: Sequence[Ids],
    length: int,
    boundary: int,
    *,
    segments: bool = False,
    rest: Literal["mask", "drop"] = "mask",
) -> TokenRows:
    """The stream of documents, cut into rows of ``length`` tokens.

    Args:
        documents: ids of each document; long ones go on in the next row.
        length: tokens of a row.
        boundary: the id between documents.
        segments: also give the number of the document within its row, counted from 0 in each.
        rest: what to do with the last ``L mod length`` tokens: a shorter row with a mask, or ``"drop"``, which counts
            them in `TokenRows.dropped`.

    Raises:
        ValueError: no documents, none with a token, a length below 1, or no full row where the rest is dropped.
    """
    _check_length(length)
    if rest not in ("mask", "drop"):
        raise ValueError(f"rest={rest!r}: expected 'mask' or 'drop'")
    stream, numbers = join(documents, boundary)
    if not len(stream):
        raise ValueError("documents hold no token: expected at least one")
    full, over = divmod(len(stream), length)
    if rest == "drop":
        if not full:
            raise ValueError(f"the documents have {over} tokens, no full row of length={length}; give rest='mask'")
        stream, numbers, missing = stream[: full * length], numbers[: full * length], 0
    else:
        missing = (full + (over > 0)) * length - len(stream)
    rows = torch.nn.functional.pad(stream, (0, missing), value=boundary).reshape(-1, length)
    mask = None
    if missing:
        mask = (torch.arange(rows.numel()) < len(stream)).reshape(-1, length)
    inner = None
    if segments:
        inner = torch.nn.functional.pad(numbers, (0, missing), value=-1).reshape(-1, length)
        inner = torch.where(inner < 0, inner, inner - inner[:, :1])
    return TokenRows(rows, mask, inner, dropped=over if rest == "drop" else 0)


def pad(
    documents: Sequence[Ids],
    length: int,
    boundary: int,
    *,
    long: Literal["refuse", "split"] = "refuse",
    fill: bool = False,
    sources: Sequence[Ids] | None = None,
    separator: int | None = None,
) -> TokenRows:
    """One row a document (or a source, the separator and its document), with padding behind.

    Args:
        documents: ids of each document.
        length: tokens of a row.
        boundary: the id that padding holds.
        long: what to do with documents of more than ``length`` tokens: ``"refuse"``, or ``"split"`` into rows of
            ``length`` and a shorter last one.
        fill: count the padding as tokens (no mask), so that a model of full rows learns where texts end.
        sources: the source of each document, for sequence to sequence: True in `TokenRows.given`, with the separator.
        separator: the id between source and document.

    Raises:
        ValueError: no documents, a length below 1, a document that is too long (named by its number, from 0), sources
            of another number, or sources and ``long="split"``.
    """
    _check_length(length)
    if long not in ("refuse", "split"):
        raise ValueError(f"long={long!r}: expected 'refuse' or 'split'")
    known = None
    if sources is not None:
        if separator is None or long == "split" or len(sources) != len(documents):
            raise ValueError(
                f"{len(sources)} sources with {len(documents)} documents, separator={separator} and long={long!r}: "
                "expected as many sources, a separator and long='refuse'"
            )
        known = np.array([len(source) + 1 for source in sources])
        documents = [np.concatenate([source, [separator], text]) for source, text in zip(sources, documents)]
    tokens, lengths = _flat(documents)
    numbers = np.arange(len(lengths))
    if long == "split":
        lengths, numbers = _split(lengths, length)
    elif lengths.max() > length:
        worst = np.flatnonzero(lengths > length)
        longest = int(lengths.max())
        raise ValueError(
            f"document {worst[0]} has {lengths[worst[0]]} tokens{' with its source' if known is not None else ''}, "
            f"more than length={length}, as {len(worst)} of {len(lengths)} do; give length={longest} or more"
            + ("" if known is not None else ", or long='split'")
        )
    mask = torch.arange(length) < torch.from_numpy(lengths)[:, None]
    rows = torch.full(mask.shape, boundary, dtype=torch.int32)
    rows[mask] = torch.from_numpy(tokens)
    given = None if known is None else torch.arange(length) < torch.from_numpy(known)[:, None]
    whole = fill or bool(mask.all())
    return TokenRows(rows, None if whole else mask, given=given, documents=torch.from_numpy(numbers))


def _split(lengths: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The lengths of the parts of all documents, and the number of the document of each."""
    parts = np.maximum(-(-lengths // length), 1)  # an empty document is one empty part
    numbers = np.repeat(np.arange(len(lengths)), parts)
    cut = np.full(parts.sum(), length)
    cut[np.cumsum(parts) - 1] = lengths - (parts - 1) * length
    return cut, numbers


@dataclass(frozen=True)
class Documents:
    """Token ids of documents, with what goes with them.

    Attributes:
        ids: of each document.
        sources: of each document's source; None without.
        conditions: by name ``(M,)`` int64, the attributes of the documents, -1 for none.
        boundary, separator: of the tokenizer.
    """

    ids: Sequence[np.ndarray]
    sources: Sequence[np.ndarray] | None
    conditions: Mapping[str, Tensor]
    boundary: int
    separator: int


class Packing(ABC):
    """How documents become rows: ``train`` for training; ``evaluate`` for held-out texts, each token once.

    A subclass says with ``whole`` whether a row is one document, which sources and attributes need.
    """

    whole: ClassVar[bool] = False

    @abstractmethod
    def train(self, documents: Documents, length: int) -> TokenRows | TokenWindows:
        """The rows to train on."""

    def evaluate(self, documents: Documents, length: int) -> TokenRows:
        """The rows to judge by: no token is left out, and none comes twice."""
        return pack(documents.ids, length, documents.boundary)


@dataclass(frozen=True)
class Windows(Packing):
    """Windows of the stream from random places, see `TokenWindows`; held-out texts are packed."""

    def train(self, documents: Documents, length: int) -> TokenWindows:
        return TokenWindows(join(documents.ids, documents.boundary)[0], length)


@dataclass(frozen=True)
class Pack(Packing):
    """Rows of the stream, see `pack`.

    Args:
        segments: give the number of the document within its row.
        rest: what to do with the last tokens in training; held-out texts keep theirs.
    """

    segments: bool = False
    rest: Literal["mask", "drop"] = "mask"

    def train(self, documents: Documents, length: int) -> TokenRows:
        return pack(documents.ids, length, documents.boundary, segments=self.segments, rest=self.rest)

    def evaluate(self, documents: Documents, length: int) -> TokenRows:
        return pack(documents.ids, length, documents.boundary, segments=self.segments)


@dataclass(frozen=True)
class Pad(Packing):
    """One row a document, see `pad`.

    Args:
        long: what to do with documents that are too long.
        fill: let the model learn the padding.
    """

    whole = True
    long: Literal["refuse", "split"] = "refuse"
    fill: bool = False

    def train(self, documents: Documents, length: int) -> TokenRows:
        rows = pad(
            documents.ids,
            length,
            documents.boundary,
            long=self.long,
            fill=self.fill,
            sources=documents.sources,
            separator=documents.separator,
        )
        conditions = {name: values[rows.documents] for name, values in documents.conditions.items()}
        return replace(rows, conditions=conditions)

    evaluate = train


PACKINGS = {"windows": Windows, "pack": Pack, "pad": Pad}


def packing_of(choice: str | Packing) -> Packing:
    """A packing by its name, ``"windows"``, ``"pack"`` or ``"pad"``, or the packing itself.

    Raises:
        ValueError: another name.
    """
    if isinstance(choice, Packing):
        return choice
    if choice not in PACKINGS:
        raise ValueError(f"packing={choice!r}: expected 'windows', 'pack' or 'pad'{near(str(choice), PACKINGS)}")
    return PACKINGS[choice]()
