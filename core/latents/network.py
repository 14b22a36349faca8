"""A network of grids made one of categories in a row, for chains on codes."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..nn.checks import check_integers
from ..schedules import require

__all__ = ["CodeNetwork"]


class CodeNetwork(nn.Module):
    """Embeds categories, lays them out on a grid, asks a network of grids, and answers with logits.

    Args:
        network: `UNet` or `DiT`, or another that maps ``(B, channels, *grid)`` and noise levels ``(B,)`` to ``(B,
            states, *grid)``; built with ``out_channels=states``.  Its ``channels`` are the length of an embedding.
        states: of the chain, the mask among them.
        grid: the shape of the codes of one sample.

    Raises:
        ValueError: for a network without ``channels`` or with another number of ``out_channels``.

    Example:
        >>> import torch
        >>> from ornstein.core.nn import UNet
        >>> network = UNet(16, out_channels=33, widths=(16,), depths=(1,), attention=(True,))
        >>> CodeNetwork(network, 33, (4, 4))(torch.zeros(2, 16, dtype=torch.int64), torch.zeros(2)).shape
        torch.Size([2, 16, 33])
    """

    def __init__(self, network: nn.Module, states: int, grid: Sequence[int]) -> None:
        super().__init__()
        check_integers(2, states=states)
        channels: Any = getattr(network, "channels", None)
        out_channels = getattr(network, "out_channels", None)
        require(isinstance(channels, int), "network.channels", channels, "the length of an embedding, as a UNet has it")
        require(out_channels == states, "network.out_channels", out_channels, f"{states}, a logit for each state")
        self.network = network
        self.states = states
        self.grid = tuple(grid)
        self.embedding = nn.Embedding(states, channels)

    def forward(self, x: Int[Tensor, "batch n"], c: Float[Tensor, "batch"], **condition: Any) -> Tensor:
        """Logits ``(B, N, states)`` of categories ``(B, N)`` at noise levels ``(B,)``.

        Raises:
            ValueError: for another length.
        """
        if x.ndim != 2 or x.shape[1] != torch.Size(self.grid).numel():
            raise ValueError(f"x of shape {tuple(x.shape)}: expected (B, N) with the codes of grid={self.grid}")
        h = self.embedding(x.unflatten(1, self.grid)).movedim(-1, 1)
        return self.network(h, c, **condition).flatten(2).transpose(1, 2)
