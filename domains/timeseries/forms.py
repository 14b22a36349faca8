"""Results in the form in which the data came: tables, tables of records, arrays.

A column is given back as it is but for its missing entries, each of which becomes the number nearest to the result that
the column's dtype holds. So observed values keep their bits, and integers stay integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ornstein.core.optional import need
from ornstein.domains.timeseries.panel import Form, Name
from ornstein.domains.timeseries.stamps import Stamps, write_stamps

__all__ = ["ArrayForm", "RecordForm", "TableForm", "blocks", "filled", "relabelled"]


def filled(column: np.ndarray | Any, missing: np.ndarray, values: np.ndarray) -> Any:
    """A copy of an array (NumPy's or pandas') with the nearest numbers that its dtype holds at ``missing``.

    Args:
        column: ``(R,)`` or more axes.
        missing: of that shape, True where to fill; where ``values`` is NaN the entry stays.
        values: of that shape.
    """
    out = column.copy()
    there = missing & ~np.isnan(values)
    if there.any():
        dtype = np.dtype(getattr(column.dtype, "numpy_dtype", column.dtype))
        new = values[there]
        if np.issubdtype(dtype, np.integer):
            held = np.iinfo(dtype)
            # The largest 64-bit integers are no floats: the rounded bound would overflow.
            top = np.nextafter(float(held.max), 0) if float(held.max) > held.max else float(held.max)
            new = np.clip(np.rint(new), float(held.min), top)
        else:
            new = np.clip(new, np.finfo(dtype).min, np.finfo(dtype).max)
        out[there] = new.astype(dtype)
    return out


@dataclass(frozen=True, eq=False)
class TableForm(Form):
    """A frame whose variables are columns.

    Attributes:
        frame: as it came, or with the rows that ``frequency`` put in.
        rows: for each series the places of its rows in the frame, in order of time.
        columns: places of the variables' columns, in the order of the panel's variables.
        missing: ``(R, K)``, True where there is no value.
        labels: places of the columns that say series and time.
        covariates: places of the covariates' columns.
        kept: places of all columns that mean something (labels, variables, covariates, static).
        time: place of the column of stamps; None where they are in the index.
        stamps: kind and zone of the stamps (the values are of no use here).
        squeeze: the name of the pandas Series that came and is given back; empty where a frame came.
    """

    frame: Any
    rows: Sequence[np.ndarray]
    columns: Sequence[int]
    missing: np.ndarray
    labels: Sequence[int] = ()
    covariates: Sequence[int] = ()
    kept: Sequence[int] = ()
    time: int | None = None
    stamps: Stamps = field(default_factory=lambda: Stamps(np.empty(0), "number"))
    squeeze: tuple[Any, ...] = ()

    def restore(self, values: Sequence[np.ndarray]) -> Any:
        return self._squeezed(self._with(self._scattered(values)))

    def samples(self, values: Sequence[np.ndarray]) -> Any:
        pd = need("pandas", to="give back frames", extra="timeseries")
        scattered = self._scattered(values)
        frames = [self._with(one) for one in scattered]
        names = ["sample", *self.frame.index.names]
        if len(frames) == 0:
            raise ValueError("values hold no samples; expected at least one")
        return self._squeezed(pd.concat(frames, keys=range(len(frames)), names=names))

    def levels(self, values: Sequence[np.ndarray], levels: Sequence[Any], names: Sequence[str]) -> Any:
        scattered = self._scattered(values)
        keys = [level if isinstance(level, tuple) else (level,) for level in levels]

        def columns(place: int, k: int) -> list[tuple[tuple[Any, ...], Any]]:
            array, missing = self.frame.iloc[:, place].array, self.missing[:, k]
            return [(key, filled(array, missing, one[:, k])) for key, one in zip(keys, scattered)]

        return self._labelled(columns, ("",) * len(names), names)

    def arrange(self, values: Sequence[np.ndarray]) -> Any:
        scattered = self._scattered(values)
        return self._squeezed(self._labelled(lambda place, k: [((), scattered[:, k].copy())], (), ()))

    def ahead(self, stamps: Sequence[np.ndarray], covariates: Sequence[Sequence[np.ndarray]]) -> "TableForm":
        lengths = [len(new) for new in stamps]
        source = np.repeat([rows[-1] for rows in self.rows], lengths)
        frame = relabelled(self.frame, self.time, self.stamps, source, np.concatenate(stamps))
        for j, place in enumerate(self.covariates):
            column = np.concatenate([known[j] for known in covariates])
            frame.isetitem(place, _cast(column, self.frame.dtypes.iloc[place]))
        frame = frame.iloc[:, sorted(self.kept)]
        return replace(self, frame=frame, rows=blocks(lengths), **self._moved(len(source)))

    def _squeezed(self, frame: Any) -> Any:
        return frame.iloc[:, 0].rename(self.squeeze[0]) if self.squeeze else frame

    def _scattered(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """The values in the places of the frame: ``(..., R, K)``, NaN where no series has a row."""
        lead = values[0].shape[:-2]
        out = np.full((*lead, *self.missing.shape), np.nan)
        for rows, array in zip(self.rows, values):
            out[..., rows, :] = array
        return out

    def _with(self, values: np.ndarray) -> Any:
        out = self.frame.copy()
        for k, place in enumerate(self.columns):
            if self.missing[:, k].any():
                out.isetitem(place, filled(self.frame.iloc[:, place].array, self.missing[:, k], values[:, k]))
        return out

    def _labelled(self, columns: Any, blank: tuple[str, ...], names: Sequence[str]) -> Any:
        """A frame of labels and variables in the caller's order, with what ``columns(place, k)`` gives for each."""
        pd = need("pandas", to="give back frames", extra="timeseries")
        found: list[tuple[tuple[Any, ...], Any]] = []
        order = {place: k for k, place in enumerate(self.columns)}
        for place in sorted([*self.labels, *self.columns]):
            name = self.frame.columns[place]
            parts = tuple(name) if isinstance(name, tuple) else (name,)
            if place in order:
                found += [((*parts, *key), array) for key, array in columns(place, order[place])]
            else:
                found.append(((*parts, *blank), self.frame.iloc[:, place].array.copy()))
        out = pd.concat([pd.Series(array, index=self.frame.index) for _, array in found], axis=1)
        heads = list(self.frame.columns.names)
        if len(heads) + len(names) == 1:
            out.columns = pd.Index([key[0] for key, _ in found], name=heads[0])
        else:
            if names and heads == [None]:
                heads = ["variable"]
            out.columns = pd.MultiIndex.from_tuples([key for key, _ in found], names=[*heads, *names])
        return out

    def _moved(self, rows: int) -> dict[str, Any]:
        """Places of the columns once only ``kept`` are left, all values missing."""
        place = {old: new for new, old in enumerate(sorted(self.kept))}
        return {
            "columns": [place[p] for p in self.columns],
            "labels": [place[p] for p in self.labels],
            "covariates": [place[p] for p in self.covariates],
            "kept": list(range(len(place))),
            "time": None if self.time is None else place[self.time],
            "missing": np.ones((rows, self.missing.shape[1]), dtype=bool),
        }


