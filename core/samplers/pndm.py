"""PNDM: pseudo numerical methods, which extrapolate the noise in the step's number and move by DDIM's formula."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..sdes import SDE
from .base import Row, Run
from .exponential import Predicts
from .multistep import LONG_RUN, Multistep
from .singlestep import COLUMNS

__all__ = ["PNDM"]

# Adams-Bashforth for equal steps.
_ADAMS = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


@dataclass(frozen=True)
class PNDM(Multistep):
    r"""Pseudo numerical methods for diffusion models: ``x_s = phi(x_t, e', t, s)``, ``phi`` DDIM's step.

    ``e'`` is the Adams-Bashforth sum of the last noises for equal steps in the step's number: with four values
    ``(55 e_0 - 59 e_1 + 37 e_2 - 9 e_3) / 24`` ("F-PNDM", or "PLMS" with the other start), with two ``(3 e_0 - e_1) /
    2`` ("S-PNDM").  Liu et al. 2022 (arXiv 2202.09778), eqs. 9, 11-13, algorithm 2 and appendix A.3.  It converges at
    order 2 whatever the number of values, on grids that are smooth in the step's number.

    Args:
        order: number of values: 4 (F-PNDM), 2 (S-PNDM), or 3 or 1 (`DDIM`).
        start: "runge_kutta": the first ``order - 1`` steps are pseudo Runge-Kutta steps of four evaluations, in runs of
            ``2 order`` steps or more (for two values, one step of two); "low_order": one pseudo improved Euler step of
            two evaluations, then fewer values; "auto": the first for runs of 12 steps or more, the other for 5
            or more, else DDIM's step.  Improved Euler's slope at the end has the weight 1/2, or ``rho_s / rho_t`` where
            that is less, so that a long step stays near the data.
    """

    order: int = field(default=4, kw_only=True)  # type: ignore[misc]

    highest: ClassVar[int] = 4

    @property
    def predicts(self) -> Predicts:
        return "eps"

    def _extra(self, steps: int) -> int:
        return sum({0: 0, 1: 1, 2: 3}[kind] for kind in self._start_kinds(steps))

    def _start_kinds(self, steps: int) -> list[int]:
        """Of each step at the start: 1 for improved Euler, 2 for Runge-Kutta of order 4; the last step is neither."""
        if self.order == 1 or (self.start == "auto" and steps < 5):
            return []
        least = {"runge_kutta": 2 * self.order, "auto": LONG_RUN}.get(self.start)
        long = least is not None and steps >= least
        kinds = [2] * (self.order - 1) if long and self.order > 2 else [1]
        return kinds[: steps - 1]

    def _evaluations(self, rows: Tensor) -> int:
        kinds = rows[:, -COLUMNS].nan_to_num(0)
        return int((kinds == 1).sum() + 3 * (kinds == 2).sum())

    def weights(self, process: SDE, t: Tensor, s: Tensor, nodes: Tensor) -> Tensor:
        adams = torch.tensor(_ADAMS[nodes.shape[1]], dtype=torch.float64)
        return _transfer(process, t, s)[1][:, None] * adams

    def _starts(self, process: SDE, times: Tensor) -> Tensor:
        """Columns: the kind, the middle time, DDIM's factors of state and noise to the middle and to the end, the
        weight of improved Euler's slope at the end.
        """
        t, s = times[:-1], times[1:]
        kinds = torch.tensor(self._start_kinds(len(t)), dtype=times.dtype)
        finite = (process.schedule.log_snr(s) - process.schedule.log_snr(t)).isfinite()
        middle = 0.5 * (t + s)
        shrink = (0.5 * (process.schedule.log_snr(t) - process.schedule.log_snr(s))).exp()  # rho_s / rho_t
        columns = [middle, *_transfer(process, t, middle), *_transfer(process, t, s), shrink.clamp(max=0.5)]
        begin = torch.stack([kinds, *(column[: len(kinds)] for column in columns)], 1)
        rows = times.new_full((len(t), COLUMNS), torch.nan)
        rows[: len(kinds), : begin.shape[1]] = torch.where(finite[: len(kinds), None], begin, torch.nan)
        return rows

    def _single(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> tuple[Tensor, Tensor]:
        kind, middle, a_half, w_half, a, w, end = row[:7]
        first = run.posterior(x, t).eps
        if kind == 1:
            second = run.posterior(a * x + w * first, s).eps
            return a * x + w * ((1 - end) * first + end * second), first
        second = run.posterior(a_half * x + w_half * first, middle).eps
        third = run.posterior(a_half * x + w_half * second, middle).eps
        fourth = run.posterior(a * x + w * third, s).eps
        return a * x + (w / 6) * (first + 2 * (second + third) + fourth), first


def _transfer(process: SDE, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of state and noise in DDIM's step ``phi``."""
    a = process.schedule.alpha(s) / process.schedule.alpha(t)
    return a, process.schedule.sigma(s) - a * process.schedule.sigma(t)
