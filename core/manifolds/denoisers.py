"""Denoisers on manifolds: a network's, and exact ones for mixtures of heat kernels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..denoisers import Denoiser, noise_level
from ..denoisers import _dtype as dtype_of
from ..levels import Level
from ..schedules import Time
from .heat import HeatKernel
from .process import RiemannianProcess

__all__ = ["HeatMixtureDenoiser", "RiemannianDenoiser", "RiemannianPosterior"]


class RiemannianPosterior:
    """Belief about ``x_0`` given ``x_t``: the score of ``x_t``.

    Args:
        x_t: the state, ``(B, *N, *point)``.
        process: the forward process.
        level: its coefficients at the state's time.
        score: ``grad log p_t(x_t)``, tangent at ``x_t``; None for a network at ``s = 0``, where it knows none.
    """

    def __init__(self, x_t: Tensor, process: RiemannianProcess, level: Level, score: Tensor | None) -> None:
        self.x_t = x_t
        self.process = process
        self.level = level
        self._score = score

    @property
    def score(self) -> Tensor:
        """``grad log p_t(x_t)``, shape of ``x_t``; undefined at ``s = 0``, where a network's raises ``ValueError``."""
        if self._score is None:
            raise ValueError("score at sigma = 0: data without noise have none that a network knows; ask at t > 0")
        return self._score

    @property
    def mean(self) -> Tensor:
        """Tweedie's estimate of the data, ``exp(x_t, s score)``: exact to the first order in the variance ``s``, which
        is held to 1 since the manifold is no larger.
        """
        if self._score is None:
            return self.x_t
        s = shaped(variance(self.level), self.x_t)
        return torch.where(s > 0, self.process.manifold.exp(self.x_t, s.clamp(max=1.0) * self._score), self.x_t)


def on_manifold(process: RiemannianProcess) -> RiemannianProcess:
    """The process, refused where it is of another kind."""
    if not isinstance(process, RiemannianProcess):
        raise TypeError(f"process={process!r}: expected a RiemannianProcess, such as one on Sphere(2)")
    return process


def variance(level: Level) -> Tensor:
    """``s = e^(-log_snr)`` of a level, float64."""
    return (-torch.as_tensor(level.log_snr, dtype=torch.float64)).exp()


def shaped(coefficient: Tensor, like: Tensor) -> Tensor:
    """A coefficient ``()`` or ``(B,)`` to multiply a state, in its dtype."""
    coefficient = coefficient.to(like.device, like.dtype)
    return coefficient.reshape(-1, *[1] * (like.ndim - 1)) if coefficient.ndim else coefficient


