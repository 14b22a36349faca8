"""Columns as numbers of unit size: by mean and deviation of the training data, categories as one of several.

z = (x - m) / s,   m = mean x,   s^2 = mean (x - m)^2   over the observed training entries,

and ``s = 1`` where ``x`` is constant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ornstein.core.config import near
from ornstein.core.schedules import require
from ornstein.domains.timeseries.panel import Name

__all__ = ["Column", "encode"]


@dataclass(frozen=True)
class Column:
    """A column of the training data: its scale, or its categories.

    Args:
        name: as the caller has it.
        mean, deviation: of numbers.
        categories: of a column of categories, in the order of their places; empty for numbers.
    """

    name: Name
    mean: float = 0.0
    deviation: float = 1.0
    categories: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        require(0 < self.deviation < np.inf, "deviation", self.deviation, "a finite number above 0")

    @classmethod
    def fit(cls, name: Name, values: np.ndarray) -> "Column":
        """Scale of float64 values ``(R,)``, NaN where missing; or the categories of objects, sorted.

        Raises:
            ValueError: no value is there, or they spread beyond float64.
            TypeError: categories that are neither strings nor numbers.
        """
        if values.dtype == object:
            found = {_plain(value, name) for value in values}
            return cls(name, categories=tuple(sorted(found, key=lambda value: (str(type(value)), value))))
        there = values[~np.isnan(values)]
        if not len(there):
            raise ValueError(
                f"column {name!r} has no value in the training data: nothing can be learned of it; drop the column"
            )
        unit = float(np.abs(there).max()) or 1.0  # squares of large numbers overflow
        mean = float((there / unit).mean() * unit)
        if there.min() == there.max():
            return cls(name, float(there[0]))
        deviation = float((there / unit).std() * unit)
        if not 0 < deviation < np.inf:
            raise ValueError(f"column {name!r} has deviation {deviation} in float64; choose another unit for it")
        return cls(name, mean, deviation)

    @property
    def width(self) -> int:
        """Numbers that an entry becomes."""
        return len(self.categories) or 1

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Scaled numbers, or one of ``width`` numbers 1 and the others 0: ``(R, width)`` float32.

        Raises:
            ValueError: a category that the training data did not have, or text where they had numbers.
        """
        if not self.categories:
            if values.dtype == object:
                raise ValueError(
                    f"column {self.name!r} holds {values[0]!r} where the training data had numbers; convert it"
                )
            return ((values - self.mean) / self.deviation).astype(np.float32)[:, None]
        places = {category: place for place, category in enumerate(self.categories)}
        out = np.zeros((len(values), len(places)), dtype=np.float32)
        for row, value in enumerate(values):
            place = places.get(_plain(value, self.name))
            if place is None:
                shown = ", ".join(map(repr, self.categories[:8])) + (", ..." if len(places) > 8 else "")
                raise ValueError(
                    f"column {self.name!r} holds {value!r}{near(str(value), map(str, places))}, which the training "
                    f"data did not: expected one of {shown}"
                )
            out[row, place] = 1
        return out


def _plain(value: Any, name: Name) -> Any:
    """A category as a plain value of Python, which a configuration can hold."""
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, str | int | float):
        raise TypeError(f"column {name!r} holds {value!r}: expected categories that are strings or numbers")
    return value


def encode(columns: Sequence[Column], values: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """All columns beside each other: ``(R, sum of widths)`` float32."""
    encoded = [column.encode(array) for column, array in zip(columns, values)]
    return np.concatenate(encoded, axis=1) if encoded else np.empty((rows, 0), dtype=np.float32)
