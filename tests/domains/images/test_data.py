"""The data modules: splits, augmentation, what training gets and what samples are judged by."""

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from ornstein.core.config import from_config, to_config
from ornstein.domains.images.arrays import ArrayPictures
from ornstein.domains.images.augment import Augment, shifted
from ornstein.domains.images.data import stratified_split
from ornstein.domains.images.datasets import ObjectPictures
from ornstein.domains.images.sources import ArrayData, DigitsData, FashionMNISTData, FolderData, IDXData, PicturesData


@pytest.fixture(scope="module")
def digits() -> DigitsData:
    return DigitsData(batch_size=32)


def test_digits_are_split_by_class_and_seed(digits):
    train, heldout = digits.parts
    assert (len(train), len(heldout)) == (1297, 500)
    assert digits.shape == (1, 8, 8)
    counts = np.bincount(heldout.labels)
    assert counts.min() >= 48
    assert counts.max() <= 51
    rows = {tuple(x.flatten().tolist()) for x in train.images}
    assert not any(tuple(x.flatten().tolist()) in rows for x in heldout.images)
    other = DigitsData(split_seed=1).parts[1]
    assert not torch.equal(other.images, heldout.images)
    assert torch.equal(DigitsData().parts[1].images, heldout.images)


@pytest.mark.parametrize("heldout", [1, 7, 50, 99])
def test_a_split_takes_each_class_in_its_share(heldout):
    labels = np.random.default_rng(0).choice(5, 100, p=[0.5, 0.2, 0.2, 0.05, 0.05])
    train, test = stratified_split(labels, heldout, seed=3)
    assert sorted([*train, *test]) == list(range(100))
    assert len(test) == heldout
    shares = heldout * np.bincount(labels, minlength=5) / 100
    assert np.all(np.abs(np.bincount(labels[test], minlength=5) - shares) < 1)


def test_a_split_needs_two_sides():
    for wrong in (0, 10):
        with pytest.raises(ValueError, match="hold out"):
            stratified_split(np.zeros(10), wrong, 0)


def test_batches_come_from_memory_at_once(digits):
    batch = next(iter(digits.loader(steps=2, seed=0)))
    assert batch["image"].shape == (32, 1, 8, 8)
    train = digits.parts[0]
    for image, label in zip(batch["image"], batch["label"]):
        found = (train.images == image).flatten(1).all(1).nonzero()[0, 0]
        assert train.labels[found] == label


def test_augmentation_is_off_by_default_and_a_function_of_the_step():
    plain, changed = DigitsData(batch_size=8), DigitsData(batch_size=8, augment=Augment(flip=True, shift=2))
    batches = {name: list(data.loader(steps=3, seed=1)) for name, data in [("plain", plain), ("changed", changed)]}
    assert torch.equal(batches["plain"][0]["label"], batches["changed"][0]["label"])
    assert not torch.equal(batches["plain"][0]["image"], batches["changed"][0]["image"])
    resumed = list(changed.loader(steps=3, seed=1, start=2))
    assert torch.equal(resumed[0]["image"], batches["changed"][2]["image"])
    assert torch.equal(changed.reference().train.images, plain.parts[0].images)


def test_shifts_repeat_the_border():
    images = torch.arange(2 * 25.0).reshape(2, 1, 5, 5)
    moved = {tuple(shifted(images, 1)[1, 0].flatten().tolist()) for _ in range(200)}
    padded = np.pad(images[1, 0].numpy(), 1, mode="edge")
    assert moved == {tuple(padded[i : i + 5, j : j + 5].flatten().tolist()) for i in range(3) for j in range(3)}


def test_flips_come_half_of_the_time():
    images = torch.rand(400, 1, 3, 3)
    changed = Augment(flip=True)(images)
    flipped = (changed == images.flip(3)).flatten(1).all(1)
    assert ((changed == images).flatten(1).all(1) ^ flipped).all()
    assert 150 < flipped.sum() < 250
    with pytest.raises(ValueError, match="shift"):
        Augment(shift=-1)


def test_idx_folders(tmp_path):
    for name, count in [("train", 6), ("t10k", 4)]:
        pixels, labels = np.zeros((count, 3, 5), np.uint8), np.arange(count, dtype=np.uint8) % 2
        for kind, array in [("images-idx3", pixels), ("labels-idx1", labels)]:
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (tmp_path / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    data = IDXData(str(tmp_path))
    assert (data.shape, data.classes) == ((1, 3, 5), ("0", "1"))
    assert [len(part) for part in data.parts] == [6, 4]
    fashion = FashionMNISTData(str(tmp_path))
    assert fashion.classes[9] == "ankle boot"
    with pytest.raises(FileNotFoundError, match="neither"):
        FashionMNISTData(str(tmp_path / "none")).parts  # noqa: B018


def test_fashion_mnist_is_found(external_data):
    data = FashionMNISTData(str(external_data("fashion-mnist")), reference_size=300)
    assert [len(part) for part in data.parts] == [60_000, 10_000]
    reference = data.reference()
    assert len(reference.train) == len(reference.heldout) == 300
    assert np.bincount(reference.train.labels).min() > 10


def test_folders_with_and_without_a_held_out_folder(tmp_path):
    rng = np.random.default_rng(0)
    for kind, count in [("a", 10), ("b", 20)]:
        (tmp_path / "train" / kind).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(tmp_path / f"train/{kind}/{i}.png")
    data = FolderData(str(tmp_path / "train"), holdout=0.2, batch_size=4)
    train, heldout = data.parts
    assert (len(train), len(heldout), data.classes) == (24, 6, ("a", "b"))
    assert sorted(int(heldout[i]["label"]) for i in range(6)) == [0, 0, 1, 1, 1, 1]
    assert next(iter(data.loader(steps=1)))["image"].shape == (4, 3, 6, 6)
    both = FolderData(str(tmp_path / "train"), heldout_folder=str(tmp_path / "train" / "a"))
    with pytest.raises(ValueError, match="held-out pictures have classes"):
        both.parts  # noqa: B018
    with pytest.raises(ValueError, match="holdout=1"):
        FolderData(str(tmp_path / "train"), holdout=1.0).parts  # noqa: B018


def test_array_files_and_objects(tmp_path):
    images, labels = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    data = ArrayData(str(tmp_path / "a.npz"), holdout=0.5)
    assert [len(part) for part in data.parts] == [10, 10]
    assert torch.equal(data.parts[1].labels.bincount(), torch.tensor([5, 5]))
    objects = PicturesData(ObjectPictures([(x, int(y)) for x, y in zip(images, labels)], channels=1))
    assert [len(part) for part in objects.parts] == [18, 2]
    assert objects.reference().heldout.labels is not None
    unlabelled = PicturesData(ArrayPictures(images), ArrayPictures(images))
    assert unlabelled.reference().train.labels is None


def test_configurations_come_back():
    data = FolderData("pictures", size=(32, 48), resize="crop", augment=Augment(flip=True), batch_size=8)
    again = from_config(to_config(data))
    assert to_config(again) == to_config(data)
    assert again.size == (32, 48)
    assert again.augment == Augment(flip=True)
    with pytest.raises(ValueError, match="reference_size"):
        DigitsData(reference_size=1)
