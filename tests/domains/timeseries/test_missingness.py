"""Patterns of missing entries: their rates and shapes, by definition and by what others compute."""

import numpy as np
import pytest

from ornstein.core.config import from_config, to_config
from ornstein.domains.timeseries.missingness import (
    Blackout,
    Block,
    Forecast,
    Historical,
    Mixture,
    Point,
    Random,
    SensorDropout,
    ValueDependent,
    strategy_of,
)

ALL = [
    Point(0.3),
    Block(0.3),
    Blackout(0.3),
    SensorDropout(0.3),
    ValueDependent(0.3),
    Random(0.1, 0.5),
    Historical(),
    Forecast(5),
    Mixture((Point(0.2), Mixture((Historical(), Block(0.5)), (2.0, 1.0)))),
]


def windows(count=200, length=48, variables=5, missing=0.2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, length, variables)) >= missing, rng.normal(size=(count, length, variables))


def named(pattern):
    return type(pattern).__name__


@pytest.mark.parametrize("pattern", ALL, ids=named)
def test_only_what_is_observed_is_removed(pattern):
    observed, values = windows()
    for shape in ((200, 48, 5), (20, 10, 48, 5), (48, 5)):
        some, some_values = observed.reshape(-1)[: np.prod(shape)].reshape(shape), values.reshape(-1)[: np.prod(shape)]
        removed = pattern.draw(some, np.random.default_rng(1), some_values.reshape(shape))
        assert (removed.dtype, removed.shape) == (bool, shape)
        assert not (removed & ~some).any()
        again = pattern.draw(some, np.random.default_rng(1), some_values.reshape(shape))
        np.testing.assert_array_equal(removed, again)
    assert removed.any()
    assert not pattern.draw(np.zeros((4, 48, 5), dtype=bool), np.random.default_rng(1), np.zeros((4, 48, 5))).any()


@pytest.mark.parametrize("pattern", ALL, ids=named)
def test_patterns_survive_their_configuration(pattern):
    assert from_config(to_config(pattern)) == pattern


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", [Point, Block, Blackout, SensorDropout, ValueDependent])
def test_rates_are_what_they_say_at_every_step(kind, rate):
    observed, values = windows(3000, 30, 4)
    removed = kind(rate).draw(observed, np.random.default_rng(7), values)
    # As if a window had one entry at a step: those of a blackout go together. Over all steps likewise.
    by_step = removed.sum((0, 2)) / observed.sum((0, 2))
    assert np.abs(by_step - rate).max() < 4.5 * np.sqrt(rate * (1 - rate) / 3000)
    assert abs(removed.sum() / observed.sum() - rate) < 4 * np.sqrt(rate * (1 - rate) / 3000)


def runs_of(column):
    """Lengths of the runs of True within a column, those at its ends left out."""
    edges = np.flatnonzero(np.diff(column.astype(int)))
    starts, ends = edges[~column[edges]], edges[column[edges]]
    return [int(ends[ends > start][0] - start) for start in starts if (ends > start).any()]


def test_blocks_are_runs_of_one_variable():
    removed = Block(0.01, 6, 24).draw(np.ones((400_000, 3), dtype=bool), np.random.default_rng(0))
    runs = [run for k in range(3) for run in runs_of(removed[:, k])]
    alone = [run for run in runs if run <= 24]  # the rest are two that met
    assert min(runs) == 6
    assert len(alone) > 0.95 * len(runs)
    assert set(alone) == set(range(6, 25))
    assert abs(np.mean(alone) - 15) < 4 * 5.5 / np.sqrt(len(alone))
    assert abs(np.corrcoef(removed[:, 0], removed[:, 1])[0, 1]) < 0.05


def test_blocks_are_those_of_the_measured_peer_in_long_series():
    # The benchmark's own definition: runs from uniform places until the rate is reached.
    rng = np.random.default_rng(0)
    theirs = np.zeros(200_000, dtype=bool)
    while theirs.mean() < 0.3:
        start = int(rng.integers(0, len(theirs)))
        theirs[start : start + int(rng.integers(6, 25))] = True
    ours = Block(0.3).draw(np.ones((200_000, 1), dtype=bool), rng)[:, 0]
    assert abs(ours.mean() - 0.3) < 0.01
    mine, peers = runs_of(ours), runs_of(theirs)
    spread = np.hypot(np.std(mine) / np.sqrt(len(mine)), np.std(peers) / np.sqrt(len(peers)))
    assert abs(np.mean(mine) - np.mean(peers)) < 4 * spread
    assert abs(len(mine) / len(peers) - 1) < 4 / np.sqrt(len(peers))


def test_blackouts_are_of_all_variables_and_dropouts_of_all_steps():
    observed = np.ones((500, 48, 4), dtype=bool)
    out = Blackout(0.2).draw(observed, np.random.default_rng(7))
    assert (out.all(-1) == out.any(-1)).all()
    assert 0 < out.mean() < 1
    out = SensorDropout(0.2).draw(observed, np.random.default_rng(7))
    assert (out.all(1) == out.any(1)).all()


