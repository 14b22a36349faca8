r"""Is a molecule in space physically possible? PoseBusters' checks (Buttenschoen et al. 2024, 2308.05777).

Bounds `l_ij <= d_ij <= u_ij` of the distances of atoms come from RDKit's distance geometry; hydrogens are left out.

| check | passes if |
| --- | --- |
| ``sanitised``, ``connected``, ``no_radicals``, ``inchi`` | the chemistry of ``strict`` in `check_validity` |
| ``bond_lengths`` | bonded pairs: `0.75 l <= d <= 1.25 u` |
| ``bond_angles`` | pairs with a common neighbour: `0.75 l <= d <= 1.25 u` |
| ``no_clash`` | all other pairs: `d >= 0.7 l` |
| ``flat_rings`` | aromatic rings of five or six atoms lie within 0.25 Å of a plane |
| ``puckered_rings`` | rings of six atoms that cannot be flat have an atom 0.05 Å or more off their best plane |
| ``flat_double_bonds`` | trigonal C=C and their four neighbours lie within 0.25 Å of a plane |
| ``energy`` | UFF energy at most 100 times the mean of relaxed conformers of RDKit's ETKDGv3 |

Of carboxylates and their like, whose two ends the bounds tell apart though nature does not, the wider bounds hold for
both. What cannot be computed (a molecule that RDKit refuses, atoms that UFF lacks) is None, and does not pass.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import chem, quiet, sanitised
from ornstein.domains.molecules.judges.validity import has_inchi

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["CHECKS", "GeometryReport", "check_geometries", "check_geometry", "energy_ratio"]

SLACK, CLASH, FLAT, PUCKERED, ENERGY = 0.25, 0.3, 0.25, 0.05, 100.0
CHECKS = (
    "sanitised",
    "connected",
    "no_radicals",
    "inchi",
    "bond_lengths",
    "bond_angles",
    "no_clash",
    "flat_rings",
    "puckered_rings",
    "flat_double_bonds",
    "energy",
)
"""Names of all checks, in their order."""

_RINGS = ("[ar5^2]1[ar5^2][ar5^2][ar5^2][ar5^2]1", "[ar6^2]1[ar6^2][ar6^2][ar6^2][ar6^2][ar6^2]1")
_DOUBLE_BONDS = ("[C;X3;^2](*)(*)=[C;X3;^2](*)(*)",)
_ANY, _CARBON = "[C,O,S,N;R1]", "[C;R1]"
# Six-rings of single bonds, and with one double bond and enough carbon that nothing flattens them.
_PUCKERED = (
    f"{_ANY}~1{_ANY}{_ANY}{_ANY}{_ANY}{_ANY}1",
    f"{_CARBON}~1{_CARBON}{_ANY}~{_ANY}{_CARBON}{_CARBON}1",
    f"{_CARBON}~1{_CARBON}{_CARBON}~{_CARBON}{_ANY}{_CARBON}1",
    f"{_CARBON}~1{_CARBON}{_CARBON}{_ANY}~{_ANY}{_CARBON}1",
    f"{_CARBON}~1{_CARBON}{_ANY}{_CARBON}~{_CARBON}{_CARBON}1",
)
_ENDS = "[O,N;D1;$([O,N;D1]-[*]=[O,N;D1]),$([O,N;D1]=[*]-[O,N;D1])]~[*]"


@dataclass(frozen=True)
class GeometryReport:
    """How many molecules pass.

    Attributes:
        n: number of molecules.
        passed: of each check.
        valid: that pass all.
        reasons: the first check that each other one fails, with how often, most frequent first.
    """

    n: int
    passed: dict[str, int]
    valid: int
    reasons: dict[str, int]

    @property
    def fraction(self) -> float:
        """``valid / n``."""
        return self.valid / self.n


def check_geometries(
    molecules: Sequence["Mol | None"], checks: Sequence[str] = CHECKS, *, conformers: int = 50
) -> GeometryReport:
    """The checks of a list of molecules.

    Args:
        molecules: each with a conformer in Å, the first counts; None, what could not be built, passes nothing.
        checks: some of `CHECKS`; ``"energy"`` takes most of the time.
        conformers: see `energy_ratio`.

    Raises:
        ValueError: no molecules, one without positions, or an unknown check.
    """
    require(len(molecules) > 0, "molecules", "none", "at least one")
    found = [
        dict.fromkeys(checks, False) if mol is None else check_geometry(mol, checks, conformers=conformers)
        for mol in molecules
    ]
    firsts = [next((name for name, passed in verdict.items() if not passed), "") for verdict in found]
    failures = [name for name in firsts if name]
    passed = {name: sum(bool(verdict[name]) for verdict in found) for name in checks}
    return GeometryReport(len(found), passed, len(found) - len(failures), dict(Counter(failures).most_common()))


def check_geometry(mol: "Mol", checks: Sequence[str] = CHECKS, *, conformers: int = 50) -> dict[str, bool | None]:
    """Each check of one molecule, by name; None where it cannot be computed.

    Args:
        mol: with a conformer in Å.
        checks: some of `CHECKS`.
        conformers: see `energy_ratio`.

    Raises:
        ImportError: rdkit is missing.
        ValueError: no positions, or an unknown check.
    """
    for name in checks:
        require(name in CHECKS, "checks", name, f"some of {', '.join(CHECKS)}")
    require(mol.GetNumConformers() > 0, "molecule", "no positions", "one with a conformer")
    with quiet():
        whole, _ = sanitised(mol) if mol.GetNumAtoms() else (None, "")
        if whole is None:
            return {name: False if name == "sanitised" else None for name in checks}
        found: dict[str, bool | None] = {"sanitised": True}
        if "connected" in checks:
            found["connected"] = len(chem().GetMolFrags(whole)) == 1
        if "no_radicals" in checks:
            found["no_radicals"] = not any(atom.GetNumRadicalElectrons() for atom in whole.GetAtoms())
        if "inchi" in checks:
            found["inchi"] = has_inchi(whole)
        if {"bond_lengths", "bond_angles", "no_clash"} & set(checks):
            found |= _bounded(whole)
        for name, smarts in (("flat_rings", _RINGS), ("flat_double_bonds", _DOUBLE_BONDS)):
            if name in checks:
                found[name] = all(off <= FLAT for off in _off_plane(whole, smarts))
        if "puckered_rings" in checks:
            found["puckered_rings"] = all(off >= PUCKERED for off in _off_plane(whole, _PUCKERED))
        if "energy" in checks:
            ratio = energy_ratio(whole, conformers=conformers)
            found["energy"] = None if ratio is None else ratio <= ENERGY
    return {name: found[name] for name in checks}


def energy_ratio(mol: "Mol", *, conformers: int = 50) -> float | None:
    """UFF energy over the mean of that of relaxed ETKDGv3 conformers; None where UFF or the embedding fails.

    Missing hydrogens are added and relaxed first, the rest held still. The seed of the embedding is fixed.

    Args:
        mol: sanitised, with a conformer in Å.
        conformers: how many.

    Raises:
        ValueError: no positions, or ``conformers < 1``.
    """
    require(conformers >= 1, "conformers", conformers, "at least 1")
    require(mol.GetNumConformers() > 0, "molecule", "no positions", "one with a conformer")
    fields = need("rdkit.Chem.rdForceFieldHelpers", to="compute energies", extra="molecules")
    whole = chem().AddHs(mol, addCoords=True)
    with quiet():
        if not fields.UFFHasAllMoleculeParams(whole):
            return None
        energies = _relaxed_energies(chem().MolToSmiles(chem().RemoveHs(mol)), conformers)
        field = fields.UFFGetMoleculeForceField(whole)
        if not energies or field is None:
            return None
        if whole.GetNumAtoms() > mol.GetNumAtoms():
            for number in range(mol.GetNumAtoms()):
                field.AddFixedPoint(number)
            field.Initialize()
            field.Minimize(maxIts=200)
            field = fields.UFFGetMoleculeForceField(whole)
        mean, energy = sum(energies) / len(energies), float(field.CalcEnergy())
    return energy / (mean or 1e-10)


@lru_cache(maxsize=4096)
def _relaxed_energies(smiles: str, conformers: int) -> tuple[float, ...]:
    """Energies in kcal/mol, none where RDKit finds no conformers."""
    embedding = need("rdkit.Chem.rdDistGeom", to="compute energies", extra="molecules")
    fields = need("rdkit.Chem.rdForceFieldHelpers", to="compute energies", extra="molecules")
    mol = chem().MolFromSmiles(smiles)
    if mol is None:
        return ()
    mol = chem().AddHs(mol)
    settings = embedding.ETKDGv3()
    settings.randomSeed, settings.useRandomCoords, settings.numThreads = 42, True, 1
    if not len(embedding.EmbedMultipleConfs(mol, conformers, settings)):
        return ()
    return tuple(float(energy) for _, energy in fields.UFFOptimizeMoleculeConfs(mol, numThreads=1))


def _bounded(mol: "Mol") -> dict[str, bool | None]:
    """Distances of heavy atoms within the bounds of distance geometry."""
    names = ("bond_lengths", "bond_angles", "no_clash")
    heavy = np.array([atom.GetAtomicNum() != 1 for atom in mol.GetAtoms()])
    if len(heavy) == 1:
        return dict.fromkeys(names, True)
    settings = {"set15bounds": True, "scaleVDW": True, "doTriangleSmoothing": True, "useMacrocycle14config": False}
    embedding = need("rdkit.Chem.rdDistGeom", to="check geometries", extra="molecules")
    try:
        bounds = np.asarray(embedding.GetMoleculeBoundsMatrix(mol, **settings))
    except RuntimeError:
        return dict.fromkeys(names, None)
    upper = np.triu(bounds, 1)
    upper = upper + upper.T
    lower = np.tril(bounds, -1)
    lower = lower + lower.T
    _even_ends(mol, lower, upper)
    places = np.asarray(mol.GetConformer().GetPositions())
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    bonded = chem().GetAdjacencyMatrix(mol).astype(bool)
    angles = (bonded.astype(int) @ bonded.astype(int) > 0) & ~bonded
    pairs = np.triu(heavy[:, None] & heavy[None], 1)
    fits = (apart >= (1 - SLACK) * lower) & (apart <= (1 + SLACK) * upper)
    clear = apart >= (1 - CLASH) * lower
    return {
        "bond_lengths": bool(fits[pairs & bonded].all()),
        "bond_angles": bool(fits[pairs & angles].all()),
        "no_clash": bool(clear[pairs & ~bonded & ~angles].all()),
    }


def _even_ends(mol: "Mol", lower: np.ndarray, upper: np.ndarray) -> None:
    """Give both ends of conjugated groups (carboxylates, amidines ...) the wider bounds, in place."""
    found: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for a, b in mol.GetSubstructMatches(_smarts(_ENDS)):
        elements = sorted((mol.GetAtomWithIdx(a).GetSymbol(), mol.GetAtomWithIdx(b).GetSymbol()))
        found.setdefault(tuple(elements), []).append((a, b))
    for pairs in found.values():
        ends = np.array(pairs + [(b, a) for a, b in pairs]).T
        lower[tuple(ends)] = lower[tuple(ends)].min()
        upper[tuple(ends)] = upper[tuple(ends)].max()


def _off_plane(mol: "Mol", smarts: Sequence[str]) -> list[float]:
    """How far the farthest atom of each match is from the plane of least squares, in Å."""
    positions = np.asarray(mol.GetConformer().GetPositions())
    found = []
    for pattern in smarts:
        for match in mol.GetSubstructMatches(_smarts(pattern)):
            centred = positions[list(match)] - positions[list(match)].mean(0)
            found.append(float(np.abs(centred @ np.linalg.svd(centred)[2][-1]).max()))
    return found


@lru_cache(maxsize=32)
def _smarts(pattern: str) -> Any:
    return chem().MolFromSmarts(pattern)
