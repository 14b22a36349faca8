r"""Samplers that travel back in time: down ``jump_length`` steps, up again by forward noise, ``resamplings`` times.

Each descent harmonises what was imposed by the measurement with the rest.  Lugmayr et al. 2022 (RePaint, arXiv
2201.09865), section 4.2 and appendix; Wang et al. 2022 (DDNM, arXiv 2212.00490), section 3.3 ("time-travel").
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from ..samplers.base import Row, Run, Sampler
from ..schedules import require
from ..sdes import SDE
from .measurement import Measurement

__all__ = ["TravellingSampler"]


@dataclass(frozen=True)
class TravellingSampler(Sampler):
    """A sampler whose route rises again and again.

    From clean data backwards, every ``jump_length`` steps of the grid is a turning point, but for the noisiest: there
    the run returns ``jump_length`` steps, ``resamplings - 1`` times.  A rise is one step of the forward process and
    costs no evaluation.

    Args:
        measurement: what was seen.
        jump_length: steps of the grid between turning points.
        resamplings: how often each stretch is descended; 1 never turns.
    """

    measurement: Measurement = field(kw_only=True)
    jump_length: int = field(default=1, kw_only=True)
    resamplings: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.measurement, Measurement):
            raise TypeError(f"measurement={self.measurement!r}: expected a Measurement(y, operator, noise)")
        require(self.jump_length >= 1, "jump_length", self.jump_length, "at least 1")
        require(self.resamplings >= 1, "resamplings", self.resamplings, "at least 1")

    def _indices(self, steps: int) -> list[int]:
        """The route as numbers of grid times, 0 the noisiest and ``steps`` the last."""
        route, position = [0], 0
        turns = {steps - left: self.resamplings - 1 for left in range(0, steps - self.jump_length, self.jump_length)}
        while position < steps or turns.get(position, 0) > 0:
            if turns.get(position, 0) > 0:
                turns[position] -= 1
                position -= self.jump_length
            else:
                position += 1
            route.append(position)
        return route

    def route(self, process: SDE) -> Tensor:
        return super().route(process)[self._indices(self.steps)]

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        route = self._indices(self.steps if steps is None else steps)
        return sum(b > a for a, b in pairwise(route)) + self.denoise

    @abstractmethod
    def descent(self, process: SDE, t: Tensor, s: Tensor) -> Tensor:
        """Rows of the plan for steps down."""

    @abstractmethod
    def descend(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        """One step down."""

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """The rows of `descent`; for steps up, the factor of ``x_t`` and the standard deviation, then zeros."""
        schedule, t, s = process.schedule, times[:-1], times[1:]
        down = self.descent(process, t, s)
        factor = schedule.alpha(s) / schedule.alpha(t)
        up = torch.zeros_like(down)
        up[:, 0] = factor
        up[:, 1] = (schedule.sigma(s) ** 2 - (factor * schedule.sigma(t)) ** 2).clamp(min=0).sqrt()
        return torch.where((s > t)[:, None], up, down)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        if t > s:
            return self.descend(run, x, t, s, row)
        return row[0] * x + row[1] * run.noise.draw(x)
