"""Rules by hand and against pandas; Gaussians against their formulas and against processes with known posteriors."""

import importlib.util

import numpy as np
import pytest
import torch

from ornstein.domains.timeseries.judges.baselines import KNearest, LastValue, Linear, Seasonal, TrainingMean
from ornstein.domains.timeseries.judges.calibration import calibration_curve
from ornstein.domains.timeseries.judges.gaussian import GaussianConditional
from ornstein.domains.timeseries.judges.gaussian_process import GaussianProcess, Kernel

NAN = np.nan
RULES = [TrainingMean(), LastValue(), Linear(), Seasonal(4), KNearest(3), GaussianConditional(), GaussianProcess(1)]


def column(*values):
    return np.array(values, float)[:, None]


def ar1(rng, windows, steps, rho):
    """A stationary AR(1) of deviation 1."""
    x = np.empty((windows, steps, 1))
    x[:, 0] = rng.standard_normal((windows, 1))
    for step in range(1, steps):
        x[:, step] = rho * x[:, step - 1] + np.sqrt(1 - rho**2) * rng.standard_normal((windows, 1))
    return x


def conditional(covariance, window):
    """Mean and covariance of what is missing, by the textbook."""
    m, o = np.isnan(window), ~np.isnan(window)
    gain = covariance[np.ix_(m, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
    return gain @ window[o], covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)]


def test_rules_by_hand():
    gaps = column(NAN, 1, NAN, NAN, 7, NAN)
    assert LastValue().impute(gaps)[:, 0].tolist() == [1, 1, 1, 1, 7, 7]
    assert Linear().impute(gaps)[:, 0].tolist() == [1, 1, 3, 5, 7, 7]
    assert Linear().impute(gaps, time=np.array([0, 1, 1.5, 3, 4, 9.0]))[:, 0].tolist() == [1, 1, 2, 5, 7, 7]
    assert TrainingMean().fit(column(2, NAN, 4)).impute(gaps)[:, 0].tolist() == [3, 1, 3, 3, 7, 3]
    # phase 0: 1 _ 5, phase 1: 2 4 _ and phase 2, never seen: the line
    season = column(1, 2, NAN, NAN, 4, NAN, 5, NAN, NAN)
    assert Seasonal(3).impute(season)[:, 0].tolist() == [1, 2, 8 / 3, 3, 4, 4.5, 5, 4, 5]


def test_forecasts_are_the_naive_ones():
    rng = np.random.default_rng(0)
    past = rng.standard_normal((5, 12, 2))
    window = np.concatenate([past, np.full((5, 6, 2), NAN)], axis=1)
    np.testing.assert_array_equal(LastValue().impute(window)[:, 12:], np.repeat(past[:, -1:], 6, 1))
    np.testing.assert_array_equal(
        Seasonal(4).impute(window)[:, 12:], np.concatenate([past[:, -4:], past[:, -4:-2]], axis=1)
    )


def test_the_line_is_that_of_pandas():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(1)
    values, time = rng.standard_normal((20, 3)), np.cumsum(rng.random(20) + 0.1)
    values[rng.random((20, 3)) < 0.5] = NAN
    expected = pd.DataFrame(values, index=time).interpolate("index", limit_direction="both").to_numpy()
    np.testing.assert_allclose(Linear().impute(values, time=time), expected, rtol=1e-12)
    filled = pd.DataFrame(values).ffill().bfill().to_numpy()
    np.testing.assert_array_equal(LastValue().impute(values), filled)


