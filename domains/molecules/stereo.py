"""Stereo as labels of Cahn, Ingold and Prelog, read off molecules and put back.

RDKit keeps a tetrahedral centre as the sense of rotation of its neighbours in the order of their numbers, which changes
when atoms are renumbered. The labels ``R``, ``S`` (``r``, ``s`` at pseudoasymmetric centres) of atoms and ``E``, ``Z``
of double bonds do not. They are those of RDKit's implementation of the new rules (Hanson et al. 2018,
10.1021/acs.jcim.8b00324). They do not hold everything: a spiro ring can have centres without a label, and there are
forms of stereo that are neither, as in allenes.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

from ornstein.core.optional import need
from ornstein.domains.molecules.atoms import atoms_of, bonds_of

__all__ = ["has_stereo", "put_labels", "stereo_labels"]

LABEL = "_CIPCode"

TRIED = 8  # centres and bonds whose senses are tried in all ways, 256 of them


def has_stereo(mol: Any) -> bool:
    """Whether any atom or bond has a known configuration."""
    Chem = need("rdkit.Chem", to="read stereo", extra="molecules")
    plain, unknown = Chem.ChiralType.CHI_UNSPECIFIED, (Chem.BondStereo.STEREONONE, Chem.BondStereo.STEREOANY)
    return any(atom.GetChiralTag() != plain for atom in atoms_of(mol)) or any(
        bond.GetStereo() not in unknown for bond in bonds_of(mol)
    )


def stereo_labels(mol: Any) -> tuple[dict[int, str], dict[int, str]]:
    """The labels of a sanitised molecule's atoms and double bonds, by their numbers; they stay on it as properties."""
    labeler = need("rdkit.Chem.rdCIPLabeler", to="read stereo", extra="molecules")
    parts = atoms_of(mol), bonds_of(mol)
    for part in (*parts[0], *parts[1]):
        part.ClearProp(LABEL)
    labeler.AssignCIPLabels(mol)
    atoms, bonds = ({i: part.GetProp(LABEL) for i, part in enumerate(some) if part.HasProp(LABEL)} for some in parts)
    return atoms, {number: label for number, label in bonds.items() if label in "EZ"}


def put_labels(mol: Any, atoms: Mapping[int, str], bonds: Mapping[int, str]) -> list[str]:
    """Give a sanitised molecule the stereo of these labels, in place.

    Centres are set to one sense and those with another label flipped. Where labels depend on each other, as on rings
    with many centres, all senses are tried, of at most `TRIED` centres and bonds.

    Args:
        mol: without stereo.
        atoms, bonds: labels by number.

    Returns:
        What could not be had, such as ``"atom 3: R"``: a label where there is no centre; there is no stereo there then.
    """
    Chem = need("rdkit.Chem", to="write stereo", extra="molecules")
    wanted = _possible(Chem, mol, atoms, bonds)
    for part in wanted:
        _set(Chem, mol, part, False)
    for _ in range(2):
        for part in _wrong(mol, wanted):
            _set(Chem, mol, part, True)
    if _wrong(mol, wanted) and len(wanted) <= TRIED:
        for senses in product((False, True), repeat=len(wanted)):
            for part, sense in zip(wanted, senses):
                _set(Chem, mol, part, sense)
            if not _wrong(mol, wanted):
                break
    lost = set(_wrong(mol, wanted))
    for kind, number in lost:
        if kind == "atom":
            mol.GetAtomWithIdx(number).SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
        else:
            mol.GetBondWithIdx(number).SetStereo(Chem.BondStereo.STEREONONE)
    if bonds:
        # RDKit's own clean-up knows double bonds by the directions of their neighbours alone.
        Chem.SetDoubleBondNeighborDirections(mol)
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    given = {**{("atom", i): label for i, label in atoms.items()}, **{("bond", i): label for i, label in bonds.items()}}
    return [
        f"{kind} {i}: {label}" for (kind, i), label in given.items() if (kind, i) in lost or (kind, i) not in wanted
    ]


Part = tuple[str, int]


def _possible(Chem: Any, mol: Any, atoms: Mapping[int, str], bonds: Mapping[int, str]) -> dict[Part, str]:
    """The labels that are where there can be stereo."""
    kinds = {Chem.StereoType.Atom_Tetrahedral: "atom", Chem.StereoType.Bond_Double: "bond"}
    centres = {(kinds.get(found.type), int(found.centeredOn)) for found in Chem.FindPotentialStereo(mol)}
    found: dict[Part, str] = {("atom", i): label for i, label in atoms.items() if ("atom", i) in centres}
    cis = Chem.BondStereo.STEREOCIS
    for i, label in bonds.items():
        if ("bond", i) in centres and _set_stereo_atoms(mol.GetBondWithIdx(i), cis):
            found["bond", i] = label
    return found


def _wrong(mol: Any, wanted: Mapping[Part, str]) -> list[Part]:
    atoms, bonds = stereo_labels(mol)
    return [(kind, i) for (kind, i), label in wanted.items() if (atoms if kind == "atom" else bonds).get(i) != label]


def _set(Chem: Any, mol: Any, part: Part, other: bool) -> None:
    """Give a centre or a double bond one sense or the other."""
    kind, number = part
    if kind == "atom":
        senses = Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW
        mol.GetAtomWithIdx(number).SetChiralTag(senses[other])
    else:
        mol.GetBondWithIdx(number).SetStereo((Chem.BondStereo.STEREOCIS, Chem.BondStereo.STEREOTRANS)[other])


def _set_stereo_atoms(bond: Any, stereo: Any) -> bool:
    """Make some neighbour of each end of a double bond the one that its geometry is meant by; False if one has none."""
    ends = bond.GetBeginAtom(), bond.GetEndAtom()
    sides = [
        [atom.GetIdx() for atom in end.GetNeighbors() if atom.GetIdx() != far.GetIdx()]
        for end, far in (ends, ends[::-1])
    ]
    if not all(sides):
        return False
    bond.SetStereoAtoms(sides[0][0], sides[1][0])
    bond.SetStereo(stereo)
    return True
