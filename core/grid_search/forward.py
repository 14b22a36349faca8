r"""How a denoiser's answers change along the forward process: all that the sampler-free searches need.

Data ``x_0`` are noised along the diffusion itself, from the lowest level up, so that the states of a sample at two
times ``t > u`` have the joint distribution ``q(x_u, x_t)``:

    x_t = (alpha_t / alpha_u) x_u + sigma_t sqrt(1 - SNR(t) / SNR(u)) z.

With the answers ``m_t = mean(x_t, t)`` there are

    errors:     E |x_0 - m_t|^2,
    distances:  E |m_u - m_t|^2,                       sums over the event, means over the data.

For an exact denoiser ``m`` is a martingale, so that the distance is the difference of the errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..noise import SeededNoise
from ..objectives import check_data
from ..sdes import SDE

__all__ = ["ForwardErrors", "forward_errors"]


@dataclass(frozen=True)
class ForwardErrors:
    """The estimates of the module's text at ``n`` falling times, float64 on the CPU.

    Args:
        times: ``(n,)``.
        log_snr: ``(n,)``, rising.
        errors: ``(n,)``.
        distances: ``(n, n)``.
        square: ``E |x_0|^2``.
        dim: numbers in an event.
    """

    times: Tensor
    log_snr: Tensor
    errors: Tensor
    distances: Tensor
    square: float
    dim: int

    @property
    def prior(self) -> float:
        """``KL(q(x_t | x_0) || N(0, sigma_t^2))`` at the first time, in nats."""
        return 0.5 * float(self.log_snr[0].exp()) * self.square

    @property
    def decoder(self) -> Tensor:
        """``-E log p(x_0 | x_t)`` in nats with ``p = N(m_t, sigma_t^2 / alpha_t^2)``, at each time."""
        constant = 0.5 * self.dim * (torch.log(torch.tensor(2 * torch.pi).double()) - self.log_snr)
        return constant + 0.5 * self.log_snr.exp() * self.errors


@torch.no_grad()
def forward_errors(
    denoiser: Denoiser, x0: Tensor, times: Tensor, *, seed: int = 0, condition: Mapping[str, Any] | None = None
) -> ForwardErrors:
    """Estimate `ForwardErrors`, with one path a sample and one evaluation a time.

    Args:
        denoiser: whose answers are compared.
        x0: clean data ``(B, *event)``, float32 or float64.
        times: falling, ``(n,)``, all with noise.
        seed: of the noise; sample ``i`` depends on ``(seed, i)`` alone.
        condition: tensors for the denoiser, by name.

    Raises:
        ValueError: for data that are not finite or of another dtype, or a time without noise.
    """
    check_data(x0, None)
    process = denoiser.process
    if not (process.schedule.sigma(times) > 0).all():
        raise ValueError(f"times down to {times.min():.4g}: expected times with noise, without the clean end")
    stream = SeededNoise(seed).begin(len(x0), 0)
    x, answers = x0, []
    for t, a, b in reversed(_transitions(process, times)):
        x = a * x + b * stream.draw(x0)
        answers.append(denoiser(x, t, **dict(condition or {})).mean.flatten(1).cpu().double())
    means, data = torch.stack(answers[::-1]), x0.flatten(1).cpu().double()
    distances = torch.stack([((means - mean) ** 2).sum(2).mean(1) for mean in means])
    return ForwardErrors(
        times=times,
        log_snr=process.schedule.log_snr(times),
        errors=((means - data) ** 2).sum(2).mean(1),
        distances=distances,
        square=float((data**2).sum(1).mean()),
        dim=data.shape[1],
    )


def _transitions(process: SDE, times: Tensor) -> list[tuple[float, float, float]]:
    """Time, factor and standard deviation of the step up to each time from the next lower one, or from the data."""
    alpha, sigma, log_snr = (
        c(times) for c in (process.schedule.alpha, process.schedule.sigma, process.schedule.log_snr)
    )
    below, snr_below = (
        torch.cat([alpha[1:], alpha.new_ones(1)]),
        torch.cat([log_snr[1:], log_snr.new_full((1,), torch.inf)]),
    )
    std = sigma * (-torch.expm1(log_snr - snr_below)).sqrt()
    return list(zip(times.tolist(), (alpha / below).tolist(), std.tolist()))
