r"""What the variational bounds share: their terms, the prior's divergence and the decoder's likelihood.

Both bound ``-log p(x_0)`` by ``prior + diffusion + reconstruction``: how far the noised data are from the prior, what
the steps in between cost, and what the last, slightly noisy state leaves open about the data.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..objectives import check_data, restored, without
from ..schedules import wide
from ..sdes import Level
from .events import event_dim, event_sum, keep_of
from .units import UniformDequantisation

__all__ = ["Bound", "Data", "bin_nats", "density_nats", "known_part", "prior_kl", "squared_error"]


@dataclass(frozen=True)
class Bound:
    """An upper bound on ``-log p(x_0)`` and its terms, in nats a sample, ``(B,)``.

    Args:
        prior: ``KL(q(x_T | x_0) || N(0, sigma_T^2))``.
        diffusion: sum (or integral) of the divergences of the steps between.
        reconstruction: ``E[-log p(x_0 | x_t)]`` at the last noise level.
        standard_error: Monte-Carlo error of the sum, from the spread over draws; NaN for one draw.
        nfe: evaluations of the denoiser.
        steps: divergence of each step, ``(B, N)``, in discrete time; estimates, which may fall below zero.
        times: the falling times of the noisy states, ``(N + 1,)``, in discrete time.
    """

    prior: Tensor
    diffusion: Tensor
    reconstruction: Tensor
    standard_error: Tensor
    nfe: int
    steps: Tensor | None = None
    times: Tensor | None = None

    @property
    def nats(self) -> Tensor:
        """The bound: at least ``-log p(x_0)`` in expectation."""
        return self.prior + self.diffusion + self.reconstruction

    @property
    def log_prob(self) -> Tensor:
        """The evidence lower bound, ``-nats``."""
        return -self.nats


@dataclass
class Data:
    """Clean data with their mask and conditions, ready to be noised.

    What the condition ``given`` ``(B, N)`` names is known: it is not noised and does not count, so that bounds are on
    ``-log p`` of the rest given it.
    """

    x0: Tensor
    mask: Tensor | None
    condition: dict[str, Any]

    @property
    def counted(self) -> Tensor | None:
        """Where the data are real and not given, or None for all of them."""
        return without(self.mask, self.condition.get("given"))

    @classmethod
    def checked(
        cls,
        x0: Tensor,
        mask: Tensor | None,
        condition: Mapping[str, Any] | None,
        quantisation: UniformDequantisation | None,
    ) -> "Data":
        """Refuse data of a wrong shape or, for a likelihood of integers, data between the levels."""
        check_data(x0, mask)
        keep = keep_of(mask, x0)
        x0 = x0 if keep is None else x0 * keep
        if quantisation is not None:
            off = (x0 - quantisation.centre(quantisation.quantise(x0))).abs()
            worst = float((off if keep is None else off * keep).max()) / quantisation.width
            if worst > 0.01:
                raise ValueError(
                    f"x0 lies up to {worst:.2g} bins off the levels of {quantisation}: expected levels, "
                    "quantisation.centre(integers), not dequantised data"
                )
        return cls(x0, mask, dict(condition or {}) | ({} if mask is None else {"mask": mask}))

    def noised(self, level: Level, z: Tensor) -> Tensor:
        """``alpha x_0 + sigma z``, zero in the padding and ``x_0`` where it is given."""
        keep = keep_of(self.mask, self.x0)
        x_t = level.alpha * self.x0 + level.sigma * (z if keep is None else z * keep)
        return restored(x_t, self.x0, self.condition.get("given"))

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the coordinates of each sample that count, ``(B,)``, float64."""
        return event_sum(values, self.counted)

    @property
    def dim(self) -> Tensor | float:
        """Number of coordinates that count."""
        return event_dim(self.x0, self.counted)


def prior_kl(data: Data, level: Level) -> Tensor:
    """``KL(N(alpha x_0, sigma^2) || N(0, sigma^2)) = SNR |x_0|^2 / 2``, ``(B,)``."""
    snr = level.log_snr.exp() if isinstance(level.log_snr, Tensor) else math.exp(level.log_snr)
    return 0.5 * snr * data.sum(wide(data.x0) ** 2)


def known_part(z: Tensor, log_snr: Tensor) -> Tensor:
    """``sigmoid(log_snr)^2 (z^2 - 1)``: of mean zero, and close to the fluctuation of a coordinate's ``(eps - z)^2``.

    A control variate: what is estimated less this has the same mean and, near the data, where the denoiser cannot tell
    the noise (``eps`` is near 0), hardly any variance.  For standard normal data it is the noise's whole share.
    """
    return torch.sigmoid(log_snr) ** 2 * (z**2 - 1)


def squared_error(x0: Tensor, mean: Tensor, z: Tensor, level: Level) -> Tensor:
    """``(x_0 - mean)^2`` of each coordinate, less the `known_part` of its fluctuation, float64."""
    log_snr = torch.as_tensor(level.log_snr, dtype=torch.float64)
    # The noise's part over SNR, in the form that is finite without signal.
    known = torch.sigmoid(log_snr) * torch.sigmoid(-log_snr) * (wide(z) ** 2 - 1)
    return wide(x0 - mean) ** 2 - known


def density_nats(data: Data, square: Tensor, variance: Tensor) -> Tensor:
    """``-log N(x_0; mean, variance)`` from the squared errors, ``(B,)``."""
    variance = wide(variance).to(square.device)
    return data.sum(0.5 * (square / variance + variance.log() + math.log(2 * math.pi)))


def bin_nats(data: Data, mean: Tensor, variance: Tensor, quantisation: UniformDequantisation) -> Tensor:
    """Minus the log-probability that ``N(mean, variance)`` gives the bins of the data, ``(B,)``."""
    mean = wide(mean)
    return -data.sum(quantisation.log_prob(wide(data.x0), mean, wide(variance).to(mean.device).sqrt()))
