"""Sums over the coordinates of a sample, with and without padding, and where draws come from."""

import torch
from torch import Tensor

from ..noise import IndependentNoise, NoiseSource, SeededNoise
from ..objectives import shaped_mask

__all__ = ["event_dim", "event_sum", "keep_of", "source_of"]

# Samples that were drawn with a seed are often judged with the same one: the draws must not be those that made them.
_APART = 0x4C696B656C69686F


def keep_of(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """The mask as numbers that multiply ``like``, if there is one."""
    return None if mask is None else shaped_mask(mask, like)


def event_sum(values: Tensor, mask: Tensor | None) -> Tensor:
    """Sum over the event of each sample, over its real part where there is a mask, ``(B,)``, in float64."""
    keep = keep_of(mask, values)
    return (values if keep is None else values * keep).flatten(1).sum(1, dtype=_wide(values))


def event_dim(x: Tensor, mask: Tensor | None) -> Tensor | float:
    """Numbers in a sample; ``(B,)`` where a mask says so."""
    return float(x[0].numel()) if mask is None else event_sum(torch.ones_like(x), mask)


def _wide(values: Tensor) -> torch.dtype:
    return torch.float32 if values.device.type == "mps" else torch.float64


def source_of(seed: int | None, noise: NoiseSource | None) -> NoiseSource:
    """The noise source of a seed (other draws than a sampler's of this seed), the one given, or torch's generator."""
    if seed is not None and noise is not None:
        raise ValueError("seed and noise were both given: expected one of them")
    if seed is not None:
        SeededNoise(seed)  # checks it
        return SeededNoise(seed ^ _APART)
    return noise if noise is not None else IndependentNoise()
