"""A domain as a third party would write it: points in the plane, on rings by class. The tests train it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from ornstein.core.adapter import DomainAdapter, Example
from ornstein.core.denoisers import NetworkDenoiser
from ornstein.core.objectives import DenoisingObjective
from ornstein.core.samplers import DDIM
from ornstein.core.schedules import CosineSchedule, Schedule
from ornstein.core.sdes import SDE
from ornstein.core.training import DataModule

__all__ = ["ToyData", "ToyDiffusion", "ToyNetwork"]


class ToyNetwork(nn.Module):
    """A perceptron with dropout."""

    def __init__(self, width: int = 16, dropout: float = 0.1, classes: int = 2) -> None:
        super().__init__()
        self.width, self.dropout, self.classes = width, dropout, classes
        self.embedding = nn.Embedding(classes + 1, width)
        self.inside = nn.Linear(3, width)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(width, 2)

    def forward(self, x: Tensor, c: Tensor, *, label: Tensor | None = None) -> Tensor:
        label = torch.full((len(x),), -1, device=x.device) if label is None else label
        hidden = self.inside(torch.cat([x, c[:, None].to(x)], 1)) + self.embedding(label + 1)
        return self.out(self.drop(torch.nn.functional.silu(hidden)))


class ToyDiffusion(DomainAdapter):
    """Points in the plane with two classes."""

    def __init__(
        self,
        network: ToyNetwork | None = None,
        schedule: Schedule | None = None,
        label_dropout: float = 0.1,
        steps: int = 5,
    ) -> None:
        super().__init__()
        self.network = network or ToyNetwork()
        self.schedule = schedule or CosineSchedule()
        self.label_dropout = label_dropout
        self.steps = steps
        self.denoiser = NetworkDenoiser(self.network, SDE(self.schedule))
        self.objective = DenoisingObjective()
        self.sampler = DDIM(steps=steps)
        self.condition_dropout = {"label": label_dropout}
        self.register_buffer("scale", torch.tensor(2.0))

    def encode(self, batch: Any) -> Example:
        points, label = batch
        return Example(points / self.scale, {"label": label})

    def decode(self, state: Any) -> Tensor:
        return state * self.scale.cpu()

    def state_shape(self, num: int, condition: Mapping[str, Tensor]) -> tuple[int, ...]:
        return (num, 2)

    def preview_condition(self, num: int) -> dict[str, Any]:
        return {"label": torch.arange(num) % 2}

    def render(self, samples: Tensor, path: str | Path) -> None:
        import numpy as np
        from PIL import Image

        canvas = np.zeros((32, 32), np.uint8)
        for x, y in ((samples / 4 + 0.5) * 31).clamp(0, 31).long().tolist():
            canvas[y, x] = 255
        Image.fromarray(canvas).save(path)

    def write(self, samples: Tensor, directory: str | Path, *, first: int = 0) -> list[Path]:
        paths = [Path(directory) / f"{first + i:06d}.txt" for i in range(len(samples))]
        for path, (x, y) in zip(paths, samples.tolist(), strict=True):
            path.write_text(f"{x!r} {y!r}\n")
        return paths

    def prepare_condition(self, num: int, **condition: Any) -> dict[str, Tensor]:
        prepared = super().prepare_condition(num, **condition)
        if "label" in prepared and not bool(((prepared["label"] >= -1) & (prepared["label"] < 2)).all()):
            raise ValueError(f"label must be -1, 0 or 1, got {condition['label']}")
        return prepared

    def evaluate(self, samples: Any, reference: Tensor) -> dict[str, float]:
        samples = samples["samples"] if isinstance(samples, Mapping) else samples
        return {"mean_distance": float((samples.mean(0) - reference.mean(0)).norm())}

    @classmethod
    def demo(cls, run: str | Path, *, quick: bool = False, **options: Any) -> None:
        Path(run).mkdir(parents=True, exist_ok=True)
        (Path(run) / "report.html").write_text(f"quick={quick}")


class _Jittered(TensorDataset):
    """Augments with the global generator, as most augmentations do."""

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        points, label = super().__getitem__(index)
        return points + 0.01 * torch.randn(2), label


class ToyData(DataModule):
    """Two rings."""

    def __init__(
        self, size: int = 50, validation: int = 0, jitter: bool = True, batch_size: int = 8, num_workers: int = 0
    ) -> None:
        super().__init__(batch_size, num_workers)
        self.size, self.validation, self.jitter = size, validation, jitter

    def train_dataset(self) -> TensorDataset:
        return (_Jittered if self.jitter else TensorDataset)(*_rings(self.size, 0))

    def validation_dataset(self) -> TensorDataset | None:
        return TensorDataset(*_rings(self.validation, 1)) if self.validation else None

    def reference(self) -> Tensor:
        return _rings(64, 2)[0]


def _rings(size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(size) % 2
    angle = 6.28319 * torch.rand(size, generator=generator)
    return (1.0 + label)[:, None] * torch.stack([angle.cos(), angle.sin()], 1), label
