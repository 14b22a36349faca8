"""DiffPIR's steps: go to the posterior mean, then back to noise that is partly new."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..samplers.base import LinearSampler
from ..schedules import require
from ..sdes import SDE

__all__ = ["Renoise"]


@dataclass(frozen=True)
class Renoise(LinearSampler):
    r"""``x_s = alpha_s mean + sigma_s (sqrt(1 - zeta) eps + sqrt(zeta) z)``.

    Zhu et al. 2023 (DiffPIR, arXiv 2305.08995), eq. 15.  ``zeta = 0`` is `DDIM`; ``zeta = 1`` forgets the noise at
    every step.  For ``zeta > 0`` the share of new noise does not shrink with the steps, so it converges to no
    stochastic process: it is a search, made for denoisers that a measurement corrects.

    Args:
        zeta: share of new noise in the variance, 0 to 1.
    """

    zeta: float = field(default=0.3, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.zeta <= 1, "zeta", self.zeta, "a number from 0 to 1")

    @property
    def stochastic(self) -> bool:
        return self.zeta > 0

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        schedule, t, s = process.schedule, times[:-1], times[1:]
        a = (1 - self.zeta) ** 0.5 * schedule.sigma(s) / schedule.sigma(t)
        return torch.stack([a, schedule.alpha(s) - a * schedule.alpha(t), self.zeta**0.5 * schedule.sigma(s)], 1)
