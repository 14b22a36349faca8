"""What the objectives of distillation share: a frozen teacher and one step of its probability-flow ODE."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..objectives import Objective
from ..samplers.ode import heun_gain
from ..sdes import SDE, Level

__all__ = ["Solver", "TaughtObjective", "ode_step"]

Solver = Literal["euler", "heun"]


class TaughtObjective(Objective):
    """An objective that holds a teacher: a frozen copy of a denoiser, always in evaluation mode.

    Args:
        teacher: the denoiser to learn from, or None for none; it is copied.
    """

    def __init__(self, teacher: Denoiser | None) -> None:
        super().__init__()
        if teacher is not None and not isinstance(teacher, Denoiser):
            raise TypeError(f"teacher={teacher!r}: expected a Denoiser, such as adapter.denoiser")
        self.teacher = None if teacher is None else copy.deepcopy(teacher).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "TaughtObjective":
        """Switch the objective; the teacher stays in evaluation mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self


def ode_step(
    teacher: Denoiser, x: Tensor, t: Tensor, s: Tensor, solver: Solver, keep: Tensor | None, **condition: Any
) -> Tensor:
    """The state at times ``s`` ``(B,)`` on the teacher's ODE from ``x`` at ``t`` ``(B,)``, by one step.

    Args:
        teacher: gives the slope.
        x: states, ``(B, *event)``.
        t, s: a time a sample, ``s < t``.
        solver: "euler" is DDIM; "heun" corrects it where the correction exists (`Heun`).
        keep: multiplies states, to keep padding at zero.
        condition: for the teacher.
    """
    here = teacher(x, t, **condition)
    end = teacher.process.level(s).like(x)
    euler = _kept(here.combine(end.alpha, end.sigma), keep)
    if solver == "euler":
        return euler
    gain = heun_gain(teacher.process, torch.stack([t, s]))[0]
    # Where there is no correction the second slope is asked for at t, since at s it may not exist.
    slope = teacher(euler, torch.where(gain != 0, s, t), **condition).eps
    shaped = gain.to(x).reshape(-1, *[1] * (x.ndim - 1))
    return _kept(torch.where(shaped != 0, euler + shaped * (slope - here.eps), euler), keep)


def _kept(x: Tensor, keep: Tensor | None) -> Tensor:
    return x if keep is None else x * keep


def noised(process: SDE, x0: Tensor, eps: Tensor, t: Tensor) -> tuple[Tensor, Level]:
    """``alpha x_0 + sigma eps`` and the level, shaped like ``x0``."""
    level = process.level(t).like(x0)
    return level.alpha * x0 + level.sigma * eps, level
