"""How many points a sample has, learned from data.

Sizes are drawn first and the states of that size after (Satorras et al. 2021, 2105.09016; Hoogeboom et al. 2022,
2203.17003, section 3.3): ``p(x, N) = p(N) p(x | N)``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .noise import SeededNoise
from .schedules import require

__all__ = ["SizeDistribution", "size_batches"]

# Sizes must not be made of the draws that the samples of the same seed are made of.
PART = 0x53495A45


@dataclass(frozen=True)
class SizeDistribution:
    """``p(N) = counts[N] / sum of counts`` for ``N = 0 ... len(counts) - 1``.

    Args:
        counts: how often each size was seen, not negative; any positive multiple means the same.

    Raises:
        ValueError: for counts below zero, or nothing else than zeros.

    Example:
        >>> sizes = SizeDistribution.fit(torch.tensor([2, 3, 3]))
        >>> sizes.counts
        (0.0, 0.0, 1.0, 2.0)
        >>> sizes.mask(torch.tensor([2, 3]))
        tensor([[ True,  True, False],
                [ True,  True,  True]])
    """

    counts: tuple[float, ...]

    def __post_init__(self) -> None:
        sane = len(self.counts) > 0 and all(0 <= count < float("inf") for count in self.counts)
        require(sane and sum(self.counts) > 0, "counts", self.counts, "numbers of at least 0, one of them positive")

    @classmethod
    def fit(cls, data: Tensor | Sequence[int], *, smoothing: float = 0.0) -> "SizeDistribution":
        """Count the sizes in data.

        Args:
            data: sizes ``(M,)``, integers of at least 0, or the masks ``(M, N)`` of samples, boolean.
            smoothing: added to the count of each size from 1 to the largest that was seen.

        Raises:
            ValueError: for data of another kind, or none.
        """
        data = torch.as_tensor(data)
        sizes = data.sum(1) if data.dtype == torch.bool and data.ndim == 2 else data
        whole = not sizes.is_floating_point() and sizes.dtype != torch.bool
        if sizes.ndim != 1 or not len(sizes) or not whole or int(sizes.min()) < 0:
            raise ValueError(
                f"data of shape {tuple(data.shape)}, {data.dtype}: expected sizes (M,), integers of at least 0, or "
                "masks (M, N), boolean, with M above 0"
            )
        require(smoothing >= 0, "smoothing", smoothing, "a number of at least 0")
        counts = torch.bincount(sizes).double()
        counts[1:] += smoothing
        return cls(tuple(counts.tolist()))

    @property
    def largest(self) -> int:
        """The largest size of positive probability."""
        return max(size for size, count in enumerate(self.counts) if count > 0)

    @property
    def probs(self) -> Float[Tensor, "sizes"]:
        """``p(N)``, float64."""
        counts = torch.tensor(self.counts, dtype=torch.float64)
        return counts / counts.sum()

    def sample(
        self, num: int, *, seed: int | None = None, generator: torch.Generator | None = None, first: int = 0
    ) -> Int[Tensor, "num"]:
        """Draw sizes, ``(num,)`` int64.

        Args:
            num: how many.
            seed: makes size ``i`` a function of ``(seed, first + i)`` alone, independent of what samplers draw with the
                same seed.
            generator: where draws come from without a seed; torch's global one by default.
            first: number of the first sample, for runs in parts.

        Raises:
            ValueError: for a seed together with a generator.
        """
        require(isinstance(num, int) and num >= 1, "num", num, "an integer of at least 1")
        if seed is not None and generator is not None:
            raise ValueError("seed and generator were both given: expected one of them")
        if seed is not None:
            stream = SeededNoise(seed).begin(num, first).child(PART)
            u = stream.uniform(torch.empty(num, 1)).squeeze(1)
        else:
            device = generator.device if generator is not None else None
            u = torch.rand(num, dtype=torch.float64, device=device, generator=generator)
        # Below the first sum that exceeds u, so that sizes of no probability never come.
        sums = self.probs.cumsum(0).to(u.device)
        return torch.searchsorted(sums / sums[-1], u, right=True)

    def log_prob(self, sizes: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """``log p(N)`` in nats, ``(B,)`` float64; minus infinity for sizes that do not occur.

        Raises:
            ValueError: for sizes below 0.
        """
        if sizes.numel() and int(sizes.min()) < 0:
            raise ValueError(f"sizes holds {int(sizes.min())}: expected integers of at least 0")
        table = torch.cat([self.probs.log(), torch.full((1,), -torch.inf, dtype=torch.float64)]).to(sizes.device)
        return table[sizes.clamp(max=len(self.counts))]

    def mask(self, sizes: Int[Tensor, "batch"], length: int | None = None) -> Bool[Tensor, "batch n"]:
        """Masks ``(B, length)``, True at the first ``sizes`` points; ``length`` is `largest` unless given.

        Raises:
            ValueError: for sizes above ``length``.
        """
        length = self.largest if length is None else length
        if sizes.numel() and not 0 <= int(sizes.min()) <= int(sizes.max()) <= length:
            raise ValueError(f"sizes from {int(sizes.min())} to {int(sizes.max())}: expected 0 to length={length}")
        return torch.arange(length, device=sizes.device) < sizes[:, None]


def size_batches(
    sizes: Int[Tensor, "num"], batch_size: int, limit: int, step: int = 16
) -> Iterator[tuple[Tensor, int]]:
    """Samples in batches of like sizes: the numbers of those in a batch, and the width to pad them to.

    A sample's width is its own size, rounded up to a multiple of ``step`` or to ``limit``, whatever else is there, so
    that a sample is the same in any company.

    Args:
        sizes: of the samples, 0 to ``limit``.
        batch_size: samples a batch at most.
        limit: the largest width.
        step: distance of the widths.

    Example:
        >>> [(numbers.tolist(), width) for numbers, width in size_batches(torch.tensor([3, 20, 9, 1]), 2, 24)]
        [([0, 2], 16), ([3], 16), ([1], 24)]
    """
    widths = (-(-sizes.clamp(min=1) // step) * step).clamp(max=limit)
    for width in widths.unique().tolist():
        for numbers in (widths == width).nonzero()[:, 0].split(batch_size):
            yield numbers, width
