r"""Noise schedules: how much signal and how much noise there is at time ``t``.

A schedule gives ``x_t = alpha(t) x_0 + sigma(t) eps`` for ``t`` in [0, 1].  What matters about it is the logarithm of
the signal-to-noise ratio,

    log_snr(t) = log(alpha(t)^2 / sigma(t)^2),

which falls strictly with ``t``; ``time(log_snr)`` is its inverse.  Two schedules with equal log-SNR differ by a scale
alone. At the ends log-SNR may be infinite (``sigma(0) = 0``, ``alpha(1) = 0``); these are values, not errors, and
nothing is clipped.  Formulas are written so that no difference of nearly equal numbers is taken (``expm1``, products
of sines, ...).

Every argument ``t`` is a float or a tensor of any shape; results have its shape, dtype and device (floats become
float64).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "CosineSchedule",
    "EDMSchedule",
    "FlowSchedule",
    "PolynomialSchedule",
    "Schedule",
    "SigmoidSchedule",
    "SubVPSchedule",
    "VESchedule",
    "VPSchedule",
]

Scalars = Float[Tensor, "*t"]
Time = Float[Tensor, "*t"] | float | int


def as_tensor(value: Time) -> Tensor:
    """A float as a float64 tensor; a tensor unchanged."""
    return value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)


def wide(t: Tensor) -> Tensor:
    """``t`` in float64, or in float32 on devices that have no float64 (Apple's)."""
    return t.float() if t.device.type == "mps" else t.double()


def softplus(x: Tensor) -> Tensor:
    """``log(1 + e^x)`` to full precision (torch's own is linear above a threshold)."""
    return torch.logaddexp(torch.zeros_like(x), x)


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise ``ValueError`` that says what came and what was expected, unless ``condition``."""
    if not condition:
        raise ValueError(f"{name}={value!r}: expected {expected}")


class Schedule(ABC):
    """Coefficients of a Gaussian path ``x_t = alpha(t) x_0 + sigma(t) eps``; see the module's text."""

    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "none"
    """What stays constant: ``alpha^2 + sigma^2`` (vp), ``alpha`` (ve), ``alpha + sigma`` (flow), or nothing."""

    @abstractmethod
    def alpha(self, t: Time) -> Scalars:
        """Scale of the data."""

    @abstractmethod
    def sigma(self, t: Time) -> Scalars:
        """Standard deviation of the noise."""

    @abstractmethod
    def d_alpha(self, t: Time) -> Scalars:
        """Derivative of ``alpha`` with respect to ``t``; may be infinite at an end."""

    @abstractmethod
    def d_sigma(self, t: Time) -> Scalars:
        """Derivative of ``sigma`` with respect to ``t``; may be infinite at an end."""

    @abstractmethod
    def time(self, log_snr: Time) -> Scalars:
        """The time at which the log-SNR has this value; the inverse of `log_snr`."""

    def log_snr(self, t: Time) -> Scalars:
        """``log(alpha^2 / sigma^2)``, strictly falling; plus or minus infinity where ``sigma`` or ``alpha`` is zero."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def d_log_snr(self, t: Time) -> Scalars:
        """Derivative of ``log_snr``: ``2 (alpha' / alpha - sigma' / sigma)``, negative."""
        return 2 * (self.d_alpha(t) / self.alpha(t) - self.d_sigma(t) / self.sigma(t))


@dataclass(frozen=True)
class VPSchedule(Schedule):
    """Variance-preserving schedule with a linear rate, ``beta(t) = beta_min + t (beta_max - beta_min)``.

    With ``B(t) = int_0^t beta``: ``alpha = exp(-B / 2)``, ``sigma^2 = 1 - exp(-B)``.
    Song et al. 2021 (arXiv 2011.13456), eqs. 29 and 32; the limit of DDPM's linear betas (Ho et al. 2020, 2006.11239).

    Args:
        beta_min: rate at ``t = 0``, positive.
        beta_max: rate at ``t = 1``, at least ``beta_min``.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "vp"

    def __post_init__(self) -> None:
        require(0 < self.beta_min < math.inf, "beta_min", self.beta_min, "a positive number")
        require(
            self.beta_min <= self.beta_max < math.inf, "beta_max", self.beta_max, f"at least beta_min={self.beta_min}"
        )

    def beta(self, t: Time) -> Scalars:
        """The rate at time ``t``."""
        return self.beta_min + as_tensor(t) * (self.beta_max - self.beta_min)

    def integral(self, t: Time) -> Scalars:
        """``B(t)``, the rate integrated from 0."""
        t = as_tensor(t)
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    def _time_of_integral(self, b: Tensor) -> Tensor:
        # The root of b = beta_min t + delta t^2 / 2, in the form that holds at b = 0 and at b = inf; hypot, since the
        # square of the ratio overflows float32 near the data.
        ratio = self.beta_min / b
        return 2 / (ratio + torch.hypot(ratio, (2 * (self.beta_max - self.beta_min) / b).sqrt()))

    def alpha(self, t: Time) -> Scalars:
        return (-0.5 * self.integral(t)).exp()

    def sigma(self, t: Time) -> Scalars:
        return (-torch.expm1(-self.integral(t))).sqrt()

    def d_alpha(self, t: Time) -> Scalars:
        return -0.5 * self.beta(t) * self.alpha(t)

    def d_sigma(self, t: Time) -> Scalars:
        return 0.5 * self.beta(t) * (-self.integral(t)).exp() / self.sigma(t)

    def log_snr(self, t: Time) -> Scalars:
        b = self.integral(t)
        return -(b + (-torch.expm1(-b)).log())

    def time(self, log_snr: Time) -> Scalars:
        return self._time_of_integral(softplus(-as_tensor(log_snr)))


@dataclass(frozen=True)
class SubVPSchedule(VPSchedule):
    """Sub-variance-preserving schedule: ``alpha = exp(-B / 2)``, ``sigma = 1 - exp(-B)``, with `VPSchedule`'s ``B``.

    Song et al. 2021 (arXiv 2011.13456), eqs. 28 and 29.
    """

    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "none"

    def sigma(self, t: Time) -> Scalars:
        return -torch.expm1(-self.integral(t))

    def d_sigma(self, t: Time) -> Scalars:
        return self.beta(t) * (-self.integral(t)).exp()

    def log_snr(self, t: Time) -> Scalars:
        b = self.integral(t)
        return -b - 2 * (-torch.expm1(-b)).log()

    def time(self, log_snr: Time) -> Scalars:
        # alpha / (1 - alpha^2) = r has the root log alpha = -asinh(1 / 2r).
        return self._time_of_integral(2 * torch.asinh(0.5 * (-0.5 * as_tensor(log_snr)).exp()))


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """Cosine schedule: ``alpha(t) = cos(a(t)) / cos(a(0))`` with ``a(t) = (pi / 2) (t + s) / (1 + s)``; variance
    preserving.

    Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 17.  ``alpha(1) = 0``: the SNR at the end is exactly zero.
    With ``s = 0`` it is the trigonometric path ``alpha = cos(pi t / 2)``, ``sigma = sin(pi t / 2)``.

    Args:
        s: offset that keeps the noise near ``t = 0`` from being too small, at least 0.
    """

    s: float = 0.008
    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "vp"

    def __post_init__(self) -> None:
        require(0 <= self.s < math.inf, "s", self.s, "a number of at least 0")

    @property
    def _rate(self) -> float:
        return 0.5 * math.pi / (1 + self.s)

    def alpha(self, t: Time) -> Scalars:
        # cos(a) as the sine of the complement, which is exactly zero at t = 1.
        return torch.sin(self._rate * (1 - as_tensor(t))) / math.cos(self._rate * self.s)

    def sigma(self, t: Time) -> Scalars:
        # cos^2 b - cos^2 a = sin(a - b) sin(a + b), without cancellation.
        t = as_tensor(t)
        product = torch.sin(self._rate * t) * torch.sin(self._rate * (t + 2 * self.s))
        return product.sqrt() / math.cos(self._rate * self.s)

    def d_alpha(self, t: Time) -> Scalars:
        return -self._rate * torch.cos(self._rate * (1 - as_tensor(t))) / math.cos(self._rate * self.s)

    def d_sigma(self, t: Time) -> Scalars:
        if self.s == 0:
            return self._rate * torch.sin(self._rate * (1 - as_tensor(t)))
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)

    def time(self, log_snr: Time) -> Scalars:
        log_snr = as_tensor(log_snr)
        alpha, sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
        if self.s == 0:
            return torch.atan2(sigma, alpha) / self._rate
        # With b = a(0): sin(a - b) = (sin^2 a - sin^2 b) / sin(a + b), since a - b itself loses its digits near t = 0.
        sin_b, cos_b = math.sin(self._rate * self.s), math.cos(self._rate * self.s)
        sin_a, cos_a = torch.hypot(torch.full_like(sigma, sin_b), cos_b * sigma), cos_b * alpha
        sine = (cos_b * sigma) ** 2 / (sin_a * cos_b + cos_a * sin_b)
        return torch.atan2(sine, cos_a * cos_b + sin_a * sin_b) / self._rate


