"""Autoguidance: a denoiser guided away from a weaker version of itself."""

from typing import Any

import torch
from torch import Tensor

from ..denoisers import Denoiser, GaussianPosterior, Posterior
from ..schedules import Time
from ._parts import check_interval, check_same_process, within

__all__ = ["Autoguidance"]


class Autoguidance(Denoiser):
    """Goes from a weaker denoiser's answer through and beyond the better one's: ``mean_w + scale (mean - mean_w)``.

    Karras et al. 2024 (arXiv 2406.02507), eq. 4.  The weaker one is of the same data and conditions, but smaller or
    trained for less time, so that both err alike and the difference points away from the error.  Unlike
    classifier-free guidance it needs no condition and does not push towards one.  An evaluation costs one call of
    each; outside of the interval the weaker one is not called.

    Args:
        denoiser: the better one.
        weaker: the weaker one, of the same schedule.
        scale: 1 is the denoiser itself; 1.5 to 3 in the paper.
        interval: times within which guidance acts, ``(low, high)``, ends included.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        weaker: Denoiser,
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

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Posterior:
        active = within(self.interval, t)
        better = self.denoiser(x_t, t, **condition)
        if self.scale == 1 or active is False:
            return better
        mean = torch.lerp(self.weaker(x_t, t, **condition).mean, better.mean, self.scale)
        if isinstance(active, Tensor):
            mean = torch.where(active.reshape(-1, *[1] * (mean.ndim - 1)), mean, better.mean)
        return GaussianPosterior(x_t, self.process, better.level, mean)
