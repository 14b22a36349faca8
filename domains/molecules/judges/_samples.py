"""What is judged, read into RDKit: molecules, SMILES, or None for what could not be built; and reasons of refusal."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ornstein.domains.molecules.checking import chem, quiet, sanitised

if TYPE_CHECKING:
    from rdkit.Chem import Mol

Sample: TypeAlias = "Mol | str | None"

NOT_BUILT = "not built"
EMPTY = "no atoms"
SYNTAX = "SMILES syntax"
NO_WAY_BACK = "its SMILES does not parse"


def as_samples(samples: Iterable[Sample], name: str = "samples") -> list[Sample]:
    """A list of at least one sample.

    Raises:
        TypeError: something else than molecules, SMILES and None, or one string instead of a list.
        ValueError: none at all.
    """
    if isinstance(samples, str):
        raise TypeError(f"{name} is one string: give a list of molecules or SMILES")
    found, kind = list(samples), chem().Mol
    for number, sample in enumerate(found):
        if not (sample is None or isinstance(sample, (str, kind))):
            raise TypeError(f"{name}[{number}] is a {type(sample).__name__}: give an RDKit Mol, a SMILES or None")
    if not found:
        raise ValueError(f"{name} is empty: give at least one molecule")
    return found


def read_raw(sample: Sample) -> tuple["Mol | None", str]:
    """The molecule as it came, without any check of chemistry (a copy); or None and the reason."""
    if sample is None:
        return None, NOT_BUILT
    if isinstance(sample, str):
        # A field of several words would be read as a name: whole strings are judged.
        mol = chem().MolFromSmiles(sample, sanitize=False) if len(sample.split()) == 1 else None
        if mol is None:
            return None, SYNTAX if sample.strip() else EMPTY
    else:
        mol = chem().Mol(sample)
    return (mol, "") if mol.GetNumAtoms() else (None, EMPTY)


def by_smiles(mol: "Mol") -> tuple["Mol | None", str]:
    """What a reader of the molecule's SMILES gets: hydrogens implicit, stereo perceived, no coordinates."""
    read = chem().MolFromSmiles(chem().MolToSmiles(mol))
    return (read, "") if read is not None and read.GetNumAtoms() else (None, NO_WAY_BACK)


def as_molecules(samples: Iterable[Sample], name: str) -> list["Mol"]:
    """Sanitised molecules of samples that must all be good ones, as those of a reference.

    Raises:
        TypeError: as `as_samples`.
        ValueError: one that does not parse, with its number.
    """
    molecules = []
    with quiet():
        for number, sample in enumerate(as_samples(samples, name)):
            raw, reason = read_raw(sample)
            mol = None
            if raw is not None:
                mol, reason = sanitised(raw)
            if mol is not None:
                mol, reason = by_smiles(mol)
            if mol is None:
                shown = f" {sample!r}" if isinstance(sample, str) else ""
                raise ValueError(f"{name}[{number}]{shown} is no valid molecule ({reason}): keep valid ones only")
            molecules.append(mol)
    return molecules


def present(molecules: Sequence["Mol | None"]) -> list["Mol"]:
    """Those that are not None."""
    return [mol for mol in molecules if mol is not None]
