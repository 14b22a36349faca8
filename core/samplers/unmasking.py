r"""Unmasking in an order: which positions show their category, which category, and what is remembered between steps.

The share of masks at the times of the grid says how many positions a sample still hides after a step; the order says
which.  One position a step, every order draws from the chain rule's product of conditionals, so that with the right
conditionals samples have the right joint distribution: orders look at the state and the belief, never at what is drawn
(Hoogeboom et al. 2022, ARDM, arXiv 2110.02037; Kim et al. 2025, 2502.06768).  MaskGIT (Chang et al. 2022, 2202.04200)
ranks by the drawn category instead, which favours likely ones.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..chains import AbsorbingChain, MaskedPosterior
from ..process import Process
from ..schedules import require
from .base import Row, Run
from .categorical import CategoricalSampler

__all__ = [
    "Blockwise",
    "ConfidentFirst",
    "LeftToRight",
    "MarginFirst",
    "RandomOrder",
    "SureFirst",
    "Unmasking",
    "UnmaskingOrder",
]


class UnmaskingOrder(ABC):
    """Ranks the masked positions of a state."""

    random: ClassVar[bool] = False
    """Whether uniform numbers take part."""

    @abstractmethod
    def rank(self, belief: MaskedPosterior, u: Tensor | None) -> Tensor:
        """Numbers ``(B, *N)``, float64; the highest are shown first.

        Args:
            belief: about the data behind the state.
            u: uniform numbers ``(B, *N)`` for orders that are random.
        """


@dataclass(frozen=True)
class RandomOrder(UnmaskingOrder):
    """Every order alike."""

    random: ClassVar[bool] = True

    def rank(self, belief: MaskedPosterior, u: Tensor | None) -> Tensor:
        assert u is not None
        return u


@dataclass(frozen=True)
class LeftToRight(UnmaskingOrder):
    """In the order of reading: with one position a step, an autoregressive model."""

    def rank(self, belief: MaskedPosterior, u: Tensor | None) -> Tensor:
        return _places(belief.x_t)


@dataclass(frozen=True)
class ConfidentFirst(UnmaskingOrder):
    """The positions with the likeliest category first: ``max_v p(v)``."""

    def rank(self, belief: MaskedPosterior, u: Tensor | None) -> Tensor:
        return _each(belief, lambda p: p.amax(-1))


@dataclass(frozen=True)
class MarginFirst(UnmaskingOrder):
    """The positions with the widest margin between the two likeliest categories first (2502.06768, section 4)."""

    def rank(self, belief: MaskedPosterior, u: Tensor | None) -> Tensor:
        def margin(p: Tensor) -> Tensor:
            first, second = p.topk(min(2, p.shape[-1]), -1).values.split(1, -1)
            return (first - second).squeeze(-1)

        return _each(belief, margin)


@dataclass(frozen=True)
class SureFirst(UnmaskingOrder):
    """The positions of least entropy first."""

    def rank(self, belief: MaskedPosterior, u: Tensor | None) -> Tensor:
        return _each(belief, lambda p: torch.special.xlogy(p, p).sum(-1))


@dataclass(frozen=True)
class Blockwise(UnmaskingOrder):
    """Block by block from the left, in another order within a block (semi-autoregressive: Arriola et al. 2025, arXiv
    2503.09573).

    Args:
        size: positions of a block along the first axis, at least 1.
        inner: the order within a block.
    """

    size: int
    inner: UnmaskingOrder = field(default=RandomOrder())

    def __post_init__(self) -> None:
        require(self.size >= 1, "size", self.size, "at least 1")

    @property
    def random(self) -> bool:  # type: ignore[override]
        return self.inner.random

    def rank(self, belief: MaskedPosterior, u: Tensor | None) -> Tensor:
        inner = self.inner.rank(belief, u)
        # Ranks within the state, from 0 to 1, so that no block overtakes another.
        within = inner.flatten(1).argsort(dim=1, stable=True).argsort(dim=1).reshape(inner.shape) / (
            inner[0].numel() + 1
        )
        block = torch.arange(inner.shape[1], device=inner.device) // self.size
        return within - block.reshape(1, -1, *[1] * (inner.ndim - 2))


def _places(x: Tensor) -> Tensor:
    return -torch.arange(x[0].numel(), dtype=torch.float64, device=x.device).reshape(1, *x.shape[1:]).expand(x.shape)


def _each(belief: MaskedPosterior, measure: Any) -> Tensor:
    """A measure of the distributions at masked positions, and 0 elsewhere."""
    masked = belief.masked
    values = measure(belief.rows(masked).double().softmax(-1))
    return torch.zeros(masked.shape, dtype=torch.float64, device=masked.device).masked_scatter(masked, values)


@dataclass(frozen=True)
class Unmasking(CategoricalSampler):
    """Shows masked positions in an order, as many a step as the chain's share of masks asks for; see the module's text.

    What is not the mask at the start stays (infilling).  After the step to ``s`` a sample that began with ``M`` masks
    has ``round(M (1 - a(s)) / (1 - a(t_0)))`` left: with ``PowerSchedule()`` and even times all steps show as many.

    Args:
        positions: which positions, and in which order.
        choice: which category.
        cache: what is remembered: "none", or "unchanged", the last answer while no position of the batch has changed,
            for denoisers that do not see time (MDLM's cache, 2406.07524, section 4); `nfe` is then the most that a run
            can take.

    Raises:
        ValueError: on sampling, if the cache is asked of a denoiser that sees time.
    """

    positions: UnmaskingOrder = field(default=RandomOrder(), kw_only=True)
    cache: Literal["none", "unchanged"] = field(default="none", kw_only=True)

    moves: ClassVar[type[Process]] = AbsorbingChain

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.positions, UnmaskingOrder):
            raise TypeError(f"positions={self.positions!r}: expected an UnmaskingOrder, such as RandomOrder()")
        require(self.cache in ("none", "unchanged"), "cache", self.cache, "'none' or 'unchanged'")

    def walk(self, run: Run, x: Any, clock: Any, rows: Any) -> Any:
        if self.cache == "unchanged" and getattr(run.denoiser, "timed", True):
            raise ValueError(
                "cache='unchanged' with a denoiser that sees time, whose answer changes though the state does not: "
                "expected one with timed=False"
            )
        masked = x == run.denoiser.process.mask
        if run.keep is not None:
            masked = masked & (run.keep != 0)
        # Of the run: how many positions each sample hid, where the padding is, and the last answer.
        run.history = [masked.flatten(1).sum(1), run.denoiser.process.level(clock[0]).sigma, None]
        return super().walk(run, x, clock, rows)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        hidden, start, last = run.history
        belief = self._asked(run, x, t, last)
        masked = belief.masked if run.keep is None else belief.masked & (run.keep != 0)
        left = (hidden * (belief.process.level(s).sigma / start)).round().long()
        show = (masked.flatten(1).sum(1) - left).clamp(min=0)
        rank = self.positions.rank(belief, run.noise.uniform(x) if self.positions.random else None)
        rank = torch.where(masked, rank, -torch.inf).flatten(1)
        place = rank.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        where = (place < show[:, None]).reshape(x.shape)
        return belief.reverse(s, self.choice).show(where, run.noise.uniform(x))

    def _asked(self, run: Run, x: Tensor, t: Tensor | float, last: Any) -> MaskedPosterior:
        if last is not None and torch.equal(last.x_t, x):
            belief = MaskedPosterior(x, last.process, last.process.level(t), last.logits)
            run.latest = belief
        else:
            belief = run.posterior(x, t)
        if self.cache == "unchanged":
            run.history = [*run.history[:2], belief]
        return belief
