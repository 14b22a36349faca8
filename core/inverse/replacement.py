r"""Replacement and RePaint: at every step, what was measured is put into the state at that step's noise level."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..samplers.base import Row, Run
from ..sdes import SDE, posterior_coefficients
from .travel import TravellingSampler

__all__ = ["RePaint", "Replacement"]


@dataclass(frozen=True)
class RePaint(TravellingSampler):
    r"""RePaint: ancestral steps in which the known part is replaced by a noised copy, with jumps back in time.

    With ``x'_s`` the step of DDPM: ``x_s = (I - A^+ A) x'_s + alpha_s A^+ y + sigma_s A^+ A z``.  Lugmayr et al. 2022
    (arXiv 2201.09865), eq. 8 and algorithm 1, whose ``A`` is a mask; here any operator that knows its pseudo-inverse.
    The measurement is taken as exact.  The samples fit it exactly.

    Biased: the unknown part does not learn of the known part's value within a step.  Jumps reduce the bias, at their
    price in evaluations, and do not remove it.

    Args:
        measurement: what was seen, through a linear operator that knows its pseudo-inverse.
        jump_length, resamplings: as in `TravellingSampler`; 10 and 10 in the paper, for 250 steps.
    """

    jump_length: int = field(default=10, kw_only=True)
    resamplings: int = field(default=10, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        operator = self.measurement.linear(type(self).__name__)
        operator.pseudo_inverse(self.measurement.y[:1])  # complains of an operator that has none

    @property
    def stochastic(self) -> bool:
        return True

    def descent(self, process: SDE, t: Tensor, s: Tensor) -> Tensor:
        schedule = process.schedule
        return torch.stack([*posterior_coefficients(schedule, t, s), schedule.alpha(s), schedule.sigma(s)], 1)

    def descend(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        a, b, g, alpha, sigma = row
        operator = self.measurement.linear(type(self).__name__)
        unknown = run.posterior(x, t).affine(a, b) + g * run.noise.step(x, t, s)
        known = alpha * operator.pseudo_inverse(self.measurement.like(x)) + sigma * run.noise.draw(x)
        return unknown + operator.project(known - unknown)


@dataclass(frozen=True)
class Replacement(RePaint):
    """Replacement without jumps: `RePaint` with one descent.

    Song et al. 2021 (arXiv 2011.13456), appendix I.2; Sohl-Dickstein et al. 2015 (arXiv 1503.03585).  Cheap and biased.
    """

    jump_length: int = field(default=1, init=False)
    resamplings: int = field(default=1, init=False)
