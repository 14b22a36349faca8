r"""One step of the probability-flow ODE, up or down in noise, with a time of its own for each sample.

Samplers step whole batches down one grid and know more methods; this is for teachers, whose pupils are each at another
time, and for inversion, which goes upwards.  In ``y = x / alpha`` and ``r = sigma / alpha`` the ODE is ``dy / dr =
eps`` (Karras et al. 2022, arXiv 2206.00364, eq. 3).
"""

from typing import Any, Literal

import torch
from torch import Tensor

from .denoisers import Denoiser
from .process import broadcast
from .schedules import Time, as_tensor

__all__ = ["Solver", "ode_step"]

Solver = Literal["euler", "heun"]


def ode_step(
    denoiser: Denoiser, x: Tensor, t: Time, s: Time, solver: Solver, keep: Tensor | None = None, **condition: Any
) -> Tensor:
    """The state at ``s`` on the denoiser's ODE from ``x`` at ``t``.

    "euler" is DDIM: ``alpha_s mean + sigma_s eps``.  "heun" adds ``(sigma_s - alpha_s sigma_t / alpha_t) / 2 (eps_s -
    eps_t)`` with the slope at Euler's end, except where there is no noise at ``s`` or no signal at ``t``, where it is
    not defined.

    Args:
        denoiser: gives the slope; called once, or twice for "heun".
        x: states, ``(B, *event)``.
        t, s: times, one or one a sample, ``(B,)``.
        solver: "euler" or "heun".
        keep: multiplies states, to keep padding at zero.
        condition: for the denoiser.
    """
    here = denoiser(x, t, **condition)
    end = denoiser.process.level(s).like(x)
    euler = _kept(here.combine(end.alpha, end.sigma), keep)
    if solver == "euler":
        return euler
    schedule, t, s = denoiser.process.schedule, as_tensor(t), as_tensor(s)
    gain = 0.5 * (schedule.sigma(s) - schedule.alpha(s) * schedule.sigma(t) / schedule.alpha(t))
    gain = torch.where((schedule.sigma(s) > 0) & gain.isfinite(), gain, 0.0)
    if not gain.any():
        return euler
    # Where there is no correction the second slope is asked for at t, since at s it may not exist.
    slope = denoiser(euler, torch.where(gain != 0, s, t), **condition).eps
    shaped = broadcast(gain, x)
    return _kept(torch.where(shaped != 0, euler + shaped * (slope - here.eps), euler), keep)


def _kept(x: Tensor, keep: Tensor | None) -> Tensor:
    return x if keep is None else x * keep
