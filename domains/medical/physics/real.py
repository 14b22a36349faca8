"""Real slices as complex ones, for the operators of MRI."""

import torch
from torch import Tensor

from ornstein.core.inverse.operators import LinearOperator

__all__ = ["RealPicture"]


class RealPicture(LinearOperator):
    """``x + 0 i``: ``(B, 1, rows, columns)`` to ``(B, 2, rows, columns)``; the adjoint is the real part.

    ``CartesianMRI(mask, rows) @ RealPicture((rows, columns))`` measures slices without a phase.

    Args:
        sides: ``(rows, columns)``.
    """

    def __init__(self, sides: tuple[int, int]) -> None:
        rows, columns = sides
        super().__init__((1, rows, columns), (2, rows, columns))
        self.sides = (rows, columns)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.zeros_like(x)], 1)

    def adjoint(self, y: Tensor) -> Tensor:
        return y[:, :1]

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        return self.adjoint(y)
