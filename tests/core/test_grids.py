"""Where grids put their times; the contract they share is in conformance."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein.core import (
    SDE,
    CosineSchedule,
    EDMSchedule,
    FlowSchedule,
    Grid,
    Karras,
    PolynomialSchedule,
    PowerTime,
    Quadratic,
    Schedule,
    SubVPSchedule,
    TableSchedule,
    Times,
    UniformLogSNR,
    UniformTime,
    VESchedule,
    VPSchedule,
    ZeroTerminalSNR,
)

SCHEDULES: list[Schedule] = [VPSchedule(), SubVPSchedule(), CosineSchedule(), EDMSchedule(200.0), FlowSchedule(),
                             TableSchedule.linear(), ZeroTerminalSNR(VPSchedule())]  # fmt: skip


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_uniform_and_quadratic_times() -> None:
    process = SDE(FlowSchedule())
    close(UniformTime()(4, process), torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64))
    close(UniformTime(0.9, 0.1)(2, process), torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64))
    close(Quadratic()(4, process), torch.tensor([1, 0.5625, 0.25, 0.0625, 0], dtype=torch.float64))
    close(Quadratic(0.5)(2, process), torch.tensor([0.5, 0.125, 0], dtype=torch.float64))
    assert UniformTime()(3, process)[-1] == 0
    assert Quadratic()(3, process)[-1] == 0


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: repr(s)[:40])
def test_log_snr_is_evenly_spaced_under_every_schedule(schedule: Schedule) -> None:
    process = SDE(schedule)
    times = UniformLogSNR(-7.0, 9.0)(10, process)
    assert times[-1] == 0
    close(schedule.log_snr(times[:-1]), torch.linspace(-7, 9, 10, dtype=torch.float64), 1e-10)
    stopped = UniformLogSNR(-7.0, 9.0, clean=False)(10, process)
    close(schedule.log_snr(stopped), torch.linspace(-7, 9, 11, dtype=torch.float64), 1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: repr(s)[:40])
def test_karras_is_edm_eq_5_under_every_schedule(schedule: Schedule) -> None:
    low, high, rho, n = 0.01, 40.0, 7.0, 12
    i = torch.arange(n, dtype=torch.float64)
    sigmas = (high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    times = Karras(low, high, rho)(n, SDE(schedule))
    assert times[-1] == 0
    close(schedule.sigma(times[:-1]) / schedule.alpha(times[:-1]), sigmas, 1e-10)


def test_karras_is_that_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers gives the reference: pip install diffusers")
    theirs = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    theirs.set_timesteps(18)
    times = Karras()(18, SDE(EDMSchedule(80.0)))
    np.testing.assert_allclose((80 * times).numpy(), theirs.sigmas.double().numpy(), rtol=1e-6, atol=0)


def test_ranges_are_cut_to_what_the_schedule_covers() -> None:
    schedule = VESchedule(0.01, 50.0)
    for grid in (UniformLogSNR(-100.0, 100.0), Karras(1e-6, 1e6)):
        times = grid(8, SDE(schedule))
        assert times[0] == pytest.approx(1.0, abs=1e-12)
        assert times[-1] == pytest.approx(0.0, abs=1e-12)
        assert len(set(times.tolist())) == 9
    # Polynomial keeps signal at the end and noise at the start; cosine neither, so that the bound is the grid's.
    polynomial = UniformLogSNR(-100.0, 100.0)(3, SDE(PolynomialSchedule()))
    assert polynomial[0] == pytest.approx(1.0, abs=1e-12)
    assert CosineSchedule().log_snr(UniformLogSNR()(3, SDE(CosineSchedule()))[0]).item() == pytest.approx(-10)


def test_one_step() -> None:
    process = SDE(FlowSchedule())
    close(UniformLogSNR(-8.0, 8.0)(1, process), torch.tensor([1 / (1 + math.exp(-4)), 0.0], dtype=torch.float64))
    close(Karras(0.1, 9.0)(1, process), torch.tensor([0.9, 0.0], dtype=torch.float64))


def test_no_overlap_is_an_error() -> None:
    process = SDE(VESchedule(0.01, 50.0))
    for grid in (UniformLogSNR(20.0, 30.0), Karras(100.0, 200.0)):
        with pytest.raises(ValueError, match=r"covers -7\.824 to 9\.21 only"):
            grid(5, process)


def test_times_are_given() -> None:
    process, grid = SDE(FlowSchedule()), Times((1.0, 0.3, 0.0))
    close(grid(2, process), torch.tensor([1.0, 0.3, 0.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="steps=3: this grid has 3 times, for steps=2"):
        grid(3, process)
    with pytest.raises(ValueError, match=r"times must fall, but number 1 is 0\.3 and the next 0\.3"):
        Times((1.0, 0.3, 0.3))(2, process)


def test_a_grid_of_somebody_else_is_checked() -> None:
    class Rising(Grid):
        def times(self, steps: int, process: SDE) -> Tensor:
            return torch.linspace(0, 1, steps + 1, dtype=torch.float64)

    class Broken(Grid):
        def times(self, steps: int, process: SDE) -> Tensor:
            return torch.full((steps + 1,), math.nan, dtype=torch.float64)

    class Short(Grid):
        def times(self, steps: int, process: SDE) -> Tensor:
            return torch.linspace(1, 0, steps, dtype=torch.float64)

    class Outside(Grid):
        def times(self, steps: int, process: SDE) -> Tensor:
            return torch.linspace(1.5, 0, steps + 1, dtype=torch.float64)

    for grid, message in ((Rising(), "must fall"), (Broken(), "must fall"), (Short(), "6 times"), (Outside(), "0, 1")):
        with pytest.raises(ValueError, match=message):
            grid(5, SDE(FlowSchedule()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniformTime(0.5, 0.5), "start=0.5"),
        (lambda: UniformTime(1.1), "start=1.1"),
        (lambda: UniformTime(1.0, -0.1), "stop=-0.1"),
        (lambda: Quadratic(0.0), "start=0.0"),
        (lambda: UniformLogSNR(3.0, 3.0), "high=3.0"),
        (lambda: Karras(0.0), "sigma_min=0.0"),
        (lambda: Karras(3.0, 2.0), "sigma_max=2.0"),
        (lambda: Karras(rho=0.0), "rho=0.0"),
        (lambda: Times((1.0,)), "values"),
        (lambda: Times((1.5, 0.0)), "values"),
        (lambda: Times((1.0, math.nan)), "values"),
    ],
)
def test_bad_arguments_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        make()  # type: ignore[operator]


def test_power_time_has_the_levels_of_its_reference() -> None:
    whole = SDE(TableSchedule.linear())
    flow = PowerTime()(8, SDE(FlowSchedule()))
    start = 1 / (1 + math.exp(-5.5))  # where rectified flow has log-SNR -11
    even = torch.linspace(start ** (1 / 1.5), 0, 9, dtype=torch.float64) ** 1.5
    torch.testing.assert_close(flow, even, rtol=0, atol=1e-12)
    levels = whole.schedule.log_snr(PowerTime()(8, whole)[1:-1])
    held = float(FlowSchedule().time(whole.schedule.log_snr(torch.ones((), dtype=torch.float64))))  # starts above -11
    even = torch.linspace(held ** (1 / 1.5), 0, 9, dtype=torch.float64) ** 1.5
    torch.testing.assert_close(levels, FlowSchedule().log_snr(even[1:-1]), rtol=0, atol=1e-9)


def test_power_time_gives_ddims_quadratic_times() -> None:
    process = SDE(VPSchedule())
    torch.testing.assert_close(
        PowerTime(2.0, VPSchedule(), None)(10, process), Quadratic()(10, process), rtol=0, atol=1e-9
    )


def test_power_time_refuses_a_reference_or_a_start_that_is_none() -> None:
    with pytest.raises(ValueError, match="clean data"):
        PowerTime(reference=VESchedule())
    with pytest.raises(ValueError, match="start"):
        PowerTime(start=None)  # rectified flow has no finite level at t = 1
    with pytest.raises(ValueError, match="start"):
        PowerTime(2.0, VPSchedule(), -20.0)
