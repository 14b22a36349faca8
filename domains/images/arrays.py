"""Pictures from arrays in memory, and from ``.npy`` and ``.npz`` files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["ArrayPictures", "Item", "Layout", "channels_first", "load_arrays"]

Layout = Literal["NHW", "NHWC", "NCHW"]
Item = dict[str, Tensor]


class ArrayPictures(Dataset[Item]):
    """Pictures from arrays in memory.

    Args:
        images: ``uint8``, or floating point in [0, 1]: ``(N, H, W)``, ``(N, H, W, C)`` or ``(N, C, H, W)``.
        labels: ``(N,)`` whole numbers from 0, or None.
        layout: of the axes; found from a channel axis of 1, 3 or 4 when not given.
        classes: names of the classes; their numbers when not given.

    Raises:
        TypeError: another dtype.
        ValueError: another shape, an axis order that is not clear, values outside [0, 1], NaN, labels out of range.
    """

    def __init__(
        self,
        images: np.ndarray | Tensor,
        labels: np.ndarray | Tensor | Sequence[int] | None = None,
        *,
        layout: Layout | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.images = torch.from_numpy(channels_first(np.asarray(images), layout))
        self.labels, self.classes = _checked_labels(labels, len(self.images), classes)
        channels, height, width = self.images.shape[1:]
        self.shape = (channels, height, width)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Item:
        item = {"image": self.images[index]}
        return item if self.labels is None else {**item, "label": self.labels[index]}

    def __getitems__(self, indices: Sequence[int]) -> Item:
        """A whole batch at once; data modules pass it on instead of stacking single items."""
        chosen = torch.as_tensor(indices)
        batch = {"image": self.images[chosen]}
        return batch if self.labels is None else {**batch, "label": self.labels[chosen]}

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ArrayPictures":
        """The pictures with these indices, in their order, with the same classes."""
        chosen = torch.as_tensor(np.asarray(indices))
        labels = None if self.labels is None else self.labels[chosen]
        return ArrayPictures(self.images[chosen], labels, layout="NCHW", classes=self.classes or None)


def channels_first(images: np.ndarray, layout: Layout | None) -> np.ndarray:
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise TypeError(f"images have dtype {images.dtype}: expected uint8 (0 to 255) or floating point (0 to 1)")
    if images.size == 0:
        raise ValueError(f"images of shape {images.shape} hold no picture")
    if layout is None:
        layout = _layout(images.shape)
    elif layout not in ("NHW", "NHWC", "NCHW") or images.ndim != len(layout):
        raise ValueError(f"layout={layout!r} does not fit images of shape {images.shape}: NHW, NHWC or NCHW")
    if images.dtype.kind == "f":
        low, high = images.min(), images.max()
        if not np.isfinite(low + high):
            bad = np.unique(np.argwhere(~np.isfinite(images))[:, 0])
            raise ValueError(
                f"images hold NaN or infinite values in {len(bad)} pictures, first in {bad[0]}; drop or repair them"
            )
        if low < 0 or high > 1:
            raise ValueError(
                f"images lie in [{low:.4g}, {high:.4g}]: floating-point pictures must lie in [0, 1]; rescale them"
            )
        images = images.astype(np.float32)
    if layout == "NHW":
        images = images[:, None]
    return np.ascontiguousarray(np.moveaxis(images, 3, 1) if layout == "NHWC" else images)


def _layout(shape: tuple[int, ...]) -> Layout:
    if len(shape) == 3:
        return "NHW"
    if len(shape) != 4:
        raise ValueError(f"images have shape {shape}: expected (N, H, W), (N, H, W, C) or (N, C, H, W)")
    first, last = shape[1] in (1, 3, 4), shape[3] in (1, 3, 4)
    if first == last:
        raise ValueError(
            f"images have shape {shape}: which axis holds the channels is not clear; give layout='NCHW' or 'NHWC'"
        )
    return "NCHW" if first else "NHWC"


def _checked_labels(labels: Any, count: int, classes: Sequence[str] | None) -> tuple[Tensor | None, tuple[str, ...]]:
    if labels is None:
        if classes is not None:
            raise ValueError("classes are named but there are no labels; give labels, or no classes")
        return None, ()
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:  # a column, as MedMNIST stores them
        array = array[:, 0]
    if array.dtype.kind not in "iu" or array.shape != (count,):
        raise ValueError(
            f"labels have shape {array.shape} and dtype {array.dtype}: expected {count} whole numbers, one a picture"
        )
    known = int(array.max()) + 1 if classes is None else len(classes)
    if array.min() < 0 or array.max() >= known:
        where = int(np.argmax((array < 0) | (array >= known)))
        raise ValueError(
            f"label {int(array[where])} of picture {where} is out of range: expected 0 to {known - 1}; "
            "renumber the labels or name all classes"
        )
    names = tuple(map(str, range(known))) if classes is None else tuple(classes)
    return torch.from_numpy(array.astype(np.int64)), names


def load_arrays(
    path: str | Path, *, images: str = "images", labels: str = "labels", layout: Layout | None = None
) -> ArrayPictures:
    """Pictures from a ``.npy`` file (no labels) or from two arrays of an ``.npz`` file.

    Args:
        path: the file; arrays of Python objects are refused, since reading them would run code.
        images: name of the pictures in the ``.npz``.
        labels: name of the labels in the ``.npz``; a file without them has no classes.
        layout: as in `ArrayPictures`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, a damaged one, or no array of the name ``images``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such array file")
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"images": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except Exception as error:  # numpy raises whatever its zip and header readers do
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: cannot be read as plain .npy or .npz arrays ({reason}); save it with numpy.save or savez"
        ) from error
    name = "images" if isinstance(loaded, np.ndarray) else images
    if name not in arrays:
        raise ValueError(f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'} but no {name!r}; give images=NAME")
    try:
        return ArrayPictures(arrays[name], arrays.get(labels), layout=layout)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{path}: {error}") from error
