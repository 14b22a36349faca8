"""The data modules of molecules as graphs or sequences: one reading, then batches that are one index into arrays."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ornstein.core.schedules import require
from ornstein.core.sizes import SizeDistribution
from ornstein.core.training.data import DataModule
from ornstein.domains.molecules.descriptors import Properties, property_sources
from ornstein.domains.molecules.facts import MoleculeFacts
from ornstein.domains.molecules.gathering import Gathered, Representation, Rows
from ornstein.domains.molecules.graphs import Graphs
from ornstein.domains.molecules.reading import ReadingReport
from ornstein.domains.molecules.rules import MoleculeRules
from ornstein.domains.molecules.scales import PropertyScale, Scaled, scale_properties
from ornstein.domains.molecules.selfies import SelfiesVocabulary, Sequences
from ornstein.domains.molecules.vocabulary import GraphForm

__all__ = ["GraphData", "MoleculeData", "MoleculeReference", "MoleculeRows", "SelfiesFacts"]

UNIQUE = MoleculeRules(duplicates="refuse")  # a molecule that came twice could be trained on and held out


@dataclass(frozen=True)
class SelfiesFacts(Scaled):
    """What the training data tell a model of sequences; the like of `MoleculeFacts`.

    Args:
        vocabulary: the tokens.
        sizes: how often molecules have ``0, 1, 2, ...`` tokens and pieces: `SizeDistribution.counts`.
        marginals: part of each token and piece among all.
        properties: scales of the properties.
    """

    vocabulary: SelfiesVocabulary
    sizes: tuple[float, ...]
    marginals: tuple[float, ...]
    properties: tuple[PropertyScale, ...] = ()

    @classmethod
    def fit(cls, rows: Sequences, vocabulary: SelfiesVocabulary, properties: dict[str, np.ndarray]) -> "SelfiesFacts":
        """The facts of sequences.

        Raises:
            ValueError: a property without a finite value.
        """
        counts = np.bincount(rows.tokens, minlength=len(vocabulary))
        return cls(
            vocabulary,
            SizeDistribution.fit(torch.from_numpy(rows.sizes)).counts,
            tuple((counts / counts.sum()).tolist()),
            tuple(PropertyScale.fit(name, values) for name, values in properties.items()),
        )

    @property
    def largest(self) -> int:
        """Tokens and pieces of the longest molecule."""
        return SizeDistribution(self.sizes).largest


@dataclass(frozen=True)
class MoleculeReference:
    """Real molecules to judge by, as canonical SMILES.

    Attributes:
        train: molecules that the model saw, for novelty.
        heldout: molecules that it did not see.
        facts: of the training data.
        properties: of the molecules held out, by name ``(M,)`` in their units.
    """

    train: list[str]
    heldout: list[str]
    facts: MoleculeFacts | SelfiesFacts
    properties: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MoleculeRows(Dataset[dict[str, Any]]):
    """Molecules in memory; indexed with a list, a whole batch at once.

    Attributes:
        rows: graphs or sequences.
        smiles: canonical, of each.
        properties: by name ``(M,)`` in their units, NaN where unknown.
        table: ``(M, P)`` float32, the properties scaled, 0 where unknown.
        known: ``(M, P)``, True where known.
        width_step: batches are as wide as a multiple of it.
    """

    rows: Rows
    smiles: list[str]
    properties: dict[str, np.ndarray]
    table: Tensor
    known: Tensor
    width_step: int = 1

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch = self.__getitems__([index])
        masks = batch.pop("mask")
        single = {name: value[0] for name, value in batch.items()}
        return {**single, "mask": {k: v[0] for k, v in masks.items()} if isinstance(masks, dict) else masks[0]}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """A whole batch at once, as wide as its largest molecule needs; data modules pass it on."""
        largest = int(self.rows.sizes[indices].max())
        batch = self.rows.batch(indices, -(-largest // self.width_step) * self.width_step)
        if self.table.shape[1]:
            batch |= {"properties": self.table[indices], "properties_mask": self.known[indices]}
        return batch


class GraphData(DataModule):
    """Base of the data modules here: a subclass gives ``source``, the molecules to train on.

    Molecules are read when first asked for. What is refused is warned of in one line, and named record by record in
    ``reports``. A batch is a dict with ``"atoms"`` ``(B, N)`` and ``"bonds"`` ``(B, N (N - 1) / 2)`` int64 and
    ``"mask"``, a dict of the same two, True where real; of sequences, ``"tokens"`` and ``"mask"``, both ``(B, L)``.
    Where there are properties, it has them scaled, ``"properties"`` ``(B, P)`` float32, and ``"properties_mask"``
    ``(B, P)``, True where known.

    Args:
        heldout: part of the molecules held out to judge by, or a source of their own; 0 for none.
        validation: part for the validation loss, or a source of their own; 0 for none.
        split_seed: which molecules.
        rules: which molecules to take; by default no salts, isotopes, radicals, metals or duplicates, and stereo is
            dropped.
        representation: ``"graph"``, or ``"selfies"`` for sequences of SELFIES tokens.
        form: of the graphs.
        pieces: how many runs of SELFIES tokens that are frequent are learned as one (`learn_pieces`), at most; 0 for
            none.
        min_count: how many training molecules must have a category of atoms (or a token), so that it is learned.
            Molecules with rarer ones are left out.
        properties: names of `DESCRIPTORS` or of columns that came with the molecules, or functions by name.
        smiles: column of SMILES in tables.
        bucket: let the molecules of a training batch be of like size, so that little is padded.
        width_step: batches are as wide as a multiple of it, so that there are fewer shapes to compile.
        batch_size, num_workers: as in `DataModule`.

    Raises:
        ValueError: another representation, parts that leave nothing to train on, ``min_count`` or ``width_step``
            below 1, ``pieces`` below 0.
    """

    def __init__(
        self,
        heldout: Any = 0.1,
        validation: Any = 0.05,
        split_seed: int = 0,
        rules: MoleculeRules = UNIQUE,
        representation: Representation = "graph",
        form: GraphForm = GraphForm(),  # noqa: B008 (frozen)
        pieces: int = 100,
        min_count: int = 1,
        properties: Properties = (),
        smiles: str | None = None,
        bucket: bool = True,
        width_step: int = 1,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        require(representation in ("graph", "selfies"), "representation", representation, "'graph' or 'selfies'")
        require(min_count >= 1, "min_count", min_count, "at least 1")
        require(pieces >= 0, "pieces", pieces, "0 or more")
        require(width_step >= 1, "width_step", width_step, "at least 1")
        if form.stereo and rules.stereo == "drop":
            raise ValueError("form keeps stereo and rules drop it; give rules=MoleculeRules(stereo='keep')")
        if rules.stereo == "keep" and representation == "graph" and not form.stereo:
            raise ValueError("rules keep stereo and form drops it; give form=GraphForm(stereo=True)")
        shares = [part if _is_share(part) else 0.0 for part in (heldout, validation)]
        for name, share in zip(("heldout", "validation"), shares):
            require(0 <= share < 1, name, share, "a part from 0 to below 1, or molecules of its own")
        require(sum(shares) < 1, "heldout", shares[0], f"less than 1 - validation = {1 - shares[1]:g}")
        self.heldout, self.validation, self.split_seed = heldout, validation, split_seed
        self.rules, self.representation, self.form, self.pieces = rules, representation, form, pieces
        self.min_count, self.properties, self.smiles = min_count, properties, smiles
        self.bucket, self.width_step = bucket, width_step
        self._sources = property_sources(properties)
        self._reports: dict[str, ReadingReport] = {}

    def source(self) -> Any:
        """The molecules, in one of the forms of `records`. Called once."""
        raise NotImplementedError

    def own_source(self, part: str) -> Any | None:
        """The molecules of ``"heldout"`` or ``"validation"`` where they are no share of `source`, else None."""
        given = getattr(self, part)
        return None if _is_share(given) else given

    @property
    def facts(self) -> MoleculeFacts | SelfiesFacts:
        """Vocabulary, sizes, marginals and scales of the training part."""
        return self._read[1]

    @property
    def reports(self) -> dict[str, ReadingReport]:
        """What became of the records of each source: ``"molecules"``, and those given for a part by its name."""
        _ = self._read
        return self._reports

    def train_dataset(self) -> MoleculeRows:
        """The molecules to train on."""
        return self._part("train")

    def train_sizes(self) -> Sequence[int] | None:
        """Atoms (or tokens) of each training molecule, where batches are to be of like size."""
        return torch.from_numpy(self._part("train").rows.sizes) if self.bucket else None  # type: ignore[return-value]

    def heldout_dataset(self) -> MoleculeRows:
        """The molecules to judge by.

        Raises:
            ValueError: nothing is held out.
        """
        return self._part("heldout")

    def validation_dataset(self) -> MoleculeRows | None:
        """The molecules for the validation loss; None without."""
        return self._read[0].get("validation")

    def reference(self) -> MoleculeReference:
        """SMILES of training and those held out.

        Raises:
            ValueError: nothing is held out.
        """
        heldout = self._part("heldout")
        return MoleculeReference(self._part("train").smiles, heldout.smiles, self.facts, heldout.properties)

    def collate(self, samples: Any) -> Any:
        """A batch of molecules, which come as a batch already."""
        return samples if isinstance(samples, dict) else super().collate(samples)

    def _part(self, name: str) -> MoleculeRows:
        if name not in self._read[0]:
            raise ValueError(f"{type(self).__name__} has no part {name!r}; give {name}= when it is made")
        return self._read[0][name]

    def _gather(self, name: str, source: Any) -> Gathered:
        found = Gathered(source, self.rules, self.representation, self.form, self._sources, self.smiles, self.pieces)
        self._reports[name] = found.report
        return found

    @cached_property
    def _read(self) -> tuple[dict[str, MoleculeRows], MoleculeFacts | SelfiesFacts]:
        """The parts, by name, and the facts."""
        whole = self._gather("molecules", self.source())
        chosen = self._split(len(whole))
        vocabulary = whole.vocabulary(self.min_count, chosen["train"])
        parts = _rows_of(whole, vocabulary, chosen)
        for name in ("heldout", "validation"):
            if (source := self.own_source(name)) is not None:
                own = self._gather(name, source)
                parts |= _rows_of(own, vocabulary, {name: np.arange(len(own))})
        train = parts["train"]
        facts: MoleculeFacts | SelfiesFacts
        if isinstance(train.rows, Graphs):
            facts = MoleculeFacts.fit(train.rows, vocabulary, train.properties)  # type: ignore[arg-type]
        else:
            facts = SelfiesFacts.fit(train.rows, vocabulary, train.properties)  # type: ignore[arg-type]
        for name, report in self._reports.items():
            if report.refused:
                counts = ", ".join(f"{count} {reason}" for reason, count in report.counts.items())
                warnings.warn(
                    f"{name}: {len(report.refused)} of {report.total} {report.unit}s are left out ({counts}); reports "
                    "names them",
                    stacklevel=4,
                )
        return {name: self._finished(part, facts) for name, part in parts.items()}, facts

    def _finished(self, part: MoleculeRows, facts: MoleculeFacts | SelfiesFacts) -> MoleculeRows:
        table, known = scale_properties(facts.properties, part.properties)
        if not facts.properties:
            table, known = torch.zeros(len(part), 0), torch.zeros(len(part), 0, dtype=torch.bool)
        return replace(part, table=table, known=known, width_step=self.width_step)

    def _split(self, count: int) -> dict[str, np.ndarray]:
        """Numbers of the molecules of each part that is a share."""
        order = np.random.default_rng(self.split_seed).permutation(count)
        chosen, start = {}, 0
        for name in ("heldout", "validation"):
            if _is_share(share := getattr(self, name)) and share > 0:
                size = round(count * share)
                if not 0 < size < count - start:
                    raise ValueError(f"{name}={share} of {count} molecules are {size}; give another part")
                chosen[name] = np.sort(order[start : start + size])
                start += size
        return {"train": np.sort(order[start:]), **chosen}


def _rows_of(found: Gathered, vocabulary: Any, chosen: dict[str, np.ndarray]) -> dict[str, MoleculeRows]:
    """Parts of the molecules of a source, properties not yet scaled."""
    rows, kept = found.rows(vocabulary)
    parts = {}
    for name, numbers in chosen.items():
        numbers = np.intersect1d(numbers, kept)
        if not len(numbers):
            raise ValueError(f"the part {name} is empty: the vocabulary holds none of its molecules; see min_count")
        parts[name] = MoleculeRows(
            rows.subset(np.searchsorted(kept, numbers)),
            [found.smiles[number] for number in numbers],
            {key: values[numbers] for key, values in found.properties.items()},
            torch.zeros(0),
            torch.zeros(0),
        )
    return parts


def _is_share(part: Any) -> bool:
    return isinstance(part, int | float) and not isinstance(part, bool)


class MoleculeData(GraphData):
    """Molecules of files, lists or tables; see `records` for the forms.

    Args:
        molecules: the source.
        heldout, validation, split_seed, rules, representation, form, pieces, min_count, properties, smiles, bucket,
            width_step, batch_size, num_workers: as in `GraphData`.

    Example:
        >>> data = MoleculeData(["C" * n + "O" for n in range(1, 41)], properties=["logP"], batch_size=4)
        >>> data.facts.vocabulary.atoms, data.facts.largest
        (('C', 'O'), 41)
        >>> batch = next(iter(data.loader(1)))
        >>> batch["atoms"].shape[0], batch["properties"].shape, sorted(batch["mask"])
        (4, torch.Size([4, 1]), ['atoms', 'bonds'])
    """

    def __init__(
        self,
        molecules: Any,
        heldout: Any = 0.1,
        validation: Any = 0.05,
        split_seed: int = 0,
        rules: MoleculeRules = UNIQUE,
        representation: Representation = "graph",
        form: GraphForm = GraphForm(),  # noqa: B008 (frozen)
        pieces: int = 100,
        min_count: int = 1,
        properties: Properties = (),
        smiles: str | None = None,
        bucket: bool = True,
        width_step: int = 1,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            heldout, validation, split_seed, rules, representation, form, pieces, min_count, properties, smiles,
            bucket, width_step, batch_size, num_workers,
        )  # fmt: skip
        self.molecules = molecules

    def source(self) -> Any:
        return self.molecules
