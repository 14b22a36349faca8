r"""The grid with which a sampler comes closest to what many steps would give.

A sampler of ``K`` steps and a reference run of many start from the same noise.  The ``K - 1`` inner times minimise

    trajectory:    E |x_K - x_ref|,
    distribution:  E_theta W_1(<theta, x_K>, <theta, y>),   ``y`` the reference's samples, or data,

the distance of the end points or, over random unit vectors ``theta``, of the distributions, the sliced Wasserstein
distance.  The second does not mind that few steps take some samples to another mode.  Gradients go through the sampler
to the times, as Watson et al. 2022 (DDSS, 2202.05830) do for a perceptual distance; the unsquared distance of the end
points keeps the few samples that change the mode from deciding everything.

Inner log-SNR are ``low + (high - low) cumsum(softmax(w))``, which fall into place for any weights ``w``; the ends are
those of the sampler's own grid, as the first ``w`` are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..grids import PowerTime, Times
from ..noise import SeededNoise
from ..samplers import DPMSolver, Sampler
from ..schedules import require
from ..sdes import SDE
from .differentiable import run_from
from .levels import CLEAN, NOISY, as_times

__all__ = ["SamplerSearch", "TunedGrid"]


@dataclass(frozen=True)
class TunedGrid:
    """What a search found.

    Args:
        grid: the tuned times.
        before: distance of the sampler on its own grid, on noise that the search did not see.
        after: the same on the tuned grid.
        evaluations: sampler runs that the search took.
    """

    grid: Times
    before: float
    after: float
    evaluations: int


@dataclass(frozen=True)
class SamplerSearch:
    """Tunes the times of one sampler; see the module's text.

    Args:
        criterion: "trajectory" (deterministic samplers) or "distribution".
        method: "coordinate": each weight in turn is raised and lowered and stays where that is better, by half as much
            when a sweep gains less than 1 %; needs no gradient.  "gradient": Adam, differentiating through the run, for
            many steps, where a sweep is long; not for samplers whose steps branch on their coefficients.
        iterations: greatest number of Adam's steps, or of sweeps.
        patience: stop after this many steps without a better distance (gradient).
        lr: Adam's learning rate, for the weights ``w``.
        projections: directions of the sliced distance.
        reference: the run of many steps; with a stochastic sampler only the distributions compare.
    """

    criterion: Literal["trajectory", "distribution"] = "distribution"
    method: Literal["coordinate", "gradient"] = "coordinate"
    iterations: int = field(default=150, kw_only=True)
    patience: int = field(default=30, kw_only=True)
    lr: float = field(default=0.1, kw_only=True)
    projections: int = field(default=64, kw_only=True)
    reference: Sampler = field(default=DPMSolver(100, grid=PowerTime()), kw_only=True)

    def __post_init__(self) -> None:
        criteria, methods = ("trajectory", "distribution"), ("gradient", "coordinate")
        require(self.criterion in criteria, "criterion", self.criterion, "'trajectory' or 'distribution'")
        require(self.method in methods, "method", self.method, "'gradient' or 'coordinate'")
        for name in ("iterations", "patience", "projections"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.lr > 0, "lr", self.lr, "a positive number")

    def search(
        self,
        denoiser: Denoiser,
        sampler: Sampler,
        shape: Sequence[int],
        *,
        data: Tensor | None = None,
        seed: int = 0,
        condition: Mapping[str, Any] | None = None,
        progress: bool = False,
    ) -> TunedGrid:
        """Tune the times of ``sampler`` from those of its own grid on.

        The search runs on samples ``0 ... B - 1`` of the seed, the distances that it reports on ``B ... 2 B - 1``.

        Args:
            denoiser: what is sampled from.
            sampler: whose grid is tuned; of at least 2 steps.
            shape: ``(B, *event)``, of the states of a run.  The gradient keeps all evaluations of a run in memory.
            data: ``(M, *event)``, compared with in place of the reference run; for the criterion "distribution".
            seed: of the noise and the directions.
            condition: tensors for the denoiser, by name, with ``B`` rows.
            progress: show a bar.

        Raises:
            ValueError: for a sampler whose times are not those of its grid, or a criterion that does not fit it.
        """
        self._check(denoiser.process, sampler, data)
        distances = [
            self._distance(denoiser, sampler, shape, data, seed, first, condition) for first in (0, int(shape[0]))
        ]
        search = self._by_gradient if self.method == "gradient" else self._by_coordinate
        levels, count = search(denoiser.process, sampler, distances[0], progress)
        tuned = as_times(levels.times(levels.start))
        own = as_times(sampler.grid(sampler.steps, denoiser.process))
        before, after = (float(distances[1](replace(sampler, grid=grid), None)) for grid in (own, tuned))
        return TunedGrid(tuned, before, after, count)

    def distance(
        self,
        denoiser: Denoiser,
        sampler: Sampler,
        shape: Sequence[int],
        *,
        data: Tensor | None = None,
        seed: int = 0,
        first: int = 0,
        condition: Mapping[str, Any] | None = None,
    ) -> float:
        """How far a sampler is from the reference or the data; arguments as for `search`, on samples ``first ...``."""
        self._check(denoiser.process, sampler, data)
        return float(self._distance(denoiser, sampler, shape, data, seed, first, condition)(sampler, None))

    def _check(self, process: SDE, sampler: Sampler, data: Tensor | None) -> None:
        require(sampler.steps >= 2, "sampler", sampler, "a sampler of at least 2 steps; one step has no inner time")
        fixed = not sampler.adaptive and len(sampler.route(process)) == sampler.steps + 1
        require(fixed, "sampler", sampler, "a sampler that walks its grid once")
        if self.criterion == "trajectory":
            require(not sampler.stochastic, "sampler", sampler, "a deterministic one, or criterion='distribution'")
            require(data is None, "data", data, "none with criterion='trajectory', which compares end points")

    def _distance(
        self,
        denoiser: Denoiser,
        sampler: Sampler,
        shape: Sequence[int],
        data: Tensor | None,
        seed: int,
        first: int,
        condition: Mapping[str, Any] | None,
    ) -> Callable[[Sampler, Tensor | None], Tensor]:
        """The distance of a sampler's run, and of one at given inner levels with a gradient."""
        process, batch = denoiser.process, int(shape[0])
        start = float(sampler.grid(sampler.steps, process)[0])
        like = torch.empty(tuple(shape), device=_device(denoiser))
        x = SeededNoise(seed).begin(batch, first).draw(like) * process.level(start).sigma
        noise = SeededNoise(seed + 1)
        if data is None:
            many = self._reference(process, start)
            data = many.sample(denoiser, shape, x=x, noise=noise, first=first, condition=condition)
        compare = self._comparison(data.to(x).flatten(1).double(), seed)

        def distance(tried: Sampler, levels: Tensor | None) -> Tensor:
            if levels is None:
                end = tried.sample(denoiser, shape, x=x, noise=noise, first=first, condition=condition)
            else:
                end = run_from(tried, denoiser, x, levels, noise.begin(batch, first), dict(condition or {}))
            return compare(end.flatten(1).double())

        return distance

    def _reference(self, process: SDE, start: float) -> Sampler:
        """The reference sampler on its own levels below ``start``, so that it can begin from the same state."""
        times = self.reference.grid(self.reference.steps, process)
        times = torch.cat([times.new_tensor([start]), times[times < start]])
        return replace(self.reference, steps=len(times) - 1, grid=as_times(times))

    def _comparison(self, target: Tensor, seed: int) -> Callable[[Tensor], Tensor]:
        if self.criterion == "trajectory":
            return lambda x: (x - target).norm(dim=1).mean()
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(target.shape[1], self.projections, dtype=torch.float64, generator=generator)
        directions = (directions / directions.norm(dim=0)).to(target.device)
        aim = (target @ directions).sort(dim=0).values

        def sliced(x: Tensor) -> Tensor:
            along = (x @ directions).sort(dim=0).values
            return (along - _quantiles(aim, len(along))).abs().mean()

        return sliced

    def _by_gradient(
        self, process: SDE, sampler: Sampler, distance: Callable[[Sampler, Tensor | None], Tensor], progress: bool
    ) -> tuple["_Levels", int]:
        levels = _Levels.of(process, sampler)
        weights = levels.weights().requires_grad_()
        optimiser = torch.optim.Adam([weights], self.lr)
        best, since, count = torch.inf, 0, 0
        for _ in _bar(self.iterations, progress):
            inner, count = levels.inner(weights), count + 1
            tuned = replace(sampler, grid=as_times(levels.times(inner.detach())))
            value = distance(tuned, inner)
            if count == 1:
                _same(value, distance(tuned, None), sampler)
            if value.item() < best:
                best, since, levels.start = value.item(), 0, inner.detach()
            else:
                since += 1
            if since >= self.patience:
                break
            (weights.grad,) = torch.autograd.grad(value, [weights])
            optimiser.step()
        return levels, count

    def _by_coordinate(
        self, process: SDE, sampler: Sampler, distance: Callable[[Sampler, Tensor | None], Tensor], progress: bool
    ) -> tuple["_Levels", int]:
        levels = _Levels.of(process, sampler)
        weights, part, count = levels.weights(), 1.0, 1
        best = float(distance(sampler, None))
        for _ in _bar(self.iterations, progress):
            before = best
            for i, side in product(range(len(weights)), (-1, 1)):
                tried = weights.clone()
                tried[i] += side * part
                inner = levels.inner(tried)
                value = float(distance(replace(sampler, grid=as_times(levels.times(inner))), None))
                count += 1
                if value < best:
                    best, weights, levels.start = value, tried, inner
            part = part if best < 0.99 * before else part / 2
            if part < 0.02:
                break
        return levels, count


