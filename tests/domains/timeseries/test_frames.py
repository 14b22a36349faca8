"""Data in every form to a panel and back: what was observed keeps its bits, and what is wrong is named."""

import numpy as np
import pandas as pd
import pytest

from ornstein.domains.timeseries.frames import as_panel
from ornstein.domains.timeseries.panel import Panel

NAN = np.nan


def hours(count, **options):
    return pd.date_range("2024-03-30", periods=count, freq="h", **options)


def wide(**options):
    return pd.DataFrame(
        {"b": np.array([0.1, NAN, 0.3, 0.4], dtype=np.float32), "a": [1, 2, 3, 4], "c": [NAN, NAN, 1e300, -0.0]},
        index=hours(4, **options),
    )


def numbered(panel, lead=()):
    """Results that tell series, row and variable: ``100 i + 10 t + k``, plus a thousand for each sample."""
    heads = 1000 * np.arange(np.prod(lead, dtype=int)).reshape(*lead, 1, 1)
    return [
        100 * i + heads + 10 * np.arange(len(one))[:, None] + np.arange(one.values.shape[1])
        for i, one in enumerate(panel.series)
    ]


def long_frame():
    return pd.DataFrame(
        {
            "unique_id": ["q", "p", "q", "p", "p"],
            "ds": pd.to_datetime(["2024-01-02", "2024-01-01", "2024-01-01", "2024-01-03", "2024-01-02"]),
            "y": [NAN, 1.5, 2.5, NAN, 3.5],
            "price": [5, 6, 7, 8, 9],
            "shop": ["x", "y", "x", "z", "y"],
        },
        index=[7, 3, 9, 1, 0],
    )


# ---- frames and back ----


def test_a_wide_frame_keeps_everything_but_the_gaps():
    frame = wide(tz="Europe/Berlin").rename_axis("when").rename_axis(columns="what")
    before = frame.copy()
    panel = as_panel(frame)
    assert (panel.variables, panel.kind, panel.zone) == (("b", "a", "c"), "datetime", "Europe/Berlin")
    back = panel.restore(numbered(panel))
    expected = frame.copy()
    expected.iloc[1, 0], expected.iloc[0, 2], expected.iloc[1, 2] = 10, 2, 12
    pd.testing.assert_frame_equal(back, expected, check_exact=True, check_freq=True)
    assert list(back.dtypes.astype(str)) == ["float32", "int64", "float64"]
    assert np.signbit(back["c"].iloc[3])  # the bits of -0.0 too
    pd.testing.assert_frame_equal(frame, before)


def test_a_frame_without_gaps_comes_back_as_it_is():
    frame = wide().drop(columns=["b", "c"])
    pd.testing.assert_frame_equal(as_panel(frame).restore([np.full((4, 1), 9.0)]), frame, check_exact=True)


def test_unsorted_stamps_are_read_in_order_and_given_back_as_they_came():
    frame = wide().iloc[[2, 0, 3, 1]]
    panel = as_panel(frame)
    assert (np.diff(panel.series[0].stamps) > np.timedelta64(0)).all()
    np.testing.assert_array_equal(panel.series[0].values[:, 1], [1, 2, 3, 4])
    back = panel.restore(numbered(panel))
    assert list(back.index) == list(frame.index)
    assert back.loc[hours(4)[1], "c"] == 12
    assert back.loc[hours(4)[1], "b"] == 10


@pytest.mark.parametrize(
    "dtype",
    ["float16", "float32", "float64", "Float32", "Float64", "Int64", "Int8", "double[pyarrow]", "int64[pyarrow]"],
)
def test_dtypes_stay(dtype):
    column = pd.Series([1, None, 3], dtype="object" if dtype[0] != "f" else "float64").astype(dtype)
    frame = pd.DataFrame({"a": column})
    back = as_panel(frame).restore([np.array([[9.0], [2.4], [9.0]])])
    assert str(back["a"].dtype) == str(frame["a"].dtype)
    expected = 2 if "nt" in dtype else np.dtype(dtype.lower().replace("double[pyarrow]", "float64")).type(2.4)
    assert back["a"].tolist() == [1, expected, 3]


