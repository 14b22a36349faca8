"""Schedules of chains against exact numbers, autograd and the rates that their formulas state."""

import math

import pytest
import torch
from torch import Tensor

from ornstein.core.chains import UniformChain
from ornstein.core.masking_schedules import GeometricSchedule, PowerSchedule
from ornstein.core.schedules import Schedule

SCHEDULES: list[Schedule] = [
    PowerSchedule(),
    PowerSchedule(0.5),
    PowerSchedule(3.0),
    GeometricSchedule(),
    GeometricSchedule(0.01, 3.0),
]
TIMES = torch.tensor([1e-9, 1e-4, 0.1, 0.5, 0.9, 1 - 1e-6], dtype=torch.float64)


def close(actual: Tensor, expected: Tensor, rtol: float = 1e-12, atol: float = 0.0) -> None:
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_time_is_the_inverse(schedule: Schedule) -> None:
    close(schedule.time(schedule.log_snr(TIMES)), TIMES, 1e-12, 1e-14)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_derivatives_are_those_of_autograd(schedule: Schedule) -> None:
    times = TIMES[2:5]  # at the ends autograd of expm1 loses digits
    for value, slope in (("alpha", "d_alpha"), ("sigma", "d_sigma"), ("log_snr", "d_log_snr")):
        t = times.clone().requires_grad_()
        (found,) = torch.autograd.grad(getattr(schedule, value)(t).sum(), t)
        close(getattr(schedule, slope)(times), found, 1e-11)
    close(schedule.alpha(TIMES) ** 2 + schedule.sigma(TIMES) ** 2, torch.ones_like(TIMES))


def test_power_is_exact_near_the_end() -> None:
    """``1 - t^2`` at ``t = 1 - 2^-40`` is ``2^-39 - 2^-80``."""
    t = torch.tensor(1 - 2.0**-40, dtype=torch.float64)
    close(PowerSchedule(2.0).alpha(t) ** 2, torch.tensor(2.0**-39 - 2.0**-80, dtype=torch.float64))
    close(PowerSchedule().alpha(t) ** 2, torch.tensor(2.0**-40, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_ends_of_power(power: float, dtype: torch.dtype) -> None:
    schedule, ends = PowerSchedule(power), torch.tensor([0.0, 1.0], dtype=dtype)
    assert schedule.alpha(ends).tolist() == [1.0, 0.0]
    assert schedule.sigma(ends).tolist() == [0.0, 1.0]
    assert schedule.log_snr(ends).tolist() == [math.inf, -math.inf]
    assert schedule.time(torch.tensor([math.inf, -math.inf], dtype=dtype)).tolist() == [0.0, 1.0]
    # All that falls falls at the ends too: without bound where the logarithm or the root does.
    assert schedule.d_alpha(ends)[1] == -math.inf
    assert schedule.d_log_snr(ends).tolist() == [-math.inf, -math.inf]
    assert UniformChain(3, schedule).rate(ends)[1] == math.inf


def test_ends_of_geometric() -> None:
    schedule, ends = GeometricSchedule(1e-5, 20.0), torch.tensor([0.0, 1.0], dtype=torch.float64)
    close(-2 * schedule.alpha(ends).log(), torch.tensor([1e-5, 20.0], dtype=torch.float64), 1e-10)
    close(schedule.sigma(ends) ** 2, -torch.expm1(torch.tensor([-1e-5, -20.0], dtype=torch.float64)))
    close(schedule.time(schedule.log_snr(ends)) + 1, ends + 1)
    # Beyond float64's exponent of log-SNR there is a time, too.
    assert float(schedule.time(80.0)) == pytest.approx((-80 - math.log(1e-5)) / math.log(2e6), rel=1e-14)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_rates_of_chains(schedule: Schedule) -> None:
    """``-a' / a`` is ``p t^(p - 1) / (1 - t^p)``, and ``n'`` for ``a = exp(-n)``."""
    t = TIMES[2:5]
    if isinstance(schedule, PowerSchedule):
        expected = schedule.power * t ** (schedule.power - 1) / (1 - t**schedule.power)
    else:
        assert isinstance(schedule, GeometricSchedule)
        growth = math.log(schedule.high / schedule.low)
        expected = growth * schedule.low * (growth * t).exp()
    close(UniformChain(3, schedule).rate(t), expected, 1e-11)


@pytest.mark.parametrize("power", [0.0, -1.0, math.inf, math.nan])
def test_powers_that_are_none_are_refused(power: float) -> None:
    with pytest.raises(ValueError, match=r"power=.*: expected a positive number"):
        PowerSchedule(power)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (math.nan, 1.0), (0.1, math.inf)])
def test_noise_that_does_not_grow_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=r"low=.*: expected a positive number below high"):
        GeometricSchedule(low, high)
