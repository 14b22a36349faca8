"""The cheapest sampler that is good enough, found on windows that were kept back."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ornstein.core import DEIS, DPMSolver, Sampler, UniPC
from ornstein.core.schedules import require
from ornstein.domains.timeseries.adapter import GRID
from ornstein.domains.timeseries.judges import crps
from ornstein.domains.timeseries.judging import series_of
from ornstein.domains.timeseries.windows import Batch

if TYPE_CHECKING:
    from ornstein.domains.timeseries.tasks import SeriesTasks

__all__ = ["CANDIDATES", "choose_sampler"]

CANDIDATES: tuple[Sampler, ...] = tuple(
    kind(steps, grid=GRID) for steps in (5, 8, 11, 15) for kind in (DPMSolver, UniPC, DEIS)
)
"""Solvers of 5 to 15 steps, the cheaper first."""

REFERENCE = DEIS(30, grid=GRID)
"""Whose deviations the candidates' are compared with: a CRPS within 1 % of the best allows for 15 % too much spread."""

WINDOWS = 64
GROUPS = 5  # of targets, from sharply to hardly known: too much spread of some may hide too little of others


def choose_sampler(
    model: "SeriesTasks",
    batch: Batch,
    candidates: Sequence[Sampler] = CANDIDATES,
    *,
    n: int = 32,
    tolerance: float = 0.01,
    spread: float = 0.01,
) -> tuple[Sampler, list[float]]:
    """The first of the candidates that draws as well as the best and as widely as finer steps, and the CRPS of each.

    Args:
        model: fitted.
        batch: windows with targets, which are drawn and compared; of more than 64 some are taken, evenly.
        candidates: the cheaper first.
        n: samples of each window.
        tolerance: by how much of the least CRPS a candidate's may lie above it.
        spread: how far a candidate's deviations may be from `REFERENCE`'s: the mean difference of logarithms in each
            of five groups of targets by their deviations, and the root mean square over groups; of those within
            ``tolerance`` the nearest is taken if none is.

    Raises:
        ValueError: no candidates, or no targets.
    """
    require(len(candidates) > 0, "candidates", candidates, "at least one sampler")
    some = torch.from_numpy(np.linspace(0, len(batch["values"]) - 1, min(WINDOWS, len(batch["values"]))).astype(int))
    part = {name: value[some] for name, value in batch.items()}
    require(bool(part["target"].any()), "batch", "no targets", "windows with targets, to compare with")
    series = series_of(part, part["observed"] & ~part["target"])
    truth, mask = part["values"].numpy(), part["target"].numpy()

    def drawn(sampler: Sampler) -> tuple[float, np.ndarray]:
        """The CRPS, and the logarithms of the targets' deviations."""
        with model.evaluating(), torch.no_grad():
            found = np.stack(model.completion(sampler=sampler)(series, n), 1)
        return float(crps(found, truth, mask)), np.log(found.std(0)[mask].clip(1e-12))

    scores, deviations = zip(*map(drawn, candidates))
    reference = drawn(REFERENCE)[1]
    groups = np.array_split(np.argsort(reference), min(GROUPS, len(reference)))
    good = [i for i, score in enumerate(scores) if score <= (1 + tolerance) * min(scores)]
    off = {
        i: float(np.sqrt(np.mean([(deviations[i] - reference)[group].mean() ** 2 for group in groups]))) for i in good
    }
    chosen = next((i for i in good if off[i] <= spread), min(good, key=lambda i: off[i]))
    return candidates[chosen], list(scores)
