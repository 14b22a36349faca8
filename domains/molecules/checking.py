"""RDKit without its messages, and its checks of a molecule with the reason of a refusal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ornstein.core.optional import need

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["bond_orders", "chem", "problem_name", "quiet", "sanitised"]


def chem() -> Any:
    """``rdkit.Chem``.

    Raises:
        ImportError: rdkit is missing.
    """
    return need("rdkit.Chem", to="check molecules", extra="molecules")


@contextmanager
def quiet() -> Iterator[None]:
    """RDKit says nothing meanwhile: a refusal is a result here, not a message."""
    with need("rdkit.rdBase", to="check molecules", extra="molecules").BlockLogs():
        yield


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
