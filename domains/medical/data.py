"""The data modules of pictures of the body: slices to train on and slices held out, never neighbours of one another.

| class | source |
| --- | --- |
| `EllipseData` | random ellipses, drawn here |
| `BrainData` | ICBM152: T1 of the mean brain of 152 people, 1 mm, brought by nilearn |
| `HeadCTData` | one head in Hounsfield units, 108 slices of 256 x 256, of Debian's invesalius-examples |
| `VolumeData` | DICOM series and NIfTI files of your own |

Slices next to one another are near copies, so volumes are cut into a training part and a held-out part with a gap.
"""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.core.training.data import DataModule
from ornstein.domains.medical.files.dicom import read_dicom
from ornstein.domains.medical.files.nifti import read_nifti
from ornstein.domains.medical.physics.phantoms import random_ellipses, shepp_logan

__all__ = [
    "BrainData",
    "EllipseData",
    "HeadCTData",
    "MedicalReference",
    "SliceData",
    "Slices",
    "VolumeData",
    "split_slices",
]

HEAD_SHAPE = (108, 256, 256)


class Slices:
    """Slices in memory, which come as a batch at once.

    Args:
        values: ``(slices, channels, rows, columns)`` float32, as a model sees them.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.values[index]}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        return {"image": self.values[list(indices)]}


@dataclass(frozen=True)
class MedicalReference:
    """Slices to judge by, ``(slices, channels, rows, columns)``, in units of the data.

    Attributes:
        train: what the model saw.
        heldout: what it did not see.
        units: of the values.
    """

    train: Tensor
    heldout: Tensor
    units: str


class SliceData(DataModule):
    """Base of the data modules here: a subclass gives ``parts``, the training and the held-out slices.

    A batch is a dict with ``image (B, channels, rows, columns)`` float32, scaled to about -1 to 1 by ``window``.

    Args:
        window: ``(low, high)`` in units of the data that become -1 and 1; values beyond it stay beyond.
        batch_size, num_workers: as in `DataModule`.
    """

    units: str = ""

    def __init__(self, window: tuple[float, float] = (0.0, 1.0), batch_size: int = 16, num_workers: int = 0) -> None:
        super().__init__(batch_size, num_workers)
        low, high = window
        require(high > low, "window", window, "(low, high) with high above low")
        self.window = (float(low), float(high))
        self._parts: tuple[Tensor, Tensor] | None = None

    def read(self) -> tuple[Tensor, Tensor]:
        """Read the source: slices to train on and slices held out, in units of the data. Called once."""
        raise NotImplementedError

    @property
    def parts(self) -> tuple[Tensor, Tensor]:
        """``read()``, read when first asked for."""
        if self._parts is None:
            self._parts = self.read()
        return self._parts

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, rows, columns)`` of a slice."""
        channels, rows, columns = self.parts[0].shape[1:]
        return channels, rows, columns

    def scale(self, values: Tensor) -> Tensor:
        """From units of the data to about -1 to 1."""
        low, high = self.window
        return 2 * (values - low) / (high - low) - 1

    def unscale(self, values: Tensor) -> Tensor:
        """Back to units of the data."""
        low, high = self.window
        return (values + 1) / 2 * (high - low) + low

    def train_dataset(self) -> Slices:
        """The training slices, scaled."""
        return Slices(self.scale(self.parts[0]))

    def validation_dataset(self) -> Slices:
        """The held-out slices, scaled."""
        return Slices(self.scale(self.parts[1]))

    def reference(self) -> MedicalReference:
        """Slices of both parts, in units of the data."""
        return MedicalReference(*self.parts, self.units)

    def collate(self, samples: Any) -> Any:
        """A batch of slices, which come as a batch already."""
        return samples if isinstance(samples, dict) else super().collate(samples)


def split_slices(values: Tensor, heldout: slice, gap: int) -> tuple[Tensor, Tensor]:
    """The slices of a stack outside of ``heldout`` and ``gap`` more on each side, and those inside.

    Args:
        values: ``(slices, ...)``.
        heldout: a run of slices, by first and one past the last.
        gap: slices that belong to neither part.

    Raises:
        ValueError: a part without slices.
    """
    require(gap >= 0, "gap", gap, "at least 0 slices")
    first, last, _ = heldout.indices(len(values))
    train = torch.cat([values[: max(0, first - gap)], values[last + gap :]])
    if last <= first or not len(train):
        raise ValueError(f"heldout={heldout}, gap={gap} of {len(values)} slices: expected some in both parts")
    return train, values[first:last]


class EllipseData(SliceData):
    """Random phantoms of ellipses, as `random_ellipses` draws them, and the Shepp-Logan head held out with others.

    Args:
        size: pixels a side.
        count: pictures to train on.
        heldout: pictures held out, of other seeds; the first is Shepp and Logan's.
        seed: which pictures.
        window, batch_size, num_workers: as in `SliceData`.
    """

    def __init__(
        self,
        size: int = 64,
        count: int = 512,
        heldout: int = 16,
        seed: int = 0,
        window: tuple[float, float] = (0.0, 1.0),
        batch_size: int = 16,
        num_workers: int = 0,
    ) -> None:
        super().__init__(window, batch_size, num_workers)
        require(size >= 8, "size", size, "at least 8 pixels")
        require(count >= 1 and heldout >= 1, "count", (count, heldout), "at least 1 picture in each part")
        self.size, self.count, self.heldout, self.seed = size, count, heldout, seed

    def read(self) -> tuple[Tensor, Tensor]:
        first = self.seed * (self.count + self.heldout)
        drawn = [random_ellipses(first + i).image(self.size) for i in range(self.count + self.heldout - 1)]
        return torch.cat(drawn[: self.count]), torch.cat([shepp_logan().image(self.size), *drawn[self.count :]])


