r"""TDS, the twisted diffusion sampler: particles that are exact in the limit of many.

Run ``K`` particles through the reverse process of the prior, pulled towards the measurement by a twisted score, and
weigh them so that the pull is corrected for.  With a twisting function ``q(y | x_t)``, proposal ``p'`` and prior step
``p``, a particle's weight is multiplied by

    p(x_s | x_t) q(y | x_s) / (p'(x_s | x_t) q(y | x_t)),

and particles are drawn anew by weight when few carry most of it.  At the data ``q`` is the likelihood itself; so the
weighted particles converge to the posterior of the discretised prior as ``K`` grows, whatever ``q`` was before.  A
good ``q`` decides how many are needed.  Wu, Trippe, Naesseth, Blei and Cunningham 2023 (arXiv 2306.17775), eqs. 8-12
and algorithm 1.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..denoisers import GaussianPosterior
from ..samplers.base import Row, Run, Sampler, _progress
from ..samplers.dpm_solver import DPMSolver
from ..schedules import require
from ..sdes import SDE
from .gradient import mean_and_pullback
from .measurement import GaussianNoise, Measurement
from .operators import SpectralOperator

__all__ = ["TDS"]


@dataclass
class _Particles:
    """All particles at one time: states, the prior's means there, the guided means, and ``log q(y | x)`` ``(K,)``."""

    x: Tensor
    mean: Tensor
    guided: Tensor
    twist: Tensor

    def chosen(self, index: Tensor) -> "_Particles":
        return _Particles(self.x[index], self.mean[index], self.guided[index], self.twist[index])


