"""Frames to panels: whose variables are columns, or that have a row for each reading. See `as_panel` for the forms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ornstein.core.config import near
from ornstein.core.optional import need
from ornstein.domains.timeseries.forms import RecordForm, TableForm, blocks, relabelled
from ornstein.domains.timeseries.panel import LABELS, Name, Panel, Series
from ornstein.domains.timeseries.stamps import Stamps, grid, read_stamps

__all__ = ["Roles", "complete", "finite", "known", "table"]


@dataclass(frozen=True)
class Roles:
    """What the caller said of the columns."""

    variables: tuple[Name, ...] | None
    covariates: tuple[Name, ...] | None
    static: tuple[Name, ...]
    lookup: Any  # frame of static columns, by series; None where they are columns of the data
    frequency: str | float | None
    series: Name
    time: Name
    variable: Name
    value: Name


@dataclass(frozen=True)
class _Layout:
    """Where things stand in a frame: places of columns, None for the index."""

    series: int | None
    time: int | None
    records: bool

    @property
    def labels(self) -> list[int]:
        return [place for place in (self.series, self.time) if place is not None]


def table(data: Any, roles: Roles) -> Panel:
    pd = need("pandas", to="read frames of time series", extra="timeseries")
    if not isinstance(data, pd.DataFrame | pd.Series):
        raise TypeError(f"data of type {type(data).__name__}: expected a pandas DataFrame or Series")
    squeeze = (data.name,) if isinstance(data, pd.Series) else ()
    frame = data.to_frame() if squeeze else data
    if len(frame) == 0:
        raise ValueError("data hold no rows; expected at least one")
    if frame.columns.has_duplicates:
        raise ValueError(f"two columns are called {frame.columns[frame.columns.duplicated()][0]!r}; rename one")
    layout = _layout(frame, roles)
    stamps = _stamps(pd, frame, layout, roles)
    codes, names = _series_of_rows(pd, frame, layout, roles)
    make = _records if layout.records else _columns
    panel = make(pd, frame, roles, layout, stamps, codes, names)
    labels = (roles.series, roles.time, roles.variable, roles.value)
    form = panel.form
    if squeeze and isinstance(form, TableForm):
        form = replace(form, squeeze=squeeze)
    return replace(panel, labels=labels, form=form)


def _layout(frame: Any, roles: Roles) -> _Layout:
    columns = list(frame.columns)
    if frame.index.nlevels > 2:
        raise ValueError(f"the index has {frame.index.nlevels} levels: expected stamps, or (series, stamp)")
    series = columns.index(roles.series) if roles.series in columns else None
    time = columns.index(roles.time) if roles.time in columns else None
    if frame.index.nlevels == 2:
        if clash := [name for name, place in ((roles.series, series), (roles.time, time)) if place is not None]:
            raise ValueError(f"both index and columns say series and stamp; drop the column {clash[0]!r} or the index")
    elif time is None and (series is not None or frame.index.name == roles.series):
        raise ValueError(
            f"data have series in {roles.series!r} and no column of stamps {roles.time!r}"
            f"{near(str(roles.time), map(str, columns))}; say time="
        )
    for what, name, default in (("series", roles.series, LABELS[0]), ("time", roles.time, LABELS[1])):
        if name != default and name not in columns and name not in frame.index.names:
            raise ValueError(f"{what}={name!r}: data have no such column{near(str(name), map(str, columns))}")
    return _Layout(series, time, roles.variable in columns and roles.value in columns)


def _stamps(pd: Any, frame: Any, layout: _Layout, roles: Roles) -> Stamps:
    if layout.time is not None:
        return read_stamps(pd.Index(frame.iloc[:, layout.time]), f"column {roles.time!r}")
    level = frame.index.nlevels - 1
    return read_stamps(frame.index.get_level_values(level), "the index")


def _series_of_rows(pd: Any, frame: Any, layout: _Layout, roles: Roles) -> tuple[np.ndarray, list[Any]]:
    """The number of the series of each row, and their names."""
    if layout.series is not None:
        ids = frame.iloc[:, layout.series]
    elif frame.index.nlevels == 2 or frame.index.name == roles.series:
        ids = frame.index.get_level_values(0)
    else:
        return np.zeros(len(frame), dtype=np.int64), [None]
    codes, names = pd.factorize(ids)
    if (codes < 0).any():
        raise ValueError(f"{int((codes < 0).sum())} rows name no series (the first is row {int(np.argmin(codes))})")
    return codes, pd.Index(names).tolist()


def _sorted_rows(stamps: Stamps, codes: np.ndarray, names: Sequence[Any]) -> list[np.ndarray]:
    """The rows of each series in order of time.

    Raises:
        ValueError: a stamp twice in a series.
    """
    order = np.lexsort((stamps.values, codes))
    rows = np.split(order, np.cumsum(np.bincount(codes, minlength=len(names)))[:-1])
    for name, places in zip(names, rows):
        twice = np.flatnonzero(stamps.values[places][1:] == stamps.values[places][:-1])
        if len(twice):
            raise ValueError(
                f"{_called(name)}: the stamp {stamps.values[places][twice[0]]} comes twice ({len(twice)} such rows); "
                "keep one of each, or their mean (groupby(...).mean())"
            )
    return rows


def _columns(
    pd: Any, frame: Any, roles: Roles, layout: _Layout, stamps: Stamps, codes: np.ndarray, names: list[Any]
) -> Panel:
    """A panel of a frame whose variables are columns."""
    variables, covariates, static, aside = _named(frame, roles, layout)
    rows = _sorted_rows(stamps, codes, names)
    place = {name: i for i, name in enumerate(frame.columns)}
    inserted = np.zeros(len(frame), dtype=bool)
    if roles.frequency is not None:
        frame, rows, values, inserted = _regular(frame, roles, layout, stamps, rows, names, covariates, aside)
        stamps = replace(stamps, values=values)
    numbers = (
        np.stack([_numbers(pd, frame.iloc[:, place[n]], n, stamps) for n in variables], 1)
        if variables
        else np.empty((len(frame), 0))
    )
    missing = np.isnan(numbers) | inserted[:, None]
    numbers[missing] = np.nan
    beside = [known(pd, frame.iloc[:, place[name]], name, stamps) for name in covariates]
    fixed = [known(pd, frame.iloc[:, place[name]], name, stamps) for name in static]
    found = []
    for name, where in zip(names, rows):
        constants = tuple(_constant(column[where], called, name) for called, column in zip(static, fixed))
        found.append(Series(name, stamps.values[where], numbers[where], tuple(c[where] for c in beside), constants))
    meaning = [*layout.labels, *(place[name] for name in (*variables, *covariates, *static))]
    form = TableForm(
        frame, rows, [place[n] for n in variables], missing, layout.labels, [place[n] for n in covariates],
        meaning, layout.time, replace(stamps, values=np.empty(0)),
    )  # fmt: skip
    return Panel(tuple(found), variables, covariates, static, stamps.kind, stamps.zone, aside, form=form)


def _named(frame: Any, roles: Roles, layout: _Layout) -> tuple[tuple[Name, ...], ...]:
    """Names of variables, covariates, static columns, and of those left aside."""
    rest = tuple(name for i, name in enumerate(frame.columns) if i not in layout.labels)
    static = roles.static if roles.lookup is None else ()
    for what, wanted in (("variables", roles.variables), ("covariates", roles.covariates), ("static", static)):
        for name in wanted or ():
            if name not in rest:
                raise ValueError(
                    f"data have no column {name!r} of {what}{near(str(name), map(str, rest))}; they have "
                    f"{_list(rest)}: add it (NaN where a variable is unknown)"
                )
    variables, covariates = roles.variables, roles.covariates
    if variables is None:
        taken = {*(covariates or ()), *static}
        if "y" in rest and "y" not in taken and layout.labels:
            variables = ("y",)
            covariates = tuple(n for n in rest if n != "y" and n not in static) if covariates is None else covariates
        else:
            variables = tuple(name for name in rest if name not in taken)
        if not variables:
            raise ValueError(
                f"data have no column that could be a variable, only {_list(frame.columns)}; say variables="
            )
    covariates = covariates or ()
    named = (*variables, *covariates, *static)
    if twice := [name for name in named if named.count(name) > 1]:
        raise ValueError(f"column {twice[0]!r} is named twice among variables, covariates and static; name it once")
    return variables, covariates, static, tuple(name for name in rest if name not in named)


def _regular(
    frame: Any, roles: Roles, layout: _Layout, stamps: Stamps, rows: list[np.ndarray], names: list[Any],
    covariates: tuple[Name, ...], aside: tuple[Name, ...],
) -> tuple[Any, list[np.ndarray], np.ndarray, np.ndarray]:  # fmt: skip
    """The frame with rows for the stamps that are missing, the rows of each series, all stamps, and what was put in."""
    full = [
        grid(replace(stamps, values=stamps.values[where]), roles.frequency, _called(name))  # type: ignore[arg-type]
        for name, where in zip(names, rows)
    ]
    if [len(one) for one in full] == [len(where) for where in rows]:
        return frame, rows, stamps.values, np.zeros(len(frame), dtype=bool)
    # A new row is a copy of the one before it, so that series and static columns are right by themselves.
    before = [np.searchsorted(stamps.values[where], one, side="right") - 1 for where, one in zip(rows, full)]
    source = np.concatenate([where[last] for where, last in zip(rows, before)])
    new = np.concatenate([stamps.values[where][last] != one for where, last, one in zip(rows, before, full)])
    if covariates:
        raise ValueError(
            f"frequency={roles.frequency!r} puts in rows, the first at {np.concatenate(full)[new][0]}, where the "
            f"covariate {covariates[0]!r} is not known; add these rows to the data"
        )
    out = relabelled(frame, layout.time, stamps, source, np.concatenate(full))
    for name in aside:
        place = list(frame.columns).index(name)
        out.isetitem(place, out.iloc[:, place].where(~new))
    return out, blocks([len(one) for one in full]), np.concatenate(full), new


# ---- records ----


def _records(
    pd: Any, frame: Any, roles: Roles, layout: _Layout, stamps: Stamps, codes: np.ndarray, names: list[Any]
) -> Panel:
    """A panel of a frame with one row a reading."""
    columns = list(frame.columns)
    variable, value = columns.index(roles.variable), columns.index(roles.value)
    if roles.covariates:
        raise ValueError(
            f"covariates={roles.covariates!r}: records have none, as they need a value at every stamp; pivot the frame"
        )
    static = roles.static if roles.lookup is None else ()
    if lost := [name for name in static if name not in columns]:
        raise ValueError(f"data have no column {lost[0]!r} of static{near(str(lost[0]), map(str, columns))}")
    which, called = pd.factorize(frame.iloc[:, variable])
    if (which < 0).any():
        raise ValueError(f"column {roles.variable!r}: row {int(np.argmin(which))} names no variable")
    called = pd.Index(called).tolist()
    variables = tuple(called) if roles.variables is None else roles.variables
    number = np.array([variables.index(name) if name in variables else -1 for name in called])[which]
    numbers = _numbers(pd, frame.iloc[:, value], roles.value, stamps)
    beside = [known(pd, frame.iloc[:, columns.index(name)], name, stamps) for name in static]
    order = np.lexsort((number, stamps.values, codes))
    found, rows, times, which_one = [], [], [], []
    for name, where in zip(names, np.split(order, np.cumsum(np.bincount(codes, minlength=len(names)))[:-1])):
        constants = tuple(_constant(column[where], label, name) for label, column in zip(static, beside))
        at = np.unique(stamps.values[where])
        if roles.frequency is not None:
            at = grid(replace(stamps, values=at), roles.frequency, _called(name))
        where = where[number[where] >= 0]
        time = np.searchsorted(at, stamps.values[where])
        values = np.full((len(at), len(variables)), np.nan)
        cells = time * len(variables) + number[where]
        if len(np.unique(cells)) < len(cells):
            row = where[np.flatnonzero(np.diff(cells) == 0)[0] + 1]
            raise ValueError(
                f"{_called(name)}: {called[which[row]]!r} has two rows at {stamps.values[row]}; keep one, or their mean"
            )
        values[time, number[where]] = numbers[where]
        found.append(Series(name, at, values, (), constants))
        rows.append(where)
        times.append(time)
        which_one.append(number[where])
    aside = tuple(name for name in called if name not in variables)
    form = RecordForm(
        frame, rows, [value], np.isnan(numbers)[:, None], [*layout.labels, variable], [],
        [*layout.labels, variable, value, *(columns.index(name) for name in static)],
        layout.time, replace(stamps, values=np.empty(0)),
        times=times, numbers=which_one, variable=variable, names=variables,
    )  # fmt: skip
    return Panel(tuple(found), variables, (), static, stamps.kind, stamps.zone, aside, form=form)


# ---- columns ----


def _called(name: Any) -> str:
    return "data" if name is None else f"series {name!r}"


def _list(names: Sequence[Any]) -> str:
    shown = ", ".join(map(repr, list(names)[:8]))
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _numbers(pd: Any, column: Any, name: Name, stamps: Stamps) -> np.ndarray:
    """A column of a variable as float64, NaN where missing."""
    dtype = column.dtype
    types = pd.api.types
    if not types.is_numeric_dtype(dtype) or types.is_bool_dtype(dtype) or types.is_complex_dtype(dtype):
        raise ValueError(
            f"column {name!r} is of dtype {dtype}: expected numbers; convert it (pandas.to_numeric), or name it in "
            "covariates= or static=, or leave it out of variables="
        )
    if isinstance(dtype, pd.SparseDtype):
        raise ValueError(f"column {name!r} is sparse: expected a dense column; convert it with .sparse.to_dense()")
    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    finite(numbers, name, "data", stamps.values)
    return np.array(numbers)


def finite(numbers: np.ndarray, name: Name, where: str, stamps: np.ndarray) -> None:
    infinite = np.isinf(numbers)
    if infinite.any():
        raise ValueError(
            f"{where}: column {name!r} holds {int(infinite.sum())} infinite values, the first at "
            f"{stamps[infinite][0]}; put NaN where a value is missing"
        )


def complete(column: np.ndarray, name: Name, where: str, stamps: np.ndarray) -> None:
    lost = np.array([one is None or one != one for one in column]) if column.dtype == object else np.isnan(column)
    if lost.any():
        raise ValueError(
            f"{where}: column {name!r} has no value at {stamps[lost][0]} ({int(lost.sum())} such rows), and covariates "
            "and static columns must be known; fill it, or make it a variable, which may be missing"
        )


def known(pd: Any, column: Any, name: Name, stamps: Stamps) -> np.ndarray:
    """A covariate's column: float64 for numbers and booleans, otherwise objects, none missing."""
    types = pd.api.types
    if isinstance(column.dtype, pd.SparseDtype) or types.is_complex_dtype(column.dtype):
        raise ValueError(f"column {name!r} is of dtype {column.dtype}: expected dense numbers or categories")
    if types.is_datetime64_any_dtype(column.dtype) or types.is_timedelta64_dtype(column.dtype):
        raise ValueError(f"column {name!r} holds times: expected numbers or categories; convert it to a number")
    if types.is_numeric_dtype(column.dtype) or types.is_bool_dtype(column.dtype):
        found = column.to_numpy(dtype=np.float64, na_value=np.nan)
        finite(found, name, "data", stamps.values)
    else:
        found = column.astype(object).where(column.notna(), None).to_numpy(dtype=object)
    complete(found, name, "data", stamps.values)
    return found


def _constant(column: np.ndarray, name: Name, series: Any) -> Any:
    if (column != column[0]).any():
        other = column[column != column[0]][0]
        raise ValueError(
            f"{_called(series)}: the static column {name!r} holds both {column[0]!r} and {other!r}; expected one value "
            "a series: name it in covariates= if it changes"
        )
    return column[0] if column.dtype == object else float(column[0])
