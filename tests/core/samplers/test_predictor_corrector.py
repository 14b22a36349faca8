"""Predictor-corrector sampling: its predictors exactly, the corrector by its recursion and by Monte Carlo, counts."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    DDPM,
    SDE,
    CosineSchedule,
    EDMSchedule,
    FlowSchedule,
    PredictorCorrector,
    Schedule,
    SubVPSchedule,
    UniformLogSNR,
    UniformTime,
    VESchedule,
    VPSchedule,
)
from ornstein.core.testing import anisotropic_gaussian, convergence_order, exact_moments, three_modes

LOW = UniformLogSNR(-2 * math.log(10), -2 * math.log(0.05), clean=False)
SCHEDULES: list[Schedule] = [VPSchedule(), VESchedule(), SubVPSchedule(), FlowSchedule()]


def named(value: object) -> str:
    return type(value).__name__ if isinstance(value, Schedule) else str(value)


@pytest.mark.parametrize("schedule", [CosineSchedule(), EDMSchedule(), FlowSchedule()], ids=named)
@pytest.mark.parametrize("predictor", ["reverse_diffusion", "ancestral", "euler"])
def test_exact_moments_of_the_predictors(predictor: str, schedule: Schedule) -> None:
    process = SDE(schedule)
    denoiser = anisotropic_gaussian(process)
    end = process.level(LOW(1, process)[-1])
    truth = end.alpha**2 * denoiser.covariance + end.sigma**2 * torch.eye(3, dtype=torch.float64)
    sampler = PredictorCorrector(predictor=predictor, corrections=0, grid=LOW)  # type: ignore[arg-type]
    errors = []
    for steps in (160, 320):
        mean, covariance = exact_moments(replace(sampler, steps=steps), denoiser)
        errors.append(float((covariance - truth).abs().max() / truth.abs().max()))
        assert (mean - end.alpha * denoiser.mean).abs().max() < 20 / steps
    assert convergence_order(errors) == pytest.approx(1, abs=0.15)


def test_ancestral_predictor_is_ddpm() -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    one = PredictorCorrector(20, predictor="ancestral", corrections=0).sample(denoiser, (8, 2), seed=1)
    torch.testing.assert_close(one, DDPM(20).sample(denoiser, (8, 2), seed=1), rtol=1e-5, atol=1e-5)


def test_reverse_diffusion_as_published() -> None:
    """Song's eqs. 46 and 47 for one step: (2 - sqrt(1 - b)) x + b s + sqrt(b) z, and x + (d var) s + sqrt(d var) z."""
    x, z = (torch.randn(6, 3, dtype=torch.float64) for _ in range(2))
    sampler = PredictorCorrector(predictor="reverse_diffusion", corrections=0)
    for schedule in (VPSchedule(), VESchedule()):
        denoiser, t, s = anisotropic_gaussian(SDE(schedule)), 0.5, 0.49
        score = denoiser(x, t).score
        start, end = denoiser.process.level(t), denoiser.process.level(s)
        if isinstance(schedule, VESchedule):
            added = start.sigma**2 - end.sigma**2
            expected = x + added * score + added**0.5 * z
        else:
            beta = 1 - (start.alpha / end.alpha) ** 2
            expected = (2 - (1 - beta) ** 0.5) * x + beta * score + beta**0.5 * z
        torch.testing.assert_close(sampler.step(denoiser, x, t, s, noise=z), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rule", ["norms", "level"])
def test_corrector_is_a_langevin_step_of_the_published_length(rule: str) -> None:
    process = SDE(VESchedule())
    denoiser, t, s, r = anisotropic_gaussian(process), 0.5, 0.45, 0.16
    draws = [torch.randn(6, 3, dtype=torch.float64) for _ in range(3)]
    x = torch.randn(6, 3, dtype=torch.float64)
    expected = x * math.sqrt((1 + process.level(s).sigma ** 2) / (1 + process.level(t).sigma ** 2))
    for z in draws[:2]:
        score = denoiser(expected, s).score
        length = 2 * (r * z.norm(dim=1) / score.norm(dim=1)) ** 2
        if rule == "level":
            length = torch.full((6,), 2 * (r * process.level(s).sigma) ** 2, dtype=torch.float64)
        expected = expected + length[:, None] * score + (2 * length).sqrt()[:, None] * z
    sampler = PredictorCorrector(predictor="none", corrections=2, r=r, rule=rule)  # type: ignore[arg-type]
    run = _run(denoiser, draws)
    row = sampler.plan(process, torch.tensor([t, s], dtype=torch.float64))[0].tolist()
    torch.testing.assert_close(sampler.advance(run, x, t, s, row), expected, rtol=1e-12, atol=1e-12)


def _run(denoiser: object, draws: list[Tensor]) -> object:
    from ornstein.core.noise import NoiseStream
    from ornstein.core.samplers.base import Run

    class Stream(NoiseStream):
        def draw(self, like: Tensor) -> Tensor:
            return draws.pop(0)

        def step(self, like: Tensor, t: object, s: object) -> Tensor:
            return draws.pop(0)

    return Run(denoiser, {}, Stream())  # type: ignore[arg-type]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=named)
@pytest.mark.parametrize(
    "sampler",
    [
        PredictorCorrector(150, grid=LOW),
        PredictorCorrector(150, predictor="euler", grid=LOW),
        PredictorCorrector(150, predictor="none", corrections=20, r=0.1, grid=LOW),
    ],
    ids=lambda s: s.predictor,
)
def test_exact_moments_with_the_corrector(sampler: PredictorCorrector, schedule: Schedule) -> None:
    """The corrector of rule "level" is linear, so its moments are exact too.  Its steps leave 1 / (1 - h / 2 w) of the
    variance w along each direction, h = 2 r^2 sigma^2: up to 1.3 % at r = 0.16 and 0.5 % at r = 0.1.  Corrector-only
    sampling lags behind the levels besides.
    """
    process = SDE(schedule)
    denoiser = anisotropic_gaussian(process)
    end = process.level(LOW(1, process)[-1])
    truth = end.alpha**2 * denoiser.covariance + end.sigma**2 * torch.eye(3, dtype=torch.float64)
    corrector_only = sampler.predictor == "none"
    if corrector_only:
        sampler = replace(sampler, steps=40)
    mean, covariance = exact_moments(sampler, denoiser)
    assert float((covariance - truth).abs().max() / truth.abs().max()) < (0.12 if corrector_only else 0.06)
    assert (mean - end.alpha * denoiser.mean).abs().max() < (0.25 if corrector_only else 0.03)


@pytest.mark.parametrize("predictor", ["reverse_diffusion", "ancestral", "euler", "none"])
@pytest.mark.parametrize("grid", [UniformLogSNR(), UniformTime(), UniformTime(0.9, 0.1)], ids=str)
def test_declared_number_of_evaluations_seeds_and_singular_ends(predictor: str, grid: object) -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    calls = []
    handle = denoiser.register_forward_hook(lambda *_: calls.append(1))
    for steps in (1, 2, 7):
        for rule in ("norms", "level"):
            sampler = PredictorCorrector(steps, predictor=predictor, corrections=2, rule=rule, grid=grid)  # type: ignore[arg-type]
            calls.clear()
            together = sampler.sample(denoiser, (4, 2), seed=3)
            assert len(calls) == sampler.nfe(process=denoiser.process)
            assert together.isfinite().all()
            alone = torch.cat([sampler.sample(denoiser, (1, 2), seed=3, first=i) for i in range(4)])
            torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    handle.remove()


def test_long_steps_are_ddpm_of_as_many_evaluations() -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    one = PredictorCorrector(4, corrections=2)
    assert one.nfe() == 12
    torch.testing.assert_close(
        one.sample(denoiser, (8, 2), seed=1), DDPM(12).sample(denoiser, (8, 2), seed=1), rtol=1e-5, atol=1e-5
    )


def test_few_evaluations_stay_near_the_data() -> None:
    denoiser = three_modes(SDE(VPSchedule()))
    truth = denoiser.sample(4000, generator=torch.Generator().manual_seed(0)).pow(2).mean().sqrt()
    for predictor in ("reverse_diffusion", "ancestral", "euler"):
        for steps in (2, 3, 5, 10):
            out = PredictorCorrector(steps, predictor=predictor).sample(denoiser, (500, 2), seed=0)  # type: ignore[arg-type]
            assert out.pow(2).mean().sqrt() < 1.5 * truth


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictor": "heun"}, "predictor='heun': expected one of reverse_diffusion"),
        ({"corrections": -1}, "corrections=-1"),
        ({"predictor": "none", "corrections": 0}, "corrections=0: expected at least 1"),
        ({"r": 0.0}, r"r=0\.0"),
        ({"rule": "batch"}, "rule='batch'"),
    ],
)
def test_impossible_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictorCorrector(**options)  # type: ignore[arg-type]