class _Levels:
    """Inner levels of log-SNR between two fixed ends."""

    def __init__(self, process: SDE, first: float, last: float, low: float, high: float, start: Tensor) -> None:
        self.process, self.first, self.last = process, first, last
        self.low, self.high, self.start = low, high, start

    @classmethod
    def of(cls, process: SDE, sampler: Sampler) -> "_Levels":
        times = sampler.grid(sampler.steps, process)
        log_snr = process.schedule.log_snr(times)
        inner = log_snr[1:-1]
        low, high = (float(end) for end in log_snr[[0, -1]])
        low = low if low > -torch.inf else min(NOISY, float(inner[0]) - 2)
        high = high if high < torch.inf else max(CLEAN, float(inner[-1]) + 2)
        return cls(process, float(times[0]), float(times[-1]), low, high, inner)

    def times(self, inner: Tensor) -> Tensor:
        between = self.process.schedule.time(inner)
        return torch.cat([inner.new_tensor([self.first]), between, inner.new_tensor([self.last])])

    def weights(self) -> Tensor:
        ends = self.start.new_tensor([self.low]), self.start.new_tensor([self.high])
        return torch.cat([ends[0], self.start, ends[1]]).diff().log()

    def inner(self, weights: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * weights.softmax(0).cumsum(0)[:-1]


def _same(traced: Tensor, plain: Tensor, sampler: Sampler) -> None:
    """Refuse a sampler whose step is another with tensors as coefficients."""
    if not torch.allclose(traced.detach(), plain, rtol=1e-3, atol=1e-6):
        raise ValueError(f"method='gradient' with {sampler}: expected 'coordinate', its steps branch on coefficients")


def _quantiles(values: Tensor, count: int) -> Tensor:
    """Rows of sorted ``values`` at ``count`` evenly spaced ranks; the values themselves where there are as many."""
    if len(values) == count:
        return values
    place = ((torch.arange(count, device=values.device) + 0.5) / count * len(values) - 0.5).clamp(0, len(values) - 1)
    left = place.floor().long()
    right = (left + 1).clamp(max=len(values) - 1)
    return values[left] + (place - left)[:, None] * (values[right] - values[left])


def _device(denoiser: Denoiser) -> torch.device:
    tensor = next(iter(denoiser.parameters()), next(iter(denoiser.buffers()), None))
    return tensor.device if tensor is not None else torch.device("cpu")


def _bar(count: int, show: bool) -> Any:
    if not show:
        return range(count)
    from tqdm.auto import tqdm

    return tqdm(range(count), desc="tuning", unit="step")