@dataclass(frozen=True)
class TDS(Sampler):
    r"""Twisted sequential Monte Carlo over the reverse SDE; see the module's text.

    The batch is the population: ``sample(denoiser, (K, *shape), ...)`` draws ``K`` samples of the posterior of one
    measurement.  They interact, so that a sample depends on ``K`` and on all of their noise, not on its number alone.
    A run must end in clean data, as the default grid's does.  Conditions are the same for all particles.

    The prior steps are those of `DPMSolver` with ``eta = 1``: order 1 is the paper's ancestral sampling; order 2
    needs about a tenth of the steps for the same error of the discretised prior.

    The twisting functions are Gaussian about ``A m(x_t)``:

    * "likelihood", ``p(y | x_0 = m)``, the paper's (eq. 8), for any operator and noise;
    * "isotropic", covariance ``V + r^2 A A^T`` with ``r^2 = sigma^2 / (alpha^2 + sigma^2)``, `PiGDM`'s;
    * "covariance", ``V + A C A^T`` with the denoiser's posterior covariance ``C`` at the mean of the particles, from
      one more evaluation a step and as many Jacobian products as there are measurements: the optimal one for Gaussian
      data.

    Args:
        measurement: one measurement, ``y`` of shape ``(1, *measured)``, with noise.
        twist: "covariance", "isotropic" or "likelihood"; the first two ask for a linear operator.
        order: of the prior steps, 1 or 2.
        threshold: draw anew when the effective number of particles falls below this part of ``K``.
    """

    steps: int = 100
    measurement: Measurement = field(kw_only=True)
    twist: Literal["likelihood", "isotropic", "covariance"] = field(default="covariance", kw_only=True)
    order: int = field(default=2, kw_only=True)  # type: ignore[misc]
    threshold: float = field(default=0.5, kw_only=True)

    needs_gradient = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.measurement, Measurement):
            raise TypeError(f"measurement={self.measurement!r}: expected a Measurement(y, operator, noise)")
        if len(self.measurement.y) != 1:
            raise ValueError(f"y of {len(self.measurement.y)} measurements: TDS samples the posterior of one")
        noise = self.measurement.noise
        if isinstance(noise, GaussianNoise) and noise.std == 0:
            raise ValueError("a measurement without noise: TDS weighs particles by its likelihood; give the noise's std")
        require(self.twist in ("likelihood", "isotropic", "covariance"), "twist", self.twist, "one of the three")
        require(self.order in (1, 2), "order", self.order, "1 or 2")
        require(0 <= self.threshold <= 1, "threshold", self.threshold, "a number from 0 to 1")
        if self.twist == "isotropic":
            self.measurement.spectral("TDS with an isotropic twist")
            self.measurement.std("TDS with an isotropic twist")
        elif self.twist == "covariance":
            self.measurement.linear("TDS with a covariance twist")

    @property
    def stochastic(self) -> bool:
        return True

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        steps = self.steps if steps is None else steps
        return steps * (2 if self.twist == "covariance" else 1) + self.denoise

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """`DPMSolver`'s columns: ``a``, the weights of ``order`` means, ``g``."""
        return DPMSolver(self.steps, order=self.order, eta=1.0).plan(process, times)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        raise NotImplementedError("TDS has no step of its own: particles carry weights from step to step; use sample")

    def walk(self, run: Run, x: Tensor, clock: Sequence[float], rows: Sequence[Row]) -> Tensor:
        here = self._at(run, x, clock[0], torch.zeros(len(x), dtype=x.dtype, device=x.device))
        log_weights, older = here.twist, None
        for i in _progress(range(len(rows)), run.progress):
            t, s, row = clock[i], clock[i + 1], rows[i]
            x, gain = self._propose(run, here, older, t, s, row)
            arrived = self._at(run, x, s, log_weights)
            log_weights = log_weights + gain + arrived.twist - here.twist
            here, older = arrived, here
            last = i + 1 == len(rows)
            if last or _effective(log_weights) < self.threshold * len(x):
                index = _systematic(log_weights, run.noise.draw(x.flatten(1)[:, :1]))
                here, older = here.chosen(index), older.chosen(index)
                log_weights = torch.zeros_like(log_weights)
            run.latest = GaussianPosterior(older.x, run.denoiser.process, run.denoiser.process.level(t), older.mean)
            run.finish(i, len(rows), t, s, here.x)
        return here.x

    def _propose(
        self, run: Run, here: _Particles, older: _Particles | None, t: float, s: float, row: Row
    ) -> tuple[Tensor, Tensor]:
        """New states, and ``log p(x_s | x_t) - log p'(x_s | x_t)`` ``(K,)``."""
        a, b, *rest, g = row
        prior, proposal = a * here.x + b * here.mean, a * here.x + b * here.guided
        if rest and older is not None:
            prior, proposal = prior + rest[0] * older.mean, proposal + rest[0] * older.guided
        if g == 0:  # the prior's step is certain, and so must be the proposal's
            return prior, prior.new_zeros(len(prior))
        z = run.noise.step(here.x, t, s)
        offset = (proposal - prior) / g
        gain = -(offset * z + 0.5 * offset**2).flatten(1).sum(1)
        return proposal + g * z, gain

    def _at(self, run: Run, x: Tensor, t: float, log_weights: Tensor) -> _Particles:
        """The particles at states ``x``: means, guided means and twists."""
        measurement, level = self.measurement, run.denoiser.process.level(t)
        y = measurement.like(x)
        if level.sigma == 0:
            return _Particles(x, x, x, measurement.noise.log_likelihood(y, measurement.operator(x)))
        if level.alpha == 0:
            raise ValueError("TDS at alpha = 0: start the grid below t = 1 (UniformLogSNR does)")
        mean, pullback = mean_and_pullback(run.posterior, x, t)
        if self.twist == "likelihood":
            twist, slope = _likelihood(measurement, y, mean)
        else:
            residual = y - measurement.operator(mean)
            weights = self._weights(run, x, t, log_weights)(residual)
            twist = -0.5 * (residual * weights).flatten(1).sum(1)
            slope = measurement.linear("TDS").adjoint(weights)
        guided = mean + (level.sigma**2 / level.alpha) * pullback(slope)
        return _Particles(x, mean, guided, twist)

    def _weights(self, run: Run, x: Tensor, t: float, log_weights: Tensor) -> Callable[[Tensor], Tensor]:
        """The inverse of the twist's covariance, as a function of residuals."""
        measurement, level = self.measurement, run.denoiser.process.level(t)
        if self.twist == "isotropic":
            spread = level.sigma**2 / (level.alpha**2 + level.sigma**2)
            return _isotropic(measurement.spectral("TDS"), spread, measurement.std("TDS") ** 2)
        centre = (log_weights.softmax(0).reshape(-1, *[1] * (x.ndim - 1)) * x).sum(0, keepdim=True)
        return _inverse(self._covariance(run, centre, t))

    def _covariance(self, run: Run, centre: Tensor, t: float) -> Tensor:
        """``V + A C A^T`` ``(M, M)`` at the state ``centre`` ``(1, *shape)``."""
        measurement, level = self.measurement, run.denoiser.process.level(t)
        operator = measurement.linear("TDS")
        count = math.prod(operator.measured)
        units = torch.eye(count, dtype=centre.dtype, device=centre.device).unflatten(1, operator.measured)
        condition = {name: v[:1].expand(count, *v.shape[1:]) for name, v in run.condition.items()}
        many = centre.expand(count, *centre.shape[1:])
        _, pullback = mean_and_pullback(lambda x, t: run.denoiser(x, t, **condition), many, t)
        inner = operator((level.sigma**2 / level.alpha) * pullback(operator.adjoint(units))).flatten(1)
        # A network's Jacobian is neither quite symmetric nor quite positive.
        values, vectors = torch.linalg.eigh(0.5 * (inner + inner.T))
        variance = measurement.variance
        noise = variance.to(centre).flatten() if isinstance(variance, Tensor) else centre.new_full((count,), variance)
        return (vectors * values.clamp(min=0)) @ vectors.T + noise.diag()


