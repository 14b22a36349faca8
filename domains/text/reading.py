"""Texts from files and objects: each source becomes a list of texts, with sources and attributes where asked for.

| source | form |
| --- | --- |
| a path ``.txt``, or a folder of such files | one document a file, a line or a paragraph: ``unit`` says which |
| ``.jsonl``, ``.ndjson`` | one JSON object a line, a text under the key ``text`` |
| ``.csv``, ``.tsv`` | a table with a header; commas or tabs |
| ``.parquet`` | a table; only the columns asked for are read |
| a list of strings | one document each |
| a `datasets.Dataset`, a pandas frame, an Arrow table, a dict of lists | columns by name |

What is left out is counted in `Texts.left_out`, and nothing else is. Files are decoded strictly; a byte-order mark is
no text, and line ends ``\\r\\n`` and ``\\r`` are read as ``\\n``, as Python reads them.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ornstein.core.config import near
from ornstein.core.optional import need

__all__ = ["Kind", "Missing", "Texts", "Unit", "read_texts"]

Unit = Literal["file", "line", "paragraph"]
Kind = Literal["text", "jsonl", "csv", "tsv", "parquet"]
Missing = Literal["refuse", "skip"]

TEXT_SUFFIXES = (".txt", ".text", ".md")
KINDS = {
    **dict.fromkeys(TEXT_SUFFIXES, "text"),
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
}  # fmt: skip


@dataclass(frozen=True)
class Texts:
    """Documents, with what was given beside them.

    Attributes:
        texts: the documents.
        sources: the source of each, for sequence to sequence; None without.
        attributes: by name, the value of each document, None where it has none.
        left_out: how many of what kind were left out, such as ``{"blank lines": 3}``.
    """

    texts: list[str]
    sources: list[str] | None = None
    attributes: dict[str, list[str | None]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "Texts":
        """The documents with these indices, in their order."""
        sources = None if self.sources is None else [self.sources[i] for i in indices]
        attributes = {name: [values[i] for i in indices] for name, values in self.attributes.items()}
        return Texts([self.texts[i] for i in indices], sources, attributes, self.left_out)


def read_texts(
    data: Any,
    *,
    text: str = "text",
    source: str | None = None,
    attributes: Sequence[str] = (),
    unit: Unit | None = None,
    kind: Kind | None = None,
    missing: Missing = "refuse",
    encoding: str = "utf-8",
) -> Texts:
    """Texts of a file, a folder of text files, a list, or an object with columns.

    Args:
        data: a path, a list of strings, or an object with columns; see the table above.
        text: name of the column of documents.
        source: name of the column of sources, for sequence to sequence.
        attributes: names of columns of categories; values are read as strings, a missing one as None.
        unit: what one document of a text file is; ``"paragraph"`` parts at blank lines. Needed there, refused
            elsewhere.
        kind: form of a file; by its suffix when not given.
        missing: what to do with a row whose text or source is missing or empty: ``"refuse"``, or ``"skip"`` and count
            it.
        encoding: of files.

    Raises:
        FileNotFoundError: there is no such file or folder.
        TypeError: ``data`` of another kind, a text that is no string.
        ValueError: an empty source, bytes in another encoding, a broken line, a missing text, an unknown column or
            suffix.
    """
    if missing not in ("refuse", "skip"):
        raise ValueError(f"missing={missing!r}: expected 'refuse' or 'skip'")
    names = [text, *([source] if source else []), *attributes]
    plain = isinstance(data, Sequence) and not isinstance(data, str)
    if isinstance(data, str | Path):
        path = Path(data)
        if (form := _form(path, kind)) == "text":
            _no_columns(source, attributes, f"{path}: a text file")
            return _text_files(path, unit, encoding)
        columns: Columns = _READERS[form](path, names, encoding)
        where = str(path)
    elif plain:
        _no_columns(source, attributes, "data: a list of texts")
        columns, where = Columns([text], {text: list(data)}), "data"
    else:
        columns, where = _object_columns(data, names), "data"
    if unit is not None:
        raise ValueError(f"unit={unit!r} is for text files; {where} holds one document a row: leave it out")
    return _rows(columns, where, text, source, attributes, missing)


@dataclass(frozen=True)
class Columns:
    """Columns read by name; ``row`` and ``numbers`` say how rows are called in errors."""

    names: Sequence[str]
    values: dict[str, list[Any]]
    row: str = "row"
    numbers: Sequence[int] | None = None
    left_out: dict[str, int] = field(default_factory=dict)

    def place(self, index: int) -> str:
        return f"{self.row} {index if self.numbers is None else self.numbers[index]}"


def _form(path: Path, kind: Kind | None) -> str:
    if path.is_dir():
        return "text"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file or folder of texts")
    if kind is not None and kind not in get_args(Kind):
        raise ValueError(f"kind={kind!r}: expected {', '.join(map(repr, get_args(Kind)))}{near(kind, get_args(Kind))}")
    suffix = path.suffix.lower()
    if kind is None and suffix not in KINDS:
        raise ValueError(f"{path}: suffix {suffix!r} is none of {', '.join(KINDS)}; give kind=, such as kind='text'")
    return kind or KINDS[suffix]


def _no_columns(source: str | None, attributes: Sequence[str], what: str) -> None:
    if source or attributes:
        asked = source or attributes[0]
        raise ValueError(
            f"{what} has no columns, so no {asked!r}; give a table (JSON lines, CSV, Parquet, a dict of lists)"
        )


def _decoded(path: Path, encoding: str) -> str:
    content = path.read_bytes()
    if not content:
        raise ValueError(f"{path}: the file is empty; replace or remove it")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: byte 0x{content[error.start]:02x} at offset {error.start} is not {encoding}; give encoding=, "
            "such as 'latin-1' or 'utf-16'"
        ) from None
    except LookupError:
        raise ValueError(f"encoding={encoding!r} is not known; give one such as 'utf-8' or 'latin-1'") from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _text_files(path: Path, unit: Unit | None, encoding: str) -> Texts:
    if unit not in ("file", "line", "paragraph"):
        raise ValueError(f"unit={unit!r}: expected what one document of {path} is: 'file', 'line' or 'paragraph'")
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in TEXT_SUFFIXES and p.is_file())
        if not files:
            raise FileNotFoundError(f"{path}: no text file in the folder ({', '.join(TEXT_SUFFIXES)})")
    texts: list[str] = []
    blank = 0
    for file in files:
        content = _decoded(file, encoding)
        if unit == "file":
            texts.append(content)
        elif unit == "line":
            lines = content.removesuffix("\n").split("\n")
            texts += (kept := [line for line in lines if line.strip()])
            blank += len(lines) - len(kept)
        else:
            parts = re.split(r"\n(?:[^\S\n]*\n)+", content)
            texts += [part.strip("\n") for part in parts if part.strip()]
    if not texts:
        raise ValueError(f"{path}: only blank lines; give a file with text")
    return Texts(texts, left_out={"blank lines": blank} if blank else {})


def _jsonl(path: Path, names: Sequence[str], encoding: str) -> Columns:
    values: dict[str, list[Any]] = {name: [] for name in names}
    numbers: list[int] = []
    seen: dict[str, None] = {}
    blank = 0
    for number, line in enumerate(_decoded(path, encoding).removesuffix("\n").split("\n"), 1):
        if not line.strip():
            blank += 1
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: line {number} is not JSON ({error}); mend or remove the line") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number} is JSON of type {type(row).__name__}: expected an object {{...}}")
        seen.update(dict.fromkeys(row))
        numbers.append(number)
        for name in names:
            values[name].append(row.get(name))
    # A key that some lines lack is a missing value; one that all lack is no column.
    return Columns(tuple(seen), values, "line", numbers, {"blank lines": blank} if blank else {})


def _csv(path: Path, names: Sequence[str], encoding: str, delimiter: str = ",") -> Columns:
    limit = csv.field_size_limit(sys.maxsize)  # 131,072 characters by default, less than a document may have
    try:
        rows = _csv_rows(
            path, csv.reader(io.StringIO(_decoded(path, encoding), newline=""), delimiter=delimiter, strict=True)
        )
        header = next(rows, (0, []))[1]
        found = [(number, row) for number, row in rows]
    finally:
        csv.field_size_limit(limit)
    if twice := [name for name in header if header.count(name) > 1]:
        raise ValueError(f"{path}: two columns are called {twice[0]!r}; rename one")
    for number, row in found:
        if len(row) != len(header):
            raise ValueError(
                f"{path}: line {number} has {len(row)} fields where the header has {len(header)}; quote texts that "
                f"hold {delimiter!r} or line ends"
            )
    index = {name: header.index(name) for name in names if name in header}
    values = {name: [row[i] for _, row in found] for name, i in index.items()}
    return Columns(header, values, "line", [number for number, _ in found])


def _csv_rows(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, with the number of the line on which each starts."""
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{path}: line {start} is not CSV ({error}); mend the quotes") from None
        if row is None:
            return
        if row:
            yield start, row