def test_neighbours_find_the_window_that_fits_at_any_level():
    rng = np.random.default_rng(2)
    train = rng.standard_normal((30, 8, 2))
    window = train[7] + 5
    hidden = window.copy()
    hidden[3:5, 0] = NAN
    found = KNearest(1).fit(train).impute(hidden)
    expected = np.nanmean(hidden, 0) + train[7] - train[7].mean(0)
    np.testing.assert_allclose(found[3:5, 0], expected[3:5, 0], rtol=1e-9)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_is_known_comes_back_bit_for_bit(rule):
    rng = np.random.default_rng(3)
    train = rng.normal([3, -5], 1, (24, 8, 2))
    train[rng.random(train.shape) < 0.2] = NAN
    fitted = rule.fit(train)
    values = rng.standard_normal((4, 8, 2)).astype(np.float32)
    values[rng.random(values.shape) < 0.4] = NAN
    values[0] = NAN  # nothing to go by but the training data
    filled = fitted.impute(torch.from_numpy(values))
    known = ~np.isnan(values)
    assert filled.shape == values.shape
    assert filled.dtype == np.float64
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[known], values[known].astype(np.float64))
    np.testing.assert_allclose(filled[0], np.broadcast_to(np.nanmean(train, (0, 1)), (8, 2)), atol=0.8)
    np.testing.assert_array_equal(fitted.impute(values[2]), filled[2])
    assert rule.mean is None  # fit made a copy


@pytest.mark.parametrize("rule", [GaussianConditional(), GaussianProcess(1)], ids=lambda rule: rule.name)
def test_samples_have_the_moments(rule):
    rng = np.random.default_rng(4)
    train = ar1(rng, 60, 8, 0.8) * [1.0, 2.0] + 1
    fitted = rule.fit(train)
    values = train[:3].copy()
    values[:, 2:5] = values[1, 7, 0] = NAN
    mean, variance = fitted.moments(values)
    draws = fitted.sample(values, 20_000, seed=5)
    assert (variance[~np.isnan(values)] == 0).all()
    assert (variance[np.isnan(values)] > 0).all()
    np.testing.assert_allclose(draws.mean(0), mean, atol=5 * np.sqrt(variance.max() / 20_000))
    np.testing.assert_allclose(draws.var(0), variance, rtol=0.06, atol=1e-12)  # five standard errors of sqrt(2 / n)
    np.testing.assert_array_equal(mean, fitted.impute(values))
    np.testing.assert_array_equal(fitted.sample(values, 3, seed=1), fitted.sample(values, 3, seed=1))
    assert (fitted.sample(values, 3, seed=1) != fitted.sample(values, 3, seed=2)).any()


def test_the_gaussian_conditional_is_that_of_its_covariance():
    rng = np.random.default_rng(5)
    train = ar1(rng, 80, 6, 0.7) @ rng.standard_normal((1, 2)) + 0.5 * rng.standard_normal((80, 6, 2))
    train[rng.random(train.shape) < 0.1] = NAN
    fitted = GaussianConditional().fit(train)
    covariance = np.linalg.inv(fitted.precision)
    window = train[3].copy()
    window[1:4, 0] = window[5] = NAN
    mean, cov = conditional(covariance, (window - fitted.mean).reshape(-1))
    missing = np.isnan(window)
    found, variance = fitted.moments(window)
    np.testing.assert_allclose(found[missing], mean + np.broadcast_to(fitted.mean, (6, 2))[missing], rtol=1e-8)
    np.testing.assert_allclose(variance[missing], np.diag(cov), rtol=1e-8)
    draws = fitted.sample(window, 50_000)[:, missing]
    np.testing.assert_allclose(np.cov(draws.T), cov, atol=0.03 * np.diag(cov).max())


