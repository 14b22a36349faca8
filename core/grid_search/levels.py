"""Times as log-SNR levels: a fine grid to choose from, and a chosen grid brought to another number of steps."""

import torch
from torch import Tensor

from ..grids import Grid, Times
from ..schedules import require
from ..sdes import SDE

__all__ = ["as_times", "fine_times", "resample"]

NOISY, CLEAN = -14.0, 14.0
"""Where levels end when the process goes on to pure noise or clean data: the rest of the signal or noise is 0.1 %."""


def fine_times(fine: Grid, resolution: int, process: SDE) -> tuple[Tensor, bool]:
    """The noisy times of a fine grid, falling, and whether clean data follow them."""
    times = fine(resolution, process)
    noisy = process.schedule.sigma(times) > 0
    return times[noisy], not bool(noisy[-1])


def as_times(times: Tensor) -> Times:
    """The grid of these times."""
    return Times(tuple(times.tolist()))


def resample(grid: Times, steps: int, process: SDE) -> Times:
    """The grid with another number of steps, by linear interpolation of log-SNR in the step's number.

    This is geometric interpolation of ``sigma / alpha``, as in Sabour et al. 2024 (2404.14507, section 3).  A first
    time of pure noise and a last one of clean data, where log-SNR is infinite, stay as they are.

    Args:
        grid: the times to go through.
        steps: the number wanted, at least 1; with an infinite end at least 2.
        process: whose log-SNR is meant.
    """
    times = torch.tensor(grid.values, dtype=torch.float64)
    log_snr = process.schedule.log_snr(times)
    finite = log_snr.isfinite()
    inner, kept = log_snr[finite], int((~finite).sum())
    count = steps + 1 - kept
    require(count >= 2 and len(inner) >= 2, "steps", steps, f"at least {1 + kept}, and two finite levels in the grid")
    place = torch.linspace(0, len(inner) - 1, count, dtype=torch.float64)
    left = place.floor().long().clamp(max=len(inner) - 2)
    levels = inner[left] + (place - left) * (inner[left + 1] - inner[left])
    between = process.schedule.time(levels).clamp(0, 1)
    # The ends are those of the grid itself, whatever the inverse rounds them to.
    between[0], between[-1] = times[finite][0], times[finite][-1]
    first, last = times[:1][~finite[:1]], times[-1:][~finite[-1:]]
    return as_times(torch.cat([first, between, last]))
