r"""Which two noise levels a consistency loss compares, and how they draw together in the course of training.

Levels are written as ``r = sigma / alpha``, so that a rule is the same under every schedule.  The loss compares the
consistency function at ``r_t`` with that at a lower ``r_s``; far apart it is stable and biased, close together it is
right and noisy, so training begins with the one and ends with the other.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..grids import Grid, Karras
from ..schedules import require
from ..sdes import SDE

__all__ = ["AnnealedPairs", "GridPairs", "TimePairs"]


class TimePairs(ABC):
    """Draws pairs of times for a consistency loss."""

    @abstractmethod
    def draw(
        self, batch: int, process: SDE, step: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Times ``t`` and ``s < t``, ``(batch,)`` each, float64 on the generator's device (CPU without one).

        Args:
            batch: how many.
            process: the forward process.
            step: number of the training step, from 0.
            generator: source of randomness.
        """


@dataclass(frozen=True)
class GridPairs(TimePairs):
    r"""Neighbours of a grid whose number of intervals ``N(k)`` grows with the training step ``k``.

    "doubling": ``N(k) = min(first 2^floor(k / K'), last)`` with ``K' = floor(K / (log2 floor(last / first) + 1))``
    (Song and Dhariwal 2023, arXiv 2310.14189, table 1).  "sqrt": ``N(k) = ceil(sqrt(k / K ((last + 1)^2 - first^2) +
    first^2)) - 1``, at least 1 (Song et al. 2023, arXiv 2303.01469, appendix C).  ``first = last`` keeps it constant,
    as in consistency distillation.

    With a ``std`` the pair ``(r_i, r_{i+1})`` is drawn in proportion to the probability of its interval under ``log r
    ~ N(mean, std^2)`` (2310.14189, eq. 10); without, all are equally likely.

    Args:
        length: training steps ``K`` over which ``N`` grows, at least 1.
        grid: chooses the levels.
        first: intervals at the start; 10 in the paper.
        last: intervals at the end; 1280 in the paper.
        growth: "doubling" or "sqrt".
        mean: of ``log r``; -1.1 in the paper, for data of standard deviation 0.5.
        std: of ``log r``, or None.
    """

    length: int = 10_000
    grid: Grid = field(default=Karras())
    first: int = 10
    last: int = 1280
    growth: Literal["doubling", "sqrt"] = "doubling"
    mean: float = -1.1
    std: float | None = 2.0

    def __post_init__(self) -> None:
        require(self.length >= 1, "length", self.length, "at least one training step")
        require(self.first >= 1, "first", self.first, "at least one interval")
        require(self.last >= self.first, "last", self.last, f"at least first={self.first}")
        require(self.growth in ("doubling", "sqrt"), "growth", self.growth, "'doubling' or 'sqrt'")
        require(self.std is None or self.std > 0, "std", self.std, "a positive number, or None")

    def intervals(self, step: int) -> int:
        """``N(k)``."""
        if self.growth == "doubling":
            every = max(self.length // (int(math.log2(self.last // self.first)) + 1), 1)
            return min(self.first * 2 ** min(step // every, 40), self.last)
        square = min(step / self.length, 1.0) * ((self.last + 1) ** 2 - self.first**2) + self.first**2
        return min(max(math.ceil(math.sqrt(square)) - 1, 1), self.last)

    def probabilities(self, process: SDE, times: Tensor) -> Tensor:
        """Of each pair of neighbours among falling times ``(N + 1,)``, shape ``(N,)``."""
        if self.std is None:
            return torch.full((len(times) - 1,), 1 / (len(times) - 1), dtype=torch.float64)
        log_r = -0.5 * process.schedule.log_snr(times)
        below = torch.erf((log_r - self.mean) / (math.sqrt(2) * self.std))
        weight = below[:-1] - below[1:]
        return weight / weight.sum()

    def draw(
        self, batch: int, process: SDE, step: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        device = generator.device if generator is not None else None
        times = self.grid(self.intervals(step), process)
        weight = self.probabilities(process, times).to(device)
        i = torch.multinomial(weight, batch, replacement=True, generator=generator)
        times = times.to(weight.device)
        return times[i], times[i + 1]


@dataclass(frozen=True)
class AnnealedPairs(TimePairs):
    r"""Easy consistency tuning: ``r_s`` is a fraction of ``r_t`` that tends to one.

    ``log r_t ~ N(mean, std^2)`` and ``r_s = r_t max(0, 1 - n(r_t) / q^a)`` with ``n(r) = 1 + k / (1 + e^{b r})`` and
    ``a = floor(step / stage) + 1``.  Geng et al. 2024 (arXiv 2406.14548), section 3.3.  At the start ``r_s`` is zero
    for small levels, which is the denoising loss: a trained denoiser is where this begins.

    Args:
        stage: training steps after which the distance is divided by ``q``.
        q: factor, above 1; 2 for small pictures and 4 for large ones in the paper.
        k: how much wider the pair is at low noise, at least 0.
        b: at which noise that ends, positive.
        mean: of ``log r``; -1.1 in the paper, for data of standard deviation 0.5.
        std: of ``log r``.
    """

    stage: int = 1000
    q: float = 2.0
    k: float = 8.0
    b: float = 1.0
    mean: float = -1.1
    std: float = 2.0

    def __post_init__(self) -> None:
        require(self.stage >= 1, "stage", self.stage, "at least one training step")
        require(self.q > 1, "q", self.q, "a factor above 1")
        require(self.k >= 0, "k", self.k, "a number of at least 0")
        require(self.b > 0, "b", self.b, "a positive number")
        require(self.std > 0, "std", self.std, "a positive number")

    def ratio(self, r: Tensor, step: int) -> Tensor:
        """``r_s / r_t`` for levels ``r_t``, shape of ``r``."""
        spread = 1 + self.k * torch.sigmoid(-self.b * r)
        return (1 - spread / self.q ** (step // self.stage + 1)).clamp(min=0)

    def draw(
        self, batch: int, process: SDE, step: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        device = generator.device if generator is not None else None
        u = torch.rand(batch, dtype=torch.float64, device=device, generator=generator).clamp(1e-12, 1 - 1e-12)
        log_r = self.mean + self.std * math.sqrt(2) * torch.erfinv(2 * u - 1)
        t = process.schedule.time(-2 * log_r).clamp(1e-12, 1)
        # The level of the time, which a schedule of bounded noise may have cut.
        r = (-0.5 * process.schedule.log_snr(t)).exp()
        ratio = self.ratio(r, step)
        s = process.schedule.time(process.schedule.log_snr(t) - 2 * ratio.log()).clamp(0, 1)
        return t, torch.where(ratio > 0, torch.minimum(s, t), 0.0)
