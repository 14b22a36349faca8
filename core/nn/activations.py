"""Activations whose answer for one sample does not depend on the rest of the batch.

torch computes SiLU, the sigmoid and the tanh form of GELU with vector instructions, and what is left over at the end of
the memory (or of a thread's share of it) with scalar ones, which round differently.  Where a sample's numbers stand
then decides their last bits.  Exponential and hyperbolic tangent have one path for all, so that results made of them do
not.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["GELU", "sigmoid", "silu", "squared_relu"]


def _fused(x: Tensor) -> bool:
    """Whether torch's own is to be used: in training, where speed matters more, on accelerators and when compiled."""
    return x.device.type != "cpu" or x.requires_grad or torch.compiler.is_compiling()


def silu(x: Tensor) -> Tensor:
    """``x / (1 + e^-x)``, the same to the bit for a sample in any batch (on the CPU, without gradients)."""
    if _fused(x):
        return nn.functional.silu(x)
    return x / x.neg().exp_().add_(1)


def sigmoid(x: Tensor) -> Tensor:
    """``1 / (1 + e^-x)``, the same to the bit for a sample in any batch (on the CPU, without gradients)."""
    return x.sigmoid() if _fused(x) else x.neg().exp_().add_(1).reciprocal_()


class GELU(nn.Module):
    """``x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``, the same to the bit for a sample in any batch (on the CPU,
    without gradients).

    Hendrycks and Gimpel 2016 (arXiv 1606.08415).
    """

    def forward(self, x: Tensor) -> Tensor:
        if _fused(x):
            return nn.functional.gelu(x, approximate="tanh")
        inner = (x * x).mul_(0.044715).add_(1).mul_(x).mul_(math.sqrt(2 / math.pi))
        return inner.tanh_().add_(1).mul_(x).mul_(0.5)


def squared_relu(x: Tensor) -> Tensor:
    """``max(x, 0)^2`` (So et al. 2021, arXiv 2109.08668), with fewer passes over memory than autograd's own.

    Args:
        x: what nothing else needs: it is overwritten where gradients are off.
    """
    if torch.compiler.is_compiling():
        return x.relu().square()
    if not torch.is_grad_enabled():
        x.clamp_min_(0)
        return x.mul_(x)
    return _SquaredReLU.apply(x)


class _SquaredReLU(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        positive = x.relu()
        return positive.mul_(positive)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        slope = ctx.saved_tensors[0].clamp_min(0)
        return slope.mul_(2).mul_(grad) if not torch.is_grad_enabled() else slope * 2 * grad

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return ctx.saved_tensors[0].clamp_min(0) * 2 * tangent
