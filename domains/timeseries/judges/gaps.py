"""How errors grow with the gap: an entry beside a known one is easy, one in the middle of a lost day is not."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ornstein.core.schedules import require
from ornstein.domains.timeseries.judges._samples import Array, as_array, as_mask, as_samples, marginals

__all__ = ["GapScore", "gap_lengths", "scores_by_gap"]


class GapScore(NamedTuple):
    """Scores of the ``entries`` in gaps of ``shortest`` to ``longest`` steps, ends included; units of the data."""

    shortest: int
    longest: int
    entries: int
    mae: float
    crps: float


def gap_lengths(known: Array) -> np.ndarray:
    """Length in steps of the run of unknown steps that each entry lies in, ``(..., L, K)``; 0 where it is known.

    Args:
        known: ``(..., L, K)`` bool. Runs are along ``L``, of each variable by itself.

    Raises:
        TypeError: no truth values.
        ValueError: fewer than two axes.
    """
    known = as_array(known, "known")
    if known.dtype != bool:
        raise TypeError(f"known must hold truth values (bool), got dtype {known.dtype}")
    require(known.ndim >= 2, "shape of known", known.shape, "(..., L, K)")
    lost = ~np.moveaxis(known, -2, -1).reshape(-1, known.shape[-2])
    steps = np.arange(lost.shape[1])
    last = np.maximum.accumulate(np.where(lost, -1, steps), axis=1)  # known step before, -1 without one
    following = np.minimum.accumulate(np.where(lost, len(steps), steps)[:, ::-1], axis=1)[:, ::-1]
    lengths = np.where(lost, following - last - 1, 0)
    return np.moveaxis(lengths.reshape(*known.shape[:-2], known.shape[-1], -1), -1, -2)


def scores_by_gap(
    samples: Array,
    truth: Array,
    mask: Array | None = None,
    *,
    known: Array | None = None,
    edges: Sequence[int] = (1, 2, 3, 5, 9, 17, 33),
) -> list[GapScore]:
    """MAE of the median and CRPS of the entries that count, by the length of their gap; empty groups are left out.

    Args:
        samples: ``(n, ..., L, K)``.
        truth: ``(..., L, K)``.
        mask: ``(..., L, K)`` bool, the entries that count; None: all.
        known: ``(..., L, K)`` bool, what was known; all that does not count when not given.
        edges: the shortest gap of each group, rising from 1; the last group has no end.

    Raises:
        TypeError, ValueError: as `crps`; edges that do not rise from 1, or an entry that counts and is known.
    """
    samples, truth, mask = as_samples(samples, truth, mask)
    starts = np.asarray(edges)
    rising = len(starts) > 0 and starts[0] == 1 and bool((np.diff(starts) > 0).all())
    require(rising, "edges", tuple(edges), "whole numbers that rise from 1")
    given = ~mask if known is None else as_mask(known, truth.shape, "known")
    lengths = gap_lengths(given)[mask]
    require(bool((lengths > 0).all()), "known", "entries that count", "none of them: they are to be imputed")
    found = marginals(samples, truth, mask)
    errors, group = np.abs(found.median - found.truth), np.searchsorted(starts, lengths, side="right") - 1
    return [
        GapScore(
            int(starts[number]),
            int(starts[number + 1] - 1 if number + 1 < len(starts) else lengths[inside].max()),
            int(inside.sum()),
            float(errors[inside].mean()),
            float(found.crps[inside].mean()),
        )
        for number in range(len(starts))
        if (inside := group == number).any()
    ]
