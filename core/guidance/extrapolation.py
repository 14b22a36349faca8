r"""Answers of one denoiser taken through and beyond those of another: what classifier-free and autoguidance share.

Means go along a line, ``mean_b + scale (mean_a - mean_b)``; on a `Chain` the reverse kernels of each position are
multiplied, ``p_a^scale p_b^(1 - scale)`` (see the module `categorical`); the parts of a `ProductProcess` go each its
own way.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..chains import Chain
from ..denoisers import GaussianPosterior
from ..products import ProductPosterior, ProductProcess
from ..schedules import Time
from .categorical import guided_posterior, without_the_rare

__all__ = ["extrapolated"]


def extrapolated(
    process: Any,
    x_t: Any,
    t: Time,
    answers: Sequence[Any],
    scale: float,
    active: bool | Tensor = True,
    rescale: float = 0.0,
    mask: Any = None,
) -> Any:
    """The posterior beyond ``answers[1]`` as seen from it through ``answers[0]``.

    Args:
        process: of the state.
        x_t: state ``(B, *N)``, or a mapping of these by part.
        t: its time, or one a sample.
        answers: two posteriors, or one that holds both, stacked along the batch.
        scale: 1 is the first answer, 0 the second.
        active: where it acts, ``(B,)``; elsewhere the first answer stands.
        rescale: how far a mean is scaled back to the spread of the first answer's, 0 to 1 (Lin et al. 2024, 2305.08891,
            eqs. 15-16); where it is constant it is left alone.
        mask: where data are, which count for that spread.
    """
    if isinstance(process, ProductProcess):
        masks = process.expand_mask(mask)
        return ProductPosterior(
            {
                name: extrapolated(
                    part, x_t[name], t, [answer[name] for answer in answers], scale, active, rescale, masks[name]
                )
                for name, part in process.components.items()
            }
        )
    if isinstance(process, Chain):
        power = torch.where(active, scale, 1.0) if isinstance(active, Tensor) else scale
        powers = [power, 1 - power]
        known = without_the_rare(answers, powers, len(x_t))
        return guided_posterior(x_t, process, process.level(t), known, powers)
    first, second = (mean for answer in answers for mean in answer.mean.split(len(x_t)))
    mean = torch.lerp(second, first, scale)
    if rescale:
        mean = mean * _factor(first, mean, rescale, mask)
    if isinstance(active, Tensor):
        mean = torch.where(active.reshape(-1, *[1] * (mean.ndim - 1)), mean, first)
    return GaussianPosterior(x_t, process, process.level(t), mean)


def _factor(first: Tensor, guided: Tensor, rescale: float, mask: Tensor | None) -> Tensor:
    variance, variance_guided = (_variance(mean, mask) for mean in (first, guided))
    constant = variance_guided == 0
    ratio = torch.where(constant, 1.0, variance / torch.where(constant, 1.0, variance_guided)).sqrt()
    return (rescale * ratio + 1 - rescale).reshape(-1, *[1] * (guided.ndim - 1))


def _variance(mean: Tensor, mask: Tensor | None) -> Tensor:
    """Variance over each sample's coordinates, over the real ones where there is a mask, shape ``(B,)``."""
    flat = mean.flatten(1)
    if mask is None:
        return flat.var(1, correction=0)
    real = mask.reshape(*mask.shape, *[1] * (mean.ndim - 2)).expand_as(mean).flatten(1)
    count = real.sum(1, keepdim=True).clamp(min=1)
    centred = flat - (flat * real).sum(1, keepdim=True) / count
    return (centred**2 * real).sum(1) / count[:, 0]
