r"""DPM-Solver singlestep, orders 1 to 3: Runge-Kutta methods for the exponential integrals.

With ``l``, ``h`` as in `exponential`, nodes at ``l_t + r_1 h`` and ``l_t + r_2 h``, and the value ``v`` (posterior mean
or noise) known at the nodes, each stage integrates the part of ``v`` known so far: the constant exactly, the slope
``D / r`` with the weight of ``u`` in ``[0, 1]``.  Order 2 has one node at 1/2 and takes half of the constant's weight
for the slope's; order 3 has nodes at 1/3 and 2/3.  Lu et al. 2022 (arXiv 2206.00927), algorithms 1, 2 and 3 for the
noise; (arXiv 2211.01095), algorithm 1 and its third-order continuation for the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..schedules import Schedule, require
from ..sdes import SDE
from .base import Row, Run, Sampler
from .exponential import Predicts, lead_columns, leading, value_of
from .long_steps import divide, long_steps

__all__ = ["DPMSolverSinglestep"]

COLUMNS = 11
"""Columns of `singlestep_rows`: node 1, its ``p, q``; node 2, its ``p, q`` and weight of the value at node 1; the
end's ``p, q`` and weights of the values at node 1 (where there is a node 2) and at the last node.
"""

LONGEST = 5.0  # in log-SNR: beyond, the weights of the noise form, of size e^h, leave the data


def singlestep_rows(schedule: Schedule, t: Tensor, s: Tensor, orders: Sequence[int], predicts: Predicts) -> Tensor:
    """Coefficients of single steps ``(N, COLUMNS)``, float64; nodes that an order does not have are NaN.

    A step of infinite ``h`` (from pure noise, to clean data) has order 1 whatever was asked.
    """
    half = 0.5 * schedule.log_snr(t), 0.5 * schedule.log_snr(s)
    h = half[1] - half[0]
    order = torch.where(h.isfinite(), torch.tensor(orders, device=t.device), 1)
    nan = torch.full_like(h, torch.nan)

    def stage(r: Tensor | float, end: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of 1 and of ``u`` in the integral over the first ``r`` of the step, ``u`` over that part."""
        z = r * h
        if predicts == "mean":
            constant = -torch.expm1(-z)
            return schedule.alpha(end) * constant, schedule.alpha(end) * (1 - constant / z)
        constant = torch.expm1(z)
        return -schedule.sigma(end) * constant, -schedule.sigma(end) * (constant / z - 1)

    def node(r: Tensor) -> Tensor:
        return schedule.time(2 * (half[0] + r * h)).clamp(0, 1)

    r1, r2 = torch.where(order == 3, torch.full_like(h, 1 / 3), 0.5), 2 / 3
    high, third = order > 1, order == 3
    first, second = torch.where(high, node(r1), nan), torch.where(third, node(torch.full_like(h, r2)), nan)
    constant, slope = stage(1.0, s)
    if predicts == "mean":
        whole = schedule.alpha(s) - schedule.alpha(t) * schedule.sigma(s) / schedule.sigma(t)
    else:
        whole = schedule.sigma(s) - schedule.alpha(s) * (-half[0]).exp()
    constant = torch.where(h.isfinite(), constant, whole)
    last = torch.where(third, slope / r2, constant)  # at order 2: (constant / 2) / r_1
    last = torch.where(high, last, 0.0)
    p1, q1 = lead_columns(schedule, predicts, t, first.nan_to_num(1.0), stage(r1, first.nan_to_num(1.0))[0])
    at_second = second.nan_to_num(1.0)
    constant2, slope2 = stage(r2, at_second)
    inner = slope2 * r2 / r1
    p2, q2 = lead_columns(schedule, predicts, t, at_second, constant2 - inner)
    p, q = lead_columns(schedule, predicts, t, s, constant - last)
    if predicts == "eps":  # from pure noise the difference of infinities is meant
        q = torch.where(h.isfinite(), q, schedule.sigma(s))
    return torch.stack([first, p1, q1, second, p2, q2, inner, p, q, torch.zeros_like(h), last], 1)


