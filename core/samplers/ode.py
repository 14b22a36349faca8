r"""Euler and Heun for the probability-flow ODE in EDM's variables.

With ``y = x / alpha`` and ``r = sigma / alpha`` the ODE is ``dy / dr = eps(y, r)`` (Karras et al. 2022, 2206.00364,
eq. 3), under every schedule.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..denoisers import Posterior
from ..sdes import SDE
from .base import STANDARD, LinearSampler, Row, Run, Sampler
from .long_steps import divide, long_steps

__all__ = ["Euler", "Heun"]


def euler_coefficients(process: SDE, times: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of ``x_t`` and ``mean`` in Euler's step ``x_s = alpha_s (y + (r_s - r_t) eps) = alpha_s mean + sigma_s
    eps``.
    """
    schedule, t, s = process.schedule, times[:-1], times[1:]
    a = schedule.sigma(s) / schedule.sigma(t)
    return a, schedule.alpha(s) - a * schedule.alpha(t)


def heun_gain(process: SDE, times: Tensor) -> Tensor:
    """Half of ``alpha_s (r_s - r_t)``, the factor of Heun's correction; zero where the step must stay Euler's: the
    step to clean data, where the slope does not exist, and the step from pure noise (``alpha_t = 0``), where ``r`` is
    infinite and the correction undefined.
    """
    schedule, t, s = process.schedule, times[:-1], times[1:]
    gain = 0.5 * (schedule.sigma(s) - schedule.alpha(s) * schedule.sigma(t) / schedule.alpha(t))
    return torch.where((schedule.sigma(s) > 0) & gain.isfinite(), gain, 0.0)


def heun_rows(process: SDE, t: Tensor, s: Tensor, bounded: bool) -> Tensor:
    """Columns ``alpha_s, sigma_s``, the gain of Heun's correction (`heun_gain`), and ``alpha, sigma`` and time of a
    stop on the way, zeros where there is none.

    The correction moves the state by ``w (mean_s - mean_t) alpha_s`` with ``w = (r_t / r_s - 1) / 2``, which grows
    without limit as steps grow.  Bounded, ``w`` is at most ``1 - r_s / r_t``, so that the new state weighs both means
    positively; this concerns steps that more than halve the noise ratio, the one from pure noise included.  A step
    that is too long (`long_steps`) is divided into two of Euler's, the one to clean data as well.
    """
    schedule = process.schedule
    alpha, sigma = schedule.alpha(s), schedule.sigma(s)
    stop = torch.zeros(len(t), 3, dtype=torch.float64)
    if bounded:
        gain = 0.5 * (sigma - alpha * schedule.sigma(t) / schedule.alpha(t))
        gain = torch.maximum(gain, -sigma * (1 - (0.5 * (schedule.log_snr(t) - schedule.log_snr(s))).exp()))
        long, middle = long_steps(process, t, s), divide(process, t, s, 2)[:, 0]
        between = torch.stack([schedule.alpha(middle), schedule.sigma(middle), middle], 1)
        stop = torch.where(long[:, None], between, stop)
        gain = torch.where((sigma > 0) & ~long, gain, 0.0)
    else:
        gain = torch.cat([heun_gain(process, torch.stack(pair)) for pair in zip(t, s)])
    return torch.cat([torch.stack([alpha, sigma, gain], 1), stop], 1)


def second_evaluations(rows: Tensor) -> int:
    """In how many of `heun_rows` the denoiser is called twice."""
    return int(((rows[:, 2] != 0) | (rows[:, 5] != 0)).sum())


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

    Karras et al. 2022 (arXiv 2206.00364), algorithm 1.  Two evaluations a step, one in the step to clean data unless it
    is long.
    Converges at order 2.

    Args:
        bounded: limit the correction of steps that more than halve the noise ratio, and divide steps that are longer
            still into two of Euler's, so that runs of few steps stay near the data, where the published method leaves
            them by any distance.  False is the published method.
    """

    bounded: bool = field(default=True, kw_only=True)

    order = 2

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        steps = self.steps if steps is None else steps
        process = process or STANDARD
        return steps + second_evaluations(self.plan(process, self.grid(steps, process))) + self.denoise

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        return heun_rows(process, times[:-1], times[1:], self.bounded)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        return heun_step(run, x, t, s, row)


def heun_step(run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
    """``x_euler + gain (eps(x_euler, s) - eps(x, t))``, or Euler's steps to the stop and to ``s``; see `heun_rows`."""
    alpha, sigma, gain, *between, stop = row
    here = run.posterior(x, t)
    if isinstance(gain, Tensor):
        return _traced(run, here, s, row)
    if stop != 0:
        return run.posterior(here.combine(*between), stop).combine(alpha, sigma)
    euler = here.combine(alpha, sigma)
    if gain == 0:
        return euler
    slope = run.posterior(euler, s).eps
    return euler.add(slope, alpha=gain).sub_(here.eps, alpha=gain)


def _traced(run: Run, here: Posterior, s: Tensor | float, row: Row) -> Tensor:
    """`heun_step` without a branch on numbers, for compilation: the second evaluation is at the stop or at ``s``."""
    alpha, sigma, gain, alpha_stop, sigma_stop, stop = (torch.as_tensor(c) for c in row)
    divided = stop > 0
    state = here.combine(torch.where(divided, alpha_stop, alpha), torch.where(divided, sigma_stop, sigma))
    there = run.posterior(state, torch.where(divided, stop, torch.as_tensor(s)))
    corrected = state + gain * (there.eps - here.eps)
    return torch.where(divided, there.combine(alpha, sigma), corrected)
