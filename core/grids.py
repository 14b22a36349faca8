"""Time grids: at which times a sampler stops on its way from noise to data.

A grid is called with a number of steps and a process and answers with ``steps + 1`` falling times, float64 on the
CPU.  It is apart from the sampler, so any sampler runs on any grid, and apart from the schedule: `UniformLogSNR` and
`Karras` space noise levels and give the same levels under every schedule.

Where noise levels are spaced and the process reaches clean data (infinite log-SNR at ``t = 0``), the last time is 0
itself: one step from the lowest noise level to the data.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .process import Process
from .schedules import FlowSchedule, Schedule, require

__all__ = ["Grid", "Karras", "PowerTime", "Quadratic", "Times", "UniformLogSNR", "UniformTime"]


class Grid(ABC):
    """Chooses the times of a sampling run."""

    @abstractmethod
    def times(self, steps: int, process: Process) -> Tensor:
        """``steps + 1`` falling times; subclasses implement this, users call the grid."""

    def __call__(self, steps: int, process: Process) -> Tensor:
        """``steps + 1`` strictly falling times in [0, 1], float64 on the CPU.

        Raises:
            ValueError: if ``steps`` is not a positive integer, or the times are of another number, leave [0, 1] or do
                not fall strictly.
        """
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps={steps!r}: expected an integer of at least 1")
        times = self.times(steps, process)
        if tuple(times.shape) != (steps + 1,):
            raise ValueError(
                f"{self}: times of shape {tuple(times.shape)}: expected {steps + 1} times for steps={steps}"
            )
        if times.min() < 0 or times.max() > 1:
            raise ValueError(f"{self}: times from {times.min():.6g} to {times.max():.6g}: expected times in [0, 1]")
        falling = times[1:] < times[:-1]
        if not falling.all():
            i = int((~falling).nonzero()[0])
            raise ValueError(
                f"{self}: times must fall, but number {i} is {times[i]:.6g} and the next {times[i + 1]:.6g}"
            )
        return times


@dataclass(frozen=True)
class UniformTime(Grid):
    """Evenly spaced times: ``t_i = start + (stop - start) i / N``.

    Args:
        start: first time, in (0, 1].
        stop: last time, in [0, start).
    """

    start: float = 1.0
    stop: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.stop < self.start <= 1, "start", self.start, f"0 <= stop={self.stop} < start <= 1")

    def times(self, steps: int, process: Process) -> Tensor:
        return torch.linspace(self.start, self.stop, steps + 1, dtype=torch.float64)


@dataclass(frozen=True)
class Quadratic(Grid):
    """Times that crowd near the data: ``t_i = start (1 - i / N)^2``.

    Song et al. 2021 (DDIM, arXiv 2010.02502), appendix D.2.

    Args:
        start: first time, in (0, 1].
    """

    start: float = 1.0

    def __post_init__(self) -> None:
        require(0 < self.start <= 1, "start", self.start, "a time in (0, 1]")

    def times(self, steps: int, process: Process) -> Tensor:
        return self.start * torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** 2


def _log_snr(process: Process, t: float) -> float:
    return float(process.level(t).log_snr)


def _ends(process: Process, low: float, high: float) -> tuple[float, float]:
    """The part of the log-SNR range ``[low, high]`` that the process covers."""
    start, stop = _log_snr(process, 1.0), _log_snr(process, 0.0)
    if max(low, start) >= min(high, stop):
        raise ValueError(f"log-SNR from {low:.4g} to {high:.4g}: {process} covers {start:.4g} to {stop:.4g} only")
    return max(low, start), min(high, stop)


def _times_of(values: Tensor, process: Process, clean: bool) -> Tensor:
    """Times of rising log-SNR values, and ``t = 0`` after them when the run is to end in clean data."""
    # At the ends of the schedule the inverse may miss 0 or 1 by a rounding error.
    times = process.schedule.time(values).clamp(0, 1)
    return torch.cat([times, times.new_zeros(1)]) if clean else times


@dataclass(frozen=True)
class UniformLogSNR(Grid):
    """Evenly spaced log-SNR, the same noise levels under every schedule.

    The spacing that Lu et al. 2022 (arXiv 2206.00927, section 4) use for high-order solvers.  The range is cut to
    what the schedule covers.  A bound at the noisy end is what makes schedules of zero terminal SNR safe to start
    from.

    Args:
        low: log-SNR at the start; at -10 the data make up 0.7 % of the state's standard deviation.
        high: log-SNR of the last noise level; at 10 the noise is 0.7 %.
        clean: finish with a step from there to ``t = 0``, if the schedule goes further than ``high``.
    """

    low: float = -10.0
    high: float = 10.0
    clean: bool = True

    def __post_init__(self) -> None:
        require(self.low < self.high, "high", self.high, f"a log-SNR above low={self.low}")

    def times(self, steps: int, process: Process) -> Tensor:
        low, high = _ends(process, self.low, self.high)
        clean = self.clean and _log_snr(process, 0.0) > high
        return _times_of(torch.linspace(low, high, steps + (not clean), dtype=torch.float64), process, clean)


@dataclass(frozen=True)
class Karras(Grid):
    """EDM's noise levels: ``sigma_i = (sigma_max^(1/rho) + i / (N - 1) (sigma_min^(1/rho) -
    sigma_max^(1/rho)))^rho``, then 0.

    Here ``sigma`` is the ratio ``sigma / alpha`` of the schedule.  Karras et al. 2022 (arXiv 2206.00364), eq. 5.  The
    range is cut to what the schedule covers.

    Args:
        sigma_min: last noise level before the data, positive.
        sigma_max: first noise level.
        rho: how strongly steps crowd at low noise; 7 in the paper.
        clean: finish with a step to ``t = 0``, if the schedule goes further than ``sigma_min``.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    clean: bool = True

    def __post_init__(self) -> None:
        require(
            0 < self.sigma_min < self.sigma_max,
            "sigma_max",
            self.sigma_max,
            f"a number above sigma_min={self.sigma_min}",
        )
        require(self.rho > 0, "rho", self.rho, "a positive number")

    def times(self, steps: int, process: Process) -> Tensor:
        low, high = _ends(process, -2 * math.log(self.sigma_max), -2 * math.log(self.sigma_min))
        clean = self.clean and _log_snr(process, 0.0) > high
        first, last = math.exp(-low / (2 * self.rho)), math.exp(-high / (2 * self.rho))
        roots = torch.linspace(first, last, steps + (not clean), dtype=torch.float64)
        return _times_of(-2 * self.rho * roots.log(), process, clean)


