"""Brownian motion on manifolds as a forward process: marginals, prior, bridges, and what is refused."""

import math

import numpy as np
import pytest
import torch
from manifold_spaces import every_exact_space, every_space, points, quadrature
from scipy.stats import kstest

from ornstein.core import SDE, CosineSchedule, VESchedule
from ornstein.core.manifolds import SO3, Bridge, HeatKernel, RiemannianProcess, Sphere, Torus, Uniform
from ornstein.core.noise import SeededNoise


@every_exact_space
def test_kernels_sum_to_one_and_follow_chapman_and_kolmogorov(manifold, event) -> None:
    y, weight = quadrature(manifold)
    start, end = points(manifold, (1, *event), 0), points(manifold, (1, *event), 1)
    a, b = (torch.tensor(v, dtype=torch.float64) for v in (0.4, 0.9))
    first = HeatKernel(manifold, start.expand(y.shape), a).log_prob(y).exp()
    second = HeatKernel(manifold, y, b).log_prob(end.expand(y.shape)).exp()
    torch.testing.assert_close((first * weight).sum(), torch.ones_like(a), rtol=0, atol=1e-9)
    whole = HeatKernel(manifold, start, a + b).log_prob(end).exp()
    torch.testing.assert_close((first * second * weight).sum()[None], whole, rtol=1e-8, atol=0)


@every_space
def test_marginal_draws_have_the_kernels_distances_and_means(manifold, event) -> None:
    process = RiemannianProcess(manifold, VESchedule(0.01, 5.0))
    t = 0.7
    s = float(process.variance(t))
    x0 = points(manifold, (1, *event), 0).expand(6000, *event)
    x = process.marginal(x0, t).sample(generator=torch.Generator().manual_seed(1))
    assert manifold.residual(x).max() < 1e-13
    distance = manifold.distance(x, x0)
    theta = torch.linspace(1e-6, math.pi - 1e-6, 4001, dtype=torch.float64)
    density = (manifold.kernel.log_density(theta, torch.tensor(s)) + manifold.kernel.log_area(theta)).exp()
    below = torch.cumulative_trapezoid(density, theta)
    for column in distance.reshape(len(x), -1).T.numpy():
        assert kstest(column, lambda d: np.interp(d, theta[1:].numpy(), below.numpy())).pvalue > 1e-3
    # Coordinates are eigenfunctions of the Laplacian, of its lowest eigenvalue: e^(-gap s / 2) is left of their mean.
    features = manifold.features(x)
    expected = math.exp(-0.5 * manifold.kernel.gap * s) * manifold.features(x0)
    error = (features - expected).mean(0) / (features.std(0) / len(x) ** 0.5)
    assert error.abs().max() < 4


