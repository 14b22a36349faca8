"""All figures at once are those of the judges; gaps by hand; tables."""

import subprocess
import sys

import numpy as np
import pytest

from ornstein.domains.timeseries import judges
from ornstein.domains.timeseries.judges.baselines import LastValue, Linear, Seasonal
from ornstein.domains.timeseries.judges.calibration import calibration_curve, intervals
from ornstein.domains.timeseries.judges.gaps import gap_lengths, scores_by_gap
from ornstein.domains.timeseries.judges.gaussian import GaussianConditional
from ornstein.domains.timeseries.judges.gaussian_process import GaussianProcess
from ornstein.domains.timeseries.judges.joint import energy_score, variogram_score
from ornstein.domains.timeseries.judges.report import (
    default_baselines,
    judge_generation,
    judge_imputation,
    predict_baselines,
    score_rows,
    score_text,
)
from ornstein.domains.timeseries.judges.scores import crps, crps_sum, csdi_crps, mae, mre, rmse, weighted_quantile_loss

NAN = np.nan


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((4, 10, 3))
    return rng.standard_normal((30, 4, 10, 3)), truth, rng.random(truth.shape) < 0.4


def test_figures_are_those_of_the_judges(draws):
    samples, truth, mask = draws
    found = judge_imputation(samples, truth, mask, levels=(0.5, 0.9, 0.975))
    point, spans = np.median(samples, 0), intervals(samples, truth, mask, (0.5, 0.9, 0.975))
    expected = {
        "entries": mask.sum(),
        "mae": mae(point, truth, mask),
        "rmse": rmse(point, truth, mask),
        "mre": mre(point, truth, mask),
        "crps": crps(samples, truth, mask),
        "csdi_crps": csdi_crps(samples, truth, mask),
        "weighted_quantile_loss": weighted_quantile_loss(samples, truth, mask),
        "coverage_50": spans[0].coverage,
        "width_50": spans[0].width,
        "coverage_90": spans[1].coverage,
        "width_90": spans[1].width,
        "coverage_97.5": spans[2].coverage,
        "width_97.5": spans[2].width,
        "calibration_error": calibration_curve(samples, truth, mask).error,
        "crps_sum": crps_sum(samples, truth, mask),
        "energy_score": energy_score(samples, truth, mask),
        "variogram_score": variogram_score(samples, truth, mask),
    }
    assert found == pytest.approx(expected, rel=1e-12)
    assert "energy_score" not in judge_imputation(samples, truth, mask, joint=False)


def test_of_a_point_what_needs_samples_is_left_out(draws):
    samples, truth, mask = draws
    found = judge_imputation(samples[:1, ..., :1], truth[..., :1], mask[..., :1])
    assert set(found) == {
        "entries", "mae", "rmse", "mre", "crps", "csdi_crps", "weighted_quantile_loss", "energy_score"
    }  # fmt: skip
    assert found["crps"] == found["mae"]
    lonely = np.zeros(truth.shape, bool)
    lonely[:, 0, 0] = True
    assert "variogram_score" not in judge_imputation(samples, truth, lonely)


def test_gaps_are_counted_by_variable():
    known = np.array([[1, 1], [0, 1], [0, 0], [1, 0], [0, 0]], bool)
    assert gap_lengths(known).tolist() == [[0, 0], [2, 0], [2, 3], [0, 3], [1, 3]]
    assert gap_lengths(np.zeros((2, 4, 1), bool)).tolist() == [[[4]] * 4] * 2
    with pytest.raises(TypeError, match="truth values"):
        gap_lengths(known * 1)


def test_scores_by_gap_add_up(draws):
    samples, truth, mask = draws
    groups = scores_by_gap(samples, truth, mask, edges=(1, 2, 4))
    lengths = gap_lengths(~mask)[mask]
    assert [group.entries for group in groups] == [
        ((low <= lengths) & (lengths <= high)).sum() for low, high in ((1, 1), (2, 3), (4, 10))
    ]
    assert groups[-1].longest == lengths.max()
    for name, whole in (("mae", mae(np.median(samples, 0), truth, mask)), ("crps", crps(samples, truth, mask))):
        assert sum(g.entries * getattr(g, name) for g in groups) / mask.sum() == pytest.approx(whole)
    with pytest.raises(ValueError, match=r"edges=\(2, 1\): expected whole numbers that rise from 1"):
        scores_by_gap(samples, truth, mask, edges=(2, 1))
    with pytest.raises(ValueError, match="none of them: they are to be imputed"):
        scores_by_gap(samples, truth, mask, known=mask)


