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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..denoisers import GaussianPosterior
from ..samplers.base import Row, Run, Sampler, _progress
from ..schedules import require
from ..sdes import SDE, posterior_coefficients
from .gradient import mean_and_pullback
from .measurement import GaussianNoise, Measurement
from .operators import SpectralOperator

__all__ = ["TDS"]


@dataclass
class _Shared:
    """What all particles share at one time: the inverse of the twist's covariance, and ``C`` and ``C'`` ``(D, D)``
    where the steps are matched to them.
    """

    inverse: Callable[[Tensor], Tensor]
    prior: Tensor | None = None
    conditioned: Tensor | None = None


@dataclass
class _Particles:
    """All particles at one time: states, the prior's means there, the guided means, and ``log q(y | x)`` ``(K,)``."""

    x: Tensor
    mean: Tensor
    guided: Tensor
    twist: Tensor
    shared: _Shared | None = None

    def chosen(self, index: Tensor) -> "_Particles":
        return _Particles(self.x[index], self.mean[index], self.guided[index], self.twist[index], self.shared)


@dataclass(frozen=True)
class TDS(Sampler):
    r"""Twisted sequential Monte Carlo over ancestral steps; see the module's text.

    The batch is the population: ``sample(denoiser, (K, *shape), ...)`` draws ``K`` samples of the posterior of one
    measurement.  They interact, so that a sample depends on ``K`` and on all of their noise, not on its number alone.
    A run must end in clean data, as the default grid's does.  Conditions are the same for all particles.

    The twisting functions are Gaussian about ``A m(x_t)``:

    * "likelihood", ``p(y | x_0 = m)``, the paper's (eq. 8), for any operator and noise;
    * "isotropic", covariance ``V + r^2 A A^T`` with ``r^2 = sigma^2 / (alpha^2 + sigma^2)``, `PiGDM`'s;
    * "covariance", ``V + A C A^T`` with the denoiser's posterior covariance ``C`` at the mean of the particles, which
      one more evaluation a step and ``D = prod(shape)`` Jacobian products give; for states of up to a few thousand
      numbers.

    Prior steps are DDPM's, ``N(a x_t + b m, g^2)``, whose mean is exact and whose variance is that of certain data.
    With the covariance at hand they are matched to it, ``N(a x_t + b m, g^2 + b^2 C)``, and proposals to the
    covariance ``C'`` given ``y`` as well.  Then, for Gaussian data, all weights are equal and any number of steps is
    exact.  Elsewhere ``C`` is cut to at most ``(sigma / alpha)^2``, its bound for log-concave data.

    Args:
        measurement: one measurement, ``y`` of shape ``(1, *measured)``, with noise.
        twist: "covariance", "isotropic" or "likelihood"; the first two ask for a linear operator.
        threshold: draw anew when the effective number of particles falls below this part of ``K``.
    """

    measurement: Measurement = field(kw_only=True)
    twist: Literal["likelihood", "isotropic", "covariance"] = field(default="covariance", kw_only=True)
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
            raise ValueError(
                "a measurement without noise: TDS weighs particles by its likelihood; give the noise's std"
            )
        require(self.twist in ("likelihood", "isotropic", "covariance"), "twist", self.twist, "one of the three")
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
        """Columns: factors of ``x_t`` and ``m``, and the standard deviation."""
        return torch.stack(posterior_coefficients(process.schedule, times[:-1], times[1:]), 1)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        raise NotImplementedError("TDS has no step of its own: particles carry weights from step to step; use sample")

    def walk(self, run: Run, x: Tensor, clock: Sequence[float], rows: Sequence[Row]) -> Tensor:
        here = self._at(run, x, clock[0], torch.zeros(len(x), dtype=x.dtype, device=x.device))
        log_weights = here.twist
        for i in _progress(range(len(rows)), run.progress):
            t, s = clock[i], clock[i + 1]
            x, gain = _propose(run, here, t, s, rows[i])
            arrived = self._at(run, x, s, log_weights + gain)
            log_weights = log_weights + gain + arrived.twist - here.twist
            if i + 1 == len(rows) or _effective(log_weights) < self.threshold * len(x):
                index = _systematic(log_weights, run.noise.draw(x.flatten(1)[:, :1]))
                here, arrived = here.chosen(index), arrived.chosen(index)
                log_weights = torch.zeros_like(log_weights)
            run.latest = GaussianPosterior(here.x, run.denoiser.process, run.denoiser.process.level(t), here.mean)
            here = arrived
            run.finish(i, len(rows), t, s, here.x)
        return here.x

    def _at(self, run: Run, x: Tensor, t: float, log_weights: Tensor) -> _Particles:
        """The particles at states ``x``: means, guided means and twists."""
        measurement, level = self.measurement, run.denoiser.process.level(t)
        y = measurement.like(x)
        if level.sigma == 0:
            return _Particles(x, x, x, measurement.noise.log_likelihood(y, measurement.operator(x)))
        if level.alpha == 0:
            raise ValueError("TDS at alpha = 0: start the grid below t = 1 (UniformLogSNR does)")
        mean, pullback = mean_and_pullback(run.posterior, x, t)
        shared = None if self.twist == "likelihood" else self._shared(run, x, t, log_weights)
        if shared is None:
            twist, slope = _likelihood(measurement, y, mean)
        else:
            residual = y - measurement.operator(mean)
            weights = shared.inverse(residual)
            twist = -0.5 * (residual * weights).flatten(1).sum(1)
            slope = measurement.linear("TDS").adjoint(weights)
        guided = mean + (level.sigma**2 / level.alpha) * pullback(slope)
        return _Particles(x, mean, guided, twist, shared)

    def _shared(self, run: Run, x: Tensor, t: float, log_weights: Tensor) -> _Shared:
        measurement, level = self.measurement, run.denoiser.process.level(t)
        if self.twist == "isotropic":
            spread = float(level.sigma**2 / (level.alpha**2 + level.sigma**2))
            return _Shared(_isotropic(measurement.spectral("TDS"), spread, measurement.std("TDS") ** 2))
        operator = measurement.linear("TDS")
        weights = log_weights.softmax(0).reshape(-1, *[1] * (x.ndim - 1))
        c = _covariance(run, (weights * x).sum(0, keepdim=True), t)
        ca = operator(c.unflatten(1, operator.shape)).flatten(1)
        total = operator(ca.T.unflatten(1, operator.shape)).flatten(1)
        variance = measurement.variance
        noise = (
            variance.flatten().to(total) if isinstance(variance, Tensor) else total.new_full((len(total),), variance)
        )
        factor = torch.linalg.cholesky(0.5 * (total + total.T) + noise.diag())
        root = torch.linalg.solve_triangular(factor, ca.T, upper=False)

        def inverse(residual: Tensor) -> Tensor:
            flat = residual.flatten(1)
            return torch.cholesky_solve(flat.T, factor.to(flat)).T.reshape(residual.shape)

        return _Shared(inverse, c, c - root.T @ root)


