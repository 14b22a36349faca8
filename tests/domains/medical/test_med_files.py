"""Files: what is read and written again is the same, and every bad file is refused by name."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")
h5py = pytest.importorskip("h5py")

from ornstein.domains.medical.files import (  # noqa: E402
    KSpace,
    Volume,
    read_dicom,
    read_fastmri,
    read_ismrmrd,
    read_nifti,
    read_numpy,
    write_dicom,
    write_nifti,
)
from ornstein.domains.medical.physics.coils import birdcage_maps  # noqa: E402
from ornstein.domains.medical.physics.fourier import centred_fft  # noqa: E402
from ornstein.domains.medical.physics.masks import random_mask  # noqa: E402
from ornstein.domains.medical.physics.phantoms import shepp_logan  # noqa: E402


def dicom_file(name: str) -> Path:
    found = pydicom.data.get_testdata_file(name, download=False)
    if found is None:
        pytest.skip(f"this pydicom does not bring {name}")
    return Path(found)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """Five slices, 2 mm apart along a tilted normal, whose names are in no order."""
    source = pydicom.dcmread(dicom_file("CT_small.dcm"))
    pixels, folder = source.pixel_array, tmp_path / "series"
    folder.mkdir()
    across, down = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.8, 0.6])
    for i, name in enumerate("dbaec"):
        data = copy.deepcopy(source)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        data.ImageOrientationPatient = [*across, *down]
        data.ImagePositionPatient = list(np.array([-40.0, 10.0, 5.0]) + 2.0 * i * np.cross(across, down))
        data.InstanceNumber = 9 - i
        data.PixelSpacing = [0.5, 0.75]
        data.PixelData = (pixels + i).astype(np.int16).tobytes()
        data.save_as(folder / f"{name}.dcm")
    return folder


def change(folder: Path, name: str, edit: Callable[[Any], None]) -> None:
    data = pydicom.dcmread(folder / f"{name}.dcm")
    edit(data)
    data.save_as(folder / f"{name}.dcm")


def test_dicom_is_read_in_its_units_and_place(series: Path) -> None:
    volume = read_dicom(series)
    source = pydicom.dcmread(series / "d.dcm")
    expected = source.RescaleSlope * source.pixel_array + source.RescaleIntercept
    np.testing.assert_allclose(volume.values[0], expected)
    np.testing.assert_allclose(volume.values[3] - volume.values[0], 3.0)
    assert volume.units == "HU"
    assert volume.spacing == pytest.approx((2.0, 0.5, 0.75))
    # Slice 4, row 2, column 3 by the standard's formula, with x and y turned from LPS to RAS.
    last = pydicom.dcmread(series / "c.dcm")
    place = np.array(last.ImagePositionPatient) + 2 * 0.5 * np.array([0, 0.8, 0.6]) + 3 * 0.75 * np.array([1.0, 0, 0])
    np.testing.assert_allclose(volume.affine @ [4, 2, 3, 1], [-place[0], -place[1], place[2], 1], atol=1e-9)


def test_nothing_that_names_a_patient_is_printed(series: Path) -> None:
    volume = read_dicom(series)
    data = volume.source[0]
    shown = repr(volume) + str(volume)
    for tag in ("PatientName", "PatientID", "StudyDate", "InstitutionName"):
        assert str(data.get(tag, "no such tag")) not in shown
    change(series, "a", lambda data: setattr(data, "Rows", 64))
    with pytest.raises(ValueError, match="Rows") as caught:
        read_dicom(series)
    assert str(data.PatientName) not in str(caught.value)
    assert str(data.PatientID) not in str(caught.value)


def test_dicom_round_trip(series: Path, tmp_path: Path) -> None:
    volume = read_dicom(series)
    changed = volume.with_values(volume.values + 7)
    written = write_dicom(changed, tmp_path / "out", "seven more")
    again = read_dicom(tmp_path / "out")
    torch.testing.assert_close(again.values, changed.values)
    np.testing.assert_allclose(again.affine, volume.affine)
    assert again.units == "HU"
    renewed = {
        "SOPInstanceUID", "SeriesInstanceUID", "PixelData", "ImageType", "DerivationDescription", "SourceImageSequence",
        "SmallestImagePixelValue", "LargestImagePixelValue",
    }  # fmt: skip
    uids = set()
    for before, path in zip(volume.source, written):
        after = pydicom.dcmread(path)
        for element in before:
            if element.keyword not in renewed:
                assert after[element.tag] == element
        assert {element.keyword for element in after} - {element.keyword for element in before} <= renewed
        assert after.SOPInstanceUID != before.SOPInstanceUID == after.SourceImageSequence[0].ReferencedSOPInstanceUID
        assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
        assert after.StudyInstanceUID == before.StudyInstanceUID
        uids.add((after.SeriesInstanceUID, after.SOPInstanceUID))
    assert len({uid for uid, _ in uids}) == 1
    assert len({uid for _, uid in uids}) == 5
    with pytest.raises(FileExistsError):
        write_dicom(changed, tmp_path / "out", "once more")


@pytest.mark.parametrize("kind", ["", "_RLE", "_bigendian", "_implicit", "_jp2klossless", "_jpeg_ls_lossless"])
def test_syntaxes_give_the_same_picture(kind: str, tmp_path: Path) -> None:
    path = dicom_file(f"MR_small{kind}.dcm")
    if "_j" in kind and not pydicom.pixels.get_decoder(pydicom.dcmread(path).file_meta.TransferSyntaxUID).is_available:
        with pytest.raises(ImportError, match="pip install pylibjpeg"):
            read_dicom(path)
        return
    plain, volume = read_dicom(dicom_file("MR_small.dcm")), read_dicom(path)
    torch.testing.assert_close(volume.values, plain.values)
    written = write_dicom(volume, tmp_path / "out", "copied")
    torch.testing.assert_close(read_dicom(written[0]).values, plain.values)
    for element in volume.source[0]:
        if element.VR in ("SH", "LO", "DS", "IS", "US", "SS", "PN", "UI") and element.keyword.startswith("Patient"):
            assert pydicom.dcmread(written[0])[element.tag] == element


def test_values_beyond_the_stored_numbers(series: Path, tmp_path: Path) -> None:
    volume = read_dicom(series)
    wide = volume.with_values(volume.values * 100)
    with pytest.raises(ValueError, match="clip=True"):
        write_dicom(wide, tmp_path / "out", "wide")
    finer = read_dicom(write_dicom(wide, tmp_path / "coarse", "coarse", slope=10.0)[0].parent)
    assert float((finer.values - wide.values).abs().max()) <= 5
    cut = read_dicom(write_dicom(wide, tmp_path / "cut", "cut", clip=True)[0].parent)
    assert float(cut.values.max()) < float(wide.values.max())


def test_padding_is_no_picture(series: Path, tmp_path: Path) -> None:
    def pad(data: Any) -> None:
        pixels = data.pixel_array.copy()
        pixels[:5] = -2000
        data.PixelPaddingValue, data.PixelData = -2000, pixels.tobytes()

    change(series, "a", pad)
    volume = read_dicom(series)
    assert volume.known is not None
    assert int((~volume.known).sum()) == 5 * 128
    out = write_dicom(volume.with_values(volume.values.clamp(min=-1000)), tmp_path / "out", "clamped")
    np.testing.assert_array_equal(pydicom.dcmread(out[2]).pixel_array[:5], -2000)


def test_a_range_of_numbers_may_be_padding(series: Path) -> None:
    def pad(data: Any) -> None:
        pixels = data.pixel_array.copy()
        pixels[:2], pixels[2:5], pixels[5:7] = -2000, -1700, -1499
        data.PixelPaddingValue, data.PixelData = -2000, pixels.tobytes()
        data.add_new("PixelPaddingRangeLimit", "SS", -1500)

    change(series, "a", pad)
    known = read_dicom(series).known
    assert known is not None
    np.testing.assert_array_equal(known[2].float().mean(1)[:7], [0, 0, 0, 0, 0, 1, 1])


def test_slopes_are_what_their_tag_can_hold(series: Path, tmp_path: Path) -> None:
    volume = read_dicom(series)
    with pytest.raises(ValueError, match="slope=0"):
        write_dicom(volume, tmp_path / "out", "flat", slope=0.0)
    with pytest.raises(ValueError, match="at most 1024"):
        write_dicom(volume, tmp_path / "out", "long" * 300)
    paths = write_dicom(volume, tmp_path / "out", "finer", slope=1 / 3)
    assert len(str(pydicom.dcmread(paths[0]).RescaleSlope)) <= 16
    torch.testing.assert_close(read_dicom(tmp_path / "out").values, volume.values, rtol=0, atol=1e-3)


def remove(tag: str) -> Callable[[Any], None]:
    return lambda data: delattr(data, tag)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data: setattr(data, "SeriesInstanceUID", "1.2.3"), "2 series"),
        (lambda data: setattr(data, "PixelSpacing", [0.5, 0.8]), "PixelSpacing differs"),
        (lambda data: setattr(data, "ImageOrientationPatient", [1, 0, 0, 0, 1, 0]), "Orientation.* differs"),
        (lambda data: setattr(data, "ImagePositionPatient", [-40.0, 10.0 - 0.6 * 9, 5.0 + 0.8 * 9]), "missing"),
        (lambda data: setattr(data, "ImagePositionPatient", [-40.0, 10.0, 5.0]), "same place"),
        (remove("ImagePositionPatient"), "no ImagePositionPatient"),
        (remove("RescaleSlope"), "not in Hounsfield"),
        (lambda data: setattr(data, "RescaleType", "US"), "expected HU"),
        (lambda data: setattr(data, "RescaleSlope", 0), "RescaleSlope is 0"),
        (lambda data: setattr(data, "NumberOfFrames", 3), "3 frames"),
        (lambda data: setattr(data, "PixelData", data.PixelData[:-100]), "damaged or cut short"),
        (remove("PixelData"), "no picture"),
        (remove("Modality"), "no Modality"),
        (lambda data: setattr(data, "ImagePositionPatient", [-40.0, 10.0]), "2 numbers, expected 3"),
        (lambda data: setattr(data, "ImageOrientationPatient", [1, 0, 0, 0, 1]), "5 numbers, expected 6"),
        (lambda data: setattr(data, "ImagePositionPatient", [-37.0, 10.0 - 0.6 * 4, 5.0 + 0.8 * 4]), "3 mm beside"),
        (lambda data: data.add_new("RescaleSlope", "LO", "steep"), "RescaleSlope is 'steep'"),
    ],
)
def test_bad_series(series: Path, edit: Callable[[Any], None], message: str) -> None:
    change(series, "a", edit)
    with pytest.raises(ValueError, match=message):
        read_dicom(series)


def test_a_slice_is_missing_or_no_dicom(series: Path) -> None:
    (series / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"notes.txt is not a DICOM file"):
        read_dicom(series)
    assert len(read_dicom(series, pattern="*.dcm").values) == 5
    (series / "notes.txt").unlink()
    (series / "a.dcm").unlink()
    with pytest.raises(ValueError, match="slices are missing"):
        read_dicom(series)
    with pytest.raises(FileNotFoundError):
        read_dicom(series, pattern="*.ima")


def test_one_of_several_series(series: Path) -> None:
    for name in "ab":
        change(series, name, lambda data: data.__setattr__("SeriesInstanceUID", "1.2.3"))
        change(series, name, lambda data: data.__setattr__("SeriesNumber", 77))
    assert len(read_dicom(series, series=77).values) == 2
    with pytest.raises(ValueError, match="no file has this number"):
        read_dicom(series, series=78)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MR_truncated.dcm", "cut short"),
        ("examples_rgb_color.dcm", "RGB"),
        ("examples_palette.dcm", "PALETTE"),
        ("rtplan.dcm", "no picture"),
        ("meta_missing_tsyntax.dcm", "unknown"),
        ("no_meta.dcm", "not a DICOM"),
    ],
)
def test_bad_files_of_pydicom(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_dicom(dicom_file(name))


def test_an_unknown_transfer_syntax(series: Path) -> None:
    content = (series / "a.dcm").read_bytes()
    (series / "a.dcm").write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0"))
    with pytest.raises(ValueError, match=r"transfer syntax 1\.2\.840\.10008\.9\.9\.9"):
        read_dicom(series)


def test_nifti_round_trip(tmp_path: Path) -> None:
    source = Path(nibabel.__file__).parent / "tests" / "data" / "anatomical.nii"
    if not source.exists():
        pytest.skip("this nibabel does not bring its test files")
    original, volume = nibabel.load(source), read_nifti(source)
    data = original.get_fdata()
    assert volume.values.shape == data.shape[::-1]
    assert float(volume.values[5, 7, 9]) == pytest.approx(data[9, 7, 5], rel=1e-6)
    np.testing.assert_allclose(volume.affine @ [5, 7, 9, 1], original.affine @ [9, 7, 5, 1])
    path = write_nifti(volume.with_values(2 * volume.values), tmp_path / "out.nii.gz")
    after = nibabel.load(path)
    np.testing.assert_allclose(after.get_fdata(), 2 * data, rtol=1e-6)
    np.testing.assert_allclose(after.affine, original.affine, atol=1e-5)
    for key in ("descrip", "sform_code", "qform_code", "xyzt_units", "pixdim"):
        np.testing.assert_array_equal(after.header[key], original.header[key])
    with pytest.raises(FileExistsError):
        write_nifti(volume, path)
    with pytest.raises(ValueError, match="ends with"):
        write_nifti(volume, tmp_path / "out.img")


def test_dicom_to_nifti_keeps_the_place(series: Path, tmp_path: Path) -> None:
    volume = read_dicom(series)
    again = read_nifti(write_nifti(volume, tmp_path / "ct.nii"), units="HU", modality="CT")
    torch.testing.assert_close(again.values, volume.values)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-4)
    assert repr(again) == repr(volume)
    with pytest.raises(ValueError, match="not read from DICOM"):
        write_dicom(again, tmp_path / "out", "nothing")


def test_bad_nifti(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), np.float32), np.eye(4))
    image.to_filename(tmp_path / "four.nii")
    with pytest.raises(ValueError, match="index="):
        read_nifti(tmp_path / "four.nii")
    assert read_nifti(tmp_path / "four.nii", index=1).values.shape == (6, 5, 4)
    content = (tmp_path / "four.nii").read_bytes()
    (tmp_path / "cut.nii").write_bytes(content[:-50])
    (tmp_path / "text.nii").write_text("no picture")
    for name in ("cut.nii", "text.nii"):
        with pytest.raises(ValueError, match="incomplete"):
            read_nifti(tmp_path / name)
    nibabel.Nifti1Image(np.full((2, 2, 2), np.nan, np.float32), np.eye(4)).to_filename(tmp_path / "nan.nii")
    with pytest.raises(ValueError, match="NaN"):
        read_nifti(tmp_path / "nan.nii")
    nibabel.Nifti1Image(np.zeros((2, 2, 2), np.complex64), np.eye(4)).to_filename(tmp_path / "complex.nii")
    with pytest.raises(ValueError, match="real numbers"):
        read_nifti(tmp_path / "complex.nii")
    for index in (2, -1):
        with pytest.raises(ValueError, match="expected 0 to 1"):
            read_nifti(tmp_path / "four.nii", index=index)


def test_a_damaged_nifti_is_refused_wherever_the_damage_is(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((8, 9, 10), np.float32)
    nibabel.Nifti1Image(noise, np.eye(4)).to_filename(tmp_path / "whole.nii.gz")
    whole = (tmp_path / "whole.nii.gz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for content in (whole[:-4], whole[: len(whole) // 2], bytes(flipped)):
        (tmp_path / "bad.nii.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.nii\.gz is no NIfTI or is incomplete"):
            read_nifti(tmp_path / "bad.nii.gz")


HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>16</x><y>12</y><z>1</z></matrixSize>
<fieldOfView_mm><x>320.0</x><y>240.0</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>8</x><y>12</y><z>1</z></matrixSize>
<fieldOfView_mm><x>160.0</x><y>240.0</y><z>5</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>11</maximum><center>5</center>
</kspace_encoding_step_1></encodingLimits><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""


def kspace(rows: int = 16, columns: int = 12, slices: int = 2) -> torch.Tensor:
    picture = shepp_logan().image((rows, columns))[0, 0].to(torch.complex64)
    stack = torch.stack([(1 + i) * picture for i in range(slices)])
    return centred_fft(stack[:, None] * birdcage_maps(3, (rows, columns)))


def test_fastmri(tmp_path: Path) -> None:
    mask, values = random_mask(12, 2.0, 0.2), kspace()
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["kspace"], file["mask"] = (values * mask).numpy(), mask.numpy().astype(np.float32)
        file["reconstruction_rss"], file["ismrmrd_header"] = np.ones((2, 8, 12), np.float32), HEADER
        file.attrs["patient_id"] = "secret"
    scan = read_fastmri(tmp_path / "scan.h5")
    torch.testing.assert_close(scan.values, values * mask)
    assert bool((scan.mask == mask).all())
    assert (scan.matrix, scan.field_of_view) == ((8, 12), (160.0, 240.0))
    assert scan.reference is not None
    assert "secret" not in repr(scan)
    torch.testing.assert_close(read_fastmri(tmp_path / "scan.h5", slices=[1]).values, (values * mask)[1:])
    content = (tmp_path / "scan.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut.h5 is no HDF5 or is cut short"):
        read_fastmri(tmp_path / "cut.h5")
    with h5py.File(tmp_path / "single.h5", "w") as file:
        file["kspace"] = values[:, 0].numpy()
    assert read_fastmri(tmp_path / "single.h5").values.shape == (2, 1, 16, 12)
    with h5py.File(tmp_path / "parity.h5", "w") as file:
        file["kspace"], file["mask"] = values.numpy(), np.ones(13)
    with pytest.raises(ValueError, match="a mask of 13 columns for k-space of 12"):
        read_fastmri(tmp_path / "parity.h5")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["image"] = np.ones(3)
    with pytest.raises(ValueError, match="no 'kspace'"):
        read_fastmri(tmp_path / "empty.h5")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ({"kspace": np.ones(())}, {}, "shape \\(\\)"),
        ({"kspace/inside": np.ones(3)}, {}, "is a group"),
        ({"kspace": kspace().numpy()}, {"slices": []}, "at least one"),
        ({"kspace": kspace().numpy()}, {"slices": [5]}, "cannot be read"),
        ({"kspace": kspace().numpy(), "mask": np.zeros(12)}, {}, "False everywhere"),
        (
            {"kspace": kspace().numpy(), "ismrmrd_header": "<other/>"},
            {},
            r"bad\.h5: its XML header has no encodedSpace",
        ),
        ({"kspace": kspace().numpy(), "reconstruction_rss": np.ones((2, 32, 32))}, {}, "matrix of 32 rows"),
    ],
)
def test_bad_fastmri(content: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        for name, value in content.items():
            file[name] = value
    with pytest.raises(ValueError, match=message):
        read_fastmri(tmp_path / "bad.h5", **options)


def test_kspace_with_another_origin_or_a_dead_coil() -> None:
    values, mask = kspace(), torch.ones(16, 12, dtype=torch.bool)
    assert repr(KSpace(values, mask, (16, 12))) == "KSpace((2, 3, 16, 12), picture (16, 12), 1x)"
    with pytest.raises(ValueError, match="fftshift"):
        KSpace(torch.fft.ifftshift(values, (-2, -1)), mask, (16, 12))
    dead = values.clone()
    dead[:, 1] = 0
    with pytest.raises(ValueError, match="coil 1 measured nothing"):
        KSpace(dead, mask, (16, 12))
    with pytest.raises(ValueError, match="NaN"):
        KSpace(values * float("nan"), mask, (16, 12))
    with pytest.raises(ValueError, match="matrix of 17 rows"):
        KSpace(values, mask, (17, 12))


def acquisitions(values: torch.Tensor, **change: Any) -> np.ndarray:
    """Lines of k-space as ISMRMRD writes them, the one that its header calls the centre first in the middle."""
    counters = ("kspace_encode_step_1", "kspace_encode_step_2", "slice", "contrast", "phase", "repetition", "set")
    head = np.dtype(
        [
            ("flags", "<u8"), ("number_of_samples", "<u2"), ("active_channels", "<u2"), ("discard_pre", "<u2"),
            ("discard_post", "<u2"), ("center_sample", "<u2"), ("idx", np.dtype([(name, "<u2") for name in counters])),
        ]
    )  # fmt: skip
    kind = np.dtype([("head", head), ("data", h5py.vlen_dtype(np.dtype("<f4")))])
    rows = []
    for s in range(len(values)):
        for column in range(1, values.shape[3]):
            line = values[s, :, :, column].numpy().copy()
            index = (column - 1, 0, s, change.get("contrast", 0) * column, 0, 0, 0)
            flags = 1 << 21 if column == 2 else 0
            line = line[:, ::-1].copy() if column == 2 else line
            rows.append(
                ((flags, line.shape[1], len(line), 0, 0, line.shape[1] // 2, index), line.view(np.float32).ravel())
            )
    noise = np.ones((values.shape[1], 40), np.complex64)
    rows.append(((1 << 18, 40, len(noise), 0, 0, 20, (0,) * 7), noise.view(np.float32).ravel()))
    table = np.empty(len(rows), kind)
    for i, row in enumerate(rows):
        table[i] = row
    return table


def test_ismrmrd(tmp_path: Path) -> None:
    values = kspace()
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["dataset/xml"], file["dataset/data"] = HEADER, acquisitions(values)
    scan = read_ismrmrd(path)
    values[..., 0] = 0
    torch.testing.assert_close(scan.values, values)
    assert scan.mask.sum().item() == 16 * 11
    assert scan.matrix == (8, 12)
    assert scan.noise is not None
    assert scan.noise.shape == (3, 40)
    with h5py.File(tmp_path / "contrasts.h5", "w") as file:
        file["dataset/xml"], file["dataset/data"] = HEADER, acquisitions(values, contrast=1)
    with pytest.raises(ValueError, match="values of contrast"):
        read_ismrmrd(tmp_path / "contrasts.h5")
    for name, header, message in (
        ("radial", HEADER.replace("cartesian", "radial"), "trajectory 'radial'"),
        ("volume", HEADER.replace("<z>1</z>", "<z>32</z>"), "three encoded axes"),
        ("small", HEADER.replace("<y>12</y>", "<y>6</y>"), "does not fit"),
        ("entities", HEADER.replace("<ismrmrdHeader", "<!DOCTYPE x><ismrmrdHeader"), "entities"),
        ("bare", "<ismrmrdHeader/>", "no trajectory"),
    ):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["dataset/xml"], file["dataset/data"] = header, acquisitions(values)
        with pytest.raises(ValueError, match=message):
            read_ismrmrd(tmp_path / f"{name}.h5")
    with pytest.raises(ValueError, match="no group"):
        read_ismrmrd(path, group="other")


def test_numpy(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "one.npy", array.astype(">f4"))
    torch.testing.assert_close(read_numpy(tmp_path / "one.npy"), torch.from_numpy(array).float())
    np.savez(tmp_path / "two.npz", a=array, b=1j * array)
    assert read_numpy(tmp_path / "two.npz", "b").is_complex()
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    np.save(tmp_path / "nan.npy", np.array([1.0, np.nan]))
    shutil.copy(tmp_path / "one.npy", tmp_path / "cut.npy")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "one.npy").read_bytes()[:-4])
    for name, message in (("objects", "cannot be read"), ("nan", "NaN"), ("cut", "cannot be read")):
        with pytest.raises(ValueError, match=message):
            read_numpy(tmp_path / f"{name}.npy")
    for key, message in ((None, "give key="), ("c", "got 'c'")):
        with pytest.raises(ValueError, match=message):
            read_numpy(tmp_path / "two.npz", key)


def test_bad_volumes() -> None:
    with pytest.raises(ValueError, match="NaN"):
        Volume(torch.full((1, 2, 2), float("nan")), np.eye(4))
    with pytest.raises(ValueError, match="affine"):
        Volume(torch.zeros(1, 2, 2), np.zeros((4, 4)))
    with pytest.raises(ValueError, match="float32"):
        Volume(torch.zeros(2, 2), np.eye(4))
    with pytest.raises(ValueError, match="values of shape"):
        Volume(torch.zeros(1, 2, 2), np.eye(4)).with_values(torch.zeros(1, 2, 3))
