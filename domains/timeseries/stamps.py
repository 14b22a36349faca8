"""The stamps of rows: read from an index or a column, written back as they came, counted on and laid on a grid.

Stamps with a time zone are instants: they are kept in UTC, and the zone beside them tells what the clock on the wall
showed, which the calendar follows.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ornstein.core.optional import need

__all__ = ["Kind", "Stamps", "grid", "later", "read_stamps", "wall_clock", "write_stamps"]

Kind = Literal["datetime", "timedelta", "number"]


@dataclass(frozen=True, eq=False)
class Stamps:
    """Stamps of rows in the order of the rows.

    Attributes:
        values: ``(R,)`` datetime64 (UTC where there is a zone), timedelta64 or float64.
        kind: which of the three.
        zone: name of the time zone; None without.
    """

    values: np.ndarray
    kind: Kind
    zone: str | None = None


def _pandas() -> Any:
    return need("pandas", to="read frames of time series", extra="timeseries")


def read_stamps(index: Any, where: str) -> Stamps:
    """The stamps that a pandas index (or a column made one) holds.

    Args:
        index: of datetimes with or without a time zone, periods (their starts count), time differences, numbers, or
            strings in ISO 8601.
        where: what to call it in errors.

    Raises:
        TypeError: stamps of another kind.
        ValueError: strings in another form, and stamps that are missing or not finite.
    """
    pd = _pandas()
    if index.hasnans:
        row = int(np.flatnonzero(index.isna())[0])
        raise ValueError(
            f"{where}: {int(index.isna().sum())} stamps are missing (the first in row {row}); drop those rows"
        )
    kind = index.inferred_type
    if kind in ("string", "date", "datetime", "datetime64") and not isinstance(index, pd.DatetimeIndex):
        form = "ISO8601" if kind == "string" else None
        try:
            index = pd.DatetimeIndex(pd.to_datetime(index, format=form))
        except (ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{where}: {index[0]!r} and the others are not all stamps in ISO 8601 ({reason[:120]}); "
                "convert them with pandas.to_datetime(..., format=...)"
            ) from None
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    if isinstance(index, pd.DatetimeIndex):
        if index.tz is None:
            return Stamps(index.to_numpy(), "datetime")
        return Stamps(index.tz_convert("UTC").tz_localize(None).to_numpy(), "datetime", str(index.tz))
    if isinstance(index, pd.TimedeltaIndex):
        return Stamps(index.to_numpy(), "timedelta")
    if pd.api.types.is_numeric_dtype(index.dtype) and kind in ("integer", "floating"):
        numbers = index.to_numpy(dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError(f"{where}: stamps hold infinite values; give finite ones")
        return Stamps(numbers, "number")
    raise TypeError(
        f"{where}: stamps are of the kind {kind!r}; expected datetimes, periods, time differences or numbers"
    )


def write_stamps(stamps: Stamps, like: Any) -> Any:
    """A pandas index of stamps in the kind, zone and name of another one; strings become datetimes."""
    pd = _pandas()
    if stamps.kind == "number":
        index = pd.Index(stamps.values, name=like.name)
        whole = like.inferred_type == "integer" and bool((stamps.values == np.rint(stamps.values)).all())
        return index.astype(like.dtype) if whole else index
    if stamps.kind == "timedelta":
        return pd.TimedeltaIndex(stamps.values, name=like.name)
    index = pd.DatetimeIndex(stamps.values, name=like.name)
    if stamps.zone is not None:
        index = index.tz_localize("UTC").tz_convert(getattr(like, "tz", None) or stamps.zone)
    return index.to_period(like.freq) if isinstance(like, pd.PeriodIndex) else index


def wall_clock(values: np.ndarray, zone: str | None) -> np.ndarray:
    """What the clock on the wall showed at instants ``(R,)`` in UTC; the stamps themselves without a zone."""
    if zone is None:
        return values
    return _pandas().DatetimeIndex(values).tz_localize("UTC").tz_convert(zone).tz_localize(None).to_numpy()


def _index(stamps: Stamps) -> Any:
    """A pandas index on which steps can be counted."""
    pd = _pandas()
    if stamps.kind == "timedelta":
        return pd.TimedeltaIndex(stamps.values)
    index = pd.DatetimeIndex(stamps.values)
    return index if stamps.zone is None else index.tz_localize("UTC").tz_convert(stamps.zone)


def _plain(index: Any, like: np.ndarray) -> np.ndarray:
    if getattr(index, "tz", None) is not None:
        index = index.tz_convert("UTC").tz_localize(None)
    unit = max(np.datetime_data(like.dtype)[0], np.datetime_data(index.dtype.str)[0], key=["s", "ms", "us", "ns"].index)
    return index.as_unit(unit).to_numpy()


def grid(stamps: Stamps, frequency: str | float, where: str) -> np.ndarray:
    """All stamps from the first to the last at a frequency.

    Args:
        stamps: in rising order.
        frequency: pandas' name of it, such as "h" or "15min"; for numbers the step.
        where: what to call the series in errors.

    Raises:
        ValueError: a frequency that is not known or not above 0, and stamps beside the grid.
    """
    if stamps.kind == "number":
        step = frequency if isinstance(frequency, int | float) else None
        if step is None or not step > 0:
            raise ValueError(f"frequency={frequency!r}: expected a number above 0, as the stamps are numbers")
        places = (stamps.values - stamps.values[0]) / step
        beside = np.abs(places - np.rint(places)) > 1e-6
        full = stamps.values[0] + step * np.arange(int(np.rint(places[-1])) + 1)
        if not beside.any():
            full[np.rint(places).astype(np.int64)] = stamps.values
    else:
        pd = _pandas()
        index = _index(stamps)
        make = pd.timedelta_range if stamps.kind == "timedelta" else pd.date_range
        try:
            found = make(index[0], index[-1], freq=frequency)
        except (ValueError, TypeError, AttributeError):
            raise ValueError(
                f"frequency={frequency!r}: expected a frequency of pandas, such as 'h', '15min' or 'D'"
            ) from None
        beside = ~index.isin(found)
        full = _plain(found, stamps.values)
    if beside.any():
        row = int(np.flatnonzero(beside)[0])
        raise ValueError(
            f"{where}: {int(beside.sum())} stamps lie beside the grid of frequency={frequency!r} (the first is "
            f"{stamps.values[row]}); resample first, or leave frequency out and keep the stamps as they are"
        )
    return full


def later(stamps: Stamps, step: Any, horizon: int) -> np.ndarray:
    """The next ``horizon`` stamps after the last one.

    Args:
        stamps: in rising order.
        step: a number, or a frequency or time difference of pandas; whole days are counted on the wall's clock.
        horizon: how many.
    """
    if stamps.kind == "number":
        return stamps.values[-1] + step * np.arange(1, horizon + 1)
    pd = _pandas()
    last = _index(stamps)[-1]
    offset = pd.tseries.frequencies.to_offset(step)
    found = pd.Index([last + offset * i for i in range(1, horizon + 1)])
    return _plain(found, stamps.values)
