r"""DPM-Solver with error control: two singlestep solutions of neighbouring orders that share their evaluations.

Every sample has its own steps in half log-SNR ``l``.  A step of length ``h`` is solved at order ``k - 1`` and ``k``,
with

    E = || (x_high - x_low) / max(atol, rtol max(|x_low|, |x_previous|)) || / sqrt(D);

if ``E <= 1`` the state becomes ``x_high``; in any case ``h <- min(rest, safety h E^(-1 / k))``.  Lu et al. 2022 (arXiv
2206.00927), section 3.4 and appendix C ("DPM-Solver-12" and "-23").
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..process import broadcast
from ..schedules import Schedule, require
from ..sdes import SDE
from .adaptive_ode import AdaptiveCount, AdaptiveStep, last_noisy, no_count
from .base import Row, Run, Sampler
from .exponential import Predicts, leading, value_of
from .singlestep import singlestep_rows

__all__ = ["DPMSolverAdaptive"]

NOISE = -10.0  # log-SNR to which a run from pure noise is brought in one step


@dataclass(frozen=True)
class DPMSolverAdaptive(Sampler):
    r"""DPM-Solver-12 (``order=2``) and -23 (``order=3``) with error control; see the module's text.

    The grid gives the first and the last level and the length of the first step.  From its last noisy level (at least
    log-SNR 10) the run goes to clean data by the posterior mean.  All samples are evaluated until the last is done.

    Args:
        order: 2 or 3, evaluations a step and order of the solution that is kept.
        predicts: what is integrated: the noise, as in the paper, or the posterior mean.
        rtol: tolerance relative to the state, positive.
        atol: absolute tolerance at the scale ``alpha^2 + sigma^2 = 1``, positive; the paper takes one level of grey,
            2 / 256 for pictures in [-1, 1].
        safety: ``theta``, in (0, 1].
    """

    steps: int = 100
    order: int = field(default=3, kw_only=True)  # type: ignore[misc]
    predicts: Predicts = field(default="eps", kw_only=True)
    rtol: float = field(default=0.05, kw_only=True)
    atol: float = field(default=0.0078, kw_only=True)
    safety: float = field(default=0.9, kw_only=True)

    adaptive = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.order in (2, 3), "order", self.order, "2 or 3")
        require(self.predicts in ("mean", "eps"), "predicts", self.predicts, "'mean' or 'eps'")
        require(self.rtol > 0, "rtol", self.rtol, "a positive number")
        require(self.atol > 0, "atol", self.atol, "a positive number")
        require(0 < self.safety <= 1, "safety", self.safety, "a number in (0, 1]")

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        raise no_count(self)

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """Nothing is known before the run."""
        return torch.zeros(len(times) - 1, 0, dtype=torch.float64)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        """From ``t`` to ``s`` with error control."""
        return self.walk(run, x, (float(t), float(s)), [row])

    def walk(self, run: Run, x: Tensor, clock: Any, rows: Any) -> Tensor:
        process, count, start = run.denoiser.process, AdaptiveCount(), clock[0]
        stop, clean = last_noisy(process, list(clock))
        stop = min(stop, start)
        if process.level(start).alpha == 0 and stop < start:
            x, start = self._leave_noise(run, x, start, stop, count)
        if stop < start:
            second = clock[1] if clock[1] < start else stop
            x = self._solve(run, x, start, max(second, stop), stop, count)
        return count.finish(run, x, stop, clock[-1]) if clean else x

    def _leave_noise(self, run: Run, x: Tensor, t: float, stop: float, count: AdaptiveCount) -> tuple[Tensor, float]:
        """From pure noise, where log-SNR is infinite, to -10 by DDIM's step."""
        process = run.denoiser.process
        s = max(stop, float(process.schedule.time(torch.tensor(NOISE, dtype=torch.float64))))
        posterior, end = run.posterior(x, t), process.level(s)
        x = run.held(posterior.combine(end.alpha, end.sigma))
        count.evaluations, count.accepted = 1, 1
        if run.callback is not None:
            run.callback(AdaptiveStep(0, 1, t, s, x, posterior.mean, 1, 0))
        return x, s

    def _solve(self, run: Run, x: Tensor, t: float, second: float, s: float, count: AdaptiveCount) -> Tensor:
        schedule = run.denoiser.process.schedule
        start, middle, stop = (float(schedule.log_snr(torch.tensor(v, dtype=torch.float64))) for v in (t, second, s))
        now = torch.full((len(x),), start, dtype=torch.float64, device=x.device)  # log-SNR of each sample
        length = torch.full_like(now, min(middle, stop) - start)
        rejected = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        previous = x
        while bool((now < stop).any()):
            goal = torch.minimum(now + length, torch.full_like(now, stop))
            goal = torch.where(stop - goal < 1e-9, stop, goal)
            here, there = (schedule.time(v).clamp(0, 1) for v in (now, torch.where(now < stop, goal, stop + 1e-3)))
            mean, low, high = self._pair(run, x, here, there)
            low, high = run.held(low), run.held(high)
            error = self._error(run, low, high, previous, broadcast(_size(schedule, there), x))
            good = (error <= 1) & (now < stop)
            keep = broadcast(good, x).bool()
            x, previous = torch.where(keep, high, x), torch.where(keep, low, previous)
            rejected += ~good & (now < stop)
            before, tried = now, goal - now
            now = torch.where(good, goal, now)
            length = self.safety * tried * error.clamp(min=1e-9) ** (-1 / self.order)
            count.evaluations, count.accepted = count.evaluations + self.order, count.accepted + 1
            count.rejected = rejected
            if run.callback is not None:
                begun, arrived = (float(schedule.time(v.min()).clamp(0, 1)) for v in (before, now))
                number = count.accepted
                run.callback(AdaptiveStep(number - 1, number, begun, arrived, x, mean, count.evaluations, rejected))
        return x

    def _pair(self, run: Run, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The posterior mean at ``t``, and the solutions at ``s`` of orders ``order - 1`` and ``order``."""
        schedule, predicts = run.denoiser.process.schedule, self.predicts
        rows = {k: singlestep_rows(schedule, t, s, [k] * len(t), predicts) for k in range(1, self.order + 1)}
        p0, q0 = (broadcast(rows[1][:, i], x) for i in (7, 8))
        whole = broadcast(rows[2][:, -1], x)  # the weight of a constant value
        first, p1, q1, second, p2, q2, inner, p, q, _, last = (
            column if i in (0, 3) else broadcast(column, x) for i, column in enumerate(rows[self.order].unbind(1))
        )
        here = run.posterior(x, t)
        value = value_of(run.posterior(leading(here, predicts, p1, q1), first), predicts)
        if self.order == 2:
            return here.mean, leading(here, predicts, p0, q0), leading(here, predicts, p, q) + last * value
        low = leading(here, predicts, p0, q0 - 1.5 * whole) + 1.5 * whole * value  # the slope from a node at 1 / 3
        between = leading(here, predicts, p2, q2) + inner * value
        value = value_of(run.posterior(between, second), predicts)
        return here.mean, low, leading(here, predicts, p, q) + last * value

    def _error(self, run: Run, low: Tensor, high: Tensor, previous: Tensor, size: Tensor) -> Tensor:
        """``E`` of each sample, ``(B,)``, over its real part."""
        allowed = torch.maximum(self.rtol * torch.maximum(low.abs(), previous.abs()), self.atol * size)
        square = ((high - low) / allowed).square().flatten(1)
        if run.keep is None:
            return square.mean(1).sqrt().double()
        real = run.keep.expand_as(low).flatten(1)
        return ((square * real).sum(1) / real.sum(1).clamp(min=1)).sqrt().double()


def _size(schedule: Schedule, t: Tensor) -> Tensor:
    return torch.hypot(schedule.alpha(t), schedule.sigma(t))
