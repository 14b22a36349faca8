"""Torsions: found, measured and set as RDKit does, without touching what they do not turn."""

import math

import numpy as np
import pytest
import torch

from ornstein.domains.molecules.torsions import find_rotors, measure_torsions, set_torsions

pytest.importorskip("rdkit")
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from ornstein.domains.molecules.geometry import embed

SMILES = ["CCCC", "CC(=O)NC", "c1ccccc1CCO", "OCCO", "CC(C)(C)CN", "C1CC1CC=C", "CSCC(F)Cl", "NC(=O)CS(C)(=O)=O"]


def orders_of(mols, width=None):
    width = width or max(mol.GetNumAtoms() for mol in mols)
    orders, positions = torch.zeros(len(mols), width, width), torch.zeros(len(mols), width, 3, dtype=torch.float64)
    for row, mol in enumerate(mols):
        plain = Chem.Mol(mol)
        Chem.Kekulize(plain, clearAromaticFlags=True)
        for bond in plain.GetBonds():
            i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            orders[row, i, j] = orders[row, j, i] = bond.GetBondTypeAsDouble()
        if mol.GetNumConformers():
            positions[row, : mol.GetNumAtoms()] = torch.from_numpy(mol.GetConformer().GetPositions())
    return orders, positions


@pytest.fixture(scope="module")
def placed():
    return [embed(Chem.MolFromSmiles(smiles), seed=1).mol for smiles in SMILES]


@pytest.mark.parametrize(
    ("smiles", "heavy"),
    [
        ("CCCC", {(0, 1), (1, 2), (2, 3)}),
        ("C1CCCCC1C", {(5, 6)}),
        ("CC#CC", set()),
        ("CC=CC", {(0, 1), (2, 3)}),
        ("CC(=O)N", {(0, 1), (1, 3)}),
        ("CCC#N", {(0, 1)}),
        ("CN=C=O", {(0, 1)}),
        ("C=C=C", set()),
        ("C", set()),
    ],
)
def test_single_bonds_outside_of_rings_and_lines_turn(smiles, heavy):
    rotors = find_rotors(orders_of([Chem.AddHs(Chem.MolFromSmiles(smiles))])[0])
    found = {tuple(ends[1:3]) for ends in rotors.ends[0, rotors.mask[0]].tolist()}
    assert found == heavy


def test_sides_are_what_is_cut_off(placed):
    orders, _ = orders_of(placed)
    rotors = find_rotors(orders)
    assert rotors.mask.sum(1).max() == rotors.mask.shape[1]
    for row, mol in enumerate(placed):
        for m in range(int(rotors.mask[row].sum())):
            a, b, c, d = rotors.ends[row, m].tolist()
            assert all(mol.GetBondBetweenAtoms(*pair) is not None for pair in ((a, b), (b, c), (c, d)))
            cut = Chem.FragmentOnBonds(mol, [mol.GetBondBetweenAtoms(b, c).GetIdx()], addDummies=False)
            part = next(part for part in Chem.GetMolFrags(cut) if c in part)
            assert rotors.sides[row, m].nonzero()[:, 0].tolist() == sorted(part)
    assert not rotors.sides[~rotors.mask].any()


def test_angles_are_rdkits(placed):
    orders, positions = orders_of(placed)
    rotors = find_rotors(orders)
    angles = measure_torsions(positions, rotors)
    for row, mol in enumerate(placed):
        for m in range(int(rotors.mask[row].sum())):
            expected = rdMolTransforms.GetDihedralRad(mol.GetConformer(), *rotors.ends[row, m].tolist())
            assert abs(float(angles[row, m]) - expected) < 1e-12
    assert not angles[~rotors.mask].any()
    assert (angles < math.pi).all()


def test_setting_all_torsions_equals_rdkits_in_any_order(placed):
    orders, positions = orders_of(placed)
    rotors = find_rotors(orders)
    generator = torch.Generator().manual_seed(0)
    wanted = 2 * math.pi * torch.rand(rotors.mask.shape, generator=generator, dtype=torch.float64) - math.pi
    moved = set_torsions(positions, rotors, wanted.cos(), wanted.sin())
    error = torch.remainder(measure_torsions(moved, rotors) - wanted + math.pi, 2 * math.pi) - math.pi
    assert float(error[rotors.mask].abs().max()) < 1e-12
    for row, mol in enumerate(placed):
        theirs, count = Chem.Mol(mol), int(rotors.mask[row].sum())
        conformer = theirs.GetConformer()
        for m in torch.randperm(count, generator=generator).tolist():
            rdMolTransforms.SetDihedralRad(conformer, *rotors.ends[row, m].tolist(), float(wanted[row, m]))
        other = torch.from_numpy(conformer.GetPositions())
        ours = moved[row, : mol.GetNumAtoms()]
        # Up to a motion of the whole: RDKit turns the one side of a bond or the other.
        assert float((torch.cdist(ours, ours) - torch.cdist(other, other)).abs().max()) < 1e-10
        volume = [torch.linalg.det(x[1:4] - x[0]) for x in (ours, other)]
        assert abs(float(volume[0] - volume[1])) < 1e-10
        before = positions[row, : mol.GetNumAtoms()]
        for bond in mol.GetBonds():
            pair = [bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]
            lengths = [float(torch.linalg.vector_norm(x[pair[0]] - x[pair[1]])) for x in (ours, before)]
            assert abs(lengths[0] - lengths[1]) < 1e-12
    pad = torch.arange(positions.shape[1]) >= torch.tensor([mol.GetNumAtoms() for mol in placed])[:, None]
    assert not moved[pad].any()


def test_setting_what_is_there_changes_nothing_and_has_the_slope_of_a_rotation(placed):
    orders, positions = orders_of(placed[:1])
    rotors = find_rotors(orders)
    angles = measure_torsions(positions, rotors).requires_grad_()
    same = set_torsions(positions, rotors, angles.cos(), angles.sin())
    assert torch.allclose(same, positions, atol=1e-13)
    _, b, c, d = rotors.ends[0, 0].tolist()
    axis = torch.nn.functional.normalize(positions[0, c] - positions[0, b], dim=0)
    expected = torch.linalg.cross(axis, positions[0, d] - positions[0, c])
    slope = torch.stack([torch.autograd.grad(same[0, d, k], angles, retain_graph=True)[0][0, 0] for k in range(3)])
    assert torch.allclose(slope, expected, atol=1e-12)


def test_a_reflection_turns_the_signs(placed):
    orders, positions = orders_of(placed)
    rotors = find_rotors(orders)
    mirror = positions * torch.tensor([1.0, 1.0, -1.0])
    assert torch.allclose(measure_torsions(mirror, rotors), -measure_torsions(positions, rotors), atol=1e-12)


def test_molecules_without_rotors_stay(placed):
    mol = embed(Chem.MolFromSmiles("c1ccccc1")).mol
    orders, positions = orders_of([mol])
    rotors = find_rotors(orders)
    assert rotors.mask.shape == (1, 1)
    assert not rotors.mask.any()
    np.testing.assert_array_equal(set_torsions(positions, rotors, torch.zeros(1, 1), torch.ones(1, 1)), positions)
