"""One step of the ODE against the samplers' and its own orders, downwards and upwards, with a time a sample."""

import math

import pytest
import torch

from ornstein.core import DDIM, SDE, CosineSchedule, EDMSchedule, FlowSchedule, Schedule, VESchedule
from ornstein.core.ode_steps import ode_step
from ornstein.core.testing import anisotropic_gaussian, three_modes

SCHEDULES = [CosineSchedule(), FlowSchedule(), VESchedule(), EDMSchedule()]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
X = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@each_schedule
def test_eulers_step_is_ddims(schedule: Schedule) -> None:
    denoiser = three_modes(SDE(schedule))
    for t, s in ((0.9, 0.4), (0.4, 0.0), (1.0, 0.7)):
        step = ode_step(denoiser, X, t, s, "euler")
        torch.testing.assert_close(step, DDIM().step(denoiser, X, t, s), rtol=1e-12, atol=1e-12)


@each_schedule
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_a_time_a_sample_is_a_step_of_its_own(schedule: Schedule, solver: str) -> None:
    denoiser = three_modes(SDE(schedule))
    t = torch.tensor([0.9, 0.6, 0.3, 1.0], dtype=torch.float64)
    s = torch.tensor([0.5, 0.59, 0.0, 0.9], dtype=torch.float64)
    together = ode_step(denoiser, X, t, s, solver)  # type: ignore[arg-type]
    assert together.isfinite().all()
    for i in range(4):
        alone = ode_step(denoiser, X[i : i + 1], float(t[i]), float(s[i]), solver)  # type: ignore[arg-type]
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-11, atol=1e-11)


@each_schedule
@pytest.mark.parametrize(("solver", "order"), [("euler", 2), ("heun", 3)])
@pytest.mark.parametrize("direction", [-1, 1])
def test_the_local_error_is_of_the_solvers_order(schedule: Schedule, solver: str, order: int, direction: int) -> None:
    """Against the exact flow of a Gaussian, for noise ratios a step apart in either direction."""
    denoiser = anisotropic_gaussian(SDE(schedule))
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    errors = []
    for step in (0.1, 0.05, 0.025):
        t, s = (
            float(schedule.time(torch.tensor(-2 * math.log(r), dtype=torch.float64))) for r in (1, 1 + direction * step)
        )
        exact = denoiser.flow(x, t, s)
        errors.append(float((ode_step(denoiser, x, t, s, solver) - exact).abs().max()))  # type: ignore[arg-type]
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.15)


def test_padding_stays_at_zero() -> None:
    keep = torch.tensor([[1.0, 0.0]] * 4, dtype=torch.float64)
    for solver in ("euler", "heun"):
        out = ode_step(three_modes(SDE(CosineSchedule())), X * keep, 0.6, 0.4, solver, keep)  # type: ignore[arg-type]
        assert (out[:, 1] == 0).all()
        assert (out[:, 0] != 0).all()
