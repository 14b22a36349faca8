"""The data modules of molecules in space: categories and positions of atoms, and the bonds between them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.core.training.data import DataModule
from ornstein.domains.molecules.atoms import atoms_of
from ornstein.domains.molecules.descriptors import Properties, property_sources
from ornstein.domains.molecules.facts import MoleculeFacts
from ornstein.domains.molecules.gathering import value_of
from ornstein.domains.molecules.graphs import GraphCollector, Graphs
from ornstein.domains.molecules.ragged import ragged
from ornstein.domains.molecules.reading import MoleculeReader, ReadingReport, Record
from ornstein.domains.molecules.rules import MoleculeRules
from ornstein.domains.molecules.vocabulary import GraphForm

__all__ = ["ConformerData", "SpaceData", "SpaceReference", "SpaceRows"]

EXPLICIT = GraphForm(hydrogens="explicit")


@dataclass(frozen=True)
class SpaceReference:
    """Real molecules in space to judge by, each an RDKit molecule with one conformer.

    Attributes:
        train: conformers that the model saw.
        heldout: conformers of molecules that it did not see.
        facts: of the training data.
    """

    train: list[Any]
    heldout: list[Any]
    facts: MoleculeFacts


@dataclass(frozen=True, eq=False)
class SpaceRows(Dataset[dict[str, Any]]):
    """Conformers in memory; indexed with a list, a whole batch at once.

    Attributes:
        mols: RDKit molecules with one conformer each, their atoms in the order of the graphs'.
        graphs: of them.
        positions: ``(sum of n, 3)`` float32, in ångström, centred in each.
        properties: by name ``(M,)`` in their units, NaN where unknown.
        table: ``(M, P)`` float32, the properties scaled, 0 where unknown.
        known: ``(M, P)``, True where known.
        width_step: batches are as wide as a multiple of it.
    """

    mols: list[Any]
    graphs: Graphs
    positions: np.ndarray
    properties: dict[str, np.ndarray] = field(default_factory=dict)
    table: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    known: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool))
    width_step: int = 1

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch = self.__getitems__([index])
        masks = batch.pop("mask")
        return {name: value[0] for name, value in batch.items()} | {"mask": {k: v[0] for k, v in masks.items()}}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """A whole batch at once, as wide as its largest molecule needs; data modules pass it on."""
        largest = int(self.graphs.sizes[indices].max())
        batch = self.graphs.batch(indices, -(-largest // self.width_step) * self.width_step)
        real = batch["mask"]["atoms"]
        _, places, _ = ragged(self.graphs.starts, indices)
        positions = np.zeros((*real.shape, 3), dtype=np.float32)
        positions[real.numpy()] = self.positions[places]
        batch["positions"] = torch.from_numpy(positions)
        batch["mask"]["positions"] = real
        if self.table.shape[1]:
            batch |= {"properties": self.table[indices], "properties_mask": self.known[indices]}
        return batch

    def subset(self, indices: np.ndarray) -> "SpaceRows":
        """Some conformers, in the order given; properties not scaled."""
        _, places, _ = ragged(self.graphs.starts, indices)
        return SpaceRows(
            [self.mols[i] for i in indices],
            self.graphs.subset(indices),
            self.positions[places],
            {name: values[indices] for name, values in self.properties.items()},
        )


class SpaceData(DataModule):
    """Base of the data modules of molecules in space: a subclass gives ``records``.

    A batch is a dict with ``"positions"`` ``(B, N, 3)`` float32 in ångström, centred and 0 where padded, ``"atoms"``
    ``(B, N)`` and ``"bonds"`` ``(B, N (N - 1) / 2)`` int64, and ``"mask"``, a dict of the same three, ``(B, N)`` for
    positions. Properties are as in `GraphData`. Conformers of one molecule are all in the same part.

    Args:
        heldout, validation: parts of the molecules; 0 for none.
        split_seed: which molecules.
        form: of the graphs; with ``"implicit"`` hydrogens there are heavy atoms alone.
        properties: as in `GraphData`; of the molecule, not of its conformer.
        bucket, width_step: as in `GraphData`.
        batch_size, num_workers: as in `DataModule`.

    Raises:
        ValueError: parts that leave nothing to train on, or a ``width_step`` below 1.
    """

    def __init__(
        self,
        heldout: float = 0.1,
        validation: float = 0.05,
        split_seed: int = 0,
        form: GraphForm = EXPLICIT,
        properties: Properties = (),
        bucket: bool = True,
        width_step: int = 1,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        for name, share in (("heldout", heldout), ("validation", validation)):
            require(0 <= share < 1, name, share, "a part from 0 to below 1")
        require(heldout + validation < 1, "heldout", heldout, f"less than 1 - validation = {1 - validation:g}")
        require(width_step >= 1, "width_step", width_step, "at least 1")
        if form.ordered:
            raise ValueError("form is ordered: expected atoms as they come, as positions do; ordered graphs have none")
        self.heldout, self.validation, self.split_seed = heldout, validation, split_seed
        self.form, self.properties = form, properties
        self.bucket, self.width_step = bucket, width_step
        self._sources = property_sources(properties)

    def records(self) -> tuple[list[Record], ReadingReport]:
        """Molecules with conformers, and what became of the others. Called once."""
        raise NotImplementedError

    @property
    def facts(self) -> MoleculeFacts:
        """Vocabulary, sizes, marginals and scales of the training part."""
        return self._read[1]

    @property
    def report(self) -> ReadingReport:
        """What became of the records."""
        return self._read[2]

    def train_dataset(self) -> SpaceRows:
        """The conformers to train on."""
        return self._part("train")

    def train_sizes(self) -> Sequence[int] | None:
        """Atoms of each training molecule, where batches are to be of like size."""
        return torch.from_numpy(self._part("train").graphs.sizes) if self.bucket else None  # type: ignore[return-value]

    def heldout_dataset(self) -> SpaceRows:
        """The conformers to judge by.

        Raises:
            ValueError: nothing is held out.
        """
        return self._part("heldout")

    def validation_dataset(self) -> SpaceRows | None:
        """The conformers for the validation loss; None without."""
        return self._read[0].get("validation")

    def reference(self) -> SpaceReference:
        """Molecules of training and those held out.

        Raises:
            ValueError: nothing is held out.
        """
        return SpaceReference(self._part("train").mols, self._part("heldout").mols, self.facts)

    def collate(self, samples: Any) -> Any:
        """A batch of conformers, which come as a batch already."""
        return samples if isinstance(samples, dict) else super().collate(samples)

    def _part(self, name: str) -> SpaceRows:
        if name not in self._read[0]:
            raise ValueError(f"{type(self).__name__} has no part {name!r}; give {name}= when it is made")
        return self._read[0][name]

    @cached_property
    def _read(self) -> tuple[dict[str, SpaceRows], MoleculeFacts, ReadingReport]:
        Chem = need("rdkit.Chem", to="read molecules in space", extra="molecules")
        records, report = self.records()
        collector, kept, mols, positions = GraphCollector(self.form), [], [], []
        columns: dict[str, list[float]] = {name: [] for name in self._sources}
        for record in records:
            problem = self._problem(record.mol)
            try:
                found = [] if problem else _conformers(Chem, record.mol, self.form)
                for one in found:
                    collector.add(one)
            except ValueError as error:
                problem = str(error)
            if problem:
                report.taken -= 1
                report.refuse(record.number, problem, text=record.smiles)
                continue
            bare = record._replace(mol=Chem.RemoveHs(record.mol))
            record = record._replace(smiles=Chem.MolToSmiles(bare.mol))
            for one in found:
                kept.append(record)
                mols.append(one)
                place = one.GetConformer().GetPositions()
                positions.append((place - place.mean(0)).astype(np.float32))
                for name, function in self._sources.items():
                    columns[name].append(value_of(bare, name, function, report.unit))
        if not kept:
            raise ValueError(f"no molecule with a place in space is left; {' '.join(str(report).split())[:300]}")
        if report.refused:
            counts = ", ".join(f"{count} {reason}" for reason, count in report.counts.items())
            warnings.warn(
                f"{len(report.refused)} of {report.total} {report.unit}s are left out ({counts}); report names them",
                stacklevel=4,
            )
        return self._parts(collector, kept, mols, positions, columns, report)

    def _parts(
        self,
        collector: GraphCollector,
        kept: list[Record],
        mols: list[Any],
        positions: list[np.ndarray],
        columns: dict[str, list[float]],
        report: ReadingReport,
    ) -> tuple[dict[str, SpaceRows], MoleculeFacts, ReadingReport]:
        chosen = self._split([record.smiles for record in kept])
        vocabulary = collector.vocabulary(1, chosen["train"])
        graphs, left_out = collector.graphs(vocabulary)
        rows = np.setdiff1d(np.arange(len(kept)), list(left_out))
        for number in sorted({kept[row].number for row in left_out}):
            row = next(row for row in sorted(left_out) if kept[row].number == number)
            report.taken -= 1
            report.refuse(number, left_out[row], text=kept[row].smiles)
        whole = SpaceRows(
            [mols[row] for row in rows],
            graphs,
            np.concatenate([positions[row] for row in rows]),
            {name: np.array(values)[rows] for name, values in columns.items()},
        )
        parts = {}
        for name, numbers in chosen.items():
            numbers = np.intersect1d(numbers, rows)
            if not len(numbers):
                raise ValueError(f"the part {name} is empty: training has none of its kinds of atoms; give other parts")
            parts[name] = whole.subset(np.searchsorted(rows, numbers))
        train = parts["train"]
        facts = MoleculeFacts.fit(train.graphs, vocabulary, train.properties, train.positions)
        for name, part in parts.items():
            table, known = facts.scale(part.properties)
            if not facts.properties:
                table, known = torch.zeros(len(part), 0), torch.zeros(len(part), 0, dtype=torch.bool)
            parts[name] = replace(part, table=table, known=known, width_step=self.width_step)
        return parts, facts, report

    def _problem(self, mol: Any) -> str:
        if not mol.GetNumConformers() or not all(c.Is3D() for c in mol.GetConformers()):
            return "no coordinates in space"
        if self.form.hydrogens == "explicit" and any(atom.GetTotalNumHs() for atom in atoms_of(mol)):
            return "hydrogens without coordinates"
        return ""

    def _split(self, smiles: Sequence[str]) -> dict[str, np.ndarray]:
        """Rows of each part: molecules are divided, with all their conformers."""
        names, molecule = np.unique(np.array(smiles, dtype=object).astype(str), return_inverse=True)
        order = np.random.default_rng(self.split_seed).permutation(len(names))
        chosen, start = {}, 0
        for name, share in (("heldout", self.heldout), ("validation", self.validation)):
            if share:
                size = round(len(names) * share)
                if not 0 < size < len(names) - start:
                    raise ValueError(f"{name}={share} of {len(names)} molecules are {size}; give another part")
                chosen[name] = np.flatnonzero(np.isin(molecule, order[start : start + size]))
                start += size
        return {"train": np.flatnonzero(np.isin(molecule, order[start:])), **chosen}


def _conformers(Chem: Any, mol: Any, form: GraphForm) -> list[Any]:
    """A molecule for each conformer, its atoms those of the graph."""
    mol = mol if form.hydrogens == "explicit" else Chem.RemoveHs(mol)
    return [Chem.Mol(mol, confId=conformer.GetId()) for conformer in mol.GetConformers()]


class ConformerData(SpaceData):
    """Molecules in space of SDF files and lists of RDKit molecules; each conformer of a molecule is a sample.

    Args:
        molecules: the source, in a form of `records` that has coordinates.
        rules: which molecules to take; duplicates are taken by default, as conformers are.
        heldout, validation, split_seed, form, properties, bucket, width_step, batch_size,
            num_workers: as in `SpaceData`.
    """

    def __init__(
        self,
        molecules: Any,
        rules: MoleculeRules = MoleculeRules(),  # noqa: B008 (frozen)
        heldout: float = 0.1,
        validation: float = 0.05,
        split_seed: int = 0,
        form: GraphForm = EXPLICIT,
        properties: Properties = (),
        bucket: bool = True,
        width_step: int = 1,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(heldout, validation, split_seed, form, properties, bucket, width_step, batch_size, num_workers)
        self.molecules, self.rules = molecules, rules

    def records(self) -> tuple[list[Record], ReadingReport]:
        reader = MoleculeReader(self.molecules, self.rules, hydrogens="keep")
        return list(reader), reader.report
