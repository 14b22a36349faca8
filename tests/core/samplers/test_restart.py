"""Restart: the order of its times, its noise, its counts, and that errors shrink."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    DDIM,
    DDPM,
    RK45,
    SDE,
    CosineSchedule,
    DPMSolver,
    EDMSchedule,
    FlowSchedule,
    Heun,
    Karras,
    Restart,
    RestartInterval,
    RungeKutta,
    Schedule,
    SeededNoise,
    Times,
    UniformLogSNR,
    VESchedule,
    VPSchedule,
)
from ornstein.core.config import from_config, to_config
from ornstein.core.testing import anisotropic_gaussian, exact_moments, three_modes

INTERVALS = (RestartInterval(0.1, 0.5, repeats=2, steps=3), RestartInterval(1.0, 4.0, repeats=1, steps=2))
WRAPPED = [Heun(), DDIM(), DPMSolver(order=3), RungeKutta(method="midpoint")]
SCHEDULES: list[Schedule] = [VPSchedule(), VESchedule(), FlowSchedule(), CosineSchedule()]


def name(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_route_rises_as_often_as_it_should(schedule: Schedule) -> None:
    process = SDE(schedule)
    times = Restart(6, intervals=INTERVALS).route(process)
    ratio = (-0.5 * schedule.log_snr(times)).exp()
    up = ratio[1:] > ratio[:-1]
    assert int(up.sum()) == 3
    torch.testing.assert_close(ratio[:-1][up], torch.tensor([1.0, 0.1, 0.1], dtype=torch.float64))
    torch.testing.assert_close(ratio[1:][up], torch.tensor([4.0, 0.5, 0.5], dtype=torch.float64))
    # The main walk's six steps, one more for each new level, and the ways up and back.
    assert len(times) - 1 == 6 + 2 + 1 * (1 + 2) + 2 * (1 + 3)


def test_a_level_of_the_grid_is_not_repeated() -> None:
    process, grid = SDE(EDMSchedule()), Karras()
    levels = process.schedule.sigma(grid(10, process)).tolist()
    sampler = Restart(10, grid=grid, intervals=(RestartInterval(levels[6], levels[4], 1, 2),))
    assert len(sampler.route(process)) - 1 == 10 + 3


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
@pytest.mark.parametrize("wrapped", WRAPPED, ids=name)
def test_declared_number_of_evaluations(wrapped: object, schedule: Schedule, steps: int) -> None:
    denoiser = three_modes(SDE(schedule))
    calls: list[int] = []
    denoiser.register_forward_hook(lambda *_: calls.append(1))
    for denoise in (False, True):
        sampler = Restart(steps, sampler=wrapped, intervals=INTERVALS, denoise=denoise)  # type: ignore[arg-type]
        calls.clear()
        out = sampler.sample(denoiser, (3, 2), seed=0)
        other = replace(sampler, steps=9)
        assert len(calls) == sampler.nfe(process=denoiser.process) == other.nfe(steps, denoiser.process)
        if isinstance(schedule, CosineSchedule):
            assert len(calls) == sampler.nfe()
        assert out.isfinite().all()


@pytest.mark.parametrize("wrapped", WRAPPED, ids=name)
def test_walks_are_those_of_the_sampler_with_the_forward_process_between(wrapped: object) -> None:
    """A run by hand: the wrapped sampler's runs over each falling part, started anew after each rise."""
    process = SDE(CosineSchedule())
    denoiser = three_modes(process)
    sampler = Restart(6, sampler=wrapped, intervals=INTERVALS)  # type: ignore[arg-type]
    x, steps = torch.randn(4, 2, dtype=torch.float64), []
    out = sampler.sample(denoiser, x.shape, x=x, seed=5, callback=steps.append)
    times = sampler.route(process).tolist()
    noise, walk = SeededNoise(5).begin(4, 0), [times[0]]
    for t, s in pairwise(times):
        if s < t:
            walk.append(s)
            continue
        part = replace(wrapped, steps=len(walk) - 1, grid=Times(tuple(walk)))  # type: ignore[type-var]
        x = part.sample(denoiser, x.shape, x=x)
        start, end = process.level(t), process.level(s)
        k = end.alpha / start.alpha
        x = k * x + math.sqrt(end.sigma**2 - (k * start.sigma) ** 2) * noise.draw(x)
        walk = [s]
    x = replace(wrapped, steps=len(walk) - 1, grid=Times(tuple(walk))).sample(denoiser, x.shape, x=x)  # type: ignore[type-var]
    torch.testing.assert_close(out, x, rtol=1e-10, atol=1e-10)
    assert all(step.s < step.t for step in steps)


@pytest.mark.parametrize("schedule", [CosineSchedule(), EDMSchedule()], ids=name)
def test_exact_moments_and_the_errors_that_a_restart_removes(schedule: Schedule) -> None:
    """A coarse walk to the interval errs; restarts with fine steps contract the error, the more the more repeats."""
    process = SDE(schedule)
    denoiser = anisotropic_gaussian(process)
    grid = UniformLogSNR(-2 * math.log(10), -2 * math.log(0.05), clean=False)
    end = process.level(grid(1, process)[-1])
    truth = end.alpha**2 * denoiser.covariance + end.sigma**2 * torch.eye(3, dtype=torch.float64)

    def error(sampler: object) -> float:
        _, covariance = exact_moments(sampler, denoiser)  # type: ignore[arg-type]
        return float((covariance - truth).abs().max() / truth.abs().max())

    once, often = (
        error(Restart(8, sampler=DDIM(), grid=grid, intervals=(RestartInterval(0.06, 6.0, k, 80),))) for k in (1, 4)
    )
    assert often < once < 0.5 * error(DDIM(8, grid=grid))
    assert often < 0.1


def test_seeds_and_configuration() -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    sampler = Restart(5, intervals=INTERVALS, sampler=DPMSolver(order=2))
    together = sampler.sample(denoiser, (4, 2), seed=3)
    alone = torch.cat([sampler.sample(denoiser, (1, 2), seed=3, first=i) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert from_config(to_config(sampler)) == sampler


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RestartInterval(0.5, 0.1), "r_max=0.1: expected a noise level above r_min=0.5"),
        (lambda: RestartInterval(0.1, 0.5, 0), "repeats=0"),
        (lambda: Restart(sampler=DDPM()), "sampler=DDPM.*deterministic"),
        (lambda: Restart(sampler=RK45()), "sampler=RK45.*steps of its own"),
        (lambda: Restart(intervals=()), r"intervals=\(\)"),
        (
            lambda: Restart(intervals=(RestartInterval(0.001, 0.5),)).sample(three_modes(SDE(VESchedule())), (2, 2)),
            r"intervals=.*r_min and r_max between the grid's 0\.01 and",
        ),
    ],
)
def test_impossible_options(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_state_after_a_rise_has_the_forward_marginal() -> None:
    """On exact data at r_min the state at r_max has the exact variance."""
    process = SDE(VESchedule())
    denoiser = anisotropic_gaussian(process)
    sampler = Restart(intervals=(RestartInterval(0.1, 0.5),))
    t, s = (float(process.schedule.time(-2 * math.log(r))) for r in (0.1, 0.5))
    x, z = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    out: Tensor = sampler.step(denoiser, x, t, s, noise=z)
    torch.testing.assert_close(out, x + math.sqrt(0.25 - 0.01) * z)
