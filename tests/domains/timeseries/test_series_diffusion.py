"""`TimeSeriesDiffusion`: the contract of adapters, scikit-learn's conventions, tasks on frames, errors."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from ornstein.core import DDPM, DPMSolver, conformance
from ornstein.core.adapter import DomainAdapter
from ornstein.core.cli import main
from ornstein.domains.timeseries import (
    Forecast,
    Mixture,
    Point,
    Random,
    SeriesData,
    SeriesTransformer,
    TimeSeriesDiffusion,
    choose_sampler,
)
from ornstein.domains.timeseries.choosing import CANDIDATES

QUICK = {"max_steps": 2, "batch_size": 4, "sampler": DPMSolver(3)}


def waves(rows: int = 120, frequency: str = "h") -> pd.DataFrame:
    """Two waves with gaps."""
    rng = np.random.default_rng(0)
    time = np.arange(rows)
    values = np.stack([np.sin(time / 4), 10 + 3 * np.cos(time / 4)], 1) + 0.05 * rng.normal(size=(rows, 2))
    values[rng.random(values.shape) < 0.2] = np.nan
    return pd.DataFrame(values, pd.date_range("2021-03-01", periods=rows, freq=frequency, name="when"), ["a", "b"])


@pytest.fixture(scope="module")
def model() -> TimeSeriesDiffusion:
    return TimeSeriesDiffusion(window=24, **QUICK).fit(waves())


# The contract of adapters.

CHECKS = [check for name, check in vars(conformance).items() if name.startswith("test_adapter_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_adapter_keeps_the_contract(check, model):
    check(TimeSeriesDiffusion(window=12, facts=model.facts, sampler=DPMSolver(3)))


CONFIG = """
adapter:
  class_path: ornstein.domains.timeseries.TimeSeriesDiffusion
  init_args: {{window: 12}}
data:
  class_path: ornstein.domains.timeseries.SeriesData
  init_args: {{data: {file}, time: when, length: 12, heldout: 0.4, batch_size: 4}}
