"""What molecules a reader takes, what it refuses, and what it changes where it is told to."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.atoms import atoms_of
from ornstein.domains.molecules.checking import quiet
from ornstein.domains.molecules.stereo import has_stereo

__all__ = ["Admitted", "MoleculeRules"]

NONMETALS = (
    "H", "He", "B", "C", "N", "O", "F", "Ne", "Si", "P", "S", "Cl",
    "Ar", "Ge", "As", "Se", "Br", "Kr", "Sb", "Te", "I", "Xe", "At", "Rn",
)  # fmt: skip
"""Elements that are no metals, metalloids among them."""

LARGEST = "reduced to the largest fragment"
STRIPPED = "stripped of isotopes"
UNCHARGED = "neutralised"
FLAT = "stripped of stereo"
MAPS = "stripped of atom maps"


class Admitted(NamedTuple):
    """What rules make of a molecule.

    Attributes:
        mol: as it is taken; None if it is refused.
        reason: why it is refused, without figures of this molecule, so that like ones are counted together.
        detail: these figures.
        changes: what was done to it.
    """

    mol: Any
    reason: str = ""
    detail: str = ""
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MoleculeRules:
    """Which molecules to take. What is not to be taken is refused and counted; nothing is changed unless asked for.

    Dummy atoms (``*``), as of queries and attachment points, are always refused; atom map numbers are taken off.

    Args:
        fragments: of molecules of several, such as salts: ``"refuse"`` the molecule, keep the ``"largest"`` (by heavy
            atoms, then weight, then order), or ``"keep"`` all as one.
        isotopes: ``"refuse"``, ``"strip"`` the labels, or ``"keep"``.
        radicals: ``"refuse"`` or ``"keep"``.
        metals: ``"refuse"`` or ``"keep"``.
        charges: formal ones: ``"refuse"``, ``"neutralise"`` by adding and removing hydrogens, or ``"keep"``.
        stereo: ``"refuse"``, ``"drop"`` and count, or ``"keep"``.
        elements: the only ones taken, by symbol; all when not given.
        min_heavy_atoms, max_heavy_atoms: fewer or more are refused.
        duplicates: of a molecule that came before: ``"refuse"`` or ``"keep"``; they are counted either way.

    Raises:
        ValueError: another word, an unknown element, or numbers of atoms that leave nothing.
    """

    fragments: Literal["refuse", "largest", "keep"] = "refuse"
    isotopes: Literal["refuse", "strip", "keep"] = "refuse"
    radicals: Literal["refuse", "keep"] = "refuse"
    metals: Literal["refuse", "keep"] = "refuse"
    charges: Literal["refuse", "neutralise", "keep"] = "keep"
    stereo: Literal["refuse", "drop", "keep"] = "drop"
    elements: tuple[str, ...] | None = None
    min_heavy_atoms: int = 1
    max_heavy_atoms: int | None = 100
    duplicates: Literal["refuse", "keep"] = "keep"

    def __post_init__(self) -> None:
        for name in ("fragments", "isotopes", "radicals", "metals", "charges", "stereo", "duplicates"):
            words = get_args(type(self).__annotations__[name])
            require(getattr(self, name) in words, name, getattr(self, name), " or ".join(map(repr, words)))
        require(self.min_heavy_atoms >= 0, "min_heavy_atoms", self.min_heavy_atoms, "at least 0")
        if self.max_heavy_atoms is not None:
            enough = self.max_heavy_atoms >= max(1, self.min_heavy_atoms)
            require(enough, "max_heavy_atoms", self.max_heavy_atoms, f"at least {max(1, self.min_heavy_atoms)}")
        if self.elements is not None:
            if isinstance(self.elements, str):
                raise TypeError(f"elements={self.elements!r} is one string: expected symbols, such as ('C', 'N')")
            object.__setattr__(self, "elements", tuple(self.elements))
            unknown = [symbol for symbol in self.elements if symbol not in _symbols().values()]
            require(not unknown, "elements", self.elements, f"symbols of elements; {unknown[:1]} is none")

    def admit(self, mol: Any) -> Admitted:
        """Judge a sanitised molecule."""
        Chem = need("rdkit.Chem", to="read molecules", extra="molecules")
        changes = []
        if mol.GetNumAtoms() == 0:
            return Admitted(None, "no atoms")
        parts = Chem.GetMolFrags(mol)
        if len(parts) > 1 and self.fragments != "keep":
            if self.fragments == "refuse":
                return Admitted(None, "several fragments", f"{len(parts)}, such as in salts")
            mol, changes = _largest(Chem, mol), [LARGEST]
        atoms = atoms_of(mol)
        if any(atom.GetAtomMapNum() for atom in atoms):
            mol = Chem.Mol(mol)
            for atom in atoms_of(mol):
                atom.SetAtomMapNum(0)
            changes.append(MAPS)
        if any(atom.GetIsotope() for atom in atoms):
            if self.isotopes == "refuse":
                return Admitted(None, "isotopes", _some(atoms, lambda a: a.GetIsotope(), lambda a: a.GetIsotope()))
            if self.isotopes == "strip":
                mol = _without_isotopes(Chem, mol)
                changes.append(STRIPPED)
        if self.charges == "neutralise" and any(atom.GetFormalCharge() for atom in atoms):
            before = Chem.MolToSmiles(mol)
            mol = _neutral(mol)
            changes += [UNCHARGED] if Chem.MolToSmiles(mol) != before else []
        if self.stereo != "keep" and has_stereo(mol):
            if self.stereo == "refuse":
                return Admitted(None, "stereo")
            mol = Chem.Mol(mol)
            Chem.RemoveStereochemistry(mol)
            if mol.GetNumAtoms() > mol.GetNumHeavyAtoms() and mol.GetNumConformers() == 0:
                mol = Chem.RemoveHs(mol)  # one may have held the geometry of a double bond
            changes.append(FLAT)
        reason, detail = self._refusal(atoms_of(mol) if changes else atoms)
        return Admitted(None if reason else mol, reason, detail, tuple(changes))

    def _refusal(self, atoms: Sequence[Any]) -> tuple[str, str]:
        """Why atoms cannot be taken, and the figures; or nothing."""
        numbers = [atom.GetAtomicNum() for atom in atoms]
        if 0 in numbers:
            return "dummy atoms", ""
        if self.radicals == "refuse" and any(atom.GetNumRadicalElectrons() for atom in atoms):
            return "radicals", _some(atoms, lambda a: a.GetNumRadicalElectrons())
        symbols = [_symbols()[number] for number in dict.fromkeys(numbers)]
        if self.metals == "refuse" and (found := [symbol for symbol in symbols if symbol not in NONMETALS]):
            return "metals", ", ".join(found)
        if self.elements is not None and (found := [s for s in symbols if s not in self.elements and s != "H"]):
            return "other elements", ", ".join(found)
        if self.charges == "refuse" and any(atom.GetFormalCharge() for atom in atoms):
            return "charges", _some(atoms, lambda a: a.GetFormalCharge(), lambda a: f"{a.GetFormalCharge():+d}")
        heavy = len(atoms) - numbers.count(1)
        if self.max_heavy_atoms is not None and heavy > self.max_heavy_atoms:
            return f"more than {self.max_heavy_atoms} heavy atoms", str(heavy)
        if heavy < self.min_heavy_atoms:
            return f"less than {self.min_heavy_atoms} heavy atom{'s' * (self.min_heavy_atoms != 1)}", str(heavy)
        return "", ""


@lru_cache(maxsize=1)
def _symbols() -> dict[int, str]:
    table = need("rdkit.Chem", to="read molecules", extra="molecules").GetPeriodicTable()
    return {number: table.GetElementSymbol(number) for number in range(1, 119)}


def _some(atoms: Sequence[Any], chosen: Any, figure: Any = lambda atom: "") -> str:
    return ", ".join(dict.fromkeys(f"{figure(a)}{a.GetSymbol()}" for a in atoms if chosen(a)))


def _largest(Chem: Any, mol: Any) -> Any:
    weight = need("rdkit.Chem.Descriptors", to="weigh fragments", extra="molecules").MolWt
    parts = Chem.GetMolFrags(mol, asMols=True)
    return max(parts, key=lambda part: (part.GetNumHeavyAtoms(), weight(part)))  # the first of equals


def _without_isotopes(Chem: Any, mol: Any) -> Any:
    mol = Chem.Mol(mol)
    # Deuterium is an atom of its own for the sake of its label alone.
    labelled = any(atom.GetAtomicNum() == 1 and atom.GetIsotope() for atom in atoms_of(mol))
    for atom in atoms_of(mol):
        atom.SetIsotope(0)
    mol = Chem.RemoveHs(mol) if labelled and mol.GetNumConformers() == 0 else mol
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)  # a centre may have been one by its isotopes alone
    return mol


def _neutral(mol: Any) -> Any:
    standard = need("rdkit.Chem.MolStandardize.rdMolStandardize", to="neutralise molecules", extra="molecules")
    with quiet():
        return standard.Uncharger().uncharge(mol)
