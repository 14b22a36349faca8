r"""An autoencoder whose latents are codes of a codebook, on which a chain of categories runs.

    z = encoder(x),   k = nearest code,   x' = decoder(z_q),     loss = -log p(x | z_q) / D + beta |z - sg[e_k]|^2

(van den Oord et al. 2017, arXiv 1711.00937, eq. 3, the codes following by moving averages; the commitment loss is
summed over the channels of a code and averaged over the grid).  Latent diffusion with an absorbing chain on the codes:
Gu et al. 2022, 2111.14822.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..nn.checks import check_integers
from ..objectives import check_data
from ..schedules import require
from .autoencoder import Autoencoder, Reconstruction
from .codebook import Codebook
from .convolutional import ConvolutionalCoder

__all__ = ["VQAutoencoder"]


class VQAutoencoder(Autoencoder):
    """A convolutional autoencoder with a `Codebook`; see the module's text.

    Data ``(B, channels, *space)`` become codes ``(B, *space / factor)``, int64, ``factor = 2^(len(widths) - 1)``.

    Args:
        channels: of the data.
        codes: in the codebook.
        code_width: length of a code.
        dims: number of spatial axes: 1, 2 or 3.
        widths: channels on each level of encoder and decoder, finest first.
        depth: residual blocks on each level.
        attention: whether the coarsest level has self-attention (then its width is at most 32 or a multiple of it).
        dropout: probability with which a feature of a residual branch is dropped in training.
        commitment: ``beta``; 0.25 in the paper.
        decay: of the codebook's moving averages; 0.99 in the paper.
        revive: when a code counts as dead; see `Codebook`.

    Raises:
        ValueError: for arguments out of range.

    Example:
        >>> import torch
        >>> autoencoder = VQAutoencoder(1, codes=16, code_width=4, widths=(8, 16))
        >>> codes = autoencoder.encode(torch.randn(2, 1, 8, 8))
        >>> codes.shape, codes.dtype, autoencoder.decode(codes).shape
        (torch.Size([2, 4, 4]), torch.int64, torch.Size([2, 1, 8, 8]))
    """

    def __init__(
        self,
        channels: int,
        codes: int,
        code_width: int,
        dims: int = 2,
        *,
        widths: Sequence[int] = (32, 64),
        depth: int = 1,
        attention: bool = False,
        dropout: float = 0.0,
        commitment: float = 0.25,
        decay: float = 0.99,
        revive: float = 0.03,
    ) -> None:
        super().__init__()
        check_integers(1, channels=channels)
        require(commitment >= 0, "commitment", commitment, "0 or more")
        self.channels = channels
        self.codes = codes
        self.code_width = code_width
        self.dims = dims
        self.widths = tuple(widths)
        self.depth = depth
        self.attention = attention
        self.dropout = dropout
        self.commitment = commitment
        self.decay = decay
        self.revive = revive
        self.codebook = Codebook(codes, code_width, decay, revive)
        self.encoder = ConvolutionalCoder(
            dims, channels, code_width, up=False, widths=widths, depth=depth, attention=attention, dropout=dropout
        )
        self.decoder = ConvolutionalCoder(
            dims, code_width, channels, up=True, widths=widths, depth=depth, attention=attention, dropout=dropout
        )

    def _vectors(self, x: Tensor) -> Tensor:
        """The encoder's answer with its channels last, ``(B, *grid, code_width)``."""
        return self.encoder(x).movedim(1, -1)

    def encode(self, x: Float[Tensor, "batch channels *space"]) -> Int[Tensor, "batch *grid"]:
        """Numbers of codes.

        Raises:
            ValueError: for data of another shape, or sizes that ``factor`` does not divide.
        """
        return self.codebook.nearest(self._vectors(x))

    def decode(self, codes: Int[Tensor, "batch *grid"]) -> Float[Tensor, "batch channels *space"]:
        """Data from codes.

        Raises:
            ValueError: for another shape or dtype, or numbers that are no codes (such as a chain's mask).
        """
        if codes.ndim != self.dims + 1:
            raise ValueError(f"codes of shape {tuple(codes.shape)}: expected (B, *grid) with {self.dims} spatial axes")
        return self.decoder(self.codebook(codes).movedim(-1, 1))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Reconstruction:
        """Encode, quantise and decode, and the commitment loss; in training the codebook follows."""
        check_data(x, None)
        z = self._vectors(x)
        if self.training:
            self.codebook.place(z, generator)
        codes = self.codebook.nearest(z)
        away = (z - self.codebook(codes)).square().sum(-1).flatten(1).mean(1)
        data = self.decoder(self.codebook.quantise(z, codes).movedim(-1, 1))
        if self.training:
            self.codebook.follow(z, codes)
        return Reconstruction(data, self.commitment * away)

    @property
    def perplexity(self) -> float:
        """How many codes are in use; see `Codebook`."""
        return self.codebook.perplexity