def _propose(run: Run, here: _Particles, t: float, s: float, row: Row) -> tuple[Tensor, Tensor]:
    """New states, and ``log p(x_s | x_t) - log p'(x_s | x_t)`` up to a constant, ``(K,)``."""
    a, b, g = row
    prior, proposal = a * here.x + b * here.mean, a * here.x + b * here.guided
    if g == 0:  # the prior's step is certain, and so must be the proposal's
        return prior, prior.new_zeros(len(prior))
    z = run.noise.step(here.x, t, s)
    shared = here.shared
    if shared is None or shared.prior is None or shared.conditioned is None:
        offset = (proposal - prior) / g
        return proposal + g * z, -(offset * z + 0.5 * offset**2).flatten(1).sum(1)
    eye = torch.eye(len(shared.prior), dtype=torch.float64, device=z.device)
    wide, narrow = (torch.linalg.cholesky(g**2 * eye + b**2 * c) for c in (shared.prior, shared.conditioned))
    x = proposal + (z.flatten(1) @ narrow.to(z).T).reshape(z.shape)
    scaled = torch.linalg.solve_triangular(wide.to(z), (x - prior).flatten(1).T, upper=False)
    return x, 0.5 * (z.flatten(1) ** 2).sum(1) - 0.5 * (scaled**2).sum(0)


def _covariance(run: Run, centre: Tensor, t: float) -> Tensor:
    """``C`` ``(D, D)`` at the state ``centre`` ``(1, *shape)``, float64, with eigenvalues from 0 to ``(sigma /
    alpha)^2``: a network's Jacobian is neither quite symmetric nor quite within them.
    """
    level = run.denoiser.process.level(t)
    count = centre.numel()
    many = centre.expand(count, *centre.shape[1:])
    condition = {name: v[:1].expand(count, *v.shape[1:]) for name, v in run.condition.items()}
    _, pullback = mean_and_pullback(lambda x, t: run.denoiser(x, t, **condition), many, t)
    units = torch.eye(count, dtype=centre.dtype, device=centre.device).reshape(many.shape)
    c = (level.sigma**2 / level.alpha) * pullback(units).flatten(1).double()
    values, vectors = torch.linalg.eigh(0.5 * (c + c.T))
    return (vectors * values.clamp(0, (level.sigma / level.alpha) ** 2)) @ vectors.T


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
        return residual / variance + operator.u(operator.ut(residual) * (1 / (spread * s2 + variance) - 1 / variance))

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
