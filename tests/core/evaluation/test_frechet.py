"""The Fréchet distance against its closed form, scipy's matrix root and the cases that break that root."""

import numpy as np
import pytest
import scipy.linalg
import torch

from ornstein.core.evaluation import frechet_distance, frechet_distance_from_moments


def gaussian(n, d, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def by_matrix_root(x, y):
    c, d = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(c @ d)
    return np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(c + d - 2 * root.real)


def test_agrees_with_scipys_matrix_root():
    x, y = gaussian(400, 7, 0), gaussian(300, 7, 1)
    assert frechet_distance(x, y) == pytest.approx(by_matrix_root(x, y), rel=1e-9)


def test_commuting_covariances_have_a_closed_form():
    scales, others = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.1, 0.5])
    got = frechet_distance_from_moments(np.zeros(3), np.diag(scales**2), np.ones(3), np.diag(others**2))
    assert got == pytest.approx(3 + np.sum((scales - others) ** 2), rel=1e-12)


def test_moments_and_features_agree():
    x, y = gaussian(50, 5, 2), gaussian(60, 5, 3)
    moments = frechet_distance_from_moments(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert moments == pytest.approx(frechet_distance(x, y), rel=1e-10)


@pytest.mark.parametrize("rows", [4, 40])
def test_singular_covariances_keep_every_digit(rows):
    """30 columns of rank at most 3: a shift is the whole distance, and equal sets are at zero."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(rows, 3)) @ rng.normal(size=(3, 30))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(x, x + 2) == pytest.approx(4 * 30, rel=1e-12)
    moments = frechet_distance_from_moments(x.mean(0), np.cov(x.T), x.mean(0), np.cov(x.T))
    assert moments == pytest.approx(0, abs=1e-10)


def test_orthogonal_supports_do_not_overlap():
    x, y = np.zeros((2, 2)), np.zeros((2, 2))
    x[:, 0], y[:, 1] = [-1, 1], [-2, 2]
    assert frechet_distance(x, y) == pytest.approx(2 + 8, rel=1e-12)


def test_symmetric_and_invariant_to_rotation():
    x, y = gaussian(80, 6, 5), gaussian(90, 6, 6)
    q = np.linalg.qr(np.random.default_rng(7).normal(size=(6, 6)))[0]
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-10)
    assert frechet_distance(x @ q, y @ q) == pytest.approx(frechet_distance(x, y), rel=1e-9)


def test_bias_falls_as_one_over_n():
    """For equal Gaussians the expected plug-in distance is positive and halves when n doubles."""
    rng = np.random.default_rng(8)

    def mean_distance(n):
        return np.mean([frechet_distance(rng.normal(size=(n, 4)), rng.normal(size=(n, 4))) for _ in range(200)])

    assert mean_distance(100) / mean_distance(200) == pytest.approx(2, rel=0.2)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((1, 2)), ValueError, "at least 2 rows"),
        (np.zeros((3, 4)), ValueError, "same number of columns"),
        (np.full((3, 2), np.nan), ValueError, "NaN"),
        (np.zeros(3), ValueError, "shape"),
        (torch.zeros(3, 2, dtype=torch.complex64), TypeError, "real"),
        (np.array([["a", "b"]] * 3), TypeError, "real numbers"),
        ([[0.0, 1.0]], TypeError, "tensor or an array"),
    ],
)
def test_bad_input_is_named(x, error, message):
    with pytest.raises(error, match=message):
        frechet_distance(x, np.ones((5, 2)))


def test_a_matrix_that_is_no_covariance_is_refused():
    mean, good = np.zeros(2), np.eye(2)
    with pytest.raises(ValueError, match="negative eigenvalue"):
        frechet_distance_from_moments(mean, np.diag([1.0, -1.0]), mean, good)
    with pytest.raises(ValueError, match="symmetric"):
        frechet_distance_from_moments(mean, np.array([[1.0, 0.5], [0.0, 1.0]]), mean, good)
    with pytest.raises(ValueError, match="agree in size"):
        frechet_distance_from_moments(np.zeros(3), good, mean, good)
