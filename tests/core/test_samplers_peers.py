"""Samplers against other packages: the same noise, model outputs and noise levels give the same trajectories."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    DDIM,
    DDPM,
    SDE,
    DPMSolver,
    EDMSchedule,
    Euler,
    Heun,
    Karras,
    NoiseSource,
    Sampler,
    SampleStep,
    TableSchedule,
    Times,
)
from ornstein.core.noise import NoiseStream
from ornstein.core.testing import three_modes

diffusers = pytest.importorskip("diffusers", reason="comparison with diffusers: pip install 'ornstein[dev]'")

PROCESS = SDE(TableSchedule.linear())
TABLE = PROCESS.schedule.alpha(torch.arange(1, 1001, dtype=torch.float64) / 1000) ** 2  # alpha_bar of the indices
DENOISER = three_modes(PROCESS)


def exact_eps(x: Tensor, alpha_bar: float) -> Tensor:
    """The exact noise prediction at a noise level, for a state at the variance-preserving scale."""
    t = float(PROCESS.schedule.time(math.log(alpha_bar) - math.log1p(-alpha_bar)))
    return DENOISER(x.double(), t).eps.to(x.dtype)


def trajectory(sampler: Sampler, x: Tensor, noise: NoiseSource | None = None) -> list[Tensor]:
    """The states after each step, starting from ``x``."""
    states: list[SampleStep] = []
    sampler.sample(DENOISER, x.shape, x=x, noise=noise, callback=states.append)
    return [step.x for step in states]


def times_of(alpha_bars: list[float]) -> Times:
    """The grid with these noise levels, and clean data at the end."""
    values = torch.tensor(alpha_bars, dtype=torch.float64)
    times = PROCESS.schedule.time(values.log() - torch.log1p(-values)).tolist()
    return Times((*times, 0.0))


def in_double(scheduler: Any) -> Any:
    """Put diffusers' float32 tables into float64, where it lets us."""
    scheduler.alphas_cumprod = TABLE.clone()
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    scheduler.one = torch.ones((), dtype=torch.float64)
    scheduler.alphas = TABLE / torch.cat([torch.ones(1, dtype=torch.float64), TABLE[:-1]])
    scheduler.betas = 1 - scheduler.alphas
    return scheduler


def start(dtype: torch.dtype) -> Tensor:
    return torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(dtype)


def relative(ours: list[Tensor], theirs: list[Tensor]) -> float:
    assert len(ours) == len(theirs)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs))


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_ddim(dtype: torch.dtype, tolerance: float, steps: int, spacing: str) -> None:
    scheduler = diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=False, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    # Its own "previous" step is the index minus a stride; what lies before index 0 is clean data.
    indices = scheduler.timesteps.tolist()
    x, theirs = start(dtype), []
    if dtype == torch.float64:
        in_double(scheduler)
    for i in indices:
        x = scheduler.step(exact_eps(x, float(TABLE[i])), i, x).prev_sample
        theirs.append(x)
    grid = Times((*[(i + 1) / 1000 for i in indices], 0.0))
    assert relative(trajectory(DDIM(steps, grid=grid), start(dtype)), theirs) < tolerance


def _run(scheduler: Any, x: Tensor) -> tuple[list[Tensor], list[float]]:
    """A trajectory of a scheduler that works with noise ratios, at the variance-preserving scale, and its noise
    ratios.
    """
    sigmas = [float(s) for s in scheduler.sigmas]
    levels = [1 / (1 + s * s) for s in sigmas]
    states, exploding = [], x / levels[0] ** 0.5
    for i, t in enumerate(scheduler.timesteps):
        level = levels[i]
        eps = exact_eps(exploding * level**0.5, level)
        exploding = scheduler.step(eps, t, exploding).prev_sample
        states.append(exploding * levels[i + 1] ** 0.5)
    return states, levels


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_euler(dtype: torch.dtype, tolerance: float, karras: bool) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(beta_start=1e-4, beta_end=0.02, use_karras_sigmas=karras)
    scheduler.set_timesteps(20)
    scheduler.sigmas = scheduler.sigmas.double() if dtype == torch.float64 else scheduler.sigmas
    x = start(dtype)
    theirs, levels = _run(_uncast(scheduler, dtype), x)
    assert relative(trajectory(Euler(20, grid=times_of(levels[:-1])), x), theirs) < tolerance


