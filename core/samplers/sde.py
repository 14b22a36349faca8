"""Euler-Maruyama for the reverse SDE."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..schedules import require
from ..sdes import SDE
from .ancestral import DDIM
from .base import LinearSampler

__all__ = ["EulerMaruyama"]

LONGEST = 1.5


@dataclass(frozen=True)
class EulerMaruyama(LinearSampler):
    r"""Euler-Maruyama on the reverse SDE ``dx = [f x - (1 + eta^2) / 2 g^2 score] dt + eta g dw``.

    Song et al. 2021 (arXiv 2011.13456), eq. 6 and appendix G, with the stochasticity free (Albergo et al. 2023,
    2303.08797).  Converges at order 1 in the moments and, under a `BrownianNoise`, along paths.

    Some steps are `DDIM`'s of the same ``eta`` (at most 1) instead: the one from pure noise (``alpha_t = 0``, infinite
    drift), the one to clean data (``sigma_s = 0``), which returns the mean, and those that gain more than `LONGEST` in
    log-SNR, over which Euler's method leaves the data by any distance.

    Args:
        eta: stochasticity, at least 0; 1 is the reverse SDE, 0 the probability-flow ODE.
    """

    eta: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.eta >= 0, "eta", self.eta, "a number of at least 0")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        schedule, t, s = process.schedule, times[:-1], times[1:]
        dt = t - s
        rate = -schedule.d_log_snr(t)  # g^2 / sigma^2
        pull = 0.5 * (1 + self.eta**2) * rate
        a = 1 - dt * (schedule.d_alpha(t) / schedule.alpha(t) + pull)
        b = dt * pull * schedule.alpha(t)
        g = self.eta * schedule.sigma(t) * (dt * rate).sqrt()
        exact = DDIM(eta=min(self.eta, 1.0)).plan(process, times)
        gained = schedule.log_snr(s) - schedule.log_snr(t)
        ends = ~a.isfinite() | (schedule.sigma(s) == 0) | (gained > LONGEST)
        return torch.where(ends[:, None], exact, torch.stack([a, b, g], 1))
