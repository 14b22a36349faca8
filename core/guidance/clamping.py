"""Clamping: predictions of embeddings that commit to a category."""

from typing import Any

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..embedded import EmbeddedPosterior
from ..embedded.table import table_of
from ..schedules import Time
from ..sdes import SDE
from ._parts import check_interval, within

__all__ = ["ClampedDenoiser"]


class ClampedDenoiser(Denoiser[SDE]):
    """Moves the predicted data to the nearest embedding of each position, ``mean <- e_w`` with ``w`` the rounded mean.

    Li et al. 2022 (Diffusion-LM, arXiv 2205.14217), section 4.2 (the clamping trick), which makes predictions sharp and
    rounding errors few.  Early on it commits to what the denoiser cannot know yet: the paper has it act from a time on
    that is to be tuned.  Where a gradient is asked for it is that of the mean before.

    Args:
        denoiser: of embedded categories, guided or not.
        interval: times within which it acts, ``(low, high)``, ends included.

    Raises:
        TypeError: for a denoiser without embeddings.
    """

    def __init__(self, denoiser: Denoiser[SDE], interval: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__(denoiser.process)
        check_interval(interval)
        table_of(denoiser)
        self.denoiser = denoiser
        self.interval = interval

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Any:
        active = within(self.interval, t)
        posterior = self.denoiser(x_t, t, **condition)
        if active is False:
            return posterior
        mean, table = posterior.mean, table_of(self.denoiser)
        snapped = table.embed(table.round(mean)).to(mean.dtype)
        if (given := condition.get("given")) is not None:
            snapped = torch.where(given[..., None], x_t, snapped)
        if mean.requires_grad:
            snapped = mean + (snapped - mean).detach()
        if isinstance(active, Tensor):
            snapped = torch.where(active.reshape(-1, 1, 1), snapped, mean)
        return EmbeddedPosterior(x_t, self.process, posterior.level, table, mean=snapped)
