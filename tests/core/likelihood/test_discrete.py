"""The variational bound in discrete time against closed forms."""

import math

import pytest
import torch
from torch import Tensor, nn

from ornstein.core import (
    SDE,
    AnalyticVariance,
    Bound,
    ClosedFormDenoiser,
    CosineSchedule,
    EmpiricalDenoiser,
    FlowSchedule,
    GaussianDenoiser,
    LearnedVarianceDenoiser,
    NetworkDenoiser,
    Schedule,
    UniformDequantisation,
    UniformLogSNR,
    UniformTime,
    VariationalBound,
    VESchedule,
    VPSchedule,
    bits_per_dim,
)
from ornstein.core.likelihood.discrete import step_kl
from ornstein.core.testing import anisotropic_gaussian, three_modes

PROBLEMS = [anisotropic_gaussian, three_modes]


def _gap(bound: Bound, exact: Tensor) -> tuple[float, float]:
    """Mean of bound minus negative log-likelihood, and its Monte-Carlo error."""
    error = bound.standard_error.square().sum().sqrt() / len(exact)
    return float((bound.nats + exact).mean()), float(error)


def _setting(problem, num: int = 2000) -> tuple[ClosedFormDenoiser, Tensor, Tensor]:
    denoiser = problem(SDE(CosineSchedule()))
    x = denoiser.sample(num, generator=torch.Generator().manual_seed(0))
    return denoiser, x, denoiser.log_prob(x)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("variance", ["small", "large", "optimal"])
def test_bound_is_above_the_truth_and_converges_to_it(problem, variance: str) -> None:
    denoiser, x, exact = _setting(problem)
    gaps = []
    for steps in (10, 30, 90):
        bound = VariationalBound(steps, variance=variance, draws=2).evaluate(denoiser, x, seed=0)  # type: ignore[arg-type]
        gap, error = _gap(bound, exact)
        assert gap > -4 * error
        gaps.append((gap, error))
    assert gaps[0][0] > gaps[1][0] + 4 * gaps[1][1]
    # First order in the number of steps, up to the prior's and the decoder's parts.
    assert gaps[2][0] < 0.5 * gaps[1][0] + 4 * gaps[2][1]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("steps", [10, 25, 50])
def test_analytic_variance_is_tighter_than_both_of_ddpm(problem, steps: int) -> None:
    denoiser, x, exact = _setting(problem, 1000)
    measured = AnalyticVariance.measure(denoiser, x[:500], levels=30, batch_size=500, seed=3)
    gaps = {}
    for name, model in {"small": denoiser, "large": denoiser, "optimal": measured}.items():
        bound = VariationalBound(steps, variance=name, draws=1).evaluate(model, x, seed=0)  # type: ignore[arg-type]
        gaps[name] = float((bound.nats + exact).mean())
    # The same noise in each of them, so that differences have a much smaller error than the gaps.
    assert gaps["optimal"] < gaps["large"] < gaps["small"]


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_bound_of_isotropic_gaussian_is_exact_at_any_number_of_steps(steps: int) -> None:
    """With the optimal variance every reverse step is the true one; what is left is the prior's gap."""
    denoiser = GaussianDenoiser(SDE(VPSchedule()), torch.zeros(3), 0.3 * torch.eye(3))
    x = denoiser.sample(4000, generator=torch.Generator().manual_seed(0))
    bound = VariationalBound(steps, variance="optimal").evaluate(denoiser, x, seed=0)
    end = denoiser.process.level(1.0)
    excess = end.alpha**2 * 0.3 / end.sigma**2
    prior = 1.5 * (excess - math.log1p(excess))
    gap, error = _gap(bound, denoiser.log_prob(x))
    # Pointwise the terms fluctuate with the data as well, about a mean that is exact.
    spread = float((bound.nats + denoiser.log_prob(x)).std()) / len(x) ** 0.5
    assert abs(gap - prior) < 4 * (spread + error)


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule(), VESchedule(), VPSchedule()])
@pytest.mark.parametrize("variance", ["small", "large", "optimal"])
def test_a_step_is_the_divergence_of_its_two_gaussians(schedule: Schedule, variance: str) -> None:
    process = SDE(schedule)
    denoiser = GaussianDenoiser(process, torch.tensor([0.3, -1.0]), torch.tensor([[1.0, 0.0], [0.0, 0.2]]))
    x0, t, s = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), 0.6, 0.45
    pair = torch.tensor([t, s], dtype=torch.float64)
    start, end = process.level(t), process.level(s)
    x = start.alpha * x0 + start.sigma * torch.randn(5, 2, dtype=torch.float64)
    posterior = denoiser(x, t)
    true, model = process.posterior(x0, x, s, t), process.posterior(posterior.mean, x, s, t)
    shrunk = 1 - math.exp(start.log_snr - end.log_snr)
    std = {
        "small": true.std,
        "large": torch.tensor(start.sigma * shrunk**0.5, dtype=torch.float64),
        "optimal": (true.std**2 + (end.alpha * shrunk) ** 2 * posterior.variance).sqrt(),
    }[variance]
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(true.mean, true.std), normal(model.mean, std))
    torch.testing.assert_close(
        step_kl(variance, (x0 - posterior.mean) ** 2, posterior, *pair), expected, rtol=1e-9, atol=1e-12
    )  # type: ignore[arg-type]


