"""Molecules of atoms and bonds: as they are, and as RDKit accepts them."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ornstein.core.optional import need
from ornstein.domains.molecules.atoms import atoms_of, bonds_of
from ornstein.domains.molecules.checking import quiet, sanitised
from ornstein.domains.molecules.stereo import put_labels
from ornstein.domains.molecules.vocabulary import AtomKind, GraphForm

__all__ = ["Checked", "build_molecule", "sanitise"]

BOND_TYPES = {
    "single": "SINGLE", "double": "DOUBLE", "triple": "TRIPLE", "quadruple": "QUADRUPLE", "aromatic": "AROMATIC",
    "double E": "DOUBLE", "double Z": "DOUBLE",
}  # fmt: skip

LABEL = "_ornstein_label"


class Checked(NamedTuple):
    """A molecule that was checked.

    Attributes:
        mol: sanitised; None if RDKit refuses it.
        reason: why it does, in one line; empty if it does not.
        lost: stereo labels that no stereo could be made of, such as ``"atom 3: R"``.
    """

    mol: Any
    reason: str = ""
    lost: tuple[str, ...] = ()


def build_molecule(kinds: Sequence[AtomKind], bonds: Sequence[tuple[int, int, str]], form: GraphForm) -> Any:
    """The `Mol` of these atoms and bonds, whether or not it makes sense: not sanitised, without stereo.

    Atoms keep their numbers. Stereo labels stay on atoms and bonds, for `sanitise`.

    Args:
        kinds: of the atoms.
        bonds: first atom, second atom and name.
        form: with implicit hydrogens, atoms whose kind does not say how many they have get what RDKit's valence model
            gives; with explicit ones, none.
    """
    Chem = need("rdkit.Chem", to="build molecules", extra="molecules")
    mol = Chem.RWMol()
    for kind in kinds:
        mol.AddAtom(_atom(kind, form.hydrogens == "explicit"))
    for i, j, name in bonds:
        number = mol.AddBond(i, j, getattr(Chem.BondType, BOND_TYPES[name])) - 1
        if name == "aromatic":
            mol.GetBondWithIdx(number).SetIsAromatic(True)
            for atom in (i, j):
                mol.GetAtomWithIdx(atom).SetIsAromatic(True)
        elif name.startswith("double "):
            mol.GetBondWithIdx(number).SetProp(LABEL, name[-1])
    found = mol.GetMol()
    found.UpdatePropertyCache(strict=False)
    return found


@lru_cache(maxsize=4096)
def _atom(kind: AtomKind, explicit: bool) -> Any:
    Chem = need("rdkit.Chem", to="build molecules", extra="molecules")
    atom = Chem.Atom(kind.element)
    atom.SetFormalCharge(kind.charge)
    if kind.hydrogens is not None or explicit:
        atom.SetNoImplicit(True)
        atom.SetNumExplicitHs(kind.hydrogens or 0)
    if kind.radicals:
        atom.SetNumRadicalElectrons(kind.radicals)
    if kind.isotope:
        atom.SetIsotope(kind.isotope)
    if kind.label:
        atom.SetProp(LABEL, kind.label)
    return atom


def sanitise(mol: Any) -> Checked:
    """A sanitised copy of a molecule, with the stereo that `build_molecule` left as labels; or why there is none."""
    with quiet():
        found, reason = sanitised(mol)
    if found is None:
        return Checked(None, reason)
    atoms = {i: atom.GetProp(LABEL) for i, atom in enumerate(atoms_of(found)) if atom.HasProp(LABEL)}
    bonds = {i: bond.GetProp(LABEL) for i, bond in enumerate(bonds_of(found)) if bond.HasProp(LABEL)}
    lost = put_labels(found, atoms, bonds) if atoms or bonds else []
    return Checked(found, lost=tuple(lost))
