r"""Torsions of molecules as coordinates: which bonds turn, what their angles are, and positions with other angles.

A bond turns if it is single, in no ring, and both of its atoms have other neighbours and are not in a line with them
(alkynes, nitriles). Its torsion is the dihedral angle `a b c d` with the neighbours `a` of `b` and `d` of `c` that have
the lowest numbers; the choice shifts the coordinate and changes nothing else. Turning a bond by an angle turns all that
hangs on `c` about the line from `b` to `c`,

    x_k <- x_c + R(x_c - x_b, angle) (x_k - x_c),

and leaves every other torsion as it is, since the four atoms of another lie on one side, but for ends on the axis. So
torsions are set exactly, in any order, and turning the one side of a bond or the other differs by a motion of the whole
alone (Jing et al. 2022, 2206.01729, section 3.1 and proposition 1).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Rotors", "find_rotors", "measure_torsions", "set_torsions"]


class Rotors(NamedTuple):
    """The bonds of molecules that turn.

    Attributes:
        ends: ``(B, M, 4)`` int64, the atoms ``a, b, c, d`` of each; 0 where padded.
        sides: ``(B, M, N)``, True for the atoms that hang on ``c``, itself among them.
        mask: ``(B, M)``, True where there is one; at least one column.
    """

    ends: Int[Tensor, "batch rotors 4"]
    sides: Bool[Tensor, "batch rotors n"]
    mask: Bool[Tensor, "batch rotors"]


def find_rotors(orders: Float[Tensor, "batch n n"]) -> Rotors:
    """The bonds that turn.

    Args:
        orders: bond orders of molecules, symmetric, 0 where there is no bond and in the padding; hydrogens are atoms
            here as others are.
    """
    bonded = orders > 0
    degree = bonded.sum(2)
    straight = (degree == 2) & (orders.sum(2) > 3.5)  # a triple bond and another, or two double ones
    ends_well = (degree >= 2) & ~straight
    single = (orders == 1).triu(1) & ends_well[:, :, None] & ends_well[:, None]
    rows, b, c = single.nonzero().unbind(1)
    side = _sides(bonded, rows, b, c)
    bridge = ~side.gather(1, b[:, None])[:, 0]  # in a ring, b is reached from c another way
    rows, b, c, side = rows[bridge], b[bridge], c[bridge], side[bridge]
    near = bonded[rows]
    a = _first_other(near, b, c)
    d = _first_other(near, c, b)
    batch, n = degree.shape
    counts = torch.bincount(rows, minlength=batch)
    width = max(1, int(counts.max())) if batch else 1
    place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    ends = torch.zeros(batch, width, 4, dtype=torch.int64, device=orders.device)
    sides = torch.zeros(batch, width, n, dtype=torch.bool, device=orders.device)
    ends[rows, place] = torch.stack([a, b, c, d], 1)
    sides[rows, place] = side
    mask = torch.arange(width, device=orders.device) < counts[:, None]
    return Rotors(ends, sides, mask)


def _sides(bonded: Tensor, rows: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """``(K, N)``: what is reached from ``c`` without the bond to ``b``."""
    near = bonded[rows].float()
    each = torch.arange(len(rows), device=rows.device)
    near[each, b, c] = near[each, c, b] = 0
    found = torch.nn.functional.one_hot(c, bonded.shape[1]).to(near)
    while True:
        more = ((found[:, None] @ near)[:, 0] + found > 0).to(near)
        if torch.equal(more, found):
            return found > 0
        found = more


def _first_other(near: Tensor, atom: Tensor, but: Tensor) -> Tensor:
    """The first neighbour of an atom that is another than ``but``."""
    each = torch.arange(len(atom), device=atom.device)
    row = near[each, atom].clone()
    row[each, but] = False
    return row.int().argmax(1)


def measure_torsions(positions: Float[Tensor, "batch n 3"], rotors: Rotors) -> Float[Tensor, "batch rotors"]:
    """The angles in radians, in ``[-pi, pi)``, 0 where padded; seen along the bond, ``d`` clockwise from ``a`` is
    positive (IUPAC, and RDKit).
    """
    sine, cosine = _sine_cosine(positions, rotors)
    angle = torch.atan2(sine, cosine)
    return torch.where(rotors.mask, torch.where(angle >= torch.pi, -torch.pi, angle), 0.0)


def set_torsions(
    positions: Float[Tensor, "batch n 3"],
    rotors: Rotors,
    cosines: Float[Tensor, "batch rotors"],
    sines: Float[Tensor, "batch rotors"],
) -> Float[Tensor, "batch n 3"]:
    """Positions with torsions of these cosines and sines; lengths, angles and rings stay as they are.

    Args:
        positions: of molecules with any torsions.
        rotors: of them.
        cosines, sines: of the angles to set; differentiable.
    """
    sine, cosine = _sine_cosine(positions, rotors)
    size = (sine.square() + cosine.square()).sqrt().clamp(min=1e-12)
    sine, cosine = sine / size, cosine / size
    # The angle to turn by is the difference of the two; no angle itself is needed, nor where it is cut.
    turn_cosine = torch.where(rotors.mask, cosines * cosine + sines * sine, 1.0)
    turn_sine = torch.where(rotors.mask, sines * cosine - cosines * sine, 0.0)
    for m in range(rotors.mask.shape[1]):
        b, c = (_at(positions, rotors.ends[:, m, k]) for k in (1, 2))
        axis = torch.nn.functional.normalize(c - b, dim=-1, eps=1e-12)[:, None]
        arm = positions - c[:, None]
        cos, sin = turn_cosine[:, m, None, None], turn_sine[:, m, None, None]
        along = (arm * axis).sum(-1, keepdim=True) * axis
        turned = along + (arm - along) * cos + torch.linalg.cross(axis.expand_as(arm), arm) * sin
        positions = torch.where(rotors.sides[:, m, :, None], c[:, None] + turned, positions)
    return positions


def _at(positions: Tensor, atom: Tensor) -> Tensor:
    """Positions ``(B, *, 3)`` of atoms ``(B, *)``."""
    index = atom.reshape(len(atom), -1, 1).expand(-1, -1, 3)
    return positions.gather(1, index).reshape(*atom.shape, 3)


def _sine_cosine(positions: Tensor, rotors: Rotors) -> tuple[Tensor, Tensor]:
    """Numbers in proportion to sine and cosine of each angle."""
    a, b, c, d = (_at(positions, rotors.ends[..., k]) for k in range(4))
    back, axis, on = a - b, c - b, d - c
    first, second = torch.linalg.cross(axis, back), torch.linalg.cross(axis, on)
    length = axis.square().sum(-1).clamp(min=1e-24).sqrt()
    return (torch.linalg.cross(first, second) * axis).sum(-1) / length, (first * second).sum(-1)
