r"""Exact test problems and the measurements that certify a sampler, for tests here and elsewhere.

* `anisotropic_gaussian` and `three_modes` are denoisers known in closed form.
* `convergence_order` measures how fast a deterministic sampler's error falls.
* `exact_moments` gives the mean and covariance that a sampler produces on Gaussian data, without Monte Carlo: the
  denoiser is affine, so the output is a linear combination of the initial noise and of every injected draw, and a run
  in which each row of the batch sees one unit vector as its only noise gives all the coefficients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .closed_form import GaussianDenoiser, MixtureDenoiser
from .denoisers import Denoiser
from .noise import NoiseSource, NoiseStream
from .samplers import Sampler
from .sdes import SDE

__all__ = [
    "anisotropic_gaussian",
    "convergence_order",
    "exact_moments",
    "ring_of_modes",
    "sampling_errors",
    "three_modes",
    "uneven_modes",
]


def anisotropic_gaussian(process: SDE, mean: Sequence[float] = (0.5, -1.0, 0.3)) -> GaussianDenoiser:
    """Exact for ``N(mean, S)`` in three dimensions, where ``S`` has the eigenvalues 1.5, 0.4 and 0.05 in a turned
    basis.
    """
    turn = torch.linalg.matrix_exp(
        torch.tensor([[0.0, 0.7, -0.3], [-0.7, 0.0, 0.5], [0.3, -0.5, 0.0]], dtype=torch.float64)
    )
    values = torch.tensor([1.5, 0.4, 0.05], dtype=torch.float64)
    return GaussianDenoiser(process, torch.tensor(mean, dtype=torch.float64), turn @ values.diag() @ turn.T)


def three_modes(process: SDE) -> MixtureDenoiser:
    """Exact for a mixture of three isotropic Gaussians of unequal weight and width in the plane."""
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    means = torch.tensor([[-2.0, 0.0], [1.0, 1.5], [1.5, -1.0]], dtype=torch.float64)
    return MixtureDenoiser(process, weights, means, torch.tensor([0.7, 0.4, 0.5], dtype=torch.float64))


def ring_of_modes(process: SDE) -> MixtureDenoiser:
    """Exact for eight modes on a circle of radius 1.2, of standard deviation 0.08 and weights 1, 2, 1, 2, ...: a test
    of few steps, since the data lie far apart and are narrow.
    """
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    means = 1.2 * torch.stack([angles.cos(), angles.sin()], 1)
    weights = torch.tensor([1.0, 2.0] * 4, dtype=torch.float64)
    return MixtureDenoiser(process, weights, means, torch.full((8,), 0.08, dtype=torch.float64))


def uneven_modes(process: SDE) -> MixtureDenoiser:
    """Exact for four modes whose standard deviations go from 0.35 to 0.03 and whose weights from 0.5 to 0.05."""
    means = torch.tensor([[-1.0, -0.6], [0.9, -0.7], [0.2, 1.0], [1.6, 1.4]], dtype=torch.float64)
    weights, stds = (torch.tensor(v, dtype=torch.float64) for v in ([0.5, 0.3, 0.15, 0.05], [0.35, 0.15, 0.06, 0.03]))
    return MixtureDenoiser(process, weights, means, stds)


def sampling_errors(
    sampler: Sampler, denoiser: Denoiser, x: Tensor, reference: Tensor, steps: Sequence[int]
) -> list[float]:
    """Largest error of each run: ``max |sample(x) - reference|`` for each number of steps.

    Args:
        sampler: its ``steps`` are replaced.
        denoiser: exact.
        x: start, ``(B, *event)``, float64.
        reference: the exact end of the probability-flow ODE, shape of ``x``.
        steps: numbers of steps.
    """
    runs = (replace(sampler, steps=n).sample(denoiser, x.shape, x=x) for n in steps)
    return [float((run - reference).abs().max()) for run in runs]


def convergence_order(errors: Sequence[float]) -> float:
    """``log2`` of the ratio of the last two errors, for runs whose number of steps doubles."""
    return math.log2(errors[-2] / errors[-1])


def exact_moments(sampler: Sampler, denoiser: GaussianDenoiser) -> tuple[Tensor, Tensor]:
    """Mean ``(D,)`` and covariance ``(D, D)`` of the samples that ``sampler`` draws from Gaussian data, float64,
    exact to rounding.

    The start is drawn from the process's exact marginal at the grid's first time, so that the result shows the
    sampler's own error.
    """
    process, dim = denoiser.process, denoiser.dim
    start = process.level(sampler.grid(sampler.steps, process)[0])
    counted = _UnitNoise(dim).begin(1, 0)
    sampler.sample(denoiser, (1, dim), x=torch.zeros(1, dim, dtype=torch.float64), noise=_Fixed(counted))
    # The start has dim more directions, scaled by a root of its covariance.
    rows = 1 + dim * counted.drawn
    x = (start.alpha * denoiser.mean).repeat(rows, 1)
    covariance = start.alpha**2 * denoiser.covariance + start.sigma**2 * torch.eye(dim, dtype=torch.float64)
    x[1 : 1 + dim] += torch.linalg.cholesky(covariance).T
    out = sampler.sample(denoiser, x.shape, x=x, noise=_UnitNoise(dim))
    deviations = out[1:] - out[0]
    return out[0], deviations.T @ deviations


@dataclass(frozen=True)
class _UnitNoise(NoiseSource):
    """Draw ``j`` is zero but for rows ``1 + dim j ... dim (j + 1)``, which hold the identity; draw 0 is the start."""

    dim: int

    def begin(self, batch: int, first: int) -> "_UnitStream":
        return _UnitStream(self.dim)


@dataclass(frozen=True)
class _Fixed(NoiseSource):
    """One stream, of which the draws are counted."""

    stream: NoiseStream

    def begin(self, batch: int, first: int) -> NoiseStream:
        return self.stream


@dataclass
class _UnitStream(NoiseStream):
    dim: int
    drawn: int = field(default=1)

    def draw(self, like: Tensor) -> Tensor:
        z = torch.zeros_like(like)
        at = 1 + self.dim * self.drawn
        if at < len(z):
            z[at : at + self.dim] = torch.eye(self.dim, dtype=like.dtype)
        self.drawn += 1
        return z

    def step(self, like: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        return self.draw(like)
