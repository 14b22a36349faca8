"""Small molecules cut out of larger ones at the bonds that BRICS breaks (Degen et al. 2008, 10.1002/cmdc.200800178).

A molecule falls into pieces at these bonds, of which the single ones are cut. A fragment is a piece, or several that
are still joined, with hydrogens where it was cut.
"""

from collections.abc import Iterable
from typing import Any

from ornstein.core.optional import need
from ornstein.core.schedules import require

__all__ = ["cut_fragments"]

TO = {"to": "cut molecules into fragments", "extra": "molecules"}


def cut_fragments(mol: Any, max_heavy_atoms: int = 9, min_heavy_atoms: int = 3) -> list[str]:
    """Canonical SMILES of the fragments of a molecule, without stereo, each once.

    Args:
        mol: sanitised.
        max_heavy_atoms, min_heavy_atoms: of a fragment.

    Raises:
        ValueError: numbers of atoms that leave nothing.

    Example:
        >>> from rdkit import Chem
        >>> cut_fragments(Chem.MolFromSmiles("CCOC(=O)c1ccccc1"))
        ['CCO', 'CCOC=O', 'O=C(O)c1ccccc1', 'O=CO', 'O=Cc1ccccc1', 'c1ccccc1']
    """
    require(1 <= min_heavy_atoms <= max_heavy_atoms, "min_heavy_atoms", min_heavy_atoms, f"1 to {max_heavy_atoms}")
    Chem, BRICS = need("rdkit.Chem", **TO), need("rdkit.Chem.BRICS", **TO)
    mol = Chem.Mol(mol)
    Chem.RemoveStereochemistry(mol)
    ends = {tuple(sorted(atoms)) for atoms, _ in BRICS.FindBRICSBonds(mol)}
    broken = [(mol.GetBondBetweenAtoms(*pair), pair) for pair in sorted(ends)]
    # BRICS breaks olefins too, where one hydrogen would not do.
    bonds = {bond.GetIdx(): pair for bond, pair in broken if bond.GetBondType() == Chem.BondType.SINGLE}
    piece_of = _pieces(Chem, mol, list(bonds))
    joined: dict[int, set[int]] = {piece: set() for piece in set(piece_of)}
    for i, j in bonds.values():
        joined[piece_of[i]].add(piece_of[j])
        joined[piece_of[j]].add(piece_of[i])
    sizes = {piece: piece_of.count(piece) for piece in joined}
    found = set()
    for group in _groups(joined, sizes, max_heavy_atoms):
        if sum(sizes[piece] for piece in group) >= min_heavy_atoms:
            cuts = [bond for bond, (i, j) in bonds.items() if (piece_of[i] in group) != (piece_of[j] in group)]
            found.add(_capped(Chem, mol, cuts, piece_of.index(min(group))))
    return sorted(found)


def _pieces(Chem: Any, mol: Any, bonds: list[int]) -> list[int]:
    """The number of the piece that each atom is in."""
    broken = Chem.FragmentOnBonds(mol, bonds, addDummies=False) if bonds else mol
    piece_of = [0] * mol.GetNumAtoms()
    for number, atoms in enumerate(Chem.GetMolFrags(broken)):
        for atom in atoms:
            piece_of[atom] = number
    return piece_of


def _groups(joined: dict[int, set[int]], sizes: dict[int, int], limit: int) -> Iterable[frozenset[int]]:
    """All sets of joined pieces that have at most ``limit`` atoms."""
    found = {frozenset([piece]) for piece in joined if sizes[piece] <= limit}
    open_groups = list(found)
    while open_groups:
        group = open_groups.pop()
        room = limit - sum(sizes[piece] for piece in group)
        for piece in {near for member in group for near in joined[member]} - group:
            larger = group | {piece}
            if sizes[piece] <= room and larger not in found:
                found.add(larger)
                open_groups.append(larger)
    return found


def _capped(Chem: Any, mol: Any, cuts: list[int], atom: int) -> str:
    """The part of a molecule that holds an atom, with hydrogens in place of the bonds that are cut."""
    if not cuts:
        return Chem.MolToSmiles(mol)
    broken = Chem.RWMol(Chem.FragmentOnBonds(mol, cuts, addDummies=True))
    for place in range(mol.GetNumAtoms(), broken.GetNumAtoms()):
        cap = broken.GetAtomWithIdx(place)
        cap.SetAtomicNum(1)
        cap.SetIsotope(0)
    atoms: list[tuple[int, ...]] = []
    parts = Chem.GetMolFrags(broken, asMols=True, fragsMolAtomMapping=atoms)
    part = next(part for part, places in zip(parts, atoms) if atom in places)
    return Chem.MolToSmiles(Chem.RemoveHs(part))