def _tsv(path: Path, names: Sequence[str], encoding: str) -> Columns:
    return _csv(path, names, encoding, "\t")


def _parquet(path: Path, names: Sequence[str], encoding: str) -> Columns:
    parquet = need("pyarrow.parquet", to="read Parquet files", extra="text")
    try:
        file = parquet.ParquetFile(path)
        known = file.schema_arrow.names
        table = file.read(columns=[name for name in dict.fromkeys(names) if name in known])
    except Exception as error:  # Arrow has errors of its own, some of them OSError, some ValueError
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable Parquet file ({reason[:200]}); write it anew") from error
    return Columns(known, {name: table[name].to_pylist() for name in table.column_names})


_READERS = {"jsonl": _jsonl, "csv": _csv, "tsv": _tsv, "parquet": _parquet}


def _object_columns(data: Any, names: Sequence[str]) -> Columns:
    if isinstance(data, Mapping):
        known = list(data)
    else:
        known = next((list(getattr(data, key)) for key in ("column_names", "columns") if _has(data, key)), [])
    if not known or not hasattr(data, "__getitem__"):
        raise TypeError(
            f"data of type {type(data).__name__} has no columns: expected a path, a list of strings, a "
            "datasets.Dataset, a frame or a dict of lists; a streamed data set must be read into one first"
        )
    values = {}
    for name in dict.fromkeys(names):
        if name in known:
            values[name] = _column(data, name)
    if len({len(column) for column in values.values()}) > 1:
        raise ValueError(
            f"data has columns of {', '.join(f'{k}: {len(v)}' for k, v in values.items())} rows: expected as many"
        )
    return Columns([str(name) for name in known], values)


