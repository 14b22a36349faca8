"""Annealed Langevin dynamics: its moments by their recursion, technique 4, levels, counts."""

import math
from dataclasses import replace

import pytest
import torch

from ornstein.core import (
    SDE,
    AnnealedLangevin,
    CosineSchedule,
    FlowSchedule,
    GaussianDenoiser,
    Schedule,
    UniformLogSNR,
    UniformTime,
    VESchedule,
    VPSchedule,
)
from ornstein.core.testing import exact_moments, three_modes

RANGE = UniformLogSNR(-2 * math.log(10), -2 * math.log(0.05), clean=False)


@pytest.mark.parametrize("schedule", [VESchedule(), VPSchedule(), FlowSchedule()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("eta", [None, 0.02])
def test_moments_are_those_of_the_recursion(eta: float | None, schedule: Schedule) -> None:
    """On data N(0, l) a step at ratio r turns the variance v of x / alpha into (1 - h / w)^2 v + 2 h, w = l + r^2, h =
    eta r^2: iterated here for each eigenvalue.
    """
    process, spread = SDE(schedule), torch.tensor([2.0, 0.3, 0.01], dtype=torch.float64)
    denoiser = GaussianDenoiser(process, torch.zeros(3), spread.diag())
    sampler = AnnealedLangevin(8, corrections=4, eta=eta, grid=RANGE)
    ratios = torch.exp(-0.5 * process.schedule.log_snr(RANGE(8, process)))
    chosen = eta if eta is not None else float(sampler._eta(ratios[:1] / ratios[1:2])[0])
    v = spread + ratios[0] ** 2
    for r in ratios:
        for _ in range(4):
            h = chosen * r**2
            v = (1 - h / (spread + r**2)) ** 2 * v + 2 * h
    _, covariance = exact_moments(sampler, denoiser)
    end = process.level(RANGE(8, process)[-1])
    torch.testing.assert_close(covariance, (end.alpha**2 * v).diag(), rtol=1e-9, atol=1e-11)


def test_many_small_steps_reach_the_density() -> None:
    """Finite steps leave too much variance, few steps that of the noise before; both errors go."""
    process = SDE(VESchedule())
    denoiser = GaussianDenoiser(process, torch.zeros(1), 0.05 * torch.eye(1))
    truth = 0.05 + process.level(RANGE(1, process)[-1]).sigma ** 2

    def error(eta: float, corrections: int) -> float:
        sampler = AnnealedLangevin(20, corrections=corrections, eta=eta, grid=RANGE)
        return float(exact_moments(sampler, denoiser)[1]) / truth - 1

    assert error(0.5, 5) > 0.1
    assert error(0.05, 5) > 0.1
    assert abs(error(0.1, 100)) < 0.025


@pytest.mark.parametrize(("gamma", "steps", "bound"), [(1.1, 5, 0.12), (1.02, 5, 0.04), (1.02, 50, 0.02)])
def test_technique_four_keeps_the_variance_of_noise(gamma: float, steps: int, bound: float) -> None:
    """The variance that its eta leaves of noise, relative to the level's, is nearer 1 than that of twice or half."""

    def off(eta: float) -> float:
        v = gamma**2
        for _ in range(steps):
            v = (1 - eta) ** 2 * v + 2 * eta
        return abs(v - 1)

    eta = float(AnnealedLangevin(corrections=steps)._eta(torch.tensor([gamma], dtype=torch.float64))[0])
    assert off(eta) < min(off(2 * eta), off(eta / 2), bound)


@pytest.mark.parametrize("schedule", [VESchedule(), CosineSchedule(), FlowSchedule()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("grid", [UniformLogSNR(), UniformTime(), UniformTime(0.9, 0.1)], ids=str)
def test_declared_number_of_evaluations_seeds_and_singular_ends(grid: object, schedule: Schedule) -> None:
    denoiser = three_modes(SDE(schedule))
    calls: list[int] = []
    handle = denoiser.register_forward_hook(lambda *_: calls.append(1))
    for steps in (1, 2, 7):
        for denoise in (False, True):
            sampler = AnnealedLangevin(steps, corrections=3, denoise=denoise, grid=grid)  # type: ignore[arg-type]
            calls.clear()
            together = sampler.sample(denoiser, (4, 2), seed=3)
            assert len(calls) == sampler.nfe(process=denoiser.process)
            assert together.isfinite().all()
            alone = torch.cat([sampler.sample(denoiser, (1, 2), seed=3, first=i) for i in range(4)])
            torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    handle.remove()


def test_final_denoising_is_the_posterior_mean() -> None:
    denoiser = three_modes(SDE(VESchedule()))
    sampler = AnnealedLangevin(5, corrections=2)
    noisy = sampler.sample(denoiser, (4, 2), seed=0)
    last = sampler.route(denoiser.process)[-1].item()
    clean = replace(sampler, denoise=True).sample(denoiser, (4, 2), seed=0)
    torch.testing.assert_close(clean, denoiser(noisy, last).mean)


@pytest.mark.parametrize(
    ("options", "message"), [({"corrections": 0}, "corrections=0"), ({"eta": 1.5}, r"eta=1\.5"), ({"eta": 0}, "eta=0")]
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnnealedLangevin(**options)  # type: ignore[arg-type]
