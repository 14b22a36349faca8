r"""Photon counts behind line integrals, and Hounsfield units.

A detector cell behind the line integral ``p`` counts ``N ~ Poisson(I exp(-p) + d)``: ``I`` photons without an object
(the flat field) and ``d`` of dark current.  The log transform ``-log((N - d) / I)`` gives ``p`` back with the variance
``N / (N - d)^2`` (the delta method; Kak and Slaney 1988, section 5.2; Thibault et al. 2006, for ``d = 0``).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.core.inverse.measurement import NoiseModel
from ornstein.core.schedules import require

__all__ = ["WATER", "LogCounts", "from_hounsfield", "log_transform", "log_variance", "to_hounsfield"]

WATER = 0.01929
"""Attenuation of water at 70 keV in 1/mm (NIST's tables of mass attenuation, between 60 and 80 keV)."""


def log_transform(counts: Tensor, flat: float | Tensor, dark: float | Tensor = 0.0, floor: float = 0.5) -> Tensor:
    """Line integrals ``-log((counts - dark) / flat)``.

    Args:
        counts: at least 0.
        flat: counts without an object less the dark current; positive, one number or one for each cell.
        dark: mean counts without a beam.
        floor: what ``counts - dark`` counts as at least: a ray that nothing came through has no logarithm.

    Raises:
        ValueError: counts that are negative or not finite, or a flat field that is not positive.
    """
    _check_counts(counts)
    require(floor > 0, "floor", floor, "a positive number of counts")
    level = torch.as_tensor(flat, dtype=counts.dtype, device=counts.device)
    if not bool((level > 0).all()):
        raise ValueError(f"flat reaches {float(level.min()):.6g}: expected positive counts; mask dead cells out")
    return -torch.log((counts - dark).clamp(min=floor) / level)


def log_variance(counts: Tensor, dark: float | Tensor = 0.0, floor: float = 0.5) -> Tensor:
    """The variance ``counts / (counts - dark)^2`` of `log_transform`, with at least ``floor`` in both places.

    Args:
        counts, dark, floor: as in `log_transform`.
    """
    _check_counts(counts)
    return counts.clamp(min=floor) / (counts - dark).clamp(min=floor) ** 2


def _check_counts(counts: Tensor) -> None:
    if not bool(counts.isfinite().all()):
        raise ValueError("counts hold NaN or infinite numbers: leave those cells out")
    if bool((counts < 0).any()):
        raise ValueError(
            f"counts reach {float(counts.min()):.6g}: expected at least 0; is an offset subtracted already?"
        )


@dataclass(frozen=True)
class LogCounts(NoiseModel):
    """Line integrals from counts: ``y = -log((N - dark) / photons)`` with ``N ~ Poisson(photons exp(-p) + dark)``.

    For methods that assume Gaussian noise, its variance is that of `log_variance` at the counts ``y`` stands for.

    Args:
        photons: ``I``, counts of a ray without an object.
        dark: ``d``, mean counts without a beam.
        floor: as in `log_transform`.
    """

    photons: float
    dark: float = 0.0
    floor: float = 0.5

    def __post_init__(self) -> None:
        require(0 < self.photons < math.inf, "photons", self.photons, "a positive number of counts a ray")
        require(0 <= self.dark < math.inf, "dark", self.dark, "at least 0 counts")
        require(self.floor > 0, "floor", self.floor, "a positive number of counts")

    def counts(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Random counts behind the line integrals ``clean``."""
        return torch.poisson(self.photons * torch.exp(-clean) + self.dark, generator=generator)

    def sample(self, clean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return log_transform(self.counts(clean, generator), self.photons, self.dark, self.floor)

    def variance(self, y: Tensor) -> Tensor:
        beam = self.photons * torch.exp(-y)
        return (beam + self.dark) / beam**2

    def log_likelihood(self, y: Tensor, clean: Tensor) -> Tensor:
        counts = self.photons * torch.exp(-y) + self.dark
        rate = self.photons * torch.exp(-clean) + self.dark
        return (counts * torch.log(rate) - rate).flatten(1).sum(1)


def to_hounsfield(attenuation: Tensor, water: float = WATER) -> Tensor:
    """``1000 (mu / mu_water - 1)``: 0 for water, -1000 for a vacuum.

    Args:
        attenuation: ``mu``, in 1/mm.
        water: ``mu`` of water at the same energy.
    """
    require(water > 0, "water", water, "a positive attenuation in 1/mm")
    return 1000 * (attenuation / water - 1)


def from_hounsfield(hounsfield: Tensor, water: float = WATER) -> Tensor:
    """The attenuation in 1/mm of Hounsfield units; the inverse of `to_hounsfield`."""
    require(water > 0, "water", water, "a positive attenuation in 1/mm")
    return water * (1 + hounsfield / 1000)
