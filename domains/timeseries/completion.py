"""Series completed by a model: what is missing is drawn, many samples at a time, whatever the length of a series.

A series that fits in a window is one row a sample. Of a longer one only the windows that lack something are asked, all
of one sample at once (`WindowedDenoiser`), so that a sample is one series without seams. What the network makes of the
known values alone (``encode``) is computed once a window and serves all of its samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.core import (
    Denoiser,
    EnergyGuidance,
    GaussianNoise,
    Mask,
    Measurement,
    NoiseSource,
    ObservationEnergy,
    Sampler,
    SeededNoise,
    WindowedDenoiser,
    complete,
    posterior_sampler,
    window_starts,
)
from ornstein.core.inverse import POSTERIOR_METHODS
from ornstein.core.training.seeds import derive_seed
from ornstein.domains.timeseries.facts import Scaled
from ornstein.domains.timeseries.windows import Rows

__all__ = ["METHODS", "Completion"]

SELF_GUIDANCE = ("mean_square", "quantile")
METHODS = ("conditional", *SELF_GUIDANCE, *POSTERIOR_METHODS)
"""How what is known is told: to the network ("conditional"), by guidance of the network that is told nothing (TSDiff:
Kollovieh et al. 2023, arXiv 2307.11494), or by a method of `posterior_sampler` with it as the prior."""

SAMPLES = 1 << 24  # the numbers of samples of one series, so that no two series share a stream


@dataclass(frozen=True)
class Completion:
    """How to draw what is missing.

    Args:
        denoiser: of windows.
        window: steps of a window.
        sampler: walks from noise to data.
        seed: makes sample ``i`` of series ``j`` a function of ``(seed, i, j)`` and the series.
        batch_size: windows that are evaluated at a time.
        method: one of `METHODS`.
        scale: strength of self-guidance.
        progress: show bars.
        first: the number of the first series, for runs in parts.
    """

    denoiser: Denoiser[Any]
    window: int
    sampler: Sampler
    seed: int
    batch_size: int
    method: str = "conditional"
    scale: float = 4.0
    progress: bool = False
    first: int = 0

    def __call__(self, series: Sequence[Scaled], n: int) -> list[np.ndarray]:
        """``n`` samples of each series, ``(n, T, K)`` float32 in scaled units; known values are as they were."""
        found: list[Any] = [None] * len(series)
        short = [i for i, one in enumerate(series) if len(one.values) <= self.window]
        for start in range(0, len(short) * n, self.batch_size):
            some = [divmod(place, n) for place in range(start, min(start + self.batch_size, len(short) * n))]
            numbers = [(short[i], sample) for i, sample in some]
            for (i, sample), row in zip(numbers, self._rows(series, numbers, n)):
                if found[i] is None:
                    found[i] = np.empty((n, *series[i].values.shape), dtype=np.float32)
                found[i][sample] = row[: len(series[i].values)]
        for i, one in enumerate(series):
            if found[i] is None:
                found[i] = self._long(i, one, n)
        return found

    def _rows(self, series: Sequence[Scaled], numbers: Sequence[tuple[int, int]], n: int) -> np.ndarray:
        """A batch of samples ``(B, L, K)`` of series that fit in a window, by number of series and of sample."""
        names = sorted({i for i, _ in numbers})
        rows = Rows.of([series[i] for i in names], self.window)
        batch = self._placed(rows.batch(torch.arange(len(names)), torch.zeros(len(names), dtype=torch.int64)))
        real = torch.arange(self.window)[None] < rows.lengths[:, None]
        mask = real[..., None].expand(batch["values"].shape).to(batch["values"].device)
        told = self._told(batch, mask)
        index = torch.tensor([names.index(i) for i, _ in numbers], device=mask.device)
        chosen = {name: value[index] for name, value in told.items()}
        x = self._draw(
            self.denoiser,
            batch["values"][index],
            batch["observed"][index],
            None if bool(real.all()) else mask[index],
            chosen,
            SeededNoise(self.seed, tuple((self.first + i) * SAMPLES + sample for i, sample in numbers)),
            [(sample + 0.5) / n for _, sample in numbers],
        )
        return x.cpu().numpy()

    def _long(self, number: int, one: Scaled, n: int) -> np.ndarray:
        """Samples of a series that is longer than a window: only what windows with gaps cover is drawn."""
        out = np.repeat(one.values[None], n, 0)
        starts = window_starts(len(one.values), self.window, max(1, self.window // 2))
        starts = [start for start in starts if not one.observed[start : start + self.window].all()]
        for group in _joined(starts, self.window):
            first, stop = group[0], group[-1] + self.window
            rows = Rows.of([one], self.window)
            batch = self._placed(rows.batch(torch.zeros(len(group), dtype=torch.int64), torch.tensor(group)))
            told = self._told(batch, torch.ones_like(batch["observed"]))
            at_once = max(1, self.batch_size // len(group))
            for start in range(0, n, at_once):
                chosen = range(start, min(start + at_once, n))
                denoiser = WindowedDenoiser(
                    self.denoiser, self.window, [at - first for at in group], told, self.batch_size
                )
                known, given = (
                    torch.from_numpy(part[first:stop]).to(batch["values"].device).expand(len(chosen), -1, -1)
                    for part in (one.values, one.observed)
                )
                numbers = tuple((self.first + number) * SAMPLES + sample for sample in chosen)
                noise = SeededNoise(derive_seed(self.seed, "segment", first), numbers)
                levels = [(sample + 0.5) / n for sample in chosen]
                x = self._draw(denoiser, known, given, None, {}, noise, levels)
                out[start : start + len(chosen), first:stop] = x.cpu().numpy()
        return out

    def _placed(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        device = next(iter(self.denoiser.parameters())).device
        return {name: value.to(device) for name, value in batch.items()}

    def _told(self, batch: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """What the network is told of each window, its own reading of the known values included."""
        told = {name: value for name, value in batch.items() if name not in ("values", "observed")}
        encode = getattr(getattr(self.denoiser, "network", None), "encode", None)
        if encode is not None and self.method == "conditional":
            told["context"] = encode(batch["values"], given=batch["observed"], mask=mask, **told)
        return told

    def _draw(
        self,
        denoiser: Denoiser[Any],
        known: Tensor,
        given: Tensor,
        mask: Tensor | None,
        told: Mapping[str, Tensor],
        noise: NoiseSource,
        levels: Sequence[float],
    ) -> Tensor:
        """Samples ``(B, T, K)`` that hold what is known."""
        if self.method == "conditional":
            return complete(
                denoiser, known, given, self.sampler, noise=noise, mask=mask, condition=told, progress=self.progress
            )
        free = {**told, "given": torch.zeros_like(given)}
        sampler: Sampler = self.sampler
        if self.method in SELF_GUIDANCE:
            of = torch.tensor(levels, device=known.device) if self.method == "quantile" else None
            loss: Any = self.method
            denoiser = EnergyGuidance(denoiser, ObservationEnergy(known, given, loss, of), self.scale)
        else:
            seen = Measurement(torch.where(given, known, 0.0), Mask(given, per_sample=True), GaussianNoise())
            sampler, denoiser = posterior_sampler(self.method, denoiser, seen, self.sampler.steps)
        x = sampler.sample(denoiser, known.shape, noise=noise, condition=free, mask=mask, progress=self.progress)
        return torch.where(given, known, x)


def _joined(starts: Sequence[int], window: int) -> list[list[int]]:
    """Starts of windows in groups that overlap or touch."""
    groups: list[list[int]] = []
    for start in starts:
        if groups and start <= groups[-1][-1] + window:
            groups[-1].append(start)
        else:
            groups.append([start])
    return groups
