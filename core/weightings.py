r"""Loss weightings: how much the error at each noise level counts.

Every weighting is stated for the squared error of the clean data, ``w(t) |x_0 - mean|^2``; objectives turn it into
the weight of what the network predicts.  They are returned as logarithms, since SNR spans twenty orders of magnitude.
With ``l = log_snr`` and the gains of `Parameterisation.log_gain`, equal weight on eps is ``e^l``, on v ``1 + e^l``,
on x0 1.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from .parameterisations import Parameterisation, Prediction
from .schedules import Schedule, require

__all__ = [
    "EDMWeighting",
    "LikelihoodWeighting",
    "MinSNRWeighting",
    "SNRWeighting",
    "SigmoidWeighting",
    "TruncatedSNRWeighting",
    "UniformWeighting",
    "Weighting",
]


class Weighting(ABC):
    """A weight for each noise level; see the module's text."""

    @abstractmethod
    def log_weight(self, schedule: Schedule, t: Tensor, log_snr: Tensor) -> Tensor:
        """Logarithm of the weight on ``|x_0 - mean|^2``, shape of ``t``; ``log_snr`` is finite (held to +-70)."""


@dataclass(frozen=True)
class UniformWeighting(Weighting):
    """Equal weight at all times on the error of one prediction; of eps it is DDPM's simple loss.

    Ho et al. 2020 (arXiv 2006.11239), eq. 14.

    Args:
        of: which prediction's squared error has weight 1: eps, x0, v, score, flow or edm.
        sigma_data: for edm.
    """

    of: Prediction = "eps"
    sigma_data: float = 1.0

    def __post_init__(self) -> None:
        Parameterisation(self.of, self.sigma_data)

    def log_weight(self, schedule: Schedule, t: Tensor, log_snr: Tensor) -> Tensor:
        return -Parameterisation(self.of, self.sigma_data).log_gain(log_snr)


@dataclass(frozen=True)
class SNRWeighting(Weighting):
    """Weight ``SNR`` on the data's error: equal weight on eps. Salimans and Ho 2022 (arXiv 2202.00512), section 4."""

    def log_weight(self, schedule: Schedule, t: Tensor, log_snr: Tensor) -> Tensor:
        return log_snr


@dataclass(frozen=True)
class TruncatedSNRWeighting(Weighting):
    """Weight ``max(SNR, 1)`` on the data's error. Salimans and Ho 2022 (arXiv 2202.00512), eq. 9."""

    def log_weight(self, schedule: Schedule, t: Tensor, log_snr: Tensor) -> Tensor:
        return log_snr.clamp(min=0)


@dataclass(frozen=True)
class MinSNRWeighting(Weighting):
    """Weight ``min(SNR, gamma)`` on the data's error. Hang et al. 2023 (arXiv 2303.09556), section 3.4.

    In eps it is ``min(1, gamma / SNR)``, in v ``min(SNR, gamma) / (SNR + 1)``.

    Args:
        gamma: cap, positive; 5 in the paper.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        require(0 < self.gamma < math.inf, "gamma", self.gamma, "a positive number")

    def log_weight(self, schedule: Schedule, t: Tensor, log_snr: Tensor) -> Tensor:
        return log_snr.clamp(max=math.log(self.gamma))


@dataclass(frozen=True)
class EDMWeighting(Weighting):
    """Weight ``(sigma^2 + sigma_data^2) / (sigma sigma_data)^2`` at noise ``sigma / alpha``: equal weight on EDM's
    network output.

    Karras et al. 2022 (arXiv 2206.00364), table 1 and appendix B.6.

    Args:
        sigma_data: standard deviation of the data.
    """

    sigma_data: float = 1.0

    def __post_init__(self) -> None:
        require(0 < self.sigma_data < math.inf, "sigma_data", self.sigma_data, "a positive number")

    def log_weight(self, schedule: Schedule, t: Tensor, log_snr: Tensor) -> Tensor:
        return torch.logaddexp(torch.full_like(log_snr, -2 * math.log(self.sigma_data)), log_snr)


@dataclass(frozen=True)
class LikelihoodWeighting(Weighting):
    """Weight ``-dSNR/dt / 2``, for which the expected loss is the variational bound's diffusion term, in nats per
    coordinate.

    Song et al. 2021 (arXiv 2101.09258), theorem 1; Kingma et al. 2021 (2107.00630), eq. 14.
    """

    def log_weight(self, schedule: Schedule, t: Tensor, log_snr: Tensor) -> Tensor:
        return _log_fall_of_snr(schedule, t)


@dataclass(frozen=True)
class SigmoidWeighting(Weighting):
    """Weight ``sigmoid(bias - log_snr)`` on eps in log-SNR: the likelihood's weight, less where noise is imperceptible.

    Kingma and Gao 2023 (arXiv 2303.00848), section 4 and appendix D; Hoogeboom et al. 2024 (2410.19324), section 3.1.

    Args:
        bias: log-SNR at which the weight has fallen to one half.
    """

    bias: float = 2.0

    def log_weight(self, schedule: Schedule, t: Tensor, log_snr: Tensor) -> Tensor:
        return _log_fall_of_snr(schedule, t) + torch.nn.functional.logsigmoid(self.bias - log_snr)


def _log_fall_of_snr(schedule: Schedule, t: Tensor) -> Tensor:
    """``log(-dSNR/dt / 2)``, one rounding error inside of the ends, where it is zero times infinity."""
    eps = torch.finfo(t.dtype).eps
    inside = t.clamp(eps, 1 - eps)
    return schedule.log_snr(inside) + (-0.5 * schedule.d_log_snr(inside)).log()
