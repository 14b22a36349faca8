"""PhysioNet 2012: records of the first 48 hours of patients in intensive care, and CSDI's protocol on them.

The PhysioNet/Computing in Cardiology Challenge 2012 (Silva et al. 2012; open access, ODC Attribution License v1.0):
4,000 records in its set A, each a text of rows ``hh:mm,parameter,value``. `read_physionet` makes each a table of 48
hours by 35 parameters that holds the last value of each hour. Four entries in five are empty.

`CSDIProtocol` removes and divides as Tashiro et al. 2021 (arXiv 2107.03502, section 6.1) and their published code did,
to the entry: the same generator asked in the same order.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ornstein.core.schedules import require
from ornstein.domains.timeseries.data import SeriesSplit, WindowData
from ornstein.domains.timeseries.missingness import Missingness, Point
from ornstein.domains.timeseries.panel import Panel, Series
from ornstein.domains.timeseries.windows import FixedWindows

__all__ = ["PHYSIONET_VARIABLES", "CSDIProtocol", "PhysioNetData", "PhysioNetRecords", "read_physionet"]

PHYSIONET_VARIABLES = (
    *("DiasABP", "HR", "Na", "Lactate", "NIDiasABP", "PaO2", "WBC", "pH", "Albumin", "ALT", "Glucose", "SaO2", "Temp"),
    *("AST", "Bilirubin", "HCO3", "BUN", "RespRate", "Mg", "HCT", "SysABP", "FiO2", "K", "GCS", "Cholesterol"),
    *("NISysABP", "TroponinT", "MAP", "TroponinI", "PaCO2", "Platelets", "Urine", "NIMAP", "Creatinine", "ALP"),
)
"""The 35 parameters, in the order of CSDI's weights."""

HOURS = 48
LARGEST_RECORD = 1 << 20  # bytes; the largest of the challenge has 40 kB
FOLDS = 5


@dataclass(frozen=True, eq=False)
class PhysioNetRecords:
    """Patients by rising number.

    Attributes:
        ids: their numbers, six digits each.
        values: ``(P, 48, 35)`` float64 in the parameters' own units, NaN where nothing was measured in an hour.
    """

    ids: tuple[str, ...]
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def observed(self) -> np.ndarray:
        """``(P, 48, 35)``, True where there is a value."""
        return ~np.isnan(self.values)

    def panel(self) -> Panel:
        """One series a patient, stamped with the hours since admission."""
        hours = np.arange(float(HOURS))
        series = tuple(Series(name, hours, values) for name, values in zip(self.ids, self.values, strict=True))
        return Panel(series, PHYSIONET_VARIABLES)


def read_physionet(source: str | Path) -> PhysioNetRecords:
    """The records of ``set-a``: a folder of ``132539.txt`` and so on, or a tar file of them (plain or compressed).

    Values stand as recorded: none is dropped for being implausible. Rows of the 48th hour (``48:00``) are left out, as
    are parameters that are not among the 35.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: no records in it, or a row of another form.
    """
    source = Path(source)
    found = dict(_texts(source))
    if not found:
        raise ValueError(f"{source}: no records (such as 132539.txt) in it")
    ids = sorted(found)
    return PhysioNetRecords(tuple(ids), np.stack([_table(found[name], f"{source}: record {name}") for name in ids]))


def _texts(source: Path) -> Iterator[tuple[str, str]]:
    """Number and text of each record; what a tar file holds is read in memory, nothing is unpacked."""
    if source.is_dir():
        for path in source.iterdir():
            if re.fullmatch(r"\d{6}\.txt", path.name):
                yield path.stem, path.read_text()
        return
    if not source.is_file():
        raise FileNotFoundError(f"{source}: no such file or folder; give set-a of the challenge")
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                if not member.isfile() or not re.fullmatch(r"\d{6}\.txt", Path(member.name).name):
                    continue
                content = archive.extractfile(member)
                if content is None or member.size > LARGEST_RECORD:
                    raise ValueError(f"{source}: {member.name} has {member.size} bytes: no record of the challenge")
                yield Path(member.name).stem, content.read().decode()
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{source}: is no tar file, or a damaged one ({error}); fetch it again") from error


_COLUMNS = {name: column for column, name in enumerate(PHYSIONET_VARIABLES)}


def _table(text: str, record: str) -> np.ndarray:
    """``(48, 35)``: the last value of each hour."""
    table = np.full((HOURS, len(PHYSIONET_VARIABLES)), np.nan)
    for row in text.splitlines()[1:]:
        try:
            time, parameter, value = row.split(",")
            hour = int(time.split(":")[0])
            if hour < HOURS and parameter in _COLUMNS:
                table[hour, _COLUMNS[parameter]] = float(value)
        except (ValueError, IndexError) as error:
            raise ValueError(f"{record}: row {row[:60]!r}: expected hh:mm,parameter,value") from error
    return table


