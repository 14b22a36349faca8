"""Distributions on manifolds: the heat kernel about given points, the uniform, and the bridge between two points."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Manifold
from .masks import total
from .so3 import SO3, rotation
from .sphere import Sphere

__all__ = ["Bridge", "HeatKernel", "Uniform"]

ROUNDS = 2000


def drawn(like: Tensor, noise: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """The noise given, or standard normal numbers shaped ``like``."""
    if noise is not None:
        return noise
    device = generator.device if generator is not None else like.device
    return torch.randn(like.shape, dtype=like.dtype, device=device, generator=generator).to(like.device)


@dataclass(frozen=True)
class Uniform:
    """Independent uniform points.

    Args:
        manifold: where they lie.
        shape: ``(B, *N, *point)``.
    """

    manifold: Manifold
    shape: tuple[int, ...]

    def sample(self, noise: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws made from standard normal numbers of the state's shape, drawn from ``generator`` if not given."""
        return self.manifold.uniform(drawn(torch.empty(self.shape), noise, generator))

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density in nats with respect to the Riemannian volume, ``(B,)``."""
        each = torch.full(self.manifold.distance(x, x).shape, -self.manifold.log_volume, dtype=x.dtype, device=x.device)
        return total(each, mask)


@dataclass(frozen=True)
class HeatKernel:
    """Where Brownian motion from ``center`` is after the variance ``s``.

    Args:
        manifold: where it moves.
        center: ``(B, *N, *point)``.
        s: variance, at least 0, may be infinite; ``()`` or ``(B,)``.
    """

    manifold: Manifold
    center: Tensor
    s: Tensor

    def _variance(self, like: Tensor) -> Tensor:
        s = self.s.to(like.device, torch.float64)
        axes = like.ndim - 1 - len(self.manifold.point)
        return s.reshape(-1, *[1] * axes) if s.ndim else s

    def _positive(self, like: Tensor, what: str) -> Tensor:
        s = self._variance(like)
        if bool((s <= 0).any()):
            raise ValueError(f"{what} at sigma = 0: a point has no density; ask at t > 0")
        return s

    def sample(self, noise: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Exact draws: a standard normal tangent vector gives the direction, and its radius the distance, by
        inversion; on the ordinary sphere by a turn drawn on SO(3).
        """
        manifold, x = self.manifold, self.center
        z, s = drawn(x, noise, generator).double(), self._variance(x)
        wide = x.double()
        if isinstance(manifold, Sphere) and manifold.dims == 2:
            radius = torch.linalg.vector_norm(z, dim=-1)
            angle = SO3.kernel.distance_of(radius, s)
            turn = rotation(z * (angle / radius.clamp(min=1e-300))[..., None])
            return manifold.project((turn @ wide[..., None]).squeeze(-1)).to(x.dtype)
        if not manifold.point:  # the wrapped normal is the normal, wrapped
            moved = torch.where(s.isinf(), manifold.uniform(z), manifold.exp(wide, s.clamp(max=1e6).sqrt() * z))
            return manifold.project(moved.to(x.dtype))
        v = manifold.white(wide, z)
        radius = manifold.norm(v)
        scale = manifold.kernel.distance_of(radius, s) / radius.clamp(min=1e-300)
        return manifold.exp(wide, manifold.spread(scale) * v).to(x.dtype)

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density in nats with respect to the Riemannian volume, summed over points, ``(B,)``.

        Raises:
            ValueError: at ``s = 0``.
        """
        s = self._positive(x, "log_prob")
        each = self.manifold.kernel.log_density(self.manifold.distance(x.double(), self.center.double()), s)
        return total(each, mask).to(x.dtype)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log-density at ``x``, a tangent vector there, shape of ``x``, float64.

        Raises:
            ValueError: at ``s = 0``.
        """
        s, x, center = self._positive(x, "score"), x.double(), self.center.double()
        slope = self.manifold.kernel.slope(self.manifold.distance(x, center), s)
        return self.manifold.spread(slope) * self.manifold.cos_gradient(x, center)


@dataclass(frozen=True)
class Bridge:
    """``q(x_s | x_t, x_0)``: Brownian motion from ``x0``, seen to be at ``xt`` later, at a time between.

    Its density is ``K_a(x_0, x) K_b(x, x_t) / K_(a + b)(x_0, x_t)`` with the variances ``a`` from ``x0`` and ``b`` to
    ``xt``, exactly normalised by Chapman and Kolmogorov's equation.

    Args:
        manifold: where it moves.
        x0, xt: the ends, ``(B, *N, *point)``.
        a, b: variances, ``()`` or ``(B,)``.
    """

    manifold: Manifold
    x0: Tensor
    xt: Tensor
    a: Tensor
    b: Tensor

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-density in nats with respect to the Riemannian volume, ``(B,)``."""
        first, last = HeatKernel(self.manifold, self.x0, self.a), HeatKernel(self.manifold, self.xt, self.b)
        whole = HeatKernel(self.manifold, self.x0, self.a + self.b)
        return first.log_prob(x, mask) + last.log_prob(x, mask) - whole.log_prob(self.xt, mask)

    def sample(self, *, generator: torch.Generator | None = None) -> Tensor:
        """Exact draws by rejection: from the end that is nearer in time, kept as the other end makes likely.

        Raises:
            ValueError: if the ends are so far apart for their variances that nothing is kept.
        """
        manifold, axes = self.manifold, self.x0.ndim - len(self.manifold.point)
        count = self.x0.shape[:axes].numel()
        x0, xt = (v.reshape(count, *manifold.point) for v in (self.x0, self.xt))
        each = count // len(self.x0)
        a, b = (v.to(x0.device, torch.float64).expand(len(self.x0)).repeat_interleave(each) for v in (self.a, self.b))
        near_data = manifold.spread(a <= b)
        start, goal = torch.where(near_data, x0, xt), torch.where(near_data, xt, x0)
        short, long = torch.minimum(a, b), torch.maximum(a, b)
        out, wide = start.clone(), long.clamp(min=1e-300)
        peak = manifold.kernel.log_density(torch.zeros_like(wide), wide)
        left = torch.arange(count, device=x0.device)
        for _ in range(ROUNDS):
            proposed = HeatKernel(manifold, start[left], short[left]).sample(generator=generator)
            distance = manifold.distance(proposed.double(), goal[left].double())
            log_keep = manifold.kernel.log_density(distance, wide[left]) - peak[left]
            kept = (torch.special.ndtr(drawn(distance, None, generator)).log() <= log_keep) | (long[left] == 0)
            out[left[kept]] = proposed[kept]
            left = left[~kept]
            if len(left) == 0:
                return out.reshape(self.x0.shape)
        most = math.sqrt(float(long[left].max()))
        raise ValueError(f"xt is too far from x0 for a variance of {most:.3g}^2 to draw between")
