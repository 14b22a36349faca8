r"""Intervals that hold what they claim: deviations times factors that were fitted on slices of known truth.

With scores ``r = |x - mean| / deviation`` of calibration pixels, the interval ``mean +- q deviation`` at ``level``
takes the smallest ``q`` for which at most the share ``a`` of the scores lies beyond; for ``n`` exchangeable units,

    "pixels"       a = ((n + 1) (1 - level) - 1) / n     n pixels: split conformal prediction,
    "slices"       the same with n slices, the mean share of a slice counting: conformal risk control,
    "hoeffding"    a = 1 - level - sqrt(log(1 / delta) / (2 n))     n slices: a risk-controlling set.

Pixels of a slice are not exchangeable with one another's, so "pixels" is right for many slices and optimistic for few.
"slices" holds on average over new slices from the same source, "hoeffding" with probability ``1 - delta`` of the
calibration.  All say something of the average pixel, nothing of a single one, and nothing of slices of another kind.
Angelopoulos et al. 2022 (arXiv 2202.05265), section 2 and algorithm 2; Angelopoulos et al. 2022 (arXiv 2208.02814),
eq. 4, for "slices".
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ornstein.core.schedules import require
from ornstein.domains.medical.finishing import Finish

__all__ = ["Calibration", "Guarantee", "conformal_factor"]

Guarantee = Literal["pixels", "slices", "hoeffding"]


def conformal_factor(
    scores: Tensor,
    level: float,
    guarantee: Guarantee = "pixels",
    mask: Tensor | None = None,
    delta: float = 0.1,
) -> float:
    """The smallest factor that ``level`` of new pixels will not exceed; see the module's text.

    Args:
        scores: ``(slices, ...)``, at least 0.
        level: between 0 and 1.
        guarantee: what counts as exchangeable, and for how sure.
        mask: of the shape of the scores, True for pixels that count; all when not given.
        delta: of "hoeffding".

    Raises:
        ValueError: too few slices for the level.
    """
    require(0 < level < 1, "level", level, "between 0 and 1")
    require(guarantee in ("pixels", "slices", "hoeffding"), "guarantee", guarantee, "'pixels', 'slices' or 'hoeffding'")
    require(0 < delta < 1, "delta", delta, "between 0 and 1")
    counts = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.expand(scores.shape)
    require(counts.dtype == torch.bool, "mask", counts.dtype, "boolean, True for pixels that count")
    pixels = counts.flatten(1).sum(1)
    require(len(scores) > 0 and bool((pixels > 0).all()), "mask", "a slice without pixels", "some in each slice")
    n = int(pixels.sum()) if guarantee == "pixels" else len(scores)
    if guarantee == "hoeffding":
        beyond = 1 - level - math.sqrt(math.log(1 / delta) / (2 * n))
    else:
        beyond = ((n + 1) * (1 - level) - 1) / n
    if beyond < -1e-12:
        unit = "pixels" if guarantee == "pixels" else "slices"
        raise ValueError(f"level={level} with {n} {unit} to calibrate on: expected more of them, or a lower level")
    share = 1 / pixels.sum() if guarantee == "pixels" else 1 / (len(scores) * pixels)
    weights = share.double().expand(len(scores)).reshape(-1, *[1] * (scores.ndim - 1)).expand(scores.shape)[counts]
    ordered, order = scores[counts].double().sort(descending=True)
    above = weights[order].cumsum(0) - weights[order]  # the share of the scores before each
    kept = int((above <= beyond + 1e-12).sum()) - 1
    return float(ordered[kept])


@dataclass(frozen=True)
class Calibration:
    """Factors of deviations, for reconstructions made as those that they were fitted on.

    Attributes:
        name: of the kind of measurement.
        levels: of intervals.
        factors: of the deviation, one for each level.
        floor: what a deviation counts as at least, in units of the data.
        method, evaluations, num: how the reconstructions were drawn.
        measured: event shape of the measurement.
        slices: how many they were fitted on.
        guarantee: see `conformal_factor`.
        finish: what was made of the means.
    """

    name: str
    levels: tuple[float, ...]
    factors: tuple[float, ...]
    floor: float
    method: str
    evaluations: int
    num: int
    measured: tuple[int, ...]
    slices: int
    guarantee: str = "pixels"
    finish: Finish | None = None

    def __post_init__(self) -> None:
        same = len(self.levels) == len(self.factors) > 0
        require(same, "factors", self.factors, f"one for each of the levels {self.levels}")
        require(self.floor > 0, "floor", self.floor, "a positive deviation")

    def interval(self, mean: Tensor, deviation: Tensor, level: float) -> tuple[Tensor, Tensor]:
        """Lower and upper ends about ``mean``.

        Raises:
            ValueError: a level that no factor was fitted for.
        """
        if level not in self.levels:
            raise ValueError(f"level={level}: {self.name!r} is calibrated for {', '.join(map(str, self.levels))}")
        half = self.factors[self.levels.index(level)] * deviation.clamp(min=self.floor)
        return mean - half, mean + half
