r"""Which lines or points of k-space are measured: fastMRI's masks, and variable-density Poisson discs.

Zbontar et al. 2018 (fastMRI, 1811.08839), section 4.9: of ``N`` columns the middle ``round(N centre)`` are always
measured, and others so that ``N / acceleration`` are in all.
"""

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from ornstein.core.schedules import require

__all__ = ["equispaced_mask", "poisson_disc_mask", "random_mask"]


def _check(columns: int, acceleration: float, centre: float) -> int:
    """Number of the columns in the middle."""
    require(columns >= 2, "columns", columns, "at least 2")
    require(1 <= acceleration <= columns, "acceleration", acceleration, f"a number from 1 to columns = {columns}")
    require(0 <= centre < 1, "centre", centre, "a part from 0 to below 1")
    middle = round(columns * centre)
    most = columns / acceleration
    require(middle <= most, "centre", centre, f"at most 1 / acceleration = {1 / acceleration:.4g}")
    return middle


def _with_middle(mask: Tensor, middle: int) -> Tensor:
    first = (len(mask) - middle + 1) // 2
    mask[first : first + middle] = True
    return mask


def random_mask(
    columns: int, acceleration: float = 4.0, centre: float = 0.08, seed: int = 0
) -> Bool[Tensor, " columns"]:
    """Each column outside of the middle ``M = round(N centre)`` with probability ``(N / acceleration - M) / (N - M)``.

    Args:
        columns: ``N``.
        acceleration: columns for each one measured, on average; 4 with ``centre=0.08`` and 8 with 0.04 in fastMRI.
        centre: part of the columns that are always measured.
        seed: which mask.
    """
    middle = _check(columns, acceleration, centre)
    share = (columns / acceleration - middle) / (columns - middle)
    draws = torch.rand(columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return _with_middle(draws < share, middle)


def equispaced_mask(
    columns: int, acceleration: float = 4.0, centre: float = 0.08, offset: int | None = None, seed: int = 0
) -> Bool[Tensor, " columns"]:
    """Evenly spaced columns besides the middle, at the distance that keeps the acceleration.

    With the middle ``M``, the distance is ``a (M - N) / (M a - N)`` for the acceleration ``a``; places are rounded.

    Args:
        columns, acceleration, centre: as in `random_mask`.
        offset: the first column; drawn by ``seed`` when not given.
        seed: which offset.
    """
    middle = _check(columns, acceleration, centre)
    require(middle < columns / acceleration, "centre", centre, "less than 1 / acceleration, to leave other columns")
    distance = acceleration * (middle - columns) / (middle * acceleration - columns)
    if offset is None:
        offset = int(torch.randint(0, max(1, round(distance)), (1,), generator=torch.Generator().manual_seed(seed)))
    require(0 <= offset < distance, "offset", offset, f"at least 0 and below the distance {distance:.4g}")
    places = torch.arange(offset, columns - 1, distance, dtype=torch.float64).round().long()
    mask = torch.zeros(columns, dtype=torch.bool)
    mask[places] = True
    return _with_middle(mask, middle)


def poisson_disc_mask(
    shape: int | tuple[int, int], acceleration: float = 4.0, centre: float = 0.08, seed: int = 0, decay: float = 1.0
) -> Bool[Tensor, "..."]:
    """Random places that keep a distance which grows from the middle of k-space outwards.

    Places are tried in random order; one is measured if it is at least ``r = scale (1 + decay |k| / k_max)`` from
    every other measured one, with the larger ``r`` of the two.  ``scale`` is found by bisection for the acceleration.
    Vasanawala et al. 2011 (ISBI, Practical parallel imaging compressed sensing MRI).

    Args:
        shape: number of columns for ``(columns,)`` lines, or ``(rows, columns)`` for points of two phase encodings.
        acceleration: places for each one measured, to within what one place or 2 % make.
        centre: part of each axis whose middle is always measured.
        seed: which mask.
        decay: how much sparser the edge is than the middle; 0 for the same distance everywhere.
    """
    rows, columns = (1, shape) if isinstance(shape, int) else shape
    sides = [round(columns * centre), 1 if rows == 1 else round(rows * centre)]
    require(decay >= 0, "decay", decay, "at least 0")
    require(0 <= centre < 1, "centre", centre, "a part from 0 to below 1")
    require(1 < acceleration <= rows * columns, "acceleration", acceleration, "more than 1")
    wanted = rows * columns / acceleration
    require(sides[0] * sides[1] < wanted, "centre", centre, "a middle smaller than what is measured in all")
    order = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(seed))
    distance = _distances(rows, columns)
    low, high = 0.0, 4.0 * acceleration
    best, gap = torch.zeros(rows, columns, dtype=torch.bool), math.inf
    for _ in range(24):
        scale = (low + high) / 2
        mask = _throw(order, scale * (1 + decay * distance))
        if centre:
            _block(mask, sides)
        excess = float(mask.sum()) - wanted
        if abs(excess) < gap:
            best, gap = mask, abs(excess)
        if gap <= max(0.5, 0.01 * wanted):
            break
        low, high = (scale, high) if excess > 0 else (low, scale)
    if gap > max(1.0, 0.02 * wanted):
        raise ValueError(
            f"acceleration={acceleration} on {rows}x{columns}: only {int(best.sum())} places of {wanted:.4g} found; "
            "give another seed, or a smaller decay"
        )
    return best[0] if isinstance(shape, int) else best


def _distances(rows: int, columns: int) -> Tensor:
    """From the middle, 1 at the middle of the furthest edge."""
    i, j = ((torch.arange(n) - n // 2) / max(1, n // 2) for n in (rows, columns))
    return torch.hypot(i[:, None], j)


def _block(mask: Tensor, sides: list[int]) -> None:
    (rows, columns), (wide, high) = mask.shape, sides
    top, left = (rows - high + 1) // 2, (columns - wide + 1) // 2
    mask[top : top + high, left : left + wide] = True


def _throw(order: Tensor, radius: Tensor) -> Tensor:
    """Places taken in ``order``, each at least the larger of both radii from those taken before."""
    rows, columns = radius.shape
    reach = math.ceil(float(radius.max()))
    i, j = (torch.arange(-reach, reach + 1) for _ in range(2))
    away = torch.hypot(i[:, None].float(), j.float()).numpy()
    taken = torch.zeros(rows, columns, dtype=torch.bool)
    # As arrays: small slices cost torch ten times as much.
    grid, blocked, radii = taken.numpy(), taken.clone().numpy(), radius.numpy()
    for place in order.tolist():
        row, column = divmod(place, columns)
        if blocked[row, column]:
            continue
        own = radii[row, column]
        near = math.ceil(own)
        part = (slice(max(0, row - near), row + near + 1), slice(max(0, column - near), column + near + 1))
        first = (part[0].start - row + reach, part[1].start - column + reach)
        window = grid[part]
        within = away[first[0] : first[0] + window.shape[0], first[1] : first[1] + window.shape[1]] < own
        if (window & within).any():
            continue
        grid[row, column] = True
        blocked[part] |= within
    return taken
