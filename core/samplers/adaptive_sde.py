r"""The adaptive solver for the reverse SDE of Jolicoeur-Martineau et al. 2021 (arXiv 2105.14080), algorithm 1.

At the variance-preserving scale, where ``alpha^2 = sigmoid(l)`` and ``sigma^2 = sigmoid(-l)``, and in log-SNR ``l`` as
time, the reverse SDE of every schedule is

    dx = (sigma^2 x / 2 - sigma eps) dl + sigma dw = b(x, l) dl + sigma(l) dw.

A step of length ``h`` tries Euler-Maruyama and then the stochastic improved Euler method on the same noise,

    x'  = x + h b(x, l) + sqrt(h) sigma(l) z,
    x~  = x + h b(x', l + h) + sqrt(h) sigma(l + h) z,        x'' = (x' + x~) / 2,

with ``E = |(x' - x'') / max(atol, rtol max(|x'|, |x'_previous|))| / sqrt(D)``.  If ``E <= 1`` the state becomes ``x''``
(extrapolation); in any case ``h <- min(rest, safety h E^-power)``.

Where the algorithm draws new noise after a rejection, which favours some noise over other (in three dimensions the
variance comes out a third and more too high, at any tolerance), here the noise of the rejected step is kept and divided
by a Brownian bridge (Rackauckas and Nie 2017, doi 10.3934/dcdsb.2017133), so that what is drawn does not depend on what
is accepted.  In many dimensions the error hardly depends on the draw and both are the same.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..process import broadcast
from ..schedules import require
from ..sdes import SDE, posterior_coefficients
from .adaptive_ode import AdaptiveCount, AdaptiveStep, last_noisy, no_count
from .base import Row, Run, Sampler

__all__ = ["AdaptiveSDE"]

NOISE = -10.0  # log-SNR to which a run from pure noise is brought in one step


@dataclass(frozen=True)
class AdaptiveSDE(Sampler):
    r"""The adaptive SDE solver of the module's text; every sample has its own steps, accepted or rejected by its own
    error.

    The grid gives the first and the last level, and the length of the first step (the paper's 0.01 of the way is
    ``steps=100``).  From its last noisy level (at least log-SNR 10) the run goes to clean data by the posterior mean
    (Tweedie); elsewhere ``denoise=True`` adds it.  All samples are evaluated until the last is done.

    Args:
        rtol: tolerance relative to the larger of this and the previous accepted proposal, positive; 0.01 to 0.5 in the
            paper.
        atol: absolute tolerance at the scale ``alpha^2 + sigma^2 = 1``, positive; the paper takes one level of grey,
            2 / 256 for pictures in [-1, 1].
        safety: ``theta``, in (0, 1].
        power: ``r``, in [0.5, 1].
        extrapolate: take ``x''``, not ``x'``.
    """

    steps: int = 100
    rtol: float = field(default=0.02, kw_only=True)
    atol: float = field(default=0.0078, kw_only=True)
    safety: float = field(default=0.9, kw_only=True)
    power: float = field(default=0.9, kw_only=True)
    extrapolate: bool = field(default=True, kw_only=True)

    adaptive = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rtol > 0, "rtol", self.rtol, "a positive number")
        require(self.atol > 0, "atol", self.atol, "a positive number")
        require(0 < self.safety <= 1, "safety", self.safety, "a number in (0, 1]")
        require(0.5 <= self.power <= 1, "power", self.power, "a number from 0.5 to 1")

    @property
    def stochastic(self) -> bool:
        return True

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        raise no_count(self)

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """Nothing is known before the run."""
        return torch.zeros(len(times) - 1, 0, dtype=torch.float64)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        """From ``t`` to ``s`` with error control."""
        return self.walk(run, x, (float(t), float(s)), [row])

    def walk(self, run: Run, x: Tensor, clock: Any, rows: Any) -> Tensor:
        process, count = run.denoiser.process, AdaptiveCount()
        stop, clean = last_noisy(process, list(clock))
        stop, start = min(stop, clock[0]), clock[0]
        if process.level(start).alpha == 0 and stop < start:
            x, start = self._leave_noise(run, x, start, stop, count)
        if stop < start:
            second = clock[1] if clock[1] < start else stop
            x = self._solve(run, x, start, max(second, stop), stop, count)
        return count.finish(run, x, stop, clock[-1]) if clean else x

    def _leave_noise(self, run: Run, x: Tensor, t: float, stop: float, count: AdaptiveCount) -> tuple[Tensor, float]:
        """From pure noise, where log-SNR is infinite, to -10 by the posterior ``q(x_s | x_t, mean)``."""
        schedule = run.denoiser.process.schedule
        s = max(stop, float(schedule.time(torch.tensor(NOISE, dtype=torch.float64))))
        ends = torch.tensor([t, s], dtype=torch.float64)
        a, b, g = (float(c) for c in posterior_coefficients(schedule, ends[:1], ends[1:]))
        posterior = run.posterior(x, t)
        x = run.held(posterior.affine(a, b) + g * run.noise.draw(x))
        count.evaluations, count.accepted = 1, 1
        if run.callback is not None:
            run.callback(AdaptiveStep(0, 1, t, s, x, posterior.mean, 1, 0))
        return x, s

    def _solve(self, run: Run, x: Tensor, t: float, second: float, s: float, count: AdaptiveCount) -> Tensor:
        process = run.denoiser.process
        low, middle, high = (float(process.level(v).log_snr) for v in (t, second, s))
        now = torch.full((len(x),), low, dtype=torch.float64, device=x.device)  # log-SNR of each sample
        length = torch.full_like(now, min(middle, high) - low)
        rejected = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        x = x / (process.level(t).alpha ** 2 + process.level(t).sigma ** 2) ** 0.5
        previous, path = x, _Path(x)
        while bool((now < high).any()):
            z = run.noise.draw(x)
            tried, noise = path.next(torch.minimum(length, high - now), run.still(z))
            mean, first, second_order = self._proposals(run, x, now, tried, noise)
            error = self._error(run, first, second_order, previous)
            good = (error <= 1) & (now < high)
            path.spend(good)
            keep = broadcast(good, x).bool()
            x = torch.where(keep, second_order if self.extrapolate else first, x)
            previous = torch.where(keep, first, previous)
            rejected += ~good & (now < high)
            before, arrived = now, tried >= high - now - 1e-9
            now = torch.where(good, torch.where(arrived, high, now + tried), now)
            length = self.safety * tried * error.clamp(min=1e-12) ** -self.power
            count.evaluations, count.accepted, count.rejected = count.evaluations + 2, count.accepted + 1, rejected
            if run.callback is not None:
                self._report(run, x, before, now, mean, count)
        return x * (process.level(s).alpha ** 2 + process.level(s).sigma ** 2) ** 0.5

    def _proposals(
        self, run: Run, x: Tensor, now: Tensor, length: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The posterior mean at ``x``, and ``x'`` and ``x''`` on the increments ``noise`` of Brownian motion."""
        h = broadcast(length, x)
        mean, drift, sigma = self._drift(run, x, now)
        first = x + h * drift + sigma * noise
        _, drift, sigma = self._drift(run, first, now + length)
        return mean, first, 0.5 * (first + (x + h * drift + sigma * noise))

    def _drift(self, run: Run, x: Tensor, log_snr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Posterior mean, ``b`` and ``sigma`` of states at the variance-preserving scale, each at its own level."""
        process = run.denoiser.process
        t = process.schedule.time(log_snr).clamp(0, 1)
        size = torch.hypot(process.schedule.alpha(t), process.schedule.sigma(t))
        posterior = run.posterior(x * broadcast(size, x), t)
        sigma = broadcast(torch.sigmoid(-log_snr).sqrt(), x)
        drift = 0.5 * sigma**2 * x - sigma * posterior.eps
        return posterior.mean, run.still(drift), sigma

    def _error(self, run: Run, first: Tensor, second: Tensor, previous: Tensor) -> Tensor:
        """``E`` of each sample, ``(B,)``, over its real part."""
        allowed = (self.rtol * torch.maximum(first.abs(), previous.abs())).clamp(min=self.atol)
        square = ((first - second) / allowed).square().flatten(1)
        if run.keep is None:
            return square.mean(1).sqrt().double()
        real = run.keep.expand_as(first).flatten(1).sum(1).clamp(min=1)
        return (square.sum(1) / real).sqrt().double()

    def _report(self, run: Run, x: Tensor, before: Tensor, now: Tensor, mean: Tensor, count: AdaptiveCount) -> None:
        """Tell of a round: times are those of the sample that is furthest behind, states each at its own level."""
        process = run.denoiser.process
        t = process.schedule.time(now).clamp(0, 1)
        size = torch.hypot(process.schedule.alpha(t), process.schedule.sigma(t))
        start = float(process.schedule.time(before.min()))
        state, number = run.held(x * broadcast(size, x)), count.accepted
        assert run.callback is not None
        step = AdaptiveStep(number - 1, number, start, float(t.max()), state, mean, count.evaluations, count.rejected)
        run.callback(step)


class _Path:
    """Brownian motion of each sample: a stack of increments that were drawn and not yet walked, the next on top."""

    def __init__(self, like: Tensor) -> None:
        self.rows = torch.arange(len(like), device=like.device)
        self.depth = torch.zeros_like(self.rows)
        self.lengths = torch.zeros(2, len(like), dtype=torch.float64, device=like.device)
        self.increments = like.new_zeros(2, *like.shape)

    def next(self, length: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Length ``(B,)`` and increment of the next piece of each path, at most ``length`` long; ``z`` is what is drawn
        for it.
        """
        if int(self.depth.max()) >= len(self.lengths):
            self.lengths = torch.cat([self.lengths, torch.zeros_like(self.lengths)])
            self.increments = torch.cat([self.increments, torch.zeros_like(self.increments)])
        top = (self.depth - 1).clamp(min=0)
        whole, increment = self.lengths[top, self.rows], self.increments[top, self.rows]
        fresh = self.depth == 0
        split = ~fresh & (length < whole)
        # A Brownian bridge over the piece on top, of which the rest stays for later.
        share = torch.where(split, length / whole, 1.0)
        spread = torch.where(fresh, length, length * (1 - share)).clamp(min=0).sqrt()
        given = torch.where(fresh, 0.0, share)
        first = broadcast(given, z) * increment + broadcast(torch.where(fresh | split, spread, 0.0), z) * z
        rest = broadcast(split, z).bool()
        self.lengths[top, self.rows] = torch.where(split, whole - length, whole)
        self.increments[top, self.rows] = torch.where(rest, increment - first, increment)
        self.depth = self.depth + (fresh | split)
        tried = torch.where(fresh | split, length, whole)
        self.lengths[self.depth - 1, self.rows] = tried
        self.increments[self.depth - 1, self.rows] = first
        return tried, first

    def spend(self, accepted: Tensor) -> None:
        """The pieces on top of these paths have been walked."""
        self.depth = self.depth - accepted.long()
