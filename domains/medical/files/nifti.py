"""NIfTI volumes: read with their affine, written with their header."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.medical.files.volume import Volume

__all__ = ["read_nifti", "write_nifti"]

# NIfTI's axes are (column, row, slice) of ours.
AXES = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64)


def read_nifti(path: str | Path, index: int | None = None, units: str = "", modality: str = "") -> Volume:
    """A volume of three axes, the third along slices; values are scaled as the header says.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        index: which volume of a file of four axes.
        units: of the values, which the file does not know: ``"HU"`` for CT.
        modality: likewise.

    Raises:
        ValueError: no NIfTI, an incomplete or damaged file, no such volume, another number of axes, complex or coloured
            values, or NaN.
    """
    nibabel = need("nibabel", to="read NIfTI files", extra="medical")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        image = _load(nibabel, path)
        data = np.asanyarray(image.dataobj)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is no NIfTI or is incomplete: {error}") from None
    if data.dtype.kind not in "iuf":
        raise ValueError(f"{path.name} holds {data.dtype}: expected real numbers")
    if index is not None:
        volumes = data.shape[3] if data.ndim == 4 else 1
        require(0 <= index < volumes, "index", index, f"0 to {volumes - 1}, of the volumes of {path.name}")
    if data.ndim == 4 and (index is not None or data.shape[3] == 1):
        data = data[..., index or 0]
    if data.ndim != 3:
        raise ValueError(f"{path.name} has axes {data.shape}: expected three; give index= for one volume of several")
    values = torch.from_numpy(np.ascontiguousarray(data.transpose(2, 1, 0), dtype=np.float32))
    return Volume(values, image.affine @ AXES, units, modality, source=image.header.copy())


def _load(nibabel: Any, path: Path) -> Any:
    """The image; a compressed file is read to its end, where the checksum is."""
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise ValueError(f"{path.name} is {type(image).__name__}: expected NIfTI, .nii or .nii.gz")
    if path.suffix == ".gz":
        image = type(image).from_bytes(gzip.decompress(path.read_bytes()))
    return image


def write_nifti(volume: Volume, path: str | Path) -> Path:
    """The volume as float32, in its place; the header of the file that it came from is kept.

    Args:
        volume: from any file, or made.
        path: a new ``.nii`` or ``.nii.gz``.

    Raises:
        ValueError: another ending.
        FileExistsError: a file that is there.
    """
    nibabel = need("nibabel", to="write NIfTI files", extra="medical")
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"path={path.name}: expected a name that ends with .nii or .nii.gz")
    if path.exists():
        raise FileExistsError(f"{path} is there already: give another name")
    header: Any = volume.source if isinstance(volume.source, nibabel.Nifti1Header) else None
    make = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    image = make(volume.values.numpy().transpose(2, 1, 0), volume.affine @ AXES, header)
    image.set_data_dtype(np.float32)
    if header is None:
        image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return path
