r"""Attention: softmax(Q K^T / sqrt(d)) V in several heads, over a sample's own tokens or over a context.

Vaswani et al. 2017, arXiv 1706.03762.  With ``qk_norm`` queries and keys are divided by their root mean square
before the product, which bounds the logits and keeps low-precision training stable (Dehghani et al. 2023,
arXiv 2302.05442, section 2.1; RMSNorm: Zhang and Sennrich 2019, arXiv 1910.07467).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .linear import Linear, zero_init
from .positions import rotate

__all__ = ["CrossAttention", "SelfAttention"]


def head_count(width: int, head_width: int) -> int:
    """Number of heads of ``head_width`` in ``width``; a narrower layer has one head."""
    if width <= head_width:
        return 1
    if width % head_width:
        raise ValueError(f"head_width must divide the width of an attention layer: got {head_width} for {width}")
    return width // head_width


class HeadNorm(nn.RMSNorm):
    """Root-mean-square norm of queries or keys in the precision that they come in, autocast's included."""

    def forward(self, x: Float[Tensor, "*tokens features"]) -> Float[Tensor, "*tokens features"]:
        return nn.functional.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


class SelfAttention(nn.Module):
    """Every token looks at every token of its sample: (B, N, width) to (B, N, width), zero at initialisation.

    Args:
        width: length of a token.
        head_width: length of one head's queries and keys; must divide ``width`` unless that is smaller.
        qk_norm: whether to normalise queries and keys.
    """

    def __init__(self, width: int, head_width: int = 32, qk_norm: bool = False) -> None:
        super().__init__()
        self.width = width
        self.head_width = head_width
        self.qk_norm = qk_norm
        self.heads = head_count(width, head_width)
        self.qkv = Linear(width, 3 * width)
        self.query_norm, self.key_norm = _norms(width // self.heads, qk_norm)
        self.out = zero_init(Linear(width, width))

    def forward(
        self, x: Float[Tensor, "batch tokens width"], rotation: tuple[Tensor, Tensor] | None = None
    ) -> Float[Tensor, "batch tokens width"]:
        """Attend; ``rotation`` is the pair (cos, sin) of :func:`ornstein.core.nn.axial_rotation`, or None."""
        query, key, value = (part.unflatten(-1, (self.heads, -1)) for part in self.qkv(x).chunk(3, dim=-1))
        query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            query, key = rotate(query, *rotation), rotate(key, *rotation)
        return self.out(_attend(query, key, value))


class CrossAttention(nn.Module):
    """Every token looks at a context: (B, N, width) and (B, L, context_width) to (B, N, width), zero at initialisation.

    A learned null token always stands beside the context.  It is all that is seen when there is no context, or when
    its mask is False throughout, so "no condition" is a case like any other and softmax never meets an empty row.

    Args:
        width: length of a token.
        context_width: length of a context token.
        head_width: length of one head's queries and keys; must divide ``width`` unless that is smaller.
        qk_norm: whether to normalise queries and keys.
    """

    def __init__(self, width: int, context_width: int, head_width: int = 32, qk_norm: bool = False) -> None:
        super().__init__()
        self.width = width
        self.context_width = context_width
        self.head_width = head_width
        self.qk_norm = qk_norm
        self.heads = head_count(width, head_width)
        self.query = Linear(width, width)
        self.key_value = Linear(context_width, 2 * width)
        self.null = nn.Parameter(torch.randn(1, 1, context_width) * 0.02)
        self.query_norm, self.key_norm = _norms(width // self.heads, qk_norm)
        self.out = zero_init(Linear(width, width))

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        context: Float[Tensor, "batch length context_width"] | None = None,
        context_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Attend to the null token and to the ``context`` where ``context_mask`` is True (everywhere if None)."""
        null = self.null.expand(x.shape[0], -1, -1)
        seen = null if context is None else torch.cat([null, context.to(null.dtype)], dim=1)
        if context_mask is not None:
            context_mask = nn.functional.pad(context_mask, (1, 0), value=True)[:, None, None, :]
        key, value = (part.unflatten(-1, (self.heads, -1)) for part in self.key_value(seen).chunk(2, dim=-1))
        query = self.query_norm(self.query(x).unflatten(-1, (self.heads, -1)))
        return self.out(_attend(query, self.key_norm(key), value, context_mask))


def _norms(width: int, qk_norm: bool) -> tuple[nn.Module, nn.Module]:
    return (HeadNorm(width), HeadNorm(width)) if qk_norm else (nn.Identity(), nn.Identity())


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention of (B, N, heads, d) tensors, the heads of the result joined: (B, N, heads * d)."""
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    return scaled_attention(query, key, value, mask).transpose(1, 2).flatten(2)


def scaled_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """torch's scaled dot-product attention of (B, heads, N, d) tensors, in float32 on the CPU.

    There torch's gradient in bfloat16 takes over four times as long as in float32 (64 heads of 128 tokens, AMX).
    """
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return nn.functional.scaled_dot_product_attention(
                query.float(), key.float(), value.float(), attn_mask=mask, is_causal=causal
            )
    return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
