"""What `train` asks of a model and of its data, for autoencoders."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from ..adapter import Example
from ..training import DataModule
from .autoencoder import Autoencoder

__all__ = ["AutoencoderTraining", "TensorData"]


class AutoencoderTraining(nn.Module):
    """An autoencoder with its objective, whose parameters (a learned scale) are trained with it.

    Args:
        denoiser: the autoencoder, by the name under which `train` looks for what the objective is called with.
    """

    condition_dropout: Mapping[str, float] = {}
    objective: nn.Module
    states: Callable[[Any], Tensor] | None = None

    def __init__(self, denoiser: Autoencoder) -> None:
        super().__init__()
        self.denoiser = denoiser

    def encode(self, batch: Any) -> Example:
        """Data of a batch."""
        return Example(batch if self.states is None else self.states(batch))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the autoencoder alone."""
        self.denoiser.save_pretrained(folder)


class TensorData(DataModule):
    """All data as one tensor.

    Args:
        data: ``(N, *event)``.
        batch_size: samples a step and process.
    """

    def __init__(self, data: Tensor, batch_size: int) -> None:
        super().__init__(batch_size)
        self.data = data

    def train_dataset(self) -> Any:
        return _Rows(self.data)

    def reference(self) -> Tensor:
        """The data."""
        return self.data

    def collate(self, samples: Any) -> Any:
        """A batch comes as a tensor already."""
        return samples


class _Rows(Dataset[Tensor]):
    def __init__(self, data: Tensor) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Tensor:
        return self.data[index]

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        return self.data[list(indices)]
