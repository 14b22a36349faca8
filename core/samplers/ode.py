r"""Euler and Heun for the probability-flow ODE in EDM's variables.

With ``y = x / alpha`` and ``r = sigma / alpha`` the ODE is ``dy / dr = eps(y, r)`` (Karras et al. 2022, 2206.00364,
eq. 3), under every schedule.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..sdes import SDE
from .base import LinearSampler, Row, Run, Sampler

__all__ = ["Euler", "Heun"]


def euler_coefficients(process: SDE, times: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of ``x_t`` and ``mean`` in Euler's step ``x_s = alpha_s (y + (r_s - r_t) eps) = alpha_s mean + sigma_s
    eps``.
    """
    schedule, t, s = process.schedule, times[:-1], times[1:]
    a = schedule.sigma(s) / schedule.sigma(t)
    return a, schedule.alpha(s) - a * schedule.alpha(t)


def heun_gain(process: SDE, times: Tensor, bounded: bool = False) -> Tensor:
    """Half of ``alpha_s (r_s - r_t)``, the factor of Heun's correction; zero where the step must stay Euler's.

    That is the step to clean data, where the slope does not exist, and, unbounded, the step from pure noise
    (``alpha_t = 0``), where ``r`` is infinite and the correction undefined.

    The correction moves the state by ``w (mean_s - mean_t) alpha_s`` with ``w = (r_t / r_s - 1) / 2``, which grows
    without limit as steps grow.  Bounded, ``w`` is at most ``1 - r_s / r_t``, so that the new state weighs both means
    positively; this concerns steps that more than halve the noise ratio and leaves the order as it is.
    """
    schedule, t, s = process.schedule, times[:-1], times[1:]
    gain = 0.5 * (schedule.sigma(s) - schedule.alpha(s) * schedule.sigma(t) / schedule.alpha(t))
    if bounded:
        ratio = (0.5 * (schedule.log_snr(t) - schedule.log_snr(s))).exp()
        gain = torch.maximum(gain, -schedule.sigma(s) * (1 - ratio))
    return torch.where((schedule.sigma(s) > 0) & gain.isfinite(), gain, 0.0)


@dataclass(frozen=True)
class Euler(LinearSampler):
    """Euler's method: ``x_s = alpha_s mean + sigma_s eps``.

    Karras et al. 2022 (arXiv 2206.00364), algorithm 1 without its correction; equal to `DDIM` with ``eta = 0``.  On
    rectified flow's straight path it is Euler's method in time as well.  Converges at order 1.
    """

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        a, b = euler_coefficients(process, times)
        return torch.stack([a, b, torch.zeros_like(a)], 1)


@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method: an Euler step, then the mean of the slopes at both of its ends.

    Karras et al. 2022 (arXiv 2206.00364), algorithm 1.  Two evaluations a step, one in the step to clean data.
    Converges at order 2.

    Args:
        bounded: limit the correction of steps that more than halve the noise ratio, so that runs of few steps stay
            near the data, where the published method leaves them.
    """

    bounded: bool = field(default=False, kw_only=True)

    order = 2

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        steps = self.steps if steps is None else steps
        if process is None:
            return 2 * steps - 1 + self.denoise
        return steps + int((self.plan(process, self.grid(steps, process))[:, -1] != 0).sum()) + self.denoise

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        schedule, s = process.schedule, times[1:]
        return torch.stack([schedule.alpha(s), schedule.sigma(s), heun_gain(process, times, self.bounded)], 1)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        return heun_step(run, x, t, s, row)


def heun_step(run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
    """``x_euler + gain (eps(x_euler, s) - eps(x, t))`` with ``row = (alpha_s, sigma_s, gain)``."""
    alpha, sigma, gain = row
    here = run.posterior(x, t)
    euler = here.combine(alpha, sigma)
    if isinstance(gain, Tensor):
        return euler + gain * (run.posterior(euler, s).eps - here.eps)
    if gain == 0:
        return euler
    slope = run.posterior(euler, s).eps
    return euler.add(slope, alpha=gain).sub_(here.eps, alpha=gain)
