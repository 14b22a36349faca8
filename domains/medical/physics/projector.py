r"""Line integrals of a picture: the operator of computed tomography, as a sparse matrix with Joseph's weights.

Joseph 1982 (An improved algorithm for reprojecting rays through pixel images, IEEE Trans. Med. Imaging 1, eqs. 4-6):
along the axis in which a ray is steeper, each line of pixels is crossed once; the picture is interpolated linearly
between the two pixels beside the crossing and weighted by the length of ray ``d / |cos|`` between two lines.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.core.inverse.operators import LinearOperator
from ornstein.core.schedules import require
from ornstein.domains.medical.physics.geometry import Geometry
from ornstein.domains.medical.physics.sparse import SparseMatrix

__all__ = ["Projector", "joseph_weights"]


class Projector(LinearOperator):
    """``y = A x``: the sinogram ``(B, channels, views, cells)`` of pictures ``(B, channels, rows, columns)``.

    Line integrals are in units of ``x`` times the length unit of the geometry: of attenuation in 1/mm they are in
    nepers, without unit.  The adjoint is exact.  Parallel and fan beams, any angles, any part of the picture.

    Args:
        geometry: where the rays run.
        channels: pictures side by side, each projected alike (real and imaginary parts, energies).
        dtype: of the weights.

    Raises:
        TypeError: by the call, pictures or sinograms of whole numbers.
        ValueError: no geometry, no channels, or by the call another shape.

    Example:
        >>> import torch
        >>> from ornstein.domains.medical.physics.geometry import ParallelBeam, spread_angles
        >>> A = Projector(ParallelBeam((32, 32), spread_angles(12)))
        >>> y = A(torch.ones(1, 1, 32, 32))
        >>> y.shape, round(float(y[0, 0, 0].max()), 4)
        (torch.Size([1, 1, 12, 46]), 32.0)
    """

    def __init__(self, geometry: Geometry, channels: int = 1, dtype: torch.dtype = torch.float32) -> None:
        require(isinstance(geometry, Geometry), "geometry", geometry, "a ParallelBeam or a FanBeam")
        require(channels >= 1, "channels", channels, "at least 1")
        super().__init__((channels, *geometry.shape), (channels, geometry.views, geometry.count))
        self.geometry, self.channels, self.dtype = geometry, channels, dtype
        self.matrix = SparseMatrix(*joseph_weights(geometry, dtype), geometry.shape[0] * geometry.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        return self.matrix(_rows(x, self.shape, "x")).reshape(-1, *self.measured)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.matrix.transpose(_rows(y, self.measured, "y")).reshape(-1, *self.shape)


def _rows(x: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    if tuple(x.shape[1:]) != shape:
        raise ValueError(f"{name} of shape {tuple(x.shape)}: expected (batch, *{shape})")
    if not (x.is_floating_point() or x.is_complex()):
        raise TypeError(f"{name} of {x.dtype}: expected real or complex numbers, such as {name}.float()")
    return x.reshape(len(x) * shape[0], -1)


def joseph_weights(
    geometry: Geometry, dtype: torch.dtype = torch.float32
) -> tuple[Int[Tensor, " rays+1"], Int[Tensor, " count"], Float[Tensor, " count"]]:
    """Joseph's weights by rows: where each ray begins, its pixels (``row * columns + column``) and their weights.

    Args:
        geometry: the rays and the grid; a ray is a row, views first, then cells.
        dtype: of the weights, which are worked out in float64.
    """
    rays = geometry.rays()
    counts, pixels, weights = [], [], []
    for origin, direction in zip(*rays):  # a view at a time stays in the processor's cache
        kept, pixel, weight = _crossings(origin, direction, geometry)
        counts.append(kept.sum((1, 2)))
        pixels.append(pixel[kept].int())
        weights.append(weight[kept].to(dtype))
    starts = torch.cat([torch.zeros(1, dtype=torch.long), torch.cat(counts).cumsum(0)])
    return starts, torch.cat(pixels), torch.cat(weights)


def _crossings(origin: Tensor, direction: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor, Tensor]:
    """For ``R`` rays and ``N`` lines of pixels: which of the two pixels ``(R, N, 2)`` count, their numbers and
    weights.
    """
    (rows, columns), (down, across) = geometry.shape, geometry.sides
    (px, py), (dx, dy) = origin.unbind(-1), direction.unbind(-1)
    # In units of pixels, rows counted downwards.
    i, di = (rows - 1) / 2 - py / down, -dy / down
    j, dj = (columns - 1) / 2 + px / across, dx / across
    steep = di.abs() >= dj.abs()
    major, step = torch.where(steep, i, j), torch.where(steep, di, dj)
    minor, drift = torch.where(steep, j, i), torch.where(steep, dj, di)
    lines, width = torch.where(steep, rows, columns), torch.where(steep, columns, rows)
    stride, beside = torch.where(steep, columns, 1), torch.where(steep, 1, columns)

    line = torch.arange(max(rows, columns), dtype=torch.float64)
    position = minor[:, None] + (line - major[:, None]) * (drift / step)[:, None]
    low = position.floor()
    share = position - low
    neighbour = torch.stack([low, low + 1], -1).long()
    weight = torch.stack([1 - share, share], -1) / step.abs()[:, None, None]
    inside = (neighbour >= 0) & (neighbour < width[:, None, None]) & (line < lines[:, None])[..., None]
    pixel = line.long()[:, None] * stride[:, None, None] + neighbour * beside[:, None, None]
    return inside & (weight > 0), pixel, weight
