"""Where randomness comes from: independent draws, draws seeded per sample, and Brownian paths.

A sampler asks its noise source for the initial state and for one standard normal tensor a step.  Sources differ in
what they promise:

* `IndependentNoise`: torch's generator, on the state's own device; the fastest.
* `SeededNoise`: sample ``i`` has a stream of its own that depends on ``(seed, i)`` alone, so the same sample comes
  out at any batch size, on any device and on any number of processes.
* `BrownianNoise`: as seeded, and the draws of a run are the increments of one Brownian path per sample, so that 20
  and 40 steps see the same path and differ by discretisation error alone.

Seeded draws are made in float32 on the CPU by Philox (Salmon et al. 2011), keyed by ``(seed, i)``: unlike a seed that
is hashed to 32 bits, two samples never share a stream.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["BrownianNoise", "IndependentNoise", "NoiseSource", "SeededNoise", "noise_source"]

_BELOW = 2**63


class NoiseSource(ABC):
    """Standard normal draws for a sampling run; `begin` starts a run, so that one source serves many runs alike."""

    @abstractmethod
    def begin(self, batch: int, first: int) -> "NoiseStream":
        """A fresh stream for samples number ``first ... first + batch - 1``."""


class NoiseStream(ABC):
    """The draws of one run."""

    @abstractmethod
    def draw(self, like: Tensor) -> Tensor:
        """Standard normal tensor that belongs to no interval (the initial state, churn), shaped ``like`` ``(B,
        *event)``.
        """

    @abstractmethod
    def step(self, like: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        """Standard normal tensor for the step from time ``t`` down to ``s``."""

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1), float64, shaped ``like`` ``(B, *event)``: what draws of categories are made from,
        for which float32 is too coarse (it never draws a category of probability below 6e-8).

        By default the normal distribution function of `draw`.
        """
        return torch.special.ndtr(self.draw(like.double())).clamp(max=1 - 2**-53)

    def child(self, number: int) -> "NoiseStream":
        """The stream of part ``number`` of a state of several parts; number 0 is the stream itself."""
        return self

    def rows(self, numbers: Tensor) -> "NoiseStream":
        """The streams of some samples of the batch, ``(R,)`` of their places in it; they go on where the batch's are.

        Raises:
            TypeError: draws that belong to times, which would come again.
        """
        raise TypeError(f"{type(self).__name__}: its samples cannot be drawn again; expected SeededNoise(seed)")


@dataclass(frozen=True)
class IndependentNoise(NoiseSource):
    """Independent draws from a torch generator (the global one when none is given), on the state's device."""

    generator: torch.Generator | None = None

    def begin(self, batch: int, first: int) -> NoiseStream:
        return _IndependentStream(self.generator)


class _IndependentStream(NoiseStream):
    def __init__(self, generator: torch.Generator | None) -> None:
        self.generator = generator

    def draw(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=self.generator)

    def rows(self, numbers: Tensor) -> NoiseStream:
        return self

    def step(self, like: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        return self.draw(like)

    def uniform(self, like: Tensor) -> Tensor:
        return torch.rand(like.shape, dtype=torch.float64, device=like.device, generator=self.generator)


@dataclass(frozen=True)
class SeededNoise(NoiseSource):
    """Draws for sample ``i`` that depend on ``(seed, i)`` alone.

    Args:
        seed: 0 or more.
        numbers: of the samples, 0 or more, for runs of some among many; 0, 1, 2 ... by default.
    """

    seed: int
    numbers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.seed, (int, np.integer)) or not 0 <= self.seed < _BELOW:
            raise ValueError(f"seed={self.seed!r}: expected an integer from 0 to 2^63 - 1")
        if self.numbers is not None and min(self.numbers, default=0) < 0:
            raise ValueError(f"numbers hold {min(self.numbers)}: expected the numbers of samples, 0 or more")

    def begin(self, batch: int, first: int) -> NoiseStream:
        numbers: Sequence[int] = _numbers(first, batch)
        if self.numbers is not None:
            if first + batch > len(self.numbers):
                raise ValueError(
                    f"numbers of {len(self.numbers)} samples for a run of {first} to {first + batch}: expected one each"
                )
            numbers = self.numbers[first : first + batch]
        return _SeededStream(self.seed, numbers)


def _numbers(first: int, batch: int) -> range:
    if first < 0:
        raise ValueError(f"first={first}: expected the number of a sample, 0 or more")
    return range(first, first + batch)


def _generator(seed: int, index: int, stream: int = 0, part: int = 0) -> np.random.Generator:
    """Philox keyed by seed and sample; ``stream`` and ``part`` are high words of the counter, so that streams do not
    overlap.
    """
    return np.random.Generator(np.random.Philox(key=[seed, index], counter=[0, 0, part, stream]))


