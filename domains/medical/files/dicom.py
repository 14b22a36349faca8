"""DICOM series: read to values in their units with their place in the patient, written with everything else kept.

Values are ``slope * stored + intercept`` (PS3.3, C.11.1), places are those of the image plane module (C.7.6.2), from
LPS to RAS.  Compressed pixels are decoded by the plugins that pydicom finds.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.medical.files.volume import Volume

__all__ = ["read_dicom", "write_dicom"]

NEEDED = {"Modality": 0, "PixelSpacing": 2, "ImageOrientationPatient": 6, "ImagePositionPatient": 3}
"""Tags of a slice, with how many numbers they hold; none for words."""
SAME = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "Modality", "PhotometricInterpretation")
RESCALING = {"RescaleSlope": 1.0, "RescaleIntercept": 0.0}
"""Tags, and what holds where a series that is not CT has none."""
GREY = ("MONOCHROME1", "MONOCHROME2")


def read_dicom(source: str | Path | Sequence[str | Path], series: int | None = None, pattern: str = "*") -> Volume:
    """One series of slices, sorted along their normal.

    Values are in the file's units (``"HU"`` of CT); ``MONOCHROME1`` says how they are shown and changes none of them.

    Args:
        source: a folder, a file or files.
        series: its number, where there are several.
        pattern: of the names of files in a folder.

    Raises:
        FileNotFoundError: no such place, or no files in it.
        ValueError: files that are no DICOM or of an unknown transfer syntax, several series, slices that differ in
            shape, spacing or direction, that are missing, moved aside or there twice, colour, several frames, tags that
            a slice needs and has not as it should, or units that are not Hounsfield's in CT.
        ImportError: pixels compressed in a way for which no plugin is installed.
    """
    paths = _paths(source, pattern)
    slices = _one_series([(path, _read(path)) for path in paths], series)
    for path, data in slices:
        _check_picture(path, data)
    first = slices[0][1]
    for path, data in slices[1:]:
        for tag in SAME:
            if not _equal(first.get(tag), data.get(tag)):
                raise ValueError(f"{path.name}: its {tag} differs from that of {slices[0][0].name}, in one series")
    slices, affine = _in_order(slices)
    stored = [_pixels(path, data) for path, data in slices]
    values = [_to_units(path, data, pixels) for (path, data), pixels in zip(slices, stored)]
    known = torch.from_numpy(np.stack([_known(data, pixels) for (_, data), pixels in zip(slices, stored)]))
    return Volume(
        torch.from_numpy(np.stack(values).astype(np.float32)),
        affine,
        "HU" if first.Modality == "CT" else str(first.get("RescaleType", "")),
        str(first.Modality),
        None if bool(known.all()) else known,
        tuple(data for _, data in slices),
    )


def write_dicom(
    volume: Volume, folder: str | Path, description: str, slope: float | None = None, clip: bool = False
) -> list[Path]:
    """A new series of derived pictures beside the one that ``volume`` was read from.

    All tags are those of the source but these: new UIDs of the series and its instances, the pixels (not compressed)
    with their smallest and largest value, ``ImageType`` (derived), ``DerivationDescription`` and
    ``SourceImageSequence``, which names the instance that each is derived from.

    Args:
        volume: as `read_dicom` gave it, with other values.
        folder: new or empty.
        description: how the pictures were made.
        slope: units a step of the stored numbers; the source's when not given, which rounds to its steps.
        clip: whether values beyond the stored numbers' range may be cut to it.

    Returns:
        The files, in the order of the slices.

    Raises:
        ValueError: a volume that was not read from DICOM, values out of range, a description of more than the 1024
            characters that its tag holds, or a slope of zero.
        FileExistsError: files in the folder.
    """
    pydicom = need("pydicom", to="write DICOM files", extra="medical")
    if not isinstance(volume.source, tuple) or len(volume.source) != len(volume.values):
        raise ValueError("volume was not read from DICOM: give read_dicom(...).with_values(values), or write NIfTI")
    require(len(description) <= 1024, "characters of description", len(description), "at most 1024")
    if slope is not None:
        require(slope != 0 and np.isfinite(slope), "slope", slope, "a finite number that is not zero")
        # A float that is written in the 16 characters of its tag.
        slope = pydicom.valuerep.DSfloat(slope, auto_format=True)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    if any(place.iterdir()):
        raise FileExistsError(f"{place} is not empty: expected a new folder")
    arrays = [_stored(volume, i, slope, clip) for i in range(len(volume.values))]
    series, paths = pydicom.uid.generate_uid(), []
    for number, (source, array) in enumerate(zip(volume.source, arrays)):
        data = _derived(pydicom, source, description)
        data.SeriesInstanceUID = series
        if slope is not None:
            data.RescaleSlope = slope
            data.RescaleIntercept = data.get("RescaleIntercept", 0)
        _set_pixels(data, array)
        paths.append(place / f"{number:04d}.dcm")
        data.save_as(paths[-1], enforce_file_format=True)
    return paths


def _paths(source: str | Path | Sequence[str | Path], pattern: str) -> list[Path]:
    if not isinstance(source, str | Path):
        paths = [Path(path) for path in source]
    elif Path(source).is_dir():
        paths = sorted(path for path in Path(source).glob(pattern) if path.is_file() and path.name != "DICOMDIR")
    else:
        paths = [Path(source)]
    if not paths:
        raise FileNotFoundError(f"no files {pattern} in {source}: expected a series of DICOM files")
    return paths


def _read(path: Path) -> Any:
    pydicom = need("pydicom", to="read DICOM files", extra="medical")
    try:
        data = pydicom.dcmread(path)
    except pydicom.errors.InvalidDicomError:
        raise ValueError(f"{path.name} is not a DICOM file: leave it out, or give pattern=") from None
    except (EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path.name} ends before its data do: copy it again") from None
    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax is None or syntax.is_private or not syntax.is_transfer_syntax:
        raise ValueError(f"{path.name} has the transfer syntax {syntax}, which is unknown: export it uncompressed")
    return data


def _one_series(files: list[tuple[Path, Any]], series: int | None) -> list[tuple[Path, Any]]:
    numbers: dict[str, Any] = {}
    for _, data in files:
        numbers.setdefault(str(data.get("SeriesInstanceUID")), data.get("SeriesNumber"))
    if series is not None:
        files = [item for item in files if item[1].get("SeriesNumber") == series]
        numbers = {uid: number for uid, number in numbers.items() if number == series}
        if not files:
            raise ValueError(f"series={series}: no file has this number")
    if len(numbers) > 1:
        listed = ", ".join(str(number) for number in numbers.values())
        raise ValueError(f"{len(files)} files of {len(numbers)} series (numbers {listed}): give series= or files")
    return files


def _check_picture(path: Path, data: Any) -> None:
    if "PixelData" not in data:
        raise ValueError(f"{path.name} holds no picture ({data.get('Modality', 'no modality')}): leave it out")
    if data.get("PhotometricInterpretation") not in GREY:
        raise ValueError(f"{path.name} is {data.get('PhotometricInterpretation')}: expected grey, {' or '.join(GREY)}")
    if int(data.get("NumberOfFrames") or 1) > 1:
        raise ValueError(f"{path.name} holds {data.NumberOfFrames} frames: expected one slice a file; split it first")
    if "ModalityLUTSequence" in data:
        raise ValueError(f"{path.name} has a modality table instead of a slope: export it with RescaleSlope")
    for tag, count in NEEDED.items():
        if data.get(tag) is None:
            raise ValueError(f"{path.name} has no {tag}: what it shows, and where in the patient, is unknown")
        if count and len(_numbers(path, data, tag)) != count:
            raise ValueError(f"{path.name}: its {tag} has {len(_numbers(path, data, tag))} numbers, expected {count}")
    if data.Modality == "CT":
        if data.get("RescaleSlope") is None or data.get("RescaleIntercept") is None:
            raise ValueError(f"{path.name} is CT without RescaleSlope and RescaleIntercept: not in Hounsfield units")
        if str(data.get("RescaleType", "HU")) != "HU":
            raise ValueError(f"{path.name} is CT in units of {data.RescaleType}: expected HU")


def _numbers(path: Path, data: Any, tag: str) -> np.ndarray:
    try:
        return np.asarray(data.get(tag), float).reshape(-1)
    except (TypeError, ValueError):
        raise ValueError(f"{path.name}: its {tag} is {data.get(tag)!r}, expected numbers") from None


def _equal(a: Any, b: Any) -> bool:
    if a is None or b is None or isinstance(a, str | int):
        return bool(a == b)
    return bool(np.allclose(np.asarray(a, float), np.asarray(b, float), rtol=0, atol=1e-4))


def _in_order(slices: list[tuple[Path, Any]]) -> tuple[list[tuple[Path, Any]], np.ndarray]:
    """Sorted along the normal, and the affine to RAS."""
    first = slices[0][1]
    across, down = np.asarray(first.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(across, down)
    if abs(np.linalg.norm(normal) - 1) > 1e-3:
        raise ValueError(f"{slices[0][0].name}: its ImageOrientationPatient is not two unit vectors at a right angle")
    places = [float(np.asarray(data.ImagePositionPatient, float) @ normal) for _, data in slices]
    order = np.argsort(places, kind="stable")
    slices, places = [slices[i] for i in order], [places[i] for i in order]
    step = _step(slices, np.diff(places))
    spacing = np.asarray(first.PixelSpacing, float)
    if not (spacing > 0).all():
        raise ValueError(f"{slices[0][0].name}: its PixelSpacing is {spacing.tolist()}, expected positive millimetres")
    origin = np.asarray(slices[0][1].ImagePositionPatient, float)
    if len(slices) > 1:
        # A gantry tilt moves slices sideways as well.
        along = (np.asarray(slices[-1][1].ImagePositionPatient, float) - origin) / (len(slices) - 1)
        _check_line(slices, along, normal, float(spacing.min()))
    else:
        along = step * normal
    affine = np.eye(4)
    affine[:3] = np.stack([along, down * spacing[0], across * spacing[1], origin], 1)
    return slices, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _check_line(slices: list[tuple[Path, Any]], along: np.ndarray, normal: np.ndarray, pixel: float) -> None:
    """No slice lies beside the line of the others, seen along the normal, by more than a tenth of a pixel."""
    positions = np.stack([np.asarray(data.ImagePositionPatient, float) for _, data in slices])
    off = positions - np.arange(len(slices))[:, None] * along
    off -= np.median(off, axis=0)
    aside = np.linalg.norm(off - (off @ normal)[:, None] * normal, axis=1)
    if aside.max() > 0.1 * pixel:
        name = slices[int(aside.argmax())][0].name
        raise ValueError(f"{name} lies {aside.max():.4g} mm beside the line of the others: of another scan, or moved")


def _step(slices: list[tuple[Path, Any]], gaps: np.ndarray) -> float:
    if not len(gaps):
        data = slices[0][1]
        return float(data.get("SpacingBetweenSlices") or data.get("SliceThickness") or 1.0)
    middle = float(np.median(gaps))
    for i, gap in enumerate(gaps):
        names = f"{slices[i][0].name} and {slices[i + 1][0].name}"
        if gap < 1e-3:
            raise ValueError(f"{names} lie at the same place: expected each slice once")
        if abs(gap - middle) > max(0.01 * middle, 0.01):
            raise ValueError(
                f"{names} are {gap:.4g} mm apart and others {middle:.4g} mm: slices are missing, or of several scans"
            )
    return middle


def _pixels(path: Path, data: Any) -> np.ndarray:
    syntax = data.file_meta.TransferSyntaxUID
    try:
        return np.asarray(data.pixel_array)
    except (RuntimeError, NotImplementedError) as error:
        if syntax.is_compressed:
            raise ImportError(
                f"{path.name} is compressed as {syntax.name}, which no installed plugin decodes: pip install pylibjpeg "
                "pylibjpeg-libjpeg pylibjpeg-openjpeg"
            ) from error
        raise ValueError(f"{path.name}: its pixels cannot be read: {error}") from None
    except (ValueError, AttributeError, EOFError) as error:
        raise ValueError(f"{path.name}: its pixels are damaged or cut short: {error}") from None


def _to_units(path: Path, data: Any, pixels: np.ndarray) -> np.ndarray:
    rescaled = (float(_numbers(path, data, tag)[0]) if tag in data else other for tag, other in RESCALING.items())
    slope, intercept = rescaled
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise ValueError(f"{path.name}: its RescaleSlope is {slope}, expected a finite number that is not zero")
    return slope * pixels + intercept


def _known(data: Any, pixels: np.ndarray) -> np.ndarray:
    value, limit = data.get("PixelPaddingValue"), data.get("PixelPaddingRangeLimit")
    if value is None:
        return np.ones(pixels.shape, bool)
    low, high = sorted((int(value), int(value if limit is None else limit)))
    return (pixels < low) | (pixels > high)


def _range(data: Any) -> tuple[int, int]:
    bits = int(data.BitsStored)
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if int(data.PixelRepresentation) else (0, (1 << bits) - 1)


def _stored(volume: Volume, i: int, slope: float | None, clip: bool) -> np.ndarray:
    data = volume.source[i]
    step = float(data.get("RescaleSlope", 1)) if slope is None else slope
    numbers = np.rint((volume.values[i].double().numpy() - float(data.get("RescaleIntercept", 0))) / step)
    known = np.ones(numbers.shape, bool) if volume.known is None else volume.known[i].numpy()
    low, high = _range(data)
    outside = ((numbers < low) | (numbers > high)) & known
    if outside.any() and not clip:
        raise ValueError(
            f"slice {i} has {int(outside.sum())} values that need numbers beyond {low} to {high}, which its "
            f"{data.BitsStored} bits hold: give a larger slope=, or clip=True to cut them"
        )
    numbers = np.clip(numbers, low, high)
    if not known.all():
        numbers[~known] = int(data.PixelPaddingValue)
    return numbers.astype(f"{'i' if low < 0 else 'u'}{int(data.BitsAllocated) // 8}")


def _derived(pydicom: Any, source: Any, description: str) -> Any:
    data = _little_endian(pydicom, source)
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    data.SourceImageSequence = [item]
    data.DerivationDescription = description
    data.ImageType = ["DERIVED", *list(data.get("ImageType", ["", "SECONDARY"]))[1:]]
    data.SOPInstanceUID = pydicom.uid.generate_uid()
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return data


def _little_endian(pydicom: Any, source: Any) -> Any:
    """A copy; words of two bytes, which pydicom keeps as they were in the file, are swapped where they need to be."""
    data = pydicom.Dataset()
    data.update({element.tag: element for element in copy.deepcopy(source)})
    data.file_meta, data.preamble = copy.deepcopy(source.file_meta), source.preamble
    if source.original_encoding[1] is False:
        for element in data.iterall():
            if element.VR == "OW" and element.keyword != "PixelData":
                element.value = np.frombuffer(element.value, ">u2").astype("<u2").tobytes()
    return data


def _set_pixels(data: Any, array: np.ndarray) -> None:
    for name, value in (("SmallestImagePixelValue", array.min()), ("LargestImagePixelValue", array.max())):
        if name in data:
            setattr(data, name, int(value))
    data.PixelData = array.astype(array.dtype.newbyteorder("<")).tobytes() + b"\0" * (array.nbytes % 2)
    data["PixelData"].VR = "OW" if array.dtype.itemsize > 1 else "OB"
    data["PixelData"].is_undefined_length = False
