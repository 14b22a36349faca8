"""What tests on manifolds share: the spaces, points and quadrature over all of a space."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein.core import Schedule, VESchedule
from ornstein.core.manifolds import SO3, HeatMixtureDenoiser, Manifold, RiemannianProcess, Sphere, Torus

SPACES: list[tuple[Manifold, tuple[int, ...]]] = [
    (Torus(2), (2,)),
    (Sphere(2), (3,)),
    (Sphere(4), (5,)),
    (SO3(), (3, 3)),
]
every_space = pytest.mark.parametrize(("manifold", "event"), SPACES, ids=[repr(m) for m, _ in SPACES])
PAPERS = [space for space in SPACES if space[0] != Sphere(4)]
every_exact_space = pytest.mark.parametrize(("manifold", "event"), PAPERS, ids=[repr(m) for m, _ in PAPERS])


def points(manifold: Manifold, shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Uniform points."""
    generator = torch.Generator().manual_seed(seed)
    return manifold.uniform(torch.randn(shape, dtype=torch.float64, generator=generator)).to(dtype)


def directions(manifold: Manifold, x: Tensor, seed: int) -> Tensor:
    """Unit tangent vectors."""
    v = manifold.white(x, torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed)))
    return v / manifold.spread(manifold.norm(v))


def quadrature(manifold: Manifold, count: int = 24) -> tuple[Tensor, Tensor]:
    """Points ``(M, *event)`` and weights ``(M,)`` that integrate smooth functions over the 2-torus, the sphere or SO(3)
    with spectral accuracy: trapezoids on circles, Gauss and Legendre's rule on cosines.
    """
    circle = torch.arange(2 * count, dtype=torch.float64) * (math.pi / count) - math.pi
    step = math.pi / count
    if isinstance(manifold, Torus):
        return torch.cartesian_prod(circle, circle), torch.full((4 * count**2,), step**2, dtype=torch.float64)
    cos, weight = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(count))
    if isinstance(manifold, Sphere):
        z, phi = torch.cartesian_prod(cos, circle).T
        r = (1 - z**2).sqrt()
        return torch.stack([r * phi.cos(), r * phi.sin(), z], 1), weight.repeat_interleave(2 * count) * step
    beta = cos.arccos()
    a, b, c = torch.cartesian_prod(circle, beta, circle).T
    zero, one = torch.zeros_like(a), torch.ones_like(a)

    def matrix(*rows: tuple[Tensor, ...]) -> Tensor:
        return torch.stack([torch.stack(row, -1) for row in rows], -2)

    def about_z(t: Tensor) -> Tensor:
        return matrix((t.cos(), -t.sin(), zero), (t.sin(), t.cos(), zero), (zero, zero, one))

    middle = matrix((b.cos(), zero, b.sin()), (zero, one, zero), (-b.sin(), zero, b.cos()))
    weights = weight[None, :, None].expand(2 * count, count, 2 * count).flatten() * step**2
    return about_z(a) @ middle @ about_z(c), weights


def mixture(manifold: Manifold, event: tuple[int, ...], schedule: Schedule | None = None) -> HeatMixtureDenoiser:
    """Two heat kernels of unequal weight and width."""
    process = RiemannianProcess(manifold, VESchedule(1e-3, 6.0) if schedule is None else schedule)
    return HeatMixtureDenoiser(process, [0.7, 0.3], points(manifold, (2, *event), 11), [0.15, 0.4])
