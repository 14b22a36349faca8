r"""Exact log-density by the probability-flow ODE.

The ODE carries data to noise without loss, so the change-of-variables formula along it gives the density of a data
point (Chen et al. 2018, 1806.07366; Song et al. 2021, 2011.13456, eqs. 39-40).  It is solved in the state ``z = x_t /
sqrt(alpha^2 + sigma^2)`` and the angle ``phi = atan(sigma / alpha)``, that is ``log_snr = -2 log tan phi``, where

    dz / dphi = v(z, phi) = cos(phi) eps - sin(phi) mean,
    log p(z_0) = log p(z_T) + int div v dphi.

Both are regular at both ends, clean data and pure noise, and the same under every schedule: the data enter as ``z_0 =
cos(phi_0) x_0``, and schedules differ by nothing but where they end.  The divergence is exact (one backward pass a
coordinate) or Hutchinson's estimate ``e . (dv/dz) e`` with ``E[e e^T] = I``, which is unbiased (Grathwohl et al. 2019,
1810.01367).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..closed_form import ClosedFormDenoiser
from ..denoisers import Denoiser
from ..noise import NoiseSource
from ..objectives import check_data
from ..schedules import require, wide
from ..sdes import SDE
from .events import event_sum, keep_of, stream_of

__all__ = ["ODELikelihood", "ODELogProb", "RoundTrip", "integrate"]


@dataclass(frozen=True)
class ODELogProb:
    """What `ODELikelihood` finds; all in nats, shape ``(B,)`` where not said otherwise.

    Args:
        log_prob: log-density of the data, smoothed with noise of ratio ``sigma / alpha`` at the start.
        standard_error: of Hutchinson's estimate, from the spread over probes; NaN with one probe, 0 for the exact
            trace.
        nfe: evaluations of the denoiser, each with its backward passes (an int).
        latent: state at the end of the ODE, ``(B, *event)``, in the process's scale.
        prior_kl: ``KL(q(x_T | x_0) || N(0, sigma_T^2)) = alpha_T^2 |x_0|^2 / (2 sigma_T^2)``, whose mean bounds what
            the data still differ from the prior by (convexity of KL); 0 for ``prior="exact"``.
        truncation: first-order estimate of ``log_prob - log p(x_0)``, the effect of starting at a little noise:
            ``r^2 (div score + |score|^2) / 2`` with ``r = sigma / alpha`` there (the heat equation).
    """

    log_prob: Tensor
    standard_error: Tensor
    nfe: int
    latent: Tensor
    prior_kl: Tensor
    truncation: Tensor


@dataclass(frozen=True)
class RoundTrip:
    """How far a data point lies from itself after the ODE forward and backward.

    Args:
        state: largest difference of a coordinate, ``(B,)``.
        log_prob: difference of the two integrals of the divergence, nats, ``(B,)``.
        nfe: evaluations of the denoiser.
    """

    state: Tensor
    log_prob: Tensor
    nfe: int


@dataclass(frozen=True)
class ODELikelihood:
    """Log-density of data by the probability-flow ODE, solved by Dormand-Prince's method with error control.

    The error of each sample is held to the tolerances by itself, but steps are shared: a sample's result depends on
    its batch within the tolerances.  Everything but the denoiser runs in float64.

    Args:
        rtol, atol: tolerances on the state and on the log-density.
        trace: "exact", or "hutchinson" for estimates by random probes.
        probes: how many, each one backward pass an evaluation.
        probe: distribution of the probes: "rademacher" (smaller variance) or "gaussian".
        prior: density at the end: "normal" for the process's prior, "exact" for the marginal of a closed-form
            denoiser.
        low: log-SNR at which the ODE ends; cut to what the schedule covers.
        high: log-SNR at which it starts; at 20 the noise is 4.5e-5.  Lower it where a network was not trained that
            far, as ``truncation`` allows.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, CosineSchedule, GaussianDenoiser
        >>> exact = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2))
        >>> found = ODELikelihood(trace="exact").evaluate(exact, torch.zeros(1, 2, dtype=torch.float64))
        >>> abs(float(found.log_prob) + 1.8378770664) < 1e-4
        True
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    trace: Literal["exact", "hutchinson"] = field(default="hutchinson", kw_only=True)
    probes: int = field(default=4, kw_only=True)
    probe: Literal["rademacher", "gaussian"] = field(default="rademacher", kw_only=True)
    prior: Literal["normal", "exact"] = field(default="normal", kw_only=True)
    low: float = field(default=-20.0, kw_only=True)
    high: float = field(default=20.0, kw_only=True)

    def __post_init__(self) -> None:
        require(0 < self.rtol < 1, "rtol", self.rtol, "a number between 0 and 1")
        require(0 < self.atol < math.inf, "atol", self.atol, "a positive number")
        require(self.trace in ("exact", "hutchinson"), "trace", self.trace, "'exact' or 'hutchinson'")
        require(self.probes >= 1, "probes", self.probes, "at least 1")
        require(self.probe in ("rademacher", "gaussian"), "probe", self.probe, "'rademacher' or 'gaussian'")
        require(self.prior in ("normal", "exact"), "prior", self.prior, "'normal' or 'exact'")
        require(self.low < self.high < math.inf, "high", self.high, f"a finite log-SNR above low={self.low}")

    def evaluate(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        *,
        seed: int | None = None,
        noise: NoiseSource | None = None,
        first: int = 0,
        mask: Tensor | None = None,
        condition: Mapping[str, Any] | None = None,
    ) -> ODELogProb:
        """Log-density of each sample of ``x0``.

        Args:
            denoiser: differentiable; no sample's answer may depend on the others (no batch norm in training mode).
            x0: continuous data ``(B, *event)``, float32 or float64; the denoiser is asked in this dtype.
            seed: makes the probes of sample ``i`` a function of ``(seed, first + i)`` alone.
            noise: where probes are drawn from; torch's global generator by default.
            first: number of the first sample, for runs in parts.
            mask: ``(B, N)``, True where the first event axis is real; the rest has no density.
            condition: tensors for the denoiser, by name.

        Raises:
            ValueError: for data of another shape or dtype, or a prior that the denoiser does not know.
        """
        flow = self._flow(denoiser, x0, mask, condition)
        flow.probes = self._probes(flow, seed, noise, first)
        start, end = self._angles(denoiser.process)
        z0 = math.cos(start) * flow.x0
        velocity, divergence = flow.derivative(start, z0)
        noise_part = math.sin(start) * z0 + math.cos(start) * velocity  # eps
        slope = math.sin(start) * flow.dim + math.cos(start) * divergence.mean(1)
        truncation = 0.5 * (flow.square(noise_part) - math.sin(start) * slope)
        z, integral = self._solve(flow, z0, start, end)
        last, scale = flow.level(end)
        latent = (scale * z).to(x0.dtype)
        log_prior, prior_kl = self._prior(denoiser, latent, flow, last.t, mask)
        each = (log_prior + flow.dim * (math.log(scale) + math.log(math.cos(start))))[:, None] + integral
        error = torch.full_like(log_prior, 0.0 if self.trace == "exact" else math.nan)
        if each.shape[1] > 1:
            error = each.std(1) / each.shape[1] ** 0.5
        result = (each.mean(1), error, prior_kl, truncation)
        log_prob, error, prior_kl, truncation = (v.to(x0.dtype) for v in result)
        return ODELogProb(log_prob, error, flow.calls, latent, prior_kl, truncation)

    def round_trip(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        *,
        seed: int | None = None,
        mask: Tensor | None = None,
        condition: Mapping[str, Any] | None = None,
    ) -> RoundTrip:
        """Solve from the data to noise and back, and say how far the result is from the start: an error estimate that
        needs no closed form.  Arguments as for `evaluate`.
        """
        flow = self._flow(denoiser, x0, mask, condition)
        flow.probes = self._probes(flow, seed, None, 0)
        start, end = self._angles(denoiser.process)
        z0 = math.cos(start) * flow.x0
        z, there = self._solve(flow, z0, start, end)
        back, again = self._solve(flow, z, end, start)
        difference = ((back - z0) / math.cos(start)).abs().flatten(1).amax(1)
        return RoundTrip(difference.to(x0.dtype), (there + again).mean(1).abs().to(x0.dtype), flow.calls)

    def _angles(self, process: SDE) -> tuple[float, float]:
        """First and last angle, cut to what the schedule covers."""
        ends = (float(process.level(0.0).log_snr), float(process.level(1.0).log_snr))
        high, low = min(self.high, ends[0]), max(self.low, ends[1])
        require(low < high, "low", self.low, f"a log-SNR within the schedule's, {ends[1]:.4g} to {ends[0]:.4g}")
        return math.atan(math.exp(-0.5 * high)), math.atan2(1.0, math.exp(0.5 * low))

    def _flow(
        self, denoiser: Denoiser, x0: Tensor, mask: Tensor | None, condition: Mapping[str, Any] | None
    ) -> "_Flow":
        check_data(x0, mask)
        conditions = dict(condition or {}) | ({} if mask is None else {"mask": mask})
        real = None if mask is None else denoiser.process.expand_mask(mask)
        denoiser.process.check_data(x0, real)
        keep = keep_of(real, x0)
        return _Flow(denoiser, conditions, wide(x0) if keep is None else wide(x0 * keep), x0.dtype, real)

    def _probes(self, flow: "_Flow", seed: int | None, noise: NoiseSource | None, first: int) -> list[Tensor] | None:
        if self.trace == "exact":
            return None
        stream = stream_of(seed, noise, len(flow.x0), first)
        drawn = [stream.draw(flow.x0) for _ in range(self.probes)]
        if self.probe == "rademacher":
            drawn = [torch.where(e < 0, -1.0, 1.0).to(e) for e in drawn]
        return [flow.probe(e) for e in drawn]

    def _prior(
        self, denoiser: Denoiser, latent: Tensor, flow: "_Flow", t: float, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Log-density of the latent and the prior's gap."""
        level = denoiser.process.level(t)
        if self.prior == "exact":
            require(mask is None, "mask", mask, "None with prior='exact'")
            if not isinstance(denoiser, ClosedFormDenoiser):
                raise ValueError(f"prior='exact' with {type(denoiser).__name__}: expected a closed-form denoiser")
            log_prior = denoiser.log_prob(wide(latent), t)
            return log_prior, torch.zeros_like(log_prior)
        sigma = float(level.sigma)
        square = flow.square(wide(latent))
        log_prior = -0.5 * (square / sigma**2 + flow.dim * (2 * math.log(sigma) + math.log(2 * math.pi)))
        return log_prior, 0.5 * (float(level.alpha) / sigma) ** 2 * flow.square(flow.x0)

    def _solve(self, flow: "_Flow", z: Tensor, start: float, end: float) -> tuple[Tensor, Tensor]:
        """State at ``end`` and the integrals of the divergence, ``(B, probes)``."""
        columns = len(flow.probes) if flow.probes is not None else 1
        return integrate(flow.derivative, z, columns, start, end, self.rtol, self.atol)


def integrate(
    derivative: Callable[[float, Tensor], tuple[Tensor, Tensor]],
    z: Tensor,
    columns: int,
    start: float,
    end: float,
    rtol: float,
    atol: float,
) -> tuple[Tensor, Tensor]:
    """State ``(B, *event)`` at ``end`` from ``z`` at ``start`` and the integrals ``(B, columns)`` on the way, of which
    ``derivative`` gives the rates, by Dormand-Prince's method: the error of each sample is held to the tolerances.
    """
    from torchdiffeq import odeint

    shape, dim = z.shape, z[0].numel()

    def joint_rate(time: Tensor, joint: Tensor) -> Tensor:
        # The solver's search for a first step may look past the end.
        inside = min(max(float(time), min(start, end)), max(start, end))
        velocity, rates = derivative(inside, joint[:, :dim].reshape(shape))
        return torch.cat([velocity.flatten(1), rates], 1)

    def norm(error: Tensor) -> Tensor:
        rows = error.reshape(shape[0], dim + columns)
        parts = (rows[:, :dim].square().mean(1).sqrt(), rows[:, dim:].abs().amax(1))
        return torch.maximum(*parts).amax()

    joint = torch.cat([z.flatten(1), z.new_zeros(shape[0], columns)], 1)
    times = torch.tensor([start, end], dtype=joint.dtype, device=joint.device)
    options = {"norm": norm, "step_t": times[1:]}  # land on the end, where others step past it and interpolate
    out = odeint(joint_rate, joint, times, rtol=rtol, atol=atol, method="dopri5", options=options)[-1]
    return out[:, :dim].reshape(shape), out[:, dim:]


@dataclass
class _Flow:
    """The right-hand side of the ODE and of its log-density, and how often it was asked."""

    denoiser: Denoiser
    condition: dict[str, Any]
    x0: Tensor
    dtype: torch.dtype
    mask: Tensor | None
    probes: list[Tensor] | None = None
    calls: int = 0

    @property
    def dim(self) -> Tensor | float:
        """Real coordinates of a sample."""
        return self.denoiser.process.dim(self.x0, self.mask)

    @property
    def keep(self) -> Tensor | None:
        """The mask as numbers that multiply states."""
        return keep_of(self.mask, self.x0)

    def square(self, x: Tensor) -> Tensor:
        """``|x|^2`` over the real coordinates, ``(B,)``."""
        return event_sum(self.denoiser.process.dual(x) * x, self.mask)

    def probe(self, e: Tensor) -> Tensor:
        """A direction ``e`` of all of space made one of where the process lives, zero in the padding."""
        e = self.denoiser.process.white(e, self.mask)
        return e if self.keep is None else e * self.keep

    def level(self, angle: float) -> tuple[Any, float]:
        """The process's level at an angle, and its scale ``sqrt(alpha^2 + sigma^2)``."""
        process = self.denoiser.process
        t = process.schedule.time(-2 * math.log(math.tan(angle)))
        level = process.level(min(max(float(t), 0.0), 1.0))
        return level, math.hypot(level.alpha, level.sigma)

    def derivative(self, angle: float, z: Tensor) -> tuple[Tensor, Tensor]:
        """``v`` and its divergence, ``(B, probes)`` or ``(B, 1)``, in the state's dtype."""
        level, scale = self.level(angle)
        self.calls += 1
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            posterior = self.denoiser((scale * z).to(self.dtype), level.t, **self.condition)
            velocity = posterior.combine(-math.sin(angle), math.cos(angle))
            if self.mask is not None:
                velocity = velocity * self.keep
            divergence = self._exact(velocity, z) if self.probes is None else self._estimates(velocity, z)
        return velocity.detach().to(z), divergence

    def _estimates(self, velocity: Tensor, z: Tensor) -> Tensor:
        assert self.probes is not None
        last = len(self.probes) - 1
        return torch.stack([self._slope(velocity, z, e, i < last) for i, e in enumerate(self.probes)], 1)

    def _exact(self, velocity: Tensor, z: Tensor) -> Tensor:
        units = torch.eye(z[0].numel(), dtype=z.dtype, device=z.device)
        total = z.new_zeros(len(z))
        for j, unit in enumerate(units):
            e = self.probe(unit.expand(len(z), -1).reshape(z.shape))
            total = total + self._slope(velocity, z, e, j + 1 < len(units))
        return total[:, None]

    def _slope(self, velocity: Tensor, z: Tensor, e: Tensor, again: bool) -> Tensor:
        """``e . (dv/dz) e`` over the coordinates, ``(B,)``."""
        weighed = self.denoiser.process.dual(e).to(velocity)
        (product,) = torch.autograd.grad(velocity, z, weighed, retain_graph=again)
        return (product * e).flatten(1).sum(1)
