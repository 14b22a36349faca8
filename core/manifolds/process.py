r"""Brownian motion on a manifold as a forward process.

    dX = g(t) dB on the manifold,       s(t) = int g^2 = (sigma / alpha)^2 = e^(-log_snr(t)),

so any `Schedule` says how fast: a variance-exploding one as it is, and one that ends in pure noise ends in the uniform
distribution exactly.  ``q(x_t | x_0)`` is the heat kernel after the variance ``s(t)`` and the prior is uniform (De
Bortoli et al. 2022, 2202.02763, section 3; Jing et al. 2022, 2206.01729; Yim et al. 2023, 2302.02277).
"""

import math
from typing import Any

import torch
from torch import Tensor

from ..levels import Scheduled
from ..noise import NoiseStream
from ..schedules import Schedule, Time, as_tensor
from .base import Manifold
from .heat import Bridge, HeatKernel, Uniform

__all__ = ["RiemannianProcess"]

LEFT = 0.01  # nats of the data that may be left at t = 1


class RiemannianProcess(Scheduled):
    """Brownian motion on ``manifold`` by the clock of ``schedule``; see the module's text.

    States are ``(B, *N, *point)``, with masks ``(B, *N)`` for padded points.

    Args:
        manifold: where the data lie.
        schedule: such as ``VESchedule(0.01, 5.0)``; at ``t = 1`` the kernel must be uniform but for 0.01 nats a point.

    Raises:
        ValueError: for a schedule with too little noise.

    Example:
        >>> import torch
        >>> from ornstein.core import VESchedule
        >>> from ornstein.core.manifolds import Sphere
        >>> process = RiemannianProcess(Sphere(2), VESchedule(0.01, 5.0))
        >>> process.marginal(torch.tensor([[0.0, 0.0, 1.0]]), 1.0).log_prob(torch.tensor([[1.0, 0.0, 0.0]]))
        tensor([-2.5310])
    """

    def __init__(self, manifold: Manifold, schedule: Schedule) -> None:
        super().__init__(schedule)
        if not isinstance(manifold, Manifold):
            raise TypeError(f"manifold={manifold!r}: expected a Manifold, such as Sphere(2)")
        self.manifold = manifold
        end = math.exp(-float(schedule.log_snr(1.0)))
        left = manifold.kernel.divergence_from_uniform(end)
        if left > LEFT:
            raise ValueError(
                f"schedule={schedule!r}: at t = 1 the noise sigma / alpha = {math.sqrt(end):.3g} leaves {left:.2g} "
                f"nats between {manifold} and the uniform distribution: expected at most {LEFT}; raise its noise there"
            )

    def __repr__(self) -> str:
        return f"RiemannianProcess({self.manifold!r}, {self.schedule!r})"

    def variance(self, t: Time) -> Tensor:
        """``s(t)``, float64, in the shape of ``t``; may be 0 or infinite at the ends."""
        t = as_tensor(t)
        return (-self.schedule.log_snr(t.double())).exp()

    def prior(self, shape: tuple[int, ...], t: Any = 1.0) -> Uniform:
        """Uniform points, at any ``t``."""
        return Uniform(self.manifold, tuple(shape))

    def marginal(self, x0: Tensor, t: Time) -> HeatKernel:  # type: ignore[override]  # this process moves one tensor
        """``q(x_t | x_0)``: the heat kernel about ``x0``; ``t`` a float or ``(B,)``."""
        return HeatKernel(self.manifold, x0, self.variance(t).to(x0.device))

    def posterior(self, x0: Tensor, xt: Tensor, s: Time, t: Time) -> Bridge:  # type: ignore[override]  # this process moves one tensor
        """``q(x_s | x_t, x_0)`` for ``s <= t``."""
        a, whole = self.variance(s), self.variance(t)
        if bool((a > whole).any()):
            raise ValueError("s above t: expected s <= t, towards the data")
        return Bridge(self.manifold, x0, xt, a, torch.where(a == whole, 0.0, whole - a))  # infinite ones too

    def initial(self, like: Tensor, t: float, stream: NoiseStream) -> Tensor:
        """Uniform points."""
        return self.manifold.uniform(stream.draw(like))

    def check_state(self, x: Tensor) -> None:
        """Raise ``ValueError`` for states that hold no points of the manifold, nor the zeros of padding."""
        self.manifold.check(x, blank=True)
