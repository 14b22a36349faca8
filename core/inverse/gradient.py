r"""Denoisers that condition on a measurement by gradients through another denoiser: PiGDM and MMPS.

By Tweedie's formula, with ``m(x_t) = E[x_0 | x_t]``, ``J = dm / dx_t`` and ``C = Cov[x_0 | x_t] = (sigma^2 / alpha)
J``,

    E[x_0 | x_t, y] = m + (sigma^2 / alpha) grad log p(y | x_t).

Both take ``p(y | x_t)`` to be Gaussian about ``A m`` with covariance ``Q + V``, where ``V`` is that of the noise, and
drop its dependence on ``x_t``:

    E[x_0 | x_t, y] = m + (sigma^2 / alpha) J^T A^T (Q + V)^{-1} (y - A m).

They differ in ``Q``.  Only ``alpha``, ``sigma`` and their ratio enter, so that the answer is the same under every
schedule of equal log-SNR.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ..denoisers import Denoiser, GaussianPosterior, Posterior
from ..schedules import Time, require
from ..sdes import Level
from .measurement import Measurement
from .operators import LinearOperator, SpectralOperator
from .solvers import conjugate_gradient, gmres

__all__ = ["MMPS", "PiGDM"]


def mean_and_pullback(
    ask: Callable[[Tensor, Any], Posterior], x_t: Tensor, t: Time
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """``m(x_t)`` by ``ask(x_t, t).mean``, and the function ``v -> J^T v``, which may be called again and again."""
    with torch.enable_grad():
        x = x_t.detach().requires_grad_()
        mean = ask(x, t).mean

    def pullback(v: Tensor) -> Tensor:
        return torch.autograd.grad(mean, x, v, retain_graph=True)[0]

    return mean.detach(), pullback


class _GradientConditioned(Denoiser):
    """What PiGDM and MMPS share; see the module's text."""

    def __init__(self, denoiser: Denoiser, measurement: Measurement) -> None:
        super().__init__(denoiser.process)
        self.denoiser = denoiser
        self.measurement = measurement
        self.operator: LinearOperator = measurement.linear(type(self).__name__)

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> GaussianPosterior:
        y = self.measurement.like(x_t)
        level = self.process.level(t)
        shaped = level.like(x_t)
        if not isinstance(shaped.alpha, Tensor) and shaped.alpha == 0:
            raise ValueError(
                f"{type(self).__name__} at alpha = 0: a state without signal has no gradient to follow; start the grid "
                "below t = 1 (UniformLogSNR does)"
            )
        mean, pullback = mean_and_pullback(partial(self.denoiser, **condition), x_t, t)
        scale = shaped.sigma**2 / shaped.alpha

        def covariance(v: Tensor) -> Tensor:
            """``C v``."""
            return scale * pullback(v)

        weights = self._weights(y - self.operator(mean), shaped, covariance)
        return GaussianPosterior(x_t, self.process, level, mean + covariance(self.operator.adjoint(weights)))

    def _variance(self, like: Tensor) -> float | Tensor:
        variance = self.measurement.variance
        return variance.to(like) if isinstance(variance, Tensor) else variance

    @abstractmethod
    def _weights(self, residual: Tensor, level: Level, covariance: Callable[[Tensor], Tensor]) -> Tensor:
        """``(Q + V)^{-1} residual``."""


class PiGDM(_GradientConditioned):
    r"""Pseudo-inverse guidance: ``Q = r^2 A A^T``, as if the data had the covariance ``r^2`` given ``x_t``.

    ``r^2 = sigma^2 d^2 / (alpha^2 d^2 + sigma^2)``, the posterior variance of data of standard deviation ``d``.  Song,
    Vahdat, Mardani and Kautz 2023 (Pseudoinverse-guided diffusion models, ICLR), eqs. 7 and 8 and, for ``d``,
    appendix A.3.  Exact for white Gaussian data; biased for correlated data.

    ``Q + V`` is inverted by the operator's decomposition where it has one and the noise is Gaussian, else by
    conjugate gradients.

    Args:
        denoiser: the prior.
        measurement: what was seen, through a linear operator.
        data_std: ``d``.
        iterations: of the conjugate gradients, at most.
    """

    def __init__(
        self, denoiser: Denoiser, measurement: Measurement, data_std: float = 1.0, iterations: int = 50
    ) -> None:
        super().__init__(denoiser, measurement)
        require(data_std > 0, "data_std", data_std, "a positive number")
        require(iterations >= 1, "iterations", iterations, "at least 1")
        self.data_std = data_std
        self.iterations = iterations

    def _weights(self, residual: Tensor, level: Level, covariance: Callable[[Tensor], Tensor]) -> Tensor:
        d2 = self.data_std**2
        spread = level.sigma**2 * d2 / (level.alpha**2 * d2 + level.sigma**2)
        operator, variance = self.operator, self._variance(residual)
        if isinstance(operator, SpectralOperator) and not isinstance(variance, Tensor):
            return spectral_weights(operator, residual, spread, variance)
        return conjugate_gradient(
            lambda u: spread * operator(operator.adjoint(u)) + variance * u,
            residual,
            iterations=self.iterations,
            tolerance=1e-6,
        )


def spectral_weights(operator: SpectralOperator, residual: Tensor, spread: float | Tensor, variance: float) -> Tensor:
    """``(spread A A^T + variance)^{-1} residual`` within the range of ``A``."""
    s = operator.singular_values.to(residual)
    width = spread.flatten(1) if isinstance(spread, Tensor) else spread
    total = width * s**2 + variance
    seen = operator.reliable & (total > 0)
    return operator.u(operator.ut(residual) * torch.where(seen, 1 / torch.where(seen, total, 1.0), 0.0))


class MMPS(_GradientConditioned):
    r"""Moment matching posterior sampling: ``Q = A C A^T`` with the denoiser's own posterior covariance ``C``.

    ``Q + V`` is known by its products, each a Jacobian-vector product of the denoiser, and solved for iteratively.
    Rozet, Andry, Lanusse and Louppe 2024 (arXiv 2405.13712), eqs. 17-20 and algorithm 2.  With a converged solver it is
    exact for Gaussian data, whatever their covariance, so that any sampler converges to the exact posterior.

    An evaluation costs one call of the denoiser and at most ``iterations + 1`` products with its transposed Jacobian,
    each about the cost of a backward pass.

    Args:
        denoiser: the prior.
        measurement: what was seen, through a linear operator.
        iterations: of the solver, at most; the paper finds 1 to 5 enough for pictures.
        solver: "cg" for conjugate gradients, or "gmres", which does not ask that the Jacobian be symmetric; a
            network's is not quite.
        tolerance: stop at a residual of this size relative to ``y - A m``.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        iterations: int = 3,
        solver: Literal["cg", "gmres"] = "gmres",
        tolerance: float = 1e-6,
    ) -> None:
        super().__init__(denoiser, measurement)
        require(iterations >= 1, "iterations", iterations, "at least 1")
        require(solver in ("cg", "gmres"), "solver", solver, "'cg' or 'gmres'")
        require(0 <= tolerance < 1, "tolerance", tolerance, "a number from 0 to 1")
        self.iterations = iterations
        self.solver = solver
        self.tolerance = tolerance

    def _weights(self, residual: Tensor, level: Level, covariance: Callable[[Tensor], Tensor]) -> Tensor:
        operator, variance = self.operator, self._variance(residual)
        solve = conjugate_gradient if self.solver == "cg" else gmres
        return solve(
            lambda u: operator(covariance(operator.adjoint(u))) + variance * u,
            residual,
            iterations=self.iterations,
            tolerance=self.tolerance,
        )
