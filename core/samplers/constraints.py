"""Constraints on what a step of categories draws: what would leave a set of states is drawn again, within it.

A step draws all positions as if they were independent. Where data obey rules that tie positions together (valences of
atoms, say), a constraint goes through the changed positions one after the other: each keeps its draw if the rules
allow it beside those before, and is else drawn from its distribution restricted to what they allow. That is one draw
from the restricted distribution, since a draw that is accepted with the probability of the allowed set and else made
anew has it.

Rules are about data. Under masks, states are data as far as they show any, and the rules hold for them. The states of
other chains are noise before the last: there a step draws data ``x_0`` from the belief, the rules hold for these, and
the state is drawn from ``q(x_s | x_t, x_0)``. For each position that is the reverse kernel, ``p(x_s | x_t) = sum_{x_0}
q(x_s | x_t, x_0) p(x_0 | x_t)`` (Austin et al. 2021, D3PM, arXiv 2107.03006, eq. 4), and states stay as noisy as the
denoiser knows them; rules for noise itself would lead it astray.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..chains import AbsorbingChain, MaskedPosterior
from ..chains.categorical import draw
from ..noise import NoiseStream

__all__ = ["DrawnStep", "StateConstraint", "redraw"]


@dataclass
class DrawnStep:
    """A step of a state of several parts, as it was drawn.

    Attributes:
        t, s: the two times.
        before: the state at its start, by name.
        after: what it drew: under masks the state at its end, under other chains data; by name. What is given and the
            padding are as before.
        real: by name, False in the padding.
        free: by name, True where the state may be changed: real, and not given.
        last: whether it ends in data, so that nothing is left to a later step.
        processes: by name.
        kernels: by name the probabilities ``(B, *N, S)`` that a position which changes is drawn from.
        streams: by name, for further draws.
    """

    t: Tensor | float
    s: Tensor | float
    before: Mapping[str, Tensor]
    after: dict[str, Tensor]
    real: Mapping[str, Tensor]
    free: Mapping[str, Tensor]
    last: bool
    processes: Mapping[str, Any]
    kernels: Mapping[str, "Kernel"]
    streams: Mapping[str, NoiseStream]

    def mask_of(self, name: str) -> int | None:
        """The number of the mask of a part, where its chain has one."""
        process = self.processes[name]
        return process.mask if isinstance(process, AbsorbingChain) else None

    def uniform(self, name: str) -> Tensor:
        """Fresh uniform numbers for a part, float64, in the shape of its state; to be asked for in every step, or
        samples would depend on their batch.
        """
        return self.streams[name].uniform(self.after[name])


@dataclass
class Kernel:
    """Where a position that changes goes to, computed when it is first asked for.

    Args:
        posterior: the belief about the clean data.
        s: the time of what is drawn, 0 for data.
        choice: the sampler's change of what is drawn; None for none.
    """

    posterior: Any
    s: Tensor | float
    choice: Any = None

    def __post_init__(self) -> None:
        self._probs: Tensor | None = None

    @property
    def probs(self) -> Tensor:
        """``(B, *N, S)``: under masks of the categories that a masked position shows, else of all states."""
        if self._probs is None:
            belief = self.posterior
            if isinstance(belief, MaskedPosterior):
                hidden = torch.tensor(belief.process.mask, device=belief.x_t.device)
                free = belief.logits.index_fill(-1, hidden, -torch.inf)
                self._probs = (free if self.choice is None else self.choice(free)).softmax(-1)
            else:
                self._probs = belief.reverse(self.s, self.choice).probs
        return self._probs


class StateConstraint(ABC):
    """Keeps the states of a `ProductSampler` within a set, step by step."""

    @abstractmethod
    def keep(self, step: DrawnStep) -> dict[str, Tensor]:
        """What was drawn, by name, within the set as far as steps to come allow."""

    def allows(self, data: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> Tensor:
        """Which finished data are in the set, boolean ``(B,)``.

        Args:
            data: categories ``(B, *N)`` by name.
            real: False in the padding, likewise.

        Raises:
            TypeError: for a constraint that cannot say.
        """
        raise TypeError(f"{type(self).__name__} does not say which data it allows; expected a constraint that does")

    @property
    def free(self) -> "StateConstraint | None":
        """What is left of it where nothing is out of the set; None for nothing."""
        return None


def redraw(probs: Tensor, allowed: Tensor, u: Tensor) -> Tensor:
    """Categories ``(...)`` of restricted distributions; any that is allowed where the allowed ones have no probability,
    and any at all where none is.

    Args:
        probs: ``(..., S)``, not negative.
        allowed: ``(..., S)`` boolean.
        u: uniform numbers ``(...)``, float64.
    """
    weights = torch.where(allowed, probs.double(), 0.0)
    empty = weights.sum(-1, keepdim=True) <= 0
    weights = torch.where(empty, allowed.double(), weights)
    weights = torch.where(empty & ~allowed.any(-1, keepdim=True), probs.double(), weights)
    return draw(weights, u)
