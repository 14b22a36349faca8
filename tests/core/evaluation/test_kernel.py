"""The kernel distance against sums written out, closed forms for Gaussians, and its own promise of no bias."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from ornstein.core.evaluation import PolynomialKernel, RBFKernel, kernel_distance, median_bandwidth


def written_out(k, n, m):
    """The U-statistic from the kernel matrix of the pooled points."""
    xx, yy, xy = k[:n, :n], k[n:, n:], k[:n, n:]
    return (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2 * xy.mean()


@pytest.mark.parametrize("name", ["polynomial", "rbf"])
def test_agrees_with_scikit_learns_kernels(name):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 5)), rng.normal(size=(20, 5)) + 0.5
    pool = np.concatenate([x, y])
    reference = polynomial_kernel(pool, degree=3, coef0=1) if name == "polynomial" else rbf_kernel(pool, gamma=0.125)
    kernel = PolynomialKernel() if name == "polynomial" else RBFKernel(bandwidth=2.0)
    assert kernel_distance(x, y, kernel, blocks=1).value == pytest.approx(written_out(reference, 30, 20), rel=1e-10)


def test_chunks_change_nothing(monkeypatch):
    x, y = torch.randn(57, 3), torch.randn(41, 3)
    whole = kernel_distance(x, y, blocks=1).value
    monkeypatch.setattr("ornstein.core.evaluation._features.BLOCK_ELEMENTS", 100)
    assert kernel_distance(x, y, blocks=1).value == pytest.approx(whole, rel=1e-12)


def test_unbiased_for_shifted_gaussians():
    """E MMD^2 of N(0, 1) and N(1, 1) under an RBF of bandwidth 1 is 2 (1 - exp(-1/6)) / sqrt(3)."""
    rng = np.random.default_rng(1)
    exact = 2 * (1 - math.exp(-1 / 6)) / math.sqrt(3)
    values = [
        kernel_distance(rng.normal(size=(8, 1)), rng.normal(size=(8, 1)) + 1, RBFKernel(1.0), blocks=1).value
        for _ in range(2000)
    ]
    assert abs(np.mean(values) - exact) < 4 * np.std(values) / math.sqrt(len(values))


def test_zero_mean_and_honest_error_for_equal_distributions():
    rng = np.random.default_rng(2)
    results = [kernel_distance(rng.normal(size=(100, 3)), rng.normal(size=(100, 3)), seed=s) for s in range(200)]
    scores = [r.value / r.standard_error for r in results]
    assert abs(np.mean(scores)) < 0.35
    assert np.std(scores) == pytest.approx(1.13, abs=0.3)  # Student's t with nine degrees of freedom


def test_seed_fixes_the_blocks():
    x, y = torch.randn(50, 2), torch.randn(50, 2)
    assert kernel_distance(x, y, seed=3) == kernel_distance(x, y, seed=3)
    assert kernel_distance(x, y, seed=3) != kernel_distance(x, y, seed=4)
    assert math.isnan(kernel_distance(x, y, blocks=1).standard_error)


def test_median_bandwidth_is_the_median_distance():
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]])
    assert median_bandwidth(x, y) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="median distance"):
        median_bandwidth(torch.zeros(5, 2), torch.zeros(5, 2))


def test_bad_arguments_are_named():
    x = torch.randn(10, 2)
    with pytest.raises(ValueError, match=r"blocks must lie in 1\.\.5"):
        kernel_distance(x, x, blocks=6)
    with pytest.raises(ValueError, match="bandwidth"):
        RBFKernel(0.0)
