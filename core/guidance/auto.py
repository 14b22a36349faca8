"""Autoguidance: a denoiser guided away from a weaker version of itself."""

from typing import Any

from ..denoisers import Denoiser
from ..schedules import Time
from ._parts import check_interval, check_same_process, within
from .extrapolation import extrapolated

__all__ = ["Autoguidance"]


class Autoguidance(Denoiser[Any]):
    """Goes from a weaker denoiser's answer through and beyond the better one's: ``mean_w + scale (mean - mean_w)``.

    Karras et al. 2024 (arXiv 2406.02507), eq. 4.  The weaker one is of the same data and conditions, but smaller or
    trained for less time, so that both err alike and the difference points away from the error.  Unlike
    classifier-free guidance it needs no condition and does not push towards one.  An evaluation costs one call of
    each; outside of the interval the weaker one is not called.

    On a `Chain` the reverse kernels of each position are multiplied instead, ``p^scale p_w^(1 - scale)``, as in
    `ClassifierFreeGuidance`, and on a `ProductProcess` each component is guided as it would be alone.

    Args:
        denoiser: the better one.
        weaker: the weaker one, of the same process.
        scale: 1 is the denoiser itself; 1.5 to 3 in the paper.
        interval: times within which guidance acts, ``(low, high)``, ends included.
    """

    def __init__(
        self,
        denoiser: Denoiser[Any],
        weaker: Denoiser[Any],
        scale: float = 2.0,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(denoiser.process)
        check_interval(interval)
        check_same_process([denoiser, weaker])
        self.denoiser = denoiser
        self.weaker = weaker
        self.scale = scale
        self.interval = interval

    def forward(self, x_t: Any, t: Time, **condition: Any) -> Any:
        active = within(self.interval, t)
        better = self.denoiser(x_t, t, **condition)
        if self.scale == 1 or active is False:
            return better
        return extrapolated(self.process, x_t, t, [better, self.weaker(x_t, t, **condition)], self.scale, active)
