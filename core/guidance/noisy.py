"""Training classifiers on noised data, for the guidance of denoisers."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..chains import Chain
from ..chains.base import spread
from ..chains.categorical import uniform_like
from ..embedded.table import table_of
from ..objectives import Objective, noised, placed
from ..training_times import StratifiedTimes, TrainingTimes

__all__ = ["ClassifierObjective"]


class ClassifierObjective(Objective):
    """``-log p(y | x_t)`` in nats of data noised to random times: the loss of a classifier that guides.

    Dhariwal and Nichol 2021 (arXiv 2105.05233), section 4.1; on embeddings Li et al. 2022 (2205.14217), section 5.1.

    It is called with the classifier in the place of a denoiser: it has the attribute ``denoiser``, whose states it
    sees, is called as ``classifier(x_t, t, mask=..., **condition)``, and answers with ``log p(y | x_t)``, ``(B,)``.
    Of an embedded process the data are categories; the embeddings are the denoiser's and are not trained.

    Args:
        times: at which times to train; by default spread evenly over a batch.
    """

    def __init__(self, times: TrainingTimes | None = None) -> None:
        super().__init__()
        self.times = StratifiedTimes() if times is None else times

    def forward(
        self,
        denoiser: Any,
        x0: Tensor,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        steered = denoiser.denoiser
        process = steered.process
        drawn, factor = self.times.draw(len(x0), process, generator)
        t = placed(drawn, x0.device)
        with torch.no_grad():
            if isinstance(process, Chain):
                process.check_data(x0, mask)
                x_t = process.marginal(x0, t).sample(uniform_like(x0, generator))
                x_t = x_t if mask is None else x_t * spread(mask, x_t.ndim)
            else:
                data = table_of(steered).embed(x0) if x0.dtype == torch.int64 else x0
                x_t = noised(process, data, t, None if mask is None else process.expand_mask(mask), generator)[2]
        told = condition if mask is None else condition | {"mask": mask}
        return -denoiser(x_t, t, **told) * (factor.to(x_t) if isinstance(factor, Tensor) else factor)
