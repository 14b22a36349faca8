r"""Bounds on the likelihood of categories, and the exact likelihood where states can be enumerated.

    -log p(x_0) <= KL(q(x_1 | x_0) || pi) + sum_i E KL(q(x_s | x_t, x_0) || p(x_s | x_t))

for the steps from ``t`` to ``s`` of a grid (Austin et al. 2021, 2107.03006, eq. 1; the step to clean data costs ``-log
p(x_0 | x_t)``), and with the integral over ``t`` of the divergence's rate in the place of the sum in continuous time
(Lou et al. 2024, 2310.16834, theorem 3.6).
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..chains import Chain
from ..chains.base import check_mask, spread
from ..denoisers import Denoiser
from ..grids import Grid, UniformTime
from ..noise import NoiseSource, NoiseStream
from ..schedules import require
from .events import stream_of

__all__ = ["CategoricalBoundEstimate", "TokenBound", "enumerated_log_prob"]

LARGEST = 2**20  # states that are enumerated
NODES = 64  # of the rule for the integral over time


@dataclass(frozen=True)
class CategoricalBoundEstimate:
    """An upper bound on ``-log p(x_0)`` and its terms, in nats a sample, ``(B,)``, float64.

    Args:
        prior: ``KL(q(x_1 | x_0) || pi)``.
        diffusion: the rest.
        standard_error: Monte-Carlo error of the sum; 0 where it was computed exactly, NaN for one draw.
        tokens: positions of each sample that count: those that are real and not given.
    """

    prior: Tensor
    diffusion: Tensor
    standard_error: Tensor
    tokens: Tensor

    @property
    def nats(self) -> Tensor:
        """The bound: at least ``-log p(x_0)`` in expectation."""
        return self.prior + self.diffusion

    @property
    def per_token(self) -> float:
        """Nats a position over all samples; its exponential is the bound on perplexity."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def per_token_error(self) -> float:
        """Monte-Carlo error of `per_token`, of the draws alone and not of the choice of samples."""
        return float(self.standard_error.square().sum().sqrt() / self.tokens.sum())

    @property
    def bits_per_token(self) -> float:
        """`per_token` in bits."""
        return self.per_token / math.log(2)


@dataclass(frozen=True)
class TokenBound:
    """The bound of the module's text for a denoiser of categories, a bound a token.

    Args:
        steps: of the bound in steps, whose times are those of the grid; None for continuous time.
        draws: noised states a sample, at times that divide [0, 1] evenly; in steps, draws of every term.
        exact: enumerate the noised states and integrate over time by Gauss and Legendre's rule instead of
            drawing: for spaces of few states.
        grid: chooses the times of the steps.

    Example:
        >>> import torch
        >>> from ornstein.core import PowerSchedule
        >>> from ornstein.core.chains import AbsorbingChain, EnumeratedDenoiser
        >>> fair = EnumeratedDenoiser(AbsorbingChain(2, PowerSchedule()), torch.ones(2, 2))
        >>> round(TokenBound(exact=True).evaluate(fair, torch.zeros(1, 2, dtype=torch.int64)).bits_per_token, 6)
        1.0
    """

    steps: int | None = None
    draws: int = field(default=64, kw_only=True)
    exact: bool = field(default=False, kw_only=True)
    grid: Grid = field(default=UniformTime(), kw_only=True)

    def __post_init__(self) -> None:
        require(self.steps is None or self.steps >= 1, "steps", self.steps, "at least 1, or None")
        require(self.draws >= 1, "draws", self.draws, "at least 1")

    @torch.no_grad()
    def evaluate(
        self,
        denoiser: Denoiser[Chain],
        x0: Tensor,
        *,
        mask: Tensor | None = None,
        seed: int | None = None,
        noise: NoiseSource | None = None,
        first: int = 0,
        condition: Mapping[str, Any] | None = None,
    ) -> CategoricalBoundEstimate:
        """The bound for each sample.

        Args:
            denoiser: of categories.
            x0: data ``(B, *N)``, int64.
            mask: ``(B, N)``, True where a position is real.
            seed: makes the estimate for sample ``i`` a function of ``(seed, first + i)`` alone.
            noise: where draws come from.
            first: number of the first sample, for runs in parts.
            condition: tensors for the denoiser, by name; what ``given`` ``(B, N)`` names is known, is not noised and
                does not count.

        Raises:
            ValueError: for data that are no categories of the chain; with ``exact`` for spaces of too many states.
        """
        chain = denoiser.process
        chain.check_data(x0, mask)
        real = torch.ones_like(x0, dtype=torch.bool) if mask is None else spread(mask, x0.ndim).expand_as(x0)
        x0, condition = x0 * real, dict(condition or {})
        if (given := condition.get("given")) is not None:
            check_mask(x0, given)
            real = real & ~spread(given, x0.ndim)
        job = _Job(denoiser, x0, real, condition | ({} if mask is None else {"mask": mask}))
        prior = job.total(chain.left(job.x0))
        if self.exact:
            diffusion = self._enumerated(job)
            error = torch.zeros_like(diffusion)
        else:
            values = self._drawn(job, stream_of(seed, noise, len(x0), first))
            diffusion = values.mean(0)
            # Of a single draw nobody knows the error.
            several = self.draws > 1
            error = values.std(0) / math.sqrt(self.draws) if several else torch.full_like(diffusion, math.nan)
        return CategoricalBoundEstimate(prior, diffusion, error, real.flatten(1).sum(1))

    def _drawn(self, job: "_Job", stream: NoiseStream) -> Tensor:
        """Estimates of the diffusion term, ``(draws, B)``."""
        offset = stream.uniform(job.x0[:, :1].flatten(1)[:, :1]).squeeze(1)
        out = []
        for i in range(self.draws):
            if self.steps is None:  # of the draws, each has a part of [0, 1] to itself
                out.append(job.moment((offset + i / self.draws) % 1.0, stream.uniform(job.x0)))
            else:
                times = self.grid(self.steps, job.chain).tolist()
                steps = (job.step(t, s, stream.uniform(job.x0)) for t, s in itertools.pairwise(times))
                out.append(torch.stack(list(steps)).sum(0))
        return torch.stack(out)

    def _enumerated(self, job: "_Job") -> Tensor:
        if self.steps is not None:
            times = self.grid(self.steps, job.chain).tolist()
            return torch.stack([job.expected(t, s) for t, s in itertools.pairwise(times)]).sum(0)
        # In a variable whose slope vanishes at both ends, where the integrand may behave like t log t.
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        u = 0.5 * (nodes + 1)
        instants = u**4 * (35 - 84 * u + 70 * u**2 - 20 * u**3)
        lengths = 0.5 * weights * 140 * (u * (1 - u)) ** 3
        parts = [w * job.expected(t, None) for t, w in zip(instants.tolist(), lengths.tolist())]
        return torch.stack(parts).sum(0)


