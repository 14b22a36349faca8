r"""Sums of ellipses: pictures whose line integrals and Fourier transform are known in closed form.

With ``v``, ``a``, ``b``, ``(x, y)`` and ``phi`` the value, half axes, middle and turn of an ellipse, and ``w`` its
coordinates in which it is the unit disc (turned by ``-phi``, divided by the half axes):

* the integral along a line ``o + t d`` is ``2 v sqrt(max(0, 1 - h^2)) / |d_w|`` with ``h`` the line's distance from the
  middle in those coordinates and ``d_w`` the direction there;
* the Fourier transform ``int f exp(-2 pi i k . r) dr`` is ``v a b J_1(2 pi q) / q exp(-2 pi i k . m)`` with
  ``q = |(a k_1', b k_2')|`` in axes turned with the ellipse, and ``v a b pi`` at ``k = 0``.

Kak and Slaney 1988, sections 3.1 and 3.2; the table is that of Shepp and Logan 1974 with the contrast of Toft 1996.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ornstein.core.schedules import require
from ornstein.domains.medical.physics.geometry import Geometry, Rays

__all__ = ["Ellipse", "Phantom", "random_ellipses", "shepp_logan"]


class Ellipse(NamedTuple):
    """One ellipse, in units of half the picture's longer side, ``y`` up.

    Attributes:
        value: what it adds inside.
        a, b: half axes.
        x, y: its middle.
        angle: degrees by which the axis ``a`` is turned from ``x`` towards ``y``.
    """

    value: float
    a: float
    b: float
    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0


@dataclass(frozen=True)
class Phantom:
    """A sum of ellipses.

    Args:
        ellipses: rows ``(value, a, b, x, y, angle)``, as in `Ellipse`.

    Example:
        >>> shepp_logan().image(64).shape
        torch.Size([1, 1, 64, 64])
    """

    ellipses: Sequence[Ellipse]

    def __post_init__(self) -> None:
        rows = tuple(Ellipse(*row) for row in self.ellipses)
        good = bool(rows) and all(math.isfinite(sum(row)) and row.a > 0 and row.b > 0 for row in rows)
        require(good, "ellipses", self.ellipses, "rows (value, a, b, x, y, angle) with positive half axes")
        object.__setattr__(self, "ellipses", rows)

    def image(
        self, size: int | tuple[int, int], supersample: int = 4, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "1 1 rows columns"]:
        """The picture; a pixel is the mean of ``supersample`` squared points in it.

        Args:
            size: ``(rows, columns)``, or one number for both; pixels are square.
            supersample: points along each side of a pixel.
            dtype: of the result.
        """
        rows, columns = (size, size) if isinstance(size, int) else size
        require(min(rows, columns) >= 1, "size", size, "at least 1 pixel a side")
        require(supersample >= 1, "supersample", supersample, "at least 1")
        fine = [side * supersample for side in (rows, columns)]
        half = max(fine) / 2
        y = ((fine[0] - 1) / 2 - torch.arange(fine[0], dtype=torch.float64)) / half
        x = (torch.arange(fine[1], dtype=torch.float64) - (fine[1] - 1) / 2) / half
        total = torch.zeros(fine[0], fine[1], dtype=torch.float64)
        for row in self.ellipses:
            u, w = _own_axes(row, x[None] - row.x, y[:, None] - row.y)
            total += row.value * (u**2 + w**2 <= 1)
        return total.reshape(1, 1, rows, supersample, columns, supersample).mean((3, 5)).to(dtype)

    def line_integrals(self, geometry: Geometry) -> Float[Tensor, "1 1 views cells"]:
        """The exact sinogram, float64, in units of the values times the geometry's unit of length."""
        half = max(side * pixel for side, pixel in zip(geometry.shape, geometry.sides)) / 2
        rays = geometry.rays()
        return half * _chords(self.ellipses, Rays(rays.origin / half, rays.direction))[None, None]

    def kspace(self, k: Float[Tensor, "*points 2"]) -> Complex[Tensor, "*points"]:
        """The exact Fourier transform, complex128.

        Args:
            k: ``(x, y)`` in cycles a picture (of its longer side), ``y`` up.

        Returns:
            ``int f exp(-2 pi i k . r) dr`` with ``r`` in units of the picture's longer side.
        """
        kx, ky = k.double().unbind(-1)
        total = torch.zeros(kx.shape, dtype=torch.complex128, device=k.device)
        for row in self.ellipses:
            a, b, x, y = (half / 2 for half in (row.a, row.b, row.x, row.y))
            cos, sin = math.cos(math.radians(row.angle)), math.sin(math.radians(row.angle))
            q = torch.hypot(a * (kx * cos + ky * sin), b * (ky * cos - kx * sin))
            disc = torch.where(q > 0, torch.special.bessel_j1(2 * math.pi * q) / torch.where(q > 0, q, 1.0), math.pi)
            total += row.value * a * b * disc * torch.exp(-2j * math.pi * (kx * x + ky * y))
        return total


