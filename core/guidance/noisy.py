"""Training classifiers on noised data, for the guidance of denoisers."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..chains import Chain
from ..chains.base import spread
from ..chains.categorical import uniform_like
from ..embedded.table import table_of
from ..objectives import Objective, noised, placed
from ..products import ProductProcess
from ..training_times import StratifiedTimes, TrainingTimes

__all__ = ["ClassifierObjective"]


class ClassifierObjective(Objective):
    """``-log p(y | x_t)`` in nats of data noised to random times: the loss of a classifier that guides.

    Dhariwal and Nichol 2021 (arXiv 2105.05233), section 4.1; on embeddings Li et al. 2022 (2205.14217), section 5.1.

    It is called with the classifier in the place of a denoiser: it has the attribute ``denoiser``, whose states it
    sees, is called as ``classifier(x_t, t, mask=..., **condition)``, and answers with ``log p(y | x_t)``, ``(B,)``.
    Of an embedded process the data are categories; the embeddings are the denoiser's and are not trained.  Of a product
    data and states are dicts by component.

    Args:
        times: at which times to train; by default spread evenly over a batch.
    """

    def __init__(self, times: TrainingTimes | None = None) -> None:
        super().__init__()
        self.times = StratifiedTimes() if times is None else times

    def forward(
        self,
        denoiser: Any,
        x0: Any,
        *,
        mask: Any = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        steered = denoiser.denoiser
        some = next(iter(x0.values())) if isinstance(x0, Mapping) else x0
        drawn, factor = self.times.draw(len(some), steered.process, generator)
        t = placed(drawn, some.device)
        with torch.no_grad():
            if isinstance(steered.process, ProductProcess):
                steered.process.check_names(x0, "x0")
                masks = steered.process.expand_mask(mask)
                x_t: Any = {
                    name: _noised(process, x0[name], t, masks[name], generator)
                    for name, process in steered.process.components.items()
                }
            else:
                chain = isinstance(steered.process, Chain)
                data = table_of(steered).embed(x0) if x0.dtype == torch.int64 and not chain else x0
                real = None if mask is None else steered.process.expand_mask(mask)
                x_t = _noised(steered.process, data, t, real, generator)
        told = condition if mask is None else condition | {"mask": mask}
        loss = -denoiser(x_t, t, **told)
        return loss * (factor.to(loss) if isinstance(factor, Tensor) else factor)


def _noised(process: Any, x0: Tensor, t: Tensor, mask: Any, generator: torch.Generator | None) -> Tensor:
    """A draw of ``q(x_t | x_0)`` of one process; the mask is that of its states."""
    if isinstance(process, Chain):
        process.check_data(x0, mask)
        x_t = process.marginal(x0, t).sample(uniform_like(x0, generator))
        return x_t if mask is None else x_t * spread(mask, x_t.ndim)
    return noised(process, x0, t, mask, generator)[2]
