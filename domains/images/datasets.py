"""Pictures with labels, from wherever they come, as map-style data sets of one form.

Every data set answers ``data[i]`` with ``{"image": (C, H, W) tensor, "label": int64 tensor}``, without the label where
there are no classes. An image is ``uint8``, or floating point in [0, 1]; the adapter maps both to [-1, 1]. A data set
knows the ``shape (C, H, W)`` of its pictures and the names of its ``classes``. What can be wrong with the source is
found when the data set is made, or names the file when that is read.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ornstein.domains.images.arrays import ArrayPictures, Item, channels_first
from ornstein.domains.images.pictures import (
    Resize,
    array_from_picture,
    fit,
    image_size,
    is_picture,
    open_picture,
    picture_size,
)

__all__ = ["FolderPictures", "ObjectPictures", "PictureSet", "materialize"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif"}


class PictureSet(Protocol):
    """What all data sets of pictures have."""

    classes: tuple[str, ...]
    shape: tuple[int, int, int]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Item: ...


def _item(image: np.ndarray, label: int | None) -> Item:
    """From ``(h, w, c)`` to the form above; always floating point, since a folder may mix 8-bit and 16-bit files."""
    image = image.astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
    item = {"image": torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, 2, 0)))}
    if label is not None:
        item["label"] = torch.tensor(label)
    return item


def _sizing(size: int | tuple[int, int] | None, resize: Resize | None) -> tuple[tuple[int, int], Resize] | None:
    if (size is None) != (resize is None):
        raise ValueError(f"size={size} and resize={resize}: give both, such as size=64, resize='crop', or neither")
    if size is None or resize is None:
        return None
    if resize not in ("crop", "squash"):
        raise ValueError(f"resize={resize!r}: expected 'crop' or 'squash'")
    return image_size(size), resize


class FolderPictures(Dataset[Item]):
    """The pictures of a folder, one class for each sub-folder (sorted by name), or a flat folder without classes.

    Files are read when asked for. Without ``size`` all must have one size, which their headers are checked for at once.

    Args:
        folder: where the pictures are; files of other kinds are passed over, sub-folders are searched to any depth.
        channels: 1 (grey) or 3 (RGB).
        size: side, or ``(height, width)``, to which every picture is brought.
        resize: how: ``"crop"`` or ``"squash"``.

    Raises:
        FileNotFoundError: there is no such folder, or no picture in it.
        ValueError: mixed sizes without ``size``, pictures both beside and inside sub-folders, an empty or corrupt file.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        channels: int = 3,
        size: int | tuple[int, int] | None = None,
        resize: Resize | None = None,
    ) -> None:
        root = Path(folder)
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder of pictures")
        self.channels = channels
        self.sizing = _sizing(size, resize)
        self.files, self.labels, self.classes = _walk(root)
        for file in self.files:
            if file.stat().st_size == 0:
                raise ValueError(f"{file}: the file is empty; replace or remove it")
        height, width = _common_size(self.files) if self.sizing is None else self.sizing[0]
        self.shape = (channels, height, width)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Item:
        array = open_picture(self.files[index], self.channels)
        if self.sizing is not None:
            array = fit(array, *self.sizing)
        if array.shape[:2] != self.shape[1:]:
            raise ValueError(
                f"{self.files[index]}: size {array.shape[:2]} where {self.shape[1:]} is expected; give size="
            )
        return _item(array, self.labels[index] if self.classes else None)


