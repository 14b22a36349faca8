r"""Samplers that work in the spectral coordinates of the operator, each with its own noise level: DDRM and DDNM+."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..samplers.base import Row, Run, Sampler
from ..schedules import require
from ..sdes import SDE, posterior_coefficients
from .measurement import Measurement
from .travel import TravellingSampler

__all__ = ["DDRM", "DDNMPlus"]


@dataclass(frozen=True)
class DDRM(Sampler):
    r"""Denoising diffusion restoration: a DDIM-like step for each spectral coordinate of ``A = U S V^T``.

    With ``m`` the denoiser's mean in coordinates of ``V``, ``y_i = (U^T y)_i / s_i`` and its noise ``n_i = std /
    s_i``, the coordinate ``x_i`` at noise ratio ``r = sigma_s / alpha_s`` is drawn from (over ``alpha_s``)

        N(m_i + sqrt(1 - eta^2) r eps_i,                    eta^2 r^2)               where s_i = 0,
        N(m_i + sqrt(1 - eta^2) r (y_i - m_i) / n_i,        eta^2 r^2)               where r < n_i,
        N((1 - eta_b) m_i + eta_b y_i,                      r^2 - n_i^2 eta_b^2)     where r >= n_i,

    and the start from ``N(y_i, r^2 - n_i^2)`` where ``r >= n_i``.  Kawar, Elad, Ermon and Song 2022 (arXiv 2201.11793),
    eqs. 4, 7 and 8.  The samples fit a measurement without noise exactly (``eta_b = 1``).  Approximate: coordinates
    are treated apart, which correlated data's are not.

    Args:
        measurement: what was seen, through an operator with a known decomposition, with Gaussian noise.
        eta: share of new noise, 0 to 1; 0.85 in the paper.
        eta_b: trust in the measurement where it is cleaner than the state, 0 to 1; 1 in the paper.
    """

    measurement: Measurement = field(kw_only=True)
    eta: float = field(default=0.85, kw_only=True)
    eta_b: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.measurement, Measurement):
            raise TypeError(f"measurement={self.measurement!r}: expected a Measurement(y, operator, noise)")
        require(0 <= self.eta <= 1, "eta", self.eta, "a number from 0 to 1")
        require(0 <= self.eta_b <= 1, "eta_b", self.eta_b, "a number from 0 to 1")
        self.measurement.spectral("DDRM")
        self.measurement.std("DDRM")

    @property
    def stochastic(self) -> bool:
        return True

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """Columns: ``alpha_s`` and ``sigma_s``."""
        return torch.stack([process.schedule.alpha(times[1:]), process.schedule.sigma(times[1:])], 1)

    def walk(self, run: Run, x: Tensor, clock: Sequence[float], rows: Sequence[Row]) -> Tensor:
        level = run.denoiser.process.level(clock[0])
        operator, (y, noise) = self.measurement.spectral("DDRM"), _spectral_data(self.measurement, x)
        rank, std = y.shape[1], level.alpha * noise
        known = std <= level.sigma
        c = operator.vt(x)
        shrink = torch.where(known, (1 - (std / level.sigma) ** 2).clamp(min=0), 1.0).sqrt()
        centre = torch.where(known, level.alpha * y, 0.0)
        c = torch.cat([centre + shrink * c[:, :rank], c[:, rank:]], 1)
        return super().walk(run, operator.v(c), clock, rows)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        alpha, sigma = row
        operator, (y, noise) = self.measurement.spectral("DDRM"), _spectral_data(self.measurement, x)
        rank, fresh = y.shape[1], self.eta * sigma
        posterior = run.posterior(x, t)
        mean, z = operator.vt(posterior.mean), operator.vt(run.noise.step(x, t, s))
        free = operator.vt(posterior.combine(alpha, (1 - self.eta**2) ** 0.5 * sigma)) + fresh * z
        mean, z = mean[:, :rank], z[:, :rank]
        # A coordinate without noise has noise / s = 0, and one without measurement infinity.
        pull = (1 - self.eta**2) ** 0.5 * sigma / torch.where(noise > 0, noise, 1.0)
        noisy = alpha * mean + pull * (y - mean) + fresh * z
        width = (sigma**2 - (alpha * self.eta_b * torch.where(noise.isfinite(), noise, 0.0)) ** 2).clamp(min=0).sqrt()
        clean = alpha * ((1 - self.eta_b) * mean + self.eta_b * y) + width * z
        known = torch.where(alpha * noise <= sigma, clean, noisy)
        return operator.v(torch.cat([torch.where(noise.isfinite(), known, free[:, :rank]), free[:, rank:]], 1))


@dataclass(frozen=True)
class DDNMPlus(TravellingSampler):
    r"""DDNM+: null-space correction that knows of noise, with time travel.

    A step ``x_s = a x_t + b m + g z`` (DDIM's with stochasticity ``eta``) becomes, coordinate by coordinate,

        m_i <- m_i + lambda_i (y_i - m_i),      noise variance g^2 - (b lambda_i n_i)^2,

    with ``y_i = (U^T y)_i / s_i``, ``n_i = std / s_i`` and ``lambda_i = min(1, g / (b n_i))``: the noise of the
    measurement takes the place of a part of the step's own.  Wang, Yu and Zhang 2022 (arXiv 2212.00490), eqs. 16-19,
    appendix I and algorithms 2 and 3.  Without noise and jumps it is `DDIM` on `DDNM`, and the samples fit ``y``
    exactly.

    Args:
        measurement: what was seen, through an operator with a known decomposition, with Gaussian noise.
        eta: share of DDPM's noise; 0.85 in the paper.  With a noisy measurement, 0 leaves no room for its noise and
            so no correction.
        jump_length, resamplings: time travel, as in `TravellingSampler`; none by default.
    """

    eta: float = field(default=0.85, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.eta <= 1, "eta", self.eta, "a number from 0 to 1")
        self.measurement.spectral("DDNMPlus")
        self.measurement.std("DDNMPlus")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0 or self.resamplings > 1

    def descent(self, process: SDE, t: Tensor, s: Tensor) -> Tensor:
        """Columns: ``a``, ``b``, ``g``."""
        schedule = process.schedule
        g = self.eta * posterior_coefficients(schedule, t, s)[2]
        a = (schedule.sigma(s) ** 2 - g**2).sqrt() / schedule.sigma(t)
        return torch.stack([a, schedule.alpha(s) - a * schedule.alpha(t), g], 1)

    def descend(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        a, b, g = row
        operator, (y, noise) = self.measurement.spectral("DDNMPlus"), _spectral_data(self.measurement, x)
        rank = y.shape[1]
        posterior = run.posterior(x, t)
        mean = operator.vt(posterior.mean)[:, :rank]
        noisy = (noise > 0) & noise.isfinite()
        room = g / torch.where(noisy, b * noise, 1.0)
        trust = torch.where(noisy, room.clamp(max=1.0), noise.isfinite().to(room))
        out = posterior.affine(a, b) + operator.spectral_filter(y - mean, b * trust)
        if not isinstance(g, Tensor) and g == 0:
            return out
        # The measurement's noise takes all of the room where it is cut to it.
        left = (g**2 - (b * torch.where(noisy, noise, 0.0)) ** 2).clamp(min=0).sqrt()
        width = torch.where(noisy & (room <= 1), 0.0, left)
        z = run.noise.step(x, t, s)
        return out + g * z + operator.spectral_filter(operator.vt(z)[:, :rank], width - g)


def _spectral_data(measurement: Measurement, x: Tensor) -> tuple[Tensor, Tensor]:
    """``y_i`` and ``n_i`` ``(B or 1, R)``; 0 and infinity where the operator measures nothing."""
    operator = measurement.spectral("the method")
    s, seen = operator.singular_values.to(x), operator.reliable
    divisor = torch.where(seen, s, 1.0)
    y = torch.where(seen, operator.ut(measurement.like(x)) / divisor, 0.0)
    noise = torch.where(seen, measurement.std("the method") / divisor, torch.inf)
    return y, noise.expand_as(y)
