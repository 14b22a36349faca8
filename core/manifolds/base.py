r"""The contract of a manifold: a compact space in which all points and all directions are alike.

States hold points ``(B, *N, *point)``: one a sample, or ``N`` of them.  Tangent vectors have the state's shape and live
in the space around the manifold; ``inner`` is the metric there.

Ours and not geoopt's, because that has neither torus nor SO(3) nor any heat kernel, and its sphere loses half of the
digits of small distances (arc cosine, clipped by 1e-4 in float32).
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .kernels import RadialKernel
from .masks import over

__all__ = ["Manifold"]


class Manifold(ABC):
    """A compact homogeneous manifold; see the module's text."""

    @property
    @abstractmethod
    def point(self) -> tuple[int, ...]:
        """Shape of one point."""

    @property
    @abstractmethod
    def kernel(self) -> RadialKernel:
        """Heat kernel of Brownian motion."""

    @property
    def dim(self) -> int:
        """Dimension of the space of one point."""
        return self.kernel.dim

    @property
    def log_volume(self) -> float:
        """Logarithm of the volume; the uniform log-density of a point is minus this."""
        return self.kernel.log_volume

    @abstractmethod
    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Exponential map: where the geodesic from ``x`` with velocity ``v`` is at time 1."""

    @abstractmethod
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Logarithm map: the shortest velocity that leads from ``x`` to ``y``; any of them at the cut locus."""

    @abstractmethod
    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Geodesic distance in [0, pi], ``(B, *N)``."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the manifold."""

    @abstractmethod
    def to_tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """Orthogonal projection of ``v``, shape of ``x``, to the tangent space at ``x``."""

    @abstractmethod
    def transport(self, x: Tensor, v: Tensor, w: Tensor) -> Tensor:
        """Parallel transport of ``w``, tangent at ``x``, along the geodesic of ``v`` to ``exp(x, v)``."""

    @abstractmethod
    def white(self, x: Tensor, noise: Tensor) -> Tensor:
        """Standard normal tangent vector at ``x``, made from standard normal numbers of the state's shape."""

    @abstractmethod
    def uniform(self, noise: Tensor) -> Tensor:
        """Uniform points, made from standard normal numbers of the state's shape."""

    @abstractmethod
    def frame(self, x: Tensor) -> list[Tensor]:
        """Orthonormal bases of the tangent spaces at all points: ``dim`` fields, each the state's shape."""

    @abstractmethod
    def cos_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Gradient with respect to ``x`` of ``cos distance(x, y)``; it is smooth everywhere."""

    @abstractmethod
    def residual(self, x: Tensor) -> Tensor:
        """How far each point is from the manifold, ``(B, *N)``."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Coordinates ``(B, *N, F)`` for networks, smooth on the manifold."""

    @abstractmethod
    def from_features(self, x: Tensor, output: Tensor) -> Tensor:
        """Tangent vector at ``x`` of a network's output of shape `output_shape`."""

    def output_shape(self, x: Tensor) -> tuple[int, ...]:
        """Shape of a network's answer to the state ``x``; by default the state's."""
        return tuple(x.shape)

    def inner(self, v: Tensor, w: Tensor) -> Tensor:
        """Inner product of tangent vectors, ``(B, *N)``."""
        product = v * w
        return product.flatten(product.ndim - len(self.point)).sum(-1) if self.point else product

    def norm(self, v: Tensor) -> Tensor:
        """Length of tangent vectors, ``(B, *N)``."""
        return self.inner(v, v).sqrt()

    def spread(self, value: Tensor) -> Tensor:
        """Numbers ``(B, *N)`` shaped to multiply points ``(B, *N, *point)``."""
        return value.reshape(*value.shape, *[1] * len(self.point))

    def check(self, x: Tensor, name: str = "x", mask: Tensor | None = None, blank: bool = False) -> None:
        """Refuse states that hold no points of this manifold.

        Args:
            x: ``(B, *N, *point)``.
            name: of the argument, for the message.
            mask: ``(B, *N)`` or fewer axes, True where a point is real; the rest may be anything finite.
            blank: let zeros pass in states of several points: the padding of masked ones, where the mask is not known.

        Raises:
            ValueError: for another dtype or shape, numbers that are not finite, points off the manifold.
        """
        if x.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} of dtype {x.dtype}: expected float32 or float64")
        if x.ndim < 1 + max(len(self.point), 1) or tuple(x.shape[x.ndim - len(self.point) :]) != self.point:
            raise ValueError(f"{name} of shape {tuple(x.shape)}: expected (B, ..., {str(self.point)[1:]} for {self}")
        if not x.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinite numbers: expected points of {self}")
        off = self.residual(x.detach())
        if mask is not None:
            axes = tuple(off.shape[: max(mask.ndim, 2)])
            if mask.dtype != torch.bool or tuple(mask.shape) != axes:
                raise ValueError(f"mask of shape {tuple(mask.shape)}, {mask.dtype}: expected {axes}, torch.bool")
            off = torch.where(over(mask, off), off, 0.0)
        if blank and off.ndim > 1 and self.point:
            off = torch.where((x == 0).flatten(off.ndim).all(-1), 0.0, off)
        limit = 1e-4 if x.dtype == torch.float32 else 1e-6
        if off.numel() and float(off.max()) > limit:
            raise ValueError(
                f"{name} is {float(off.max()):.3g} off the manifold {self}: expected points on it; "
                f"bring them there by {type(self).__name__}.project"
            )
