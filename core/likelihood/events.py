"""Sums over the coordinates of a sample, with and without padding, and where draws come from."""

import torch
from torch import Tensor

from ..noise import NoiseSource, NoiseStream, noise_source
from ..objectives import shaped_mask

__all__ = ["event_dim", "event_sum", "keep_of", "stream_of"]

_APART = 0x4C696B656C69686F  # the part of the draws of bounds: samples are often judged with the seed that made them


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


def stream_of(seed: int | None, noise: NoiseSource | None, batch: int, first: int) -> NoiseStream:
    """The draws for samples ``first ... first + batch - 1``: none that a sampler makes of the same seed or noise.

    Raises:
        ValueError: seed and noise were both given.
    """
    return noise_source(seed, noise).begin(batch, first).child(_APART)
