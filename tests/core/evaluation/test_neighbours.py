"""Nearest neighbours against scikit-learn, and the copy check on generators that copy and that do not."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ornstein.core.evaluation import memorisation, nearest_neighbours


@pytest.mark.parametrize("block", [1 << 23, 40])
def test_agrees_with_scikit_learn(monkeypatch, block):
    monkeypatch.setattr("ornstein.core.evaluation._features.BLOCK_ELEMENTS", block)
    rng = np.random.default_rng(0)
    queries, points = rng.normal(size=(30, 4)), rng.normal(size=(50, 4)) + 1000
    distances, indices = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(points).kneighbors(queries)
    got = nearest_neighbours(queries, points, k=3)
    np.testing.assert_allclose(got.distances.numpy(), distances, rtol=1e-9)
    np.testing.assert_array_equal(got.indices.numpy(), indices)


def test_leave_one_out_skips_the_point_itself_alone():
    x = torch.tensor([[0.0], [0.0], [1.0], [3.0]])
    distances, indices = nearest_neighbours(x)
    assert distances[:, 0].tolist() == [0, 0, 1, 2]
    assert indices[:, 0].tolist()[:2] == [1, 0]
    assert indices[3, 0] == 2


def test_an_exact_copy_has_distance_zero():
    x = torch.randn(20, 64) * 1e3
    distances, indices = nearest_neighbours(x[3:5], x)
    assert distances[:, 0].tolist() == [0, 0]
    assert indices[:, 0].tolist() == [3, 4]


def test_copies_are_found_and_fresh_draws_are_not():
    rng = np.random.default_rng(1)
    train, heldout, fresh = (rng.normal(size=(n, 5)) for n in (4000, 2000, 2000))
    copies = np.concatenate([fresh[:1500], train[:400] + 1e-4, train[:100]])
    honest, copying = memorisation(fresh, train, heldout, quantile=0.05), memorisation(copies, train, heldout)
    assert abs(honest.copy_excess) < 0.02
    assert honest.heldout_rate == pytest.approx(0.05, abs=0.02)
    assert honest.distance_ratio == pytest.approx(1, abs=0.05)
    assert copying.copy_rate == pytest.approx(500 / 2000, abs=0.02)
    assert copying.copy_excess > 0.2
    assert copying.indices[1500:1900].tolist() == list(range(400))


def test_bad_quantile_is_named():
    x = torch.randn(5, 2)
    with pytest.raises(ValueError, match="quantile"):
        memorisation(x, x, x, quantile=1.0)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.4"):
        nearest_neighbours(x, k=5)
