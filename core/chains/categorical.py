"""Distributions over categories, and draws from them in float64.

Draws are by inversion of the distribution function, one uniform number a position, so that a seeded stream decides
them.  float32 would not do: its uniform numbers never fall below 6e-8, which leaves out a good part of a large
vocabulary's tail and lowers the entropy of samples (Zheng et al. 2025, arXiv 2409.02908).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Categorical", "draw", "uniform_like"]

_BLOCK = 256


def uniform_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform float64 numbers in [0, 1) shaped ``x``, made on the generator's device (that of ``x`` without one)."""
    device = generator.device if generator is not None else x.device
    return torch.rand(x.shape, dtype=torch.float64, device=device, generator=generator).to(x.device)


def draw(weights: Tensor, u: Tensor) -> Tensor:
    """Categories ``(...)``, drawn by inversion with probabilities proportional to ``weights`` ``(..., K)``.

    Args:
        weights: not negative, some positive in each row.
        u: uniform numbers in [0, 1), ``(...)``, float64.
    """
    weights, count = weights.double(), weights.shape[-1]
    if count <= 4 * _BLOCK:
        return _inverted(weights, u * weights.sum(-1))
    # Long rows: the block first, by the blocks' sums, then the category within it; one pass over the row.
    padded = torch.nn.functional.pad(weights, (0, -count % _BLOCK)).unflatten(-1, (-1, _BLOCK))
    sums = padded.sum(-1)
    target = u * sums.sum(-1)
    block = _inverted(sums, target)
    before = (sums.cumsum(-1) - sums).gather(-1, block[..., None]).squeeze(-1)
    row = padded.gather(-2, block[..., None, None].expand(*block.shape, 1, _BLOCK)).squeeze(-2)
    return block * _BLOCK + _inverted(row, target - before)


def _inverted(weights: Tensor, target: Tensor) -> Tensor:
    """The first category at which the running sum exceeds ``target``; rounding never leads to one of weight 0."""
    cumulated = weights.cumsum(-1)
    last = (cumulated < cumulated[..., -1:]).sum(-1)
    return torch.minimum((cumulated <= target[..., None]).sum(-1), last)


@dataclass(frozen=True)
class Categorical:
    """Independent categories at the positions of a state.

    Args:
        probs: ``(B, *N, K)``, rows that sum to 1.
    """

    probs: Tensor

    def sample(self, u: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws ``(B, *N)``, int64; made from uniform float64 numbers ``u`` ``(B, *N)``, or by ``generator``."""
        return draw(self.probs, uniform_like(self.probs[..., 0], generator) if u is None else u)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability in nats of each position, ``(B, *N)``."""
        return self.probs.gather(-1, x[..., None]).squeeze(-1).log()
