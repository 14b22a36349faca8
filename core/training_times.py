"""At which times a model is trained: uniform, stratified, discrete, by noise level, or by importance."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from .process import Process
from .schedules import require

__all__ = [
    "DiscreteTimes",
    "ImportanceTimes",
    "LikelihoodTimes",
    "LogNormalTimes",
    "StratifiedTimes",
    "TrainingTimes",
    "UniformTimes",
]


Draws = tuple[Tensor, Tensor | float]
"""Times ``(B,)``, and the factors on their losses."""


class TrainingTimes(nn.Module, ABC):
    """Draws training times, with a factor that keeps the expected loss what it would be under uniform times."""

    def __init__(self) -> None:  # torch's own takes any arguments, which no configuration can name
        super().__init__()

    @abstractmethod
    def draw(self, batch: int, process: Process, generator: torch.Generator | None = None) -> Draws:
        """Times ``(batch,)`` in [0, 1], float64 on the generator's device (CPU without one), and factors on the loss,
        ``(batch,)`` or 1.
        """

    def update(self, times: Tensor, losses: Tensor) -> None:
        """Learn from the losses ``(B,)`` seen at ``times`` ``(B,)``; most rules have nothing to learn."""


def _uniform(count: int, generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator is not None else None
    return torch.rand(count, dtype=torch.float64, device=device, generator=generator)


class UniformTimes(TrainingTimes):
    """Independent times, uniform on (0, 1)."""

    def draw(self, batch: int, process: Process, generator: torch.Generator | None = None) -> Draws:
        return _uniform(batch, generator), 1.0


class StratifiedTimes(TrainingTimes):
    """Times spread evenly over a batch: ``t_i = (u + i / B) mod 1`` with one uniform ``u``; lowers the variance of
    the loss.

    Kingma et al. 2021 (arXiv 2107.00630), appendix I.1.  With another interval than all of time the loss is the mean
    over that (clipped schedules: Arriola et al. 2025, 2503.09573, section 5.3).

    Args:
        low, high: the interval, ``0 <= low < high <= 1``.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        require(0 <= low < high <= 1, "low, high", (low, high), "0 <= low < high <= 1")
        self.low = low
        self.high = high

    def draw(self, batch: int, process: Process, generator: torch.Generator | None = None) -> Draws:
        start = _uniform(1, generator)
        u = (start + torch.arange(batch, dtype=torch.float64, device=start.device) / batch) % 1.0
        return self.low + (self.high - self.low) * u, 1.0


class DiscreteTimes(TrainingTimes):
    """The times ``(i + 1) / steps`` of a discrete model, each equally likely; the last, pure noise, included.

    Ho et al. 2020 (arXiv 2006.11239), algorithm 1.

    Args:
        steps: how many.
    """

    def __init__(self, steps: int = 1000) -> None:
        super().__init__()
        require(steps >= 1, "steps", steps, "at least 1")
        self.steps = steps

    def draw(self, batch: int, process: Process, generator: torch.Generator | None = None) -> Draws:
        return ((_uniform(batch, generator) * self.steps).floor() + 1) / self.steps, 1.0


class LogNormalTimes(TrainingTimes):
    """Noise levels with ``log(sigma / alpha) ~ N(mean, std^2)``. The density is part of the objective; the loss is
    not corrected for it.

    Karras et al. 2022 (arXiv 2206.00364), table 1.

    Args:
        mean: ``P_mean``.
        std: ``P_std``, positive.
    """

    def __init__(self, mean: float = -1.2, std: float = 1.2) -> None:
        super().__init__()
        require(std > 0, "std", std, "a positive number")
        self.mean = mean
        self.std = std

    def draw(self, batch: int, process: Process, generator: torch.Generator | None = None) -> Draws:
        # The inverse of the normal distribution function, since torch.randn is not the same at every batch size.
        u = _uniform(batch, generator).clamp(1e-12, 1 - 1e-12)
        log_ratio = self.mean + self.std * math.sqrt(2) * torch.erfinv(2 * u - 1)
        return process.schedule.time(-2 * log_ratio).clamp(0, 1), 1.0


