"""The contract of an adapter, and bad pictures at the command line: one line on stderr and exit status 2."""

import numpy as np
import pytest
from PIL import Image

from ornstein.core import conformance
from ornstein.core.cli import main
from ornstein.domains.images import ImageDiffusion

CHECKS = [check for name, check in vars(conformance).items() if name.startswith("test_adapter_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_adapter_keeps_the_contract(check):
    check(ImageDiffusion(8, channels=1, classes=3))


def test_the_contract_is_found():
    assert len(CHECKS) >= 5


def save(path, shape=(8, 8, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(shape, dtype=np.uint8)).save(path)


def mixed(folder):
    save(folder / "a.png")
    save(folder / "b.png", (9, 8, 3))


def empty_file(folder):
    save(folder / "a.png")
    (folder / "b.png").touch()


def corrupt(folder):
    """The header is whole, so the damage shows when the pixels are read."""
    folder.mkdir()
    for name in "abcdefghijkl":
        pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        (folder / f"{name}.png").write_bytes((folder / f"{name}.png").read_bytes()[:100])


def nothing(folder):
    folder.mkdir()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (mixed, "b.png: size 9x8 where a.png has 8x8 (height x width); give size= and resize="),
        (empty_file, "b.png: the file is empty"),
        (corrupt, ".png: the picture is corrupt (image file is truncated"),
        (nothing, "no pictures in the folder"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_bad_folders_are_one_line(make, message, workers, tmp_path, capsys):
    make(tmp_path / "pictures")
    options = {
        "adapter": "ornstein.domains.images.ImageDiffusion",
        "adapter.size": 8,
        "data": "ornstein.domains.images.FolderData",
        "data.folder": tmp_path / "pictures",
        "data.num_workers": workers,
        "run": tmp_path / "run",
        "trainer.max_steps": 1,
        "trainer.accelerator": "cpu",
    }
    assert main(["fit", *(f"--{name}={value}" for name, value in options.items())]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("ornstein: error: ")
    assert message in error[-1]
    assert not any("Traceback" in line for line in error)


def test_labels_beyond_the_classes_are_one_line(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.arange(20) % 4)
    options = {
        "adapter": "ornstein.domains.images.ImageDiffusion",
        "adapter.size": 8,
        "adapter.channels": 1,
        "adapter.classes": 2,
        "data": "ornstein.domains.images.ArrayData",
        "data.path": tmp_path / "a.npz",
        "run": tmp_path / "run",
        "trainer.max_steps": 1,
        "trainer.accelerator": "cpu",
    }
    assert main(["fit", *(f"--{name}={value}" for name, value in options.items())]) == 2
    assert "is out of range: expected 0 to 1" in capsys.readouterr().err.splitlines()[-1]
