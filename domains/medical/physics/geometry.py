r"""Where the rays of a scanner run: parallel and fan beams over a grid of pixels.

Positions are in millimetres, or in any unit of length that ``pixel`` is in.  The origin is the middle of the picture
and the centre of rotation, ``x`` points to the right along a row, ``y`` up.  At the angle ``theta`` the beam runs along
``u = (-sin theta, cos theta)`` and detector positions ``s`` along ``n = (cos theta, sin theta)``:

* parallel: the ray ``s`` is the line ``x cos theta + y sin theta = s``;
* fan: the source stands at ``-source u``, and rays go to a detector at ``+detector u``, flat or an arc about it.

A fan whose source is far away is a parallel beam.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.schedules import require

__all__ = ["FanBeam", "Geometry", "ParallelBeam", "Rays", "spread_angles"]


class Rays(NamedTuple):
    """Lines ``origin + t direction`` with unit directions, both ``(views, cells, 2)`` as ``(x, y)``, float64."""

    origin: Float[Tensor, "views cells 2"]
    direction: Float[Tensor, "views cells 2"]


def spread_angles(views: int, arc: float = 180.0, start: float = 0.0) -> tuple[float, ...]:
    """``views`` angles in degrees from ``start``, evenly over ``arc``, whose end is left out.

    Args:
        views: how many.
        arc: degrees; 180 for a whole parallel scan, 360 for a whole fan scan, less for a limited angle.
        start: the first.
    """
    require(views >= 1, "views", views, "at least 1")
    return tuple(start + arc * i / views for i in range(views))


@dataclass(frozen=True)
class Geometry:
    """What both beams have: a grid of pixels, angles and a row of detector cells.

    Args:
        shape: ``(rows, columns)`` of the picture.
        angles: in degrees, one a view, in any order.
        cells: number of detector cells; None for as many as see the whole picture.
        spacing: distance of their middles, in millimetres; None for the smaller side of a pixel, seen from the centre
            of rotation.
        pixel: sides ``(row, column)`` of a pixel in millimetres, or one number for both.
        shift: of the detector's middle against the central ray, in millimetres (a quarter of ``spacing``, say).
    """

    shape: tuple[int, int]
    angles: Sequence[float] = field(repr=False)
    cells: int | None = None
    spacing: float | None = None
    pixel: float | tuple[float, float] = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        shape = tuple(int(side) for side in self.shape)
        require(len(shape) == 2 and min(shape) >= 1, "shape", self.shape, "(rows, columns) of the picture")
        angles = tuple(float(angle) for angle in self.angles)
        require(bool(angles) and all(map(math.isfinite, angles)), "angles", self.angles, "finite numbers of degrees")
        require(self.cells is None or self.cells >= 1, "cells", self.cells, "at least 1")
        require(self.spacing is None or self.spacing > 0, "spacing", self.spacing, "a positive length")
        sides = self.pixel if isinstance(self.pixel, tuple) else (self.pixel, self.pixel)
        good = len(sides) == 2 and all(0 < side < math.inf for side in sides)
        require(good, "pixel", self.pixel, "a positive length, or (row, column) lengths")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "angles", angles)

    @property
    def views(self) -> int:
        """Number of angles."""
        return len(self.angles)

    @property
    def sides(self) -> tuple[float, float]:
        """Of a pixel, ``(row, column)``."""
        return self.pixel if isinstance(self.pixel, tuple) else (self.pixel, self.pixel)

    @property
    def radius(self) -> float:
        """From the centre to a corner of the picture."""
        return 0.5 * math.hypot(self.shape[0] * self.sides[0], self.shape[1] * self.sides[1])

    @property
    def magnification(self) -> float:
        """How much longer things at the centre of rotation are on the detector."""
        return 1.0

    @property
    def cell(self) -> float:
        """``spacing``, or what stands for it."""
        return min(self.sides) * self.magnification if self.spacing is None else self.spacing

    @property
    def reach(self) -> float:
        """Half the width of a detector that sees the whole picture."""
        return self.radius

    @property
    def count(self) -> int:
        """``cells``, or as many as see the whole picture."""
        return math.ceil(2 * self.reach / self.cell) if self.cells is None else self.cells

    def theta(self) -> Float[Tensor, " views"]:
        """Angles in radians, float64."""
        return torch.deg2rad(torch.tensor(self.angles, dtype=torch.float64))

    def positions(self) -> Float[Tensor, " cells"]:
        """Middles of the detector cells, float64."""
        middle = torch.arange(self.count, dtype=torch.float64) - (self.count - 1) / 2
        return middle * self.cell + self.shift

    def axes(self) -> tuple[Float[Tensor, " views 1 2"], Float[Tensor, " views 1 2"]]:
        """Unit vectors ``n`` along the detector and ``u`` along the beam of each view."""
        cos, sin = self.theta().cos(), self.theta().sin()
        return torch.stack([cos, sin], -1)[:, None], torch.stack([-sin, cos], -1)[:, None]

    def rays(self) -> Rays:
        """The lines that are measured."""
        raise NotImplementedError

    def pixels(self) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "rows columns"]]:
        """``x`` and ``y`` of the middles of the pixels, float64."""
        rows, columns = self.shape
        y = ((rows - 1) / 2 - torch.arange(rows, dtype=torch.float64)) * self.sides[0]
        x = (torch.arange(columns, dtype=torch.float64) - (columns - 1) / 2) * self.sides[1]
        return x.expand(rows, columns), y[:, None].expand(rows, columns)

    def view(self, views: Sequence[int]) -> "Geometry":
        """Some views of this geometry, in the order given."""
        return replace(self, angles=tuple(self.angles[i] for i in views))


@dataclass(frozen=True)
class ParallelBeam(Geometry):
    """Parallel rays: a synchrotron, or a fan beam's data rebinned.

    An interior scan is one with fewer ``cells`` than see the whole picture.

    Args:
        shape, angles, cells, spacing, pixel, shift: as in `Geometry`.

    Example:
        >>> ParallelBeam((128, 128), spread_angles(60)).count
        182
    """

    def rays(self) -> Rays:
        n, u = self.axes()
        origin = self.positions()[:, None] * n
        return Rays(origin, u.expand_as(origin))


@dataclass(frozen=True)
class FanBeam(Geometry):
    """Rays from a source on a circle about the picture: a slice of a clinical scanner.

    Args:
        shape, angles, cells, spacing, pixel, shift: as in `Geometry`; ``spacing`` is measured on the detector, along
            the arc where it is one.
        source: distance of the source from the centre of rotation, beyond the picture's corners.
        detector: distance of the detector's middle from the centre of rotation, at least 0.
        arc: whether the detector is an arc about the source (equal angles) or flat (equal distances).
    """

    source: float = field(default=0.0, kw_only=True)
    detector: float = field(default=0.0, kw_only=True)
    arc: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.source > self.radius, "source", self.source, f"more than {self.radius:.6g}, outside the picture")
        require(self.detector >= 0, "detector", self.detector, "at least 0")
        widest = max(abs(float(angle)) for angle in self.fan_angles()[[0, -1]])
        require(widest < math.pi / 2, "cells", self.count, "a fan of less than 90 degrees on each side")

    @property
    def magnification(self) -> float:
        return (self.source + self.detector) / self.source

    @property
    def reach(self) -> float:
        widest = math.asin(self.radius / self.source)
        return (self.source + self.detector) * (widest if self.arc else math.tan(widest))

    def fan_angles(self) -> Float[Tensor, " cells"]:
        """Between each ray and the central one, in radians, float64."""
        relative = self.positions() / (self.source + self.detector)
        return relative if self.arc else relative.atan()

    def rays(self) -> Rays:
        n, u = self.axes()
        fan = self.fan_angles()[:, None]
        direction = fan.sin() * n + fan.cos() * u
        # From the point nearest to the centre of rotation, so that positions stay small.
        nearest = -self.source * u
        return Rays(nearest - (nearest * direction).sum(-1, keepdim=True) * direction, direction)
