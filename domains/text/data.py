"""The base of the data modules: texts to tokens once, then batches that are one index into an array."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

from ornstein.core.config import near
from ornstein.core.sizes import SizeDistribution
from ornstein.core.training.data import DataModule
from ornstein.domains.text.packing import RESERVED, Documents, Packing, TokenRows, TokenWindows, packing_of
from ornstein.domains.text.pretrained import SubwordTokenizer
from ornstein.domains.text.reading import Texts
from ornstein.domains.text.tokenizers import CharacterTokenizer, Tokenizer, numbered
from ornstein.domains.text.words import WordTokenizer

__all__ = ["DataReport", "Split", "TextReference", "TokenData", "TokenizerRecipe", "split_texts"]

Kind = Literal["character", "word", "bpe", "wordpiece", "unigram"]

# Texts that are encoded between two conversions to arrays: lists of Python numbers take eight times the memory.
CHUNK = 1024


class Split(NamedTuple):
    """Texts to train on, texts held out to judge by, and texts for the validation loss (the held-out ones if None)."""

    train: Texts
    heldout: Texts
    validation: Texts | None = None


@dataclass(frozen=True)
class TextReference:
    """Real texts to judge samples by, as they were read: not cut to rows and not normalised.

    Attributes:
        train: the documents that the model saw, for the check of copies.
        heldout: the documents that it did not see.
        train_attributes, heldout_attributes: by name, the value of each document, None where it has none.
        train_sources, heldout_sources: the source of each document; None without.
    """

    train: list[str]
    heldout: list[str]
    train_attributes: dict[str, list[str | None]] = field(default_factory=dict)
    heldout_attributes: dict[str, list[str | None]] = field(default_factory=dict)
    train_sources: list[str] | None = None
    heldout_sources: list[str] | None = None


@dataclass(frozen=True)
class DataReport:
    """What became of the texts of one part.

    Attributes:
        documents: how many there are.
        tokens: of the documents, sources included, boundaries between them not.
        unknown: tokens that are the unknown symbol.
        rows: rows (or windows) of an epoch.
        dropped: tokens that are in no row.
        left_out: what reading left out, such as ``{"blank lines": 3}``.
        unseen: by attribute, documents whose value training does not have; their number is -1, as for none.
    """

    documents: int
    tokens: int
    unknown: int
    rows: int
    dropped: int
    left_out: dict[str, int]
    unseen: dict[str, int]


@dataclass(frozen=True)
class TokenizerRecipe:
    """A tokenizer that is to be learned from the texts of a data module.

    Args:
        kind: `CharacterTokenizer`, `WordTokenizer`, or `SubwordTokenizer` by ``"bpe"``, ``"wordpiece"``, ``"unigram"``.
        size: words, or ids of a subword tokenizer (4,096 when not given), at most.
        min_count: how often a word must occur; for words.
        lower: turn texts to small letters; for words.

    Raises:
        ValueError: another kind, or an option that the kind does not have.
    """

    kind: Kind = "word"
    size: int | None = None
    min_count: int = 1
    lower: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            kinds = ", ".join(map(repr, get_args(Kind)))
            raise ValueError(f"tokenizer kind {self.kind!r}: expected {kinds}{near(str(self.kind), get_args(Kind))}")
        if self.kind != "word" and (self.min_count, self.lower) != (1, False):
            raise ValueError(f"min_count and lower are options of 'word', not of {self.kind!r}; leave them out")
        if self.kind == "character" and self.size is not None:
            raise ValueError("size is no option of the kind 'character', which has all characters; leave it out")

    def fit(self, train: Sequence[str], others: Sequence[str]) -> Tokenizer:
        """Learn words and subwords from the training texts; characters from all, so that held-out texts can be read."""
        if self.kind == "character":
            return CharacterTokenizer.fit([*train, *others])
        if self.kind == "word":
            return WordTokenizer.fit(train, min_count=self.min_count, max_words=self.size, lower=self.lower)
        return SubwordTokenizer.train(train, self.kind, 4096 if self.size is None else self.size)


class TokenData(DataModule):
    """Base of the data modules here: a subclass gives ``texts``, the texts to train on and those held out.

    Texts are read and encoded when first asked for. A batch is a dict with ``"tokens"`` ``(B, length)`` int64, and
    where there is need for them ``"mask"`` (True where real), ``"segments"`` and ``"given"`` of that shape, and each
    attribute by its name, ``(B,)`` int64, -1 for none; see `TokenRows`.

    Args:
        tokenizer: a `Tokenizer`; a `TokenizerRecipe` to learn one by, or its kind: ``"character"``, ``"word"``,
            ``"bpe"``, ``"wordpiece"`` or ``"unigram"``. Read back, it is the tokenizer learned, as a run's
            configuration keeps it.
        length: tokens of a row.
        packing: a `Packing`, or ``"windows"``, ``"pack"`` or ``"pad"``.
        attributes: names of attributes, or each with its values in the order of their numbers; the values seen in
            training, sorted, when not given. They need ``packing="pad"``.
        batch_size, num_workers: as in `DataModule`.

    Raises:
        ValueError: a length below 1, attributes with rows that hold several documents, or one called like a part of the
            batch.
    """

    def __init__(
        self,
        tokenizer: str | TokenizerRecipe | Tokenizer = "character",
        length: int = 128,
        packing: str | Packing = "windows",
        attributes: Sequence[str] | Mapping[str, Sequence[str]] = (),
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        if length < 1:
            raise ValueError(f"length must be at least 1 token, got {length}")
        if isinstance(attributes, str):
            raise TypeError(f"attributes={attributes!r} is one string: expected a list of names; give [{attributes!r}]")
        self.length, self.packing = length, packing
        self._packing = packing_of(packing)
        # The name is judged by the recipe.
        self._tokenizer = TokenizerRecipe(tokenizer) if isinstance(tokenizer, str) else tokenizer  # type: ignore[arg-type]
        self._chosen_attributes = attributes
        if taken := [name for name in attributes if name in RESERVED]:
            raise ValueError(f"an attribute is called {taken[0]!r}, as a part of the batch is; rename the column")
        if attributes and not self._packing.whole:
            raise ValueError(
                f"packing={packing!r} puts several documents into a row, and attributes ({', '.join(attributes)}) "
                "belong to one; give packing='pad'"
            )
        self._split: Split | None = None
        self._rows: dict[str, tuple[TokenRows | TokenWindows, DataReport]] = {}

    def texts(self) -> Split:
        """Read the source. Called once."""
        raise NotImplementedError

    @property
    def split(self) -> Split:
        """``texts()``, read when first asked for."""
        if self._split is None:
            split = self.texts()
            if split.train.sources is not None and not self._packing.whole:
                raise ValueError(f"packing={self.packing!r}: a source belongs to one document; give packing='pad'")
            self._split = split
        return self._split

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, learned from the training texts (and their sources) where none was given."""
        if isinstance(self._tokenizer, TokenizerRecipe):
            train, *others = [part for part in self.split if part is not None]
            known = [text for part in others for text in _all_texts(part)]
            self._tokenizer = self._tokenizer.fit(_all_texts(train), known)
        return self._tokenizer

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """The values of each attribute, in the order of their numbers."""
        if isinstance(self._chosen_attributes, Mapping):
            return {name: tuple(values) for name, values in self._chosen_attributes.items()}
        seen = self.split.train.attributes if self._chosen_attributes else {}
        return {name: tuple(sorted({v for v in seen[name] if v is not None})) for name in self._chosen_attributes}

    @property
    def lengths(self) -> tuple[float, ...]:
        """How often training rows have ``0, 1, 2, ...`` tokens that are real and not given: `SizeDistribution.counts`.

        With padding, these are the lengths of the documents (of the targets in sequence to sequence).
        """
        return SizeDistribution.fit(self._encoded("train")[0].sizes()).counts

    def report(self, part: Literal["train", "heldout", "validation"] = "train") -> DataReport:
        """What became of the texts of a part: how many there are, and what is unknown, dropped or left out."""
        return self._encoded(part)[1]

    def train_dataset(self) -> TokenRows | TokenWindows:
        """The rows to train on."""
        return self._encoded("train")[0]

    def validation_dataset(self) -> TokenRows | TokenWindows:
        """The rows for the validation loss."""
        return self._encoded("validation" if self.split.validation is not None else "heldout")[0]

    def heldout_dataset(self) -> TokenRows | TokenWindows:
        """The rows to judge by."""
        return self._encoded("heldout")[0]

    def reference(self) -> TextReference:
        """The texts of training and those held out, as they were read."""
        train, heldout, _ = self.split
        return TextReference(
            train.texts, heldout.texts, train.attributes, heldout.attributes, train.sources, heldout.sources
        )

    def collate(self, samples: Any) -> Any:
        """A batch of rows, which come as a batch already."""
        return samples if isinstance(samples, dict) else super().collate(samples)

    def _encoded(self, name: str) -> tuple[TokenRows | TokenWindows, DataReport]:
        if name not in self._rows:
            part: Texts | None = getattr(self.split, name)
            if part is None:
                raise ValueError(f"{type(self).__name__} has no part {name!r}; the validation loss uses 'heldout'")
            documents, unseen = self._documents(name, part)
            make = self._packing.train if name == "train" else self._packing.evaluate
            rows = make(documents, self.length)
            ids = [*documents.ids, *(documents.sources or [])]
            unknown = self.tokenizer.unknown
            report = DataReport(
                documents=len(part),
                tokens=sum(map(len, ids)),
                unknown=0 if unknown is None else sum(int((array == unknown).sum()) for array in ids),
                rows=len(rows),
                dropped=rows.dropped if isinstance(rows, TokenRows) else 0,
                left_out=part.left_out,
                unseen=unseen,
            )
            self._rows[name] = rows, report
        return self._rows[name]

    def _documents(self, name: str, part: Texts) -> tuple[Documents, dict[str, int]]:
        conditions, unseen = {}, {}
        for attribute, values in self.attributes.items():
            if attribute not in part.attributes:
                raise ValueError(f"the {name} texts have no attribute {attribute!r}{near(attribute, part.attributes)}")
            numbers = {value: number for number, value in enumerate(values)}
            given = part.attributes[attribute]
            conditions[attribute] = torch.tensor([numbers.get(v, -1) if v is not None else -1 for v in given])
            if missing := sum(v is not None and v not in numbers for v in given):
                unseen[attribute] = missing
        ids = _ids(self.tokenizer, part.texts, f"{name} text")
        sources = None if part.sources is None else _ids(self.tokenizer, part.sources, f"{name} source")
        return Documents(ids, sources, conditions, self.tokenizer.boundary, self.tokenizer.separator), unseen


