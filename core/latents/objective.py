r"""The training loss of autoencoders.

    loss = -log p(x | x') / D + penalty,        p(x | x') = prod_i N(x'_i, s^2)    or    prod_i Laplace(x'_i, s)

in nats per dimension, where the penalty is the autoencoder's own (`Reconstruction`).  The scale ``s`` is given or
learned with the weights; learned, it ends at the size of the error, which makes the loss a bound on the likelihood with
nothing to tune (Rybkin et al. 2021, arXiv 2006.13202).  2112.10752 has a learned Laplace scale.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..objectives import Objective, event_mean
from ..schedules import require
from .autoencoder import Autoencoder

__all__ = ["AutoencoderObjective", "Likelihood"]

Likelihood = Literal["gaussian", "laplace"]


class AutoencoderObjective(Objective):
    """The loss of an `Autoencoder`; see the module's text.

    Args:
        likelihood: of the data given their reconstruction: "laplace" (absolute error) or "gaussian" (squared error).
        scale: ``s``, in units of the data; where learning begins if it is learned.
        learn_scale: whether ``s`` is a parameter of this module.
        extra: a further loss ``extra(x, data)`` ``(B,)`` of data and reconstruction, such as a perceptual one.  If it
            is a module, freeze what is not to be trained.

    Raises:
        ValueError: for another likelihood, or a scale that is not positive.
    """

    def __init__(
        self,
        likelihood: Likelihood = "laplace",
        scale: float = 1.0,
        learn_scale: bool = False,
        extra: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        require(likelihood in get_args(Likelihood), "likelihood", likelihood, "'gaussian' or 'laplace'")
        require(0 < scale < math.inf, "scale", scale, "a positive number")
        self.likelihood = likelihood
        self.scale = scale
        self.learn_scale = learn_scale
        self.extra = extra
        log_scale = torch.tensor(math.log(scale))
        if learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def forward(  # type: ignore[override]  # what is trained is no denoiser
        self,
        autoencoder: Autoencoder,
        x: Tensor,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        """The loss of each sample.

        Args:
            autoencoder: what is trained.
            x: data, ``(B, *event)``.
            mask: None: autoencoders see the whole grid.
            generator: where random numbers are drawn from; torch's global one by default.
            condition: none: autoencoders are told nothing.

        Raises:
            ValueError: for a mask or a condition.
        """
        if mask is not None or condition:
            name = "mask" if mask is not None else min(condition)
            raise ValueError(f"{name} was given: an autoencoder takes data alone; leave it out")
        data, penalty = autoencoder(x, generator)
        loss = event_mean(self.surprise(x, data), None) + penalty
        return loss if self.extra is None else loss + self.extra(x, data)

    def surprise(self, x: Float[Tensor, "*shape"], data: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """``-log p(x_i | data_i)`` in nats."""
        error = (x - data) / self.log_scale.exp()
        if self.likelihood == "laplace":
            return error.abs() + self.log_scale + math.log(2)
        return 0.5 * error.square() + self.log_scale + 0.5 * math.log(2 * math.pi)