def _own_axes(row: Ellipse, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates in which the ellipse about the origin is the unit disc."""
    cos, sin = math.cos(math.radians(row.angle)), math.sin(math.radians(row.angle))
    return (x * cos + y * sin) / row.a, (y * cos - x * sin) / row.b


def _chords(ellipses: Sequence[Ellipse], rays: Rays) -> Tensor:
    (x, y), (dx, dy) = rays.origin.unbind(-1), rays.direction.unbind(-1)
    total = torch.zeros_like(x)
    for row in ellipses:
        u, w = _own_axes(row, x - row.x, y - row.y)
        du, dw = _own_axes(row, dx, dy)
        speed = torch.hypot(du, dw)
        distance = (u * dw - w * du) / speed
        total += row.value * 2 * (1 - distance**2).clamp(min=0).sqrt() / speed
    return total


def shepp_logan(modified: bool = True) -> Phantom:
    """The head phantom of ten ellipses.

    Args:
        modified: with the contrast of Toft 1996 (tissue 0.2 and up, in [0, 1]); else with that of Shepp and Logan
            1974, in which tissues differ by one percent of bone.
    """
    places = (
        (0.69, 0.92, 0.0, 0.0, 0.0),
        (0.6624, 0.874, 0.0, -0.0184, 0.0),
        (0.11, 0.31, 0.22, 0.0, -18.0),
        (0.16, 0.41, -0.22, 0.0, 18.0),
        (0.21, 0.25, 0.0, 0.35, 0.0),
        (0.046, 0.046, 0.0, 0.1, 0.0),
        (0.046, 0.046, 0.0, -0.1, 0.0),
        (0.046, 0.023, -0.08, -0.605, 0.0),
        (0.023, 0.023, 0.0, -0.606, 0.0),
        (0.023, 0.046, 0.06, -0.605, 0.0),
    )
    if modified:
        values = (1.0, -0.8, -0.2, -0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)
    else:
        values = (2.0, -0.98, -0.02, -0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01)
    return Phantom([Ellipse(value, *place) for value, place in zip(values, places)])


def random_ellipses(seed: int, inner: int = 12) -> Phantom:
    """A large ellipse with smaller ones inside, as heads and bellies have; values stay near 0 to 1.

    Args:
        seed: which one.
        inner: number of smaller ellipses.
    """
    require(inner >= 0, "inner", inner, "at least 0")
    draws = torch.rand(inner + 1, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    a, b, x, y, angle, _ = draws[0]
    rows = [Ellipse(0.5, 0.7 + 0.15 * a, 0.6 + 0.2 * b, 0.1 * x - 0.05, 0.1 * y - 0.05, 180 * angle)]
    for value, a, b, distance, direction, angle in draws[1:]:
        place = (
            0.45 * distance * math.cos(2 * math.pi * direction),
            0.45 * distance * math.sin(2 * math.pi * direction),
        )
        rows.append(Ellipse(0.6 * value - 0.25, 0.03 + 0.22 * a, 0.03 + 0.22 * b, *place, 180 * angle))
    return Phantom(rows)
