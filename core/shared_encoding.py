"""Several noise draws of a sample for one encoding of what is known of it, in training as in sampling."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .denoisers import Denoiser
from .objectives import Objective, restored, shaped_mask
from .schedules import require

__all__ = ["SharedEncoding"]


class SharedEncoding(Objective):
    """A loss averaged over several noise draws of each sample, which share the encoding of what is known.

    For networks of two parts: ``encode(x, given=, **condition)`` reads what is known alone, and ``forward`` with its
    result as the condition ``context`` is the cheap rest. The average has the expectation of the loss of one draw, and
    less variance for little more work.

    Args:
        objective: the loss.
        draws: noise draws of a sample.

    Raises:
        TypeError: for a loss that is none, or a denoiser whose network has no ``encode``.

    Example:
        >>> from ornstein.core import DenoisingObjective
        >>> SharedEncoding(DenoisingObjective(), draws=4).draws
        4
    """

    def __init__(self, objective: Objective, draws: int = 4) -> None:
        super().__init__()
        if not isinstance(objective, Objective):
            raise TypeError(f"objective={objective!r}: expected an Objective, such as DenoisingObjective()")
        whole = isinstance(draws, int) and not isinstance(draws, bool)
        require(whole and draws >= 1, "draws", draws, "a whole number of at least 1")
        self.objective = objective
        self.draws = draws

    def forward(
        self,
        denoiser: Denoiser[Any],
        x0: Any,
        *,
        mask: Any = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        encode = getattr(getattr(denoiser, "network", None), "encode", None)
        if encode is None:
            raise TypeError(f"{type(denoiser).__name__} has no network with encode: expected one of two parts")
        told = condition if mask is None else condition | {"mask": mask}
        given = condition.get("given")
        # Nothing but what is given may reach the encoding, whatever the network does with the rest.
        known = torch.zeros_like(x0) if given is None else restored(torch.zeros_like(x0), x0, given)
        known = known if mask is None else known * shaped_mask(denoiser.process.expand_mask(mask), known)
        context = encode(known / getattr(denoiser, "sigma_data", 1.0), **told)  # as `NetworkDenoiser` shows it

        # Draws of a sample lie a batch apart, so that times that are spread over the batch are spread over them too.
        def repeated(value: Any) -> Any:
            return value.repeat(self.draws, *[1] * (value.ndim - 1)) if isinstance(value, Tensor) else value

        losses = self.objective(
            denoiser,
            repeated(x0),
            mask=repeated(mask),
            generator=generator,
            context=repeated(context),
            **{name: repeated(value) for name, value in condition.items()},
        )
        return losses.unflatten(0, (self.draws, -1)).mean(0)
