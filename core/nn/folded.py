"""A network for fine pictures that works on a coarser grid with more channels."""

from jaxtyping import Float
from torch import Tensor, nn

from .checks import check_integers

__all__ = ["Folded"]


class Folded(nn.Module):
    """A network that sees each block of ``factor^2`` pixels as one point of ``factor^2`` times the channels.

    Nothing is lost, and the finest level of a U-Net, which costs most, has a quarter of the points at ``factor=2``:
    Shi et al. 2016 (arXiv 1609.05158), eq. 4, and its inverse.

    Args:
        network: maps ``(B, factor^2 C, rows / factor, columns / factor)`` and noise levels ``(B,)`` to as many points.
        factor: side of a block in pixels.

    Raises:
        ValueError: a factor below 1; by the call, sides that are no multiples of it.

    >>> import torch
    >>> from ornstein.core.nn import UNet
    >>> inner = UNet(2 * 4, out_channels=1 * 4, widths=(8,), depths=(1,), attention=(False,))
    >>> Folded(inner)(torch.randn(3, 2, 6, 8), torch.zeros(3)).shape
    torch.Size([3, 1, 6, 8])
    """

    def __init__(self, network: nn.Module, factor: int = 2) -> None:
        super().__init__()
        check_integers(1, factor=factor)
        self.network, self.factor = network, factor

    def forward(
        self, x: Float[Tensor, "batch channels rows columns"], c: Float[Tensor, "batch"], **condition: Tensor | None
    ) -> Float[Tensor, "batch out_channels rows columns"]:
        """Evaluate the network.

        Args:
            x: the noisy state, scaled to unit variance.
            c: the noise level -log_snr / 8.
            condition: for the network, as it is.
        """
        if any(side % self.factor for side in x.shape[2:]):
            raise ValueError(f"x of shape {tuple(x.shape)}: rows and columns must be multiples of {self.factor}")
        folded = nn.functional.pixel_unshuffle(x, self.factor)
        return nn.functional.pixel_shuffle(self.network(folded, c, **condition), self.factor).contiguous()
