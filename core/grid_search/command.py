"""What ``ornstein tune-grid`` does with a loaded model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..grids import PowerTime
from ..guidance import ClassifierFreeGuidance
from ..samplers import DPMSolver, Sampler
from ..schedules import require
from ..training.data import DataModule
from .align import AlignYourSteps
from .bound import BoundSearch
from .matching import SamplerSearch, TunedGrid

__all__ = ["CRITERIA", "GridTuner"]

CRITERIA = ("distribution", "trajectory", "bound", "align")


@dataclass(frozen=True)
class GridTuner:
    """Chooses among the searches for an adapter.

    Args:
        criterion: "distribution" or "trajectory" of `SamplerSearch`, "bound" of `BoundSearch`, "align" of
            `AlignYourSteps`.
        method: of `SamplerSearch`.
        iterations: of `SamplerSearch`.
        reference: steps of the reference run.
        resolution: of the fine grid of `BoundSearch` and `AlignYourSteps`.
    """

    criterion: Literal["distribution", "trajectory", "bound", "align"] = "distribution"
    method: Literal["coordinate", "gradient"] = "coordinate"
    iterations: int = 100
    reference: int = 100
    resolution: int = 100

    def __post_init__(self) -> None:
        require(self.criterion in CRITERIA, "criterion", self.criterion, f"one of {', '.join(CRITERIA)}")

    def tune(
        self,
        adapter: Any,
        sampler: Sampler,
        num: int,
        *,
        data: DataModule | None = None,
        seed: int = 0,
        guidance: float | None = None,
        progress: bool = False,
        **condition: Any,
    ) -> TunedGrid:
        """A grid for ``sampler`` on the adapter's model, and the distance before and after.

        Args:
            adapter: a `DomainAdapter` whose states are single tensors without a mask.
            sampler: whose steps, and grid to start from, are meant.
            num: samples to tune on.
            data: whose first ``num`` training examples, with their conditions, take the place of the model's samples.
            seed: of the noise.
            guidance: scale of classifier-free guidance.
            progress: show a bar.
            condition: as for the adapter's ``sample``.
        """
        require(num >= 1, "num", num, "at least 1")
        denoiser = adapter.denoiser if guidance is None else ClassifierFreeGuidance(adapter.denoiser, guidance)
        prepared = {name: v.to(adapter.device) for name, v in adapter.prepare_condition(num, **condition).items()}
        x0 = None
        if data is not None:
            x0, prepared = _examples(adapter, data, num, seed)
        shape = tuple(x0.shape) if x0 is not None else adapter.state_shape(num, prepared)
        if not isinstance(shape, tuple):
            raise TypeError(f"{type(adapter).__name__} has states of several parts: expected a state of one tensor")
        criterion: Any = self.criterion if self.criterion in ("distribution", "trajectory") else "distribution"
        search = SamplerSearch(
            criterion,
            self.method,
            iterations=self.iterations,
            reference=DPMSolver(self.reference, grid=PowerTime()),
        )
        if self.criterion in ("distribution", "trajectory"):
            return search.search(denoiser, sampler, shape, data=x0, seed=seed, condition=prepared, progress=progress)
        return self._without_sampler(search, denoiser, sampler, shape, x0, seed, prepared, progress)

    def _without_sampler(
        self,
        judge: SamplerSearch,
        denoiser: Denoiser,
        sampler: Sampler,
        shape: tuple[int, ...],
        x0: Tensor | None,
        seed: int,
        condition: Mapping[str, Any],
        progress: bool,
    ) -> TunedGrid:
        known = x0
        if known is None:
            known = judge.reference.sample(denoiser, shape, seed=seed, condition=condition, progress=progress)
        search = (BoundSearch if self.criterion == "bound" else AlignYourSteps)(self.resolution)
        grid, _ = search.search(denoiser, known, sampler.steps, seed=seed, condition=condition)
        before, after = (
            judge.distance(denoiser, tried, shape, data=x0, seed=seed, first=shape[0], condition=condition)
            for tried in (sampler, replace(sampler, grid=grid))
        )
        return TunedGrid(grid, before, after, 0)


def _examples(adapter: Any, data: DataModule, num: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The states of the first ``num`` training examples, and their conditions."""
    examples = [adapter.encode(batch) for batch in data.loader(-(-num // data.batch_size), seed=seed)]
    if not all(isinstance(example.state, Tensor) and example.mask is None for example in examples):
        raise TypeError(f"{type(adapter).__name__} has masked states or such of several parts: expected single tensors")
    state = torch.cat([example.state for example in examples])[:num].to(adapter.device)
    names = examples[0].condition
    return state, {
        name: torch.cat([example.condition[name] for example in examples])[:num].to(adapter.device) for name in names
    }
