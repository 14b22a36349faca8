"""Bodies apart from what lies beside them; planes of linear functions and balls, whose values and shapes are known."""

import math

import pytest
import torch

from ornstein.domains.medical import apart, oblique_slices
from ornstein.domains.medical.bodies import cut, rotation

SPACING = (2.0, 1.0, 1.5)
SHAPE = (20, 48, 40)


def places() -> torch.Tensor:
    """Where the voxels are, from the middle, ``(slices, rows, columns, 3)`` in mm."""
    axes = [(torch.arange(n) + 0.5 - n / 2) * mm for n, mm in zip(SHAPE, SPACING)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def ball(radius: float) -> torch.Tensor:
    """How far below its surface, in mm."""
    return (radius - places().norm(dim=-1))[:, None]


def test_rotations_are_uniform():
    draws = torch.Generator().manual_seed(0)
    turns = torch.stack([rotation(draws) for _ in range(4000)])
    eye = torch.eye(3, dtype=torch.float64).expand(4000, 3, 3)
    torch.testing.assert_close(turns @ turns.mT, eye, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(4000, dtype=torch.float64))
    # An entry of a uniform rotation is uniform on (-1, 1): variance 1/3, fourth moment 1/5; five standard errors.
    assert turns.mean(0).abs().max() < 5 * math.sqrt(1 / 3 / 4000)
    assert (turns.square().mean(0) - 1 / 3).abs().max() < 5 * math.sqrt((1 / 5 - 1 / 9) / 4000)


def test_a_plane_of_a_linear_function():
    """Linear interpolation has no error here, away from the ends of the volume."""
    slope = torch.tensor([0.3, -1.1, 0.7])
    volume = (places() @ slope)[None]
    extent = torch.tensor([n * mm for n, mm in zip(SHAPE, SPACING)], dtype=torch.float64)
    turn, offset = rotation(torch.Generator().manual_seed(3)), torch.tensor(1.7, dtype=torch.float64)
    values, within = cut(volume, extent, turn, offset, 0.0)
    _, rows, columns = SHAPE
    down, right = ((torch.arange(n) + 0.5 - n / 2) * mm for n, mm in zip((rows, columns), SPACING[1:]))
    points = offset * turn[0] + down[:, None, None] * turn[1] + right[:, None] * turn[2]
    inner = ((points.abs() + torch.tensor(SPACING)) < extent / 2).all(-1)
    assert inner.sum() > 100
    assert within[inner].all()
    torch.testing.assert_close(values[0][inner], (points @ slope.double())[inner].float(), rtol=1e-5, atol=1e-4)


def test_without_turning_planes_are_the_slices():
    volume = torch.randn(*SHAPE, generator=torch.Generator().manual_seed(0))[None]
    extent = torch.tensor([n * mm for n, mm in zip(SHAPE, SPACING)], dtype=torch.float64)
    for number in (0, 7, 19):
        offset = torch.tensor((number + 0.5 - SHAPE[0] / 2) * SPACING[0], dtype=torch.float64)
        values, within = cut(volume, extent, torch.eye(3, dtype=torch.float64), offset, 0.0)
        assert within.all()
        torch.testing.assert_close(values, volume[:, number], rtol=0, atol=1e-4)


def test_planes_of_a_ball_are_discs():
    """A disc of so many pixels has the second moment of a disc of that area, whichever way the plane lies."""
    planes = oblique_slices(ball(14.0), SPACING, 40, 0.0, seed=1)
    assert planes.shape == (40, 1, *SHAPE[1:])
    assert planes.dtype == torch.float32
    solid = planes[:, 0] > 0
    areas = solid.sum((1, 2)) * SPACING[1] * SPACING[2]
    down, right = ((torch.arange(n) + 0.5 - n / 2) * mm for n, mm in zip(SHAPE[1:], SPACING[1:]))
    square = down[:, None] ** 2 + right**2
    moments = (solid * square).sum((1, 2)) * SPACING[1] * SPACING[2]
    large = areas > 100  # for the moment of few pixels is coarse
    assert large.sum() > 20
    torch.testing.assert_close(moments[large], areas[large].square() / (2 * math.pi), rtol=0.03, atol=0)
    assert areas.max() <= 1.05 * math.pi * 14**2
    assert areas.min() < 0.5 * math.pi * 14**2


def test_planes_are_kept_where_the_body_is_whole():
    """A rod along the slices is cut off at both ends: only planes across it are left."""
    place = places()
    rod = (place[..., 1:].norm(dim=-1) < 5).float()[:, None]
    planes = oblique_slices(rod, SPACING, 20, 0.5)
    widths = (planes[:, 0] > 0.5).sum((1, 2)).float() * SPACING[1] * SPACING[2]
    across = math.pi * 5**2
    assert widths.min() > 0.85 * across
    assert widths.max() < 4 * across
    with pytest.raises(ValueError, match="no plane shows the body whole, values above 2"):
        oblique_slices(rod, SPACING, 1, 2.0)


def test_seeds_and_values_outside():
    volume = (ball(14.0) > 0).float() * 100 - 1000
    planes = oblique_slices(volume, SPACING, 3, -950.0, seed=4)
    assert torch.equal(planes, oblique_slices(volume, SPACING, 3, -950.0, seed=4))
    assert not torch.equal(planes, oblique_slices(volume, SPACING, 3, -950.0, seed=5))
    assert planes.min() == -1000
    assert planes.max() == -900
    assert oblique_slices(volume, SPACING, 0, -950.0).shape == (0, 1, *SHAPE[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"volume": torch.zeros(4, 8, 8)}, r"volume=\(4, 8, 8\)"),
        ({"volume": torch.zeros(4, 1, 3, 8)}, "at least 4 rows"),
        ({"volume": torch.zeros(0, 1, 8, 8)}, r"volume=\(0, 1, 8, 8\)"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing"),
        ({"spacing": (1.0, 1.0)}, "spacing"),
        ({"num": -1}, "num=-1"),
        ({"volume": torch.full((4, 1, 8, 8), math.nan)}, "volume"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {"volume": torch.zeros(4, 1, 8, 8), "spacing": SPACING, "num": 1, "body": 0.5} | change
    with pytest.raises(ValueError, match=message):
        oblique_slices(**given)


def test_a_body_and_what_lies_beside_it():
    """A head with a cavity on a rest: each of the two alone, nothing lost, and thin lines do not tie them together."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    radius = ((rows - 36) ** 2 + (columns - 30) ** 2).double().sqrt()
    head, rest = (radius < 16) & ~(radius < 5), (rows >= 5) & (rows < 8)
    wire = (columns == 30) & (rows >= 8) & (rows < 21)
    pictures = torch.full((2, 1, 64, 64), -1000.0)
    pictures[:, 0, head] = 40.0
    pictures[:, 0, rest | wire] = 900.0
    pictures[1] = -1000.0
    body, beside = apart(pictures, -400.0)
    assert torch.equal(torch.maximum(body, beside), pictures)
    assert torch.equal(body[0, 0][head], pictures[0, 0][head])
    assert bool((body[0, 0][rest] == -1000).all())
    assert torch.equal(beside[0, 0][rest], pictures[0, 0][rest])
    assert bool((beside[0, 0][radius < 16] == -1000).all())
    assert bool((body[1] == -1000).all())
    with pytest.raises(ValueError, match="NaN"):
        apart(torch.full((1, 1, 8, 8), math.nan), 0.0)
    for shape in ((8, 8), (0, 1, 8, 8)):
        with pytest.raises(ValueError, match=rf"slices=\({shape[0]}, "):
            apart(torch.zeros(shape), 0.0)