def divided_rows(process: SDE, t: Tensor, s: Tensor, order: int) -> Tensor:
    """Rows of the noise form for steps of finite ``h`` ``(N,)`` that are as many steps of `DDIM` as the order says."""
    schedule, nan = process.schedule, torch.full_like(t, torch.nan)
    middle = divide(process, t, s, order).unbind(1)

    def ddim(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of the state and of the noise."""
        h = 0.5 * (schedule.log_snr(end) - schedule.log_snr(start))
        return schedule.alpha(end) / schedule.alpha(start), -schedule.sigma(end) * torch.expm1(h)

    p, q = lead_columns(schedule, "eps", t, middle[0], ddim(t, middle[0])[1])
    columns = [middle[0], p, q, nan, nan, nan, nan]
    a, last = ddim(middle[-1], s)
    between = torch.zeros_like(t)
    if order == 3:
        keep, inner = ddim(*middle)
        p, q, between = keep * p, keep * q, a * inner
        columns[3:] = [middle[1], p, q, inner]
    return torch.stack([*columns, a * p, a * q, between, last], 1)


def singlestep(
    run: Run, x: Tensor, t: Tensor | float, row: Row, predicts: Predicts, order: int | None = None
) -> tuple[Tensor, Tensor]:
    """The state after a step by a row of `singlestep_rows`, and the value at ``t``.

    ``order`` says which nodes the row has, for rows of tensors, whose NaN cannot be asked for while compiling.
    """
    first, p1, q1, second, p2, q2, inner, p, q, between, last = row
    here = run.posterior(x, t)
    known = value_of(here, predicts)
    if order == 1 or (order is None and first != first):
        return leading(here, predicts, p, q), known
    value = value_of(run.posterior(leading(here, predicts, p1, q1), first), predicts)
    out = leading(here, predicts, p, q)
    if order == 3 or (order is None and second == second):
        out = out + between * value
        state = leading(here, predicts, p2, q2) + inner * value
        value = value_of(run.posterior(state, second), predicts)
    return out + last * value, known


@dataclass(frozen=True)
class DPMSolverSinglestep(Sampler):
    r"""DPM-Solver singlestep: ``order`` evaluations a step, nothing carried between steps.

    Steps from pure noise and to clean data are of order 1 and cost one evaluation.  Lu et al. 2022 (arXiv 2206.00927),
    algorithms 1-3 (``predicts="eps"``: DPM-Solver-1, -2, -3); (arXiv 2211.01095), algorithm 1 ("2S") and its third
    order (``predicts="mean"``).  Order 2 of the noise form is DPM-Solver-2; see the module's text for the formulas.

    Args:
        order: 1, 2 or 3.  Order 1 is `DDIM`.
        predicts: what is integrated: the posterior mean (DPM-Solver++) or the noise (DPM-Solver).
        orders: an order for each step, in the place of ``order``; see `of_budget`.
        bounded: divide steps of the noise form that gain more than 5 in log-SNR into steps of order 1 at the same
            evaluations, so that runs of few steps stay near the data; the data form does so by itself.  False is the
            published method.
    """

    steps: int = 10
    order: int = field(default=2, kw_only=True)  # type: ignore[misc]
    predicts: Predicts = field(default="mean", kw_only=True)
    orders: tuple[int, ...] | None = field(default=None, kw_only=True)
    bounded: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.order in (1, 2, 3), "order", self.order, "1, 2 or 3")
        require(self.predicts in ("mean", "eps"), "predicts", self.predicts, "'mean' or 'eps'")
        if self.orders is not None:
            fits = len(self.orders) == self.steps and all(k in (1, 2, 3) for k in self.orders)
            require(fits, "orders", self.orders, f"one order of 1, 2 or 3 for each of steps={self.steps}")

    @classmethod
    def of_budget(cls, evaluations: int, order: int = 3, **settings: object) -> "DPMSolverSinglestep":
        """The solver that spends exactly this many evaluations ("DPM-Solver-fast"; 2206.00927, section 3.4).

        As many steps of the full order as fit; the rest is spent on the last steps, which are of lower order.  The
        grid must end in clean data, whose step is of order 1 and takes the last evaluation.  Budgets below 6 are
        spent on
        order 1 and below 9 on order 2 at most: two or three steps of a high order would be too long for it.

        Args:
            evaluations: at least 1.
            order: the highest order, 1 to 3.
            settings: the other arguments of the class.
        """
        require(evaluations >= 1, "evaluations", evaluations, "a number of at least 1")
        order = min(order, 1 if evaluations < 6 else 2 if evaluations < 9 else 3)
        full, rest = divmod(evaluations - 1, order)
        orders = (*[order] * full, *([rest] if rest else []), 1)
        return cls(len(orders), order=order, orders=orders, **settings)  # type: ignore[arg-type]

    def _orders(self, steps: int) -> list[int]:
        return [self.order] * steps if self.orders is None or len(self.orders) != steps else list(self.orders)

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        steps = self.steps if steps is None else steps
        if process is None:
            return sum(self._orders(steps)[:-1]) + 1 + self.denoise
        rows = self.plan(process, self.grid(steps, process))
        return steps + int((~rows[:, [0, 3]].isnan()).sum()) + self.denoise

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        t, s, orders = times[:-1], times[1:], self._orders(len(times) - 1)
        rows = singlestep_rows(process.schedule, t, s, orders, self.predicts)
        if not self.bounded or self.predicts == "mean":
            return rows
        finite = (process.schedule.log_snr(s) - process.schedule.log_snr(t)).isfinite()
        long = long_steps(process, t, s, LONGEST) & finite
        for order in {2, 3}.intersection(orders):
            chosen = long & (torch.tensor(orders) == order)
            rows = torch.where(chosen[:, None], divided_rows(process, t, s, order), rows)
        return rows

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        order = self.order if isinstance(row[0], Tensor) else None
        return singlestep(run, x, t, row, self.predicts, order)[0]
