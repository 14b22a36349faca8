"""SA-Solver: a stochastic Adams predictor-corrector with free stochasticity."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..schedules import require
from ..sdes import SDE
from .exponential import Predicts, lagrange_weights
from .multistep import Multistep

__all__ = ["SASolver"]


@dataclass(frozen=True)
class SASolver(Multistep):
    r"""SA-Solver: the reverse SDE of stochasticity ``tau`` by stochastic Adams methods on the posterior mean.

    The step is the third formula of `ornstein.core.samplers.exponential`, the mean being the polynomial through its
    last ``order`` values; the corrector repeats the step with the value at its end and ``corrector_order`` earlier
    ones, and with the same draw.  Xue et al. 2023 (arXiv 2309.05019), eqs. 14-19 and algorithm 1.  One evaluation a
    step.  The moments converge at order 2 where ``tau`` is positive; with ``tau = 0`` the order is that of the Adams
    method.

    Args:
        order: values that the predictor uses, 1 to 3.
        corrector_order: earlier values that the corrector uses beside the new one, 0 to 3; 0 is no corrector.
        tau: stochasticity, at least 0; 1 is the reverse SDE, 0 the ODE.
        interval: noise levels ``sigma / alpha`` within which ``tau`` acts; outside the step is the ODE's.  The paper's
            is ``(0.05, 1)``.
    """

    corrector_order: int = field(default=3, kw_only=True)
    tau: float = field(default=1.0, kw_only=True)
    interval: tuple[float, float] = field(default=(0.05, 1.0), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.corrector_order in range(4), "corrector_order", self.corrector_order, "a number from 0 to 3")
        require(self.tau >= 0, "tau", self.tau, "a number of at least 0")
        low, high = self.interval
        require(0 <= low < high, "interval", self.interval, "(low, high) with 0 <= low < high")

    @property
    def predicts(self) -> Predicts:
        return "mean"

    @property
    def stochastic(self) -> bool:
        return self.tau > 0

    @property
    def corrects(self) -> int:
        return self.corrector_order + 1 if self.corrector_order else 0

    def reach(self, values: int, correcting: bool) -> float:
        if self.tau > 0 and values == 2 and not correcting:
            return 1.0
        return super().reach(values, correcting)

    def stochasticity(self, process: SDE, t: Tensor, s: Tensor) -> Tensor:
        """``tau`` where the whole step lies in the interval, else 0."""
        low, high = self.interval
        ratio_t, ratio_s = ((-0.5 * process.schedule.log_snr(v)).exp() for v in (t, s))
        inside = (ratio_t <= high * (1 + 1e-12)) & (ratio_s >= low * (1 - 1e-12))
        return torch.where(inside, self.tau, torch.zeros_like(t))

    def weights(self, process: SDE, t: Tensor, s: Tensor, nodes: Tensor) -> Tensor:
        return lagrange_weights(process.schedule, t, s, nodes, "mean", tau=self.stochasticity(process, t, s))
