r"""Training objectives: the denoising loss in every parameterisation.

    loss_i = w(t_i) |x_0 - mean(x_t, t_i)|^2 / D,        x_t = alpha x_0 + sigma eps,

with ``t_i`` and the weight ``w`` free to choose (`training_times`, `weightings`).  For a denoiser whose mean is
linear in its network's output ``F`` the same number is computed as ``w gain |F* - F|^2 / D`` (`Parameterisation`),
which stays exact where signal or noise vanish and in low precision.  Sohl-Dickstein et al. 2015 (1503.03585), Ho et
al. 2020 (2006.11239), Kingma and Gao 2023 (2303.00848).
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .denoisers import Denoiser, LinearPosterior, Posterior
from .parameterisations import FAR
from .training_times import TrainingTimes, UniformTimes
from .weightings import UniformWeighting, Weighting

__all__ = ["DenoisingObjective", "Objective"]


class Objective(nn.Module, ABC):
    """A training loss per sample."""

    def __init__(self) -> None:  # torch's own takes any arguments, which no configuration can name
        super().__init__()

    @abstractmethod
    def forward(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        *,
        mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        """The loss of each sample of clean data ``x0`` ``(B, *event)``.

        Args:
            denoiser: what is trained.
            x0: clean data, float32 or wider.
            mask: ``(B, N)``, True where the first event axis is real; the rest neither counts nor is noised.
            generator: where times and noise are drawn from (its device); torch's global one by default.
            condition: tensors for the denoiser, by name.
        """


class DenoisingObjective(Objective):
    """The weighted denoising loss of the module's text.

    Args:
        weighting: weight of each noise level; by default DDPM's simple loss, uniform on eps.
        times: at which times to train; by default uniform.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, CosineSchedule, DenoisingObjective, GaussianDenoiser
        >>> exact = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2))
        >>> DenoisingObjective()(exact, torch.randn(5, 2)).shape
        torch.Size([5])
    """

    def __init__(self, weighting: Weighting | None = None, times: TrainingTimes | None = None) -> None:
        super().__init__()
        if not isinstance(weighting, Weighting | None):
            raise TypeError(f"weighting={weighting!r}: expected a Weighting, such as UniformWeighting()")
        if not isinstance(times, TrainingTimes | None):
            raise TypeError(f"times={times!r}: expected TrainingTimes, such as UniformTimes()")
        self.weighting = weighting if weighting is not None else UniformWeighting()
        self.times = times if times is not None else UniformTimes()

    def forward(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        *,
        mask: Bool[Tensor, "batch n"] | None = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        check_data(x0, mask)
        t, factor = self.times.draw(len(x0), denoiser.process, generator)
        x0, eps, posterior = ask(denoiser, x0, t, mask, generator, condition)
        loss = denoising_loss(self.weighting, x0, eps, posterior, mask)
        if self.training:
            self.times.update(t, loss)
        return loss * (factor.to(loss) if isinstance(factor, Tensor) else factor)


def ask(
    denoiser: Denoiser,
    x0: Tensor,
    t: Tensor,
    mask: Tensor | None,
    generator: torch.Generator | None,
    condition: dict[str, Any],
) -> tuple[Tensor, Tensor, Posterior]:
    """Noise data to the times ``(B,)`` and ask the denoiser: data and noise, zero in the padding, and the answer."""
    eps = noise_like(x0, generator)
    if mask is not None:
        condition = condition | {"mask": mask}
        # Samplers keep the padding at zero, so training shows the network nothing else there.
        x0, eps = x0 * shaped_mask(mask, x0), eps * shaped_mask(mask, x0)
    # Times are float64 where the device has it, so that weights near the ends keep their digits.
    t = t.to(x0.device, torch.float32 if x0.device.type == "mps" else torch.float64)
    level = denoiser.process.level(t).like(x0)
    return x0, eps, denoiser(level.alpha * x0 + level.sigma * eps, t, **condition)


def denoising_loss(
    weighting: Weighting, x0: Tensor, eps: Tensor, posterior: Posterior, mask: Tensor | None
) -> Float[Tensor, "batch"]:
    """``w(t) |x_0 - mean|^2 / D`` of the answer to data ``x0`` with noise ``eps``."""
    level = posterior.level
    t, log_snr = torch.as_tensor(level.t), torch.as_tensor(level.log_snr).clamp(-FAR, FAR)
    log_weight = weighting.log_weight(posterior.process.schedule, t, log_snr)
    if isinstance(posterior, LinearPosterior):
        target = posterior.parameterisation.target(x0, eps, posterior.shaped)
        square = (target - posterior.output) ** 2
        log_weight = log_weight + posterior.parameterisation.log_gain(log_snr)
    else:
        square = (x0 - posterior.mean) ** 2
    return log_weight.exp().to(square.dtype) * event_mean(square, mask)


def noise_like(x0: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal draws shaped ``x0``, made on the generator's device (the CPU without one)."""
    device = generator.device if generator is not None else None
    return torch.randn(x0.shape, dtype=x0.dtype, device=device, generator=generator).to(x0.device)


def check_data(x0: Tensor, mask: Tensor | None) -> None:
    """Refuse clean data or a mask of another shape or dtype, and data that are not finite."""
    if x0.ndim < 2 or x0.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x0 of shape {tuple(x0.shape)}, {x0.dtype}: expected (B, *event), float32 or float64")
    # On a device this check would wait for it at every step; there the loss tells.
    if x0.device.type == "cpu" and not torch.compiler.is_compiling() and not x0.isfinite().all():
        raise ValueError(
            "x0 holds NaN or infinite numbers: expected finite data; say what is missing by mask or condition"
        )
    if mask is not None and (mask.dtype != torch.bool or tuple(mask.shape) != tuple(x0.shape[:2])):
        raise ValueError(f"mask of shape {tuple(mask.shape)}, {mask.dtype}: expected {tuple(x0.shape[:2])}, torch.bool")


def shaped_mask(mask: Tensor, like: Tensor) -> Tensor:
    """A mask ``(B, N)`` as numbers that multiply states ``(B, N, ...)``."""
    return mask.to(like.dtype).reshape(*mask.shape, *[1] * (like.ndim - 2))


def event_mean(square: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the event of each sample, over its real part where there is a mask."""
    if mask is None:
        return square.flatten(1).mean(1)
    keep = shaped_mask(mask, square).expand_as(square)
    return (square * keep).flatten(1).sum(1) / keep.flatten(1).sum(1).clamp(min=1)
