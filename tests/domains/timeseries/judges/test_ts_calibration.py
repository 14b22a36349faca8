"""Coverage and calibration of distributions that are right, too narrow and too wide."""

import numpy as np
import pytest
from scipy.stats import kstest, norm

from ornstein.domains.timeseries.judges.calibration import calibration_curve, intervals, pit


@pytest.fixture(scope="module")
def right():
    rng = np.random.default_rng(0)
    return rng.standard_normal((99, 20_000)), rng.standard_normal(20_000)


def test_intervals_of_a_gaussian(right):
    """Standard errors: 0.0035 of a coverage of 0.5, far less of a width; means of ordered Gaussians as of Blom 1958."""
    samples, truth = right
    half, most = intervals(samples, truth, levels=(0.5, 0.9))
    assert half.coverage == pytest.approx(0.5 * 98 / 100, abs=0.014)
    assert most.coverage == pytest.approx(0.9 * 98 / 100, abs=0.01)
    for found, upper in ((half, 0.75), (most, 0.95)):
        rank = 1 + 98 * upper
        assert found.width == pytest.approx(2 * norm.ppf((rank - 0.375) / 99.25), rel=0.005)
    assert (half.level, most.level) == (0.5, 0.9)
    narrow = intervals(samples / 2, truth)[1]
    assert narrow.coverage == pytest.approx(2 * norm.cdf(most.width / 4) - 1, abs=0.014)
    assert narrow.width == pytest.approx(most.width / 2)


def test_intervals_are_numpys_quantiles():
    rng = np.random.default_rng(1)
    samples, truth, mask = rng.standard_normal((8, 3, 5)), rng.standard_normal((3, 5)), rng.random((3, 5)) < 0.7
    low, high = np.quantile(samples[:, mask], [0.05, 0.95], axis=0)
    (found,) = intervals(samples, truth, mask, levels=[0.9])
    assert found.coverage == pytest.approx(((low <= truth[mask]) & (truth[mask] <= high)).mean())
    assert found.width == pytest.approx((high - low).mean())


@pytest.mark.parametrize("count", [1, 4, 99])
def test_transforms_are_uniform_at_every_number_of_samples(right, count):
    samples, truth = right
    assert kstest(pit(samples[:count], truth), "uniform").pvalue > 0.01


def test_ties_are_broken_at_random():
    """Samples and truth from three values: without the draw, ranks would pile up."""
    rng = np.random.default_rng(2)
    samples, truth = rng.integers(0, 3, (9, 20_000)), rng.integers(0, 3, 20_000)
    assert kstest(pit(samples, truth), "uniform").pvalue > 0.01
    np.testing.assert_array_equal(pit(samples, truth, seed=1), pit(samples, truth, seed=1))


def test_the_curve_tells_narrow_from_wide(right):
    samples, truth = right
    curve = calibration_curve(samples, truth)
    np.testing.assert_allclose(curve.observed, curve.nominal, atol=0.014)
    assert curve.error < 0.005
    narrow, wide = (calibration_curve(samples * width, truth, levels=[0.1, 0.9]) for width in (0.5, 2))
    np.testing.assert_allclose(narrow.observed, norm.cdf(norm.ppf([0.1, 0.9]) / 2), atol=0.02)
    np.testing.assert_allclose(wide.observed, norm.cdf(norm.ppf([0.1, 0.9]) * 2), atol=0.02)
    assert narrow.error == pytest.approx(np.abs(narrow.observed - [0.1, 0.9]).mean())


def test_a_point_has_no_calibration():
    with pytest.raises(ValueError, match="samples=1: expected at least two"):
        calibration_curve(np.zeros((1, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="levels"):
        intervals(np.zeros((2, 3)), np.zeros(3), levels=[90])
