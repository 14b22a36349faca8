"""Molecules of which a part is given: scaffolds to decorate and fragments to link, as states whose parts are known.

The given atoms come first, in the order that they have in their molecule, and keep their categories; so does every pair
of them, those without a bond too. New atoms may be bonded to atoms that are open: those that dummy atoms (``*``) point
at, as in ``c1ccc([*:1])cc1``, or else all that have room for a bond.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ornstein.core.optional import need
from ornstein.domains.molecules.facts import MoleculeFacts
from ornstein.domains.molecules.graphs import encode_graph
from ornstein.domains.molecules.pairs import as_matrix, as_pairs, num_pairs, pair_indices

__all__ = ["KnownPart", "held_places", "known_part"]


@dataclass(frozen=True, eq=False)
class KnownPart:
    """What is given of a molecule.

    Attributes:
        mol: without dummy atoms, in the order of the atoms.
        atoms: ``(n,)``, categories.
        bonds: ``(n, n)``, categories, symmetric.
        open: ``(n,)``, True where new atoms may be bonded.
        pieces: of how many fragments it is.
    """

    mol: Any
    atoms: Tensor
    bonds: Tensor
    open: Tensor
    pieces: int

    def __len__(self) -> int:
        return len(self.atoms)

    def seen_in(self, mol: Any) -> bool:
        """Whether RDKit finds it in a molecule; True of what is none."""
        return mol is None or mol.HasSubstructMatch(self.mol)

    def states(self, num: int, width: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """``num`` states of ``width`` atoms that hold it, and where they are given."""
        n = len(self)
        atoms = torch.zeros(width, dtype=torch.int64)
        atoms[:n] = self.atoms
        bonds = torch.zeros(width, width, dtype=torch.int64)
        bonds[:n, :n] = self.bonds
        rows, columns = pair_indices(width)
        given = (columns < n) | ((rows < n) & ~self.open[rows.clamp(max=n - 1)])
        places = {"atoms": torch.arange(width) < n, "bonds": given}
        known = {"atoms": atoms, "bonds": as_pairs(bonds[None])[0] if width > 1 else torch.zeros(0, dtype=torch.int64)}
        assert len(known["bonds"]) == num_pairs(width)
        return (
            {name: value.expand(num, -1) for name, value in known.items()},
            {name: value.expand(num, -1) for name, value in places.items()},
        )


def known_part(mols: Any | Sequence[Any], facts: MoleculeFacts) -> KnownPart:
    """What is given, of a molecule or several.

    Args:
        mols: RDKit molecules or SMILES, of one or more fragments each, perhaps with dummy atoms.
        facts: of the model's data.

    Raises:
        ValueError: invalid SMILES, a dummy atom that is not bonded once, singly; atoms or bonds that the model does not
            know; no atom that new ones could be bonded to; or a model of explicit hydrogens.
    """
    Chem = need("rdkit.Chem", to="read molecules", extra="molecules")
    if facts.vocabulary.form.hydrogens == "explicit":
        raise ValueError("the model writes hydrogens as atoms, which would be given too; train one with implicit ones")
    many = [mols] if isinstance(mols, str) or not isinstance(mols, Sequence) else list(mols)
    whole = None
    for one in many:
        read = Chem.MolFromSmiles(one) if isinstance(one, str) else one
        if read is None:
            raise ValueError(f"{one!r} is no valid SMILES")
        whole = read if whole is None else Chem.CombineMols(whole, read)
    if whole is None or not whole.GetNumAtoms():
        raise ValueError("nothing is given: expected a molecule of at least one atom")
    mol, marked = _without_dummies(Chem, whole)
    as_they_come = replace(facts.vocabulary, form=replace(facts.vocabulary.form, ordered=False))
    try:
        graph = encode_graph(mol, as_they_come)
    except ValueError as error:
        raise ValueError(f"what is given cannot be held: {error}") from error
    bonds = as_matrix(graph["bonds"][None])[0] if len(graph["atoms"]) > 1 else torch.zeros(1, 1, dtype=torch.int64)
    sums = torch.tensor(facts.vocabulary.orders)[bonds].sum(1)
    room = torch.tensor(facts.valences)[graph["atoms"]] - sums
    able = room > 1 - 1e-6
    if marked is not None:
        if full := [i for i in marked if not able[i]]:
            atom = mol.GetAtomWithIdx(full[0])
            raise ValueError(f"atom {full[0]} ({atom.GetSymbol()}) has a dummy atom and no room for a bond")
        able = torch.zeros_like(able)
        able[marked] = True
    if not bool(able.any()):
        raise ValueError("no atom of what is given has room for a bond; mark one by a dummy atom, '*'")
    return KnownPart(mol, graph["atoms"], bonds, able, len(Chem.GetMolFrags(mol)))


def held_places(mol: Any, part: Any, width: int) -> dict[str, Tensor]:
    """Where a substructure of a molecule is, its atoms and all pairs of them, ``(1, ...)`` by name.

    Args:
        mol: the molecule, its atoms in the order of the state.
        part: RDKit molecule; None for invalid SMILES.
        width: atoms of the state.

    Raises:
        ValueError: invalid SMILES, or no part of the molecule.
    """
    Chem = need("rdkit.Chem", to="read molecules", extra="molecules")
    match = None if part is None else mol.GetSubstructMatch(part)
    if not match:
        shown = "invalid SMILES" if part is None else Chem.MolToSmiles(part)
        raise ValueError(f"hold is {shown}: expected a substructure of {Chem.MolToSmiles(mol)}")
    atoms = torch.zeros(1, width, dtype=torch.bool)
    atoms[0, list(match)] = True
    rows, columns = pair_indices(width)
    return {"atoms": atoms, "bonds": atoms[:, rows] & atoms[:, columns]}


def _without_dummies(Chem: Any, mol: Any) -> tuple[Any, list[int] | None]:
    """The molecule without hydrogens and dummy atoms, sanitised, and the atoms that these marked; None without any."""
    mol = Chem.RemoveHs(mol)
    Chem.RemoveStereochemistry(mol)
    dummies = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() == 0]
    if not dummies:
        return mol, None
    work = Chem.RWMol(mol)
    Chem.Kekulize(work, clearAromaticFlags=True)  # or a ring whose nitrogen loses its dummy has no Kekulé form
    marked = []
    for number in dummies:
        bonds = work.GetAtomWithIdx(number).GetBonds()
        if len(bonds) != 1 or bonds[0].GetBondType() != Chem.BondType.SINGLE:
            raise ValueError(f"dummy atom {number}: expected one single bond, to an atom that is open")
        marked.append(bonds[0].GetOtherAtomIdx(number))
    if set(marked) & set(dummies):
        raise ValueError("a dummy atom is bonded to another: expected each at an atom that is open")
    for number in sorted(dummies, reverse=True):
        work.RemoveAtom(number)
    found = work.GetMol()
    Chem.SanitizeMol(found)
    return found, sorted({place - sum(number < place for number in dummies) for place in marked})
