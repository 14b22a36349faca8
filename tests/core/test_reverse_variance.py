"""Optimal and learned variances of the reverse step."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from ornstein.core import (
    DDIM,
    DDPM,
    SDE,
    AnalyticVariance,
    CosineSchedule,
    Denoiser,
    FlowSchedule,
    GaussianDenoiser,
    GaussianPosterior,
    LearnedVarianceDenoiser,
    NetworkDenoiser,
    Sampler,
    Schedule,
    UniformTime,
    VESchedule,
)
from ornstein.core.testing import exact_moments, three_modes

SAMPLERS = [
    DDPM(variance="optimal"),
    DDIM(variance="optimal"),
    DDIM(eta=0.5, variance="optimal"),
    DDIM(eta=1.0, variance="optimal"),
]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule(), VESchedule()])
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_optimal_variance_gives_exact_marginals_at_any_number_of_steps(
    sampler: Sampler, schedule: Schedule, steps: int
) -> None:
    """F3 of the reference tests; the grid stops before the step to clean data, which adds no noise."""
    mean = torch.tensor([0.5, -2.0], dtype=torch.float64)
    denoiser = GaussianDenoiser(SDE(schedule), mean, torch.tensor([[0.4, 0.0], [0.0, 1.7]]).double())
    run = dataclasses.replace(sampler, steps=steps, grid=UniformTime(0.95, 0.1))
    found_mean, covariance = exact_moments(run, denoiser)
    level = denoiser.process.level(0.1)
    expected = level.alpha**2 * denoiser.covariance + level.sigma**2 * torch.eye(2).double()
    torch.testing.assert_close(found_mean, level.alpha * mean, rtol=0, atol=1e-12)
    assert ((covariance - expected).abs() / expected.diagonal().max()).max() < 1e-12


def test_the_step_to_clean_data_adds_no_noise() -> None:
    denoiser = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2))
    for sampler in SAMPLERS:
        run = dataclasses.replace(sampler, steps=1, grid=UniformTime(0.5))
        x = torch.randn(3, 2, dtype=torch.float64)
        torch.testing.assert_close(run.sample(denoiser, (3, 2), x=x), denoiser(x, 0.5).mean)


@pytest.mark.parametrize("of", ["score", "error"])
def test_measured_variance_is_that_of_the_posterior(of: str) -> None:
    """For a Gaussian the posterior's variance is the same everywhere, so the closed form is what is estimated."""
    exact = GaussianDenoiser(SDE(CosineSchedule()), torch.ones(8), 0.3 * torch.eye(8))
    x = exact.sample(4000, generator=torch.Generator().manual_seed(0))
    measured = AnalyticVariance.measure(exact, x, of=of, batch_size=4000, seed=1)  # type: ignore[arg-type]
    for t, rtol in ((0.02, 0.02), (0.1, 0.02), (0.3, 0.03), (0.5, 0.05), (0.7, 0.1)):  # less signal, more error
        state = torch.zeros(2, 8, dtype=torch.float64)
        found, expected = measured(state, t).variance, exact(state, t).variance
        torch.testing.assert_close(found.expand_as(expected), expected, rtol=rtol, atol=0)


def test_measured_variance_depends_on_the_noise_level_alone() -> None:
    x = three_modes(SDE(CosineSchedule())).sample(300, generator=torch.Generator().manual_seed(0))
    parts = []
    for schedule in (CosineSchedule(), FlowSchedule(), VESchedule(1e-3, 80.0)):
        denoiser = three_modes(SDE(schedule))
        measured = AnalyticVariance.measure(denoiser, x, low=-8.0, high=8.0)
        parts.append(torch.stack([measured(x[:1], float(schedule.time(v))).variance for v in (-3.0, 0.0, 2.7, 6.0)]))
        # One time and a time per sample are the same.
        t = schedule.time(torch.tensor([-3.0, 0.0, 2.7, 6.0], dtype=torch.float64))
        torch.testing.assert_close(measured(x[:4], t).variance[:, 0], parts[-1].flatten())
    torch.testing.assert_close(parts[0], parts[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(parts[0], parts[2], rtol=1e-6, atol=0)


def test_measured_variance_keeps_its_bounds() -> None:
    denoiser = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2))
    x = torch.zeros(1, 2, dtype=torch.float64)
    wild = AnalyticVariance(denoiser, (-4.0, 0.0, 4.0), (-3.0, 2.0, 0.5))
    times = [float(denoiser.process.schedule.time(v)) for v in (-4.0, 0.0, 4.0)]
    assert wild(x, times[0]).variance == pytest.approx(torch.tensor(4.0).exp().item())  # at most 1 / SNR
    assert wild(x, times[1]).variance == 0
    assert wild(x, 1.0).variance == pytest.approx(torch.tensor(4.0).exp().item())  # held, where SNR is zero
    ranged = AnalyticVariance(denoiser, (-4.0, 0.0, 4.0), (-3.0, 2.0, 0.5), data_range=(-1.0, 3.0))
    assert ranged(x, times[0]).variance == 4
    assert ranged(x, times[2]).variance == pytest.approx(0.5 * torch.tensor(-4.0).exp().item())


