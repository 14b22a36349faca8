"""Data modules for each source of pictures.

| class | source |
| --- | --- |
| `DigitsData` | scikit-learn's 1,797 handwritten digits, 8 x 8 (1,297 to train on, 500 held out) |
| `FashionMNISTData` | Fashion-MNIST in IDX files, 28 x 28 (60,000 and 10,000) |
| `IDXData` | MNIST or anything else in its files |
| `FolderData` | picture files, a class for each sub-folder |
| `ArrayData` | a ``.npy`` or ``.npz`` file, or arrays in memory through `PicturesData` |
| `PicturesData` | any data set of pictures, torchvision's and Hugging Face's through `ObjectPictures` |

What is not split by its makers is split here: a part ``holdout`` is drawn by ``split_seed``, the same share of each
class.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ornstein.core.optional import need
from ornstein.domains.images.arrays import ArrayPictures, Layout, load_arrays
from ornstein.domains.images.augment import Augment
from ornstein.domains.images.data import ImageData, held_out, same_kind, stratified_split
from ornstein.domains.images.datasets import FolderPictures, PictureSet
from ornstein.domains.images.idx import fashion_mnist_folder, read_idx_split
from ornstein.domains.images.pictures import Resize

__all__ = ["ArrayData", "DigitsData", "FashionMNISTData", "FolderData", "IDXData", "PicturesData"]


class DigitsData(ImageData):
    """Scikit-learn's handwritten digits: 1,797 grey pictures of 8 x 8 with 17 levels, ten classes.

    Args:
        batch_size, num_workers, augment, reference_size: as in `ImageData`.
        split_seed: which 500 pictures are held out, the same share of each class.
    """

    def __init__(
        self,
        batch_size: int = 64,
        num_workers: int = 0,
        augment: Augment | None = None,
        reference_size: int = 10_000,
        split_seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, augment, reference_size)
        self.split_seed = split_seed

    def pictures(self) -> tuple[ArrayPictures, ArrayPictures]:
        digits = need("sklearn.datasets", to="load the digits", extra="images").load_digits()
        data = ArrayPictures((digits.images / 16).astype(np.float32), digits.target)
        train, heldout = stratified_split(digits.target, 500, self.split_seed)
        return data.subset(train), data.subset(heldout)


class IDXData(ImageData):
    """Pictures in MNIST's files: ``train-images-idx3-ubyte`` and the other three, plain or gzipped.

    Args:
        folder: where the files are.
        batch_size, num_workers, augment, reference_size: as in `ImageData`.
    """

    class_names: ClassVar[tuple[str, ...] | None] = None

    def __init__(
        self,
        folder: str | None,
        batch_size: int = 64,
        num_workers: int = 0,
        augment: Augment | None = None,
        reference_size: int = 10_000,
    ) -> None:
        super().__init__(batch_size, num_workers, augment, reference_size)
        self.folder = folder

    def pictures(self) -> tuple[ArrayPictures, ArrayPictures]:
        train, heldout = (
            ArrayPictures(*read_idx_split(self._place(), split), classes=self.class_names)
            for split in ("train", "test")
        )
        return train, heldout

    def _place(self) -> Path:
        if self.folder is None:
            raise ValueError("IDXData needs a folder with the four IDX files; give folder=")
        return Path(self.folder)


class FashionMNISTData(IDXData):
    """Fashion-MNIST: 60,000 + 10,000 grey pictures of 28 x 28, ten kinds of clothes.

    Args:
        folder: where the IDX files are; Debian's place and torchvision's layout are searched when not given.
        batch_size, num_workers, augment, reference_size: as in `ImageData`.
    """

    class_names = (
        "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip

    def __init__(
        self,
        folder: str | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        augment: Augment | None = None,
        reference_size: int = 10_000,
    ) -> None:
        super().__init__(folder, batch_size, num_workers, augment, reference_size)

    def _place(self) -> Path:
        return Path(self.folder) if self.folder else fashion_mnist_folder()


class PicturesData(ImageData):
    """Any data set of pictures in memory or on disk: `ArrayPictures`, `FolderPictures`, `ObjectPictures`, or your own.

    Args:
        train: the pictures to train on.
        heldout: the pictures held out; a part ``holdout`` of ``train`` when not given.
        batch_size, num_workers, augment, reference_size: as in `ImageData`.
        holdout: part of ``train`` to hold out.
        split_seed: which part.
    """

    def __init__(
        self,
        train: Any,
        heldout: Any = None,
        batch_size: int = 64,
        num_workers: int = 0,
        augment: Augment | None = None,
        reference_size: int = 10_000,
        holdout: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, augment, reference_size)
        self.train, self.heldout, self.holdout, self.split_seed = train, heldout, holdout, split_seed

    def pictures(self) -> tuple[PictureSet, PictureSet]:
        if self.heldout is None:
            return held_out(self.train, self.holdout, self.split_seed)
        return same_kind(self.train, self.heldout)


class FolderData(ImageData):
    """Picture files in a folder, one class for each sub-folder; see `FolderPictures`.

    Args:
        folder: the pictures to train on.
        heldout_folder: the pictures held out, with the same sub-folders; a part of ``folder`` when not given.
        channels: 1 (grey) or 3 (RGB).
        size: side, or height and width, to which every picture is brought.
        resize: how: ``"crop"`` or ``"squash"``.
        batch_size, num_workers, augment, reference_size: as in `ImageData`.
        holdout: part of ``folder`` to hold out.
        split_seed: which part.
    """

    def __init__(
        self,
        folder: str,
        heldout_folder: str | None = None,
        channels: int = 3,
        size: int | tuple[int, int] | None = None,
        resize: Resize | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        augment: Augment | None = None,
        reference_size: int = 10_000,
        holdout: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, augment, reference_size)
        self.folder, self.heldout_folder, self.channels = folder, heldout_folder, channels
        self.size, self.resize, self.holdout, self.split_seed = size, resize, holdout, split_seed

    def pictures(self) -> tuple[PictureSet, PictureSet]:
        train = self._read(self.folder)
        if self.heldout_folder is None:
            return held_out(train, self.holdout, self.split_seed)
        return same_kind(train, self._read(self.heldout_folder))

    def _read(self, folder: str) -> FolderPictures:
        return FolderPictures(folder, channels=self.channels, size=self.size, resize=self.resize)


class ArrayData(ImageData):
    """Pictures of a ``.npy`` or ``.npz`` file; see `load_arrays`.

    Args:
        path: the pictures to train on.
        heldout_path: a file of pictures held out; a part of ``path`` when not given.
        images: name of the pictures in an ``.npz`` file.
        labels: name of the labels in an ``.npz`` file.
        layout: order of the axes.
        batch_size, num_workers, augment, reference_size: as in `ImageData`.
        holdout: part of ``path`` to hold out.
        split_seed: which part.
    """

    def __init__(
        self,
        path: str,
        heldout_path: str | None = None,
        images: str = "images",
        labels: str = "labels",
        layout: Layout | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        augment: Augment | None = None,
        reference_size: int = 10_000,
        holdout: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, augment, reference_size)
        self.path, self.heldout_path, self.images, self.labels = path, heldout_path, images, labels
        self.layout, self.holdout, self.split_seed = layout, holdout, split_seed

    def pictures(self) -> tuple[PictureSet, PictureSet]:
        train = self._read(self.path)
        if self.heldout_path is None:
            return held_out(train, self.holdout, self.split_seed)
        return same_kind(train, self._read(self.heldout_path))

    def _read(self, path: str) -> ArrayPictures:
        return load_arrays(path, images=self.images, labels=self.labels, layout=self.layout)