def test_integers_take_the_nearest_that_they_hold():
    frame = pd.DataFrame({"a": pd.array([200, None, None, None], dtype="UInt8")})
    back = as_panel(frame).restore([np.array([[0.0], [-3.0], [300.0], [17.5]])])
    assert back["a"].tolist() == [200, 0, 255, 18]
    small = pd.DataFrame({"a": np.array([1, NAN, NAN], dtype=np.float32)})
    back = as_panel(small).restore([np.array([[0.0], [1e300], [-1e300]])])
    largest = np.finfo(np.float32).max
    assert back["a"].tolist() == [1, largest, -largest]
    large = pd.DataFrame({"a": pd.array([2**62 + 1, None], dtype="Int64")})
    assert as_panel(large).restore([np.array([[0.0], [1e30]])])["a"].tolist() == [2**62 + 1, 2**63 - 1024]


def test_what_is_not_known_stays_missing():
    frame = pd.DataFrame({"a": [1.0, NAN, NAN]})
    back = as_panel(frame).restore([np.array([[5.0], [NAN], [6.0]])])
    np.testing.assert_array_equal(back["a"], [1, NAN, 6])


def test_a_pandas_series_stays_one():
    for name in ("x", None):
        series = pd.Series([1.0, NAN, 3.0], index=hours(3), name=name)
        panel = as_panel(series)
        back = panel.restore(numbered(panel))
        pd.testing.assert_series_equal(back, pd.Series([1.0, 10.0, 3.0], index=hours(3), name=name))
        assert panel.restore_samples(numbered(panel, (2,))).tolist() == [1, 10, 3, 1, 1010, 3]
        assert panel.arrange(numbered(panel)).tolist() == [0, 10, 20]


def test_columns_and_indices_of_every_kind():
    columns = pd.MultiIndex.from_product([["temp", "wind"], ["JFK", "LGA"]], names=["what", "where"])
    for index in (
        pd.RangeIndex(3),
        pd.Index([0.0, 0.5, 4.0], name="hours"),
        pd.period_range("2024-01", periods=3, freq="M"),
        pd.timedelta_range("0h", periods=3, freq="h"),
        pd.date_range("2024", periods=3, tz="UTC"),
        pd.Index(["2024-01-01", "2024-01-03", "2024-01-02"]),
    ):
        frame = pd.DataFrame(np.arange(12.0).reshape(3, 4), index=index, columns=columns)
        frame.iloc[1, 2] = NAN
        panel = as_panel(frame)
        assert panel.variables[2] == ("wind", "JFK")
        back = panel.restore([np.full((3, 4), 77.0)])
        pd.testing.assert_index_equal(back.index, frame.index)
        pd.testing.assert_index_equal(back.columns, frame.columns)
        assert back.iloc[1, 2] == 77
        levels = panel.restore_levels([np.full((2, 3, 4), 77.0)], [0.1, 0.9])
        assert levels.columns.names == ["what", "where", "level"]
        assert levels[("wind", "JFK", 0.1)].tolist() == [2, 77, 10]


# ---- long frames, panels and records ----


def test_a_long_frame_has_its_columns_as_covariates():
    frame = long_frame()
    panel = as_panel(frame)
    assert (panel.variables, panel.covariates) == (("y",), ("price", "shop"))
    assert [one.name for one in panel.series] == ["q", "p"]
    q, p = panel.series
    np.testing.assert_array_equal(q.values[:, 0], [2.5, NAN])
    np.testing.assert_array_equal(p.values[:, 0], [1.5, 3.5, NAN])
    np.testing.assert_array_equal(p.covariates[0], [6, 9, 8])
    assert p.covariates[1].tolist() == ["y", "y", "z"]
    back = panel.restore(numbered(panel))
    expected = frame.assign(y=[10, 1.5, 2.5, 120, 3.5])
    pd.testing.assert_frame_equal(back, expected, check_exact=True)


def test_static_columns_and_static_frames_agree():
    frame = long_frame().drop(columns="shop").assign(kind=["s", "t", "s", "t", "t"], area=[1, 2, 1, 2, 2])
    columns = as_panel(frame, static=["kind", "area"])
    assert columns.covariates == ("price",)
    table = pd.DataFrame({"unique_id": ["p", "q"], "kind": ["t", "s"], "area": [2, 1]})
    for lookup in (table, table.set_index("unique_id")):
        beside = as_panel(frame.drop(columns=["kind", "area"]), static=lookup)
        assert (
            [one.static for one in beside.series] == [one.static for one in columns.series] == [("s", 1.0), ("t", 2.0)]
        )
        assert beside.static == columns.static == ("kind", "area")
    with pytest.raises(ValueError, match="no row for series 'q'"):
        as_panel(frame, static=table.iloc[:1])
    with pytest.raises(ValueError, match="two rows for series 'p'"):
        as_panel(frame, static=pd.concat([table, table]))
    with pytest.raises(ValueError, match="series 'q': the static column 'price' holds both"):
        as_panel(frame, static=["price"])


