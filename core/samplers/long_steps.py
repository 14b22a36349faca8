"""What one-step methods do in steps that are too long for their formulas: the same evaluations, spent on shorter steps.

Beyond a gain of 3 in log-SNR, more than a fourfold fall of ``sigma / alpha``, the nodes of a method of order 2 or more
stand too far apart to say anything of the way between them, and its result may leave the data by any distance.  Such a
step is divided, at the same number of evaluations, into steps of first order; the parts are even on the scale of the
default grid, so that a run in which every step is long is a first-order run on that grid.  As steps grow shorter none
is long, and the method's order stays.
"""

import torch
from torch import Tensor

from ..grids import PowerTime
from ..sdes import SDE

__all__ = ["LONGEST", "divide", "long_steps"]

LONGEST = 3.0  # in log-SNR
NOISE, DATA = -10.0, 7.0  # log-SNR as which pure noise and clean data count

_DEFAULT = PowerTime()


def long_steps(process: SDE, t: Tensor, s: Tensor, longest: float = LONGEST) -> Tensor:
    """Which of the steps from ``t`` to ``s`` ``(N,)`` gain more than ``longest`` in log-SNR."""
    low, high = process.schedule.log_snr(t), process.schedule.log_snr(s)
    high = torch.where(high == torch.inf, DATA, high)
    return high - torch.maximum(low, (high - 1).clamp(max=NOISE)) > longest


def divide(process: SDE, t: Tensor, s: Tensor, parts: int) -> Tensor:
    """The times within each step that divide it into ``parts``, ``(N, parts - 1)``, falling.

    They are even in the step's number on the default grid.
    """
    share = torch.arange(1, parts, dtype=torch.float64) / parts
    start, end = (_place(process, v)[:, None] for v in (t, s))
    levels = _DEFAULT.reference.log_snr((start + share * (end - start)) ** _DEFAULT.power)
    return process.schedule.time(levels).clamp(0, 1)


def _place(process: SDE, t: Tensor) -> Tensor:
    log_snr = process.schedule.log_snr(t)
    clean = log_snr == torch.inf
    times = _DEFAULT.reference.time(torch.where(clean, 0.0, log_snr).clamp(min=_DEFAULT.start))
    return torch.where(clean, 0.0, times.clamp(0, 1) ** (1 / _DEFAULT.power))
