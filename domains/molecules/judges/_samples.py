"""What is judged, read into RDKit: molecules, SMILES, or None for what could not be built; and reasons of refusal."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from ornstein.core.optional import need

if TYPE_CHECKING:
    from rdkit.Chem import Mol

Sample: TypeAlias = "Mol | str | None"

NOT_BUILT = "not built"
EMPTY = "no atoms"
SYNTAX = "SMILES syntax"
NO_WAY_BACK = "its SMILES does not parse"


def chem() -> Any:
    """``rdkit.Chem``.

    Raises:
        ImportError: rdkit is missing.
    """
    return need("rdkit.Chem", to="judge molecules", extra="molecules")


@contextmanager
def quiet() -> Iterator[None]:
    """RDKit says nothing meanwhile: a refusal is a result here, not a message."""
    with need("rdkit.rdBase", to="judge molecules", extra="molecules").BlockLogs():
        yield


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


def sanitised(raw: "Mol") -> tuple["Mol | None", str]:
    """A copy that passes all of RDKit's checks, or None and the first of its problems."""
    mol = chem().Mol(raw)
    try:
        chem().SanitizeMol(mol)
    except ValueError as error:
        problems = chem().DetectChemistryProblems(raw)
        return None, problem_name(raw, problems[0]) if problems else str(error).strip().splitlines()[0]
    return mol, ""


def problem_name(mol: "Mol", problem: Any) -> str:
    """A problem of chemistry in a few words, without numbers of atoms, so that like ones are counted together."""
    kind = problem.GetType()
    if kind == "AtomValenceException":
        atom = mol.GetAtomWithIdx(problem.GetAtomIdx())
        charge = atom.GetFormalCharge()
        return f"valence {bond_orders(atom)} of {atom.GetSymbol()}{f' {charge:+d}' if charge else ''}"
    names = {"KekulizeException": "no Kekulé structure", "AtomKekulizeException": "aromatic atom outside a ring"}
    return names.get(kind, kind)


def bond_orders(atom: Any) -> int:
    """Sum of the orders of an atom's bonds and of the hydrogens written on it; halves of aromatic bonds rounded up."""
    return int(sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds()) + atom.GetNumExplicitHs() + 0.5)


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
