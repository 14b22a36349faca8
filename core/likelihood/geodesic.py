r"""Exact log-density on manifolds by the probability-flow ODE.

In the arc ``tau`` of the heat kernel (`RadialKernel`) the ODE is ``dx / dtau = -pace score``, regular from data to
noise, and the change-of-variables formula along it is that of flat space with the manifold's divergence,

    log p(x_0) = log p(x_T) - int pace div(score) dtau,        p(x_T) uniform

(Chen et al. 2018, 1806.07366; De Bortoli et al. 2022, 2202.02763, section 3).  It is solved in the space
around the manifold with the field of the nearest point, which is tangent, so that the solution stays on the manifold
but for the solver's error.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..manifolds import Manifold, RiemannianProcess
from ..manifolds.divergence import divergence
from ..manifolds.masks import blanked, total
from ..noise import NoiseSource
from ..schedules import require
from .events import stream_of
from .ode import ODELogProb, integrate

__all__ = ["GeodesicLikelihood"]


@dataclass(frozen=True)
class GeodesicLikelihood:
    """Log-density of points on a manifold by the probability-flow ODE, solved by Dormand-Prince's method with error
    control as in `ODELikelihood`.  Everything but the denoiser runs in float64.

    Densities are with respect to the Riemannian volume: of the uniform distribution ``-log_volume`` a point.

    Args:
        rtol, atol: tolerances on the state and on the log-density.
        trace: "exact", at the cost of one backward pass for each dimension of a sample, or "hutchinson" for estimates
            by random tangent vectors.
        probes: how many, each one backward pass an evaluation.
        high: log-SNR at which the ODE starts, cut to what the schedule covers; the noise there is ``e^(-high / 2)``
            radians.  Lower it where a network was not trained that far, as ``truncation`` allows.

    Example:
        >>> import torch
        >>> from ornstein.core import VESchedule
        >>> from ornstein.core.manifolds import HeatMixtureDenoiser, RiemannianProcess, Torus
        >>> process = RiemannianProcess(Torus(1), VESchedule(1e-4, 5.0))
        >>> exact = HeatMixtureDenoiser(process, [1.0], torch.zeros(1, 1), [0.5])
        >>> x = torch.tensor([[0.3]], dtype=torch.float64)
        >>> found = GeodesicLikelihood(1e-6, 1e-6).evaluate(exact, x)
        >>> abs(float(found.log_prob - exact.log_prob(x))) < 1e-4
        True
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    trace: Literal["exact", "hutchinson"] = field(default="exact", kw_only=True)
    probes: int = field(default=4, kw_only=True)
    high: float = field(default=20.0, kw_only=True)

    def __post_init__(self) -> None:
        require(0 < self.rtol < 1, "rtol", self.rtol, "a number between 0 and 1")
        require(0 < self.atol < math.inf, "atol", self.atol, "a positive number")
        require(self.trace in ("exact", "hutchinson"), "trace", self.trace, "'exact' or 'hutchinson'")
        require(self.probes >= 1, "probes", self.probes, "at least 1")
        require(self.high < math.inf, "high", self.high, "a finite log-SNR")

    def evaluate(
        self,
        denoiser: Denoiser[RiemannianProcess],
        x0: Tensor,
        *,
        seed: int | None = None,
        noise: NoiseSource | None = None,
        first: int = 0,
        mask: Tensor | None = None,
        condition: Mapping[str, Any] | None = None,
    ) -> ODELogProb:
        """Log-density of each sample of ``x0``; the result's ``prior_kl`` is ``KL(q(x_T | x_0) || uniform)``.

        Args:
            denoiser: differentiable, on a `RiemannianProcess`; no sample's answer may depend on the others.
            x0: points ``(B, *N, *point)``, float32 or float64; the denoiser is asked in this dtype.
            seed: makes the probes of sample ``i`` a function of ``(seed, first + i)`` alone.
            noise: where probes are drawn from; torch's global generator by default.
            first: number of the first sample, for runs in parts.
            mask: ``(B, *N)`` or fewer axes, True where a point is real; the rest has no density.
            condition: tensors for the denoiser, by name.

        Raises:
            TypeError: for a denoiser on another process.
            ValueError: for points off the manifold, masks of another shape, or a ``high`` that leaves nothing to solve.
        """
        process = denoiser.process
        if not isinstance(process, RiemannianProcess):
            raise TypeError(
                f"denoiser on {process!r}: expected one on a RiemannianProcess; for others see ODELikelihood"
            )
        manifold, kernel = process.manifold, process.manifold.kernel
        manifold.check(x0, "x0", mask)
        x = blanked(x0.double(), mask)
        conditions = dict(condition or {}) | ({} if mask is None else {"mask": mask})
        flow = _Flow(denoiser, conditions, x0.dtype, mask, self._probes(x, seed, noise, first))
        start, end = self._variances(process)
        score, slope = flow.score(start, x)
        truncation = 0.5 * start * (total(manifold.inner(score, score), mask) + slope.mean(1))
        first_arc, last_arc = kernel.arc(torch.tensor([start, end], dtype=torch.float64)).tolist()
        last, integral = integrate(flow.derivative, x, slope.shape[1], first_arc, last_arc, self.rtol, self.atol)
        latent = blanked(manifold.project(last), mask)
        points = total(torch.ones_like(manifold.distance(x, x)), mask)
        each = integral - (manifold.log_volume * points)[:, None]
        error = torch.full_like(points, 0.0 if self.trace == "exact" else math.nan)
        if each.shape[1] > 1:
            error = each.std(1) / each.shape[1] ** 0.5
        prior_kl = points * kernel.divergence_from_uniform(end)
        result = (each.mean(1), error, latent, prior_kl, truncation)
        log_prob, error, latent, prior_kl, truncation = (v.to(x0.dtype) for v in result)
        return ODELogProb(log_prob, error, flow.calls, latent, prior_kl, truncation)

    def _variances(self, process: RiemannianProcess) -> tuple[float, float]:
        """First and last variance: `high` and the schedule's end, or where e^-32 of the squared score is left."""
        start = max(math.exp(-self.high), float(process.variance(0.0)))
        end = min(float(process.variance(1.0)), 32 / process.manifold.kernel.gap)
        require(start < end, "high", self.high, f"a log-SNR above {-math.log(end):.4g}, where the data are forgotten")
        return start, end

    def _probes(self, x: Tensor, seed: int | None, noise: NoiseSource | None, first: int) -> list[Tensor] | None:
        if self.trace == "exact":
            return None
        stream = stream_of(seed, noise, len(x), first)
        return [torch.where(stream.draw(x) < 0, -1.0, 1.0).to(x) for _ in range(self.probes)]


