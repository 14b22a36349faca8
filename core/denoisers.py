r"""Denoisers: what is believed about the clean data, given noisy data.

A denoiser approximates ``p(x_0 | x_t)``.  It is called with a state and a time and answers with a posterior, whatever
its network predicts.  Samplers, guidance and likelihoods use the posterior alone.

A posterior over a Gaussian process holds ``mean = E[x_0 | x_t]`` and derives from it

    eps = (x_t - alpha mean) / sigma,        score = -eps / sigma       (Tweedie; Efron 2011, Vincent 2011),
    velocity = alpha' mean + sigma' eps      (the right-hand side of the probability-flow ODE),

and weighted sums ``a x_t + b mean`` (`affine`) and ``a mean + b eps`` (`combine`), from which every sampler is made.
"""

from abc import ABC, abstractmethod
from typing import Any, Generic

import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from .parameterisations import Linear, Parameterisation, Prediction
from .process import Process, broadcast
from .schedules import Time
from .sdes import SDE, Level

__all__ = ["Denoiser", "GaussianPosterior", "LinearPosterior", "NetworkDenoiser", "Posterior"]

P = TypeVar("P", bound=Process, default=SDE)


class Posterior(ABC):
    """Belief about ``x_0`` given a state ``x_t`` ``(B, *event)`` at a level of a Gaussian process."""

    def __init__(self, x_t: Tensor, process: SDE, level: Level) -> None:
        self.x_t = x_t
        self.process = process
        self.level = level
        self.shaped = level.like(x_t)

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """``E[x_0 | x_t]``, shape ``(B, *event)``."""

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate of ``x_0`` given ``x_t``; raises ``AttributeError`` where the denoiser does not
        know it.
        """
        raise AttributeError(f"{type(self).__name__} holds no variance: this denoiser estimates the mean alone")

    @property
    def interpolation(self) -> Tensor:
        """Where the reverse step's log-variance lies between DDPM's small (0) and large (1) one; raises
        ``AttributeError`` where no network has learned it.
        """
        raise AttributeError(f"{type(self).__name__} holds no learned variance: train a LearnedVarianceDenoiser")

    @property
    def eps(self) -> Tensor:
        """``E[eps | x_t] = (x_t - alpha mean) / sigma``; undefined at ``sigma = 0``, which raises ``ValueError``."""
        sigma = self.shaped.sigma
        if not isinstance(sigma, Tensor) and sigma == 0:
            raise ValueError(
                "eps at sigma = 0: a state without noise says nothing about the noise; ask for it at t > 0"
            )
        return (self.x_t - self.shaped.alpha * self.mean) / sigma

    @property
    def score(self) -> Tensor:
        """``grad log p_t(x_t) = -eps / sigma``; undefined at ``sigma = 0``, which raises ``ValueError``."""
        sigma = self.shaped.sigma
        if not isinstance(sigma, Tensor) and sigma == 0:
            raise ValueError("score at sigma = 0: data without noise have none that a denoiser knows; ask at t > 0")
        return -self.eps / sigma

    @property
    def velocity(self) -> Tensor:
        """``dx / dt`` of the probability-flow ODE: ``alpha' mean + sigma' eps``; may be infinite at a singular end."""
        schedule, t = self.process.schedule, self.level.t
        d_alpha, d_sigma = schedule.d_alpha(t), schedule.d_sigma(t)
        return broadcast(d_alpha, self.x_t) * self.mean + broadcast(d_sigma, self.x_t) * self.eps

    def affine(self, a: float | Tensor, b: float | Tensor) -> Tensor:
        """``a x_t + b mean``, a new tensor."""
        return _weighted(self.x_t, a, self.mean, b)

    def combine(self, a: float | Tensor, b: float | Tensor) -> Tensor:
        """``a mean + b eps``, a new tensor."""
        return _weighted(self.mean, a, self.eps, b)


class GaussianPosterior(Posterior):
    """A posterior with a given mean, and variance where it is known.

    Args:
        x_t: the state, ``(B, *event)``.
        process: the forward process.
        level: its coefficients at the state's time, from ``process.level(t)``.
        mean: ``E[x_0 | x_t]``, shape of ``x_t``.
        variance: variance of each coordinate, broadcastable to ``x_t``.
    """

    def __init__(self, x_t: Tensor, process: SDE, level: Level, mean: Tensor, variance: Tensor | None = None) -> None:
        super().__init__(x_t, process, level)
        self._mean, self._variance = mean, variance

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def variance(self) -> Tensor:
        return super().variance if self._variance is None else self._variance


class LinearPosterior(Posterior):
    """A posterior whose mean is linear in a network's output: ``mean = p x_t + q F``, ``eps = r x_t + u F``.

    The sums that samplers ask for are formed from ``x_t`` and ``F`` in one step, so that no factor blows up and then
    cancels (``1 / alpha`` at high noise) and no intermediate tensor is made.

    Args:
        x_t, process, level: as for `GaussianPosterior`.
        output: the network's answer ``F``, shape of ``x_t``.
        parameterisation: what the answer means.
    """

    def __init__(
        self, x_t: Tensor, process: SDE, level: Level, output: Tensor, parameterisation: Parameterisation
    ) -> None:
        super().__init__(x_t, process, level)
        self.output = output
        self.parameterisation = parameterisation
        self.linear: Linear = parameterisation.linear(self.shaped)
        self._mean: Tensor | None = None

    def _data(self) -> tuple[float | Tensor, float | Tensor]:
        p, q = self.linear.p, self.linear.q
        if p is None or q is None:
            raise ValueError(
                f"prediction={self.parameterisation.prediction!r} at alpha = 0 (zero SNR): noise says nothing about "
                "the data there; predict v, x0 or flow, or start the grid below t = 1 (UniformLogSNR does)"
            )
        return p, q

    def _noise(self) -> tuple[float | Tensor, float | Tensor]:
        r, u = self.linear.r, self.linear.u
        if r is None or u is None:
            raise ValueError("prediction='x0' at sigma = 0: the data say nothing about the noise; ask for eps at t > 0")
        return r, u

    @property
    def mean(self) -> Tensor:
        if self._mean is None:
            p, q = self._data()
            self._mean = _weighted(self.x_t, p, self.output, q)
        return self._mean

    @property
    def eps(self) -> Tensor:
        r, u = self._noise()
        return _weighted(self.x_t, r, self.output, u)

    def affine(self, a: float | Tensor, b: float | Tensor) -> Tensor:
        p, q = self._data()
        return _weighted(self.x_t, a + b * p, self.output, b * q)

    def combine(self, a: float | Tensor, b: float | Tensor) -> Tensor:
        p, q = (0.0, 0.0) if not isinstance(a, Tensor) and a == 0 else self._data()
        r, u = (0.0, 0.0) if not isinstance(b, Tensor) and b == 0 else self._noise()
        return _weighted(self.x_t, a * p + b * r, self.output, a * q + b * u)


def _weighted(x: Tensor, a: float | Tensor, y: Tensor, b: float | Tensor) -> Tensor:
    """``a x + b y`` as a new tensor, with as few passes over memory as the weights allow."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a * x + b * y
    if a == 0:
        return y * b
    return torch.add(x, y, alpha=b) if a == 1 else torch.mul(x, a).add_(y, alpha=b)


