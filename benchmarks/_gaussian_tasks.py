"""Gaussian pictures behind inpainting, blur, CT and MRI, whose posteriors are known, and how draws are judged.

Pictures of 16 x 16 are ``x ~ N(1/2, C)`` with a stationary ``C`` on the torus: power ``(1 + (k / 2)^2)^(-3/2)`` at the
frequency ``k``, standard deviation 0.15; two of them, apart, are real and imaginary parts for MRI.  The posterior of
``y = A x + std z`` is ``N(m, S)``.  Directions in which the data halve the prior's variance, or more, are the data's;
the others are the null space's.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from ornstein.core import SDE, GaussianDenoiser, VPSchedule
from ornstein.core.inverse import Blur, GaussianNoise, Mask, MatrixOperator, Measurement, SpectralOperator, factorised
from ornstein.domains.medical.physics import CartesianMRI, ParallelBeam, Projector, spread_angles
from ornstein.domains.medical.scale import Scale

SIDE = 16
SCALE = Scale((0.0, 1.0))
"""Methods draw states ``2 x - 1``, as `MedicalReconstruction` does."""


class GaussianTask:
    """An operator, the noise and the prior, all of whose answers are known; float64.

    Args:
        name: of the operator.
        operator: on ``(channels, 16, 16)``, with a decomposition.
        std: of the noise.
    """

    def __init__(self, name: str, operator: SpectralOperator, std: float) -> None:
        self.name, self.operator, self.std = name, operator, std
        channels = operator.shape[0]
        self.prior = torch.block_diag(*[_covariance()] * channels)
        self.matrix = MatrixOperator.of(operator).matrix
        seen = self.prior @ self.matrix.T
        self.gain = torch.linalg.solve(self.matrix @ seen + std**2 * torch.eye(len(self.matrix)).double(), seen.T).T
        posterior = self.prior - self.gain @ seen.T
        self.posterior = (posterior + posterior.T) / 2

    @property
    def states_std(self) -> float:
        """Standard deviation of the prior's states."""
        return 2 * float(self.prior.diagonal().mean().sqrt())

    def denoiser(self) -> GaussianDenoiser:
        """The exact prior of states."""
        return GaussianDenoiser(SDE(VPSchedule()), torch.zeros(len(self.prior)), 4 * self.prior)

    def measurements(self, count: int) -> list[Measurement]:
        """Of pictures that the prior draws, in their units."""
        generator = torch.Generator().manual_seed(7)
        x = _normal(count, self.prior, generator) + 0.5
        pictures = x.float().unflatten(1, self.operator.shape)
        noise = GaussianNoise(self.std)
        return [Measurement.simulate(one, self.operator, noise, generator) for one in pictures.split(1)]

    def mean(self, measurement: Measurement) -> Tensor:
        """``m``, flat."""
        return 0.5 + self.gain @ (measurement.y.double().flatten() - self.matrix.sum(1) / 2)

    def exact_draws(self, measurement: Measurement, count: int, seed: int) -> Tensor:
        """From the posterior itself, ``(count, D)``."""
        return self.mean(measurement) + _normal(count, self.posterior, torch.Generator().manual_seed(seed))

    @cached_property
    def _directions(self) -> tuple[Tensor, Tensor]:
        """``r`` and ``P`` with ``P^T C P = 1`` and ``P^T S P = diag(r)``: what the data leave of the variance."""
        values, vectors = torch.linalg.eigh(self.prior)
        white = vectors / values.sqrt()
        left, turn = torch.linalg.eigh(white.T @ self.posterior @ white)
        return left, white @ turn

    def judge(self, measurements: Sequence[Measurement], draws: Sequence[Tensor]) -> dict[str, float]:
        """Means over the measurements of figures of draws ``(N, D)`` in units of the data.

        * ``mean``: ``|mean - m| / |std|``, of which ``1 / sqrt(N)`` are the draws' own noise;
        * ``bias``: the same with that noise, as the draws' spread tells it, taken out (root of the mean square);
        * ``spread``: ``|std of the draws| / |std|``; ``data`` and ``null``: the same in these subspaces, whitened;
        * ``coverage``: chance that the truth lies in the draws' central 90 % of a pixel;
        * ``chi2``: mean of ``|A x - y|^2`` over its exact mean.
        """
        rows = [self._figures(seen, x) for seen, x in zip(measurements, draws, strict=True)]
        found = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
        return found | {"bias": max(0.0, found["bias"]) ** 0.5}

    def _figures(self, measurement: Measurement, x: Tensor) -> dict[str, float]:
        m, y, std = self.mean(measurement), measurement.y.double().flatten(), self.posterior.diagonal().sqrt()
        left, directions = self._directions
        data, size = left < 0.5, float(std.square().sum())
        share = ((x - x.mean(0)) @ directions).var(0) / left
        off, spread = float((x.mean(0) - m).square().sum()), float(x.var(0).sum())
        low, high = torch.quantile(x, torch.tensor([0.05, 0.95], dtype=x.dtype), 0)
        covered = torch.special.ndtr((high - m) / std) - torch.special.ndtr((low - m) / std)
        exact = (self.matrix @ m - y).square().sum() + (self.matrix @ self.posterior * self.matrix).sum()
        return {
            "mean": (off / size) ** 0.5,
            "bias": (off - spread / len(x)) / size,
            "spread": (spread / size) ** 0.5,
            "data": float(share[data].mean().sqrt()),
            "null": float(share[~data].mean().sqrt()),
            "coverage": float(covered.mean()),
            "chi2": float((x @ self.matrix.T - y).square().sum(1).mean() / exact),
        }


