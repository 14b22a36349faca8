r"""DPM-Solver++ multistep, orders 1 to 3, for the ODE and the SDE.

Write ``l = log(alpha / sigma)`` (half of log-SNR) and ``h = l_s - l_t``.  With stochasticity ``eta`` the reverse
process is solved exactly but for the posterior mean ``m(l)`` (Lu et al. 2022, 2211.01095, eqs. 8 and 13; Gonzalez et
al. 2023, 2305.14267),

    x_s = (sigma_s / sigma_t) e^(-eta h) x_t + alpha_s int_0^1 H e^(-H (1 - u)) m(l_t + u h) du + sigma_s sqrt(1 -
    e^(-2 eta h)) z,

with ``H = (1 + eta) h``.  The mean is replaced by the polynomial through its last values.  The integrals of ``1, u,
u^2`` are

    I_0 = 1 - e^(-H),     I_1 = 1 - I_0 / H,     I_2 = 1 - 2 I_1 / H.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from ..schedules import require
from ..sdes import SDE
from .base import LinearSampler, Row, Run
from .multistep import LONG_RUN

__all__ = ["DPMSolver"]


@dataclass(frozen=True)
class DPMSolver(LinearSampler):
    r"""DPM-Solver++ multistep ("2M" at order 2, "3M" at order 3), deterministic or stochastic.

    One evaluation a step.  Steps from pure noise and to clean data (infinite ``h``) are of order 1.  The first step
    has no past and is of order 1 too, which costs the second order nothing; for order 3 it would, so there (``eta =
    0``) runs of 12 steps or more begin with a midpoint step of order 2, which costs one more evaluation.  Steps of
    ``(1 + eta) h`` above 1/2 leave the quadratic term out, which is no guide over such a distance.  Lu et al. 2022
    (arXiv 2211.01095), algorithm 2; see the module's text.

    Args:
        order: 1, 2 or 3.  Order 1 with ``eta = 0`` is `DDIM`.
        eta: 0 is the ODE, 1 the SDE ("SDE-DPM-Solver++").
        form: "paper": order 2 as in the paper's algorithm 2, which takes the midpoint of the linear part (``I_0 / 2``
            for ``I_1``); "exact": with ``I_1`` itself (order 3 is exact in both); "released": the formulas of the
            authors' released code, which halve the quadratic term and start at order 1, and so fall to second order;
            for comparison with libraries that follow it.
    """

    steps: int = 20
    order: int = field(default=2, kw_only=True)  # type: ignore[misc]
    eta: float = field(default=0.0, kw_only=True)
    form: Literal["paper", "exact", "released"] = field(default="paper", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.order in (1, 2, 3), "order", self.order, "1, 2 or 3")
        require(self.eta >= 0, "eta", self.eta, "a number of at least 0")
        require(self.form in ("paper", "exact", "released"), "form", self.form, "'paper', 'exact' or 'released'")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def _warm_start(self, process: SDE, times: Tensor) -> bool:
        """Whether the first of these steps is a midpoint step: order 3 of the ODE, and the step is finite."""
        finite = torch.isfinite(process.schedule.log_snr(times[:2])).all()
        return self._starts_by_midpoint(self.steps) and bool(finite)

    def _starts_by_midpoint(self, steps: int) -> bool:
        return self.order == 3 and self.eta == 0 and self.form != "released" and steps >= LONG_RUN

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        steps = self.steps if steps is None else steps
        if process is not None:
            return super().nfe(steps) + replace(self, steps=steps)._warm_start(process, self.grid(steps, process))
        return super().nfe(steps) + self._starts_by_midpoint(steps)

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """Columns: ``a``, the weights of the last ``order`` means, ``g``."""
        schedule, t, s = process.schedule, times[:-1], times[1:]
        half = 0.5 * schedule.log_snr(times)
        h = half[1:] - half[:-1]
        decay = (-self.eta * h).exp() if self.eta > 0 else torch.ones_like(h)
        a = schedule.sigma(s) / schedule.sigma(t) * decay
        g = schedule.sigma(s) * (1 - decay**2).sqrt()
        return torch.cat([a[:, None], schedule.alpha(s)[:, None] * self._weights(h), g[:, None]], 1)

    def _weights(self, h: Tensor) -> Tensor:
        """Weights of ``m_0, m_1, m_2`` in the integral, ``(N, order)``.

        With Newton's form ``m(u) = m_0 + u D + u (u + h_1 / h) F`` of the polynomial through the means at ``u = 0``,
        ``-h_1 / h`` and ``-(h_1 + h_2) / h``.  A step that has no such past has an infinite ``h_1`` or ``h_2``, so
        ``D`` and ``F`` vanish.
        """
        h1, h2 = _previous(h, 1), _previous(h, 2)
        big_h = (1 + self.eta) * h
        i0 = -torch.expm1(-big_h)
        i1 = 1 - i0 / big_h
        i2 = (1 - 2 * i1 / big_h) * (0.5 if self.form == "released" else 1.0)
        short = (big_h <= 0.5) | torch.tensor(self.form == "released")  # enough for a quadratic
        if self.form != "exact":
            i1 = torch.where(short, i1, 0.5 * i0) if self.order == 3 else 0.5 * i0
        if self.form != "released" and self.eta > 0:
            h1 = torch.where(big_h > 2, torch.inf, h1)  # nor is the latest slope
        slope, older_slope = h / h1, h / h2  # D = slope (m_0 - m_1)
        curve = torch.where(h1.isfinite() & short, (i2 * h + i1 * h1) / (h1 + h2), 0.0)  # F / (D - D_older)
        columns = {
            1: [i0],
            2: [i0 + i1 * slope, -i1 * slope],
            3: [i0 + (i1 + curve) * slope, -(i1 + curve) * slope - curve * older_slope, curve * older_slope],
        }[self.order]
        usual = torch.stack(columns, 1)
        first_order = torch.stack([i0, *[torch.zeros_like(i0)] * (self.order - 1)], 1)
        return torch.where(h.isfinite()[:, None], usual, first_order)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        process = run.denoiser.process
        if run.history or not self._warm_start(process, torch.tensor([t, s], dtype=torch.float64)):
            return super().advance(run, x, t, s, row)
        here = run.posterior(x, t)
        run.history = [here.mean]
        middle = process.level(process.schedule.time(0.5 * (process.level(t).log_snr + process.level(s).log_snr)))
        between = run.posterior(here.combine(middle.alpha, middle.sigma), middle.t)
        start, end = process.level(t), process.level(s)
        a = end.sigma / start.sigma
        return a * x + (end.alpha - a * start.alpha) * between.mean


def _previous(h: Tensor, lag: int) -> Tensor:
    """The step lengths ``lag`` steps earlier; infinite where there was none."""
    return torch.cat([h.new_full((min(lag, len(h)),), torch.inf), h[:-lag]])