@dataclass(frozen=True, eq=False)
class RecordForm(TableForm):
    """A frame with one row a reading: series, stamp, variable, value; ``columns`` is the place of the values alone.

    Attributes:
        times: for each series the number of the stamp of each of its rows.
        numbers: for each series the number of the variable of each of its rows.
        variable: place of the column of variables.
        names: of the variables.
    """

    times: Sequence[np.ndarray] = ()
    numbers: Sequence[np.ndarray] = ()
    variable: int = 0
    names: Sequence[Name] = ()

    def ahead(self, stamps: Sequence[np.ndarray], covariates: Sequence[Sequence[np.ndarray]]) -> "RecordForm":
        count = len(self.names)
        lengths = [len(new) * count for new in stamps]
        source = np.repeat([rows[0] for rows in self.rows], lengths)
        frame = relabelled(self.frame, self.time, self.stamps, source, np.repeat(np.concatenate(stamps), count))
        variable = np.empty(count, dtype=object)
        variable[:] = list(self.names)
        frame.isetitem(
            self.variable, _cast(np.tile(variable, sum(map(len, stamps))), self.frame.dtypes.iloc[self.variable])
        )
        moved = self._moved(len(source))
        moved["variable"] = sorted(self.kept).index(self.variable)
        times = [np.repeat(np.arange(len(new)), count) for new in stamps]
        numbers = [np.tile(np.arange(count), len(new)) for new in stamps]
        return replace(
            self, frame=frame.iloc[:, sorted(self.kept)], rows=blocks(lengths), times=times, numbers=numbers, **moved
        )

    def _scattered(self, values: Sequence[np.ndarray]) -> np.ndarray:
        lead = values[0].shape[:-2]
        out = np.full((*lead, *self.missing.shape), np.nan)
        for rows, times, numbers, array in zip(self.rows, self.times, self.numbers, values):
            out[..., rows, 0] = array[..., times, numbers]
        return out


