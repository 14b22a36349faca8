"""Heat kernels against their series in many digits, and the classic traps at 0 and pi."""

import math

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre

from ornstein.core.manifolds import IGSO3, RadialKernel, SphericalKernel, WrappedNormal

mp = pytest.importorskip("mpmath")

THETA = [1e-9, 1e-4, 0.3, 1.0, 1.55, 1.6, 2.5, 3.1, 3.1415, math.pi - 1e-8]
VARIANCES = [0.05, 0.4, 1.45, 1.55, 1.95, 2.05, 6.0]


def circle(theta: float, s: float) -> tuple[float, float]:
    """Log-density and its slope in cos(theta), in 120 digits."""
    terms = range(1, int(40 / s**0.5) + 12)
    t, s = mp.mpf(theta), mp.mpf(s)
    total = 1 + 2 * sum(mp.exp(-n * n * s / 2) * mp.cos(n * t) for n in terms)
    slope = 2 * sum(mp.exp(-n * n * s / 2) * n * mp.sin(n * t) for n in terms) / mp.sin(t)
    return float(mp.log(total / (2 * mp.pi))), float(slope / total)


def rotations(theta: float, s: float) -> tuple[float, float]:
    terms = range(int(40 / s**0.5) + 12)
    t, s = mp.mpf(theta), mp.mpf(s)

    def character(l: int) -> "mp.mpf":  # noqa: E741
        return mp.sin((l + 0.5) * t) / mp.sin(t / 2)

    def change(l: int) -> "mp.mpf":  # noqa: E741
        return ((l + 0.5) * mp.cos((l + 0.5) * t) - character(l) * mp.cos(t / 2) / 2) / mp.sin(t / 2)

    weights = [(2 * l + 1) * mp.exp(-l * (l + 1) * s / 2) for l in terms]  # noqa: E741
    total = sum(w * character(i) for i, w in enumerate(weights))
    slope = -sum(w * change(i) for i, w in enumerate(weights)) / mp.sin(t)
    return float(mp.log(total / (8 * mp.pi**2))), float(slope / total)


def sphere(theta: float, s: float) -> tuple[float, float]:
    c, s = mp.cos(mp.mpf(theta)), mp.mpf(s)
    total, slope, before, p, d_before, d = mp.mpf(1), mp.mpf(0), mp.mpf(1), c, mp.mpf(0), mp.mpf(1)
    for l in range(1, int(40 / float(s) ** 0.5) + 12):  # noqa: E741
        w = (2 * l + 1) * mp.exp(-l * (l + 1) * s / 2)
        total, slope = total + w * p, slope + w * d
        before, p, d_before, d = p, ((2 * l + 1) * c * p - l * before) / (l + 1), d, d_before + (2 * l + 1) * p
    return float(mp.log(total / (4 * mp.pi))), float(slope / total)


