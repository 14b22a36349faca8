"""One position after the other, from the left: the reverse of a chain that masks in a fixed order.

Each position is drawn from ``p(x^i | x^1 ... x^{i-1})``, so that samples of a `SequentialDenoiser` have exactly its
distribution (Austin et al. 2021, D3PM, arXiv 2107.03006, section 4).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..chains import AbsorbingChain, MaskedPosterior
from ..process import Process
from .base import Row, Run
from .categorical import CategoricalSampler, masked_belief

__all__ = ["SequentialSampler"]


@dataclass(frozen=True)
class SequentialSampler(CategoricalSampler):
    """Shows masked positions one by one along the first axis, each by what is believed of it given those before.

    The positions are divided evenly among the steps, which change nothing else: a callback sees the state after each.
    As many positions are evaluated as the state has. What was computed for those before is kept if the denoiser has a
    method ``remember`` (`PrefixDenoiser`), so that a position costs its own work; else all are read anew.

    Args:
        choice: which category.

    Raises:
        TypeError: from `nfe`, which the length of the states decides.
    """

    steps: int = 1

    moves: ClassVar[type[Process]] = AbsorbingChain
    adaptive: ClassVar[bool] = True

    def nfe(self, steps: int | None = None, process: Any = None) -> int:
        raise TypeError("SequentialSampler evaluates the denoiser once for each position of the states")

    def plan(self, process: Any, times: Tensor) -> Tensor:
        """Columns: the step's number and the number of steps."""
        steps = len(times) - 1
        return torch.stack([torch.arange(steps), torch.full((steps,), steps)], 1).double()

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        index, steps, length = int(row[0]), int(row[1]), x.shape[1]
        start, end = -(-index * length // steps), -(-(index + 1) * length // steps)
        u = run.noise.uniform(x)
        remembers = callable(getattr(run.denoiser, "remember", None))
        done, memory = run.history or (0, None)
        for i in range(start, end):
            hidden = (x == run.denoiser.process.mask) & (torch.arange(length, device=x.device) == i)
            hidden = hidden if run.keep is None else hidden & (run.keep != 0)
            if remembers:
                memory = run.denoiser.remember(x[:, done:i], memory, **_cut(run, done, i))  # type: ignore[operator]
                done = i
                answer = run.denoiser(x[:, i : i + 1], t, memory=memory, **_cut(run, i, i + 1))
                shown = masked_belief(answer).reverse(0.0, self.choice).show(hidden[:, i : i + 1], u[:, i : i + 1])
                x = torch.cat([x[:, :i], shown, x[:, i + 1 :]], 1)
            else:
                x = masked_belief(run.posterior(x, t)).reverse(0.0, self.choice).show(hidden, u)
        run.history = [done, memory]
        if run.callback is not None:  # which sees what is sure
            process = run.denoiser.process
            flat = torch.zeros(*x.shape, process.states, device=x.device)
            run.latest = MaskedPosterior(x, process, process.level(s), flat)
        return x


def _cut(run: Run, start: int, end: int) -> dict[str, Any]:
    """The conditions of positions ``start`` to ``end``."""
    places = {name: run.condition[name] for name in ("mask", "given") if run.condition.get(name) is not None}
    return run.condition | {name: part[:, start:end] for name, part in places.items()}
