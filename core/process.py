"""The contract of a forward process: how data turn to noise.

A forward process draws ``x_t`` given clean data ``x_0`` for times ``t`` in [0, 1], where 0 is data and 1 is noise.
It knows

* the marginal  ``q(x_t | x_0)``,
* the posterior ``q(x_s | x_t, x_0)`` for ``s < t``, and
* the prior     ``p(x_1)``, which does not depend on the data.

Everything else in the library (denoisers, objectives, samplers) is written against these three.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Gaussian", "Process", "State", "broadcast"]

State = Tensor | dict[str, Tensor]
"""What a process moves: a tensor ``(B, *event)``, or several of them by name."""


def broadcast(coefficient: Tensor, like: Tensor) -> Tensor:
    """View a coefficient of shape ``()`` or ``(B,)`` so that it multiplies a state ``(B, *event)``, in the state's
    dtype.
    """
    if coefficient.ndim == 0:
        return coefficient
    return coefficient.to(like.device, like.dtype).reshape(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian with independent coordinates, ``N(mean, std^2)``.

    Args:
        mean: ``(B, *event)``.
        std: standard deviation, broadcastable to ``mean``; zero means that the value is certain.
    """

    mean: Tensor
    std: Tensor

    @property
    def variance(self) -> Tensor:
        """``std^2``, in the shape of ``std``."""
        return self.std**2

    def sample(self, noise: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``mean + std * noise``; the standard normal ``noise`` is drawn from ``generator`` when it is not
        given.
        """
        if noise is None:
            noise = torch.randn(self.mean.shape, dtype=self.mean.dtype, device=self.mean.device, generator=generator)
        return self.mean + self.std * noise

    def log_prob(self, x: Tensor) -> Float[Tensor, "batch"]:
        """Log-density of each sample in nats: ``-|x - mean|^2 / (2 std^2) - sum log std - (D / 2) log 2 pi``, shape
        ``(B,)``.
        """
        std = self.std.expand_as(x)
        each = -0.5 * ((x - self.mean) / std) ** 2 - std.log() - 0.9189385332046727418
        return each.flatten(1).sum(1)


class Process(ABC):
    """A forward process on states ``(B, *event)``; see the module's text for what it must know."""

    @abstractmethod
    def prior(self, shape: tuple[int, ...], t: Any = 1.0) -> Any:
        """The distribution of ``x_t`` with the data forgotten, for states of this ``shape``; the prior at ``t = 1``."""

    @abstractmethod
    def marginal(self, x0: State, t: Tensor | float) -> Any:
        """The distribution ``q(x_t | x_0)``."""

    @abstractmethod
    def posterior(self, x0: State, xt: State, s: Tensor | float, t: Tensor | float) -> Any:
        """The distribution ``q(x_s | x_t, x_0)`` for ``s <= t``."""