training: {{sample_every: 2, num_samples: 3}}
trainer: {{max_steps: 2, accelerator: cpu}}
"""


def test_a_model_is_trained_and_judged_from_the_command_line(tmp_path: Path, capsys) -> None:
    waves(200).to_csv(tmp_path / "waves.csv")
    (tmp_path / "waves.yaml").write_text(CONFIG.format(file=tmp_path / "waves.csv"))
    run = tmp_path / "run"
    assert main(["fit", "--config", str(tmp_path / "waves.yaml"), "--run", str(run)]) == 0
    assert list((run / "samples").glob("*.png"))
    loaded = DomainAdapter.from_pretrained(run / "model")
    assert loaded.facts.names == ("a", "b")
    out = tmp_path / "out"
    assert main(["sample", "--checkpoint", str(run), "--num", "2", "--output", str(out)]) == 0
    made = loaded.unpack(np.load(out / "samples.npz"))
    assert made.shape == (2, 12, 2)
    first = np.loadtxt(out / "000000.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(first, made[0], rtol=1e-5)


# scikit-learn.

NOT_APPLYING = {
    "check_no_attributes_set_in_init": "a torch module holds its mode and its conditions from the start",
    "check_fit1d": "an array of one axis is a series of one variable",
}


def test_the_checks_of_scikit_learn_that_apply_pass():
    estimator = TimeSeriesDiffusion(window=4, max_steps=2, batch_size=2, sampler=DPMSolver(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {found["check_name"]: repr(found["exception"]) for found in results if found["status"] == "failed"}
    assert failed.keys() == NOT_APPLYING.keys(), failed


def test_a_clone_knows_nothing_and_learns_the_same(model):
    twin = clone(model)
    assert twin.facts is None
    assert twin.get_params()["sampler"] == model.get_params()["sampler"]
    pd.testing.assert_frame_equal(twin.fit(waves()).impute(waves(), n=3), model.impute(waves(), n=3))


def test_a_network_that_is_given_is_a_pattern():
    network = SeriesTransformer(2, 2, width=32, writer_width=32, depth=1)
    before = network.guess.bias.clone()
    fitted = TimeSeriesDiffusion(window=24, network=network, cycles=["day"], **QUICK).fit(waves())
    assert torch.equal(network.guess.bias, before)
    assert not torch.equal(fitted.network.guess.bias, before)
    assert clone(fitted).get_params()["network"] is not network


def test_it_works_in_a_pipeline():
    data = waves().reset_index(drop=True)
    filled = make_pipeline(StandardScaler(), TimeSeriesDiffusion(window=24, **QUICK)).fit_transform(data)
    assert filled.shape == data.shape
    assert not np.isnan(filled).any()


def test_parameters_are_set_and_shown():
    estimator = TimeSeriesDiffusion(window=24)
    assert repr(estimator.set_params(window=30, lr=0.1)) == "TimeSeriesDiffusion(window=30, lr=0.1)"
    with pytest.raises(ValueError, match="unknown parameter 'windows'"):
        estimator.set_params(windows=3)
    with pytest.raises(NotFittedError, match="call fit"):
        estimator.impute(waves())


# Tasks.


def test_known_values_come_back_bit_for_bit(model):
    data = waves(70)
    filled = model.impute(data, n=4)
    assert filled.index.equals(data.index)
    assert list(filled.columns) == ["a", "b"]
    there = data.notna().to_numpy()
    assert np.array_equal(filled.to_numpy()[there], data.to_numpy()[there])
    assert filled.notna().all().all()


def test_quantiles_and_intervals_are_those_of_the_samples(model):
    data = waves(40)
    draws = model.sample(data, 9).to_numpy().reshape(9, 40, 2)
    quantiles = model.quantile(data, [0.25, 0.5], n=9)
    assert list(quantiles.columns) == [("a", 0.25), ("a", 0.5), ("b", 0.25), ("b", 0.5)]
    np.testing.assert_allclose(quantiles["b", 0.25], np.quantile(draws[:, :, 1], 0.25, axis=0))
    bounds = model.interval(data, 0.8, n=9)
    np.testing.assert_allclose(bounds["a", 0.8, "upper"], np.quantile(draws[:, :, 0], 0.9, axis=0))
    np.testing.assert_allclose(model.impute(data, n=9), np.median(draws, 0))


@pytest.mark.parametrize("rows", [10, 24, 100])
def test_a_sample_depends_on_seed_and_numbers_alone(model, rows):
    """In short and in long series, whatever the batch and however many there are."""
    data = waves(rows)
    whole = model.sample(data, 5, seed=1).to_numpy().reshape(5, rows, 2)
    for options in ({"batch_size": 1}, {"batch_size": 7}):
        np.testing.assert_allclose(
            model.sample(data, 5, seed=1, **options).to_numpy().reshape(whole.shape), whole, rtol=1e-4, atol=1e-4
        )
    np.testing.assert_allclose(
        model.sample(data, 2, seed=1).to_numpy().reshape(2, rows, 2), whole[:2], rtol=1e-4, atol=1e-4
    )
    assert not np.allclose(model.sample(data, 5, seed=2).to_numpy().reshape(whole.shape), whole)


def test_series_of_a_panel_are_drawn_apart(model):
    one, other = waves(30), waves(20)
    both = pd.concat({"x": one, "y": other}, names=["series"])
    filled = model.impute(both, n=3)
    assert filled.index.equals(both.index)
    np.testing.assert_allclose(filled.loc["x"], model.impute(one, n=3), rtol=1e-4, atol=1e-4)
    missing = other.isna().to_numpy()
    assert not np.allclose(filled.loc["y"].to_numpy()[missing], model.impute(other, n=3).to_numpy()[missing])


def test_windows_without_gaps_cost_nothing(model):
    data = waves(2000).interpolate().bfill()
    data.iloc[1000, 0] = np.nan
    asked = []
    network = model.denoiser.network
    handle = network.register_forward_hook(lambda module, inputs, output: asked.append(len(output)))
    try:
        model.impute(data, n=1)
    finally:
        handle.remove()
    assert sum(asked) <= 3 * 3


def test_forecasts_go_on_where_the_data_end(model):
    data = waves(60)
    ahead = model.forecast(data, 5, n=3)
    assert list(ahead.index) == list(pd.date_range(data.index[-1], periods=6, freq="h")[1:])
    assert ahead.notna().all().all()
    assert list(model.interval(data, 0.5, horizon=30, n=2).index) == list(
        pd.date_range(data.index[-1], periods=31, freq="h")[1:]
    )
    with pytest.raises(ValueError, match="future without horizon"):
        model.impute(data, future=data)


def test_covariates_must_be_known_ahead():
    data = waves(80).assign(level=np.arange(80.0), kind=["x", "y"] * 40)
    fitted = TimeSeriesDiffusion(window=16, covariates=["level", "kind"], **QUICK).fit(data)
    stamps = pd.date_range(data.index[-1], periods=5, freq="h", name="when")[1:]
    future = pd.DataFrame({"level": np.arange(80.0, 84.0), "kind": ["x", "y", "x", "y"]}, stamps)
    ahead = fitted.forecast(data, 4, future=future, n=2)
    assert ahead[["a", "b"]].notna().all().all()
    with pytest.raises(ValueError, match="must be known for the stamps ahead"):
        fitted.forecast(data, 4)
    with pytest.raises(ValueError, match="give sample\\(\\) a frame"):
        fitted.generate(2)


def test_generated_series(model):
    made = model.generate(4, seed=3)
    assert made.shape == (4, 24, 2)
    np.testing.assert_allclose(model.generate(2, seed=3, first=2), made[2:], rtol=1e-4, atol=1e-4)
    assert model.generate(2, 50).shape == (2, 50, 2)
    with pytest.raises(ValueError, match="has no classes"):
        model.generate(1, guidance=2.0)


def test_what_does_not_fit_stands_out():
    """After some training an outlier has the highest score of all, by both scores."""
    time = np.arange(400.0)
    data = pd.DataFrame({"a": np.sin(time / 4), "b": np.cos(time / 4)})
    fitted = TimeSeriesDiffusion(window=24, max_steps=60, batch_size=16, sampler=DPMSolver(5)).fit(data)
    data.iloc[200, 0] += 1.5
    for score in ("density", "deviation"):
        found = fitted.detect_anomalies(data.iloc[150:250], score=score, n=20)
        assert found.shape == (100, 2)
        assert found.stack().idxmax() == (200, "a")
    with pytest.raises(ValueError, match="did you mean 'density'"):
        fitted.detect_anomalies(data, score="densty")


@pytest.mark.parametrize("method", ["mean_square", "quantile", "ddnm", "mmps"])
def test_the_network_may_be_told_nothing(method):
    """Guidance of the unconditional model comes nearer to what was hidden than samples that know nothing."""
    time = np.arange(600.0)
    data = np.stack([np.sin(time / 5), np.cos(time / 5)], 1).astype(np.float32)
    targets = Mixture((Random(), Point(1.0)), (0.3, 0.7))
    fitted = TimeSeriesDiffusion(window=16, targets=targets, max_steps=150, batch_size=32).fit(data)
    some = data[100:116].copy()
    some[4:8, 0] = np.nan
    hidden = np.isnan(some)
    guided = fitted.sample(some, 20, method=method, sampler=DDPM(50))
    assert np.array_equal(guided[0][~hidden], some[~hidden])
    error = np.abs(guided[:, hidden] - data[100:116][hidden]).mean()
    blind = np.abs(fitted.generate(50)[:, hidden] - data[100:116][hidden]).mean()
    assert error < 0.6 * blind


def test_the_sampler_is_chosen_on_what_is_kept_back():
    time = np.arange(300.0)
    data = np.stack([np.sin(time / 5), np.cos(time / 5)], 1)
    fitted = TimeSeriesDiffusion(window=12, max_steps=30, batch_size=8).fit(data)
    assert fitted.sampler in CANDIDATES
    assert fitted.get_params()["sampler"] is None
    kept = SeriesData(data, length=12, heldout=0, targets="random").validation_dataset().all()
    chosen, scores = choose_sampler(fitted, kept, [DPMSolver(1), DPMSolver(8)], n=16, tolerance=0.0)
    assert chosen == [DPMSolver(1), DPMSolver(8)][int(np.argmin(scores))]
    told = {"n": 16, "tolerance": 10.0}
    assert choose_sampler(fitted, kept, [DPMSolver(1), DPMSolver(8)], spread=10.0, **told)[0] == DPMSolver(1)
    assert choose_sampler(fitted, kept, [DPMSolver(1), DPMSolver(12)], **told)[0] == DPMSolver(12)
    with pytest.raises(ValueError, match="no targets"):
        choose_sampler(fitted, {**kept, "target": kept["target"] & False})


def test_judged_beside_simple_methods(model, tmp_path):
    scores = model.judge(waves(96), Point(0.3), n=5, period=25, report=tmp_path / "page.html")
    assert {"model", "linear"} <= {name.lower() for name in scores}
    assert all(figures["mae"] > 0 for figures in scores.values())
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8").lower()


def test_a_saved_model_answers_alike(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = TimeSeriesDiffusion.from_pretrained(tmp_path)
    pd.testing.assert_frame_equal(loaded.impute(waves(50), n=3), model.impute(waves(50), n=3))
    further = loaded.fit(waves())
    assert further.facts == model.facts


# Errors.

REFUSED = {
    "infinite": (lambda d: d.replace(d.iloc[0, 1], np.inf), "inf"),
    "text": (lambda d: d.astype(object).fillna("low"), "'a'|'b'"),
    "missing column": (lambda d: d[["a"]], "'b'"),
    "new column": (lambda d: d.assign(c=1.0), "'c'"),
    "twice": (lambda d: pd.concat([d, d.iloc[[3]]]), "two rows|twice|stamp"),
    "other frequency": (lambda d: d.set_axis(pd.date_range("2021", periods=len(d), freq="D")), "steps apart"),
    "time zone": (lambda d: d.tz_localize("Europe/Berlin"), "Europe/Berlin"),
    "no rows": (lambda d: d.iloc[:0], "row"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_understood_is_refused_by_name(case, model):
    change, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=message):
        model.impute(change(waves(30)), n=2)


def test_odd_frames_that_are_taken(model):
    data = waves(30)
    shuffled = data.sample(frac=1, random_state=0)
    np.testing.assert_allclose(model.impute(shuffled, n=2).sort_index(), model.impute(data, n=2))
    assert model.impute(data.iloc[[5]], n=2).notna().all().all()
    empty = model.impute(data.assign(a=np.nan), n=2)
    assert empty.notna().all().all()
    gaps = data.drop(data.index[[7, 8, 20]])
    assert len(model.impute(gaps, n=2)) == 27
    assert len(model.impute(gaps, n=2, frequency="h")) == 30
    narrow = model.impute(data.astype(np.float32), n=2)
    assert set(narrow.dtypes) == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"method": "quantil"}, "did you mean 'quantile'"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_impossible_options(options, message, model):
    with pytest.raises(ValueError, match=message):
        model.impute(waves(30), **options)


def test_training_data_that_teach_nothing():
    with pytest.raises(ValueError, match="'b' has no value in the training data"):
        TimeSeriesDiffusion(window=8, **QUICK).fit(waves().assign(b=np.nan))
    with pytest.raises(ValueError, match="window=1"):
        TimeSeriesDiffusion(window=1, **QUICK).fit(waves())
    with pytest.raises(TypeError, match="expected SeriesFacts"):
        TimeSeriesDiffusion(window=8, facts=3, **QUICK).fit(waves())


def test_a_batch_must_fit(model):
    batch = model.example_batch(2)
    with pytest.raises(TypeError, match="expected a dict"):
        model.encode(batch["values"])
    with pytest.raises(ValueError, match=r"expected \(B, L, 2\)"):
        model.encode({**batch, "values": batch["values"][..., :1]})
    with pytest.raises(ValueError, match="NaN"):
        model.encode({**batch, "values": batch["values"] * np.nan})


def test_training_on_a_data_module_returns_the_run(tmp_path):
    data = SeriesData(waves(), length=12, targets=Forecast(3), heldout=0.3, batch_size=4)
    fresh = TimeSeriesDiffusion(window=12, **QUICK)
    assert fresh.fit(data, run=tmp_path / "run").finished
    figures = fresh.evaluate(fresh.sample(4), data.reference())
    assert {"crps", "mae", "linear_crps"} <= figures.keys()


class _Stop(Callback):
    def on_train_batch_end(self, trainer, *arguments):
        if trainer.global_step == 2:
            raise RuntimeError("stopped")


def test_an_interrupted_run_on_a_frame_continues(tmp_path: Path) -> None:
    options = {**QUICK, "max_steps": 4, "run": tmp_path / "run"}
    with pytest.raises(RuntimeError, match="stopped"):
        TimeSeriesDiffusion(window=12, **options).fit(waves(), callbacks=[_Stop()], checkpoint_every=1)
    continued = TimeSeriesDiffusion(window=12, **options).fit(waves(), checkpoint_every=1)
    whole = TimeSeriesDiffusion(window=12, **{**options, "run": tmp_path / "whole"}).fit(waves(), checkpoint_every=1)
    assert all(map(torch.equal, continued.parameters(), whole.parameters()))
    assert (tmp_path / "run" / "config.yaml").stat().st_size < 20_000  # the data are not in it
