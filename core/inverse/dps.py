r"""DPS: ancestral steps, each followed by a gradient step on the misfit of the denoised state."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..denoisers import GaussianPosterior
from ..samplers.base import Row, Run, Sampler
from ..schedules import require
from ..sdes import SDE, posterior_coefficients
from .gradient import mean_and_pullback
from .measurement import Measurement

__all__ = ["DPS"]


@dataclass(frozen=True)
class DPS(Sampler):
    r"""Diffusion posterior sampling: ``x_s = x'_s - zeta grad |y - A(m(x_t))|`` with ``x'_s`` the step of DDPM.

    Chung et al. 2023 (arXiv 2209.14687), algorithms 1 and 2, with the gradient of the norm as in the paper's
    experiments (that of the squared norm, over twice the norm).  With Poisson noise the misfit is weighted by the
    inverse variances, scaled to a mean of 1 (eq. 19).  Operators may be nonlinear.  The gradient is taken and the
    step made in the variance-preserving scale ``x / sqrt(alpha^2 + sigma^2)`` of the paper, whatever the schedule, so
    that equal log-SNR gives equal samples.

    The length of a step does not follow from a model of the noise, so the result is not exact for any data; it depends
    on ``zeta`` and on the number of steps.

    Args:
        measurement: what was seen.
        zeta: length of the step; the paper takes 0.3 to 1.
    """

    measurement: Measurement = field(kw_only=True)
    zeta: float = field(default=1.0, kw_only=True)

    needs_gradient = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.measurement, Measurement):
            raise TypeError(f"measurement={self.measurement!r}: expected a Measurement(y, operator, noise)")
        require(self.zeta >= 0, "zeta", self.zeta, "a number of at least 0")

    @property
    def stochastic(self) -> bool:
        return True

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """Columns: factors of ``x_t`` and ``m``, standard deviation, and the lengths of the state at both times."""
        schedule, t, s = process.schedule, times[:-1], times[1:]
        size = torch.hypot(schedule.alpha(times), schedule.sigma(times))
        return torch.stack([*posterior_coefficients(schedule, t, s), size[:-1], size[1:]], 1)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        a, b, g, size_t, size_s = row
        mean, pullback = mean_and_pullback(run.posterior, x, t)
        # Kept for the callback, without the graph of the first.
        run.latest = GaussianPosterior(x, run.denoiser.process, run.denoiser.process.level(t), mean)
        misfit = self._misfit_gradient(mean)
        # d / d(x / size_t) = size_t d / dx; the state at s is size_s times the paper's.
        gradient = pullback(misfit) * (size_t * size_s)
        return a * x + b * mean + g * run.noise.step(x, t, s) - self.zeta * gradient

    def _misfit_gradient(self, mean: Tensor) -> Tensor:
        """Gradient of ``|y - A(m)|`` with respect to ``m``; zero where the misfit is."""
        measurement = self.measurement
        y, variance = measurement.like(mean), measurement.variance
        residual = y - measurement.operator(mean)
        weighted = residual
        if isinstance(variance, Tensor):
            inverse = 1 / variance.to(mean)
            weighted = residual * inverse / inverse.flatten(1).mean(1).reshape(-1, *[1] * (residual.ndim - 1))
        norm = (residual * weighted).flatten(1).sum(1).sqrt().reshape(-1, *[1] * (residual.ndim - 1))
        unit = torch.where(norm > 0, weighted / torch.where(norm > 0, norm, 1.0), 0.0)
        return -measurement.operator.vjp(mean, unit)
