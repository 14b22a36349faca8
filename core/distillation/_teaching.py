"""What the objectives of distillation share: a frozen teacher, and noised data."""

import copy

from torch import Tensor

from ..denoisers import Denoiser
from ..objectives import Objective
from ..sdes import SDE, Level

__all__ = ["TaughtObjective", "noised"]


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

    def check_student(self, denoiser: Denoiser) -> None:
        """Refuse a student of another noise schedule than its teacher's."""
        if self.teacher is not None and self.teacher.process.schedule != denoiser.process.schedule:
            raise ValueError(
                f"a student of {denoiser.process} and a teacher of {self.teacher.process}: expected one schedule"
            )

    def train(self, mode: bool = True) -> "TaughtObjective":
        """Switch the objective; the teacher stays in evaluation mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self


def noised(process: SDE, x0: Tensor, eps: Tensor, t: Tensor) -> tuple[Tensor, Level]:
    """``alpha x_0 + sigma eps`` and the level, shaped like ``x0``."""
    level = process.level(t).like(x0)
    return level.alpha * x0 + level.sigma * eps, level
