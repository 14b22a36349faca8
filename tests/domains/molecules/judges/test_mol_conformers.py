"""Distances of conformers with symmetry, coverage and matching by hand."""

import numpy as np
import pytest

Chem = pytest.importorskip("rdkit.Chem")

from rdkit.Chem import AllChem  # noqa: E402

from ornstein.domains.molecules.judges import conformers  # noqa: E402
from ornstein.domains.molecules.judges.conformers import (  # noqa: E402
    conformer_distances,
    conformer_score,
    judge_conformers,
)


def solid(smiles, count=1, seed=7):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert len(AllChem.EmbedMultipleConfs(mol, count, randomSeed=seed)) == count
    return mol


def turned(mol, seed=0):
    """Rotated and shifted."""
    found = Chem.Mol(mol)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    for conformer in found.GetConformers():
        for number, position in enumerate(conformer.GetPositions() @ rotation.T + 5):
            conformer.SetAtomPosition(number, position.tolist())
    return found


def kabsch(a, b):
    """Root mean square distance after the best rotation, of atoms in one order."""
    a, b = a - a.mean(0), b - b.mean(0)
    u, s, v = np.linalg.svd(a.T @ b)
    s[-1] *= np.sign(np.linalg.det(u @ v))
    return np.sqrt(max((a**2).sum() + (b**2).sum() - 2 * s.sum(), 0) / len(a))


def test_distances_agree_with_kabsch_where_nothing_is_symmetric():
    a, b = solid("CCC(N)C=O", 3, 1), solid("CCC(N)C=O", 2, 2)
    before = a.GetConformer(0).GetPositions()
    found = conformer_distances(a, turned(b))
    heavy = [atom.GetIdx() for atom in a.GetAtoms() if atom.GetAtomicNum() > 1]
    expected = [
        [kabsch(x.GetPositions()[heavy], y.GetPositions()[heavy]) for y in b.GetConformers()] for x in a.GetConformers()
    ]
    assert found == pytest.approx(np.array(expected), abs=1e-5)
    assert np.array_equal(a.GetConformer(0).GetPositions(), before)  # nothing is moved


def test_symmetry_and_the_order_of_atoms_do_not_count():
    ring = solid("c1ccccc1C")
    order = np.random.default_rng(3).permutation(ring.GetNumAtoms()).tolist()
    assert conformer_distances(Chem.RenumberAtoms(turned(ring), order), ring)[0, 0] == pytest.approx(0, abs=1e-4)


def test_coverage_and_matching_by_hand(monkeypatch):
    table = np.array([[0.2, 0.9, 2.0], [0.5, 1.0, 1.0]])
    monkeypatch.setattr(conformers, "conformer_distances", lambda generated, reference: table)
    found = conformer_score(None, None, threshold=0.75)
    assert (found.coverage_recall, found.matching_recall) == (pytest.approx(1 / 3), pytest.approx(2.1 / 3))
    assert (found.coverage_precision, found.matching_precision) == (1.0, pytest.approx(0.35))
    assert (found.generated, found.reference) == (2, 3)
    judged = judge_conformers([(object(), None), (None, None)], threshold=0.95)
    assert judged["n"] == 2
    assert judged["without"] == 1
    assert judged["cov_r"] == pytest.approx((2 / 3 + 0) / 2)
    assert judged["mat_r"] == judged["mat_r_median"] == pytest.approx(2.1 / 3)
    assert judged["cov_p"] == 0.5


def test_a_set_covers_itself():
    mol = solid("CCOC(C)=O", 4)
    found = judge_conformers([(mol, turned(mol))], threshold=0.1)
    assert (found["cov_r"], found["cov_p"]) == (1, 1)
    assert found["mat_r"] == pytest.approx(0, abs=1e-4)


def test_bad_input():
    with pytest.raises(ValueError, match="generated='CCO'"):
        conformer_distances(solid("CCO"), solid("CCN"))
    with pytest.raises(ValueError, match="reference='no conformers'"):
        conformer_distances(solid("CCO"), Chem.MolFromSmiles("CCO"))
    with pytest.raises(ValueError, match="more than 0"):
        conformer_score(solid("C"), solid("C"), threshold=0)
    with pytest.raises(ValueError, match="pairs='none'"):
        judge_conformers([])
    assert np.isnan(judge_conformers([(None, solid("C"))])["mat_r"])