@every_space
def test_marginals_begin_at_the_data_and_end_uniform(manifold, event) -> None:
    x0, x = points(manifold, (5, 4, *event), 0), points(manifold, (5, 4, *event), 1)
    uniform = Uniform(manifold, tuple(x.shape)).log_prob(x)
    count = manifold.distance(x, x)[0].numel()
    torch.testing.assert_close(uniform, torch.full((5,), -count * manifold.log_volume, dtype=x.dtype))
    exploding = RiemannianProcess(manifold, VESchedule(0.01, 6.0))
    left = 6 * (manifold.dim + 1) * count * math.exp(-0.5 * manifold.kernel.gap * 36)
    torch.testing.assert_close(exploding.marginal(x0, 1.0).log_prob(x), uniform, rtol=0, atol=left)
    exact = RiemannianProcess(manifold, CosineSchedule())
    torch.testing.assert_close(exact.marginal(x0, 1.0).log_prob(x), uniform, rtol=0, atol=1e-12)
    assert manifold.norm(exact.marginal(x0, 1.0).score(x)).max() == 0
    torch.testing.assert_close(exact.marginal(x0, 0.0).sample(), x0, rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="log_prob at sigma = 0"):
        exact.marginal(x0, 0.0).log_prob(x)
    with pytest.raises(ValueError, match="score at sigma = 0"):
        exact.marginal(x0, 0.0).score(x)
    drawn = exact.prior(x.shape).sample(generator=torch.Generator().manual_seed(0))
    assert drawn.shape == x.shape
    manifold.check(drawn)
    # A time a sample gives what one time gives.
    t = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    together = exploding.marginal(x0, t).log_prob(x)
    alone = torch.cat([exploding.marginal(x0[i : i + 1], float(t[i])).log_prob(x[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@every_exact_space
@pytest.mark.parametrize(("s", "t"), [(0.45, 0.75), (0.72, 0.75)])
def test_bridge_is_normalised_and_drawn_exactly(manifold, event, s: float, t: float) -> None:
    process = RiemannianProcess(manifold, VESchedule(0.05, 5.0))
    x0 = points(manifold, (1, *event), 0)
    xt = process.marginal(x0, t).sample(generator=torch.Generator().manual_seed(3))
    y, weight = quadrature(manifold, 32)
    bridge = process.posterior(x0.expand(y.shape), xt.expand(y.shape), s, t)
    density = bridge.log_prob(y).exp()
    torch.testing.assert_close((density * weight).sum(), torch.ones((), dtype=y.dtype), rtol=0, atol=1e-6)
    features = manifold.features(y)
    mean = (features * (density * weight)[:, None]).sum(0)
    square = (features**2 * (density * weight)[:, None]).sum(0)
    many = 4000
    drawn = process.posterior(x0.expand(many, *event), xt.expand(many, *event), s, t)
    found = manifold.features(drawn.sample(generator=torch.Generator().manual_seed(4)))
    for power, expected in ((1, mean), (2, square)):
        error = (found**power).mean(0) - expected
        assert (error.abs() < 4.5 * (found**power).std(0) / many**0.5).all()


def test_bridges_at_the_ends_are_the_ends() -> None:
    process = RiemannianProcess(SO3(), CosineSchedule())
    x0, xt = points(SO3(), (4, 3, 3), 0), points(SO3(), (4, 3, 3), 1)
    torch.testing.assert_close(process.posterior(x0, xt, 0.0, 0.6).sample(), x0, rtol=0, atol=1e-14)
    for t in (0.6, 1.0):  # of infinite variance at 1
        torch.testing.assert_close(process.posterior(x0, xt, t, t).sample(), xt, rtol=0, atol=1e-14)
    free = process.posterior(x0, xt, 0.5, 1.0).log_prob(xt)
    torch.testing.assert_close(free, process.marginal(x0, 0.5).log_prob(xt), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="expected s <= t"):
        process.posterior(x0, xt, 0.7, 0.6)
    small = torch.tensor(1e-6, dtype=torch.float64)
    with pytest.raises(ValueError, match="too far"):
        Bridge(Torus(1), torch.zeros(1, 1), torch.ones(1, 1), small, small).sample()


def test_starts_depend_on_seed_and_number_alone() -> None:
    process = RiemannianProcess(Sphere(2), VESchedule(0.01, 5.0))
    like = torch.empty(4, 2, 3)
    whole = process.initial(like, 1.0, SeededNoise(3).begin(4, 0))
    part = process.initial(like[:1], 1.0, SeededNoise(3).begin(1, 2))
    assert torch.equal(whole[2:3], part)


def test_bad_processes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"leaves .* nats .* raise its noise there"):
        RiemannianProcess(Sphere(2), VESchedule(0.01, 0.5))
    with pytest.raises(TypeError, match="expected a Manifold"):
        RiemannianProcess(SDE(CosineSchedule()), CosineSchedule())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a Schedule"):
        RiemannianProcess(Sphere(2), 5.0)  # type: ignore[arg-type]
    process = RiemannianProcess(Sphere(2), CosineSchedule())
    with pytest.raises(ValueError, match="off the manifold"):
        process.check_state(torch.ones(1, 3))
    process.check_state(torch.zeros(1, 2, 3))  # all padding
