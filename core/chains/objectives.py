r"""Training losses on categories, in nats a position.

The bound on ``-log p(x_0)`` is, but for its prior term (`Chain.left`), which nothing learns,

    discrete     sum_i E KL(q(x_s | x_t, x_0) || p(x_s | x_t)),  t = i / T,  s = t - 1 / T      2107.03006, eq. 1
    continuous   int_0^1 E sum_(y != x_t) R_t[y, x_t] [...] dt                                  2310.16834, theorem 3.6

(`CategoricalPosterior.step_divergence`, `moment_divergence`).  The second is the limit of the first.  Under masks it is
a weighted cross-entropy (2406.07524, eq. 10; 2406.04329, eq. 5), under uniform noise UDLM's bound (2412.10193, eq. 18),
and for a network that predicts the ratios SEDD's diffusion-weighted denoising score entropy.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..objectives import Corrupted, PosteriorObjective
from ..schedules import require
from ..training_times import DiscreteTimes, StratifiedTimes, TrainingTimes
from .base import Chain, spread
from .categorical import uniform_like
from .posteriors import CategoricalPosterior, MaskedPosterior

__all__ = ["CategoricalBound", "TokenCrossEntropy"]


class _CategoricalObjective(PosteriorObjective):
    """Noises categories with a draw of the chain's marginal."""

    def corrupt(
        self, process: Chain, x0: Tensor, t: Tensor, mask: Tensor | None, generator: torch.Generator | None
    ) -> Corrupted:
        """Refuse data that are no categories, and noise the real positions; the padding becomes 0, as in samplers."""
        process.check_data(x0, mask)
        x_t = process.marginal(x0, t).sample(uniform_like(x0, generator))
        if mask is not None:
            x0, x_t = (x * spread(mask, x.ndim) for x in (x0, x_t))
        return Corrupted(x0, x_t, t)


class CategoricalBound(_CategoricalObjective):
    """The bound on the negative log-likelihood, in continuous time or in steps; see the module's text.

    A sample's loss is an unbiased estimate of the whole bound (but for its prior term) from one time, divided by the
    number of its real positions.

    In continuous time and without masks, train a denoiser of "rest" or "score": one of "x0" that is not quite sure of
    its data at the end expects infinitely many jumps, and has no finite bound.  In steps, train one of "x0" or "rest":
    ratios that are those of no distribution may have no finite bound there.

    Args:
        steps: ``T`` of the bound in steps, for times ``i / T``; None for continuous time.
        cross_entropy: ``lambda`` of the hybrid loss, which adds ``-lambda log p(x_0 | x_t)`` (2107.03006, eq. 5; 0.001
            to 0.01 there).
        times: by default one draw for the whole batch with the samples evenly behind it, which lowers the variance
            (2107.03006 has independent times); in steps, uniform over the steps.

    Example:
        >>> import torch
        >>> from ornstein.core import PowerSchedule
        >>> from ornstein.core.chains import AbsorbingChain, EnumeratedDenoiser
        >>> exact = EnumeratedDenoiser(AbsorbingChain(2, PowerSchedule()), torch.eye(2))
        >>> CategoricalBound()(exact, torch.tensor([[0, 0], [1, 1]])).shape
        torch.Size([2])
    """

    def __init__(
        self, steps: int | None = None, cross_entropy: float = 0.0, times: TrainingTimes | None = None
    ) -> None:
        require(steps is None or steps >= 1, "steps", steps, "at least 1, or None for continuous time")
        require(cross_entropy >= 0, "cross_entropy", cross_entropy, "a weight of at least 0")
        default = StratifiedTimes() if steps is None else DiscreteTimes(steps)
        super().__init__(times if times is not None else default)
        self.steps = steps
        self.cross_entropy = cross_entropy

    def judge(
        self, posterior: CategoricalPosterior, corrupted: Corrupted, mask: Tensor | None
    ) -> Float[Tensor, "batch"]:
        x0, t = corrupted.x0, corrupted.t
        if self.steps is None:
            loss = posterior.moment_divergence(x0)
        else:
            loss = self.steps * posterior.step_divergence(x0, (t - 1 / self.steps).clamp(min=0))
        if self.cross_entropy:
            loss = loss - self.cross_entropy * posterior.log_prob(x0)
        return position_mean(loss, mask)


class TokenCrossEntropy(_CategoricalObjective):
    """``-log p(x_0 | x_t)``, the same weight at all noise levels.

    Over all positions it is DiGress's loss (Vignac et al. 2022, 2209.14734, section 4.2); over the masked ones alone, a
    sample's mean over these, MaskGIT's (Chang et al. 2022, 2202.04200, eq. 3).

    Args:
        over: "all" positions, or "masked" ones under an `AbsorbingChain`.
        times: at which times to train; by default as for `CategoricalBound`.
    """

    def __init__(self, over: Literal["all", "masked"] = "all", times: TrainingTimes | None = None) -> None:
        super().__init__(times if times is not None else StratifiedTimes())
        require(over in ("all", "masked"), "over", over, "'all' or 'masked'")
        self.over = over

    def judge(
        self, posterior: CategoricalPosterior, corrupted: Corrupted, mask: Tensor | None
    ) -> Float[Tensor, "batch"]:
        loss = -posterior.log_prob(corrupted.x0)
        if self.over == "all":
            return position_mean(loss, mask)
        if not isinstance(posterior, MaskedPosterior):
            raise TypeError(f"over='masked' with {posterior.process}: expected an AbsorbingChain; take over='all'")
        masked = posterior.masked if mask is None else posterior.masked & spread(mask, loss.ndim)
        return position_mean(loss, masked)


def position_mean(loss: Tensor, mask: Tensor | None) -> Float[Tensor, "batch"]:
    """Mean over the real positions of each sample, ``(B,)``."""
    if mask is None:
        return loss.flatten(1).mean(1)
    real = spread(mask, loss.ndim).expand_as(loss)
    return torch.where(real, loss, 0.0).flatten(1).sum(1) / real.flatten(1).sum(1).clamp(min=1)
