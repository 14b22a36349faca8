"""Markov chains on categories: masking, uniform noise, marginal-preserving noise, any transition matrices."""

from .base import Chain
from .categorical import Categorical
from .denoisers import CategoricalDenoiser, CategoricalPrediction, EnumeratedDenoiser
from .interpolating import AbsorbingChain, InterpolatingChain, MarginalChain, UniformChain
from .matrices import DiscretisedGaussianChain, MatrixChain
from .objectives import CategoricalBound, TokenCrossEntropy
from .posteriors import CategoricalPosterior, MaskedPosterior, ScorePosterior
from .rates import RateChain
from .sequential import SequentialBound, SequentialDenoiser, SequentialPosterior

__all__ = [
    "AbsorbingChain",
    "Categorical",
    "CategoricalBound",
    "CategoricalDenoiser",
    "CategoricalPosterior",
    "CategoricalPrediction",
    "Chain",
    "DiscretisedGaussianChain",
    "EnumeratedDenoiser",
    "InterpolatingChain",
    "MarginalChain",
    "MaskedPosterior",
    "MatrixChain",
    "RateChain",
    "ScorePosterior",
    "SequentialBound",
    "SequentialDenoiser",
    "SequentialPosterior",
    "TokenCrossEntropy",
    "UniformChain",
]
