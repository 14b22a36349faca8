"""The records of a source, one by one, before any chemistry: SMILES or molecules with names and properties.

| source | a record is | numbered |
| --- | --- | --- |
| ``.smi``, ``.smiles``, ``.ism``, ``.txt`` | a line: SMILES, then a name after a space or tab | from 1, as lines |
| ``.csv``, ``.tsv`` | a row: SMILES in one column, properties in others | by the line on which it starts |
| ``.sdf``, ``.sd``, ``.mol`` | all up to ``$$$$``: a molblock, then data items | from 1, as records |
| ``.parquet`` | a row | from 0 |
| frame, table, dict of lists | a row | from 0 |
| list of SMILES, `Mol` and torch_geometric `Data`, mixed | an item | from 0 |

Text files may be gzipped (``.smi.gz``). Broken records stay records, with the problem said.
"""

import csv
import gzip
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from ornstein.core.config import near
from ornstein.core.optional import need

__all__ = ["Kind", "RawRecord", "raw_records"]

Kind = Literal["smiles", "csv", "tsv", "sdf", "parquet"]
KINDS = {
    **dict.fromkeys((".smi", ".smiles", ".ism", ".txt"), "smiles"), ".csv": "csv", ".tsv": "tsv",
    **dict.fromkeys((".sdf", ".sd", ".mol"), "sdf"), ".parquet": "parquet",
}  # fmt: skip
UNITS = {"smiles": "line", "csv": "line", "tsv": "line", "sdf": "record", "parquet": "row"}
SMILES_COLUMNS = ("smiles", "canonical_smiles", "smi")


class RawRecord(NamedTuple):
    """A record as it was found.

    Attributes:
        number: of the record in its source.
        content: SMILES, the text of a molblock, an object, or None where nothing can be read.
        name: of the molecule; empty for none.
        properties: text and numbers as they came; None where empty.
        problem: why there is nothing to read.
        detail: figures of the problem.
    """

    number: int
    content: Any
    name: str = ""
    properties: Mapping[str, Any] = {}
    problem: str = ""
    detail: str = ""


def raw_records(
    source: Any, *, kind: Kind | None = None, smiles: str | None = None, name: str | None = None
) -> tuple[Iterator[RawRecord], str, str]:
    """The records of a source, what one is called (``"line"``), and of what kind the contents are.

    Args:
        source: see the table above.
        kind: form of a file; by its suffix when not given.
        smiles: column of SMILES in tables; the one called so, or ``canonical_smiles``, in capitals or not, when not
            given.
        name: column of names in tables.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        TypeError: a source of another kind.
        ValueError: an unknown suffix, a file that cannot be read as what it is, or a table without the column; and as
            soon as they are read, a file without records.
    """
    if isinstance(source, str | Path):
        return _file_records(Path(source), kind, smiles, name)
    if kind is not None:
        raise ValueError(f"kind={kind!r} is for files, and the source is a {type(source).__name__}; leave it out")
    if isinstance(source, Mapping) or any(hasattr(source, key) for key in ("column_names", "columns")):
        return _table_records(source, smiles, name), "row", "smiles"
    if hasattr(source, "to_data_list"):
        source = source.to_data_list()  # a batch of torch_geometric's
    elif hasattr(source, "edge_index") or hasattr(source, "GetAtoms"):
        raise TypeError(f"source is one {type(source).__name__}: expected several; give [{type(source).__name__}]")
    if not isinstance(source, Iterable) or isinstance(source, bytes):
        raise TypeError(
            f"source of type {type(source).__name__}: expected a path, a list of SMILES, Mol or Data, or a table"
        )
    if smiles is not None or name is not None:
        raise ValueError("smiles= and name= are columns of tables, and the source is a list; leave them out")
    return (RawRecord(i, item) for i, item in enumerate(source)), "item", "object"


