r"""Guided beliefs about categories: reverse kernels multiplied with each other or with what a classifier says.

Position by position, for the step from ``t`` to ``s``,

    p(x_s | x_t)  ~  prod_i p_i(x_s | x_t)^{w_i} e(x_s)^g,      sum_i w_i = 1,

which is Schiff et al. 2024 (arXiv 2412.10193, section 3): classifier-free with the powers ``g`` and ``1 - g`` of the
conditional and the unconditional kernel, classifier-based with ``e(v) = p(y | x_t with v in this position)``.  In the
limit of short steps the ratios ``p_t(y) / p_t(x_t)`` multiply in the same way, which is guidance of rates (Nisonoff et
al. 2024, 2406.01572).  The belief about the data is the kernel at ``s = 0``.

Masks.  A masked position stays so with ``1 - share`` and shows ``v`` with ``share p(v)``.  Powers of whole kernels
would turn the share into ``share Z / (1 - share + share Z)`` with ``Z = sum_v prod_i p_i(v)^{w_i}``, which for two
factors is at least 1 where one power is negative: positions would show too early (Rojas et al. 2025, 2507.08965).  So
the powers act on ``p(x_0 | x_t)`` alone, scaled to sum to 1, and the share stays: the paper's equation is that of whole
kernels, but its authors' program does this as well.  A classifier, there as here, does act on the whole kernel: with
``Z = sum_v p(v) (e(v) / e(mask))^g``, which is 1 for the exact classifier and ``g = 1``, the share becomes as above.

Zeros.  A category that a factor of positive power rules out is ruled out, unless that leaves none; under a negative
power a probability of 0 counts as a very small one.

Rare categories.  Networks do not know how rare something is that they hardly ever saw, and where one says 1e-9 and the
other 1e-18 then ``p_1^2 / p_2`` makes it as likely as all else: a chance of nonsense for every position in every step,
so that more steps are worse.  A learned belief therefore counts under a negative power as at least a thousandth of an
even share, ``1e-3 / S`` (`without_the_rare`); beliefs that are given by ratios (`ScorePosterior`) stay as they are.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..chains import AbsorbingChain, Categorical, CategoricalPosterior, Chain, MaskedPosterior, ScorePosterior
from ..chains.base import shaped
from ..chains.posteriors import Choice, MaskedKernel, belief
from ..levels import Level
from ..schedules import Time

__all__ = ["GuidedMaskedPosterior", "GuidedPosterior", "flat_posterior", "guided_posterior", "without_the_rare"]

Power = float | Tensor

_FLOOR = -1e4
_RARE = 1e-3  # of an even share


def blended(logs: Sequence[Tensor], powers: Sequence[Power]) -> Tensor:
    """``sum_i w_i log p_i`` ``(B, *N, S)`` with zeros as the module's text says.

    Args:
        logs: ``log p_i``, up to a constant a position.
        powers: ``w_i``, each a number or one a sample, ``(B,)``.
    """
    total, gone = torch.zeros_like(logs[0]), torch.zeros_like(logs[0], dtype=torch.bool)
    for log, power in zip(logs, powers):
        weight = shaped(power, log)
        total = total + weight * log.clamp(min=_FLOOR)
        if isinstance(weight, Tensor):
            gone = gone | ((log == -torch.inf) & (weight > 0))
        elif weight > 0:  # a pass over a vocabulary is worth saving
            gone = gone | (log == -torch.inf)
    left = ~gone
    return torch.where(left | ~left.any(-1, keepdim=True), total, -torch.inf)


class GuidedPosterior(CategoricalPosterior):
    """A belief whose kernels are products; see the module's text.

    A choice of categories acts on the guided belief; each factor's belief is changed by the same factor a category.

    Args:
        x_t, process, level: as for `CategoricalPosterior`.
        answers: the factors' posteriors in their order; one may hold several, stacked along the batch.
        powers: ``w_i``, one a factor, each a number or ``(B,)``.
        evidence: ``log e`` ``(B, *N, S)``, up to a constant a position; None for none.
        strength: ``g``.
    """

    def __init__(
        self,
        x_t: Tensor,
        process: Chain,
        level: Level,
        answers: Sequence[CategoricalPosterior],
        powers: Sequence[Power],
        evidence: Tensor | None = None,
        strength: float = 1.0,
    ) -> None:
        self.answers = tuple(answers)
        self.powers = tuple(powers)
        self.evidence = evidence
        self.strength = strength
        super().__init__(x_t, process, level, self._blend([a.log_probs for a in answers], len(x_t)))

    def _blend(self, logs: Sequence[Tensor], batch: int) -> Tensor:
        """What the factors' logarithms, stacked or not, come to together with the evidence."""
        parts = [part for log in logs for part in log.split(batch)]
        if self.evidence is None:
            return blended(parts, self.powers)
        return blended([*parts, self.evidence], [*self.powers, self.strength])

    @property
    def ratios(self) -> Tensor:
        """Products of the factors' ratios, ``(B, *N, S)``, 1 at ``x_t``; infinite where the evidence rules it out."""
        logs = self._blend([a.ratios.log() for a in self.answers], len(self.x_t))
        return (logs - logs.gather(-1, self.x_t[..., None])).exp()

    def reverse(self, s: Time, choice: Choice | None = None) -> Categorical:
        answers = self.answers if choice is None else self._chosen(choice)
        logs = [a.reverse(self._stacked(s, a)).probs.log() for a in answers]
        return Categorical(self._blend(logs, len(self.x_t)).softmax(-1))

    def _chosen(self, choice: Choice) -> list[CategoricalPosterior]:
        """The factors' posteriors, changed so that the guided belief is as the choice wants it."""
        before = self.log_probs
        change = torch.where(before > -torch.inf, choice(before) - before, -torch.inf)
        # With powers that sum to 1, a factor common to all belongs to their product.
        return [
            belief(a.x_t, self.process, a.level, a.log_probs.clamp(min=_FLOOR) + self._stacked(change, a))
            for a in self.answers
        ]

    def _stacked(self, value: Any, answer: CategoricalPosterior) -> Any:
        """A value a sample (numbers are left alone) repeated for an answer that holds several factors."""
        if not isinstance(value, Tensor) or value.ndim == 0:
            return value
        return value.repeat(len(answer.x_t) // len(self.x_t), *[1] * (value.ndim - 1))


class GuidedMaskedPosterior(MaskedPosterior):
    """A belief under masks and what a classifier says of it, which also changes how likely a position is to show.

    Args:
        posterior: the belief.
        evidence: ``log e`` ``(B, *N, S)``, up to a constant a position.
        strength: ``g``.
    """

    def __init__(self, posterior: CategoricalPosterior, evidence: Tensor, strength: float) -> None:
        chain = posterior.process
        assert isinstance(chain, AbsorbingChain)
        hidden = torch.tensor(chain.mask, device=evidence.device)
        logits = blended([posterior.log_probs, evidence], [1.0, strength]).index_fill(-1, hidden, -torch.inf)
        super().__init__(posterior.x_t, chain, posterior.level, logits)
        stay = strength * evidence[..., chain.mask].clamp(min=_FLOOR)
        self.gain = torch.where(self.masked, logits.logsumexp(-1) - stay, 0.0)
        """``log Z`` of the module's text, ``(B, *N)``; 0 where the state shows its category."""

    @property
    def ratios(self) -> Tensor:
        shown = super().ratios * self.gain.exp()[..., None]
        return shown.scatter(-1, self.x_t[..., None], 1.0)

    def reverse(self, s: Time, choice: Choice | None = None) -> MaskedKernel:
        share = super().reverse(s).share
        spread = share.to(self.gain.device).reshape(-1, *[1] * (self.gain.ndim - 1))
        return MaskedKernel(self, (spread.logit() + self.gain.double()).sigmoid(), choice)

    # What a position costs when its share is not the data's: the general sums.
    def step_divergence(self, x0: Tensor, s: Time) -> Tensor:
        return CategoricalPosterior.step_divergence(self, x0, s)

    def moment_divergence(self, x0: Tensor) -> Tensor:
        return CategoricalPosterior.moment_divergence(self, x0)


def guided_posterior(
    x_t: Tensor, process: Chain, level: Level, answers: Sequence[CategoricalPosterior], powers: Sequence[Power]
) -> CategoricalPosterior:
    """The belief of a product of kernels, under masks of a product of beliefs; arguments as for `GuidedPosterior`."""
    if not isinstance(process, AbsorbingChain):
        return GuidedPosterior(x_t, process, level, answers, powers)
    logs = [log for answer in answers for log in answer.log_probs.split(len(x_t))]
    return MaskedPosterior(x_t, process, level, blended(logs, powers))


def without_the_rare(
    answers: Sequence[CategoricalPosterior], powers: Sequence[Power], batch: int
) -> list[CategoricalPosterior]:
    """Learned factors' posteriors, those under a negative power bounded as the module's text says.

    Args:
        answers: the posteriors in their order; one may hold several factors, stacked along the batch.
        powers: one a factor, each a number or ``(B,)``.
        batch: ``B``.
    """
    found, left = [], list(powers)
    for answer in answers:
        logs = answer.log_probs.split(batch)
        own, left = left[: len(logs)], left[len(logs) :]
        if not isinstance(answer, ScorePosterior) and any(isinstance(power, Tensor) or power < 0 for power in own):
            parts = [_at_least_rare(log, power) for log, power in zip(logs, own)]
            answer = belief(answer.x_t, answer.process, answer.level, torch.cat(parts))
        found.append(answer)
    return found


def _at_least_rare(log: Tensor, power: Power) -> Tensor:
    weight, floored = shaped(power, log), log.clamp(min=math.log(_RARE / log.shape[-1]))
    if isinstance(weight, Tensor):
        return torch.where(weight < 0, floored, log)
    return floored if weight < 0 else log


def flat_posterior(x_t: Tensor, process: Chain, level: Level, dtype: torch.dtype) -> CategoricalPosterior:
    """The belief about data that are anything alike."""
    return belief(x_t, process, level, process.pull(x_t, 0.0, level.t, dtype).log())
