r"""Unmasking in an order: which positions show their category, which category, and what is remembered between steps.

The share of masks at the times of the grid says how many positions a sample still hides after a step; the order says
which.  One position a step, every order draws from the chain rule's product of conditionals, so that with the right
conditionals samples have the right joint distribution: orders look at the state and the belief, never at what is drawn
(Hoogeboom et al. 2022, ARDM, arXiv 2110.02037; Kim et al. 2025, 2502.06768).  MaskGIT (Chang et al. 2022, 2202.04200)
ranks by the drawn category instead, which favours likely ones.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..chains import AbsorbingChain, MaskedPosterior
from ..process import Process
from ..schedules import require
from .base import Row, Run
from .categorical import CategoricalSampler, masked_belief

__all__ = [
    "Blockwise",
    "ConfidentFirst",
    "LeftToRight",
    "MarginFirst",
    "PrefixDenoiser",
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

    def ends(self, length: int) -> list[int]:
        """Where blocks end that are shown one after the other, along the first axis of this length; by default one."""
        return [length]


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

    The steps of a run are divided evenly among the blocks, and the clock of each block's steps is that of the run,
    stretched so that it starts with all of the block hidden and ends with none.  Where steps are fewer than blocks,
    neighbouring blocks are shown together.

    Args:
        size: positions of a block along the first axis, at least 1.
        inner: the order within a block.
    """

    size: int
    inner: UnmaskingOrder = field(default=RandomOrder())

    def __post_init__(self) -> None:
        require(self.size >= 1, "size", self.size, "at least 1")
        single = isinstance(self.inner, UnmaskingOrder) and not isinstance(self.inner, Blockwise)
        require(single, "inner", self.inner, "an UnmaskingOrder without blocks of its own")

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

    def ends(self, length: int) -> list[int]:
        return [*range(self.size, length, self.size), length]


def _places(x: Tensor) -> Tensor:
    return -torch.arange(x[0].numel(), dtype=torch.float64, device=x.device).reshape(1, *x.shape[1:]).expand(x.shape)


def _each(belief: MaskedPosterior, measure: Any) -> Tensor:
    """A measure of the distributions at masked positions, and 0 elsewhere."""
    masked = belief.masked
    values = measure(belief.rows(masked).double().softmax(-1))
    return torch.zeros(masked.shape, dtype=torch.float64, device=masked.device).masked_scatter(masked, values)


@runtime_checkable
class PrefixDenoiser(Protocol):
    """What ``cache="prefix"`` asks of a denoiser: to read the positions that are done once a block.

    After ``memory = denoiser.remember(x[:, :start])``, where ``x`` shows all of its first ``start`` positions, the call
    ``denoiser(x[:, start:], t, memory=memory)`` answers about the others as ``denoiser(x, t)`` does.  What is shown
    after is added by ``denoiser.remember(x[:, start:end], memory)``, which leaves ``memory`` as it is.  Conditions are
    passed to all; a ``mask`` is cut as ``x`` is.
    """

    def remember(self, x: Tensor, memory: Any = None, **condition: Any) -> Any: ...


@dataclass
class _Block:
    """A part of the first axis that is shown in steps of its own."""

    first: int
    """Its first step."""
    start: int
    end: int
    share: float
    """The chain's share of masks when it begins, and when it must be shown."""
    left: float
    hidden: Any = None
    """How many positions of each sample it hid when it began."""
    memory: Any = None