def _file_records(
    path: Path, kind: Kind | None, smiles: str | None, name: str | None
) -> tuple[Iterator[RawRecord], str, str]:
    if path.is_dir():
        raise IsADirectoryError(f"{path}: a folder; expected a file of molecules")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; SMILES themselves go in a list")
    if kind is not None and kind not in get_args(Kind):
        raise ValueError(f"kind={kind!r}: expected {', '.join(map(repr, get_args(Kind)))}{near(kind, get_args(Kind))}")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = (suffixes[:-1] if suffixes[-1:] == [".gz"] else suffixes)[-1:]
    form = kind or KINDS.get("".join(suffix))
    if form is None:
        raise ValueError(f"{path}: suffix {path.suffix!r} is none of {', '.join(KINDS)}; give kind=, such as 'smiles'")
    if form in ("smiles", "sdf") and (smiles or name):
        raise ValueError(f"{path}: smiles= and name= are columns of tables, and this is a {form} file; leave them out")
    readers: dict[str, Any] = {
        "smiles": lambda: _smiles_lines(path),
        "csv": lambda: _csv_rows(path, ",", smiles, name),
        "tsv": lambda: _csv_rows(path, "\t", smiles, name),
        "sdf": lambda: _sdf_records(path),
        "parquet": lambda: _parquet_rows(path, smiles, name),
    }
    return _some(readers[form](), path, UNITS[form]), UNITS[form], "molblock" if form == "sdf" else "smiles"


def _some(records: Iterator[RawRecord], path: Path, unit: str) -> Iterator[RawRecord]:
    """The records of a file, of which there must be one."""
    first = next(records, None)
    if first is None:
        raise ValueError(f"{path}: no molecules, the file is empty; expected at least one {unit}")
    yield first
    yield from records


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a file that may be gzipped; bytes that are not UTF-8 become surrogates, which `_broken` finds."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    opener: Any = gzip.open if zipped else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            yield lines
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: the gzipped file is damaged or cut off ({error}); fetch it anew") from error


def _broken(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text)


def _smiles_lines(path: Path) -> Iterator[RawRecord]:
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if _broken(text):
                yield RawRecord(number, None, problem="not UTF-8")
            elif not text:
                yield RawRecord(number, None, problem="empty")
            else:
                smiles, _, name = text.partition("\t") if "\t" in text else text.partition(" ")
                if number == 1 and smiles.lower() in SMILES_COLUMNS:
                    continue  # a header
                if name.startswith("|"):
                    extension, _, name = name[1:].partition("|")
                    smiles = f"{smiles} |{extension}|"
                yield RawRecord(number, smiles.strip(), name.strip())


def _csv_rows(path: Path, delimiter: str, smiles: str | None, name: str | None) -> Iterator[RawRecord]:
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with _opened(path) as lines:
            reader = csv.reader(lines, delimiter=delimiter)
            header = next(reader, [])
            columns = _columns(str(path), header, smiles, name)
            while True:
                start = reader.line_num + 1
                try:
                    row = next(reader, None)
                except csv.Error as error:
                    yield RawRecord(start, None, problem="not CSV", detail=str(error))
                    continue
                if row is None:
                    return
                if not row:
                    yield RawRecord(start, None, problem="empty")
                elif len(row) != len(header):
                    detail = f"{len(row)} where the header has {len(header)}"
                    yield RawRecord(start, None, problem="another number of fields", detail=detail)
                elif any(map(_broken, row)):
                    yield RawRecord(start, None, problem="not UTF-8")
                else:
                    yield _row(start, dict(zip(header, row)), *columns)
    finally:
        csv.field_size_limit(limit)


def _columns(where: str, header: Sequence[Any], smiles: str | None, name: str | None) -> tuple[str, str | None]:
    """The columns of SMILES and of names."""
    header = [str(column) for column in header]
    if twice := [column for column in header if header.count(column) > 1]:
        raise ValueError(f"{where}: two columns are called {twice[0]!r}; rename one")
    if smiles is None:
        found = [column for word in SMILES_COLUMNS for column in header if column.strip().lower() == word]
        if not found:
            raise ValueError(f"{where}: no column is called 'smiles', of {', '.join(header) or 'none'}; give smiles=")
        smiles = found[0]
    for column in (smiles, *([name] if name else [])):
        if column not in header:
            raise ValueError(
                f"{where} has no column {column!r}{near(column, header)}; it has {', '.join(header) or 'none'}"
            )
    return smiles, name