def test_a_panel_index_gives_the_same_panel_as_the_long_frame():
    frame = long_frame().drop(columns="shop")
    indexed = frame.set_index(["unique_id", "ds"])
    one, two = as_panel(frame), as_panel(indexed, covariates=["price"])
    for a, b in zip(one.series, two.series):
        assert a.name == b.name
        np.testing.assert_array_equal(a.values, b.values)
        np.testing.assert_array_equal(a.stamps, b.stamps)
    back = two.restore(numbered(two))
    pd.testing.assert_frame_equal(back, indexed.assign(y=[10, 1.5, 2.5, 120, 3.5]), check_exact=True)
    samples = two.restore_samples(numbered(two, (3,)))
    assert samples.index.names == ["sample", "unique_id", "ds"]
    assert samples.loc[2].equals(indexed.assign(y=[2010, 1.5, 2.5, 2120, 3.5]))


def records():
    return pd.DataFrame(
        {
            "unique_id": [1, 1, 1, 2, 1, 2],
            "ds": [0.5, 0.0, 0.5, 0.2, 2.0, 0.9],
            "variable": ["HR", "HR", "Temp", "HR", "Temp", "Temp"],
            "value": [80.0, NAN, 37.0, 90.0, NAN, 36.5],
            "note": list("abcdef"),
        }
    )


def test_records_have_stamps_of_their_own():
    panel = as_panel(records())
    assert panel.variables == ("HR", "Temp")
    one, two = panel.series
    np.testing.assert_array_equal(one.stamps, [0, 0.5, 2])
    np.testing.assert_array_equal(one.values, [[NAN, NAN], [80, 37], [NAN, NAN]])
    np.testing.assert_array_equal(two.values, [[90, NAN], [NAN, 36.5]])
    back = panel.restore(numbered(panel))
    pd.testing.assert_frame_equal(back, records().assign(value=[80, 0, 37, 90, 21, 36.5]), check_exact=True)
    levels = panel.restore_levels(numbered(panel, (2,)), [0.1, 0.9])
    assert levels[("value", 0.9)].tolist() == [80, 1000, 37, 90, 1021, 36.5]
    assert levels["variable"].tolist() == records()["variable"].tolist()
    assert panel.restore_samples(numbered(panel, (2,))).shape == (12, 5)


def test_records_of_other_variables_are_left_aside():
    panel = as_panel(records(), variables=["Temp", "SpO2"])
    assert panel.aside == ("HR",)
    assert np.isnan(panel.series[0].values[:, 1]).all()
    back = panel.restore(numbered(panel))
    assert back["value"].tolist()[:1] == [80]
    assert np.isnan(back["value"].iloc[1])  # heart rate is nothing that was asked for
    assert back["value"].iloc[4] == 20


def test_a_long_frame_in_levels_keeps_its_labels():
    panel = as_panel(long_frame())
    out = panel.restore_levels(numbered(panel, (2,)), [(0.9, "lower"), (0.9, "upper")], ("coverage", "bound"))
    assert out.columns.names == ["variable", "coverage", "bound"]
    assert out["unique_id"].squeeze().tolist() == ["q", "p", "q", "p", "p"]
    assert out[("y", 0.9, "upper")].tolist() == [1010, 1.5, 2.5, 1120, 3.5]
    assert out.index.tolist() == [7, 3, 9, 1, 0]
    assert out["ds"].squeeze().dtype == long_frame()["ds"].dtype
    scores = panel.arrange(numbered(panel))
    assert scores.columns.tolist() == ["unique_id", "ds", "y"]
    assert scores["y"].tolist() == [10, 100, 0, 120, 110]


