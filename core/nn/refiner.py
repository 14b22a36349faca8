"""Small networks that follow one another, each of which improves the answer of the one before."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .activations import silu
from .blocks import Downsample, Upsample
from .checks import check_integers, check_noise_level
from .embeddings import NoiseEmbedding
from .linear import CHANNELS_LAST, Linear, convolution, to_channels_last, zero_init

__all__ = ["Refiner"]


class Refiner(nn.Module):
    """Networks for the steps of a reconstruction that is unrolled (`ornstein.core.inverse.UnrolledNetwork`).

    Each sees pictures on blocks of ``factor^2`` pixels, as `Folded` does, and a memory that the one before has left,
    in a U-shape. There are no norms: what a picture shows in one place does not change what is made of
    another. Networks with weights of their own and a memory between them are those of Adler and Öktem 2018 (Learned
    primal-dual reconstruction, arXiv 1707.06474).

    Args:
        shown: channels of what a step is shown.
        channels: of its answer.
        steps: how many networks there are.
        widths: features of each level, the finest first, each of half the resolution of the one before.
        memory: features that are handed on.
        factor: side of a block in pixels, of which the sides of pictures are multiples.

    Raises:
        ValueError: numbers below 1; by the call, pictures or noise levels that do not fit.

    Example:
        >>> refiner = Refiner(shown=4, channels=1, steps=2, widths=(8, 16), memory=3)
        >>> answer, memory = refiner(0, torch.randn(2, 4, 6, 8), torch.zeros(2))
        >>> answer.shape, memory.shape
        (torch.Size([2, 1, 6, 8]), torch.Size([2, 3, 3, 4]))
    """

    def __init__(
        self,
        shown: int,
        channels: int,
        steps: int = 5,
        widths: Sequence[int] = (48, 96, 128),
        memory: int = 16,
        factor: int = 2,
    ) -> None:
        super().__init__()
        check_integers(1, shown=shown, channels=channels, steps=steps, memory=memory, factor=factor)
        if not widths:
            raise ValueError("widths names no level: expected at least one")
        check_integers(1, **{f"widths[{level}]": width for level, width in enumerate(widths)})
        self.shown, self.channels, self.steps, self.widths = shown, channels, steps, tuple(widths)
        self.memory, self.factor = memory, factor
        embedding, area = 2 * self.widths[0], factor * factor
        self.noise = NoiseEmbedding(embedding)
        self.blocks = nn.ModuleList(
            _Block(area * shown + memory, area * channels + memory, self.widths, embedding) for _ in range(steps)
        )
        self.to(memory_format=CHANNELS_LAST[2])

    def forward(
        self,
        step: int,
        x: Float[Tensor, "batch shown rows columns"],
        c: Float[Tensor, "batch"],
        memory: Float[Tensor, "batch memory high wide"] | None = None,
    ) -> tuple[Float[Tensor, "batch channels rows columns"], Float[Tensor, "batch memory high wide"]]:
        """What a step adds to the answer, and the memory after it.

        Args:
            step: its number, from 0.
            x: what it is shown.
            c: the noise level -log_snr / 8.
            memory: what the step before left; zeros when not given.
        """
        if x.ndim != 4 or x.shape[1] != self.shown or any(side % self.factor for side in x.shape[2:]):
            raise ValueError(
                f"x of shape {tuple(x.shape)}: expected (batch, {self.shown}, rows, columns), sides multiples of "
                f"{self.factor}"
            )
        check_noise_level(c, len(x))
        folded = nn.functional.pixel_unshuffle(x, self.factor)
        memory = folded.new_zeros(len(x), self.memory, *folded.shape[2:]) if memory is None else memory
        out = self.blocks[step](to_channels_last(torch.cat([folded, memory], 1)), silu(self.noise(c)))
        answer, change = out.split([out.shape[1] - self.memory, self.memory], 1)
        return nn.functional.pixel_shuffle(answer, self.factor), memory + change


class _Block(nn.Module):
    """Convolutions, those of coarser levels in between, of which all are told the noise; zero at initialisation."""

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int], embedding: int) -> None:
        super().__init__()
        self.enter = convolution(2, inputs, widths[0])
        self.body = _Level(widths, embedding)
        self.leave = zero_init(convolution(2, widths[0], outputs, 1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return self.leave(silu(self.body(self.enter(x), noise)))


class _Level(nn.Module):
    """A convolution before and one after what the coarser levels say."""

    def __init__(self, widths: Sequence[int], embedding: int) -> None:
        super().__init__()
        width = widths[0]
        self.told = Linear(embedding, width)
        self.first, self.last = convolution(2, width, width), convolution(2, width, width)
        self.coarser = _Level(widths[1:], embedding) if len(widths) > 1 else None
        if self.coarser is not None:
            self.down, self.up = Downsample(2, width, widths[1]), Upsample(widths[1], width)

    def forward(self, h: Tensor, noise: Tensor) -> Tensor:
        h = h + self.told(noise)[:, :, None, None]
        h = h + self.first(silu(h))
        if self.coarser is not None:
            h = h + self.up(silu(self.coarser(self.down(silu(h)), noise)), h.shape[2:])
        return h + self.last(silu(h))
