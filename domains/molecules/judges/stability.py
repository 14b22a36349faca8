r"""Stability: does every atom have as many bonds as it should, hydrogens explicit?

| judge | where bonds come from | what an atom should have |
| --- | --- | --- |
| `distance_stability` | distances, by EDM's tables (Hoogeboom et al. 2022, 2203.17003) | EDM's list, without charges |
| `bond_stability`, ``rule="valence"`` | the molecule, in a Kekulé form | RDKit's, of the isoelectronic element |
| `bond_stability`, ``rule="midi"`` | the molecule | MiDi's list by charge (Vignac et al. 2023, 2302.09048) |

Two atoms have a bond of order `o` in EDM if they are nearer than the usual length of the pair plus a margin of 10, 5 or
3 pm for `o` = 1, 2, 3, the highest order that fits. An atom is stable if the orders of its bonds add up to what it
should have, a molecule if all its atoms are. MiDi's code counts an aromatic bond as 1 and therefore lets C have 3 bonds
and N 2; ``rule="valence"`` is the strict form of the question. Without explicit hydrogens nearly nothing is stable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import chem, quiet

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["Stability", "bond_stability", "distance_orders", "distance_stability"]

# Usual lengths in pm, of one bond, two and three, as EDM has them; each pair once, for both orders. (In EDM's code a
# double bond of S and C counts only if C comes first.)
_SINGLE = """H-H 74 H-C 109 H-N 101 H-O 96 H-F 92 H-B 119 H-Si 148 H-P 144 H-As 152 H-S 134 H-Cl 127 H-Br 141 H-I 161
C-C 154 C-N 147 C-O 143 C-F 135 C-Si 185 C-P 184 C-S 182 C-Cl 177 C-Br 194 C-I 214
N-N 145 N-O 140 N-F 136 N-Cl 175 N-Br 214 N-S 168 N-I 222 N-P 177
O-O 148 O-F 142 O-Br 172 O-S 151 O-P 163 O-Si 163 O-Cl 164 O-I 194
F-F 142 F-S 158 F-Si 160 F-Cl 166 F-Br 178 F-P 156 F-I 187 B-Cl 175
Si-Si 233 Si-S 200 Si-Cl 202 Si-Br 215 Si-I 243 Cl-Cl 199 Cl-P 203 Cl-S 207 Cl-Br 214
S-S 204 S-Br 225 S-P 210 S-I 234 Br-Br 228 Br-P 222 P-P 221 I-I 266"""
_DOUBLE = "C-C 134 C-N 129 C-O 120 C-S 160 N-N 125 N-O 121 O-O 121 O-P 150 P-S 186"
_TRIPLE = "C-C 120 C-N 116 C-O 113 N-N 110"
MARGINS = (10.0, 5.0, 3.0)

EDM_VALENCES: dict[str, tuple[int, ...]] = {
    "H": (1,), "B": (3,), "C": (4,), "N": (3,), "O": (2,), "F": (1,), "Al": (3,), "Si": (4,), "P": (3, 5), "S": (4,),
    "Cl": (1,), "As": (3,), "Br": (1,), "I": (1,), "Hg": (1, 2), "Bi": (3, 5),
}  # fmt: skip
"""EDM's bonds an atom should have; an element that it lacks is never stable."""

MIDI_VALENCES: dict[str, dict[int, tuple[int, ...]]] = {
    "H": {0: (1,), 1: (0,), -1: (0,)},
    "C": {0: (3, 4), 1: (3,), -1: (3,)},
    "N": {0: (2, 3), 1: (2, 3, 4), -1: (2,)},
    "O": {0: (2,), 1: (3,), -1: (1,)},
    "F": {0: (1,), -1: (0,)},
    "P": {0: (3, 5), 1: (4,)},
    "S": {0: (2, 6), 1: (2, 3), 2: (4,), 3: (5,), -1: (3,)},
    "Br": {0: (1,), 1: (2,)},
    "B": {0: (3,)}, "Al": {0: (3,)}, "Si": {0: (4,)}, "Cl": {0: (1,)}, "As": {0: (3,)}, "I": {0: (1,)},
    "Hg": {0: (1, 2)}, "Bi": {0: (3, 5)}, "Se": {0: (2, 4, 6)},
}  # fmt: skip
"""MiDi's, by charge; a charge that is not listed is taken for 0."""


@dataclass(frozen=True)
class Stability:
    """How many atoms and molecules are stable.

    Attributes:
        molecules: number of molecules.
        atoms: number of their atoms.
        stable_molecules: of them; one without atoms is not.
        stable_atoms: of them.
    """

    molecules: int
    atoms: int
    stable_molecules: int
    stable_atoms: int

    @property
    def atom(self) -> float:
        """Atom stability; 0 where there is no atom."""
        return self.stable_atoms / max(self.atoms, 1)

    @property
    def molecule(self) -> float:
        """Molecule stability."""
        return self.stable_molecules / self.molecules


