"""The Gaussian process of a schedule: posterior by Gaussian algebra, Song's drift and diffusion, reverse processes."""

import copy
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    SDE,
    CosineSchedule,
    EDMSchedule,
    FlowSchedule,
    GaussianDenoiser,
    Schedule,
    SubVPSchedule,
    TableSchedule,
    VESchedule,
    VPSchedule,
    ZeroTerminalSNR,
)
from ornstein.core.conformance import instances

T = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
X = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def close(actual: Tensor, expected: Tensor, rtol: float = 1e-12, atol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("schedule", instances(Schedule), ids=lambda s: repr(s)[:60])
def test_posterior_is_the_conditional_of_the_joint_gaussian(schedule: Schedule) -> None:
    """Given x_0, (x_s, x_t) is Gaussian with covariance (alpha_t / alpha_s) sigma_s^2 between the two."""
    process = SDE(schedule)
    s, t = T[:-10], T[10:]
    x0, xt = X[:40], X[10:]
    alpha_s, alpha_t = schedule.alpha(s)[:, None], schedule.alpha(t)[:, None]
    var_s, var_t = schedule.sigma(s)[:, None] ** 2, schedule.sigma(t)[:, None] ** 2
    between = alpha_t / alpha_s * var_s
    mean = alpha_s * x0 + between / var_t * (xt - alpha_t * x0)
    variance = var_s - between**2 / var_t
    posterior = process.posterior(x0, xt, s, t)
    close(posterior.mean, mean, rtol=1e-10, atol=1e-11)
    close(posterior.variance, variance, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "schedule", [VPSchedule(), VESchedule(), FlowSchedule(), TableSchedule.linear(), EDMSchedule()]
)
def test_posterior_composes_with_the_marginal(schedule: Schedule) -> None:
    """Drawing x_t | x_0 and then x_s | x_t, x_0 leaves the mean and variance of x_s | x_0."""
    process, x0 = SDE(schedule), X[:1]
    at_t, at_s = process.marginal(x0, 0.7), process.marginal(x0, 0.4)
    posterior = process.posterior(x0, at_t.mean, 0.4, 0.7)
    slope = process.posterior(0 * x0, torch.ones_like(x0), 0.4, 0.7).mean
    close(posterior.mean, at_s.mean)
    close(posterior.variance + slope**2 * at_t.variance, at_s.variance.expand_as(slope))


def test_posterior_keeps_its_digits_over_a_large_step() -> None:
    """SNR(t) / SNR(s) is 4e-20 here, of which 1 - (1 - e) leaves nothing."""
    schedule = EDMSchedule(1e5)
    s, t = 2e-10, 1.0
    factor = SDE(schedule).posterior(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.float64), s, t).mean
    assert factor.item() == pytest.approx((s / t) ** 2, rel=1e-12, abs=0)


@pytest.mark.parametrize("schedule", [FlowSchedule(), CosineSchedule(), ZeroTerminalSNR(VPSchedule())])
def test_posterior_at_the_ends(schedule: Schedule) -> None:
    process, x0, xt = SDE(schedule), X[:2], X[2:4]
    to_data = process.posterior(x0, xt, 0.0, 0.5)
    close(to_data.mean, x0)
    assert (to_data.std == 0).all()
    from_noise = process.posterior(x0, xt, 0.5, 1.0)
    close(from_noise.mean, process.marginal(x0, 0.5).mean)
    close(from_noise.variance, process.marginal(x0, 0.5).variance)
    for t in (0.0, 0.3, 1.0):
        stay = process.posterior(x0, xt, t, t)
        close(stay.mean, xt)
        assert (stay.std == 0).all()


def test_posterior_refuses_the_wrong_order() -> None:
    with pytest.raises(ValueError, match=r"s=0\.7 above t=0\.4"):
        SDE(FlowSchedule()).posterior(X, X, 0.7, 0.4)


def test_song_drift_and_diffusion() -> None:
    beta = 0.1 + T * 19.9
    integral = 0.1 * T + 0.5 * 19.9 * T**2
    vp, sub, ve = SDE(VPSchedule()), SDE(SubVPSchedule()), SDE(VESchedule(0.01, 50.0))
    for process in (vp, sub):
        close(process.drift(X, T), -0.5 * beta[:, None] * X)
    close(vp.diffusion(T) ** 2, beta)
    close(sub.diffusion(T) ** 2, beta * (1 - torch.exp(-2 * integral)))
    close(ve.drift(X, T), torch.zeros_like(X))
    close(ve.diffusion(T), 0.01 * 5000**T * math.sqrt(2 * math.log(5000)))
    flow = SDE(FlowSchedule())
    close(flow.drift(X, T), -X / (1 - T)[:, None])
    close(flow.diffusion(T) ** 2, 2 * T / (1 - T))
    close(SDE(EDMSchedule(80.0)).diffusion(T) ** 2, 2 * 80**2 * T)


