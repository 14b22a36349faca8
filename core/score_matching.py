r"""Score matching without knowing the score: implicit and sliced objectives.

The score of the noised data ``p_t`` is fitted by ``s``, a denoiser's score at ``x = alpha x_0 + sigma eps``.  By parts,
Fisher's divergence is, up to a constant of the data, an expectation of what the model alone says,

    E |s - grad log p_t|^2 = E [|s|^2 + 2 div s] + E |grad log p_t|^2

(Hyvarinen 2005, JMLR 6, theorem 1).  The divergence is taken exactly, or by random directions ``v`` with ``E v v^T =
1`` (Hutchinson), where the square may be replaced by ``(v . s)^2`` as well (Song et al. 2019, 1905.07088).

The loss here is ``c (|s|^2 + 2 div s) / D``, with ``c = w sigma^2 / SNR`` for a weighting ``w`` on the data's error, so
in expectation it differs by a constant from `DenoisingObjective` (Vincent 2011) of the same weighting and times; by
default ``c = sigma^2``, which Song and Ermon 2019 (1907.05600) give the levels of a noise-conditional score network.
It is twice the loss as their papers write it.
"""

from abc import abstractmethod
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .denoisers import Denoiser
from .objectives import Objective, check_data, noise_like, shaped_mask
from .parameterisations import FAR
from .schedules import require
from .sdes import Level, check_whole
from .training_times import TrainingTimes, UniformTimes
from .weightings import UniformWeighting, Weighting

__all__ = ["ImplicitScoreMatching", "SlicedScoreMatching"]