@dataclass(frozen=True)
class PolynomialSchedule(Schedule):
    """Polynomial schedule: ``alpha(t) = (1 - 2 s) (1 - t^p) + s``, variance preserving.

    Hoogeboom et al. 2022 (arXiv 2203.17003), appendix B, where ``p = 2`` and ``s = 1e-5``.

    Args:
        power: the exponent ``p``, positive.
        precision: ``s``, in (0, 0.5): how far ``alpha`` stays from 1 at ``t = 0`` and from 0 at ``t = 1``.
    """

    power: float = 2.0
    precision: float = 1e-5
    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "vp"

    def __post_init__(self) -> None:
        require(0 < self.power < math.inf, "power", self.power, "a positive number")
        require(0 < self.precision < 0.5, "precision", self.precision, "a number between 0 and 0.5, ends excluded")

    def _one_minus_alpha(self, t: Time) -> Tensor:
        return self.precision + (1 - 2 * self.precision) * as_tensor(t) ** self.power

    def alpha(self, t: Time) -> Scalars:
        # 1 - t^p as -expm1(p log t), which keeps its digits near t = 1.
        return self.precision - (1 - 2 * self.precision) * torch.expm1(self.power * as_tensor(t).log())

    def sigma(self, t: Time) -> Scalars:
        rest = self._one_minus_alpha(t)
        return (rest * (2 - rest)).sqrt()

    def d_alpha(self, t: Time) -> Scalars:
        return -(1 - 2 * self.precision) * self.power * as_tensor(t) ** (self.power - 1)

    def d_sigma(self, t: Time) -> Scalars:
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)

    def time(self, log_snr: Time) -> Scalars:
        rest = -torch.expm1(-0.5 * softplus(-as_tensor(log_snr)))
        # At log_snr(0) rounding may leave a tiny negative number, whose fractional power is not defined.
        power = ((rest - self.precision) / (1 - 2 * self.precision)).clamp(min=0)
        return power ** (1 / self.power)