@dataclass
class _Job:
    """Data with the positions that count and conditions, and the terms of the bound at a time."""

    denoiser: Denoiser[Chain]
    x0: Tensor
    real: Tensor
    condition: dict[str, Any]

    @property
    def chain(self) -> Chain:
        return self.denoiser.process

    def total(self, values: Tensor) -> Tensor:
        return torch.where(self.real, values, 0.0).double().flatten(1).sum(1)

    def moment(self, t: Tensor, u: Tensor) -> Tensor:
        x_t = torch.where(self.real, self.chain.marginal(self.x0, t).sample(u), self.x0)
        return self.total(self.denoiser(x_t, t, **self.condition).moment_divergence(self.x0))

    def step(self, t: float, s: float, u: Tensor) -> Tensor:
        x_t = torch.where(self.real, self.chain.marginal(self.x0, t).sample(u), self.x0)
        return self.total(self.denoiser(x_t, t, **self.condition).step_divergence(self.x0, s))

    def expected(self, t: float, s: float | None) -> Tensor:
        """The expectation over ``x_t`` of a step's divergence, or of its rate where ``s`` is None."""
        every = _states(self.chain, self.x0[0].numel()).reshape(-1, *self.x0.shape[1:])
        out = []
        for i, x0 in enumerate(self.x0):
            likely = torch.where(self.real[i], self.chain.marginal(x0.expand_as(every), t).log_prob(every), 0.0)
            likely = likely.flatten(1).sum(1)
            # Padding is 0 alone, what is given stays, and what cannot be reached is not asked about.
            some = likely.isfinite() & ((every == x0) | self.real[i]).flatten(1).all(1)
            x_t, weight = every[some], likely[some].exp()
            condition = {k: v[i : i + 1].expand(len(x_t), *v.shape[1:]) for k, v in self.condition.items()}
            posterior = self.denoiser(x_t, t, **condition)
            x0 = x0.expand_as(x_t)
            each = posterior.moment_divergence(x0) if s is None else posterior.step_divergence(x0, s)
            out.append(weight @ torch.where(self.real[i], each, 0.0).double().flatten(1).sum(1))
        return torch.stack(out)


@torch.no_grad()
def enumerated_log_prob(denoiser: Denoiser[Chain], x0: Tensor, steps: int, *, grid: Grid | None = None) -> Tensor:
    """``log p(x_0)`` in nats ``(B,)`` of what `CategoricalAncestral` draws: all paths of the reverse chain are summed.

    Args:
        denoiser: of categories, without conditions.
        x0: data ``(B, *N)``, int64.
        steps: of the sampler.
        grid: of the sampler; by default even in time, to clean data.

    Raises:
        ValueError: for spaces of too many states.
    """
    chain = denoiser.process
    chain.check_data(x0)
    places = math.prod(x0.shape[1:])
    every = _states(chain, places)
    now = chain.stationary.log()[every].sum(1).exp()
    for t, s in itertools.pairwise((grid or UniformTime())(steps, chain).tolist()):
        reached = now > 0
        probs = denoiser(every[reached].reshape(-1, *x0.shape[1:]), t).reverse(s).probs.double().flatten(1, -2)
        joint = probs[:, 0]
        for i in range(1, places):
            joint = (joint[:, :, None] * probs[:, i, None]).flatten(1)
        now = now[reached] @ joint
    weights = chain.states ** torch.arange(places - 1, -1, -1)
    return now[x0.flatten(1) @ weights].log()


def _states(chain: Chain, places: int) -> Tensor:
    """All states ``(S^N, N)``."""
    if chain.states**places > LARGEST:
        raise ValueError(
            f"{chain.states}^{places} states: expected at most {LARGEST} to enumerate; estimate the bound by draws"
        )
    return torch.cartesian_prod(*[torch.arange(chain.states)] * places).reshape(-1, places)
