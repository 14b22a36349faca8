r"""Posterior methods against the exact posterior of a correlated Gaussian in 64 dimensions.

Data are pictures ``(1, 8, 8)`` with ``x_0 ~ N(mean, C)``, ``C_ij = exp(-|i - j| / 3)`` for pixels at the distance ``|i
- j|``.  Behind a linear operator ``y = A x_0 + std z``, the posterior is Gaussian with

    mean + C A^T (A C A^T + std^2)^{-1} (y - A mean)   and   C - C A^T (A C A^T + std^2)^{-1} A C.

For one measurement of each operator at each noise level, every method's own posterior is compared with it:

* ``mean_error``: root mean square over the pixels of the error in the posterior mean, over the root mean square of the
  prior's standard deviation (1 here);
* ``std_error``: root mean square of the error in the pixels' standard deviation, over the root mean square of the exact
  ones;
* ``calibration_error``: for central intervals of each pixel at the levels 10 % ... 90 %, how much the exact posterior's
  probability of the method's interval differs from the level; the mean over pixels and levels of the absolute value.

The denoiser is exact and affine, and so are many methods; their mean and covariance are computed exactly, from a run in
which each row sees one unit vector as its only noise.  The others are sampled.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..closed_form import GaussianDenoiser
from ..denoisers import Denoiser
from ..grids import UniformLogSNR
from ..inverse import (
    DDNM,
    DDRM,
    DDS,
    DPS,
    MMPS,
    TDS,
    AveragePool,
    Blur,
    DDNMPlus,
    DiffPIR,
    GaussianNoise,
    LinearOperator,
    Mask,
    MatrixOperator,
    Measurement,
    PiGDM,
    RandomProjection,
    Renoise,
    RePaint,
    Replacement,
    Subsampling,
)
from ..noise import IndependentNoise, NoiseSource, NoiseStream
from ..samplers import DDIM, DPMSolver, Sampler
from ..schedules import VPSchedule
from ..sdes import SDE

__all__ = [
    "METHODS",
    "PosteriorMethod",
    "correlated_pictures",
    "exact_posterior",
    "linear_operators",
    "posterior_table",
]

Row = dict[str, Any]

SHAPE = (1, 8, 8)
NOISE_LEVELS = (0.01, 0.1, 1.0)
PARTICLES = 4096
SAMPLES = 1024
# Wide enough that neither the start from pure noise nor the last step to clean data is seen in the figures.
GRID = UniformLogSNR(-12.0, 16.0)


def correlated_pictures(process: SDE | None = None) -> GaussianDenoiser:
    """The exact denoiser of the suite's data, on flattened pictures ``(B, 1, 8, 8)``."""
    side = torch.arange(8, dtype=torch.float64)
    points = torch.cartesian_prod(side, side)
    covariance = (-torch.cdist(points, points) / 3).exp()
    mean = torch.sin(points[:, 0]) * torch.cos(0.5 * points[:, 1])
    return GaussianDenoiser(SDE(VPSchedule()) if process is None else process, mean, covariance)


