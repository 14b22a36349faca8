"""NSPDK: features and kernels computed by hand, and the discrepancy as the mean of kernels."""

import math

import numpy as np
import pytest

Chem = pytest.importorskip("rdkit.Chem")

from ornstein.domains.molecules.judges.nspdk import nspdk_features, nspdk_kernel, nspdk_mmd  # noqa: E402

EDEN = [
    [1.0, 0.255952381, 0.084533776, 0.1688773831, 0.1691407351],
    [0.255952381, 1.0, 0.0708039342, 0.1688773831, 0.1691407351],
    [0.084533776, 0.0708039342, 1.0, 0.3531589751, 0.0338801746],
    [0.1688773831, 0.1688773831, 0.3531589751, 1.0, 0.0],
    [0.1691407351, 0.1691407351, 0.0338801746, 0.0, 1.0],
]


def mols(*smiles):
    return [Chem.MolFromSmiles(text) for text in smiles]


def test_kernel_of_two_atoms_by_hand():
    """Ethane and methylamine share two of their four groups (radius, distance): (0, 0) and (0, 1).

    At (0, 0) ethane has one pair and one lone neighbourhood, twice each: both `1 / sqrt(2)`. Methylamine has two of
    each once: all `1/2`. They share those of C, `2 / (2 sqrt(2))`. At (0, 1) ethane again has `1 / sqrt(2)` twice;
    methylamine has the pair C N twice and C and N alone once: `1 / sqrt(6)` for C alone, which is shared:
    `1 / sqrt(12)`. At radius 1 all of one molecule lies in each neighbourhood and nothing agrees. Four groups of
    length one make `1/4` outside.
    """
    expected = (1 / math.sqrt(2) + 1 / math.sqrt(12)) / 4
    kernel = nspdk_kernel(mols("CC", "CN"))
    assert kernel == pytest.approx(np.array([[1, expected], [expected, 1]]), abs=1e-12)
    assert nspdk_mmd(mols("CC"), mols("CN")) == pytest.approx(2 - 2 * expected, abs=1e-12)


def test_single_atoms_are_alike_or_share_nothing():
    assert nspdk_mmd(mols("C"), mols("N")) == pytest.approx(2, abs=1e-12)
    assert nspdk_mmd(mols("C", "N"), mols("N", "C")) == pytest.approx(0, abs=1e-12)
    # Two components: atoms of another one are at no distance at all.
    assert nspdk_kernel(mols("C.N", "C"))[0, 1] == pytest.approx(1 / math.sqrt(2), abs=1e-12)


def test_values_of_eden():
    """EDeN 0.3.1350 with hashes of 30 bits, `vectorize(graphs, complexity=4, discrete=True)`, gave these kernels."""
    kernel = nspdk_kernel(mols("CCO", "CCN", "c1ccccc1O", "C1CC1", "CC(=O)N"))
    assert kernel == pytest.approx(np.array(EDEN), abs=1e-9)


def test_discrepancy_is_that_of_mean_kernels():
    a, b = mols("CCO", "CCCC", "c1ccccc1"), mols("CCN", "C1CCCCC1")
    kernel = nspdk_kernel([*a, *b])
    expected = kernel[:3, :3].mean() + kernel[3:, 3:].mean() - 2 * kernel[:3, 3:].mean()
    assert nspdk_mmd(a, b) == pytest.approx(expected, abs=1e-12)
    assert nspdk_mmd(b, a) == pytest.approx(expected, abs=1e-12)


def test_features_know_nothing_of_the_order_of_atoms():
    mol = Chem.MolFromSmiles("CC(=O)Nc1ccc(O)cc1")
    order = np.random.default_rng(0).permutation(mol.GetNumAtoms()).tolist()
    assert nspdk_kernel([mol, Chem.RenumberAtoms(mol, order)])[0, 1] == pytest.approx(1, abs=1e-12)
    assert np.asarray(nspdk_features([mol]).power(2).sum(1)).item() == pytest.approx(1, abs=1e-12)


def test_bad_input():
    with pytest.raises(ValueError, match="no atoms"):
        nspdk_mmd([Chem.Mol()], mols("C"))
    with pytest.raises(ValueError, match="both at least 0"):
        nspdk_mmd(mols("C"), mols("C"), radius=-1)
    with pytest.raises(ValueError, match="molecules='none'"):
        nspdk_mmd([], mols("C"))
