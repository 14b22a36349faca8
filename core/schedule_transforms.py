"""Schedules made from others: from a table of betas, shifted in log-SNR, rescaled to zero terminal SNR."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .schedules import Scalars, Schedule, Time, as_tensor, require, softplus, wide

__all__ = ["ShiftedSchedule", "TableSchedule", "ZeroTerminalSNR"]


@dataclass(frozen=True)
class TableSchedule(Schedule):
    r"""The schedule of a discrete-time model with given betas, such as DDPM's 1,000.

    After step ``i = 0 ... T - 1`` the signal left is ``alpha_bar_i = prod_{j <= i} (1 - beta_j)`` (Ho et al. 2020,
    2006.11239, eq. 4). It stands at time ``t = (i + 1) / T``, and ``alpha(0) = 1``.  Between these times ``log
    alpha`` is linear, that is, the rate is constant.  A last beta of 1 (zero terminal SNR) is allowed; ``alpha`` is
    linear over that last step. `index` is the (fractional) position in the table, which networks trained on integer
    steps expect.

    Args:
        betas: the table, each in (0, 1), the last one in (0, 1].
    """

    betas: tuple[float, ...]
    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "vp"

    def __post_init__(self) -> None:
        values = torch.as_tensor(self.betas, dtype=torch.float64)
        require(values.ndim == 1 and len(values) > 1, "betas", tuple(values.shape), "a list of at least two numbers")
        good = (values > 0) & (values < 1)
        good[-1] |= values[-1] == 1
        if not good.all():
            i = int((~good).nonzero()[0])
            raise ValueError(f"betas[{i}]={values[i].item()}: expected a number in (0, 1); only the last may be 1")
        object.__setattr__(self, "betas", tuple(values.tolist()))

    @classmethod
    def linear(cls, steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> "TableSchedule":
        """DDPM's table: betas evenly spaced from ``start`` to ``end`` (Ho et al. 2020, section 4)."""
        return cls(tuple(torch.linspace(start, end, steps, dtype=torch.float64).tolist()))

    @classmethod
    def scaled_linear(cls, steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> "TableSchedule":
        """Latent diffusion's table: square roots of betas evenly spaced (Rombach et al. 2022, 2112.10752)."""
        return cls(tuple((torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2).tolist()))

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Sequence[float]) -> "TableSchedule":
        """The table whose running products of ``1 - beta`` are these, falling from below 1."""
        values = torch.as_tensor(alphas_cumprod, dtype=torch.float64)
        previous = torch.cat([values.new_ones(1), values[:-1]])
        return cls(tuple((1 - values / previous).tolist()))

    @cached_property
    def _log_alpha(self) -> Tensor:
        rates = torch.log1p(-torch.as_tensor(self.betas, dtype=torch.float64))
        return torch.cat([rates.new_zeros(1), 0.5 * rates.cumsum(0)])

    @property
    def _ends_at_zero(self) -> bool:
        return self.betas[-1] == 1

    def _segment(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Position within the table: left knot, slope per step and fraction, and where the step to zero is."""
        position = wide(t) * len(self.betas)
        knots = self._log_alpha.to(position)
        i = position.floor().clamp(0, len(self.betas) - 1).long()
        slope = knots[i + 1] - knots[i]
        return knots[i], slope, position - i, slope.isinf()

    def _log_alpha_at(self, t: Tensor) -> Tensor:
        left, slope, fraction, to_zero = self._segment(t)
        # Each branch sees numbers for which it is finite: the gradient of the one not taken must not be NaN.
        linear = torch.log1p(-torch.where(to_zero, fraction, 0.0))
        return left + torch.where(to_zero, linear, slope.nan_to_num(neginf=0.0) * fraction)

    def index(self, t: Time) -> Scalars:
        """Position in the table: ``T t - 1``, so that time ``(i + 1) / T`` has index ``i``."""
        return len(self.betas) * as_tensor(t) - 1

    def alpha(self, t: Time) -> Scalars:
        t = as_tensor(t)
        return self._log_alpha_at(t).exp().to(t.dtype)

    def sigma(self, t: Time) -> Scalars:
        t = as_tensor(t)
        # Adding zero turns the -0.0 of t = 0 into 0.0, which keeps the sign of what is divided by it.
        return (0.0 - torch.expm1(2 * self._log_alpha_at(t))).sqrt().to(t.dtype)

    def log_snr(self, t: Time) -> Scalars:
        t = as_tensor(t)
        twice = 2 * self._log_alpha_at(t)
        return (twice - (-torch.expm1(twice)).log()).to(t.dtype)

    def _d_log_alpha(self, t: Tensor) -> Tensor:
        _, slope, fraction, to_zero = self._segment(t)
        return len(self.betas) * torch.where(to_zero, -1 / (1 - fraction), slope)

    def d_alpha(self, t: Time) -> Scalars:
        t = as_tensor(t)
        left, slope, fraction, to_zero = self._segment(t)
        smooth = slope * (left + slope * fraction).exp()
        return (len(self.betas) * torch.where(to_zero, -left.exp(), smooth)).to(t.dtype)

    def d_sigma(self, t: Time) -> Scalars:
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)

    def d_log_snr(self, t: Time) -> Scalars:
        t = as_tensor(t)
        # With alpha^2 + sigma^2 = 1: d log SNR = 2 d log alpha / sigma^2.
        return (2 * self._d_log_alpha(t) / -torch.expm1(2 * self._log_alpha_at(t))).to(t.dtype)

    def time(self, log_snr: Time) -> Scalars:
        log_snr = as_tensor(log_snr)
        log_alpha = -0.5 * softplus(-wide(log_snr))
        knots = self._log_alpha.to(log_alpha)
        i = (torch.searchsorted(-knots, -log_alpha) - 1).clamp(0, len(self.betas) - 1)
        slope = knots[i + 1] - knots[i]
        within = log_alpha - knots[i]
        fraction = torch.where(slope.isinf(), -torch.expm1(within), within / slope)
        return ((i + fraction) / len(self.betas)).to(log_snr.dtype)


@dataclass(frozen=True)
class ShiftedSchedule(Schedule):
    """Another schedule with more noise: ``sigma / alpha`` is multiplied by ``shift``, so log-SNR falls by ``2 log
    shift``.

    Larger pictures need more noise for the same loss of information: Hoogeboom et al. 2023 (arXiv 2301.11093), eq. 4,
    where ``shift = size / base``.  On `FlowSchedule` it is ``t -> shift t / (1 + (shift - 1) t)`` (Esser et al. 2024,
    2403.03206, eq. 23). The scaling (variance preserving, exploding, flow) stays that of the schedule; one without a
    scaling becomes variance preserving.

    Args:
        schedule: what is shifted.
        shift: factor on ``sigma / alpha``, positive; above 1 means more noise.
    """

    schedule: Schedule
    shift: float = 1.0

    def __post_init__(self) -> None:
        _check_schedule(self.schedule)
        require(0 < self.shift < math.inf, "shift", self.shift, "a positive number")

    @classmethod
    def for_resolution(cls, schedule: Schedule, size: int, base: int = 64) -> "ShiftedSchedule":
        """Shift a schedule made for pictures of ``base`` pixels to ``size`` pixels: ``shift = size / base``."""
        require(size > 0 and base > 0, "size", size, "positive sizes")
        return cls(schedule, size / base)

    @property
    def scaling(self) -> Literal["vp", "ve", "flow", "none"]:  # type: ignore[override]
        """That of the schedule, or ``"vp"`` where it has none."""
        return self.schedule.scaling if self.schedule.scaling != "none" else "vp"

    def _norm(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        if self.scaling == "ve":
            return alpha
        return alpha + self.shift * sigma if self.scaling == "flow" else torch.hypot(alpha, self.shift * sigma)

    def alpha(self, t: Time) -> Scalars:
        a, s = self.schedule.alpha(t), self.schedule.sigma(t)
        return a / self._norm(a, s)

    def sigma(self, t: Time) -> Scalars:
        a, s = self.schedule.alpha(t), self.schedule.sigma(t)
        return self.shift * s / self._norm(a, s)

    def d_alpha(self, t: Time) -> Scalars:
        base, k = self.schedule, self.shift
        a, s, da, n = base.alpha(t), base.sigma(t), base.d_alpha(t), self._norm(base.alpha(t), base.sigma(t))
        if base.scaling == "vp":  # with alpha^2 + sigma^2 = 1 the quotient rule has no infinite terms
            return k**2 * da / n**3
        wronskian = s * da - a * base.d_sigma(t)
        return {"ve": torch.zeros_like(a), "flow": k * wronskian / n**2}.get(self.scaling, k**2 * s * wronskian / n**3)

    def d_sigma(self, t: Time) -> Scalars:
        base, k = self.schedule, self.shift
        a, s, ds, n = base.alpha(t), base.sigma(t), base.d_sigma(t), self._norm(base.alpha(t), base.sigma(t))
        if base.scaling == "vp":
            return k * ds / n**3
        wronskian = a * ds - s * base.d_alpha(t)
        return {"ve": k * ds, "flow": k * wronskian / n**2}.get(self.scaling, k * a * wronskian / n**3)

    def log_snr(self, t: Time) -> Scalars:
        return self.schedule.log_snr(t) - 2 * math.log(self.shift)

    def d_log_snr(self, t: Time) -> Scalars:
        return self.schedule.d_log_snr(t)

    def time(self, log_snr: Time) -> Scalars:
        return self.schedule.time(as_tensor(log_snr) + 2 * math.log(self.shift))


@dataclass(frozen=True)
class ZeroTerminalSNR(Schedule):
    """A variance-preserving schedule moved so that no signal is left at ``t = 1``.

    ``alpha'(t) = (alpha(t) - alpha(1)) alpha(0) / (alpha(0) - alpha(1))``, ``sigma' = sqrt(1 - alpha'^2)``.
    Lin et al. 2024 (arXiv 2305.08891), algorithm 1, for any schedule instead of a table.

    Args:
        schedule: a schedule with ``scaling == "vp"``.
    """

    schedule: Schedule
    scaling: ClassVar[Literal["vp", "ve", "flow", "none"]] = "vp"

    def __post_init__(self) -> None:
        _check_schedule(self.schedule)
        require(self.schedule.scaling == "vp", "schedule", self.schedule, "a variance-preserving schedule")

    @cached_property
    def _ends(self) -> tuple[float, float, float]:
        """``alpha(0)``, ``1 - alpha(0)`` and ``alpha(1)``."""
        first = self.schedule.alpha(0.0).item()
        return first, self.schedule.sigma(0.0).item() ** 2 / (1 + first), self.schedule.alpha(1.0).item()

    @property
    def _gain(self) -> float:
        first, _, last = self._ends
        return first / (first - last)

    def alpha(self, t: Time) -> Scalars:
        t = as_tensor(t)
        alpha = (self.schedule.alpha(wide(t)) - self._ends[2]) * self._gain
        # The difference is zero at t = 1 up to rounding only, and a trace of signal of either sign is no zero SNR.
        return torch.where(t < 1, alpha.clamp(min=0), 0.0).to(t.dtype)

    def sigma(self, t: Time) -> Scalars:
        t = as_tensor(t)
        first, first_rest, last = self._ends
        base_rest = self.schedule.sigma(wide(t)) ** 2 / (1 + self.schedule.alpha(wide(t)))
        rest = (first * base_rest - first_rest * last) / (first - last)
        return (rest * (2 - rest)).sqrt().to(t.dtype)

    def d_alpha(self, t: Time) -> Scalars:
        return self.schedule.d_alpha(t) * self._gain

    def d_sigma(self, t: Time) -> Scalars:
        if self._ends[2] == 0:  # nothing was moved, and the slope of alpha may be infinite at t = 1
            return self.schedule.d_sigma(t)
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)

    def time(self, log_snr: Time) -> Scalars:
        log_snr = as_tensor(log_snr)
        first, first_rest, last = self._ends
        rest = -torch.expm1(-0.5 * softplus(-wide(log_snr)))
        base_rest = (last * first_rest + rest * (first - last)) / first
        alpha = 1 - base_rest
        return self.schedule.time(2 * alpha.log() - (base_rest * (2 - base_rest)).log()).to(log_snr.dtype)


def _check_schedule(schedule: object) -> None:
    if not isinstance(schedule, Schedule):
        raise TypeError(f"schedule={schedule!r}: expected a Schedule, such as CosineSchedule()")