def _normal(count: int, covariance: Tensor, generator: torch.Generator) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    z = torch.randn(count, len(values), generator=generator, dtype=torch.float64)
    return (z * values.clamp(min=0).sqrt()) @ vectors.T


def _covariance() -> Tensor:
    f = torch.fft.fftfreq(SIDE, 1 / SIDE, dtype=torch.float64)
    power = (1 + (f[:, None] ** 2 + f**2) / 4) ** -1.5
    unit = torch.eye(SIDE**2, dtype=torch.float64).unflatten(1, (SIDE, SIDE))
    found = torch.fft.ifft2(torch.fft.fft2(unit) * power * 0.15**2 / power.mean()).real.flatten(1)
    return (found + found.T) / 2


def inpainting_mask() -> Tensor:
    """Half of the pixels, at random."""
    return torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))[0] < 0.5


def blur_kernel() -> Tensor:
    """A Gaussian of one pixel on 7 x 7."""
    line = torch.exp(-0.5 * (torch.arange(7, dtype=torch.float64) - 3) ** 2)
    return torch.outer(line, line) / line.sum() ** 2


def line_mask() -> Tensor:
    """Every fourth column of k-space and the two in the middle: 5 of 16."""
    mask = torch.zeros(SIDE, dtype=torch.bool)
    mask[::4] = True
    mask[SIDE // 2 - 1 : SIDE // 2 + 1] = True
    return mask


def projector(pixel: float = 1.0) -> Projector:
    """Eight views over half a turn."""
    return Projector(ParallelBeam((SIDE, SIDE), spread_angles(8), pixel=pixel), dtype=torch.float64)


def gaussian_tasks() -> Iterator[GaussianTask]:
    """Inpainting, blur, CT with the unit of length that makes the operator's norm 1, and MRI."""
    yield GaussianTask("inpaint50", Mask(inpainting_mask()), 0.05)
    yield GaussianTask("blur", Blur((1, SIDE, SIDE), blur_kernel()), 0.02)
    norm = float(factorised(projector()).singular_values.max())
    yield GaussianTask("ct8", factorised(projector(1 / norm)), 0.02)
    yield GaussianTask("mri3x", CartesianMRI(line_mask(), rows=SIDE), 0.02)
