"""A U-Net in one, two or three spatial dimensions.

The shape is that of Ronneberger et al. 2015 (arXiv 1505.04597) with the residual blocks of ADM (Dhariwal and Nichol
2021, arXiv 2105.05233).  As in Imagen's efficient U-Net (Saharia et al. 2022, arXiv 2205.11487, appendix B), most
blocks stand at the coarse levels: a parameter at half the resolution costs a quarter of the arithmetic and of the
memory, so ``depths`` grows with the level by default.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .activations import silu
from .blocks import AttentionBlock, Downsample, ResidualBlock, Stage, Upsample, group_count
from .checks import check_condition, check_dims, check_fraction, check_grid_input, check_integers, check_noise_level
from .embeddings import ConditionEmbedding
from .linear import CHANNELS_LAST, convolution, like_layout, to_channels_last, zero_init

__all__ = ["UNet"]


class UNet(nn.Module):
    """U-Net that maps (B, channels, *space) and a noise level to (B, out_channels, *space).

    Level i works on grids of ceil(n / 2^i) points along each axis, so every size from 1 on is served; nothing is
    padded or cropped at the edges of ``x``.  Each level has ``depths[i]`` residual blocks on the way down and as many
    on the way up, each of which receives the output of its counterpart; where ``attention[i]`` is true, each block is
    followed by self-attention and, with ``context_width``, cross-attention.  The output is zero at initialisation.

    Parameters are kept channels-last for 2-D and 3-D grids; the result has the memory format of ``x``.  On the CPU,
    outside training, the result for a sample is the same bit for bit whatever the batch it comes in.

    Args:
        channels: channels of x.
        dims: number of spatial axes: 1, 2 or 3.
        out_channels: channels of the result; None for as many as x has.
        classes: number of class labels; 0 for none.
        context_width: length of a context token for cross-attention; 0 for none.
        widths: channels at each level, finest first.
        depths: residual blocks at each level, finest first.
        attention: whether a level has attention, finest first.
        embedding_width: length of the embedding of noise level and label; None for four times the first width.
        head_width: channels of an attention head; must divide the widths of levels with attention that exceed it.
        groups: groups of the group norms, at most.
        dropout: probability with which a feature of a residual branch is dropped in training.
        gradient_checkpointing: whether to recompute each block in the backward pass instead of storing its activations.

    Raises:
        ValueError: when the arguments do not fit one another, or an input of ``forward`` does not fit the network.

    >>> network = UNet(1, classes=10, widths=(8, 16), depths=(1, 1), attention=(False, True), head_width=8)
    >>> network(torch.randn(2, 1, 7, 5), torch.zeros(2), label=torch.tensor([3, -1])).shape
    torch.Size([2, 1, 7, 5])
    """

    def __init__(
        self,
        channels: int,
        dims: int = 2,
        *,
        out_channels: int | None = None,
        classes: int = 0,
        context_width: int = 0,
        widths: Sequence[int] = (32, 64, 128),
        depths: Sequence[int] = (1, 2, 2),
        attention: Sequence[bool] = (False, False, True),
        embedding_width: int | None = None,
        head_width: int = 32,
        groups: int = 8,
        dropout: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.dims = dims
        self.out_channels = out_channels
        self.classes = classes
        self.context_width = context_width
        self.widths = tuple(widths)
        self.depths = tuple(depths)
        self.attention = tuple(attention)
        self.embedding_width = embedding_width
        self.head_width = head_width
        self.groups = groups
        self.dropout = dropout
        self.gradient_checkpointing = gradient_checkpointing
        self._check_arguments()

        embedding = 4 * self.widths[0] if embedding_width is None else embedding_width
        self.condition = ConditionEmbedding(embedding, classes)
        self.enter = convolution(dims, channels, self.widths[0])
        levels = [level for level, depth in enumerate(self.depths) for _ in range(depth)]
        self.down = nn.ModuleList(self._stage(level, embedding, copies=1) for level in levels)
        self.up = nn.ModuleList(self._stage(level, embedding, copies=2) for level in reversed(levels))
        steps = list(zip(self.widths, self.widths[1:]))
        self.coarser = nn.ModuleList(Downsample(dims, fine, coarse) for fine, coarse in steps)
        self.finer = nn.ModuleList(Upsample(coarse, fine) for fine, coarse in steps)
        self.norm = nn.GroupNorm(group_count(self.widths[0], groups), self.widths[0])
        self.leave = zero_init(convolution(dims, self.widths[0], out_channels or channels))
        if dims > 1:
            self.to(memory_format=CHANNELS_LAST[dims])

    def _check_arguments(self) -> None:
        check_dims(self.dims)
        check_integers(1, channels=self.channels, head_width=self.head_width, groups=self.groups)
        check_integers(0, classes=self.classes, context_width=self.context_width)
        check_fraction(dropout=self.dropout)
        if not self.widths or not len(self.widths) == len(self.depths) == len(self.attention):
            raise ValueError(
                "widths, depths and attention must name the same number of levels, at least one: "
                f"got {len(self.widths)}, {len(self.depths)} and {len(self.attention)}"
            )
        for level, (width, depth) in enumerate(zip(self.widths, self.depths)):
            check_integers(1, **{f"widths[{level}]": width, f"depths[{level}]": depth})

    def _stage(self, level: int, embedding: int, copies: int) -> Stage:
        """A stage of ``level``; on the way up it reads two copies of its channels, one of them the skip."""
        width = self.widths[level]
        residual = ResidualBlock(self.dims, copies * width, width, embedding, self.groups, self.dropout)
        attends = self.attention[level]
        return Stage(
            residual, AttentionBlock(width, self.context_width, self.head_width, self.groups) if attends else None
        )

    def forward(
        self,
        x: Float[Tensor, "batch channels *space"],
        c: Float[Tensor, "batch"],
        *,
        label: Int[Tensor, "batch"] | None = None,
        context: Float[Tensor, "batch length context_width"] | None = None,
        context_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch out_channels *space"]:
        """Evaluate the network.

        Args:
            x: the noisy state, scaled to unit variance, (B, channels, *space).
            c: the noise level -log_snr / 8, (B,).
            label: class numbers, (B,), -1 for no label; None for no labels at all.
            context: what cross-attention looks at, (B, L, context_width); None for no context.
            context_mask: True where the context is real, (B, L); None for everywhere.

        Returns:
            The prediction, (B, out_channels, *space).
        """
        check_grid_input(x, self.channels, self.dims)
        check_noise_level(c, x.shape[0])
        check_condition(x.shape[0], self.classes, self.context_width, label, context, context_mask)
        if self._is_lonely(x):
            pair = [None if v is None else torch.cat([v, v]) for v in (label, context, context_mask)]
            return self._evaluate(torch.cat([x, x]), torch.cat([c, c]), *pair)[:1]
        return self._evaluate(x, c, label, context, context_mask)

    def _is_lonely(self, x: Tensor) -> bool:
        # Torch computes a convolution of one small sample by another method than that of two or more, with other
        # rounding. A pair costs twice the time of one and gives each sample the bits it has in any batch.
        return x.shape[0] == 1 and x.device.type == "cpu" and not self.training and not torch.compiler.is_compiling()

    def _evaluate(
        self, x: Tensor, c: Tensor, label: Tensor | None, context: Tensor | None, context_mask: Tensor | None
    ) -> Tensor:
        embedding = silu(self.condition(c, label))
        h = self.enter(to_channels_last(x))
        down, up = iter(self.down), iter(self.up)
        skips: list[Tensor] = []
        for level, depth in enumerate(self.depths):
            if level:
                h = self.coarser[level - 1](h)
            for _ in range(depth):
                h = self._run(next(down), h, embedding, context, context_mask)
                skips.append(h)
        for level, depth in reversed(list(enumerate(self.depths))):
            if level < len(self.depths) - 1:
                h = self.finer[level](h, skips[-1].shape[2:])
            for _ in range(depth):
                h = self._run(next(up), torch.cat([h, skips.pop()], dim=1), embedding, context, context_mask)
        return like_layout(self.leave(silu(self.norm(h))), x)

    def _run(self, stage: nn.Module, h: Tensor, *arguments: Tensor | None) -> Tensor:
        """One stage, recomputed in the backward pass if so asked."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(stage, h, *arguments, use_reentrant=False)
        return stage(h, *arguments)
