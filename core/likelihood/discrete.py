r"""The variational bound in discrete time, with all of its terms.

For times ``1 = t_0 > t_1 > ... > t_N`` and a decoder at the last one (Sohl-Dickstein et al. 2015, 1503.03585; Ho et al.
2020, 2006.11239, eq. 5; Nichol and Dhariwal 2021, 2102.09672, section 2),

    -log p(x_0) <= KL(q(x_{t_0} | x_0) || p) + sum_i E KL(q(x_s | x_t, x_0) || p(x_s | x_t)) - E log p(x_0 | x_{t_N}),

where both distributions of a step from ``t`` to ``s`` are Gaussian, with means ``a x_t + b x_0`` and ``a x_t + b
mean`` and variances ``g^2`` and ``v`` (`reverse_variance`):

    KL = (log(v / g^2) + (g^2 + b^2 (x_0 - mean)^2) / v - 1) / 2        a coordinate.

The squared error is estimated with a control variate (`known_part`), which lowers the Monte-Carlo error several times.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..denoisers import Denoiser, Posterior
from ..grids import Grid, UniformLogSNR
from ..noise import NoiseSource
from ..process import broadcast
from ..reverse_variance import ReverseVariance, reverse_variance
from ..schedules import require, wide
from ..sdes import SDE, Level, check_whole, posterior_coefficients
from .bounds import Bound, Data, bin_nats, density_nats, prior_kl, squared_error
from .events import stream_of
from .units import UniformDequantisation

__all__ = ["VariationalBound", "decoder_variance", "step_kl"]


@dataclass(frozen=True)
class VariationalBound:
    """The bound of the module's text, estimated with fresh noise at every step.

    Args:
        steps: of the reverse process, at least 1.
        grid: chooses the times; a last time without noise stands for the data themselves, reached by the decoder.
        variance: of the reverse steps, see `reverse_variance`; "optimal" is Analytic-DPM's.  The decoder has the
            same kind; the noise's own variance ``sigma^2 / alpha^2`` where that is a fixed or a learned one.
        quantisation: None for the density of continuous data; the levels of integer data for their probability, with
            the discretised Gaussian decoder (Ho et al., eq. 13).  The data are then levels, not dequantised.
        draws: passes over all steps; two or more say how uncertain the bound is.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, CosineSchedule, GaussianDenoiser
        >>> exact = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2))
        >>> bound = VariationalBound(50, variance="optimal").evaluate(exact, torch.zeros(1, 2), seed=0)
        >>> bound.steps.shape
        torch.Size([1, 49])
    """

    steps: int = 100
    grid: Grid = field(default=UniformLogSNR(high=14.0), kw_only=True)
    variance: ReverseVariance = field(default="small", kw_only=True)
    quantisation: UniformDequantisation | None = field(default=None, kw_only=True)
    draws: int = field(default=2, kw_only=True)

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps", self.steps, "at least 1")
        require(self.draws >= 1, "draws", self.draws, "at least 1")
        allowed = ("small", "large", "optimal", "learned")
        require(self.variance in allowed, "variance", self.variance, "'small', 'large', 'optimal' or 'learned'")

    @torch.no_grad()
    def evaluate(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        *,
        seed: int | None = None,
        noise: NoiseSource | None = None,
        first: int = 0,
        mask: Tensor | None = None,
        condition: Mapping[str, Any] | None = None,
    ) -> Bound:
        """The bound of each sample of ``x0``.

        Args:
            denoiser: gives the means and, where ``variance`` asks for it, the variances.
            x0: clean data ``(B, *event)``, float32 or float64.
            seed: makes the noise of sample ``i`` a function of ``(seed, first + i)`` alone.
            noise: where noise is drawn from; torch's global generator by default.
            first: number of the first sample, for runs in parts.
            mask: ``(B, N)``, True where the first event axis is real.
            condition: tensors for the denoiser, by name.

        Raises:
            ValueError: for data of another shape or dtype, or between the levels.
            AttributeError: for a denoiser that does not know the variance asked for.
        """
        check_whole(denoiser.process, type(self).__name__)
        data = Data.checked(x0, mask, condition, self.quantisation)
        times = self._times(denoiser.process)
        levels = denoiser.process.prepare(times)
        stream = stream_of(seed, noise, len(x0), first)
        runs = [self._run(denoiser, data, levels, stream.draw) for _ in range(self.draws)]
        steps, reconstruction = (torch.stack(parts) for parts in zip(*runs))
        totals = steps.sum(2) + reconstruction
        error = totals.std(0) / self.draws**0.5 if self.draws > 1 else torch.full_like(totals[0], torch.nan)
        kl, mean = prior_kl(data, levels[0]), steps.mean(0)
        nfe = self.draws * len(levels)
        return Bound(kl, mean.sum(1), reconstruction.mean(0), error, nfe, mean, times)

    def _times(self, process: SDE) -> Tensor:
        """The times that hold noise."""
        times = self.grid(self.steps, process)
        times = times[process.schedule.sigma(times) > 0]
        if len(times) == 0:
            raise ValueError(f"grid={self.grid}: expected at least one time with noise")
        return times

    def _run(self, denoiser: Denoiser, data: Data, levels: list[Level], draw: Any) -> tuple[Tensor, Tensor]:
        """Divergences ``(B, N)`` and reconstruction ``(B,)`` of one pass."""
        steps = []
        times = [torch.tensor(level.t, dtype=torch.float64) for level in levels]
        for i, level in enumerate(levels):
            z = draw(data.x0)
            posterior = denoiser(data.noised(level, z), level.t, **data.condition)
            square = squared_error(data.x0, posterior.mean, z, level)
            if i + 1 < len(levels):
                steps.append(data.sum(step_kl(self.variance, square, posterior, times[i], times[i + 1])))
        variance = decoder_variance(self.variance, posterior)
        if self.quantisation is None:
            reconstruction = density_nats(data, square, variance)
        else:
            reconstruction = bin_nats(data, posterior.mean, variance, self.quantisation)
        empty = reconstruction.new_zeros(len(data.x0), 0)
        return torch.stack(steps, 1) if steps else empty, reconstruction


def step_kl(kind: ReverseVariance, square: Tensor, posterior: Posterior, t: Tensor, s: Tensor) -> Tensor:
    """``KL(q(x_s | x_t, x_0) || p(x_s | x_t))`` of each coordinate, shape of ``square``.

    Args:
        kind: of the variance.
        square: ``(x_0 - mean)^2``, float64.
        posterior: the denoiser's answer at ``t``.
        t, s: one time or one a sample, float64; there is noise at ``s``.
    """
    schedule = posterior.process.schedule
    _, b, std = posterior_coefficients(schedule, t, s)
    large = b / schedule.alpha(s) * schedule.sigma(t) ** 2
    b, small, large = (broadcast(c.to(square), square) for c in (b, std**2, large))
    variance = reverse_variance(kind, posterior, b, small, large)
    ratio = torch.as_tensor(variance).to(square) / small
    error = (b * b / small) * square
    return 0.5 * (ratio.log() + (1 + error) / ratio - 1)


def decoder_variance(kind: ReverseVariance, posterior: Posterior) -> Tensor:
    """Variance of ``p(x_0 | x_t)``: the posterior's for "optimal", and otherwise the noise's, ``sigma^2 / alpha^2``,
    of which it is at least a millionth: any variance gives a bound, none does not.
    """
    log_snr = broadcast(torch.as_tensor(posterior.level.log_snr, dtype=torch.float64), wide(posterior.x_t))
    noise = (-log_snr).exp()
    return torch.maximum(wide(posterior.variance).to(noise.device), 1e-6 * noise) if kind == "optimal" else noise
