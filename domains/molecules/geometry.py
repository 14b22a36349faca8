"""Coordinates for molecules that have none: by distance geometry and a force field, or drawn flat."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ornstein.core.optional import need

__all__ = ["Embedded", "draw_flat", "embed", "whole_molecule", "with_conformers"]

TO = {"to": "make coordinates of molecules", "extra": "molecules"}


class Embedded(NamedTuple):
    """A molecule with coordinates.

    Attributes:
        mol: with hydrogens as atoms and one conformer, in ångström, centred; None if there is none.
        energy: by the force field, in kcal/mol.
        reason: why there is no conformer, or that the force field did not converge; empty otherwise.
    """

    mol: Any
    energy: float
    reason: str = ""


def embed(mol: Any, *, seed: int = 0, max_iterations: int = 2000) -> Embedded:
    """A conformer by ETKDGv3 (Wang et al. 2020, 10.1021/acs.jcim.0c00025), relaxed by MMFF94.

    Args:
        mol: sanitised; hydrogens are added.
        seed: of distance geometry.
        max_iterations: of the force field; with RDKit's 200, half of MOSES' molecules have not converged.
    """
    Chem = need("rdkit.Chem", **TO)
    distance = need("rdkit.Chem.rdDistGeom", **TO)
    field = need("rdkit.Chem.rdForceFieldHelpers", **TO)
    mol = Chem.AddHs(mol)
    settings = distance.ETKDGv3()
    settings.randomSeed = seed % 2**31
    if distance.EmbedMolecule(mol, settings) < 0:
        return Embedded(None, float("nan"), "distance geometry found no conformer")
    if not field.MMFFHasAllMoleculeParams(mol):
        return Embedded(None, float("nan"), "atoms that MMFF94 does not know")
    [(left, energy)] = field.MMFFOptimizeMoleculeConfs(mol, numThreads=1, maxIters=max_iterations)
    conformer = mol.GetConformer()
    positions = conformer.GetPositions()
    conformer.SetPositions(positions - positions.mean(0))
    return Embedded(mol, float(energy), "the force field did not converge" if left else "")


def draw_flat(mol: Any) -> Any:
    """A copy with the coordinates of a drawing, ``z = 0``."""
    mol = need("rdkit.Chem", **TO).Mol(mol)
    need("rdkit.Chem.rdDepictor", **TO).Compute2DCoords(mol)
    return mol


def whole_molecule(mol: Any) -> Any:
    """A molecule, or that of SMILES, with hydrogens as atoms and without conformers.

    Raises:
        ValueError: SMILES that do not parse, or what is no molecule.
    """
    Chem = need("rdkit.Chem", **TO)
    if isinstance(mol, str):
        read = Chem.MolFromSmiles(mol)
        if read is None or not read.GetNumAtoms():
            raise ValueError(f"mol={mol!r}: expected SMILES that parse")
        mol = read
    if not isinstance(mol, Chem.Mol):
        raise ValueError(f"mol of type {type(mol).__name__}: expected an RDKit molecule or SMILES")
    whole = Chem.AddHs(mol)
    whole.RemoveAllConformers()
    return whole


def with_conformers(mol: Any, places: Sequence[np.ndarray], relax: int = 0) -> Any:
    """A copy of a molecule with conformers at these positions ``(n, 3)`` in ångström, after ``relax`` steps of MMFF94
    each.
    """
    Chem = need("rdkit.Chem", **TO)
    mol = Chem.Mol(mol)
    for place in places:
        conformer = Chem.Conformer(len(place))
        conformer.Set3D(True)
        conformer.SetPositions(np.ascontiguousarray(place))
        mol.AddConformer(conformer, assignId=True)
    if relax:
        field = need("rdkit.Chem.rdForceFieldHelpers", **TO)
        field.MMFFOptimizeMoleculeConfs(mol, numThreads=1, maxIters=relax)
    return mol
