"""A product of two chains whose joint distribution is a table, with the exact denoiser, and the same as one chain."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.core import AbsorbingChain, CosineSchedule, Denoiser, EnumeratedDenoiser, PowerSchedule, UniformChain
from ornstein.core.chains import Chain
from ornstein.core.chains.posteriors import belief
from ornstein.core.products import ProductPosterior, ProductProcess

MASKS, NOISE = AbsorbingChain(3, PowerSchedule()), UniformChain(3, CosineSchedule(s=0.0))
both = pytest.mark.parametrize("chain", [MASKS, NOISE], ids=["masks", "uniform"])


def joined(x: Mapping[str, Tensor]) -> Tensor:
    """The state as one chain has it: two positions of ``a``, then one of ``b``."""
    return torch.cat([x["a"], x["b"]], 1)


def split(x: Tensor) -> dict[str, Tensor]:
    return {"a": x[:, :2], "b": x[:, 2:]}


class Split(Denoiser[ProductProcess]):
    """What a denoiser of three positions says, as one of two components."""

    def __init__(self, whole: Denoiser[Chain]) -> None:
        super().__init__(ProductProcess({"a": whole.process, "b": whole.process}))
        self.whole = whole

    def forward(self, x_t: Mapping[str, Tensor], t: Any, **condition: Any) -> ProductPosterior:
        told = {name: joined(value) if isinstance(value, Mapping) else value for name, value in condition.items()}
        answer = self.whole(joined(x_t), t, **told)
        parts = split(answer.logits)
        return ProductPosterior(
            {name: belief(x_t[name], self.whole.process, answer.level, parts[name]) for name in parts}
        )


def problem(chain: Chain, seed: int = 0) -> tuple[Split, EnumeratedDenoiser]:
    """The exact denoiser of a random table of three positions of three categories, as a product and as one chain."""
    table = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 2
    whole = EnumeratedDenoiser(chain, table)
    return Split(whole), whole


def variation(found: Tensor, expected: Tensor) -> float:
    """Total variation between drawn states ``(N, 3)`` and probabilities ``(3, 3, 3)``."""
    counts = torch.bincount(found @ torch.tensor([9, 3, 1]), minlength=27) / len(found)
    return float(0.5 * (counts - expected.flatten()).abs().sum())