def _uncast(scheduler: Any, dtype: torch.dtype) -> Any:
    """Some of diffusers' ``step`` put the state into float32; in float64 that is left out."""
    if dtype == torch.float64:
        step = scheduler.step

        def in_float64(output: Tensor, t: Tensor, sample: Tensor) -> Any:
            original = Tensor.to
            try:
                Tensor.to = lambda self, *a, **k: self if a == (torch.float32,) else original(self, *a, **k)  # type: ignore[method-assign]
                return step(output, t, sample)
            finally:
                Tensor.to = original  # type: ignore[method-assign]

        scheduler.step = in_float64
    return scheduler


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-9)])
def test_heun(dtype: torch.dtype, tolerance: float) -> None:
    scheduler = diffusers.HeunDiscreteScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    scheduler.set_timesteps(20)
    # Every level but the first and the last stands twice: for the slope at a step's end and at the next one's start.
    scheduler.sigmas = scheduler.sigmas.to(dtype)
    x = start(dtype)
    states, levels = _run(scheduler, x)
    grid = times_of([levels[0], *levels[2:-1:2]])
    # The state after both of a step's evaluations is every second one; the last step has one evaluation.
    theirs = [*states[1::2], states[-1]]
    assert relative(trajectory(Heun(20, grid=grid, bounded=False), x), theirs) < tolerance


@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.parametrize("kind", ["midpoint", "heun"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-9)])
def test_dpm_solver_2m(dtype: torch.dtype, tolerance: float, kind: str, karras: bool) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_start=1e-4, beta_end=0.02, solver_order=2, solver_type=kind, use_karras_sigmas=karras
    )
    scheduler.set_timesteps(20)
    scheduler.sigmas = scheduler.sigmas.to(dtype)
    _uncast(scheduler, dtype)
    x, theirs = start(dtype), []
    levels = [1 / (1 + float(s) ** 2) for s in scheduler.sigmas]
    y = x
    for i, t in enumerate(scheduler.timesteps):
        y = scheduler.step(exact_eps(y, levels[i]), t, y).prev_sample
        theirs.append(y)
    sampler = DPMSolver(20, form="paper" if kind == "midpoint" else "exact", grid=times_of(levels[:-1]))
    assert relative(trajectory(sampler, x), theirs) < tolerance


def test_dpm_solver_3m_as_released() -> None:
    """With 20 steps diffusers does not lower the order but at the end; its second step is of the other second-order
    form.
    """
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_start=1e-4, beta_end=0.02, solver_order=3, solver_type="heun", use_karras_sigmas=True
    )
    scheduler.set_timesteps(20)
    levels = [1 / (1 + float(s) ** 2) for s in scheduler.sigmas]
    x, theirs = start(torch.float32), []
    y = x
    for i, t in enumerate(scheduler.timesteps):
        y = scheduler.step(exact_eps(y, levels[i]), t, y).prev_sample
        theirs.append(y)
    sampler = DPMSolver(20, order=3, form="released", grid=times_of(levels[:-1]))
    assert relative(trajectory(sampler, x), theirs) < 2e-5


class _Replayed(NoiseSource):
    """The draws that another package made."""

    def __init__(self, draws: list[Tensor]) -> None:
        self.draws = draws

    def begin(self, batch: int, first: int) -> NoiseStream:
        draws = iter(self.draws)

        class Stream(NoiseStream):
            def draw(self, like: Tensor) -> Tensor:
                return next(draws)

            def step(self, like: Tensor, t: float, s: float) -> Tensor:
                return next(draws)

        return Stream()


@pytest.mark.parametrize(("variance", "theirs_named"), [("small", "fixed_small"), ("large", "fixed_large")])
def test_ddpm(variance: Any, theirs_named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = diffusers.DDPMScheduler(clip_sample=False, variance_type=theirs_named, timestep_spacing="leading")
    scheduler.set_timesteps(25)
    draws = [torch.randn(16, 2) for _ in range(25)]
    left = iter(draws)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, **k: next(left))
    x, theirs = start(torch.float32), []
    y = x
    for t in scheduler.timesteps.tolist():
        y = scheduler.step(exact_eps(y, float(TABLE[t])), t, y).prev_sample
        theirs.append(y)
    grid = Times((*[(t + 1) / 1000 for t in scheduler.timesteps.tolist()], 0.0))
    ours = trajectory(DDPM(25, variance=variance, grid=grid), x, _Replayed(draws))
    assert relative(ours, theirs) < 1e-5


def test_karras_levels() -> None:
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    scheduler.set_timesteps(18)
    process = SDE(EDMSchedule(80.0))
    ours = process.schedule.sigma(Karras()(18, process))
    torch.testing.assert_close(ours.float(), scheduler.sigmas.float(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("sampler", [DDIM(), Heun(), DPMSolver(), DPMSolver(order=3)])
def test_quality_at_ten_evaluations_is_no_worse_than_ddim_there(sampler: Sampler) -> None:
    """On the default grid, distance to the exact end of the ODE at about ten evaluations is bounded by DDIM's and a
    half.
    """
    x = start(torch.float64)
    exact = DPMSolver(2000, order=3).sample(DENOISER, x.shape, x=x)
    sampler = replace(sampler, steps=10 if sampler.nfe(10) <= 11 else 5)
    ours = (sampler.sample(DENOISER, x.shape, x=x) - exact).pow(2).mean().sqrt()
    ddim = (DDIM(10).sample(DENOISER, x.shape, x=x) - exact).pow(2).mean().sqrt()
    assert ours < 1.5 * ddim
