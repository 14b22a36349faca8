"""GuacaMol's divergences: closed forms, and values that its own code gave."""

import math

import numpy as np
import pytest
from scipy.stats import gaussian_kde

Chem = pytest.importorskip("rdkit.Chem")

from ornstein.domains.molecules.judges import guacamol  # noqa: E402
from ornstein.domains.molecules.judges.guacamol import (  # noqa: E402
    guacamol_divergences,
    guacamol_fcd_score,
    guacamol_score,
)

REAL = ["CCO", "CCCO", "CCN(CC)CC", "c1ccccc1O", "CC(=O)Nc1ccc(O)cc1", "C1CCNCC1", "CCOC(C)=O", "OCC1CCCCC1"]
MADE = ["CCCCO", "CCN", "c1ccccc1C", "CC(=O)O", "C1CCCC1", "CCCCCC"]


def mols(smiles):
    return [Chem.MolFromSmiles(text) for text in smiles]


def test_sets_that_agree_have_none():
    found = guacamol_divergences(mols(REAL), mols(REAL[::-1]))
    assert len(found) == 10
    assert found == pytest.approx(dict.fromkeys(found, 0.0), abs=1e-12)
    assert guacamol_score(found) == pytest.approx(1)


def test_each_is_the_divergence_of_its_definition():
    found = guacamol_divergences(mols(MADE), mols(REAL))
    from rdkit.Chem import Descriptors

    p, q = ([Descriptors.MolLogP(mol) for mol in mols(side)] for side in (REAL, MADE))
    points = np.linspace(min(p + q), max(p + q), 1000)
    density = [gaussian_kde(side)(points) + 1e-10 for side in (p, q)]
    density = [side / side.sum() for side in density]
    assert found["MolLogP"] == pytest.approx(float((density[0] * np.log(density[0] / density[1])).sum()), rel=1e-10)
    p, q = ([Descriptors.NumHDonors(mol) for mol in mols(side)] for side in (REAL, MADE))
    # Donors 0, 1, 2 fall into the first, sixth and last of ten bins.
    shares = [np.array([np.mean(np.array(side) == n) for n in (0, 1, 2)]) / 0.2 + 1e-10 for side in (p, q)]
    shares = [np.concatenate([side, np.full(7, 1e-10)]) for side in shares]
    shares = [side / side.sum() for side in shares]
    assert found["NumHDonors"] == pytest.approx(float((shares[0] * np.log(shares[0] / shares[1])).sum()), rel=1e-6)


def test_neither_order_nor_copies_nor_stereo_count():
    once = guacamol_divergences(mols(MADE), mols(REAL))
    again = guacamol_divergences(mols([*MADE[::-1], "CCCCO", "C1CCCC1"]), mols(REAL))
    assert again == pytest.approx(once, rel=1e-12)
    with pytest.raises(ValueError, match="molecules='1 different'"):
        guacamol_divergences(mols(["C[C@H](N)O", "C[C@@H](N)O"]), mols(REAL))


def test_scores():
    assert guacamol_score({"a": 0.0, "b": math.inf}) == 0.5
    assert guacamol_fcd_score(1.93) == pytest.approx(0.68, abs=0.001)  # DiGress' published 68.0 is a distance of 1.93
    assert guacamol._density_divergence(np.ones(3), np.ones(4)) == 0
    assert guacamol._density_divergence(np.ones(3), np.array([1.0, 2.0])) == math.inf
    assert guacamol._histogram_divergence(np.array([0.0, 1.0]), np.array([5.0])) == math.inf
