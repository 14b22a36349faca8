"""Scores against closed forms, against other libraries, and against the judge of the published comparison."""

import importlib.util

import numpy as np
import pytest
import torch
from scipy.stats import norm

from ornstein.domains.timeseries.judges import _samples
from ornstein.domains.timeseries.judges.scores import (
    CSDI_LEVELS,
    GLUONTS_LEVELS,
    crps,
    crps_sum,
    csdi_crps,
    mae,
    mre,
    quantile_loss,
    rmse,
    weighted_quantile_loss,
)


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((6, 12, 3)) + 0.5
    samples = rng.standard_normal((50, 6, 12, 3)) * 1.3 + 0.2
    return samples, truth, rng.random(truth.shape) < 0.4


def gaussian_crps(y, mean, deviation):
    """Gneiting and Raftery 2007, eq. 5's integral for a Gaussian."""
    z = (y - mean) / deviation
    return deviation * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))


def test_crps_of_a_gaussian_has_its_closed_form():
    """Unbiased at n = 5: the mean over 4e5 entries is within four standard errors; with pairs i = j it is 30 away."""
    rng = np.random.default_rng(1)
    y, mean, deviation = rng.standard_normal(400_000), 0.4, 1.7
    samples = mean + deviation * rng.standard_normal((5, len(y)))
    found = _samples.marginals(samples, y).crps
    error = (found - gaussian_crps(y, mean, deviation)).std() / np.sqrt(len(y))
    assert crps(samples, y) == pytest.approx(gaussian_crps(y, mean, deviation).mean(), abs=4 * error)
    biased = np.abs(samples - y).mean(0) - np.abs(samples[:, None] - samples).mean((0, 1)) / 2
    assert abs(biased.mean() - gaussian_crps(y, mean, deviation).mean()) > 30 * error


def test_crps_is_the_sum_over_pairs(draws):
    samples, truth, mask = draws
    pairs = np.abs(samples[:, None] - samples).sum((0, 1)) / (50 * 49)
    expected = (np.abs(samples - truth).mean(0) - pairs / 2)[mask].mean()
    assert crps(samples, truth, mask) == pytest.approx(expected, rel=1e-12)
    assert crps(samples[:1], truth, mask) == pytest.approx(mae(samples[0], truth, mask))


def test_crps_by_other_libraries(draws):
    samples, truth, mask = draws
    rows, y = samples[:, mask], truth[mask]
    scoringrules = pytest.importorskip("scoringrules")
    expected = scoringrules.crps_ensemble(y, rows, m_axis=0, estimator="fair").mean()
    assert crps(samples, truth, mask) == pytest.approx(expected, rel=1e-10)
    properscoring = pytest.importorskip("properscoring")
    spread = np.abs(rows[:, None] - rows).mean((0, 1)) / 2  # of all pairs, as properscoring has it
    expected = (properscoring.crps_ensemble(y, rows.T) + spread - spread * 50 / 49).mean()
    assert crps(samples, truth, mask) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("score", [crps, csdi_crps, weighted_quantile_loss])
def test_the_true_distribution_scores_best(score):
    rng = np.random.default_rng(2)
    y = 2 + rng.standard_normal(20_000)

    def drawn(shift, width):
        return score(2 + shift + width * rng.standard_normal((40, len(y))), y)

    best = drawn(0, 1)
    for shift, width in ((0.3, 1), (-0.3, 1), (0, 0.7), (0, 1.4)):
        assert drawn(shift, width) > best * 1.01


def test_csdi_form_is_that_of_the_published_comparison(draws, repository):
    path = repository.parent / "shared" / "peers" / "pypots_csdi_etth1.py"
    if not path.exists():
        pytest.skip(f"no {path.name}: it is not part of the repository")
    spec = importlib.util.spec_from_file_location("peer", path)
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    samples, truth, mask = draws
    assert csdi_crps(samples, truth, mask) == pytest.approx(peer.pinball_norm(samples[:, mask], truth[mask]), rel=1e-12)
    whole = {"std": np.ones(3), "mean": np.zeros(3), "test": {"removed": mask, "full": truth}}
    expected = peer.score(np.moveaxis(samples, 0, 1), whole)
    point = np.median(samples, axis=0)
    found = {
        "mae": mae(point, truth, mask),
        "rmse": rmse(point, truth, mask),
        "mre": mre(point, truth, mask),
        "crps": crps(samples, truth, mask),
        "crps_q19": csdi_crps(samples, truth, mask),
    }
    assert found == pytest.approx({name: expected[name] for name in found}, rel=1e-12)


