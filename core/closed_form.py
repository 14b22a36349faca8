r"""Denoisers that are exact: for a Gaussian, a mixture of Gaussians and a finite data set.

They know the posterior, the score and the density of ``x_t`` in closed form, and so they are what samplers,
likelihoods and inverse methods are tested against.  States are ``(B, *event)``; the parameters are flat, with ``D =
prod(event)``, and everything is computed in float64, whatever the precision of the states: at low noise the squared
distances to two data points differ by less than float32 can tell.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .denoisers import Denoiser, GaussianPosterior
from .schedules import Time
from .sdes import SDE, Level, check_whole

__all__ = ["ClosedFormDenoiser", "EmpiricalDenoiser", "GaussianDenoiser", "MixtureDenoiser"]

_LOG_2PI = 1.8378770664093453
_POINT = 1e-200  # a variance that is none


class ClosedFormDenoiser(Denoiser):
    """A denoiser for data of known distribution; adds the density and draws of ``x_t``."""

    dim: int

    def forward(self, x_t: Tensor, t: Time, **condition: Tensor) -> GaussianPosterior:
        """The exact posterior at time ``t`` (one, or one a sample); conditions are ignored, since the data do not
        depend on any.
        """
        level = self.process.level(t)
        flat = self._flat(x_t)
        mean, variance = (m.to(x_t.dtype).reshape(x_t.shape) for m in self._moments(flat, level.like(flat)))
        return GaussianPosterior(x_t, self.process, level, mean, variance)

    def _flat(self, x: Tensor) -> Tensor:
        """``x`` as ``(B, D)`` in float64."""
        if x.ndim < 2 or x[0].numel() != self.dim:
            raise ValueError(f"x_t of shape {tuple(x.shape)}: expected (B, *event) with {self.dim} numbers an event")
        return x.flatten(1).double()

    @abstractmethod
    def _moments(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """Mean and variance of ``x_0`` given flat states ``(B, D)``."""

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """Log-density of ``x_t`` at ``x`` in nats, shape ``(B,)``, in the dtype of ``x``.

        Raises:
            ValueError: where there is no density, at ``sigma = 0`` for data that lie on points or in a subspace.
            TypeError: for a process in a subspace.
        """
        check_whole(self.process, f"log_prob of {type(self).__name__}")
        flat = self._flat(x)
        return self._log_density(flat, self.process.level(t).like(flat)).to(x.dtype)

    @abstractmethod
    def _log_density(self, x: Tensor, level: Level) -> Tensor:
        """`log_prob` of flat states."""

    @abstractmethod
    def sample(self, num: int, t: Time = 0.0, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws of ``x_t``, shape ``(num, D)``, float64; ``t`` is one time or one a draw, ``(num,)``."""

    def _noised(self, x0: Tensor, t: Time, generator: torch.Generator | None) -> Tensor:
        if isinstance(t, Tensor) or t != 0:
            check_whole(self.process, f"sample of {type(self).__name__} at t > 0")
        level = self.process.level(t).like(x0)
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

    mean: Tensor
    covariance: Tensor
    values: Tensor
    vectors: Tensor

    def __init__(
        self,
        process: SDE,
        mean: Float[Tensor, "dim"] | Sequence[float],
        covariance: Float[Tensor, "dim dim"] | Sequence[Sequence[float]],
    ) -> None:
        super().__init__(process)
        mean, covariance = (torch.as_tensor(v, dtype=torch.float64) for v in (mean, covariance))
        self.dim = len(mean)
        if covariance.shape != (self.dim, self.dim):
            expected = (self.dim, self.dim)
            raise ValueError(
                f"covariance of shape {tuple(covariance.shape)}: expected {expected}, as mean has {self.dim}"
            )
        if not torch.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-9):
            raise ValueError("covariance is not symmetric: expected covariance == covariance.T")
        values, vectors = torch.linalg.eigh(covariance)
        if values.min() < -1e-9 * values.abs().max():
            raise ValueError(f"covariance has the eigenvalue {values.min().item():.3g}: expected none below zero")
        self.register_buffer("mean", mean)
        self.register_buffer("covariance", covariance)
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
        variance = (rest @ (vectors**2).T).expand_as(deviation)  # one row, where all are at one level
        return mean + (gain * deviation) @ vectors.T, variance

    def _log_density(self, x: Tensor, level: Level) -> Tensor:
        vectors, _, w = self._weights(level, x)
        _check_density(w)
        deviation = (x - level.alpha * self.mean.to(x)) @ vectors
        return -0.5 * (deviation**2 / w + w.log() + _LOG_2PI).sum(-1)

    def sample(self, num: int, t: Time = 0.0, *, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(num, self.dim, dtype=torch.float64, device=self.mean.device, generator=generator)
        return self._noised(self.mean + noise * self.values.sqrt() @ self.vectors.T, t, generator)

    def flow(self, x: Tensor, t: Time, s: Time) -> Tensor:
        """The exact solution of the probability-flow ODE from ``x`` at time ``t`` to time ``s``.

        Each eigen-direction of ``x_t - alpha_t mean`` is multiplied by ``sqrt(w_s / w_t)``.
        """
        flat = self._flat(x)
        start, end = self.process.level(t).like(flat), self.process.level(s).like(flat)
        vectors, _, w_start = self._weights(start, flat)
        _, _, w_end = self._weights(end, flat)
        deviation = (flat - start.alpha * self.mean.to(flat)) @ vectors
        # A direction without any variance at the start has none to scale.
        factor = torch.where(w_start > 0, (w_end / w_start).sqrt(), 0.0)
        out = end.alpha * self.mean.to(flat) + (deviation * factor) @ vectors.T
        return out.to(x.dtype).reshape(x.shape)


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

    weights: Tensor
    means: Tensor
    stds: Tensor

    def __init__(
        self,
        process: SDE,
        weights: Float[Tensor, "components"] | Sequence[float],
        means: Float[Tensor, "components dim"] | Sequence[Sequence[float]],
        stds: Float[Tensor, "components"] | Sequence[float],
    ) -> None:
        super().__init__(process)
        weights, means, stds = (torch.as_tensor(v, dtype=torch.float64) for v in (weights, means, stds))
        if not (len(weights) == len(means) == len(stds)):
            raise ValueError(
                f"{len(weights)} weights, {len(means)} means and {len(stds)} stds: expected as many of each"
            )
        if (weights <= 0).any() or (stds < 0).any():
            raise ValueError("weights must be positive and stds at least 0")
        self.dim = means.shape[1]
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("means", means)
        self.register_buffer("stds", stds)

    def _parts(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """``w`` ``(B or 1, K)`` and log of weight times density ``(B, K)``."""
        means, variances = self.means.to(x), self.stds.to(x) ** 2
        alpha, sigma = level.alpha, level.sigma
        # Where w is zero (points, without noise) the limit is meant: the nearest point takes all the weight.
        w = (alpha**2 * variances + sigma**2).clamp(min=_POINT)
        square = (x**2).sum(1, keepdim=True) - 2 * alpha * (x @ means.T) + alpha**2 * (means**2).sum(1)
        logits = self.weights.to(x).log() - 0.5 * (square.clamp(min=0) / w + self.dim * (w.log() + _LOG_2PI))
        return w, logits

    def _moments(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        means, variances = self.means.to(x), self.stds.to(x) ** 2
        alpha = level.alpha
        w, logits = self._parts(x, level)
        r = logits.softmax(1)
        gain = alpha * variances / w
        each = means + gain.unsqueeze(-1) * (x.unsqueeze(1) - _last(alpha) * means)
        mean = (r.unsqueeze(-1) * each).sum(1)
        within = (r * variances * level.sigma**2 / w).sum(1, keepdim=True)
        variance = within + (r.unsqueeze(-1) * (each - mean.unsqueeze(1)) ** 2).sum(1)
        return mean, variance

    def _log_density(self, x: Tensor, level: Level) -> Tensor:
        w, logits = self._parts(x, level)
        _check_density(w)
        return logits.logsumexp(1)

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

    data: Tensor

    def __init__(self, process: SDE, data: Float[Tensor, "points *event"] | Sequence[Sequence[float]]) -> None:
        data = data if isinstance(data, Tensor) else torch.as_tensor(data, dtype=torch.float64)
        flat = data.flatten(1)
        super().__init__(process, torch.ones(len(flat)), flat, torch.zeros(len(flat)))
        self.register_buffer("data", data)

    def _moments(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        # As the mixture with zero widths, but without a tensor (B, N, D).
        means = self.means.to(x)
        r = self._parts(x, level)[1].softmax(1)
        mean = r @ means
        return mean, (r @ means**2 - mean**2).clamp(min=0)


def _check_density(w: Tensor) -> None:
    if (w <= _POINT).any():
        raise ValueError("log_prob at sigma = 0: data on points or in a subspace have no density there; ask at t > 0")


def _last(coefficient: float | Tensor) -> float | Tensor:
    """A coefficient ``(B, 1)`` with one more axis at its end; a float unchanged."""
    return coefficient.unsqueeze(-1) if isinstance(coefficient, Tensor) else coefficient
