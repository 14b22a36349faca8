r"""Samples within a set that are drawn freely first: a constraint in each step is for what free draws do not reach.

In short steps a sampler of categories follows, position by position, what the belief says of each, and that is right
for all positions together. A constraint in each step changes what single positions become: of two places of which
exactly one is taken, each with probability 1/2, a draw that may not take both takes each in 1/3. Many steps add up to
samples within the set that are unlike the data, while free ones are seldom out of it if the denoiser is good. So

.. math::

    x \sim p, \qquad \text{while } x \notin A: \quad
    x \leftarrow x' \sim K_t(x' | x) = \int q(x_t | x) \, p(x' | x_t) \, dx_t,

with ``K_t`` of `perturb_and_reverse`, which leaves the denoiser's distribution ``p`` as it is. At ``t = 1`` the draws
do not depend on each other, and what is drawn is ``p(x | A)`` (rejection sampling, von Neumann 1951); a smaller ``t``
keeps what is coarse and costs less. What is out of the set after so many draws is drawn within the constraint, step by
step, from where the run began.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from .denoisers import Denoiser
from .noise import BegunNoise, ForkedStream, NoiseSource, noise_source
from .perturb import perturb_and_reverse
from .process import State, batch_size
from .samplers import ProductSampler, SampleStep
from .schedules import require

__all__ = ["FreeFirst"]


@dataclass(frozen=True)
class FreeFirst(ProductSampler):
    """A `ProductSampler` that holds to its constraint only where free draws do not; see the module's text.

    Args:
        steps, grid, denoise, samplers, constraint: as for `ProductSampler`; the constraint says what it `allows`.
        tries: draws without the constraint, at most; at least 1.
        back: the time ``t``, in (0, 1], from which samples are drawn again, in as many steps as the grid has below it.

    Raises:
        ValueError: for no tries, or another time.

    Example:
        >>> from ornstein.core import CategoricalAncestral, EnumeratedDenoiser, IndependentDenoisers, PowerSchedule
        >>> from ornstein.core import StateConstraint, UniformChain
        >>> class Heads(StateConstraint):
        ...     def keep(self, step):
        ...         return {"coin": torch.where(step.free["coin"], 1, step.after["coin"])}
        ...
        ...     def allows(self, data, real):
        ...         return data["coin"][:, 0] == 1
        >>> coin = EnumeratedDenoiser(UniformChain(2, PowerSchedule()), torch.tensor([0.5, 0.5]))
        >>> sampler = FreeFirst(4, samplers={"coin": CategoricalAncestral()}, constraint=Heads())
        >>> sampler.sample(IndependentDenoisers({"coin": coin}), {"coin": (3, 1)}, seed=0)["coin"].tolist()
        [[1], [1], [1]]
    """

    tries: int = field(default=4, kw_only=True)
    back: float = field(default=0.5, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.tries >= 1, "tries", self.tries, "at least 1")
        require(0 < self.back <= 1, "back", self.back, "a time in (0, 1]")

    @classmethod
    def of(cls, sampler: ProductSampler, tries: int = 4, back: float = 0.5) -> "FreeFirst":
        """The sampler, free first."""
        settings = {one.name: getattr(sampler, one.name) for one in fields(ProductSampler)}
        return cls(**settings, tries=tries, back=back)

    @torch.no_grad()
    def sample(
        self,
        denoiser: Denoiser[Any],
        shape: Sequence[int] | Mapping[str, Sequence[int]],
        *,
        seed: int | None = None,
        noise: NoiseSource | None = None,
        x: State | None = None,
        condition: Mapping[str, Any] | None = None,
        mask: State | None = None,
        given: State | None = None,
        first: int = 0,
        progress: bool = False,
        callback: Callable[[SampleStep], None] | None = None,
    ) -> Any:
        """Draw samples; arguments as for `Sampler.sample`.

        The callback sees the steps of the first draw of all samples.

        Raises:
            TypeError, ValueError: as for `Sampler.sample`; a constraint that does not say what it allows, or a noise
                source whose draws belong to times.
        """
        self.check_process(denoiser.process)
        stream = ForkedStream.of(noise_source(seed, noise).begin(batch_size(shape), first), len(self.samplers))
        told: dict[str, Any] = {"x": x, "condition": condition, "mask": mask, "given": given}
        free = self._with(None if self.constraint is None else self.constraint.free)
        drawn = free.sample(
            denoiser, shape, noise=BegunNoise(stream), first=first, progress=progress, callback=callback, **told
        )
        if self.constraint is None:
            return drawn
        for count in range(1, self.tries + 1):
            out = self._out(denoiser, drawn, mask)
            if not len(out):
                break
            own, some = BegunNoise(stream.rows(out.cpu())), _rows({**told, "drawn": drawn}, out)
            before = some.pop("drawn")
            if count < self.tries:
                again = self._again(free, denoiser, before, noise=own, **some)
            else:
                part = {name: value.shape for name, value in before.items()}
                again = self._with(self.constraint).sample(denoiser, part, noise=own, **some)
            drawn = {name: value.index_copy(0, out, again[name]) for name, value in drawn.items()}
        return drawn

    def _with(self, constraint: Any) -> ProductSampler:
        """The same steps under another constraint, of all samples at once."""
        settings = {one.name: getattr(self, one.name) for one in fields(ProductSampler)}
        return ProductSampler(**settings | {"constraint": constraint})

    def _out(self, denoiser: Denoiser[Any], drawn: dict[str, Tensor], mask: State | None) -> Tensor:
        """The numbers of the samples that are out of the set."""
        masks = denoiser.process.expand_mask(mask)
        real = {name: torch.ones_like(value, dtype=torch.bool) for name, value in drawn.items()}
        for name, part in masks.items():
            if part is not None:
                real[name] = real[name] & part.reshape(*part.shape, *[1] * (real[name].ndim - part.ndim))
        assert self.constraint is not None
        return (~self.constraint.allows(drawn, real)).nonzero()[:, 0]

    def _again(self, free: ProductSampler, denoiser: Denoiser[Any], before: Any, *, x: Any, **told: Any) -> Any:
        """Samples, drawn again from what is left of them at ``back``, or where the run began if that is less noise."""
        times = self.grid(self.steps, denoiser.process)
        back = min(self.back, float(times[0])) if x is not None else self.back
        below = int((times < back).sum())
        return perturb_and_reverse(denoiser, before, back, replace(free, steps=max(below, 1)), **told)


def _rows(told: Mapping[str, Any], numbers: Tensor) -> dict[str, Any]:
    """Some samples' part of all tensors, by name, that hold one row for each."""
    count = len(next(iter(told["drawn"].values())))

    def some(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: some(part) for name, part in value.items()}
        if isinstance(value, Tensor) and value.ndim and len(value) == count:
            return value[numbers.to(value.device)]
        return value

    return some(told)