class _SeededStream(NoiseStream):
    def __init__(self, seed: int, indices: Sequence[int], part: int = 0, generators: Any = None) -> None:
        self.seed, self.indices = seed, indices
        self.generators = [_generator(seed, i, part=part) for i in indices] if generators is None else generators

    def child(self, number: int) -> NoiseStream:
        return self if number == 0 else _SeededStream(self.seed, self.indices, number)

    def rows(self, numbers: Tensor) -> NoiseStream:
        indices, generators = ([of[i] for i in numbers.tolist()] for of in (self.indices, self.generators))
        return _SeededStream(self.seed, indices, generators=generators)

    def draw(self, like: Tensor) -> Tensor:
        out = np.empty(tuple(like.shape), dtype=np.float32)
        for row, generator in zip(out, self.generators, strict=True):
            row[...] = generator.standard_normal(row.shape, dtype=np.float32)
        return torch.from_numpy(out).to(device=like.device, dtype=like.dtype)

    def step(self, like: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        return self.draw(like)

    def uniform(self, like: Tensor) -> Tensor:
        out = np.empty(tuple(like.shape))
        for row, generator in zip(out, self.generators, strict=True):
            row[...] = generator.random(row.shape)
        return torch.from_numpy(out).to(like.device)


@dataclass(frozen=True)
class BrownianNoise(NoiseSource):
    """Draws that are the increments of one Brownian path per sample, in process time.

    The step from ``t`` to ``s`` gets ``(W(t) - W(s)) / sqrt(t - s)``.  ``W`` is built by Levy's midpoint construction
    down to intervals of ``2^-depth``, within which it is linear; every value is a function of ``(seed, i, time)`` and
    independent of the order of the questions.

    Args:
        seed: 0 or more.
        depth: levels of bisection; steps should be much longer than ``2^-depth``.
    """

    seed: int
    depth: int = 20

    def __post_init__(self) -> None:
        SeededNoise(self.seed)
        if not 1 <= self.depth <= 40:
            raise ValueError(f"depth={self.depth}: expected 1 to 40 levels of bisection")

    def begin(self, batch: int, first: int) -> NoiseStream:
        return _BrownianStream(self.seed, _numbers(first, batch), self.depth)


class _BrownianStream(NoiseStream):
    def __init__(self, seed: int, indices: range, depth: int, part: int = 0) -> None:
        self.seed, self.indices, self.depth, self.part = seed, indices, depth, part
        self.start = _SeededStream(seed, indices, part)
        self.nodes: dict[int, np.ndarray] = {}

    def draw(self, like: Tensor) -> Tensor:
        return self.start.draw(like)

    def uniform(self, like: Tensor) -> Tensor:
        return self.start.uniform(like)

    def child(self, number: int) -> NoiseStream:
        return self if number == 0 else _BrownianStream(self.seed, self.indices, self.depth, number)

    def _node(self, node: int, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal of a node: 0 is the increment over [0, 1]; midpoints are numbered as in a heap, from 1."""
        if node not in self.nodes:
            draws = [
                _generator(self.seed, i, node + 1, self.part).standard_normal(shape[1:], dtype=np.float32)
                for i in self.indices
            ]
            self.nodes[node] = np.stack(draws).astype(np.float64)
        return self.nodes[node]

    def _path(self, time: float, shape: tuple[int, ...]) -> np.ndarray:
        """``W(time)``, shape ``(B, *event)``."""
        low, high, node = 0.0, 1.0, 1
        left, right = np.zeros(shape), self._node(0, shape)
        visited = {0}
        for _ in range(self.depth):
            middle = 0.5 * (low + high)
            value = 0.5 * (left + right) + 0.5 * (high - low) ** 0.5 * self._node(node, shape)
            visited.add(node)
            if time < middle:
                high, right, node = middle, value, 2 * node
            else:
                low, left, node = middle, value, 2 * node + 1
        # Only the last bracket is kept: the next question of a run lies close by and shares most of it.
        self.nodes = {key: self.nodes[key] for key in visited}
        return left + (time - low) / (high - low) * (right - left)

    def step(self, like: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        shape, t, s = tuple(like.shape), float(t), float(s)
        increment = (self._path(t, shape) - self._path(s, shape)) / (t - s) ** 0.5
        return torch.from_numpy(increment).to(device=like.device, dtype=like.dtype)


class ForkedStream(NoiseStream):
    """A stream whose parts, once asked for, go on where they are."""

    def __init__(self, parts: Sequence[NoiseStream]) -> None:
        self.parts = parts

    @classmethod
    def of(cls, stream: NoiseStream, parts: int) -> "ForkedStream":
        """The first parts of a stream."""
        return cls([stream.child(number) for number in range(parts)])

    def draw(self, like: Tensor) -> Tensor:
        return self.parts[0].draw(like)

    def step(self, like: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        return self.parts[0].step(like, t, s)

    def uniform(self, like: Tensor) -> Tensor:
        return self.parts[0].uniform(like)

    def child(self, number: int) -> NoiseStream:
        return self.parts[number]

    def rows(self, numbers: Tensor) -> NoiseStream:
        return ForkedStream([part.rows(numbers) for part in self.parts])


@dataclass(frozen=True)
class BegunNoise(NoiseSource):
    """Goes on with a stream that was begun."""

    stream: NoiseStream

    def begin(self, batch: int, first: int) -> NoiseStream:
        return self.stream


def noise_source(seed: int | None, noise: NoiseSource | None) -> NoiseSource:
    """The source that a run was given, `SeededNoise` for a seed, or torch's generator for neither.

    Raises:
        ValueError: both were given.
    """
    if seed is not None and noise is not None:
        raise ValueError("seed and noise were both given: expected one; a seed is short for noise=SeededNoise(seed)")
    if seed is not None:
        return SeededNoise(seed)
    return noise if noise is not None else IndependentNoise()