@pytest.mark.parametrize(
    ("kernel", "exact"),
    [(WrappedNormal(), circle), (IGSO3(), rotations), (SphericalKernel(2), sphere)],
    ids=["circle", "SO3", "sphere"],
)
def test_kernel_equals_its_series_near_both_ends_too(kernel, exact) -> None:
    theta = torch.tensor(THETA, dtype=torch.float64)
    for s in VARIANCES:
        with mp.workdps(120):
            expected = torch.tensor([exact(t, s) for t in THETA], dtype=torch.float64)
        variance = torch.full_like(theta, s)
        torch.testing.assert_close(kernel.log_density(theta, variance), expected[:, 0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(kernel.slope(theta, variance), expected[:, 1], rtol=1e-11, atol=1e-11)


KERNELS: list[RadialKernel] = [WrappedNormal(), IGSO3(), SphericalKernel(2), SphericalKernel(3), SphericalKernel(4)]


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_kernel_is_flat_at_short_times_and_uniform_at_long_ones(kernel: RadialKernel) -> None:
    s = torch.tensor(1e-6, dtype=torch.float64)
    theta = torch.linspace(0, 5, 11, dtype=torch.float64) * s.sqrt()
    flat = -0.5 * theta**2 / s - 0.5 * kernel.dim * (2 * math.pi * s).log()
    torch.testing.assert_close(kernel.log_density(theta, s), flat, rtol=0, atol=2e-5)
    theta = torch.linspace(0, math.pi, 9, dtype=torch.float64)
    for long in (80.0, math.inf):
        value = kernel.log_density(theta, torch.tensor(long, dtype=torch.float64))
        torch.testing.assert_close(value, torch.full_like(theta, -kernel.log_volume), rtol=0, atol=1e-12)
    assert kernel.divergence_from_uniform(30.0) < 1e-10


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_density_sums_to_one_and_drawn_distances_have_it(kernel: RadialKernel) -> None:
    x, w = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(200))
    for s in (0.01, 0.3, 3.0):
        end = min(math.pi, 14 * s**0.5)
        theta, weight = 0.5 * end * (x + 1), 0.5 * end * w
        variance = torch.full_like(theta, s)
        density = (kernel.log_density(theta, variance) + kernel.log_area(theta)).exp()
        assert float((density * weight).sum()) == pytest.approx(1.0, abs=1e-8)
        radius = torch.tensor([0.1, 1.0, 2.5], dtype=torch.float64)
        found = kernel.distance_of(radius, torch.tensor(s, dtype=torch.float64))
        below = torch.special.gammainc(torch.tensor(0.5 * kernel.dim, dtype=torch.float64), 0.5 * radius**2)
        for limit, level in zip(found.tolist(), below.tolist()):
            theta, weight = 0.5 * limit * (x + 1), 0.5 * limit * w
            density = (kernel.log_density(theta, variance) + kernel.log_area(theta)).exp()
            assert float((density * weight).sum()) == pytest.approx(level, abs=1e-8)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_expected_squared_score_is_the_rate_at_which_entropy_grows(kernel: RadialKernel) -> None:
    """De Bruijn: ``d KL(K_s || uniform) / ds = -I(s) / 2``."""
    for s in (0.003, 0.2, 1.0, 4.0):
        change = (kernel.divergence_from_uniform(s * 1.001) - kernel.divergence_from_uniform(s * 0.999)) / (0.002 * s)
        information = kernel.dim * float(kernel.rms(torch.tensor(s, dtype=torch.float64))) ** 2
        assert -2 * change == pytest.approx(information, rel=5e-5)
    short = torch.tensor([1e-8, 1e-5], dtype=torch.float64)
    torch.testing.assert_close(kernel.rms(short), short.rsqrt(), rtol=2e-5 * kernel.dim, atol=0)
    long = torch.tensor([30.0, 31.0, 200.0, math.inf], dtype=torch.float64)
    rms = kernel.rms(long)
    assert float(rms[1] / rms[0]) == pytest.approx(math.exp(-0.5 * kernel.gap), rel=1e-6)
    assert rms[2:].tolist() == [0.0, 0.0]


def test_circle_scores_long_after_the_start_are_the_first_waves() -> None:
    late = torch.tensor([12.0], dtype=torch.float64)
    torch.testing.assert_close(WrappedNormal().rms(late) ** 2, 2 * (-late).exp(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_arc_its_inverse_and_its_pace_agree(kernel: RadialKernel) -> None:
    s = torch.tensor([1e-9, 0.01, 0.7, 5.0, 9.0], dtype=torch.float64, requires_grad=True)
    arc = kernel.arc(s)
    (slope,) = torch.autograd.grad(arc.sum(), s)
    torch.testing.assert_close(kernel.pace(s), 0.5 / slope, rtol=1e-8, atol=0)
    torch.testing.assert_close(kernel.variance_at(arc), s, rtol=1e-6, atol=0)
    assert float(kernel.arc(torch.tensor(math.inf))) == pytest.approx((2 / kernel.gap) ** 0.5)
    # The ODE's speed pace * rms stays near 1.
    every = torch.logspace(-8, 1.2, 50, dtype=torch.float64)
    speed = kernel.pace(every) * kernel.rms(every)
    assert (speed > 0.95).all()
    assert (speed < 2.5).all()


def test_kernels_of_higher_spheres_follow_from_those_two_dimensions_below() -> None:
    """``K_(d + 2) = e^(d s / 2) / (2 pi) dK_d / d cos(theta)``; the lower ones are exact."""
    for dim, below in ((3, WrappedNormal()), (4, SphericalKernel(2))):
        kernel = SphericalKernel(dim)
        for s in (1e-4, 1e-3, 1 / 400, 0.01, 0.1, 0.249, 0.3, 2.0):
            theta = torch.linspace(0, 1, 60, dtype=torch.float64) * min(math.pi, 8 * s**0.5)
            variance = torch.full_like(theta, s)
            expected = below.log_density(theta, variance) + below.slope(theta, variance).log()
            expected = expected + 0.5 * (dim - 2) * s - math.log(2 * math.pi)
            error = (kernel.log_density(theta, variance) - expected).abs()
            series = (theta**2 <= 32 * s) & (s >= 1 / 400) | (s >= 0.25)
            assert not series.any() or error[series].max() < 1e-6
            assert error.max() < (1e-4 if s <= 1 / 400 else 0.1)
            assert kernel.slope(theta, variance).isfinite().all()


def test_sphere_agrees_with_scipy_and_circle_with_the_normal() -> None:
    theta, s = torch.tensor([0.4, 2.0]), 0.5
    terms = ((n, (2 * n + 1) * math.exp(-n * (n + 1) * s / 2)) for n in range(20))
    series = sum(weight * eval_legendre(n, theta.cos().double()) for n, weight in terms)
    found = SphericalKernel(2).log_density(theta, torch.tensor(s)).exp()
    torch.testing.assert_close(found, torch.as_tensor(series) / (4 * math.pi), rtol=1e-6, atol=0)
    one, s = torch.tensor(1.0), torch.tensor(0.01, dtype=torch.float64)
    assert float(WrappedNormal().distance_of(one, s)) == pytest.approx(0.1, abs=1e-9)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_kernels_have_finite_gradients_at_both_ends(kernel: RadialKernel) -> None:
    for s in (1e-6, 1e-4, 0.1, 3.0, math.inf):
        theta = torch.tensor([0.0, 1e-7, math.pi], dtype=torch.float64, requires_grad=True)
        variance = torch.full_like(theta, s)
        value = kernel.log_density(theta, variance).sum() + kernel.slope(theta, variance).sum()
        assert value.isfinite()
        (gradient,) = torch.autograd.grad(value, theta, allow_unused=math.isinf(s))
        assert gradient is None or gradient.isfinite().all()
