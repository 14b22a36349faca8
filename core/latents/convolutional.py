"""The networks of autoencoders: residual blocks that lead from a grid to a coarser one, or back.

As in Esser et al. 2021 (arXiv 2012.09841, table 7): residual blocks on each level, the grid halved in between, and
attention over the coarsest grid where it is asked for.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..nn.activations import silu
from ..nn.blocks import AttentionBlock, Downsample, ResidualBlock, Stage, Upsample, group_count
from ..nn.checks import check_dims, check_fraction, check_grid_input, check_integers
from ..nn.linear import CHANNELS_LAST, convolution, like_layout, to_channels_last

__all__ = ["ConvolutionalCoder"]


class ConvolutionalCoder(nn.Module):
    """From ``(B, inputs, *space)`` to ``(B, outputs, *space / factor)``, or from there up again.

    On the CPU, outside training, the result for a sample is the same bit for bit whatever the batch it comes in.

    Args:
        dims: number of spatial axes: 1, 2 or 3.
        inputs: channels of x.
        outputs: channels of the result.
        up: whether the result is finer, by ``factor = 2^(len(widths) - 1)`` along each axis, or coarser.
        widths: channels on each level, finest first.
        depth: residual blocks on each level.
        attention: whether each block of the coarsest level is followed by self-attention.
        dropout: probability with which a feature of a residual branch is dropped in training.
        groups: groups of the group norms, at most.

    Raises:
        ValueError: for arguments out of range, an input of another shape, or, on the way down, a spatial size that
            ``factor`` does not divide.
    """

    def __init__(
        self,
        dims: int,
        inputs: int,
        outputs: int,
        *,
        up: bool,
        widths: Sequence[int],
        depth: int = 1,
        attention: bool = False,
        dropout: float = 0.0,
        groups: int = 8,
    ) -> None:
        super().__init__()
        check_dims(dims)
        check_integers(1, inputs=inputs, outputs=outputs, depth=depth, groups=groups)
        check_integers(1, **{f"widths[{i}]": width for i, width in enumerate(widths)})
        check_fraction(dropout=dropout)
        if not widths:
            raise ValueError("widths is empty: expected the channels of at least one level")
        self.dims, self.inputs, self.up = dims, inputs, up
        self.factor = 2 ** (len(widths) - 1)

        def level(width: int, attends: bool) -> nn.Sequential:
            blocks = (ResidualBlock(dims, width, width, 0, groups, dropout) for _ in range(depth))
            return nn.Sequential(
                *(Stage(block, AttentionBlock(width, groups=groups) if attends else None) for block in blocks)
            )

        order = tuple(widths)[::-1] if up else tuple(widths)
        coarsest = 0 if up else len(order) - 1
        steps = pairwise(order)
        self.enter = convolution(dims, inputs, order[0])
        self.levels = nn.ModuleList(level(width, attention and i == coarsest) for i, width in enumerate(order))
        self.steps = nn.ModuleList(Upsample(a, b) if up else Downsample(dims, a, b) for a, b in steps)
        self.norm = nn.GroupNorm(group_count(order[-1], groups), order[-1])
        self.leave = convolution(dims, order[-1], outputs)
        if dims > 1:
            self.to(memory_format=CHANNELS_LAST[dims])

    def forward(self, x: Float[Tensor, "batch inputs *space"]) -> Float[Tensor, "batch outputs *scaled"]:
        check_grid_input(x, self.inputs, self.dims)
        if not self.up and any(size % self.factor for size in x.shape[2:]):
            raise ValueError(
                f"x has spatial sizes {tuple(x.shape[2:])}: expected multiples of {self.factor}, which "
                f"{len(self.levels)} widths halve evenly; pad or crop the data, or give fewer widths"
            )
        # Torch rounds the convolution of one sample by itself in another way than that of several (see `UNet`).
        alone = x.shape[0] == 1 and x.device.type == "cpu" and not self.training and not torch.compiler.is_compiling()
        h = self.enter(to_channels_last(torch.cat([x, x]) if alone else x))
        h = self.levels[0](h)
        for step, level in zip(self.steps, self.levels[1:], strict=True):
            h = level(step(h, torch.Size(2 * size for size in h.shape[2:])) if self.up else step(h))
        return like_layout(self.leave(silu(self.norm(h)))[: len(x)], x)
