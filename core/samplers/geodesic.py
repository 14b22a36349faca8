r"""Samplers on manifolds: steps along geodesics.

With the variance ``s`` as time the reverse process is ``dX = score ds + dB``, and the probability-flow ODE ``dx / ds =
-score / 2`` (De Bortoli et al. 2022, 2202.02763, section 3).  A step moves by the exponential map, so states stay on
the manifold to rounding.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..manifolds import RiemannianProcess
from ..process import Process
from ..schedules import require
from .base import Row, Run, Sampler

__all__ = ["GeodesicODE", "GeodesicRandomWalk"]


@dataclass(frozen=True)
class GeodesicSampler(Sampler):
    """What both share: they move points of manifolds, and refuse a start that is off it."""

    moves: ClassVar[type[Process]] = RiemannianProcess

    def walk(self, run: Run, x: Any, clock: Any, rows: Any) -> Any:
        run.denoiser.process.manifold.check(x, "x", run.mask)
        return super().walk(run, x, clock, rows)


@dataclass(frozen=True)
class GeodesicRandomWalk(GeodesicSampler):
    r"""The reverse diffusion by a geodesic random walk, ``exp(x_t, D score + sqrt(v) z)`` with ``D = s(t) - s(s)``.

    De Bortoli et al. 2022 (arXiv 2202.02763), algorithms 1 and 2, where ``v = D`` ("large").  "small" is ``v = D s(s) /
    s(t)``, the variance of Brownian motion between two known points, as DDPM's: with it the step to clean data has no
    noise.  Corrections are Langevin steps ``exp(x, h score + sqrt(2 h) z)`` with ``h = 2 r^2 min(s, 1)`` at the new
    level (Song et al. 2021, 2011.13456, algorithm 5).  Converges at order 1.  With a seed, sample ``i`` depends on
    ``(seed, i)`` alone.

    Args:
        variance: "small" or "large".
        corrections: Langevin steps at each level, 0 or more; none at clean data.
        r: the corrector's signal-to-noise ratio, positive.
    """

    variance: Literal["small", "large"] = field(default="small", kw_only=True)
    corrections: int = field(default=0, kw_only=True)
    r: float = field(default=0.16, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.variance in ("small", "large"), "variance", self.variance, "'small' or 'large'")
        whole = isinstance(self.corrections, int) and not isinstance(self.corrections, bool) and self.corrections >= 0
        require(whole, "corrections", self.corrections, "an integer of at least 0")
        require(self.r > 0, "r", self.r, "a positive number")

    @property
    def stochastic(self) -> bool:
        return True

    def nfe(self, steps: int | None = None, process: Any = None) -> int:
        steps = self.steps if steps is None else steps
        clean = True if process is None else bool(process.variance(self.grid(steps, process)[-1]) == 0)
        return steps + self.corrections * (steps - clean) + self.denoise

    def plan(self, process: RiemannianProcess, times: Tensor) -> Tensor:
        """Columns: the weights of score and noise of the step, and the Langevin step ``h``."""
        s = process.variance(times)
        gained = s[:-1] - s[1:]
        noise = gained * s[1:] / s[:-1] if self.variance == "small" else torch.where(s[1:] > 0, gained, 0.0)
        # From the uniform distribution of infinite variance there is nowhere to go: its score is zero.
        endless = s[:-1].isinf()
        rows = torch.stack([gained, noise.sqrt()], 1)
        h = 2 * self.r**2 * s[1:].clamp(max=1.0)
        return torch.cat([torch.where(endless[:, None], 0.0, rows), h[:, None]], 1)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        drift, noise, h = row
        manifold = run.denoiser.process.manifold
        v = drift * run.posterior(x, t).score + noise * manifold.white(x, run.noise.step(x, t, s))
        x = _kept(run, manifold.exp(x, v))
        for _ in range(self.corrections if h != 0 else 0):
            z = manifold.white(x, run.noise.draw(x))
            x = _kept(run, manifold.exp(x, h * run.posterior(x, s).score + (2 * h) ** 0.5 * z))
        return manifold.project(x)


@dataclass(frozen=True)
class GeodesicODE(GeodesicSampler):
    r"""The probability-flow ODE along geodesics, by Euler's or Heun's method.

    A step is one of the kernel's arc (`RadialKernel`), in which the ODE is regular from data to noise: EDM's ``dx /
    dsigma`` at short times (Karras et al. 2022, 2206.00364).  Heun's second slope is transported back to the start in
    parallel before both are averaged; the step to clean data, where there is no second slope, stays Euler's, and one
    from infinite variance stays where it is.

    Args:
        method: "heun", of order 2, or "euler", of order 1.
    """

    method: Literal["heun", "euler"] = field(default="heun", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.method in ("heun", "euler"), "method", self.method, "'heun' or 'euler'")

    @property
    def order(self) -> int:  # type: ignore[override]
        """2 for "heun", 1 for "euler"."""
        return 2 if self.method == "heun" else 1

    def nfe(self, steps: int | None = None, process: Any = None) -> int:
        steps = self.steps if steps is None else steps
        if process is None:
            return (2 * steps - 1 if self.method == "heun" else steps) + self.denoise
        return steps + int((self.plan(process, self.grid(steps, process))[:, 1] != 0).sum()) + self.denoise

    def plan(self, process: RiemannianProcess, times: Tensor) -> Tensor:
        """Columns: the weights of the scores at ``t``, for Euler's step, and at its end."""
        s, kernel = process.variance(times), process.manifold.kernel
        arc, pace = kernel.arc(s), kernel.pace(s)
        step = arc[:-1] - arc[1:]
        # From infinite variance, where the score is zero and the pace infinite, nothing moves: the state is uniform.
        moves = (step > 0) & pace[:-1].isfinite()
        first = torch.where(moves, step * pace[:-1], 0.0)
        second = torch.where(moves & (s[1:] > 0), step * pace[1:], 0.0)
        return torch.stack([first, second if self.method == "heun" else 0 * second], 1)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        first, second = row
        manifold = run.denoiser.process.manifold
        v = first * run.posterior(x, t).score
        end = _kept(run, manifold.exp(x, v))
        if second == 0:
            return manifold.project(end)
        w = second * run.posterior(end, s).score
        back = manifold.transport(end, -manifold.transport(x, v, v), w)
        return manifold.project(manifold.exp(x, 0.5 * (v + manifold.to_tangent(x, back))))


def _kept(run: Run, x: Tensor) -> Tensor:
    """Points with the padding blank, as the denoiser is to see them."""
    return x if run.keep is None else x * run.keep
