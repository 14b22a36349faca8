"""What the figures show is what they were given, and the page holds all of it."""

import base64
import io
import re

import numpy as np
import pytest

from ornstein.domains.timeseries import figures
from ornstein.domains.timeseries.figures import (
    anomaly_figure,
    calibration_figure,
    forecast_figure,
    gap_figure,
    imputation_figure,
)
from ornstein.domains.timeseries.judges.calibration import calibration_curve
from ornstein.domains.timeseries.judges.gaps import scores_by_gap
from ornstein.domains.timeseries.judges.report import judge_imputation
from ornstein.domains.timeseries.report import imputation_report

pytest.importorskip("matplotlib")
NAN = np.nan


@pytest.fixture
def drawn(monkeypatch):
    """The figures of matplotlib that the test's calls draw; they are rendered too."""
    found, render = [], figures.figure_bytes

    def keep(figure):
        found.append(figure)
        return render(figure)

    monkeypatch.setattr(figures, "figure_bytes", keep)
    return found


@pytest.fixture
def window():
    rng = np.random.default_rng(0)
    truth = np.cumsum(rng.standard_normal((20, 2)), 0)
    mask = np.zeros((20, 2), bool)
    mask[5:9, 0] = mask[19, 1] = True
    return np.where(mask, NAN, truth), truth + rng.standard_normal((40, 20, 2)), truth, mask


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_fill_is_drawn_with_its_bands_and_the_truth(drawn, window):
    values, samples, truth, mask = window
    stamps = np.datetime64("2020-01-01") + np.arange(20) * np.timedelta64(1, "h")
    content = imputation_figure(
        values, samples, truth=truth, mask=mask, time=stamps, names=["load", "heat"], unit="kW", time_label="hour"
    )
    assert content.startswith(b"\x89PNG")
    (figure,) = drawn
    upper, lower = figure.axes
    assert (upper.get_ylabel(), lower.get_ylabel(), lower.get_xlabel()) == ("load [kW]", "heat [kW]", "hour")
    assert legend(figure) == ["90 %", "50 %", "median", "known", "held out"]
    found = lines(upper)
    np.testing.assert_array_equal(found["known"].get_ydata(), values[:, 0])
    np.testing.assert_array_equal(found["held out"].get_ydata(), np.where(mask, truth, NAN)[:, 0])
    median = found["median"].get_ydata()
    np.testing.assert_allclose(median[5:9], np.median(samples[:, 5:9, 0], 0))
    assert median[4] == values[4, 0]
    assert np.isnan(median[[3, 10]]).all()
    widest = upper.collections[0].get_paths()[0].vertices[:, 1]
    gap = np.quantile(samples[:, 5:9, 0], [0.05, 0.95], axis=0)
    assert np.isin(gap.round(9), widest.round(9)).all()
    assert widest.max() == max(gap.max(), np.nanmax(values[:, 0]))


def test_a_point_is_drawn_without_bands(drawn, window):
    values, samples, *_ = window
    imputation_figure(values, samples[:1])
    assert legend(drawn[0]) == ["fill", "known"]
    assert not drawn[0].axes[0].collections


def test_a_forecast_is_a_fan_from_the_last_value(drawn, window):
    _, samples, truth, _ = window
    forecast_figure(truth[:12], samples[:, 12:], truth=truth[12:], paths=2, levels=(0.8,))
    axes = drawn[0].axes[0]
    found = lines(axes)
    assert legend(drawn[0]) == ["past", "80 %", "median", "samples", "what came"]
    np.testing.assert_array_equal(found["median"].get_xdata(), np.arange(11, 20))
    assert found["median"].get_ydata()[0] == truth[11, 0]
    np.testing.assert_allclose(found["median"].get_ydata()[1:], np.median(samples[:, 12:, 0], 0))
    np.testing.assert_array_equal(found["what came"].get_ydata(), truth[12:, 0])


