"""Restart: a deterministic sampler that goes back to more noise on its way, several times over the same interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..grids import Karras, Times
from ..schedules import FlowSchedule, require
from ..sdes import SDE
from .base import Row, Run, Sampler
from .base import _progress as progress_bar
from .ode import Heun

__all__ = ["Restart", "RestartInterval"]


@dataclass(frozen=True)
class RestartInterval:
    """Where to restart, in noise ratios ``sigma / alpha``.

    Args:
        r_min: level at which noise is added, positive.
        r_max: level that it brings the state to.
        repeats: ``K``, how often.
        steps: of the way back from ``r_max`` to ``r_min``, on Karras's levels.
    """

    r_min: float
    r_max: float
    repeats: int = 2
    steps: int = 3

    def __post_init__(self) -> None:
        require(0 < self.r_min < self.r_max, "r_max", self.r_max, f"a noise level above r_min={self.r_min}")
        require(self.repeats >= 1, "repeats", self.repeats, "at least 1")
        require(self.steps >= 1, "steps", self.steps, "at least 1")


@dataclass(frozen=True)
class Restart(Sampler):
    r"""Restart sampling: at ``r_min`` add the forward process's noise up to ``r_max`` and walk back, ``K`` times.

    ``x_rmax = (alpha_max / alpha_min) x_rmin + sqrt(sigma_max^2 - (alpha_max / alpha_min)^2 sigma_min^2) z``, which
    contracts the errors made so far, while the walk between restarts stays deterministic.  Xu et al. 2023 (arXiv
    2306.14878), algorithms 1 and 2.  The grid's times and the levels ``r_min`` make up the main walk.  A multistep
    method starts without a past after each rise.

    Args:
        sampler: takes the steps down; its own ``steps``, ``grid`` and ``denoise`` are not looked at.
        intervals: where to restart, in any order; a run does so from noisy to clean.

    Raises:
        ValueError: for a stochastic sampler or none at all, or, in a run, an interval outside of the grid's range.
    """

    steps: int = 18
    sampler: Sampler = field(default=Heun(), kw_only=True)
    intervals: tuple[RestartInterval, ...] = field(default=(RestartInterval(0.15, 0.6),), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "intervals", tuple(self.intervals))
        fits = isinstance(self.sampler, Sampler) and not self.sampler.adaptive and not self.sampler.stochastic
        require(fits, "sampler", self.sampler, "a deterministic sampler with steps of its own, such as Heun()")
        require(len(self.intervals) > 0, "intervals", self.intervals, "at least one RestartInterval")

    @property
    def order(self) -> int:  # type: ignore[override]
        """The wrapped sampler's."""
        return self.sampler.order

    @property
    def stochastic(self) -> bool:
        return True

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        """As for every sampler; without a process, on one that reaches all noise levels."""
        process = process if process is not None else SDE(FlowSchedule())
        run = self if steps is None else replace(self, steps=steps)
        return sum(part.nfe(process=process) for part in self._parts(run.route(process)) if part) + self.denoise

    def _parts(self, times: Tensor) -> list[Sampler | None]:
        """The sampler of each walk down; None for one that ends where it starts."""
        walks = [tuple(walk.tolist()) for walk in _walks(times)]
        return [
            replace(self.sampler, steps=len(walk) - 1, grid=Times(walk), denoise=False) if len(walk) > 1 else None
            for walk in walks
        ]

    def route(self, process: SDE) -> Tensor:
        """The grid's times and the levels ``r_min``, and after each of those its rises and ways back."""
        main = self.grid(self.steps, process)
        ratio = (-0.5 * process.schedule.log_snr(main)).exp().tolist()
        loops: dict[float, list[float]] = {}
        for interval in self.intervals:
            inside = ratio[-1] <= interval.r_min * (1 + 1e-9) and interval.r_max <= ratio[0] * (1 + 1e-9)
            expected = f"r_min and r_max between the grid's {ratio[-1]:.4g} and {ratio[0]:.4g}"
            require(inside, "intervals", interval, expected)
            down = Karras(interval.r_min, interval.r_max, clean=False)(interval.steps, process).tolist()
            near = float(main[(main - down[-1]).abs().argmin()])
            down[-1] = near if math.isclose(near, down[-1], rel_tol=1e-9) else down[-1]
            loops.setdefault(down[-1], []).extend(down * interval.repeats)
        times = sorted({*main.tolist(), *loops}, reverse=True)
        return torch.tensor([v for t in times for v in (t, *loops.get(t, ()))], dtype=torch.float64)

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """The wrapped sampler's columns, of each walk down by itself; zeros for a rise."""
        rows: list[Tensor] = []
        for walk, part in zip(_walks(times), self._parts(times)):
            rows += [] if part is None else [part.plan(process, walk)]
            rows.append(times.new_zeros(1, rows[-1].shape[1] if rows else 1))
        return torch.cat(rows[:-1])

    def walk(self, run: Run, x: Tensor, clock: Sequence[float], rows: Sequence[Row]) -> Tensor:
        parts = iter(self._parts(torch.tensor(clock, dtype=torch.float64)))
        part = next(parts)
        for i in progress_bar(range(len(rows)), run.progress):
            t, s, run.latest = clock[i], clock[i + 1], None
            if s > t:
                x, part = self.advance(run, x, t, s, rows[i]), next(parts)
            elif part is not None:
                x = part.advance(run, x, t, s, rows[i])
            x = run.finish(i, len(rows), t, s, x)
        return x

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        if s < t:
            return self.sampler.advance(run, x, t, s, row)
        run.history = []
        start, end = run.denoiser.process.level(t), run.denoiser.process.level(s)
        spread = (-math.expm1(end.log_snr - start.log_snr)) ** 0.5
        return x * (end.alpha / start.alpha) + run.noise.draw(x) * (end.sigma * spread)


def _walks(times: Tensor) -> list[Tensor]:
    """The times cut before each rise."""
    cuts = (times[1:] > times[:-1]).nonzero().flatten() + 1
    return list(torch.tensor_split(times, cuts))