def _walk(root: Path) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Files, labels and class names of a folder, all in the order of their names."""

    def pictures(folder: Path, pattern: str) -> list[Path]:
        return sorted(p for p in folder.glob(pattern) if p.suffix.lower() in SUFFIXES and p.is_file())

    flat = pictures(root, "*")
    groups = {
        sub.name: found
        for sub in sorted(root.iterdir())
        if sub.is_dir() and not sub.name.startswith(".") and (found := pictures(sub, "**/*"))
    }
    if flat and groups:
        raise ValueError(
            f"{root}: pictures lie beside the sub-folders {', '.join(groups)}; "
            "put each into a sub-folder (its class), or all into one folder"
        )
    if not flat and not groups:
        raise FileNotFoundError(f"{root}: no pictures in the folder ({', '.join(sorted(SUFFIXES))})")
    if flat:
        return flat, [], ()
    files = [file for group in groups.values() for file in group]
    return files, [i for i, group in enumerate(groups.values()) for _ in group], tuple(groups)


def _common_size(files: Sequence[Path]) -> tuple[int, int]:
    first = picture_size(files[0])
    for file in files[1:]:
        if (size := picture_size(file)) != first:
            raise ValueError(
                f"{file}: size {size[0]}x{size[1]} where {files[0].name} has {first[0]}x{first[1]} (height x width); "
                "give size= and resize='crop' or 'squash'"
            )
    return first


class ObjectPictures(Dataset[Item]):
    """A torchvision or Hugging Face data set (or anything indexed alike) as pictures.

    Items are pairs ``(picture, label)``, single pictures, or dicts; a picture is a PIL picture, an array ``(H, W)`` or
    ``(H, W, C)``, or a tensor ``(C, H, W)``, ``uint8`` or in [0, 1].

    Args:
        data: the data set, with ``len`` and whole-number indices.
        channels: 1 or 3; PIL pictures are converted, arrays must have as many.
        size: as in `FolderPictures`; without it, each item must have the size of the first.
        resize: as in `FolderPictures`.
        image: name of the pictures in dict items; ``"image"`` or ``"img"`` when not given.
        label: name of the labels in dict items; ``"label"`` or ``"labels"``, if there, when not given.

    Raises:
        TypeError: the items are of another kind.
        ValueError: an empty data set, or items that do not fit each other.
    """

    def __init__(
        self,
        data: Any,
        *,
        channels: int = 3,
        size: int | tuple[int, int] | None = None,
        resize: Resize | None = None,
        image: str | None = None,
        label: str | None = None,
    ) -> None:
        if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
            raise TypeError(
                f"data of type {type(data).__name__} has no length and index: expected a map-style data set"
            )
        if len(data) == 0:
            raise ValueError("the data set is empty: expected at least one picture")
        self.data, self.channels, self.sizing = data, channels, _sizing(size, resize)
        self.image, self.label = image, label
        array, first_label = self._read(0)
        self.shape = (channels, *array.shape[:2])
        self.classes = () if first_label is None else _class_names(data, label or "label")

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        array, label = self._read(index)
        if array.shape[:2] != self.shape[1:]:
            raise ValueError(
                f"picture {index} has size {array.shape[0]}x{array.shape[1]} where the first has "
                f"{self.shape[1]}x{self.shape[2]}; give size= and resize='crop' or 'squash'"
            )
        if label is not None and self.classes and not 0 <= label < len(self.classes):
            raise ValueError(f"label {label} of picture {index} is out of range: expected 0 to {len(self.classes) - 1}")
        return _item(array, label)

    def _read(self, index: int) -> tuple[np.ndarray, int | None]:
        item = self.data[index]
        picture, label = self._split(item, index)
        try:
            array = self._array(picture)
        except (ValueError, TypeError) as error:
            raise type(error)(f"picture {index}: {error}") from error
        return (fit(array, *self.sizing) if self.sizing else array), None if label is None else int(label)

    def _split(self, item: Any, index: int) -> tuple[Any, Any]:
        if isinstance(item, Mapping):
            name = self.image or next((key for key in ("image", "img") if key in item), "image")
            if name not in item:
                raise ValueError(f"item {index} has {', '.join(map(str, item))} but no {name!r}; give image=NAME")
            key = self.label or next((key for key in ("label", "labels") if key in item), "")
            if self.label and key not in item:
                raise ValueError(f"item {index} has {', '.join(map(str, item))} but no {key!r}; give label=NAME")
            return item[name], item.get(key)
        if isinstance(item, tuple | list):
            return item[0], item[1] if len(item) > 1 else None
        return item, None

    def _array(self, picture: Any) -> np.ndarray:
        if is_picture(picture):
            return array_from_picture(picture, self.channels)
        if not isinstance(picture, Tensor | np.ndarray):
            raise TypeError(f"expected a PIL picture, an array or a tensor, got {type(picture).__name__}")
        array = np.asarray(picture)
        if array.ndim == 2:
            array = array[..., None]
        elif array.ndim == 3 and isinstance(picture, Tensor):
            array = np.moveaxis(array, 0, 2)
        if array.ndim != 3 or array.shape[2] != self.channels:
            raise ValueError(
                f"shape {tuple(picture.shape)} has not the {self.channels} channels asked for; give channels="
            )
        return np.moveaxis(channels_first(array[None], "NHWC")[0], 0, 2)


def _class_names(data: Any, label: str) -> tuple[str, ...]:
    """Names as torchvision (``.classes``) or Hugging Face (``.features[label].names``) give them."""
    names = getattr(data, "classes", None)
    if names is None:
        features = getattr(data, "features", None) or {}
        names = getattr(features.get(label) if isinstance(features, Mapping) else None, "names", None)
    return tuple(map(str, names)) if names else ()


def materialize(data: PictureSet, limit: int | None = None) -> ArrayPictures:
    """The first ``limit`` pictures of a data set (all, when None) in memory."""
    if isinstance(data, ArrayPictures):
        return data if limit is None or limit >= len(data) else data.subset(np.arange(limit))
    count = len(data) if limit is None else min(limit, len(data))
    items = [data[i] for i in range(count)]
    images = torch.stack([item["image"] for item in items])
    labels = torch.stack([item["label"] for item in items]) if "label" in items[0] else None
    return ArrayPictures(images, labels, layout="NCHW", classes=cast(Any, data.classes or None))