def test_high_values_go_first():
    observed, values = windows(50, missing=0.3)
    for slope, sign in ((3.0, 1), (-3.0, -1)):
        removed = ValueDependent(0.2, slope).draw(observed, np.random.default_rng(7), values)
        assert sign * (values[removed].mean() - values[observed & ~removed].mean()) > 1
    columns = values.reshape(-1, 2)[:100]
    step = ValueDependent(0.25, 1e6).draw(np.ones((100, 2), dtype=bool), np.random.default_rng(7), columns)
    for k in range(2):
        assert set(np.flatnonzero(step[:, k])) == set(np.argsort(columns[:, k])[-25:])
    flat = ValueDependent(0.2).draw(observed, np.random.default_rng(7), np.ones_like(values))
    assert abs(flat.sum() / observed.sum() - 0.2) < 0.02
    with pytest.raises(ValueError, match="give values="):
        ValueDependent().draw(observed, np.random.default_rng(7))


def test_random_targets_have_a_rate_for_each_window():
    observed, _ = windows(4000, missing=0.4)
    removed = Random(0.2, 0.6).draw(observed, np.random.default_rng(7))
    counts, shares = observed.sum((1, 2)), removed.sum((1, 2)) / observed.sum((1, 2))
    assert (shares >= 0.2 - 0.5 / counts.min()).all()
    assert (shares <= 0.6 + 0.5 / counts.min()).all()
    # Uniform on [0.2, 0.6]: mean and variance, and a Kolmogorov distance below the 0.1 % point.
    level = np.sort((shares - 0.2) / 0.4)
    assert np.abs(level - (np.arange(4000) + 0.5) / 4000).max() < 1.95 / np.sqrt(4000) + 1 / counts.min()
    assert abs(removed.mean((0, 2)) / observed.mean((0, 2)) - 0.4).max() < 0.02
    full = Random(1.0, 1.0).draw(observed, np.random.default_rng(7))
    np.testing.assert_array_equal(full, observed)


def test_historical_patterns_are_those_of_other_windows():
    observed, _ = windows(60, 10, 3, missing=0.3)
    removed = Historical().draw(observed, np.random.default_rng(7))
    for i in range(60):
        assert any((removed[i] == (observed[i] & ~observed[j])).all() for j in range(60) if j != i)
    drawn = Historical().draw(np.repeat(observed[:2], 2000, axis=0), np.random.default_rng(0))
    assert abs(drawn[:2000].any((1, 2)).mean() - 2000 / 3999) < 0.05  # all others alike
    alone = Historical().draw(observed[0], np.random.default_rng(0))
    assert any((alone == (observed[0] & ~np.roll(observed[0], s, axis=0))).all() for s in range(1, 10))
    assert not Historical().draw(np.ones((5, 4, 3), dtype=bool), np.random.default_rng(0)).any()


def test_forecasts_end_where_the_data_end():
    observed = np.ones((2, 8, 2), dtype=bool)
    observed[1, 5:] = False  # padded
    observed[1, 4, 0] = False
    removed = Forecast(3).draw(observed, np.random.default_rng(7))
    assert removed[0].any(1).tolist() == [False] * 5 + [True] * 3
    assert removed[1, :, 1].tolist() == [False, False, True, True, True, False, False, False]
    assert removed[1, :, 0].tolist() == [False, False, True, True, False, False, False, False]


def test_mixtures_draw_by_weight():
    observed = np.ones((4000, 6, 2), dtype=bool)
    mixture = Mixture((Random(1.0, 1.0), Random(0.0, 0.0), Forecast(1)), (1.0, 2.0, 1.0))
    sizes = mixture.draw(observed, np.random.default_rng(7)).sum((1, 2))
    for size, share in ((12, 0.25), (0, 0.5), (2, 0.25)):
        assert abs((sizes == size).mean() - share) < 4 * np.sqrt(0.25 / 4000)
    assert set(sizes) == {0, 2, 12}
    assert strategy_of("mix") == Mixture((Random(), Historical()))
    assert strategy_of("random") == Random()
    assert strategy_of(Point(0.2)) == Point(0.2)


def test_a_peer_defines_points_and_thresholds_alike():
    grinder = pytest.importorskip("pygrinder", reason="pip install pygrinder")
    values = np.random.default_rng(0).normal(size=(1, 4000, 3))
    observed = np.ones(values.shape, dtype=bool)
    theirs = np.isnan(grinder.mcar(values, 0.2))
    ours = Point(0.2).draw(observed, np.random.default_rng(7))
    assert abs(theirs.mean() - ours.mean()) < 4 * np.sqrt(2 * 0.16 / 12_000)
    theirs = np.isnan(grinder.mnar_x(values, offset=1.0))
    for k in range(3):  # above a threshold
        rate = theirs[..., k].mean()
        mine = ValueDependent(float(rate), 1e9).draw(
            observed[..., k : k + 1], np.random.default_rng(0), values[..., k : k + 1]
        )
        np.testing.assert_array_equal(mine[..., 0], theirs[..., k])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Point(1.2), "rate=1.2"),
        (lambda: Block(1.0), "rate=1.0"),
        (lambda: Block(0.1, 0, 3), "shortest=0"),
        (lambda: Blackout(0.1, 5, 3), "shortest=5"),
        (lambda: ValueDependent(0.0), "rate=0.0"),
        (lambda: Random(0.5, 0.4), "low=0.5"),
        (lambda: Forecast(0), "horizon=0"),
        (lambda: Mixture(()), "at least one"),
        (lambda: Mixture((Point(),), (1.0, 2.0)), "weights="),
        (lambda: strategy_of("randm"), "did you mean 'random'"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
