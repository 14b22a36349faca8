"""Scores of joint samples against their sums over pairs, other libraries, and what they are to tell."""

import numpy as np
import pytest

from ornstein.domains.timeseries.judges.joint import energy_score, variogram_score
from ornstein.domains.timeseries.judges.scores import crps


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(0)
    return rng.standard_normal((20, 3, 6, 2)), rng.standard_normal((3, 6, 2)), rng.random((3, 6, 2)) < 0.6


def test_energy_score_is_its_sum_over_pairs(draws):
    samples, truth, mask = draws
    expected = []
    for b in range(3):
        x, y = samples[:, b][:, mask[b]], truth[b][mask[b]]
        pairs = np.linalg.norm(x[:, None] - x, axis=-1).sum() / (20 * 19)
        expected.append(np.linalg.norm(x - y, axis=-1).mean() - pairs / 2)
    assert energy_score(samples, truth, mask) == pytest.approx(np.mean(expected), rel=1e-12)
    assert energy_score(samples[:1, :1], truth[:1]) == pytest.approx(np.linalg.norm(samples[0, 0] - truth[0]))


def test_energy_score_of_one_number_is_crps(draws):
    samples, truth, _ = draws
    one = np.zeros(truth.shape, bool)
    one[:, 2, 1] = True
    assert energy_score(samples, truth, one) == pytest.approx(crps(samples, truth, one))
    flat = samples.reshape(20, -1, 1), truth.reshape(-1, 1)
    assert energy_score(*flat, event_axes=1) == pytest.approx(crps(samples, truth))


def test_scores_by_another_library(draws):
    scoringrules = pytest.importorskip("scoringrules")
    samples, truth, _ = draws
    x, y = np.moveaxis(samples, 0, 1).reshape(3, 20, 12), truth.reshape(3, 12)
    fair = scoringrules.es_ensemble(y, x, estimator="fair")
    assert energy_score(samples, truth) == pytest.approx(fair.mean(), rel=1e-6)
    for p in (0.5, 1.0):
        expected = scoringrules.vs_ensemble(y, x, p=p).mean() / (12 * 11)
        assert variogram_score(samples, truth, p=p) == pytest.approx(expected, rel=1e-6)


def test_variogram_score_by_hand():
    samples, truth = np.array([[[0.0], [4.0]], [[0.0], [0.0]]]), np.array([[1.0], [2.0]])
    assert variogram_score(samples, truth) == pytest.approx((1 - (2 + 0) / 2) ** 2)
    assert variogram_score(samples, truth, p=2) == pytest.approx((1 - 16 / 2) ** 2)


def walks(rng, n, rho):
    """AR(1) of 24 steps with deviation 1."""
    x = np.empty((n, 24, 1))
    x[:, 0] = rng.standard_normal((n, 1))
    for step in range(1, 24):
        x[:, step] = rho * x[:, step - 1] + np.sqrt(1 - rho**2) * rng.standard_normal((n, 1))
    return x


def test_the_true_distribution_scores_best_and_correlation_is_seen():
    """Samples that are right entry by entry and independent in time have the same CRPS, and worse joint scores."""
    rng = np.random.default_rng(1)
    truth = walks(rng, 400, 0.9)
    right, loose, stiff = (np.stack([walks(rng, 400, rho) for _ in range(40)]) for rho in (0.9, 0.0, 0.999))
    narrow = 0.6 * right
    assert crps(loose, truth) == pytest.approx(crps(right, truth), rel=0.03)
    for score, gain in ((energy_score, 1.01), (variogram_score, 1.1)):
        best = score(right, truth)
        assert min(score(each, truth) for each in (loose, stiff, narrow)) > gain * best


def test_bad_input_is_refused(draws):
    samples, truth, _ = draws
    with pytest.raises(ValueError, match="event_axes=4: expected 1 to 3"):
        energy_score(samples, truth, event_axes=4)
    with pytest.raises(ValueError, match="p=0: expected a positive number"):
        variogram_score(samples, truth, p=0)
    one = np.zeros(truth.shape, bool)
    one[:, 2, 1] = True
    with pytest.raises(ValueError, match="of pairs"):
        variogram_score(samples, truth, one)
    with pytest.raises(ValueError, match="truth holds 1 NaN"):
        energy_score(samples, np.where(one & (np.arange(3) == 0)[:, None, None], np.nan, truth))
