"""What the guided denoisers share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..chains import Chain
from ..denoisers import Denoiser, GaussianPosterior, Posterior
from ..schedules import Time, require

__all__ = ["as_tensors", "check_interval", "check_same_process", "gradient", "on_batch", "shifted", "within"]


def check_interval(interval: tuple[float, float]) -> None:
    """Refuse an interval of times that is none."""
    require(0 <= interval[0] < interval[1] <= 1, "interval", interval, "(low, high) with 0 <= low < high <= 1")


def within(interval: tuple[float, float], t: Time) -> bool | Tensor:
    """Whether ``t`` lies in the interval, ends included; a tensor ``(B,)`` when there is a time per sample, always True
    for the whole of time.
    """
    low, high = interval
    if (low, high) == (0.0, 1.0):
        return True
    if isinstance(t, Tensor) and t.ndim > 0:
        return (t >= low) & (t <= high)
    return low <= float(t) <= high


def check_same_process(denoisers: Sequence[Denoiser[Any]]) -> None:
    """Refuse denoisers of different noise schedules, chains or products of them, whose answers cannot be added."""
    first = denoisers[0].process
    for other in denoisers[1:]:
        _check_same(first, other.process)


def _check_same(first: Any, other: Any) -> None:
    if other is first:
        return
    parts, others = (getattr(process, "components", {}) for process in (first, other))
    if parts or others:
        require(tuple(parts) == tuple(others), "denoisers", [first, other], "one product for all")
        for part, another in zip(parts.values(), others.values()):
            _check_same(part, another)
    elif isinstance(first, Chain) or isinstance(other, Chain):
        same = repr(other) == repr(first) and other.schedule == first.schedule
        require(same, "denoisers", [first, other], "one chain for all")
    elif other.schedule != first.schedule:
        raise ValueError(
            f"denoisers of {first} and {other}: expected one schedule; a NetworkDenoiser serves any, so make one with "
            "the other's process"
        )


def as_tensors(conditions: Mapping[str, Any] | None) -> dict[str, Tensor] | None:
    """Conditions as tensors, whether they are tensors or the (nested) lists that a configuration made of them."""
    return None if conditions is None else {name: torch.as_tensor(value) for name, value in conditions.items()}


def on_batch(conditions: Mapping[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """Conditions on the device of ``x``, a single row (or a single number) repeated for all samples."""
    placed = {}
    for name, value in conditions.items():
        value = value.to(x.device)
        if value.ndim == 0 or (len(value) == 1 and len(x) != 1):
            value = value.reshape(1, *value.shape[1:]).expand(len(x), *value.shape[1:])
        placed[name] = value
    return placed


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Gradient of ``function(x).sum()`` at ``x``, also where gradients are off, as they are in a sampler's run.

    Where ``x`` takes part in a graph, so does the result.
    """
    inside = torch.is_grad_enabled() and x.requires_grad
    with torch.enable_grad():
        variable = x if inside else x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(variable).sum(), variable, create_graph=inside)
    return slope


def shifted(posterior: Posterior, slope: Tensor) -> GaussianPosterior:
    """The posterior whose score is higher by ``slope``: its mean is higher by ``(sigma^2 / alpha) slope``.

    Raises:
        ValueError: at ``alpha = 0``, where a score says nothing about the data.
    """
    level = posterior.shaped
    if not isinstance(level.alpha, Tensor) and level.alpha == 0:
        raise ValueError(
            "guidance by a gradient at alpha = 0 (zero SNR): noise says nothing about the data there; start the grid "
            "below t = 1 (UniformLogSNR does)"
        )
    mean = posterior.mean + (level.sigma * level.sigma / level.alpha) * slope
    return GaussianPosterior(posterior.x_t, posterior.process, posterior.level, mean)
