r"""Coefficients of methods that solve the linear part of the probability-flow ODE exactly.

Write ``l = log(alpha / sigma)`` (half of log-SNR) and ``h = l_s - l_t``.  The ODE's solution is known but for an
integral over the posterior mean ``m`` or over the posterior noise ``e`` (Lu et al. 2022, 2206.00927, eq. 3.4, and
2211.01095, eq. 8; Xue et al. 2023, 2309.05019, eq. 10, with stochasticity ``tau``):

    x_s = (sigma_s / sigma_t) x_t + alpha_s int e^(l - l_s) m(l) dl,
    x_s = (alpha_s / alpha_t) x_t - sigma_s int e^(l_s - l) e(l) dl,
    x_s = (sigma_s / sigma_t) e^(-tau^2 h) x_t + alpha_s int (1 + tau^2) e^(-(1 + tau^2) (l_s - l)) m(l) dl
          + sigma_s sqrt(1 - e^(-2 tau^2 h)) z.

A method replaces ``m`` or ``e`` by a polynomial through known values; its integral gives one weight a value.

A step starts with the state and the value at ``t``.  Both come from one posterior, and are combined there so that
nothing is infinite at a singular end: as ``p x_t + q m`` or, for the noise, as ``p m + q e`` (`leading`).
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..denoisers import Posterior
from ..schedules import Schedule

__all__ = ["Predicts", "Variable", "lagrange_weights", "lead_columns", "leading", "value_of"]

Predicts = Literal["mean", "eps"]
Variable = Literal["log_rho", "rho", "t"]

_NODES, _WEIGHTS = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(48))


def value_of(posterior: Posterior, predicts: Predicts) -> Tensor:
    """The quantity that the method follows: the posterior mean or the posterior noise."""
    return posterior.mean if predicts == "mean" else posterior.eps


def leading(posterior: Posterior, predicts: Predicts, p: float | Tensor, q: float | Tensor) -> Tensor:
    """The part of a step that state and value at ``t`` make: ``p x_t + q mean``, or ``p mean + q eps``."""
    return posterior.affine(p, q) if predicts == "mean" else posterior.combine(p, q)


def lead_columns(
    schedule: Schedule, predicts: Predicts, t: Tensor, s: Tensor, weight: Tensor, decay: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """``p`` and ``q`` of `leading` for a step ``(N,)`` in which the value at ``t`` has this weight.

    ``decay`` is ``e^(-tau^2 h)`` for the mean.
    """
    if predicts == "mean":
        return schedule.sigma(s) / schedule.sigma(t) * decay, weight
    ratio = (-0.5 * schedule.log_snr(t)).exp()  # sigma_t / alpha_t
    return schedule.alpha(s), schedule.alpha(s) * ratio + weight


def lagrange_weights(
    schedule: Schedule,
    t: Tensor,
    s: Tensor,
    nodes: Tensor,
    predicts: Predicts,
    variable: Variable = "log_rho",
    tau: Tensor | float = 0.0,
) -> Tensor:
    """Weights of the values at ``nodes`` in the steps from ``t`` to ``s``, ``(R, k)``, float64.

    The polynomial runs in ``log rho = -l``, in ``rho = sigma / alpha`` or in time.  Gauss-Legendre quadrature on 48
    nodes integrates polynomial times exponential to rounding and has no cancellation, unlike the closed forms at
    small steps.

    Args:
        schedule: of the process.
        t, s: ends of each step, ``(R,)``, of finite log-SNR.
        nodes: times of the known values, ``(R, k)``, of finite log-SNR.
        predicts: "mean" or "eps".
        variable: of the polynomial.
        tau: stochasticity, ``(R,)``; for the mean alone.
    """
    start, end = 0.5 * schedule.log_snr(t), 0.5 * schedule.log_snr(s)
    h = end - start
    points = start[:, None] + h[:, None] * (0.5 * (_NODES + 1))
    distance = end[:, None] - points
    if predicts == "mean":
        pull = 1 + torch.as_tensor(tau, dtype=torch.float64) ** 2
        pull = pull.reshape(-1, 1)
        kernel = schedule.alpha(s)[:, None] * pull * (-pull * distance).exp()
    else:
        kernel = -schedule.sigma(s)[:, None] * distance.exp()
    at = _position(schedule, points, start, variable)
    known = _position(schedule, 0.5 * schedule.log_snr(nodes), start, variable, nodes)
    basis = _lagrange(at, known)
    return torch.einsum("rq,q,rqk->rk", kernel, _WEIGHTS, basis) * (0.5 * h[:, None])


def _position(
    schedule: Schedule, half: Tensor, start: Tensor, variable: Variable, times: Tensor | None = None
) -> Tensor:
    """The polynomial's variable at half log-SNR ``half`` ``(R, n)``; ``rho`` is relative to the step's start."""
    if variable == "log_rho":
        return half
    if variable == "rho":
        return (start[:, None] - half).exp()
    return schedule.time(2 * half) if times is None else times


def _lagrange(at: Tensor, nodes: Tensor) -> Tensor:
    """Lagrange's basis: polynomial ``j`` is 1 at node ``j`` and 0 at the others; ``(R, q), (R, k) -> (R, q, k)``."""
    columns = []
    for j in range(nodes.shape[1]):
        others = [i for i in range(nodes.shape[1]) if i != j]
        top = at[:, :, None] - nodes[:, None, others]
        bottom = nodes[:, j, None] - nodes[:, others]
        columns.append((top / bottom[:, None, :]).prod(-1))
    return torch.stack(columns, -1)
