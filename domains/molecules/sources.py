"""Data modules for the sources of molecules that wheels bring.

| class | source |
| --- | --- |
| `NCIData` | 4,991 molecules of the National Cancer Institute: brought by RDKit |
| `MOSESData` | MOSES' 1.58 million lead-like molecules with their test sets: ``pip install --no-deps molsets`` |
| `FragmentData` | small molecules in space: fragments of MOSES', with geometries of a force field |
| `MoleculeData`, `ConformerData` | files, lists and tables of your own |
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.data import UNIQUE, GraphData
from ornstein.domains.molecules.descriptors import Properties
from ornstein.domains.molecules.fragments import cut_fragments
from ornstein.domains.molecules.gathering import Representation
from ornstein.domains.molecules.geometry import embed
from ornstein.domains.molecules.moses import moses_smiles
from ornstein.domains.molecules.reading import MoleculeReader, ReadingReport, Record
from ornstein.domains.molecules.rules import MoleculeRules
from ornstein.domains.molecules.space import EXPLICIT, SpaceData
from ornstein.domains.molecules.vocabulary import GraphForm
from ornstein.domains.molecules.writing import write_molecules

__all__ = ["FragmentData", "MOSESData", "NCIData"]


class NCIData(GraphData):
    """The first 4,991 molecules of the National Cancer Institute's open database, which RDKit brings; public domain.

    They are mixed: salts, metals and molecules of up to 60 heavy atoms. By default those without are taken, with at
    most ``max_heavy_atoms``.

    Args:
        max_heavy_atoms: larger molecules are left out; on top of what ``rules`` say.
        heldout, validation, split_seed, rules, representation, form, pieces, min_count, properties, bucket,
            width_step, batch_size, num_workers: as in `GraphData`.
    """

    def __init__(
        self,
        max_heavy_atoms: int = 30,
        heldout: float = 0.1,
        validation: float = 0.05,
        split_seed: int = 0,
        rules: MoleculeRules = UNIQUE,
        representation: Representation = "graph",
        form: GraphForm = GraphForm(),  # noqa: B008 (frozen)
        pieces: int = 100,
        min_count: int = 10,
        properties: Properties = (),
        bucket: bool = True,
        width_step: int = 1,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            heldout, validation, split_seed, limited(rules, max_heavy_atoms), representation, form, pieces, min_count,
            properties, None, bucket, width_step, batch_size, num_workers,
        )  # fmt: skip
        self.max_heavy_atoms = max_heavy_atoms

    def source(self) -> Path:
        config = need("rdkit.RDConfig", to="read NCI's molecules", extra="molecules")
        path = Path(config.RDDataDir) / "NCI" / "first_5K.smi"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: this RDKit came without its data; install pip's: pip install rdkit")
        return path


class MOSESData(GraphData):
    """MOSES (Polykovskiy et al. 2020, 1811.12823): 1,584,663 molecules of 14 to 26 heavy atoms to train on.

    Its test set of 176,074 like molecules is held out; validation is a part of the training set. MIT licence.

    Args:
        count: how many of the training molecules, taken evenly from the whole file (its first 200,000 alone are at an
            FCD of 3.3 from the test set, where others have 0.6); all 1.58 million, which take about eight minutes to
            read, when None. With ``max_heavy_atoms``, so many that are small enough.
        heldout_count: how many of the test molecules, likewise.
        max_heavy_atoms: larger molecules are passed over.
        validation, split_seed, rules, representation, form, pieces, min_count, properties, bucket, width_step,
            batch_size, num_workers: as in `GraphData`.

    Raises:
        ValueError: a count below 1.
    """

    def __init__(
        self,
        count: int | None = 100_000,
        heldout_count: int | None = 10_000,
        max_heavy_atoms: int | None = None,
        validation: float = 0.02,
        split_seed: int = 0,
        rules: MoleculeRules = UNIQUE,
        representation: Representation = "graph",
        form: GraphForm = GraphForm(),  # noqa: B008 (frozen)
        pieces: int = 100,
        min_count: int = 1,
        properties: Properties = (),
        bucket: bool = True,
        width_step: int = 1,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        for name, number in (("count", count), ("heldout_count", heldout_count), ("max_heavy_atoms", max_heavy_atoms)):
            require(number is None or number >= 1, name, number, "at least 1, or None")
        super().__init__(
            0.0, validation, split_seed, rules, representation, form, pieces,
            min_count, properties, None, bucket, width_step, batch_size, num_workers,
        )  # fmt: skip
        self.count, self.heldout_count, self.max_heavy_atoms = count, heldout_count, max_heavy_atoms

    def source(self) -> Iterator[str]:
        return moses_smiles("train", self.count, self.max_heavy_atoms, spread=True)

    def own_source(self, part: str) -> Iterator[str] | None:
        if part != "heldout":
            return None
        return moses_smiles("test", self.heldout_count, self.max_heavy_atoms, spread=True)


class FragmentData(SpaceData):
    """Fragments of MOSES' molecules in space, by `cut_fragments` and `embed`: 2,996 of the first 20,000 molecules.

    Cutting takes 40 seconds for 20,000 molecules and placing 6 ms for each fragment on one core; ``file`` keeps them.
    What cannot be placed, or does not converge, is refused. The property ``energy`` (kcal/mol, MMFF94) comes with each.

    Args:
        count: how many molecules to cut.
        max_heavy_atoms, min_heavy_atoms: of a fragment.
        min_molecules: how many molecules must have a fragment.
        seed: of the geometries.
        file: SDF to write the fragments to, and to read them from where it is there.
        heldout, validation, split_seed, form, properties, bucket, width_step, batch_size,
            num_workers: as in `SpaceData`.

    Raises:
        ValueError: a count below 1, or numbers of atoms that leave nothing.
    """

    def __init__(
        self,
        count: int = 20_000,
        max_heavy_atoms: int = 9,
        min_heavy_atoms: int = 3,
        min_molecules: int = 1,
        seed: int = 0,
        file: str | None = None,
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
        require(count >= 1, "count", count, "at least 1")
        require(min_molecules >= 1, "min_molecules", min_molecules, "at least 1")
        fine = 1 <= min_heavy_atoms <= max_heavy_atoms
        require(fine, "min_heavy_atoms", min_heavy_atoms, f"1 to max_heavy_atoms={max_heavy_atoms}")
        self.count, self.max_heavy_atoms, self.min_heavy_atoms = count, max_heavy_atoms, min_heavy_atoms
        self.min_molecules, self.seed, self.file = min_molecules, seed, file

    def records(self) -> tuple[list[Record], ReadingReport]:
        if self.file is None or not Path(self.file).is_file():
            found, report = self._placed()
            if self.file is not None:
                columns = {name: [record.properties[name] for record in found] for name in ("energy", "made by")}
                write_molecules(self.file, [record.mol for record in found], properties=columns)
            return found, report
        reader = MoleculeReader(self.file, MoleculeRules(), hydrogens="keep")
        found = list(reader)
        if others := {record.properties.get("made by") for record in found} - {self._recipe}:
            raise ValueError(f"{self.file} was made by {others.pop()!r}, not {self._recipe!r}; give another file")
        return found, reader.report

    @property
    def _recipe(self) -> str:
        return (
            f"count={self.count} heavy={self.min_heavy_atoms}-{self.max_heavy_atoms} "
            f"molecules={self.min_molecules} seed={self.seed}"
        )

    def _placed(self) -> tuple[list[Record], ReadingReport]:
        """All fragments in space, the most frequent first."""
        Chem = need("rdkit.Chem", to="cut molecules into fragments", extra="molecules")
        counts: Counter[str] = Counter()
        for smiles in moses_smiles("train", self.count):
            counts.update(cut_fragments(Chem.MolFromSmiles(smiles), self.max_heavy_atoms, self.min_heavy_atoms))
        report, records = ReadingReport("fragment"), []
        chosen = [
            smiles for smiles in sorted(counts, key=lambda s: (-counts[s], s)) if counts[smiles] >= self.min_molecules
        ]
        for number, smiles in enumerate(chosen):
            report.total += 1
            placed = embed(Chem.MolFromSmiles(smiles), seed=self.seed)
            if placed.reason:
                report.refuse(number, placed.reason, text=smiles)
                continue
            report.taken += 1
            # As a file holds them, so that they are the same with it and without.
            conformer = placed.mol.GetConformer()
            conformer.SetPositions(conformer.GetPositions().round(4))
            properties = {"energy": f"{placed.energy:.4f}", "made by": self._recipe}
            records.append(Record(number, placed.mol, smiles, "", properties))
        return records, report


def limited(rules: MoleculeRules, max_heavy_atoms: int) -> MoleculeRules:
    """Rules that refuse larger molecules too."""
    most = max_heavy_atoms if rules.max_heavy_atoms is None else min(rules.max_heavy_atoms, max_heavy_atoms)
    return replace(rules, max_heavy_atoms=most)
