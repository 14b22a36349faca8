"""Tables of time series from files: Parquet as it was written, CSV with the stamps read as such.

A column of a CSV file is the stamps if it is the one called by ``time``; otherwise, in the first place, if it has no
name or is called ``date``, ``datetime``, ``time`` or ``timestamp``: then it becomes the index.
"""

from pathlib import Path
from typing import Any

from ornstein.core.optional import need

__all__ = ["read_table"]

KINDS = {".csv": ",", ".tsv": "\t", ".parquet": None}
STAMPS = ("date", "datetime", "time", "timestamp", "unnamed: 0")


def read_table(path: str | Path, *, time: Any = "ds") -> Any:
    """The frame that a file holds.

    Numbers are read to the nearest float64; empty fields and the usual words (``NA``, ``nan``) are missing.

    Args:
        path: ``.csv``, ``.tsv`` (both may be compressed, ``.csv.gz``) or ``.parquet``.
        time: name of the column of stamps, which stays a column.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another suffix, an unreadable or empty file, two columns of one name.
    """
    pd = need("pandas", to="read tables", extra="timeseries")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    suffix = next((s.lower() for s in path.suffixes[-2:] if s.lower() in KINDS), path.suffix)
    if suffix not in KINDS:
        raise ValueError(f"{path}: suffix {suffix!r} is none of {', '.join(KINDS)}; save the table as one of these")
    if suffix == ".parquet":
        need("pyarrow", to="read Parquet files", extra="timeseries")
        try:
            return pd.read_parquet(path)
        except Exception as error:  # Arrow has errors of its own, some of them OSError, some ValueError
            reason = " ".join(str(error).split())
            raise ValueError(f"{path}: not a readable Parquet file ({reason[:200]}); write it anew") from error
    try:
        header = pd.read_csv(path, sep=KINDS[suffix], header=None, nrows=1, dtype=str, keep_default_na=False)
        frame = pd.read_csv(path, sep=KINDS[suffix], float_precision="round_trip", low_memory=False)
    except (ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable table ({reason[:200]}); mend the file") from None
    names = header.iloc[0].tolist()
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{path}: two columns are called {twice[0]!r}; rename one")
    if time not in frame.columns and str(frame.columns[0]).lower() in STAMPS:
        first = frame.columns[0]
        frame = frame.set_index(first).rename_axis(index=None if first == "Unnamed: 0" else first)
    return frame
