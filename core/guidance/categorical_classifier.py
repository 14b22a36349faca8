"""Classifier guidance on categories: kernels weighted by ``p(y | x)`` of the states that they can lead to."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..chains import AbsorbingChain, CategoricalPosterior, Chain
from ..chains.base import spread
from ..denoisers import Denoiser
from ..products import ProductPosterior, ProductProcess
from ..schedules import Time, require
from .categorical import GuidedMaskedPosterior, GuidedPosterior

__all__ = ["CategoricalClassifierGuidance", "Evaluation"]

Evaluation = Literal["exact", "first_order"]


class CategoricalClassifierGuidance(Denoiser[Any]):
    r"""Weights the reverse kernel of each position by a classifier: ``p(x_s | x_t) p(y | x_t with x_s here)^scale``.

    Schiff et al. 2024 (D-CBG, arXiv 2412.10193, section 3), with the classifier at the time ``t`` and the other
    positions as they are.  The exact classifier with ``scale = 1`` gives the conditional kernel of each position: under
    an `AbsorbingChain`, where time tells the classifier nothing, at any step; else up to the square of its length, and
    rates (`TauLeaping`) exactly.

    "exact" asks the classifier about every change of a single position: ``N (S - 1)`` a sample and one more, under
    masks only of masked positions.  "first_order" takes ``log p(y | x with v here) = log p(y | x) + grad_v -
    grad_x`` with the gradient at the one-hot state, for a forward and a backward pass in all.

    On a `ProductProcess` the kernels of all its chains are weighted; the classifier sees all components.

    Args:
        denoiser: what is steered.
        classifier: called as ``classifier(x, t, **condition)``, answers with ``log p(y | x_t)``, ``(B,)`` in nats;
            ``x`` are states ``(B, *N)`` int64, or one-hot ``(B, *N, S)`` for "first_order"; of a product a dict.
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
        denoiser: Denoiser[Any],
        classifier: Callable[..., Tensor],
        scale: float = 1.0,
        evaluation: Evaluation = "exact",
        reserved: Sequence[str] = (),
        chunk: int = 4096,
    ) -> None:
        super().__init__(denoiser.process)
        parts = getattr(denoiser.process, "components", {"": denoiser.process})
        if not all(isinstance(part, Chain) for part in parts.values()):
            raise TypeError(
                f"denoiser of {denoiser.process}: expected one of a Chain, or of a product of chains; "
                "ClassifierGuidance serves an SDE"
            )
        require(evaluation in get_args(Evaluation), "evaluation", evaluation, "'exact' or 'first_order'")
        require(chunk >= 1, "chunk", chunk, "at least 1")
        self.denoiser = denoiser
        self.classifier = classifier
        self.scale = scale
        self.evaluation = evaluation
        self.reserved = tuple(reserved)
        self.chunk = chunk

    def forward(self, x_t: Any, t: Time, **condition: Any) -> Any:
        rest = {name: value for name, value in condition.items() if name not in self.reserved}
        posterior = self.denoiser(x_t, t, **rest)
        if self.scale == 0:
            return posterior
        given = {name: value for name, value in condition.items() if value is not None and name != "estimate"}
        if not isinstance(self.process, ProductProcess):
            dtype = posterior.logits.dtype
            evidence = self._evidence({"": x_t}, {"": self.process}, lambda parts: parts[""], t, given, dtype)
            return self._weighted(posterior, evidence[""])
        dtype = next(iter(posterior.values())).logits.dtype
        evidence = self._evidence(x_t, self.process.components, lambda parts: parts, t, given, dtype)
        return ProductPosterior({name: self._weighted(posterior[name], value) for name, value in evidence.items()})

    def _weighted(self, posterior: CategoricalPosterior, evidence: Tensor) -> CategoricalPosterior:
        process, evidence = posterior.process, evidence.to(posterior.logits.dtype)
        if isinstance(process, AbsorbingChain):
            return GuidedMaskedPosterior(posterior, evidence, self.scale)
        return GuidedPosterior(posterior.x_t, process, posterior.level, [posterior], [1.0], evidence, self.scale)

    def _evidence(
        self,
        parts: Mapping[str, Tensor],
        chains: Mapping[str, Any],
        whole: Callable[[Mapping[str, Tensor]], Any],
        t: Time,
        condition: Mapping[str, Any],
        dtype: torch.dtype,
    ) -> dict[str, Tensor]:
        """``log p(y | x)`` of the changes of each position, by component ``(B, *N, S)``; ``whole`` makes a state of its
        components.
        """
        if self.evaluation == "exact":
            own = self._ask(whole(parts), t, condition)
            masks = self.process.expand_mask(condition.get("mask"))
            masks = masks if isinstance(self.process, ProductProcess) else {"": masks}
            return {
                name: self._exact(name, parts, chain, own, masks[name], whole, t, condition)
                for name, chain in chains.items()
            }
        states = {name: nn.functional.one_hot(parts[name], chain.states).to(dtype) for name, chain in chains.items()}
        with torch.enable_grad():
            variables = {name: state.requires_grad_() for name, state in states.items()}
            total = self._ask(whole(variables), t, condition).sum()
            slopes = torch.autograd.grad(total, list(variables.values()), allow_unused=True)
        return {
            name: torch.zeros_like(states[name]) if slope is None else slope
            for name, slope in zip(variables, slopes, strict=True)
        }

    def _exact(
        self,
        name: str,
        parts: Mapping[str, Tensor],
        chain: Chain,
        own: Tensor,
        mask: Tensor | None,
        whole: Callable[[Mapping[str, Tensor]], Any],
        t: Time,
        condition: Mapping[str, Any],
    ) -> Tensor:
        """``log p(y | x_t with v in a position)`` ``(B, *N, S)`` of a component; where nothing can change, ``own``,
        that of ``x_t``, for all.
        """
        x_t, others = parts[name], chain.states - 1
        flat = x_t.flatten(1)
        evidence = own[:, None].expand(-1, flat[0].numel() * chain.states).reshape(-1, chain.states)
        free = x_t == chain.mask if isinstance(chain, AbsorbingChain) else torch.ones_like(x_t).bool()
        if mask is not None:
            free = free & spread(mask, x_t.ndim)
        place = free.flatten().nonzero()[:, 0].repeat_interleave(others)
        step = torch.arange(len(place), device=x_t.device) % others
        value = (flat.flatten()[place] + 1 + step) % chain.states
        found = [own[:0]]  # nothing, where nothing can change
        for where, v in zip(place.split(self.chunk), value.split(self.chunk)) if len(place) else ():
            sample, position = where // flat.shape[1], where % flat.shape[1]
            changed = flat[sample].scatter(1, position[:, None], v[:, None]).reshape(-1, *x_t.shape[1:])
            states = {key: changed if key == name else part[sample] for key, part in parts.items()}
            told = {key: _of(sample, each, len(x_t)) for key, each in condition.items()}
            found.append(self._ask(whole(states), _of(sample, t, len(x_t)), told))
        return evidence.index_put((place, value), torch.cat(found)).reshape(*x_t.shape, -1)

    def _ask(self, x: Any, t: Time, condition: Mapping[str, Any]) -> Tensor:
        value, batch = self.classifier(x, t, **condition), len(x if isinstance(x, Tensor) else next(iter(x.values())))
        if value.shape != (batch,):
            raise ValueError(f"classifier returned shape {tuple(value.shape)}: expected one number a sample")
        return value


def _of(sample: Tensor, value: Any, batch: int) -> Any:
    """The rows of the samples, of a value that has one row a sample, or of several by name."""
    if isinstance(value, Mapping):
        return {name: _of(sample, each, batch) for name, each in value.items()}
    per_sample = isinstance(value, Tensor) and value.ndim > 0 and len(value) == batch
    return value[sample.to(value.device)] if per_sample else value
