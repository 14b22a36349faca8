r"""Runge-Kutta with error control for the probability-flow ODE.

At the variance-preserving scale, ``x / sqrt(alpha^2 + sigma^2) = sin(a) x_0 + cos(a) eps`` with the angle ``a =
arctan(alpha / sigma)`` from 0 (noise) to ``pi / 2`` (data), the ODE is

    dx / da = cos(a) mean - sin(a) eps,

bounded at both ends and the same under every schedule.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..denoisers import Posterior
from ..schedules import require
from ..sdes import SDE
from .base import Row, Run, Sampler, SampleStep

__all__ = ["RK45", "AdaptiveStep"]

DATA = 10.0  # log-SNR from which a run goes to clean data in one step


@dataclass(frozen=True)
class AdaptiveStep(SampleStep):
    """What a callback sees after an accepted step of an adaptive method; ``steps`` is their count so far.

    Args:
        evaluations: calls of the denoiser so far.
        rejected: rejected steps so far; one a sample, ``(B,)``, where samples choose their own.
    """

    evaluations: int
    rejected: int | Tensor


@dataclass
class AdaptiveCount:
    """Accepted and rejected steps and evaluations of one run."""

    accepted: int = 0
    rejected: int | Tensor = 0
    evaluations: int = 0

    def finish(self, run: Run, x: Tensor, t: float, s: float) -> Tensor:
        """The step from ``t`` to clean data at ``s``: the posterior mean."""
        x = run.held(run.posterior(x, t).mean)
        self.accepted, self.evaluations = self.accepted + 1, self.evaluations + 1
        if run.callback is not None:
            run.callback(AdaptiveStep(self.accepted - 1, self.accepted, t, s, x, x, self.evaluations, self.rejected))
        return x


def last_noisy(process: SDE, times: list[float]) -> tuple[float, bool]:
    """Where an adaptive run on these times ends, and whether a step to clean data follows: the last time, or, where
    that is clean data, the noise level before it, or log-SNR 10 if that has more noise.
    """
    if process.level(times[-1]).sigma > 0:
        return times[-1], False
    before, data = times[-2], float(process.schedule.time(torch.tensor(DATA, dtype=torch.float64)))
    return min(before, data), True


def no_count(sampler: Sampler) -> TypeError:
    """The error of ``nfe`` of a method with error control."""
    return TypeError(
        f"{type(sampler).__name__} chooses its steps by their error, so its number of evaluations is known after a run "
        "alone: read `evaluations` of the last step that the callback sees"
    )


@dataclass(frozen=True)
class RK45(Sampler):
    r"""The Runge-Kutta pair of orders 5 and 4 (Dormand and Prince 1980) with error control, by torchdiffeq.

    As Song et al. 2021 (arXiv 2011.13456, section 4.3) solve the probability-flow ODE; here in the angle of the
    module's text.  A step is accepted when its error is at most ``atol + rtol |x|``, in the root mean square of each
    sample and in the worst sample of the batch.  The batch shares its steps, so what a sample is depends on its
    neighbours, within the tolerance.

    The grid gives the first and the last level; ``steps`` matters for the length of the first step, which is the
    grid's.  From its last noisy level (at least log-SNR 10) the run goes to clean data by ``x_s = mean``.

    Args:
        rtol: tolerance relative to the state, positive.
        atol: absolute tolerance at the scale ``alpha^2 + sigma^2 = 1``, positive.  Float32 states carry errors of 1e-7.
    """

    steps: int = 20
    rtol: float = field(default=1e-5, kw_only=True)
    atol: float = field(default=1e-5, kw_only=True)

    order = 5
    adaptive = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rtol > 0, "rtol", self.rtol, "a positive number")
        require(self.atol > 0, "atol", self.atol, "a positive number")

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        raise no_count(self)

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """Nothing is known before the run."""
        return torch.zeros(len(times) - 1, 0, dtype=torch.float64)

    def walk(self, run: Run, x: Tensor, clock: Any, rows: Any) -> Tensor:
        process = run.denoiser.process
        stop, clean = last_noisy(process, list(clock))
        count, stop = AdaptiveCount(), min(stop, clock[0])
        if stop < clock[0]:
            x = self._solve(run, x, clock[0], max(clock[1], stop), stop, count)
        return count.finish(run, x, stop, clock[-1]) if clean else x

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        """From ``t`` to ``s`` with error control."""
        return self.walk(run, x, (float(t), float(s)), [row])

    def _solve(self, run: Run, x: Tensor, t: float, second: float, s: float, count: AdaptiveCount) -> Tensor:
        """From ``t`` to ``s`` in steps of which the first is as long as from ``t`` to ``second``."""
        from torchdiffeq import odeint

        process = run.denoiser.process
        start, middle, end = (_angle(process, v) for v in (t, second, s))
        flow = _Flow(run, start, t, count)
        span = torch.tensor([start, end], dtype=torch.float64, device=x.device)
        options = {"norm": _worst, "first_step": middle - start, "step_t": span[1:]}
        tolerance = {"rtol": self.rtol, "atol": self.atol}
        out = odeint(flow, x / _size(process, t), span, **tolerance, method="dopri5", options=options)
        flow.report(s, out[-1])
        return out[-1] * _size(process, s)


def _angle(process: SDE, t: float) -> float:
    level = process.level(t)
    return math.atan2(level.alpha, level.sigma)


def _size(process: SDE, t: float) -> float:
    level = process.level(t)
    return math.hypot(level.alpha, level.sigma)


def _worst(error: Tensor) -> Tensor:
    """Root mean square of each sample ``(B, *event)``, of the worst."""
    return error.flatten(1).square().mean(1).sqrt().max()


class _Flow:
    """The right-hand side at an angle, with the callbacks by which torchdiffeq tells of its steps."""

    def __init__(self, run: Run, start: float, t: float, count: AdaptiveCount) -> None:
        self.run, self.start, self.t, self.count = run, start, t, count
        self.known: tuple[int, int | Tensor] = (0, 0)  # evaluations and rejections when the latest step was accepted
        self.begun, self.mean, self.next_mean = t, torch.empty(0), torch.empty(0)
        self.latest: Posterior | None = None

    def time(self, angle: float) -> float:
        if angle == self.start:
            return self.t
        value = torch.tensor(2 * math.log(math.tan(angle)), dtype=torch.float64)
        return float(self.run.denoiser.process.schedule.time(value).clamp(0, 1))

    def __call__(self, angle: Tensor, x: Tensor) -> Tensor:
        a = float(angle)
        t = self.time(a)
        self.latest = self.run.posterior(x * _size(self.run.denoiser.process, t), t)
        if self.count.evaluations == 0:
            self.next_mean = self.latest.mean
        self.count.evaluations += 1
        return self.run.still(self.latest.combine(math.cos(a), -math.sin(a)))

    def callback_accept_step(self, angle: Tensor, x: Tensor, length: Tensor) -> None:
        """A step from ``angle`` was accepted; its end is known when the next one is, or at the end of the run."""
        begun = self.time(float(angle))
        if self.count.accepted:
            self.report(begun, x)
        self.count.accepted += 1
        self.known = (self.count.evaluations, self.count.rejected)
        # The last of the pair's evaluations is at the end of the step.
        assert self.latest is not None
        self.begun, self.mean, self.next_mean = begun, self.next_mean, self.latest.mean

    def callback_reject_step(self, angle: Tensor, x: Tensor, length: Tensor) -> None:
        self.count.rejected += 1

    def report(self, s: float, x: Tensor) -> None:
        """Tell of the latest accepted step, which ended at ``s`` with ``x`` in the scale of the angle."""
        if self.run.callback is not None:
            x, count = self.run.held(x * _size(self.run.denoiser.process, s)), self.count
            step = AdaptiveStep(count.accepted - 1, count.accepted, self.begun, s, x, self.mean, *self.known)
            self.run.callback(step)
