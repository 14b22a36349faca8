"""Measures of generated pictures against real ones.

Distributions are compared on features of a `PictureClassifier` trained on the real training pictures, or, without
labels, on those of a `RandomFeatures` network. Copies are looked for in pixels. Each measure that has a floor is given
with it: the same figure of the training pictures against the held-out ones, at the same number of pictures.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.core.evaluation import (
    Memorisation,
    density_coverage,
    frechet_distance,
    kernel_distance,
    memorisation,
    precision_recall,
)
from ornstein.core.optional import need
from ornstein.domains.images.arrays import ArrayPictures
from ornstein.domains.images.classifier import PictureClassifier, as_floats, train_classifier
from ornstein.domains.images.data import ImageReference

__all__ = ["ImageJudge", "LabelJudge", "RandomFeatures", "evaluate", "inception_frechet", "pixels"]


class RandomFeatures(nn.Module):
    """Features of a convolutional network that was never trained, with orthogonal weights from a fixed seed.

    For pictures without labels. A random embedding judges fidelity and diversity about as well as a trained one where
    no network of the domain exists (Naeem et al. 2020, 2002.09797, section 5).

    Args:
        channels: of the pictures.
        width: number of features.
        seed: of the weights.
    """

    def __init__(self, channels: int, width: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.channels, self.width, self.seed = channels, width, seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            for size in (32, 64, width):
                layers += [nn.Conv2d(channels, size, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
                nn.init.orthogonal_(layers[-2].weight, gain=2**0.5)  # type: ignore[arg-type]
                channels = size
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        """``(N, width)`` features of pictures ``(N, C, H, W)`` in [0, 1]."""
        return self.body(images * 2 - 1)


class LabelJudge:
    """A support-vector machine with a Gaussian kernel on raw pixels: a judge of labels that owes nothing to networks.

    Args:
        data: labelled pictures to fit it to.
        limit: pictures at most, drawn evenly; the cost of the fit grows with the square.
        regularisation: ``C`` of the machine.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: pictures without labels.
    """

    def __init__(self, data: ArrayPictures, *, limit: int = 5000, regularisation: float = 10.0) -> None:
        if data.labels is None:
            raise ValueError("the pictures have no labels to judge by; give labelled ones")
        svm = need("sklearn.svm", to="judge labels", extra="images")
        self.machine = svm.SVC(C=regularisation, kernel="rbf", gamma="scale")
        drawn = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:limit]
        self.machine.fit(pixels(data.images[drawn]).numpy(), data.labels[drawn].numpy())

    def __call__(self, images: Tensor) -> Tensor:
        """The class of each picture, ``(N,)``."""
        return torch.from_numpy(self.machine.predict(pixels(images).numpy()))

    def agreement(self, images: Tensor, labels: Tensor) -> float:
        """The fraction of pictures that it gives their label; its accuracy, where the labels are true."""
        return (self(images) == labels.cpu()).double().mean().item()


def pixels(images: Tensor) -> Tensor:
    """Pictures as rows of pixels in [0, 1], ``(N, C * H * W)``."""
    return as_floats(images).flatten(1)


@dataclass(frozen=True)
class ImageJudge:
    """Everything that judging many sets of samples against one reference needs, made once by ``ImageJudge.train``.

    Attributes:
        reference: the real pictures.
        network: gives the features.
        accuracy: of the feature network on the held-out pictures; None for random features.
        label_judge: gives classes, if the pictures have labels.
    """

    reference: ImageReference
    network: PictureClassifier | RandomFeatures
    accuracy: float | None
    label_judge: LabelJudge | None

    @classmethod
    def train(cls, reference: ImageReference, *, seed: int = 0) -> "ImageJudge":
        """Train the feature network and the label judge on ``reference.train``.

        Args:
            reference: the real pictures.
            seed: of the feature network.
        """
        train, heldout = reference.train, reference.heldout
        if train.labels is None or heldout.labels is None:
            return cls(reference, RandomFeatures(train.shape[0], seed=seed).eval(), None, None)
        network = train_classifier(train, seed=seed)
        guesses = _in_batches(network, as_floats(heldout.images)).argmax(1)
        accuracy = (guesses == heldout.labels).double().mean().item()
        return cls(reference, network, accuracy, LabelJudge(train))

    def features(self, images: Tensor) -> Tensor:
        """``(N, d)`` features of pictures, on the CPU."""
        return _in_batches(self.network.features, as_floats(images.cpu()))

    def distances(self, images: Tensor) -> dict[str, float]:
        """Fréchet and kernel distance to the held-out pictures, precision, recall, density and coverage.

        Recall and coverage grow with the number of pictures: they are taken of as many as there are held-out ones.
        """
        made, real = self.features(images), self.features(self.reference.heldout.images)
        part, whole = made[: len(real)], real[: len(made)]
        kernel = kernel_distance(made, real, blocks=min(10, len(made) // 2, len(real) // 2))
        precision, recall = precision_recall(part, whole)
        density, coverage = density_coverage(part, whole)
        return {
            "frechet": frechet_distance(made, real),
            "kernel": kernel.value,
            "kernel_error": kernel.standard_error,
            "precision": precision,
            "recall": recall,
            "density": density,
            "coverage": coverage,
        }

    def floor(self, count: int) -> dict[str, float]:
        """`distances` of ``count`` training pictures, drawn evenly: what a perfect generator would get."""
        images = self.reference.train.images
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        return self.distances(images[order[:count]])

    def copies(self, images: Tensor) -> Memorisation:
        """The copy check in pixels: samples against training pictures, beside held-out ones against the same."""
        return memorisation(
            *(pixels(x.cpu()) for x in (images, self.reference.train.images, self.reference.heldout.images))
        )

    def evaluate(self, images: Tensor, labels: Tensor | None = None) -> dict[str, float]:
        """All measures by name; those with ``floor_`` before the name are of the training pictures.

        Args:
            images: samples ``(N, C, H, W)`` in [0, 1], at least eight.
            labels: the classes that were asked for, ``(N,)``, for ``class_agreement``.

        Raises:
            ValueError: samples of another shape than the reference, or too few.
        """
        expected = self.reference.heldout.shape
        if tuple(images.shape[1:]) != expected or len(images) < 8:
            raise ValueError(f"samples have shape {tuple(images.shape)}: expected at least 8 of shape {expected}")
        if labels is not None and len(labels) != len(images):
            raise ValueError(f"{len(labels)} labels were given for {len(images)} samples: expected one a sample")
        figures = self.distances(images)
        floor = self.floor(len(images))
        figures["frechet_ratio"] = figures["frechet"] / floor["frechet"] if floor["frechet"] > 0 else float("inf")
        figures |= {f"floor_{name}": value for name, value in floor.items()}
        copies = self.copies(images)
        figures |= {
            "copy_rate": copies.copy_rate,
            "heldout_copy_rate": copies.heldout_rate,
            "copy_excess": copies.copy_excess,
            "neighbour_distance_ratio": copies.distance_ratio,
        }
        if self.accuracy is not None:
            figures["classifier_accuracy"] = self.accuracy
        if self.label_judge is not None and labels is not None:
            heldout = self.reference.heldout
            assert heldout.labels is not None
            figures["class_agreement"] = self.label_judge.agreement(images, torch.as_tensor(labels))
            figures["judge_accuracy"] = self.label_judge.agreement(heldout.images, heldout.labels)
        return figures


def evaluate(
    images: Tensor, reference: ImageReference, *, labels: Tensor | None = None, seed: int = 0
) -> dict[str, float]:
    """`ImageJudge.evaluate` with a judge trained for this one call."""
    return ImageJudge.train(reference, seed=seed).evaluate(images, labels)


@torch.no_grad()
def _in_batches(function: Callable[[Tensor], Tensor], images: Tensor, size: int = 500) -> Tensor:
    return torch.cat([function(part) for part in images.split(size)])


def inception_frechet(images: Tensor, real: Tensor, *, features: int | nn.Module = 2048, batch_size: int = 50) -> float:
    """FID as in the papers, by torchmetrics, where its Inception weights are at hand (Heusel et al. 2017, 1706.08500).

    Args:
        images: samples ``(N, 3, H, W)`` in [0, 1]; grey pictures are repeated to three channels.
        real: real pictures, likewise.
        features: the layer of Inception v3 by its width (64, 192, 768 or 2048), or a network of your own from ``uint8``
            pictures to ``(N, d)``.
        batch_size: pictures at a time.

    Raises:
        ImportError: torchmetrics, or torch-fidelity with the weights, is not at hand.
    """
    fid = need(
        "torchmetrics.image.fid", to="compute FID on Inception features", install="pip install torchmetrics[image]"
    )
    try:
        metric = fid.FrechetInceptionDistance(feature=features)
    except (ModuleNotFoundError, OSError) as error:  # no torch-fidelity, or no way to fetch the weights
        raise ImportError(
            f"Inception weights are not at hand ({' '.join(str(error).split())[:120]}): pip install torch-fidelity "
            "where the network can be reached, or use evaluate, which trains its own features"
        ) from error
    for pictures, is_real in ((real, True), (images, False)):
        for part in pictures.split(batch_size):
            eight_bit = (as_floats(part).clamp(0, 1) * 255).round().to(torch.uint8)
            metric.update(eight_bit.expand(-1, 3, -1, -1) if part.shape[1] == 1 else eight_bit, real=is_real)
    result: Any = metric.compute()
    return float(result)
