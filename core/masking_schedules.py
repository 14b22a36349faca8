r"""Schedules whose signal share ``a(t) = sigmoid(log_snr(t))`` has a simple form, as chains of categories use them.

For a chain ``a`` is the probability that a category is still the data's; for Gaussian states these are
variance-preserving schedules with ``alpha^2 = a``.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from .schedules import Scalars, Schedule, Time, as_tensor, require

__all__ = ["GeometricSchedule", "PowerSchedule"]


@dataclass(frozen=True)
class PowerSchedule(Schedule):
    """``a(t) = 1 - t^p``: log-linear for ``p = 1``, where a masked text loses its words at a constant rate.

    Sahoo et al. 2024 (arXiv 2406.07524), appendix E.1; Shi et al. 2024 (2406.04329), table 4, polynomial.

    Args:
        power: the exponent ``p``, positive.
    """

    power: float = 1.0
    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "vp"

    def __post_init__(self) -> None:
        require(0 < self.power < math.inf, "power", self.power, "a positive number")

    def _kept(self, t: Time) -> Scalars:
        # 1 - t^p as expm1, which keeps its digits near t = 1; taken from 0, since -0 would turn signs there.
        return 0.0 - torch.expm1(self.power * as_tensor(t).log())

    def alpha(self, t: Time) -> Scalars:
        return self._kept(t).sqrt()

    def sigma(self, t: Time) -> Scalars:
        return as_tensor(t) ** (0.5 * self.power)

    def d_alpha(self, t: Time) -> Scalars:
        return -0.5 * self.power * as_tensor(t) ** (self.power - 1) / self.alpha(t)

    def d_sigma(self, t: Time) -> Scalars:
        return 0.5 * self.power * as_tensor(t) ** (0.5 * self.power - 1)

    def d_log_snr(self, t: Time) -> Scalars:
        return -self.power / (as_tensor(t) * self._kept(t))

    def time(self, log_snr: Time) -> Scalars:
        return torch.sigmoid(-as_tensor(log_snr)) ** (1 / self.power)


@dataclass(frozen=True)
class GeometricSchedule(Schedule):
    """``a(t) = exp(-n(t))`` with noise ``n`` that grows geometrically from ``low`` to ``high``.

    Lou et al. 2024 (arXiv 2310.16834), appendix C.1, with ``low = 1e-5`` and ``high = 20`` for uniform noise.

    Args:
        low, high: total noise at ``t = 0`` and ``t = 1``, ``0 < low < high``.
    """

    low: float = 1e-5
    high: float = 20.0
    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "vp"

    def __post_init__(self) -> None:
        require(0 < self.low < self.high < math.inf, "low", self.low, f"a positive number below high={self.high}")

    def noise(self, t: Time) -> Scalars:
        """``n(t) = low^(1 - t) high^t``."""
        t = as_tensor(t)
        return ((1 - t) * math.log(self.low) + t * math.log(self.high)).exp()

    def alpha(self, t: Time) -> Scalars:
        return (-0.5 * self.noise(t)).exp()

    def sigma(self, t: Time) -> Scalars:
        return (-torch.expm1(-self.noise(t))).sqrt()

    def d_alpha(self, t: Time) -> Scalars:
        return -0.5 * math.log(self.high / self.low) * self.noise(t) * self.alpha(t)

    def d_sigma(self, t: Time) -> Scalars:
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)

    def log_snr(self, t: Time) -> Scalars:
        n = self.noise(t)
        return -n - (-torch.expm1(-n)).log()

    def time(self, log_snr: Time) -> Scalars:
        # n = log(1 + e^-log_snr), and log n without loss where n is tiny.
        x = as_tensor(log_snr)
        log_n = torch.where(x > 30, -x, torch.logaddexp(torch.zeros_like(x), -x).log())
        return (log_n - math.log(self.low)) / math.log(self.high / self.low)
