"""Pictures from folders, arrays and other libraries' data sets take one form; what is wrong with them is said."""

import numpy as np
import pytest
import torch
from PIL import Image

from ornstein.domains.images.arrays import ArrayPictures, load_arrays
from ornstein.domains.images.datasets import FolderPictures, ObjectPictures, materialize


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def tree(tmp_path):
    """Two classes in sub-folders: b-cats (2 pictures), a-dogs (1 picture), and things to pass over."""
    for i, name in enumerate(["b-cats/2.png", "b-cats/deep/1.PNG", "a-dogs/x.bmp"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(5, 4, 3, seed=i)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("passed over")
    (tmp_path / ".hidden").mkdir()
    Image.fromarray(noise(9, 9)).save(tmp_path / ".hidden/z.png")
    return tmp_path


def test_sub_folders_are_classes_in_the_order_of_their_names(tree):
    data = FolderPictures(tree)
    assert data.classes == ("a-dogs", "b-cats")
    assert data.shape == (3, 5, 4)
    assert [int(data[i]["label"]) for i in range(len(data))] == [0, 1, 1]
    np.testing.assert_allclose(data[0]["image"].permute(1, 2, 0) * 255, noise(5, 4, 3, seed=2), atol=1e-4)


def test_a_flat_folder_has_no_classes(tree):
    data = FolderPictures(tree / "a-dogs", channels=1)
    assert data.classes == ()
    assert data[0].keys() == {"image"}
    assert data.shape == (1, 5, 4)


def test_mixed_sizes_need_a_size(tree):
    Image.fromarray(noise(8, 8, 3)).save(tree / "a-dogs/y.png")
    with pytest.raises(ValueError, match=r"y\.png: size 8x8 where x\.bmp has 5x4 .*give size= and resize="):
        FolderPictures(tree)
    data = FolderPictures(tree, size=(6, 7), resize="crop")
    assert {tuple(data[i]["image"].shape) for i in range(len(data))} == {(3, 6, 7)}
    for wrong in ({"size": 6}, {"resize": "crop"}):
        with pytest.raises(ValueError, match="give both"):
            FolderPictures(tree, **wrong)
    with pytest.raises(ValueError, match="expected 'crop' or 'squash'"):
        FolderPictures(tree, size=6, resize="pad")
    with pytest.raises(ValueError, match="size=0"):
        FolderPictures(tree, size=0, resize="crop")


def test_folders_without_pictures_are_named(tree, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: no pictures in the folder"):
        FolderPictures(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        FolderPictures(tmp_path / "nowhere")
    Image.fromarray(noise(5, 4, 3)).save(tree / "stray.png")
    with pytest.raises(ValueError, match="pictures lie beside the sub-folders a-dogs, b-cats"):
        FolderPictures(tree)


def test_empty_and_corrupt_files_are_named(tree):
    (tree / "a-dogs/x.bmp").write_bytes(b"")
    with pytest.raises(ValueError, match=r"x\.bmp: the file is empty"):
        FolderPictures(tree, size=5, resize="crop")
    (tree / "a-dogs/x.bmp").write_bytes(b"BM nonsense")
    with pytest.raises(ValueError, match=r"x\.bmp"):
        FolderPictures(tree)


def test_eight_and_sixteen_bits_share_a_batch(tree):
    Image.fromarray(np.full((5, 4), 65535, dtype=np.uint16)).save(tree / "a-dogs/y.png")
    batch = torch.utils.data.default_collate([FolderPictures(tree)[i] for i in range(4)])
    assert batch["image"].dtype == torch.float32
    assert batch["image"].max() == 1


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((5, 8, 9), None, (1, 8, 9)),
        ((5, 8, 9, 3), None, (3, 8, 9)),
        ((5, 1, 8, 9), None, (1, 8, 9)),
        ((5, 3, 8, 3), "NCHW", (3, 8, 3)),
        ((5, 8, 9, 7), "NHWC", (7, 8, 9)),
    ],
)
def test_layouts_of_arrays(shape, layout, expected):
    images = noise(*shape)
    data = ArrayPictures(images, layout=layout)
    assert data.shape == expected
    assert sorted(data.images.flatten().tolist()) == sorted(images.flatten().tolist())
    if expected == (3, 8, 9):
        np.testing.assert_array_equal(data[2]["image"].permute(1, 2, 0), images[2])


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (np.zeros((2, 4, 4), np.int64), {}, TypeError, "dtype int64: expected uint8"),
        (np.zeros((2, 3, 4, 3), np.uint8), {}, ValueError, "not clear; give layout="),
        (np.zeros((4, 4), np.uint8), {}, ValueError, r"expected \(N, H, W\)"),
        (np.zeros((0, 4, 4), np.uint8), {}, ValueError, "hold no picture"),
        (np.zeros((2, 4, 4), np.uint8), {"layout": "NCHW"}, ValueError, "does not fit"),
        (np.full((2, 4, 4), -1.0), {}, ValueError, r"must lie in \[0, 1\]; rescale"),
        (np.array([np.zeros((4, 4)), np.full((4, 4), np.nan)]), {}, ValueError, "NaN .* in 1 pictures, first in 1"),
        (np.zeros((2, 4, 4), np.uint8), {"labels": [0, -1]}, ValueError, "label -1 of picture 1 is out of range"),
        (np.zeros((2, 4, 4), np.uint8), {"labels": [0, 2], "classes": "ab"}, ValueError, "expected 0 to 1"),
        (np.zeros((2, 4, 4), np.uint8), {"labels": [0, 1, 1]}, ValueError, "expected 2 whole numbers"),
        (np.zeros((2, 4, 4), np.uint8), {"labels": [0.0, 1.0]}, ValueError, "whole numbers"),
        (np.zeros((2, 4, 4), np.uint8), {"classes": ["a"]}, ValueError, "no labels"),
    ],
)
def test_bad_arrays_are_named(images, options, error, message):
    with pytest.raises(error, match=message):
        ArrayPictures(images, **options)


