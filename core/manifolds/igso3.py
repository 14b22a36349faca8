r"""The isotropic Gaussian on SO(3), the heat kernel of rotations.

With the metric in which the distance of two rotations is the angle ``omega`` between them, relative to the uniform
distribution,

    f_s(omega) = sum_l (2 l + 1) e^(-l (l + 1) s / 2) sin((l + 1/2) omega) / sin(omega / 2)
               = sqrt(2 pi) s^(-3/2) e^(s / 8) / sin(omega / 2)
                 sum_k (-1)^k (omega - 2 pi k) e^(-(omega - 2 pi k)^2 / 2s)

(Nikolayev and Savyolov 1970; Leach et al. 2022, "Denoising diffusion probabilistic models on SO(3)", eqs. 5-6 with
``epsilon^2 = s / 2``; Yim et al. 2023, 2302.02277, proposition 2; Jagvaral et al. 2023, 2312.11707).  The two sums are
equal, by Poisson's formula; the published approximations keep three images, here all that reach float64's precision are
kept.  The second is used below ``s = 3/2``, the first above.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .images import cot_rest, either, half_tan, over_sin, pair
from .kernels import RadialKernel

__all__ = ["IGSO3"]

SWITCH = 1.5
TERMS = 8  # e^(-9 * 10 * 3/4) is below 1e-29


@dataclass(frozen=True)
class IGSO3(RadialKernel):
    """The heat kernel of SO(3); see the module's text."""

    dim: ClassVar[int] = 3  # type: ignore[misc]
    log_volume: ClassVar[float] = math.log(8 * math.pi**2)  # type: ignore[misc]
    gap: ClassVar[float] = 2.0

    def log_density(self, theta: Tensor, s: Tensor) -> Tensor:
        return self.both(theta, s)[0]

    def slope(self, theta: Tensor, s: Tensor) -> Tensor:
        return self.both(theta, s)[1]

    def log_area(self, theta: Tensor) -> Tensor:
        return 2 * (0.5 * theta).sin().log() + math.log(16 * math.pi)

    def both(self, theta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density and slope at once."""
        log, slope = either(_images, _series, SWITCH, theta, s)
        return log - self.log_volume, slope


def _images(theta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    s = s.clamp(max=SWITCH)
    near = theta < 0.5 * math.pi
    x = torch.where(near, theta, 0.0)
    # About 0 the sum is omega (1 + sum (-1)^k [2 cosh z - 4 pi k a sinh z / z]) with a = 2 pi k / s and z = a omega.
    total, fall = torch.ones_like(x), torch.zeros_like(x)
    for k in (1, 2):
        m, sign = 2 * math.pi * k, (-1) ** k
        a = m / s
        image = pair(m, x, s, about_pi=False)
        total = total + sign * 2 * (image.cosh - m * a * image.sinhc)
        fall = fall + sign * 2 * a**2 * (image.sinhc - m * a * image.rest)
    log = total.log() + over_sin(0.5 * x).log() + math.log(2)
    slope = over_sin(x) * (1 / s - cot_rest(x) - fall / total)
    # About pi, with y = pi - omega, it is sum (-1)^j [2 m cosh z - 2 y sinh z] with z = m y / s.
    y = torch.where(near, 0.0, math.pi - theta)
    total, rise = torch.zeros_like(y), torch.zeros_like(y)
    for j in (0, 1):
        m, sign = (2 * j + 1) * math.pi, (-1) ** j
        a = m / s
        image = pair(m, y, s, about_pi=True)
        total = total + sign * 2 * (m * image.cosh - a * y**2 * image.sinhc)
        rise = rise + sign * 2 * (m * a**2 * image.sinhc - a * image.sinhc - a * image.cosh)
    log = torch.where(near, log, total.log() - (0.5 * y).cos().log())
    slope = torch.where(near, slope, over_sin(y) * (rise / total - 1 / s + half_tan(y)))
    return log - 0.5 * theta**2 / s - 1.5 * s.log() + s / 8 + 0.5 * math.log(2 * math.pi), slope


def _series(theta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    s, cos = s.clamp(min=SWITCH), theta.cos()
    total, slope = torch.ones_like(cos), torch.zeros_like(cos)
    # The character is 1 + 2 sum_(j <= l) cos(j omega), of which cos(j omega) = T_j and T_j' = j U_(j-1).
    character, derivative = torch.ones_like(cos), torch.zeros_like(cos)
    before, t, u_before, u = torch.ones_like(cos), cos, torch.zeros_like(cos), torch.ones_like(cos)
    for l in range(1, TERMS + 1):  # noqa: E741  # the field's letter
        character, derivative = character + 2 * t, derivative + 2 * l * u
        weight = (2 * l + 1) * (-0.5 * l * (l + 1) * s).exp()
        total, slope = total + weight * character, slope + weight * derivative
        before, t = t, 2 * cos * t - before
        u_before, u = u, 2 * cos * u - u_before
    return total.log(), slope / total
