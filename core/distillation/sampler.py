"""The sampler of consistency models, and the noise levels at which it stops."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..grids import Grid
from ..process import Process
from ..samplers.base import LinearSampler
from ..schedules import require
from ..sdes import SDE

__all__ = ["ConsistencyGrid", "ConsistencySampler"]


@dataclass(frozen=True)
class ConsistencyGrid(Grid):
    """Noise levels for few steps: log-SNR ``low + (high - low) i / N`` for ``i = 0 ... N - 1``, then ``t = 0``.

    One step goes from ``low`` to the data; of two, the second starts midway, by default where signal and noise are
    equal.  The range is cut to what the schedule covers.

    Args:
        low: log-SNR at the start; the default is EDM's largest noise, ``sigma / alpha = 80``.
        high: log-SNR that would follow the last level.
    """

    low: float = -8.75
    high: float = 8.75

    def __post_init__(self) -> None:
        require(self.low < self.high, "high", self.high, f"a log-SNR above low={self.low}")

    def times(self, steps: int, process: Process) -> Tensor:
        start, stop = (float(process.level(t).log_snr) for t in (1.0, 0.0))
        low, high = max(self.low, start), min(self.high, stop)
        require(low < high, "low", self.low, f"a range that meets the schedule's, {start:.4g} to {stop:.4g}")
        levels = low + (high - low) * torch.arange(steps, dtype=torch.float64) / steps
        return torch.cat([process.schedule.time(levels).clamp(0, 1), levels.new_zeros(1)])


@dataclass(frozen=True)
class ConsistencySampler(LinearSampler):
    r"""Multistep consistency sampling: jump to the data, add noise of the next level, jump again.

    ``x_s = alpha_s f(x_t, t) + sqrt(sigma_s^2 - (alpha_s r_min)^2) z``, without noise at ``s = 0``, where ``f`` is the
    denoiser's mean.  Song et al. 2023 (arXiv 2303.01469), algorithm 1.  One evaluation a step.  The order
    is not that of an ODE solver: an exact consistency function gives exact samples at any number of steps, and more of
    them correct an inexact one.

    Args:
        grid: the noise levels; ``Times((1.0, 0.5, 0.0))`` gives two of your own.
        r_min: noise ratio ``sigma / alpha`` that ``f`` leaves in the data, `ConsistencyDenoiser`'s.
    """

    steps: int = 1
    grid: Grid = field(default=ConsistencyGrid(), kw_only=True)
    r_min: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.r_min >= 0, "r_min", self.r_min, "a number of at least 0")

    @property
    def stochastic(self) -> bool:
        return True

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """Columns: 0, the factor of the mean, the factor of the noise."""
        schedule, s = process.schedule, times[1:]
        alpha, sigma = schedule.alpha(s), schedule.sigma(s)
        noise = (sigma**2 - (alpha * self.r_min) ** 2).clamp(min=0).sqrt()
        return torch.stack([torch.zeros_like(alpha), alpha, torch.where(s > 0, noise, 0.0)], 1)