def test_columns_named_nowhere_are_given_back_as_they_came():
    frame = wide().assign(note=["p", None, "q", "r"])
    panel = as_panel(frame, variables=["c"])
    assert panel.aside == ("b", "a", "note")
    back = panel.restore(numbered(panel))
    pd.testing.assert_frame_equal(back.drop(columns="c"), frame.drop(columns="c"), check_exact=True)


def test_order_of_variables_is_the_callers_of_as_panel():
    frame = wide()
    panel = as_panel(frame, variables=["c", "b", "a"])
    back = panel.restore(numbered(panel))
    assert list(back.columns) == ["b", "a", "c"]
    assert (back["c"].iloc[1], back["b"].iloc[1]) == (10, 11)


# ---- arrays ----


def test_arrays_of_every_shape_come_back():
    rng = np.random.default_rng(0)
    cube = rng.normal(size=(3, 5, 2)).astype(np.float32)
    cube[1, 2, 0] = cube[2, 4, 1] = NAN
    for data in (cube, cube[1], cube[1, :, 0]):
        panel = as_panel(data)
        back = panel.restore(numbered(panel))
        assert (back.dtype, back.shape) == (data.dtype, data.shape)
        np.testing.assert_array_equal(back[~np.isnan(data)], data[~np.isnan(data)])
        assert (back[np.isnan(data)] == np.stack(numbered(panel)).reshape(data.shape)[np.isnan(data)]).all()
        samples = panel.restore_samples(numbered(panel, (4,)))
        assert samples.shape == (4, *data.shape)
        np.testing.assert_array_equal(samples[0], back)
        assert (samples[3] - samples[0] == 3000 * np.isnan(data)).all()
        assert panel.restore_levels(numbered(panel, (2,)), [0.1, 0.9]).shape == (2, *data.shape)
        assert panel.arrange(numbered(panel)).shape == data.shape


def test_ragged_arrays_and_covariates():
    data = [np.array([[1.0, 5.0], [NAN, 6.0]]), np.array([[NAN, 7.0]])]
    panel = as_panel(data, covariates=[1])
    assert (panel.variables, panel.covariates) == ((0,), (1,))
    back = panel.restore([np.full((2, 1), 8.0), np.full((1, 1), 9.0)])
    np.testing.assert_array_equal(back[0], [[1, 5], [8, 6]])
    np.testing.assert_array_equal(back[1], [[9, 7]])
    named = as_panel(data, variables=["y"], covariates=["x"])
    assert (named.variables, named.covariates) == (("y",), ("x",))
    with pytest.raises(ValueError, match="2 columns where 3 names"):
        as_panel(data, variables=["y", "z"], covariates=["x"])


def test_integer_arrays_stay_integers():
    data = np.arange(6).reshape(3, 2)
    back = as_panel(data).restore([np.full((3, 2), 0.5)])
    assert back.dtype == data.dtype
    np.testing.assert_array_equal(back, data)


# ---- files ----


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".parquet"])
def test_files_are_read_as_their_frames(tmp_path, suffix):
    frame = pd.DataFrame({"a": [0.1, NAN, 1 / 3], "b": [1, 2, 3]}, index=pd.Index(hours(3), name="date"))
    path = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="\t" if suffix == ".tsv" else ",")
    panel = as_panel(str(path))
    np.testing.assert_array_equal(panel.series[0].values, frame.to_numpy())
    np.testing.assert_array_equal(panel.series[0].stamps, frame.index.to_numpy())
    back = panel.restore(numbered(panel))
    assert back["a"].tolist() == [0.1, 10, 1 / 3]
    long = tmp_path / "long.csv"
    long_frame().to_csv(long, index=False)
    assert [len(one) for one in as_panel(long).series] == [2, 3]


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        as_panel(tmp_path / "none.csv")
    (tmp_path / "x.xlsx").write_text("a")
    with pytest.raises(ValueError, match=r"suffix '.xlsx' is none of .csv"):
        as_panel(tmp_path / "x.xlsx")
    (tmp_path / "twice.csv").write_text("date,a,a\n2024-01-01,1,2\n")
    with pytest.raises(ValueError, match="two columns are called 'a'"):
        as_panel(tmp_path / "twice.csv")
    for name in ("bad.parquet", "empty.csv"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ValueError, match="not a readable"):
            as_panel(tmp_path / name)
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(ValueError, match="not a readable table"):
        as_panel(tmp_path / "ragged.csv")


# ---- gaps of stamps ----


