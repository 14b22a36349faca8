r"""What was measured: operators ``y = A(x)`` on states ``(B, *event)``.

An operator knows the event shapes on both of its sides, ``shape`` of ``x`` and ``measured`` of ``y``.  Three kinds
know more and more about themselves:

* `Operator`: any differentiable function, with the product ``J(x)^T v`` of its transposed Jacobian (`Operator.vjp`);
* `LinearOperator`: has an adjoint, ``<A x, y> = <x, A^T y>``;
* `SpectralOperator`: has a singular value decomposition ``A = U S V^T`` that is cheap to apply, and with it the
  pseudo-inverse ``A^+ = V S^+ U^T``.

``a @ b`` is the composition ``a(b(x))``.  A composition has no decomposition of its own; `factorised` finds one
of any linear operator.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, overload

import torch
from torch import Tensor, nn

__all__ = ["FunctionOperator", "LinearFunctionOperator", "LinearOperator", "Operator", "SpectralOperator"]


class Operator(nn.Module, ABC):
    """A differentiable map from ``(B, *shape)`` to ``(B, *measured)``.

    Args:
        shape: event shape of ``x``.
        measured: event shape of ``y``.
    """

    def __init__(self, shape: Sequence[int], measured: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(int(n) for n in shape)
        self.measured = tuple(int(n) for n in measured)
        for name, event in (("shape", self.shape), ("measured", self.measured)):
            if not event or min(event) < 1:
                raise ValueError(f"{name}={event}: expected an event shape, such as (3, 32, 32)")

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """``A(x)``, ``(B, *measured)``."""

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """``J(x)^T v`` with the Jacobian of the operator at ``x`` ``(B, *shape)``, for ``v`` ``(B, *measured)``."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self(x), x, v)[0]

    def restrict(self, y: Tensor) -> Tensor:
        """``y`` with zeros where the operator measures nothing; all of ``y`` unless an operator says otherwise."""
        return y

    def part(self, samples: slice) -> "Operator":
        """The operator for some samples of the batch; itself, unless it differs between samples."""
        return self

    def __matmul__(self, other: "Operator") -> "Operator":
        if not isinstance(other, Operator):
            return NotImplemented
        if isinstance(self, LinearOperator) and isinstance(other, LinearOperator):
            return LinearComposition(self, other)
        return Composition(self, other)


