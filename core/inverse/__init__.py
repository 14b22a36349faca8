r"""Inverse problems: samples of ``p(x_0 | y)`` for a measurement ``y = A(x_0) + noise`` and any denoiser as the prior.

Methods are denoisers that wrap the prior (`DDNM`, `DDS`, `DiffPIR`, `MMPS`, `PiGDM`), which every sampler takes, or
samplers of their own (`DDNMPlus`, `DDRM`, `DPS`, `MeasuredReplacement`, `RePaint`, `Replacement`, `ScoreMRI`, `TDS`);
`posterior_sampler` builds one by name. `UnrolledNetwork` learns the posterior of one kind of measurement instead.
"""

from .dps import DPS
from .factorisation import FactorisedOperator, factorised
from .gradient import MMPS, PiGDM
from .linear import AveragePool, Blur, Diagonal, Mask, MatrixOperator, RandomProjection, Subsampling
from .measurement import GaussianNoise, Measurement, NoiseModel, PoissonNoise, UnequalNoise
from .operators import FunctionOperator, LinearFunctionOperator, LinearOperator, Operator, SpectralOperator
from .phase import FourierMagnitude
from .presets import POSTERIOR_METHODS, SPECTRAL_METHODS, posterior_sampler
from .projections import MeasuredReplacement, ScoreMRI, least_norm, square_norm
from .proximal import DDNM, DDS, DiffPIR
from .renoise import Renoise
from .replacement import RePaint, Replacement
from .solvers import conjugate_gradient, gmres
from .spectral import DDRM, DDNMPlus
from .tds import TDS
from .unrolled import UnrolledNetwork

__all__ = [
    "DDNM",
    "DDRM",
    "DDS",
    "DPS",
    "MMPS",
    "POSTERIOR_METHODS",
    "SPECTRAL_METHODS",
    "TDS",
    "AveragePool",
    "Blur",
    "DDNMPlus",
    "Diagonal",
    "DiffPIR",
    "FactorisedOperator",
    "FourierMagnitude",
    "FunctionOperator",
    "GaussianNoise",
    "LinearFunctionOperator",
    "LinearOperator",
    "Mask",
    "MatrixOperator",
    "MeasuredReplacement",
    "Measurement",
    "NoiseModel",
    "Operator",
    "PiGDM",
    "PoissonNoise",
    "RandomProjection",
    "RePaint",
    "Renoise",
    "Replacement",
    "ScoreMRI",
    "SpectralOperator",
    "Subsampling",
    "UnequalNoise",
    "UnrolledNetwork",
    "conjugate_gradient",
    "factorised",
    "gmres",
    "least_norm",
    "posterior_sampler",
    "square_norm",
]
