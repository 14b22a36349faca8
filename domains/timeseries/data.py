"""The data modules of series: one reading, one scaling, then batches that are one index into arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from ornstein.core.schedules import require
from ornstein.core.training.data import DataModule
from ornstein.core.training.seeds import derive_seed
from ornstein.domains.timeseries.facts import SeriesFacts
from ornstein.domains.timeseries.frames import as_panel
from ornstein.domains.timeseries.missingness import Historical, Missingness, Point, parts_of, strategy_of
from ornstein.domains.timeseries.panel import LABELS, Name, Panel, Series
from ornstein.domains.timeseries.windows import Batch, FixedWindows, RandomWindows, Rows

__all__ = ["SeriesData", "SeriesReference", "SeriesSplit", "WindowData", "cut_pieces", "split_series", "split_time"]


class SeriesSplit(NamedTuple):
    """Series to train on, series held out to judge by, and series for the validation loss; None for no such part."""

    train: Panel
    heldout: Panel | None = None
    validation: Panel | None = None


@dataclass(frozen=True)
class SeriesReference:
    """Windows to judge by, in scaled units, each row in at least one of them.

    Attributes:
        train: windows that the model saw, as a batch without targets: for baselines and for the check of copies.
        heldout: windows that it did not see, as a batch; ``target`` is what was removed, each entry once.
        facts: names and scales: ``facts.unscale(values)`` is in units of the data.
    """

    train: Batch
    heldout: Batch
    facts: SeriesFacts


class WindowData(DataModule):
    """Base of the data modules here: a subclass gives ``panels``, the series to train on and those held out.

    Series are read and scaled when first asked for. A batch is a dict with ``values (B, L, K)`` float32 (scaled, 0
    where missing), ``observed (B, L, K)``, ``target (B, L, K)`` (what is hidden, part of ``observed``), ``time (B, L)``
    in steps, and where there are any ``calendar (B, L, C)``, ``covariates (B, L, F)`` and ``static (B, S)``.

    Args:
        length: steps of a window; shorter series are padded.
        stride: steps from one training window to the next, on average; ``length`` when not given. It says how many
            windows an epoch has.
        targets: what to hide in training: a `Missingness`, or ``"random"``, ``"historical"`` or ``"mix"``.
        removed: what to take away from held-out windows, to judge by.
        starts: of training windows: ``"random"``, all equally likely, or a ``"grid"`` of multiples of ``stride``.
        cycles: of the calendar; chosen by the stamps when not given.
        batch_size, num_workers: as in `DataModule`.

    Raises:
        ValueError: a length or stride below 1, or another name of targets or starts.
    """

    def __init__(
        self,
        length: int = 48,
        stride: int | None = None,
        targets: str | Missingness = "random",
        removed: Missingness = Point(0.1),  # noqa: B008 (frozen)
        starts: Literal["random", "grid"] = "random",
        cycles: Sequence[str] | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        require(length >= 1, "length", length, "at least 1 step")
        require(stride is None or stride >= 1, "stride", stride, "at least 1 step")
        require(starts in ("random", "grid"), "starts", starts, "'random' or 'grid'")
        self.length, self.stride, self.targets, self.removed = length, stride, targets, removed
        self.starts, self.cycles = starts, cycles
        self._targets = strategy_of(targets)
        self._parts: SeriesSplit | None = None
        self._facts: SeriesFacts | None = None
        self._rows: dict[str, Rows] = {}

    def panels(self) -> SeriesSplit:
        """Read the source. Called once."""
        raise NotImplementedError

    @property
    def parts(self) -> SeriesSplit:
        """``panels()``, read when first asked for; the training part decides names and scales."""
        if self._parts is None:
            parts = self.panels()
            complete = all(one.observed.all() for one in parts.train.series)
            if complete and all(isinstance(part, Historical) for part in parts_of(self._targets)):
                raise ValueError(
                    f"targets={self.targets!r} hides what is missing elsewhere, and the training data lack nothing; "
                    "give targets='random'"
                )
            self._parts = parts
        return self._parts

    @property
    def facts(self) -> SeriesFacts:
        """Names, scales, categories and calendar of the training part."""
        if self._facts is None:
            self._facts = SeriesFacts.fit(self.parts.train, self.cycles)
        return self._facts

    def train_dataset(self) -> RandomWindows:
        """The windows to train on."""
        return RandomWindows(self._part("train"), self.stride or self.length, self._targets, self.starts == "grid")

    def validation_dataset(self) -> FixedWindows | None:
        """Windows for the validation loss, with fixed targets of the kind of training; None without such a part."""
        if self.parts.validation is None:
            return None
        return FixedWindows.cover(self._part("validation"), self.length, self._targets, derive_seed(0, "validation"))

    def heldout_dataset(self) -> FixedWindows:
        """Windows to judge by, with what ``removed`` takes away as targets.

        Raises:
            ValueError: nothing is held out.
        """
        return FixedWindows.cover(self._part("heldout"), self.length, self.removed, derive_seed(0, "heldout"))

    def reference(self) -> SeriesReference:
        """Windows of training and those held out.

        Raises:
            ValueError: nothing is held out.
        """
        heldout = self.heldout_dataset().all()
        return SeriesReference(FixedWindows.cover(self._part("train"), self.length, None, 0).all(), heldout, self.facts)

    def collate(self, samples: Any) -> Any:
        """A batch of windows, which come as a batch already."""
        return samples if isinstance(samples, dict) else super().collate(samples)

    def _part(self, name: str) -> Rows:
        if name not in self._rows:
            part: Panel | None = getattr(self.parts, name)
            if part is None:
                raise ValueError(f"{type(self).__name__} has no part {name!r}; give {name}= when it is made")
            series = self.facts.check(part).series
            self._rows[name] = Rows.of([self.facts.scale(one) for one in series], self.length)
        return self._rows[name]


class SeriesData(WindowData):
    """Series of frames, arrays or files; see `as_panel` for the forms.

    Args:
        data: the series to train on.
        heldout: series held out, in a form of their own; or a part of ``data``, 0 for none.
        validation: series for the validation loss, likewise.
        split: which part: the end of each series in ``"time"`` (validation before what is held out), or whole
            ``"series"``, drawn by ``split_seed``.
        split_seed: which series.
        variables, covariates, static, frequency, series, time: as in `as_panel`.
        length, stride, targets, removed, starts, cycles, batch_size, num_workers: as in `WindowData`.

    Example:
        >>> import numpy as np
        >>> data = SeriesData(np.sin(np.arange(1000.0))[:, None], length=24, batch_size=8)
        >>> batch = next(iter(data.loader(1)))
        >>> batch["values"].shape, bool((batch["target"] <= batch["observed"]).all())
        (torch.Size([8, 24, 1]), True)
    """

    def __init__(
        self,
        data: Any,
        heldout: Any = 0.2,
        validation: Any = 0.1,
        split: Literal["time", "series"] = "time",
        split_seed: int = 0,
        variables: Sequence[Name] | None = None,
        covariates: Sequence[Name] | None = None,
        static: Any = (),
        frequency: str | float | None = None,
        series: Name = LABELS[0],
        time: Name = LABELS[1],
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
        require(split in ("time", "series"), "split", split, "'time' or 'series'")
        self.data, self.heldout, self.validation = data, heldout, validation
        self.split, self.split_seed = split, split_seed
        self.variables, self.covariates, self.static = variables, covariates, static
        self.frequency, self.series, self.time = frequency, series, time

    def panels(self) -> SeriesSplit:
        whole = self._read(self.data)
        shares = [part if _is_share(part) else 0.0 for part in (self.validation, self.heldout)]
        if self.split == "time":
            cut = split_time(whole, shares[0], shares[1])
        else:
            cut = split_series(whole, shares[0], shares[1], self.split_seed)
        return SeriesSplit(
            cut.train,
            cut.heldout if _is_share(self.heldout) else self._read(self.heldout),
            cut.validation if _is_share(self.validation) else self._read(self.validation),
        )

    def _read(self, data: Any) -> Panel:
        return as_panel(
            data,
            variables=self.variables,
            covariates=self.covariates,
            static=self.static,
            frequency=self.frequency,
            series=self.series,
            time=self.time,
        )


def _is_share(part: Any) -> bool:
    return isinstance(part, int | float) and not isinstance(part, bool)


def _check_shares(validation: float, heldout: float) -> None:
    for name, share in (("validation", validation), ("heldout", heldout)):
        require(0 <= share < 1, name, share, "a part from 0 to below 1, or data of its own")
    require(validation + heldout < 1, "heldout", heldout, f"less than 1 - validation = {1 - validation:g}")


def split_time(panel: Panel, validation: float, heldout: float) -> SeriesSplit:
    """Each series cut in time: first what to train on, then a part for validation, then what is held out.

    A series that is too short for a part is missing from it. A part that is 0 is None.

    Args:
        panel: the series.
        validation, heldout: parts of the rows of each series.

    Raises:
        ValueError: parts out of range, or one in which no series has a row.
    """
    _check_shares(validation, heldout)
    cuts = []
    for one in panel.series:
        end = round(len(one) * (1 - heldout))
        cuts.append((0, round(len(one) * (1 - heldout - validation)), end, len(one)))
    parts = [
        tuple(one.part(cut[i], cut[i + 1]) for one, cut in zip(panel.series, cuts) if cut[i + 1] > cut[i])
        for i in range(3)
    ]
    return _split(panel, parts, validation, heldout)


def split_series(panel: Panel, validation: float, heldout: float, seed: int) -> SeriesSplit:
    """Whole series drawn at random for validation and to hold out; the others are to train on. All keep their order.

    Args:
        panel: the series.
        validation, heldout: parts of their number.
        seed: which.

    Raises:
        ValueError: parts out of range, or one without a series.
    """
    _check_shares(validation, heldout)
    count = len(panel)
    order = np.random.default_rng(seed).permutation(count)
    first, second = round(count * heldout), round(count * heldout) + round(count * validation)
    chosen = [order[second:], order[first:second], order[:first]]
    parts = [tuple(panel.series[i] for i in np.sort(some)) for some in chosen]
    return _split(panel, parts, validation, heldout)


def cut_pieces(panel: Panel, rows: int) -> Panel:
    """Each series cut into pieces of ``rows`` rows and a shorter last one, as series of their own.

    To be divided by `split_series`, so that every part has something of all times: of a series that rises, say.

    Args:
        panel: the series.
        rows: of a piece.
    """
    require(rows >= 1, "rows", rows, "at least 1 row")
    pieces = [
        replace(one.part(start, min(start + rows, len(one))), name=(one.name, start))
        for one in panel.series
        for start in range(0, len(one), rows)
    ]
    return replace(panel, series=tuple(pieces), form=None)


def _split(panel: Panel, parts: Sequence[tuple[Series, ...]], validation: float, heldout: float) -> SeriesSplit:
    train, between, last = parts
    for name, share, part in (("train", 1.0, train), ("validation", validation, between), ("heldout", heldout, last)):
        if share and not part:
            raise ValueError(
                f"the part {name} is empty: {len(panel)} series of at most {max(map(len, panel.series))} rows with "
                f"validation={validation} and heldout={heldout}; give other parts"
            )
    return SeriesSplit(
        replace(panel, series=train, form=None),
        replace(panel, series=last, form=None) if heldout else None,
        replace(panel, series=between, form=None) if validation else None,
    )
