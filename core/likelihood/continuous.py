r"""The variational bound in continuous time.

In the limit of many steps the discrete bound becomes (Kingma et al. 2021, 2107.00630, eqs. 11-15)

    -log p(x_0) <= KL(q(x_T | x_0) || N(0, sigma_T^2))
                   + 1/2 int E|eps - eps_theta(x_t, t)|^2 (-d log_snr / dt) dt
                   - E log p(x_0 | x_start),

an integral over log-SNR, so that two schedules with the same ends have the same bound and differ by the variance of
its estimate alone.  The decoder is the noise's own Gaussian about ``x_start / alpha``, with variance ``sigma^2 /
alpha^2``: it needs no denoiser, and its expected density is known, ``D (1 + log(2 pi) - log_snr) / 2`` nats.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..noise import NoiseSource, NoiseStream
from ..schedules import require, wide
from ..sdes import SDE, Level, check_whole
from .bounds import Bound, Data, bin_nats, known_part, prior_kl
from .events import stream_of
from .units import UniformDequantisation

__all__ = ["ContinuousBound", "expected_decoder_nats"]


@dataclass(frozen=True)
class ContinuousBound:
    """The bound of the module's text, by Monte Carlo over time and noise.

    Each draw takes ``strata`` times, ``(u + j / strata) mod 1`` of the range with one uniform ``u`` a sample (the
    low-discrepancy sampler of Kingma et al., appendix I.1), and a control variate (`known_part`) takes away what is
    known of the noise's share; both lower the variance.  The error comes from the spread over draws.

    Args:
        strata: times a draw.
        draws: independent repetitions; two or more say how uncertain the bound is.
        spacing: "time" for times uniform under the schedule, "log_snr" for uniform log-SNR under any schedule.
        quantisation: None for the density of continuous data; the levels of integer data for their probability, with
            the decoder integrated over each bin.  The data are then levels, not dequantised.
        low, high: log-SNR at the ends, cut to what the schedule covers.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, CosineSchedule, GaussianDenoiser
        >>> exact = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2))
        >>> bound = ContinuousBound().evaluate(exact, torch.zeros(1, 2), seed=0)
        >>> bound.nfe
        128
    """

    strata: int = 32
    draws: int = 4
    spacing: Literal["time", "log_snr"] = field(default="time", kw_only=True)
    quantisation: UniformDequantisation | None = field(default=None, kw_only=True)
    low: float = field(default=-10.0, kw_only=True)
    high: float = field(default=14.0, kw_only=True)

    def __post_init__(self) -> None:
        require(self.strata >= 1, "strata", self.strata, "at least 1")
        require(self.draws >= 1, "draws", self.draws, "at least 1")
        require(self.spacing in ("time", "log_snr"), "spacing", self.spacing, "'time' or 'log_snr'")
        require(-math.inf < self.low < self.high < math.inf, "high", self.high, f"a log-SNR above low={self.low}")

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
        """The bound of each sample of ``x0``; arguments and errors as for `VariationalBound.evaluate`."""
        check_whole(denoiser.process, type(self).__name__)
        data = Data.checked(x0, mask, condition, self.quantisation)
        start, end = self._ends(denoiser.process)
        stream = stream_of(seed, noise, len(x0), first)
        runs = [self._run(denoiser, data, (start, end), stream) for _ in range(self.draws)]
        diffusion, reconstruction = (torch.stack(parts) for parts in zip(*runs))
        totals = diffusion + reconstruction
        error = totals.std(0) / self.draws**0.5 if self.draws > 1 else torch.full_like(totals[0], torch.nan)
        nfe = self.draws * self.strata
        return Bound(prior_kl(data, end), diffusion.mean(0), reconstruction.mean(0), error, nfe)

    def _ends(self, process: SDE) -> tuple[Level, Level]:
        """The levels at the least and the most noise."""
        covered = [float(process.level(t).log_snr) for t in (0.0, 1.0)]
        high, low = min(self.high, covered[0]), max(self.low, covered[1])
        require(low < high, "low", self.low, f"a log-SNR within the schedule's, {covered[1]:.4g} to {covered[0]:.4g}")
        times = process.schedule.time(torch.tensor([high, low], dtype=torch.float64)).clamp(0, 1)
        return process.level(float(times[0])), process.level(float(times[1]))

    def _run(
        self, denoiser: Denoiser, data: Data, ends: tuple[Level, Level], stream: NoiseStream
    ) -> tuple[Tensor, Tensor]:
        """Diffusion term and reconstruction of one draw, ``(B,)``."""
        offset = torch.special.ndtr(wide(stream.draw(data.x0[:, :1].flatten(1)[:, :1])))[:, 0]
        total = torch.zeros_like(offset)
        for j in range(self.strata):
            t, rate = self._times((offset + j / self.strata) % 1.0, ends, denoiser.process)
            z = stream.draw(data.x0)
            level = denoiser.process.level(t).like(data.x0)
            posterior = denoiser(data.noised(level, z), t, **data.condition)
            square = wide(z - posterior.eps) ** 2 - known_part(wide(z), torch.as_tensor(level.log_snr))
            total += 0.5 * rate * data.sum(square)
        return total / self.strata, self._reconstruction(data, ends[0], stream)

    def _times(self, u: Tensor, ends: tuple[Level, Level], process: SDE) -> tuple[Tensor, Tensor]:
        """Times at the fractions ``u`` of the range, and ``-d log_snr / du`` there."""
        (start, _, _, high), (end, _, _, low) = ((float(v) for v in level) for level in ends)
        if self.spacing == "log_snr":
            return process.schedule.time(high + u * (low - high)).clamp(0, 1), torch.full_like(u, high - low)
        t = start + u * (end - start)
        return t, -process.schedule.d_log_snr(t) * (end - start)

    def _reconstruction(self, data: Data, level: Level, stream: NoiseStream) -> Tensor:
        log_snr = torch.tensor(level.log_snr, dtype=torch.float64)
        if self.quantisation is None:
            return expected_decoder_nats(data, log_snr)
        mean = data.noised(level, stream.draw(data.x0)) / level.alpha
        return bin_nats(data, mean, (-log_snr).exp(), self.quantisation)


def expected_decoder_nats(data: Data, log_snr: Tensor) -> Tensor:
    """``E[-log N(x_0; x_t / alpha, sigma^2 / alpha^2)]``, ``(B,)``: known, since ``x_t / alpha - x_0`` has that law."""
    each = 0.5 * (1 + math.log(2 * math.pi) - log_snr)
    return each * data.sum(torch.ones_like(data.x0))
