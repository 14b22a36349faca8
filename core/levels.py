"""The coefficients of a process at a time, computed once in float64 and remembered."""

from typing import NamedTuple

import torch
from torch import Tensor

from .process import Process, broadcast
from .schedules import Schedule, Time

__all__ = ["Level", "Scheduled"]


class Level(NamedTuple):
    """A time with the coefficients that hold there; floats for one time, tensors ``(B,)`` for a time per sample."""

    t: Tensor | float
    alpha: Tensor | float
    sigma: Tensor | float
    log_snr: Tensor | float

    def like(self, x: Tensor) -> "Level":
        """The level with its tensors shaped to multiply ``x``; floats stay as they are."""
        if not isinstance(self.log_snr, Tensor):
            return self
        return Level(*(broadcast(c, x) if isinstance(c, Tensor) else c for c in self))


class Scheduled(Process):
    """A process whose coefficients are those of a `Schedule`.

    Args:
        schedule: gives ``alpha``, ``sigma`` and their log-SNR.
    """

    schedule: Schedule

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule={schedule!r}: expected a Schedule, such as CosineSchedule()")
        self.schedule = schedule
        self._levels: dict[float, Level] = {}

    def coefficients(self, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """What a `Level` holds beside the time: the weight of the data, that of the noise, and log-SNR."""
        return self.schedule.alpha(t), self.schedule.sigma(t), self.schedule.log_snr(t)

    def level(self, t: Time) -> Level:
        """The coefficients at ``t``.

        A float, or a tensor of no dimensions on the CPU that needs no gradient, gives floats, computed once in float64
        and remembered, so that a sampling loop costs no tensor operations here and nothing waits for the device.  A
        tensor ``(B,)`` gives tensors.
        """
        if isinstance(t, Tensor) and (
            t.ndim > 0 or t.requires_grad or torch.compiler.is_compiling() or t.device.type != "cpu"
        ):
            return Level(t, *self.coefficients(t))
        key = float(t)
        known = self._levels.get(key)
        return known if known is not None else self.prepare(torch.tensor([key], dtype=torch.float64))[0]

    def prepare(self, times: Tensor) -> list[Level]:
        """The levels of many times ``(N,)`` at once, remembered for `level`."""
        if len(self._levels) > 100_000:
            self._levels.clear()
        levels = [Level(*row) for row in zip(times.tolist(), *(c.tolist() for c in self.coefficients(times)))]
        self._levels.update((level.t, level) for level in levels)  # type: ignore[misc]
        return levels
