"""The contract of a forward process: how data turn to noise.

A forward process draws ``x_t`` given clean data ``x_0`` for times ``t`` in [0, 1], where 0 is data and 1 is noise.
It knows

* the marginal  ``q(x_t | x_0)``,
* the posterior ``q(x_s | x_t, x_0)`` for ``s < t``, and
* the prior     ``p(x_1)``, which does not depend on the data.

Everything else in the library (denoisers, objectives, samplers) is written against these three.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from .noise import NoiseStream

__all__ = ["Gaussian", "Process", "State", "broadcast", "each"]

State = Tensor | dict[str, Tensor]
"""What a process moves: a tensor ``(B, *event)``, or several of them by name."""


def each(function: Callable[..., Any], state: Any, *others: Any) -> Any:
    """``function`` of a state's tensors: of the tensor itself, or of each of a dict's with those of the same name in
    ``others``.
    """
    if isinstance(state, Mapping):
        return {name: function(value, *(other[name] for other in others)) for name, value in state.items()}
    return function(state, *others)


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
    """A forward process on states ``(B, *event)``; see the module's text for what it must know.

    Attributes:
        schedule: how fast the data are forgotten.
        plans: of samplers on this process, which make and read them.
    """

    state_dtype: ClassVar[torch.dtype] = torch.float32
    """What its states are made of unless the caller says otherwise."""

    schedule: Any

    def __init__(self) -> None:
        self.plans: dict[Any, Any] = {}

    @abstractmethod
    def prior(self, shape: tuple[int, ...], t: Any = 1.0) -> Any:
        """The distribution of ``x_t`` with the data forgotten, for states of this ``shape``; the prior at ``t = 1``."""

    @abstractmethod
    def marginal(self, x0: State, t: Tensor | float) -> Any:
        """The distribution ``q(x_t | x_0)``."""

    @abstractmethod
    def posterior(self, x0: State, xt: State, s: Tensor | float, t: Tensor | float) -> Any:
        """The distribution ``q(x_s | x_t, x_0)`` for ``s <= t``."""

    @abstractmethod
    def level(self, t: Any) -> Any:
        """The coefficients at ``t``, a float or ``(B,)``."""

    def prepare(self, times: Tensor) -> list[Any]:
        """The levels of many times ``(M,)``; a process that remembers them computes them at once here."""
        return [self.level(t) for t in times.tolist()]

    # What a sampler's loop asks.

    @abstractmethod
    def initial(self, like: Any, t: float, stream: "NoiseStream") -> Any:
        """A draw of the prior at time ``t`` for states shaped ``like``, made from the run's stream."""

    @abstractmethod
    def check_state(self, x: Any) -> None:
        """Raise ``ValueError`` for a state that the process cannot hold: of another dtype, NaN, out of range."""

    def blank(self, shape: Any, device: torch.device) -> Any:
        """An empty state of this shape."""
        return torch.empty(tuple(shape), dtype=self.state_dtype, device=device)

    def constrain(self, stream: "NoiseStream", mask: Any = None) -> "NoiseStream":
        """The stream with its draws brought to the part of space where the process lives; by default all of it."""
        return stream

    def project(self, x: Any, mask: Any = None) -> Any:
        """A change of the state, such as a network's answer, brought to the directions in which the process moves; by
        default all of them.
        """
        return x

    def expand_mask(self, mask: Any) -> Any:
        """A user's mask as the one of this process's states; by default itself."""
        return mask


def check_shape(shape: Any) -> None:
    """Refuse shapes without a batch or an event axis."""
    if len(shape) < 2 or shape[0] < 1:
        raise ValueError(f"shape={tuple(shape)}: expected (batch, *event) with at least one sample")


def batch_size(shape: Sequence[int] | Mapping[str, Sequence[int]]) -> int:
    """The number of samples of a shape, or of the shapes of a dict."""
    return next(iter(shape.values()))[0] if isinstance(shape, Mapping) else shape[0]