def _row(number: int, values: dict[str, Any], smiles: str, name: str | None) -> RawRecord:
    content = values.pop(smiles)
    label = values.pop(name) if name else ""
    properties = {column: None if _absent(value) else value for column, value in values.items()}
    if _absent(content):
        return RawRecord(number, None, problem="empty")
    return RawRecord(number, content, "" if _absent(label) else str(label), properties)


def _absent(value: Any) -> bool:
    # Frames leave a cell empty as NaN, or as pandas.NA, which even its comparison with itself does not decide.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return not value.strip() if isinstance(value, str) else bool(value != value)


def _sdf_records(path: Path) -> Iterator[RawRecord]:
    with _opened(path) as lines:
        number = 0
        record: list[str] = []
        for line in lines:
            if line.startswith("$$$$"):
                number += 1
                yield _sdf_record(number, record)
                record = []
            else:
                record.append(line.rstrip("\r\n"))
        if any(line.strip() for line in record):
            yield _sdf_record(number + 1, record)


def _sdf_record(number: int, lines: list[str]) -> RawRecord:
    if any(map(_broken, lines)):
        return RawRecord(number, None, problem="not UTF-8")
    if not any(line.strip() for line in lines):
        return RawRecord(number, None, problem="empty")
    name = lines[0].strip()
    end = next((i for i, line in enumerate(lines) if line.startswith("M  END")), None)
    if end is None:
        return RawRecord(number, None, name, problem="no end of the molblock", detail="the line 'M  END' is missing")
    properties: dict[str, Any] = {}
    item = None
    for line in lines[end + 1 :]:
        if line.startswith(">") and (found := re.search(r"<(.*)>", line)):
            item = found[1]
            properties[item] = ""
        elif not line.strip():
            item = None
        elif item is not None:
            properties[item] += f"{chr(10) if properties[item] else ''}{line}"
    cleaned = {key: None if _absent(value) else value for key, value in properties.items()}
    return RawRecord(number, "\n".join([*lines[: end + 1], ""]), name, cleaned)


def _parquet_rows(path: Path, smiles: str | None, name: str | None) -> Iterator[RawRecord]:
    parquet = need("pyarrow.parquet", to="read Parquet files", extra="molecules")
    try:
        file = parquet.ParquetFile(path)
        columns = _columns(str(path), file.schema_arrow.names, smiles, name)
        number = 0
        for batch in file.iter_batches():
            for values in batch.to_pylist():
                yield _row(number, values, *columns)
                number += 1
    except ValueError as error:
        if str(error).startswith(str(path)):
            raise
        raise _unreadable(path, error) from error
    except Exception as error:  # Arrow has errors of its own, some of them OSError
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: not a readable Parquet file ({' '.join(str(error).split())[:200]}); write it anew")


def _table_records(source: Any, smiles: str | None, name: str | None) -> Iterator[RawRecord]:
    if isinstance(source, Mapping):
        names = list(source)
    else:
        names = list(next(getattr(source, key) for key in ("column_names", "columns") if hasattr(source, key)))
    columns = _columns("the table", names, smiles, name)
    values = [_values(source[column]) for column in names]
    if len({len(column) for column in values}) > 1:
        counts = ", ".join(f"{key}: {len(column)}" for key, column in zip(names, values))
        raise ValueError(f"the table has columns of {counts} rows: expected as many")
    for number, row in enumerate(zip(*values)):
        yield _row(number, dict(zip(map(str, names), row)), *columns)


def _values(column: Any) -> list[Any]:
    convert = next((getattr(column, key) for key in ("to_pylist", "tolist") if hasattr(column, key)), None)
    return convert() if convert else list(column[:])