def test_calibration_and_gaps(drawn, window):
    _, samples, truth, mask = window
    curve = calibration_curve(samples, truth)
    calibration_figure({"model": curve})
    np.testing.assert_array_equal(drawn[0].axes[0].lines[1].get_ydata(), curve.observed)
    scores = {"model": scores_by_gap(samples, truth, mask), "first": scores_by_gap(samples[:1], truth, mask)}
    gap_figure(scores, measure="mae", unit="kW")
    axes = drawn[1].axes[0]
    assert axes.get_ylabel() == "MAE [kW]"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1\n(1)", "3–4\n(4)"]
    np.testing.assert_array_equal(lines(axes)["first"].get_ydata(), [score.mae for score in scores["first"]])
    with pytest.raises(ValueError, match="groups that differ"):
        gap_figure(scores | {"less": scores["first"][:1]})
    with pytest.raises(ValueError, match="measure='rmse'"):
        gap_figure(scores, measure="rmse")


def test_anomalies_are_marked_and_known_ones_shaded(drawn, window):
    _, _, truth, _ = window
    scores = np.zeros_like(truth)
    scores[3, 0], scores[4, 1], scores[:2] = 5, 2, NAN
    known = np.zeros(20, bool)
    known[3] = known[10:12] = True
    anomaly_figure(truth, scores, threshold=2, truth=known)
    upper, lower, second, _ = drawn[0].axes
    marks = lines(upper)["anomaly"]
    np.testing.assert_array_equal(marks.get_xdata(), [3])
    np.testing.assert_array_equal(marks.get_ydata(), truth[3:4, 0])
    assert len(lines(second)["anomaly"].get_xdata()) == 0  # at the threshold, not above
    assert sorted((patch.get_x(), patch.get_width()) for patch in upper.patches) == [(2.5, 1), (9.5, 2)]
    assert legend(drawn[0]) == ["anomaly", "known anomaly", "threshold"]
    assert lower.get_ylim()[0] == 0
    anomaly_figure(truth, scores * NAN)


def test_figures_of_something_else_are_refused(window):
    values, samples, truth, _ = window
    for call, message in (
        (lambda: imputation_figure(values[None], samples), "one window"),
        (lambda: imputation_figure(values, samples[:, :5]), "shape of samples"),
        (lambda: imputation_figure(values, samples, time=np.arange(3)), "a time a step"),
        (lambda: imputation_figure(values, samples, names=["a"]), "one a variable"),
        (lambda: imputation_figure(values, samples, levels=(0.1, 0.2, 0.3, 0.4)), "at most three"),
        (lambda: forecast_figure(truth, samples[0]), "shape of samples"),
        (lambda: anomaly_figure(truth, truth[:3]), "shape of scores"),
        (lambda: calibration_figure({}), "one or more"),
        (lambda: gap_figure({}), "one method or more"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_the_page_judges_the_model_beside_baselines(tmp_path):
    rng = np.random.default_rng(1)
    truth = rng.standard_normal((6, 12, 10))
    mask = rng.random(truth.shape) < 0.3
    model, rule = truth + 0.1 * rng.standard_normal((30, 6, 12, 10)), np.zeros((1, 6, 12, 10))
    path = tmp_path / "deep/report.html"
    scores = imputation_report(path, {"ours <1>": model, "mean": rule}, truth, mask, title="A test", unit="kW")
    assert scores["mean"] == judge_imputation(rule, truth, mask)
    page = path.read_text(encoding="utf-8")
    assert "ours &lt;1&gt;" in page
    assert "<1>" not in page
    assert f"<b>{scores['ours <1>']['mae']:.3f}</b>" in page
    assert page.count('class="tile good"') == 3
    assert "8 of its variables" in page
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(pictures) == 2 + 3
    from PIL import Image

    assert all(Image.open(io.BytesIO(base64.b64decode(each))).width > 700 for each in pictures)
    with pytest.raises(ValueError, match="one method or more"):
        imputation_report(path, {}, truth, mask)
    alone = imputation_report(path, {"mean": rule}, truth, mask, joint=False)
    assert "energy_score" not in alone["mean"]
    assert "Calibration" not in path.read_text(encoding="utf-8")
