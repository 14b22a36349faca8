r"""Denoisers that are exact: for a Gaussian, a mixture of Gaussians and a finite data set.

They know the posterior, the score and the density of ``x_t`` in closed form, and so they are what samplers,
likelihoods and inverse methods are tested against.  States are ``(B, *event)``; the parameters are flat, with ``D =
prod(event)``.
"""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from .denoisers import Denoiser, GaussianPosterior
from .schedules import Time
from .sdes import SDE, Level

__all__ = ["ClosedFormDenoiser", "EmpiricalDenoiser", "GaussianDenoiser", "MixtureDenoiser"]

_LOG_2PI = 1.8378770664093453


class ClosedFormDenoiser(Denoiser):
    """A denoiser for data of known distribution; adds the density and draws of ``x_t``."""

    dim: int

    def forward(self, x_t: Tensor, t: Time, **condition: Tensor) -> GaussianPosterior:
        """The exact posterior at time ``t`` (one, or one a sample); conditions are ignored, since the data do not
        depend on any.
        """
        level = self.process.level(t)
        flat = self._flat(x_t)
        mean, variance = self._moments(flat, level.like(flat))
        return GaussianPosterior(x_t, self.process, level, mean.reshape(x_t.shape), variance.reshape(x_t.shape))

    def _flat(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x[0].numel() != self.dim:
            raise ValueError(f"x_t of shape {tuple(x.shape)}: expected (B, *event) with {self.dim} numbers an event")
        return x.flatten(1)

    @abstractmethod
    def _moments(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Mean and variance of ``x_0`` given flat states ``(B, D)``."""

    @abstractmethod
    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Log-density of ``x_t`` at ``x`` in nats, shape ``(B,)``."""

    @abstractmethod
    def sample(self, num: int, t: Time = 0.0, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws of ``x_t``, shape ``(num, D)``."""

    def _noised(self, x0: Tensor, t: Time, generator: torch.Generator | None) -> Tensor:
        level = self.process.level(t)
        noise = torch.randn(x0.shape, dtype=x0.dtype, device=x0.device, generator=generator)
        return level.alpha * x0 + level.sigma * noise


class GaussianDenoiser(ClosedFormDenoiser):
    r"""Exact for data ``N(mean, covariance)``.

    With ``covariance = U diag(l) U^T`` and ``w = alpha^2 l + sigma^2`` per eigen-direction:
    ``E[x_0 | x_t] = mean + U diag(alpha l / w) U^T (x_t - alpha mean)``, ``Cov[x_0 | x_t] = U diag(l sigma^2 / w)
    U^T``.

    Args:
        process: the forward process.
        mean: ``(D,)``.
        covariance: ``(D, D)``, symmetric and positive semi-definite.
    """

    def __init__(self, process: SDE, mean: Float[Tensor, "dim"], covariance: Float[Tensor, "dim dim"]) -> None:
        super().__init__(process)
        self.dim = len(mean)
        if covariance.shape != (self.dim, self.dim):
            expected = (self.dim, self.dim)
            raise ValueError(f"covariance of shape {tuple(covariance.shape)}: expected {expected}, as mean has {self.dim}")
        if not torch.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-9):
            raise ValueError("covariance is not symmetric: expected covariance == covariance.T")
        values, vectors = torch.linalg.eigh(covariance.double())
        if values.min() < -1e-9 * values.abs().max():
            raise ValueError(f"covariance has the eigenvalue {values.min().item():.3g}: expected none below zero")
        self.register_buffer("mean", mean.double())
        self.register_buffer("covariance", covariance.double())
        self.register_buffer("values", values.clamp(min=0))
        self.register_buffer("vectors", vectors)

    def _weights(self, level: Level, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvectors, eigenvalues ``l`` and ``w``, in the precision of ``like``."""
        vectors, values = self.vectors.to(like), self.values.to(like)
        return vectors, values, level.alpha**2 * values + level.sigma**2

    def _moments(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        vectors, values, w = self._weights(level, x)
        mean = self.mean.to(x)
        # A direction without any variance (l = 0 and sigma = 0) has the gain 0, not 0 / 0.
        gain = torch.where(w > 0, level.alpha * values / w, 0.0)
        rest = torch.where(w > 0, values * level.sigma**2 / w, 0.0)
        deviation = (x - level.alpha * mean) @ vectors
        variance = rest.expand_as(deviation) @ (vectors**2).T
        return mean + (gain * deviation) @ vectors.T, variance

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        flat = self._flat(x)
        level = self.process.level(t).like(flat)
        vectors, _, w = self._weights(level, flat)
        deviation = (flat - level.alpha * self.mean.to(flat)) @ vectors
        return -0.5 * (deviation**2 / w + w.log() + _LOG_2PI).sum(-1)

    def sample(self, num: int, t: Time = 0.0, *, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(num, self.dim, dtype=torch.float64, device=self.mean.device, generator=generator)
        return self._noised(self.mean + noise * self.values.sqrt() @ self.vectors.T, t, generator)

    def flow(self, x: Tensor, t: Time, s: Time) -> Tensor:
        """The exact solution of the probability-flow ODE from ``x`` at time ``t`` to time ``s``.

        Each eigen-direction of ``x_t - alpha_t mean`` is multiplied by ``sqrt(w_s / w_t)``.
        """
        flat = self._flat(x)
        start, end = self.process.level(t), self.process.level(s)
        vectors, _, w_start = self._weights(start, flat)
        _, _, w_end = self._weights(end, flat)
        deviation = (flat - start.alpha * self.mean.to(flat)) @ vectors
        return (end.alpha * self.mean.to(flat) + deviation * (w_end / w_start).sqrt() @ vectors.T).reshape(x.shape)


class MixtureDenoiser(ClosedFormDenoiser):
    r"""Exact for a mixture of isotropic Gaussians, ``sum_k weights_k N(means_k, stds_k^2 I)``.

    With ``w_k = alpha^2 stds_k^2 + sigma^2`` and responsibilities ``r_k(x) ~ weights_k N(x; alpha means_k, w_k)``:
    ``E[x_0 | x_t] = sum_k r_k m_k`` where ``m_k = means_k + (alpha stds_k^2 / w_k) (x_t - alpha means_k)``.

    Args:
        process: the forward process.
        weights: ``(K,)``, positive; scaled to sum to 1.
        means: ``(K, D)``.
        stds: ``(K,)``, at least 0.
    """

    def __init__(
        self,
        process: SDE,
        weights: Float[Tensor, "components"],
        means: Float[Tensor, "components dim"],
        stds: Float[Tensor, "components"],
    ) -> None:
        super().__init__(process)
        if not (len(weights) == len(means) == len(stds)):
            raise ValueError(
                f"{len(weights)} weights, {len(means)} means and {len(stds)} stds: expected as many of each"
            )
        if (weights <= 0).any() or (stds < 0).any():
            raise ValueError("weights must be positive and stds at least 0")
        self.dim = means.shape[1]
        self.register_buffer("weights", weights.double() / weights.double().sum())
        self.register_buffer("means", means.double())
        self.register_buffer("stds", stds.double())

    def _parts(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """``w`` ``(B or 1, K)``, log of weight times density ``(B, K)`` and squared distances, in the precision of
        ``x``.
        """
        means, variances = self.means.to(x), self.stds.to(x) ** 2
        alpha, sigma = level.alpha, level.sigma
        w = alpha**2 * variances + sigma**2
        square = (x**2).sum(1, keepdim=True) - 2 * alpha * (x @ means.T) + alpha**2 * (means**2).sum(1)
        logits = self.weights.to(x).log() - 0.5 * (square / w + self.dim * (w.log() + _LOG_2PI))
        return w, logits, square

    def _moments(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        means, variances = self.means.to(x), self.stds.to(x) ** 2
        alpha = level.alpha
        w, logits, _ = self._parts(x, level)
        r = logits.softmax(1)
        gain = alpha * variances / w
        each = means + gain.unsqueeze(-1) * (x.unsqueeze(1) - _last(alpha) * means)
        mean = (r.unsqueeze(-1) * each).sum(1)
        within = (r * variances * level.sigma**2 / w).sum(1, keepdim=True)
        variance = within + (r.unsqueeze(-1) * (each - mean.unsqueeze(1)) ** 2).sum(1)
        return mean, variance

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        flat = self._flat(x)
        return self._parts(flat, self.process.level(t).like(flat))[1].logsumexp(1)

    def sample(self, num: int, t: Time = 0.0, *, generator: torch.Generator | None = None) -> Tensor:
        k = torch.multinomial(self.weights, num, replacement=True, generator=generator)
        noise = torch.randn(num, self.dim, dtype=torch.float64, device=self.means.device, generator=generator)
        return self._noised(self.means[k] + self.stds[k, None] * noise, t, generator)


class EmpiricalDenoiser(MixtureDenoiser):
    """Exact for a finite data set, each point equally likely: the limit of perfect memorisation.

    ``E[x_0 | x_t] = sum_i softmax_i(-|x_t - alpha x_i|^2 / (2 sigma^2)) x_i``.

    Args:
        process: the forward process.
        data: ``(N, *event)``.
    """

    def __init__(self, process: SDE, data: Float[Tensor, "points *event"]) -> None:
        flat = data.flatten(1)
        super().__init__(process, torch.ones(len(flat)), flat, torch.zeros(len(flat)))
        self.register_buffer("data", data)

    def _moments(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        # As the mixture with zero widths, but without a tensor (B, N, D).
        means = self.means.to(x)
        r = self._parts(x, level)[1].softmax(1)
        mean = r @ means
        return mean, (r @ means**2 - mean**2).clamp(min=0)


def _last(coefficient: float | Tensor) -> float | Tensor:
    """A coefficient ``(B, 1)`` with one more axis at its end; a float unchanged."""
    return coefficient.unsqueeze(-1) if isinstance(coefficient, Tensor) else coefficient