def test_quantile_forms_by_hand():
    samples, truth = np.arange(5.0)[:, None], np.array([1.0])
    np.testing.assert_allclose(quantile_loss(np.array([[3.0]]), truth, [0.75]), [[2 * 2 * 0.25]])
    np.testing.assert_allclose(quantile_loss(np.array([[-1.0]]), truth, [0.75]), [[2 * 2 * 0.75]])
    # quantiles 1 and 3 at a quarter and three quarters
    assert csdi_crps(samples, truth, levels=[0.25, 0.75]) == pytest.approx((0 + 2 * 2 * 0.25) / 2)
    # 4 * 0.3 = 1.2 lies nearest to the second sample; in linear form the quantile is 1.2
    assert weighted_quantile_loss(samples, truth + 1, levels=[0.3]) == pytest.approx(2 * 0.3 * 1 / 2)
    assert csdi_crps(samples, truth + 1, levels=[0.3]) == pytest.approx(2 * 0.3 * 0.8 / 2)


def test_of_a_point_all_quantile_forms_are_the_relative_error(draws):
    samples, truth, mask = draws
    for score in (csdi_crps, weighted_quantile_loss):
        assert score(samples[:1], truth, mask) == pytest.approx(mre(samples[0], truth, mask))


def test_weighted_quantile_loss_is_that_of_gluonts(draws):
    pytest.importorskip("gluonts")
    import pandas as pd
    from gluonts.evaluation import MultivariateEvaluator
    from gluonts.model.forecast import SampleForecast

    samples, truth, _ = draws
    start = pd.Period("2020-01-01", freq="h")
    forecasts = [SampleForecast(samples[:, i], start) for i in range(len(truth))]
    series = [pd.DataFrame(y, index=pd.period_range(start, periods=len(y), freq="h")) for y in truth]
    evaluator = MultivariateEvaluator(GLUONTS_LEVELS, target_agg_funcs={"sum": np.sum}, num_workers=0)
    expected, _ = evaluator(series, forecasts)
    assert crps_sum(samples, truth) == pytest.approx(expected["m_sum_mean_wQuantileLoss"], rel=1e-6)
    parts = [weighted_quantile_loss(samples[..., k], truth[..., k]) for k in range(3)]
    assert parts == pytest.approx([expected[f"{k}_mean_wQuantileLoss"] for k in range(3)], rel=1e-6)


def test_crps_sum_adds_what_counts(draws):
    samples, truth, mask = draws
    mask = mask.copy()
    mask[0, 0] = False
    kept = mask.any(-1)
    sums, total = (samples * mask).sum(-1)[:, kept], (truth * mask).sum(-1)[kept]
    assert crps_sum(samples, truth, mask, CSDI_LEVELS) == pytest.approx(
        weighted_quantile_loss(sums, total, levels=CSDI_LEVELS)
    )
    assert crps_sum(samples, np.where(mask, truth, np.nan), mask) == pytest.approx(crps_sum(samples, truth, mask))


def test_blocks_tensors_and_low_precision_change_nothing(draws, monkeypatch):
    samples, truth, mask = draws
    expected = crps(samples, truth, mask), csdi_crps(samples, truth, mask)
    monkeypatch.setattr(_samples, "BLOCK_ELEMENTS", 130)  # two entries a block
    assert (crps(samples, truth, mask), csdi_crps(samples, truth, mask)) == pytest.approx(expected, rel=1e-12)
    tensors = [torch.from_numpy(x) for x in (samples, np.where(mask, truth, np.nan), mask)]
    assert crps(*tensors) == pytest.approx(expected[0], rel=1e-12)
    low = tensors[0].bfloat16()
    assert crps(low, *tensors[1:]) == pytest.approx(crps(low.double(), *tensors[1:]), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"samples": np.zeros((4, 3))}, ValueError, r"shape of samples=\(4, 3\): expected \(n, ...\)"),
        ({"samples": [[0.0]]}, TypeError, "samples must be an array or tensor of real numbers, got list"),
        ({"truth": np.array(["a", "b"])}, TypeError, "truth must be an array .* dtype <U1"),
        ({"mask": np.zeros(2, bool)}, ValueError, "mask='all False': expected at least one entry"),
        ({"mask": np.ones(2)}, TypeError, "mask must hold truth values"),
        ({"mask": np.ones(3, bool)}, ValueError, r"shape of mask=\(3,\)"),
        ({"truth": np.array([1.0, np.nan])}, ValueError, "truth holds 1 NaN or infinite values at entries that count"),
        ({"samples": np.full((4, 2), np.inf)}, ValueError, "samples holds 8 NaN or infinite"),
        ({"truth": np.zeros(2)}, ValueError, "zero wherever it counts"),
        ({"levels": [0.5, 1.0]}, ValueError, r"levels=\[0.5, 1.0\]: expected numbers between 0 and 1"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    arguments = {"samples": np.ones((4, 2)), "truth": np.ones(2)} | change
    with pytest.raises(error, match=message):
        csdi_crps(**arguments)
    if "truth" in change and error is ValueError and np.isnan(change["truth"]).any():
        with pytest.raises(error, match=message):
            mae(np.ones(2), change["truth"])
