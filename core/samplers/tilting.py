r"""Guidance by any function of clean data: a step draws several candidates and keeps one by what it is worth.

A step of categories draws data ``x_0`` from the belief ``p(x_0 | x_t)`` and then the state from ``q(x_s | x_t, x_0)``
(see `constraints`). What is known of the data, ``p(y | x_0)``, makes the belief

.. math::

    p(x_0 | x_t, y) \propto p(x_0 | x_t) \, p(y | x_0),

which is drawn from by sampling and resampling (Rubin 1987, 10.2307/2289460): of ``K`` draws ``x^k`` from ``p(x_0 |
x_t)`` one is kept, number ``k`` with probability ``p(y | x^k) / sum_l p(y | x^l)``.  The more candidates, the closer;
one leaves the sampler alone.  In each step anew, as in Li et al. 2024 (SVDD, arXiv 2408.08252), a few go far, since
what was kept is what the next step starts from.  Neither a gradient nor training is needed.
What cannot be at all is better ruled out by a constraint: a noisy state close to such data leads to hardly any others.

Under masks candidates are states: of the positions that a step shows, each is drawn ``K`` times.  A state that still
hides some is worth what data are that are drawn for it, one draw a candidate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..chains import Categorical
from ..schedules import require
from .constraints import DrawnStep, StateConstraint

__all__ = ["TiltedDraws"]

Worth = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class TiltedDraws(StateConstraint):
    """Keeps one of several draws of a step by ``log p(y | x_0)``; see the module's text.

    Args:
        worth: called as ``worth(data, real)`` with categories ``(B, *N)`` and where they are no padding, by name;
            answers with ``log p(y | x_0)`` ``(B,)`` in nats up to a constant, minus infinity for what cannot be.
        candidates: how many draws, at least 1. Where none of them can be the first is kept.
        within: a constraint that all of them obey; None for none.

    Raises:
        ValueError: for less than one candidate; in a step, for an answer of another shape, or NaN or infinity in it.

    Example:
        >>> from ornstein.core import CategoricalAncestral, EnumeratedDenoiser, IndependentDenoisers, IndependentNoise
        >>> from ornstein.core import PowerSchedule, ProductSampler, UniformChain
        >>> coin = EnumeratedDenoiser(UniformChain(2, PowerSchedule()), torch.tensor([0.5, 0.5]))
        >>> heads = TiltedDraws(lambda data, real: 2.0 * data["coin"][:, 0], candidates=32)
        >>> sampler = ProductSampler(4, samplers={"coin": CategoricalAncestral()}, constraint=heads)
        >>> noise = IndependentNoise(torch.Generator().manual_seed(0))
        >>> drawn = sampler.sample(IndependentDenoisers({"coin": coin}), {"coin": (9000, 1)}, noise=noise)
        >>> round(drawn["coin"].double().mean().item(), 1)  # 1 / (1 + exp(-2)) = 0.88
        0.9
    """

    worth: Worth
    candidates: int = 8
    within: StateConstraint | None = None

    def __post_init__(self) -> None:
        require(self.candidates >= 1, "candidates", self.candidates, "at least 1")

    def keep(self, step: DrawnStep) -> dict[str, Tensor]:
        tried = [self._kept(step)]
        tried += [self._kept(_again(step)) for _ in range(1, self.candidates)]
        worth = torch.stack([self._asked(step, one) for one in tried], 1)
        # The largest of numbers with Gumbel noise is each with a probability like its exponential.
        u = next(iter(step.streams.values())).uniform(worth)
        chosen = (worth - (-u.clamp(min=1e-300).log()).log()).argmax(1)
        sample = torch.arange(len(chosen), device=chosen.device)
        return {name: torch.stack([one[name] for one in tried], 1)[sample, chosen] for name in tried[0]}

    def allows(self, data: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> Tensor:
        if self.within is not None:
            return self.within.allows(data, real)
        some = next(iter(data.values()))
        return torch.ones(len(some), dtype=torch.bool, device=some.device)

    @property
    def free(self) -> StateConstraint:
        return replace(self, within=None)

    def _kept(self, step: DrawnStep) -> dict[str, Tensor]:
        return dict(step.after) if self.within is None else self.within.keep(step)

    def _asked(self, step: DrawnStep, kept: dict[str, Tensor]) -> Tensor:
        data = kept if step.last else self._data(step, kept)
        found = self.worth(data, step.real)
        batch = len(next(iter(data.values())))
        require(found.shape == (batch,), "shape of worth", tuple(found.shape), f"({batch},), one number a sample")
        fine = ~(found.isnan() | (found == torch.inf)).any()
        require(bool(fine), "worth", found, "log-probabilities: finite, or minus infinity")
        return found.double()

    def _data(self, step: DrawnStep, kept: dict[str, Tensor]) -> dict[str, Tensor]:
        """What was kept, with what is hidden drawn, as if the step were the last."""
        hidden = {name: step.free[name] & (kept[name] == step.mask_of(name)) for name in kept if _masks(step, name)}
        if not hidden:
            return kept
        none = {name: torch.zeros_like(step.free[name]) for name in kept}
        shown = {
            name: torch.where(hidden[name], _draw(step, name), value) if name in hidden else value
            for name, value in kept.items()
        }
        return self._kept(replace(step, before=kept, after=shown, free=none | hidden, last=True))


def _masks(step: DrawnStep, name: str) -> bool:
    return step.mask_of(name) is not None


def _draw(step: DrawnStep, name: str) -> Tensor:
    return Categorical(step.kernels[name].probs).sample(step.uniform(name))


def _again(step: DrawnStep) -> DrawnStep:
    """The step, drawn once more: under masks the same positions are shown."""
    after = {}
    for name, first in step.after.items():
        changed = step.free[name] & (first != step.before[name]) if _masks(step, name) else step.free[name]
        after[name] = torch.where(changed, _draw(step, name), first)
    return replace(step, after=after)