@dataclass(frozen=True)
class SigmoidSchedule(Schedule):
    """Sigmoid schedule: ``alpha(t)^2`` falls like a logistic curve from 1 to 0; variance preserving.

    ``alpha^2 = (S(end) - S(u)) / (S(end) - S(start))`` with ``u = start + t (end - start)`` and ``S(u) = 1 / (1 +
    e^(-u / tau))``. Jabri et al. 2023 (arXiv 2212.11972), algorithm 4.  ``alpha(1) = 0``.

    Args:
        start: where on the logistic curve ``t = 0`` lies.
        end: where ``t = 1`` lies, above ``start``.
        tau: temperature, positive.
    """

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0
    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "vp"

    def __post_init__(self) -> None:
        require(math.isfinite(self.start), "start", self.start, "a finite number")
        require(self.start < self.end < math.inf, "end", self.end, f"a number above start={self.start}")
        require(0 < self.tau < math.inf, "tau", self.tau, "a positive number")

    # Half-widths in units of the temperature; S(a) - S(b) = sinh((a - b) / 2) / (2 cosh(a / 2) cosh(b / 2)).
    @property
    def _half(self) -> tuple[float, float, float]:
        return (self.end - self.start) / (2 * self.tau), self.start / (2 * self.tau), self.end / (2 * self.tau)

    def alpha(self, t: Time) -> Scalars:
        t = as_tensor(t)
        width, start, _ = self._half
        ratio = math.cosh(start) / math.sinh(width)
        return (ratio * torch.sinh(width * (1 - t)) / torch.cosh(start + t * width)).sqrt()

    def sigma(self, t: Time) -> Scalars:
        t = as_tensor(t)
        width, start, end = self._half
        ratio = math.cosh(end) / math.sinh(width)
        return (ratio * torch.sinh(width * t) / torch.cosh(start + t * width)).sqrt()

    def _d_alpha_squared(self, t: Time) -> Tensor:
        width, start, end = self._half
        constant = width * math.cosh(start) * math.cosh(end) / math.sinh(width)
        return -constant / torch.cosh(start + as_tensor(t) * width) ** 2

    def d_alpha(self, t: Time) -> Scalars:
        return 0.5 * self._d_alpha_squared(t) / self.alpha(t)

    def d_sigma(self, t: Time) -> Scalars:
        return -0.5 * self._d_alpha_squared(t) / self.sigma(t)

    def time(self, log_snr: Time) -> Scalars:
        # SNR cosh(end) / cosh(start) = sinh(w (1 - t)) / sinh(w t) = sinh(w) coth(w t) - cosh(w).
        # Solved for w t by a logarithm; atanh would lose the digits of steep schedules near t = 1.
        width, start, end = self._half
        ratio = as_tensor(log_snr).exp() * (math.cosh(end) / math.cosh(start))
        return torch.log1p(2 * math.sinh(width) / (ratio + math.exp(-width))) / (2 * width)


