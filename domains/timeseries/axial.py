r"""Self-attention along one axis of a table of tokens, the other axes its batch.

A layer of Vaswani et al. 2017 (arXiv 1706.03762) with the norms after the sums:

    h <- norm(h + attention(h)),       h <- norm(h + W_2 gelu(W_1 h)).
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ornstein.core.nn import Linear

__all__ = ["AxialLayer"]


class AxialLayer(nn.Module):
    """A transformer layer along one axis of tokens (M, B, N, channels); B is a batch for either axis.

    Args:
        channels: numbers a token.
        heads: of the attention; divides ``channels``.
        feedforward: inner width of the second half.
        axis: 0 to attend along M, 2 along N.
        dropout: in training, on attention's weights, both halves' results and the inner layer.
    """

    def __init__(self, channels: int, heads: int, feedforward: int, axis: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.channels, self.heads, self.feedforward = channels, heads, feedforward
        self.axis, self.dropout = axis, dropout
        self.qkv = Linear(channels, 3 * channels)
        self.joined = Linear(channels, channels)
        self.inner = Linear(channels, feedforward)
        self.outer = Linear(feedforward, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        nn.init.xavier_uniform_(self.qkv.weight)
        for layer in (self.qkv, self.joined):
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        h: Float[Tensor, "rows batch columns channels"],
        sight: Bool[Tensor, "others one queries keys"] | None = None,
    ) -> Float[Tensor, "rows batch columns channels"]:
        """Attend; ``sight`` says which places see which, in sequences in the order of the other two axes."""
        if h.shape[self.axis] == 1:  # as published: a single token has nothing to attend to, and stays
            return h
        h = self.norm1(h + self._dropped(self.joined(self._attention(h, sight))))
        return self.norm2(h + self._dropped(self.outer(self._dropped(F.gelu(self.inner(h))))))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.training and self.dropout else x

    def _attention(self, h: Tensor, sight: Tensor | None) -> Tensor:
        qkv = self.qkv(h).unflatten(-1, (3, self.heads, -1))
        # Tokens lie so that the two axes not attended along are one to torch, and queries, keys and values are views.
        qkv = qkv.flatten(1, 2).permute(2, 1, 3, 0, 4) if self.axis == 0 else qkv.flatten(0, 1).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        query, key, value = qkv.unbind(0)  # (others, heads, axis, width) each
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=sight, dropout_p=dropout)
        out = out.permute(2, 0, 1, 3) if self.axis == 0 else out.transpose(1, 2)
        return out.reshape(h.shape)