class CSDIProtocol:
    """Records scaled, thinned and divided as CSDI's published code does it.

    * Patients without any of the 35 parameters are left out (12 of set A).
    * Of each patient's ``m`` observed entries, ``floor(m missing)`` are removed at random, to be imputed and judged.
    * Each parameter is scaled by mean and population deviation over all observed entries of all patients, the removed
      and the test's included; so the figures are those of the paper, and a little too good for unseen data.
    * A fold's test part is a fifth; of the rest, seven tenths of all are to train and what is left validates.

    Args:
        records: of `read_physionet`.
        missing: share removed; the paper has 0.1, 0.5 and 0.9.
        seed: of removal and division; the authors' default is 1.
        fold: 0 to 4.

    Attributes:
        ids: the patients that are left, P of them.
        mean, deviation: of each parameter, ``(35,)``.
        values: ``(P, 48, 35)`` float32, scaled; 0 where nothing was measured.
        observed: ``(P, 48, 35)``, True where something was.
        given: those of ``observed`` that were not removed.
        train, validation, test: which patients, in the authors' order.
    """

    def __init__(self, records: PhysioNetRecords, missing: float = 0.1, seed: int = 1, fold: int = 0) -> None:
        require(0 <= missing <= 1, "missing", missing, "a share from 0 to 1")
        require(fold in range(FOLDS), "fold", fold, f"0 to {FOLDS - 1}")
        self.records, self.missing, self.seed, self.fold = records, missing, seed, fold
        kept = np.atleast_1d(records.observed.reshape(len(records), -1).any(1))
        require(bool(kept.any()), "records", records.ids[:3], "at least one with a value")
        self.ids = tuple(name for name, has in zip(records.ids, kept, strict=True) if has)
        raw = records.values[kept]
        self.observed = ~np.isnan(raw)
        self.given = self._thinned()
        columns = [raw[..., k][self.observed[..., k]] for k in range(raw.shape[2])]
        for name, column in zip(PHYSIONET_VARIABLES, columns, strict=True):
            require(len(column) > 1, "records", f"{len(column)} values of {name}", "more, to scale them by")
        self.mean = np.array([column.mean() for column in columns])
        self.deviation = np.array([column.std() for column in columns])
        scaled = (np.where(self.observed, raw, 0.0) - self.mean) / self.deviation
        self.values = np.where(self.observed, scaled, 0.0).astype(np.float32)

    def _thinned(self) -> np.ndarray:
        # The published code draws from NumPy's legacy generator, patient by patient in the order of their numbers.
        generator = np.random.RandomState(self.seed)
        given = self.observed.reshape(len(self.observed), -1).copy()
        for row in given:
            places = np.where(row)[0]
            row[generator.choice(places, int(len(places) * self.missing), replace=False)] = False
        return given.reshape(self.observed.shape)

    @property
    def target(self) -> np.ndarray:
        """``(P, 48, 35)``, True where an observed entry was removed."""
        return self.observed & ~self.given

    @cached_property
    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = len(self.ids)
        order = np.arange(count)
        np.random.RandomState(self.seed).shuffle(order)
        start, stop = int(self.fold * 0.2 * count), int((self.fold + 1) * 0.2 * count)
        rest = np.delete(order, np.arange(start, stop))
        np.random.RandomState(self.seed).shuffle(rest)
        return rest[: int(count * 0.7)], rest[int(count * 0.7) :], order[start:stop]

    @property
    def train(self) -> np.ndarray:
        return self._parts[0]

    @property
    def validation(self) -> np.ndarray:
        return self._parts[1]

    @property
    def test(self) -> np.ndarray:
        return self._parts[2]


class PhysioNetData(WindowData):
    """Patients of PhysioNet 2012, one window each, divided and thinned by `CSDIProtocol`.

    What the protocol removes of the test patients is what there is to judge by. Scales are those of the patients to
    train on, unlike the protocol's.

    Args:
        source: of ``set-a``, as for `read_physionet`.
        missing, seed, fold: as for `CSDIProtocol`.
        targets, batch_size, num_workers: as in `WindowData`.

    Raises:
        FileNotFoundError, ValueError: from the first use, as `read_physionet`.
    """

    def __init__(
        self,
        source: str,
        missing: float = 0.1,
        seed: int = 1,
        fold: int = 0,
        targets: str | Missingness = "random",
        batch_size: int = 16,
        num_workers: int = 0,
    ) -> None:
        super().__init__(HOURS, None, targets, Point(missing), "random", None, batch_size, num_workers)
        self.source, self.missing, self.seed, self.fold = source, missing, seed, fold

    @cached_property
    def protocol(self) -> CSDIProtocol:
        """Who is in which part, and what is removed."""
        return CSDIProtocol(read_physionet(self.source), self.missing, self.seed, self.fold)

    def panels(self) -> SeriesSplit:
        whole = {one.name: one for one in self.protocol.records.panel().series}
        train, heldout, validation = (
            Panel(tuple(whole[self.protocol.ids[patient]] for patient in part), PHYSIONET_VARIABLES)
            for part in (self.protocol.train, self.protocol.test, self.protocol.validation)
        )
        return SeriesSplit(train, heldout, validation if len(self.protocol.validation) else None)

    def heldout_dataset(self) -> FixedWindows:
        """A window of each test patient, with what the protocol removes as targets."""
        count, target = len(self.protocol.test), self.protocol.target[self.protocol.test]
        starts = torch.zeros(count, dtype=torch.int64)
        return FixedWindows(self._part("heldout"), torch.arange(count), starts, torch.from_numpy(target))
