"""Each kind of bad windows is told by the figure that is for it; closed forms where there are any."""

import numpy as np
import pytest
import torch

from ornstein.domains.timeseries.judges.generation import (
    discriminative_score,
    linear_predictive_score,
    moment_differences,
    predictive_score,
)


def waves(seed, count, noise=0.1):
    """Two sines of a common phase, the second ahead by a quarter."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * np.arange(12) / 8 + rng.uniform(0, 2 * np.pi, (count, 1))
    return np.stack([np.sin(angle), np.cos(angle)], 2) + noise * rng.standard_normal((count, 12, 2))


def shuffled(windows, seed=0):
    """The same values, in the wrong order."""
    return np.random.default_rng(seed).permuted(windows, axis=1)


def test_a_classifier_tells_shuffled_windows_and_not_real_ones():
    """200 windows are tested: by chance the score is within 0.1 with three deviations."""
    real = waves(0, 500)
    assert discriminative_score(waves(1, 500), real, steps=150) < 0.11
    assert discriminative_score(shuffled(waves(1, 500)), real, steps=150) > 0.35


def test_what_windows_teach_is_what_they_know():
    real, same = waves(0, 400), waves(1, 400)
    floor, dull = (predictive_score(w, real, steps=250) for w in (same, shuffled(same)))
    assert floor < 0.3
    assert dull > 1.5 * floor
    assert linear_predictive_score(same, real, horizon=4) < 0.5 * linear_predictive_score(
        shuffled(same), real, horizon=4
    )


def test_the_linear_score_is_exact_ridge():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 30, 6, 2))
    past, future = x[:, :4].reshape(30, -1), x[:, 4:].reshape(30, -1)
    centred = past - past.mean(0)
    weights = np.linalg.solve(centred.T @ centred + 3 * np.eye(8), centred.T @ (future - future.mean(0)))
    predicted = (y[:, :4].reshape(30, -1) - past.mean(0)) @ weights + future.mean(0)
    wanted = y[:, 4:].reshape(30, -1)
    expected = np.abs(predicted - wanted).sum() / np.abs(wanted).sum()
    assert linear_predictive_score(x, y, horizon=2, ridge=3.0) == pytest.approx(expected, rel=1e-5)  # float32 windows


def test_moments_by_closed_forms():
    """An AR(1) of 0.8 against noise: autocorrelations differ by 0.8^h; a shift by its size; correlation of a copy."""
    rng = np.random.default_rng(3)
    real = rng.standard_normal((4000, 8, 1))
    walk = real.copy()
    for step in range(1, 8):
        walk[:, step] = 0.8 * walk[:, step - 1] + 0.6 * real[:, step]
    found = moment_differences(walk, real, lags=3)
    assert found["autocorrelation"] == pytest.approx(np.mean([0.8, 0.64, 0.512]), abs=0.02)
    assert found["marginal"] < 0.02
    assert "correlation" not in found
    assert moment_differences(real + 1, 0 + real)["marginal"] == pytest.approx(1 / real.std(), rel=1e-3)
    wide = moment_differences(2 * real, real)["marginal"]
    assert wide == pytest.approx(np.sqrt(2 / np.pi), abs=0.02)  # E|Z|
    twice = np.concatenate([real, real], 2), np.concatenate([real, rng.standard_normal(real.shape)], 2)
    assert moment_differences(*twice)["correlation"] == pytest.approx(1, abs=0.03)


def test_seeds_decide_and_the_global_state_stays():
    a, b = waves(0, 60), waves(1, 60)
    before = torch.get_rng_state()
    scores = [predictive_score(a, b, steps=20, seed=seed) for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]
    assert discriminative_score(a, b, steps=20) == discriminative_score(torch.tensor(a), torch.tensor(b), steps=20)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: discriminative_score(x[:5], x), ValueError, "synthetic='5 windows': expected at least 10"),
        (lambda x: predictive_score(x[:, :, :1], x), ValueError, "shape of synthetic"),
        (lambda x: predictive_score(x[:, :1], x[:, :1]), ValueError, "at least 2"),
        (lambda x: moment_differences(x * np.nan, x), ValueError, "synthetic holds missing or infinite"),
        (lambda x: moment_differences(x, x, lags=12), ValueError, "lags=12: expected 0 to 11"),
        (lambda x: moment_differences(x, x * 0), ValueError, "constant variable"),
        (lambda x: linear_predictive_score(x, x, horizon=12), ValueError, "horizon=12: expected 1 to 11"),
        (lambda x: linear_predictive_score(x, x[0], horizon=2), ValueError, "shape of real"),
        (lambda x: predictive_score("x", x), TypeError, "synthetic must be an array"),
        (lambda x: predictive_score(x, x, steps=0), ValueError, "steps=0"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(waves(0, 20))
