"""Classifier guidance on categories: kernels weighted by ``p(y | x)`` of the states that they can lead to."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..chains import AbsorbingChain, CategoricalPosterior, Chain
from ..chains.base import spread
from ..denoisers import Denoiser
from ..schedules import Time, require
from ._parts import gradient
from .categorical import GuidedMaskedPosterior, GuidedPosterior

__all__ = ["CategoricalClassifierGuidance", "Evaluation"]

Evaluation = Literal["exact", "first_order"]


class CategoricalClassifierGuidance(Denoiser[Chain]):
    r"""Weights the reverse kernel of each position by a classifier: ``p(x_s | x_t) p(y | x_t with x_s here)^scale``.

    Schiff et al. 2024 (D-CBG, arXiv 2412.10193, section 3), with the classifier at the time ``t`` and the other
    positions as they are.  The exact classifier with ``scale = 1`` gives the conditional kernel of each position: under
    an `AbsorbingChain`, where time tells the classifier nothing, at any step; else up to the square of its length, and
    rates (`TauLeaping`) exactly.

    "exact" asks the classifier about every change of a single position: ``N (S - 1)`` a sample and one more, under
    masks only of masked positions.  "first_order" takes ``log p(y | x with v here) = log p(y | x) + grad_v -
    grad_x`` with the gradient at the one-hot state, for a forward and a backward pass in all.

    Args:
        denoiser: what is steered.
        classifier: called as ``classifier(x, t, **condition)``, answers with ``log p(y | x_t)``, ``(B,)`` in nats;
            ``x`` are states ``(B, *N)`` int64, or one-hot ``(B, *N, S)`` for "first_order".
        scale: strength of guidance.
        evaluation: "exact" or "first_order".
        reserved: names of conditions that the classifier alone is given, such as ``("label",)``.
        chunk: most states in a call of the classifier, for "exact".

    Raises:
        ValueError: for another shape than ``(B,)`` from the classifier.

    Example:
        >>> import torch
        >>> from ornstein.core import PowerSchedule
        >>> from ornstein.core.chains import AbsorbingChain, EnumeratedDenoiser
        >>> from ornstein.core.guidance import CategoricalClassifierGuidance
        >>> even = EnumeratedDenoiser(AbsorbingChain(2, PowerSchedule()), torch.ones(2))
        >>> ones = lambda x, t: torch.tensor([0.1, 0.9, 0.5]).log()[x[:, 0]]
        >>> guided = CategoricalClassifierGuidance(even, ones)
        >>> guided(torch.tensor([[2]]), 0.5).probs[0, 0]
        tensor([0.1000, 0.9000, 0.0000], dtype=torch.float64)
    """

    def __init__(
        self,
        denoiser: Denoiser[Chain],
        classifier: Callable[..., Tensor],
        scale: float = 1.0,
        evaluation: Evaluation = "exact",
        reserved: Sequence[str] = (),
        chunk: int = 4096,
    ) -> None:
        super().__init__(denoiser.process)
        if not isinstance(denoiser.process, Chain):
            raise TypeError(
                f"denoiser of {denoiser.process}: expected one of a Chain; ClassifierGuidance serves an SDE"
            )
        require(evaluation in get_args(Evaluation), "evaluation", evaluation, "'exact' or 'first_order'")
        require(chunk >= 1, "chunk", chunk, "at least 1")
        self.denoiser = denoiser
        self.classifier = classifier
        self.scale = scale
        self.evaluation = evaluation
        self.reserved = tuple(reserved)
        self.chunk = chunk

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> CategoricalPosterior:
        rest = {name: value for name, value in condition.items() if name not in self.reserved}
        posterior = self.denoiser(x_t, t, **rest)
        if self.scale == 0:
            return posterior
        given = {name: value for name, value in condition.items() if value is not None and name != "estimate"}
        dtype = posterior.logits.dtype
        if self.evaluation == "exact":
            evidence = self._exact(x_t, t, given).to(dtype)
        else:
            one_hot = torch.nn.functional.one_hot(x_t, self.process.states).to(dtype)
            evidence = gradient(lambda x: self._ask(x, t, given), one_hot)
        if isinstance(self.process, AbsorbingChain):
            return GuidedMaskedPosterior(posterior, evidence, self.scale)
        return GuidedPosterior(x_t, self.process, posterior.level, [posterior], [1.0], evidence, self.scale)

    def _exact(self, x_t: Tensor, t: Time, condition: Mapping[str, Any]) -> Tensor:
        """``log p(y | x_t with v in a position)`` ``(B, *N, S)``; where nothing can change, that of ``x_t`` for all."""
        own, others = self._ask(x_t, t, condition), self.process.states - 1
        flat = x_t.flatten(1)
        evidence = own[:, None].expand(-1, flat[0].numel() * self.process.states).reshape(-1, self.process.states)
        free = x_t == self.process.mask if isinstance(self.process, AbsorbingChain) else torch.ones_like(x_t).bool()
        if condition.get("mask") is not None:
            free = free & spread(condition["mask"], x_t.ndim)
        place = free.flatten().nonzero()[:, 0].repeat_interleave(others)
        step = torch.arange(len(place), device=x_t.device) % others
        value = (flat.flatten()[place] + 1 + step) % self.process.states
        found = [own[:0]]  # nothing, where nothing can change
        for where, v in zip(place.split(self.chunk), value.split(self.chunk)) if len(place) else ():
            sample, position = where // flat.shape[1], where % flat.shape[1]
            changed = flat[sample].scatter(1, position[:, None], v[:, None]).reshape(-1, *x_t.shape[1:])
            given = {name: _of(sample, each, len(x_t)) for name, each in condition.items()}
            found.append(self._ask(changed, _of(sample, t, len(x_t)), given))
        return evidence.index_put((place, value), torch.cat(found)).reshape(*x_t.shape, -1)

    def _ask(self, x: Tensor, t: Time, condition: Mapping[str, Any]) -> Tensor:
        value = self.classifier(x, t, **condition)
        if value.shape != (len(x),):
            raise ValueError(f"classifier returned shape {tuple(value.shape)}: expected one number a sample")
        return value


def _of(sample: Tensor, value: Any, batch: int) -> Any:
    """The rows of the samples, of a value that has one row a sample."""
    per_sample = isinstance(value, Tensor) and value.ndim > 0 and len(value) == batch
    return value[sample.to(value.device)] if per_sample else value
