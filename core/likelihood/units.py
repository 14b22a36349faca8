r"""Units of likelihood: from densities to probabilities of integers, and from nats to bits per dimension.

Integers ``k = 0 ... levels - 1`` have probabilities, models of continuous states have densities.  Uniform
dequantisation spreads each integer over the bin of width ``w`` about its place in the model's scale,

    x = low + w (k + u - 1/2),     u ~ U(0, 1),     w = (high - low) / (levels - 1),

so that by Jensen's inequality ``log P(k) = log int_bin p(x) dx >= E_u[log p(x)] + D log w`` (Theis et al. 2016,
1511.01844, section 3.1).  Hence

    bits per dimension = -(log p(x) + D log w) / (D log 2).

The offset ``-log2 w`` is what papers add by hand: 6.99 for 8-bit data with 0 at -1 and 255 at 1 (``w = 2 / 255``), 7
where 256 bins fill [-1, 1] (``w = 1 / 128``), 8 where they fill [0, 1].
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..noise import SeededNoise
from ..schedules import require, wide

__all__ = ["UniformDequantisation", "bits_per_dim"]


def bits_per_dim(nats: Tensor | float, dim: int | Tensor, *, width: float = 1.0) -> Tensor | float:
    """``(nats / dim - log width) / log 2``; see the module's text.

    Args:
        nats: negative log-likelihood of a sample, a number or ``(B,)``.
        dim: numbers in a sample; ``(B,)`` where samples differ in size.
        width: of a bin of the quantised data in the model's scale (`UniformDequantisation.width`); 1 where ``nats``
            already belongs to integers, as from a bound with ``quantisation``, or where data are continuous.

    Example:
        >>> import math
        >>> bits_per_dim(784 * math.log(256), 784)
        8.0
    """
    require(bool(torch.as_tensor(dim).min() >= 1), "dim", dim, "at least 1")
    require(0 < width < math.inf, "width", width, "a positive number")
    return (nats / dim - math.log(width)) / math.log(2)


@dataclass(frozen=True)
class UniformDequantisation:
    """Integers ``0 ... levels - 1`` to continuous states and back; see the module's text.

    Args:
        levels: how many integers there are, at least 2; 256 for 8-bit data.
        low: place of level 0 in the model's scale.
        high: place of the last level.

    Example:
        >>> import torch
        >>> scale = UniformDequantisation(levels=256)
        >>> x = scale.dequantise(torch.tensor([[0, 255]]), seed=0)
        >>> scale.quantise(x)
        tensor([[  0, 255]])
    """

    levels: int = 256
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        require(self.levels >= 2, "levels", self.levels, "at least 2")
        require(-math.inf < self.low < self.high < math.inf, "high", self.high, f"a number above low={self.low}")

    @property
    def width(self) -> float:
        """Width of a bin, ``(high - low) / (levels - 1)``."""
        return (self.high - self.low) / (self.levels - 1)

    @property
    def log_jacobian(self) -> float:
        """``log |dx / dk| = log width``, what a coordinate adds to the log-density for it to belong to integers."""
        return math.log(self.width)

    def centre(self, integers: Tensor) -> Tensor:
        """The places of integers in the model's scale, float32."""
        _check_integers(integers, self.levels)
        return (self.low + self.width * wide(integers)).float()

    def dequantise(self, integers: Tensor, *, seed: int | None = None, first: int = 0) -> Tensor:
        """Continuous states of integers ``(B, *event)``, float32, with ``u`` drawn anew.

        Args:
            integers: of any integer dtype, 0 to ``levels - 1``.
            seed: makes the draws of sample ``i`` a function of ``(seed, first + i)`` alone, independent of all noise
                that the same seed gives; torch's global generator without one.
            first: number of the first sample.

        Raises:
            ValueError: for another dtype, or integers out of range.
        """
        _check_integers(integers, self.levels)
        if seed is None:
            u = torch.rand(integers.shape, device=integers.device, dtype=torch.float32)
        else:
            SeededNoise(seed)  # checks it
            rows = [_uniform(seed, first + i, tuple(integers.shape[1:])) for i in range(len(integers))]
            u = torch.from_numpy(np.stack(rows)).to(integers.device)
        # The ends of a bin, which rounding to float32 could pass, belong to the neighbours.
        u = wide(u).clamp(1e-5, 1 - 1e-5)
        return (self.low + self.width * (wide(integers) + u - 0.5)).float()

    def quantise(self, x: Tensor) -> Tensor:
        """The integers whose bins ``x`` lies in, int64; what lies outside takes the first or last level."""
        level = ((wide(x) - self.low) / self.width).round()
        return level.clamp(0, self.levels - 1).long()

    def bits_per_dim(self, nats: Tensor | float, dim: int | Tensor) -> Tensor | float:
        """`bits_per_dim` of integers from the negative log-density of their dequantised states."""
        return bits_per_dim(nats, dim, width=self.width)

    def log_prob(self, x: Tensor, mean: Tensor, std: Tensor | float) -> Tensor:
        """``log P(k)`` of each coordinate under ``N(mean, std^2)`` integrated over the bin of ``x``; the first and the
        last bin reach to infinity.

        Ho et al. 2020 (arXiv 2006.11239), eq. 13.

        Args:
            x: states in the model's scale, of which the bins are meant.
            mean, std: broadcastable to ``x``; ``std`` positive.
        """
        level = self.quantise(x)
        place = self.low + self.width * level.to(mean.dtype)
        upper, lower = (place + 0.5 * self.width - mean) / std, (place - 0.5 * self.width - mean) / std
        # Forty standard deviations further out is infinity to rounding, and has a gradient.
        upper, lower = (
            torch.where(level == self.levels - 1, lower.clamp(min=0) + 40, upper),
            torch.where(level == 0, upper.clamp(max=0) - 40, lower),
        )
        # In the upper tail both distribution functions are 1 to rounding; there the mirrored ones are not.
        mirrored = lower > 0
        big, small = torch.where(mirrored, -lower, upper), torch.where(mirrored, -upper, lower)
        log_big = torch.special.log_ndtr(big)
        return log_big + (-torch.expm1(torch.special.log_ndtr(small) - log_big)).log()


def _uniform(seed: int, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform draws of one sample, from a stream of Philox that no noise source reads (the counter's high word)."""
    philox = np.random.Philox(key=[seed, index], counter=[0, 0, 0, 2**63])
    return np.random.Generator(philox).random(shape, dtype=np.float32)


def _check_integers(integers: Tensor, levels: int) -> None:
    if integers.is_floating_point() or integers.is_complex() or integers.dtype == torch.bool or integers.ndim < 1:
        raise ValueError(
            f"integers of shape {tuple(integers.shape)}, {integers.dtype}: expected (B, *event) of an integer dtype"
        )
    if integers.numel() and not (integers.min() >= 0 and integers.max() < levels):
        raise ValueError(
            f"integers from {integers.min().item()} to {integers.max().item()}: expected 0 to {levels - 1}; "
            "give the levels that the data have"
        )
