"""Exact denoisers against autograd, numerical integration, scipy's ODE solver and their own limits."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ornstein.core import (
    SDE,
    ClosedFormDenoiser,
    CosineSchedule,
    Denoiser,
    EDMSchedule,
    EmpiricalDenoiser,
    FlowSchedule,
    GaussianDenoiser,
    MixtureDenoiser,
    Schedule,
    SubVPSchedule,
    VESchedule,
    VPSchedule,
)
from ornstein.core.config import from_config, to_config
from ornstein.core.testing import anisotropic_gaussian, three_modes

SCHEDULES = [VPSchedule(), SubVPSchedule(), VESchedule(), EDMSchedule(10.0), FlowSchedule(), CosineSchedule()]


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def normal(x: Tensor | float, mean: Tensor | float, std: float) -> Tensor:
    """Density of a normal distribution, in float64."""
    square = ((torch.as_tensor(x, dtype=torch.float64) - mean) / std) ** 2
    return (-0.5 * square).exp() / (std * (2 * math.pi) ** 0.5)


def exact(process: SDE) -> list[ClosedFormDenoiser]:
    points = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return [anisotropic_gaussian(process), three_modes(process), EmpiricalDenoiser(process, points)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("t", [0.15, 0.5, 0.9])
def test_score_is_the_gradient_of_the_log_density(schedule: Schedule, which: int, t: float) -> None:
    denoiser = exact(SDE(schedule))[which]
    x = denoiser.sample(6, t).requires_grad_()
    (gradient,) = torch.autograd.grad(denoiser.log_prob(x, t).sum(), x)
    close(denoiser(x, t).score, gradient, 1e-8)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("t", [0.3, 0.8])
def test_variance_is_the_jacobian_of_the_mean(schedule: Schedule, which: int, t: float) -> None:
    """Cov[x_0 | x_t] = (sigma^2 / alpha) d mean / dx."""
    denoiser = exact(SDE(schedule))[which]
    level = denoiser.process.level(t)
    for x in denoiser.sample(3, t):
        jacobian = torch.autograd.functional.jacobian(lambda v: denoiser(v[None], t).mean[0], x)
        close(denoiser(x[None], t).variance[0], level.sigma**2 / level.alpha * jacobian.diagonal(), 1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("which", range(3))
def test_one_dimension_by_numerical_integration(schedule: Schedule, which: int) -> None:
    process, t = SDE(schedule), 0.4
    level = process.level(t)
    means, stds, weights = [[-1.0], [0.7]], [0.4, 0.25], [0.3, 0.7]
    if which == 0:
        denoiser: ClosedFormDenoiser = GaussianDenoiser(process, [0.7], [[0.16]])
        parts = [(1.0, 0.7, 0.4)]
    elif which == 1:
        denoiser = MixtureDenoiser(process, weights, means, stds)
        parts = [(w, m[0], s) for w, m, s in zip(weights, means, stds, strict=True)]
    else:
        denoiser = EmpiricalDenoiser(process, torch.tensor(means, dtype=torch.float64))
        parts = []
    y = torch.linspace(-6, 6, 200_001, dtype=torch.float64)
    density = sum((w * normal(y, m, s) for w, m, s in parts), torch.zeros_like(y))
    if which == 2:
        y, density = torch.tensor([-1.0, 0.7], dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64)
    else:
        density = density * 12 / 200_000
    for x in (-0.8, 0.1, 1.3):
        likelihood = normal(x, level.alpha * y, level.sigma)
        evidence = (density * likelihood).sum()
        mean = (density * likelihood * y).sum() / evidence
        variance = (density * likelihood * (y - mean) ** 2).sum() / evidence
        state = torch.tensor([[x]], dtype=torch.float64)
        posterior = denoiser(state, t)
        close(posterior.mean, mean[None, None], 1e-8)
        close(posterior.variance, variance[None, None], 1e-8)
        close(denoiser.log_prob(state, t), evidence.log()[None], 1e-6)


def test_a_mixture_of_one_is_the_gaussian() -> None:
    process, mean = SDE(VPSchedule()), torch.tensor([0.5, -1.0], dtype=torch.float64)
    gaussian = GaussianDenoiser(process, mean, 0.49 * torch.eye(2, dtype=torch.float64))
    mixture = MixtureDenoiser(process, torch.tensor([2.0]), mean[None], torch.tensor([0.7], dtype=torch.float64))
    x, t = torch.randn(7, 2, dtype=torch.float64), torch.rand(7, dtype=torch.float64)
    close(mixture(x, t).mean, gaussian(x, t).mean, 1e-12)
    close(mixture(x, t).variance, gaussian(x, t).variance, 1e-12)
    close(mixture.log_prob(x, t), gaussian.log_prob(x, t), 1e-12)


def test_narrow_mixture_is_the_empirical_denoiser() -> None:
    process, points = SDE(CosineSchedule()), torch.randn(6, 4, dtype=torch.float64)
    narrow = MixtureDenoiser(process, torch.ones(6), points, torch.zeros(6))
    empirical = EmpiricalDenoiser(process, points)
    x, t = torch.randn(9, 4, dtype=torch.float64), torch.rand(9, dtype=torch.float64)
    close(empirical(x, t).mean, narrow(x, t).mean, 1e-10)
    close(empirical(x, t).variance, narrow(x, t).variance, 1e-10)
    close(empirical.log_prob(x, t), narrow.log_prob(x, t), 1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memorisation_limit(dtype: torch.dtype) -> None:
    """At low noise the answer is the nearest point, at the data themselves the point; far out it is their mean."""
    points = torch.rand(20, 3, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(0))
    denoiser = EmpiricalDenoiser(SDE(EDMSchedule(1e6)), points)
    near = points + 1e-4 * torch.randn(points.shape, dtype=dtype)
    for sigma in (1e-3, 1e-8, 0.0):
        posterior = denoiser(near, sigma / 1e6)
        torch.testing.assert_close(posterior.mean, points, rtol=0, atol=1e-6)
        assert posterior.mean.shape == points.shape
        assert posterior.mean.dtype == dtype
        assert (posterior.variance < 1e-9).all()
    torch.testing.assert_close(denoiser(points, 0.0).mean, points, rtol=0, atol=1e-6)
    far = denoiser(torch.zeros_like(points[:1]), 1.0).mean
    torch.testing.assert_close(far[0], points.mean(0), rtol=1e-4, atol=1e-5)


def test_pixels_at_low_noise_keep_their_nearest_neighbour_in_float32() -> None:
    """Points 1e-3 apart in 3,072 dimensions, at sigma = 0.002: float32 cannot form |x|^2 - 2 x m + |m|^2."""
    base = torch.rand(3072) + 3.0
    points = torch.stack([base, base + 1e-3])
    denoiser = EmpiricalDenoiser(SDE(EDMSchedule(80.0)), points)
    for i in (0, 1):
        mean = denoiser(points[i : i + 1], 0.002 / 80).mean[0]
        torch.testing.assert_close(mean, points[i], rtol=0, atol=1e-6)


def test_clean_data_are_their_own_mean() -> None:
    for denoiser in (anisotropic_gaussian(SDE(FlowSchedule())), three_modes(SDE(FlowSchedule()))):
        x = denoiser.sample(4)
        close(denoiser(x, 0.0).mean, x, 1e-12)
        assert (denoiser(x, 0.0).variance.abs() < 1e-12).all()


def test_flat_directions_stay_on_their_plane() -> None:
    covariance = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    denoiser = GaussianDenoiser(SDE(FlowSchedule()), torch.tensor([0.0, 2.0]), covariance)
    for t in (0.0, 0.5, 1.0):
        posterior = denoiser(torch.tensor([[0.3, 2.0 * (1 - t)]], dtype=torch.float64), t)
        assert posterior.mean.isfinite().all()
        assert posterior.mean[0, 1] == pytest.approx(2.0)
        assert posterior.variance[0, 1] == pytest.approx(0.0)
    flat = torch.tensor([[0.3, 2.0]], dtype=torch.float64)
    assert denoiser.flow(flat, 0.0, 0.7).isfinite().all()
    for closed in (denoiser, EmpiricalDenoiser(SDE(FlowSchedule()), flat)):
        assert closed.log_prob(flat, 0.1).isfinite().all()
        with pytest.raises(ValueError, match="log_prob at sigma = 0"):
            closed.log_prob(flat, 0.0)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_flow_is_the_solution_of_the_ode(schedule: Schedule) -> None:
    denoiser = anisotropic_gaussian(SDE(schedule))
    x = denoiser.sample(1, 0.9)

    def velocity(t: float, state: object) -> object:
        return denoiser(torch.as_tensor(state, dtype=torch.float64)[None], float(t)).velocity[0].numpy()

    solution = solve_ivp(velocity, (0.9, 0.1), x[0].numpy(), method="DOP853", rtol=1e-10, atol=1e-10)
    close(denoiser.flow(x, 0.9, 0.1)[0], torch.from_numpy(solution.y[:, -1]), 1e-8)


def test_flow_carries_the_marginals_and_takes_a_time_per_sample() -> None:
    denoiser = anisotropic_gaussian(SDE(VPSchedule()))
    x = denoiser.sample(3, 0.9)
    times, ends = torch.tensor([0.9, 0.5, 0.3], dtype=torch.float64), torch.tensor([0.1, 0.0, 0.2], dtype=torch.float64)
    together = denoiser.flow(x, times, ends)
    apart = torch.cat([denoiser.flow(x[i : i + 1], times[i].item(), ends[i].item()) for i in range(3)])
    close(together, apart, 1e-12)
    close(denoiser.flow(denoiser.flow(x, 0.9, 0.4), 0.4, 0.9), x, 1e-12)
    assert denoiser.flow(x.float(), 0.9, 0.1).dtype == torch.float32


@pytest.mark.parametrize("which", range(3))
def test_times_per_sample_are_those_of_single_calls(which: int) -> None:
    denoiser = exact(SDE(CosineSchedule()))[which]
    t = torch.tensor([0.2, 0.6, 0.9], dtype=torch.float64)
    x = torch.cat([denoiser.sample(1, u) for u in t.tolist()])
    for name, function in (
        ("mean", lambda v, u: denoiser(v, u).mean),
        ("variance", lambda v, u: denoiser(v, u).variance),
        ("log_prob", denoiser.log_prob),
    ):
        apart = torch.cat([function(x[i : i + 1], t[i].item()) for i in range(3)])
        close(function(x, t), apart, 1e-11), name


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("t", [0.0, 0.6])
def test_draws_have_the_moments_of_the_posterior_of_nothing(which: int, t: float) -> None:
    """At pure noise the posterior is the prior, so its mean and variance are those of the data."""
    denoiser, num = exact(SDE(FlowSchedule()))[which], 100_000
    prior = denoiser(torch.zeros(1, denoiser.dim, dtype=torch.float64), 1.0)
    level = denoiser.process.level(t)
    draws = denoiser.sample(num, t, generator=torch.Generator().manual_seed(3))
    variance = level.alpha**2 * prior.variance[0] + level.sigma**2
    assert ((draws.mean(0) - level.alpha * prior.mean[0]).abs() < 4 * (variance / num).sqrt()).all()
    assert ((draws.var(0) / variance - 1).abs() < 0.03).all()
    again = denoiser.sample(num, t, generator=torch.Generator().manual_seed(3))
    assert torch.equal(draws, again)


def test_draws_at_a_time_each() -> None:
    denoiser = anisotropic_gaussian(SDE(FlowSchedule()))
    t = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64)
    draws = denoiser.sample(3, t, generator=torch.Generator().manual_seed(0))
    for i in range(3):
        one = denoiser.sample(3, t[i].item(), generator=torch.Generator().manual_seed(0))
        close(draws[i], one[i], 1e-12)


def test_float32_states_are_answered_with_float64_care() -> None:
    for denoiser in exact(SDE(VESchedule())):
        x = denoiser.sample(4, 0.3).float()
        exact_answer = denoiser(x.double(), 0.3)
        close(denoiser(x, 0.3).mean.double(), exact_answer.mean, 1e-6)
        close(denoiser.log_prob(x, 0.3).double(), denoiser.log_prob(x.double(), 0.3), 1e-6)


@pytest.mark.parametrize("which", range(3))
def test_everything_stays_on_the_device_of_the_state(which: int) -> None:
    """On the meta device, which refuses to be mixed with others and needs no hardware."""
    denoiser = exact(SDE(FlowSchedule()))[which].to("meta")
    x, t = torch.empty(4, denoiser.dim, device="meta"), torch.empty(4, device="meta")
    for time in (0.3, t):
        posterior = denoiser(x, time)
        for name in ("mean", "variance", "eps", "score", "velocity"):
            assert getattr(posterior, name).device == x.device


def test_events_of_any_shape() -> None:
    data = torch.randn(4, 3, 2, 2)
    denoiser = EmpiricalDenoiser(SDE(FlowSchedule()), data)
    x = torch.randn(5, 3, 2, 2)
    assert denoiser(x, 0.5).mean.shape == denoiser(x, 0.5).variance.shape == x.shape
    with pytest.raises(ValueError, match=r"x_t of shape \(5, 11\): expected .* 12 numbers"):
        denoiser(torch.randn(5, 11), 0.5)


def test_configurations_rebuild_them() -> None:
    x = torch.randn(3, 3, dtype=torch.float64)
    for denoiser in exact(SDE(FlowSchedule())):
        rebuilt = from_config(to_config(denoiser), Denoiser)
        state = x[:, : denoiser.dim]
        close(rebuilt(state, 0.4).mean, denoiser(state, 0.4).mean, 1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: GaussianDenoiser(p, torch.zeros(2), torch.eye(3)), r"shape \(3, 3\): expected \(2, 2\)"),
        (lambda p: GaussianDenoiser(p, torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "not symmetric"),
        (lambda p: GaussianDenoiser(p, torch.zeros(2), torch.tensor([[1.0, 2.0], [2.0, 1.0]])), "eigenvalue -1"),
        (lambda p: MixtureDenoiser(p, torch.ones(2), torch.zeros(3, 2), torch.ones(3)), "2 weights, 3 means"),
        (lambda p: MixtureDenoiser(p, torch.tensor([1.0, 0.0]), torch.zeros(2, 2), torch.ones(2)), "weights"),
        (lambda p: MixtureDenoiser(p, torch.ones(1), torch.zeros(1, 2), -torch.ones(1)), "stds"),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(SDE(FlowSchedule()))  # type: ignore[operator]