class Denoiser(nn.Module, ABC, Generic[P]):
    """Approximates ``p(x_0 | x_t)`` under a forward process; wrappers (guidance, conditioning) are denoisers as well.

    ``Denoiser`` alone is one on a Gaussian process, ``Denoiser[P]`` one on a process of kind ``P``.

    Args:
        process: the forward process.
    """

    def __init__(self, process: P) -> None:
        super().__init__()
        if not isinstance(process, Process):
            raise TypeError(f"process={process!r}: expected a forward process, such as SDE(CosineSchedule())")
        self.process = process

    @abstractmethod
    def forward(self, x_t: Any, t: Time, **condition: Any) -> Any:
        """The posterior for states ``x_t`` ``(B, *event)`` at time ``t``; a `Posterior` on a Gaussian process.

        Args:
            x_t: states, float32 or wider.
            t: one time (a float or a tensor of no dimensions) or one a sample, ``(B,)``.
            condition: tensors that the denoiser understands, by name.
        """


def self_conditioned(denoiser: nn.Module) -> bool:
    """Whether a denoiser, or one that it steers, is to be told what it last thought of the data: the posterior mean, as
    the condition ``estimate`` (Chen et al. 2022, arXiv 2208.04202, section 3.2).

    Such a denoiser says so by an attribute ``self_conditioning``; those around it pass the condition on.
    """
    denoisers = (module for module in denoiser.modules() if isinstance(module, Denoiser))
    return any(getattr(one, "self_conditioning", False) for one in denoisers)


