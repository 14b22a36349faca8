"""A sparse matrix and its transpose, both by rows, for operators that are built once and applied often."""

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ornstein.core.optional import need

__all__ = ["SparseMatrix"]


class SparseMatrix(nn.Module):
    """A real matrix ``A`` with ``A x`` and ``A^T y`` for batches of real or complex vectors, differentiable any number
    of times.

    The transpose is the same numbers in another order, so the adjoint is exact.  Both products run over rows in
    parallel; they take 8 bytes of memory a number and read them once, whatever the batch.

    Args:
        starts: ``(rows + 1,)``: where each row begins in ``columns`` and ``values``.
        columns: ``(count,)`` of the numbers, row by row.
        values: ``(count,)``, the numbers; vectors of another precision are multiplied in their own.
        width: number of columns.
    """

    starts: Tensor
    columns: Tensor
    values: Tensor
    transposed_starts: Tensor
    transposed_columns: Tensor
    transposed_values: Tensor

    def __init__(
        self,
        starts: Int[Tensor, " rows+1"],
        columns: Int[Tensor, " count"],
        values: Float[Tensor, " count"],
        width: int,
    ) -> None:
        super().__init__()
        self.width, self.height = width, len(starts) - 1
        if len(values) >= 2**31:
            raise ValueError(f"a matrix of {len(values)} numbers: expected less than 2^31; take fewer views or pixels")
        scipy = need("scipy.sparse", to="transpose sparse operators", extra="medical")
        arrays = (np.asarray(values), np.asarray(columns, dtype=np.int32), np.asarray(starts, dtype=np.int32))
        turned = scipy.csr_matrix(arrays, shape=(self.height, self.width)).tocsc()
        # They follow from the settings of whoever made them, so they are not kept with weights.
        for name, array in (
            ("starts", arrays[2]),
            ("columns", arrays[1]),
            ("values", arrays[0]),
            ("transposed_starts", turned.indptr),
            ("transposed_columns", turned.indices),
            ("transposed_values", turned.data),
        ):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)
        with warnings.catch_warnings():
            # torch says once in a process that this layout may still change.
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
            self._matrix(False, self.values.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``A x``: ``(B, width)`` to ``(B, height)``."""
        return _product(x, self, False)

    def transpose(self, y: Tensor) -> Tensor:
        """``A^T y``: ``(B, height)`` to ``(B, width)``."""
        return _product(y, self, True)

    def _matrix(self, transposed: bool, dtype: torch.dtype) -> Tensor:
        starts, columns, values, size = (
            (self.transposed_starts, self.transposed_columns, self.transposed_values, (self.width, self.height))
            if transposed
            else (self.starts, self.columns, self.values, (self.height, self.width))
        )
        return torch.sparse_csr_tensor(starts, columns, values.to(dtype), size, check_invariants=False)

    def _multiply(self, x: Tensor, transposed: bool) -> Tensor:
        matrix = self._matrix(transposed, x.dtype)
        # One vector has a kernel of its own, several times faster than that for many, which takes longer for two or
        # three than for four.
        if len(x) == 1:
            return (matrix @ x[0])[None]
        many = nn.functional.pad(x, (0, 0, 0, 4 - len(x))) if len(x) < 4 and x.device.type == "cpu" else x
        return (matrix @ many.T.contiguous())[:, : len(x)].T.contiguous()


def _product(x: Tensor, matrix: SparseMatrix, transposed: bool) -> Tensor:
    if x.is_complex():
        parts = torch.cat([x.real, x.imag])
        return torch.complex(*_Product.apply(parts, matrix, transposed).chunk(2))
    return _Product.apply(x, matrix, transposed)


class _Product(torch.autograd.Function):
    """Its derivative is the product with the transpose, again by this function."""

    @staticmethod
    def forward(x: Tensor, matrix: SparseMatrix, transposed: bool) -> Tensor:
        return matrix._multiply(x, transposed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.matrix, ctx.transposed = inputs

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        return _Product.apply(grad[0], ctx.matrix, not ctx.transposed), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return _Product.apply(tangents[0], ctx.matrix, ctx.transposed)
