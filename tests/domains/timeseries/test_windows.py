"""Windows of series: which rows they hold, which are drawn how often, and what a data module makes of them."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ornstein.core.config import from_config, to_config
from ornstein.domains.timeseries.data import SeriesData, WindowData, cut_pieces, split_series, split_time
from ornstein.domains.timeseries.facts import SeriesFacts
from ornstein.domains.timeseries.frames import as_panel
from ornstein.domains.timeseries.missingness import Forecast, Mixture, Point, Random
from ornstein.domains.timeseries.windows import FixedWindows, RandomWindows, Rows, series_windows


def numbered(lengths, variables=2, missing=0.0):
    """Series whose values tell series, row and variable: ``1000 i + 10 t + k``; and rows of them, unscaled."""
    rng = np.random.default_rng(0)
    arrays = []
    for i, rows in enumerate(lengths):
        values = 1000.0 * i + 10 * np.arange(rows)[:, None] + np.arange(variables)
        arrays.append(np.where(rng.random(values.shape) < missing, np.nan, values))
    return arrays


def rows_of(lengths, length, **options):
    panel = as_panel(numbered(lengths, **options))
    facts = SeriesFacts.fit(panel)
    return Rows.of([facts.scale(one) for one in panel.series], length), facts


def places_of(batch, facts):
    """Series and start of each window, read off its first value."""
    first = facts.unscale(batch["values"].numpy())[:, 0, 0].round().astype(int)
    return list(zip((first // 1000).tolist(), (first % 1000 // 10).tolist()))


# ---- places ----


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 12), st.integers(1, 12))
def test_windows_cover_every_row_and_end_where_series_end(lengths, length, stride):
    stride = min(stride, length)
    series, starts = series_windows(lengths, length, stride)
    for i, rows in enumerate(lengths):
        mine = starts[series == i]
        covered = {row for start in mine for row in range(start, start + length)}
        assert covered >= set(range(rows))
        assert mine[0] == 0
        assert mine[-1] == max(rows - length, 0)
        assert (np.diff(mine) > 0).all()
        assert (np.diff(mine) <= stride).all()
        assert (mine[:-1] % stride == 0).all()


def test_bad_windows_are_named():
    for stride in (0, 5):
        with pytest.raises(ValueError, match="stride"):
            series_windows([9], 4, stride)
    with pytest.raises(ValueError, match="length=0"):
        series_windows([9], 0, 1)
    with pytest.raises(ValueError, match="series"):
        Rows.of([], 3)


def test_batches_hold_the_rows_of_their_windows():
    rows, facts = rows_of([7, 3, 5], 4, missing=0.2)
    arrays = numbered([7, 3, 5], missing=0.2)
    batch = rows.batch(torch.tensor([0, 2, 1]), torch.tensor([3, 0, 0]))
    expected = np.full((3, 4, 2), np.nan)
    expected[0], expected[1], expected[2, :3] = arrays[0][3:7], arrays[2][:4], arrays[1]
    assert set(batch) == {"values", "observed", "time"}
    np.testing.assert_array_equal(batch["observed"], ~np.isnan(expected))
    seen = batch["observed"].numpy()
    np.testing.assert_allclose(facts.unscale(batch["values"].numpy())[seen], expected[seen], rtol=1e-5)
    assert (batch["values"].numpy()[~seen] == 0).all()
    assert batch["time"].tolist() == [[0, 1, 2, 3]] * 3
    assert [batch[name].dtype for name in ("values", "observed", "time")] == [torch.float32, torch.bool, torch.float32]


def test_time_is_elapsed_time_of_irregular_stamps():
    stamps = np.cumsum(np.random.default_rng(0).exponential(size=50)) + 1e9  # far from zero, where float32 is coarse
    panel = as_panel(pd.DataFrame({"a": np.arange(50.0)}, index=stamps))
    facts = SeriesFacts.fit(panel)
    rows = Rows.of([facts.scale(panel.series[0])], 10)
    time = rows.batch(torch.tensor([0]), torch.tensor([25]))["time"][0]
    np.testing.assert_allclose(time, (stamps[25:35] - stamps[25]) / facts.clock.step, rtol=1e-6)


def test_known_columns_come_with_the_windows():
    index = pd.date_range("2024-01-01", periods=100, freq="6h")
    frame = pd.DataFrame({"unique_id": "a", "ds": index, "y": np.arange(100.0), "x": np.arange(100) % 7, "kind": "k"})
    other = frame.assign(unique_id="b", kind="j")[:50]
    data = SeriesData(pd.concat([frame, other]), static=["kind"], length=12, heldout=0, validation=0, batch_size=16)
    batch = next(iter(data.loader(1)))
    assert {name: tuple(value.shape[1:]) for name, value in batch.items()} == {
        **dict.fromkeys(("values", "observed", "target"), (12, 1)),
        "time": (12,),
        "calendar": (12, 4),
        "covariates": (12, 1),
        "static": (2,),
    }
    y = data.facts.unscale(batch["values"].numpy())[..., 0].round()
    x = batch["covariates"].numpy()[..., 0] * data.facts.covariates[0].deviation + data.facts.covariates[0].mean
    np.testing.assert_allclose(x, y % 7, atol=1e-4)
    sine = batch["calendar"].numpy()[..., 0]
    np.testing.assert_allclose(sine, np.sin(2 * np.pi * y / 4), atol=1e-5)
    assert data.facts.widths == {"calendar": 4, "covariates": 1, "static": 2}


# ---- training windows ----


def test_every_start_is_as_likely_as_another():
    rows, facts = rows_of([30, 4, 12], 10)
    places = [(0, s) for s in range(21)] + [(1, 0)] + [(2, s) for s in range(3)]
    windows = RandomWindows(rows, 3, Random())
    assert len(windows) == 9  # ceil(25 / 3)
    drawn = []
    for _ in range(1000):
        drawn += places_of(windows.__getitems__(range(9)), facts)
    counts = np.array([drawn.count(place) for place in places])
    assert counts.sum() == 9000
    # Each draw of an epoch falls into one of two or three places; the variance is below the binomial one.
    assert np.abs(counts - 360).max() < 4.5 * np.sqrt(360)


def test_a_grid_has_each_window_once():
    rows, facts = rows_of([30, 4, 12], 10)
    windows = RandomWindows(rows, 5, Random(), grid=True)
    batch = windows.__getitems__(range(len(windows)))
    assert places_of(batch, facts) == [(0, 0), (0, 5), (0, 10), (0, 15), (0, 20), (1, 0), (2, 0), (2, 2)]
    assert windows[3]["values"].shape == (10, 2)


def test_targets_are_drawn_anew_and_lie_within_what_is_observed():
    rows, _ = rows_of([60], 20, missing=0.3)
    windows = RandomWindows(rows, 20, Point(0.5))
    one, two = (windows.__getitems__([0, 1, 2]) for _ in range(2))
    for batch in (one, two):
        assert not (batch["target"] & ~batch["observed"]).any()
        assert batch["target"].any()
    assert not torch.equal(one["target"], two["target"])


# ---- windows to judge by ----


def test_covering_windows_ask_for_each_entry_once():
    for lengths in ([25, 4, 13], [10], [20]):
        for stride in (3, 10):
            rows, _ = rows_of(lengths, 10, missing=0.2)
            windows = FixedWindows.cover(rows, stride, Random(1.0, 1.0), 0)  # all that is observed
            counts = [np.zeros((n, 2), dtype=int) for n in lengths]
            for i, start, target in zip(windows.series.tolist(), windows.starts.tolist(), windows.target.numpy()):
                part = counts[i][start : start + 10]
                part += target[: len(part)]
                assert not target[len(part) :].any()
            for count, array in zip(counts, numbered(lengths, missing=0.2)):
                np.testing.assert_array_equal(count, ~np.isnan(array))


def test_fixed_targets_are_fixed():
    rows, _ = rows_of([50], 10)
    one, two = FixedWindows.cover(rows, 10, Point(0.3), 1), FixedWindows.cover(rows, 10, Point(0.3), 1)
    assert torch.equal(one.all()["target"], two.all()["target"])
    assert not torch.equal(one.target, FixedWindows.cover(rows, 10, Point(0.3), 2).target)
    assert torch.equal(one.__getitems__([3, 1])["target"], one.target[[3, 1]])
    assert not FixedWindows.cover(rows, 10, None, 1).target.any()
    assert len(one) == 5


# ---- the data module ----


def wave(count=400, missing=0.1):
    rng = np.random.default_rng(0)
    index = pd.date_range("2024-01-01", periods=count, freq="h")
    values = np.sin(np.arange(count) * 2 * np.pi / 24)[:, None] + 0.1 * rng.normal(size=(count, 3))
    return pd.DataFrame(np.where(rng.random(values.shape) < missing, np.nan, values), index, ["a", "b", "c"])


def test_batches_are_a_function_of_seed_and_step():
    data = SeriesData(wave(), length=24, batch_size=8)
    ahead = list(data.loader(6, seed=3))
    later = list(data.loader(6, seed=3, start=4))
    for one, two in zip(ahead[4:], later):
        assert all(torch.equal(one[name], two[name]) for name in one)
    other = next(iter(data.loader(1, seed=4)))
    assert not torch.equal(other["values"], ahead[0]["values"])
    workers = next(iter(SeriesData(wave(), length=24, batch_size=8, num_workers=1).loader(1, seed=3)))
    assert all(torch.equal(workers[name], ahead[0][name]) for name in workers)


def test_parts_follow_each_other_in_time():
    frame = wave()
    data = SeriesData(frame, length=24, heldout=0.25, validation=0.25, removed=Point(0.2))
    train, heldout, validation = data.parts
    for part, (a, b) in ((train, (0, 200)), (validation, (200, 300)), (heldout, (300, 400))):
        np.testing.assert_array_equal(part.series[0].values, frame.iloc[a:b])
        np.testing.assert_array_equal(part.series[0].stamps, frame.index[a:b])
    np.testing.assert_allclose(data.facts.means, frame.iloc[:200].mean(), rtol=1e-12)
    reference = data.reference()
    assert reference.heldout["values"].shape == (5, 24, 3)
    assert not reference.train["target"].any()
    values = reference.facts.unscale(reference.heldout["values"].numpy())
    seen = reference.heldout["observed"].numpy()
    np.testing.assert_allclose(values[0][seen[0]], frame.iloc[300:324].to_numpy()[seen[0]], atol=1e-5)
    share = float(reference.heldout["target"].sum() / reference.heldout["observed"].sum())
    assert 0.1 < share < 0.25  # a fifth, but for the rows that two windows share
    assert len(data.validation_dataset()) == 5
    assert torch.equal(data.validation_dataset().target, data.validation_dataset().target)


def test_parts_may_be_data_of_their_own_or_absent():
    frame = wave()
    data = SeriesData(frame[:300], heldout=frame[300:], validation=0, length=24)
    assert len(data.parts.train.series[0]) == 300
    assert len(data.parts.heldout.series[0]) == 100
    assert data.validation_dataset() is None
    with pytest.raises(ValueError, match=r"no part 'heldout'; give heldout="):
        SeriesData(frame, heldout=0, length=24).reference()
    with pytest.raises(ValueError, match="no column 'c'"):
        SeriesData(frame, heldout=frame[["a", "b"]], variables=["a", "b", "c"], length=24).reference()
    with pytest.raises(ValueError, match="data have the variables"):
        SeriesData(frame, heldout=frame[["a", "b"]], length=24).reference()


def test_whole_series_are_held_out():
    panel = as_panel(numbered([6] * 20))
    train, heldout, validation = split_series(panel, 0.1, 0.25, 0)
    names = [[one.name for one in part.series] for part in (train, heldout, validation)]
    assert [len(some) for some in names] == [13, 5, 2]
    assert sorted(name for some in names for name in some) == list(range(20))
    assert all(some == sorted(some) for some in names)
    assert split_series(panel, 0.1, 0.25, 0)[1].series[0].name == heldout.series[0].name
    data = SeriesData(numbered([6] * 20), split="series", length=6, heldout=0.25)
    assert [one.name for one in data.parts.heldout.series] == names[1]


def test_pieces_are_the_series_again():
    panel = as_panel(numbered([10, 3]))
    pieces = cut_pieces(panel, 4)
    assert [(one.name, len(one)) for one in pieces.series] == [((0, 0), 4), ((0, 4), 4), ((0, 8), 2), ((1, 0), 3)]
    np.testing.assert_array_equal(np.concatenate([one.values for one in pieces.series[:3]]), panel.series[0].values)


def test_parts_that_are_empty_or_odd_are_named():
    panel = as_panel(numbered([5]))
    with pytest.raises(ValueError, match="the part validation is empty"):
        split_time(panel, 0.05, 0.1)
    with pytest.raises(ValueError, match="the part heldout is empty"):
        split_series(panel, 0, 0.2, 0)
    with pytest.raises(ValueError, match=r"heldout=0\.6"):
        split_time(panel, 0.4, 0.6)
    with pytest.raises(ValueError, match=r"validation=1\.5"):
        split_time(panel, 1.5, 0)
    assert split_time(panel, 0, 0).heldout is None


def test_strategies_that_hide_nothing_are_refused():
    whole = wave(missing=0)
    with pytest.raises(ValueError, match="lack nothing; give targets='random'"):
        _ = SeriesData(whole, targets="historical").facts
    _ = SeriesData(whole, targets="mix").facts
    _ = SeriesData(wave(), targets="historical").facts


def test_settings_survive_their_configuration(tmp_path):
    path = tmp_path / "wave.csv"
    wave().to_csv(path)
    data = SeriesData(
        str(path), length=24, targets=Mixture((Random(0.1, 0.9), Forecast(6))), removed=Point(0.2), batch_size=4
    )
    again = from_config(to_config(data), WindowData)
    for one, two in zip(data.loader(2), again.loader(2)):
        assert all(torch.equal(one[name], two[name]) for name in one)
    for bad in ({"length": 0}, {"stride": 0}, {"starts": "here"}, {"split": "half"}, {"targets": "rondom"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            SeriesData(wave(), **bad)
