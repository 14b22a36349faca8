r"""An autoencoder whose latents are Gaussian and held near the standard normal: the "KL-reg." one of latent diffusion.

    q(z | x) = N(mu(x), sigma(x)^2),      loss = -log p(x | z) / D + w KL(q(z | x) || N(0, I)) / D,   z ~ q(z | x)

(Kingma and Welling 2014, arXiv 1312.6114, eq. 10, with a small weight ``w``: Rombach et al. 2022, 2112.10752, section
3.1 and appendix G).  ``D`` is the number of dimensions of the data.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..nn.checks import check_integers
from ..objectives import check_data, noise_like
from ..process import Gaussian
from ..schedules import require
from .autoencoder import Autoencoder, Reconstruction
from .convolutional import ConvolutionalCoder

__all__ = ["KLAutoencoder", "kl_to_standard_normal"]

LOG_VARIANCE = (-30.0, 20.0)


def kl_to_standard_normal(gaussian: Gaussian) -> Float[Tensor, "batch"]:
    """``KL(N(mu, sigma^2) || N(0, I)) = sum (mu^2 + sigma^2 - 1 - log sigma^2) / 2`` in nats (1312.6114, appendix B).

    Args:
        gaussian: over ``(B, *event)``.
    """
    variance = gaussian.variance.expand_as(gaussian.mean)
    return 0.5 * (gaussian.mean**2 + variance - 1 - variance.log()).flatten(1).sum(1)


class KLAutoencoder(Autoencoder):
    """A convolutional autoencoder with a Gaussian posterior; see the module's text.

    Data ``(B, channels, *space)`` become latents ``(B, latent_channels, *space / factor)``, ``factor = 2^(len(widths)
    - 1)``.  The encoder's log-variance is held to [-30, 20].

    Args:
        channels: of the data.
        latent_channels: of the latents.
        dims: number of spatial axes: 1, 2 or 3.
        widths: channels on each level of encoder and decoder, finest first.
        depth: residual blocks on each level.
        attention: whether the coarsest level has self-attention (then its width is at most 32 or a multiple of it).
        dropout: probability with which a feature of a residual branch is dropped in training.
        kl_weight: ``w``; 1e-6 in the paper.

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> import torch
        >>> autoencoder = KLAutoencoder(1, 4, widths=(8, 16))
        >>> belief = autoencoder.encode(torch.randn(2, 1, 8, 8))
        >>> belief.mean.shape, autoencoder.decode(belief.sample()).shape
        (torch.Size([2, 4, 4, 4]), torch.Size([2, 1, 8, 8]))
    """

    def __init__(
        self,
        channels: int,
        latent_channels: int,
        dims: int = 2,
        *,
        widths: Sequence[int] = (32, 64),
        depth: int = 1,
        attention: bool = False,
        dropout: float = 0.0,
        kl_weight: float = 1e-6,
    ) -> None:
        super().__init__()
        check_integers(1, channels=channels, latent_channels=latent_channels)
        require(kl_weight >= 0, "kl_weight", kl_weight, "0 or more")
        self.channels = channels
        self.latent_channels = latent_channels
        self.dims = dims
        self.widths = tuple(widths)
        self.depth = depth
        self.attention = attention
        self.dropout = dropout
        self.kl_weight = kl_weight
        self.encoder = ConvolutionalCoder(
            dims,
            channels,
            2 * latent_channels,
            up=False,
            widths=widths,
            depth=depth,
            attention=attention,
            dropout=dropout,
        )
        self.decoder = ConvolutionalCoder(
            dims, latent_channels, channels, up=True, widths=widths, depth=depth, attention=attention, dropout=dropout
        )

    def encode(self, x: Float[Tensor, "batch channels *space"]) -> Gaussian:
        """``q(z | x)``, whose mean is ``(B, latent_channels, *space / factor)``.

        Raises:
            ValueError: for data of another shape, or sizes that ``factor`` does not divide.
        """
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return Gaussian(mean, (0.5 * log_variance.clamp(*LOG_VARIANCE)).exp())

    def decode(self, z: Float[Tensor, "batch latent *grid"]) -> Float[Tensor, "batch channels *space"]:
        """The mean of ``p(x | z)``."""
        return self.decoder(z)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Reconstruction:
        """A draw of the posterior, decoded, and ``w KL / D``."""
        check_data(x, None)
        belief = self.encode(x)
        z = belief.sample(noise_like(belief.mean, generator))
        return Reconstruction(self.decode(z), self.kl_weight / x[0].numel() * kl_to_standard_normal(belief))
