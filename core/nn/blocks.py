"""The blocks of a U-Net in one, two or three spatial dimensions."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .activations import silu
from .attention import CrossAttention, SelfAttention
from .linear import Linear, Pointwise, convolution, zero_init

__all__ = ["AttentionBlock", "Downsample", "ResidualBlock", "Stage", "Upsample", "group_count"]


def group_count(width: int, groups: int) -> int:
    """The largest number of groups up to ``groups`` that divides ``width``."""
    return next(count for count in range(min(groups, width), 0, -1) if width % count == 0)


class ResidualBlock(nn.Module):
    r"""Two convolutions, the second under an adaptive group norm: the residual block of ADM.

    .. math:: h = \mathrm{conv}(\mathrm{silu}(\mathrm{GN}(x))), \quad
              y = \mathrm{skip}(x) + \mathrm{conv}_0(\mathrm{silu}((1 + s)\,\mathrm{GN}(h) + b))

    with (s, b) an affine map of the condition's embedding and conv_0 zero at initialisation
    (Dhariwal and Nichol 2021, arXiv 2105.05233, section 3.1).  Without a condition they are learned constants.

    Args:
        dims: number of spatial axes.
        inputs: channels of x.
        outputs: channels of y.
        embedding: length of the condition's embedding; 0 for a block without condition.
        groups: groups of the norms, at most.
        dropout: probability with which a feature is dropped before the last convolution.
    """

    def __init__(
        self, dims: int, inputs: int, outputs: int, embedding: int, groups: int = 8, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(group_count(inputs, groups), inputs)
        self.conv = convolution(dims, inputs, outputs)
        self.adaptive_norm = nn.GroupNorm(group_count(outputs, groups), outputs, affine=not embedding)
        self.modulation = Linear(embedding, 2 * outputs) if embedding else None
        self.drop = nn.Dropout(dropout)
        self.out = zero_init(convolution(dims, outputs, outputs))
        self.skip = nn.Identity() if inputs == outputs else Pointwise(inputs, outputs)

    def forward(
        self, x: Float[Tensor, "batch inputs *space"], embedding: Float[Tensor, "batch embedding"] | None = None
    ) -> Float[Tensor, "batch outputs *space"]:
        h = self.adaptive_norm(self.conv(silu(self.norm(x))))
        if self.modulation is not None:
            modulation = self.modulation(embedding).unflatten(1, (-1, *(1,) * (x.dim() - 2)))
            scale, shift = modulation.chunk(2, dim=1)
            h = torch.addcmul(shift, h, 1 + scale)
        return self.skip(x) + self.out(self.drop(silu(h)))


class AttentionBlock(nn.Module):
    """Self-attention over all points of the grid and, with ``context_width``, cross-attention to a context.

    Each reads the normalised tokens and adds to them; both are zero at initialisation.
    """

    def __init__(self, width: int, context_width: int = 0, head_width: int = 32, groups: int = 8) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(group_count(width, groups), width)
        self.self_attention = SelfAttention(width, head_width)
        self.cross_norm = nn.LayerNorm(width) if context_width else None
        self.cross_attention = CrossAttention(width, context_width, head_width) if context_width else None

    def forward(
        self,
        x: Float[Tensor, "batch width *space"],
        context: Float[Tensor, "batch length context_width"] | None = None,
        context_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch width *space"]:
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.self_attention(self.norm(x).flatten(2).transpose(1, 2))
        if self.cross_norm is not None and self.cross_attention is not None:
            tokens = tokens + self.cross_attention(self.cross_norm(tokens), context, context_mask)
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class Stage(nn.Module):
    """A residual block and, where there is one, the attention that follows it."""

    def __init__(self, residual: ResidualBlock, attention: AttentionBlock | None) -> None:
        super().__init__()
        self.residual = residual
        self.attention = attention

    def forward(
        self,
        x: Float[Tensor, "batch inputs *space"],
        embedding: Float[Tensor, "batch embedding"] | None = None,
        context: Float[Tensor, "batch length context_width"] | None = None,
        context_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch outputs *space"]:
        h = self.residual(x, embedding)
        return h if self.attention is None else self.attention(h, context, context_mask)


class Downsample(nn.Module):
    """Convolution of stride 2: every spatial size n becomes ceil(n / 2), the point j seeing 2j - 1, 2j and 2j + 1."""

    def __init__(self, dims: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = convolution(dims, inputs, outputs, stride=2)

    def forward(self, x: Float[Tensor, "batch inputs *space"]) -> Float[Tensor, "batch outputs *half"]:
        return self.conv(x)


class Upsample(nn.Module):
    """Channel mixing on the coarse grid, then nearest-neighbour copies: point i of the fine grid is point i // 2.

    It undoes the sizes of :class:`Downsample`, odd ones too: of the doubled grid the first ``shape`` points are kept.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = Pointwise(inputs, outputs)

    def forward(
        self, x: Float[Tensor, "batch inputs *half"], shape: torch.Size
    ) -> Float[Tensor, "batch outputs *space"]:
        doubled = nn.functional.interpolate(self.mix(x), scale_factor=2.0, mode="nearest")
        for axis, size in enumerate(shape, start=2):
            doubled = doubled.narrow(axis, 0, size)
        return doubled
