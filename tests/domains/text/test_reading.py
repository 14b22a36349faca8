"""Texts from files and objects: what is read, what is counted, what is refused and how."""

import csv
import json
import sys
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ornstein.domains.text.reading import Texts, read_texts

ROWS = [
    {"text": "one, two", "kind": "a", "src": "1"},
    {"text": 'three "quoted"\nlines', "kind": "b", "src": "2"},
    {"text": "中文 👩\u200d👧", "kind": None, "src": "3"},
]


def columns() -> dict[str, list]:
    return {name: [row[name] for row in ROWS] for name in ROWS[0]}


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def written(tmp_path, suffix):
    """The rows above as a file of the kind."""
    path = tmp_path / f"rows.{suffix}"
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    elif suffix in ("csv", "tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter="," if suffix == "csv" else "\t")
            writer.writeheader()
            writer.writerows(ROWS)
    elif suffix == "parquet":
        pytest.importorskip("pyarrow.parquet").write_table(pytest.importorskip("pyarrow").table(columns()), path)
    return path


def objects(kind):
    if kind == "dict":
        return columns()
    if kind == "arrow":
        return pytest.importorskip("pyarrow").table(columns())
    if kind == "pandas":
        return pytest.importorskip("pandas").DataFrame(columns())
    return pytest.importorskip("datasets").Dataset.from_dict(columns())


# ---- tables ----


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_files_of_rows(tmp_path, suffix):
    read = read_texts(written(tmp_path, suffix), source="src", attributes=["kind"])
    assert read.texts == [row["text"] for row in ROWS]
    assert read.sources == ["1", "2", "3"]
    assert read.attributes == {"kind": ["a", "b", None]}
    assert read.left_out == {}
    assert read_texts(str(written(tmp_path, suffix)), text="src") == Texts(["1", "2", "3"])


@pytest.mark.parametrize("kind", ["dict", "arrow", "pandas", "datasets"])
def test_objects_with_columns(kind):
    read = read_texts(objects(kind), source="src", attributes=["kind"])
    assert (read.texts, read.sources) == ([row["text"] for row in ROWS], ["1", "2", "3"])
    assert read.attributes == {"kind": ["a", "b", None]}
    with pytest.raises(ValueError, match=r"no column 'texts'.*did you mean 'text'"):
        read_texts(objects(kind), text="texts")


def test_class_labels_of_datasets_become_their_names():
    library = pytest.importorskip("datasets")
    features = library.Features({"text": library.Value("string"), "label": library.ClassLabel(names=["bad", "good"])})
    data = library.Dataset.from_dict({"text": ["x", "y", "z"], "label": [1, 0, -1]}, features=features)
    assert read_texts(data, attributes=["label"]).attributes == {"label": ["good", "bad", None]}


def test_empty_cells_of_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["x", None, pandas.NA, float("nan"), ""], "n": [1, 2, 3, 4, None]})
    read = read_texts(frame, attributes=["n"], missing="skip")
    assert (read.texts, read.left_out) == (["x"], {"rows without text": 4})
    frame = pandas.DataFrame({"text": ["x", "y"], "n": pandas.array([1, None], dtype="Int64")})
    assert read_texts(frame, attributes=["n"]).attributes == {"n": ["1", None]}


def test_lists_of_strings():
    assert read_texts(["a", "b"]) == read_texts(("a", "b")) == Texts(["a", "b"])
    with pytest.raises(ValueError, match="no columns, so no 'kind'"):
        read_texts(["a"], attributes=["kind"])
    with pytest.raises(TypeError, match="row 1 has a text of type int"):
        read_texts(["a", 3])
    with pytest.raises(ValueError, match="no rows"):
        read_texts([])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), min_size=1), min_size=1))
