r"""Chains of any transition matrices, in discrete time: D3PM's general form (Austin et al. 2021, 2107.03006).

    Q_{s,t} = Q_{i + 1} Q_{i + 2} ... Q_j,      s = i / T,  t = j / T.

The level of noise at ``i / T``, which networks see and grids space, is the schedule whose share of the data is

    a_i = (tr(Q_1 ... Q_i) - 1) / (S - 1),

held to fall: how many states the chain keeps, beyond those of a chain that has forgotten all.  For matrices ``(1 - b) I
+ b 1 pi^T`` it is the product of the ``1 - b``, as in `InterpolatingChain`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..schedule_transforms import TableSchedule
from ..schedules import Time, as_tensor, require
from .base import Chain

__all__ = ["DiscretisedGaussianChain", "MatrixChain"]


class MatrixChain(Chain):
    """The chain of given matrices, for the times ``0, 1 / T, ..., 1`` alone; takes ``16 T S^2`` bytes.

    It has no rates: train with ``CategoricalBound(T)``, sample with ``CategoricalAncestral`` in a number of even steps
    that divides ``T``.  The prior is the distribution that ``Q_1 ... Q_T`` leaves as it is.

    Args:
        matrices: ``Q_1 ... Q_T`` ``(T, S, S)``, ``T`` at least 2, with rows that sum to 1 (to 1e-6; scaled to do so
            exactly).

    Raises:
        ValueError: for matrices that are not stochastic, or that tend to no single distribution.
    """

    def __init__(self, matrices: Sequence[Sequence[Sequence[float]]] | Tensor) -> None:
        steps = _stochastic(torch.as_tensor(matrices, dtype=torch.float64))
        whole = torch.eye(steps.shape[-1], dtype=torch.float64).repeat(len(steps) + 1, 1, 1)
        for i, step in enumerate(steps):
            product = whole[i] @ step
            whole[i + 1] = product / product.sum(1, keepdim=True)
        super().__init__(_schedule(whole))
        self.matrices = steps
        self.states = steps.shape[-1]
        self._whole = whole
        self._pi = _limit(whole[-1])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.matrices)} matrices of {self.states} states)"

    @property
    def stationary(self) -> Tensor:
        return self._pi

    def matrix(self, s: Time, t: Time) -> Tensor:
        """``Q_{s,t}``, ``(S, S)``, or ``(B, S, S)`` for a time per sample; float64.

        Raises:
            ValueError: for times other than multiples of ``1 / T``.
        """
        first, last = self._index(s), self._index(t)
        if first.ndim == last.ndim == 0:
            return self._product(int(first), int(last))
        pairs, which = torch.stack(torch.broadcast_tensors(first, last), 1).unique(dim=0, return_inverse=True)
        return torch.stack([self._product(i, j) for i, j in pairs.tolist()])[which]

    def push(self, v: Tensor, s: Time, t: Time) -> Tensor:
        return _applied(v, self.matrix(s, t))

    def unpush(self, v: Tensor, s: Time, t: Time) -> Tensor:
        matrix = self.matrix(s, t)
        if bool((torch.linalg.cond(matrix, 1) > 1e14).any()):
            raise ValueError(f"t={t}: the matrices from s={s} on make a singular one, so that nothing leads back")
        return _applied(v, torch.linalg.inv(matrix))

    def row(self, x: Tensor, s: Time, t: Time, dtype: torch.dtype) -> Tensor:
        return _picked(self.matrix(s, t), x, dtype)

    def pull(self, x: Tensor, s: Time, t: Time, dtype: torch.dtype) -> Tensor:
        return _picked(self.matrix(s, t).mT, x, dtype)

    def rate(self, t: Time) -> Tensor:
        """Raise ``ValueError``: in discrete time there are no rates."""
        steps = len(self.matrices)
        raise ValueError(f"{self} has no rates, being in discrete time: take steps, CategoricalBound({steps})")

    def rates(self, x: Tensor, t: Time, dtype: torch.dtype) -> Tensor:
        """Raise ``ValueError``: in discrete time there are no rates."""
        return self.rate(t)

    def _index(self, t: Time) -> Tensor:
        place = as_tensor(t).cpu().double() * len(self.matrices)
        index = place.round().clamp(0, len(self.matrices))
        if bool(((place - index).abs() > 1e-6).any()):
            raise ValueError(f"t={t}: expected multiples of 1 / {len(self.matrices)} in [0, 1] for {self}")
        return index.long()

    def _product(self, i: int, j: int) -> Tensor:
        """``Q_{i + 1} ... Q_j``."""
        if i == 0 or i == j:
            return self._whole[j - i]
        out = self.matrices[i]
        for step in self.matrices[i + 1 : j]:
            out = out @ step
        return out


class DiscretisedGaussianChain(MatrixChain):
    r"""Steps to categories near by, for ordinal data such as the levels of pixels; the prior is uniform.

        Q_i[x, y] = exp(-4 (x - y)^2 / ((S - 1)^2 beta_i)) / sum_{n = 1 - S}^{S - 1} exp(-4 n^2 / ((S - 1)^2 beta_i))

    for ``x != y``; what is left of a row stays.  Austin et al. 2021 (D3PM, arXiv 2107.03006), appendix A.2.3.

    Args:
        categories: ``S``, at least 2.
        betas: of the steps, positive, at least two; 1e-4 to 0.02 in the paper.
    """

    def __init__(self, categories: int, betas: Sequence[float]) -> None:
        require(categories >= 2, "categories", categories, "at least 2")
        beta = torch.as_tensor(betas, dtype=torch.float64)
        fits = beta.ndim == 1 and len(beta) >= 2 and bool((beta > 0).all()) and bool(beta.isfinite().all())
        require(fits, "betas", betas, "a list of at least two positive numbers")
        distance = torch.arange(1 - categories, categories, dtype=torch.float64)
        weights = (-4 * distance**2 / ((categories - 1) ** 2 * beta[:, None])).softmax(1)
        place = torch.arange(categories)
        off = weights[:, place - place[:, None] + categories - 1]
        off.diagonal(dim1=1, dim2=2).zero_()
        super().__init__(off + (1 - off.sum(2)).diag_embed())
        self.categories = categories
        self.betas = betas


def _stochastic(matrices: Tensor) -> Tensor:
    """The matrices with rows that sum to 1 exactly, refused where they are not stochastic."""
    if matrices.ndim != 3 or matrices.shape[1] != matrices.shape[2] or min(matrices.shape[:2]) < 2:
        raise ValueError(f"matrices of shape {tuple(matrices.shape)}: expected (T, S, S), two steps and states or more")
    if not bool((matrices >= 0).all()) or not bool(matrices.isfinite().all()):
        raise ValueError("matrices hold negative numbers, NaN or infinity: expected probabilities")
    sums = matrices.sum(2, keepdim=True)
    worst = (sums - 1).abs().flatten(1).amax(1)
    if bool((worst > 1e-6).any()):
        i = int((worst > 1e-6).nonzero()[0])
        raise ValueError(f"matrices[{i}]: a row sums to {worst[i]:.3g} off 1: expected rows that sum to 1")
    return matrices / sums


def _limit(matrix: Tensor) -> Tensor:
    """The distribution that all rows of the matrix's powers tend to."""
    for _ in range(64):
        matrix = matrix @ matrix
        matrix = matrix / matrix.sum(1, keepdim=True)
    if bool(((matrix - matrix[0]).abs() > 1e-8).any()):
        raise ValueError(
            "matrices: powers of their product tend to no single distribution; expected steps that join all states"
        )
    return matrix.mean(0) / matrix.mean(0).sum()


def _schedule(whole: Tensor) -> TableSchedule:
    """The schedule of the module's text, whose share is held to fall, and above 1e-12, which traces resolve."""
    traces = whole.diagonal(dim1=1, dim2=2).sum(1)
    shares = [1.0]
    for share in ((traces[1:] - 1) / (whole.shape[-1] - 1)).tolist():
        shares.append(min(max(share, 1e-12), (1 - 1e-12) * shares[-1]))
    return TableSchedule.from_alphas_cumprod(shares[1:])


def _applied(v: Tensor, matrix: Tensor) -> Tensor:
    """``v Q`` for vectors ``(B, *N, S)`` and one matrix, or one a sample."""
    matrix = matrix.to(v)
    return v @ matrix if matrix.ndim == 2 else (v.flatten(1, -2) @ matrix).reshape(v.shape)


def _picked(matrix: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The rows ``(B, *N, S)`` of one matrix, or one a sample, at the states ``x`` ``(B, *N)``."""
    matrix = matrix.to(x.device, dtype)
    if matrix.ndim == 2:
        return matrix[x]
    return matrix[torch.arange(len(x), device=x.device).reshape(-1, *[1] * (x.ndim - 1)), x]
