"""Slices beside what a classical method makes of simulated scans of them: data of models that are shown a guess.

The slices are those of another data module. Each is turned, mirrored and zoomed at random, scanned, with noise, and
reconstructed; the network is shown the result and learns what the slice is (`MedicalReconstruction(guess=...)`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ornstein.core.inverse import Measurement, NoiseModel, Operator
from ornstein.core.schedules import require
from ornstein.core.training.data import DataModule
from ornstein.core.training.seeds import derive_seed
from ornstein.domains.medical.classical import Classical
from ornstein.domains.medical.data import MedicalReference, SliceData
from ornstein.domains.medical.physics.counts import WATER
from ornstein.domains.medical.scale import Scale

__all__ = ["Scan", "ScanData", "ScannedSlices", "first_guess", "turned"]

SHIFT = 0.05  # of a slice's side, at most, either way
TOGETHER = 8  # scans that are reconstructed at once where they are kept: operators take less time a slice then


@dataclass(frozen=True, eq=False)
class Scan:
    """How a slice is measured.

    Args:
        operator: of the measurement, for slices of one shape.
        noise: of the measurement.
    """

    operator: Operator
    noise: NoiseModel | None = None


def first_guess(measurement: Measurement, guess: Classical, scale: Scale) -> Tensor:
    """What a classical method makes of measurements, as states ``(B, C, H, W)`` of a model of this scale."""
    return scale.to_state(scale.from_operator(guess(measurement), measurement.operator))


def turned(x: Tensor, generator: torch.Generator, border: float = 0.0, zoom: float = 0.15) -> Tensor:
    """Slices ``(B, C, H, W)``, each mirrored or not, zoomed and shifted, and half of them turned by any angle.

    Args:
        x: slices; values are interpolated by cubics and stay within those of the slices.
        generator: of the draws.
        border: value beyond the edges.
        zoom: by how much slices shrink or grow, at most.
    """
    batch = len(x)
    u = torch.rand(6, batch, generator=generator, dtype=torch.float64)
    angle = torch.where(u[0] < 0.5, 0.0, 2 * math.pi * u[1])
    factor, mirror = 1 + zoom * (2 * u[2] - 1), torch.where(u[3] < 0.5, -1.0, 1.0)
    cos, sin = factor * angle.cos(), factor * angle.sin()
    shift = 2 * SHIFT * (2 * u[4:] - 1)
    matrix = torch.stack(
        [torch.stack([mirror * cos, -sin, shift[0]], 1), torch.stack([mirror * sin, cos, shift[1]], 1)], 1
    )
    grid = affine_grid(matrix.to(x), list(x.shape), align_corners=False)
    moved = grid_sample(x - border, grid, mode="bicubic", align_corners=False) + border
    return moved.clamp(min(border, float(x.min())), max(border, float(x.max())))


class ScannedSlices:
    """Slices with guesses from scans of them; item ``i`` is the same each time.

    Args:
        values: slices ``(N, C, H, W)`` in units of the data.
        scans: how they are measured; item ``i`` by number ``i`` modulo their number.
        guess: what reconstructs the scans.
        scale: of the model.
        rounds: how often each slice is scanned by each scan.
        zoom: by how much slices are zoomed at most, mirrored, turned and moved; None to leave them as they are.
        seed: of these, and of the noise.
        kept: items that were made before, and those made from now on; None to make each anew.
        measured: whether the measurements are given too, as those of states; batches are of one scan then.
        still: slices ``(M, C, H, W)`` of what does not move with the bodies, one of which is laid over each item; None
            where there is none.
    """

    def __init__(
        self,
        values: Tensor,
        scans: Sequence[Scan],
        guess: Classical,
        scale: Scale,
        rounds: int,
        zoom: float | None,
        seed: int,
        kept: dict[int, dict[str, Tensor]] | None = None,
        measured: bool = False,
        still: Tensor | None = None,
    ) -> None:
        self.still = still
        self.values, self.scans, self.guess, self.scale = values, tuple(scans), guess, scale
        self.rounds, self.zoom, self.seed, self.kept, self.measured = rounds, zoom, seed, kept, measured

    def __len__(self) -> int:
        return len(self.values) * len(self.scans) * self.rounds

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if self.kept is None:
            return self._made([index])[0]
        if index not in self.kept:
            together = self._beside(index)
            self.kept.update(zip(together, self._made(together)))
        return self.kept[index]

    def _beside(self, index: int) -> list[int]:
        """An item and its neighbours among those of the same scan and round."""
        place, scan = divmod(index, len(self.scans))
        turn, number = divmod(place, len(self.values))
        first = number // TOGETHER * TOGETHER
        numbers = range(first, min(first + TOGETHER, len(self.values)))
        return [(turn * len(self.values) + number) * len(self.scans) + scan for number in numbers]

    def _made(self, indices: Sequence[int]) -> list[dict[str, Tensor]]:
        """Items of one scan."""
        scan, scale = self.scans[indices[0] % len(self.scans)], self.scale
        slices, measured = [], []
        for index in indices:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "scan", index))
            number = index // len(self.scans) % len(self.values)
            x = self.values[number : number + 1]
            x = turned(x, generator, float(x.min()), self.zoom) if self.zoom is not None else x
            if self.still is not None:
                x = torch.maximum(x, self.still[int(torch.randint(len(self.still), (), generator=generator))])
            slices.append(scale.to_state(x))
            clean = scale.to_operator(x, scan.operator)
            measured.append(Measurement.simulate(clean, scan.operator, scan.noise, generator))
        seen = Measurement(torch.cat([one.y for one in measured]), scan.operator, measured[0].noise)
        parts = {"image": torch.cat(slices), "guess": first_guess(seen, self.guess, scale)}
        if self.measured:
            parts["measured"] = seen.y
        return [{name: part[i] for name, part in parts.items()} for i in range(len(indices))]

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        if not self.measured:
            return _stacked([self[index] for index in indices])
        count = len(self.scans)
        scan, first = self.scans[indices[0] % count], indices[0] % count
        batch = _stacked([self[index // count * count + first] for index in indices])
        seen = Measurement(batch.pop("measured"), scan.operator, scan.noise)
        return {**batch, "seen": self.scale.measurement_of_states(seen)}


def _stacked(items: Sequence[dict[str, Tensor]]) -> dict[str, Any]:
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


class ScanData(DataModule):
    """The slices of another data module, scanned.

    A batch is a dict with ``image`` and ``guess``, both ``(B, channels, rows, columns)`` float32, scaled to about -1 to
    1 by the window of the slices, and where the network is shown residuals with ``seen``, the measurement of these
    states: the samples of such a batch are all of the scan of its first. Held-out slices are scanned as they are, once
    by each scan.

    Args:
        data: the slices.
        scans: how they are measured, each equally often.
        guess: what reconstructs the scans; quick, since it runs for every picture of every batch unless they are kept.
        rounds: how often each slice is scanned by each scan before the first scan comes again.
        augment: whether training slices are turned, mirrored, zoomed and moved.
        zoom: by how much, at most; more where slices to come are smaller than those of the data.
        water: attenuation of water in 1/mm, for Hounsfield units.
        seed: of these, and of the noise.
        residual: what reconstructs what an estimate leaves over of a measurement, where the network is to be shown that
            (`UnrolledNetwork`): linear, such as filtered back-projection. Without workers, which would send operators.
        still: slices ``(M, channels, rows, columns)`` of what stays where it is while bodies are turned and moved, such
            as a head rest, in units of the data, if those to train on are bodies alone (`apart`). One at random is laid
            over each augmented slice: the larger value of both counts.
        keep: whether to remember each scan once made, for guesses that take long; few ``rounds`` then, for all of their
            ``rounds`` times scans times slices come to stay in memory. Without workers, which would remember their own.
        batch_size, num_workers: as in `DataModule`.

    Raises:
        ValueError: no scans, or one for slices of another shape.
    """

    def __init__(
        self,
        data: SliceData,
        scans: Sequence[Scan],
        guess: Classical,
        rounds: int = 16,
        augment: bool = True,
        zoom: float = 0.15,
        water: float = WATER,
        seed: int = 0,
        keep: bool = False,
        residual: Classical | None = None,
        still: Tensor | None = None,
        batch_size: int = 4,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        require(len(scans) > 0, "scans", scans, "at least one")
        require(not (keep and num_workers), "num_workers", num_workers, "0, to keep the scans")
        require(residual is None or not num_workers, "num_workers", num_workers, "0, to give measurements")
        require(rounds >= 1, "rounds", rounds, "at least 1")
        require(0 <= zoom < 1, "zoom", zoom, "at least 0 and below 1")
        self.zoom, self.still = zoom, still
        if still is not None:
            require(augment, "still", "slices", "None without augmentation")
            if still.ndim != 4 or len(still) == 0 or tuple(still.shape[1:]) != data.shape:
                raise ValueError(
                    f"still of shape {tuple(still.shape)}: expected (M, {str(data.shape)[1:]}, M at least 1"
                )
        self.data, self.scans, self.guess = data, tuple(scans), guess
        self.rounds, self.augment, self.water, self.seed, self.keep = rounds, augment, water, seed, keep
        self.residual = residual
        self._kept: tuple[dict[int, dict[str, Tensor]], ...] = ({}, {})
        for number, scan in enumerate(self.scans):
            if tuple(scan.operator.shape) != data.shape:
                raise ValueError(
                    f"scans[{number}] is of slices {tuple(scan.operator.shape)}: those of the data are {data.shape}"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, rows, columns)`` of a slice."""
        return self.data.shape

    @property
    def window(self) -> tuple[float, float]:
        """Of the slices."""
        return self.data.window

    @property
    def units(self) -> str:
        """Of the slices."""
        return self.data.units

    def train_dataset(self) -> ScannedSlices:
        """The training slices, scanned."""
        return self._scanned(0, self.rounds, self.augment)

    def validation_dataset(self) -> ScannedSlices:
        """The held-out slices, scanned."""
        return self._scanned(1, 1, False)

    def _scanned(self, part: int, rounds: int, augment: bool) -> ScannedSlices:
        scale = Scale(self.window, self.units, self.water)
        seed = derive_seed(self.seed, "scans", part)
        kept = self._kept[part] if self.keep else None
        return ScannedSlices(
            self.data.parts[part],
            self.scans,
            self.guess,
            scale,
            rounds,
            self.zoom if augment else None,
            seed,
            kept,
            self.residual is not None,
            self.still if augment else None,
        )

    def reference(self) -> MedicalReference:
        """Slices of both parts, in units of the data."""
        return self.data.reference()

    def collate(self, samples: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]  # a batch already
        """A batch of slices, which come as a batch already."""
        return samples
