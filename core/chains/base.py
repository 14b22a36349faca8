r"""Markov chains on categories as forward processes.

States are int64 ``(B, *N)`` with values in ``0 ... S - 1``; every position is noised by itself with the transition
matrices ``Q_{s,t}[x, y] = q(x_t = y | x_s = x)``, which compose, ``Q_{r,s} Q_{s,t} = Q_{r,t}``.  The posterior is

    q(x_s | x_t, x_0) = Q_{0,s}[x_0, x_s] Q_{s,t}[x_s, x_t] / Q_{0,t}[x_0, x_t]

(Austin et al. 2021, 2107.03006, eq. 3).  All that the library asks of a chain are the products `push` and `pull`,
which the common chains answer in time and memory linear in ``S``: they form no matrix (`RateChain` and `MatrixChain`,
which may be anything, do).

A `Schedule` sets the clock by ``a(t) = sigmoid(log_snr(t)) / sigmoid(log_snr(0))``, the share of the data (``alpha^2``
of a variance-preserving schedule, D3PM's and DDPM's ``alpha-bar``; the states at ``t = 0`` are the data whatever noise
a schedule leaves there), so that everything depends on log-SNR alone.

What will join without a change of shape: discrete flow matching (Campbell et al. 2024, 2402.04997), whose interpolating
paths are those of `InterpolatingChain`.
"""

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..levels import Scheduled
from ..noise import NoiseStream
from ..schedules import Time, as_tensor
from .categorical import Categorical

__all__ = ["Chain"]


