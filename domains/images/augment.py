"""Random changes to training pictures, one draw a picture, from the global generator.

The training loop seeds that generator for every batch, so a resumed run sees the same changes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["Augment", "Augmented", "shifted"]


@dataclass(frozen=True)
class Augment:
    """What may be done to a picture; nothing by default.

    Args:
        flip: mirror left and right, every second picture by chance. Not for digits or text.
        shift: largest shift, in pixels, up or down and left or right; the border is repeated outwards.

    Raises:
        ValueError: a negative shift.
    """

    flip: bool = False
    shift: int = 0

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"shift must be 0 or more pixels, got {self.shift}")

    def __call__(self, images: Tensor) -> Tensor:
        """Change a batch ``(B, C, H, W)``."""
        if self.flip:
            chosen = torch.rand(len(images)) < 0.5
            images = torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)
        return shifted(images, self.shift) if self.shift else images


def shifted(images: Tensor, reach: int) -> Tensor:
    """Move each picture of ``(B, C, H, W)`` by up to ``reach`` pixels along both axes, repeating its border."""
    batch, _, height, width = images.shape
    offsets = torch.randint(-reach, reach + 1, (2, batch, 1))
    rows = (torch.arange(height) + offsets[0]).clamp(0, height - 1)
    columns = (torch.arange(width) + offsets[1]).clamp(0, width - 1)
    index = torch.arange(batch).view(-1, 1, 1)
    return images.permute(0, 2, 3, 1)[index, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2).contiguous()


class Augmented(Dataset[Any]):
    """A data set of pictures whose images are changed by ``augment`` each time they are read."""

    def __init__(self, data: Any, augment: Augment) -> None:
        self.data, self.augment = data, augment

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = self.data[index]
        return {**item, "image": self.augment(item["image"].unsqueeze(0)).squeeze(0)}

    def __getitems__(self, indices: list[int]) -> Any:
        if not hasattr(self.data, "__getitems__"):
            return [self[index] for index in indices]
        batch = self.data.__getitems__(indices)
        return {**batch, "image": self.augment(batch["image"])}
