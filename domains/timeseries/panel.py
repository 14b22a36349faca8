"""Series of several variables with what is known beside them, and the way back to the form in which they came.

| | shape |
| --- | --- |
| values | ``(T, K)`` float64, NaN where missing |
| stamps | ``(T,)``, strictly rising |
| covariates | known at all stamps, the future's included |
| static | known of the whole series |
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ornstein.domains.timeseries.stamps import Kind

__all__ = ["LABELS", "Form", "Name", "Panel", "Series"]

Name = str | int | tuple[Any, ...]
LABELS: tuple[Name, Name, Name, Name] = ("unique_id", "ds", "variable", "value")


@dataclass(frozen=True, eq=False)
class Series:
    """One series.

    Attributes:
        name: what the caller calls it.
        stamps: ``(T,)`` datetime64 (UTC where there is a zone), timedelta64 or float64, strictly rising.
        values: ``(T, K)`` float64, NaN where missing.
        covariates: each ``(T,)``, numbers or categories, none missing.
        static: a number or category each.
    """

    name: Any
    stamps: np.ndarray
    values: np.ndarray
    covariates: tuple[np.ndarray, ...] = ()
    static: tuple[Any, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def observed(self) -> np.ndarray:
        """``(T, K)``, True where there is a value."""
        return ~np.isnan(self.values)

    def part(self, start: int, stop: int) -> "Series":
        """The rows ``start ... stop - 1``."""
        return replace(
            self,
            stamps=self.stamps[start:stop],
            values=self.values[start:stop],
            covariates=tuple(column[start:stop] for column in self.covariates),
        )

    def followed_by(self, other: "Series") -> "Series":
        """The series with the rows of another, later one behind it."""
        return replace(
            self,
            stamps=np.concatenate([self.stamps, other.stamps]),
            values=np.concatenate([self.values, other.values]),
            covariates=tuple(np.concatenate(pair) for pair in zip(self.covariates, other.covariates)),
        )


class Form(ABC):
    """The form in which data came, and how results get it. ``values`` are one array a series, rows in time order."""

    @abstractmethod
    def restore(self, values: Sequence[np.ndarray]) -> Any:
        """The data with ``values``, each ``(T, K)``, where there were none."""

    @abstractmethod
    def samples(self, values: Sequence[np.ndarray]) -> Any:
        """``n`` copies of the data with samples, each ``(n, T, K)``, where there were no values."""

    @abstractmethod
    def levels(self, values: Sequence[np.ndarray], levels: Sequence[Any], names: Sequence[str]) -> Any:
        """The variables at ``Q`` levels, each ``(Q, T, K)``; what was observed is itself at each."""

    @abstractmethod
    def arrange(self, values: Sequence[np.ndarray]) -> Any:
        """Numbers ``(T, K)`` of all entries, observed or not, where the variables stood."""

    @abstractmethod
    def ahead(self, stamps: Sequence[np.ndarray], covariates: Sequence[Sequence[np.ndarray]]) -> "Form":
        """The form of rows that follow each series, all without values."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Series of the same variables.

    Attributes:
        series: one or more.
        variables, covariates, static: names.
        kind, zone: of the stamps.
        aside: names of columns that are nothing of this, and are given back as they came.
        labels: names of the columns of series, stamp, variable and value in long frames and records.
        form: the way back; None for series that were put together in memory.
    """

    series: tuple[Series, ...]
    variables: tuple[Name, ...]
    covariates: tuple[Name, ...] = ()
    static: tuple[Name, ...] = ()
    kind: Kind = "number"
    zone: str | None = None
    aside: tuple[Name, ...] = ()
    labels: tuple[Name, Name, Name, Name] = LABELS
    form: Form | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.series)

    def restore(self, values: Sequence[np.ndarray]) -> Any:
        """The data as they came, with ``values`` where there were none.

        Index, columns, their order, names and dtypes are the caller's, and observed values are the caller's bits. A
        missing value becomes the nearest number that the dtype of its column holds: whole ones in integer columns.
        Where ``values`` is NaN the entry stays missing.

        Args:
            values: ``(T, K)`` for each series, rows in order of time. Entries that were observed are not read.

        Raises:
            ValueError: arrays of other shapes.
        """
        return self._form.restore(self._checked(values, 0))

    def restore_samples(self, values: Sequence[np.ndarray]) -> Any:
        """``n`` times what `restore` gives: frames one below the other, with an index level ``sample`` on top, arrays
        stacked on a first axis.

        Args:
            values: ``(n, T, K)`` for each series.

        Raises:
            ValueError: arrays of other shapes.
        """
        return self._form.samples(self._checked(values, 1))

    def restore_levels(
        self, values: Sequence[np.ndarray], levels: Sequence[Any], names: Sequence[str] = ("level",)
    ) -> Any:
        """The variables at several levels: columns ``(variable, level)`` as sktime has them, arrays on a first axis.

        Covariates and what else was beside the variables are left out; index, series and stamps are kept. An observed
        value is itself at each level. Dtypes as in `restore`.

        Args:
            values: ``(Q, T, K)`` for each series.
            levels: ``Q`` numbers, or tuples, such as ``(0.9, "lower")``.
            names: of the parts of a level.

        Raises:
            ValueError: arrays of other shapes.
        """
        checked = self._checked(values, 1)
        if any(len(array) != len(levels) for array in checked):
            raise ValueError(f"values hold {len(checked[0])} levels where levels={list(levels)!r} names {len(levels)}")
        return self._form.levels(checked, levels, names)

    def arrange(self, values: Sequence[np.ndarray]) -> Any:
        """Numbers of all entries, such as scores, as float64 where the variables stood; nothing is kept from the data.

        Covariates and what else was beside the variables are left out; index, series and stamps are kept.

        Args:
            values: ``(T, K)`` for each series.

        Raises:
            ValueError: arrays of other shapes.
        """
        return self._form.arrange(self._checked(values, 0))

    def ahead(self, stamps: Sequence[np.ndarray], future: "Panel | None" = None) -> "Panel":
        """The rows that follow, in the form of this panel: all values missing, ready to be filled and restored.

        Args:
            stamps: of the rows, for each series, after its last one.
            future: where the covariates at these stamps are, series by name; needed if there are covariates.

        Raises:
            ValueError: covariates without a future, or a series or stamp that it lacks.
        """
        if len(stamps) != len(self) or any(
            len(new) and not new[0] > one.stamps[-1] for new, one in zip(stamps, self.series)
        ):
            raise ValueError("stamps: expected for each series stamps after its last one")
        covariates = _future_covariates(self, stamps, future)
        series = tuple(
            replace(one, stamps=new, values=np.full((len(new), len(self.variables)), np.nan), covariates=columns)
            for one, new, columns in zip(self.series, stamps, covariates)
        )
        return replace(self, series=series, form=self._form.ahead(stamps, covariates), aside=())

    @property
    def _form(self) -> Form:
        if self.form is None:
            raise ValueError(
                "this panel was put together in memory and has no form to give back; read data by as_panel"
            )
        return self.form

    def _checked(self, values: Sequence[np.ndarray], axes: int) -> list[np.ndarray]:
        arrays = [np.asarray(array, dtype=np.float64) for array in values]
        expected = [(len(one), len(self.variables)) for one in self.series]
        got = [array.shape for array in arrays]
        heads = {shape[: len(shape) - 2] for shape in got}
        if [shape[-2:] for shape in got] != expected or len(heads) != 1 or len(next(iter(heads))) != axes:
            lead = ("n, " if axes else "") + "T, K"
            raise ValueError(
                f"values have shapes {got[:3]}: expected ({lead}) with (T, K) of {expected[:3]}, one array a series"
            )
        return arrays


def _future_covariates(
    panel: Panel, stamps: Sequence[np.ndarray], future: Panel | None
) -> list[tuple[np.ndarray, ...]]:
    if not panel.covariates:
        return [() for _ in panel.series]
    wanted = ", ".join(map(repr, panel.covariates))
    if future is None:
        raise ValueError(f"the covariates {wanted} must be known for the stamps ahead; give them as future=")
    if future.covariates != panel.covariates:
        raise ValueError(f"future holds the covariates {list(future.covariates)!r}: expected {wanted}")
    known = {one.name: one for one in future.series}
    found = []
    for one, new in zip(panel.series, stamps):
        other = known.get(one.name)
        if other is None:
            raise ValueError(f"future holds no series {one.name!r}, for which covariates are needed")
        places = np.searchsorted(other.stamps, new)
        inside = places < len(other)
        if not inside.all() or (other.stamps[places] != new).any():
            lost = new[~inside][0] if not inside.all() else new[other.stamps[places] != new][0]
            raise ValueError(f"future holds no row for {lost}, for which covariates are needed")
        found.append(tuple(column[places] for column in other.covariates))
    return found
