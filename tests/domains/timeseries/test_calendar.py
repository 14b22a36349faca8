"""Elapsed steps and cycles of stamps, by the calendar of pandas and by hand."""

import numpy as np
import pandas as pd
import pytest

from ornstein.domains.timeseries.calendar import CYCLES, Clock, passed
from ornstein.domains.timeseries.frames import as_panel


def panel_of(index):
    return as_panel(pd.DataFrame({"a": np.arange(len(index), dtype=float)}, index=index))


def clock_of(index, **options):
    return Clock.fit(panel_of(index), **options)


def stamps_of(index):
    return panel_of(index).series[0].stamps


def test_parts_of_cycles_are_those_of_pandas():
    rng = np.random.default_rng(0)
    index = pd.DatetimeIndex(np.sort(rng.integers(-(10**9), 2 * 10**9, 500)).astype("datetime64[s]"))
    day = (index - index.normalize()) / pd.Timedelta("1D")
    expected = {
        "hour": (index.minute * 60 + index.second) / 3600,
        "day": day,
        "week": (index.dayofweek + day) / 7,
        "month": (index.day - 1 + day) / index.days_in_month,
        "year": (index.dayofyear - 1 + day) / np.where(index.is_leap_year, 366, 365),
    }
    for cycle in CYCLES:
        got = passed(index.to_numpy(), cycle)
        np.testing.assert_allclose(got, expected[cycle], rtol=0, atol=1e-12, err_msg=cycle)
        assert ((got >= 0) & (got < 1)).all()


def test_features_are_sines_and_cosines_on_the_wall():
    utc = pd.date_range("2024-06-03 22:00", periods=4, freq="6h", tz="UTC")
    clock = Clock("datetime", 6 * 3600, zone="Europe/Berlin", cycles=("day", "week"))
    got = clock.features(stamps_of(utc))
    assert (got.shape, got.dtype, clock.width) == ((4, 4), np.float32, 4)
    np.testing.assert_allclose(got[:, :2], [[0, 1], [1, 0], [0, -1], [-1, 0]], atol=1e-6)  # midnight in Berlin
    np.testing.assert_allclose(got[0, 2:], [np.sin(2 * np.pi / 7), np.cos(2 * np.pi / 7)], atol=1e-6)  # a Tuesday


@pytest.mark.parametrize(
    ("frequency", "count", "cycles"),
    [
        ("h", 24 * 365, ("day", "week")),
        ("h", 24 * 800, ("day", "week", "year")),
        ("h", 30, ()),
        ("12h", 1000, ("week",)),
        ("15min", 24 * 4 * 10, ("day",)),
        ("D", 800, ("week", "year")),
        ("W-SAT", 200, ("year",)),
        ("MS", 40, ("year",)),
        ("QS", 40, ("year",)),
        ("YS", 40, ()),
    ],
)
def test_cycles_are_those_that_the_stamps_show(frequency, count, cycles):
    clock = clock_of(pd.date_range("2016-07-01", periods=count, freq=frequency))
    assert clock.cycles == cycles
    assert (clock.regular, clock.frequency) == (True, None)
    assert clock_of(pd.date_range("2020", periods=9, freq=frequency), cycles=["month"]).cycles == ("month",)


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("frequency", ["h", "15min", "7h", "D", "W-SUN", "MS", "ME", "QS", "QE", "YE", "2MS", "B"])
def test_regular_stamps_are_whole_steps_and_go_on(frequency, zone):
    index = pd.date_range("2023-01-01", periods=60, freq=frequency, tz=zone)
    seen, ahead = index[:50], index[50:]
    clock = clock_of(seen)
    assert clock.regular
    elapsed = clock.elapsed(stamps_of(index))
    assert elapsed[0] == 0
    if frequency != "B":
        np.testing.assert_allclose(elapsed, np.arange(60), atol=1e-9)
    np.testing.assert_array_equal(clock.next(stamps_of(seen), 10), stamps_of(ahead))
    clock.check(panel_of(index))


def test_days_of_a_month_are_months_apart():
    index = pd.DatetimeIndex([f"2024-{month:02d}-15 06:00" for month in (1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12)])
    clock = clock_of(index)
    assert clock.months
    np.testing.assert_array_equal(clock.elapsed(stamps_of(index)), [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11])
    assert str(clock.next(stamps_of(index), 2)[1]).startswith("2025-02-15T06:00")