def test_the_ridge_is_the_likeliest():
    """The log-density of hidden entries, summed by scipy for each setting."""
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(6)
    train, held = ar1(rng, 12, 5, 0.9), ar1(rng, 20, 5, 0.9) + 2
    hidden = rng.random(held.shape) < 0.4
    scores = {}
    for level in (0.0, 1.0):
        for ridge in (1e-3, 1e-2, 1e-1, 1.0):
            one = GaussianConditional((ridge,), (level,)).fit(train, held)
            covariance, total = np.linalg.inv(one.precision), 0.0
            for window, gone in zip(held - one.mean, hidden):
                rest = np.where(gone, NAN, window).reshape(-1)
                if gone.any():
                    mean, cov = conditional(covariance, rest)
                    total += multivariate_normal(mean, cov).logpdf(window.reshape(-1)[np.isnan(rest)])
            scores[level, ridge] = total
    fitted = GaussianConditional((1e-3, 1e-2, 1e-1, 1.0)).fit(train, held, hidden=hidden)
    assert (fitted.level, fitted.ridge) == max(scores, key=scores.get)


def test_an_ar1_is_known_exactly():
    """Means within 5 % of the exact deviation and deviations within 5 %, from 4000 training windows."""
    rng = np.random.default_rng(7)
    rho, steps = 0.8, 12
    exact = rho ** np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    fitted = GaussianConditional((1e-5, 1e-4, 1e-3, 1e-2)).fit(ar1(rng, 4000, steps, rho))
    values = ar1(rng, 50, steps, rho)
    truth = values.copy()
    values[:, 3:8] = values[:, 11] = NAN
    mean, variance = fitted.moments(values)
    for b in range(50):
        wanted, cov = conditional(exact, values[b, :, 0])
        at = np.isnan(values[b, :, 0])
        assert np.abs((mean[b, at, 0] - wanted) / np.sqrt(np.diag(cov))).mean() < 0.05
        np.testing.assert_allclose(np.sqrt(variance[b, at, 0]), np.sqrt(np.diag(cov)), rtol=0.05)
    assert calibration_curve(fitted.sample(values, 200), truth, np.isnan(values)).error < 0.05


def test_an_ou_process_at_irregular_stamps_is_known_exactly():
    """The kernel from 48 windows of 40 stamps; then, with the true kernel, the posterior of the textbook."""
    rng = np.random.default_rng(8)
    time = np.cumsum(rng.exponential(1.0, (60, 40)), axis=1)
    lags = np.abs(time[:, :, None] - time[:, None, :])
    exact = 4 * np.exp(-lags / 6) + 0.1 * np.eye(40)
    values = (np.linalg.cholesky(exact) @ rng.standard_normal((60, 40, 1))) + 10
    fitted = GaussianProcess(terms=1, steps=2000).fit(values[:48], time=time[:48])
    variance, length = fitted.kernel.variances.item(), fitted.kernel.lengths.item()
    assert variance / length == pytest.approx(4 / 6, rel=0.1)  # what dense stamps tell of an OU process
    assert fitted.kernel.noise.item() == pytest.approx(0.1, abs=0.05)

    true = Kernel(*(torch.tensor(x).double() for x in ([[4.0]], [[6.0]], [0.1], [0.0])))
    sure = GaussianProcess(terms=1, mean=np.array([10.0]), kernel=true)
    gaps = values[48:].copy()
    gaps[:, 10:20] = gaps[:, 39] = NAN
    mean, var = sure.moments(gaps, time=time[48:])
    near, close = fitted.moments(gaps, time=time[48:])
    for b in range(12):
        wanted, cov = conditional(exact[48 + b], gaps[b, :, 0] - 10)
        at = np.isnan(gaps[b, :, 0])
        np.testing.assert_allclose(mean[b, at, 0], wanted + 10, rtol=1e-6)
        np.testing.assert_allclose(var[b, at, 0], np.diag(cov), rtol=1e-6)
        assert np.abs((near[b, at, 0] - wanted - 10) / np.sqrt(np.diag(cov))).mean() < 0.1
        np.testing.assert_allclose(np.sqrt(close[b, at, 0]), np.sqrt(np.diag(cov)), rtol=0.1)


