"""Energy guidance: a denoiser steered by any differentiable function of the data that it predicts."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..denoisers import Denoiser, Posterior
from ..schedules import Time, require
from ._parts import check_interval, gradient, shifted, within

__all__ = ["EnergyGuidance"]


class EnergyGuidance(Denoiser):
    r"""Lowers an energy of the predicted data: ``score - scale grad_x E(mean(x_t))``.

    Aims at ``p(x_0) exp(-scale E(x_0))``, with the energy of noisy states replaced by that of the posterior mean
    (Chung et al. 2023, arXiv 2209.14687, eq. 15; Yu et al. 2023, 2303.09833, eq. 9; Bansal et al. 2023, 2302.07121, eq.
    5); exact in the limit of low noise.  In means it adds ``-scale (sigma^2 / alpha) grad_x E(mean(x_t))``.  The
    gradient goes through the energy and the denoiser, so an evaluation costs one forward and one backward pass of the
    denoiser.  Gradients are switched on for it, whatever the caller's setting.

    Args:
        denoiser: what is steered; differentiable.
        energy: called with clean data ``(B, *event)``, answers with an energy a sample, ``(B,)`` in nats; anything
            that autograd can follow.
        scale: strength of guidance.
        interval: times within which guidance acts, ``(low, high)``, ends included.

    Raises:
        ValueError: where ``alpha = 0``, or for another shape than ``(B,)`` from the energy.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        energy: Callable[[Tensor], Tensor],
        scale: float = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__(denoiser.process)
        check_interval(interval)
        require(callable(energy), "energy", energy, "a function of clean data")
        self.denoiser = denoiser
        self.energy = energy
        self.scale = scale
        self.interval = interval

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Posterior:
        active = within(self.interval, t)
        if active is False:
            return self.denoiser(x_t, t, **condition)
        answers: list[Posterior] = []

        def energy(x: Tensor) -> Tensor:
            answers.append(self.denoiser(x, t, **condition))
            value = self.energy(answers[0].mean)
            if value.shape != (len(x),):
                raise ValueError(f"energy returned shape {tuple(value.shape)}: expected one number a sample")
            return value

        slope = gradient(energy, x_t)
        if isinstance(active, Tensor):
            slope = slope * active.to(slope).reshape(-1, *[1] * (slope.ndim - 1))
        return shifted(answers[0], -self.scale * slope)
