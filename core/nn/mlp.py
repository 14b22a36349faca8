"""A residual network for plain vectors: toy densities, tables, latent codes."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .activations import silu
from .checks import check_condition, check_fraction, check_integers, check_noise_level
from .embeddings import ConditionEmbedding
from .linear import Linear, zero_init

__all__ = ["MLP"]


class MLPBlock(nn.Module):
    """x + W_2 drop(silu((1 + s) W_1 silu(LN(x)) + b)) with (s, b) affine in the embedding; the identity at first."""

    def __init__(self, width: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = Linear(width, width)
        self.modulation = Linear(embedding, 2 * width)
        self.drop = nn.Dropout(dropout)
        self.outer = zero_init(Linear(width, width))

    def forward(
        self, x: Float[Tensor, "batch width"], embedding: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch width"]:
        scale, shift = self.modulation(embedding).chunk(2, dim=-1)
        return x + self.outer(self.drop(silu(torch.addcmul(shift, self.inner(silu(self.norm(x))), 1 + scale))))


class MLP(nn.Module):
    """Residual network that maps a vector (B, features) and a noise level to (B, out_features).

    The output is zero at initialisation.  On the CPU the result for a sample is the same bit for bit whatever the
    batch it comes in.

    Args:
        features: length of x.
        out_features: length of the result; None for as long as x.
        classes: number of class labels; 0 for none.
        width: hidden features.
        depth: number of residual blocks.
        dropout: probability with which a hidden feature is dropped in training.

    Raises:
        ValueError: when an input of ``forward`` does not fit the network, or a context is given.

    >>> network = MLP(2, width=32, depth=1)
    >>> network(torch.randn(5, 2), torch.zeros(5)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        features: int,
        *,
        out_features: int | None = None,
        classes: int = 0,
        width: int = 128,
        depth: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_integers(1, features=features, width=width, depth=depth)
        check_integers(0, classes=classes)
        check_fraction(dropout=dropout)
        self.features = features
        self.out_features = out_features
        self.classes = classes
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.condition = ConditionEmbedding(width, classes)
        self.enter = Linear(features, width)
        self.blocks = nn.ModuleList(MLPBlock(width, width, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = zero_init(Linear(width, out_features or features))

    def forward(
        self,
        x: Float[Tensor, "batch features"],
        c: Float[Tensor, "batch"],
        *,
        label: Int[Tensor, "batch"] | None = None,
        context: Float[Tensor, "batch length context_width"] | None = None,
        context_mask: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch out_features"]:
        """Evaluate the network.

        Args:
            x: the noisy state, scaled to unit variance, (B, features).
            c: the noise level -log_snr / 8, (B,).
            label: class numbers, (B,), -1 for no label; None for no labels at all.
            context: must be None: a network of vectors has no cross-attention.
            context_mask: must be None.

        Returns:
            The prediction, (B, out_features).
        """
        if x.dim() != 2 or x.shape[1] != self.features:
            raise ValueError(f"x must have shape (batch, {self.features}), got {tuple(x.shape)}")
        check_noise_level(c, x.shape[0])
        check_condition(x.shape[0], self.classes, 0, label, context, context_mask)
        embedding = silu(self.condition(c, label))
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, embedding)
        return self.leave(silu(self.norm(h)))
