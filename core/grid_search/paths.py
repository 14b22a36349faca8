"""Cheapest paths of every number of steps, by dynamic programming."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..schedules import require

__all__ = ["Paths", "shortest_paths"]


@dataclass(frozen=True)
class Paths:
    """The cheapest path of each number of steps from node 0 to node ``n - 1``.

    Args:
        totals: ``(longest,)``; entry ``k - 1`` is the cost of the path of ``k`` steps, infinite where there is none.
        parents: ``(longest, n)``; the node before each node on its cheapest path of ``k`` steps.
    """

    totals: Tensor
    parents: Tensor

    def path(self, steps: int) -> list[int]:
        """The nodes of the path of this many steps, ``steps + 1`` rising integers.

        Raises:
            ValueError: for a number of steps for which there is no path.
        """
        longest = len(self.totals)
        require(1 <= steps <= longest and bool(self.totals[steps - 1] < torch.inf), "steps", steps, f"1 to {longest}")
        nodes = [self.parents.shape[1] - 1]
        for k in range(steps - 1, -1, -1):
            nodes.append(int(self.parents[k, nodes[-1]]))
        return nodes[::-1]


def shortest_paths(costs: Tensor, longest: int | None = None) -> Paths:
    """The cheapest path from the first node to the last for every number of steps at once.

    With ``D_k(j)`` the least cost of reaching node ``j`` in ``k`` steps, ``D_k(j) = min_i D_{k-1}(i) + costs[i, j]``
    (Watson et al. 2021, 2106.03802, algorithm 1).  Takes ``longest n^2`` operations.

    Args:
        costs: ``(n, n)``, of the step from node ``i`` to node ``j > i``; what is on or below the diagonal is not read.
        longest: greatest number of steps, at most (and by default) ``n - 1``.

    Raises:
        ValueError: if ``costs`` is not square or holds NaN, or ``longest`` is out of range.
    """
    n = len(costs)
    if costs.ndim != 2 or costs.shape[1] != n or n < 2:
        raise ValueError(f"costs of shape {tuple(costs.shape)}: expected (n, n) with n at least 2")
    longest = n - 1 if longest is None else longest
    require(1 <= longest < n, "longest", longest, f"1 to {n - 1}")
    onward = torch.ones(n, n, dtype=torch.bool, device=costs.device).triu(1)
    costs = costs.double().masked_fill(~onward, torch.inf)
    require(not costs.isnan().any(), "costs", costs, "numbers, none NaN")
    reached = costs.new_full((n,), torch.inf)
    reached[0] = 0.0
    totals, parents = [], []
    for _ in range(longest):
        reached, parent = (reached[:, None] + costs).min(0)
        totals.append(reached[-1])
        parents.append(parent)
    return Paths(torch.stack(totals), torch.stack(parents))
