r"""Fréchet distance between two sets of features, as Gaussians.

With means `m`, `n` and covariances `C`, `D`,

    d^2 = |m - n|^2 + tr(C) + tr(D) - 2 tr((C D)^{1/2}),

the squared 2-Wasserstein distance between `N(m, C)` and `N(n, D)` (Dowson and Landau 1982); on Inception features it is
the FID of Heusel et al. 2017 (1706.08500).

**The trace of the root.** If `C = R^T R` and `D = S^T S`, the eigenvalues of `C D` are the squared singular values of
`R S^T`, so `tr((C D)^{1/2})` is its nuclear norm. No matrix root and no complex number appears, singular covariances
(fewer samples than features) need no added diagonal, and nothing is squared and rooted again, which would cost half of
the digits. `R` is the triangular factor of the centred features, or the root of a given covariance's spectrum.

**Bias.** The plug-in estimate is too large for finite samples, by about a constant over `n` that depends on the
distribution (Chong and Forsyth 2020, 1911.07023). Compare figures only at equal sample sizes, beside a floor: the
distance of real data to other real data, measured in the same way.
"""

import torch
from torch import Tensor

from ornstein.core.evaluation._features import Features, as_features, as_pair

__all__ = ["frechet_distance", "frechet_distance_from_moments"]


def frechet_distance(x: Features, y: Features) -> float:
    """Squared Fréchet distance `d^2` between Gaussians fitted to two sets of features.

    Args:
        x: features `(n, d)`, n >= 2.
        y: features `(m, d)`, m >= 2.

    Returns:
        `d^2` in squared units of the features, with unbiased covariances (division by n - 1).

    Raises:
        ValueError: shapes that do not fit, fewer than two rows, or values that are not finite.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> frechet_distance(x, x + 3)
        9.0
    """
    a, b = as_pair(x, y, ("x", "y"), at_least=2)
    return _distance(a.mean(0), _factor(a), b.mean(0), _factor(b))


def frechet_distance_from_moments(mean_x: Features, cov_x: Features, mean_y: Features, cov_y: Features) -> float:
    """Squared Fréchet distance from means `(d,)` and covariances `(d, d)`, e.g. published reference statistics.

    Raises:
        ValueError: shapes that do not fit, a covariance that is not symmetric or has a clearly negative eigenvalue.
    """
    means = [as_features(m.reshape(1, -1), name)[0] for m, name in ((mean_x, "mean_x"), (mean_y, "mean_y"))]
    roots = [_root(as_features(c, name), name) for c, name in ((cov_x, "cov_x"), (cov_y, "cov_y"))]
    if len({len(means[0]), len(means[1]), roots[0].shape[1], roots[1].shape[1]}) != 1:
        raise ValueError(
            f"means and covariances must agree in size, got means of {len(means[0])} and {len(means[1])}, "
            f"covariances of {roots[0].shape[1]} and {roots[1].shape[1]}"
        )
    return _distance(means[0], roots[0], means[1], roots[1])


def _distance(mean_x: Tensor, root_x: Tensor, mean_y: Tensor, root_y: Tensor) -> float:
    overlap = torch.linalg.svdvals(root_x @ root_y.T).sum()
    squared = (mean_x - mean_y).square().sum() + root_x.square().sum() + root_y.square().sum() - 2 * overlap
    return max(squared.item(), 0.0)  # rounding may leave -1e-15 for equal inputs


def _factor(x: Tensor) -> Tensor:
    """A matrix `R` with `R^T R` the unbiased covariance of the rows of `x`."""
    centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    if len(x) <= x.shape[1]:
        return centred
    return torch.linalg.qr(centred, mode="r").R


def _root(cov: Tensor, name: str) -> Tensor:
    """A matrix `R` with `R^T R = cov`; eigenvalues within rounding of zero count as zero."""
    scale = cov.abs().max().item() if cov.numel() else 0.0
    if cov.shape[0] != cov.shape[1] or (cov - cov.T).abs().max().item() > 1e-6 * max(scale, 1e-300):
        raise ValueError(f"{name} must be a symmetric matrix (d, d), got shape {tuple(cov.shape)}")
    values, vectors = torch.linalg.eigh((cov + cov.T) / 2)
    noise = len(cov) * torch.finfo(torch.float64).eps * values.abs().max().item()
    if values[0].item() < -1e-6 * values.abs().max().item() - noise:
        raise ValueError(f"{name} has the negative eigenvalue {values[0].item():.3g}: it is no covariance")
    kept = torch.where(values > noise, values, torch.zeros_like(values))
    return kept.sqrt().unsqueeze(1) * vectors.T
