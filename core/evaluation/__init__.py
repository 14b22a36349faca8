"""Measures between a set of samples and real data that hold in any feature space.

All take two matrices of features, compute in float64 and work through large sets in chunks. A figure says little alone:
set it beside the same figure of held-out real data at the same sample size.

| question | measure |
| --- | --- |
| do the first two moments agree? | `frechet_distance` |
| do the distributions agree? | `kernel_distance`, `sliced_wasserstein` |
| does each sample look real, is every kind of data there? | `precision_recall`, `density_coverage` |
| are the samples copies of the training data? | `memorisation` |
"""

from ornstein.core.evaluation.frechet import frechet_distance, frechet_distance_from_moments
from ornstein.core.evaluation.kernel import (
    KernelDistance,
    PolynomialKernel,
    RBFKernel,
    kernel_distance,
    median_bandwidth,
)
from ornstein.core.evaluation.manifold import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from ornstein.core.evaluation.neighbours import Memorisation, Neighbours, memorisation, nearest_neighbours
from ornstein.core.evaluation.wasserstein import sliced_wasserstein, wasserstein_1d

__all__ = [
    "DensityCoverage",
    "KernelDistance",
    "Memorisation",
    "Neighbours",
    "PolynomialKernel",
    "PrecisionRecall",
    "RBFKernel",
    "density_coverage",
    "frechet_distance",
    "frechet_distance_from_moments",
    "kernel_distance",
    "median_bandwidth",
    "memorisation",
    "nearest_neighbours",
    "precision_recall",
    "sliced_wasserstein",
    "wasserstein_1d",
]
