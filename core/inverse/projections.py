r"""Predictor-corrector sampling with projections onto the measurement: score-MRI and Song's method.

Both alternate the unconditional moves of `PredictorCorrector` with a step that fits the state to ``y`` at the level it
is at.  Neither weighs the measurement by its noise, and neither is exact where what is seen tells of what is not.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..samplers.base import Row, Run
from ..samplers.predictor_corrector import PredictorCorrector
from ..schedules import require
from .measurement import Measurement
from .operators import LinearOperator, SpectralOperator
from .solvers import conjugate_gradient

__all__ = ["MeasuredReplacement", "ScoreMRI", "least_norm", "square_norm"]


def least_norm(operator: LinearOperator, y: Tensor, iterations: int = 50, tolerance: float = 1e-6) -> Tensor:
    """``A^+ y``, the shortest of the ``x`` that fit ``y`` best: by the operator's own pseudo-inverse, or else by
    conjugate gradients on ``A^T A x = A^T y`` from zero, which stay in the range of ``A^T``.

    Stopped early, what only small singular values determine is left out.

    Args:
        operator: a linear operator.
        y: ``(B, *measured)``.
        iterations, tolerance: of the conjugate gradients.
    """
    try:
        return operator.pseudo_inverse(y)
    except NotImplementedError:
        return conjugate_gradient(
            lambda x: operator.adjoint(operator(x)), operator.adjoint(y), iterations=iterations, tolerance=tolerance
        )


def square_norm(operator: LinearOperator, iterations: int = 30) -> float:
    """``|A|^2``, the largest eigenvalue of ``A^T A``; by the power method where no decomposition is known.

    Args:
        operator: a linear operator.
        iterations: of the power method, which comes from below.
    """
    if isinstance(operator, SpectralOperator):
        return float(operator.singular_values.max()) ** 2
    weight = next((b for b in operator.buffers() if b.is_floating_point() or b.is_complex()), torch.zeros(()))
    x = torch.randn(1, *operator.shape, generator=torch.Generator().manual_seed(0)).to(weight.device)
    value = 0.0
    for _ in range(iterations):
        x = operator.adjoint(operator(x / x.norm()))
        value = float(x.norm())
    return value


@dataclass(frozen=True)
class ScoreMRI(PredictorCorrector):
    r"""Score-MRI: after each prediction and each correction, a gradient step towards the measurement.

        x <- x + weight A^T (alpha y - A x) / |A|^2

    Chung and Ye 2022 (arXiv 2110.05243), algorithms 1 to 3; the paper's operators have ``|A| = 1`` and its schedule
    ``alpha = 1``.  ``weight = 1`` on a mask of coordinates puts the measured values in.  The measurement is taken as
    exact and is not noised as the state is.

    Args:
        measurement: what was seen, through a linear operator.
        weight: of the step, above 0 and below 2 so that steps converge; 1 in the paper.
        predictor, corrections, r, rule: as in `PredictorCorrector`.
    """

    measurement: Measurement = field(kw_only=True)
    weight: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)
        require(0 < self.weight < 2, "weight", self.weight, "above 0 and below 2")

    @cached_property
    def square(self) -> float:
        """``|A|^2``."""
        return square_norm(self.measurement.linear("ScoreMRI"))

    def _settle(self, x: Tensor, alpha: float | Tensor) -> Tensor:
        operator, y = self.measurement.linear("ScoreMRI"), self.measurement.like(x)
        return x + self.weight / self.square * operator.adjoint(alpha * y - operator(x))


@dataclass(frozen=True)
class MeasuredReplacement(PredictorCorrector):
    r"""Song's method for medical pictures: before each step, the measured part of the state is drawn towards that of a
    noised measurement.

        y_t = alpha y + sigma A z,    x_t <- x_t + weight A^+ (y_t - A x_t)

    Song, Shen, Xing and Ermon 2022 (arXiv 2111.08005), section 3 and algorithm 2, whose ``A = P(Lambda) T`` with an
    invertible ``T`` has ``A^+ A = T^-1 Lambda T``.  ``weight = 0`` is unconditional; ``weight = 1`` is replacement, for
    a measurement without noise.

    Args:
        measurement: what was seen, through a linear operator.
        weight: ``lambda`` of the paper, 0 to 1; less for noisier measurements.
        iterations: of the conjugate gradients for an operator that knows no pseudo-inverse.
        predictor, corrections, r, rule: as in `PredictorCorrector`.
    """

    measurement: Measurement = field(kw_only=True)
    weight: float = field(default=1.0, kw_only=True)
    iterations: int = field(default=10, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)
        require(0 <= self.weight <= 1, "weight", self.weight, "a number from 0 to 1")
        require(self.iterations >= 1, "iterations", self.iterations, "at least 1")

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        operator, y = self.measurement.linear("MeasuredReplacement"), self.measurement.like(x)
        level = run.denoiser.process.level(t)
        noised = level.alpha * y + level.sigma * operator(run.noise.draw(x))
        x = x + self.weight * least_norm(operator, noised - operator(x), self.iterations)
        return super().advance(run, x, t, s, row)


def _check(sampler: ScoreMRI | MeasuredReplacement) -> None:
    if not isinstance(sampler.measurement, Measurement):
        raise TypeError(f"measurement={sampler.measurement!r}: expected a Measurement(y, operator, noise)")
    sampler.measurement.linear(type(sampler).__name__)
