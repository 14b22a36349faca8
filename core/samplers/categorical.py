r"""Samplers of categories: draws of the reverse kernel, and tau-leaping along the reverse rates.

Both move all positions of a state at once as if they were independent given the state, which is right in the limit of
short steps and for a single position at any: the distribution of samples is off by an error of order 1 in the step.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..chains import Categorical, CategoricalPosterior, Chain, MaskedPosterior
from ..chains.posteriors import belief
from ..grids import Grid, UniformTime
from ..process import Process
from ..schedules import require
from .base import Row, Run, Sampler
from .choices import TokenChoice

__all__ = ["CategoricalAncestral", "CategoricalSampler", "TauLeaping"]


@dataclass(frozen=True)
class CategoricalSampler(Sampler):
    """What samplers of categories share: even times, and draws of categories in float64.

    ``denoise`` replaces the last state by the likeliest category of each position.

    Args:
        choice: which category is drawn; by default as the belief says.
    """

    grid: Grid = field(default=UniformTime(), kw_only=True)
    choice: TokenChoice | None = field(default=None, kw_only=True)

    moves: ClassVar[type[Process]] = Chain  # type: ignore[type-abstract]

    @property
    def stochastic(self) -> bool:
        return True

    def plan(self, process: Any, times: Tensor) -> Tensor:
        """No coefficients: a step follows from the belief and its two times."""
        return times.new_zeros(len(times) - 1, 0)

    def final(self, posterior: Any) -> Tensor:
        return posterior.log_probs.argmax(-1)


@dataclass(frozen=True)
class CategoricalAncestral(CategoricalSampler):
    """Draws every position from the reverse kernel ``p(x_s | x_t)`` of the belief; see `CategoricalPosterior.reverse`.

    Austin et al. 2021 (D3PM, arXiv 2107.03006, eq. 4), Sahoo et al. 2024 (MDLM, 2406.07524, eq. 7), Schiff et al. 2024
    (UDLM, 2412.10193).  For a network that predicts ratios the kernel is that of the analytic sampler, or Tweedie
    tau-leaping, of Lou et al. 2024 (SEDD, 2310.16834, theorem 4.2).
    """

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        return run.posterior(x, t).reverse(s, self.choice).sample(run.noise.uniform(x))


@dataclass(frozen=True)
class TauLeaping(CategoricalSampler):
    r"""Tau-leaping: the reverse rates are held over a step, and each position jumps at most once.

    The reverse process jumps from ``x`` to ``y`` at the rate ``R_t[y, x] p_t(y) / p_t(x)``; with ``L`` the sum of these
    a position leaves in a step ``h`` with probability ``1 - e^(-h L)``, for ``y`` in proportion to the rates.
    Corrections at the new level jump at the reverse rates and the forward ones ``R_s[x, y]`` together, which leave the
    marginal as it is.  Campbell et al. 2022 (arXiv 2205.14987), propositions 3 and 4 and section 4.4.

    A step from ``a(t) = 0``, where rates are infinite, and the one to clean data, which the paper takes to be the
    likeliest category, are drawn from the reverse kernel.  With a choice, rates are those of the belief that it makes.

    Args:
        corrections: corrector steps at each level but the last, 0 or more, of an evaluation each.
        size: length of a corrector step, as a share of the step before it.
    """

    corrections: int = field(default=0, kw_only=True)
    size: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.corrections, int) and not isinstance(self.corrections, bool) and self.corrections >= 0
        require(whole, "corrections", self.corrections, "an integer of at least 0")
        require(self.size > 0, "size", self.size, "a positive number")

    def nfe(self, steps: int | None = None, process: Any = None) -> int:
        steps = self.steps if steps is None else steps
        clean = True if process is None else process.level(float(self.grid(steps, process)[-1])).alpha == 1
        return steps + self.corrections * (steps - clean) + self.denoise

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        posterior, chain = self._chosen(run.posterior(x, t)), run.denoiser.process
        clean = chain.level(s).alpha == 1
        if chain.level(t).alpha == 0 or clean:
            x = posterior.reverse(s).sample(run.noise.uniform(x))
        else:
            x = leapt(x, reverse_rates(posterior), t - s).sample(run.noise.uniform(x))
        for _ in range(0 if clean else self.corrections):
            x = x if run.keep is None else x * run.keep
            rates = reverse_rates(self._chosen(run.posterior(x, s)))
            rates = rates + chain.rates_from(x, s, rates.dtype)
            x = leapt(x, rates, self.size * (t - s)).sample(run.noise.uniform(x))
        return x

    def _chosen(self, posterior: CategoricalPosterior) -> CategoricalPosterior:
        if self.choice is None:
            return posterior
        return belief(posterior.x_t, posterior.process, posterior.level, self.choice(posterior.log_probs))


def masked_belief(posterior: CategoricalPosterior) -> MaskedPosterior:
    """The belief about masked positions, also of a network that predicts ratios: to the mask, they are its logits."""
    if isinstance(posterior, MaskedPosterior):
        return posterior
    return MaskedPosterior(posterior.x_t, posterior.process, posterior.level, posterior.logits)


def reverse_rates(posterior: CategoricalPosterior) -> Tensor:
    """Rates ``(B, *N, S)`` at which the reverse process leaves ``x_t`` for each state; 0 for ``x_t`` itself."""
    rates = posterior.process.rates(posterior.x_t, posterior.level.t, posterior.logits.dtype)
    # Where no state leads to x_t the ratios are not known, and do not matter.
    return torch.where(rates > 0, rates * posterior.ratios, 0.0)


def leapt(x: Tensor, rates: Tensor, h: Tensor | float) -> Categorical:
    """Where positions ``x`` ``(B, *N)`` are after a time ``h`` of at most one jump each at the ``rates``."""
    total = rates.double().sum(-1, keepdim=True)
    stay = (-h * total).exp()
    probs = rates * torch.where(total > 0, -torch.expm1(-h * total) / torch.where(total > 0, total, 1.0), 0.0)
    return Categorical(probs.scatter(-1, x[..., None], stay))