def test_any_text_survives_csv_and_json_lines(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("rows")
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text", "n"], *([text, ""] for text in texts)])
    lines = "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    (folder / "a.jsonl").write_text(lines, encoding="utf-8", newline="")
    assert read_texts(folder / "a.csv").texts == read_texts(folder / "a.jsonl").texts == texts


def test_long_fields_are_read_whole(tmp_path):
    limit = csv.field_size_limit()
    path = write(tmp_path, "a.csv", "text\n" + "x" * 300_000 + "\n")
    assert len(read_texts(path).texts[0]) == 300_000
    assert csv.field_size_limit() == limit


def test_missing_texts_are_refused_or_counted(tmp_path):
    lines = '{"text": "a"}\n\n{"text": null}\n{"other": 1}\n{"text": ""}\n{"text": "b"}\n'
    path = write(tmp_path, "a.jsonl", lines)
    with pytest.raises(ValueError, match=r"line 3 has no text.*missing='skip'"):
        read_texts(path)
    read = read_texts(path, missing="skip")
    assert read == Texts(["a", "b"], left_out={"blank lines": 1, "rows without text": 3})
    with pytest.raises(ValueError, match="row 1 has no src"):
        read_texts({"text": ["a", "b"], "src": ["x", None]}, source="src")
    with pytest.raises(ValueError, match="none of the 1 rows"):
        read_texts([""], missing="skip")


# ---- text files ----


def test_one_document_a_file_a_line_or_a_paragraph(tmp_path):
    path = write(tmp_path, "a.txt", "\ufeffone\r\ntwo\n \nthree\x0b\u2028x\n\n\nfour\n")
    assert read_texts(path, unit="file").texts == ["one\ntwo\n \nthree\x0b\u2028x\n\n\nfour\n"]
    lines = read_texts(path, unit="line")
    assert lines == Texts(["one", "two", "three\x0b\u2028x", "four"], left_out={"blank lines": 3})
    assert read_texts(path, unit="paragraph").texts == ["one\ntwo", "three\x0b\u2028x", "four"]
    with pytest.raises(ValueError, match="'file', 'line' or 'paragraph'"):
        read_texts(path)


def test_folders_and_other_suffixes(tmp_path):
    (tmp_path / "sub").mkdir()
    write(tmp_path, "b.txt", "bee")
    write(tmp_path / "sub", "c.md", "see")
    write(tmp_path, "picture.png", b"\x89PNG")
    assert read_texts(tmp_path, unit="file").texts == ["bee", "see"]
    log = write(tmp_path, "a.log", "x\ny")
    with pytest.raises(ValueError, match=r"'.log' is none of .*kind='text'"):
        read_texts(log, unit="line")
    assert read_texts(log, unit="line", kind="text").texts == ["x", "y"]
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="no text file"):
        read_texts(tmp_path / "none", unit="file")


def test_a_hundred_thousand_spaces_are_split_in_no_time(tmp_path):
    path = write(tmp_path, "a.txt", ("\n" + " " * 100_000 + "x") * 3)
    assert len(read_texts(path, unit="paragraph").texts) == 1


def test_encodings(tmp_path):
    path = write(tmp_path, "a.txt", "caf\u00e9 noir".encode("latin-1"))
    with pytest.raises(ValueError, match="byte 0xe9 at offset 3 is not utf-8; give encoding="):
        read_texts(path, unit="file")
    assert read_texts(path, unit="file", encoding="latin-1").texts == ["café noir"]
    with pytest.raises(ValueError, match="encoding='utf8x'"):
        read_texts(path, unit="file", encoding="utf8x")
    wide = write(tmp_path, "b.txt", "wide".encode("utf-16"))
    with pytest.raises(ValueError, match="offset 0"):
        read_texts(wide, unit="file")
    assert read_texts(wide, unit="file", encoding="utf-16").texts == ["wide"]


# ---- what is refused ----


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "empty"),
        ("a.txt", " \n\n", "only blank lines"),
        ("a.csv", "", "empty"),
        ("a.csv", "text\n", "no rows"),
        ("a.csv", "text,text\na,b\n", "two columns are called 'text'"),
        ("a.csv", "text,n\na,1\n\n b, c, d\n", "line 4 has 3 fields where the header has 2"),
        ("a.csv", 'text\n"x\ny"\n"open\n', "line 4 is not CSV"),
        ("a.csv", "body,n\na,1\n", "no column 'text'; it has 'body', 'n'"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "line 2 is not JSON"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", '\n["a"]\n', "line 2 is JSON of type list"),
        ("a.jsonl", '{"txt": "a"}', "no column 'text'.*did you mean 'txt'"),
        ("a.parquet", "PAR1", "not a readable Parquet file"),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = write(tmp_path, name, content)
    with pytest.raises(ValueError, match=message) as error:
        read_texts(path, unit="line" if name.endswith("txt") else None)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_arguments(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_texts(tmp_path / "none.txt", unit="file")
    path = write(tmp_path, "a.csv", "text\na\n")
    with pytest.raises(ValueError, match="unit='line' is for text files"):
        read_texts(path, unit="line")
    with pytest.raises(ValueError, match="did you mean 'jsonl'"):
        read_texts(path, kind="json")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing='drop'"):
        read_texts(path, missing="drop")  # type: ignore[arg-type]
    for data in (3, iter(["a"]), types.SimpleNamespace(column_names=None)):
        with pytest.raises(TypeError, match="no columns"):
            read_texts(data)
    with pytest.raises(ValueError, match="text: 2, n: 1 rows"):
        read_texts({"text": ["a", "b"], "n": [1]}, attributes=["n"])


def test_arrow_is_read_by_the_columns_asked_for_and_named_when_missing(tmp_path, monkeypatch):
    path = written(tmp_path, "parquet")
    parquet = pytest.importorskip("pyarrow.parquet")
    asked = []
    monkeypatch.setattr(
        parquet.ParquetFile,
        "read",
        lambda self, columns, read=parquet.ParquetFile.read: asked.append(columns) or read(self, columns=columns),
    )
    read_texts(path)
    assert asked == [["text"]]
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"ornstein\[text\]"):
        read_texts(path)
