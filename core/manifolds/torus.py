"""The flat torus: angles in radians, in [-pi, pi)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..schedules import require
from .base import Manifold
from .kernels import RadialKernel
from .wrapped_normal import WrappedNormal

__all__ = ["Torus", "wrapped"]


def wrapped(x: Tensor) -> Tensor:
    """Angles brought to [-pi, pi)."""
    out = torch.remainder(x + math.pi, 2 * math.pi) - math.pi
    return torch.where(out >= math.pi, -math.pi, out)


@dataclass(frozen=True)
class Torus(Manifold):
    """A product of circles, each angle a point: states ``(B, ..., dims)``, masks down to the single angle.

    Args:
        dims: angles in the state's last axis; None for any number, such as the torsions of molecules of unequal size.
    """

    dims: int | None = None
    point: ClassVar[tuple[int, ...]] = ()
    kernel: ClassVar[RadialKernel] = WrappedNormal()

    def __post_init__(self) -> None:
        fits = self.dims is None or (isinstance(self.dims, int) and self.dims >= 1)
        require(fits, "dims", self.dims, "a number of angles, or None")

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return wrapped(x + v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return wrapped(y - x)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        return wrapped(y - x).abs()

    def project(self, x: Tensor) -> Tensor:
        return wrapped(x)

    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v

    def transport(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        return w

    def white(self, x: Tensor, noise: Tensor) -> Tensor:
        return noise

    def uniform(self, noise: Tensor) -> Tensor:
        return wrapped((2 * math.pi * torch.special.ndtr(noise.double()) - math.pi).to(noise.dtype))

    def frame(self, x: Tensor) -> list[Tensor]:
        return [torch.ones_like(x)]

    def cos_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return (y - x).sin()

    def residual(self, x: Tensor) -> Tensor:
        return (x.abs() - math.pi).clamp(min=0)

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([x.cos(), x.sin()], -1)

    def from_features(self, x: Tensor, output: Tensor) -> Tensor:
        return output

    def check(self, x: Tensor, name: str = "x", mask: Tensor | None = None, blank: bool = False) -> None:
        if self.dims is not None and (x.ndim < 2 or x.shape[-1] != self.dims):
            raise ValueError(f"{name} of shape {tuple(x.shape)}: expected (B, ..., {self.dims}) for {self}")
        super().check(x, name, mask, blank)
