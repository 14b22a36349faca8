"""The unit sphere of dimension ``dims`` in the space of one dimension more."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..schedules import require
from .base import Manifold
from .kernels import RadialKernel
from .spherical import SphericalKernel

__all__ = ["Sphere"]


def length(v: Tensor) -> Tensor:
    """Euclidean length of the last axis, kept."""
    return torch.linalg.vector_norm(v, dim=-1, keepdim=True)


@dataclass(frozen=True)
class Sphere(Manifold):
    """Unit vectors ``(B, *N, dims + 1)``.

    Args:
        dims: dimension of the sphere, 2 or more; the circle is ``Torus(1)``.
    """

    dims: int = 2

    def __post_init__(self) -> None:
        fits = isinstance(self.dims, int) and self.dims >= 2
        require(fits, "dims", self.dims, "a whole number of at least 2; the circle is Torus(1)")

    @property
    def point(self) -> tuple[int, ...]:
        return (self.dims + 1,)

    @property
    def kernel(self) -> RadialKernel:
        return SphericalKernel(self.dims)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        angle = length(v)
        return self.project(angle.cos() * x + torch.sinc(angle / torch.pi) * v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        v = self.to_tangent(x, y)
        size = length(v)
        # At the antipode every direction is right: the one of an axis that is not x's.
        other = self.to_tangent(x, torch.nn.functional.one_hot(x.abs().argmin(-1), x.shape[-1]).to(x))
        opposite = (size == 0) & ((x * y).sum(-1, keepdim=True) < 0)
        v = torch.where(opposite, other, v)
        size = length(v)
        return self.spread(self.distance(x, y)) * v / torch.where(size > 0, size, 1.0)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        return 2 * torch.atan2(length(x - y), length(x + y)).squeeze(-1)

    def project(self, x: Tensor) -> Tensor:
        size = length(x)
        return x / torch.where(size > 0, size, 1.0)

    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return v - (x * v).sum(-1, keepdim=True) * x

    def transport(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        angle = length(v)
        ahead = v / torch.where(angle > 0, angle, 1.0)
        along = (ahead * w).sum(-1, keepdim=True)
        return w + along * ((angle.cos() - 1) * ahead - angle.sin() * x)

    def white(self, x: Tensor, noise: Tensor) -> Tensor:
        return self.to_tangent(x, noise)

    def uniform(self, noise: Tensor) -> Tensor:
        return self.project(noise)

    def frame(self, x: Tensor) -> list[Tensor]:
        # What a reflection that takes the last axis to x, but for its sign, makes of the other axes.
        axes = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        normal = x + torch.where(x[..., -1:] < 0, -1.0, 1.0) * axes[-1]
        square = (normal * normal).sum(-1, keepdim=True)
        return [axis - 2 * normal * (normal * axis).sum(-1, keepdim=True) / square for axis in axes[:-1]]

    def cos_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self.to_tangent(x, y)

    def residual(self, x: Tensor) -> Tensor:
        return (length(x) - 1).abs().squeeze(-1)

    def features(self, x: Tensor) -> Tensor:
        return x

    def from_features(self, x: Tensor, output: Tensor) -> Tensor:
        return self.to_tangent(x, output)
