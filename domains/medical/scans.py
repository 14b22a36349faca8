"""Slices beside what a classical method makes of simulated scans of them: data of models that are shown a guess.

The slices are those of another data module. Each is turned, mirrored and zoomed at random, scanned, with noise, and
reconstructed; the network is shown the result and learns what the slice is (`MedicalReconstruction(guess=...)`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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

__all__ = ["Scan", "ScanData", "ScannedSlices", "first_guess", "left_over", "turned"]

ZOOM, SHIFT = 0.15, 0.05  # of a slice's side, at most, either way
TOGETHER = 8  # scans that are reconstructed at once where they are kept: operators take less time a slice then


@dataclass(frozen=True, eq=False)
class Scan:
    """How a slice is measured.

    Args:
        operator: of the measurement, for slices of one shape.
        noise: of the measurement.
        flips: axes along which a slice and what was made of its scan may be mirrored together, at random, in training:
            mirrored slices are scanned as likely as others and by rays that are mirrored too. ``((-1,), (-2,))`` for
            evenly spread views; ``((-2, -1),)``, half a turn, for any parallel beam.
    """

    operator: Operator
    noise: NoiseModel | None = None
    flips: tuple[tuple[int, ...], ...] = ()


def first_guess(measurement: Measurement, guess: Classical, scale: Scale) -> Tensor:
    """What a classical method makes of measurements, as states ``(B, C, H, W)`` of a model of this scale."""
    return scale.to_state(scale.from_operator(guess(measurement), measurement.operator))


def left_over(measurement: Measurement, guess: Tensor, method: Classical, scale: Scale) -> Tensor:
    """What a classical method makes of all that a guess misses of measurements through a linear operator.

    Args:
        measurement: of slices, ``(B, *measured)``.
        guess: states ``(B, C, H, W)``.
        method: linear in the measurement, such as filtered back-projection.
        scale: of the states.

    Returns:
        Differences of states ``(B, C, H, W)``.
    """
    seen = scale.measurement_of_states(measurement)
    return method(Measurement(seen.y - seen.linear("residual")(guess), seen.operator, seen.noise))


def turned(x: Tensor, generator: torch.Generator, border: float = 0.0) -> Tensor:
    """Slices ``(B, C, H, W)``, each mirrored or not, zoomed and shifted, and half of them turned by any angle.

    Args:
        x: slices; values are interpolated by cubics and stay within those of the slices.
        generator: of the draws.
        border: value beyond the edges.
    """
    batch = len(x)
    u = torch.rand(6, batch, generator=generator, dtype=torch.float64)
    angle = torch.where(u[0] < 0.5, 0.0, 2 * math.pi * u[1])
    zoom, mirror = 1 + ZOOM * (2 * u[2] - 1), torch.where(u[3] < 0.5, -1.0, 1.0)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    shift = 2 * SHIFT * (2 * u[4:] - 1)
    matrix = torch.stack(
        [torch.stack([mirror * cos, -sin, shift[0]], 1), torch.stack([mirror * sin, cos, shift[1]], 1)], 1
    )
    grid = affine_grid(matrix.to(x), list(x.shape), align_corners=False)
    moved = grid_sample(x - border, grid, mode="bicubic", align_corners=False) + border
    return moved.clamp(min(border, float(x.min())), max(border, float(x.max())))


class ScannedSlices:
    """Slices with guesses from scans of them; item ``i`` is the same each time, but for flips.

    Args:
        values: slices ``(N, C, H, W)`` in units of the data.
        scans: how they are measured; item ``i`` by number ``i`` modulo their number.
        guess: what reconstructs the scans.
        scale: of the model.
        rounds: how often each slice is scanned by each scan.
        augment: whether slices are turned and moved.
        seed: of these, and of the noise.
        kept: items that were made before, and those made from now on; None to make each anew.
        residual: what reconstructs what the guess leaves over, if that is to be known.
    """

    def __init__(
        self,
        values: Tensor,
        scans: Sequence[Scan],
        guess: Classical,
        scale: Scale,
        rounds: int,
        augment: bool,
        seed: int,
        kept: dict[int, dict[str, Tensor]] | None = None,
        residual: Classical | None = None,
    ) -> None:
        self.values, self.scans, self.guess, self.scale = values, tuple(scans), guess, scale
        self.rounds, self.augment, self.seed, self.kept, self.residual = rounds, augment, seed, kept, residual

    def __len__(self) -> int:
        return len(self.values) * len(self.scans) * self.rounds

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        scan = self.scans[index % len(self.scans)]
        if self.kept is None:
            (item,) = self._made([index])
        else:
            if index not in self.kept:
                together = self._beside(index)
                self.kept.update(zip(together, self._made(together)))
            item = self.kept[index]
        axes = [axis for flip in scan.flips if self.augment and torch.rand(()) < 0.5 for axis in flip]
        return {name: x.flip(axes) for name, x in item.items()} if axes else item

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
            x = turned(x, generator, float(x.min())) if self.augment else x
            slices.append(scale.to_state(x))
            clean = scale.to_operator(x, scan.operator)
            measured.append(Measurement.simulate(clean, scan.operator, scan.noise, generator))
        seen = Measurement(torch.cat([one.y for one in measured]), scan.operator, measured[0].noise)
        parts = {"image": torch.cat(slices), "guess": first_guess(seen, self.guess, scale)}
        if self.residual is not None:
            parts["residual"] = left_over(seen, parts["guess"], self.residual, scale)
        return [{name: part[i] for name, part in parts.items()} for i in range(len(indices))]

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        items = [self[index] for index in indices]
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}


class ScanData(DataModule):
    """The slices of another data module, scanned.

    A batch is a dict with ``image`` and ``guess``, both ``(B, channels, rows, columns)`` float32, scaled to about -1 to
    1 by the window of the slices, and with a method for it ``residual`` (`left_over`) in the same
    units. Held-out slices are scanned as they are, once by each scan.

    Args:
        data: the slices.
        scans: how they are measured, each equally often.
        guess: what reconstructs the scans; quick, since it runs for every picture of every batch unless they are kept.
        rounds: how often each slice is scanned by each scan before the first scan comes again.
        augment: whether training slices are turned, mirrored, zoomed and moved.
        water: attenuation of water in 1/mm, for Hounsfield units.
        seed: of these, and of the noise.
        keep: whether to remember each scan once made, for guesses that take long; few ``rounds`` then, for all of their
            ``rounds`` times scans times slices come to stay in memory. Without workers, which would remember their own.
        residual: what reconstructs what the guess leaves over, where the network is to be shown that too.
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
        water: float = WATER,
        seed: int = 0,
        keep: bool = False,
        residual: Classical | None = None,
        batch_size: int = 4,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        require(len(scans) > 0, "scans", scans, "at least one")
        require(not (keep and num_workers), "num_workers", num_workers, "0, to keep the scans")
        require(rounds >= 1, "rounds", rounds, "at least 1")
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
            self.data.parts[part], self.scans, self.guess, scale, rounds, augment, seed, kept, self.residual
        )

    def reference(self) -> MedicalReference:
        """Slices of both parts, in units of the data."""
        return self.data.reference()

    def collate(self, samples: dict[str, Tensor]) -> dict[str, Tensor]:  # type: ignore[override]  # a batch already
        """A batch of slices, which come as a batch already."""
        return samples
