"""Diffusion on manifolds: torus, sphere and SO(3)."""

from .base import Manifold
from .denoisers import HeatMixtureDenoiser, RiemannianDenoiser, RiemannianPosterior
from .heat import Bridge, HeatKernel, Uniform
from .igso3 import IGSO3
from .kernels import RadialKernel
from .objectives import RiemannianImplicitScoreMatching, RiemannianScoreMatching
from .process import RiemannianProcess
from .so3 import SO3
from .sphere import Sphere
from .spherical import SphericalKernel
from .torus import Torus
from .wrapped_normal import WrappedNormal

__all__ = [
    "IGSO3",
    "SO3",
    "Bridge",
    "HeatKernel",
    "HeatMixtureDenoiser",
    "Manifold",
    "RadialKernel",
    "RiemannianDenoiser",
    "RiemannianImplicitScoreMatching",
    "RiemannianPosterior",
    "RiemannianProcess",
    "RiemannianScoreMatching",
    "Sphere",
    "SphericalKernel",
    "Torus",
    "Uniform",
    "WrappedNormal",
]
