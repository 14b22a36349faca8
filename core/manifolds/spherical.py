r"""The heat kernel of spheres.

On the unit sphere of dimension ``d >= 2``, with ``lambda = (d - 1) / 2`` and ``c = cos(theta)``,

    K_s(theta) = 1 / vol(S^d) sum_l e^(-l (l + d - 1) s / 2) (2 l + d - 1) / (d - 1) C_l^lambda(c)

(Gegenbauer's polynomials; Legendre's for ``d = 2``).

**The ordinary sphere.**  At short times the series cancels.  Since the sphere is SO(3) with one turn forgotten, its
kernel is the mean of the kernel ``f_s`` of rotations over that turn, with ``cos(phi / 2) = cos(theta / 2) cos(psi)``:

    K_s(theta) = 1 / (4 pi) 2 / pi int_0^(pi / 2) f_s(phi(psi)) dpsi,
    g          = the mean of (d log f_s / d cos phi) cos^2 psi under the integrand.

All terms are positive, so both are exact to 1e-11 at every distance and every ``s`` from 1e-6 on.

**Higher dimensions.**  The series is used where it is accurate: for ``s`` of at least 1/400 within ``theta^2 <= 32 s``,
and everywhere for ``s`` of at least 1/4.  Elsewhere stands the parametrix (Minakshisundaram and Pleijel 1949) to the
first order, joined to the antipode's Bessel function,

    K_s = (2 pi s)^(-d / 2) e^(-theta^2 / 2s) (theta / sin theta)^lambda B(kappa) e^(s v(theta)),   kappa = pi (pi -
    theta) / s,   B = sqrt(2 pi kappa) e^(-kappa) I_(d / 2 - 1)(kappa),
    v = (d - 1)^2 / 8 - (d - 1) (d - 3) / 8 [(1 - theta cot theta) / theta^2 - 1 / (pi (pi - theta))],

whose relative error is of order ``s^2`` but near the antipode, where it is of order ``s``.  Measured for ``d`` from 3
to 6, the error of ``log K`` is below 1e-4 for ``s <= 1/400`` and ``theta <= 8 sqrt(s)``, which holds all but 1e-12 of
the probability, and below 0.1 wherever it is used; `Varadhan's limit -theta^2 / 2s` alone would be off by several
nats.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .igso3 import IGSO3
from .images import over_sin
from .kernels import RadialKernel, legendre

__all__ = ["SphericalKernel"]

SHORT, LONG = 1 / 400, 1 / 4


@dataclass(frozen=True)
class SphericalKernel(RadialKernel):
    """The heat kernel of the unit sphere of dimension ``dim``; see the module's text.

    Args:
        dim: 2 or more.
    """

    dim: int

    @property
    def log_volume(self) -> float:  # type: ignore[override]
        return _log_volume(self.dim)

    @property
    def gap(self) -> float:  # type: ignore[override]
        return float(self.dim)

    def log_density(self, theta: Tensor, s: Tensor) -> Tensor:
        return self.both(theta, s)[0]

    def slope(self, theta: Tensor, s: Tensor) -> Tensor:
        return self.both(theta, s)[1]

    def log_area(self, theta: Tensor) -> Tensor:
        return (self.dim - 1) * theta.sin().log() + _log_volume(self.dim - 1)

    def both(self, theta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density and slope at once."""
        theta, s = torch.broadcast_tensors(theta.double(), s.double())
        if self.dim == 2:
            return _mean_of_rotations(theta, s)
        use_series = (s >= LONG) | ((s >= SHORT) & (theta**2 <= 32 * s))
        series = _series(self.dim, torch.where(use_series, theta, 0.0), s.clamp(min=SHORT))
        if bool(use_series.all()):
            return series
        short = _parametrix(self.dim, torch.where(use_series, 1.0, theta), torch.where(use_series, SHORT, s))
        return torch.where(use_series, series[0], short[0]), torch.where(use_series, series[1], short[1])


def _log_volume(dim: int) -> float:
    """Of the unit sphere of this dimension: ``2 pi^(n / 2) / Gamma(n / 2)`` with ``n = dim + 1``."""
    return math.log(2) + 0.5 * (dim + 1) * math.log(math.pi) - math.lgamma(0.5 * (dim + 1))