@dataclass(frozen=True)
class PowerTime(Grid):
    r"""The noise levels that a reference schedule has at the times ``(1 - i / N)^power``, under any schedule.

    By default ``sigma / (alpha + sigma) = (1 - i / N)^1.5``, rectified flow's times drawn towards the data.  Steps in
    log-SNR are short where signal and noise are alike, which is where a denoiser changes most, and grow towards both
    ends; the step to clean data shrinks as their number grows.  ``PowerTime(2.0, VPSchedule(), None)`` are the
    quadratic times of Song et al. 2021 (DDIM, arXiv 2010.02502, appendix D.2), as noise levels.

    Args:
        power: how strongly steps crowd near the data, positive.
        reference: whose levels are used, with clean data at ``t = 0``.
        start: log-SNR of the first time, held to what the schedule covers: where a run from pure noise begins, whose
            log-SNR is minus infinity. None for the reference's own at ``t = 1``.
    """

    power: float = 1.5
    reference: Schedule = field(default=FlowSchedule())
    start: float | None = -11.0

    def __post_init__(self) -> None:
        require(self.power > 0, "power", self.power, "a positive number")
        clean, noise = float(self.reference.log_snr(0.0)), float(self.reference.log_snr(1.0))
        require(clean == math.inf, "reference", self.reference, "clean data at t = 0")
        first = noise if self.start is None else self.start
        fits = noise <= first < math.inf and first > -math.inf
        require(fits, "start", self.start, f"a log-SNR of at least {noise:.4g}, the reference's at t = 1")

    def times(self, steps: int, process: Process) -> Tensor:
        first = float(self.reference.log_snr(1.0)) if self.start is None else self.start
        low, high = _ends(process, first, math.inf)
        bounds = self.reference.time(torch.tensor([low, high], dtype=torch.float64)).clamp(0, 1) ** (1 / self.power)
        start = float(bounds[0])
        # All levels but clean data's, unless the schedule ends before the last of them.
        stop = 0.0 if start / steps > float(bounds[1]) or high == math.inf else float(bounds[1])
        levels = self.reference.log_snr(torch.linspace(start, stop, steps + 1, dtype=torch.float64) ** self.power)
        times = process.schedule.time(levels).clamp(0, 1)
        times[-1] = 0.0
        if low == _log_snr(process, 1.0):
            times[0] = 1.0
        return times


@dataclass(frozen=True)
class Times(Grid):
    """The times themselves, for grids that were searched for or come from elsewhere.

    Args:
        values: falling times in [0, 1]; a run has ``len(values) - 1`` steps, and a sampler with another ``steps``
            refuses.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        require(len(self.values) >= 2, "values", self.values, "at least two times")
        require(all(0 <= v <= 1 for v in self.values), "values", self.values, "times in [0, 1]")

    def times(self, steps: int, process: Process) -> Tensor:
        if steps != len(self.values) - 1:
            raise ValueError(f"steps={steps}: this grid has {len(self.values)} times, for steps={len(self.values) - 1}")
        return torch.tensor(self.values, dtype=torch.float64)
