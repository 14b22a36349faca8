r"""DEIS and LMS: the posterior noise as a polynomial through its last values.

Both follow ``x_s = (alpha_s / alpha_t) x_t + sum_j w_j eps_j`` with ``w_j = alpha_s int L_j d rho``, ``rho = sigma /
alpha``; they differ in the variable of Lagrange's polynomials ``L_j``.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from ..schedules import require
from ..sdes import SDE
from .exponential import Predicts, Variable, lagrange_weights
from .multistep import Multistep

__all__ = ["DEIS", "LMS"]


@dataclass(frozen=True)
class DEIS(Multistep):
    r"""Diffusion exponential integrator sampler: exponential Adams-Bashforth on the noise.

    Zhang and Chen 2022 (arXiv 2204.13902), eqs. 14-15.  Converges at order ``order``.

    Args:
        order: 1 to 4; 1 is `DDIM`.
        variable: of the polynomial: "log_rho", the same under every schedule; "t", the paper's tAB; "rho", its rhoAB,
            which is `LMS`.
    """

    variable: Variable = field(default="log_rho", kw_only=True)

    highest: ClassVar[int] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.variable in ("log_rho", "rho", "t"), "variable", self.variable, "'log_rho', 'rho' or 't'")

    @property
    def predicts(self) -> Predicts:
        return "eps"

    def weights(self, process: SDE, t: Tensor, s: Tensor, nodes: Tensor) -> Tensor:
        return lagrange_weights(process.schedule, t, s, nodes, "eps", self.variable)


@dataclass(frozen=True)
class LMS(Multistep):
    r"""Linear multistep: Adams-Bashforth with variable steps on ``dy / d rho = eps``, ``y = x / alpha``.

    The sampler of k-diffusion (Crowson 2022), in Karras et al.'s variables (2022, arXiv 2206.00364, eq. 3).  Converges
    at order ``order``.

    Args:
        order: 1 to 4; 1 is `Euler`.
    """

    order: int = field(default=4, kw_only=True)  # type: ignore[misc]

    highest: ClassVar[int] = 4

    @property
    def predicts(self) -> Predicts:
        return "eps"

    def weights(self, process: SDE, t: Tensor, s: Tensor, nodes: Tensor) -> Tensor:
        return lagrange_weights(process.schedule, t, s, nodes, "eps", "rho")
