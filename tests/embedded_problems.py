"""A small distribution of sequences of embedded categories, its exact denoiser, and networks without training."""

from typing import Any

import torch
from torch import Tensor, nn

from ornstein.core import SDE, Schedule
from ornstein.core.embedded import EmbeddedDenoiser, EmbeddingTable, EnumeratedEmbeddedDenoiser, SqrtSchedule


def embeddings(size: int = 4, dimensions: int = 3) -> EmbeddingTable:
    torch.manual_seed(5)
    return EmbeddingTable(size, dimensions).double().requires_grad_(False)


def joint(size: int = 4, length: int = 3) -> Tensor:
    values = torch.rand(*[size] * length, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) ** 4
    return values / values.sum()


def exact(schedule: Schedule | None = None, length: int = 3) -> EnumeratedEmbeddedDenoiser:
    return EnumeratedEmbeddedDenoiser(SDE(schedule or SqrtSchedule()), embeddings(), joint(length=length))


class Network(nn.Module):
    """One hidden layer over the whole sequence, which remembers what it was given."""

    def __init__(self, length: int, dimensions: int, outputs: int, width: int = 32) -> None:
        super().__init__()
        self.inner = nn.Linear(length * (2 * dimensions + 1) + 1, width)
        self.outer = nn.Linear(width, length * outputs)
        self.length = length
        self.calls: list[dict[str, Any]] = []

    def forward(
        self, x: Tensor, c: Tensor, estimate: Tensor | None = None, given: Tensor | None = None, **condition: Tensor
    ) -> Tensor:
        self.calls.append({"x": x, "c": c, "estimate": estimate, "given": given, **condition})
        shown = torch.zeros_like(x[..., 0]) if given is None else given.to(x)
        before = torch.zeros_like(x) if estimate is None else estimate
        seen = torch.cat([x.flatten(1), before.flatten(1), shown, c[:, None].to(x)], 1)
        return self.outer(torch.tanh(self.inner(seen))).unflatten(1, (self.length, -1))


def networked(prediction: Any = "logits", self_conditioning: bool = True, schedule: Schedule | None = None) -> Any:
    """A denoiser with random weights, float64."""
    torch.manual_seed(1)
    table = embeddings()
    network = Network(3, 3, 4 if prediction == "logits" else 3).double()
    process = SDE(schedule or SqrtSchedule())
    return EmbeddedDenoiser(network, table, process, prediction, self_conditioning)
