"""Linear maps and convolutions whose answer for one sample does not depend on the rest of the batch.

Matrix libraries take another code path, with another order of summation, when a matrix has very few rows.  A
product of shape (1, D) then differs in its last bits from row 0 of a product of shape (64, D), and a sampler that
promises "sample i depends on its seed alone" breaks that promise.  :class:`Linear` therefore never computes fewer
than sixteen rows on the CPU: the padding costs microseconds and makes the rows equal bit for bit.  A product with a
single column is shared out by rows at every size, so there it is a sum over each row.  With fewer than twelve columns
and inputs that fill no register of four, MKL on an AMD EPYC sums some rows of one matrix in another order than the
rest; there columns of zeros make it twelve.  In float64 it does so at many more shapes, and there the promise is not
kept.
"""

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Linear", "Pointwise", "affine", "convolution", "to_channels_last", "zero_init"]

Module = TypeVar("Module", bound=nn.Module)

_MIN_COLUMNS, _REGISTER = 12, 4
_MIN_ROWS = 16  # MKL and oneDNN agree with their large-matrix kernels from here on (they differ up to 5 rows)
_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


class Linear(nn.Linear):
    """Affine map y = x W^T + b over the last axis, in float32 the same for a row whatever the number of other rows.

    Under ``torch.compile`` and on accelerators it is exactly :class:`torch.nn.Linear`.

    >>> layer = Linear(8, 4)
    >>> x = torch.randn(64, 8)
    >>> torch.equal(layer(x[:1]), layer(x)[:1])
    True
    """

    def forward(self, x: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        return affine(x, self.weight, self.bias)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b`` as :class:`Linear` computes it, with weights that are given.

    Args:
        x: ``(..., inputs)``.
        weight: ``(outputs, inputs)``.
        bias: ``(outputs,)``; none when not given.

    Returns:
        ``(..., outputs)``.
    """
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return nn.functional.linear(x, weight, bias)
    outputs, inputs = weight.shape
    if outputs == 1 and not x.requires_grad:
        out = (x * weight[0]).sum(-1, keepdim=True)
        return out if bias is None else out + bias
    if x.numel() >= _MIN_ROWS * inputs:
        return _product(x, weight, bias)
    rows = x.reshape(-1, inputs)
    padded = nn.functional.pad(rows, (0, 0, 0, _MIN_ROWS - rows.shape[0]))
    return _product(padded, weight, bias)[: rows.shape[0]].reshape(*x.shape[:-1], outputs)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    outputs, inputs = weight.shape
    missing = _MIN_COLUMNS - outputs
    if missing <= 0 or inputs % _REGISTER == 0:
        return nn.functional.linear(x, weight, bias)
    weight = nn.functional.pad(weight, (0, 0, 0, missing))
    bias = None if bias is None else nn.functional.pad(bias, (0, missing))
    return nn.functional.linear(x, weight, bias)[..., :outputs].contiguous()


class Pointwise(Linear):
    """The same affine map at every point of a grid, (B, inputs, *space) to (B, outputs, *space): a 1x1 convolution.

    As a matrix product it is as fast as a convolution, and torch does not choose its method by the batch size.
    """

    def forward(self, x: Float[Tensor, "batch inputs *space"]) -> Float[Tensor, "batch outputs *space"]:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def convolution(dims: int, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1) -> nn.Module:
    """Convolution over ``dims`` spatial axes with zero padding ``kernel // 2``: a size n becomes ceil(n / stride)."""
    return _CONVOLUTIONS[dims](inputs, outputs, kernel, stride=stride, padding=kernel // 2)


def to_channels_last(x: Tensor) -> Tensor:
    """``x`` (B, C, *space) with its channels innermost in memory where torch has such a format (2-D and 3-D)."""
    memory_format = CHANNELS_LAST.get(x.dim() - 2)
    return x.contiguous() if memory_format is None else x.contiguous(memory_format=memory_format)


def like_layout(x: Tensor, reference: Tensor) -> Tensor:
    """``x`` in the memory format of ``reference``: contiguous where that is, channels-last otherwise."""
    return x.contiguous() if reference.is_contiguous() else to_channels_last(x)


def zero_init(module: Module) -> Module:
    """``module`` with all its parameters set to zero, so that a residual branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
