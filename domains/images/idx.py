"""The IDX format of MNIST and Fashion-MNIST, plain or gzipped, and folders that hold such files.

An IDX file is a header of two zero bytes, a type code, the number of dimensions and the dimensions as big-endian 32-bit
integers, and then the values in C order.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

__all__ = ["fashion_mnist_folder", "read_idx", "read_idx_split"]

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
NAMES = {"train": "train", "test": "t10k"}
FASHION_PLACES = (Path("/usr/share/datasets/fashion-mnist"), Path("FashionMNIST/raw"), Path("data/FashionMNIST/raw"))


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file, gzipped or not (told by its first bytes), in the machine's byte order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a wrong header, or more or fewer values than the header says.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such IDX file")
    content = Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: the gzip file is damaged ({error}); fetch it again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise ValueError(f"{path}: this is no IDX file (its first bytes are {content[:4].hex() or 'missing'})")
    rank, dtype = content[3], np.dtype(TYPES[content[2]])
    if len(content) < 4 + 4 * rank:
        raise ValueError(f"{path}: the IDX header is cut short; fetch the file again")
    shape = struct.unpack_from(f">{rank}I", content, 4)
    expected = 4 + 4 * rank + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise ValueError(f"{path}: {len(content)} bytes where shape {shape} needs {expected}; fetch the file again")
    values = np.frombuffer(content, dtype, offset=4 + 4 * rank).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


def read_idx_split(folder: str | Path, split: Literal["train", "test"]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures ``(n, height, width)`` and labels ``(n,)`` of one part of an MNIST-like folder.

    Raises:
        FileNotFoundError: the folder lacks ``train-images-idx3-ubyte`` (or ``t10k-...``), plain or with ``.gz``.
        ValueError: pictures and labels do not belong together.
    """
    parts = []
    for name in (f"{NAMES[split]}-images-idx3-ubyte", f"{NAMES[split]}-labels-idx1-ubyte"):
        found = [path for suffix in ("", ".gz") if (path := Path(folder) / (name + suffix)).is_file()]
        if not found:
            raise FileNotFoundError(f"{folder}: holds neither {name} nor {name}.gz")
        parts.append(read_idx(found[0]))
    images, labels = parts
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(f"{folder}: images of shape {images.shape} and labels of shape {labels.shape} do not match")
    return images, labels


def fashion_mnist_folder() -> Path:
    """Where Fashion-MNIST lies: Debian's ``dataset-fashion-mnist``, or torchvision's layout under ``.`` or ``data``.

    Raises:
        FileNotFoundError: in none of these places.
    """
    for place in FASHION_PLACES:
        if place.is_dir():
            return place
    places = ", ".join(map(str, FASHION_PLACES))
    raise FileNotFoundError(
        f"Fashion-MNIST is in none of {places}: apt install dataset-fashion-mnist, or give its folder"
    )
