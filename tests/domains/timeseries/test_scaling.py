"""Scales, categories and the facts of training data; and that they survive their configuration."""

import json

import numpy as np
import pandas as pd
import pytest

from ornstein.core.config import from_config, to_config
from ornstein.domains.timeseries.facts import SeriesFacts
from ornstein.domains.timeseries.frames import as_panel
from ornstein.domains.timeseries.scaling import Column

NAN = np.nan


def frame():
    rng = np.random.default_rng(0)
    parts = []
    for name, count in (("p", 40), ("q", 25)):
        days = pd.date_range("2024-01-01", periods=count, freq="D")
        parts.append(
            pd.DataFrame(
                {
                    "unique_id": name,
                    "ds": days,
                    "a": rng.normal(3, 2, count),
                    "b": np.where(rng.random(count) < 0.3, NAN, rng.normal(size=count)),
                    "still": 0.1,
                    "price": rng.integers(1, 9, count),
                    "shop": rng.choice(["x", "y", "z"], count),
                    "kind": {"p": "old", "q": "new"}[name],
                    "area": {"p": 3, "q": 8}[name],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


ROLES = {"variables": ["a", "b", "still"], "covariates": ["price", "shop"], "static": ["kind", "area"]}


def facts_and_panel():
    panel = as_panel(frame(), **ROLES)
    return SeriesFacts.fit(panel), panel


def test_scales_are_mean_and_population_deviation_of_what_is_observed():
    facts, panel = facts_and_panel()
    data = frame()
    np.testing.assert_allclose(facts.means, data[["a", "b", "still"]].mean(), rtol=1e-13)
    np.testing.assert_allclose(facts.deviations[:2], data[["a", "b"]].std(ddof=0), rtol=1e-13)
    assert (facts.means[2], facts.deviations[2]) == (0.1, 1)  # constant
    scaled = [facts.scale(one) for one in panel.series]
    values, observed = (np.concatenate([getattr(one, n) for one in scaled]) for n in ("values", "observed"))
    np.testing.assert_array_equal(observed, data[["a", "b", "still"]].notna())
    assert (values[~observed] == 0).all()
    np.testing.assert_allclose([values[observed[:, k], k].mean() for k in range(3)], 0, atol=1e-6)
    np.testing.assert_allclose([values[observed[:, k], k].std() for k in range(2)], 1, atol=1e-6)
    np.testing.assert_allclose(
        facts.unscale(values)[observed], data[["a", "b", "still"]].to_numpy()[observed], atol=1e-6
    )
    assert values.dtype == np.float32


def test_covariates_and_static_columns_become_numbers():
    facts, panel = facts_and_panel()
    scaled = [facts.scale(one) for one in panel.series]
    data = frame()
    price = (data["price"] - data["price"].mean()) / data["price"].std(ddof=0)
    covariates = np.concatenate([one.covariates for one in scaled])
    np.testing.assert_allclose(covariates[:, 0], price, atol=1e-6)
    np.testing.assert_array_equal(covariates[:, 1:], pd.get_dummies(data["shop"]).to_numpy(dtype=np.float32))
    assert [one.static.tolist() for one in scaled] == [[0, 1, -1], [1, 0, 1]]  # 'new' before 'old'
    assert facts.widths == {"calendar": 2, "covariates": 4, "static": 3}
    assert [one.calendar.shape for one in scaled] == [(40, 2), (25, 2)]
    np.testing.assert_array_equal(scaled[1].elapsed, np.arange(25))


def test_large_numbers_do_not_overflow():
    column = Column.fit("a", np.array([1e300, 3e300]))
    assert (column.mean, column.deviation) == (pytest.approx(2e300), pytest.approx(1e300))
    assert Column.fit("a", np.array([0.0, 0.0])).deviation == 1
    assert Column.fit("a", np.full(7, 0.1)).deviation == 1  # whose computed deviation is not quite 0


def test_facts_survive_their_configuration():
    for data, roles in (
        (frame(), ROLES),
        (np.random.default_rng(0).normal(size=(9, 3)), {"covariates": [2]}),
        (pd.DataFrame(np.eye(3), columns=pd.MultiIndex.from_product([["t"], ["x", "y", "z"]])), {}),
        (frame().rename(columns={"unique_id": "who", "ds": "when"}), {**ROLES, "series": "who", "time": "when"}),
    ):
        facts = SeriesFacts.fit(as_panel(data, **roles))
        again = from_config(json.loads(json.dumps(to_config(facts))), SeriesFacts)
        assert again == facts
        assert again.scale(again.read(data).series[0]).values.shape == (
            len(again.read(data).series[0]),
            len(facts.names),
        )


def test_other_data_are_read_by_name():
    facts, panel = facts_and_panel()
    data = frame()
    again = facts.read(data[data.columns[::-1]].sample(frac=1, random_state=0))
    known = {one.name: one for one in again.series}
    for one in panel.series:
        np.testing.assert_array_equal(known[one.name].values, one.values)
        assert known[one.name].static == one.static
    table = data[["unique_id", "area", "kind"]].drop_duplicates()
    beside = facts.read(data.drop(columns=["kind", "area"]), static=table)
    assert [one.static for one in beside.series] == [one.static for one in panel.series]
    assert len(facts.read(data.drop(index=[3, 4]), frequency=None).series[0]) == 38


def test_other_columns_are_refused_by_name():
    facts, _ = facts_and_panel()
    data = frame()
    with pytest.raises(ValueError, match=r"no column 'b' of variables.*add it \(NaN"):
        facts.read(data.drop(columns="b"))
    with pytest.raises(ValueError, match="the column 'new', which the training data had not"):
        facts.read(data.assign(new=1.0))
    with pytest.raises(ValueError, match="no column 'price' of covariates"):
        facts.read(data.drop(columns="price"))
    with pytest.raises(ValueError, match="no column 'kind' of static"):
        facts.read(data.drop(columns="kind"))
    with pytest.raises(ValueError, match="static has no column 'kind'"):
        facts.read(data.drop(columns=["kind", "area"]), static=data[["unique_id", "area"]].drop_duplicates())
    table = data[["unique_id", "area", "kind"]].drop_duplicates().assign(city="x")
    with pytest.raises(ValueError, match="static has the column 'city'"):
        facts.read(data.drop(columns=["kind", "area"]), static=table)
    panel = facts.read(data.assign(shop="w"))
    with pytest.raises(ValueError, match=r"column 'shop' holds 'w'.*expected one of 'x', 'y', 'z'"):
        facts.scale(panel.series[0])
    with pytest.raises(ValueError, match="holds 'x' where the training data had numbers"):
        facts.scale(facts.read(data.assign(price="x")).series[0])
    with pytest.raises(ValueError, match="data have the variables"):
        facts.read(as_panel(data, variables=["a"], covariates=["price", "shop"]))
    with pytest.raises(ValueError, match="steps apart"):
        facts.read(data.assign(ds=data["ds"].iloc[0] + (data["ds"] - data["ds"].iloc[0]) / 24))
    kept = SeriesFacts.fit(as_panel(data, variables=["a"]))
    kept.read(data)  # what was left aside then is so now
    kept.read(data[["unique_id", "ds", "a"]])


def test_training_refuses_what_it_cannot_learn_of():
    with pytest.raises(ValueError, match=r"column 'b' has no value in the training data.*drop the column"):
        SeriesFacts.fit(as_panel(frame().assign(b=NAN), **ROLES))
    with pytest.raises(ValueError, match="expected at least two rows"):
        SeriesFacts.fit(as_panel(np.ones((1, 2))))
    with pytest.raises(TypeError, match=r"column Timestamp.*rename it"):
        SeriesFacts.fit(as_panel(pd.DataFrame(np.eye(3), columns=pd.date_range("2024", periods=3))))
    with pytest.raises(TypeError, match=r"holds .*expected categories that are strings or numbers"):
        SeriesFacts.fit(as_panel(frame().assign(shop=[(1,)] * 65), **ROLES))
    with pytest.raises(ValueError, match="deviation"):
        Column("a", deviation=0.0)


def test_rows_ahead_go_on_in_the_rhythm_of_training():
    facts, panel = facts_and_panel()
    data = frame()
    days = pd.date_range("2024-01-26", periods=30, freq="D")
    future = pd.concat([pd.DataFrame({"unique_id": n, "ds": days, "price": 2, "shop": "z"}) for n in ("q", "p")])
    ahead = facts.ahead(panel, 3, future)
    assert [one.stamps.astype("datetime64[D]").astype(str).tolist() for one in ahead.series] == [
        ["2024-02-10", "2024-02-11", "2024-02-12"],
        ["2024-01-26", "2024-01-27", "2024-01-28"],
    ]
    out = ahead.restore([np.ones((3, 3))] * 2)
    assert out.columns.tolist() == data.columns.tolist()
    assert out["kind"].tolist() == ["old"] * 3 + ["new"] * 3
    joined = panel.series[0].followed_by(ahead.series[0])
    assert facts.scale(joined).elapsed.tolist() == list(range(43))
    with pytest.raises(ValueError, match="must be known for the stamps ahead"):
        facts.ahead(panel, 3)
    with pytest.raises(ValueError, match="future holds no row for"):
        facts.ahead(panel, 29, future)
    with pytest.raises(ValueError, match="at least 1 row"):
        facts.ahead(panel, 0, future)
    with pytest.raises(ValueError, match="future has stamps of kind number"):
        facts.ahead(panel, 3, future.assign(ds=range(60)))


def test_rows_ahead_of_arrays_and_irregular_stamps():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(2, 9, 3))
    facts = SeriesFacts.fit(as_panel(data, covariates=[1]))
    panel = facts.read(data)
    with pytest.raises(ValueError, match="future has 2 columns: expected the 1 covariates"):
        facts.ahead(panel, 2, rng.normal(size=(2, 4, 2)))
    np.testing.assert_array_equal(
        facts.ahead(panel, 1, np.full((2, 4, 1), 5.0)).restore([np.ones((1, 2))] * 2), [[[1, 5, 1]]] * 2
    )
    named = SeriesFacts.fit(as_panel(data, variables=["a", "b"], covariates=["c"]))
    future = rng.normal(size=(2, 4, 1))
    ahead = named.ahead(named.read(data), 2, future)
    out = ahead.restore([np.ones((2, 2))] * 2)
    assert out.shape == (2, 2, 3)
    np.testing.assert_array_equal(out[..., 2], future[:, :2, 0])

    stamps = np.cumsum(rng.exponential(size=30))
    irregular = pd.DataFrame({"a": rng.normal(size=20), "x": 1.0}, index=stamps[:20])
    facts = SeriesFacts.fit(as_panel(irregular, covariates=["x"]))
    later = pd.DataFrame({"x": np.arange(10.0)}, index=stamps[20:])
    ahead = facts.ahead(facts.read(irregular), 4, later)
    np.testing.assert_array_equal(ahead.series[0].stamps, stamps[20:24])
    with pytest.raises(ValueError, match="10 stamps after the last of the data, less than horizon=11"):
        facts.ahead(facts.read(irregular), 11, later)
