r"""The grid of the tightest variational bound, by dynamic programming over all pairs of times.

The bound for times ``t_0 > ... > t_K`` is a sum over the steps (Ho et al. 2020, 2006.11239, eq. 5), so that the best
grid is a cheapest path through a fine set of times (Watson et al. 2021, 2106.03802, section 3).  With the reverse
variance of the posterior, ``q(x_s | x_t, x_0)`` and ``p(x_s | x_t)`` differ in their means alone, and for a Gaussian
process (Kingma et al. 2021, 2107.00630, eq. 13)

    E KL(q(x_s | x_t, x_0) || p(x_s | x_t)) = (SNR(s) - SNR(t)) E |x_0 - mean(x_t, t)|^2 / 2:

the whole matrix of ``n^2 / 2`` terms follows from one error a time, ``n`` evaluations in all.  A last step to clean
data costs what the decoder ``N(mean, sigma_t^2 / alpha_t^2)`` needs for them.

The sum is a left Riemann sum of the falling error over SNR.  Its best grid is the one of the best likelihood; Watson et
al. note that pictures of few steps may look no better for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..grids import Grid, Times, UniformLogSNR
from ..schedules import require
from .forward import ForwardErrors, forward_errors
from .levels import as_times, fine_times
from .paths import shortest_paths

__all__ = ["BoundSearch", "bound_costs"]


def bound_costs(errors: ForwardErrors, clean: bool) -> Tensor:
    """Nats of the step between each pair of times ``(n, n)``; with ``clean`` a last node is the data, ``(n + 1, n +
    1)``.  Infinite where the second time is not the lower one.
    """
    snr = errors.log_snr.exp()
    return with_data(0.5 * (snr[None, :] - snr[:, None]) * errors.errors[:, None], errors.decoder if clean else None)


def with_data(costs: Tensor, last: Tensor | None) -> Tensor:
    """Costs above the diagonal, infinity elsewhere, and the node of the data where it is one more."""
    if last is not None:
        costs = torch.nn.functional.pad(torch.cat([costs, last[:, None]], 1), (0, 0, 0, 1))
    below = torch.ones_like(costs, dtype=torch.bool).tril()
    return costs.masked_fill(below, torch.inf)


@dataclass(frozen=True)
class BoundSearch:
    """Finds the grids that the module's text describes.

    Args:
        resolution: steps of the fine grid, above the number of steps searched for.
        fine: the fine grid, whose ends are those of the result.

    Example:
        >>> import torch
        >>> from ornstein.core import SDE, GaussianDenoiser, VPSchedule
        >>> exact = GaussianDenoiser(SDE(VPSchedule()), torch.zeros(2), torch.eye(2))
        >>> grid, nats = BoundSearch(50).search(exact, torch.randn(64, 2), 5)
        >>> len(grid.values)
        6
    """

    resolution: int = 256
    fine: Grid = field(default=UniformLogSNR(), kw_only=True)

    def __post_init__(self) -> None:
        require(self.resolution >= 2, "resolution", self.resolution, "at least 2")

    def search(
        self, denoiser: Denoiser, x0: Tensor, steps: int, *, seed: int = 0, condition: Mapping[str, Any] | None = None
    ) -> tuple[Times, float]:
        """The best grid of this many steps and its bound in nats a sample; see `search_all`."""
        require(1 <= steps <= self.resolution, "steps", steps, f"1 to resolution={self.resolution}")
        return self.search_all(denoiser, x0, steps, seed=seed, condition=condition)[-1]

    def search_all(
        self, denoiser: Denoiser, x0: Tensor, steps: int, *, seed: int = 0, condition: Mapping[str, Any] | None = None
    ) -> list[tuple[Times, float]]:
        """The best grids of 1 to ``steps`` steps, and their bounds on ``-log p(x_0)`` in nats a sample.

        Args:
            denoiser: gives the means.
            x0: data, or samples of the model, ``(B, *event)``.
            steps: greatest number of steps.
            seed: of the noise.
            condition: tensors for the denoiser, by name.
        """
        times, clean = fine_times(self.fine, self.resolution, denoiser.process)
        errors = forward_errors(denoiser, x0, times, seed=seed, condition=condition)
        paths = shortest_paths(bound_costs(errors, clean), steps)
        nodes = torch.cat([times, times.new_zeros(1)]) if clean else times
        rest = errors.prior + (0.0 if clean else float(errors.decoder[-1]))
        return [(as_times(nodes[paths.path(k)]), float(paths.totals[k - 1]) + rest) for k in range(1, steps + 1)]
