"""DDPM and DDIM: samplers that go through the Gaussian posterior ``q(x_s | x_t, x_0)``."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..schedules import require
from ..sdes import SDE, posterior_coefficients
from .base import LinearSampler

__all__ = ["DDIM", "DDPM"]


@dataclass(frozen=True)
class DDPM(LinearSampler):
    r"""Ancestral sampling: draw from ``q(x_s | x_t, x_0 = mean)``, or with the larger of DDPM's two variances.

    With ``e = SNR(t) / SNR(s)``: the mean is ``sqrt(e) (sigma_s / sigma_t) x_t + alpha_s (1 - e) mean``; the variance
    is ``sigma_s^2 (1 - e)`` ("small", the posterior's, right when the data are one point) or ``sigma_t^2 (1 - e)``
    ("large", the forward step's, right when the data are standard normal).  The step to clean data adds no noise. Ho
    et al. 2020 (arXiv 2006.11239), eqs. 6-7 and section 3.2.  Converges at order 1.

    Args:
        variance: "small" or "large".
    """

    variance: Literal["small", "large"] = field(default="small", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.variance in ("small", "large"), "variance", self.variance, "'small' or 'large'")

    @property
    def stochastic(self) -> bool:
        return True

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        schedule, t, s = process.schedule, times[:-1], times[1:]
        a, b, g = posterior_coefficients(schedule, t, s)
        if self.variance == "large":
            g = torch.where(schedule.sigma(s) > 0, b / schedule.alpha(s) * schedule.sigma(t) ** 2, 0.0).sqrt()
        return torch.stack([a, b, g], 1)


@dataclass(frozen=True)
class DDIM(LinearSampler):
    r"""DDIM: ``x_s = alpha_s mean + sqrt(sigma_s^2 - g^2) eps + g z`` with ``g = eta sigma_s sqrt(1 - SNR(t) /
    SNR(s))``.

    Song et al. 2021 (arXiv 2010.02502), eqs. 12 and 16.  ``eta = 0`` is deterministic, the exact solution of the
    probability-flow ODE for a constant mean, and equals `Euler` and `DPMSolver` of order 1; ``eta = 1`` is `DDPM`
    with the small variance. Converges at order 1.

    Args:
        eta: share of DDPM's noise, 0 to 1.
    """

    eta: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.eta <= 1, "eta", self.eta, "a number from 0 to 1")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        schedule, t, s = process.schedule, times[:-1], times[1:]
        g = self.eta * posterior_coefficients(schedule, t, s)[2]
        a = (schedule.sigma(s) ** 2 - g**2).sqrt() / schedule.sigma(t)
        return torch.stack([a, schedule.alpha(s) - a * schedule.alpha(t), g], 1)
