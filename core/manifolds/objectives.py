r"""Riemannian score matching.

    denoising   E w(t) |score_theta(x_t, t) - grad log K_s(x_t, x_0)|^2 / D,
    implicit    E w(t) [|score_theta|^2 + 2 div score_theta] / D,

which differ by a constant (De Bortoli et al. 2022, 2202.02763, section 3, losses DSM and ISM); ``D`` counts the
dimensions of a sample's real points.  Two weights are natural:

    normalised  w = 1 / rms^2, the inverse of the kernel's expected squared score per dimension (Jing et al. 2022,
                2206.01729, section 3.2): the loss of a score of zero is 1 at all times;
    likelihood  w = D ds/dt / 2: the loss bounds the negative log-likelihood but for a constant (Song et al. 2021,
                2101.09258).

The implicit loss has the second alone: under the first its variance grows like ``1 / rms^2``, without bound, as the
data are forgotten.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..denoisers import Denoiser
from ..objectives import Corrupted, Objective, PosteriorObjective, noise_like, placed
from ..schedules import require
from ..training_times import TrainingTimes, UniformTimes
from .denoisers import RiemannianPosterior
from .divergence import divergence
from .masks import blanked, total
from .process import RiemannianProcess

__all__ = ["RiemannianImplicitScoreMatching", "RiemannianScoreMatching"]

Weight = Literal["normalised", "likelihood"]


class RiemannianScoreMatching(PosteriorObjective):
    """Denoising score matching on a manifold; see the module's text.

    Args:
        times: at which times to train; by default uniform.
        weighting: "normalised" or "likelihood".
    """

    def __init__(self, times: TrainingTimes | None = None, weighting: Weight = "normalised") -> None:
        super().__init__(times if times is not None else UniformTimes())
        require(weighting in ("normalised", "likelihood"), "weighting", weighting, "'normalised' or 'likelihood'")
        self.weighting: Weight = weighting

    def corrupt(
        self, process: RiemannianProcess, x0: Tensor, t: Tensor, mask: Tensor | None, generator: torch.Generator | None
    ) -> Corrupted:
        """Refuse data off the manifold, and draw from the heat kernel."""
        process.manifold.check(x0, "x0", mask)
        x_t = process.marginal(x0, t).sample(noise_like(x0, generator))
        return Corrupted(x0, blanked(x_t, mask), t)

    def judge(
        self, posterior: RiemannianPosterior, corrupted: Corrupted, mask: Tensor | None
    ) -> Float[Tensor, "batch"]:
        process, x_t = posterior.process, corrupted.x_t
        error = posterior.score.double() - process.marginal(corrupted.x0, corrupted.t).score(x_t)
        square = process.manifold.inner(error, error)
        return weighted(process, corrupted.t, self.weighting, square, total(square, mask), mask).to(x_t.dtype)


class RiemannianImplicitScoreMatching(Objective):
    """Implicit score matching on a manifold, which needs no kernel's score, with the likelihood weighting and the exact
    divergence or Hutchinson's estimate.

    Args:
        times: at which times to train; by default uniform.
        trace: "exact", at the cost of a derivative for every dimension, or "hutchinson", one derivative.
    """

    def __init__(
        self,
        times: TrainingTimes | None = None,
        trace: Literal["exact", "hutchinson"] = "exact",
    ) -> None:
        super().__init__()
        if not isinstance(times, TrainingTimes | None):
            raise TypeError(f"times={times!r}: expected TrainingTimes, such as UniformTimes()")
        require(trace in ("exact", "hutchinson"), "trace", trace, "'exact' or 'hutchinson'")
        self.times = times if times is not None else UniformTimes()
        self.trace = trace

    def forward(
        self,
        denoiser: Denoiser[Any],
        x0: Tensor,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        process: RiemannianProcess = denoiser.process
        manifold, training = process.manifold, torch.is_grad_enabled()
        manifold.check(x0, "x0", mask)
        t, factor = self.times.draw(len(x0), process, generator)
        t = placed(t, x0.device)
        if mask is not None:
            condition = condition | {"mask": mask}
        with torch.enable_grad():
            x = process.marginal(x0, t).sample(noise_like(x0, generator)).detach()
            x = blanked(x, mask).requires_grad_()
            score = denoiser(x, t, **condition).score
            probe = None if self.trace == "exact" else manifold.white(x.detach(), noise_like(x.detach(), generator))
            square = manifold.inner(score, score)
            value = total(square, mask) + 2 * divergence(manifold, score, x, mask, probe, create_graph=True)
        loss = weighted(process, t, "likelihood", square, value.double(), mask).to(x0.dtype)
        loss = loss if training else loss.detach()
        if self.training:
            self.times.update(t, loss)
        return loss * (factor.to(loss) if isinstance(factor, Tensor) else factor)


def weighted(
    process: RiemannianProcess, t: Tensor, weighting: Weight, points: Tensor, value: Tensor, mask: Tensor | None
) -> Tensor:
    """``w value / D`` of each sample, ``(B,)``, with ``D`` for numbers ``points`` ``(B, *N)``, one a point; 0 where the
    state is uniform to rounding, and the normalised weight infinite.
    """
    s = process.variance(t)
    dims = total(torch.ones_like(points), mask).clamp(min=1) * process.manifold.dim
    if weighting == "normalised":
        log = -2 * process.manifold.kernel.rms(s).log()
    else:
        log = s.log() + (-0.5 * process.schedule.d_log_snr(t.double())).log() + dims.log()
    known = log.isfinite()
    return torch.where(known, log, 0.0).exp() * torch.where(known, value, 0.0) / dims
