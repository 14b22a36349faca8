"""Data modules of slices: parts that share no neighbours, scales, batches, and files that are missing or wrong."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ornstein.domains.medical.data import BrainData, EllipseData, HeadCTData, VolumeData, split_slices
from ornstein.domains.medical.files import Volume, write_nifti
from ornstein.domains.medical.physics import shepp_logan


def test_ellipses() -> None:
    data = EllipseData(size=16, count=6, heldout=3, batch_size=4)
    assert data.shape == (1, 16, 16)
    train, heldout = data.parts
    assert (len(train), len(heldout)) == (6, 3)
    torch.testing.assert_close(heldout[:1], shepp_logan().image(16))
    # No picture is in both parts, and another seed has others.
    assert float(torch.cdist(train.flatten(1), heldout.flatten(1)).min()) > 0.1
    other = EllipseData(size=16, count=6, heldout=3, seed=1).parts[0]
    assert float(torch.cdist(train.flatten(1), other.flatten(1)).min()) > 0.1
    batch = next(iter(data.loader(1)))["image"]
    assert batch.shape == (4, 1, 16, 16)
    assert float(torch.cdist(batch.flatten(1), data.scale(train).flatten(1)).amin(1).max()) < 1e-4
    torch.testing.assert_close(data.unscale(data.scale(train)), train, rtol=0, atol=1e-6)
    assert data.reference().units == ""


def test_parts_of_a_stack_are_apart() -> None:
    values = torch.arange(20.0)
    train, heldout = split_slices(values, slice(8, 12), 2)
    assert heldout.tolist() == [8, 9, 10, 11]
    assert train.tolist() == [*range(6), *range(14, 20)]
    with pytest.raises(ValueError, match="some in both parts"):
        split_slices(values, slice(2, 18), 5)


def test_brain() -> None:
    pytest.importorskip("nilearn", reason="the mean brain comes with nilearn")
    data = BrainData(third=1)
    train, heldout = data.parts
    assert heldout.shape[1:] == (1, 192, 192)
    assert len(train) == 100 - len(heldout) - 2 * 4
    assert float(heldout.min()) >= 0
    assert 0.8 < float(heldout.max()) <= 1.01
    # Eyes look up: the brain is longer along rows than along columns, and alike on both sides.
    middle = heldout[len(heldout) // 2, 0]
    assert int((middle.sum(1) > 1).sum()) > int((middle.sum(0) > 1).sum())
    assert float((middle - middle.flip(1)).norm() / middle.norm()) < 0.35


def head(path: Path, values: np.ndarray, name: str = "matrix.dat") -> Path:
    content = values.astype("<i2").tobytes()
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(f"folder/{name}")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return path


def test_head_ct(tmp_path: Path) -> None:
    values = np.broadcast_to(np.arange(108)[:, None, None], (108, 256, 256))
    data = HeadCTData(str(head(tmp_path / "Cranium.inv3", values)))
    train, heldout = data.parts
    assert train[:, 0, 0, 0].tolist() == list(range(72))
    assert heldout[:, 0, 3, 4].tolist() == list(range(84, 108))
    assert data.reference().units == "HU"
    torch.testing.assert_close(data.scale(torch.tensor([-1000.0, 0.0, 1000.0])), torch.tensor([-1.0, 0.0, 1.0]))
    with pytest.raises(FileNotFoundError, match="invesalius-examples"):
        HeadCTData(str(tmp_path / "none.inv3")).read()
    with pytest.raises(ValueError, match="expected"):
        HeadCTData(str(head(tmp_path / "small.inv3", values[:5]))).read()
    with pytest.raises(ValueError, match=r"no matrix.dat"):
        HeadCTData(str(head(tmp_path / "other.inv3", values[:1], "mask.dat"))).read()
    (tmp_path / "text.inv3").write_text("no archive")
    with pytest.raises(ValueError, match=r"no matrix.dat"):
        HeadCTData(str(tmp_path / "text.inv3")).read()


def test_volumes(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    paths = []
    for i, shape in enumerate([(20, 6, 8), (12, 6, 8), (12, 6, 9)]):
        values = torch.full(shape, float(i)) + torch.arange(shape[0])[:, None, None] / 100
        paths.append(str(write_nifti(Volume(values, np.eye(4)), tmp_path / f"{i}.nii.gz")))
    data = VolumeData(paths[:2], heldout=0.25, gap=2)
    train, heldout = data.parts
    assert (len(train), len(heldout)) == (13 + 7, 5 + 3)
    assert VolumeData(paths[:1], heldout=paths[1:2]).parts[1].shape == (12, 1, 6, 8)
    with pytest.raises(ValueError, match=r"2.nii.gz has \(6, 9\) pixels"):
        VolumeData(paths).read()
    with pytest.raises(ValueError, match="a list of folders"):
        VolumeData(paths[0])
    with pytest.raises(ValueError, match="window"):
        VolumeData(paths, window=(1.0, 0.0))
