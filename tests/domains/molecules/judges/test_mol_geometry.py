"""Lengths, angles and torsions by hand, and distances of their distributions."""

import numpy as np
import pytest

Chem = pytest.importorskip("rdkit.Chem")

from rdkit.Chem import AllChem  # noqa: E402
from rdkit.Chem import rdMolTransforms as transforms  # noqa: E402

from ornstein.domains.molecules.judges.geometry import (  # noqa: E402
    bond_angles,
    bond_lengths,
    geometry_distances,
    torsions,
)


def placed(smiles, positions):
    mol = Chem.MolFromSmiles(smiles, sanitize=False)
    conformer = Chem.Conformer(mol.GetNumAtoms())
    for number, position in enumerate(positions):
        conformer.SetAtomPosition(number, [float(x) for x in position])
    mol.AddConformer(conformer)
    return mol


def solid(smiles, seed=7):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=seed) == 0
    return mol


def test_values_by_hand():
    mol = placed("O=CN", [[0, 0, 1.2], [0, 0, 0], [1.4, 0, 0]])
    assert {name: values.tolist() for name, values in bond_lengths([mol]).items()} == {"C=O": [1.2], "C-N": [1.4]}
    assert {name: values.tolist() for name, values in bond_angles([mol]).items()} == {"N-C=O": [90.0]}
    assert torsions([mol]) == {}
    line = placed("CCCC", [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    assert bond_angles([line])["C-C-C"] == pytest.approx([180, 180])
    for angle in (0, 37, 180, 300):
        turn = np.radians(angle)
        chain = placed("CC=NC", [[1, 0, 0], [0, 0, 0], [0, 0, 1], [np.cos(turn), np.sin(turn), 1]])
        assert torsions([chain])["C=N"] == pytest.approx([min(angle, 360 - angle)], abs=1e-6)


def test_angles_and_rings_agree_with_rdkit():
    mol = solid("CC1CCNC1=O")
    conformer = mol.GetConformer()
    found = bond_angles([mol])
    expected = []
    for vertex in mol.GetAtoms():
        ends = sorted(atom.GetIdx() for atom in vertex.GetNeighbors())
        expected += [transforms.GetAngleDeg(conformer, a, vertex.GetIdx(), b) for a in ends for b in ends if a < b]
    assert sorted(np.concatenate(list(found.values()))) == pytest.approx(sorted(expected), abs=1e-6)
    assert {"C-N ring", "C-C ring", "C-C"} <= set(torsions([mol]))
    assert "C=O" not in torsions([mol])  # nothing beyond the oxygen


def test_mirror_images_agree():
    mol = solid("CCC(N)C(=O)O")
    image = Chem.Mol(mol)
    for number, position in enumerate(mol.GetConformer().GetPositions() * [-1, 1, 1]):
        image.GetConformer().SetAtomPosition(number, position.tolist())
    for name, found in geometry_distances([mol], [image], at_least=1).items():
        assert found.mean == pytest.approx(0, abs=1e-6), name


def test_distances_of_shifted_lengths():
    real = [placed("CO", [[0, 0, 0], [0, 0, 1.40 + 0.01 * number]]) for number in range(6)]
    made = [placed("CO", [[0, 0, 0], [0, 0, 1.45 + 0.01 * number]]) for number in range(6)]
    rare = placed("C=O", [[0, 0, 0], [0, 0, 1.2]])
    found = geometry_distances([*made, rare], [*real, rare])["bond_length"]
    assert found.by_type == pytest.approx({"C-O": 0.05})
    assert found.counts == {"C-O": (6, 6), "C=O": (1, 1)}
    assert found.mean == pytest.approx(0.05)
    assert found.compared == pytest.approx(6 / 7)
    assert found.worst == ("C-O", pytest.approx(0.05))
    both = geometry_distances([*made, rare], [*real, rare], at_least=1)["bond_length"]
    assert both.mean == pytest.approx(0.05 * 6 / 7)


def test_nothing_to_compare_and_bad_input():
    found = geometry_distances([placed("CO", [[0, 0, 0], [0, 0, 1]])], [placed("C", [[0, 0, 0]])])["bond_length"]
    assert np.isnan(found.mean)
    assert found.worst[0] == ""
    assert found.compared == 0
    with pytest.raises(ValueError, match=r"molecules\[0\]='no positions'"):
        bond_lengths([Chem.MolFromSmiles("CC")])
    with pytest.raises(ValueError, match="molecules='none'"):
        geometry_distances([], [solid("C")])
