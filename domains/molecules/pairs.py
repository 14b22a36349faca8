"""Pairs of atoms ``i < j``, numbered row by row, and the symmetric matrices that they are the upper triangle of.

Of ``N`` atoms the pair ``(i, j)`` has the number ``i N - i (i + 1) / 2 + j - i - 1``, the order of
``torch.triu_indices(N, N, 1)``; there are ``N (N - 1) / 2``.
"""

from functools import lru_cache

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

__all__ = ["as_matrix", "as_pairs", "num_atoms", "num_pairs", "pair_indices", "pair_mask"]


def num_pairs(atoms: int) -> int:
    """How many pairs so many atoms make."""
    return atoms * (atoms - 1) // 2


def num_atoms(pairs: int) -> int:
    """How many atoms make so many pairs.

    Raises:
        ValueError: no number does; 0 is taken for that of one atom.
    """
    atoms = round((1 + (1 + 8 * pairs) ** 0.5) / 2)
    if num_pairs(atoms) != pairs:
        raise ValueError(f"{pairs} pairs: expected N (N - 1) / 2 for some number N of atoms")
    return atoms


@lru_cache(maxsize=64)
def pair_indices(atoms: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The atoms ``i`` and ``j`` of each pair, two tensors ``(pairs,)`` int64, which are shared: not to be changed."""
    rows, columns = torch.triu_indices(atoms, atoms, 1, device=device)
    return rows, columns


def pair_mask(mask: Bool[Tensor, "*batch atoms"]) -> Bool[Tensor, "*batch pairs"]:
    """Where both atoms of a pair are real."""
    rows, columns = pair_indices(mask.shape[-1], mask.device)
    return mask[..., rows] & mask[..., columns]


def as_matrix(pairs: Shaped[Tensor, "batch pairs *rest"], diagonal: float = 0) -> Shaped[Tensor, "batch n n *rest"]:
    """The symmetric matrices with this upper triangle, and ``diagonal`` on the diagonal.

    Raises:
        ValueError: for a number of pairs that no number of atoms makes.
    """
    atoms = num_atoms(pairs.shape[1])
    rows, columns = pair_indices(atoms, pairs.device)
    out = pairs.new_full((len(pairs), atoms, atoms, *pairs.shape[2:]), diagonal)
    out[:, rows, columns] = pairs
    out[:, columns, rows] = pairs
    return out


def as_pairs(matrix: Shaped[Tensor, "batch n n *rest"]) -> Shaped[Tensor, "batch pairs *rest"]:
    """The upper triangle of matrices, without the diagonal."""
    rows, columns = pair_indices(matrix.shape[1], matrix.device)
    return matrix[:, rows, columns]
