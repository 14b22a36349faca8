"""The variational bound in continuous time."""

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    SDE,
    ContinuousBound,
    CosineSchedule,
    EmpiricalDenoiser,
    FlowSchedule,
    GaussianDenoiser,
    LearnedSchedule,
    Schedule,
    SubVPSchedule,
    UniformDequantisation,
    VariationalBound,
    VPSchedule,
    bits_per_dim,
)
from ornstein.core.testing import anisotropic_gaussian, three_modes


def _data(problem, num: int = 1500) -> tuple[Tensor, Tensor]:
    denoiser = problem(SDE(FlowSchedule()))
    x = denoiser.sample(num, generator=torch.Generator().manual_seed(0))
    return x, denoiser.log_prob(x)


def _mean(values: Tensor, errors: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(errors.square().sum().sqrt()) / len(values)


@pytest.mark.parametrize("problem", [anisotropic_gaussian, three_modes])
def test_bound_of_the_exact_denoiser_is_the_truth(problem) -> None:
    """Between levels of noise where the prior and the decoder cost nothing, continuous time leaves no gap."""
    x, exact = _data(problem)
    bound = ContinuousBound(spacing="log_snr").evaluate(problem(SDE(CosineSchedule())), x, seed=0)
    gap, error = _mean(bound.nats + exact, bound.standard_error)
    assert error < 0.06
    assert -4 * error < gap < 4 * error + 5e-4


def test_bound_is_below_the_discrete_ones() -> None:
    x, _ = _data(three_modes, 500)
    denoiser = three_modes(SDE(CosineSchedule()))
    limit = ContinuousBound(spacing="log_snr").evaluate(denoiser, x, seed=0)
    for steps in (20, 60):
        assert VariationalBound(steps).evaluate(denoiser, x, seed=0).nats.mean() > limit.nats.mean()


@pytest.mark.parametrize("schedule", [VPSchedule(), SubVPSchedule(), LearnedSchedule(12.0, -8.0)])
def test_schedules_with_the_same_ends_have_the_same_bound(schedule: Schedule) -> None:
    x, _ = _data(three_modes)
    likelihood = ContinuousBound(16, low=-6.0, high=6.0)
    one = likelihood.evaluate(three_modes(SDE(FlowSchedule())), x, seed=0)
    other = likelihood.evaluate(three_modes(SDE(schedule)), x, seed=1)
    (a, error_a), (b, error_b) = (_mean(e.nats, e.standard_error) for e in (one, other))
    assert abs(a - b) < 4 * (error_a**2 + error_b**2) ** 0.5
    assert error_a < 0.1
    torch.testing.assert_close(one.prior, other.prior)
    torch.testing.assert_close(one.reconstruction, other.reconstruction)


def test_standard_error_is_the_spread_of_the_bound() -> None:
    x, _ = _data(three_modes, 1)
    bound = ContinuousBound(8, 4).evaluate(three_modes(SDE(CosineSchedule())), x.repeat(2000, 1), seed=0)
    reported = bound.standard_error.square().mean().sqrt()
    assert abs(float(reported / bound.nats.std()) - 1) < 0.15


def test_strata_lower_the_variance() -> None:
    denoiser = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(16), torch.eye(16))
    x = torch.ones(600, 16, dtype=torch.float64)
    spread = ContinuousBound(32, 1, spacing="log_snr").evaluate(denoiser, x, seed=0).nats.std()
    independent = ContinuousBound(1, 32, spacing="log_snr").evaluate(denoiser, x, seed=0).nats.std()
    assert spread < 0.6 * independent


def test_probability_of_integers() -> None:
    scale = UniformDequantisation(4)
    x = scale.centre(torch.cartesian_prod(torch.arange(4), torch.arange(4))).double()
    denoiser = EmpiricalDenoiser(SDE(CosineSchedule()), x)
    bound = ContinuousBound(quantisation=scale, spacing="log_snr").evaluate(denoiser, x.repeat(60, 1), seed=0)
    bits, error = _mean(bits_per_dim(bound.nats, 2), bits_per_dim(bound.standard_error, 2))
    assert abs(bits - 2) < 4 * error + 1e-3
    assert error < 0.05


def test_bound_depends_on_seed_and_sample_alone() -> None:
    x, _ = _data(three_modes, 6)
    denoiser = three_modes(SDE(CosineSchedule()))
    whole = ContinuousBound(3, 2).evaluate(denoiser, x, seed=9)
    part = ContinuousBound(3, 2).evaluate(denoiser, x[4:], seed=9, first=4)
    torch.testing.assert_close(whole.nats[4:], part.nats)
    assert whole.nfe == 6


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="spacing='sigma'"):
        ContinuousBound(spacing="sigma")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="high=inf"):
        ContinuousBound(high=float("inf"))
    with pytest.raises(ValueError, match="strata=0"):
        ContinuousBound(0)
