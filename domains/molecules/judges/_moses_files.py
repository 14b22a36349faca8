"""MOSES' published statistics of its test sets, of the files of its wheel."""

import zipfile
from collections import Counter
from pickle import Unpickler, UnpicklingError
from typing import Any

import numpy as np

from ornstein.core.schedules import require
from ornstein.domains.molecules.moses import MOSESPart, moses_file

SPLITS: dict[str, MOSESPart] = {"Test": "test", "TestSF": "test_scaffolds"}
"""MOSES' names of the two test sets, and of their files."""


def moses_statistics(split: str) -> dict[str, Any]:
    """The published statistics of a split, as nested dicts of arrays, lists and counts.

    Raises:
        ImportError: the wheel is missing.
        ValueError: another name, or a file that holds anything but plain data.
    """
    require(split in SPLITS, "split", split, " or ".join(SPLITS))
    path = moses_file(f"dataset/data/{SPLITS[split]}_stats.npz")
    with zipfile.ZipFile(path) as archive, archive.open("stats.npy") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        try:
            found = _Plain(file).load()
        except UnpicklingError as error:
            raise ValueError(f"{path} holds more than plain data ({error}): reinstall molsets") from error
    return dict(found.item())


class _Plain(Unpickler):
    """Reads arrays, counts and Python's own containers, and refuses to call anything else."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("collections", "Counter"): Counter,
            ("_codecs", "encode"): _bytes_of,
        }
        if (module, name) not in allowed:
            raise UnpicklingError(f"{module}.{name}")
        return allowed[module, name]


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """What an array is filled into."""
    if kind is not np.ndarray:
        raise UnpicklingError(f"an array of kind {kind}")
    return np.ndarray(shape, code.decode("ascii"))


def _bytes_of(text: str, encoding: str) -> bytes:
    """How the second protocol of pickle writes bytes."""
    if encoding != "latin1":
        raise UnpicklingError(f"text in {encoding}")
    return text.encode("latin1")
