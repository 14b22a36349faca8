"""Operations of the manifolds: maps and distances, transport, frames, projections, and what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from manifold_spaces import directions, every_space, points
from scipy.linalg import polar
from scipy.spatial.transform import Rotation
from scipy.stats import kstest
from torch import Tensor

from ornstein.core.manifolds import SO3, Manifold, Sphere, Torus


@every_space
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), radius=st.floats(0, math.pi - 1e-3))
def test_logarithm_inverts_exponential_and_distance_is_its_length(manifold, event, seed: int, radius: float) -> None:
    x = points(manifold, (3, *event), seed)
    v = radius * directions(manifold, x, seed + 1)
    y = manifold.exp(x, v)
    torch.testing.assert_close(manifold.log(x, y), v, rtol=0, atol=1e-11)
    distance = manifold.distance(x, y)
    torch.testing.assert_close(distance, torch.full_like(distance, radius), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(manifold.exp(y, manifold.log(y, x)), x, rtol=0, atol=1e-11)


@every_space
def test_small_distances_and_the_cut_locus_lose_no_digits(manifold: Manifold, event) -> None:
    x = points(manifold, (50, *event), 0)
    u = directions(manifold, x, 1)
    for radius in (1e-12, 1e-7, math.pi - 1e-7, math.pi):
        y = manifold.exp(x, radius * u)
        relative = max(1e-4, 1e-16 / radius * 10) if radius < 1e-10 else 1e-8
        expected = torch.full_like(manifold.distance(x, y), radius)
        torch.testing.assert_close(manifold.distance(x, y), expected, rtol=relative, atol=0)
        there = manifold.exp(x, manifold.log(x, y))
        torch.testing.assert_close(manifold.distance(there, y), torch.zeros_like(expected), rtol=0, atol=1e-7)
    assert (manifold.log(x, x) == 0).all() or manifold.norm(manifold.log(x, x)).max() < 1e-14


def test_distances_agree_with_scipy() -> None:
    x, y = (points(SO3(), (200, 3, 3), seed) for seed in (0, 1))
    angle = (Rotation.from_matrix(x.numpy()).inv() * Rotation.from_matrix(y.numpy())).magnitude()
    np.testing.assert_allclose(SO3().distance(x, y).numpy(), angle, atol=1e-10)
    vector = Rotation.from_matrix((x.mT @ SO3().exp(x, SO3().from_features(x, y[:, 0]))).numpy()).as_rotvec()
    np.testing.assert_allclose(vector, y[:, 0].numpy(), atol=1e-12)
    x, y = (points(Sphere(3), (200, 4), seed) for seed in (0, 1))
    np.testing.assert_allclose(Sphere(3).distance(x, y).numpy(), np.arccos((x * y).sum(-1).numpy()), atol=1e-10)
    x, y = (points(Torus(4), (200, 4), seed) for seed in (0, 1))
    angle = np.abs(np.angle(np.exp(1j * (y - x).numpy())))
    np.testing.assert_allclose(Torus(4).distance(x, y).numpy(), angle, atol=1e-13)


@every_space
def test_transport_is_an_isometry_along_the_geodesic(manifold: Manifold, event) -> None:
    x = points(manifold, (20, *event), 0)
    v = 2.0 * directions(manifold, x, 1)
    u, w = directions(manifold, x, 2), directions(manifold, x, 3)
    y = manifold.exp(x, v)
    u_there, w_there = manifold.transport(x, v, u), manifold.transport(x, v, w)
    torch.testing.assert_close(manifold.to_tangent(y, u_there), u_there, rtol=0, atol=1e-12)
    torch.testing.assert_close(manifold.inner(u_there, w_there), manifold.inner(u, w), rtol=0, atol=1e-12)
    torch.testing.assert_close(manifold.transport(x, v, v), -manifold.log(y, x), rtol=0, atol=1e-11)
    back = manifold.transport(y, -manifold.transport(x, v, v), u_there)
    torch.testing.assert_close(back, u, rtol=0, atol=1e-11)


@every_space
def test_transport_is_the_limit_of_projections_on_the_way(manifold: Manifold, event) -> None:
    """The Levi-Civita connection of an embedded manifold: what projecting at every step of the way comes to."""
    x = points(manifold, (5, *event), 0)
    v, w = 2.0 * directions(manifold, x, 1), directions(manifold, x, 2)
    exact = manifold.transport(x, v, w)
    errors = []
    for steps in (250, 500):
        moved = w
        for k in range(1, steps + 1):
            moved = manifold.to_tangent(manifold.exp(x, k / steps * v), moved)
        errors.append(float((moved - exact).abs().max()))
    assert errors[1] < 1e-2
    assert errors[1] < 1e-12 or 1.7 < errors[0] / errors[1] < 2.3


@every_space
def test_frames_are_orthonormal_and_white_noise_is_white(manifold: Manifold, event) -> None:
    x = points(manifold, (6, *event), 0)
    x[0] = 0.0 if not manifold.point else x[0]
    frame = manifold.frame(x)
    assert len(frame) == manifold.dim
    for i, e in enumerate(frame):
        torch.testing.assert_close(manifold.to_tangent(x, e), e, rtol=0, atol=1e-13)
        for j, f in enumerate(frame):
            expected = torch.full_like(manifold.inner(e, f), float(i == j))
            torch.testing.assert_close(manifold.inner(e, f), expected, rtol=0, atol=1e-13)
    # White noise is linear in its numbers; in coordinates its matrix A has A A^T = 1.
    size = math.prod(manifold.point)
    gram = torch.zeros(manifold.dim, manifold.dim, *manifold.distance(x, x).shape, dtype=x.dtype)
    for k in range(size):
        unit = torch.zeros(size, dtype=x.dtype)
        unit[k] = 1
        moved = manifold.white(x, unit.reshape(manifold.point).expand(x.shape))
        column = torch.stack([manifold.inner(e, moved) for e in frame])
        gram = gram + column[:, None] * column[None]
    eye = torch.eye(manifold.dim, dtype=x.dtype)
    torch.testing.assert_close(
        gram, eye.reshape(*eye.shape, *[1] * (gram.ndim - 2)).expand_as(gram), rtol=0, atol=1e-13
    )


@every_space
def test_gradient_of_the_cosine_is_autograds_and_smooth_at_both_ends(manifold: Manifold, event) -> None:
    x, y = points(manifold, (10, *event), 0), points(manifold, (10, *event), 1)
    found = manifold.cos_gradient(x, y)
    for e in manifold.frame(x):
        h = 1e-5
        ahead, behind = (manifold.distance(manifold.exp(x, k * e), y).cos() for k in (h, -h))
        torch.testing.assert_close((ahead - behind) / (2 * h), manifold.inner(found, e), rtol=0, atol=1e-9)
    opposite = manifold.exp(x, math.pi * directions(manifold, x, 2))
    for end in (x, opposite):
        assert manifold.norm(manifold.cos_gradient(x, end)).max() < 1e-12


@every_space
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_points_stay_on_the_manifold(manifold: Manifold, event, dtype: torch.dtype, most: float) -> None:
    x = points(manifold, (200, *event), 0, dtype)
    for k in range(50):
        v = 3.0 * manifold.white(x, torch.randn(x.shape, dtype=dtype, generator=torch.Generator().manual_seed(k)))
        x = manifold.project(manifold.exp(x, v))
    assert x.dtype == dtype
    assert manifold.residual(x).max() < most
    manifold.check(x)


def test_projection_is_the_nearest_point() -> None:
    x = points(SO3(), (20, 3, 3), 0)
    bent = x + 0.1 * torch.randn(x.shape, dtype=x.dtype)
    nearest = np.stack([polar(m)[0] for m in bent.numpy()])
    np.testing.assert_allclose(SO3().project(bent).numpy(), nearest, atol=1e-12)
    mirrored = SO3().project(x * torch.tensor([1.0, 1.0, -1.0], dtype=x.dtype))
    assert SO3().residual(mirrored).max() < 1e-14
    y = torch.tensor([[3.0, 0.0, 4.0]])
    torch.testing.assert_close(Sphere().project(y), torch.tensor([[0.6, 0.0, 0.8]]))
    torch.testing.assert_close(Torus().project(torch.tensor([[7.0]])), torch.tensor([[7.0 - 2 * math.pi]]))
    torch.testing.assert_close(Torus().project(torch.tensor([[math.pi]])), torch.tensor([[-math.pi]]))


def test_uniform_points_are_uniform() -> None:
    angles = points(Torus(1), (4000, 1), 0).flatten().numpy()
    assert kstest(angles, "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 1e-3
    for coordinate in points(Sphere(2), (4000, 3), 0).T.numpy():  # Archimedes
        assert kstest(coordinate, "uniform", args=(-1, 2)).pvalue > 1e-3
    turns = points(SO3(), (4000, 3, 3), 0)
    fixed = points(SO3(), (1, 3, 3), 1)
    angle = SO3().distance(turns, fixed.expand_as(turns)).numpy()
    assert kstest(angle, lambda a: (a - np.sin(a)) / math.pi).pvalue > 1e-3


def test_features_are_smooth_and_give_tangent_vectors_back() -> None:
    wrap = torch.tensor([[math.pi - 1e-7], [-math.pi + 1e-7]], dtype=torch.float64)
    features = Torus(1).features(wrap)
    assert features.shape == (2, 2)
    assert (features[0] - features[1]).abs().max() < 1e-6
    x = points(SO3(), (4, 5, 3, 3), 0)
    assert SO3().features(x).shape == (4, 5, 9)
    assert SO3().output_shape(x) == (4, 5, 3)
    w = torch.randn(4, 5, 3, dtype=x.dtype)
    torch.testing.assert_close(SO3().norm(SO3().from_features(x, w)), w.norm(dim=-1))
    y = points(Sphere(2), (4, 3), 0)
    assert ((Sphere(2).from_features(y, torch.ones_like(y)) * y).sum(-1)).abs().max() < 1e-15


BAD = [
    (Sphere(2), torch.ones(2, 3), r"x is 0.732 off the manifold Sphere\(dims=2\).*Sphere.project"),
    (Sphere(2), torch.ones(2, 4), r"shape \(2, 4\): expected \(B, ..., 3,\) for Sphere"),
    (Sphere(2), torch.ones(3), "shape"),
    (Sphere(2), torch.zeros(2, 5, 3), "x is 1 off the manifold"),
    (Sphere(2), torch.tensor([[1, 0, 0]]), "dtype torch.int64: expected float32 or float64"),
    (Sphere(2), torch.full((1, 3), math.nan), "NaN"),
    (SO3(), torch.diag(torch.tensor([1.0, 1.0, -1.0]))[None], "off the manifold"),
    (SO3(), torch.eye(3)[None] * 1.01, "off the manifold"),
    (SO3(), torch.ones(1, 3), "shape"),
    (Torus(2), torch.zeros(1, 3), r"shape \(1, 3\): expected \(B, ..., 2\)"),
    (Torus(), torch.tensor([[3.2]]), "off the manifold"),
    (Torus(), torch.zeros(3), "shape"),
]


@pytest.mark.parametrize(("manifold", "x", "message"), BAD)
def test_points_off_the_manifold_are_refused(manifold: Manifold, x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        manifold.check(x)


def test_masks_are_checked_and_let_padding_be_anything() -> None:
    x = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    Sphere(2).check(x, mask=torch.tensor([[True, False]]))
    Sphere(2).check(x, blank=True)
    with pytest.raises(ValueError, match="off the manifold"):
        Sphere(2).check(x, mask=torch.tensor([[True, True]]))
    for mask in (torch.tensor([[True]]), torch.ones(1, 2), torch.ones(2, 2, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"mask of shape .*: expected \(1, 2\), torch.bool"):
            Sphere(2).check(x, mask=mask)


def test_dimensions_are_whole_and_large_enough() -> None:
    for make in (lambda: Sphere(1), lambda: Sphere(2.5), lambda: Torus(0), lambda: Torus(1.5)):
        with pytest.raises(ValueError, match="dims="):
            make()
