r"""What the variational bounds share: their terms, the prior's divergence and the decoder's likelihood.

Both bound ``-log p(x_0)`` by ``prior + diffusion + reconstruction``: how far the noised data are from the prior, what
the steps in between cost, and what the last, slightly noisy state leaves open about the data.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..objectives import check_data
from ..schedules import wide
from ..sdes import Level
from .events import event_dim, event_sum, keep_of
from .units import UniformDequantisation

__all__ = ["Bound", "Data", "decoder_nats", "prior_kl"]


@dataclass(frozen=True)
class Bound:
    """An upper bound on ``-log p(x_0)`` and its terms, in nats a sample, ``(B,)``.

    Args:
        prior: ``KL(q(x_T | x_0) || N(0, sigma_T^2))``.
        diffusion: sum (or integral) of the divergences of the steps between.
        reconstruction: ``E[-log p(x_0 | x_t)]`` at the last noise level.
        standard_error: Monte-Carlo error of the sum, from the spread over draws; NaN for one draw.
        nfe: evaluations of the denoiser.
        steps: divergence of each step, ``(B, N)``, in discrete time.
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
    """Clean data with their mask and conditions, ready to be noised."""

    x0: Tensor
    mask: Tensor | None
    condition: dict[str, Any]

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
        """``alpha x_0 + sigma z``, zero in the padding."""
        keep = keep_of(self.mask, self.x0)
        return level.alpha * self.x0 + level.sigma * (z if keep is None else z * keep)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the real coordinates of each sample, ``(B,)``, float64."""
        return event_sum(values, self.mask)

    @property
    def dim(self) -> Tensor | float:
        """Number of real coordinates."""
        return event_dim(self.x0, self.mask)


def prior_kl(data: Data, level: Level) -> Tensor:
    """``KL(N(alpha x_0, sigma^2) || N(0, sigma^2)) = SNR |x_0|^2 / 2``, ``(B,)``."""
    snr = level.log_snr.exp() if isinstance(level.log_snr, Tensor) else math.exp(level.log_snr)
    return 0.5 * snr * data.sum(wide(data.x0) ** 2)


def decoder_nats(
    data: Data, mean: Tensor, variance: Tensor, quantisation: UniformDequantisation | None = None
) -> Tensor:
    """``-log p(x_0 | x_t)`` under ``N(mean, variance)``, ``(B,)``: a density, or the probability of the bins."""
    x0, mean, variance = wide(data.x0), wide(mean), wide(variance).to(mean.device)
    if quantisation is not None:
        return -data.sum(quantisation.log_prob(x0, mean, variance.sqrt()))
    each = 0.5 * ((x0 - mean) ** 2 / variance + variance.log() + math.log(2 * math.pi))
    return data.sum(each)