def _mean_of_rotations(theta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    x, w = (v.to(theta.device) for v in legendre(40))
    s = s.clamp(max=500.0)  # uniform, and infinity has no gradient
    sin, cos = (0.5 * theta).sin(), (0.5 * theta).cos()
    # The integrand is near a Gaussian in psi of this width, which is infinite at the antipode.
    apart = theta > 1e-6
    safe = torch.where(apart, theta, 1.0)
    width = torch.where(apart, s * (0.5 * safe).sin() / (2 * safe * cos).clamp(min=1e-30), 0.25 * s).sqrt()
    end = (10 * width).clamp(max=0.5 * math.pi)[..., None]
    psi = end * x
    along = psi.cos()
    phi = 2 * torch.atan2(torch.hypot(sin[..., None], cos[..., None] * psi.sin()), cos[..., None] * along)
    log, slope = IGSO3().both(phi, s[..., None])
    log = log + (end * w).log()
    share = log.softmax(-1)
    return log.logsumexp(-1) + IGSO3.log_volume - math.log(2 * math.pi**2), (share * slope * along**2).sum(-1)


def _series(dim: int, theta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    cos, order = theta.cos(), 0.5 * (dim - 1)
    shortest = float(s.min())
    terms = min(int(math.sqrt(90 / shortest)) + 8, 200) if math.isfinite(shortest) else 1
    total, slope = torch.ones_like(cos), torch.zeros_like(cos)
    # C_l and, for the slope, C'_l = 2 order C_(l-1) of the next order.
    before, c = torch.ones_like(cos), 2 * order * cos
    u_before, u = torch.zeros_like(cos), torch.ones_like(cos)
    for l in range(1, terms + 1):  # noqa: E741  # the field's letter
        weight = (-0.5 * l * (l + dim - 1) * s).exp() * ((2 * l + dim - 1) / (dim - 1))
        total, slope = total + weight * c, slope + weight * (2 * order) * u
        before, c = c, (2 * (l + order) * cos * c - (l + 2 * order - 1) * before) / (l + 1)
        u_before, u = u, (2 * (l + order) * cos * u - (l + 2 * order) * u_before) / l
    return total.log() - _log_volume(dim), slope / total


def _parametrix(dim: int, theta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    order, nu = 0.5 * (dim - 1), 0.5 * dim - 1
    theta = theta.clamp(1e-6, math.pi - 1e-6)
    rest = math.pi - theta
    kappa = math.pi * rest / s
    # log B, but for the power of kappa: log of int e^(kappa (cos psi - 1)) sin^(2 nu) psi, and the mean of cos psi - 1.
    x, w = (v.to(theta.device) for v in legendre(40))
    end = (12 / (1 + kappa).sqrt()).clamp(max=math.pi)[..., None]
    psi = end * x
    fall = -2 * (0.5 * psi).sin() ** 2
    log = kappa[..., None] * fall + 2 * nu * psi.sin().log() + (end * w).log()
    mean_fall = (log.softmax(-1) * fall).sum(-1)
    constant = 0.5 * math.log(2) - nu * math.log(2) - math.lgamma(nu + 0.5)
    curved = 0.25 * order * (dim - 3)
    small = theta < 1e-2
    safe = torch.where(small, 1.0, theta)
    cot = 1 / safe.tan()
    bend = torch.where(small, 1 / 3 + theta**2 / 45, (1 - safe * cot) / safe**2)
    d_bend = torch.where(small, 2 * theta / 45, (1 / safe.sin() ** 2 + cot / safe - 2 / safe**2) / safe)
    v = 0.5 * order**2 - curved * (bend - 1 / (math.pi * rest))
    d_v = -curved * (d_bend - 1 / (math.pi * rest**2))
    log_k = -0.5 * dim * (2 * math.pi * s).log() - 0.5 * theta**2 / s + log.logsumexp(-1) + constant + s * v
    log_k = log_k + order * (over_sin(theta).log() + kappa.log())
    spread = torch.where(small, theta / 3, 1 / safe - cot)
    d_theta = -theta / s + order * (spread - 1 / rest) - math.pi / s * mean_fall + s * d_v
    return log_k, -d_theta / theta.sin()
