"""`ImageDiffusion`: states, conditions, errors at the boundary, training, the same pictures however they are drawn."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from ornstein.core import (
    DDIM,
    SDE,
    DenoisingObjective,
    DPMSolver,
    EDMSchedule,
    EDMWeighting,
    FlowSchedule,
    LogNormalTimes,
)
from ornstein.core.adapter import DomainAdapter
from ornstein.core.nn import DiT, UNet
from ornstein.domains.images import ArrayPictures, ImageDiffusion, PicturesData, default_network


def small(classes=3, **options):
    torch.manual_seed(0)
    network = UNet(
        1, classes=classes if isinstance(classes, int) else len(classes), widths=(8,), depths=(1,), attention=(False,)
    )
    # A fresh network answers zero; these weights make every input count.
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return ImageDiffusion(6, channels=1, classes=classes, network=network, sampler=DDIM(4), **options)


@pytest.fixture
def model() -> ImageDiffusion:
    return small()


@pytest.mark.parametrize("kind", ["uint8", "float"])
@pytest.mark.parametrize("form", ["dict", "pair", "list"])
def test_encode_maps_to_minus_one_and_one(model, kind, form):
    images = torch.randint(0, 256, (4, 1, 6, 6), dtype=torch.uint8)
    given = images if kind == "uint8" else images / 255
    labels = torch.tensor([0, 1, 2, -1])
    batch = {"dict": {"image": given, "label": labels}, "pair": (given, labels), "list": [given, labels]}[form]
    example = model.encode(batch)
    torch.testing.assert_close(example.state, images / 127.5 - 1)
    assert torch.equal(example.condition["label"], labels)
    torch.testing.assert_close(model.decode(example.state), images / 255)


def test_a_model_without_classes_passes_labels_over():
    model = small(classes=0)
    assert model.encode({"image": torch.rand(2, 1, 6, 6), "label": torch.tensor([7, 9])}).condition == {}
    assert model.encode(torch.rand(2, 1, 6, 6)).condition == {}
    assert model.condition_dropout == {}


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ({"image": torch.rand(2, 1, 6, 5), "label": torch.zeros(2, dtype=torch.int64)}, ValueError, "give size="),
        (
            {"image": torch.rand(2, 1, 6, 6) * 2, "label": torch.zeros(2, dtype=torch.int64)},
            ValueError,
            r"expected \[0, 1\]",
        ),
        ({"image": torch.full((2, 1, 6, 6), math.nan), "label": torch.zeros(2, dtype=torch.int64)}, ValueError, "NaN"),
        ({"image": torch.zeros(2, 1, 6, 6, dtype=torch.int32)}, TypeError, "int32: expected a tensor, uint8 or float"),
        ({"image": np.zeros((2, 1, 6, 6))}, TypeError, "ndarray"),
        ({"picture": torch.rand(2, 1, 6, 6)}, ValueError, "no 'image'"),
        (torch.rand(2, 1, 6, 6), ValueError, "3 classes but the batch has no labels"),
        ((torch.rand(2, 1, 6, 6), torch.tensor([0, 3])), ValueError, "label 3 is out of range: expected 0 to 2"),
        ((torch.rand(2, 1, 6, 6), torch.tensor([0.0, 1.0])), ValueError, "expected 2 whole numbers"),
        ("pictures", TypeError, "of type str"),
    ],
)
def test_bad_batches_are_named(model, batch, error, message):
    with pytest.raises(error, match=message):
        model.encode(batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size=0"),
        ({"size": 8, "channels": 0}, "channels must be at least 1"),
        ({"size": 8, "classes": -1}, "classes=-1"),
        ({"size": 8, "classes": ("a", "a")}, "names that differ"),
        ({"size": 8, "label_dropout": 1.0}, "label_dropout"),
        ({"size": 8, "prediction": "noise"}, "prediction='noise'"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ImageDiffusion(**options)


def test_labels_by_number_and_name():
    model = small(classes=("cat", "dog", "owl"))
    assert model.prepare_condition(3, label="dog")["label"].tolist() == [1, 1, 1]
    assert model.prepare_condition(3, label=["owl", 0, -1])["label"].tolist() == [2, 0, -1]
    assert model.prepare_condition(2) == {}
    assert model.preview_condition(4)["label"].tolist() == [0, 1, 2, 0]
    for wrong, message in ((("emu"), "'emu' is no class of the model: cat, dog, owl"), (3, "label 3 is out of range")):
        with pytest.raises(ValueError, match=message):
            model.prepare_condition(2, label=wrong)
    with pytest.raises(ValueError, match="unknown condition 'colour'"):
        model.sample(1, colour=3)
    with pytest.raises(ValueError, match="no classes; leave it out"):
        small(classes=0).sample(1, label=0)


def test_samples_do_not_depend_on_the_batch(model):
    label = torch.arange(5) % 3
    whole = model.sample(5, seed=3, label=label, guidance=2.0)
    assert torch.equal(model.sample(5, seed=3, label=label, guidance=2.0, batch_size=1), whole)
    assert torch.equal(model.sample(2, seed=3, first=3, label=label[3:], guidance=2.0), whole[3:])
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert not torch.equal(model.sample(5, seed=4, label=label, guidance=2.0), whole)
    assert not torch.equal(model.sample(5, seed=3, label=label), whole)


def test_the_reverse_process_ends_in_the_sample(model):
    states, means = model.reverse_process(3, seed=1, label=[0, 1, 2], guidance=1.5)
    assert states.shape == means.shape == (4, 3, 1, 6, 6)
    torch.testing.assert_close(states[-1], model.sample(3, seed=1, label=[0, 1, 2], guidance=1.5))


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score", "flow", "edm"])
@pytest.mark.parametrize("schedule", [FlowSchedule(), EDMSchedule()])
def test_any_process_and_prediction(prediction, schedule):
    model = small(process=SDE(schedule), prediction=prediction)
    example = model.encode((torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 2, 0])))
    loss = model.objective(model.denoiser, example.state, **example.condition)
    assert loss.shape == (4,)
    assert loss.isfinite().all()
    assert model.sample(2, seed=0, label=1).isfinite().all()


@pytest.mark.parametrize(("size", "channels"), [(1, 1), (3, 2), (8, 1), ((28, 20), 1), (32, 3), ((64, 96), 3)])
def test_the_default_network_serves_any_size(size, channels):
    network = default_network(size, channels, classes=2)
    height, width = (size, size) if isinstance(size, int) else size
    x = torch.randn(1, channels, height, width)
    assert network(x, torch.zeros(1), label=torch.tensor([1])).shape == x.shape
    assert not any(on and min(height, width) / 2**i > 8 for i, on in enumerate(network.attention))


def test_another_network_may_be_given():
    network = DiT(1, patch=2, classes=3, width=16, depth=1, head_width=8)
    model = ImageDiffusion(6, channels=1, classes=3, network=network)
    assert model.sample(2, label=0, sampler=DPMSolver(2)).shape == (2, 1, 6, 6)


def test_files(model, tmp_path):
    samples = torch.linspace(0, 1, 6 * 36).reshape(6, 1, 6, 6)
    paths = model.write(samples, tmp_path / "out", first=7)
    assert [path.name for path in paths] == [f"{i:06d}.png" for i in range(7, 13)]
    np.testing.assert_array_equal(np.asarray(Image.open(paths[2])), (samples[2, 0] * 255).round())
    model.render(samples, tmp_path / "deep/grid.png")
    assert Image.open(tmp_path / "deep/grid.png").size == (3 * 60 + 4, 2 * 60 + 2)


def test_checkpoints_come_back(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = DomainAdapter.from_pretrained(tmp_path)
    assert isinstance(again, ImageDiffusion)
    assert (again.size, again.classes, again.sampler) == (model.size, model.classes, model.sampler)
    assert torch.equal(again.sample(2, seed=0, label=1), model.sample(2, seed=0, label=1))


def test_training_on_arrays_lowers_the_loss(tmp_path):
    """Two kinds of pictures, dark and bright: after some seconds samples are of the class asked for."""
    labels = np.arange(64) % 2
    images = np.clip(labels[:, None, None] * 0.7 + 0.3 * np.random.default_rng(0).random((64, 6, 6)), 0, 1)
    data = PicturesData(ArrayPictures(images, labels), batch_size=32)
    network = UNet(1, classes=2, widths=(16,), depths=(1,), attention=(False,))
    objective = DenoisingObjective(EDMWeighting(), LogNormalTimes())
    model = ImageDiffusion(6, channels=1, classes=2, network=network, objective=objective, sampler=DDIM(8))
    model.fit(data, run=tmp_path, max_steps=300, lr=1e-2, sample_every=0, validate_every=300, accelerator="cpu")
    dark, bright = (model.sample(32, seed=0, label=label).mean().item() for label in (0, 1))
    assert dark == pytest.approx(0.15, abs=0.12)
    assert bright == pytest.approx(0.85, abs=0.12)
