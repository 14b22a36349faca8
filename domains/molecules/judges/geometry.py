r"""Do bond lengths, angles and torsions of molecules in space have the distribution of real ones?

Values are gathered by type: lengths by the two elements and the order of the bond, angles by the element at the vertex,
its neighbours and the two bonds, torsions by the bond in the middle, its order and whether it is in a ring. For each
type that the reference has,

    W = W_1(values of the samples, values of the reference),

in Å or degrees; torsions lie on a circle of 360 degrees and count without sign, so that mirror images agree:
`|torsion|` in [0, 180]. `mean` weighs types by how often the reference has them. (MiDi, Vignac et al. 2023,
2302.09048, tells bonds apart by their order alone and bins at 0.01 Å; here nothing is binned.)
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ornstein.core.evaluation import wasserstein_1d
from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import chem

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["GeometryDistance", "bond_angles", "bond_lengths", "geometry_distances", "torsions"]

Values = dict[str, np.ndarray]
_MARKS = {1.0: "-", 1.5: ":", 2.0: "=", 3.0: "#"}


@dataclass(frozen=True)
class GeometryDistance:
    """Distances of one kind of value.

    Attributes:
        by_type: Wasserstein-1 distance of each type that both sides have at least ``at_least`` times.
        counts: how often the samples and the reference have each type, of all types of either.
        mean: of ``by_type``, weighed by the counts of the reference; NaN where nothing can be compared.
        compared: share of the reference's values that are of a type in ``by_type``.
    """

    by_type: dict[str, float]
    counts: dict[str, tuple[int, int]]
    mean: float
    compared: float

    @property
    def worst(self) -> tuple[str, float]:
        """The type farthest off, and how far; ``("", nan)`` where nothing can be compared."""
        return max(self.by_type.items(), key=lambda item: item[1], default=("", float("nan")))


def geometry_distances(
    molecules: Sequence["Mol"], reference: Sequence["Mol"], *, at_least: int = 5
) -> dict[str, GeometryDistance]:
    """Distances of ``"bond_length"`` (Å), ``"bond_angle"`` and ``"torsion"`` (degrees).

    Args:
        molecules: each with a conformer in Å; the first counts.
        reference: real ones, alike.
        at_least: how many values of a type both sides need for it to be compared.

    Raises:
        ValueError: no molecules on one side, one without positions, or ``at_least < 1``.
    """
    require(at_least >= 1, "at_least", at_least, "at least 1")
    kinds: dict[str, Callable[[Sequence[Mol]], Values]]
    kinds = {"bond_length": bond_lengths, "bond_angle": bond_angles, "torsion": torsions}
    return {name: _compare(gather(molecules), gather(reference), at_least) for name, gather in kinds.items()}


def bond_lengths(molecules: Sequence["Mol"]) -> Values:
    """Lengths in Å by type, as in ``"C=O"``: elements in the order of the alphabet, aromatic bonds as ``:``."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for mol, positions in _placed(molecules):
        for bond in mol.GetBonds():
            a, b = bond.GetBeginAtom(), bond.GetEndAtom()
            first, second = sorted((a.GetSymbol(), b.GetSymbol()))
            length = float(np.linalg.norm(positions[a.GetIdx()] - positions[b.GetIdx()]))
            found[f"{first}{_mark(bond)}{second}"].append(length)
    return _arrays(found)


def bond_angles(molecules: Sequence["Mol"]) -> Values:
    """Angles in degrees by type, as in ``"C-C=O"``, the vertex in the middle."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for mol, positions in _placed(molecules):
        for vertex in mol.GetAtoms():
            bonds = list(vertex.GetBonds())
            for i, one in enumerate(bonds):
                for other in bonds[:i]:
                    ends = [bond.GetOtherAtom(vertex) for bond in (one, other)]
                    arms = [positions[end.GetIdx()] - positions[vertex.GetIdx()] for end in ends]
                    left = f"{ends[0].GetSymbol()}{_mark(one)}", f"{_mark(one)}{ends[0].GetSymbol()}"
                    right = f"{ends[1].GetSymbol()}{_mark(other)}", f"{_mark(other)}{ends[1].GetSymbol()}"
                    name = min(left[0] + vertex.GetSymbol() + right[1], right[0] + vertex.GetSymbol() + left[1])
                    found[name].append(_angle(*arms))
    return _arrays(found)


def torsions(molecules: Sequence["Mol"]) -> Values:
    """Torsions without sign, in [0, 180] degrees, by their middle bond, as in ``"C-N"`` or ``"C-C ring"``."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    transforms = need("rdkit.Chem.rdMolTransforms", to="measure torsions", extra="molecules")
    for placed, _ in _placed(molecules):
        mol = chem().Mol(placed)  # rings are looked for in a copy
        chem().FastFindRings(mol)
        conformer = mol.GetConformer()
        for bond in mol.GetBonds():
            b, c = bond.GetBeginAtom(), bond.GetEndAtom()
            first, second = sorted((b.GetSymbol(), c.GetSymbol()))
            name = f"{first}{_mark(bond)}{second}{' ring' if bond.IsInRing() else ''}"
            for a in b.GetNeighbors():
                for d in c.GetNeighbors():
                    ids = a.GetIdx(), b.GetIdx(), c.GetIdx(), d.GetIdx()
                    if len(set(ids)) == 4:
                        value = abs(transforms.GetDihedralDeg(conformer, *ids))
                        if np.isfinite(value):  # atoms in one line have none
                            found[name].append(float(value))
    return _arrays(found)


def _compare(values: Values, reference: Values, at_least: int) -> GeometryDistance:
    counts = {
        name: (len(values.get(name, ())), len(reference.get(name, ())))
        for name in sorted(values.keys() | reference.keys())
    }
    shared = [name for name, (made, real) in counts.items() if min(made, real) >= at_least]
    by_type = {name: float(wasserstein_1d(values[name][:, None], reference[name][:, None])) for name in shared}
    weight, total = sum(counts[name][1] for name in shared), sum(real for _, real in counts.values())
    mean = sum(counts[name][1] * far for name, far in by_type.items()) / weight if weight else float("nan")
    return GeometryDistance(by_type, counts, mean, weight / total if total else 0.0)


def _placed(molecules: Sequence["Mol"]) -> list[tuple["Mol", np.ndarray]]:
    """Molecules with their positions ``(n, 3)``."""
    require(len(molecules) > 0, "molecules", "none", "at least one")
    for number, mol in enumerate(molecules):
        require(mol.GetNumConformers() > 0, f"molecules[{number}]", "no positions", "a conformer")
    return [(mol, np.asarray(mol.GetConformer().GetPositions())) for mol in molecules]


def _angle(u: np.ndarray, v: np.ndarray) -> float:
    """Between two arms in degrees; stable near 0 and 180."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v)))


def _mark(bond: Any) -> str:
    order = bond.GetBondTypeAsDouble()
    return _MARKS.get(order, f"({order:g})")


def _arrays(found: Mapping[str, list[float]]) -> Values:
    return {name: np.array(values) for name, values in sorted(found.items())}