class LinearOperator(Operator):
    """A linear map, with its adjoint."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """``A^T y``, ``(B, *shape)``."""

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.adjoint(v)

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """``A^+ y``, the shortest of the ``x`` that fit ``y`` best, ``(B, *shape)``.

        Raises:
            NotImplementedError: for an operator that does not know its decomposition.
        """
        raise NotImplementedError(
            f"{type(self).__name__} knows no pseudo-inverse; use a method that needs the adjoint alone (MMPS, DDS, "
            "DiffPIR), or factorised(operator)"
        )

    @overload
    def __matmul__(self, other: "LinearOperator") -> "LinearOperator": ...
    @overload
    def __matmul__(self, other: Operator) -> Operator: ...
    def __matmul__(self, other: Operator) -> Operator:
        return super().__matmul__(other)

    def project(self, x: Tensor) -> Tensor:
        """``A^+ A x``: the part of ``x`` that is measured."""
        return self.pseudo_inverse(self(x))


class SpectralOperator(LinearOperator):
    """A linear map whose singular value decomposition ``A = U S V^T`` is cheap to apply.

    Spectral coordinates are ordered: of the ``D = prod(shape)`` coordinates ``V^T x``, the first ``R`` belong to
    ``singular_values`` ``(R,)`` (or ``(B, R)``, one set a sample), the others to the null space; of ``U^T y`` the
    first ``R`` likewise.  Singular values below ``tolerance`` times the largest count as zero where they are divided
    by.
    """

    tolerance: ClassVar[float] = 1e-6

    @property
    @abstractmethod
    def singular_values(self) -> Tensor:
        """``(R,)`` or ``(B, R)``, at least 0, in any order."""

    @abstractmethod
    def vt(self, x: Tensor) -> Tensor:
        """``V^T x``: ``(B, *shape)`` to ``(B, D)``."""

    @abstractmethod
    def v(self, c: Tensor) -> Tensor:
        """``V c``: ``(B, D)`` to ``(B, *shape)``."""

    @abstractmethod
    def ut(self, y: Tensor) -> Tensor:
        """The first ``R`` coordinates of ``U^T y``: ``(B, *measured)`` to ``(B, R)``."""

    @abstractmethod
    def u(self, c: Tensor) -> Tensor:
        """``U c`` for the first ``R`` columns of ``U``: ``(B, R)`` to ``(B, *measured)``."""

    @property
    def reliable(self) -> Tensor:
        """Which singular values count as more than zero, of the shape of ``singular_values``."""
        s = self.singular_values
        return s > self.tolerance * s.max()

    def spectral_filter(self, c: Tensor, factors: Tensor) -> Tensor:
        """``V diag(factors) c`` for the first ``R`` coordinates ``c`` ``(B, R)``, zero in the null space."""
        dim = math.prod(self.shape)
        return self.v(nn.functional.pad(c * factors, (0, dim - c.shape[1])))

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        s = self.singular_values.to(y)
        inverse = torch.where(self.reliable, 1 / torch.where(self.reliable, s, 1.0), 0.0)
        return self.spectral_filter(self.ut(y), inverse)

    def forward(self, x: Tensor) -> Tensor:
        s = self.singular_values.to(x)
        return self.u(self.vt(x)[:, : s.shape[-1]] * s)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.spectral_filter(self.ut(y), self.singular_values.to(y))


class Composition(Operator):
    """``outer(inner(x))``; made by ``outer @ inner``."""

    def __init__(self, outer: Operator, inner: Operator) -> None:
        super().__init__(inner.shape, outer.measured)
        if outer.shape != inner.measured:
            raise ValueError(f"outer takes {outer.shape} but inner gives {inner.measured}: expected the same shape")
        self.outer, self.inner = outer, inner

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    def restrict(self, y: Tensor) -> Tensor:
        return self.outer.restrict(y)

    def part(self, samples: slice) -> Operator:
        outer, inner = self.outer.part(samples), self.inner.part(samples)
        return self if outer is self.outer and inner is self.inner else outer @ inner


class LinearComposition(Composition, LinearOperator):
    """``outer(inner(x))`` of two linear operators."""

    outer: LinearOperator
    inner: LinearOperator

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))


class FunctionOperator(Operator):
    """Any differentiable function of states.

    Args:
        function: maps ``(B, *shape)`` to ``(B, *measured)``, sample by sample.
        shape: event shape of ``x``.
        measured: event shape of ``y``; by default found by calling the function on zeros.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], shape: Sequence[int], measured: Sequence[int] | None = None
    ) -> None:
        super().__init__(shape, _measured(function, shape) if measured is None else measured)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class LinearFunctionOperator(FunctionOperator, LinearOperator):
    """A function that is linear; its adjoint is its vector-Jacobian product, by autograd.

    Raises:
        ValueError: when ``f(0)`` is not zero or ``f(2 x)`` not ``2 f(x)`` for a random ``x``.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], shape: Sequence[int], measured: Sequence[int] | None = None
    ) -> None:
        super().__init__(function, shape, measured)
        x = torch.randn(1, *self.shape, generator=torch.Generator().manual_seed(0))
        once, twice = function(x), function(2 * x)
        if not torch.allclose(2 * once, twice, rtol=1e-4, atol=1e-5 * float(once.abs().max())):
            raise ValueError("function is not linear: f(2 x) differs from 2 f(x); FunctionOperator takes any function")

    def adjoint(self, y: Tensor) -> Tensor:
        return Operator.vjp(self, y.new_zeros(len(y), *self.shape), y)


def _measured(function: Callable[[Tensor], Tensor], shape: Sequence[int]) -> tuple[int, ...]:
    with torch.no_grad():
        return tuple(function(torch.zeros(1, *shape)).shape[1:])