def test_missing_stamps_stay_as_they_are_unless_asked_for():
    frame = wide().drop(index=hours(4)[1])
    assert len(as_panel(frame).series[0]) == 3
    panel = as_panel(frame, frequency="h")
    np.testing.assert_array_equal(panel.series[0].values[:, 1], [1, NAN, 3, 4])
    back = panel.restore(numbered(panel))
    pd.testing.assert_index_equal(back.index, hours(4), exact="equiv")
    assert back["a"].tolist() == [1, 11, 3, 4]  # whole, although it had no gap
    assert back.dtypes.astype(str).tolist() == ["float32", "int64", "float64"]


def test_long_frames_are_made_regular_by_series():
    frame = (
        long_frame().drop(columns=["price", "shop"]).drop(index=0).assign(kind=["s", "t", "s", "t"], note=list("abcd"))
    )
    panel = as_panel(frame, variables=["y"], static=["kind"], frequency="D")
    back = panel.restore(numbered(panel))
    assert back["unique_id"].tolist() == ["q", "q", "p", "p", "p"]
    assert back["y"].tolist() == [2.5, 10, 1.5, 110, 120]
    assert back["kind"].tolist() == ["s", "s", "t", "t", "t"]
    assert back["note"].isna().tolist() == [False, False, False, True, False]
    with pytest.raises(ValueError, match=r"2024-01-02.*covariate 'price' is not known"):
        as_panel(long_frame().drop(index=0), frequency="D")


def test_stamps_beside_the_grid_are_refused():
    frame = wide().set_index(
        pd.to_datetime(["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 01:30", "2024-01-01 03:00"])
    )
    with pytest.raises(ValueError, match=r"1 stamps lie beside the grid of frequency='h'.*01:30"):
        as_panel(frame, frequency="h")
    with pytest.raises(ValueError, match="expected a frequency of pandas"):
        as_panel(frame, frequency="fortnight")
    numbers = pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=[0.0, 0.2, 0.3])
    np.testing.assert_array_equal(as_panel(numbers, frequency=0.1).series[0].values[:, 0], [1, NAN, 2, 3])
    with pytest.raises(ValueError, match="lie beside the grid"):
        as_panel(numbers, frequency=0.2)
    with pytest.raises(ValueError, match="expected a number above 0"):
        as_panel(numbers, frequency="h")
    with pytest.raises(ValueError, match="arrays have no stamps"):
        as_panel(np.ones((3, 2)), frequency=1)


def test_daylight_saving_is_no_gap():
    index = pd.date_range("2024-03-30 22:00", periods=6, freq="h", tz="Europe/Berlin")
    panel = as_panel(pd.DataFrame({"a": np.arange(6.0)}, index=index), frequency="h")
    assert len(panel.series[0]) == 6
    assert set(np.diff(panel.series[0].stamps)) == {np.timedelta64(1, "h")}


def test_records_on_a_grid():
    frame = records().assign(ds=[1, 0, 1, 0, 4, 2])
    one, two = as_panel(frame, frequency=1).series
    assert (len(one), len(two)) == (5, 3)
    panel = as_panel(frame, frequency=1)
    assert panel.restore(numbered(panel))["value"].tolist() == [80, 0, 37, 90, 41, 36.5]


# ---- rows ahead ----


def test_rows_ahead_continue_the_frame():
    frame = wide(tz="Europe/Berlin").rename_axis("when")
    panel = as_panel(frame)
    stamps = panel.series[0].stamps[-1] + np.timedelta64(1, "h") * np.arange(1, 3)
    ahead = panel.ahead([stamps])
    out = ahead.restore(numbered(ahead))
    pd.testing.assert_index_equal(out.index, hours(6, tz="Europe/Berlin").rename("when")[4:], exact="equiv")
    assert out.dtypes.astype(str).tolist() == ["float32", "int64", "float64"]
    assert out["c"].tolist() == [2, 12]
    joined = panel.series[0].followed_by(ahead.series[0])
    assert len(joined) == 6
    assert np.isnan(joined.values[4:]).all()
    with pytest.raises(ValueError, match="stamps after its last one"):
        panel.ahead([stamps - np.timedelta64(9, "h")])