def test_array_files(tmp_path):
    images, labels = noise(6, 4, 5), np.array([[0], [1], [2], [0], [1], [2]])
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "b.npz", images=images, labels=labels)
    np.savez(tmp_path / "c.npz", train_images=images, train_labels=labels)
    assert load_arrays(tmp_path / "a.npy").labels is None
    assert load_arrays(tmp_path / "b.npz").classes == ("0", "1", "2")
    assert load_arrays(tmp_path / "c.npz", images="train_images", labels="train_labels")[4]["label"] == 1
    with pytest.raises(ValueError, match=r"c\.npz: holds train_images, train_labels but no 'images'; give images=NAME"):
        load_arrays(tmp_path / "c.npz")


def test_array_files_that_cannot_be_read_are_named(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}, "code"], dtype=object), allow_pickle=True)
    np.save(tmp_path / "whole.npy", noise(9, 9, 9))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:300])
    (tmp_path / "text.npz").write_text("no array")
    np.save(tmp_path / "ints.npy", np.zeros((3, 4, 4), np.int32))
    for name in ("objects.npy", "cut.npy", "text.npz"):
        with pytest.raises(ValueError, match=f"{name}: cannot be read as plain"):
            load_arrays(tmp_path / name)
    with pytest.raises(TypeError, match=r"ints\.npy: images have dtype int32"):
        load_arrays(tmp_path / "ints.npy")
    with pytest.raises(FileNotFoundError, match="no such array file"):
        load_arrays(tmp_path / "none.npy")


class Torchvisionlike:
    classes = ("cat", "dog")

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return Image.fromarray(noise(4, 4, 3, seed=index)), index % 2


def test_pairs_with_pil_pictures():
    data = ObjectPictures(Torchvisionlike())
    assert data.classes == ("cat", "dog")
    assert [int(data[i]["label"]) for i in range(3)] == [0, 1, 0]
    assert ObjectPictures(Torchvisionlike(), channels=1).shape == (1, 4, 4)
    with pytest.raises(IndexError):
        data[3]


def test_a_hugging_face_data_set():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"img": datasets.Image(), "fine": datasets.ClassLabel(names=["x", "y"])})
    pictures = [Image.fromarray(noise(4, 4, seed=i)) for i in range(3)]
    source = datasets.Dataset.from_dict({"img": pictures, "fine": [1, 0, 1]}, features=features)
    data = ObjectPictures(source, channels=1, label="fine")
    assert data.classes == ("x", "y")
    assert int(data[0]["label"]) == 1
    np.testing.assert_allclose(data[2]["image"][0] * 255, noise(4, 4, seed=2), atol=1e-4)
    with pytest.raises(ValueError, match="no 'picture'; give image=NAME"):
        ObjectPictures(source, image="picture")
    with pytest.raises(ValueError, match="no 'coarse'; give label=NAME"):
        ObjectPictures(source, label="coarse")


def test_tensors_and_arrays_as_items():
    tensors = torch.utils.data.TensorDataset(torch.rand(2, 3, 4, 5), torch.tensor([0, 4]))
    data = ObjectPictures(tensors)
    assert torch.equal(data[1]["image"], tensors[1][0])
    assert int(data[1]["label"]) == 4
    assert ObjectPictures([noise(6, 7)], channels=1).shape == (1, 6, 7)


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([], ValueError, "empty"),
        (["a.png"], TypeError, "picture 0: expected a PIL picture"),
        ([np.zeros((4, 4, 2), np.uint8)], ValueError, "picture 0: .*channels"),
        ([np.full((4, 4, 3), np.nan)], ValueError, "picture 0: images hold NaN"),
        (iter([1]), TypeError, "map-style"),
    ],
)
def test_bad_objects_are_named(items, error, message):
    with pytest.raises(error, match=message):
        ObjectPictures(items)


def test_bad_items_are_named_when_read():
    data = ObjectPictures([noise(4, 4, 3), noise(5, 5, 3)])
    with pytest.raises(ValueError, match="picture 1 has size 5x5 where the first has 4x4; give size="):
        data[1]

    class Wrong(Torchvisionlike):
        def __getitem__(self, index):
            return super().__getitem__(index)[0], index * 5

    with pytest.raises(ValueError, match="label 5 of picture 1 is out of range"):
        ObjectPictures(Wrong())[1]


def test_materialize_keeps_pictures_labels_and_classes(tree):
    data = FolderPictures(tree)
    whole = materialize(data)
    assert len(whole) == 3
    assert whole.classes == data.classes
    assert torch.equal(whole[2]["image"], data[2]["image"])
    assert len(materialize(whole, 2)) == 2
    assert materialize(whole, 5) is whole
