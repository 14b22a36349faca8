"""Raw k-space of fastMRI's and ISMRMRD's HDF5 files, and arrays of NumPy's."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.medical.files.volume import KSpace

__all__ = ["read_fastmri", "read_ismrmrd", "read_numpy"]

# ISMRMRD's flags, of which number n is bit n - 1: noise without signal, lines read backwards, and what is no part of
# the picture (calibration, navigators, phase corrections, feedback, dummies, references).
NOISE, REVERSED = 1 << 18, 1 << 21
OTHER = sum(1 << (flag - 1) for flag in (20, 23, 24, 26, 27, 28, 29, 30, 31))
COUNTERS = ("kspace_encode_step_2", "contrast", "phase", "repetition", "set")


def read_fastmri(path: str | Path, slices: Sequence[int] | None = None) -> KSpace:
    """A volume of fastMRI: ``kspace``, of one coil or several, with ``mask`` and reconstruction where they are.

    Zbontar et al. 2018 (1811.08839), section 3.  Identifying attributes are not read.

    Args:
        path: the ``.h5`` file.
        slices: which to read; all when not given.

    Raises:
        ValueError: no HDF5, an incomplete one, or one without k-space.
    """
    with _open(path) as file:
        if "kspace" not in file:
            raise ValueError(f"{Path(path).name} has no 'kspace' but {sorted(file)}: expected fastMRI's layout")
        kspace = _dataset(path, file, "kspace")
        chosen = range(kspace.shape[0] if kspace.ndim else 0) if slices is None else slices
        require(len(chosen) > 0, "slices", list(chosen), f"at least one of k-space of shape {kspace.shape}")
        values = _complex(np.stack([_part(path, kspace, i) for i in chosen]), path)
        values = values[:, None] if values.ndim == 3 else values
        names = [name for name in ("reconstruction_rss", "reconstruction_esc") if name in file]
        reference = None
        if names:
            reference = torch.from_numpy(np.stack([_part(path, file[names[0]], i) for i in chosen])).float()
        mask = _mask(path, file, values)
        with _header_of(path):
            encoding = _encoding(_text(file["ismrmrd_header"])) if "ismrmrd_header" in file else None
    matrix = encoding[1] if encoding else tuple(values.shape[2:])
    if reference is not None:
        matrix = tuple(reference.shape[1:])
    return KSpace(values, mask, (matrix[0], matrix[1]), encoding[2] if encoding else None, reference)


def read_ismrmrd(path: str | Path, group: str = "dataset") -> KSpace:
    """A Cartesian scan of ISMRMRD: lines are put in their places, repeated ones averaged, noise scans apart.

    Inati et al. 2017 (Magn. Reson. Med. 77).  Lines along ``kspace_encode_step_1`` are the columns here, samples of a
    line the rows, as in fastMRI.

    Args:
        path: the HDF5 file.
        group: in it.

    Raises:
        ValueError: no HDF5 or an incomplete one, another trajectory, three encoded axes, or lines out of the matrix.
    """
    with _open(path) as file:
        name = Path(path).name
        if group not in file or not {"xml", "data"} <= set(file[group]):
            raise ValueError(f"{name} has no group {group!r} with 'xml' and 'data': expected ISMRMRD's layout")
        with _header_of(path):
            xml = _text(file[group]["xml"])
            trajectory = _tag(xml, "trajectory")
            if trajectory != "cartesian":
                raise ValueError(f"it has the trajectory {trajectory!r}: expected 'cartesian'")
            (rows, columns), matrix, view = _encoding(xml)
            shift = _shift(xml, columns)
        records = _part(path, file[group]["data"], slice(None))
    heads = [record["head"] for record in records]
    kept = [i for i, head in enumerate(heads) if not int(head["flags"]) & (NOISE | OTHER)]
    if not kept:
        raise ValueError(f"{name} has no lines of a picture among {len(heads)} acquisitions")
    for counter in COUNTERS:
        several = {int(heads[i]["idx"][counter]) for i in kept}
        if len(several) > 1:
            raise ValueError(f"{name} has {len(several)} values of {counter}: expected one; split it first")
    count = max(int(heads[i]["idx"]["slice"]) for i in kept) + 1
    coils = int(heads[kept[0]]["active_channels"])
    total, hits = np.zeros((count, coils, rows, columns), np.complex64), np.zeros((count, rows, columns))
    for i in kept:
        _put(name, records[i], total, hits, shift)
    noise = [_line(records[i]) for i, head in enumerate(heads) if int(head["flags"]) & NOISE]
    where = hits > 0
    if not (where == where[:1]).all():
        raise ValueError(f"{name}: its slices are sampled at different places; expected one mask for all")
    values = torch.from_numpy(total / np.maximum(hits, 1)[:, None]).to(torch.complex64)
    silent = torch.from_numpy(np.concatenate(noise, 1)) if noise else None
    return KSpace(values, torch.from_numpy(where[0]), matrix, view, noise=silent)


def read_numpy(path: str | Path, key: str | None = None) -> Tensor:
    """An array of a ``.npy`` file, or of a ``.npz`` file under a key: a sinogram, pictures or k-space.

    Args:
        path: the file; no pickled objects are read.
        key: which array of a ``.npz`` with several.

    Raises:
        ValueError: no array of numbers, an unknown key, or NaN.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                if key is None and len(found.files) != 1:
                    raise ValueError(f"it holds {found.files}: give key=")
                if key is not None and key not in found.files:
                    raise ValueError(f"it holds {found.files}: expected one of them as key, got {key!r}")
                found = found[key or found.files[0]]
    except (ValueError, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{Path(path).name} cannot be read as an array: {error}") from None
    if found.dtype.kind not in "biufc":
        raise ValueError(f"{Path(path).name} holds {found.dtype}: expected numbers")
    if not np.isfinite(found).all():
        raise ValueError(f"{Path(path).name} holds NaN or infinite numbers: mask or fill them")
    return torch.from_numpy(np.ascontiguousarray(found.astype(found.dtype.newbyteorder("="))))


def _open(path: str | Path) -> Any:
    h5py = need("h5py", to="read HDF5 files", extra="medical")
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{Path(path).name} is no HDF5 or is cut short ({error}): copy it again") from None


def _dataset(path: str | Path, file: Any, name: str) -> Any:
    if not hasattr(file[name], "dtype"):
        raise ValueError(f"{Path(path).name}: its {name!r} is a group, expected an array")
    return file[name]


def _part(path: str | Path, data: Any, index: Any) -> Any:
    try:
        return data[index]
    except (OSError, IndexError, ValueError) as error:
        raise ValueError(f"{Path(path).name}: {data.name}[{index}] cannot be read ({error})") from None


@contextmanager
def _header_of(path: str | Path) -> Iterator[None]:
    """Errors of the header name the file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{Path(path).name}: {error}") from None


def _text(data: Any) -> str:
    found = np.asarray(data[()]).reshape(-1)[0]
    text = found.decode("utf-8") if isinstance(found, bytes) else str(found)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("its XML header defines entities, which no scanner's does: refused")
    return text


def _complex(array: np.ndarray, path: str | Path) -> Tensor:
    if array.dtype.kind != "c" or array.ndim not in (3, 4):
        raise ValueError(
            f"{Path(path).name}: kspace of {array.dtype} and shape {array.shape}: expected complex (slices, coils, "
            "rows, columns) or (slices, rows, columns)"
        )
    return torch.from_numpy(array.astype(np.complex64))


def _mask(path: str | Path, file: Any, values: Tensor) -> Tensor:
    rows, columns = values.shape[2:]
    if "mask" in file:
        line = torch.from_numpy(np.asarray(file["mask"][()]).reshape(-1) != 0)
        if len(line) != columns:
            raise ValueError(f"{Path(path).name}: a mask of {len(line)} columns for k-space of {columns}")
    else:
        line = (values != 0).any(0).any(0).any(0)
    return line.expand(rows, columns).clone()


def _tag(xml: str, name: str) -> str:
    """What the first element of this name holds, of any prefix."""
    found = re.search(rf"<(?:\w+:)?{name}(?:\s[^>]*)?>(.*?)</(?:\w+:)?{name}>", xml, re.DOTALL)
    if found is None:
        raise ValueError(f"its XML header has no {name}: expected ISMRMRD's")
    return found.group(1).strip()


def _encoding(xml: str) -> tuple[tuple[int, int], tuple[int, int], tuple[float, float]]:
    """Encoded matrix, matrix and field of view of the picture, rows (``x``, the readout) first."""
    encoded, cut = _tag(xml, "encodedSpace"), _tag(xml, "reconSpace")
    if int(_tag(_tag(encoded, "matrixSize"), "z")) != 1:
        raise ValueError("its k-space has three encoded axes: transform along slices first")
    sizes = [tuple(int(_tag(_tag(space, "matrixSize"), axis)) for axis in "xy") for space in (encoded, cut)]
    view = tuple(float(_tag(_tag(cut, "fieldOfView_mm"), axis)) for axis in "xy")
    return (sizes[0][0], sizes[0][1]), (sizes[1][0], sizes[1][1]), (view[0], view[1])


def _line(record: Any) -> np.ndarray:
    head = record["head"]
    coils, samples = int(head["active_channels"]), int(head["number_of_samples"])
    flat = np.asarray(record["data"], np.float32)
    if flat.size != 2 * coils * samples:
        raise ValueError(f"an acquisition of {flat.size // 2} numbers: expected {coils} coils x {samples} samples")
    return flat.view(np.complex64).reshape(coils, samples)


def _shift(xml: str, columns: int) -> int:
    """What brings the line that the header calls the centre to the middle."""
    if "kspace_encoding_step_1" not in xml:
        return 0
    return columns // 2 - int(_tag(_tag(xml, "kspace_encoding_step_1"), "center"))


def _put(name: str, record: Any, total: np.ndarray, hits: np.ndarray, shift: int) -> None:
    head, line = record["head"], _line(record)
    if int(head["flags"]) & REVERSED:
        line = line[:, ::-1]
    at, slot = int(head["idx"]["kspace_encode_step_1"]) + shift, int(head["idx"]["slice"])
    before, after = int(head["discard_pre"]), int(head["discard_post"])
    # An asymmetric echo has its middle elsewhere than in the middle of its samples.
    first = total.shape[2] // 2 - int(head["center_sample"])
    kept = slice(before, line.shape[1] - after)
    rows = slice(first + before, first + line.shape[1] - after)
    if len(line) != total.shape[1] or not 0 <= at < total.shape[3] or rows.start < 0 or rows.stop > total.shape[2]:
        raise ValueError(
            f"{name}: a line of {len(line)} coils and {line.shape[1]} samples at {at} does not fit the matrix of "
            f"{total.shape[1]} coils, {total.shape[2]} x {total.shape[3]}"
        )
    total[slot, :, rows, at] += line[:, kept]
    hits[slot, rows, at] += 1
