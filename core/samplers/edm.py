"""EDM's stochastic sampler: Heun's method with churn."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..schedules import require
from ..sdes import SDE
from .base import STANDARD, Row, Run, Sampler
from .long_steps import long_steps
from .ode import heun_rows, heun_step, second_evaluations

__all__ = ["EDMSampler"]


@dataclass(frozen=True)
class EDMSampler(Sampler):
    r"""EDM's stochastic sampler: before each Heun step, raise the noise level a little by adding noise.

    With ``r = sigma / alpha``: ``r_hat = r (1 + gamma)``, ``gamma = min(churn / N, sqrt 2 - 1)`` where ``r_min <= r
    <= r_max`` and 0 elsewhere; ``y_hat = y + sqrt(r_hat^2 - r^2) noise_scale z``; then Heun from ``r_hat`` to the
    next level. Karras et al. 2022 (arXiv 2206.00364), algorithm 2.  ``churn = 0`` is `Heun`.  Converges at order 2
    for a fixed churn.

    Args:
        churn: ``S_churn``, at least 0; noise added over the run.
        r_min: ``S_tmin``, lowest noise level with churn.
        r_max: ``S_tmax``, highest.
        noise_scale: ``S_noise``, positive; 1.003 to 1.007 in the paper make up for lost detail.
        bounded: as for `Heun`; long steps have no churn either.
    """

    churn: float = field(default=40.0, kw_only=True)
    r_min: float = field(default=0.0, kw_only=True)
    r_max: float = field(default=math.inf, kw_only=True)
    noise_scale: float = field(default=1.0, kw_only=True)
    bounded: bool = field(default=True, kw_only=True)

    order = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.churn < math.inf, "churn", self.churn, "a number of at least 0")
        require(self.r_min < self.r_max, "r_max", self.r_max, f"a noise level above r_min={self.r_min}")
        require(self.noise_scale > 0, "noise_scale", self.noise_scale, "a positive number")

    @property
    def stochastic(self) -> bool:
        return self.churn > 0

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        steps = self.steps if steps is None else steps
        process = process or STANDARD
        return steps + second_evaluations(self.plan(process, self.grid(steps, process))[:, 3:]) + self.denoise

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """Columns: time ``t_hat``, factor of ``x``, factor of the churn noise, and Heun's from ``t_hat`` to ``s``."""
        schedule, t, s = process.schedule, times[:-1], times[1:]
        alpha, ratio = schedule.alpha(t), schedule.sigma(t) / schedule.alpha(t)
        churned = ratio.isfinite() & (ratio >= self.r_min) & (ratio <= self.r_max)
        if self.bounded:
            churned &= ~long_steps(process, t, s)
        gamma = torch.where(churned, min(self.churn / len(t), math.sqrt(2) - 1), 0.0)
        t_hat = torch.where(gamma > 0, schedule.time(schedule.log_snr(t) - 2 * torch.log1p(gamma)), t)
        alpha_hat = schedule.alpha(t_hat)
        added = torch.where(gamma > 0, self.noise_scale * alpha_hat * ratio * (gamma * (2 + gamma)).sqrt(), 0.0)
        scale = torch.where(gamma > 0, alpha_hat / alpha, 1.0)
        return torch.cat([torch.stack([t_hat, scale, added], 1), heun_rows(process, t_hat, s, self.bounded)], 1)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        t_hat, scale, added, *heun = row
        if isinstance(added, Tensor) or added != 0:
            x = scale * x + added * run.noise.draw(x)
        return heun_step(run, x, t_hat, s, heun)