@dataclass(frozen=True)
class VESchedule(Schedule):
    """Variance-exploding schedule with geometric noise: ``alpha = 1``, ``sigma(t) = sigma_min (sigma_max /
    sigma_min)^t``.

    Song et al. 2021 (arXiv 2011.13456), eq. 30 and appendix C.  ``sigma(0) = sigma_min``: a little noise stays in the
    data.

    Args:
        sigma_min: noise at ``t = 0``, positive.
        sigma_max: noise at ``t = 1``; about the largest distance between two data points.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "ve"

    def __post_init__(self) -> None:
        require(
            0 < self.sigma_min < self.sigma_max < math.inf, "sigma_max", self.sigma_max, "0 < sigma_min < sigma_max"
        )

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max) - math.log(self.sigma_min)

    def alpha(self, t: Time) -> Scalars:
        return torch.ones_like(as_tensor(t))

    def sigma(self, t: Time) -> Scalars:
        return (math.log(self.sigma_min) + self._rate * as_tensor(t)).exp()

    def d_alpha(self, t: Time) -> Scalars:
        return torch.zeros_like(as_tensor(t))

    def d_sigma(self, t: Time) -> Scalars:
        return self._rate * self.sigma(t)

    def log_snr(self, t: Time) -> Scalars:
        return -2 * (math.log(self.sigma_min) + self._rate * as_tensor(t))

    def time(self, log_snr: Time) -> Scalars:
        return (-0.5 * as_tensor(log_snr) - math.log(self.sigma_min)) / self._rate


@dataclass(frozen=True)
class EDMSchedule(Schedule):
    """EDM's schedule, where noise is time: ``alpha = 1``, ``sigma(t) = sigma_max t``.

    Karras et al. 2022 (arXiv 2206.00364), table 1 and section 3, with time scaled to [0, 1].

    Args:
        sigma_max: noise at ``t = 1``, positive.
    """

    sigma_max: float = 80.0
    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "ve"

    def __post_init__(self) -> None:
        require(0 < self.sigma_max < math.inf, "sigma_max", self.sigma_max, "a positive number")

    def alpha(self, t: Time) -> Scalars:
        return torch.ones_like(as_tensor(t))

    def sigma(self, t: Time) -> Scalars:
        return self.sigma_max * as_tensor(t)

    def d_alpha(self, t: Time) -> Scalars:
        return torch.zeros_like(as_tensor(t))

    def d_sigma(self, t: Time) -> Scalars:
        return torch.full_like(as_tensor(t), self.sigma_max)

    def time(self, log_snr: Time) -> Scalars:
        return (-0.5 * as_tensor(log_snr)).exp() / self.sigma_max


@dataclass(frozen=True)
class FlowSchedule(Schedule):
    """Rectified flow's straight path: ``alpha = 1 - t``, ``sigma = t``.

    Liu et al. 2023 (arXiv 2209.03003), eq. 1; Lipman et al. 2023 (2210.02747), eq. 20 with ``sigma_min = 0`` (time
    reversed).
    """

    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "flow"

    def alpha(self, t: Time) -> Scalars:
        return 1 - as_tensor(t)

    def sigma(self, t: Time) -> Scalars:
        return as_tensor(t).clone()

    def d_alpha(self, t: Time) -> Scalars:
        return -torch.ones_like(as_tensor(t))

    def d_sigma(self, t: Time) -> Scalars:
        return torch.ones_like(as_tensor(t))

    def log_snr(self, t: Time) -> Scalars:
        t = as_tensor(t)
        return 2 * (torch.log1p(-t) - t.log())

    def time(self, log_snr: Time) -> Scalars:
        return torch.sigmoid(-0.5 * as_tensor(log_snr))
