"""The course of the learning rate, and options that cannot be."""

import math
from typing import Any

import pytest

from ornstein.core.training import TrainingOptions, learning_rate_factor


def _course(max_steps: int, **options: Any) -> list[float]:
    chosen = TrainingOptions(**options)
    return [learning_rate_factor(step, chosen, max_steps) for step in range(max_steps)]


def test_warmup_is_linear_and_ends_at_the_peak() -> None:
    assert _course(10, schedule="constant", warmup=4) == [0.25, 0.5, 0.75] + [1.0] * 7
    assert _course(20, schedule="constant", warmup=0.1)[:3] == [0.5, 1.0, 1.0]
    assert _course(3, schedule="constant", warmup=0) == [1.0] * 3


def test_cosine_goes_from_the_peak_to_the_final_rate() -> None:
    course = _course(101, schedule="cosine", warmup=0, final_lr=0.1)
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(101)]
    assert course == pytest.approx(expected)
    assert course[0] == 1
    assert course[-1] == pytest.approx(0.1)


def test_linear_falls_by_equal_steps() -> None:
    assert _course(7, schedule="linear", warmup=2, final_lr=0.2) == pytest.approx([0.5, 1, 1, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 1, 5, 0.5])
@pytest.mark.parametrize("max_steps", [1, 2, 5])
def test_short_runs_have_rates_between_zero_and_one(schedule: str, warmup: float, max_steps: int) -> None:
    course = _course(max_steps + 3, schedule=schedule, warmup=warmup)
    assert all(0 <= factor <= 1 for factor in course)
    assert course[0] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": math.nan}, "lr must be positive"),
        ({"betas": (0.9, 1.0)}, "betas must lie in"),
        ({"schedule": "step"}, "schedule must be 'constant', 'cosine' or 'linear', got 'step'"),
        ({"warmup": 1.5}, "warmup must be an integer number of steps or a fraction"),
        ({"warmup": -1}, "warmup must not be negative"),
        ({"final_lr": 2.0}, "final_lr is a fraction"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative"),
        ({"sample_every": -1}, "sample_every must not be negative"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"num_samples": 0}, "num_samples must be at least 1"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options)
