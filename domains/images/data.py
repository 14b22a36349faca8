"""The base of the data modules: pictures to train on, pictures held out to judge by, and how a set is split."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Subset

from ornstein.core.training.data import DataModule
from ornstein.domains.images.arrays import ArrayPictures
from ornstein.domains.images.augment import Augment, Augmented
from ornstein.domains.images.datasets import PictureSet, materialize

__all__ = ["ImageData", "ImageReference", "held_out", "same_kind", "stratified_split"]


@dataclass(frozen=True)
class ImageReference:
    """Real pictures to judge samples by.

    Attributes:
        train: what the model saw (or a random part of it), for the judge's training and the copy check.
        heldout: what it did not see.
    """

    train: ArrayPictures
    heldout: ArrayPictures


class ImageData(DataModule):
    """Base of the data modules here: a subclass gives ``pictures``, the training and the held-out set.

    Args:
        batch_size: pictures a step and process.
        num_workers: processes that read pictures beside each training process.
        augment: random changes to training pictures; none when not given.
        reference_size: pictures of each part that ``reference`` draws at most.
    """

    def __init__(
        self,
        batch_size: int = 64,
        num_workers: int = 0,
        augment: Augment | None = None,
        reference_size: int = 10_000,
    ) -> None:
        super().__init__(batch_size, num_workers)
        if reference_size < 2:
            raise ValueError(f"reference_size must be at least 2 pictures, got {reference_size}")
        self.augment, self.reference_size = augment, reference_size
        self._parts: tuple[PictureSet, PictureSet] | None = None

    def pictures(self) -> tuple[PictureSet, PictureSet]:
        """Read the source: the pictures to train on, and those held out. Called once."""
        raise NotImplementedError

    @property
    def parts(self) -> tuple[PictureSet, PictureSet]:
        """``pictures()``, read when first asked for."""
        if self._parts is None:
            self._parts = self.pictures()
        return self._parts

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of the pictures."""
        return self.parts[0].shape

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty without."""
        return self.parts[0].classes

    def train_dataset(self) -> Any:
        """The training pictures, changed by ``augment``."""
        return self.parts[0] if self.augment is None else Augmented(self.parts[0], self.augment)

    def validation_dataset(self) -> Any:
        """The held-out pictures, unchanged."""
        return self.parts[1]

    def reference(self) -> ImageReference:
        """Unchanged pictures of both parts, at most ``reference_size`` of each, drawn evenly."""
        return ImageReference(*(_part(data, self.reference_size) for data in self.parts))

    def collate(self, samples: Any) -> Any:
        """A batch of a list of items; pictures in memory come as a batch already."""
        return samples if isinstance(samples, dict) else super().collate(samples)


def stratified_split(labels: np.ndarray, heldout: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of a training part and of ``heldout`` others, each class in its share (largest remainders).

    Raises:
        ValueError: ``heldout`` leaves nothing on one of the sides.
    """
    labels = np.asarray(labels)
    if not 0 < heldout < len(labels):
        raise ValueError(f"cannot hold out {heldout} of {len(labels)} pictures; give another holdout")
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    shares = heldout * counts / len(labels)
    quotas = np.floor(shares).astype(int)
    quotas[np.argsort(quotas - shares, kind="stable")[: heldout - quotas.sum()]] += 1
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:quota] for c, quota in zip(classes, quotas)]
    test = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), test), test


class _Part(Subset[Any]):
    """Some pictures of a set that is not in memory."""

    def __init__(self, data: Any, indices: np.ndarray) -> None:
        super().__init__(data, indices.tolist())
        self.classes, self.shape = data.classes, data.shape


def held_out(data: Any, holdout: float, seed: int) -> tuple[PictureSet, PictureSet]:
    """Split a set in two, ``holdout`` of it in the second part, the same share of each class where there are labels.

    Raises:
        ValueError: a part that is not between 0 and 1, or so small or large that one side would be empty.
    """
    if not 0 < holdout < 1:
        raise ValueError(f"holdout={holdout}: expected a part of the pictures, between 0 and 1")
    labels = getattr(data, "labels", None)
    groups = np.zeros(len(data), dtype=int) if labels is None or len(labels) == 0 else np.asarray(labels)
    train, heldout = stratified_split(groups, round(holdout * len(data)), seed)
    return _chosen(data, train), _chosen(data, heldout)


def _chosen(data: Any, indices: np.ndarray) -> PictureSet:
    return data.subset(indices) if isinstance(data, ArrayPictures) else _Part(data, indices)


def same_kind(train: Any, heldout: Any) -> tuple[PictureSet, PictureSet]:
    """Both sets, after a check that their pictures have one shape and the same classes.

    Raises:
        ValueError: they differ.
    """
    for name in ("shape", "classes"):
        ours, theirs = getattr(train, name), getattr(heldout, name)
        if ours != theirs:
            raise ValueError(f"the held-out pictures have {name} {theirs} where the training pictures have {ours}")
    return train, heldout


def _part(data: PictureSet, limit: int) -> ArrayPictures:
    if len(data) > limit:
        drawn = np.random.default_rng(0).choice(len(data), limit, replace=False)
        data = _chosen(data, np.sort(drawn))
    return materialize(data)
