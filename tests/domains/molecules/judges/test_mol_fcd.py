"""Fréchet ChemNet distance: against fcd-torch's own, and its moments taken apart."""

import numpy as np
import pytest
import torch

pytest.importorskip("fcd_torch")
Chem = pytest.importorskip("rdkit.Chem")

from fcd_torch import FCD  # noqa: E402

from ornstein.domains.molecules.judges.fcd import (  # noqa: E402
    ChemNetMoments,
    chemnet_activations,
    chemnet_moments,
    fcd_between,
)

SMILES = ["CCO", "c1ccccc1", "CC(=O)Nc1ccc(O)cc1", "CCN(CC)CC", "O=C(O)c1ccccc1", "CCCCCC", "C1CCNCC1", "CCOC(C)=O"]


@pytest.fixture(scope="module")
def molecules():
    return [Chem.MolFromSmiles(text) for text in SMILES]


def test_distance_agrees_with_fcd_torch(molecules):
    a, b = chemnet_moments(molecules[:5]), chemnet_moments(molecules[5:])
    theirs = FCD(device="cpu", n_jobs=1)(SMILES[:5], SMILES[5:])
    assert fcd_between(a, b) == pytest.approx(theirs, rel=1e-4)  # theirs keeps float32 means and adds 1e-6
    assert fcd_between(a, a) == pytest.approx(0, abs=1e-9)


def test_activations_do_not_depend_on_batches_or_order_and_leave_the_seed_alone(molecules):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    whole = chemnet_activations(molecules[:4])
    assert torch.equal(torch.get_rng_state(), before)
    other = chemnet_activations([molecules[2], molecules[0], molecules[2], molecules[3], molecules[1]], batch_size=2)
    assert whole.shape == (4, 512)
    assert other == pytest.approx(whole[[2, 0, 2, 3, 1]], abs=1e-6)


def test_moments_without_a_part_are_those_of_the_rest():
    rows = np.random.default_rng(0).standard_normal((50, 6)) @ np.diag(range(1, 7)) + 3
    whole, part, rest = (ChemNetMoments(x.mean(0), np.cov(x.T), len(x)) for x in (rows, rows[:20], rows[20:]))
    left = whole.without(part)
    assert left.n == 30
    assert left.mean == pytest.approx(rest.mean, rel=1e-12)
    assert left.covariance == pytest.approx(rest.covariance, rel=1e-10, abs=1e-12)
    with pytest.raises(ValueError, match="molecules left=0"):
        part.without(part)


def test_what_chemnet_cannot_read_is_said(molecules):
    with pytest.warns(UserWarning, match="1 of 1 SMILES are longer than 349"):
        chemnet_activations([Chem.MolFromSmiles("C" * 360)])
    with pytest.raises(ValueError, match="at least 2"):
        chemnet_moments(molecules[:1])
    with pytest.raises(ValueError, match="molecules='none'"):
        chemnet_activations([])
