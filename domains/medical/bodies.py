"""Bodies in a volume: apart from what lies beside them, and cut at any angle, for more slices to learn from.

Axial slices of one head show its vault from the side only. A plane that is tilted until it cuts off the forehead or the
occiput shows what an axial slice of the crown does: a small closed ring of thick bone. A table or a head rest is where
it is, whatever is done to the body (`ScanData(still=...)`).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d

from ornstein.core.optional import need
from ornstein.core.schedules import require

__all__ = ["apart", "oblique_slices"]

OFFSETS = 20  # planes of a direction that are tried before another direction
DIRECTIONS = 50  # for one plane that is kept, at most
MARGIN = 3  # pixels around a body that are still its own
LEAST = 0.01  # of its pixels show the body in a plane that is kept
ENDS = 0.1  # of the root of that area: the length of the edges at which the volume ends, at most
COARSE = 4  # pixels to a side of those that a plane is first looked at in


def apart(slices: Tensor, above: float) -> tuple[Tensor, Tensor]:
    """The body of each slice, and what lies beside it, both ``(N, C, rows, columns)``; their maximum is the slice.

    The body is the largest piece that hangs together over values above ``above``, once lines of a pixel or two are
    gone, with its cavities and a rim of three pixels. The least value of all slices stands where the other one is.

    Args:
        slices: ``(N, C, rows, columns)``; the body is looked for in the first channel.
        above: the body has values above this, what is between it and other things has not.

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    ndimage = need("scipy.ndimage", to="tell bodies from what lies beside them", extra="medical")
    require(slices.ndim == 4 and slices.numel() > 0, "slices", tuple(slices.shape), "(N, C, rows, columns)")
    require(bool(slices.isfinite().all()), "slices", "NaN or infinite values", "finite values")
    masks = np.zeros((len(slices), 1, *slices.shape[2:]), bool)
    for mask, picture in zip(masks, slices[:, 0].cpu().numpy()):
        pieces, count = ndimage.label(ndimage.binary_opening(picture > above))
        if count:
            largest = np.bincount(pieces.ravel())[1:].argmax() + 1
            mask[0] = ndimage.binary_dilation(ndimage.binary_fill_holes(pieces == largest), iterations=MARGIN)
    body, empty = torch.from_numpy(masks).to(slices.device), slices.min()
    return torch.where(body, slices, empty), torch.where(body, empty, slices)


def rotation(generator: torch.Generator) -> Tensor:
    """A rotation ``(3, 3)`` float64, uniform: the unit quaternion of four normals."""
    w, x, y, z = torch.nn.functional.normalize(torch.randn(4, generator=generator, dtype=torch.float64), dim=0)
    return torch.stack(
        [
            torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]),
            torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]),
            torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]),
        ]
    )


def cut(
    volume: Tensor, extent: Tensor, turn: Tensor, offset: Tensor, empty: float, step: int = 1
) -> tuple[Tensor, Tensor]:
    """One plane's values ``(C, H, W)`` and the pixels ``(H, W)`` that lie within the volume.

    Args:
        volume: ``(C, S, H, W)``.
        extent: of the volume along slices, rows and columns, ``(3,)`` in mm.
        turn: rotation; its rows are the plane's normal and its directions of rows and columns.
        offset: of the plane from the middle of the volume along its normal, in mm.
        empty: value outside the volume.
        step: how many pixels become one.
    """
    down, right = ((torch.arange(n // step, dtype=torch.float64) + 0.5) * step / n - 0.5 for n in volume.shape[2:])
    points = offset * turn[0] + (down * extent[1])[:, None, None] * turn[1] + (right * extent[2])[:, None] * turn[2]
    place = 2 * points / extent
    grid = place.flip(-1)[None, None].to(volume)
    values = grid_sample(volume[None] - empty, grid, align_corners=False)[0, :, 0] + empty
    return values, place.abs().amax(-1) < 1


def whole(values: Tensor, within: Tensor, body: float) -> bool:
    """Whether a plane shows enough of the body, and hardly cuts it off where the volume ends."""
    solid = (values > body).any(0)
    beyond = max_pool2d((~within)[None, None].float(), 3, 1, 1)[0, 0] > 0
    area, ends = int(solid.sum()), int((solid & beyond).sum())
    return area >= LEAST * solid.numel() and ends <= ENDS * area**0.5


def plane(volume: Tensor, extent: Tensor, body: float, empty: float, generator: torch.Generator) -> Tensor:
    """The first plane at random that shows the body whole."""
    for _ in range(DIRECTIONS):
        turn = rotation(generator)
        reach = (turn[0].abs() * extent).sum() / 2
        for offset in reach * (2 * torch.rand(OFFSETS, generator=generator, dtype=torch.float64) - 1):
            if whole(*cut(volume, extent, turn, offset, empty, COARSE), body):
                return cut(volume, extent, turn, offset, empty)[0]
    raise ValueError(f"no plane shows the body whole, values above {body:g}: give more of it, or another body=")


def oblique_slices(volume: Tensor, spacing: Sequence[float], num: int, body: float, seed: int = 0) -> Tensor:
    """Planes at random through a body, ``(num, C, rows, columns)``, with pixels as in the slices of the volume.

    A plane has a uniform direction and offset and is kept where the body is at least a hundredth of its pixels and is
    not cut off: no more of it meets the ends of the volume than a tenth of the root of its area. Directions in which
    20 offsets show no such plane are left out. Values are interpolated linearly; outside the volume they are its least.

    Args:
        volume: slices ``(S, C, rows, columns)`` in order.
        spacing: of slices, rows and columns, in mm.
        num: how many planes.
        body: values above this are of the body: those of bone, where soft tissue may be cut off.
        seed: of the draws.

    Raises:
        ValueError: other shapes, spacings that are not above zero, NaN, or a body that no plane shows whole.
    """
    expected = f"slices (S, C, rows, columns), at least {COARSE} rows and columns"
    enough = volume.ndim == 4 and len(volume) > 0 and min(volume.shape[2:]) >= COARSE
    require(enough, "volume", tuple(volume.shape), expected)
    require(bool(volume.isfinite().all()), "volume", "NaN or infinite values", "finite values")
    require(len(spacing) == 3 and min(spacing) > 0, "spacing", spacing, "three distances above zero, in mm")
    require(num >= 0, "num", num, "no less than 0")
    least = float(volume.min())
    stacked = volume.transpose(0, 1)
    extent = torch.tensor([n * mm for n, mm in zip(stacked.shape[1:], spacing)], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    planes = [plane(stacked, extent, body, least, generator) for _ in range(num)]
    return torch.stack(planes) if planes else volume.new_zeros(0, *volume.shape[1:])