def test_the_step_is_one_that_occurs():
    clock = clock_of(pd.PeriodIndex(["2024-01", "2024-02", "2024-04"], freq="M"))
    assert (str(clock), clock.step) == ("1 months", 1)


def test_numbers_and_differences_have_steps_too():
    clock = clock_of(pd.Index([0.0, 0.5, 1.0, 2.0, 2.5]))
    assert (clock.step, clock.regular, clock.cycles) == (0.5, False, ())
    np.testing.assert_allclose(clock.elapsed(np.array([3.0, 4.0])), [0, 2])
    assert clock.next(np.array([1.0, 2.5]), 2).tolist() == [3, 3.5]
    clock = clock_of(pd.timedelta_range("1h", periods=5, freq="10min"))
    assert (clock.kind, clock.step) == ("timedelta", 600)
    assert clock.next(stamps_of(pd.timedelta_range("0h", periods=2, freq="10min")), 1)[0] == np.timedelta64(20, "m")
    with pytest.raises(ValueError, match="none, as stamps are timedeltas"):
        clock_of(pd.timedelta_range("1h", periods=5, freq="10min"), cycles=["day"])


def test_irregular_stamps_keep_their_distances():
    rng = np.random.default_rng(0)
    seconds = np.cumsum(rng.exponential(3600, 200)).astype("timedelta64[s]")
    index = pd.DatetimeIndex(np.datetime64("2024-01-01") + seconds)
    clock = clock_of(index)
    assert not clock.regular
    np.testing.assert_allclose(
        clock.elapsed(stamps_of(index)) * clock.step, (seconds - seconds[0]).astype(float), rtol=1e-12
    )
    clock.check(panel_of(pd.date_range("2024", periods=9, freq="D")))  # any distance will do


def test_the_clock_on_the_wall_counts_days():
    index = pd.date_range("2024-03-28", periods=8, freq="D", tz="Europe/Berlin")  # one of them has 23 hours
    np.testing.assert_array_equal(clock_of(index).elapsed(stamps_of(index)), np.arange(8))
    index = pd.date_range("2024-03-30", periods=48, freq="h", tz="Europe/Berlin")
    np.testing.assert_array_equal(clock_of(index).elapsed(stamps_of(index)), np.arange(48))


def test_other_stamps_are_refused_by_name():
    hourly = clock_of(pd.date_range("2024", periods=99, freq="h"))
    rng = np.random.default_rng(0)
    gaps = pd.date_range("2024", periods=99, freq="h")[np.sort(rng.choice(99, 60, replace=False))]
    hourly.check(panel_of(gaps))
    hourly.check(panel_of(gaps[:1]))
    with pytest.raises(ValueError, match=r"stamps are 0.25 steps apart .* one every 0 days 01:00:00; resample"):
        hourly.check(panel_of(pd.date_range("2024", periods=99, freq="15min")))
    with pytest.raises(ValueError, match=r"24 steps apart.*frequency="):
        hourly.check(panel_of(pd.date_range("2024", periods=99, freq="D")))
    with pytest.raises(ValueError, match="stamps are numbers where the training data had datetimes"):
        hourly.check(panel_of(pd.RangeIndex(9)))
    with pytest.raises(ValueError, match=r"stamps have UTC where the training data had none; mend with .tz_convert"):
        hourly.check(panel_of(pd.date_range("2024", periods=9, freq="h", tz="UTC")))
    zoned = clock_of(pd.date_range("2024", periods=99, freq="h", tz="Asia/Tokyo"))
    zoned.check(panel_of(pd.date_range("2024", periods=9, freq="h", tz="UTC")))
    with pytest.raises(
        ValueError, match=r"no time zone where the training data had Asia/Tokyo; mend with .tz_localize"
    ):
        zoned.check(panel_of(pd.date_range("2024", periods=9, freq="h")))
    with pytest.raises(ValueError, match="expected at least two rows"):
        clock_of(pd.date_range("2024", periods=1, freq="h"))
    with pytest.raises(ValueError, match=r"cycle 'weak'.*did you mean 'week'"):
        Clock("datetime", cycles=("weak",))
    with pytest.raises(ValueError, match="step"):
        Clock(step=0.0)