def test_terms_and_counts() -> None:
    denoiser, x, _ = _setting(three_modes, 6)
    bound = VariationalBound(7, grid=UniformTime(0.9), draws=3).evaluate(denoiser, x, seed=1)
    assert bound.steps is not None
    assert bound.times is not None
    assert bound.steps.shape == (6, 6)
    torch.testing.assert_close(bound.times, torch.linspace(0.9, 0, 8, dtype=torch.float64)[:-1])
    torch.testing.assert_close(bound.diffusion, bound.steps.sum(1))
    torch.testing.assert_close(bound.log_prob, -(bound.prior + bound.diffusion + bound.reconstruction))
    assert bound.nfe == 21
    level = denoiser.process.level(0.9)
    normal = torch.distributions.Normal
    prior = torch.distributions.kl_divergence(
        normal(level.alpha * x, level.sigma), normal(torch.zeros(()), level.sigma)
    )
    torch.testing.assert_close(bound.prior, prior.sum(1))
    assert VariationalBound(3, draws=1).evaluate(denoiser, x).standard_error.isnan().all()


def test_standard_error_is_the_spread_of_the_bound() -> None:
    denoiser, x, _ = _setting(three_modes, 1)
    bound = VariationalBound(20, draws=4).evaluate(denoiser, x.repeat(2000, 1), seed=0)
    reported = bound.standard_error.square().mean().sqrt()
    assert abs(float(reported / bound.nats.std()) - 1) < 0.1


def test_bound_depends_on_seed_and_sample_alone() -> None:
    denoiser, x, _ = _setting(three_modes, 6)
    whole = VariationalBound(5).evaluate(denoiser, x, seed=9)
    part = VariationalBound(5).evaluate(denoiser, x[4:], seed=9, first=4)
    torch.testing.assert_close(whole.nats[4:], part.nats)
    assert not torch.allclose(whole.nats, VariationalBound(5).evaluate(denoiser, x, seed=10).nats)


def test_probability_of_integers() -> None:
    """Sixteen equally likely pairs of four levels: log 4, or two bits, a coordinate."""
    scale = UniformDequantisation(4)
    pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    x = scale.centre(pairs).double()
    denoiser = EmpiricalDenoiser(SDE(CosineSchedule()), x)
    bits = []
    for steps in (20, 200):
        likelihood = VariationalBound(steps, quantisation=scale, draws=2)
        bound = likelihood.evaluate(denoiser, x.repeat(40, 1), seed=0)
        bits.append(float(bits_per_dim(bound.nats, 2).mean()))
        error = float(bits_per_dim(bound.standard_error, 2).square().sum().sqrt()) / 640
        assert bits[-1] > 2 - 4 * error
    # First order in the number of steps.
    assert bits[1] - 2 < 0.2 * (bits[0] - 2)


