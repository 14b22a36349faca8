"""DDPM and DDIM: samplers that go through the Gaussian posterior ``q(x_s | x_t, x_0)``."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..reverse_variance import ReverseVariance, reverse_variance
from ..schedules import require
from ..sdes import SDE, posterior_coefficients
from .base import LinearSampler, Row, Run

__all__ = ["DDIM", "DDPM"]


@dataclass(frozen=True)
class _Ancestral(LinearSampler):
    """Steps ``x_s ~ N(a x_t + b mean, v)`` whose variance may depend on the posterior.

    Where it does, the plan's columns are ``a, b`` and the small and the large standard deviation; the latter is zero
    in the step to clean data, which adds no noise.
    """

    def _advance(
        self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row, kind: ReverseVariance
    ) -> Tensor:
        a, b, small, large = row
        posterior = run.posterior(x, t)
        out = posterior.affine(a, b)
        if not isinstance(large, Tensor) and large == 0:
            return out
        variance = reverse_variance(kind, posterior, b, small * small, large * large)
        std = torch.as_tensor(variance).sqrt()
        if isinstance(large, Tensor):
            std = torch.where(large > 0, std, 0.0)
        return out + std.to(out.dtype) * run.noise.step(x, t, s)


@dataclass(frozen=True)
class DDPM(_Ancestral):
    r"""Ancestral sampling: draw from ``q(x_s | x_t, x_0 = mean)``, or with another of the reverse variances.

    With ``e = SNR(t) / SNR(s)``: the mean is ``sqrt(e) (sigma_s / sigma_t) x_t + alpha_s (1 - e) mean``; the variance
    is ``sigma_s^2 (1 - e)`` ("small", the posterior's, right when the data are one point), ``sigma_t^2 (1 - e)``
    ("large", the forward step's, right when the data are standard normal), the optimal one (Analytic-DPM, Bao et al.
    2022, arXiv 2201.06503) or a network's; see `reverse_variance`.  The step to clean data adds no noise. Ho et al.
    2020 (arXiv 2006.11239), eqs. 6-7 and section 3.2.  Converges at order 1.

    Args:
        variance: "small", "large", "optimal" for denoisers whose posterior has a variance (closed-form ones,
            `AnalyticVariance`), or "learned" for a `LearnedVarianceDenoiser`.
    """

    variance: ReverseVariance = field(default="small", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = ("small", "large", "optimal", "learned")
        require(self.variance in allowed, "variance", self.variance, "'optimal', 'learned', 'small' or 'large'")

    @property
    def stochastic(self) -> bool:
        return True

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        schedule, t, s = process.schedule, times[:-1], times[1:]
        a, b, small = posterior_coefficients(schedule, t, s)
        large = torch.where(schedule.sigma(s) > 0, b / schedule.alpha(s) * schedule.sigma(t) ** 2, 0.0).sqrt()
        columns = {"small": [a, b, small], "large": [a, b, large]}
        return torch.stack(columns.get(self.variance, [a, b, small, large]), 1)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        if self.variance in ("small", "large"):
            return super().advance(run, x, t, s, row)
        return self._advance(run, x, t, s, row, self.variance)


@dataclass(frozen=True)
class DDIM(_Ancestral):
    r"""DDIM: ``x_s = alpha_s mean + sqrt(sigma_s^2 - g^2) eps + g z`` with ``g = eta sigma_s sqrt(1 - SNR(t) /
    SNR(s))``.

    Song et al. 2021 (arXiv 2010.02502), eqs. 12 and 16.  ``eta = 0`` is deterministic, the exact solution of the
    probability-flow ODE for a constant mean, and equals `Euler` and `DPMSolver` of order 1; ``eta = 1`` is `DDPM`
    with the small variance. Converges at order 1.

    With the optimal variance (Analytic-DDIM: Bao et al. 2022, arXiv 2201.06503, eq. 7) the step adds what the mean
    leaves open, ``v = g^2 + b^2 Var[x_0 | x_t]`` with ``b`` the weight of ``x_0`` in the step, and is stochastic at
    ``eta = 0`` as well.

    Args:
        eta: share of DDPM's noise, 0 to 1.
        variance: "small" for ``g^2``, "optimal" for denoisers whose posterior has a variance.
    """

    eta: float = field(default=0.0, kw_only=True)
    variance: Literal["small", "optimal"] = field(default="small", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.eta <= 1, "eta", self.eta, "a number from 0 to 1")
        require(self.variance in ("small", "optimal"), "variance", self.variance, "'small' or 'optimal'")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0 or self.variance == "optimal"

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        schedule, t, s = process.schedule, times[:-1], times[1:]
        g = self.eta * posterior_coefficients(schedule, t, s)[2]
        a = (schedule.sigma(s) ** 2 - g**2).sqrt() / schedule.sigma(t)
        columns = [a, schedule.alpha(s) - a * schedule.alpha(t), g]
        return torch.stack(columns if self.variance == "small" else [*columns, schedule.sigma(s)], 1)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        if self.variance == "small":
            return super().advance(run, x, t, s, row)
        return self._advance(run, x, t, s, row, "optimal")
