"""Networks that more than one domain uses, and the parts that they are made of.

Every network is called as ``network(x, c, label=..., context=..., context_mask=...)``: x is the noisy state
``(B, *event)`` scaled to unit variance, c the noise level -log_snr / 8 of each sample ``(B,)``; label ``(B,)`` is a
class number, -1 or None for no label; context ``(B, L, context_width)`` is what cross-attention looks at, with
context_mask ``(B, L)`` True where it is real.  The result has the shape of x (with ``out_channels`` channels where
that is given) and is zero at initialisation.
"""

from .attention import CrossAttention, SelfAttention
from .blocks import AttentionBlock, Downsample, ResidualBlock, Upsample
from .dit import DiT, TransformerBlock
from .egnn import EGNN, EquivariantBlock
from .embeddings import ConditionEmbedding, LabelEmbedding, NoiseEmbedding, sinusoids
from .folded import Folded
from .linear import Linear, Pointwise, convolution, to_channels_last, zero_init
from .mlp import MLP
from .patches import join_patches, split_patches
from .positions import axial_rotation, axial_sinusoids, rotate, rotation
from .refiner import Refiner
from .transformer import NeighbourConvolution, Reading, TokenBlock, TokenTransformer
from .unet import UNet

__all__ = [
    "EGNN",
    "MLP",
    "AttentionBlock",
    "ConditionEmbedding",
    "CrossAttention",
    "DiT",
    "Downsample",
    "EquivariantBlock",
    "Folded",
    "LabelEmbedding",
    "Linear",
    "NeighbourConvolution",
    "NoiseEmbedding",
    "Pointwise",
    "Reading",
    "Refiner",
    "ResidualBlock",
    "SelfAttention",
    "TokenBlock",
    "TokenTransformer",
    "TransformerBlock",
    "UNet",
    "Upsample",
    "axial_rotation",
    "axial_sinusoids",
    "convolution",
    "join_patches",
    "rotate",
    "rotation",
    "sinusoids",
    "split_patches",
    "to_channels_last",
    "zero_init",
]
