"""What every measure does first: features as finite float64 matrices, and distances in chunks.

A measure compares two sets of vectors, `x` of shape `(n, d)` and `y` of shape `(m, d)`. Rows are samples, columns are
coordinates of any feature space (pixels, activations of a classifier, summary statistics). Arithmetic is float64; the
`n x m` matrix of distances is made a block of rows at a time and never held whole.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

__all__ = ["Features", "as_features", "as_pair", "row_blocks", "squared_distances"]

Features = Tensor | np.ndarray

BLOCK_ELEMENTS = 1 << 23
"""Numbers in one block of a pairwise matrix (64 MiB of float64)."""


def as_features(x: Features, name: str, *, at_least: int = 1) -> Tensor:
    """Check that `x` is a finite matrix with `at_least` rows and return it as float64, detached.

    Raises:
        TypeError: `x` is no array of numbers.
        ValueError: wrong number of dimensions, too few rows, or a value that is not finite.
    """
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(f"{name} must be a tensor or an array of shape (n, d), got {type(x).__name__}")
    if isinstance(x, np.ndarray):
        if x.dtype.kind not in "fiub":
            raise TypeError(f"{name} must hold real numbers, got an array of dtype {x.dtype}")
        x = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64))
    elif x.is_complex():
        raise TypeError(f"{name} must hold real numbers, got a tensor of dtype {x.dtype}")
    if x.ndim != 2:
        raise ValueError(f"{name} must have shape (n, d), got {tuple(x.shape)}; flatten each sample first")
    x = x.detach()
    x = (x.cpu() if x.device.type == "mps" else x).to(torch.float64)
    if x.shape[0] < at_least or x.shape[1] < 1:
        raise ValueError(f"{name} needs at least {at_least} rows and one column, got shape {tuple(x.shape)}")
    if not bool(torch.isfinite(x).all()):
        rows = (~torch.isfinite(x)).any(1).sum().item()
        raise ValueError(f"{name} holds NaN or infinite values in {rows} of {x.shape[0]} rows; drop or repair them")
    return x


def as_pair(x: Features, y: Features, names: tuple[str, str], *, at_least: int = 1) -> tuple[Tensor, Tensor]:
    """Check two sets of features that are to be compared: equal number of columns, one device."""
    a, b = as_features(x, names[0], at_least=at_least), as_features(y, names[1], at_least=at_least)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same number of columns, got {a.shape[1]} and {b.shape[1]}"
        )
    return a, b.to(a.device)


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Cut `rows` into slices such that a block of `slice x columns` numbers stays within the memory budget."""
    step = max(1, BLOCK_ELEMENTS // max(columns, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances `|a_i - b_j|^2` of shape `(len(a), len(b))`, by one matrix product.

    The rounding error is about `1e-15` times the squared norms, so callers subtract a common centre first.
    """
    squared = a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * (a @ b.T)
    return squared.clamp_(min=0)
