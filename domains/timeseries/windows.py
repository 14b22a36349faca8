"""Windows of series: where they start, and batches of them that are one index into arrays.

Series lie in memory one behind the other, each with at least as many rows as a window: what a short one lacks is
padding, where nothing is observed. A window of ``L`` steps at row ``s`` is the rows ``s ... s + L - 1``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from ornstein.core import window_starts
from ornstein.core.schedules import require
from ornstein.domains.timeseries.facts import Scaled
from ornstein.domains.timeseries.missingness import Missingness

__all__ = ["FixedWindows", "RandomWindows", "Rows", "series_windows"]

Batch = dict[str, Tensor]


def series_windows(lengths: Sequence[int], length: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows that cover series: at 0, ``stride``, ``2 stride``, ..., and a last one that ends where the series ends.

    A series shorter than a window has one, which reaches beyond its end.

    Args:
        lengths: rows of each series.
        length: steps of a window.
        stride: rows from one start to the next, at most ``length``.

    Returns:
        For each window the number of its series and the row of the series where it starts, ``(W,)`` each.

    Raises:
        ValueError: a length below 1, or a stride that leaves rows out.
    """
    require(length >= 1, "length", length, "at least 1 step")
    starts = [np.array(window_starts(max(rows, length), length, stride)) for rows in lengths]
    series = np.repeat(np.arange(len(starts)), [len(some) for some in starts])
    return series, np.concatenate(starts)


@dataclass(frozen=True, eq=False)
class Rows:
    """Series one behind the other; see the text of the module.

    Attributes:
        length: steps of a window.
        values: ``(R, K)`` float32, scaled, 0 where missing.
        observed: ``(R, K)``.
        elapsed: ``(R,)`` float64, steps since the first stamp of the series.
        calendar: ``(R, C)`` float32.
        covariates: ``(R, F)`` float32.
        static: ``(N, S)`` float32.
        first: ``(N,)``, where each series begins.
        lengths: ``(N,)``, rows of each without padding.
    """

    length: int
    values: Float[Tensor, "rows variables"]
    observed: Bool[Tensor, "rows variables"]
    elapsed: Float[Tensor, "rows"]
    calendar: Float[Tensor, "rows calendar"]
    covariates: Float[Tensor, "rows covariates"]
    static: Float[Tensor, "series static"]
    first: Int[Tensor, "series"]
    lengths: Int[Tensor, "series"]

    @classmethod
    def of(cls, series: Sequence[Scaled], length: int) -> "Rows":
        """The rows of series, each padded to a window.

        Args:
            series: as `SeriesFacts.scale` gives them.
            length: steps of a window.

        Raises:
            ValueError: no series, or a length below 1.
        """
        require(length >= 1, "length", length, "at least 1 step")
        require(len(series) > 0, "series", series, "at least one")
        lengths = [len(one.values) for one in series]
        padding = [max(length - rows, 0) for rows in lengths]

        def joined(name: str) -> Tensor:
            parts = []
            for one, more in zip(series, padding):
                array = getattr(one, name)
                parts += [array, np.zeros((more, *array.shape[1:]), dtype=array.dtype)] if more else [array]
            return torch.from_numpy(np.concatenate(parts))

        elapsed = [
            np.append(one.elapsed, one.elapsed[-1] + np.arange(1, more + 1)) for one, more in zip(series, padding)
        ]
        ends = np.cumsum(np.add(lengths, padding))
        return cls(
            length,
            joined("values"),
            joined("observed"),
            torch.from_numpy(np.concatenate(elapsed)),
            joined("calendar"),
            joined("covariates"),
            torch.from_numpy(np.stack([one.static for one in series])),
            torch.from_numpy(np.append(0, ends[:-1])),
            torch.tensor(lengths),
        )

    def batch(self, series: Int[Tensor, "batch"], starts: Int[Tensor, "batch"]) -> Batch:
        """The windows of ``series`` from their rows ``starts``.

        Returns:
            ``values (B, L, K)`` float32 and ``observed (B, L, K)``, ``time (B, L)`` float32 in steps since the start,
            and where there are any ``calendar (B, L, C)``, ``covariates (B, L, F)`` and ``static (B, S)``.
        """
        places = (self.first[series] + starts)[:, None] + torch.arange(self.length)
        elapsed = self.elapsed[places]
        batch = {
            "values": self.values[places],
            "observed": self.observed[places],
            "time": (elapsed - elapsed[:, :1]).float(),
        }
        if self.calendar.shape[1]:
            batch["calendar"] = self.calendar[places]
        if self.covariates.shape[1]:
            batch["covariates"] = self.covariates[places]
        if self.static.shape[1]:
            batch["static"] = self.static[series]
        return batch