def distance_stability(molecules: Sequence["Mol | None"]) -> Stability:
    """Stability by EDM's tables, from positions of all atoms; bonds of the molecules are not looked at.

    Args:
        molecules: with a conformer in Å each and explicit hydrogens; None, what could not be built, is not stable.

    Raises:
        ValueError: no molecules, or one without positions.
    """
    flags = []
    for number, mol in enumerate(_some(molecules)):
        if mol is None or not mol.GetNumAtoms():
            flags.append(np.zeros(0, bool))
            continue
        require(mol.GetNumConformers() > 0, f"molecules[{number}]", "no positions", "a conformer")
        elements = [atom.GetSymbol() for atom in mol.GetAtoms()]
        bonds = distance_orders(elements, mol.GetConformer().GetPositions()).sum(1)
        flags.append(np.array([int(n) in EDM_VALENCES.get(element, ()) for element, n in zip(elements, bonds)]))
    return _counted(flags)


def distance_orders(elements: Sequence[str], positions: np.ndarray) -> np.ndarray:
    """Order of the bond between each pair by EDM's tables, ``(n, n)`` int64 in 0..3.

    Args:
        elements: n symbols; pairs that the tables lack have no bond.
        positions: ``(n, 3)`` in Å.

    Raises:
        ValueError: numbers that do not agree.
    """
    require(
        np.shape(positions) == (len(elements), 3), "shape of positions", np.shape(positions), "(n, 3) of n elements"
    )
    apart = 100 * np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    orders = np.zeros(apart.shape, np.int64)
    usual = [[[table.get((a, b), -np.inf) for b in elements] for a in elements] for table in _LENGTHS]
    near = np.ones(apart.shape, bool)
    for limits, margin in zip(usual, MARGINS):
        # Each order asks for the one before: a pair that is too far for a single bond has no other.
        near &= apart < np.reshape(limits, apart.shape) + margin
        orders += near
    np.fill_diagonal(orders, 0)
    return orders


def bond_stability(molecules: Sequence["Mol | None"], *, rule: str = "valence") -> Stability:
    """Stability of the molecules' own bonds.

    Args:
        molecules: with explicit hydrogens; None, what could not be built, is not stable.
        rule: ``"valence"`` or ``"midi"``, see the module's text.

    Raises:
        ValueError: no molecules, or an unknown rule.
    """
    rules = {"valence": _by_valence, "midi": _by_midi}
    require(rule in rules, "rule", rule, " or ".join(rules))
    return _counted([np.zeros(0, bool) if mol is None else rules[rule](mol) for mol in _some(molecules)])


def _by_valence(mol: "Mol") -> np.ndarray:
    """Whether the bonds of each atom are allowed to the element with as many electrons."""
    whole = chem().RWMol(mol)
    with quiet():
        try:
            chem().Kekulize(whole, clearAromaticFlags=True)
        except ValueError:
            return np.zeros(mol.GetNumAtoms(), bool)
    table = chem().GetPeriodicTable()
    flags = []
    for atom in whole.GetAtoms():
        electrons = atom.GetAtomicNum() - atom.GetFormalCharge()
        allowed = [0] if electrons <= 0 else list(table.GetValenceList(electrons))
        orders = sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds()) + atom.GetNumExplicitHs()
        flags.append(orders in allowed or -1 in allowed)
    return np.array(flags, bool)


def _by_midi(mol: "Mol") -> np.ndarray:
    flags = []
    for atom in mol.GetAtoms():
        orders = sum(int(bond.GetBondTypeAsDouble()) for bond in atom.GetBonds())  # aromatic: 1
        charges = MIDI_VALENCES.get(atom.GetSymbol(), {0: ()})
        allowed = charges.get(atom.GetFormalCharge(), charges[0])
        flags.append(orders + atom.GetNumExplicitHs() in allowed)
    return np.array(flags, bool)


def _some(molecules: Sequence["Mol | None"]) -> Sequence["Mol | None"]:
    require(len(molecules) > 0, "molecules", "none", "at least one")
    return molecules


def _counted(flags: Sequence[np.ndarray]) -> Stability:
    return Stability(
        len(flags),
        sum(len(atoms) for atoms in flags),
        sum(len(atoms) > 0 and bool(atoms.all()) for atoms in flags),
        sum(int(atoms.sum()) for atoms in flags),
    )


def _read(table: str) -> dict[tuple[str, str], float]:
    words = table.split()
    found = {}
    for pair, length in zip(words[::2], words[1::2]):
        a, b = pair.split("-")
        found[a, b] = found[b, a] = float(length)
    return found


_LENGTHS = tuple(_read(table) for table in (_SINGLE, _DOUBLE, _TRIPLE))