def test_ends_with_noise_are_decoded_from_there() -> None:
    """VE keeps noise at t = 0; the decoder starts from that level, as it does from a grid that stops early."""
    denoiser = three_modes(SDE(VESchedule(0.01, 80.0)))
    x = _setting(three_modes, 500)[1]
    exact = _setting(three_modes, 500)[2]
    bound = VariationalBound(60, variance="optimal").evaluate(denoiser, x, seed=0)
    assert bound.times is not None
    assert bound.times[-1] == 0
    gap, error = _gap(bound, exact)
    assert -4 * error < gap < 0.1
    early = VariationalBound(40, grid=UniformLogSNR(high=4.0, clean=False), variance="optimal")
    gap, error = _gap(early.evaluate(denoiser, x, seed=0), exact)
    assert -4 * error < gap < 0.3


class _Constant(nn.Module):
    """Predicts no noise, and a given interpolation of the variances."""

    def __init__(self, v: float) -> None:
        super().__init__()
        self.v = v

    def forward(self, x: Tensor, c: Tensor, mask: Tensor | None = None) -> Tensor:
        return torch.cat([torch.zeros_like(x), torch.full_like(x, self.v)], 1)


@pytest.mark.parametrize(("v", "variance"), [(-1.0, "small"), (1.0, "large")])
def test_learned_variance_lies_between_the_two(v: float, variance: str) -> None:
    learned = LearnedVarianceDenoiser(_Constant(v), SDE(CosineSchedule()), prediction="eps")
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    found = VariationalBound(9, variance="learned").evaluate(learned, x, seed=0)
    expected = VariationalBound(9, variance=variance).evaluate(learned, x, seed=0)  # type: ignore[arg-type]
    torch.testing.assert_close(found.nats, expected.nats)
    between = LearnedVarianceDenoiser(_Constant(0.2), SDE(CosineSchedule()), prediction="eps")
    other = VariationalBound(9, variance="learned").evaluate(between, x, seed=0)
    assert (other.nats - expected.nats).abs().min() > 1e-3


def test_padding_costs_nothing() -> None:
    network = _Constant(0.0)
    denoiser = LearnedVarianceDenoiser(network, SDE(CosineSchedule()), prediction="v")
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    bound = VariationalBound(3, draws=2).evaluate(denoiser, x, seed=0, mask=mask)
    junk = torch.where(mask[..., None], x, 1e3)
    torch.testing.assert_close(
        bound.nats, VariationalBound(3, draws=2).evaluate(denoiser, junk, seed=0, mask=mask).nats
    )
    full = VariationalBound(3, draws=2).evaluate(denoiser, x, seed=0, mask=torch.ones_like(mask))
    assert (full.nats - bound.nats > 1).all()


def test_refuses_what_it_cannot_do() -> None:
    network = NetworkDenoiser(nn.Identity(), SDE(CosineSchedule()))
    network.network = _Constant(0.0)
    with pytest.raises(ValueError, match="variance='medium'"):
        VariationalBound(variance="medium")  # type: ignore[arg-type]
    learned = LearnedVarianceDenoiser(_Constant(0.0), SDE(CosineSchedule()))
    with pytest.raises(AttributeError, match="no variance"):
        VariationalBound(3, variance="optimal").evaluate(learned, torch.zeros(1, 2))
    denoiser, x, _ = _setting(three_modes, 3)
    with pytest.raises(AttributeError, match="no learned variance"):
        VariationalBound(3, variance="learned").evaluate(denoiser, x)
    with pytest.raises(ValueError, match="bins off the levels"):
        VariationalBound(3, quantisation=UniformDequantisation(16)).evaluate(denoiser, x)
