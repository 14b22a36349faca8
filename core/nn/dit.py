"""A diffusion transformer in one, two or three spatial dimensions.

The grid is cut into patches, each patch is a token, and the condition's embedding sets the scale, shift and gate of
every block through adaLN-Zero (Peebles and Xie 2022, arXiv 2212.09748).  Queries and keys are normalised and turned
by axial rotary positions; sinusoids of the place in the grid enter with the patches.  Both are computed from the
shape, so that one set of weights serves grids of every size.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .activations import GELU, silu
from .attention import CrossAttention, SelfAttention, head_count
from .checks import check_condition, check_dims, check_fraction, check_grid_input, check_integers, check_noise_level
from .embeddings import ConditionEmbedding
from .linear import Linear, like_layout, zero_init
from .patches import join_patches, split_patches
from .positions import axial_rotation, axial_sinusoids

__all__ = ["DiT", "TransformerBlock"]


class TransformerBlock(nn.Module):
    r"""Attention and a two-layer network, both under adaLN-Zero.

    .. math:: x \leftarrow x + g_1\,\mathrm{attention}((1 + s_1)\,\mathrm{LN}(x) + b_1), \quad
              x \leftarrow x + g_2\,\mathrm{mlp}((1 + s_2)\,\mathrm{LN}(x) + b_2)

    with (s, b, g) an affine map of the condition's embedding that is zero at initialisation; with ``context_width``,
    cross-attention, itself zero at initialisation, is added between the two.

    Args:
        width: length of a token.
        embedding: length of the condition's embedding.
        head_width: length of one head's queries and keys.
        mlp_ratio: hidden features of the two-layer network for each feature of a token.
        context_width: length of a context token; 0 for no cross-attention.
        dropout: probability with which a feature of a branch is dropped in training.
    """

    def __init__(
        self,
        width: int,
        embedding: int,
        head_width: int = 32,
        mlp_ratio: float = 4.0,
        context_width: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        hidden = round(mlp_ratio * width)
        self.modulation = zero_init(Linear(embedding, 6 * width))
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = SelfAttention(width, head_width, qk_norm=True)
        self.cross_norm = nn.LayerNorm(width) if context_width else None
        self.cross_attention = CrossAttention(width, context_width, head_width, qk_norm=True) if context_width else None
        self.mlp_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(Linear(width, hidden), GELU(), Linear(hidden, width))
        self.drop = nn.Dropout(dropout)
        # The gates are zero already: a zero projection behind them would leave both without a gradient.
        self.attention.out.reset_parameters()

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        embedding: Float[Tensor, "batch embedding"],
        rotation: tuple[Tensor, Tensor] | None = None,
        context: Float[Tensor, "batch length context_width"] | None = None,
        context_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(embedding)[:, None].chunk(6, dim=-1)
        h = torch.addcmul(shift1, self.attention_norm(x), 1 + scale1)
        x = torch.addcmul(x, self.drop(self.attention(h, rotation)), gate1)
        if self.cross_norm is not None and self.cross_attention is not None:
            x = x + self.drop(self.cross_attention(self.cross_norm(x), context, context_mask))
        h = torch.addcmul(shift2, self.mlp_norm(x), 1 + scale2)
        return torch.addcmul(x, self.drop(self.mlp(h)), gate2)


class DiT(nn.Module):
    """Transformer over patches, from (B, channels, *space) and a noise level to (B, out_channels, *space).

    Each axis is cut into ceil(n / patch) patches; where n is no multiple, x is extended by zeros at the far end and the
    result is cropped to n.  The output is zero at initialisation and has the memory format of ``x``.  On the CPU the
    result for a sample is the same bit for bit whatever the batch it comes in.

    Args:
        channels: channels of x.
        dims: number of spatial axes: 1, 2 or 3.
        out_channels: channels of the result; None for as many as x has.
        classes: number of class labels; 0 for none.
        context_width: length of a context token for cross-attention; 0 for none.
        patch: points along each side of a patch.
        width: length of a token.
        depth: number of transformer blocks.
        head_width: length of one head's queries and keys; divides ``width``, is even and at least 2 ``dims``.
        mlp_ratio: hidden features of a block's two-layer network for each feature of a token.
        dropout: probability with which a feature of a residual branch is dropped in training.
        gradient_checkpointing: whether to recompute each block in the backward pass instead of storing its activations.

    Raises:
        ValueError: when the arguments do not fit one another, or an input of ``forward`` does not fit the network.

    >>> network = DiT(1, classes=10, patch=2, width=32, depth=1, head_width=16)
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
        patch: int = 2,
        width: int = 256,
        depth: int = 8,
        head_width: int = 32,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_dims(dims)
        check_integers(1, channels=channels, patch=patch, width=width, depth=depth, head_width=head_width)
        check_integers(0, classes=classes, context_width=context_width)
        check_fraction(dropout=dropout)
        if mlp_ratio <= 0:
            raise ValueError(f"mlp_ratio must be positive, got {mlp_ratio!r}")
        self.channels = channels
        self.dims = dims
        self.out_channels = out_channels
        self.classes = classes
        self.context_width = context_width
        self.patch = patch
        self.width = width
        self.depth = depth
        self.head_width = head_width
        self.mlp_ratio = mlp_ratio
        self.dropout = dropout
        self.gradient_checkpointing = gradient_checkpointing
        self._rotated = width // head_count(width, head_width)
        axial_rotation((1,) * dims, self._rotated)  # raises here, rather than in forward, when a head is too narrow

        self.condition = ConditionEmbedding(width, classes)
        self.enter = Linear(channels * patch**dims, width)
        self.place = Linear(width, width, bias=False)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, width, head_width, mlp_ratio, context_width, dropout) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero_init(Linear(width, 2 * width))
        self.leave = zero_init(Linear(width, (out_channels or channels) * patch**dims))

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
        embedding = silu(self.condition(c, label))
        patches, grid = split_patches(x, self.patch)
        place = axial_sinusoids(grid, self.width, device=x.device)
        rotation = axial_rotation(grid, self._rotated, device=x.device)
        h = self.enter(patches) + self.place(place.to(patches.dtype))
        for block in self.blocks:
            h = self._run(block, h, embedding, rotation, context, context_mask)
        scale, shift = self.modulation(embedding)[:, None].chunk(2, dim=-1)
        h = self.leave(torch.addcmul(shift, self.norm(h), 1 + scale))
        return like_layout(join_patches(h, grid, self.patch, x.shape[2:]), x)

    def _run(self, block: nn.Module, h: Tensor, *arguments: object) -> Tensor:
        """One block, recomputed in the backward pass if so asked."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, h, *arguments, use_reentrant=False)
        return block(h, *arguments)