def test_a_swinging_term_finds_the_season():
    rng = np.random.default_rng(9)
    phase = rng.uniform(0, 2 * np.pi, (40, 1))
    values = np.sin(2 * np.pi * np.arange(24) / 8 + phase)[..., None] + 0.1 * rng.standard_normal((40, 24, 1))
    gaps = values[30:].copy()
    gaps[:, 12:] = NAN
    errors = [
        np.abs(GaussianProcess(1, period=period, iterations=30).fit(values[:30]).impute(gaps) - values[30:]).mean()
        for period in (None, 8.0)
    ]
    assert errors[1] < 0.3 * errors[0]


def test_figures_of_the_published_comparison(external_data, repository):
    """ETTh1 with 10 % and 50 % removed: the study's own Gaussian has MAE 0.154, 0.234 and CRPS 0.116, 0.182."""
    path = repository.parent / "shared" / "peers" / "pypots_csdi_etth1.py"
    if not path.exists():
        pytest.skip(f"no {path.name}: it is not part of the repository")
    spec = importlib.util.spec_from_file_location("peer", path)
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    for rate, linear, error, score in ((0.1, 0.186, 0.154, 0.116), (0.5, 0.243, 0.234, 0.182)):
        data = peer.make_protocol(external_data("ett") / "ETTh1.csv", rate)
        train, val, test = data["train"]["x"], data["val"], data["test"]["x"]
        assert peer.score(Linear().impute(test), data)["mae"] == pytest.approx(linear, abs=0.001)
        fitted = GaussianConditional(levels=(0.0,)).fit(train, val["full"], hidden=val["removed"])
        found = peer.score(np.moveaxis(fitted.sample(test, 100), 0, 1), data)
        assert found["mae"] == pytest.approx(error, abs=0.003)
        assert found["crps"] == pytest.approx(score, abs=0.003)
        assert 0.93 < found["cov90"] < 0.98


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TrainingMean().impute(column(1, NAN)), ValueError, "TrainingMean has not seen training data.*fit"),
        (lambda: Linear().impute(column(NAN, NAN)), ValueError, "Linear has not seen training data"),
        (lambda: GaussianConditional().moments(column(1, NAN)), ValueError, "call fit first"),
        (lambda: Linear().impute([[1.0]]), TypeError, "values must be an array or tensor"),
        (lambda: Linear().impute(np.zeros(3)), ValueError, r"shape of values=\(3,\): expected \(B, L, K\)"),
        (lambda: Linear().impute(column(np.inf)), ValueError, "infinite values"),
        (lambda: Linear().impute(column(1, 2), time=np.zeros(3)), ValueError, r"shape of time=\(3,\)"),
        (lambda: Linear().impute(column(1, 2), time=np.zeros(2)), ValueError, "later times after earlier ones"),
        (lambda: Seasonal(2).impute(column(1, 2), time=np.array([0.0, 3])), ValueError, "irregular stamps"),
        (lambda: Linear().fit(column(NAN, NAN)), ValueError, r"no value of variable \[0\]"),
        (lambda: TrainingMean().fit(column(1)).impute(np.full((2, 2), NAN)), ValueError, "2 variables.*expected 1"),
        (lambda: KNearest(1).fit(column(1, 2)).impute(column(1, 2, NAN)), ValueError, "3 steps.*expected 2"),
        (lambda: GaussianConditional().fit(column(1, 2)), ValueError, "train='one window'"),
        (lambda: GaussianConditional().fit(np.ones((4, 3, 1))), ValueError, "constant variables"),
        (lambda: GaussianConditional(ridges=(0.0,)), ValueError, "ridges"),
        (lambda: GaussianConditional().fit(np.ones((4, 3, 1)), hidden=np.ones(1)), ValueError, "validation beside it"),
        (lambda: GaussianProcess(terms=0), ValueError, "terms=0: expected at least 1"),
        (lambda: Seasonal(0), ValueError, "period=0"),
        (lambda: GaussianProcess().fit(column(1, 2)).sample(column(1, NAN), 0), ValueError, "n=0"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
