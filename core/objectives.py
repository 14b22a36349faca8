r"""Training objectives: the denoising loss in every parameterisation.

    loss_i = w(t_i) |x_0 - mean(x_t, t_i)|^2 / D,        x_t = alpha x_0 + sigma eps,

with ``t_i`` and the weight ``w`` free to choose (`training_times`, `weightings`).  For a denoiser whose mean is
linear in its network's output ``F`` the same number is computed as ``w gain |F* - F|^2 / D`` (`Parameterisation`),
which stays exact where signal or noise vanish and in low precision.  Sohl-Dickstein et al. 2015 (1503.03585), Ho et
al. 2020 (2006.11239), Kingma and Gao 2023 (2303.00848).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .denoisers import Denoiser, LinearPosterior, Posterior
from .parameterisations import FAR
from .schedules import require
from .sdes import SDE
from .training_times import TrainingTimes, UniformTimes
from .weightings import UniformWeighting, Weighting

__all__ = ["DenoisingObjective", "LogDenoisingObjective", "Objective", "PosteriorObjective"]


class Objective(nn.Module, ABC):
    """A training loss per sample."""

    def __init__(self) -> None:  # torch's own takes any arguments, which no configuration can name
        super().__init__()

    @abstractmethod
    def forward(
        self,
        denoiser: Denoiser[Any],
        x0: Any,
        *,
        mask: Any = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        """The loss of each sample of clean data ``x0`` ``(B, *event)``.

        Args:
            denoiser: what is trained.
            x0: clean data, float32 or wider (int64 for categories).
            mask: ``(B, N)``, True where the first event axis is real; the rest neither counts nor is noised.
            generator: where times and noise are drawn from (its device); torch's global one by default.
            condition: tensors for the denoiser, by name.
        """


class PosteriorObjective(Objective):
    """A loss that noises each sample to one time and judges the posterior there.

    It is made of two parts, so that several can share one evaluation of a denoiser (`ProductObjective`): `corrupt`
    noises, `judge` compares.  What the condition ``given`` ``(B, N)`` names is known: it is not noised and does not
    count.

    Args:
        times: at which times to train.
    """

    def __init__(self, times: TrainingTimes) -> None:
        super().__init__()
        if not isinstance(times, TrainingTimes):
            raise TypeError(f"times={times!r}: expected TrainingTimes, such as UniformTimes()")
        self.times = times

    @abstractmethod
    def corrupt(self, process: Any, x0: Any, t: Tensor, mask: Any, generator: torch.Generator | None) -> "Corrupted":
        """Refuse data that are none, and noise them to the times ``t`` ``(B,)``."""

    @abstractmethod
    def judge(self, posterior: Any, corrupted: "Corrupted", mask: Any) -> Float[Tensor, "batch"]:
        """The loss of each sample, given the denoiser's answer to ``corrupted.x_t``."""

    def forward(
        self,
        denoiser: Denoiser[Any],
        x0: Any,
        *,
        mask: Any = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        asked = self.ask(denoiser, x0, mask, generator, condition)
        return self.finish(asked, self.judge(*asked[:3]))

    def ask(
        self, denoiser: Denoiser[Any], x0: Any, mask: Any, generator: torch.Generator | None, condition: dict[str, Any]
    ) -> "Asked":
        """Noise the data and ask the denoiser, once."""
        some = next(iter(x0.values())) if isinstance(x0, Mapping) else x0
        t, factor = self.times.draw(len(some), denoiser.process, generator)
        process = denoiser.process
        real = None if mask is None else process.expand_mask(mask)
        corrupted = self.corrupt(process, x0, placed(t, some.device), real, generator)
        if (given := condition.get("given")) is not None:
            given = process.expand_mask(given)
            corrupted = corrupted._replace(x_t=restored(corrupted.x_t, corrupted.x0, given))
            real = without(real, given)
        if mask is not None:
            condition = condition | {"mask": mask}
        return Asked(self.answer(denoiser, corrupted, generator, condition), corrupted, real, t, factor)

    def answer(
        self,
        denoiser: Denoiser[Any],
        corrupted: "Corrupted",
        generator: torch.Generator | None,
        condition: dict[str, Any],
    ) -> Any:
        """The posterior that is judged: the denoiser's answer to the noised data."""
        return denoiser(corrupted.x_t, corrupted.t, **condition)

    def finish(self, asked: "Asked", loss: Tensor) -> Tensor:
        """Let the times learn from the loss, and weigh it by their factor."""
        if self.training:
            self.times.update(asked.t, loss)
        return loss * (asked.factor.to(loss) if isinstance(asked.factor, Tensor) else asked.factor)


class Corrupted(NamedTuple):
    """Data ``x_0``, their noised form ``x_t``, the times ``t`` ``(B,)`` and the noise where it has a name."""

    x0: Any
    x_t: Any
    t: Tensor
    noise: Any = None


class Asked(NamedTuple):
    """A denoiser's answer to noised data, the mask of what counts of their states, and the times as drawn with their
    factor.
    """

    posterior: Any
    corrupted: Corrupted
    mask: Any
    t: Tensor
    factor: Tensor | float


class DenoisingObjective(PosteriorObjective):
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
        super().__init__(times if times is not None else UniformTimes())
        if not isinstance(weighting, Weighting | None):
            raise TypeError(f"weighting={weighting!r}: expected a Weighting, such as UniformWeighting()")
        self.weighting = weighting if weighting is not None else UniformWeighting()

    def corrupt(
        self, process: SDE, x0: Tensor, t: Tensor, mask: Tensor | None, generator: torch.Generator | None
    ) -> Corrupted:
        check_data(x0, mask)
        x0, eps, x_t = noised(process, x0, t, mask, generator)
        return Corrupted(x0, x_t, t, eps)

    def judge(self, posterior: Posterior, corrupted: Corrupted, mask: Tensor | None) -> Float[Tensor, "batch"]:
        return denoising_loss(self.weighting, corrupted.x0, corrupted.noise, posterior, mask)


class LogDenoisingObjective(DenoisingObjective):
    r"""The Gaussian likelihood of the data about the posterior mean, with a variance of each sample's own:

        loss_i = min_v 1/2 (log v + |x_0 - mean|^2 / (D v)) - 1/2 = 1/2 log(|x_0 - mean|^2 / D).

    Errors count by how many times they are too large: samples that are hard to tell do not drown those that are easy,
    and a weight on noise levels would only add a constant. Of data in many dimensions, whose error is about the same at
    each draw, the best answer is the posterior mean as with the squared error.

    Args:
        times: at which times to train; by default uniform.
        floor: root mean square error that is small enough; its square is added to the mean square.
    """

    def __init__(self, times: TrainingTimes | None = None, floor: float = 1e-4) -> None:
        super().__init__(None, times)
        require(floor > 0, "floor", floor, "a positive error")
        self.floor = floor

    def judge(self, posterior: Posterior, corrupted: Corrupted, mask: Tensor | None) -> Float[Tensor, "batch"]:
        square = event_mean((corrupted.x0 - posterior.mean) ** 2, mask)
        return 0.5 * (square + self.floor**2).log()


def placed(t: Tensor, device: torch.device) -> Tensor:
    """Times on the data's device: float64 where it has that, so that weights near the ends keep their digits."""
    return t.to(device, torch.float32 if device.type == "mps" else torch.float64)


def noised(
    process: SDE, x0: Tensor, t: Tensor, mask: Tensor | None, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Data and noise, zero in the padding, and the noised data at the times ``(B,)``."""
    process.check_data(x0, mask)
    eps = process.white(noise_like(x0, generator), mask)
    if mask is not None:
        # Samplers keep the padding at zero, so training shows the network nothing else there.
        x0, eps = x0 * shaped_mask(mask, x0), eps * shaped_mask(mask, x0)
    level = process.level(t).like(x0)
    return x0, eps, level.alpha * x0 + level.sigma * eps


def ask(
    denoiser: Denoiser,
    x0: Tensor,
    t: Tensor,
    mask: Tensor | None,
    generator: torch.Generator | None,
    condition: dict[str, Any],
) -> tuple[Tensor, Tensor, Posterior]:
    """Noise data to the times ``(B,)`` and ask the denoiser: data and noise, zero in the padding, and the answer.

    Raises:
        ValueError: for the condition ``given``, of which losses of this form know nothing.
    """
    if condition.get("given") is not None:
        raise ValueError("given: this loss noises all of the data; train with a PosteriorObjective, which heeds it")
    t = placed(t, x0.device)
    real = None if mask is None else denoiser.process.expand_mask(mask)
    x0, eps, x_t = noised(denoiser.process, x0, t, real, generator)
    return x0, eps, denoiser(x_t, t, **(condition if mask is None else condition | {"mask": mask}))


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
    if mask is not None:
        axes = tuple(x0.shape[: max(mask.ndim, 2)])
        if mask.dtype != torch.bool or tuple(mask.shape) != axes:
            raise ValueError(f"mask of shape {tuple(mask.shape)}, {mask.dtype}: expected {axes}, torch.bool")


def restored(x_t: Any, x0: Any, given: Any) -> Any:
    """Noised states with the data ``x0`` where they are ``given``: a mask ``(B, N)``, or one for each part of a state.

    Raises:
        ValueError: for a mask of another dtype or shape.
    """
    if isinstance(x_t, Mapping):
        return {name: restored(value, x0[name], given.get(name)) for name, value in x_t.items()}
    if given is None:
        return x_t
    if given.dtype != torch.bool or given.shape != x_t.shape[: max(given.ndim, 2)]:
        raise ValueError(
            f"given of shape {tuple(given.shape)}, {given.dtype}: expected {tuple(x_t.shape[:2])}, torch.bool"
        )
    return torch.where(given.reshape(*given.shape, *[1] * (x_t.ndim - given.ndim)), x0, x_t)


def without(mask: Any, given: Any) -> Any:
    """What is real, as ``mask`` says (all, if it is None), and not ``given``; likewise for the parts of a state."""
    if isinstance(given, Mapping):
        return {name: without(None if mask is None else mask.get(name), given[name]) for name in given}
    if given is None:
        return mask
    return ~given if mask is None else mask & ~given


def shaped_mask(mask: Tensor, like: Tensor) -> Tensor:
    """A mask ``(B, N)``, or of more axes, as numbers that multiply states ``(B, N, ...)``."""
    return mask.to(like.dtype).reshape(*mask.shape, *[1] * (like.ndim - mask.ndim))


def event_mean(square: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the event of each sample, over its real part where there is a mask."""
    if mask is None:
        return square.flatten(1).mean(1)
    keep = shaped_mask(mask, square).expand_as(square)
    return (square * keep).flatten(1).sum(1) / keep.flatten(1).sum(1).clamp(min=1)
