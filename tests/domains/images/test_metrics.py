"""The judges: good enough to judge by, and able to tell good samples from each kind of bad ones."""

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from ornstein.core.evaluation import frechet_distance
from ornstein.domains.images.arrays import ArrayPictures
from ornstein.domains.images.classifier import PictureClassifier, train_classifier
from ornstein.domains.images.data import ImageReference
from ornstein.domains.images.metrics import (
    LabelJudge,
    RandomFeatures,
    evaluate,
    inception_frechet,
    pixels,
)


def test_judges_know_digits_they_never_saw(judge):
    assert judge.accuracy >= 0.98
    heldout = judge.reference.heldout
    assert judge.label_judge.agreement(heldout.images, heldout.labels) >= 0.98
    assert judge.features(heldout.images).shape == (500, 64)


def test_training_pictures_are_at_the_floor(judge):
    train = judge.reference.train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1))[:600]
    figures = judge.evaluate(train.images[order], train.labels[order])
    assert figures["frechet_ratio"] == pytest.approx(1, abs=0.5)
    assert figures["floor_recall"] > 0.8
    assert figures["class_agreement"] > 0.99
    assert figures["copy_rate"] == 1  # they are copies
    assert figures["copy_excess"] > 0.9
    assert abs(figures["floor_kernel"]) < 4 * figures["floor_kernel_error"]


def test_each_kind_of_bad_sample_is_told(judge):
    heldout = judge.reference.heldout
    images, labels = heldout.images, heldout.labels
    floor = judge.floor(500)
    blurred = torch.from_numpy(uniform_filter(images.numpy(), (1, 1, 3, 3)))
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    for bad, least in ((blurred, 5), (noise, 20)):
        assert judge.distances(bad)["frechet"] > least * floor["frechet"]
    assert judge.distances(noise)["precision"] < floor["precision"]
    missing = images[labels != 3]
    assert judge.distances(missing)["recall"] < judge.distances(images)["recall"] - 0.03
    wrong = judge.label_judge.agreement(images, (labels + 1) % 10)
    assert wrong < 0.02


def test_a_limited_judge_still_knows_every_class(judge):
    """Folders come class by class: the first pictures would be of one class."""
    train = judge.reference.train
    by_class = train.subset(train.labels.argsort().numpy())
    heldout = judge.reference.heldout
    assert LabelJudge(by_class, limit=300).agreement(heldout.images, heldout.labels) > 0.9


def test_measures_of_heldout_pictures_themselves(judge):
    figures = judge.distances(judge.reference.heldout.images)
    assert figures["frechet"] == pytest.approx(0, abs=1e-6)
    assert figures["precision"] == figures["recall"] == figures["coverage"] == 1
    assert judge.copies(judge.reference.heldout.images).copy_excess == 0


def test_pictures_without_labels_are_judged_by_random_features(judge):
    parts = [
        ArrayPictures(part.images[:200], layout="NCHW") for part in (judge.reference.train, judge.reference.heldout)
    ]
    reference = ImageReference(*parts)
    good, bad = (evaluate(x, reference) for x in (judge.reference.train.images[200:400], torch.rand(200, 1, 8, 8)))
    assert "class_agreement" not in good
    assert "classifier_accuracy" not in good
    assert bad["frechet"] > 10 * good["frechet"]
    assert bad["precision"] < good["precision"]
    assert torch.equal(
        RandomFeatures(1).features(torch.ones(1, 1, 8, 8)), RandomFeatures(1).features(torch.ones(1, 1, 8, 8))
    )


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 20), (1, 3, 3), (2, 65, 40)])
def test_the_classifier_takes_any_size(shape):
    model = PictureClassifier(shape, classes=3, width=4).eval()
    images = torch.rand(2, *shape)
    assert model(images).shape == (2, 3)
    assert model.features(images).shape == (2, 64)


def test_the_recipe_is_a_function_of_its_seed():
    rng = np.random.default_rng(0)
    data = ArrayPictures(rng.integers(0, 256, (70, 8, 8), dtype=np.uint8), rng.integers(0, 3, 70))
    state = torch.get_rng_state()
    a, b, c = (train_classifier(data, steps=3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(a(x), b(x))
    assert not torch.equal(a(x), c(x))
    with pytest.raises(ValueError, match="no labels"):
        train_classifier(ArrayPictures(data.images, layout="NCHW"))
    with pytest.raises(ValueError, match="no labels"):
        LabelJudge(ArrayPictures(data.images, layout="NCHW"))


def test_bad_samples_are_named(judge):
    with pytest.raises(ValueError, match=r"shape \(9, 3, 8, 8\): expected at least 8 of shape \(1, 8, 8\)"):
        judge.evaluate(torch.rand(9, 3, 8, 8))
    with pytest.raises(ValueError, match="at least 8"):
        judge.evaluate(torch.rand(7, 1, 8, 8))
    with pytest.raises(ValueError, match="labels"):
        judge.evaluate(torch.rand(9, 1, 8, 8), torch.zeros(8, dtype=torch.int64))


def test_pixels_of_eight_bits_and_floats_agree():
    images = torch.randint(0, 256, (2, 1, 3, 3), dtype=torch.uint8)
    torch.testing.assert_close(pixels(images), pixels(images.float() / 255))


def test_fid_of_torchmetrics_on_features_of_ones_own():
    """torchmetrics' Fréchet distance, an independent implementation, on a network that needs no download."""
    pytest.importorskip("torchmetrics.image.fid")

    class Mean(torch.nn.Module):
        num_features = 6

        def forward(self, x):
            return torch.nn.functional.adaptive_avg_pool2d(x.float() / 255, (1, 2)).flatten(1)

    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(40, 1, 8, 8, generator=generator), torch.rand(50, 1, 8, 8, generator=generator) ** 2
    try:
        got = inception_frechet(a, b, features=Mean())
    except ImportError as error:
        pytest.skip(str(error))
    features = [Mean()((x * 255).round().expand(-1, 3, -1, -1)) for x in (a, b)]
    assert got == pytest.approx(frechet_distance(*features), rel=1e-3)


def test_missing_inception_weights_are_said(monkeypatch):
    fid = pytest.importorskip("torchmetrics.image.fid")

    def missing(**options):
        raise ModuleNotFoundError("torch-fidelity is not installed")

    monkeypatch.setattr(fid, "FrechetInceptionDistance", missing)
    with pytest.raises(ImportError, match=r"Inception weights are not at hand .*torch-fidelity is not installed"):
        inception_frechet(torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8))