def _all_texts(part: Texts) -> list[str]:
    return [*part.texts, *(part.sources or [])]


def _ids(tokenizer: Tokenizer, texts: Sequence[str], what: str) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for start in range(0, len(texts), CHUNK):
        try:
            chunk = tokenizer.encode_batch(texts[start : start + CHUNK])
        except (TypeError, ValueError):
            # Once more one by one, for the number of the text among all.
            for number, text in enumerate(texts[start : start + CHUNK], start):
                numbered(number, tokenizer.encode, text, what)
            raise
        found += [np.array(ids, dtype=np.int32) for ids in chunk]
    return found


def split_texts(texts: Texts, holdout: float, seed: int) -> tuple[Texts, Texts]:
    """Split documents in two, a part ``holdout`` of them in the second, drawn by ``seed``, both in their order.

    A single document is cut instead: the last part ``holdout`` of its characters is the second.

    Raises:
        ValueError: a part that is not between 0 and 1, or so small or large that one side would be empty.
    """
    if not 0 < holdout < 1:
        raise ValueError(f"holdout={holdout}: expected a part of the texts, between 0 and 1")
    count = len(texts) if len(texts) > 1 else len(texts.texts[0])
    heldout = round(holdout * count)
    if not 0 < heldout < count:
        unit = "documents" if len(texts) > 1 else "characters"
        raise ValueError(f"cannot hold out {heldout} of {count} {unit}; give another holdout")
    if len(texts) == 1:
        cut, whole = count - heldout, texts.texts[0]
        first, second = Texts([whole[:cut]], left_out=texts.left_out), Texts([whole[cut:]])
        return first, second
    order = np.random.default_rng(seed).permutation(count)
    train, test = texts.subset(np.sort(order[heldout:])), texts.subset(np.sort(order[:heldout]))
    return train, test
