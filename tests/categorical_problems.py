"""A distribution over 4 categories in 3 positions, its exact denoisers, and the distribution that a sampler ends in."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.core import CosineSchedule
from ornstein.core.chains import AbsorbingChain, Chain, EnumeratedDenoiser, MarginalChain, RateChain, UniformChain
from ornstein.core.chains.posteriors import belief
from ornstein.core.grids import UniformTime
from ornstein.core.masking_schedules import PowerSchedule
from ornstein.core.samplers.base import Sampler

ABSORBING = AbsorbingChain(4, PowerSchedule())
CHAINS: list[Chain] = [
    ABSORBING,
    UniformChain(4, CosineSchedule(s=0.0)),
    MarginalChain([0.4, 0.3, 0.2, 0.1], PowerSchedule()),
    RateChain(
        [[-1.0, 1.0, 0.0, 0.0], [0.5, -1.5, 1.0, 0.0], [0.0, 2.0, -4.0, 2.0], [0.0, 0.0, 1.0, -1.0]], CosineSchedule()
    ),
]
"""Masks, uniform noise, noise of given frequencies, and jumps to neighbours."""

Kernel = Callable[[EnumeratedDenoiser, Tensor, float, float], Tensor]


def table() -> Tensor:
    values = torch.rand(4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) ** 6
    return values / values.sum()


def exact(chain: Chain) -> EnumeratedDenoiser:
    return EnumeratedDenoiser(chain, table())


class Tabled(EnumeratedDenoiser):
    """The exact denoiser for large batches: each state's posterior is computed once."""

    def forward(self, x_t, t, **condition):
        logits = super().forward(states(self.process), t).logits
        return belief(x_t, self.process, self.process.level(t), logits[number(x_t, self.process)])


def states(chain: Chain) -> Tensor:
    values = torch.arange(chain.states)
    return torch.cartesian_prod(values, values, values)


def number(x: Tensor, chain: Chain) -> Tensor:
    """Of each state in `states`."""
    return x @ torch.tensor([chain.states**2, chain.states, 1])


def product(probs: Tensor) -> Tensor:
    """Joint probabilities ``(M, S^3)`` of independent positions ``(M, 3, S)``."""
    a, b, c = probs.unbind(1)
    return (a[:, :, None, None] * b[:, None, :, None] * c[:, None, None, :]).flatten(1)


def outcome(chain: Chain, steps: int, kernel: Kernel) -> Tensor:
    """The exact distribution of samples over all states, from the kernels of the steps."""
    denoiser, every = exact(chain), states(chain)
    now = product(chain.stationary.expand(1, 3, chain.states))[0]
    for t, s in itertools.pairwise(UniformTime()(steps, chain).tolist()):
        now = now @ product(kernel(denoiser, every, t, s))
    return now


def target(chain: Chain) -> Tensor:
    """The data's distribution over all states."""
    true = torch.zeros(chain.states, chain.states, chain.states, dtype=torch.float64)
    true[:4, :4, :4] = table()
    return true.flatten()


def distance(chain: Chain, found: Tensor) -> float:
    """Total variation from the target."""
    return 0.5 * float((found - target(chain)).abs().sum())


def drawn(sampler: Sampler, chain: Chain, num: int) -> Tensor:
    """Frequencies of all states among samples."""
    x = sampler.sample(Tabled(chain, table()), (num, 3))
    return torch.bincount(number(x, chain), minlength=chain.states**3).double() / num


def floor(num: int) -> float:
    """Total variation that as many draws of the target itself have in expectation."""
    p = table().flatten()
    return 0.5 * float((2 / math.pi * p * (1 - p) / num).sqrt().sum())


def surprise(found: Tensor, expected: Tensor, num: int) -> float:
    """Pearson's statistic of frequencies among ``num`` draws, in standard deviations above its mean; rare states are
    one.
    """
    common = num * expected >= 10
    observed, predicted = (torch.cat([p[common], p[~common].sum()[None]]) for p in (found, expected))
    predicted = predicted.clamp(min=1 / num)
    freedom = len(predicted) - 1
    return float((num * (observed - predicted) ** 2 / predicted).sum() - freedom) / (2 * freedom) ** 0.5
