r"""Denoisers that correct another denoiser's mean towards a measurement without gradients: DDNM, DiffPIR and DDS.

Each replaces ``m = E[x_0 | x_t]`` by a point near it that fits ``y`` better.  They cost one call of the denoiser and no
backward pass, and work with every sampler.  None of them is exact, not even for Gaussian data: they take the posterior
of ``x_0`` given ``x_t`` for white, which correlated data's is not.
"""

from typing import Any

import torch
from torch import Tensor

from ..denoisers import Denoiser, GaussianPosterior
from ..schedules import Time, require
from ..sdes import Level
from .measurement import Measurement
from .operators import SpectralOperator
from .solvers import conjugate_gradient

__all__ = ["DDNM", "DDS", "DiffPIR"]


class _Corrected(Denoiser):
    """Answers with ``correct(m)`` in place of ``m``."""

    def __init__(self, denoiser: Denoiser, measurement: Measurement) -> None:
        super().__init__(denoiser.process)
        self.denoiser = denoiser
        self.measurement = measurement
        self.operator = measurement.linear(type(self).__name__)

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> GaussianPosterior:
        y = self.measurement.like(x_t)
        level = self.process.level(t)
        mean = self.denoiser(x_t, t, **condition).mean
        return GaussianPosterior(x_t, self.process, level, self.correct(mean, y, level.like(x_t)))

    def correct(self, mean: Tensor, y: Tensor, level: Level) -> Tensor:
        """The corrected mean."""
        raise NotImplementedError

    def _precision(self, like: Tensor) -> float | Tensor:
        """One over the variance of the noise, which is not zero."""
        variance = self.measurement.variance
        return 1 / variance.to(like) if isinstance(variance, Tensor) else 1 / variance


class DDNM(_Corrected):
    r"""Null-space correction: ``A^+ y + (I - A^+ A) m``, what fits ``y`` exactly and is nearest to ``m``.

    Wang, Yu and Zhang 2022 (arXiv 2212.00490), eq. 13 and algorithm 1.  For measurements without noise; `DDNMPlus`
    takes noise into account.  The samples fit ``y`` exactly.

    Args:
        denoiser: the prior.
        measurement: what was seen, through a linear operator that knows its pseudo-inverse.
    """

    def __init__(self, denoiser: Denoiser, measurement: Measurement) -> None:
        super().__init__(denoiser, measurement)
        self.operator.pseudo_inverse(measurement.y[:1])  # complains of an operator that has none

    def correct(self, mean: Tensor, y: Tensor, level: Level) -> Tensor:
        return mean + self.operator.pseudo_inverse(y - self.operator(mean))


class DiffPIR(_Corrected):
    r"""Half-quadratic splitting: the ``x`` that minimises ``|y - A x|^2 / V + (weight / r^2) |x - m|^2``.

    ``r = sigma / alpha`` is the noise ratio and ``V`` the variance of the noise.  Zhu et al. 2023 (arXiv 2305.08995),
    eqs. 12-13 and algorithm 1, whose steps are those of `Renoise` with their ``zeta``.  Without noise the
    minimiser is DDNM's.  Solved by the operator's decomposition where it has one and the noise is Gaussian, else by
    conjugate gradients.

    Args:
        denoiser: the prior.
        measurement: what was seen, through a linear operator.
        weight: ``lambda`` of the paper; 1 takes the data for white given ``x_t``, with variance ``r^2``.
        iterations: of the conjugate gradients, at most.
    """

    def __init__(self, denoiser: Denoiser, measurement: Measurement, weight: float = 1.0, iterations: int = 50) -> None:
        super().__init__(denoiser, measurement)
        require(weight > 0, "weight", weight, "a positive number")
        require(iterations >= 1, "iterations", iterations, "at least 1")
        self.weight = weight
        self.iterations = iterations

    def correct(self, mean: Tensor, y: Tensor, level: Level) -> Tensor:
        spread = _over(level.sigma**2, self.weight * level.alpha**2)
        variance, operator = self.measurement.variance, self.operator
        residual = y - operator(mean)
        if isinstance(operator, SpectralOperator) and not isinstance(variance, Tensor):
            # The minimiser is m + A^T (A A^T + V / spread)^{-1} (y - A m); an infinite spread is no prior at all.
            s = operator.singular_values.to(mean)
            ratio = _over(variance, spread)
            ratio = ratio.flatten(1) if isinstance(ratio, Tensor) else ratio
            gain = torch.where(operator.reliable, s / torch.where(operator.reliable, s**2 + ratio, 1.0), 0.0)
            return mean + operator.spectral_filter(operator.ut(residual), gain)
        if not isinstance(variance, Tensor) and variance == 0:
            return mean + _least_squares(self, residual)
        precision = self._precision(mean)
        prior = _over(1.0, spread)
        return mean + conjugate_gradient(
            lambda x: operator.adjoint(precision * operator(x)) + prior * x,
            operator.adjoint(precision * residual),
            iterations=self.iterations,
            tolerance=1e-6,
        )