class Chain(Scheduled):
    """A forward process on categories; see the module's text.

    In all that follows times are floats or ``(B,)``, ``s <= t``, and vectors over states stand in the last axis.
    """

    state_dtype: ClassVar[torch.dtype] = torch.int64
    states: int
    """How many values a position can take, ``S``."""

    def coefficients(self, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """``a``, ``1 - a`` and the schedule's log-SNR."""
        log_snr, start = self.schedule.log_snr(t), self.schedule.log_snr(torch.zeros_like(as_tensor(t)))
        whole = torch.sigmoid(start)
        gone = torch.sigmoid(-log_snr) - torch.sigmoid(-start)
        return torch.sigmoid(log_snr) / whole, gone / whole, log_snr

    def rate(self, t: Time) -> Tensor:
        """``beta(t) = -a' / a = -sigmoid(-log_snr) log_snr'``, in the shape of ``t``; infinite where ``a`` is 0."""
        return -torch.sigmoid(-self.schedule.log_snr(t)) * self.schedule.d_log_snr(t)

    def between(self, s: Time, t: Time) -> tuple[Tensor | float, Tensor | float]:
        """``k = a(t) / a(s)`` and ``1 - k``, floats or ``(B,)``."""
        first, last = self.level(s), self.level(t)
        return quotient(last.alpha, first.alpha, 1.0), quotient(last.sigma - first.sigma, first.alpha, 0.0)

    @property
    @abstractmethod
    def stationary(self) -> Tensor:
        """The distribution ``(S,)``, float64, that the chain tends to, and the prior."""

    @abstractmethod
    def push(self, v: Tensor, s: Time, t: Time) -> Tensor:
        """``v Q_{s,t}``: a distribution (or any vector) over states at ``s`` carried to ``t``, ``(B, *N, S)``."""

    @abstractmethod
    def unpush(self, v: Tensor, s: Time, t: Time) -> Tensor:
        """``v Q_{s,t}^-1``, the inverse of `push`.

        Raises:
            ValueError: where ``Q_{s,t}`` is singular: the data are forgotten.
        """

    @abstractmethod
    def pull(self, x: Tensor, s: Time, t: Time, dtype: torch.dtype) -> Tensor:
        """The column ``Q_{s,t}[:, x]``: how likely each state at ``s`` is to become ``x`` ``(B, *N)`` at ``t``, ``(B,
        *N, S)``.
        """

    @abstractmethod
    def rates(self, x: Tensor, t: Time, dtype: torch.dtype) -> Tensor:
        """The rates ``R_t[y, x]`` ``(B, *N, S)`` at which each other state ``y`` becomes ``x``; 0 at ``y = x``."""

    def rates_from(self, x: Tensor, t: Time, dtype: torch.dtype) -> Tensor:
        """The rates ``R_t[x, y]`` ``(B, *N, S)`` at which ``x`` becomes each other state; 0 at ``y = x``.

        By default from `rates` and detailed balance, ``pi_x R[x, y] = pi_y R[y, x]``.
        """
        pi = self.stationary.to(x.device, dtype)
        return self.rates(x, t, dtype) * pi / pi[x][..., None]

    def row(self, x: Tensor, s: Time, t: Time, dtype: torch.dtype) -> Tensor:
        """The row ``Q_{s,t}[x, :]``, ``(B, *N, S)``."""
        return self.push(torch.nn.functional.one_hot(x, self.states).to(dtype), s, t)

    def marginal(self, x0: Tensor, t: Time) -> Any:  # type: ignore[override]  # this process moves one tensor
        """``q(x_t | x_0)``, a distribution with ``probs``, ``sample`` and ``log_prob``."""
        return Categorical(self.row(x0, 0.0, t, torch.float64))

    def posterior(self, x0: Tensor, xt: Tensor, s: Time, t: Time) -> Categorical:  # type: ignore[override]
        """``q(x_s | x_t, x_0)`` for ``s <= t``.

        Raises:
            ValueError: if ``s`` is above ``t``.
        """
        if bool((as_tensor(s) > as_tensor(t)).any()):
            raise ValueError(f"s={s} above t={t}: expected s <= t, towards the data")
        weights = self.row(x0, 0.0, s, torch.float64) * self.pull(xt, s, t, torch.float64)
        return Categorical(weights / weights.sum(-1, keepdim=True))

    def prior(self, shape: tuple[int, ...], t: Any = 1.0) -> Categorical:
        """The stationary distribution, at any ``t``."""
        return Categorical(self.stationary.expand(*shape, self.states))

    def noise(self, u: Tensor) -> Tensor:
        """States drawn from the stationary distribution, made from uniform numbers ``u``."""
        return Categorical(self.stationary.to(u.device).expand(*u.shape, self.states)).sample(u)

    def initial(self, like: Tensor, t: float, stream: NoiseStream) -> Tensor:
        """Draws of the stationary distribution."""
        return self.noise(stream.uniform(like))

    def left(self, x0: Tensor) -> Tensor:
        """What ``x_1`` tells of the data, ``KL(q(x_1 | x_0) || pi)`` in nats, ``(B, *N)``: the bound's prior term.

        Infinite where a chain of masks has shown states left.
        """
        q = self.row(x0, 0.0, 1.0, torch.float64)
        pi = self.stationary.to(q)
        return (torch.special.xlogy(q, q) - torch.special.xlogy(q, pi)).sum(-1)

    def check_state(self, x: Tensor) -> None:
        """Raise ``ValueError`` for states other than int64 in ``0 ... S - 1``."""
        self.check(x, "x")

    def check(self, x: Tensor, name: str, mask: Tensor | None = None) -> None:
        """Refuse tensors that hold no states.

        Args:
            x: ``(B, *N)``.
            name: of the argument, for the message.
            mask: ``(B, N)``, True where a position is real, or the same for more axes; the rest may be anything.

        Raises:
            ValueError: for another dtype or shape, or values out of range.
        """
        if x.dtype != torch.int64 or x.ndim < 2:
            raise ValueError(
                f"{name} of shape {tuple(x.shape)}, {x.dtype}: expected categories (B, ...), int64; one-hot data "
                "become categories by argmax"
            )
        check_mask(x, mask)
        # On a device this check would wait for it at every step; there indexing fails.
        if x.device.type == "cpu" and not torch.compiler.is_compiling() and x.numel():
            real = x if mask is None else torch.where(spread(mask, x.ndim), x, 0)
            low, high = int(real.min()), int(real.max())
            if low < 0 or high >= self.states:
                raise ValueError(
                    f"{name} holds the category {low if low < 0 else high}: expected 0 to {self.states - 1} for {self}"
                )

    def check_data(self, x0: Tensor, mask: Tensor | None = None) -> None:
        """Refuse clean data that the chain cannot start from; see `check`."""
        self.check(x0, "x0", mask)


def check_mask(x: Tensor, mask: Tensor | None) -> None:
    """Refuse a mask of another dtype, or whose axes are not the first of the state's."""
    if mask is not None and (
        mask.dtype != torch.bool or not 2 <= mask.ndim <= x.ndim or mask.shape != x.shape[: mask.ndim]
    ):
        raise ValueError(f"mask of shape {tuple(mask.shape)}, {mask.dtype}: expected {tuple(x.shape)}, torch.bool")


def spread(value: Tensor, ndim: int) -> Tensor:
    """A tensor of the first axes shaped to broadcast over ``ndim`` axes."""
    return value.reshape(*value.shape, *[1] * (ndim - value.ndim))


def shaped(value: Tensor | float, like: Tensor) -> Tensor | float:
    """A coefficient, a float or ``(B,)``, shaped to multiply ``like`` ``(B, ...)``; exact zeros and ones stay so."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return float(value)
    return spread(value.to(like.device, like.dtype), like.ndim)


def quotient(a: Tensor | float, b: Tensor | float, empty: float) -> Tensor | float:
    """``a / b``, ``empty`` where both are 0."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        a, b = as_tensor(a), as_tensor(b)
        return torch.where((a == 0) & (b == 0), empty, a / b)
    return empty if a == b == 0 else (a / b if b else math.inf)
