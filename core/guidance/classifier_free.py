"""Classifier-free guidance, within an interval of times and with rescaling."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..chains import Chain
from ..denoisers import Denoiser
from ..schedules import Time, require
from ._parts import as_tensors, check_interval, on_batch, within
from .extrapolation import extrapolated

__all__ = ["ClassifierFreeGuidance"]

# Conditions that say where data are, or what was last thought of them; they stay when the others are dropped.
_KEPT = frozenset({"mask", "given", "segments", "sizes", "estimate"})


class ClassifierFreeGuidance(Denoiser[Any]):
    r"""Moves the posterior mean away from the unconditional one: ``mean_u + scale (mean_c - mean_u)``.

    Ho and Salimans 2022 (arXiv 2207.12598), eq. 6, for posterior means (the same for eps, score and v, which are
    affine in the mean).  ``scale = 1`` is the conditional denoiser, 0 the unconditional, above 1 trades variety for
    agreement.

    Outside of ``interval`` the conditional denoiser alone is used (Kynkäänniemi et al. 2024, 2404.07724), at half the
    cost.  With ``rescale = phi`` the guided mean is scaled towards the conditional mean's standard deviation over
    each sample's coordinates, ``phi std_c / std_g + 1 - phi`` (Lin et al. 2024, 2305.08891, eqs. 15-16); where the
    guided mean is constant it is left alone.

    On a `Chain` the reverse kernels of each position are multiplied instead, ``p_c^scale p_u^(1 - scale)`` (Schiff et
    al. 2024, 2412.10193, section 3); under masks it is the beliefs, so that as many positions show as without guidance.
    See the module `categorical`.  On a `ProductProcess` each component is guided as it would be alone.

    The unconditional call leaves out the conditions, all but ``mask``, ``given``, ``segments``, ``sizes`` and
    ``estimate``, which say where the data are and what was last thought of them.  Integer conditions (labels) become
    -1, "no label", and both calls are one batch of twice the size, but on a product.

    Args:
        denoiser: trained with conditions dropped now and then.
        scale: strength of guidance.
        interval: times within which guidance acts, ``(low, high)``, ends included.
        rescale: ``phi``, 0 to 1; 0 on a chain, and on a product that has one.
        unconditional: conditions of the unconditional call, for denoisers with a null condition of their own (a
            negative prompt); one row for all samples, or one a sample.
    """

    def __init__(
        self,
        denoiser: Denoiser[Any],
        scale: float,
        interval: tuple[float, float] = (0.0, 1.0),
        rescale: float = 0.0,
        unconditional: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(denoiser.process)
        check_interval(interval)
        require(0 <= rescale <= 1, "rescale", rescale, "a number from 0 to 1")
        parts = getattr(denoiser.process, "components", {"": denoiser.process})
        chain = any(isinstance(part, Chain) for part in parts.values())
        require(not (chain and rescale), "rescale", rescale, "0 on a chain: probabilities have no scale")
        self.denoiser = denoiser
        self.scale = scale
        self.interval = interval
        self.rescale = rescale
        self.unconditional = as_tensors(unconditional)

    @property
    def remember(self) -> Callable[..., Any] | None:
        """As `PrefixDenoiser` has it: both calls' memories; None of a denoiser that has no such method."""
        return None if getattr(self.denoiser, "remember", None) is None else self._remember

    def _remember(self, x: Tensor, memory: Any = None, **condition: Any) -> tuple[Any, Any]:
        calls = condition, self._null(condition, x)
        return tuple(
            self.denoiser.remember(x, None if memory is None else memory[i], **told)  # type: ignore[operator]
            for i, told in enumerate(calls)
        )

    def forward(self, x_t: Any, t: Time, memory: tuple[Any, Any] | None = None, **condition: Any) -> Any:
        condition = {name: value for name, value in condition.items() if value is not None}
        steering = {name: value for name, value in condition.items() if name not in _KEPT}
        if not steering:
            raise ValueError("guidance without a condition: expected a condition to strengthen, such as label=...")
        active = within(self.interval, t)
        if self.scale == 1 or active is False:
            return self.denoiser(x_t, t, **condition, **({} if memory is None else {"memory": memory[0]}))
        answers = self._answers(x_t, t, condition, steering, memory)
        return extrapolated(self.process, x_t, t, answers, self.scale, active, self.rescale, condition.get("mask"))

    def _answers(
        self, x_t: Any, t: Time, condition: dict[str, Any], steering: dict[str, Any], memory: tuple[Any, Any] | None
    ) -> list[Any]:
        """The posteriors with and without the conditions, or both in one, stacked along the batch."""
        null = self._null(condition, x_t)
        alike = _shapes({name: value for name, value in null.items() if name not in _KEPT}) == _shapes(steering)
        if memory is not None:
            return [self.denoiser(x_t, t, memory=one, **told) for one, told in zip(memory, (condition, null))]
        if not alike or not isinstance(x_t, Tensor):
            return [self.denoiser(x_t, t, **condition), self.denoiser(x_t, t, **null)]
        double = {name: torch.cat([value, null.get(name, value)]) for name, value in condition.items()}
        twice = torch.cat([t, t]) if isinstance(t, Tensor) and t.ndim > 0 else t
        return [self.denoiser(torch.cat([x_t, x_t]), twice, **double)]

    def _null(self, condition: Mapping[str, Any], x_t: Any) -> dict[str, Any]:
        """The conditions of the unconditional call."""
        kept = {name: value for name, value in condition.items() if name in _KEPT}
        steering = {name: value for name, value in condition.items() if name not in _KEPT}
        some = x_t if isinstance(x_t, Tensor) else next(iter(x_t.values()))
        if self.unconditional is not None:
            return kept | on_batch(self.unconditional, some)
        if all(not v.is_floating_point() and v.dtype != torch.bool for v in steering.values()):
            return kept | {name: torch.full_like(value, -1) for name, value in steering.items()}
        return kept


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in tensors.items()}