def _least_squares(denoiser: DiffPIR, residual: Tensor) -> Tensor:
    """The shortest ``x`` with ``A x = residual``."""
    operator = denoiser.operator
    return conjugate_gradient(
        lambda x: operator.adjoint(operator(x)),
        operator.adjoint(residual),
        iterations=denoiser.iterations,
        tolerance=1e-6,
    )


def _over(a: float | Tensor, b: float | Tensor) -> float | Tensor:
    """``a / b`` for numbers of at least 0 where a zero below means infinity."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.as_tensor(a) / b
    return a / b if b > 0 else float("inf")


class DDS(_Corrected):
    r"""Decomposed diffusion sampling: a few conjugate-gradient steps from ``m`` towards ``y``.

    Chung, Lee and Ye 2024 (arXiv 2303.05754), eqs. 17 and 20 and algorithms 1-4.  With noise it goes towards the
    minimiser of ``(gamma / 2) |y - A x|^2 + |x - m|^2 / 2``; without (``gamma = inf``) towards a solution of ``A^T A x
    = A^T y``, in ``m`` plus a Krylov space.  Few steps are the point: they keep the result near the data.

    Args:
        denoiser: the prior.
        measurement: what was seen, through a linear operator; noise that differs between entries weighs them.
        iterations: conjugate-gradient steps, 5 in the paper.
        gamma: strength of the data; by default infinite for a measurement without noise and 5 for one with (the
            paper's).
    """

    def __init__(
        self, denoiser: Denoiser, measurement: Measurement, iterations: int = 5, gamma: float | None = None
    ) -> None:
        super().__init__(denoiser, measurement)
        require(iterations >= 1, "iterations", iterations, "at least 1")
        require(gamma is None or gamma > 0, "gamma", gamma, "a positive number, inf, or None")
        self.iterations = iterations
        self.gamma = gamma

    def correct(self, mean: Tensor, y: Tensor, level: Level) -> Tensor:
        operator, variance = self.operator, self.measurement.variance
        exact = not isinstance(variance, Tensor) and variance == 0
        gamma = self.gamma if self.gamma is not None else (float("inf") if exact else 5.0)
        weight: float | Tensor = 1.0
        if isinstance(variance, Tensor):
            precision = self._precision(mean)
            assert isinstance(precision, Tensor)
            weight = precision / precision.flatten(1).mean(1).reshape(-1, *[1] * (precision.ndim - 1))
        pull = 0.0 if gamma == float("inf") else 1 / gamma
        return mean + conjugate_gradient(
            lambda x: operator.adjoint(weight * operator(x)) + pull * x,
            operator.adjoint(weight * (y - operator(mean))),
            iterations=self.iterations,
            tolerance=1e-7,
        )