class _Windows(Dataset[Batch]):
    def __getitem__(self, index: int) -> Batch:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class FixedWindows(_Windows):
    """Windows at given places, with targets that are fixed: to validate and to judge by. As many as ``series``.

    Attributes:
        rows: the series.
        series, starts: ``(W,)``, of each window, as `series_windows` gives them.
        target: ``(W, L, K)``, what is hidden.
    """

    rows: Rows
    series: Int[Tensor, "windows"]
    starts: Int[Tensor, "windows"]
    target: Bool[Tensor, "windows steps variables"]

    @classmethod
    def cover(cls, rows: Rows, stride: int, pattern: Missingness | None, seed: int) -> "FixedWindows":
        """Windows that cover all rows, each entry a target in at most one of them.

        Args:
            rows: the series.
            stride: rows from one start to the next.
            pattern: what to hide; None for nothing.
            seed: of the pattern.
        """
        series, starts = map(torch.from_numpy, series_windows(rows.lengths.tolist(), rows.length, stride))
        batch = rows.batch(series, starts)
        observed = batch["observed"].numpy()
        target = np.zeros_like(observed)
        if pattern is not None:
            target = pattern.draw(observed, np.random.default_rng(seed), batch["values"].numpy())
            # Windows of a series overlap where the stride is short, and at its end.
            same = np.append(False, np.diff(series.numpy()) == 0)
            step = np.append(rows.length, np.diff(starts.numpy()))
            seen = np.where(same, rows.length - step, 0)
            target &= (np.arange(rows.length) >= seen[:, None])[..., None]
        return cls(rows, series, starts, torch.from_numpy(target))

    def __len__(self) -> int:
        return len(self.series)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch at once: what `Rows.batch` gives, and ``target``."""
        chosen = torch.as_tensor(indices)
        return {**self.rows.batch(self.series[chosen], self.starts[chosen]), "target": self.target[chosen]}

    def all(self) -> Batch:
        """All windows as one batch."""
        return self.__getitems__(range(len(self)))


@dataclass(frozen=True, eq=False)
class RandomWindows(_Windows):
    """Windows to train on: targets, and places unless a grid is asked for, are drawn anew whenever one is asked for.

    Window ``i`` of ``n = ceil(S / stride)`` is number ``floor((i + u) S / n)`` of the ``S`` places where a window can
    start, over all series, with ``u`` uniform on [0, 1). So all are equally likely, and an epoch covers the data
    evenly. All is drawn from torch's global generator, which a data module seeds for each batch.

    Args:
        rows: the series.
        stride: rows from one window to the next, on average.
        targets: what to hide; see `Missingness`.
        grid: windows at the places of `series_windows` instead, each once an epoch.
    """

    rows: Rows
    stride: int
    targets: Missingness
    grid: bool = False
    _places: tuple[Tensor, Tensor] = field(init=False, repr=False)  # series and start of each place

    def __post_init__(self) -> None:
        if self.grid:
            series, starts = series_windows(self.rows.lengths.tolist(), self.rows.length, self.stride)
        else:
            require(self.stride >= 1, "stride", self.stride, "at least 1 row")
            counts = np.maximum(self.rows.lengths.numpy() - self.rows.length + 1, 1)
            series = np.repeat(np.arange(len(counts)), counts)
            starts = np.concatenate([np.arange(count) for count in counts])
        object.__setattr__(self, "_places", (torch.from_numpy(series), torch.from_numpy(starts)))

    def __len__(self) -> int:
        return len(self._places[0]) if self.grid else -(-len(self._places[0]) // self.stride)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch at once: what `Rows.batch` gives, and ``target``."""
        series, starts = self._places
        chosen = torch.as_tensor(indices)
        if not self.grid:
            places = (chosen.double() + torch.rand(len(chosen), dtype=torch.float64)) * (len(series) / len(self))
            chosen = places.long().clamp(max=len(series) - 1)  # rounding may reach the end
        batch = self.rows.batch(series[chosen], starts[chosen])
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        target = self.targets.draw(batch["observed"].numpy(), rng, batch["values"].numpy())
        return {**batch, "target": torch.from_numpy(np.ascontiguousarray(target))}
