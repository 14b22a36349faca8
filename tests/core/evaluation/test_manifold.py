"""Precision, recall, density and coverage where they are known by hand, by loops and in expectation."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from ornstein.core.evaluation import density_coverage, precision_recall


def by_loops(samples, real, k):
    def radii(points):
        return NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors(points)[0][:, -1]

    distance = np.linalg.norm(samples[:, None] - real[None], axis=2)
    in_real = distance <= radii(real)[None]
    in_samples = distance <= radii(samples)[:, None]
    return {
        "precision": in_real.any(1).mean(),
        "recall": in_samples.any(0).mean(),
        "density": in_real.sum() / (k * len(samples)),
        "coverage": in_real.any(0).mean(),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("block", [1 << 23, 50])
def test_agrees_with_loops(monkeypatch, k, block):
    monkeypatch.setattr("ornstein.core.evaluation._features.BLOCK_ELEMENTS", block)
    rng = np.random.default_rng(k)
    samples, real = rng.normal(size=(60, 4)) * 0.8, rng.normal(size=(45, 4))
    expected = by_loops(samples, real, k)
    got = {**precision_recall(samples, real, k)._asdict(), **density_coverage(samples, real, k)._asdict()}
    assert got == pytest.approx(expected, rel=1e-12)


def test_a_collapsed_generator_is_precise_and_covers_little():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(size=(100, 2)), rng.normal(size=(100, 2)) + 100])
    samples = real[:100] + 1e-3 * rng.normal(size=(100, 2))
    precision, recall = precision_recall(samples, real)
    density, coverage = density_coverage(samples, real)
    assert precision == 1
    assert recall == pytest.approx(0.5)
    assert coverage == pytest.approx(0.5)
    assert density > 0.9


def test_samples_far_away_score_zero():
    x = torch.randn(50, 3)
    assert precision_recall(x + 100, x) == (0, 0)
    assert density_coverage(x + 100, x) == (0, 0)


def test_a_set_against_itself_is_perfect():
    x = torch.randn(50, 3).repeat(2, 1)  # duplicates: balls of radius zero hold their own point
    assert precision_recall(x, x, k=1) == (1, 1)
    assert density_coverage(x, x, k=1).coverage == 1


def test_expectations_for_equal_distributions():
    """Density 1; coverage 1 - prod (m - i) / (2 m - i), i = 1..k."""
    rng = np.random.default_rng(1)
    m, k = 60, 3
    results = [density_coverage(rng.normal(size=(m, 4)), rng.normal(size=(m, 4)), k) for _ in range(150)]
    coverage = 1 - np.prod([(m - i) / (2 * m - i) for i in range(1, k + 1)])
    for values, expected in zip(zip(*results), (1.0, coverage)):
        assert abs(np.mean(values) - expected) < 4 * np.std(values) / np.sqrt(len(values))


def test_outliers_among_the_samples_inflate_recall_but_not_coverage():
    rng = np.random.default_rng(2)
    real = rng.normal(size=(200, 2))
    samples = np.concatenate([rng.normal(size=(20, 2)) * 0.01, np.full((1, 2), 1000.0), np.full((1, 2), -1000.0)])
    assert precision_recall(samples, real).recall > 0.9
    assert density_coverage(samples, real).coverage < 0.2


def test_bad_k_is_named():
    x = torch.randn(5, 2)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.4"):
        precision_recall(x, x, k=5)
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.4"):
        density_coverage(torch.randn(2, 2), x, k=0)
