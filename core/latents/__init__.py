"""Latent diffusion: autoencoders, the spaces of their latents and codes, and how they are trained."""

from .autoencoder import Autoencoder, Reconstruction, read_data, read_latent
from .codebook import Codebook
from .fit import fit_autoencoder
from .kl import KLAutoencoder, kl_to_standard_normal
from .network import CodeNetwork
from .objective import AutoencoderObjective
from .space import CodeSpace, LatentSpace
from .vq import VQAutoencoder

__all__ = [
    "Autoencoder",
    "AutoencoderObjective",
    "CodeNetwork",
    "CodeSpace",
    "Codebook",
    "KLAutoencoder",
    "LatentSpace",
    "Reconstruction",
    "VQAutoencoder",
    "fit_autoencoder",
    "kl_to_standard_normal",
    "read_data",
    "read_latent",
]
