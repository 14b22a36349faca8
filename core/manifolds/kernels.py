r"""Heat kernels that depend on the distance alone, and what follows from any of them.

Brownian motion with generator ``Laplacian / 2``, started at a point, has after the variance ``s`` a density
``K_s(theta)`` that depends on the distance ``theta`` in [0, pi] from the start alone, on the circle, on spheres and on
SO(3).  A kernel says its logarithm and the slope

    g = d log K_s / d cos(theta),        so that        grad_x log K_s(theta(x, y)) = g grad_x cos(theta(x, y)),

which is smooth at both ends, where the derivative with respect to ``theta`` vanishes and the direction is lost.

From it follow

* by quadrature, the expected squared score, or Fisher information, ``I(s) = E |grad log K_s|^2``, which is ``dim / s``
  at short times and falls like ``e^(-gap s)`` at long ones, and its root ``rms = sqrt(I / dim)``, by which the score of
  every noise level has unit size (the normalisation of Jing et al. 2022, 2206.01729, section 3.2);
* by inversion, exact draws: the transport of a Gaussian's radius to the distance;
* the arc ``tau(s) = sqrt(2 (1 - e^(-gap s / 2)) / gap)``, a time in which the probability-flow ODE ``dx / ds = -score /
  2`` is regular from data to noise, ``dx / dtau = -pace score``: it is ``sqrt(s)`` at short times, where the ODE is
  EDM's ``dx / dsigma`` (Karras et al. 2022, 2206.00364), and as finite as what is left of the score at long ones.
"""

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["RadialKernel", "legendre"]

LOW, HIGH = math.log(1e-6), math.log(128.0)  # logarithms of the variances that tables cover
KNOTS, DEGREE = 2048, 128


class RadialKernel(ABC):
    """The heat kernel of a space in which all points and all directions are alike; see the module's text.

    Everything is computed in float64.  Distances and variances broadcast against one another; variances are positive
    and may be infinite.
    """

    dim: int
    """Of the space."""
    log_volume: float
    """Logarithm of the space's volume: ``-log_volume`` is the uniform log-density."""
    gap: ClassVar[float] = 1.0
    """Smallest eigenvalue of ``-Laplacian`` above 0: how fast data are forgotten, as ``e^(-gap s / 2)``."""

    @abstractmethod
    def log_density(self, theta: Tensor, s: Tensor) -> Tensor:
        """``log K_s(theta)`` with respect to the Riemannian volume."""

    @abstractmethod
    def slope(self, theta: Tensor, s: Tensor) -> Tensor:
        """``g = d log K_s / d cos(theta)``, not negative."""

    @abstractmethod
    def log_area(self, theta: Tensor) -> Tensor:
        """Logarithm of the area of the sphere of radius ``theta`` about a point."""

    def rms(self, s: Tensor) -> Tensor:
        """``sqrt(I(s) / dim)``, from a table that is exact to 1e-8; 0 beyond ``s = 128``, where the score is below
        1e-27, and flat space's ``1 / sqrt(s)`` up to a relative 1e-6 below ``s = 1e-6``.
        """
        position = (s.log().clamp(LOW, HIGH) - LOW) * ((KNOTS - 1) / (HIGH - LOW))
        return torch.where(s > math.exp(HIGH), 0.0, ((_cubic(position, *_table(self)) - s.log()) * 0.5).exp())

    def arc(self, s: Tensor) -> Tensor:
        """``tau(s) = sqrt(2 (1 - e^(-gap s / 2)) / gap)``; ``sqrt(2 / gap)`` for infinite ``s``."""
        return (-2 / self.gap * torch.expm1(-0.5 * self.gap * s)).sqrt()

    def variance_at(self, arc: Tensor) -> Tensor:
        """The variance ``s`` at which the arc is ``arc``: the inverse of `arc`."""
        return -2 / self.gap * torch.log1p(-0.5 * self.gap * arc**2)

    def pace(self, s: Tensor) -> Tensor:
        """``1/2 ds / dtau = tau e^(gap s / 2)``, the factor on the score in the ODE by arc; grows without bound as the
        score vanishes.
        """
        return self.arc(s) * (0.5 * self.gap * s).exp()

    def divergence_from_uniform(self, s: float) -> float:
        """``KL(K_s || uniform)`` in nats: what is left of the data after the variance ``s``."""
        if math.isinf(s):
            return 0.0
        theta, weight = _nodes(torch.tensor([s], dtype=torch.float64), 64)
        log = self.log_density(theta, torch.full_like(theta, s))
        return float(((log + self.log_area(theta)).exp() * (log + self.log_volume) * weight).sum())

    @torch.no_grad()
    def distance_of(self, radius: Tensor, s: Tensor) -> Tensor:
        """The distance that ``K_s`` puts where a standard normal vector of ``dim`` numbers has its radius: both have
        the same probability below them.  Newton's method within a bracket, to 1e-9 of the standard deviation.
        """
        shape = torch.broadcast_shapes(radius.shape, s.shape)
        radius, s = (v.double().expand(shape).reshape(-1) for v in (radius, s))
        variance = s.clamp(min=1e-30)
        level = torch.special.gammainc(radius.new_full((), 0.5 * self.dim).expand_as(radius), 0.5 * radius**2)
        low, high = torch.zeros_like(radius), torch.full_like(radius, math.pi)
        theta = (radius * variance.sqrt()).clamp(max=0.5 * math.pi)
        below = self._probability(low, theta, variance, 32)
        left = torch.arange(len(radius), device=radius.device)
        for _ in range(60):
            here, v, excess = theta[left], variance[left], (below - level)[left]
            low[left], high[left] = torch.where(excess < 0, here, low[left]), torch.where(excess < 0, high[left], here)
            newton = here - excess / (self.log_density(here, v) + self.log_area(here)).exp()
            inside = (newton >= low[left]) & (newton <= high[left])
            theta[left] = torch.where(inside, newton, 0.5 * (low + high)[left])
            below[left] += self._probability(here, theta[left], v, 12)
            left = left[(theta[left] - here).abs() > 1e-9 * v.sqrt().clamp(max=1.0)]
            if len(left) == 0:
                break
        return torch.where(s > 0, theta, 0.0).reshape(shape)

    def _probability(self, start: Tensor, end: Tensor, s: Tensor, count: int) -> Tensor:
        """What ``K_s`` puts between two distances, each ``(M,)``, by a rule of ``count`` nodes."""
        x, w = (v.to(s) for v in legendre(count))
        theta = start[:, None] + (end - start)[:, None] * x
        density = (self.log_density(theta, s[:, None]) + self.log_area(theta)).exp()
        return (end - start) * (density * w).sum(1)