def test_errors_of_the_line_grow_with_the_gap():
    """A random walk between two ends h + 1 apart is off by sqrt(h) or so."""
    rng = np.random.default_rng(1)
    truth = np.cumsum(rng.standard_normal((400, 30, 1)), axis=1)
    values = truth.copy()
    values[:, 5] = values[:, 12:24] = NAN
    short, long = scores_by_gap(Linear().impute(values)[None], truth, np.isnan(values))
    assert (short.shortest, short.longest, short.entries) == (1, 1, 400)
    assert (long.shortest, long.longest) == (9, 16)
    assert short.mae == pytest.approx(np.sqrt(1 / 2) * np.sqrt(2 / np.pi), rel=0.12)
    assert long.mae > 1.8 * short.mae


def test_baselines_that_suit_the_data():
    assert [rule.name for rule in default_baselines(period=24)] == [
        "mean", "last value", "linear", "seasonal", "k nearest neighbours", "Gaussian conditional"
    ]  # fmt: skip
    assert not any(isinstance(rule, Seasonal) for rule in default_baselines())
    assert isinstance(default_baselines(regular=False, period=24)[-1], GaussianProcess)


def test_baselines_predict_and_do_not_see_the_answers():
    rng = np.random.default_rng(2)
    train = np.cumsum(rng.standard_normal((60, 8, 2)), 1)
    values = train[:5].copy()
    mask = rng.random(values.shape) < 0.3
    with pytest.raises(ValueError, match="the baselines see the answers"):
        predict_baselines([Linear()], values, mask)
    fitted = [rule.fit(train) for rule in default_baselines(period=3)]
    hidden = np.where(mask, NAN, values)
    found = predict_baselines(fitted, hidden, mask, n=20)
    assert {name: len(samples) for name, samples in found.items()} == {
        rule.name: 20 if isinstance(rule, GaussianConditional) else 1 for rule in fitted
    }
    scores = {name: judge_imputation(samples, values, mask) for name, samples in found.items()}
    assert scores["linear"]["mae"] < scores["mean"]["mae"]
    with pytest.raises(ValueError, match="one of each name"):
        predict_baselines([LastValue(), LastValue()], hidden)


def test_the_table():
    scores = {"model": {"mae": 0.1234, "coverage_90": 0.9}, "linear": {"mae": 1234.5}}
    assert score_rows(scores) == (
        ["", "mae", "coverage 90"],
        [["model", "0.123", "0.900"], ["linear", "1234", "–"]],
    )
    assert score_text(scores).splitlines() == [
        "          mae  coverage 90",
        "model   0.123        0.900",
        "linear   1234            –",
    ]


def test_generated_windows_beside_real_ones():
    rng = np.random.default_rng(3)

    def windows(count, rho):
        x = rng.standard_normal((count, 12, 2))
        for step in range(1, 12):
            x[:, step] = rho * x[:, step - 1] + np.sqrt(1 - rho**2) * x[:, step]
        return x

    found = judge_generation(windows(150, 0.0), windows(300, 0.9), steps=60)
    assert found["windows"] == 150
    assert found["linear_predictive"] > 1.2 * found["real_linear_predictive"]
    assert found["autocorrelation"] > 5 * found["real_autocorrelation"]
    assert {name.removeprefix("real_") for name in found} == {
        "windows", "discriminative", "predictive", "linear_predictive", "marginal", "autocorrelation", "correlation"
    }  # fmt: skip


def test_names_are_loaded_at_first_use():
    assert set(dir(judges)) == set(judges.__all__)
    for name in judges.__all__:
        assert getattr(judges, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        judges.nothing  # noqa: B018
    code = "import sys, ornstein.domains.timeseries.judges.report; print({'sklearn', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