class BrainData(SliceData):
    """Axial slices of ICBM152, the mean brain of 152 people at 1 mm (Fonov et al. 2009), 192 x 192, in [0, 1].

    It is brought by nilearn.  One third of the hundred slices that show the brain is held out.

    Args:
        contrast: ``"t1"``, ``"gm"`` or ``"wm"``: T1, or the share of grey or white matter.
        third: which is held out: 0 the lowest, 2 the highest.
        gap: slices between the parts, which neither has.
        window, batch_size, num_workers: as in `SliceData`.
    """

    def __init__(
        self,
        contrast: str = "t1",
        third: int = 2,
        gap: int = 4,
        window: tuple[float, float] = (0.0, 1.0),
        batch_size: int = 16,
        num_workers: int = 0,
    ) -> None:
        super().__init__(window, batch_size, num_workers)
        require(contrast in ("t1", "gm", "wm"), "contrast", contrast, "'t1', 'gm' or 'wm'")
        require(third in (0, 1, 2), "third", third, "0, 1 or 2")
        self.contrast, self.third, self.gap = contrast, third, gap

    def read(self) -> tuple[Tensor, Tensor]:
        nilearn = need("nilearn.datasets", to="read the mean brain", extra="medical")
        middle = {"t1": "", "gm": "_gm", "wm": "_wm"}[self.contrast]
        volume = getattr(nilearn, f"load_mni152{middle}_template")(resolution=1).get_fdata()
        # Columns to the right, rows to the back, the slices that show more than the stem and the crown.
        slices = np.rot90(volume[2:194, 20:212, 40:140]).transpose(2, 0, 1)
        values = torch.from_numpy(np.ascontiguousarray(slices, dtype=np.float32))[:, None]
        bounds = [round(i * len(values) / 3) for i in range(4)]
        return split_slices(values, slice(bounds[self.third], bounds[self.third + 1]), self.gap)


class HeadCTData(SliceData):
    """A head in Hounsfield units: 108 axial slices of 256 x 256, 0.96 x 0.96 x 1.5 mm, GPL-2.

    Slices 0 to 71 are to train on and 84 to 107 held out.

    Args:
        file: ``Cranium.inv3``; searched where Debian's invesalius-examples puts it when not given.
        window, batch_size, num_workers: as in `SliceData`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another kind.
    """

    units = "HU"
    PLACE = "/usr/share/doc/invesalius-examples/examples/Cranium.inv3"

    def __init__(
        self,
        file: str | None = None,
        window: tuple[float, float] = (-1000.0, 1000.0),
        batch_size: int = 16,
        num_workers: int = 0,
    ) -> None:
        super().__init__(window, batch_size, num_workers)
        self.file = file

    def read(self) -> tuple[Tensor, Tensor]:
        path = Path(self.file or self.PLACE)
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: no such file; apt-get download invesalius-examples, unpack it by dpkg-deb -x, give file="
            )
        try:
            with tarfile.open(path) as archive:
                member = next(one for one in archive.getmembers() if one.name.endswith("matrix.dat"))
                content = archive.extractfile(member)
                stored = np.frombuffer(content.read() if content else b"", "<i2")
        except (tarfile.TarError, StopIteration, EOFError, OSError) as error:
            raise ValueError(f"{path.name} holds no matrix.dat: expected Cranium.inv3 ({error})") from None
        if stored.size != np.prod(HEAD_SHAPE):
            raise ValueError(f"{path.name} holds {stored.size} values: expected {HEAD_SHAPE}")
        values = torch.from_numpy(stored.reshape(HEAD_SHAPE).astype(np.float32))[:, None]
        return split_slices(values, slice(84, 108), 12)


class VolumeData(SliceData):
    """Slices of DICOM series and NIfTI files.

    Args:
        train: folders of series, or ``.nii`` and ``.nii.gz`` files, of one shape and the same units.
        heldout: others, of other people; or a part of each volume's slices, from its end.
        gap: slices between the parts where volumes are cut.
        window, batch_size, num_workers: as in `SliceData`.

    Raises:
        ValueError: volumes of several shapes or units.
    """

    def __init__(
        self,
        train: Sequence[str],
        heldout: Sequence[str] | float = 0.25,
        gap: int = 4,
        window: tuple[float, float] = (0.0, 1.0),
        batch_size: int = 16,
        num_workers: int = 0,
    ) -> None:
        super().__init__(window, batch_size, num_workers)
        require(bool(train) and not isinstance(train, str), "train", train, "a list of folders and files")
        require(not isinstance(heldout, float) or 0 < heldout < 1, "heldout", heldout, "a part between 0 and 1")
        self.train, self.heldout, self.gap = train, heldout, gap

    def read(self) -> tuple[Tensor, Tensor]:
        volumes = [self._volume(path) for path in self.train]
        if isinstance(self.heldout, float):
            cuts = [round(len(volume) * (1 - self.heldout)) for volume in volumes]
            parts = [split_slices(v, slice(cut, len(v)), self.gap) for v, cut in zip(volumes, cuts)]
            return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
        return torch.cat(volumes), torch.cat([self._volume(path) for path in self.heldout])

    def _volume(self, path: str) -> Tensor:
        volume = read_nifti(path) if str(path).endswith((".nii", ".nii.gz")) else read_dicom(path)
        known = (tuple(volume.values.shape[1:]), volume.units)
        if not hasattr(self, "_kind"):
            self._kind = known
            self.units = volume.units
        if known != self._kind:
            raise ValueError(f"{Path(path).name} has {known[0]} pixels in {known[1]!r}: expected {self._kind}")
        return volume.values[:, None]