class _Biased(Denoiser):
    """An exact denoiser with an error of known size."""

    def __init__(self, exact: Denoiser) -> None:
        super().__init__(exact.process)
        self.exact = exact

    def forward(self, x_t: Tensor, t: Tensor | float, **condition: Tensor) -> GaussianPosterior:
        answer = self.exact(x_t, t)
        return GaussianPosterior(x_t, self.process, answer.level, answer.mean + 0.5)


def test_error_of_an_inexact_denoiser_is_in_its_variance() -> None:
    exact = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(4), 0.3 * torch.eye(4))
    x = exact.sample(4000, generator=torch.Generator().manual_seed(0))
    measured = AnalyticVariance.measure(_Biased(exact), x, levels=30, low=-4.0, high=4.0, batch_size=4000, seed=1)
    found = measured(x[:1], 0.6).variance
    assert float(found) == pytest.approx(float(exact(x[:1], 0.6).variance[0, 0]) + 0.25, rel=0.05)


def test_answers_are_the_denoisers_own() -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    wrapped = AnalyticVariance(denoiser, (-4.0, 4.0), (0.9, 0.1))
    x = torch.randn(5, 2, dtype=torch.float64)
    ours, theirs = wrapped(x, 0.4), denoiser(x, 0.4)
    for name in ("mean", "eps", "score", "velocity"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert torch.equal(ours.affine(0.3, 0.2), theirs.affine(0.3, 0.2))
    assert torch.equal(ours.combine(0.3, 0.2), theirs.combine(0.3, 0.2))


class _Two(nn.Module):
    def __init__(self, v: float) -> None:
        super().__init__()
        self.v = v

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return torch.cat([0.1 * x, torch.full_like(x, self.v)], 1)


@pytest.mark.parametrize(("v", "variance"), [(-1.0, "small"), (1.0, "large")])
def test_learned_variance_samples_between_the_two(v: float, variance: str) -> None:
    denoiser = LearnedVarianceDenoiser(_Two(v), SDE(CosineSchedule()), prediction="eps")
    learned = DDPM(10, variance="learned").sample(denoiser, (3, 2, 4), seed=0)
    expected = DDPM(10, variance=variance).sample(denoiser, (3, 2, 4), seed=0)  # type: ignore[arg-type]
    torch.testing.assert_close(learned, expected, rtol=1e-5, atol=1e-5)
    half = LearnedVarianceDenoiser(_Two(0.0), SDE(CosineSchedule()), prediction="eps")
    assert (DDPM(10, variance="learned").sample(half, (3, 2, 4), seed=0) - expected).abs().max() > 1e-2


def test_one_step_is_differentiable_and_the_same() -> None:
    denoiser = LearnedVarianceDenoiser(_Two(0.3), SDE(CosineSchedule()), prediction="eps")
    x, noise = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
    one = DDPM(variance="learned").step(denoiser, x, 0.6, 0.5, noise=noise)
    assert torch.autograd.grad(one.sum(), x)[0].isfinite().all()


def test_refuses_what_it_cannot_do() -> None:
    process = SDE(CosineSchedule())
    with pytest.raises(ValueError, match="twice as many channels"):
        LearnedVarianceDenoiser(lambda x, c: x, process)(torch.zeros(1, 2), 0.5)
    denoiser = NetworkDenoiser(lambda x, c: x, process)
    with pytest.raises(AttributeError, match="no variance"):
        DDPM(2, variance="optimal").sample(denoiser, (1, 2))
    with pytest.raises(AttributeError, match="LearnedVarianceDenoiser"):
        DDPM(2, variance="learned").sample(denoiser, (1, 2))
    with pytest.raises(ValueError, match="rise"):
        AnalyticVariance(denoiser, (1.0, 0.0), (0.5, 0.5))
    with pytest.raises(ValueError, match="variance='learned'"):
        DDIM(variance="learned")  # type: ignore[arg-type]