@lru_cache(maxsize=32)
def legendre(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss and Legendre's rule on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy(0.5 * (x + 1)), torch.from_numpy(0.5 * w)


def _nodes(s: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Distances ``(M, count)`` that matter at the variances ``(M,)``, up to 12 standard deviations, and weights."""
    x, w = legendre(count)
    end = (12 * s.sqrt()).clamp(max=math.pi)[:, None]
    return end * x, end * w


@lru_cache(maxsize=32)
def _table(kernel: RadialKernel) -> tuple[Tensor, Tensor]:
    """``log(I s / dim)`` at evenly spaced ``log s``, and its slope times the spacing."""
    points = np.polynomial.chebyshev.chebpts1(DEGREE + 1)
    s = torch.from_numpy(0.5 * (LOW + HIGH) + 0.5 * (HIGH - LOW) * points).exp()
    theta, weight = _nodes(s, 64)
    wide = s[:, None].expand_as(theta)
    with torch.no_grad():
        log = kernel.log_density(theta, wide) + kernel.log_area(theta)
        score = kernel.slope(theta, wide) * theta.sin()
        values = ((log.exp() * score**2 * weight).sum(1) * s / kernel.dim).log()
    series = np.polynomial.chebyshev.Chebyshev.fit(points, values.numpy(), DEGREE, domain=[-1, 1])
    u = np.linspace(-1, 1, KNOTS)
    return torch.from_numpy(series(u)), torch.from_numpy(series.deriv()(u) * 2 / (KNOTS - 1))


def _cubic(position: Tensor, values: Tensor, slopes: Tensor) -> Tensor:
    """Hermite's cubic between the knots."""
    values, slopes = values.to(position), slopes.to(position)
    k = position.floor().clamp(max=KNOTS - 2).long()
    u = position - k
    left, right = values[k], values[k + 1]
    blend = u * u * (3 - 2 * u)
    return left + blend * (right - left) + u * (1 - u) * ((1 - u) * slopes[k] - u * slopes[k + 1])
