r"""Time as a network sees it: elapsed steps, and where stamps stand in the cycles of the calendar.

With ``p(t) in [0, 1)`` the part of a cycle that has passed at stamp ``t``, the features of the cycle are

    sin 2 pi p(t),   cos 2 pi p(t).

| cycle | length | passed |
| --- | --- | --- |
| hour | 1 h | minutes and seconds |
| day | 24 h | time since midnight |
| week | 7 d | time since Monday |
| month | 28 to 31 d | time since the first, over the days of that month |
| year | 365 or 366 d | time since 1 January, over the days of that year |

All are read off the clock on the wall, in the time zone of the training data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ornstein.core.config import near
from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.timeseries.panel import Panel
from ornstein.domains.timeseries.stamps import Kind, Stamps, later, wall_clock

__all__ = ["CYCLES", "Clock", "passed"]

DAY = 86_400.0
CYCLES = {"hour": 3600.0, "day": DAY, "week": 7 * DAY, "month": 30.436875 * DAY, "year": 365.2425 * DAY}
CHOSEN = ("day", "week", "year")  # without being asked; data seldom follow the others


def passed(wall: np.ndarray, cycle: str) -> np.ndarray:
    """The part of a cycle in [0, 1) that has passed at wall-clock stamps ``(R,)`` datetime64."""
    day = wall.astype("datetime64[D]")
    if cycle == "hour":
        return _seconds(wall - wall.astype("datetime64[h]")) / CYCLES["hour"]
    clock = _seconds(wall - day) / DAY
    if cycle == "day":
        return clock
    if cycle == "week":
        return ((day.astype(np.int64) + 3) % 7 + clock) / 7  # 1970 began on a Thursday
    unit = "M" if cycle == "month" else "Y"
    start = wall.astype(f"datetime64[{unit}]")
    first, last = start.astype("datetime64[D]"), (start + 1).astype("datetime64[D]")
    return ((day - first).astype(np.int64) + clock) / (last - first).astype(np.int64)


def _seconds(difference: np.ndarray) -> np.ndarray:
    return difference / np.timedelta64(1, "s")


@dataclass(frozen=True)
class Clock:
    """How stamps become time, as the training data had them.

    Args:
        kind: of the stamps.
        step: what counts as 1: seconds, months where ``months``, or the unit of stamps that are numbers.
        months: count months, since all stamps stood at one day of a month.
        regular: nearly all stamps were one step apart.
        frequency: pandas' name of a rhythm that is none of equal steps, such as "B" for business days.
        zone: time zone of the wall's clock; None if the stamps had none.
        cycles: of the calendar, in the order of the features.
    """

    kind: Kind = "number"
    step: float = 1.0
    months: bool = False
    regular: bool = True
    frequency: str | None = None
    zone: str | None = None
    cycles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(0 < self.step < np.inf, "step", self.step, "a number above 0")
        for cycle in self.cycles:
            if cycle not in CYCLES:
                raise ValueError(f"cycle {cycle!r}: expected one of {', '.join(CYCLES)}{near(str(cycle), CYCLES)}")
        require(not self.cycles or self.kind == "datetime", "cycles", self.cycles, f"none, as stamps are {self.kind}s")

    @classmethod
    def fit(cls, panel: Panel, cycles: Sequence[str] | None = None) -> "Clock":
        """The step (the lower median of the differences) and the cycles that the training stamps have.

        Of day, week and year those are chosen that the stamps show twice or more and with four steps or more each.

        Args:
            panel: the training data.
            cycles: these instead.

        Raises:
            ValueError: no series has two stamps; an unknown cycle, or one of stamps that are no datetimes.
        """
        stamps = [one.stamps for one in panel.series if len(one) > 1]
        if not stamps:
            raise ValueError("the longest series has 1 sample: expected at least two rows to know the step of time")
        if panel.kind == "number":
            gaps = np.concatenate([np.diff(one) for one in stamps])
            step = _middle(gaps)
            return cls(step=step, regular=_most_equal(gaps / step), cycles=tuple(cycles or ()))
        gaps = np.concatenate([_seconds(np.diff(one)) for one in stamps])
        step = _middle(gaps)
        if panel.kind == "timedelta":
            return cls("timedelta", step, regular=_most_equal(gaps / step), cycles=tuple(cycles or ()))
        months = step >= 28 * DAY and _one_day_of_month([wall_clock(one, panel.zone) for one in stamps])
        if months:
            step = _middle(np.concatenate([np.diff(_months(wall_clock(one, panel.zone))) for one in stamps]))
        draft = cls("datetime", step, months, zone=panel.zone)
        regular = _most_equal(np.concatenate([np.diff(draft.elapsed(one)) for one in stamps]))
        frequency = None if regular else _rhythm(max(stamps, key=len), panel.zone)
        if cycles is None:
            span = _seconds(max(one[-1] for one in stamps) - min(one[0] for one in stamps))
            length = step * CYCLES["month"] if months else step
            cycles = [name for name in CHOSEN if span >= 2 * CYCLES[name] and 4 * length <= CYCLES[name]]
        return cls("datetime", step, months, regular or frequency is not None, frequency, panel.zone, tuple(cycles))

    @property
    def width(self) -> int:
        """Number of features of the calendar."""
        return 2 * len(self.cycles)

    def elapsed(self, stamps: np.ndarray) -> np.ndarray:
        """Steps ``(R,)`` float64 since the first of the stamps ``(R,)``.

        Steps of whole days and of months are counted on the wall's clock, so that a day with 23 hours is one day.
        """
        if self.kind == "number":
            return (stamps - stamps[:1]) / self.step
        if self.kind == "timedelta":
            return _seconds(stamps - stamps[:1]) / self.step
        if self.months:
            months = _months(wall_clock(stamps, self.zone))
            return (months - months[:1]) / self.step
        if self.step % DAY == 0:
            stamps = wall_clock(stamps, self.zone)
        return _seconds(stamps - stamps[:1]) / self.step

    def features(self, stamps: np.ndarray) -> np.ndarray:
        """Sine and cosine of each cycle, ``(R, 2 cycles)`` float32."""
        if not self.cycles:
            return np.empty((len(stamps), 0), dtype=np.float32)
        wall = wall_clock(stamps, self.zone)
        angles = [2 * np.pi * passed(wall, cycle) for cycle in self.cycles]
        return np.stack([turn(angle) for angle in angles for turn in (np.sin, np.cos)], axis=1).astype(np.float32)

    def check(self, panel: Panel) -> None:
        """Refuse stamps that this clock cannot tell.

        Raises:
            ValueError: stamps of another kind, with a time zone where there was none or without where there was one; or
                fewer than a quarter of them one step after the stamp before, where training had a regular step.
        """
        if panel.kind != self.kind:
            raise ValueError(
                f"stamps are {panel.kind}s where the training data had {self.kind}s; give an index of the same kind"
            )
        if (panel.zone is None) != (self.zone is None):
            came, mend = panel.zone or "no time zone", "tz_convert(None)" if self.zone is None else "tz_localize(...)"
            raise ValueError(f"stamps have {came} where the training data had {self.zone or 'none'}; mend with .{mend}")
        for one in panel.series if self.regular else ():
            gaps = np.diff(self.elapsed(one.stamps))
            if len(gaps) and np.mean(np.abs(gaps - 1) <= 0.01) < 0.25:
                raise ValueError(
                    f"{'data' if one.name is None else f'series {one.name!r}'}: stamps are {np.median(gaps):.4g} steps "
                    f"apart (the median), where the training data had one every {self}; resample them, or give "
                    "frequency= if it is rows that are missing"
                )

    def next(self, stamps: np.ndarray, horizon: int) -> np.ndarray:
        """The ``horizon`` stamps that follow the last one in the rhythm of the training data."""
        if self.kind == "number":
            return later(Stamps(stamps[-1:], self.kind), self.step, horizon)
        pd = need("pandas", to="count on stamps", extra="timeseries")
        step: Any
        if self.frequency is not None:
            step = self.frequency
        elif self.months:
            end = pd.Timestamp(wall_clock(stamps[-1:], self.zone)[0]).is_month_end
            step = pd.offsets.MonthEnd(round(self.step)) if end else pd.DateOffset(months=round(self.step))
        elif self.kind == "datetime" and self.step % DAY == 0:
            step = pd.DateOffset(days=round(self.step / DAY))
        else:
            step = pd.Timedelta(seconds=self.step)
        return later(Stamps(stamps[-1:], self.kind, self.zone), step, horizon)

    def __str__(self) -> str:
        if self.kind == "number":
            return f"{self.step:g}"
        if self.months:
            return f"{self.step:g} months"
        return str(need("pandas", to="count on stamps", extra="timeseries").Timedelta(seconds=self.step))


def _middle(gaps: np.ndarray) -> float:
    """The lower median, which is one of the gaps."""
    return float(np.quantile(gaps, 0.5, method="lower"))


def _most_equal(gaps: np.ndarray) -> bool:
    return bool(np.mean(np.abs(gaps - 1) <= 0.01) >= 0.9)


def _months(wall: np.ndarray) -> np.ndarray:
    """Months since 1970: whole numbers apart at one day of the month, the last of which counts as the next first."""
    month = wall.astype("datetime64[M]")
    day = (wall.astype("datetime64[D]") - month.astype("datetime64[D]")).astype(np.int64)
    last = ((month + 1).astype("datetime64[D]") - month.astype("datetime64[D]")).astype(np.int64) - 1
    return month.astype(np.int64) + np.where(day == last, 1.0, day / 31)


def _one_day_of_month(walls: Sequence[np.ndarray]) -> bool:
    """Whether all stamps stand at one day of the month, or all at its end, and at one time of day."""
    wall = np.concatenate(walls)
    day, next_day = wall.astype("datetime64[D]"), wall.astype("datetime64[D]") + 1
    ends = bool((next_day == next_day.astype("datetime64[M]")).all())
    number = (day - day.astype("datetime64[M]")).astype(np.int64)
    return (ends or len(np.unique(number)) == 1) and len(np.unique(wall - day)) == 1


def _rhythm(stamps: np.ndarray, zone: str | None) -> str | None:
    pd = need("pandas", to="count on stamps", extra="timeseries")
    if len(stamps) < 3:
        return None
    found: str | None = pd.infer_freq(pd.DatetimeIndex(wall_clock(stamps, zone)))
    return found