def relabelled(frame: Any, time: int | None, kind: Stamps, source: np.ndarray, stamps: np.ndarray) -> Any:
    """A frame's rows ``source`` with other stamps: in the column ``time``, or in the index (its last level) if None."""
    pd = need("pandas", to="give back frames", extra="timeseries")
    new = replace(kind, values=stamps)
    out, index = frame.iloc[source].copy(), frame.index
    if time is not None:
        out.isetitem(time, write_stamps(new, pd.Index(frame.iloc[:, time])).array)
        if index.name is None:  # a mere count of rows; with a name it says the series
            out.index = pd.RangeIndex(len(out))
    elif index.nlevels == 1:
        out.index = write_stamps(new, index)
    else:
        levels = [out.index.get_level_values(0), write_stamps(new, index.get_level_values(1))]
        out.index = pd.MultiIndex.from_arrays(levels, names=index.names)
    return out


def blocks(lengths: Sequence[int]) -> list[np.ndarray]:
    ends = np.cumsum(lengths)
    return [np.arange(end - length, end) for end, length in zip(ends, lengths)]


def _cast(values: np.ndarray, dtype: Any) -> Any:
    """Values as a pandas array of a dtype, or of their own where it cannot hold them."""
    pd = need("pandas", to="give back frames", extra="timeseries")
    try:
        cast = pd.Series(values).astype(dtype)
        return (cast if (cast == pd.Series(values)).all() else pd.Series(values)).array
    except (ValueError, TypeError):
        return pd.Series(values).array


@dataclass(frozen=True, eq=False)
class ArrayForm(Form):
    """Arrays: one ``(T,)`` or ``(T, K)``, a cube ``(N, T, K)``, or a list of ``(T, K)``.

    Attributes:
        arrays: one ``(T, K)`` a series.
        columns: places of the variables.
        covariates: places of the covariates.
        kind: how they came.
    """

    arrays: Sequence[np.ndarray]
    columns: Sequence[int]
    covariates: Sequence[int]
    kind: Literal["vector", "matrix", "cube", "list"]
    empty: bool = False

    def restore(self, values: Sequence[np.ndarray]) -> Any:
        return self._shaped([self._with(array, new) for array, new in zip(self.arrays, values)])

    def samples(self, values: Sequence[np.ndarray]) -> Any:
        stacked = [np.stack([self._with(array, one) for one in new]) for array, new in zip(self.arrays, values)]
        return self._shaped(stacked)

    def levels(self, values: Sequence[np.ndarray], levels: Sequence[Any], names: Sequence[str]) -> Any:
        stacked = [
            np.stack([self._with(array, one)[:, list(self.columns)] for one in new])
            for array, new in zip(self.arrays, values)
        ]
        return self._shaped(stacked)

    def arrange(self, values: Sequence[np.ndarray]) -> Any:
        return self._shaped([array.copy() for array in values])

    def ahead(self, stamps: Sequence[np.ndarray], covariates: Sequence[Sequence[np.ndarray]]) -> "ArrayForm":
        arrays = []
        for array, new, known in zip(self.arrays, stamps, covariates):
            rows = np.zeros((len(new), array.shape[1]), dtype=array.dtype)
            for place, column in zip(self.covariates, known):
                rows[:, place] = column
            arrays.append(rows)
        return replace(self, arrays=arrays, empty=True)

    def _with(self, array: np.ndarray, values: np.ndarray) -> np.ndarray:
        columns = list(self.columns)
        old = array[:, columns]
        missing = np.ones(old.shape, dtype=bool) if self.empty else np.isnan(old)
        out = array.copy()
        out[:, columns] = filled(old, missing, values)
        return out

    def _shaped(self, arrays: Sequence[np.ndarray]) -> Any:
        """One array ``(..., T, K)`` a series in the form that came, with the leading axes first."""
        if self.kind == "vector":
            return arrays[0][..., 0]
        if self.kind == "matrix":
            return arrays[0]
        return np.stack(arrays, axis=arrays[0].ndim - 2) if self.kind == "cube" else list(arrays)
