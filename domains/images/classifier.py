"""A small classifier of pictures, trained by a fixed recipe: a judge and a feature network that needs no download.

Distances between distributions of pictures are measured on features. The usual ones come from a network trained on
photographs, which has nothing to say about 8 x 8 digits. This one is trained on the very data set, in seconds, and the
same seed gives the same judge. Figures made with it compare models of one data set; they are not the FID of the papers.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from ornstein.domains.images.arrays import ArrayPictures
from ornstein.domains.images.augment import shifted

__all__ = ["PictureClassifier", "train_classifier"]

FEATURES = 64


class PictureClassifier(nn.Module):
    """A convolutional network whose last hidden layer, 64 numbers a picture, serves as features.

    One block of two 3 x 3 convolutions at the full size, then blocks that halve it until 4 pixels are left;
    each doubles the channels up to 128. The features are the activations before the last, linear layer.

    Args:
        shape: of a picture, ``(C, H, W)``.
        classes: number of classes.
        width: channels of the first block.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = 32) -> None:
        super().__init__()
        self.shape, self.classes, self.width = tuple(shape), classes, width
        halvings = max(0, math.ceil(math.log2(min(shape[1:]) / 4)))
        blocks: list[nn.Module] = []
        channels = shape[0]
        for level in range(halvings + 1):
            out = min(width * 2**level, 128)
            blocks += [_block(channels, out), _block(out, out)]
            if level < halvings:
                blocks.append(nn.MaxPool2d(2, ceil_mode=True))
            channels = out
        self.body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3))
        self.hidden = nn.Linear(4 * channels, FEATURES)
        self.head = nn.Linear(FEATURES, classes)

    def features(self, images: Tensor) -> Tensor:
        """``(N, 64)`` features of pictures ``(N, C, H, W)`` in [0, 1]."""
        return functional.gelu(self.hidden(self.body(images * 2 - 1)))

    def forward(self, images: Tensor) -> Tensor:
        """``(N, classes)`` logits of pictures ``(N, C, H, W)`` in [0, 1]."""
        return self.head(self.features(images))


def _block(channels: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.GELU())


def train_classifier(
    data: ArrayPictures, *, classes: int | None = None, steps: int | None = None, batch_size: int = 64, seed: int = 0
) -> PictureClassifier:
    """Train a `PictureClassifier`: AdamW, one cycle of the learning rate, shifts up to an eighth, no flips.

    Args:
        data: labelled pictures.
        classes: number of classes; those of ``data`` when not given.
        steps: of the optimiser; 20 passes over the data, but within 400 to 4,000 steps, when not given.
        batch_size: pictures a step.
        seed: of the weights, the order and the shifts.

    Raises:
        ValueError: pictures without labels.
    """
    if data.labels is None:
        raise ValueError("the pictures have no labels to train a classifier on; give labelled ones")
    steps = max(400, min(4000, 20 * len(data) // batch_size)) if steps is None else steps
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PictureClassifier(data.shape, len(data.classes) if classes is None else classes)
        optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
        reach = max(1, min(data.shape[1:]) // 8)
        for indices in _batches(len(data), batch_size, steps):
            images = shifted(as_floats(data.images[indices]), reach)
            loss = functional.cross_entropy(model(images), data.labels[indices], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            cycle.step()
    return model.eval().requires_grad_(False)


def as_floats(images: Tensor) -> Tensor:
    """Pictures as float32 in [0, 1], whether ``uint8`` or floating point."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def _batches(count: int, size: int, steps: int) -> Iterator[Tensor]:
    made = 0
    while True:
        order = torch.randperm(count)
        for part in order.split(size):
            if made == steps:
                return
            if len(part) > 1 or count == 1:
                yield part
                made += 1
