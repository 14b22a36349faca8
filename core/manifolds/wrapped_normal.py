r"""The wrapped normal, the heat kernel of the circle.

    K_s(x) = sum_k (2 pi s)^(-1/2) e^(-(x + 2 pi k)^2 / 2s) = (1 / 2 pi) [1 + 2 sum_n e^(-n^2 s / 2) cos(n x)],

by images and by Fourier's series (Jing et al. 2022, 2206.01729, section 3.2); the first is used below ``s = 2``, the
second above, each to float64's precision.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .images import either, over_sin, pair
from .kernels import RadialKernel

__all__ = ["WrappedNormal"]

SWITCH = 2.0
TERMS = 6  # e^(-7^2) is below 1e-21


@dataclass(frozen=True)
class WrappedNormal(RadialKernel):
    """The circle's heat kernel; see the module's text."""

    dim: ClassVar[int] = 1  # type: ignore[misc]
    log_volume: ClassVar[float] = math.log(2 * math.pi)  # type: ignore[misc]

    def log_density(self, theta: Tensor, s: Tensor) -> Tensor:
        return either(_images, _fourier, SWITCH, theta, s)[0]

    def slope(self, theta: Tensor, s: Tensor) -> Tensor:
        return either(_images, _fourier, SWITCH, theta, s)[1]

    def log_area(self, theta: Tensor) -> Tensor:
        return torch.full_like(theta, math.log(2))


def _images(theta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    s = s.clamp(max=SWITCH)
    near = theta < 0.5 * math.pi
    x = torch.where(near, theta, 0.0)
    first, second = (pair(2 * math.pi * k, x, s, about_pi=False) for k in (1, 2))
    total = 1 + 2 * (first.cosh + second.cosh)
    pull = 2 * ((2 * math.pi / s) ** 2 * first.sinhc + (4 * math.pi / s) ** 2 * second.sinhc) / total
    log, slope = total.log(), over_sin(x) * (1 / s - pull)
    y = torch.where(near, 0.0, math.pi - theta)
    first, second = (pair((2 * j + 1) * math.pi, y, s, about_pi=True) for j in (0, 1))
    total = 2 * (first.cosh + second.cosh)
    pull = 2 * ((math.pi / s) ** 2 * first.sinhc + (3 * math.pi / s) ** 2 * second.sinhc) / total
    log = torch.where(near, log, total.log())
    slope = torch.where(near, slope, over_sin(y) * (pull - 1 / s))
    return log - 0.5 * theta**2 / s - 0.5 * (2 * math.pi * s).log(), slope


def _fourier(theta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    s, cos = s.clamp(min=SWITCH), theta.cos()
    total, slope = torch.ones_like(cos), torch.zeros_like(cos)
    # Chebyshev's polynomials: cos(n x) = T_n, and T_n' = n U_(n-1).
    before, t, u_before, u = torch.ones_like(cos), cos, torch.zeros_like(cos), torch.ones_like(cos)
    for n in range(1, TERMS + 1):
        weight = 2 * (-0.5 * n * n * s).exp()
        total, slope = total + weight * t, slope + weight * n * u
        before, t = t, 2 * cos * t - before
        u_before, u = u, 2 * cos * u - u_before
    return total.log() - math.log(2 * math.pi), slope / total