def test_rows_ahead_need_the_covariates():
    panel = as_panel(long_frame().assign(note="n"), variables=["y"], covariates=["price", "shop"])
    days = pd.to_datetime(["2024-01-03", "2024-01-04", "2024-01-04"])
    future = pd.DataFrame({"unique_id": ["q", "q", "p"], "ds": days, "price": [1, 2, 3], "shop": ["x", "w", "y"]})
    stamps = [days[:2].to_numpy(), days[2:].to_numpy()]
    known = as_panel(future, variables=(), covariates=["price", "shop"])
    ahead = panel.ahead(stamps, known)
    out = ahead.restore(numbered(ahead))
    expected = future.assign(y=[0.0, 10, 100])[["unique_id", "ds", "y", "price", "shop"]]
    pd.testing.assert_frame_equal(out, expected, check_dtype=False)
    assert out["price"].dtype == np.int64
    with pytest.raises(ValueError, match="give them as future="):
        panel.ahead(stamps)
    with pytest.raises(ValueError, match="no series 'p'"):
        panel.ahead(stamps, as_panel(future[:2], variables=(), covariates=["price", "shop"]))
    with pytest.raises(ValueError, match=r"no row for 2024-01-04"):
        panel.ahead(stamps, as_panel(future.iloc[[0, 2]], variables=(), covariates=["price", "shop"]))
    with pytest.raises(ValueError, match="future holds the covariates"):
        panel.ahead(stamps, as_panel(future, variables=(), covariates=["price"]))


def test_rows_ahead_of_arrays_records_and_panels():
    array = as_panel(np.array([[1.0, 4.0], [2.0, 5.0]], dtype=np.float32), covariates=[1])
    future = as_panel([np.array([[0.0], [0.0], [7.0]])], variables=(), covariates=[0])
    series = future.series[0]
    known = Panel((series.__class__(None, series.stamps, series.values, series.covariates),), (), (1,))
    out = array.ahead([np.array([2.0])], known).restore([np.array([[3.0]])])
    np.testing.assert_array_equal(out, [[3, 7]])
    assert out.dtype == np.float32

    panel = as_panel(records())
    ahead = panel.ahead([np.array([3.0]), np.array([3.0, 4.0])])
    out = ahead.restore(numbered(ahead))
    assert out.columns.tolist() == ["unique_id", "ds", "variable", "value"]
    assert out["unique_id"].tolist() == [1, 1, 2, 2, 2, 2]
    assert out["variable"].tolist() == ["HR", "Temp"] * 3
    assert out["value"].tolist() == [0, 1, 100, 101, 110, 111]

    indexed = as_panel(long_frame()[["unique_id", "ds", "y"]].set_index(["unique_id", "ds"]))
    day = np.array(["2024-02-01"], dtype="datetime64[us]")
    ahead = indexed.ahead([day, day])
    assert ahead.restore(numbered(ahead)).index.tolist() == [("q", pd.Timestamp(day[0])), ("p", pd.Timestamp(day[0]))]


# ---- refused by name ----