def linear_operators() -> dict[str, LinearOperator]:
    """The operators of the suite by name; the last one knows no decomposition."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.arange(8) < 4
    scales = torch.logspace(0, -1.5, 24, dtype=torch.float64)
    matrix = scales[:, None] * torch.randn(24, 64, generator=generator, dtype=torch.float64) / 8
    return {
        "mask": Mask(columns.expand(SHAPE)),
        "subsampling": Subsampling(SHAPE, 2),
        "average_pool": AveragePool(SHAPE, 4),
        "blur": Blur.gaussian(SHAPE, 0.8),
        "random_projection": RandomProjection(SHAPE, 16),
        "matrix": MatrixOperator(matrix, SHAPE),
        "masked_blur": Mask(torch.arange(8).remainder(2).eq(0).expand(SHAPE)) @ Blur.gaussian(SHAPE, 0.8),
    }


def exact_posterior(prior: GaussianDenoiser, measurement: Measurement) -> tuple[Tensor, Tensor]:
    """Mean ``(D,)`` and covariance ``(D, D)`` of ``x_0`` given one measurement through a linear operator with Gaussian
    noise.
    """
    operator = measurement.linear("exact_posterior")
    a = MatrixOperator.of(operator).matrix
    c, std = prior.covariance, measurement.std("exact_posterior")
    gain = torch.linalg.lstsq(a @ c @ a.T + std**2 * torch.eye(len(a), dtype=a.dtype), a @ c).solution.T
    return prior.mean + gain @ (measurement.y[0].flatten().double() - a @ prior.mean), c - gain @ a @ c


@dataclass(frozen=True)
class PosteriorMethod:
    """A method as the suite runs it.

    Args:
        build: the sampler and the denoiser for a prior and a measurement.
        bias: what is known of its error; of an exact method, in what limit it is exact.
        exact: whether its error vanishes in that limit.
        affine: whether its samples are an affine function of its noise for Gaussian data.
        samples: how many are drawn of a method that is not.
    """

    build: Callable[[Denoiser, Measurement], tuple[Sampler, Denoiser]]
    bias: str
    exact: bool = False
    affine: bool = True
    samples: int = SAMPLES


def _mmps(prior: Denoiser, measurement: Measurement) -> tuple[Sampler, Denoiser]:
    return DPMSolver(60, grid=GRID), MMPS(prior, measurement, iterations=64, solver="cg")


def _tds(prior: Denoiser, measurement: Measurement) -> tuple[Sampler, Denoiser]:
    return TDS(20, grid=GRID, measurement=measurement), prior


def _pigdm(prior: Denoiser, measurement: Measurement) -> tuple[Sampler, Denoiser]:
    return DPMSolver(30, grid=GRID), PiGDM(prior, measurement)


def _dps(prior: Denoiser, measurement: Measurement) -> tuple[Sampler, Denoiser]:
    return DPS(100, grid=GRID, measurement=measurement, zeta=0.3), prior


def _ddrm(prior: Denoiser, measurement: Measurement) -> tuple[Sampler, Denoiser]:
    return DDRM(30, grid=GRID, measurement=measurement), prior


def _ddnm(prior: Denoiser, measurement: Measurement) -> tuple[Sampler, Denoiser]:
    return DDIM(30, grid=GRID, eta=0.85), DDNM(prior, measurement)


def _ddnm_plus(prior: Denoiser, measurement: Measurement) -> tuple[Sampler, Denoiser]:
    return DDNMPlus(30, grid=GRID, measurement=measurement), prior


def _diffpir(prior: Denoiser, measurement: Measurement) -> tuple[Sampler, Denoiser]:
    return Renoise(30, grid=GRID), DiffPIR(prior, measurement)


def _dds(prior: Denoiser, measurement: Measurement) -> tuple[Sampler, Denoiser]:
    return DDIM(30, grid=GRID, eta=0.85), DDS(prior, measurement)


def _replacement(prior: Denoiser, measurement: Measurement) -> tuple[Sampler, Denoiser]:
    return Replacement(30, grid=GRID, measurement=measurement), prior


def _repaint(prior: Denoiser, measurement: Measurement) -> tuple[Sampler, Denoiser]:
    return RePaint(30, grid=GRID, measurement=measurement, jump_length=5, resamplings=4), prior


METHODS: dict[str, PosteriorMethod] = {
    "mmps": PosteriorMethod(_mmps, "none for Gaussian data in the limit of steps and solver iterations", exact=True),
    "tds": PosteriorMethod(
        _tds, "none in the limit of particles and steps", exact=True, affine=False, samples=PARTICLES
    ),
    "pigdm": PosteriorMethod(_pigdm, "takes the data for white given x_t, which correlated data are not"),
    "dps": PosteriorMethod(_dps, "the step does not know the noise: wrong spread, either way", affine=False),
    "ddrm": PosteriorMethod(_ddrm, "treats spectral coordinates apart: unmeasured ones learn little of measured ones"),
    "ddnm": PosteriorMethod(_ddnm, "takes the measurement for exact and fits its noise"),
    "ddnm_plus": PosteriorMethod(_ddnm_plus, "corrects measured coordinates alone in each step"),
    "diffpir": PosteriorMethod(_diffpir, "white prior in each step; its share of new noise never settles"),
    "dds": PosteriorMethod(_dds, "the weight of the data does not know the noise", affine=False),
    "replacement": PosteriorMethod(_replacement, "takes the measurement for exact; the unknown part lags behind"),
    "repaint": PosteriorMethod(_repaint, "as replacement, with less lag", affine=False),
}


def posterior_table(
    *,
    quick: bool = False,
    methods: Sequence[str] | None = None,
    seed: int = 0,
    report: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Run the suite.

    Args:
        quick: two operators and one noise level, fewer samples of the methods that are sampled; seconds.
        methods: names from `METHODS`; all by default.
        seed: of the measurements and of the samples.
        report: called with each row once it is known.

    Returns:
        A row for each operator, noise level and method that can take the operator: ``operator``, ``noise_std``,
        ``method``, ``mean_error``, ``std_error``, ``calibration_error`` (see the module's text), ``nfe``, ``exact``
        (in a limit), ``samples`` (None where the moments are computed exactly) and ``bias``.

    Raises:
        ValueError: a method that is not in the suite.
    """
    chosen = list(METHODS) if methods is None else list(methods)
    unknown = [name for name in chosen if name not in METHODS]
    if unknown:
        raise ValueError(f"methods has {unknown[0]!r}: expected names from {', '.join(METHODS)}")
    prior, rows = correlated_pictures(), []
    for operator, std, measurement in _problems(prior, quick, seed):
        mean, covariance = exact_posterior(prior, measurement)
        truth = mean, covariance.diagonal().clamp(min=0).sqrt()
        for name in chosen:
            method = METHODS[name]
            try:
                sampler, denoiser = method.build(prior, measurement)
            except (NotImplementedError, TypeError):  # an operator without a decomposition
                continue
            samples = None if method.affine else (method.samples // 4 if quick else method.samples)
            found = _moments(sampler, denoiser, samples, seed)
            row: Row = {"operator": operator, "noise_std": std, "method": name, **_errors(found, truth, prior)}
            row |= {"nfe": sampler.nfe(process=prior.process), "exact": method.exact}
            row |= {"samples": samples, "bias": method.bias}
            rows.append(row)
            if report is not None:
                report(row)
    return rows


def _problems(prior: GaussianDenoiser, quick: bool, seed: int) -> Iterator[tuple[str, float, Measurement]]:
    generator = torch.Generator().manual_seed(seed)
    operators = linear_operators()
    for name in ("mask", "average_pool") if quick else operators:
        for std in NOISE_LEVELS[1:2] if quick else NOISE_LEVELS:
            x0 = prior.sample(1, generator=generator).unflatten(1, SHAPE)
            yield name, std, Measurement.simulate(x0, operators[name], GaussianNoise(std), generator)


def _moments(sampler: Sampler, denoiser: Denoiser, samples: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(D,)`` of the samples; exact for an affine method (``samples=None``)."""
    if samples is not None:
        noise = IndependentNoise(torch.Generator().manual_seed(seed))
        x = sampler.sample(denoiser, (samples, *SHAPE), noise=noise).double().flatten(1)
        return x.mean(0), x.std(0)
    dim, counter = math.prod(SHAPE), _UnitNoise()
    start = denoiser.process.level(float(sampler.route(denoiser.process)[0])).sigma
    sampler.sample(denoiser, (1, *SHAPE), x=torch.zeros(1, *SHAPE, dtype=torch.float64), noise=counter)
    rows = 1 + dim * (1 + counter.drawn)
    x = torch.zeros(rows, *SHAPE, dtype=torch.float64)
    x.flatten(1)[1 : 1 + dim] = start * torch.eye(dim, dtype=torch.float64)
    out = sampler.sample(denoiser, x.shape, x=x, noise=_UnitNoise()).flatten(1)
    return out[0], (out[1:] - out[0]).square().sum(0).sqrt()


@dataclass
class _UnitNoise(NoiseSource, NoiseStream):
    """Draw ``j`` is zero but for the rows that belong to it, which hold the identity; the first belong to the start."""

    drawn: int = field(default=0)

    def begin(self, batch: int, first: int) -> NoiseStream:
        return self

    def draw(self, like: Tensor) -> Tensor:
        z = torch.zeros_like(like)
        dim = like[0].numel()
        at = 1 + dim * (1 + self.drawn)
        self.drawn += 1
        if len(like) > 1:
            z.flatten(1)[at : at + dim] = torch.eye(dim, dtype=like.dtype)
        return z

    def step(self, like: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        return self.draw(like)


def _errors(
    found: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor], prior: GaussianDenoiser
) -> dict[str, str | float]:
    """The three figures of the module's text."""
    (mean, std), (true_mean, true_std) = found, truth
    scale = prior.covariance.diagonal().mean().sqrt()
    levels = torch.arange(1, 10, dtype=torch.float64) / 10
    half = torch.special.ndtri(0.5 + 0.5 * levels)[:, None] * std
    covered = torch.special.ndtr((mean + half - true_mean) / true_std)
    covered = covered - torch.special.ndtr((mean - half - true_mean) / true_std)
    return {
        "mean_error": float((mean - true_mean).square().mean().sqrt() / scale),
        "std_error": float((std - true_std).square().mean().sqrt() / true_std.square().mean().sqrt()),
        "calibration_error": float((covered - levels[:, None]).abs().mean()),
    }
