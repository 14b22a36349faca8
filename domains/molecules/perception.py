r"""Bonds of atoms in space, hydrogens among them: which atoms are joined, by RDKit, and by bonds of which order.

RDKit joins atoms that are near enough for their covalent radii and no more of them than an atom has room for. Orders
`o_e = 1 + x_e`, `x_e` 0 to 2, are then an integer programme: every atom `i` takes one of the valences that RDKit allows
an element with as many electrons, `V_i`, and as few atoms as possible are left short,

    minimise  sum_i u_i + small (sum_i V_i + sum_e x_e d_e),      sum_{e at i} o_e + s_i = V_i,    0 <= s_i <= 6 u_i,

with `d_e` the bond's length beside the covalent radii, so that of two ways shorter bonds get the higher orders. The
charges are those that the atoms are said to have; RDKit's own search (`rdDetermineBonds`, xyz2mol) takes the charge of
the whole alone, and leaves thiophenes with carbonyls, 2 % of the fragments of MOSES, as radicals or ions.

`bond_stability` of such molecules is EDM's question, whether each atom has the bonds that it should (Hoogeboom et al.
2022, 2203.17003), without EDM's tables of lengths (`distance_stability`), which know no double bond of sulfur and
oxygen and few aromatic lengths: of MOSES' fragments they call half unstable.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.building import build_molecule
from ornstein.domains.molecules.checking import quiet, sanitised
from ornstein.domains.molecules.vocabulary import AtomKind, GraphForm

__all__ = ["Perceived", "perceive_bonds"]

TO = {"to": "find the bonds of atoms in space", "extra": "molecules"}
EXPLICIT = GraphForm(hydrogens="explicit")
SMALL = 1e-3
ORDERS = {1: "single", 2: "double", 3: "triple"}


class Perceived(NamedTuple):
    """Atoms in space as a molecule.

    Attributes:
        raw: with the bonds that were found and a conformer, not sanitised; as many atoms as possible have a valence
            that they may have.
        mol: sanitised; None if atoms have no such valence or RDKit refuses it.
        reason: why there is no ``mol``, in one line; empty if there is.
    """

    raw: Any
    mol: Any
    reason: str = ""


def perceive_bonds(kinds: Sequence[AtomKind | str], positions: Any) -> Perceived:
    """The molecule of atoms in space, hydrogens among them.

    Args:
        kinds: of the atoms, with their charges, or names of kinds such as ``"C"`` or ``"N+"``.
        positions: ``(n, 3)`` in ångström.

    Raises:
        ValueError: positions of another shape, or that are not finite.

    Example:
        >>> found = perceive_bonds("OHH", [[0, 0, 0.12], [0, 0.76, -0.47], [0, -0.76, -0.47]])
        >>> [bond.GetBondType().name for bond in found.mol.GetBonds()]
        ['SINGLE', 'SINGLE']
    """
    places = np.asarray(positions, dtype=np.float64)
    require(
        places.shape == (len(kinds), 3), "shape of positions", places.shape, f"({len(kinds)}, 3), one for each atom"
    )
    require(bool(np.isfinite(places).all()), "positions", "NaN or infinite numbers", "finite ones")
    read = [AtomKind.parse(kind) if isinstance(kind, str) else kind for kind in kinds]
    read = [kind._replace(label="") for kind in read]
    joined = _joined(read, places)
    valences = [_valences(kind) for kind in read]
    orders, short = _orders(len(read), joined, valences, _stretch(read, joined, places))
    raw = build_molecule(read, [(i, j, ORDERS[order]) for (i, j), order in zip(joined, orders)], EXPLICIT)
    _place(raw, places)
    if short:
        names = ", ".join(dict.fromkeys(str(read[i]) for i in short))
        return Perceived(raw, None, f"no valence of {names}")
    with quiet():
        return Perceived(raw, *sanitised(raw))


def _joined(kinds: Sequence[AtomKind], places: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of atoms with a bond."""
    bare = build_molecule([AtomKind(kind.element) for kind in kinds], [], EXPLICIT)
    _place(bare, places)
    with quiet():
        need("rdkit.Chem.rdDetermineBonds", **TO).DetermineConnectivity(bare)
    ends = ((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in bare.GetBonds())
    return sorted((min(pair), max(pair)) for pair in ends)


def _valences(kind: AtomKind) -> list[int]:
    """Sums of bond orders that an atom may have, those of the element with as many electrons."""
    table = need("rdkit.Chem", **TO).GetPeriodicTable()
    electrons = table.GetAtomicNumber(kind.element) - kind.charge
    allowed = [0] if electrons <= 0 else list(table.GetValenceList(electrons))
    found = [value - kind.radicals for value in allowed if value >= kind.radicals]
    return list(range(9)) if -1 in allowed else found  # metals take any


def _stretch(kinds: Sequence[AtomKind], joined: Sequence[tuple[int, int]], places: np.ndarray) -> np.ndarray:
    """Lengths of bonds over the sum of the covalent radii."""
    table = need("rdkit.Chem", **TO).GetPeriodicTable()
    radii = [table.GetRcovalent(kind.element) for kind in kinds]
    return np.array([np.linalg.norm(places[i] - places[j]) / (radii[i] + radii[j]) for i, j in joined])


def _orders(
    atoms: int, joined: Sequence[tuple[int, int]], valences: Sequence[Sequence[int]], stretch: np.ndarray
) -> tuple[list[int], list[int]]:
    """Orders of the bonds, and the atoms that have no valence of theirs; the programme of the module's text."""
    optimize = need("scipy.optimize", **TO)
    choices = [(i, value) for i, allowed in enumerate(valences) for value in allowed]
    bonds, first_short = len(joined), len(joined) + len(choices)
    # Unknowns: x of each bond, which valence of each atom, s of each atom (of either sign), u of each atom.
    count = first_short + 2 * atoms
    sums, one, low, high = (np.zeros((atoms, count)) for _ in range(4))
    for e, pair in enumerate(joined):
        sums[list(pair), e] = 1
    for k, (i, value) in enumerate(choices):
        sums[i, bonds + k] = -value
        one[i, bonds + k] = 1
    each = np.arange(atoms)
    sums[each, first_short + each] = low[each, first_short + each] = high[each, first_short + each] = 1
    low[each, first_short + atoms + each], high[each, first_short + atoms + each] = 9, -9
    degree = np.bincount(np.array(joined, dtype=np.int64).reshape(-1), minlength=atoms)
    cost = np.zeros(count)
    cost[:bonds] = SMALL * stretch / max(bonds, 1)
    cost[bonds:first_short] = [SMALL * value / max(atoms, 1) for _, value in choices]
    cost[first_short + atoms :] = 1
    upper = np.concatenate([np.full(bonds, 2), np.ones(len(choices)), np.full(atoms, 9), np.ones(atoms)])
    lower = np.concatenate([np.zeros(first_short), np.full(atoms, -9), np.zeros(atoms)])
    rules = [
        optimize.LinearConstraint(sums, -degree, -degree),
        optimize.LinearConstraint(one, 1, 1),
        optimize.LinearConstraint(low, 0, np.inf),
        optimize.LinearConstraint(high, -np.inf, 0),
    ]
    found = optimize.milp(cost, integrality=np.ones(count), bounds=optimize.Bounds(lower, upper), constraints=rules)
    values = np.rint(found.x).astype(np.int64)
    return (1 + values[:bonds]).tolist(), np.flatnonzero(values[first_short + atoms :]).tolist()


def _place(mol: Any, places: np.ndarray) -> None:
    """Give a molecule its conformer."""
    conformer = need("rdkit.Chem", **TO).Conformer(len(places))
    conformer.Set3D(True)
    conformer.SetPositions(np.ascontiguousarray(places))
    mol.AddConformer(conformer, assignId=True)
