"""Rotations of space, as matrices, with the metric in which the distance is the angle."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Manifold
from .igso3 import IGSO3
from .kernels import RadialKernel

__all__ = ["SO3", "hat", "vee"]


def hat(w: Tensor) -> Tensor:
    """The skew matrix ``(..., 3, 3)`` of a vector ``(..., 3)``: ``hat(w) u = w x u``."""
    zero = torch.zeros_like(w[..., 0])
    a, b, c = w.unbind(-1)
    return torch.stack([zero, -c, b, c, zero, -a, -b, a, zero], -1).reshape(*w.shape[:-1], 3, 3)


def vee(m: Tensor) -> Tensor:
    """The vector of a matrix's skew part; the inverse of `hat`."""
    return 0.5 * torch.stack(
        [m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1
    )


def rotation(w: Tensor) -> Tensor:
    """Rodrigues's formula: the rotation by ``|w|`` about ``w`` ``(..., 3)``."""
    angle = torch.linalg.vector_norm(w, dim=-1)[..., None, None]
    k = hat(w)
    half = torch.sinc(0.5 * angle / torch.pi)
    return torch.eye(3, dtype=w.dtype, device=w.device) + torch.sinc(angle / torch.pi) * k + 0.5 * half**2 * (k @ k)


def rotation_vector(r: Tensor) -> Tensor:
    """The vector ``(..., 3)`` of length at most pi whose `rotation` is ``r``, by way of the largest row of the
    quaternion's outer product, which loses no digits near 0 or pi.
    """
    trace = r.diagonal(dim1=-2, dim2=-1).sum(-1)
    v = 2 * vee(r)
    q = r.new_zeros(*r.shape[:-2], 4, 4)
    q[..., 0, 0], q[..., 0, 1:], q[..., 1:, 0] = 1 + trace, v, v
    eye = torch.eye(3, dtype=r.dtype, device=r.device)
    q[..., 1:, 1:] = r + r.mT + (1 - trace)[..., None, None] * eye
    best = q.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = q.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    row = torch.where(row[..., :1] < 0, -row, row)
    size = torch.linalg.vector_norm(row[..., 1:], dim=-1, keepdim=True)
    angle = 2 * torch.atan2(size, row[..., :1])
    return angle * row[..., 1:] / torch.where(size > 0, size, 1.0)


@dataclass(frozen=True)
class SO3(Manifold):
    """Rotation matrices ``(B, *N, 3, 3)``; the tangent vectors at ``R`` are ``R hat(w)``, of length ``|w|``."""

    point: ClassVar[tuple[int, ...]] = (3, 3)
    kernel: ClassVar[RadialKernel] = IGSO3()

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        return x @ rotation(vee(x.mT @ v))

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ hat(rotation_vector(x.mT @ y))

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        r = x.mT @ y
        sin = torch.linalg.vector_norm(vee(r), dim=-1)
        return torch.atan2(sin, 0.5 * (r.diagonal(dim1=-2, dim2=-1).sum(-1) - 1))

    def project(self, x: Tensor) -> Tensor:
        u, _, vh = torch.linalg.svd(x)
        sign = torch.where(torch.linalg.det(u @ vh) < 0, -1.0, 1.0).to(x)
        scale = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)
        return (u * scale[..., None, :]) @ vh

    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        return x @ hat(vee(x.mT @ v))

    def transport(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        # The metric is invariant on both sides: half of the turn acts on the vector.
        half = rotation(0.5 * vee(x.mT @ v))
        return x @ half @ (x.mT @ w) @ half

    def white(self, x: Tensor, noise: Tensor) -> Tensor:
        return x @ hat(2**0.5 * vee(noise))

    def uniform(self, noise: Tensor) -> Tensor:
        return self.project(noise)

    def frame(self, x: Tensor) -> list[Tensor]:
        return [x @ hat(axis) for axis in torch.eye(3, dtype=x.dtype, device=x.device)]

    def cos_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self.to_tangent(x, y)

    def inner(self, v: Tensor, w: Tensor) -> Tensor:
        return 0.5 * (v * w).sum((-2, -1))

    def residual(self, x: Tensor) -> Tensor:
        off = (x.mT @ x - torch.eye(3, dtype=x.dtype, device=x.device)).abs().amax((-2, -1))
        return torch.where(torch.linalg.det(x) > 0, off, off.clamp(min=2.0))

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(-2)

    def from_features(self, x: Tensor, output: Tensor) -> Tensor:
        return x @ hat(output)

    def output_shape(self, x: Tensor) -> tuple[int, ...]:
        """``(B, *N, 3)``: rotation vectors."""
        return tuple(x.shape[:-1])
