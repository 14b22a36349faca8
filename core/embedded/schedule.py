"""The noise schedule of embeddings, which starts with noise and adds more quickly."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ..schedules import Scalars, Schedule, Time, as_tensor, require

__all__ = ["SqrtSchedule"]


@dataclass(frozen=True)
class SqrtSchedule(Schedule):
    """Square-root schedule: ``sigma(t)^2 = sqrt((t + s) / (1 + s))``, variance preserving.

    Li et al. 2022 (Diffusion-LM, arXiv 2205.14217), section 4.3 and appendix A, where ``alpha^2 = 1 - sqrt(t + s)``
    falls below zero at ``t = 1``, by ``s / 2``; divided by ``1 + s`` it ends at zero exactly.  A little noise does not
    change which embedding is nearest, so it starts with ``sigma = s^(1/4)`` and rises steeply.  For Difformer's noise
    factor ``F`` (Gao et al. 2022, 2212.09412) take ``ShiftedSchedule(SqrtSchedule(), F)``.

    Args:
        s: offset, at least 0; 1e-4 in the paper, for ``sigma(0) = 0.1``.
    """

    s: float = 1e-4
    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "vp"

    def __post_init__(self) -> None:
        require(0 <= self.s < math.inf, "s", self.s, "a number of at least 0")

    def _noise(self, t: Time) -> Tensor:
        """``sigma^2``."""
        return ((as_tensor(t) + self.s) / (1 + self.s)).sqrt()

    def _signal(self, t: Time) -> Tensor:
        """``alpha^2``, without taking the difference of nearly equal numbers near ``t = 1``."""
        return (1 - as_tensor(t)) / ((1 + self.s) * (1 + self._noise(t)))

    def _slope(self, t: Time) -> Tensor:
        """Derivative of ``sigma^2``."""
        return 0.5 / ((1 + self.s) * self._noise(t))

    def alpha(self, t: Time) -> Scalars:
        return self._signal(t).sqrt()

    def sigma(self, t: Time) -> Scalars:
        return self._noise(t).sqrt()

    def d_alpha(self, t: Time) -> Scalars:
        return -0.5 * self._slope(t) / self.alpha(t)

    def d_sigma(self, t: Time) -> Scalars:
        return 0.5 * self._slope(t) / self.sigma(t)

    def log_snr(self, t: Time) -> Scalars:
        return self._signal(t).log() - self._noise(t).log()

    def d_log_snr(self, t: Time) -> Scalars:
        return -self._slope(t) / (self._signal(t) * self._noise(t))

    def time(self, log_snr: Time) -> Scalars:
        noise = (-as_tensor(log_snr)).sigmoid()
        return (1 + self.s) * noise.square() - self.s
