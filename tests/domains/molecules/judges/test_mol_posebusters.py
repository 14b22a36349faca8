"""PoseBusters' checks: broken geometries one by one, and PoseBusters itself where it is installed."""

import numpy as np
import pytest

Chem = pytest.importorskip("rdkit.Chem")

from rdkit.Chem import AllChem  # noqa: E402
from rdkit.Chem import rdMolTransforms as transforms  # noqa: E402

from ornstein.domains.molecules.judges.posebusters import (  # noqa: E402
    CHECKS,
    check_geometries,
    check_geometry,
    energy_ratio,
)

QUICK = tuple(name for name in CHECKS if name != "energy")


def solid(smiles, noise=0.0, seed=7):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=seed) == 0
    AllChem.MMFFOptimizeMolecule(mol, maxIters=2000)
    if noise:
        shaken = mol.GetConformer().GetPositions()
        move(mol, shaken + noise * np.random.default_rng(seed).standard_normal(shaken.shape))
    return mol


def move(mol, positions):
    for number, position in enumerate(positions):
        mol.GetConformer().SetAtomPosition(number, [float(x) for x in position])


def failed(mol, checks=QUICK):
    return {name for name, passed in check_geometry(mol, checks).items() if not passed}


@pytest.mark.parametrize(
    "smiles", ["CC(=O)Oc1ccccc1C(=O)O", "C1CCCCC1", "CC(C)=C(C)C", "c1ccoc1", "CC(=O)[O-]", "C", "CC#N", "[Na+]"]
)
def test_relaxed_molecules_pass(smiles):
    assert failed(solid(smiles)) == set()


def test_one_long_bond_or_short():
    for length in (1.54 * 1.4, 1.54 * 0.6):
        mol = solid("CC")
        transforms.SetBondLength(mol.GetConformer(), 0, 1, length)
        assert failed(mol) == {"bond_lengths"}


def test_a_closed_angle():
    mol = solid("CCC")
    transforms.SetAngleDeg(mol.GetConformer(), 0, 1, 2, 60)
    assert failed(mol) == {"bond_angles"}


def test_a_clash():
    mol = solid("CCCCCC")
    positions = mol.GetConformer().GetPositions()
    positions[5] = positions[0] + [0.5, 0.5, 0.5]  # the ends of the chain on one another
    move(mol, positions)
    assert "no_clash" in failed(mol)


def test_planes():
    ring = solid("c1ccccc1")
    positions = ring.GetConformer().GetPositions()
    normal = np.linalg.svd(positions - positions.mean(0))[2][-1]
    positions[0] += 0.6 * normal
    move(ring, positions)
    assert failed(ring) == {"flat_rings"}

    flat = solid("C1CCCCC1")
    positions = flat.GetConformer().GetPositions()
    for number in range(6):
        positions[number] = [1.53 * np.cos(number * np.pi / 3), 1.53 * np.sin(number * np.pi / 3), 0]
    move(flat, positions)
    assert failed(flat) == {"puckered_rings"}

    twisted = solid("CC(C)=C(C)C")
    for ends in ((0, 1, 3, 4), (2, 1, 3, 4)):
        assert transforms.GetDihedralDeg(twisted.GetConformer(), *ends) is not None
    transforms.SetDihedralDeg(twisted.GetConformer(), 0, 1, 3, 4, 60)
    assert "flat_double_bonds" in failed(twisted)


def test_chemistry():
    assert "no_radicals" in failed(solid("C[CH2]"), ("sanitised", "no_radicals"))
    apart = solid("CC.O")
    assert "connected" in failed(apart, ("connected",))
    wrong = Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False)
    wrong.AddConformer(Chem.Conformer(6))
    found = check_geometry(wrong)
    assert found["sanitised"] is False
    assert set(list(found.values())[1:]) == {None}  # nothing else can be said


def test_energy():
    mol = solid("CCCO")
    ratio = energy_ratio(mol, conformers=5)
    assert 0.2 < ratio < 5
    transforms.SetBondLength(mol.GetConformer(), 0, 1, 0.7)
    assert energy_ratio(mol, conformers=5) > 100
    heavy = Chem.RemoveHs(solid("CCCO"))
    assert 0.2 < energy_ratio(heavy, conformers=5) < 5  # hydrogens are added
    assert check_geometry(mol, ("energy",), conformers=5) == {"energy": False}


def test_reports_count_what_fails_first():
    long = solid("CC")
    transforms.SetBondLength(long.GetConformer(), 0, 1, 3.0)
    report = check_geometries([solid("CC"), None, long, solid("CO")], QUICK)
    assert (report.n, report.valid, report.fraction) == (4, 2, 0.5)
    assert report.reasons == {"sanitised": 1, "bond_lengths": 1}
    assert report.passed["bond_lengths"] == 2
    assert report.passed["connected"] == 3


def test_bad_input():
    with pytest.raises(ValueError, match="no positions"):
        check_geometry(Chem.MolFromSmiles("C"))
    with pytest.raises(ValueError, match="checks='taste'"):
        check_geometry(solid("C"), ("taste",))
    with pytest.raises(ValueError, match="molecules='none'"):
        check_geometries([])


@pytest.mark.parametrize("noise", [0, 0.1, 0.2, 0.3])
def test_verdicts_of_posebusters(noise):
    geometry = pytest.importorskip("posebusters.modules.distance_geometry")
    for seed, smiles in enumerate(
        ["CC(=O)Oc1ccccc1C(=O)O", "CC(=O)[O-]", "NC(=[NH2+])CC1CCCCC1", "CCN(CC)CCS(C)(=O)=O"]
    ):
        mol = solid(smiles, noise, seed)
        theirs = geometry.check_geometry(mol, 0.25, 0.3, 0.25)["results"]
        found = check_geometry(mol, ("bond_lengths", "bond_angles", "no_clash"))
        assert found == {
            "bond_lengths": theirs["bond_lengths_within_bounds"],
            "bond_angles": theirs["bond_angles_within_bounds"],
            "no_clash": theirs["no_internal_clash"],
        }
