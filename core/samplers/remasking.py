r"""Remasking: a position that shows its category may be masked again, so that mistakes are mended.

With a probability ``sigma`` of masking a shown position in the step from ``t`` to ``s``,

    shown    mask with sigma, else as it is
    masked   shows with (a_s - (1 - sigma) a_t) / (1 - a_t), else masked,        0 <= sigma <= min(1, (1 - a_s) / a_t),

which leaves the marginal ``q(x_s | x_0)`` of the absorbing chain as it is for any such ``sigma``, also one of its own a
position (Wang et al. 2025, ReMDM, arXiv 2503.00307, eqs. 4-7 and theorem 3.1).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..chains import AbsorbingChain
from ..process import Process
from ..schedules import require
from .base import Row, Run
from .categorical import CategoricalSampler, masked_belief

__all__ = ["Remasking"]


@dataclass(frozen=True)
class Remasking(CategoricalSampler):
    """ReMDM's sampler; see the module's text.

    Positions that are masked again are drawn anew as if independent of others drawn in the same step.  So samples tend
    to the right joint distribution at order 1 if ``eta`` falls with the length of a step, and at order 1/2 if it is
    fixed.

    Args:
        strategy: ``sigma`` is "cap": ``min(eta, largest)``; "rescale": ``eta largest`` (section 4.1).
        eta: 0 (the ancestral sampler) to 1.
        confidence: share ``sigma`` out among the shown positions by ``softmax(-psi)`` of the probability ``psi`` with
            which each was drawn; masked ones have a ``sigma`` of 0, so that the marginal is no longer kept exactly
            (section 4.1).  A start state's own are not masked.
        interval: times ``t`` at which remasking acts, ``(low, high)``, ends included ("switch", section 4.2).
        held: more steps at the level ``at``, where as many are masked as shown, and at these alone ("loop", section
            4.2).
        at: time of the held steps, which becomes a time of the grid.
    """

    strategy: Literal["cap", "rescale"] = field(default="rescale", kw_only=True)
    eta: float = field(default=0.02, kw_only=True)
    confidence: bool = field(default=False, kw_only=True)
    interval: tuple[float, float] = field(default=(0.0, 1.0), kw_only=True)
    held: int = field(default=0, kw_only=True)
    at: float = field(default=0.1, kw_only=True)

    moves: ClassVar[type[Process]] = AbsorbingChain

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.strategy in ("cap", "rescale"), "strategy", self.strategy, "'cap' or 'rescale'")
        require(0 <= self.eta <= 1, "eta", self.eta, "a number from 0 to 1")
        low, high = self.interval
        require(0 <= low < high <= 1, "interval", self.interval, "(low, high) with 0 <= low < high <= 1")
        whole = isinstance(self.held, int) and not isinstance(self.held, bool) and self.held >= 0
        require(whole, "held", self.held, "an integer of at least 0")
        everywhere = (low, high) == (0, 1)
        require(everywhere or not self.held, "interval", self.interval, "(0, 1) with held steps, which alone remask")
        require(0 < self.at < 1, "at", self.at, "a time between 0 and 1")

    def nfe(self, steps: int | None = None, process: Any = None) -> int:
        return super().nfe(steps, process) + self.held

    def route(self, process: Any) -> Tensor:
        """The grid's times; with held steps the inner one that is nearest to ``at`` moves there and is repeated."""
        times = super().route(process)
        if self.held == 0:
            return times
        if len(times) < 3:
            raise ValueError(f"held={self.held} with {len(times) - 1} steps: expected at least 2 steps")
        i = 1 + int((times[1:-1] - self.at).abs().argmin())
        return torch.cat([times[:i], times.new_full((self.held + 1,), self.at), times[i + 1 :]])

    def plan(self, process: Any, times: Tensor) -> Tensor:
        """Columns: the probability that a masked position shows its category, and ``sigma``."""
        kept, gone, _ = process.coefficients(times)
        before, after = kept[:-1], kept[1:]
        largest = ((1 - after) / before).clamp(max=1)
        sigma = largest.clamp(max=self.eta) if self.strategy == "cap" else self.eta * largest
        t, (low, high) = times[:-1], self.interval
        acts = times[1:] == t if self.held else (low <= t) & (t <= high)
        sigma = torch.where(acts & (before > 0), sigma, 0.0)
        # By confidence a masked position has no share in sigma.
        show = (gone[:-1] - gone[1:] + (0.0 if self.confidence else sigma * before)) / gone[:-1]
        return torch.stack([show, sigma], 1)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        show, sigma = row
        belief = masked_belief(run.posterior(x, t))
        masked = belief.masked
        shown = ~masked if run.keep is None else ~masked & (run.keep != 0)
        u, again = run.noise.uniform(x), run.noise.uniform(x)
        where = masked & (u < show)
        drawn = belief.reverse(s, self.choice).show(where, u / show if show > 0 else u)
        masks = shown & (again < (self._shared(run, shown, sigma) if self.confidence else sigma))
        if self.confidence:
            run.history = [torch.where(where, belief.log_prob(drawn).double().exp(), run.history[0])]
        return torch.where(masks, belief.process.mask, drawn)

    def _shared(self, run: Run, shown: Tensor, sigma: Tensor | float) -> Tensor:
        """The probability of masking again of each position."""
        if not run.history:  # of each position: what it was drawn with; infinite for what is not to be masked
            run.history = [torch.full(shown.shape, torch.inf, dtype=torch.float64, device=shown.device)]
        psi = torch.where(shown, run.history[0], torch.inf).flatten(1)
        share = torch.where(psi.isfinite().any(1, keepdim=True), (-psi).softmax(1), 0.0)
        return sigma * share.reshape(shown.shape)
