r"""What a network may predict, and how each prediction says what the data and the noise are.

Write ``a``, ``s`` for ``alpha(t)``, ``sigma(t)``, ``n = sqrt(a^2 + s^2)`` and ``m = a + s``.  A network with output
``F`` means

    x0 = p x_t + q F,        eps = r x_t + u F,

and what it should have predicted is ``F* = c x0 + d eps``:

========  =====================  ==================================================  =============================
name      F* (in VP scale)       source                                               p, q, r, u
========  =====================  ==================================================  =============================
eps       eps                    Ho et al. 2020 (2006.11239), eq. 12                  1/a, -s/a, 0, 1
x0        x0                     Ho et al. 2020; Salimans and Ho 2022, app. D         0, 1, 1/s, -a/s
v         (a eps - s x0) / n     Salimans and Ho 2022 (2202.00512), app. D            a/n^2, -s/n, s/n^2, a/n
score     -n eps / s             Song et al. 2021 (2011.13456), eq. 7                 1/a, s^2/(n a), 0, -s/n
flow      eps - x0               Liu et al. 2023 (2209.03003), eq. 1                  1/m, -s/m, 1/m, a/m
edm       `Parameterisation`     Karras et al. 2022 (2206.00364), eq. 7 and table 1   there, with sigma_data
========  =====================  ==================================================  =============================

All are stated at the scale ``a^2 + s^2 = 1`` (flow at ``a + s = 1``), so a network's answer depends on log-SNR and
not on the schedule that it is used with.  ``v``, ``flow`` and ``edm`` are finite at both ends; ``eps`` and ``score``
say nothing about ``x0`` where ``a = 0``, and ``x0`` says nothing about ``eps`` where ``s = 0``.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from .sdes import Level

__all__ = ["Parameterisation", "Prediction"]

Prediction = Literal["eps", "x0", "v", "score", "flow", "edm"]

Coefficient = float | Tensor

# Beyond this log-SNR every ratio of weights equals its limit at infinity to 1e-30.
FAR = 70.0


class Linear(NamedTuple):
    """Coefficients of ``x0 = p x_t + q F`` and ``eps = r x_t + u F``; those that do not exist are None."""

    p: Coefficient | None
    q: Coefficient | None
    r: Coefficient | None
    u: Coefficient | None


@dataclass(frozen=True)
class Parameterisation:
    """One of the predictions of the module's table.

    EDM's preconditioning is ``D = c_skip y + c_out F`` for ``y = x_t / a`` at noise ``s / a``: with ``w^2 = s^2 + a^2
    sigma_data^2``,

        x0 = (a sigma_data^2 / w^2) x_t + (s sigma_data / w) F,     F* = (s / sigma_data x0 - a sigma_data eps) / w,

    and at ``sigma_data = 1`` it is ``-v``.

    Args:
        prediction: eps, x0, v, score, flow or edm.
        sigma_data: standard deviation of the data, used by edm.
    """

    prediction: Prediction = "v"
    sigma_data: float = 1.0

    def __post_init__(self) -> None:
        if self.prediction not in get_args(Prediction):
            allowed = ", ".join(get_args(Prediction))
            raise ValueError(f"prediction={self.prediction!r}: expected one of {allowed}")
        if not 0 < self.sigma_data < float("inf"):
            raise ValueError(f"sigma_data={self.sigma_data!r}: expected a positive number")

    def linear(self, level: Level) -> Linear:
        """The four coefficients at a level, floats or tensors as the level's are."""
        a, s = level.alpha, level.sigma
        square = a * a + s * s
        n = square**0.5
        if self.prediction == "eps":
            return Linear(_divide(1.0, a), _divide(-s, a), 0.0, 1.0)
        if self.prediction == "x0":
            return Linear(0.0, 1.0, _divide(1.0, s), _divide(-a, s))
        if self.prediction == "v":
            return Linear(a / square, -s / n, s / square, a / n)
        if self.prediction == "score":
            return Linear(_divide(1.0, a), _divide(s * s, n * a), 0.0, -s / n)
        if self.prediction == "flow":
            m = a + s
            return Linear(1.0 / m, -s / m, 1.0 / m, a / m)
        d = self.sigma_data
        w2 = s * s + a * a * d * d
        w = w2**0.5
        return Linear(a * d * d / w2, s * d / w, s / w2, -a * d / w)

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        """``F*``, what the network should have predicted; shape of ``x0``. The level's tensors must be shaped like
        ``x0``.
        """
        a, s = level.alpha, level.sigma
        if self.prediction == "eps":
            return eps
        if self.prediction == "x0":
            return x0
        if self.prediction == "flow":
            return eps - x0
        n = (a * a + s * s) ** 0.5
        if self.prediction == "v":
            return (a / n) * eps - (s / n) * x0
        if self.prediction == "score":
            quotient = _divide(-n, s)
            if quotient is None:
                raise ValueError(
                    "prediction='score' at sigma = 0: the score's scale is infinite there; use v, flow or x0"
                )
            return quotient * eps
        d = self.sigma_data
        w = (s * s + a * a * d * d) ** 0.5
        return (s / (d * w)) * x0 - (a * d / w) * eps

    def log_gain(self, log_snr: Tensor) -> Tensor:
        """``log |d x0 / d F|^2``: the squared error of ``x0`` is ``exp(log_gain)`` times that of ``F``.

        Its limit is meant where log-SNR is infinite: it is evaluated within +-70, where limits hold to 1e-30.
        """
        x = log_snr.clamp(-FAR, FAR)
        log_signal, log_noise = torch.nn.functional.logsigmoid(x), torch.nn.functional.logsigmoid(-x)
        if self.prediction == "eps":
            return -x
        if self.prediction == "x0":
            return torch.zeros_like(x)
        if self.prediction == "v":
            return log_noise
        if self.prediction == "score":
            return 2 * log_noise - log_signal
        if self.prediction == "flow":
            return 2 * torch.nn.functional.logsigmoid(-0.5 * x)
        d = self.sigma_data
        return 2 * math.log(d) - torch.log1p(d * d * x.exp())


def _divide(numerator: Coefficient, denominator: Coefficient) -> Coefficient | None:
    """The quotient, or None where a float denominator is zero (tensors hold infinity there)."""
    if not isinstance(denominator, Tensor) and denominator == 0:
        return None
    return numerator / denominator
