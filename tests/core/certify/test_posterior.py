"""The suite of posterior methods: the exact posterior, exact moments, the errors it reports, and what is claimed."""

import pytest
import torch

from ornstein.core import DDRM, GaussianNoise, IndependentNoise, MatrixOperator, Measurement
from ornstein.core.certify import posterior as suite


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return suite.posterior_table(quick=True)


def test_exact_methods_are_within_what_is_claimed_and_others_are_not(rows) -> None:
    for row in rows:
        if row["method"] == "mmps":
            assert row["mean_error"] < 0.02
            assert row["std_error"] < 0.02
            assert row["calibration_error"] < 0.01
        elif row["method"] == "tds":  # a quarter of the particles: the sampling error of 1,024 draws
            assert row["mean_error"] < 0.05
            assert row["std_error"] < 0.04
        else:
            assert not row["exact"]
            assert row["mean_error"] > 0.02 or row["std_error"] > 0.02


def test_a_row_for_each_problem_and_method(rows) -> None:
    assert len(rows) == 2 * len(suite.METHODS)
    keys = {"operator", "noise_std", "method", "mean_error", "std_error", "calibration_error", "nfe", "exact", "bias"}
    assert all(keys <= set(row) for row in rows)
    with pytest.raises(ValueError, match="'magic'"):
        suite.posterior_table(quick=True, methods=["magic"])


def test_the_exact_posterior_is_the_limit_of_information_form() -> None:
    prior, generator = suite.correlated_pictures(), torch.Generator().manual_seed(0)
    for operator in suite.linear_operators().values():
        x0 = prior.sample(1, generator=generator).unflatten(1, suite.SHAPE)
        measurement = Measurement.simulate(x0, operator, GaussianNoise(0.3), generator)
        a = MatrixOperator.of(operator).matrix
        precision = torch.linalg.inv(prior.covariance) + a.T @ a / 0.09
        shift = torch.linalg.solve(prior.covariance, prior.mean) + a.T @ measurement.y.flatten() / 0.09
        mean, covariance = suite.exact_posterior(prior, measurement)
        torch.testing.assert_close(mean, torch.linalg.solve(precision, shift), rtol=0, atol=1e-8)
        torch.testing.assert_close(covariance, torch.linalg.inv(precision), rtol=0, atol=1e-8)


def test_moments_of_affine_methods_are_those_of_their_samples() -> None:
    prior, generator = suite.correlated_pictures(), torch.Generator().manual_seed(0)
    x0 = prior.sample(1, generator=generator).unflatten(1, suite.SHAPE)
    measurement = Measurement.simulate(x0, suite.linear_operators()["average_pool"], GaussianNoise(0.1), generator)
    sampler = DDRM(6, measurement=measurement)
    mean, std = suite._moments(sampler, prior, None, 0)
    x = sampler.sample(prior, (20_000, *suite.SHAPE), noise=IndependentNoise(generator)).double().flatten(1)
    assert ((x.mean(0) - mean) / std).abs().max() < 4.5 / 20_000**0.5
    assert (x.std(0) / std - 1).abs().max() < 4.5 / 40_000**0.5


def test_calibration_error_of_known_intervals() -> None:
    prior = suite.correlated_pictures()
    zero, one = torch.zeros(64, dtype=torch.float64), torch.ones(64, dtype=torch.float64)
    right = suite._errors((zero, one), (zero, one), prior)
    assert right == {"mean_error": 0, "std_error": 0, "calibration_error": pytest.approx(0, abs=1e-12)}
    # A method that is certain covers nothing: the mean of the levels is missing.
    certain = suite._errors((zero, 0 * one), (zero, one), prior)
    assert certain["calibration_error"] == pytest.approx(0.5)
    assert certain["std_error"] == pytest.approx(1.0)
