"""What the training data tell a model once and for all, and how other data are read and scaled by it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ornstein.core.config import near
from ornstein.domains.timeseries.calendar import Clock
from ornstein.domains.timeseries.frames import as_panel
from ornstein.domains.timeseries.panel import LABELS, Name, Panel, Series
from ornstein.domains.timeseries.scaling import Column, encode

__all__ = ["Scaled", "SeriesFacts"]


@dataclass(frozen=True, eq=False)
class Scaled:
    """One series as a network sees it.

    Attributes:
        values: ``(T, K)`` float32, scaled, 0 where missing.
        observed: ``(T, K)``, True where there is a value.
        elapsed: ``(T,)`` float64, steps since the first stamp.
        calendar: ``(T, C)`` float32.
        covariates: ``(T, F)`` float32.
        static: ``(S,)`` float32.
    """

    values: np.ndarray
    observed: np.ndarray
    elapsed: np.ndarray
    calendar: np.ndarray
    covariates: np.ndarray
    static: np.ndarray


@dataclass(frozen=True)
class SeriesFacts:
    """Names, scales, categories and time of the training data: plain values, for a model's configuration.

    Args:
        variables, covariates, static: the columns.
        clock: step, cycles and zone of the stamps.
        aside: columns that are nothing of this.
        labels: names of the columns of series, stamp, variable and value in long frames.
    """

    variables: tuple[Column, ...]
    covariates: tuple[Column, ...] = ()
    static: tuple[Column, ...] = ()
    clock: Clock = field(default_factory=Clock)
    aside: tuple[Name, ...] = ()
    labels: tuple[Name, ...] = LABELS

    @classmethod
    def fit(cls, panel: Panel, cycles: Sequence[str] | None = None) -> "SeriesFacts":
        """The facts of a panel; scales are of the entries that it has.

        Args:
            panel: the training data.
            cycles: of the calendar; chosen by span and step of the stamps when not given.

        Raises:
            ValueError: a variable without any value, or fewer than two stamps.
            TypeError: names of columns that are neither strings nor whole numbers.
        """
        for name in (*panel.variables, *panel.covariates, *panel.static):
            parts = name if isinstance(name, tuple) else (name,)
            if not all(isinstance(part, str | int | np.integer) for part in parts):
                raise TypeError(f"column {name!r}: expected names that are strings or whole numbers; rename it")
        values = np.concatenate([one.values for one in panel.series])
        covariates = [np.concatenate(columns) for columns in zip(*(one.covariates for one in panel.series))]
        static = [_column(values) for values in zip(*(one.static for one in panel.series))]
        return cls(
            tuple(Column.fit(name, values[:, k]) for k, name in enumerate(panel.variables)),
            tuple(map(Column.fit, panel.covariates, covariates)),
            tuple(map(Column.fit, panel.static, static)),
            Clock.fit(panel, cycles),
            panel.aside,
            panel.labels,
        )

    @property
    def names(self) -> tuple[Name, ...]:
        """Names of the variables."""
        return tuple(column.name for column in self.variables)

    @property
    def means(self) -> np.ndarray:
        """``(K,)`` float64."""
        return np.array([column.mean for column in self.variables])

    @property
    def deviations(self) -> np.ndarray:
        """``(K,)`` float64."""
        return np.array([column.deviation for column in self.variables])

    @property
    def widths(self) -> dict[str, int]:
        """Numbers a step of ``calendar`` and ``covariates``, and of ``static`` a series."""
        columns = {"covariates": self.covariates, "static": self.static}
        return {"calendar": self.clock.width} | {name: sum(c.width for c in some) for name, some in columns.items()}

    def read(self, data: Any, *, static: Any = None, frequency: str | float | None = None) -> Panel:
        """Data in one of the forms of `as_panel`, with the columns that the training data had.

        Args:
            data: see `as_panel`; a panel is checked alone.
            static: frame of the static columns, if they are not in the data.
            frequency: put in the stamps that are missing.

        Raises:
            ValueError: a missing or new column, stamps of another kind or frequency, and what `as_panel` refuses.
        """
        if isinstance(data, Panel):
            data = as_panel(data, static=() if static is None else static, frequency=frequency)
        else:
            fixed = [column.name for column in self.static]
            if static is not None:
                static = self._lookup(static, fixed)
            series, time, variable, value = self.labels
            data = as_panel(
                data,
                variables=self.names,
                covariates=[column.name for column in self.covariates],
                static=fixed if static is None else static,
                frequency=frequency, series=series, time=time, variable=variable, value=value,
            )  # fmt: skip
        return self.check(data)

    def _lookup(self, static: Any, names: Sequence[Name]) -> Any:
        series = [name for name in static.columns if name == self.labels[0]]
        if lost := [name for name in names if name not in static.columns]:
            raise ValueError(f"static has no column {lost[0]!r}{near(str(lost[0]), map(str, static.columns))}; add it")
        if new := [name for name in static.columns if name not in names and name not in series]:
            raise ValueError(f"static has the column {new[0]!r}, which the training data had not; drop it")
        return static[[*series, *names]]

    def check(self, panel: Panel) -> Panel:
        """The panel itself, if it has the columns and the kind of stamps of the training data.

        Raises:
            ValueError: it has not.
        """
        for what, ours, theirs in (
            ("variables", self.names, panel.variables),
            ("covariates", tuple(column.name for column in self.covariates), panel.covariates),
            ("static columns", tuple(column.name for column in self.static), panel.static),
        ):
            if ours != theirs:
                raise ValueError(f"data have the {what} {list(theirs)!r} where the training data had {list(ours)!r}")
        if new := [name for name in panel.aside if name not in self.aside]:
            raise ValueError(
                f"data have the column {new[0]!r}, which the training data had not; drop it, or fit the model with it"
            )
        self.clock.check(panel)
        return panel

    def ahead(self, panel: Panel, horizon: int, future: Any = None) -> Panel:
        """The ``horizon`` rows that follow each series of a panel, without values, in the panel's form.

        Stamps go on in the rhythm of the training data; of irregular data, or such without a step, they are those of
        ``future``.

        Args:
            panel: as `read` gives it.
            horizon: number of rows.
            future: the covariates of these rows (or of more), in one of the forms of `as_panel`; of an array, the rows
                that follow the last of the series.

        Raises:
            ValueError: a horizon below 1, and covariates or stamps that are missing from ``future``.
        """
        if horizon < 1:
            raise ValueError(f"horizon={horizon}: expected at least 1 row")
        known = None if future is None else self._future(panel, future)
        if known is None or self.clock.regular:
            stamps = [self.clock.next(one.stamps, horizon) for one in panel.series]
        else:
            stamps = [_following(one, known, horizon) for one in panel.series]
        return panel.ahead(stamps, known)

    def _future(self, panel: Panel, future: Any) -> Panel:
        if not isinstance(future, Panel):
            series, time, *_ = self.labels
            names = [column.name for column in self.covariates]
            if isinstance(future, np.ndarray | list | tuple):
                future = _behind(panel, as_panel(future, variables=(), covariates=range(len(names))), names)
            else:
                future = as_panel(future, variables=(), covariates=names, series=series, time=time)
        if (future.kind, future.zone is None) != (panel.kind, panel.zone is None):
            raise ValueError(
                f"future has stamps of kind {future.kind} (zone {future.zone}) where the data have {panel.kind} "
                f"(zone {panel.zone}); give the same"
            )
        return future

    def scale(self, series: Series) -> Scaled:
        """One series as a network sees it.

        Raises:
            ValueError: a category that the training data did not have.
        """
        observed = series.observed
        values = np.where(observed, (series.values - self.means) / self.deviations, 0).astype(np.float32)
        return Scaled(
            values,
            observed,
            self.clock.elapsed(series.stamps),
            self.clock.features(series.stamps),
            encode(self.covariates, series.covariates, len(series)),
            encode(self.static, [_column([value]) for value in series.static], 1)[0],
        )

    def unscale(self, values: np.ndarray) -> np.ndarray:
        """Scaled values ``(..., K)`` in units of the data, float64."""
        return np.asarray(values, dtype=np.float64) * self.deviations + self.means


def _column(values: Sequence[Any]) -> np.ndarray:
    """Static values as a column: numbers if all are, else objects."""
    if all(isinstance(value, float) for value in values):
        return np.array(values, dtype=np.float64)
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _behind(panel: Panel, future: Panel, names: Sequence[Name]) -> Panel:
    """Covariates of arrays, which have no stamps and no names, as those of the rows behind each series."""
    if future.aside:
        raise ValueError(
            f"future has {len(names) + len(future.aside)} columns: expected the {len(names)} covariates alone"
        )
    last = {one.name: one.stamps[-1] for one in panel.series} if panel.kind == "number" else {}
    rows = tuple(replace(one, stamps=last.get(one.name, -1.0) + 1 + one.stamps) for one in future.series)
    return replace(future, series=rows, covariates=tuple(names))


def _following(series: Series, future: Panel, horizon: int) -> np.ndarray:
    found = [one.stamps[one.stamps > series.stamps[-1]] for one in future.series if one.name == series.name]
    if not found or len(found[0]) < horizon:
        count = len(found[0]) if found else 0
        raise ValueError(
            f"future holds {count} stamps after the last of "
            f"{'the data' if series.name is None else f'series {series.name!r}'}, less than horizon={horizon}"
        )
    return found[0][:horizon]
