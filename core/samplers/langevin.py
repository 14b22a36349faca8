r"""Annealed Langevin dynamics: Langevin steps at falling noise levels, without a reverse process.

At each level ``T`` steps ``x <- x + h score + sqrt(2 h) z`` with ``h = eta sigma^2``, the same ``eta`` at all levels of
a geometric sequence; then the state passes to the next level as it is, in the scale where ``alpha = 1``.
Song and Ermon 2019 (arXiv 1907.05600), algorithm 1, whose step ``alpha_i`` is ``2 h`` here; Song and Ermon 2020
(2006.09011), algorithm 1 and techniques 4 and 5.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..grids import Grid, UniformLogSNR
from ..schedules import require
from ..sdes import SDE
from .base import Row, Run, Sampler

__all__ = ["AnnealedLangevin"]


@dataclass(frozen=True)
class AnnealedLangevin(Sampler):
    r"""Annealed Langevin dynamics on the levels of the grid, which the default `UniformLogSNR` spaces geometrically.

    Without a given ``eta`` it follows technique 4: from a level ``gamma`` times noisier, ``T`` steps on Gaussian noise
    leave ``v = (1 - eta)^(2 T) (gamma^2 - V) + V`` of the level's variance, with ``V = 2 / (2 - eta)``, and ``eta`` is
    what brings ``v`` closest to 1.  On a grid that ends in clean data the run ends with the posterior mean of the last
    level's state (technique 5), one more evaluation; else ``denoise=True`` does so.

    The density of each level is met in the limit of many levels, many steps and small ``eta``: Langevin steps of
    finite size leave too much variance.

    Args:
        corrections: ``T``, Langevin steps at each level.
        eta: step relative to the level's variance, in (0, 1]; None for technique 4.
    """

    steps: int = 100
    grid: Grid = field(default=UniformLogSNR(), kw_only=True)
    corrections: int = field(default=5, kw_only=True)
    eta: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.corrections, int) and not isinstance(self.corrections, bool) and self.corrections >= 1
        require(whole, "corrections", self.corrections, "an integer of at least 1")
        require(self.eta is None or 0 < self.eta <= 1, "eta", self.eta, "a number in (0, 1], or None")

    @property
    def stochastic(self) -> bool:
        return True

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        steps = self.steps if steps is None else steps
        clean = True if process is None else bool(process.schedule.sigma(self.grid(steps, process)[-1]) == 0)
        return self.corrections * (steps + (not clean)) + clean + self.denoise

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """Columns: ``a, b, g`` of the Langevin step ``a x + b mean + g z`` at ``t``; the factor of ``x`` to ``s``, 0
        to clean data; and ``a, b, g`` at ``s`` for a last level that is noisy, else zeros.
        """
        schedule = process.schedule
        alpha, sigma, log_snr = schedule.alpha(times), schedule.sigma(times), schedule.log_snr(times)
        gamma = (0.5 * (log_snr[1:] - log_snr[:-1])).exp()
        # No level is noisier than the first, which is treated like the second; pure noise is passed on in its scale.
        gamma = torch.where(gamma.isfinite(), gamma, 1.0)
        eta = self._eta(torch.cat([gamma[:1], gamma]))
        langevin = torch.stack([1 - eta, eta * alpha, (2 * eta).sqrt() * sigma], 1)
        move = torch.where(alpha[:-1] > 0, alpha[1:] / alpha[:-1], sigma[1:] / sigma[:-1])
        move = torch.where(sigma[1:] > 0, move, 0.0)
        last = torch.zeros_like(langevin[1:])
        if sigma[-1] > 0:
            last[-1] = langevin[-1]
        return torch.cat([langevin[:-1], move[:, None], last], 1)

    def _eta(self, gamma: Tensor) -> Tensor:
        if self.eta is not None:
            return torch.full_like(gamma, self.eta)
        eta = torch.logspace(-6, 0, 6001, dtype=torch.float64)
        kept, limit = (1 - eta) ** (2 * self.corrections), 2 / (2 - eta)
        variance = kept * (gamma[:, None].clamp(min=1) ** 2 - limit) + limit
        return eta[(variance - 1).abs().argmin(1)]

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        move, last = row[3], row[4:]
        x = self._langevin(run, x, t, row[:3])
        if move == 0:
            return run.posterior(x, t).mean
        x = x * move
        return self._langevin(run, x, s, last) if last[2] != 0 else x

    def _langevin(self, run: Run, x: Tensor, t: Tensor | float, row: Row) -> Tensor:
        a, b, g = row
        for _ in range(self.corrections):
            if run.keep is not None:
                x = x * run.keep
            x = added(run.posterior(x, t).affine(a, b), run.noise.draw(x), g)
        return x


def added(x: Tensor, z: Tensor, g: float | Tensor) -> Tensor:
    """``x + g z``, in place of ``x``, which nobody else may hold."""
    return x + g * z if isinstance(g, Tensor) else x.add_(z, alpha=g)
