"""Embeddings of what a network is conditioned on: the noise level c and a class label.

The noise level is the denoiser's c = -log_snr / 8, held to [-2.5, 2.5].  Sinusoids of geometrically spaced
frequencies tell levels apart that differ by a hundredth, and a two-layer network mixes them (Ho et al. 2020,
arXiv 2006.11239; Tancik et al. 2020, arXiv 2006.10739).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .activations import silu
from .linear import Linear

__all__ = ["ConditionEmbedding", "LabelEmbedding", "NoiseEmbedding", "sinusoids"]


def sinusoids(
    x: Float[Tensor, "*batch"], features: int, *, lowest: float = 0.5, highest: float = 64.0
) -> Float[Tensor, "*batch features"]:
    r"""Cosines and sines :math:`\cos(\omega_k x), \sin(\omega_k x)` at ``features / 2`` frequencies.

    The angular frequencies are spaced geometrically from ``lowest`` to ``highest`` (radians per unit of x) and
    computed in float32 or wider whatever the type of a model's weights.

    Args:
        x: any numbers, shape (*batch).
        features: how many numbers describe one x; even and at least 2.
        lowest: the smallest angular frequency.
        highest: the largest angular frequency.

    Returns:
        Shape (*batch, features), the cosines first.

    >>> sinusoids(torch.zeros(2), 4)
    tensor([[1., 1., 0., 0.],
            [1., 1., 0., 0.]])
    """
    if features < 2 or features % 2:
        raise ValueError(f"features must be an even number of at least 2, got {features}")
    dtype = torch.promote_types(x.dtype, torch.float32)
    steps = torch.arange(features // 2, device=x.device, dtype=dtype) / max(features // 2 - 1, 1)
    angles = x.to(dtype)[..., None] * (lowest * torch.exp(steps * math.log(highest / lowest)))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class NoiseEmbedding(nn.Module):
    """Embedding of the noise level: MLP(sinusoids(c)), from (B,) to (B, width)."""

    def __init__(self, width: int, features: int = 64) -> None:
        super().__init__()
        self.width = width
        self.features = features
        self.inner = Linear(features, width)
        self.outer = Linear(width, width)

    def forward(self, c: Float[Tensor, "batch"]) -> Float[Tensor, "batch width"]:
        features = sinusoids(c, self.features).to(self.inner.weight.dtype)
        return self.outer(silu(self.inner(features)))


class LabelEmbedding(nn.Module):
    """Embedding of a class label, with one more row for "no label" (label -1), as guidance without classifier needs.

    Ho and Salimans 2022, arXiv 2207.12598, section 3.2.

    >>> embed = LabelEmbedding(10, 16)
    >>> embed(torch.tensor([3, -1])).shape
    torch.Size([2, 16])
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        self.classes = classes
        self.width = width
        self.table = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, label: Int[Tensor, "batch"]) -> Float[Tensor, "batch width"]:
        return self.table(torch.where(label < 0, self.classes, label))


class ConditionEmbedding(nn.Module):
    """One vector a sample for everything global: the noise level and, with ``classes``, the label.

    Args:
        width: length of the vector.
        classes: number of classes; 0 for a network without labels.
        features: number of sinusoids of the noise level.
    """

    def __init__(self, width: int, classes: int = 0, features: int = 64) -> None:
        super().__init__()
        self.width = width
        self.classes = classes
        self.features = features
        self.noise = NoiseEmbedding(width, features)
        self.label = LabelEmbedding(classes, width) if classes else None

    def forward(
        self, c: Float[Tensor, "batch"], label: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch width"]:
        """Sum of the embeddings of ``c`` (B,) and ``label`` (B,), -1 or None being the embedding of no label."""
        embedding = self.noise(c)
        if self.label is None:
            return embedding
        if label is None:
            label = torch.full(c.shape, -1, dtype=torch.int64, device=c.device)
        return embedding + self.label(label)
