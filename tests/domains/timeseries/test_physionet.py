"""PhysioNet's records and CSDI's protocol on them."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ornstein.domains.timeseries.physionet import (
    PHYSIONET_VARIABLES,
    CSDIProtocol,
    PhysioNetData,
    PhysioNetRecords,
    read_physionet,
)

HR, GCS = PHYSIONET_VARIABLES.index("HR"), PHYSIONET_VARIABLES.index("GCS")
RECORD = """Time,Parameter,Value
00:00,RecordID,132539
00:00,Age,54
00:07,HR,73
00:37,HR,77
00:37,GCS,15
01:37,MechVent,1
47:59,HR,80.5
48:00,HR,99
"""


def random_records(count: int = 60, seed: int = 0) -> PhysioNetRecords:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(count, 48, 35)) * 3 + 5
    values[generator.random(values.shape) < 0.8] = np.nan
    values[7:8] = np.nan
    return PhysioNetRecords(tuple(f"{132539 + 3 * i}" for i in range(count)), values)


def packed(path: Path, files: dict[str, str], mode: str = "w:xz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def test_the_last_value_of_an_hour_counts(tmp_path: Path) -> None:
    other = RECORD.replace("132539", "132001")
    files = {"set-a/132539.txt": RECORD, "set-a/132001.txt": other, "set-a/notes.md": "x", "../132002.txt.bak": "x"}
    records = read_physionet(packed(tmp_path / "set-a.tar.xz", files))
    assert records.ids == ("132001", "132539")
    assert len(records) == 2
    expected = np.full((48, 35), np.nan)
    expected[0, HR], expected[0, GCS], expected[47, HR] = 77, 15, 80.5
    np.testing.assert_array_equal(records.values, [expected, expected])
    assert records.observed.sum() == 6


def test_a_folder_reads_as_a_tar_file_does(tmp_path: Path) -> None:
    (tmp_path / "set-a").mkdir()
    (tmp_path / "set-a" / "132539.txt").write_text(RECORD)
    (tmp_path / "set-a" / "readme.txt").write_text("no record")
    folder = read_physionet(tmp_path / "set-a")
    archive = read_physionet(packed(tmp_path / "a.tar", {"132539.txt": RECORD}, "w"))
    assert folder.ids == archive.ids
    np.testing.assert_array_equal(folder.values, archive.values)


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read_physionet(tmp_path / "none")
    with pytest.raises(ValueError, match="no records"):
        read_physionet(tmp_path)
    (tmp_path / "a.tar").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="no tar file"):
        read_physionet(tmp_path / "a.tar")
    for row in ("00:07,HR", "00:07,HR,fast", "soon,HR,73"):
        with pytest.raises(ValueError, match=f"record 132539: row '{row}'"):
            read_physionet(packed(tmp_path / "b.tar", {"132539.txt": RECORD + row + "\n"}, "w"))
    with pytest.raises(ValueError, match="no record of the challenge"):
        read_physionet(packed(tmp_path / "c.tar", {"132539.txt": RECORD + "\n" * (1 << 20)}, "w"))


def test_records_are_a_panel(tmp_path: Path) -> None:
    records = random_records(4)
    panel = records.panel()
    assert len(panel) == 4
    assert panel.variables == PHYSIONET_VARIABLES
    assert [series.name for series in panel.series] == list(records.ids)
    np.testing.assert_array_equal(panel.series[2].values, records.values[2])
    np.testing.assert_array_equal(panel.series[2].stamps, np.arange(48.0))


@pytest.mark.parametrize(("missing", "seed", "fold"), [(0.1, 1, 0), (0.5, 1, 3), (0.9, 4, 4)])
def test_the_protocol_is_the_published_one(missing: float, seed: int, fold: int) -> None:
    """Against the steps of the authors' description on NumPy's global generator."""
    records = random_records()
    data = CSDIProtocol(records, missing, seed, fold)
    kept = [i for i in range(60) if i != 7]
    assert data.ids == tuple(records.ids[i] for i in kept)
    np.random.seed(seed)  # noqa: NPY002
    for row, i in enumerate(kept):
        seen = np.where(~np.isnan(records.values[i].reshape(-1)))[0].tolist()
        gone = np.random.choice(seen, int(len(seen) * missing), replace=False)  # noqa: NPY002
        assert sorted(np.where(data.target[row].reshape(-1))[0]) == sorted(gone)
        assert (data.given[row] | data.target[row] == ~np.isnan(records.values[i])).all()
    for k in (0, 20, 34):
        column = records.values[..., k]
        assert data.mean[k] == pytest.approx(np.nanmean(column))
        assert data.deviation[k] == pytest.approx(np.nanstd(column))
    back = data.values * data.deviation + data.mean
    np.testing.assert_allclose(back[data.observed], records.values[kept][data.observed], rtol=1e-5, atol=1e-5)
    assert data.values.dtype == np.float32
    assert not data.values[~data.observed].any()
    order = np.arange(59)
    np.random.seed(seed)  # noqa: NPY002
    np.random.shuffle(order)  # noqa: NPY002
    np.testing.assert_array_equal(data.test, order[int(fold * 0.2 * 59) : int((fold + 1) * 0.2 * 59)])
    assert sorted([*data.train, *data.validation, *data.test]) == list(range(59))
    assert len(data.train) == int(59 * 0.7)


def test_folds_test_every_patient_once() -> None:
    records = random_records()
    tests = np.concatenate([CSDIProtocol(records, fold=fold).test for fold in range(5)])
    assert sorted(tests) == list(range(59))


def test_settings_that_do_not_fit_are_refused() -> None:
    records = random_records()
    for options, message in (
        ({"missing": 1.5}, "missing=1.5"),
        ({"fold": 5}, "fold=5: expected 0 to 4"),
        ({"records": PhysioNetRecords(("1",), np.full((1, 48, 35), np.nan))}, "at least one with a value"),
        ({"records": PhysioNetRecords(("1",), np.where(np.eye(48, 35), 1.0, np.nan)[None])}, "to scale them by"),
    ):
        with pytest.raises(ValueError, match=message):
            CSDIProtocol(**({"records": records} | options))


def test_set_a_is_as_the_paper_has_it(external_data) -> None:
    records = read_physionet(external_data("physionet2012") / "set-a.tar.xz")
    data = CSDIProtocol(records)
    assert len(records) == 4000
    assert len(data.ids) == 3997
    assert 0.8 < 1 - data.observed.mean() < 0.83  # "about 80 % missing"
    assert (len(data.train), len(data.validation), len(data.test)) == (2797, 401, 799)
    assert data.target[data.test].sum() == 24254


def test_the_data_module_holds_out_what_the_protocol_removes(tmp_path: Path) -> None:
    records = random_records()
    head = "Time,Parameter,Value\n00:00,RecordID,1\n"
    files = {}
    for name, values in zip(records.ids, records.values, strict=True):
        seen = zip(*np.where(~np.isnan(values)), strict=True)
        lines = [f"{hour:02d}:30,{PHYSIONET_VARIABLES[k]},{float(values[hour, k])!r}\n" for hour, k in seen]
        files[f"{name}.txt"] = head + "".join(lines)
    data = PhysioNetData(str(packed(tmp_path / "set-a.tar", files, "w")), missing=0.2, fold=1)
    protocol = CSDIProtocol(records, 0.2, fold=1)
    assert [one.name for one in data.parts.heldout.series] == [protocol.ids[i] for i in protocol.test]
    assert len(data.parts.train) == len(protocol.train)
    assert len(data.validation_dataset()) == len(protocol.validation)
    batch = data.heldout_dataset().all()
    np.testing.assert_array_equal(batch["target"].numpy(), protocol.target[protocol.test])
    np.testing.assert_array_equal(batch["observed"].numpy(), protocol.observed[protocol.test])
    train = np.stack([one.values for one in data.parts.train.series])
    np.testing.assert_allclose(data.facts.means, np.nanmean(train, (0, 1)), rtol=1e-9)