class LikelihoodTimes(TrainingTimes):
    """Times of density proportional to ``g(t)^2 / sigma(t)^2 = -d log_snr / dt``: log-SNR is uniform.

    The loss is divided by the density, so its expectation is that of uniform times within the range.  With
    `LikelihoodWeighting` the weight on eps is then the same at all times, where under uniform times it grows without
    limit near the data.  Song et al. 2021 (arXiv 2101.09258), section 5.1 and appendix B.  Spread evenly over a
    batch, as `StratifiedTimes`.

    Args:
        low, high: range of log-SNR, cut to what the schedule covers; the loss beyond is left out.
    """

    def __init__(self, low: float = -12.0, high: float = 14.0) -> None:
        super().__init__()
        require(-math.inf < low < high < math.inf, "high", high, f"a finite log-SNR above low={low}")
        self.low = low
        self.high = high

    def draw(self, batch: int, process: Process, generator: torch.Generator | None = None) -> Draws:
        schedule = process.schedule
        high = min(self.high, float(schedule.log_snr(0.0)))
        low = max(self.low, float(schedule.log_snr(1.0)))
        start = _uniform(1, generator)
        u = (start + torch.arange(batch, dtype=torch.float64, device=start.device) / batch) % 1.0
        t = schedule.time(high + u * (low - high)).clamp(0, 1)
        return t, (high - low) / -schedule.d_log_snr(t)


class ImportanceTimes(TrainingTimes):
    """Times drawn where the loss is large: in bin ``k`` with probability ``p_k`` proportional to ``sqrt(E[L_k^2])``.

    The loss is divided by ``p_k`` times the number of bins.  Second moments are those of the last ``history`` losses
    of each bin; until every bin has that many, times are uniform.  Nichol and Dhariwal 2021 (arXiv 2102.09672), eq.
    18 and section 3.3.  Losses of all processes count when training runs on several.

    Args:
        bins: number of equal intervals of time.
        history: losses remembered per bin.
        uniform: probability of a uniform draw, so that no bin is forgotten.
    """

    losses: Tensor
    counts: Tensor

    def __init__(self, bins: int = 100, history: int = 10, uniform: float = 0.001) -> None:
        super().__init__()
        require(bins >= 1, "bins", bins, "at least 1")
        require(history >= 1, "history", history, "at least 1")
        require(0 < uniform <= 1, "uniform", uniform, "a probability in (0, 1]")
        self.bins = bins
        self.history = history
        self.uniform = uniform
        self.register_buffer("losses", torch.zeros(bins, history, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(bins, dtype=torch.int64))

    def probabilities(self) -> Tensor:
        """``p_k``, shape ``(bins,)``."""
        if (self.counts < self.history).any():
            return torch.full_like(self.losses[:, 0], 1 / self.bins)
        size = (self.losses**2).mean(1).sqrt()
        total = size.sum()
        p = size / total if total > 0 else torch.full_like(size, 1 / self.bins)
        return p * (1 - self.uniform) + self.uniform / self.bins

    def draw(self, batch: int, process: Process, generator: torch.Generator | None = None) -> Draws:
        u = _uniform(2 * batch, generator)
        p = self.probabilities().to(u.device)
        k = torch.searchsorted(p.cumsum(0), u[:batch]).clamp(max=self.bins - 1)
        return (k + u[batch:]) / self.bins, 1 / (p[k] * self.bins)

    @torch.no_grad()
    def update(self, times: Tensor, losses: Tensor) -> None:
        times, losses = _from_all_processes(times.double()), _from_all_processes(losses.detach().double())
        bins = (times * self.bins).long().clamp(0, self.bins - 1)
        for k, loss in zip(bins.tolist(), losses.tolist()):
            # An overflow, which loss scaling steps over, must not decide the times for good.
            if not math.isfinite(loss):
                continue
            self.losses[k, int(self.counts[k]) % self.history] = loss
            self.counts[k] += 1


def _from_all_processes(values: Tensor) -> Tensor:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    parts = [torch.empty_like(values) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, values.contiguous())
    return torch.cat(parts)
