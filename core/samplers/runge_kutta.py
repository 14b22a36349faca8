r"""Fixed-step Runge-Kutta methods of any Butcher tableau for the probability-flow ODE.

In ``z = x / sigma`` against ``u = alpha / sigma`` the ODE is ``dz / du = mean(x)``: the right-hand side is the
posterior mean, whatever the schedule, and the start at pure noise is the regular point ``u = 0``.  (It is Karras et
al. 2022, 2206.00364, eq. 3, ``dy / dr = eps`` with ``y = x / alpha`` and ``r = sigma / alpha``, divided by ``r``.)  An
explicit tableau ``a_ij, b_i`` with nodes ``c_i = sum_j a_ij`` gives, with ``h = u_s - u_t``,

    x_i = sigma_i (z_t + h sum_j a_ij mean_j)  at  u_i = u_t + c_i h,       x_s = sigma_s (z_t + h sum_i b_i mean_i).

With ``b_i >= 0`` the new state is a weighted mean of the old one and of posterior means, so nothing can blow up.  The
same tableau on ``y`` against ``r`` (form "noise") is what the EDM paper and k-diffusion do.

Every stage is a weighted sum of the state and of the means before it, so all of this is coefficients.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..schedules import require
from ..sdes import SDE
from .base import STANDARD, Row, Run, Sampler
from .long_steps import divide, long_steps

__all__ = ["RungeKutta", "Tableau"]


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method (Butcher 1964).

    Args:
        a: the rows ``(a_i1, ..., a_i,i-1)`` of stages 2 to s.
        b: ``s`` weights.
        order: order of convergence; its conditions are checked (up to 4).

    Raises:
        ValueError: if rows have other lengths, or ``a`` and ``b`` do not have the order.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "a", tuple(tuple(row) for row in self.a))
        object.__setattr__(self, "b", tuple(self.b))
        lengths = [len(row) for row in self.a]
        require(lengths == list(range(1, len(self.b))), "a", self.a, f"rows of 1 to {len(self.b) - 1} numbers")
        a, b = self.matrix(), torch.tensor(self.b, dtype=torch.float64)
        c = a.sum(1)
        conditions = [
            [(b.sum(), 1.0)],
            [(b @ c, 1 / 2)],
            [(b @ c**2, 1 / 3), (b @ a @ c, 1 / 6)],
            [(b @ c**3, 1 / 4), (b @ (c * (a @ c)), 1 / 8), (b @ a @ c**2, 1 / 12), (b @ a @ a @ c, 1 / 24)],
        ]
        for order, group in enumerate(conditions[: self.order], 1):
            held = all(abs(float(value) - target) < 1e-9 for value, target in group)
            require(held, "order", self.order, f"at most {order - 1} for this a and b (Butcher's conditions)")

    def matrix(self) -> Tensor:
        """``a`` as a square, ``(s, s)``, float64."""
        square = torch.zeros(len(self.b), len(self.b), dtype=torch.float64)
        for i, row in enumerate(self.a, 1):
            square[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
        return square


METHODS = {
    "midpoint": Tableau(((1 / 2,),), (0.0, 1.0), 2),
    "heun2": Tableau(((1.0,),), (1 / 2, 1 / 2), 2),
    "ralston": Tableau(((2 / 3,),), (1 / 4, 3 / 4), 2),
    "heun3": Tableau(((1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4), 3),
    "kutta3": Tableau(((1 / 2,), (-1.0, 2.0)), (1 / 6, 2 / 3, 1 / 6), 3),
    "ssp3": Tableau(((1.0,), (1 / 4, 1 / 4)), (1 / 6, 1 / 6, 2 / 3), 3),
    "rk4": Tableau(((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), 4),
    "three_eighths": Tableau(((1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8), 4),
}


@dataclass(frozen=True)
class RungeKutta(Sampler):
    r"""Runge-Kutta with ``s`` evaluations a step; see the module's text.

    Bounded, a step that is too long (`ornstein.core.samplers.long_steps`) is divided into ``s`` steps of Euler's
    method, at the same cost; a run of one or two steps is then `DDIM` of as many evaluations.  The step to clean
    data, where ``u`` is infinite, is otherwise of order 1 and one evaluation: ``x_s = mean``.

    Args:
        method: "midpoint", "heun2", "ralston" (order 2), "heun3", "kutta3", "ssp3" (order 3), "rk4", "three_eighths"
            (order 4; Kutta 1901), or a `Tableau`; "dpm2" is the midpoint rule of form "noise" whose node has the
            mean log-SNR (k-diffusion's DPM-2; Lu et al. 2022, 2206.00927, algorithm 1 with r_1 = 1/2).
        form: "data", the module's formula, or "noise", the same on ``dy / dr = eps``; there the step from pure noise
            is of order 1 as well.
        bounded: divide steps that are too long.

    Raises:
        ValueError: for an unknown method, or "dpm2" in another form than "noise".
    """

    steps: int = 20
    method: str | Tableau = field(default="rk4", kw_only=True)
    form: Literal["data", "noise"] = field(default="data", kw_only=True)
    bounded: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        known = isinstance(self.method, Tableau) or self.method == "dpm2" or self.method in METHODS
        require(known, "method", self.method, f"a Tableau or one of {', '.join([*METHODS, 'dpm2'])}")
        require(self.form in ("data", "noise"), "form", self.form, "'data' or 'noise'")
        require(self.method != "dpm2" or self.form == "noise", "form", self.form, "'noise' for method='dpm2'")

    @property
    def tableau(self) -> Tableau:
        """The tableau; of "dpm2" it is the one that its steps tend to."""
        if isinstance(self.method, Tableau):
            return self.method
        return METHODS["midpoint" if self.method == "dpm2" else self.method]

    @property
    def order(self) -> int:  # type: ignore[override]
        """The tableau's."""
        return self.tableau.order

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        steps = self.steps if steps is None else steps
        process = process or STANDARD
        return int(self.plan(process, self.grid(steps, process))[:, 0].sum()) + self.denoise

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """Columns: evaluations ``n``; then of stages 2 to s the time, the factor of ``x_t`` and those of the means so
        far; then of the new state the factors of ``x_t`` and of all means.
        """
        schedule, t, s = process.schedule, times[:-1], times[1:]
        low, high = schedule.log_snr(t), schedule.log_snr(s)
        clean = schedule.sigma(s) == 0
        singular = clean | (~low.isfinite() if self.form == "noise" else False)
        long = long_steps(process, t, s) & self.bounded
        matrices = self._matrices(low, high)
        nodes, factors = self._stages(process, times, matrices, ~singular & ~long)
        divided = self._divided(process, times)
        nodes, factors = (torch.where(_column(long, a), b, a) for a, b in ((nodes, divided[0]), (factors, divided[1])))
        once = singular & ~long
        euler = schedule.sigma(s) / schedule.sigma(t)
        factors[once, -1] = 0.0
        factors[once, -1, 0], factors[once, -1, 1] = euler[once], (schedule.alpha(s) - euler * schedule.alpha(t))[once]
        process.prepare(nodes.flatten())
        columns = [torch.where(once, 1.0, float(len(self.tableau.b)))]
        for i in range(1, nodes.shape[1] + 1):
            columns += [nodes[:, i], *factors[:, i - 1, : i + 1].T] if i < nodes.shape[1] else [*factors[:, -1].T]
        return torch.stack(columns, 1)

    def _matrices(self, low: Tensor, high: Tensor) -> Tensor:
        """``a`` with ``b`` as one more row, for each step: ``(N, s + 1, s)``."""
        tableau = self.tableau
        rows = torch.cat([tableau.matrix(), torch.tensor([tableau.b], dtype=torch.float64)])
        rows = rows.expand(len(low), -1, -1).clone()
        if self.method == "dpm2":
            rows[:, 1, 0] = torch.sigmoid(0.25 * (high - low))  # c = 1 / (1 + sqrt(r_s / r_t))
        return rows

    def _stages(self, process: SDE, times: Tensor, matrices: Tensor, usual: Tensor) -> tuple[Tensor, Tensor]:
        """Times of the stages ``(N, s)`` and factors of ``x_t`` and of the means in stages 2 to s and in the new state,
        ``(N, s, 1 + s)``; of steps that are not ``usual`` they mean nothing.
        """
        schedule, t, s = process.schedule, times[:-1], times[1:]
        sign = 1.0 if self.form == "data" else -1.0
        start, end = ((0.5 * sign * schedule.log_snr(v)).exp() for v in (t, s))  # u, or r
        c = matrices.sum(2)[:, :-1]
        nodes = start[:, None] + c * (end - start)[:, None]
        inner = schedule.time(2 * sign * nodes.clamp(min=0).log())
        inner = torch.where(usual[:, None] & (c > 0) & (c != 1), inner, torch.where(c == 1, s[:, None], t[:, None]))
        ends = torch.cat([inner, s[:, None]], 1)
        alpha, sigma = schedule.alpha(ends), schedule.sigma(ends)
        scale = sigma if self.form == "data" else alpha
        unit = torch.eye(1 + c.shape[1], dtype=torch.float64)
        states = [unit[0].expand(len(t), -1)]
        slopes: list[Tensor] = []
        for i in range(c.shape[1]):
            mean = unit[1 + i].expand(len(t), -1)
            noise = (states[i] - alpha[:, i, None] * mean) / sigma[:, i, None]
            slopes.append(mean if self.form == "data" else noise)
            total = sum((matrices[:, i + 1, j, None] * slopes[j] for j in range(i + 1)), torch.zeros_like(mean))
            step = unit[0] / scale[:, 0, None] + (end - start)[:, None] * total
            states.append(scale[:, i + 1, None] * step)
        return inner, torch.stack(states[1:], 1)

    def _divided(self, process: SDE, times: Tensor) -> tuple[Tensor, Tensor]:
        """As `_stages`, of ``s`` steps of Euler's method."""
        schedule, stages = process.schedule, len(self.tableau.b)
        inner = divide(process, times[:-1], times[1:], stages)
        ends = torch.cat([times[:-1, None], inner, times[1:, None]], 1)
        alpha, sigma = schedule.alpha(ends), schedule.sigma(ends)
        state = torch.zeros(len(inner), 1 + stages, dtype=torch.float64)
        state[:, 0] = 1.0
        states = []
        for i in range(stages):
            a = sigma[:, i + 1] / sigma[:, i]
            state = a[:, None] * state
            state[:, 1 + i] = alpha[:, i + 1] - a * alpha[:, i]
            states.append(state)
        return ends[:, :-1], torch.stack(states, 1)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        stages, count, at = len(self.tableau.b), int(row[0]), 1
        means = [run.posterior(x, t).mean]
        for i in range(1, stages):
            if i < count:
                stage = _weighted(x, means, row[at + 1 : at + 2 + i])
                means.append(run.posterior(stage, row[at]).mean)
            at += 2 + i
        return _weighted(x, means, row[at:])


def _column(mask: Tensor, like: Tensor) -> Tensor:
    """A mask ``(N,)`` that broadcasts over ``(N, ...)``."""
    return mask.reshape(-1, *[1] * (like.ndim - 1))


def _weighted(x: Tensor, means: list[Tensor], weights: Row) -> Tensor:
    """``weights[0] x + sum_i weights[1 + i] means[i]``, a new tensor."""
    out = x * weights[0]
    for weight, mean in zip(weights[1:], means):
        if isinstance(weight, Tensor):
            out = out + weight * mean
        elif weight != 0:
            out.add_(mean, alpha=weight)
    return out