BAD = {
    "text": (wide().assign(city="x"), r"column 'city' is of dtype .*expected numbers.*covariates="),
    "objects": (wide().assign(a=[None, 1, 2, 3]).astype({"a": object}), r"column 'a' is of dtype object.*to_numeric"),
    "booleans": (wide().assign(a=True), r"column 'a' is of dtype bool"),
    "times": (wide().assign(a=hours(4)), r"column 'a' is of dtype datetime64"),
    "complex": (wide().assign(a=1j), r"column 'a' is of dtype complex128"),
    "sparse": (wide().astype({"c": pd.SparseDtype(float)}), r"column 'c' is sparse.*to_dense"),
    "infinite": (wide().assign(a=[1, np.inf, -np.inf, 2]), r"column 'a' holds 2 infinite values.*T01"),
    "duplicate stamps": (wide().iloc[[0, 1, 1, 2]], r"the stamp 2024-03-30T01.* comes twice \(1 such rows\).*groupby"),
    "duplicate columns": (pd.concat([wide(), wide()], axis=1), r"two columns are called 'b'"),
    "missing stamps": (wide().set_index(pd.DatetimeIndex([*hours(3), pd.NaT])), r"1 stamps are missing .*row 3"),
    "no rows": (wide().iloc[:0], r"no rows"),
    "no columns": (wide()[[]], r"no column that could be a variable"),
    "text stamps": (wide().set_index(pd.Index(["1.2.24", "2.2.24", "3.2.24", "4.2.24"])), r"ISO 8601.*to_datetime"),
    "odd stamps": (wide().set_index(pd.Index([True, False, True, False])), r"kind 'boolean'; expected datetimes"),
    "infinite stamps": (wide().set_index(pd.Index([0, 1, 2, np.inf])), r"stamps hold infinite"),
    "series unnamed": (long_frame().assign(unique_id=["q", None, "q", "p", "p"]), r"1 rows name no series .*row 1"),
    "long duplicate": (long_frame().iloc[[0, 1, 1]], r"series 'p': the stamp 2024-01-01.* comes twice"),
    "no stamps": (long_frame().drop(columns="ds"), r"no column of stamps 'ds'"),
    "covariate missing": (long_frame().assign(price=[1, 2, NAN, 4, 5]), r"'price' has no value at 2024-01-01"),
    "category missing": (long_frame().assign(shop=["x", None, "x", "z", "y"]), r"column 'shop' has no value"),
    "record twice": (records().assign(ds=0.5), r"series 1: 'HR' has two rows at 0.5"),
    "record unnamed": (records().assign(variable=["HR", None, *"abcd"]), r"row 1 names no variable"),
    "index levels": (long_frame().set_index(["unique_id", "ds", "shop"]), r"3 levels"),
    "array of text": (np.array([["a"]]), r"dtype <U1"),
    "array infinite": (np.array([[1.0, np.inf]]), r"data: column 1 holds 1 infinite"),
    "array axes": (np.ones((1, 2, 3, 4)), r"shape \(1, 2, 3, 4\): expected \(T,\)"),
    "array empty": (np.ones((0, 2)), r"shape \(0, 2\) hold nothing"),
    "ragged columns": ([np.ones((2, 2)), np.ones((2, 3))], r"shape \(2, 3\): expected \(T, K\) with the same K"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_refused_by_name(name):
    data, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        as_panel(data)
    assert "\n" not in str(caught.value)


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match=r"no column 'bb' of variables.*they have 'b', 'a', 'c'"):
        as_panel(wide(), variables=["bb"])
    with pytest.raises(ValueError, match=r"did you mean 'price'"):
        as_panel(long_frame(), covariates=["prise"])
    with pytest.raises(TypeError, match="one string"):
        as_panel(wide(), variables="b")
    with pytest.raises(TypeError, match="one string"):
        as_panel(wide(), static="b")
    with pytest.raises(ValueError, match="named twice"):
        as_panel(wide(), variables=["b"], covariates=["b"])
    with pytest.raises(ValueError, match="series='place': data have no such column"):
        as_panel(wide(), series="place")
    with pytest.raises(TypeError, match="data of type dict"):
        as_panel({"a": [1]})
    with pytest.raises(TypeError, match="data of type MaskedArray"):
        as_panel(np.ma.masked_array(np.ones((2, 2))))
    with pytest.raises(TypeError, match="data of type list"):
        as_panel([])
    with pytest.raises(ValueError, match="records have none"):
        as_panel(records(), covariates=["note"])
    with pytest.raises(ValueError, match="covariates hold 5"):
        as_panel(np.ones((3, 2)), covariates=[5])


def test_results_of_other_shapes_are_refused():
    panel = as_panel(long_frame())
    for values in ([np.ones((2, 1))], [np.ones((3, 1)), np.ones((2, 1))], numbered(panel, (2,))):
        with pytest.raises(ValueError, match=r"values have shapes"):
            panel.restore(values)
    with pytest.raises(ValueError, match="2 levels where"):
        panel.restore_levels(numbered(panel, (2,)), [0.5])
    with pytest.raises(ValueError, match="put together in memory"):
        Panel(panel.series, panel.variables).restore(numbered(panel))


def test_a_panel_is_given_back_and_one_row_is_enough():
    panel = as_panel(wide().iloc[:1])
    assert as_panel(panel) is panel
    for more in ({"variables": ["a"]}, {"static": ["a"]}, {"frequency": "h"}):
        with pytest.raises(ValueError, match="a panel already"):
            as_panel(panel, **more)
    assert panel.restore(numbered(panel)).shape == (1, 3)
    empty = as_panel(wide().assign(c=NAN))  # to predict with; training refuses it
    assert empty.restore(numbered(empty))["c"].tolist() == [2, 12, 22, 32]