@dataclass(frozen=True)
class Unmasking(CategoricalSampler):
    """Shows masked positions in an order, as many a step as the chain's share of masks asks for; see the module's text.

    What is not the mask at the start stays (infilling).  After the step to ``s`` a sample that began with ``M`` masks
    has ``round(M (1 - a(s)) / (1 - a(t_0)))`` left: with ``PowerSchedule()`` and even times all steps show as many.

    Args:
        positions: which positions, and in which order.
        choice: which category.
        count: how many a step: "even", as above, or "binomial", as if each position decided for itself: at random
            positions that is `CategoricalAncestral`.
        cache: what is remembered: "none"; "unchanged", the last answer while no position of the batch has changed,
            for denoisers that do not see time (MDLM's cache, 2406.07524, section 4), so that `nfe` is the most that a
            run can take; or "prefix", what a `PrefixDenoiser` makes of the blocks before the present one.

    Raises:
        ValueError: on sampling, if "unchanged" is asked of a denoiser that sees time, or "prefix" of one that cannot;
            for blocks as a component of a `ProductSampler`.
    """

    positions: UnmaskingOrder = field(default=RandomOrder(), kw_only=True)
    count: Literal["even", "binomial"] = field(default="even", kw_only=True)
    cache: Literal["none", "unchanged", "prefix"] = field(default="none", kw_only=True)

    moves: ClassVar[type[Process]] = AbsorbingChain

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.positions, UnmaskingOrder):
            raise TypeError(f"positions={self.positions!r}: expected an UnmaskingOrder, such as RandomOrder()")
        require(self.count in ("even", "binomial"), "count", self.count, "'even' or 'binomial'")
        caches = ("none", "unchanged", "prefix")
        require(self.cache in caches, "cache", self.cache, "'none', 'unchanged' or 'prefix'")

    def plan(self, process: Any, times: Tensor) -> Tensor:
        """Columns: the step's number and the number of steps."""
        steps = len(times) - 1
        return torch.stack([torch.arange(steps), torch.full((steps,), steps)], 1).double()

    def walk(self, run: Run, x: Any, clock: Any, rows: Any) -> Any:
        if self.cache == "unchanged" and getattr(run.denoiser, "timed", True):
            raise ValueError(
                "cache='unchanged' with a denoiser that sees time, whose answer changes though the state does not: "
                "expected one with timed=False"
            )
        if self.cache == "prefix" and not callable(getattr(run.denoiser, "remember", None)):
            raise ValueError(
                f"cache='prefix' with {type(run.denoiser).__name__}: expected a denoiser with a method remember; see "
                "PrefixDenoiser"
            )
        # Of the run: its blocks, and the last answer.
        run.history = [self._blocks(run.denoiser.process, x, clock), None]
        return super().walk(run, x, clock, rows)

    def _blocks(self, process: AbsorbingChain, x: Tensor, clock: Sequence[float]) -> list[_Block]:
        """The blocks in their order, neighbours joined where there are more than steps."""
        ends, steps = self.positions.ends(x.shape[1]), len(clock) - 1
        parts = min(len(ends), steps)
        stops = [0, *(ends[-(-(k + 1) * len(ends) // parts) - 1] for k in range(parts))]
        shares = [float(process.level(t).sigma) for t in clock]
        blocks = []
        for k, (start, end) in enumerate(itertools.pairwise(stops)):
            first, last = -(-k * steps // parts), -(-(k + 1) * steps // parts)
            left = shares[last] if k < parts - 1 else 0.0
            blocks.append(_Block(first, start, end, shares[first], left))
        return blocks

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        index, steps = int(row[0]), int(row[1])
        if not run.history:  # a step by itself, or of a component
            if steps > 1 and len(self.positions.ends(x.shape[1])) > 1:
                raise ValueError(f"positions={self.positions}: blocks need a run of their own; take another order")
            run.history = [self._blocks(run.denoiser.process, x, (float(t), float(s))), None]
        blocks, _ = run.history
        block = max((b for b in blocks if b.first <= index), key=lambda b: b.first)
        start = block.start if self.cache == "prefix" else 0
        belief = self._asked(run, x, t, block, start)
        hidden = belief.masked if run.keep is None else belief.masked & (run.keep[:, start:] != 0)
        place = torch.arange(start, x.shape[1], device=x.device).reshape(1, -1, *[1] * (x.ndim - 2))
        hidden = hidden & (place >= block.start) & (place < block.end)
        u = run.noise.uniform(x)[:, start:] if self.count == "binomial" else None
        before, after = (float(belief.process.level(v).sigma) for v in (t, s))
        show = self._number(hidden, block, before, after, u)
        u = run.noise.uniform(x)[:, start:] if self.positions.random else None
        rank = torch.where(hidden, self.positions.rank(belief, u), -torch.inf).flatten(1)
        order = rank.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        where = (order < show[:, None]).reshape(hidden.shape)
        shown = belief.reverse(s, self.choice).show(where, run.noise.uniform(x)[:, start:])
        return torch.cat([x[:, :start], shown], 1) if start else shown

    def _number(self, hidden: Tensor, block: _Block, before: float, after: float, u: Tensor | None) -> Tensor:
        """How many of the ``hidden`` positions of the block each sample shows, ``(B,)``."""
        now = hidden.flatten(1).sum(1)
        if block.hidden is None:
            block.hidden = now
        if u is not None:
            share = (before - after) / (before - block.left) if before > block.left else 1.0
            return (hidden & (u < share)).flatten(1).sum(1)
        part = (after - block.left) / (block.share - block.left) if block.share > block.left else 0.0
        return (now - (block.hidden * part).round().long()).clamp(min=0)

    def _asked(self, run: Run, x: Tensor, t: Tensor | float, block: _Block, start: int) -> MaskedPosterior:
        blocks, last = run.history
        if last is not None and torch.equal(last.x_t, x):
            belief = MaskedPosterior(x, last.process, last.process.level(t), last.logits)
            run.latest = belief
        elif start:
            belief = self._continued(run, x, t, block, start)
        else:
            belief = masked_belief(run.posterior(x, t))
        if self.cache == "unchanged":
            run.history = [blocks, belief]
        return belief

    def _continued(self, run: Run, x: Tensor, t: Tensor | float, block: _Block, start: int) -> MaskedPosterior:
        """The belief about the positions from ``start`` on, with what is remembered of those before."""
        places = {name: run.condition[name] for name in ("mask", "given") if run.condition.get(name) is not None}
        if block.memory is None:
            known = [b for b in run.history[0] if b.start < start and b.memory is not None]
            done, memory = (known[-1].start, known[-1].memory) if known else (0, None)
            cut = slice(done, start)
            told = run.condition | {name: part[:, cut] for name, part in places.items()}
            block.memory = run.denoiser.remember(x[:, cut], memory, **told)  # type: ignore[operator]
            for one in known:
                one.memory = None
        after = {name: part[:, start:] for name, part in places.items()}
        answer = run.denoiser(x[:, start:], t, memory=block.memory, **(run.condition | after))
        belief = masked_belief(answer)
        if run.callback is not None:  # which sees the whole state
            blank = belief.logits.new_zeros(len(x), start, *belief.logits.shape[2:])
            run.latest = MaskedPosterior(x, belief.process, belief.level, torch.cat([blank, belief.logits], 1))
        return belief
