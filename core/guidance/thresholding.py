"""Dynamic thresholding: brings predictions that strong guidance drove out of range back into it."""

from typing import Any

import torch
from torch import Tensor

from ..denoisers import Denoiser, GaussianPosterior, Posterior
from ..schedules import Time, require

__all__ = ["DynamicThresholding"]


class DynamicThresholding(Denoiser):
    """Clips each sample's mean at a quantile of its own size and scales it back into range.

    ``s = max(quantile of |mean|, bound)`` over a sample's coordinates, then ``clip(mean, -s, s) bound / s``.  Saharia
    et al. 2022 (Imagen, arXiv 2205.11487), section 2.3, where data lie in [-1, 1].  A mean within the bound is left
    alone; ``quantile = 1`` scales without clipping.  For data that are bounded, pictures above all.

    Args:
        denoiser: usually a guided one.
        quantile: part of the coordinates that are not clipped, in (0, 1]; 0.995 in the paper.
        bound: largest absolute value in the data, positive.
    """

    def __init__(self, denoiser: Denoiser, quantile: float = 0.995, bound: float = 1.0) -> None:
        super().__init__(denoiser.process)
        require(0 < quantile <= 1, "quantile", quantile, "a number in (0, 1]")
        require(bound > 0, "bound", bound, "a positive number")
        self.denoiser = denoiser
        self.quantile = quantile
        self.bound = bound

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Posterior:
        posterior = self.denoiser(x_t, t, **condition)
        mean = posterior.mean
        size = mean.flatten(1).abs().quantile(self.quantile, dim=1).clamp(min=self.bound)
        size = size.reshape(-1, *[1] * (mean.ndim - 1))
        mean = torch.maximum(torch.minimum(mean, size), -size) * (self.bound / size)
        return GaussianPosterior(x_t, self.process, posterior.level, mean)