@dataclass
class _Flow:
    """The right-hand side of the ODE and of its log-density, and how often it was asked."""

    denoiser: Denoiser[RiemannianProcess]
    condition: dict[str, Any]
    dtype: torch.dtype
    mask: Tensor | None
    probes: list[Tensor] | None
    calls: int = 0

    @property
    def manifold(self) -> Manifold:
        return self.denoiser.process.manifold

    def derivative(self, arc: float, z: Tensor) -> tuple[Tensor, Tensor]:
        """``dx / dtau`` and its divergence at the point nearest to ``z``."""
        kernel = self.manifold.kernel
        s = kernel.variance_at(torch.tensor(arc, dtype=torch.float64))
        score, slope = self.score(float(s), blanked(self.manifold.project(z), self.mask))
        pace = float(kernel.pace(s))
        return -pace * score, -pace * slope

    def score(self, s: float, x: Tensor) -> tuple[Tensor, Tensor]:
        """The score at the variance ``s`` and its divergence, ``(B, probes)`` or ``(B, 1)``, float64."""
        manifold = self.manifold
        t = float(self.denoiser.process.schedule.time(-math.log(s)))
        self.calls += 1
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            score = self.denoiser(x.to(self.dtype), min(max(t, 0.0), 1.0), **self.condition).score
            probes = [None] if self.probes is None else [manifold.white(x.detach(), e) for e in self.probes]
            slopes = [divergence(manifold, score, x, self.mask, e) for e in probes]
        return blanked(score.detach().double(), self.mask), torch.stack(slopes, 1)