class RiemannianDenoiser(Denoiser[RiemannianProcess]):
    """A denoiser made of a network: ``score = rms(t) F`` with the network's output ``F``, a tangent vector.

    ``rms`` is the root of the kernel's expected squared score per dimension (2206.01729, section 3.2), so ``F`` has a
    target of unit size at every noise level.  The network is called as ``network(features, c, **condition)`` with the
    manifold's smooth coordinates (cosines and sines ``(B, *N, 2 dims)`` of angles; unit vectors; the nine entries of
    matrices) and the noise level ``c = log(s) / 8`` ``(B,)``, held to [-2.5, 2.5].  It answers with one number an
    angle, a vector that is projected to the tangent space of the sphere, or a rotation vector ``(B, *N, 3)`` in the
    rotated frame.

    Args:
        network: as above; None where the network of several parts answers (`ProductNetworkDenoiser`).
        process: the forward process to train and sample with.

    Example:
        >>> import torch
        >>> from ornstein.core import VESchedule
        >>> from ornstein.core.manifolds import RiemannianProcess, Torus
        >>> process = RiemannianProcess(Torus(2), VESchedule(0.01, 5.0))
        >>> RiemannianDenoiser(lambda x, c: x[:, :2], process)(torch.zeros(1, 2), 1.0).score.shape
        torch.Size([1, 2])
    """

    network: Any

    def __init__(self, network: nn.Module | None, process: RiemannianProcess) -> None:
        super().__init__(on_manifold(process))
        self.network = network

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> RiemannianPosterior:
        if _clean(self.process.level(t)):
            return RiemannianPosterior(x_t, self.process, self.process.level(t), None)
        features, c = self.inputs(x_t, t)
        return self.posterior(self.network(features.to(dtype_of(self.network, x_t)), c, **condition), x_t, t)

    def inputs(self, x_t: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """What the network sees: the manifold's coordinates and the noise level ``c``."""
        return self.process.manifold.features(x_t), noise_level(self.process.level(t), x_t)

    def posterior(self, output: Tensor, x_t: Tensor, t: Time) -> RiemannianPosterior:
        """The posterior that a network's output means."""
        manifold, level = self.process.manifold, self.process.level(t)
        if tuple(output.shape) != manifold.output_shape(x_t):
            raise ValueError(
                f"network's answer of shape {tuple(output.shape)} to a state {tuple(x_t.shape)}: expected "
                f"{manifold.output_shape(x_t)} on {manifold}"
            )
        if _clean(level):
            return RiemannianPosterior(x_t, self.process, level, None)
        scale = shaped(manifold.kernel.rms(variance(level)), x_t)
        return RiemannianPosterior(x_t, self.process, level, scale * manifold.from_features(x_t, output.to(x_t.dtype)))


def _clean(level: Level) -> bool:
    """Whether a level of one time has no noise, where a network knows no score."""
    s = variance(level)
    return s.ndim == 0 and bool(s == 0)


class HeatMixtureDenoiser(Denoiser[RiemannianProcess]):
    """Exact for data from a mixture of heat kernels, ``sum_k weights_k K_(variances_k)(centers_k, .)``.

    Noised, it is the same mixture with ``s(t)`` added to every variance, so score and density are known.  Everything is
    computed in float64.

    Args:
        process: the forward process.
        weights: ``(K,)``, positive; scaled to sum to 1.
        centers: ``(K, *N, *point)``.
        variances: ``(K,)``, at least 0.
    """

    weights: Tensor
    centers: Tensor
    variances: Tensor

    def __init__(
        self,
        process: RiemannianProcess,
        weights: Tensor | Sequence[float],
        centers: Tensor,
        variances: Tensor | Sequence[float],
    ) -> None:
        super().__init__(on_manifold(process))
        weights, variances = (torch.as_tensor(v, dtype=torch.float64) for v in (weights, variances))
        if not len(weights) == len(centers) == len(variances):
            raise ValueError(
                f"{len(weights)} weights, {len(centers)} centers, {len(variances)} variances: expected as many of each"
            )
        if bool((weights <= 0).any()) or bool((variances < 0).any()):
            raise ValueError("weights must be positive and variances at least 0")
        process.manifold.check(centers, "centers")
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("centers", centers.double())
        self.register_buffer("variances", variances)

    def _parts(self, x: Tensor, t: Time) -> list[HeatKernel]:
        s = self.process.variance(t).to(x.device)
        return [
            HeatKernel(self.process.manifold, center.expand(x.shape), v + s)
            for center, v in zip(self.centers, self.variances)
        ]

    def _logits(self, x: Tensor, parts: list[HeatKernel], mask: Tensor | None) -> Tensor:
        return torch.stack([part.log_prob(x.double(), mask) for part in parts], 1) + self.weights.log()

    def log_prob(self, x: Tensor, t: Time = 0.0, mask: Tensor | None = None) -> Tensor:
        """Log-density of ``x_t`` in nats with respect to the Riemannian volume, ``(B,)``, in the dtype of ``x``."""
        return self._logits(x, self._parts(x, t), mask).logsumexp(1).to(x.dtype)

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> RiemannianPosterior:
        """The exact score; of the conditions only ``mask`` matters."""
        parts = self._parts(x_t, t)
        share = self._logits(x_t, parts, condition.get("mask")).softmax(1)
        score = torch.stack([shaped(r, part.center) * part.score(x_t) for r, part in zip(share.unbind(1), parts)]).sum(
            0
        )
        return RiemannianPosterior(x_t, self.process, self.process.level(t), score.to(x_t.dtype))

    def sample(self, num: int, t: Time = 0.0, *, generator: torch.Generator | None = None) -> Tensor:
        """Exact draws of ``x_t``, ``(num, *N, *point)``, float64."""
        k = torch.multinomial(self.weights, num, replacement=True, generator=generator)
        s = self.variances[k] + self.process.variance(t)
        return HeatKernel(self.process.manifold, self.centers[k], s).sample(generator=generator)
