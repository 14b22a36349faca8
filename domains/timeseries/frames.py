"""Data in the forms that people have them to a `Panel`, which gives results back in the same form.

| form | series | stamps | variables |
| --- | --- | --- | --- |
| wide frame | one | the index, or the column ``ds`` | the columns |
| panel frame | first index level | second index level | the columns |
| long frame | column ``unique_id`` | column ``ds`` | column ``y``, others beside it covariates; without ``y`` all |
| records | column ``unique_id`` (or one series) | column ``ds`` | column ``variable``, with its number in ``value`` |
| array ``(T,)``, ``(T, K)``, ``(N, T, K)``, list of ``(T, K)`` | first axis | 0, 1, 2, ... | last axis |
| path | as in the table that `read_table` reads | | |

NaN (None, NA) means missing. Rows may come in any order. What cannot be understood is refused by name.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.core.optional import need
from ornstein.domains.timeseries.forms import ArrayForm
from ornstein.domains.timeseries.panel import LABELS, Name, Panel, Series
from ornstein.domains.timeseries.reading import read_table
from ornstein.domains.timeseries.stamps import Stamps
from ornstein.domains.timeseries.tables import Roles, complete, finite, known, table

__all__ = ["as_panel"]


def as_panel(
    data: Any,
    *,
    variables: Sequence[Name] | None = None,
    covariates: Sequence[Name] | None = None,
    static: Any = (),
    frequency: str | float | None = None,
    series: Name = LABELS[0],
    time: Name = LABELS[1],
    variable: Name = LABELS[2],
    value: Name = LABELS[3],
) -> Panel:
    """Series of a frame, an array or a file, in one of the forms above; a `Panel` is given back as it is.

    Args:
        data: see above.
        variables: names of the variables, in the order wanted; all columns that are nothing else when not given.
            Columns that are then named nowhere are left aside and given back as they came. Of arrays the names are
            0, 1, ..., or these.
        covariates: names of columns that are known at all stamps, the future's included; numbers or categories.
        static: names of columns that are constant in each series, or a frame with a row for each series by its name.
        frequency: put in the stamps that are missing between the first and the last, without values; pandas' name
            ("h", "15min", "MS"), or for stamps that are numbers the step. Left out, stamps stay as they are.
        series, time, variable, value: names of the columns of long frames and records.

    Raises:
        TypeError: data of another kind, or stamps of another kind.
        ValueError: an unknown column, or two of a name; text, booleans or infinite values in a variable; missing values
            in covariates, series or stamps; a stamp twice in a series; no rows.

    Example:
        >>> import numpy as np
        >>> panel = as_panel(np.array([[1.0, np.nan], [2.0, 5.0]], dtype=np.float32))
        >>> panel.restore([np.full((2, 2), 7.0)])
        array([[1., 7.],
               [2., 5.]], dtype=float32)
    """
    if isinstance(data, Panel):
        if not (variables is covariates is frequency is None and isinstance(static, tuple) and not static):
            raise ValueError("data are a panel already, whose columns and stamps are settled; leave out what says them")
        return data
    for name, given in (("variables", variables), ("covariates", covariates)):
        if isinstance(given, str):
            raise TypeError(f"{name}={given!r} is one string: expected a list of names; give [{given!r}]")
    roles = Roles(
        None if variables is None else tuple(variables),
        None if covariates is None else tuple(covariates),
        *_static(static),
        frequency=frequency, series=series, time=time, variable=variable, value=value,
    )  # fmt: skip
    if isinstance(data, str | Path):
        return _with_lookup(table(read_table(data, time=time), roles), roles)
    if type(data).__module__.split(".")[0] == "pandas":
        return _with_lookup(table(data, roles), roles)
    arrays = data if isinstance(data, list | tuple) else [data]
    if arrays and all(type(array) is np.ndarray for array in arrays):
        return _arrays(data, roles)
    raise TypeError(
        f"data of type {type(data).__name__}: expected a pandas frame, a NumPy array, a list of arrays or a path to "
        "a CSV or Parquet file (call .to_pandas() or .numpy() where there is one)"
    )


def _static(static: Any) -> tuple[tuple[Name, ...], Any]:
    if isinstance(static, str):
        raise TypeError(f"static={static!r} is one string: expected a list of names or a frame; give [{static!r}]")
    if hasattr(static, "columns"):
        return tuple(static.columns), static
    return tuple(static), None


def _arrays(data: Any, roles: Roles) -> Panel:
    parts, kind = _split(data)
    count = parts[0].shape[1]
    if roles.frequency is not None:
        raise ValueError(f"frequency={roles.frequency!r}: arrays have no stamps, so none are missing; leave it out")
    if roles.static and roles.lookup is None:
        raise ValueError(f"static={roles.static!r}: arrays have no columns to name; give a frame with a row a series")
    chosen = (*(roles.variables or ()), *(roles.covariates or ()))
    names: tuple[Name, ...] = tuple(range(count))
    if roles.variables is not None and not all(isinstance(name, int) for name in chosen):
        if len(chosen) != count:
            raise ValueError(
                f"data have {count} columns where {len(chosen)} names are given: {chosen!r}; give one each"
            )
        names = chosen
    for what, wanted in (("variables", roles.variables), ("covariates", roles.covariates)):
        for name in wanted or ():
            if name not in names:
                raise ValueError(f"{what} hold {name!r}; the array has the columns 0 to {count - 1}")
    covariates = roles.covariates or ()
    variables = roles.variables if roles.variables is not None else tuple(n for n in names if n not in covariates)
    columns, beside = [names.index(name) for name in variables], [names.index(name) for name in covariates]
    found = []
    for i, part in enumerate(parts):
        label: Any = None if kind in ("vector", "matrix") else i
        where = "data" if label is None else f"series {i}"
        values = part.astype(np.float64)
        for name, place in zip((*variables, *covariates), (*columns, *beside)):
            finite(values[:, place], name, where, np.arange(len(part)))
        for name, place in zip(covariates, beside):
            complete(values[:, place], name, where, np.arange(len(part)))
        stamps = np.arange(len(part), dtype=np.float64)
        found.append(Series(label, stamps, values[:, columns], tuple(values[:, place] for place in beside)))
    aside = tuple(name for name in names if name not in (*variables, *covariates))
    panel = Panel(tuple(found), variables, covariates, aside=aside, form=ArrayForm(parts, columns, beside, kind))
    return _with_lookup(panel, roles)


def _split(data: Any) -> tuple[list[np.ndarray], Any]:
    """One ``(T, K)`` a series, and how they came."""
    arrays = list(data) if isinstance(data, list | tuple) else [data]
    for array in arrays:
        if array.dtype.kind not in "fiu":
            raise ValueError(f"data of dtype {array.dtype}: expected numbers; convert them with astype(float)")
    if isinstance(data, list | tuple):
        if wrong := [a.shape for a in arrays if a.ndim != 2 or a.shape[1] != arrays[0].shape[-1]]:
            raise ValueError(f"data hold an array of shape {wrong[0]}: expected (T, K) with the same K in all")
        parts, kind = arrays, "list"
    elif data.ndim == 1:
        parts, kind = [data[:, None]], "vector"
    elif data.ndim == 2:
        parts, kind = [data], "matrix"
    elif data.ndim == 3:
        parts, kind = list(data), "cube"
    else:
        raise ValueError(f"data of shape {data.shape}: expected (T,), (T, K) or (series, T, K)")
    if not parts or any(0 in part.shape for part in parts):
        shapes = [part.shape for part in parts if 0 in part.shape] or [np.shape(data)]
        raise ValueError(f"data of shape {shapes[0]} hold nothing: expected at least one row and one column")
    return parts, kind


def _with_lookup(panel: Panel, roles: Roles) -> Panel:
    """The panel with static values from a frame of their own."""
    if roles.lookup is None:
        return panel
    pd = need("pandas", to="read frames of time series", extra="timeseries")
    frame = roles.lookup.set_index(roles.series) if roles.series in roles.lookup.columns else roles.lookup
    if frame.index.has_duplicates:
        raise ValueError(f"static has two rows for series {frame.index[frame.index.duplicated()][0]!r}; keep one")
    rows = [frame.index.get_loc(one.name) if one.name in frame.index else -1 for one in panel.series]
    if len(panel) == 1 and len(frame) == 1 and panel.series[0].name is None:
        rows = [0]
    if -1 in rows:
        raise ValueError(f"static has no row for series {panel.series[rows.index(-1)].name!r}; add it")
    index = Stamps(np.asarray(frame.index, dtype=object), "number")
    columns = [known(pd, frame.iloc[:, i], name, index) for i, name in enumerate(frame.columns)]
    found = tuple(
        replace(one, static=tuple(c[row] if c.dtype == object else float(c[row]) for c in columns))
        for one, row in zip(panel.series, rows)
    )
    return replace(panel, series=found, static=tuple(frame.columns))
