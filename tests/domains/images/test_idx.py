"""IDX files as the format's page describes them, damaged ones, and the two folder layouts."""

import gzip
import struct

import numpy as np
import pytest

from ornstein.domains.images.idx import read_idx, read_idx_split


def idx(array, code):
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize(
    ("code", "dtype"), [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
@pytest.mark.parametrize("packed", [False, True])
def test_every_type_is_read(tmp_path, code, dtype, packed):
    array = np.arange(-6, 6).reshape(3, 2, 2).astype(dtype)
    content = idx(array, code)
    (tmp_path / "file").write_bytes(gzip.compress(content) if packed else content)
    got = read_idx(tmp_path / "file")
    np.testing.assert_array_equal(got, array)
    assert got.dtype.isnative


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no IDX file"),
        (b"\x89PNG\r\n", "no IDX file"),
        (b"\0\0\x08\x03\0\0", "header is cut short"),
        (idx(np.zeros((2, 2), np.uint8), 8)[:-1], r"15 bytes where shape \(2, 2\) needs 16"),
        (gzip.compress(b"\0" * 100, mtime=0)[:20], "gzip file is damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    (tmp_path / "bad-file").write_bytes(content)
    with pytest.raises(ValueError, match=f"bad-file: .*{message}"):
        read_idx(tmp_path / "bad-file")


def test_a_folder_of_either_layout(tmp_path):
    images, labels = np.arange(16, dtype=np.uint8).reshape(4, 2, 2), np.array([0, 1, 1, 0], dtype=np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images, 8))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels, 8)))
    got = read_idx_split(tmp_path, "train")
    np.testing.assert_array_equal(got[0], images)
    np.testing.assert_array_equal(got[1], labels)
    with pytest.raises(FileNotFoundError, match="neither t10k-images-idx3-ubyte nor"):
        read_idx_split(tmp_path, "test")
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(idx(labels[:3], 8))
    with pytest.raises(ValueError, match="do not match"):
        read_idx_split(tmp_path, "train")


def test_fashion_mnist_of_debian(external_data):
    images, labels = read_idx_split(external_data("fashion-mnist"), "test")
    assert images.shape == (10_000, 28, 28)
    assert np.bincount(labels).tolist() == [1000] * 10


def test_the_same_reader_reads_mnist(external_data):
    images, labels = read_idx_split(external_data("mnist_t10k"), "test")
    assert images.shape == (10_000, 28, 28)
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
