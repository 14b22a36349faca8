r"""Align Your Steps: the grid whose discretised reverse SDE stays closest to the exact one.

A step from ``t_i`` holds the denoiser's answer while the reverse SDE goes on.  By Girsanov's theorem the divergence of
the two path measures, which bounds that of the samples from above, is (Sabour et al. 2024, 2404.14507, section 3)

    KLUB = sum_i 1/2 int_{SNR(t_i)}^{SNR(t_{i+1})} E |mean(x_u, u) - mean(x_{t_i}, t_i)|^2 dSNR(u),

here written over SNR, which makes the paper's weight ``1 / sigma^3`` constant.  The integral over the last step, to
clean data, is infinite; that step costs what the Gaussian decoder loses there in likelihood instead.  For an exact
denoiser ``KLUB`` is the variational bound of the grid (`BoundSearch`) less its limit for infinitely many steps.

All expectations come from one forward path a sample on a fine grid.  The paper moves times one after the other between
their neighbours, stops early, and grows grids of many steps by doubling, with new times at the geometric mean of
``sigma / alpha`` and a few more sweeps.  Since ``KLUB`` is a sum over pairs of neighbours, its least value on the fine
grid is also a cheapest path, which no local optimum can hide.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..grids import Grid, Times, UniformLogSNR
from ..schedules import require
from .bound import with_data
from .forward import ForwardErrors, forward_errors
from .levels import as_times, fine_times
from .paths import shortest_paths

__all__ = ["AlignYourSteps", "divergence_costs"]


def divergence_costs(errors: ForwardErrors, clean: bool) -> Tensor:
    """Nats of the step between each pair of times, in the form of `bound_costs`; trapezoid rule on the times."""
    snr = errors.log_snr.exp()
    costs = _cumulated(errors.distances, snr)
    costs = costs - costs.diagonal()[:, None]
    if not clean:
        return with_data(costs, None)
    exact = _cumulated(errors.errors, snr)
    return with_data(costs, errors.decoder - errors.decoder[-1] - (exact[-1] - exact))


def _cumulated(values: Tensor, snr: Tensor) -> Tensor:
    """Half the integral of ``values (..., n)`` over SNR from the first time to each."""
    cells = 0.25 * (values[..., 1:] + values[..., :-1]) * (snr[1:] - snr[:-1])
    return torch.nn.functional.pad(cells.cumsum(-1), (1, 0))


@dataclass(frozen=True)
class AlignYourSteps:
    """Finds grids by the method of the module's text.

    Args:
        resolution: steps of the fine grid on which times move, several times the number of steps searched for.
        fine: the fine grid, whose ends are those of the result.
        optimum: "global", the cheapest path, or "local", the paper's descent, which the arguments below are for.
        base: even numbers of steps above this are grown by doubling; 10 in the paper.
        candidates: places that a time tries between its neighbours in a sweep.
        sweeps: greatest number of sweeps over the times of the smallest grid.
        refinements: the same after each doubling.
        tolerance: stop when a sweep lowers the divergence by less than this part.
    """

    resolution: int = 256
    fine: Grid = field(default=UniformLogSNR(), kw_only=True)
    optimum: Literal["global", "local"] = field(default="global", kw_only=True)
    base: int = field(default=10, kw_only=True)
    candidates: int = field(default=11, kw_only=True)
    sweeps: int = field(default=300, kw_only=True)
    refinements: int = field(default=10, kw_only=True)
    tolerance: float = field(default=1e-3, kw_only=True)

    def __post_init__(self) -> None:
        require(self.resolution >= 2, "resolution", self.resolution, "at least 2")
        require(self.optimum in ("global", "local"), "optimum", self.optimum, "'global' or 'local'")
        require(self.base >= 1, "base", self.base, "at least 1")
        require(self.candidates >= 1, "candidates", self.candidates, "at least 1")
        require(self.sweeps >= 1 and self.refinements >= 0, "sweeps", self.sweeps, "at least 1, refinements at least 0")
        require(self.tolerance >= 0, "tolerance", self.tolerance, "a number of at least 0")

    def search(
        self, denoiser: Denoiser, x0: Tensor, steps: int, *, seed: int = 0, condition: Mapping[str, Any] | None = None
    ) -> tuple[Times, float]:
        """The grid of this many steps and its divergence in nats a sample.

        Args:
            denoiser: whose answers are held.
            x0: data, or samples of the model, ``(B, *event)``.
            steps: number of steps.
            seed: of the noise.
            condition: tensors for the denoiser, by name.

        Raises:
            ValueError: if the fine grid has no room for so many steps.
        """
        times, clean = fine_times(self.fine, self.resolution, denoiser.process)
        require(1 <= 2 * steps <= self.resolution, "steps", steps, f"1 to half of resolution={self.resolution}")
        errors = forward_errors(denoiser, x0, times, seed=seed, condition=condition)
        path, total = self.solve(divergence_costs(errors, clean), steps)
        nodes = torch.cat([times, times.new_zeros(1)]) if clean else times
        return as_times(nodes[path]), total

    def solve(self, costs: Tensor, steps: int) -> tuple[list[int], float]:
        """A path of this many steps through nodes of these costs ``(n, n)``, and its cost."""
        if self.optimum == "global":
            paths = shortest_paths(costs, steps)
            return paths.path(steps), float(paths.totals[-1])
        count = steps
        while count % 2 == 0 and count > self.base:
            count //= 2
        path = torch.linspace(0, len(costs) - 1, count + 1).round().long().tolist()
        path, total = self._sweep(costs, path, self.sweeps)
        while count < steps:
            path, count = _doubled(path), 2 * count
            path, total = self._sweep(costs, path, self.refinements)
        return path, total

    def _sweep(self, costs: Tensor, path: list[int], sweeps: int) -> tuple[list[int], float]:
        path = list(path)
        total = _total(costs, path)
        for _ in range(sweeps):
            for i in range(1, len(path) - 1):
                left, right = path[i - 1], path[i + 1]
                places = torch.linspace(left + 1, right - 1, min(self.candidates, right - left - 1)).round().long()
                places = torch.cat([places, torch.tensor([path[i]])])  # what there is stays, if it is the best
                path[i] = int(places[(costs[left, places] + costs[places, right]).argmin()])
            before, total = total, _total(costs, path)
            if before - total <= self.tolerance * abs(before):
                break
        return path, total


def _total(costs: Tensor, path: list[int]) -> float:
    return float(costs[path[:-1], path[1:]].sum())


def _doubled(path: list[int]) -> list[int]:
    """A node between each pair of neighbours; where two are adjacent, those after them give way."""
    most = path[-1]
    dense = [n for a, b in pairwise(path) for n in (a, (a + b) // 2)] + [most]
    for i in range(1, len(dense)):
        dense[i] = max(dense[i], dense[i - 1] + 1)
    for i in range(len(dense) - 1, 0, -1):
        dense[i] = min(dense[i], most - (len(dense) - 1 - i))
    return dense
