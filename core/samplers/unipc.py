"""UniPC: a unified predictor-corrector, and its corrector for other samplers."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..schedules import Schedule, require
from ..sdes import SDE
from .base import LinearSampler
from .exponential import Predicts, lagrange_weights
from .multistep import Multistep

__all__ = ["UniPC"]


@dataclass(frozen=True)
class UniPC(Multistep):
    r"""UniPC of order 1 to 3: the predictor UniP and the corrector UniC, which adds an order at no evaluation.

    Zhao et al. 2023 (arXiv 2302.04867), eqs. 3 and 9, algorithms 1-4.  With more than two values the coefficients
    follow from the order conditions alone and ``B(h)`` cancels: they are the exact integrals of the interpolating
    polynomial. With two values (UniP-2, UniC-1) the paper sets the one free coefficient to 1/2 and ``B(h)`` matters:
    the slope has the weight ``B(h) / 2``.  Converges at order ``order + 1`` with the corrector, ``order`` without.

    Args:
        order: 1, 2 or 3.
        bh: "bh1": ``B(h) = h``; "bh2": ``B(h) = e^h - 1`` (for the data ``1 - e^-h``).
        predicts: what is extrapolated; the posterior mean suits guided sampling.
        corrector: whether steps are corrected.
        predictor: a deterministic linear sampler whose step takes UniP's place, which makes this its corrector
            ("UniC"); for ``predicts="mean"``.
    """

    order: int = field(default=2, kw_only=True)  # type: ignore[misc]
    bh: Literal["bh1", "bh2"] = field(default="bh2", kw_only=True)
    predicts: Predicts = field(default="mean", kw_only=True)
    corrector: bool = field(default=True, kw_only=True)
    predictor: LinearSampler | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.bh in ("bh1", "bh2"), "bh", self.bh, "'bh1' or 'bh2'")
        require(self.predicts in ("mean", "eps"), "predicts", self.predicts, "'mean' or 'eps'")
        if self.predictor is not None:
            fits = isinstance(self.predictor, LinearSampler) and not self.predictor.stochastic
            require(fits, "predictor", self.predictor, "a deterministic linear sampler, such as DDIM() or DPMSolver()")
            require(self.predicts == "mean", "predicts", self.predicts, "'mean' together with a predictor")

    @property
    def corrects(self) -> int:
        return self.order + 1 if self.corrector else 0

    def reach(self, values: int, correcting: bool) -> float:
        # B(h) = h outgrows the integral 1 - e^-h that it stands for.
        short = self.bh == "bh1" and values == (1 if correcting else 2)
        return min(super().reach(values, correcting), 1.0 if short else torch.inf)

    def _predictions(self, process: SDE, times: Tensor) -> Tensor:
        if self.predictor is None:
            return super()._predictions(process, times)
        plan, schedule = self.predictor.plan(process, times), process.schedule
        if not torch.allclose(plan[:, 0], schedule.sigma(times[1:]) / schedule.sigma(times[:-1])):
            raise ValueError(f"predictor={self.predictor}: expected steps that multiply the state by sigma_s / sigma_t")
        weights = plan[:, 1:-1]  # without the column of the noise, which is zero
        if weights.shape[1] > self.order:
            raise ValueError(
                f"order={self.order}: expected {weights.shape[1]} or more, the values {self.predictor} uses"
            )
        return self._padded(weights)

    def weights(self, process: SDE, t: Tensor, s: Tensor, nodes: Tensor) -> Tensor:
        if nodes.shape[1] != 2:
            return lagrange_weights(process.schedule, t, s, nodes, self.predicts)
        half = 0.5 * process.schedule.log_snr(nodes)
        whole, slope = self._two_values(process.schedule, t, s)
        slope = slope * 0.5 * (process.schedule.log_snr(s) - process.schedule.log_snr(t)) / (half[:, 1] - half[:, 0])
        return torch.stack([whole - slope, slope], 1)

    def correction(self, process: SDE, t: Tensor, s: Tensor, nodes: Tensor) -> Tensor:
        if nodes.shape[1] != 2:
            return lagrange_weights(process.schedule, t, s, nodes, self.predicts)
        whole, slope = self._two_values(process.schedule, t, s)
        return torch.stack([slope, whole - slope], 1)

    def _two_values(self, schedule: Schedule, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """The weight of a constant, and of the difference over a whole step, ``B(h) / 2``."""
        h = 0.5 * (schedule.log_snr(s) - schedule.log_snr(t))
        if self.predicts == "mean":
            scale, whole = schedule.alpha(s), -torch.expm1(-h)
        else:
            scale, whole = -schedule.sigma(s), torch.expm1(h)
        return scale * whole, 0.5 * scale * (whole if self.bh == "bh2" else h)
