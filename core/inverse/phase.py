"""Phase retrieval: magnitudes of Fourier coefficients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .operators import Operator

__all__ = ["FourierMagnitude"]


class FourierMagnitude(Operator):
    r"""Magnitudes of the oversampled Fourier transform: ``y = |F pad(x)|``, phases lost.

    The nonlinear problem of Chung et al. 2023 (DPS, arXiv 2209.14687), section 4.  The state is padded with zeros to
    ``sides + 2 padding`` along the last axes; the transform is orthonormal.  The magnitude has no derivative at zero;
    there the derivative is taken as 0.

    Args:
        shape: event shape of ``x``.
        padding: zeros on each side; a quarter of the side doubles the number of knowns in two dimensions.
        dims: number of axes that are transformed.
    """

    def __init__(self, shape: Sequence[int], padding: int, dims: int = 2) -> None:
        if not 1 <= dims <= len(shape):
            raise ValueError(f"dims={dims}: expected 1 to {len(shape)}, the number of axes of shape={tuple(shape)}")
        if padding < 0:
            raise ValueError(f"padding={padding}: expected 0 or more zeros on each side")
        front, back = tuple(shape)[:-dims], tuple(shape)[-dims:]
        super().__init__(shape, (*front, *(side + 2 * padding for side in back)))
        self.padding, self.dims = padding, dims

    def forward(self, x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x, [self.padding] * (2 * self.dims))
        return torch.fft.fftn(padded, dim=tuple(range(-self.dims, 0)), norm="ortho").abs()
