r"""Linear multistep methods with an optional corrector: the common part of DEIS, LMS, PNDM, UniPC and SA-Solver.

A step is

    x_s = A x_t + w_0 v_t + w_1 v_{previous} + ... + g z,

with values ``v`` (posterior mean or noise) of this and earlier steps.  A corrector, once the value at ``s`` is known,
goes back and repeats the step with that value among the known ones and the same noise (Zhao et al. 2023, 2302.04867,
algorithm 1; Xue et al. 2023, 2309.05019, algorithm 1): it costs no evaluation, since the next step needs the value
anyway.  The last state is not corrected.

A method of order 3 or more that has no past yet would start at order 1 and keep that error.  It starts with single
steps of one order less than its own instead, unless the run is so short that their evaluations would be missed.

Polynomials through few values are no guide over long steps: there a step uses fewer values (`Multistep.reach`), and a
correction that would overshoot is left out.  Runs of few steps so stay near the data, and the order as steps grow is
what it was.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from itertools import pairwise
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
        """Columns: the prediction (``p, q, A, w_0``, the weights of older values, ``g``), the correction of the state
        at ``t`` (``A``, the weights of the value at ``t`` and older ones, ``g``; NaN for none), the single step.
        """
        schedule, t, s = process.schedule, times[:-1], times[1:]
        tau = self.stochasticity(process, t, s)
        h = 0.5 * (schedule.log_snr(s) - schedule.log_snr(t))
        decay = torch.where(tau > 0, (-(tau**2) * h).exp(), 1.0)
        g = schedule.sigma(s) * torch.where(tau > 0, -torch.expm1(-2 * tau**2 * h), 0.0).sqrt()
        weights = self._by_past(process, times)
        p, q = lead_columns(schedule, self.predicts, t, s, weights[:, 0], decay)
        if self.predicts == "eps":
            q = torch.where(h.isfinite(), q, schedule.sigma(s))
            a = schedule.alpha(s) / schedule.alpha(t)
        else:
            a = p
        prediction = torch.cat([torch.stack([p, q, a], 1), weights, g[:, None]], 1)
        columns = [prediction, self._corrections(process, times, a, g), self._starts(process, times)]
        return torch.cat(columns, 1)

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
        finite = process.schedule.log_snr(times).isfinite().tolist()
        counts, run = [], 0
        for here, there in pairwise(finite):
            run = run + 1 if here else 0
            counts.append(run if there else 0)
        past = torch.tensor(counts).clamp(max=most)
        h = 0.5 * process.schedule.log_snr(times).diff()
        for k in range(most, 0 if correcting else 1, -1):
            past = torch.where((past == k) & (h > self.reach(k, correcting)), k - 1, past)
        return past

    def _by_past(self, process: SDE, times: Tensor) -> Tensor:
        """The prediction's weights ``(N, order)``, each step with as many values as it has."""
        schedule, t, s = process.schedule, times[:-1], times[1:]
        out = times.new_zeros(len(t), self.order)
        past = self._past(process, times, self.order)
        for k in range(1, self.order + 1):
            rows = (past == k).nonzero()[:, 0]
            if len(rows):
                nodes = torch.stack([times[rows - j] for j in range(k)], 1)
                out[rows, :k] = self.weights(process, t[rows], s[rows], nodes)
        infinite = past == 0  # DDIM's step; for the noise the lead is set in `plan`
        if self.predicts == "mean":
            first = schedule.alpha(s) - schedule.alpha(t) * schedule.sigma(s) / schedule.sigma(t)
        else:
            first = schedule.sigma(s) - schedule.sigma(t) * schedule.alpha(s) / schedule.alpha(t)
        out[infinite, 0] = first[infinite]
        return out

    def _corrections(self, process: SDE, times: Tensor, a: Tensor, g: Tensor) -> Tensor:
        """Row ``i`` corrects the state at ``times[i]``, that is, repeats step ``i - 1``."""
        width, t = self.corrects, times[:-1]
        if not width:
            return times.new_zeros(len(t), 0)
        out = times.new_full((len(t), width + 2), torch.nan)
        past = self._past(process, times, width - 1, correcting=True)
        past[: self._runge_kutta_steps(len(t))] = 0  # single steps are not corrected
        for k in range(1, width):
            rows = (past[:-1] == k).nonzero()[:, 0]
            if len(rows):
                nodes = torch.stack([times[rows + 1 - j] for j in range(k + 1)], 1)
                weights = self.correction(process, times[rows], times[rows + 1], nodes)
                out[rows + 1, : k + 2] = torch.cat([a[rows, None], weights], 1)
                out[rows + 1, k + 2 : -1] = 0.0
                out[rows + 1, -1] = g[rows]
        return out

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        start = row[-COLUMNS:]
        if not isinstance(start[0], Tensor) and start[0] == start[0]:
            out, value = self._single(run, x, t, s, start)
            self._remember(run, value)
            return out
        p, q, a, *weights = row[: 3 + self.order]
        g = row[3 + self.order]
        posterior = run.posterior(x, t)
        value = value_of(posterior, self.predicts)
        corrected = self._correct(run, value, row[4 + self.order : -COLUMNS])
        if corrected is None:
            out = leading(posterior, self.predicts, p, q)
        else:
            out = _sum(corrected, a, value, weights[0])
        for weight, older in zip(weights[1:], run.history):
            out = _plus(out, weight, older)
        z = None
        if self.stochastic if isinstance(g, Tensor) else g != 0:
            z = run.noise.step(x, t, s)
            out = _plus(out, g, z)
        self._remember(run, value)
        run.base = (x, z, False) if corrected is None else (corrected, z, True)
        return out

    def _single(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> tuple[Tensor, Tensor]:
        """A step at the start of a run and the value at ``t``."""
        return singlestep(run, x, t, row, self.predicts)

    def _remember(self, run: Run, value: Tensor) -> None:
        run.history = [value, *run.history[: max(self.order, self.corrects, 2) - 2]]

    def _correct(self, run: Run, value: Tensor, row: Row) -> Tensor | None:
        """The state at ``t`` by the step that led there repeated with the value at ``t``; ``None`` where there is
        nothing to repeat.
        """
        if not row or run.base is None or isinstance(row[0], Tensor) or row[0] != row[0]:
            return None
        a, new, *older, g = row
        base, z, own = run.base
        # A corrected state is seen by nobody else and serves once, so its memory is used again.
        out = _plus(base.mul_(a), new, value) if own and not isinstance(a, Tensor) else _sum(base, a, value, new)
        for weight, known in zip(older, run.history):
            out = _plus(out, weight, known)
        return out if z is None else _plus(out, g, z)


def _sum(x: Tensor, a: float | Tensor, y: Tensor, b: float | Tensor) -> Tensor:
    """``a x + b y`` as a new tensor."""
    return a * x + b * y if isinstance(b, Tensor) else torch.mul(x, a).add_(y, alpha=b)


def _plus(out: Tensor, weight: float | Tensor, value: Tensor) -> Tensor:
    """``out + weight value``, in place where the weight is a number."""
    if isinstance(weight, Tensor):
        return out + weight * value
    return out.add_(value, alpha=weight) if weight != 0 else out