def _column(data: Any, name: str) -> list[Any]:
    column = data[name]
    convert = next((getattr(column, key) for key in ("to_pylist", "tolist") if hasattr(column, key)), None)
    values = convert() if convert else list(column[:])  # sliced, since `datasets` reads single items slowly
    features = getattr(data, "features", None)
    labels = getattr(features.get(name) if isinstance(features, Mapping) else None, "names", None)
    if labels is None:
        return values
    return [None if value is None or value < 0 else labels[value] for value in values]  # -1 is no label there


def _has(data: Any, key: str) -> bool:
    found = getattr(data, key, None)
    return found is not None and not callable(found)


def _absent(value: Any) -> bool:
    # Frames leave a cell empty as NaN, or as pandas.NA, which even its comparison with itself does not decide.
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def _rows(
    columns: Columns, where: str, text: str, source: str | None, attributes: Sequence[str], missing: Missing
) -> Texts:
    for name in [text, *([source] if source else []), *attributes]:
        if name not in columns.values or name not in columns.names:
            known = ", ".join(map(repr, columns.names)) or "none"
            raise ValueError(f"{where} has no column {name!r}{near(name, columns.names)}; it has {known}")
    count = len(columns.values[text])
    if not count:
        raise ValueError(f"{where} holds no rows; give at least one")
    needed = [text, *([source] if source else [])]
    kept = []
    for index in range(count):
        if empty := next((name for name in needed if _lacks(columns, where, name, index)), None):
            if missing == "refuse":
                raise ValueError(f"{where}: {columns.place(index)} has no {empty}; fill it in, or give missing='skip'")
        else:
            kept.append(index)
    left_out = dict(columns.left_out)
    if len(kept) < count:
        left_out["rows without text"] = count - len(kept)
    if not kept:
        raise ValueError(f"{where}: none of the {count} rows has a {text!r}; give another column")
    given = {name: [_category(columns.values[name][i]) for i in kept] for name in attributes}
    sources = [columns.values[source][i] for i in kept] if source else None
    return Texts([columns.values[text][i] for i in kept], sources, given, left_out)


def _lacks(columns: Columns, where: str, name: str, index: int) -> bool:
    value = columns.values[name][index]
    if isinstance(value, str):
        return not value
    if _absent(value):
        return True
    raise TypeError(f"{where}: {columns.place(index)} has a {name} of type {type(value).__name__}: expected a string")


def _category(value: Any) -> str | None:
    return None if _absent(value) or value == "" else str(value)
