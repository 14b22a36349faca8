"""Are molecules different from one another, and from those that a model learned from?

Two molecules are the same if their keys agree: canonical isomeric SMILES (MOSES 1811.12823), or InChIKeys, which
also hold some tautomers and charge-separated forms for one.

    unique@k = |keys of the first k| / k,      novel = |keys - keys of the training set| / |keys|
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import chem, quiet
from ornstein.domains.molecules.judges._samples import Sample, as_molecules, present

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["KnownMolecules", "molecule_key", "novelty", "uniqueness"]

KEYS = ("smiles", "inchikey")
CHECKED = 200
"""How many SMILES said to be canonical are checked."""


def molecule_key(mol: "Mol", key: str = "smiles") -> str:
    """By what a molecule is told from others: ``"smiles"`` canonical and isomeric, or ``"inchikey"``.

    Raises:
        ValueError: an unknown kind of key, or a molecule that InChI has no name for.
    """
    require(key in KEYS, "key", key, " or ".join(KEYS))
    if key == "smiles":
        return str(chem().MolToSmiles(mol))
    with quiet():
        found = need("rdkit.Chem.inchi", to="tell molecules apart", extra="molecules").MolToInchiKey(mol)
    require(bool(found), "molecule", chem().MolToSmiles(mol), "one that InChI has a name for; or key='smiles'")
    return str(found)


@dataclass(frozen=True)
class KnownMolecules:
    """A set of molecules as hashes of 64 bits: 13 MB for 1.6 million.

    That one of 10,000 new molecules is taken for one of 1.6 million known has a probability of 1e-9.

    Args:
        hashes: ``(N,)`` uint64, sorted and each once; from `of`.
        key: what was hashed, see `molecule_key`.

    Raises:
        ValueError: hashes that are not so, or an unknown kind of key.
    """

    hashes: np.ndarray
    key: str = "smiles"

    def __post_init__(self) -> None:
        require(self.key in KEYS, "key", self.key, " or ".join(KEYS))
        fits = self.hashes.ndim == 1 and self.hashes.dtype == np.uint64
        require(fits, "hashes", f"{self.hashes.dtype} {self.hashes.shape}", "uint64 (N,)")
        require(bool((self.hashes[1:] > self.hashes[:-1]).all()), "hashes", "in disorder", "sorted, each once")

    @classmethod
    def of(cls, molecules: Iterable[Sample], *, key: str = "smiles", canonical: bool = False) -> "KnownMolecules":
        """The set of these.

        Args:
            molecules: valid ones, as RDKit's Mol or SMILES; any iterable, and none is kept.
            key: see `molecule_key`.
            canonical: they are SMILES that RDKit has written (MOSES' are): taken as they are, a hundred times faster.
                The first 200 are checked.

        Raises:
            ValueError: one that is no valid molecule, or SMILES that are not canonical though said to be.
        """
        require(not canonical or key == "smiles", "canonical", canonical, "False with a key of InChI")
        names = _as_they_are(molecules) if canonical else _names(molecules, key)
        return cls(np.unique(np.fromiter((_hashed(name) for name in names), np.uint64)), key)

    def __len__(self) -> int:
        return len(self.hashes)

    def holds(self, names: Sequence[str]) -> np.ndarray:
        """Which of these keys are in it, ``(n,)`` bool."""
        asked = np.fromiter((_hashed(name) for name in names), np.uint64, len(names))
        if not len(self.hashes):
            return np.zeros(len(asked), bool)
        places = np.searchsorted(self.hashes, asked).clip(max=len(self.hashes) - 1)
        return np.asarray(self.hashes[places] == asked)


def uniqueness(molecules: Sequence["Mol | None"], k: int | None = None, *, key: str = "smiles") -> float:
    """Share of different ones among the first ``k`` valid molecules, or among all.

    Args:
        molecules: of a `Validity`; None is passed over.
        k: how many count; the share falls with it.
        key: see `molecule_key`.

    Raises:
        ValueError: fewer than ``k`` valid molecules, or none.
    """
    found = present(molecules)
    require(len(found) > 0, "molecules", "none that is valid", "at least one")
    require(k is None or 1 <= k <= len(found), "k", k, f"1 to {len(found)}, the number of valid molecules")
    kept = found[:k]
    return len({molecule_key(mol, key) for mol in kept}) / len(kept)


def novelty(molecules: Sequence["Mol | None"], known: KnownMolecules) -> float:
    """Share of the different valid molecules that are not known.

    Args:
        molecules: of a `Validity`; None is passed over.
        known: the training set.

    Raises:
        ValueError: no valid molecule.
    """
    names = sorted({molecule_key(mol, known.key) for mol in present(molecules)})
    require(len(names) > 0, "molecules", "none that is valid", "at least one")
    return float((~known.holds(names)).mean())


def _hashed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _names(molecules: Iterable[Sample], key: str) -> Iterator[str]:
    for number, sample in enumerate(molecules):
        yield molecule_key(as_molecules([sample], f"molecule {number} of those known, as a list")[0], key)


def _as_they_are(molecules: Iterable[Sample]) -> Iterator[str]:
    for number, sample in enumerate(molecules):
        if not isinstance(sample, str):
            raise TypeError(f"molecules[{number}] is a {type(sample).__name__}: canonical=True is for lists of SMILES")
        if number < CHECKED:
            written = chem().MolToSmiles(as_molecules([sample], f"molecules[{number}], as a list")[0])
            if written != sample:
                raise ValueError(
                    f"molecules[{number}] {sample!r} is not canonical, {written!r} is: say canonical=False"
                )
        yield sample
