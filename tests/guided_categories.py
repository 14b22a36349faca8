"""Guidance of categories on a space that can be enumerated: 4 categories, 3 positions, two classes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    CosineSchedule,
    Denoiser,
)
from ornstein.core.chains import (
    AbsorbingChain,
    Chain,
    EnumeratedDenoiser,
    MarginalChain,
    UniformChain,
)
from ornstein.core.masking_schedules import PowerSchedule

MASKS = AbsorbingChain(4, PowerSchedule())
MASK_FIRST = AbsorbingChain(5, PowerSchedule(), mask_index=0)
NOISE: list[Chain] = [UniformChain(4, CosineSchedule(s=0.0)), MarginalChain([0.4, 0.3, 0.2, 0.1], PowerSchedule())]
each_chain = pytest.mark.parametrize("chain", [MASKS, *NOISE], ids=repr)
each_noise = pytest.mark.parametrize("chain", NOISE, ids=repr)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)


def table(seed: int, states: int = 4) -> Tensor:
    values = torch.rand(states, states, states, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) ** 3
    return values / values.sum()


TABLES = [table(0), table(1)]


def given(chain: Chain, label: int) -> EnumeratedDenoiser:
    return EnumeratedDenoiser(chain, TABLES[label])


def anything(chain: Chain) -> EnumeratedDenoiser:
    return EnumeratedDenoiser(chain, WEIGHTS[0] * TABLES[0] + WEIGHTS[1] * TABLES[1])


class Labelled(Denoiser[Chain]):
    """Exact for each class and, without a label, for both; the answers of a batch come from its rows' own classes."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain)
        self.experts = torch.nn.ModuleList([given(chain, 0), given(chain, 1), anything(chain)])
        self.sizes: list[int] = []

    def forward(self, x_t: Tensor, t: Any, label: Tensor | None = None, **condition: Any) -> Any:
        self.sizes.append(len(x_t))
        label = torch.full((len(x_t),), -1) if label is None else label
        posteriors = [expert(x_t, t) for expert in self.experts]
        logits = torch.stack([p.log_probs for p in posteriors])[label, torch.arange(len(x_t))]
        return type(posteriors[0])(x_t, self.process, self.process.level(t), logits)


def classifier(chain: Chain) -> Callable[..., Tensor]:
    """The exact ``log p(label | x_t)``."""

    def classify(x: Tensor, t: Any, label: Tensor) -> Tensor:
        joint = torch.stack([given(chain, k).log_prob(x, t) + WEIGHTS[k].log() for k in range(2)], 1)
        return joint.log_softmax(1).gather(1, label[:, None])[:, 0]

    return classify


def reachable(chain: Chain) -> Tensor:
    values = torch.arange(chain.states)
    return torch.cartesian_prod(values, values, values)


def brute(denoiser: EnumeratedDenoiser, x: Tensor, s: float, t: float) -> Tensor:
    """``p(x_s | x_t)`` of each position, summed over all clean sequences ``(B, 3, S)``."""
    chain, table = denoiser.process, denoiser.table
    eye = torch.eye(chain.states, dtype=torch.float64)
    start, step = chain.push(eye, 0.0, s), chain.push(eye, s, t)
    whole = start @ step
    out = torch.zeros(*x.shape, chain.states, dtype=torch.float64)
    for sequence, p in zip(denoiser.sequences, table.flatten()):
        likely = p * whole[sequence, x].prod(-1)
        kernel = start[sequence] * step[:, x].permute(1, 2, 0) / whole[sequence, x][..., None]
        out += torch.where(likely > 0, likely, 0.0)[:, None, None] * kernel.nan_to_num(0.0)
    return out / out.sum(-1, keepdim=True)


def labels(x: Tensor, label: int) -> dict[str, Tensor]:
    return {"label": torch.full((len(x),), label)}


def assert_close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance)
