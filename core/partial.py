"""Training with parts of the data given, so that a model learns to complete what is known of a sample."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .denoisers import Denoiser
from .objectives import Objective
from .schedules import require

__all__ = ["PartlyGiven"]


class PartlyGiven(Objective):
    """Another objective, in which now and then some positions of a sample are given: not noised, and not judged.

    The denoiser is told by the condition ``given`` ``(B, N)``.  As a mask is drawn for training, so it may be asked for
    at sampling (`Sampler.sample`): infilling by a network that knows what is given (partial noising: Gong et al. 2022,
    arXiv 2210.08933; random spans: Strudel et al. 2022, 2211.04236, section 3).

    Of a sample that is chosen, a share that is drawn evenly from 0 to 1 is given, in ``spans`` runs of positions or
    fewer.  A condition ``given`` of the data themselves is left as it is.

    Args:
        objective: the loss.
        probability: with which a sample has something given.
        spans: runs of positions that are given, at most.
    """

    def __init__(self, objective: Objective, probability: float = 0.25, spans: int = 3) -> None:
        super().__init__()
        require(0 < probability <= 1, "probability", probability, "in (0, 1]")
        require(spans >= 1, "spans", spans, "at least 1")
        self.objective = objective
        self.probability = probability
        self.spans = spans

    def forward(
        self,
        denoiser: Denoiser[Any],
        x0: Any,
        *,
        mask: Any = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        if condition.get("given") is None:
            condition["given"] = self.draw(x0.shape[:2], generator).to(x0.device)
        return self.objective(denoiser, x0, mask=mask, generator=generator, **condition)

    def draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        """Where ``(B, N)`` is given, by chance; never all of a row."""
        batch, length = shape
        device = generator.device if generator is not None else None
        u = torch.rand(batch, 2 + 2 * self.spans, generator=generator, device=device)
        # Runs of random lengths that together cover about the share.
        starts, parts = u[:, 2 : 2 + self.spans], u[:, 2 + self.spans :]
        sizes = u[:, 1:2] * length * parts / parts.sum(1, keepdim=True)
        place = torch.arange(length, device=u.device)
        begin = (starts * (length - sizes)).round()
        inside = (place >= begin[..., None]) & (place < (begin + sizes.round())[..., None])
        given = inside.any(1) & (u[:, :1] < self.probability)
        return given & ~given.all(1, keepdim=True)
