r"""Consistency models: one network that jumps from any point of the probability-flow ODE to its end.

A consistency function ``f(x_t, t)`` is constant along each solution of the ODE, and at the lowest noise it is the data
itself.  Here it is the *mean* of a denoiser, so that networks, checkpoints and guidance are the same as before; what
the mean says is no longer ``E[x_0 | x_t]``, and such a denoiser is for `ConsistencySampler`.

The boundary condition ``f = x / alpha`` at ``r = sigma / alpha = 0`` holds by construction for every prediction but
``x0``: the factor of the network's output in ``x0 = p x_t + q F`` vanishes there, as ``c_out`` of Karras et al. does
(Geng et al. 2024, arXiv 2406.14548, section 3.1).  `ConsistencyDenoiser` moves it to ``r_min > 0``, as in Song et al.
2023 (arXiv 2303.01469, appendix C), for any denoiser.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..denoisers import Denoiser, GaussianPosterior, LinearPosterior, Posterior
from ..objectives import check_data, event_mean, noise_like, shaped_mask
from ..ode_steps import Solver, ode_step
from ..schedules import Time, require
from ._teaching import TaughtObjective, noised
from .pairs import TimePairs

__all__ = ["ConsistencyDenoiser", "ConsistencyObjective"]


class ConsistencyDenoiser(Denoiser):
    r"""Gives a denoiser the boundary condition of a consistency function at ``r_min``.

    With ``y = x_t / alpha``, ``r = sigma / alpha`` and the network output ``F`` for which the denoiser's mean is ``d^2
    / (r^2 + d^2) y + r d / sqrt(r^2 + d^2) F``,

        f = c_skip y + c_out F,   c_skip = d^2 / ((r - r_min)^2 + d^2),   c_out = d (r - r_min) / sqrt(r^2 + d^2)

    (Song et al. 2023, arXiv 2303.01469, appendix C), that is

        f = (1 - r_min / r) mean + (c_skip - (1 - r_min / r) d^2 / (r^2 + d^2)) y.

    At ``r = r_min`` it is ``y``; below, ``r`` counts as ``r_min``.  ``r_min = 0`` is the denoiser itself.

    Args:
        denoiser: what learns.
        r_min: noise ratio of the boundary, positive or zero; 0.002 in the paper.
        sigma_data: standard deviation ``d`` of the data.
    """

    def __init__(self, denoiser: Denoiser, r_min: float = 0.002, sigma_data: float = 1.0) -> None:
        super().__init__(denoiser.process)
        require(r_min >= 0, "r_min", r_min, "a number of at least 0")
        require(sigma_data > 0, "sigma_data", sigma_data, "a positive number")
        self.denoiser = denoiser
        self.r_min = r_min
        self.sigma_data = sigma_data

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Posterior:
        level = self.process.level(t)
        answer = self.denoiser(x_t, t, **condition)
        if self.r_min == 0:
            return answer
        variance = self.sigma_data**2
        snr = torch.as_tensor(level.log_snr, dtype=torch.float64).exp()  # 1 / r^2, zero where there is no signal
        part = (1 - self.r_min * snr.sqrt()).clamp(min=0)  # (r - r_min) / r
        # c_skip and the mean's own factor, both over r^2 so that they hold for infinite r.
        skip = variance * snr / (part**2 + variance * snr)
        own = variance * snr / (1 + variance * snr)
        alpha = torch.as_tensor(level.alpha, dtype=torch.float64)
        # At zero signal both factors are zero, faster than alpha.
        factor = torch.where(alpha > 0, (skip - part * own) / alpha, 0.0)
        part, factor = (c.to(x_t).reshape(-1, *[1] * (x_t.ndim - 1)) for c in (part, factor))
        return GaussianPosterior(x_t, self.process, level, part * answer.mean + factor * x_t)


class ConsistencyObjective(TaughtObjective):
    r"""The loss of consistency training and distillation.

    ``w(t, s) d(f(x_t, t), stop f(x_s, s))`` for pairs ``s < t``, where ``x_s`` lies on the ODE through ``x_t``: with a
    teacher, one step of it (consistency distillation, Song et al. 2023, arXiv 2303.01469, eqs. 7 and 8); without, ``x_s
    = alpha_s x_0 + sigma_s eps`` with the ``x_0`` and ``eps`` of ``x_t`` (consistency training, eq. 10).  The target is
    the network of the same step without gradient, under the same dropout, and not an average of past ones
    (Song and Dhariwal 2023, 2310.14189, section 3.2).  At ``s = 0`` it is the data.

    The distance is the pseudo-Huber metric ``(|u - v|^2 / D + c^2)^(1/2) - c`` (2310.14189, section 3.3, with its ``c
    sqrt(D)`` written per coordinate), or ``|u - v|^2 / D``.

    ==============================  =====================  ============  ===================================
    method                          pairs                  weighting     teacher
    ==============================  =====================  ============  ===================================
    distillation (2303.01469)       `GridPairs`, constant  "uniform"     the denoiser
    improved training (2310.14189)  `GridPairs`            "difference"  none
    easy tuning (2406.14548)        `AnnealedPairs`        "difference"  none; start from a trained denoiser
    ==============================  =====================  ============  ===================================

    Args:
        pairs: draws the times.
        teacher: a trained denoiser, guided or not, which is copied; None for training without one.
        solver: the teacher's step, "heun" or "euler".
        c: of the pseudo-Huber metric, a coordinate; None for the squared distance.
        weighting: "difference" is ``1 / (r_t - r_s)``, "uniform" 1.
    """

    taken: Tensor
    """Training batches seen, which `TimePairs` counts on; kept in checkpoints."""

    def __init__(
        self,
        pairs: TimePairs,
        teacher: Denoiser | None = None,
        *,
        solver: Solver = "heun",
        c: float | None = 0.00054,
        weighting: Literal["difference", "uniform"] = "difference",
    ) -> None:
        super().__init__(teacher)
        if not isinstance(pairs, TimePairs):
            raise TypeError(f"pairs={pairs!r}: expected TimePairs, such as AnnealedPairs()")
        require(solver in ("euler", "heun"), "solver", solver, "'euler' or 'heun'")
        require(c is None or c >= 0, "c", c, "a number of at least 0, or None")
        require(weighting in ("difference", "uniform"), "weighting", weighting, "'difference' or 'uniform'")
        self.pairs = pairs
        self.solver = solver
        self.c = c
        self.weighting = weighting
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))
        self._step = 0  # ``taken`` as a number, for which nobody has to wait

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._step = int(self.taken)

    def forward(
        self,
        denoiser: Denoiser,
        x0: Tensor,
        *,
        mask: Bool[Tensor, "batch n"] | None = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        check_data(x0, mask)
        self.check_student(denoiser)
        process = denoiser.process
        t, s = self.pairs.draw(len(x0), process, self._step, generator)
        real = None if mask is None else process.expand_mask(mask)
        eps = process.white(noise_like(x0, generator), real)
        keep = None
        if real is not None:
            condition["mask"], keep = mask, shaped_mask(real, x0)
            x0, eps = x0 * keep, eps * keep
        wide = torch.float32 if x0.device.type == "mps" else torch.float64
        t, s = t.to(x0.device, wide), s.to(x0.device, wide)
        x_t, _ = noised(process, x0, eps, t)
        dropout = _random_state(x0.device)
        answer = denoiser(x_t, t, **condition)
        _check_boundary(answer)
        with torch.no_grad():
            if self.teacher is None:
                x_s, _ = noised(process, x0, eps, s)
            else:
                x_s = ode_step(self.teacher, x_t, t, s, self.solver, keep, **condition)
            with _replayed(dropout, x0.device):
                target = self._target(denoiser, x_s, s, condition)
        square = event_mean((answer.mean - target) ** 2, real)
        if self.training:
            self.taken += 1
            self._step += 1
        return self._weight(denoiser, t, s).to(square) * self._distance(square)

    def _target(self, denoiser: Denoiser, x_s: Tensor, s: Tensor, condition: dict[str, Any]) -> Tensor:
        """``f(x_s, s)``, which is ``x_s / alpha`` where there is no noise."""
        level = denoiser.process.level(s).like(x_s)
        clean = torch.as_tensor(level.sigma == 0)
        if clean.all():
            return x_s / level.alpha
        return torch.where(clean, x_s / level.alpha, denoiser(x_s, s, **condition).mean)

    def _distance(self, square: Tensor) -> Tensor:
        if self.c is None:
            return square
        # The root has no slope at zero, which a target at its goal would ask for.
        smallest = torch.finfo(square.dtype).tiny
        return (square + max(self.c**2, smallest)).sqrt() - self.c

    def _weight(self, denoiser: Denoiser, t: Tensor, s: Tensor) -> Tensor:
        if self.weighting == "uniform":
            return torch.ones_like(t)
        schedule = denoiser.process.schedule
        r_t, r_s = ((-0.5 * schedule.log_snr(time)).exp() for time in (t, s))
        return 1 / (r_t - r_s)


def _check_boundary(answer: Posterior) -> None:
    if isinstance(answer, LinearPosterior) and answer.parameterisation.prediction == "x0":
        raise ValueError(
            "prediction='x0' leaves the end of the consistency function free: expected v, flow, edm, eps or score, or "
            "the denoiser wrapped in ConsistencyDenoiser"
        )


@contextmanager
def _replayed(state: Tensor, device: torch.device) -> Iterator[None]:
    """A block that draws the dropout that followed ``state``."""
    now = _random_state(device)
    _set_random_state(state, device)
    try:
        yield
    finally:
        _set_random_state(now, device)


def _random_state(device: torch.device) -> Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)