class ScoreMatching(Objective):
    """What both objectives share: noised data, the score there, and the weight.

    Args:
        weighting: weight of each noise level, stated on the data's error as everywhere; by default ``c = sigma^2``.
        times: at which times to train; by default uniform.
        log_snr: one noise level to train at instead: at 10 the noise is 0.7 % of the state, so this is score matching
            on the data as they are.
    """

    def __init__(
        self,
        weighting: Weighting | None = None,
        times: TrainingTimes | None = None,
        log_snr: float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(weighting, Weighting | None):
            raise TypeError(f"weighting={weighting!r}: expected a Weighting, such as UniformWeighting()")
        if not isinstance(times, TrainingTimes | None):
            raise TypeError(f"times={times!r}: expected TrainingTimes, such as UniformTimes()")
        require(times is None or log_snr is None, "log_snr", log_snr, "None where times are given")
        self.weighting = weighting if weighting is not None else UniformWeighting()
        self.times = times if times is not None else UniformTimes()
        self.log_snr = log_snr

    def forward(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        *,
        mask: Bool[Tensor, "batch n"] | None = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        """The loss of each sample; see `Objective`.  Each sample's score must depend on that sample alone.

        Raises:
            ValueError: at ``sigma = 0``, where a denoiser knows no score.
        """
        check_whole(denoiser.process, type(self).__name__)
        check_data(x0, mask)
        training = torch.is_grad_enabled()
        # The loss itself needs a derivative, in validation and inference mode too.
        with torch.inference_mode(False), torch.enable_grad():
            x0, mask = _usual(x0), _usual(mask)
            condition = {key: _usual(value) for key, value in condition.items()}
            t, factor = self._draw(len(x0), denoiser, generator)
            t = t.to(x0.device, torch.float32 if x0.device.type == "mps" else torch.float64)
            level = denoiser.process.level(t)
            shaped = level.like(x0)
            keep = torch.ones_like(x0) if mask is None else shaped_mask(mask, x0).expand_as(x0)
            if mask is not None:
                condition["mask"] = mask
            x = keep * (shaped.alpha * x0 + shaped.sigma * noise_like(x0, generator))
            x = x.detach().requires_grad_()
            score = keep * denoiser(x, t, **condition).score
            loss = self._fisher(score, x, keep, generator) / keep.flatten(1).sum(1).clamp(min=1)
        loss = loss if training else loss.detach()
        loss = loss * self._weight(denoiser, level).to(loss.dtype)
        if self.training and self.log_snr is None:
            self.times.update(t, loss)
        return loss * (factor.to(loss) if isinstance(factor, Tensor) else factor)

    def _draw(self, batch: int, denoiser: Denoiser, generator: torch.Generator | None) -> tuple[Tensor, Tensor | float]:
        if self.log_snr is None:
            return self.times.draw(batch, denoiser.process, generator)
        t = denoiser.process.schedule.time(torch.tensor(self.log_snr, dtype=torch.float64))
        return t.expand(batch), 1.0

    def _weight(self, denoiser: Denoiser, level: Level) -> Tensor:
        """``c`` of each sample."""
        t, sigma = torch.as_tensor(level.t), torch.as_tensor(level.sigma)
        log_snr = torch.as_tensor(level.log_snr).clamp(-FAR, FAR)
        log_weight = self.weighting.log_weight(denoiser.process.schedule, t, log_snr)
        return (log_weight - log_snr).exp() * sigma**2

    @abstractmethod
    def _fisher(self, score: Tensor, x: Tensor, keep: Tensor, generator: torch.Generator | None) -> Tensor:
        """``|s|^2 + 2 div s`` of each sample or an unbiased estimate, ``(B,)``."""


class ImplicitScoreMatching(ScoreMatching):
    """Implicit score matching with the exact divergence, at the cost of ``D`` derivatives: for few dimensions.

    Hyvarinen 2005 (JMLR 6:695), theorem 1; see the module's text.

    Args:
        weighting, times, log_snr: see `SlicedScoreMatching`.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, CosineSchedule, GaussianDenoiser, ImplicitScoreMatching
        >>> exact = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2))
        >>> ImplicitScoreMatching(log_snr=0.0)(exact, torch.randn(5, 2)).shape
        torch.Size([5])
    """

    def _fisher(self, score: Tensor, x: Tensor, keep: Tensor, generator: torch.Generator | None) -> Tensor:
        flat = score.flatten(1)
        divergence = torch.zeros_like(flat[:, 0])
        for i in range(flat.shape[1]):
            divergence = divergence + _derivative(flat[:, i].sum(), x).flatten(1)[:, i]
        return flat.square().sum(1) + 2 * divergence


class SlicedScoreMatching(ScoreMatching):
    r"""Sliced score matching: the divergence along random directions, ``v . grad_x (v . s)``.

    Song et al. 2019 (arXiv 1905.07088), eq. 8, and with ``reduced`` eq. 9 (SSM-VR), where ``|s|^2`` stands in the place
    of ``(v . s)^2``; see the module's text.

    Args:
        weighting: weight of each noise level, stated on the data's error as everywhere; by default ``c = sigma^2``.
        times: at which times to train; by default uniform.
        log_snr: one noise level to train at instead: at 10 the noise is 0.7 % of the state, so this is score matching
            on the data as they are.
        slices: number of directions a sample.
        directions: "rademacher", "gaussian", or "sphere" (of radius ``sqrt D``).
        reduced: SSM-VR.
    """

    def __init__(
        self,
        weighting: Weighting | None = None,
        times: TrainingTimes | None = None,
        log_snr: float | None = None,
        *,
        slices: int = 1,
        directions: Literal["rademacher", "gaussian", "sphere"] = "rademacher",
        reduced: bool = True,
    ) -> None:
        super().__init__(weighting, times, log_snr)
        require(isinstance(slices, int) and slices >= 1, "slices", slices, "an integer of at least 1")
        known = ("rademacher", "gaussian", "sphere")
        require(directions in known, "directions", directions, f"one of {', '.join(known)}")
        self.slices = slices
        self.directions = directions
        self.reduced = reduced

    def _fisher(self, score: Tensor, x: Tensor, keep: Tensor, generator: torch.Generator | None) -> Tensor:
        total = torch.zeros_like(score.flatten(1)[:, 0])
        for _ in range(self.slices):
            v = self._direction(score, keep, generator)
            along = (v * score).flatten(1).sum(1)
            divergence = (v * _derivative(along.sum(), x)).flatten(1).sum(1)
            square = score.flatten(1).square().sum(1) if self.reduced else along**2
            total = total + square + 2 * divergence
        return total / self.slices

    def _direction(self, like: Tensor, keep: Tensor, generator: torch.Generator | None) -> Tensor:
        """Directions with ``E v v^T = 1`` on the real part of each sample."""
        v = noise_like(like.detach(), generator)
        if self.directions == "rademacher":
            return keep * torch.where(v > 0, 1.0, -1.0).to(v.dtype)
        v = keep * v
        if self.directions == "gaussian":
            return v
        radius = keep.flatten(1).sum(1).sqrt() / v.flatten(1).norm(dim=1).clamp(min=torch.finfo(v.dtype).tiny)
        return v * radius.reshape(-1, *[1] * (v.ndim - 1))


def _usual(value: Any) -> Any:
    """A tensor that autograd may keep: a copy of one that was made in inference mode."""
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def _derivative(scalar: Tensor, x: Tensor) -> Tensor:
    """Gradient with respect to ``x`` that can be differentiated again; zero where there is no dependence."""
    if not scalar.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(scalar, x, create_graph=True, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient
