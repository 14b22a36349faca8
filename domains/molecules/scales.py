"""Properties as a network sees them: scaled by the training data, 0 where unknown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ornstein.core.config import near
from ornstein.core.schedules import require

__all__ = ["PropertyScale", "Scaled", "scale_properties", "unscale_properties"]


@dataclass(frozen=True)
class PropertyScale:
    """How a property is scaled: ``(value - mean) / deviation``.

    Args:
        name: of the property.
        mean, deviation: of the training data, in the property's unit.
        low, high: least and largest value there.

    Raises:
        ValueError: a deviation that is not positive, or numbers that are not finite.
    """

    name: str
    mean: float
    deviation: float
    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = (self.mean, self.deviation, self.low, self.high)
        require(all(map(math.isfinite, numbers)), f"scale of {self.name!r}", numbers, "finite numbers")
        require(self.deviation > 0, "deviation", self.deviation, "a number above 0")

    @classmethod
    def fit(cls, name: str, values: np.ndarray) -> "PropertyScale":
        """The scale of values ``(M,)``, NaN where missing; a property that does not vary has deviation 1.

        Raises:
            ValueError: no molecule has a value, or one is infinite.
        """
        known = values[~np.isnan(values)]
        if not len(known):
            raise ValueError(f"property {name!r} has no value in the training data; leave it out")
        if not np.isfinite(known).all():
            raise ValueError(f"property {name!r} has an infinite value; mend or leave it out")
        deviation = float(known.std())
        return cls(name, float(known.mean()), deviation or 1.0, float(known.min()), float(known.max()))


def scale_properties(
    scales: Sequence[PropertyScale], values: Mapping[str, Sequence[float] | np.ndarray | Tensor]
) -> tuple[Tensor, Tensor]:
    """Properties as a network sees them.

    Args:
        scales: of all ``P`` properties that the network knows, in its order.
        values: by name ``(B,)`` in their units, NaN where unknown; of some of the properties.

    Returns:
        Scaled values ``(B, P)`` float32, 0 where unknown, and ``(B, P)``, True where known.

    Raises:
        ValueError: a property without a scale, or values of different numbers.
    """
    names = [scale.name for scale in scales]
    if lost := [name for name in values if name not in names]:
        raise ValueError(f"no property {lost[0]!r}{near(lost[0], names)}; there are {', '.join(names) or 'none'}")
    given = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in values.items()}
    shapes = {name: tuple(value.shape) for name, value in given.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"properties of shapes {shapes}: expected (B,) each, the same B")
    count = next(iter(shapes.values()))[0] if shapes else 0
    table = torch.full((count, len(names)), math.nan, dtype=torch.float64)
    for column, scale in enumerate(scales):
        if scale.name in given:
            table[:, column] = (given[scale.name] - scale.mean) / scale.deviation
    known = ~table.isnan()
    return table.nan_to_num(0.0).float(), known


def unscale_properties(scales: Sequence[PropertyScale], table: Tensor) -> dict[str, Tensor]:
    """Scaled properties ``(B, P)`` in their units, by name ``(B,)`` float64."""
    return {
        scale.name: column.double() * scale.deviation + scale.mean for scale, column in zip(scales, table.unbind(1))
    }


class Scaled:
    """Facts that know the scales of properties."""

    properties: tuple[PropertyScale, ...]

    @property
    def property_names(self) -> tuple[str, ...]:
        """Names of the properties."""
        return tuple(scale.name for scale in self.properties)

    def scale(self, values: Mapping[str, Sequence[float] | np.ndarray | Tensor]) -> tuple[Tensor, Tensor]:
        """Properties as a network sees them, ``(B, P)``, and where they are known; see `scale_properties`."""
        return scale_properties(self.properties, values)

    def unscale(self, table: Tensor) -> dict[str, Tensor]:
        """Scaled properties ``(B, P)`` in their units, by name ``(B,)`` float64."""
        return unscale_properties(self.properties, table)
