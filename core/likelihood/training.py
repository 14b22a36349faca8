r"""Objectives that train a model's likelihood: the continuous-time bound itself, and DDPM's loss with a little of it.

The likelihood-weighted denoising loss (Song et al. 2021, 2101.09258), which is the bound's middle term, needs no
objective of its own: ``DenoisingObjective(LikelihoodWeighting(), LikelihoodTimes())``.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..denoisers import Denoiser, Posterior
from ..learned_schedule import LearnedSchedule
from ..objectives import Objective, ask, check_data, denoising_loss, event_mean, noise_like
from ..schedules import require, wide
from ..sdes import check_whole
from ..training_times import StratifiedTimes, TrainingTimes, UniformTimes
from ..weightings import UniformWeighting, Weighting
from .bounds import Data, bin_nats, density_nats, prior_kl
from .continuous import expected_decoder_nats
from .discrete import decoder_variance, step_kl
from .units import UniformDequantisation

__all__ = ["HybridObjective", "VariationalObjective"]


class VariationalObjective(Objective):
    """The continuous-time bound in nats a coordinate, for a schedule whose log-SNR is finite at both ends.

    Kingma et al. 2021 (arXiv 2107.00630), eq. 11: prior, diffusion and reconstruction.  Under a `LearnedSchedule` its
    ends receive the bound's gradient, and its shape that of the diffusion term's second moment (their appendix D),
    taken at fixed log-SNR, where it needs no derivative of the network: of ``E_t[L^2]`` the gradient is ``E_t[L^2
    grad log rate]``.  The value is the bound alone.

    Args:
        times: at which times to train; by default stratified, which lowers the variance.
        quantisation: as in `ContinuousBound`.
    """

    def __init__(self, times: TrainingTimes | None = None, quantisation: UniformDequantisation | None = None) -> None:
        super().__init__()
        if not isinstance(times, TrainingTimes | None):
            raise TypeError(f"times={times!r}: expected TrainingTimes, such as StratifiedTimes()")
        self.times = times if times is not None else StratifiedTimes()
        self.quantisation = quantisation

    def forward(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        *,
        mask: Bool[Tensor, "batch n"] | None = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        check_whole(denoiser.process, type(self).__name__)
        data = Data.checked(x0, mask, condition, self.quantisation)
        schedule = denoiser.process.schedule
        t, factor = self.times.draw(len(x0), denoiser.process, generator)
        x0, eps, posterior = ask(denoiser, x0, t, mask, generator, condition)
        t = torch.as_tensor(posterior.level.t)
        rate = -schedule.d_log_snr(t)
        diffusion = 0.5 * rate * data.sum((eps - posterior.eps) ** 2)
        if self.training:
            self.times.update(t, diffusion.detach() / data.dim)
        factor = torch.as_tensor(factor).to(diffusion)
        loss = (self._ends(denoiser, data, generator) + factor * diffusion) / data.dim
        if isinstance(schedule, LearnedSchedule):
            size = (factor * diffusion / data.dim).detach() ** 2
            moment = size * schedule.rate_at(t) / rate.detach()
            loss = loss + moment - moment.detach()
        return loss.to(x0.dtype)

    def _ends(self, denoiser: Denoiser, data: Data, generator: torch.Generator | None) -> Tensor:
        """Prior and reconstruction, ``(B,)``."""
        ends = torch.tensor([0.0, 1.0], dtype=wide(data.x0).dtype, device=data.x0.device)
        first, last = (denoiser.process.level(ends[i : i + 1].expand(len(data.x0))) for i in (0, 1))
        if not (torch.as_tensor(first.log_snr).isfinite().all() and torch.as_tensor(last.log_snr).isfinite().all()):
            raise ValueError(
                f"{denoiser.process.schedule}: log-SNR is infinite at an end, and so is the bound's estimate; train "
                "with a LearnedSchedule, or with LikelihoodWeighting at LikelihoodTimes"
            )
        prior = prior_kl(data, last)
        if self.quantisation is None:
            return prior + expected_decoder_nats(data, torch.as_tensor(first.log_snr))
        shaped = first.like(data.x0)
        mean = data.noised(shaped, noise_like(data.x0, generator)) / shaped.alpha
        variance = (-wide(torch.as_tensor(shaped.log_snr))).exp()
        return prior + bin_nats(data, mean, variance, self.quantisation)


class HybridObjective(Objective):
    r"""Denoising loss plus a little of the discrete bound, from which the reverse variances are learned.

    ``loss = w |x_0 - mean|^2 / D + vlb_weight steps L_t / D`` with ``L_t`` the bound's term of the step from ``t`` to
    ``t - 1 / steps`` in nats (`VariationalBound`), where the mean is held fixed, so that the bound trains the
    variance alone.  Nichol and Dhariwal 2021 (arXiv 2102.09672), section 3.1 and eq. 16.

    Args:
        vlb_weight: the paper's ``lambda``, at least 0.
        steps: of the discrete model; times are rounded up to multiples of ``1 / steps``.
        weighting: of the denoising loss; by default DDPM's simple loss.
        times: at which times to train; by default uniform.
        quantisation: levels of integer data, whose probability the last term then is; None for a density.

    Raises:
        AttributeError: for a denoiser that has no learned variance (`LearnedVarianceDenoiser` has).
    """

    def __init__(
        self,
        vlb_weight: float = 0.001,
        steps: int = 1000,
        weighting: Weighting | None = None,
        times: TrainingTimes | None = None,
        quantisation: UniformDequantisation | None = None,
    ) -> None:
        super().__init__()
        require(vlb_weight >= 0, "vlb_weight", vlb_weight, "a number of at least 0")
        require(steps >= 1, "steps", steps, "at least 1")
        self.vlb_weight = vlb_weight
        self.steps = steps
        self.weighting = weighting if weighting is not None else UniformWeighting()
        self.times = times if times is not None else UniformTimes()
        self.quantisation = quantisation

    def forward(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        *,
        mask: Bool[Tensor, "batch n"] | None = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        check_whole(denoiser.process, type(self).__name__)
        check_data(x0, mask)
        drawn, factor = self.times.draw(len(x0), denoiser.process, generator)
        # Up to rounding: a time that is a multiple already stays.
        index = (drawn * self.steps - 1e-9).ceil().clamp(1, self.steps)
        x0, eps, posterior = ask(denoiser, x0, index / self.steps, mask, generator, condition)
        simple = denoising_loss(self.weighting, x0, eps, posterior, mask)
        bound = self.steps * self._term(x0, posterior, (index - 1).to(x0.device) / self.steps, mask)
        loss = simple + self.vlb_weight * bound.to(simple)
        if self.training:
            self.times.update(drawn, loss)
        return loss * (factor.to(loss) if isinstance(factor, Tensor) else factor)

    def _term(self, x0: Tensor, posterior: Posterior, s: Tensor, mask: Tensor | None) -> Tensor:
        """The bound's term of each sample's step, nats a coordinate."""
        mean, t = posterior.mean.detach(), torch.as_tensor(posterior.level.t)
        s = s.to(t)
        clean = posterior.process.schedule.sigma(s) == 0
        # Where the step ends in clean data its place is taken by the decoder, and it must not give a NaN.
        square = wide(x0 - mean) ** 2
        kl = event_mean(step_kl("learned", square, posterior, t, torch.where(clean, 0.5 * t, s)), mask)
        if not clean.any():
            return kl
        data, variance = Data(x0, mask, {}), decoder_variance("learned", posterior)
        if self.quantisation is None:
            decoder = density_nats(data, square, variance)
        else:
            decoder = bin_nats(data, mean, variance, self.quantisation)
        return torch.where(clean, decoder / data.dim, kl)