def _likelihood(measurement: Measurement, y: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """``log p(y | x_0 = m)`` ``(K,)`` and its gradient with respect to ``m``."""
    with torch.enable_grad():
        leaf = mean.detach().requires_grad_()
        value = measurement.noise.log_likelihood(y, measurement.operator(leaf))
        slope = torch.autograd.grad(value.sum(), leaf)[0]
    return value.detach(), slope


def _isotropic(operator: SpectralOperator, spread: float, variance: float) -> Callable[[Tensor], Tensor]:
    """The inverse of ``spread A A^T + variance``, outside of the range of ``A`` as well."""

    def weights(residual: Tensor) -> Tensor:
        s2 = operator.singular_values.to(residual) ** 2
        return residual / variance + operator.u(
            operator.ut(residual) * (1 / (spread * s2 + variance) - 1 / variance)
        )

    return weights


def _inverse(covariance: Tensor) -> Callable[[Tensor], Tensor]:
    factor = torch.linalg.cholesky(covariance)

    def weights(residual: Tensor) -> Tensor:
        return torch.cholesky_solve(residual.flatten(1).T, factor).T.reshape(residual.shape)

    return weights


def _effective(log_weights: Tensor) -> float:
    """``(sum w)^2 / sum w^2``, the number of particles that would be as good without weights."""
    return float((2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp())


def _systematic(log_weights: Tensor, normal: Tensor) -> Tensor:
    """Numbers of the particles drawn by weight, ``(K,)``, at even distances from one uniform start.

    The start is the distribution function of the first of the normal draws, so that the run's noise decides.
    """
    count = len(log_weights)
    start = torch.special.ndtr(normal.flatten()[:1].double())
    heights = log_weights.double().softmax(0).cumsum(0)
    places = (torch.arange(count, dtype=torch.float64, device=heights.device) + start) / count
    return torch.searchsorted(heights / heights[-1], places).clamp(max=count - 1)
