r"""Linear multistep methods with an optional corrector: the common part of DEIS, LMS, PNDM, UniPC and SA-Solver.

A step is

    x_s = A x_t + w_0 v_t + w_1 v_{previous} + ... + g z,

with values ``v`` (posterior mean or noise) of this and earlier steps.  A corrector, once the value at ``s`` is known,
goes back and repeats the step with that value among the known ones and the same noise (Zhao et al. 2023, 2302.04867,
algorithm 1; Xue et al. 2023, 2309.05019, algorithm 1): it costs no evaluation, since the next step needs the value
anyway.  The last state is not corrected.

Both steps are linear in the same values, ``x_s = A x_t + w . v`` predicted and ``x_s' = A x_t + c . v`` corrected, so
that ``x_s' = x_s + (c - w) . v``: the correction is a change of the next step's weights, by ``A`` times that
difference, and a run holds nothing but values.

A method of order 3 or more that has no past yet would start at order 1 and keep that error.  It starts with single
steps of one order less than its own instead, unless the run is so short that their evaluations would be missed.

Polynomials through few values are no guide over long steps: there a step uses fewer values (`Multistep.reach`), and a
correction that would overshoot is left out.  Runs of few steps so stay near the data, and the order as steps grow is
what it was.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..schedules import require
from ..sdes import SDE
from .base import Row, Run, Sampler
from .exponential import Predicts, lead_columns, leading, value_of
from .singlestep import COLUMNS, singlestep, singlestep_rows

__all__ = ["Multistep", "Start"]

Start = Literal["auto", "runge_kutta", "low_order"]

LONG_RUN = 12
"""Runs of at least this many steps start with Runge-Kutta steps when ``start="auto"``."""


@dataclass(frozen=True)
class Multistep(Sampler):
    """A linear multistep method; subclasses give weights.

    Args:
        order: number of values that a step uses.
        start: "runge_kutta": the first steps of a method of order 3 or more are single steps, which keep its order;
            "low_order": they are multistep of rising order; "auto": the first for runs of 12 steps or more.

    The ``previous`` of `step` holds values of what the method follows (``predicts``): posterior means or noises.
    `step` neither corrects nor starts a run.
    """

    steps: int = 20
    order: int = field(default=3, kw_only=True)  # type: ignore[misc]
    start: Start = field(default="auto", kw_only=True)

    highest: ClassVar[int] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        orders = range(1, self.highest + 1)
        require(self.order in orders, "order", self.order, f"a number from 1 to {self.highest}")
        require(
            self.start in ("auto", "runge_kutta", "low_order"),
            "start",
            self.start,
            "'auto', 'runge_kutta' or 'low_order'",
        )

    def reach(self, values: int, correcting: bool) -> float:
        """The longest step, in half log-SNR, that may use so many values (when ``correcting``: beside the new one)."""
        if self.predicts == "eps":
            # The noise has the weight e^h - 1, so that over steps that more than divide it by e a small error is large.
            return 1.0 if correcting else torch.inf
        return 0.5 if values >= 3 else torch.inf

    @property
    @abstractmethod
    def predicts(self) -> Predicts:
        """What is extrapolated: the posterior mean or the posterior noise."""

    @abstractmethod
    def weights(self, process: SDE, t: Tensor, s: Tensor, nodes: Tensor) -> Tensor:
        """Weights ``(R, k)`` of the values at the times ``nodes`` ``(R, k)``, ``t`` first, in steps ``(R,)``."""

    def stochasticity(self, process: SDE, t: Tensor, s: Tensor) -> Tensor:
        """Stochasticity of each step ``(N,)``; zero, the ODE, unless a method says otherwise."""
        return torch.zeros_like(t)

    def correction(self, process: SDE, t: Tensor, s: Tensor, nodes: Tensor) -> Tensor:
        """Weights ``(R, k)`` with which steps are repeated, ``nodes`` being ``s, t`` and earlier times."""
        return self.weights(process, t, s, nodes)

    @property
    def corrects(self) -> int:
        """The number of values that the corrector uses; 0 without one."""
        return 0

    def _runge_kutta_steps(self, steps: int) -> int:
        """How many steps at the start of a run are single steps."""
        wanted = self.start == "runge_kutta" or (self.start == "auto" and steps >= LONG_RUN)
        return min(self.order - 2, steps - 1) if wanted and self.order > 2 and not self.stochastic else 0

    def _extra(self, steps: int) -> int:
        """Evaluations that the start costs beyond one a step."""
        return self._runge_kutta_steps(steps) * (self._start_order - 1)

    @property
    def _start_order(self) -> int:
        """Order of the single steps: one less than that of the method, to which a full corrector adds one."""
        return self.order if self.order < self.corrects else self.order - 1

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        steps = self.steps if steps is None else steps
        if process is None:
            return steps + self._extra(steps) + self.denoise
        rows = self.plan(process, self.grid(steps, process))
        return steps + self._evaluations(rows) + self.denoise

    def _evaluations(self, rows: Tensor) -> int:
        """What the rows of a plan cost beyond one evaluation each."""
        return int((~rows[:, [-COLUMNS, 3 - COLUMNS]].isnan()).sum())

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        return self._plan(process, times, bool(self.corrects))

    def _single_plan(self, process: SDE, times: Tensor) -> Tensor:
        # Nothing is known of how the state that a lone step is given came about.
        return self._plan(process, times, False)

    def _plan(self, process: SDE, times: Tensor, corrected: bool) -> Tensor:
        """Columns: ``p, q`` of `leading`, the weights of older values, ``g``, and those of the single step."""
        schedule, t, s = process.schedule, times[:-1], times[1:]
        tau = self.stochasticity(process, t, s)
        h = 0.5 * (schedule.log_snr(s) - schedule.log_snr(t))
        decay = torch.where(tau > 0, (-(tau**2) * h).exp(), 1.0)
        g = schedule.sigma(s) * torch.where(tau > 0, -torch.expm1(-2 * tau**2 * h), 0.0).sqrt()
        weights = self._predictions(process, times)
        if corrected:
            if self.predicts == "mean":
                a = schedule.sigma(s) / schedule.sigma(t) * decay
            else:
                a = schedule.alpha(s) / schedule.alpha(t)
            change = self._changes(process, times, weights)
            weights = weights + torch.where(change != 0, a[:, None] * change, 0.0)
        p, q = lead_columns(schedule, self.predicts, t, s, weights[:, 0], decay)
        if self.predicts == "eps":
            q = torch.where(schedule.log_snr(t).isfinite(), q, schedule.sigma(s))
        return torch.cat([torch.stack([p, q], 1), weights[:, 1:], g[:, None], self._starts(process, times)], 1)

    def _starts(self, process: SDE, times: Tensor) -> Tensor:
        t, s = times[:-1], times[1:]
        count = self._runge_kutta_steps(len(t))
        rows = times.new_full((len(t), COLUMNS), torch.nan)
        if count:
            orders = [self._start_order] * count
            rows[:count] = singlestep_rows(process.schedule, t[:count], s[:count], orders, self.predicts)
        return rows

    def _past(self, process: SDE, times: Tensor, most: int, correcting: bool = False) -> Tensor:
        """How many values a step may use, ``most`` at most, ``(N,)``: those of the times of finite log-SNR that end in
        ``t``, as far as they reach; 0 where ``t`` is pure noise or the step is infinite.
        """
        log_snr = process.schedule.log_snr(times)
        finite = log_snr.isfinite()
        unbroken = torch.stack([_older(finite[:-1], j, False) for j in range(most)], 1).long().cumprod(1)
        past = torch.where(finite[1:], unbroken.sum(1), 0)
        h = 0.5 * log_snr.diff()
        for k in range(most, 0 if correcting else 1, -1):
            past = torch.where((past == k) & (h > self.reach(k, correcting)), k - 1, past)
        return past

    def _predictions(self, process: SDE, times: Tensor) -> Tensor:
        """The prediction's weights ``(N, width)``, each step with as many values as it has."""
        schedule, t, s = process.schedule, times[:-1], times[1:]
        past = self._past(process, times, self.order)
        if self.predicts == "mean":
            first = schedule.alpha(s) - schedule.alpha(t) * schedule.sigma(s) / schedule.sigma(t)
        else:
            first = schedule.sigma(s) - schedule.sigma(t) * schedule.alpha(s) / schedule.alpha(t)
        # Without a past it is DDIM's step; for the noise its lead is set in `plan`.
        out = self._padded(first[:, None])
        for k in range(1, self.order + 1):
            nodes = torch.stack([_older(t, j) for j in range(k)], 1)
            weights = self._padded(self.weights(process, t, s, nodes))
            out = torch.where((past == k)[:, None], weights, out)
        return out

    def _changes(self, process: SDE, times: Tensor, predictions: Tensor) -> Tensor:
        """By how much the correction of the state at ``t`` changes that state's weights, ``(N, width)``: of the value
        at ``t`` and of older ones; zeros where the step that led to ``t`` is not corrected.
        """
        t, s = times[:-1], times[1:]
        past = self._past(process, times, self.corrects - 1, correcting=True)
        past[: self._runge_kutta_steps(len(t))] = 0  # single steps are not corrected
        before = torch.nn.functional.pad(predictions[:, :-1], (1, 0))
        out = torch.zeros_like(predictions)
        for k in range(1, self.corrects):
            nodes = torch.stack([s, *(_older(t, j) for j in range(k))], 1)
            weights = self._padded(self.correction(process, t, s, nodes))
            out = torch.where((past == k)[:, None], weights - before, out)
        return _older(out, 1, 0.0)

    @property
    def _width(self) -> int:
        """Number of values that enter a step: its own, or those of the step before, which a correction takes back."""
        return max(self.order + 1, self.corrects) if self.corrects else self.order

    def _padded(self, weights: Tensor) -> Tensor:
        return torch.nn.functional.pad(weights, (0, self._width - weights.shape[1]))

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        start = row[-COLUMNS:]
        if not isinstance(start[0], Tensor) and start[0] == start[0]:
            out, value = self._single(run, x, t, s, start)
        else:
            p, q, *weights = row[: 1 + self._width]
            posterior = run.posterior(x, t)
            out = leading(posterior, self.predicts, p, q)
            for weight, older in zip(weights, run.history):
                out = _plus(out, weight, older)
            g = row[1 + self._width]
            if self.stochastic if isinstance(g, Tensor) else g != 0:
                out = _plus(out, g, run.noise.step(x, t, s))
            if self._width == 1:
                return out
            value = value_of(posterior, self.predicts)
        run.history = [value, *run.history[: self._width - 2]]
        return out

    def _single(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> tuple[Tensor, Tensor]:
        """A step at the start of a run and the value at ``t``."""
        return singlestep(run, x, t, row, self.predicts)


def _older(values: Tensor, steps: int, before: float | bool | None = None) -> Tensor:
    """The values ``steps`` rows earlier; ``before`` the first row stands this number, or the first value."""
    fill = (
        values[:1].expand(steps, *values.shape[1:])
        if before is None
        else values.new_full((steps, *values.shape[1:]), before)
    )
    return torch.cat([fill, values])[: len(values)]


def _plus(out: Tensor, weight: float | Tensor, value: Tensor) -> Tensor:
    """``out + weight value``, in place where the weight is a number."""
    if isinstance(weight, Tensor):
        return out + weight * value
    return out.add_(value, alpha=weight) if weight != 0 else out
