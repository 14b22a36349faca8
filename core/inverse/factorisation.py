r"""A singular value decomposition for linear operators that know none, found from their products alone."""

import math
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..schedules import require
from .operators import LinearOperator, SpectralOperator

__all__ = ["FactorisedOperator", "factorised"]

DENSE = 2048
"""States of at most so many numbers are decomposed as a matrix."""
CUT = 1e-4
"""Singular values below this part of the largest count as zero."""


class FactorisedOperator(SpectralOperator):
    r"""A linear operator with ``R`` parts of a decomposition, ``U_R^T A = S_R V_R^T``; made by `factorised`.

    ``A`` and its adjoint stay the operator's own.  Spectral methods see the ``R`` numbers ``U_R^T y``, whose noise is
    as white as that of ``y``, and take every direction across ``V_R`` for unmeasured; the pseudo-inverse is that of the
    truncated decomposition.  So where the rank leaves something out, samples follow the posterior of ``U_R^T y``, and
    miss ``y`` itself by what was left out, where no singular value is above ``rest``.  Directions whose singular value,
    times what ``x`` varies by, is far below the noise tell nothing, and leaving them out costs nothing.

    ``V_R`` is completed to all of space by a block reflector, never stored as a matrix (Schreiber and Parlett 1988,
    Block reflectors: theory and computation, SIAM J. Numer. Anal. 25): with the polar decomposition ``V_1 = -P Z^T``
    of the first ``R`` rows of ``V_R``, the symmetric and orthogonal ``H = I - W W^T``,

        W = (E - V_R Z) (I + P)^{-1/2},    E the first R columns of I,

    takes ``E`` to ``V_R Z``, so ``V = H diag(Z^T, I)``.  ``U_R = A G`` is not stored either.  Memory is that of ``W``
    and ``G``, ``2 R D`` numbers.

    Args:
        operator: the linear operator, the same for all samples.
        values: ``(R,)`` singular values, positive.
        right: ``(D, R)``, the orthonormal ``V_R``.
        combined: ``(D, R)``, the ``G`` of ``U_R = A G``, with orthonormal ``U_R``.
        rest: the largest singular value beyond the first ``R``, as far as is known.
    """

    tolerance = 1e-6
    values: Tensor
    reflector: Tensor
    turn: Tensor
    combined: Tensor

    def __init__(
        self, operator: LinearOperator, values: Tensor, right: Tensor, combined: Tensor, rest: float = 0.0
    ) -> None:
        super().__init__(operator.shape, operator.measured)
        rank, dim = len(values), math.prod(operator.shape)
        for name, columns in (("right", right), ("combined", combined)):
            if tuple(columns.shape) != (dim, rank) or rank > dim:
                raise ValueError(f"{name} of shape {tuple(columns.shape)}: expected ({dim}, {rank}), a column a value")
        self.operator, self.rest = operator, float(rest)
        left, cosines, across = torch.linalg.svd(right[:rank].double())
        turn = -(across.mT @ left.mT)  # Z, with V_1 Z = -left diag(cosines) left^T
        w = -(right.double() @ turn)
        w[:rank] += torch.eye(rank, dtype=w.dtype, device=w.device)
        w = w @ (left * (1 + cosines) ** -0.5 @ left.mT)
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("reflector", w.to(right.dtype), persistent=False)
        self.register_buffer("turn", turn.to(right.dtype), persistent=False)
        self.register_buffer("combined", combined, persistent=False)

    @property
    def singular_values(self) -> Tensor:
        return self.values

    def forward(self, x: Tensor) -> Tensor:
        return self.operator(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(y)

    def restrict(self, y: Tensor) -> Tensor:
        return self.operator.restrict(y)

    def _reflected(self, c: Tensor) -> Tensor:
        w = self.reflector.to(c)
        return c - (c @ w) @ w.mT

    def vt(self, x: Tensor) -> Tensor:
        c, rank = self._reflected(x.flatten(1)), len(self.values)
        return torch.cat([c[:, :rank] @ self.turn.to(c).mT, c[:, rank:]], 1)

    def v(self, c: Tensor) -> Tensor:
        rank = len(self.values)
        turned = torch.cat([c[:, :rank] @ self.turn.to(c), c[:, rank:]], 1)
        return self._reflected(turned).unflatten(1, self.shape)

    def ut(self, y: Tensor) -> Tensor:
        return self.adjoint(y).flatten(1) @ self.combined.to(y)

    def u(self, c: Tensor) -> Tensor:
        return self((c @ self.combined.to(c).mT).unflatten(1, self.shape))


Factors = tuple[Tensor, Tensor, Tensor, float]
_FACTORS: WeakKeyDictionary[LinearOperator, dict[tuple[int, ...], Factors]] = WeakKeyDictionary()


@torch.no_grad()
def factorised(
    operator: LinearOperator,
    rank: int = 1024,
    *,
    oversampling: int | None = None,
    iterations: int = 2,
    seed: int = 0,
) -> SpectralOperator:
    r"""The operator with its decomposition, so that DDRM, DDNM+ and other spectral methods take it: projectors, several
    coils, compositions.

    States of at most `DENSE` numbers are decomposed exactly, as a matrix.  For larger ones the space of the largest
    singular values is found by randomised subspace iteration, ``Q <- orth(A^T A Q)`` from a normal ``Q``: Halko,
    Martinsson and Tropp 2011 (arXiv 0909.4061), algorithms 4.4 and 5.1.  ``U_R`` spans the ``R`` largest parts of
    ``A Q``, and the decomposition of ``U_R^T A`` is exact, converged or not: more iterations only choose better what to
    leave out.  Singular values below `CUT` times the largest are left out as well.

    An operator that knows its decomposition is returned as it is.  The factors are kept as long as the operator lives,
    and found anew only for other settings.

    Args:
        operator: of real states; complex ones are two channels.  The same for all samples (else take ``operator.part``
            of one).
        rank: how many singular values, at most; the number of measurements and of unknowns bound it too.
        oversampling: further columns of ``Q``; a quarter of the rank, at least 10, by default.
        iterations: of the subspace iteration.
        seed: of the first ``Q``.

    Raises:
        TypeError: an operator that is not linear.
        ValueError: one that differs between samples, or is zero.

    Example:
        >>> import torch
        >>> from ornstein.core.inverse import LinearFunctionOperator, factorised
        >>> A = factorised(LinearFunctionOperator(lambda x: x.cumsum(1), (4,)))
        >>> A.pseudo_inverse(torch.tensor([[1.0, 3.0, 6.0, 10.0]])).round(decimals=3)
        tensor([[1., 2., 3., 4.]])
    """
    if not isinstance(operator, LinearOperator):
        raise TypeError(f"operator is {type(operator).__name__}: expected a LinearOperator")
    require(rank >= 1, "rank", rank, "at least 1")
    require(oversampling is None or oversampling >= 0, "oversampling", oversampling, "at least 0, or None")
    require(iterations >= 0, "iterations", iterations, "at least 0")
    if isinstance(operator, SpectralOperator):
        return operator
    dim, device = math.prod(operator.shape), _device(operator)
    rank = min(rank, dim, math.prod(operator.measured))
    extra = max(10, rank // 4) if oversampling is None else oversampling
    kept = _FACTORS.setdefault(operator, {})
    key = (rank,) if dim <= DENSE else (rank, extra, iterations, seed)
    if key not in kept:
        _check_one(operator, device)
        q = _every(operator) if dim <= DENSE else _largest(operator, *key)
        kept[key] = _factors(operator, q, rank)
    values, right, combined, rest = kept[key]
    return FactorisedOperator(operator, values.to(device), right.to(device), combined.to(device), rest)


def _device(operator: LinearOperator) -> torch.device:
    return next((b.device for b in operator.buffers()), torch.device("cpu"))


def _check_one(operator: LinearOperator, device: torch.device) -> None:
    """That the operator takes batches of any size."""
    for batch in (2, 3):
        try:
            operator(torch.zeros(batch, *operator.shape, device=device))
        except RuntimeError as error:
            raise ValueError(
                f"{type(operator).__name__} differs between samples: factorise operator.part(slice(i, i + 1)) for each"
            ) from error


def _every(operator: LinearOperator) -> Tensor:
    return torch.eye(math.prod(operator.shape), dtype=torch.float64, device=_device(operator))


def _largest(operator: LinearOperator, rank: int, extra: int, iterations: int, seed: int) -> Tensor:
    """Orthonormal columns ``(D, K)`` that span the largest parts of the operator, float32."""
    dim = math.prod(operator.shape)
    width = min(rank + extra, dim, math.prod(operator.measured))
    q = torch.randn(dim, width, generator=torch.Generator().manual_seed(seed)).to(_device(operator))
    for _ in range(iterations + 1):
        q = torch.linalg.qr(_back(operator, _forth(operator, q))).Q
    return q


def _factors(operator: LinearOperator, q: Tensor, rank: int) -> Factors:
    """Values, ``V_R``, ``G`` and the first value left out, of the largest parts of ``A Q``."""
    seen = _forth(operator, q)
    gram = sum(part.double().mT @ part.double() for part in seen.split(8192))
    squares, turn = torch.linalg.eigh(gram)
    values, turn = squares.clamp(min=0).sqrt().flip(0), turn.flip(1)
    if not values[0] > 0:
        raise ValueError(f"{type(operator).__name__} is zero: it measures nothing")
    count = min(rank, int((values > CUT * values[0]).sum()))
    rest = float(values[count]) if count < len(values) else 0.0
    inner = (turn[:, :count] / values[:count]).to(q)
    # U = A Q inner is orthonormal; U^T A = S V^T after a rotation of its columns.
    right, values, rotation = torch.linalg.svd(_back(operator, seen @ inner), full_matrices=False)
    return values, right, q @ (inner @ rotation.mT), rest


def _forth(operator: LinearOperator, columns: Tensor) -> Tensor:
    """``A`` of the columns ``(D, K)``, ``(M, K)``."""
    parts = [operator(part.unflatten(1, operator.shape)).flatten(1) for part in columns.mT.split(256)]
    return torch.cat(parts).mT


def _back(operator: LinearOperator, columns: Tensor) -> Tensor:
    """``A^T`` of the columns ``(M, K)``, ``(D, K)``."""
    parts = [operator.adjoint(part.unflatten(1, operator.measured)).flatten(1) for part in columns.mT.split(256)]
    return torch.cat(parts).mT
