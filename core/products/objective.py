"""The training loss of several components: one loss each, weighted, from one evaluation of the denoiser."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..denoisers import Denoiser
from ..objectives import Corrupted, PosteriorObjective
from ..training_times import TrainingTimes, UniformTimes
from .denoisers import ProductPosterior
from .process import ProductProcess, check_parts, check_same

__all__ = ["ProductObjective"]


class ProductObjective(PosteriorObjective):
    """``loss = sum_i weights_i loss_i``: every component is noised to the same time ``t`` by its own schedule, and the
    denoiser is asked once.

    Args:
        objectives: a loss that judges a posterior for each component; their own times are not used.
        weights: positive or zero, by component; 1 for those that are left out.
        times: at which times to train; by default uniform.

    Raises:
        ValueError: for weights of unknown components or below zero.
    """

    def __init__(
        self,
        objectives: Mapping[str, PosteriorObjective],
        weights: Mapping[str, float] | None = None,
        times: TrainingTimes | None = None,
    ) -> None:
        super().__init__(times if times is not None else UniformTimes())
        check_parts(objectives, PosteriorObjective, "objectives")
        for name, weight in (weights or {}).items():
            if name not in objectives or not 0 <= weight < float("inf"):
                raise ValueError(
                    f"weights[{name!r}]={weight!r}: expected numbers of at least 0 for some of {list(objectives)}"
                )
        self.objectives = dict(objectives)
        self.weights = weights
        self.parts = nn.ModuleList(objectives.values())

    def corrupt(
        self,
        process: ProductProcess,
        x0: Mapping[str, Tensor],
        t: Tensor,
        mask: Mapping[str, Any] | None,
        generator: torch.Generator | None,
    ) -> Corrupted:
        process.check_names(x0, "x0")
        parts = {
            name: self.objectives[name].corrupt(part, x0[name], t, mask and mask[name], generator)
            for name, part in process.components.items()
        }
        columns = ({name: part[i] for name, part in parts.items()} for i in (0, 1, 3))
        clean, noised, noise = columns
        return Corrupted(clean, noised, t, noise)

    def judge(
        self, posterior: ProductPosterior, corrupted: Corrupted, mask: Mapping[str, Any] | None
    ) -> Float[Tensor, "batch"]:
        losses, weights = self._judged(posterior, corrupted, mask), self.weights or {}
        return torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum(0)

    def _judged(
        self, posterior: ProductPosterior, corrupted: Corrupted, mask: Mapping[str, Any] | None
    ) -> dict[str, Tensor]:
        x0, x_t, t, noise = corrupted
        return {
            name: objective.judge(posterior[name], Corrupted(x0[name], x_t[name], t, noise[name]), mask and mask[name])
            for name, objective in self.objectives.items()
        }

    def ask(
        self, denoiser: Denoiser[Any], x0: Any, mask: Any, generator: torch.Generator | None, condition: dict[str, Any]
    ) -> Any:
        if not isinstance(denoiser.process, ProductProcess):
            raise TypeError(f"denoiser on {denoiser.process}: expected one on a ProductProcess")
        check_same(self.objectives, denoiser.process.components, "objectives")
        return super().ask(denoiser, x0, mask, generator, condition)

    def losses(
        self,
        denoiser: Denoiser[ProductProcess],
        x0: Mapping[str, Tensor],
        *,
        mask: Any = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> dict[str, Tensor]:
        """The losses ``(B,)`` by component, without their weights; arguments as for the sum, which with the same
        generator is made of these.
        """
        asked = self.ask(denoiser, x0, mask, generator, condition)
        factor = asked.factor
        return {
            name: loss * (factor.to(loss) if isinstance(factor, Tensor) else factor)
            for name, loss in self._judged(*asked[:3]).items()
        }
