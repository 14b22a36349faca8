"""Distillation: from a trained denoiser to one that samples in a few steps."""

from .consistency import ConsistencyDenoiser, ConsistencyObjective
from .pairs import AnnealedPairs, GridPairs, TimePairs
from .progressive import ProgressiveObjective, halved, progressive_distillation
from .sampler import ConsistencyGrid, ConsistencySampler

__all__ = [
    "AnnealedPairs",
    "ConsistencyDenoiser",
    "ConsistencyGrid",
    "ConsistencyObjective",
    "ConsistencySampler",
    "GridPairs",
    "ProgressiveObjective",
    "TimePairs",
    "halved",
    "progressive_distillation",
]