@pytest.mark.parametrize("schedule", instances(Schedule), ids=lambda s: repr(s)[:60])
def test_diffusion_is_the_fall_of_log_snr_and_defined_at_clean_data(schedule: Schedule) -> None:
    process = SDE(schedule)
    close(process.diffusion(T), schedule.sigma(T) * (-schedule.d_log_snr(T)).sqrt(), rtol=1e-9)
    assert process.diffusion(0.0).isfinite()
    assert not process.diffusion(1.0).isnan()
    just_above = process.diffusion(1e-9)
    close(process.diffusion(0.0), just_above, rtol=1e-3, atol=2e-2)


@pytest.mark.parametrize("schedule", [VPSchedule(), SubVPSchedule(), VESchedule(), FlowSchedule(), CosineSchedule()])
def test_reverse_drift_of_the_ode_is_the_velocity(schedule: Schedule) -> None:
    process = SDE(schedule)
    exact = GaussianDenoiser(process, torch.ones(3), torch.eye(3) * 0.5)
    posterior = exact(X, T)
    close(process.reverse_drift(X, T, posterior.score, eta=0.0), posterior.velocity, rtol=1e-9, atol=1e-9)
    g = process.diffusion(T)[:, None]
    between = process.reverse_drift(X, T, posterior.score, eta=0.5)
    close(between, process.drift(X, T) - 0.5 * 1.25 * g**2 * posterior.score, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_reverse_process_keeps_the_marginals(eta: float) -> None:
    """The variance of a Gaussian under the reverse process follows alpha^2 l + sigma^2: d var/dt = 2 b var - eta^2 g^2
    where the drift is b x."""
    process, spread = SDE(VPSchedule()), 0.3
    t = T.clone().requires_grad_()
    w = process.schedule.alpha(t) ** 2 * spread + process.schedule.sigma(t) ** 2
    (slope,) = torch.autograd.grad(w.sum(), t)
    score = -(1 / w.detach())[:, None]
    drift = process.reverse_drift(torch.ones(50, 1, dtype=torch.float64), T, score, eta)[:, 0]
    close(slope, 2 * drift * w.detach() - eta**2 * process.diffusion(T) ** 2, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "t", [0.3, torch.tensor(0.3), torch.full((4,), 0.3), torch.full((1,), 0.3), torch.full((4, 1), 0.3)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_marginal_takes_one_time_or_many_and_keeps_the_dtype(t: float | Tensor, dtype: torch.dtype) -> None:
    x0 = torch.randn(4, 2, 3).to(dtype)
    marginal = SDE(CosineSchedule()).marginal(x0, t)
    draw = marginal.sample(generator=torch.Generator().manual_seed(0))
    assert marginal.mean.shape == draw.shape == x0.shape
    assert marginal.mean.dtype == draw.dtype == dtype
    close(marginal.mean, CosineSchedule().alpha(0.3).to(dtype) * x0, rtol=1e-6, atol=1e-6)


def test_prior_is_the_marginal_without_data() -> None:
    for schedule in (VPSchedule(), VESchedule(), FlowSchedule()):
        prior = SDE(schedule).prior((2, 3))
        assert prior.mean.shape == (2, 3)
        assert not prior.mean.any()
        assert prior.std.item() == pytest.approx(schedule.sigma(1.0).item())
    assert SDE(FlowSchedule()).prior((2, 3), 0.25).std.item() == 0.25


def test_levels_are_floats_for_one_time_and_tensors_for_many() -> None:
    process = SDE(TableSchedule.linear())
    one = process.level(0.25)
    assert all(isinstance(value, float) for value in one)
    assert process.level(torch.tensor(0.25)) == one
    assert process.level(torch.tensor(0.25, dtype=torch.float64)) == one
    many = process.level(torch.tensor([0.25, 0.5], dtype=torch.float64))
    for value, expected in zip(many, one, strict=True):
        assert isinstance(value, Tensor)
        assert value[0].item() == pytest.approx(expected, rel=1e-12)
    prepared = process.prepare(T)
    assert [level.t for level in prepared] == T.tolist()
    assert prepared[3] == SDE(TableSchedule.linear()).level(T[3])


def test_gradients_reach_a_time_of_no_dimensions() -> None:
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    alpha = SDE(CosineSchedule()).level(t).alpha
    assert isinstance(alpha, Tensor)
    (slope,) = torch.autograd.grad(alpha, t)
    close(slope, CosineSchedule().d_alpha(0.3))


def test_the_memory_of_levels_is_bounded() -> None:
    process = SDE(FlowSchedule())
    for part in torch.linspace(0, 1, 180_000, dtype=torch.float64).split(60_000):
        process.prepare(part)
    assert len(process._levels) <= 120_000


def test_threads_share_a_process() -> None:
    process = SDE(CosineSchedule())
    times = torch.linspace(0, 1, 200, dtype=torch.float64).tolist()
    expected = [SDE(CosineSchedule()).level(t) for t in times]
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: [process.level(t) for t in times], range(16)))
    assert all(run == expected for run in runs)


def test_copies_and_errors() -> None:
    process = SDE(CosineSchedule())
    process.level(0.5)
    for other in (copy.deepcopy(process), pickle.loads(pickle.dumps(process))):
        assert other.level(0.5) == process.level(0.5)
    with pytest.raises(TypeError, match="schedule='cosine': expected a Schedule"):
        SDE("cosine")  # type: ignore[arg-type]
