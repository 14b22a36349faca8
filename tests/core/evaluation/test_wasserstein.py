"""Wasserstein distances against scipy, linear programming and the closed form of a shift."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from ornstein.core.evaluation import sliced_wasserstein, wasserstein_1d


@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 7), (7, 5), (6, 9), (1, 8), (100, 64)])
def test_order_one_agrees_with_scipy(n, m):
    rng = np.random.default_rng(n + m)
    x, y = rng.normal(size=(n, 3)), rng.normal(size=(m, 3)) * 2
    expected = [wasserstein_distance(x[:, i], y[:, i]) for i in range(3)]
    np.testing.assert_allclose(wasserstein_1d(x, y).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3.5])
def test_unequal_sizes_agree_with_an_assignment_of_repeated_points(p):
    """Points repeated to the common multiple of both sizes make an assignment problem with the same optimum."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 1)), rng.normal(size=(6, 1))
    cost = np.abs(np.repeat(x, 3) - np.repeat(y, 2)[:, None]) ** p
    expected = cost[linear_sum_assignment(cost)].mean() ** (1 / p)
    assert wasserstein_1d(x, y, p).item() == pytest.approx(expected, rel=1e-12)


def test_one_dimension_needs_one_direction():
    x, y = torch.randn(20, 1), torch.randn(31, 1)
    assert sliced_wasserstein(x, y, projections=1) == pytest.approx(wasserstein_1d(x, y).item(), rel=1e-12)


def test_a_shift_has_a_closed_form():
    """W_2^2 along theta is <theta, shift>^2, of which the mean over the sphere is |shift|^2 / d."""
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([3.0, 0, 0, -1, 0, 2])
    got = sliced_wasserstein(x, x + shift, p=2, projections=20_000)
    assert got == pytest.approx((shift.square().sum().item() / 6) ** 0.5, rel=0.02)


def test_blocks_of_directions_change_nothing(monkeypatch):
    x, y = torch.randn(30, 4), torch.randn(20, 4)
    whole = sliced_wasserstein(x, y, projections=37)
    monkeypatch.setattr("ornstein.core.evaluation._features.BLOCK_ELEMENTS", 300)
    assert sliced_wasserstein(x, y, projections=37) == pytest.approx(whole, rel=1e-12)


def test_order_does_not_matter_and_equal_sets_are_at_zero():
    x = torch.randn(40, 3)
    assert sliced_wasserstein(x, x.flip(0)) == 0
    assert sliced_wasserstein(x, x.repeat(2, 1), p=2) == pytest.approx(0, abs=1e-12)


def test_bad_arguments_are_named():
    x = torch.randn(4, 2)
    with pytest.raises(ValueError, match="p must be at least 1"):
        sliced_wasserstein(x, x, p=0.5)
    with pytest.raises(ValueError, match="projections must be at least 1"):
        sliced_wasserstein(x, x, projections=0)
