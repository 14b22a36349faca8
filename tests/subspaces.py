"""Subspaces with explicit coordinates, and noise that is turned, permuted, padded or seen in those coordinates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.noise import NoiseSource, NoiseStream
from ornstein.core.schedules import Schedule
from ornstein.core.symmetric import CentredSDE, SubspaceSDE, SymmetricSDE

Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Subspace:
    """A process, its event's shape, and maps of states to coordinates ``(B, d)`` and back."""

    process: SubspaceSDE
    event: tuple[int, ...]
    coordinates: Change
    embed: Change
    dim: int


def centred(schedule: Schedule, points: int = 4, dims: int = 2) -> Subspace:
    """Coordinates in an orthonormal basis, from the eigenvectors of the projection."""
    ones = torch.ones(points, points, dtype=torch.float64) / points
    basis = torch.linalg.eigh(torch.eye(points, dtype=torch.float64) - ones)[1][:, 1:]
    return Subspace(
        CentredSDE(schedule),
        (points, dims),
        lambda x: (basis.T @ x.double()).flatten(1),
        lambda u: basis @ u.reshape(len(u), points - 1, dims),
        (points - 1) * dims,
    )


def symmetric(schedule: Schedule, diagonal: str = "zero", points: int = 4) -> Subspace:
    """The entries above the diagonal, and on it where it is kept."""
    rows, columns = torch.triu_indices(points, points, offset=0 if diagonal == "kept" else 1)

    def embed(u: Tensor) -> Tensor:
        x = torch.zeros(len(u), points, points, dtype=u.dtype)
        x[:, rows, columns] = u
        x[:, columns, rows] = u
        return x

    process = SymmetricSDE(schedule, diagonal)  # type: ignore[arg-type]
    return Subspace(process, (points, points), lambda x: x.double()[:, rows, columns], embed, len(rows))


@dataclass(frozen=True)
class ChangedNoise(NoiseSource):
    """The draws of a source for states of shape ``event``, changed by a function."""

    source: NoiseSource
    change: Change
    event: tuple[int, ...]

    def begin(self, batch: int, first: int) -> NoiseStream:
        return _Changed(self.source.begin(batch, first), self.change, self.event)


class _Changed(NoiseStream):
    def __init__(self, stream: NoiseStream, change: Change, event: tuple[int, ...]) -> None:
        self.stream, self.change, self.event = stream, change, event

    def draw(self, like: Tensor) -> Tensor:
        return self.change(self.stream.draw(like.new_empty(len(like), *self.event)))

    def step(self, like: Tensor, t: Any, s: Any) -> Tensor:
        return self.draw(like)
