"""What real molecules are like: statistics that generated ones are compared with, of a list or of MOSES' test sets."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import chem
from ornstein.domains.molecules.judges._moses_files import SPLITS, moses_statistics
from ornstein.domains.molecules.judges._samples import Sample, as_molecules
from ornstein.domains.molecules.judges.fcd import ChemNetMoments, chemnet_moments
from ornstein.domains.molecules.judges.properties import MOSES_PROPERTIES, property_values
from ornstein.domains.molecules.judges.similarity import count_fragments, count_scaffolds, fingerprints
from ornstein.domains.molecules.moses import moses_smiles

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["MosesReference", "moses_reference"]


@dataclass(frozen=True)
class MosesReference:
    """Statistics of a set of real molecules, in MOSES' terms.

    Args:
        name: of the set; figures carry it (``"fcd/Test"``).
        smiles: of all its molecules, to draw real ones from.
        fingerprints: ``(n, 128)`` uint8, see `similarity`.
        fragments: counts of BRICS fragments.
        scaffolds: counts of scaffolds of at least two rings.
        properties: ``(n,)`` each by name.
        chemnet: moments of ChemNet's activations, or None where they were not asked for.
    """

    name: str
    smiles: tuple[str, ...]
    fingerprints: np.ndarray
    fragments: Counter[str]
    scaffolds: Counter[str]
    properties: Mapping[str, np.ndarray]
    chemnet: ChemNetMoments | None = None

    @classmethod
    def of(cls, molecules: Iterable[Sample], *, name: str = "reference", chemnet: bool = False) -> "MosesReference":
        """The statistics of these.

        Args:
            molecules: valid ones, as RDKit's Mol or SMILES.
            name: of the set.
            chemnet: also ChemNet's moments, which take a second for fifty molecules.

        Raises:
            ValueError: none, or one that is no valid molecule.
        """
        found = as_molecules(molecules, name)
        return cls(
            name,
            tuple(chem().MolToSmiles(mol) for mol in found),
            fingerprints(found),
            count_fragments(found),
            count_scaffolds(found),
            property_values(found),
            chemnet_moments(found) if chemnet else None,
        )

    def __len__(self) -> int:
        return len(self.smiles)

    def split(self, n: int, *, seed: int = 0) -> tuple[list["Mol"], "MosesReference"]:
        """Draw molecules, and the statistics of all others: real against real, which no model should beat.

        Args:
            n: how many, at most half.
            seed: of the draw.

        Returns:
            The molecules drawn, and the reference without them, exactly; its ChemNet moments are left out, see
            `ChemNetMoments.without`.

        Raises:
            ValueError: more than half.
        """
        require(1 <= n <= len(self) // 2, "n", n, f"1 to {len(self) // 2}, half of {self.name}")
        rows = np.random.default_rng(seed).choice(len(self), n, replace=False)
        drawn = as_molecules([self.smiles[row] for row in rows], self.name)
        rest = np.ones(len(self), bool)
        rest[rows] = False
        less = replace(
            self,
            smiles=tuple(text for text, kept in zip(self.smiles, rest) if kept),
            fingerprints=self.fingerprints[rest],
            fragments=self.fragments - count_fragments(drawn),
            scaffolds=self.scaffolds - count_scaffolds(drawn),
            properties={name: values[rest] for name, values in self.properties.items()},
            chemnet=None,
        )
        return drawn, less


@lru_cache(maxsize=2)
def moses_reference(split: str = "Test") -> MosesReference:
    """MOSES' published statistics of a test set of 176,000 molecules; 3 seconds and 60 MB when first asked for.

    Args:
        split: ``"Test"``, of molecules like those of training, or ``"TestSF"``, of scaffolds that training lacks.

    Raises:
        ImportError: MOSES' wheel is missing: ``pip install --no-deps molsets``.
        ValueError: another split.
    """
    found, smiles = moses_statistics(split), list(moses_smiles(SPLITS[split]))
    mean, covariance = (np.asarray(found["FCD"][name], float) for name in ("mu", "sigma"))
    return MosesReference(
        split,
        tuple(smiles),
        np.packbits(found["SNN"]["fps"], axis=1, bitorder="little"),
        Counter(found["Frag"]["frag"]),
        Counter(found["Scaf"]["scaf"]),
        {name: np.asarray(found[name]["values"], float) for name in MOSES_PROPERTIES},
        ChemNetMoments(mean, covariance, len(smiles)),
    )