class NetworkDenoiser(Denoiser):
    """A denoiser made of a network and the meaning of its output.

    The network is called as ``network(c_in x_t, c, **condition)``.  ``c_in`` brings the state to unit variance for
    data of standard deviation ``sigma_data`` (Karras et al. 2022, table 1): ``c_in = 1 / sqrt(sigma^2 + alpha^2
    sigma_data^2)``.  Where the condition ``given`` says that the state is known, it has no noise and ``c_in`` is that
    of clean data, ``1 / sigma_data``, at every time.  The noise level is ``c = -log_snr / 8`` ``(B,)``, Karras's
    ``log(sigma / alpha) / 4``, held to [-2.5, 2.5]: beyond, the input is data or noise to 5e-5 and the network need not
    tell more.  Both depend on log-SNR alone, so that a trained network serves any schedule.

    The network may run in low precision (autocast, or low-precision weights); the state and the posterior keep the
    precision of ``x_t``.

    Args:
        network: maps ``(B, *event)`` and ``(B,)`` to ``(B, *event)``; None where the network of several parts answers
            (`ProductNetworkDenoiser`).
        process: the forward process to train and sample with.
        prediction: what the network predicts; see `Parameterisation`.
        sigma_data: standard deviation of the data.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, CosineSchedule, NetworkDenoiser
        >>> denoiser = NetworkDenoiser(lambda x, c: torch.zeros_like(x), SDE(CosineSchedule()), prediction="eps")
        >>> denoiser(torch.ones(1, 3), 0.5).eps
        tensor([[0., 0., 0.]])
    """

    network: Any

    def __init__(
        self, network: nn.Module | None, process: SDE, prediction: Prediction = "v", sigma_data: float = 1.0
    ) -> None:
        super().__init__(process)
        self.network = network
        self.prediction = prediction
        self.sigma_data = sigma_data
        self.parameterisation = Parameterisation(prediction, sigma_data)

    def forward(self, x_t: Tensor, t: Time, **condition: Tensor) -> LinearPosterior:
        inputs, c = self.inputs(x_t, t)
        given = condition.get("given")
        if given is not None and (inputs is not x_t or self.sigma_data != 1):
            shaped = given.reshape(*given.shape, *[1] * (x_t.ndim - given.ndim))
            inputs = torch.where(shaped, x_t / self.sigma_data, inputs)
        output = self.network(inputs.to(_dtype(self.network, x_t)), c, **condition)
        mask = condition.get("mask")
        mask = mask if mask is None else self.process.expand_mask(mask)
        return self.posterior(self.process.project(output, mask), x_t, t)

    def inputs(self, x_t: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """What the network sees: ``c_in x_t`` and the noise level ``c``."""
        level = self.process.level(t)
        return unit_scale(x_t, level, self.sigma_data), noise_level(level, x_t)

    def posterior(self, output: Tensor, x_t: Tensor, t: Time) -> LinearPosterior:
        """The posterior that a network's output means."""
        return LinearPosterior(x_t, self.process, self.process.level(t), output.to(x_t.dtype), self.parameterisation)


def _dtype(network: nn.Module, x_t: Tensor) -> torch.dtype:
    """The network's own precision where it has floating-point weights, else the state's."""
    weight = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return weight.dtype if weight is not None and weight.is_floating_point() else x_t.dtype


def unit_scale(x_t: Tensor, level: Level, sigma_data: float) -> Tensor:
    """``c_in x_t`` with ``c_in = 1 / sqrt(sigma^2 + alpha^2 sigma_data^2)``: unit variance for such data."""
    shaped = level.like(x_t)
    scale = (shaped.sigma * shaped.sigma + shaped.alpha * shaped.alpha * (sigma_data * sigma_data)) ** -0.5
    # Variance-preserving schedules have a scale of 1 up to rounding, which is not worth a pass over the state.
    return x_t if not isinstance(scale, Tensor) and abs(scale - 1) < 1e-15 else scale * x_t


def noise_level(level: Level, x_t: Tensor) -> Tensor:
    """The network's noise input ``c = -log_snr / 8`` held to [-2.5, 2.5], shape ``(B,)``, on the device of ``x_t``."""
    if not isinstance(level.log_snr, Tensor):
        value = min(max(-level.log_snr / 8, -2.5), 2.5)
        return torch.full((x_t.shape[0],), value, dtype=torch.float32, device=x_t.device)
    c = (-level.log_snr / 8).clamp(-2.5, 2.5).to(x_t.device, torch.float32)
    return c.expand(x_t.shape[0])
