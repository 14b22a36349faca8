"""What `reconstruct` gives: samples, what they say together, and certificates of what came from the data."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.core.schedules import require
from ornstein.domains.medical.calibration import Calibration
from ornstein.domains.medical.finishing import Finish
from ornstein.domains.medical.judges.certainty import Consistency, sample_interval

__all__ = ["Reconstruction"]


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A stack of slices behind a measurement, in units of the data and on the CPU.

    Attributes:
        samples: ``K`` posterior samples of each slice.
        mean, deviation: of the samples, at each pixel; of the method "conditional" the mean is the network's own, which
            has none of the samples' noise. After a `Finish` all samples are moved by as much as the mean.
        null_space: what the prior invented, ``mean - A^+ A mean``: the part of the mean that changes no measured value.
            None for an operator that is not linear.
        consistency: residuals of the mean in units of the noise, ``(slices,)``; None for a measurement without noise.
        sample_consistency: those of the samples, ``(slices, K)``.
        method, evaluations: how the samples were drawn.
        units: of the data.
        window: in which to look at them.
        calibration: of intervals, if one was asked for.
        finish: of the mean, if one was asked for.
    """

    samples: Float[Tensor, "slices K channels rows columns"]
    mean: Float[Tensor, "slices channels rows columns"]
    deviation: Float[Tensor, "slices channels rows columns"]
    null_space: Float[Tensor, "slices channels rows columns"] | None
    consistency: Consistency | None
    sample_consistency: Consistency | None
    method: str
    evaluations: int
    units: str
    window: tuple[float, float]
    calibration: Calibration | None = None
    finish: Finish | None = None

    def quantile(self, level: float) -> Tensor:
        """The quantile of the samples at each pixel ``(slices, C, H, W)``, linear between two of them.

        Args:
            level: from 0 to 1.
        """
        require(0 <= level <= 1, "level", level, "from 0 to 1")
        return torch.quantile(self.samples, level, dim=1)

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Lower and upper ends ``(slices, C, H, W)`` of intervals that hold the truth at ``level`` of the pixels.

        By the calibration if there is one, else by the samples' quantiles, which know of no error of the prior.

        Raises:
            ValueError: a level that is not calibrated, or too few samples for it.
        """
        if self.calibration is not None:
            return self.calibration.interval(self.mean, self.deviation, level)
        return sample_interval(self.samples.movedim(1, 0), level)

    def __repr__(self) -> str:
        slices, num, *shape = self.samples.shape
        said = "" if self.calibration is None else f", calibrated as {self.calibration.name!r}"
        said = said if self.finish is None else f", finished by {type(self.finish.method).__name__}{said}"
        fit = ""
        if self.consistency is not None:
            fit = f", chi2 of the mean {float(self.consistency.ratio.mean()):.3g} a value"
        return f"Reconstruction({slices} slices {tuple(shape)}, {num} samples by {self.method}{fit}{said})"
