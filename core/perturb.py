r"""Perturb and reverse: add noise up to a time ``t*``, then run a sampler from there back to the data.

What is finer than the noise of ``t*`` is drawn anew and what is coarser is kept, so the one operation edits (Meng et
al. 2022, SDEdit, arXiv 2108.01073), purifies (Nie et al. 2022, DiffPure, 2205.07460) and removes noise, on any state.

    x_{t*} ~ q(x_{t*} | x_0)  (alpha x_0 + sigma z for a Gaussian process),        x_hat_0 = sampler from t* to 0.

Of a product every component is perturbed by its own process.

Data of the denoiser's own distribution keep their distribution, whatever ``t*``, as far as denoiser and sampler are
exact.  `denoise` leaves out the noise, since its argument brings it along; `invert` replaces it by the state on the
probability-flow ODE, from which the sampler finds back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .chains import Chain
from .denoisers import Denoiser
from .grids import Grid, UniformLogSNR
from .noise import BegunNoise, ForkedStream, NoiseSource, NoiseStream, noise_source
from .objectives import restored
from .ode_steps import Solver, ode_step
from .process import Process, State, batch_size
from .products import ProductProcess
from .samplers import DDIM, EulerMaruyama, Sampler, SampleStep
from .schedules import require

__all__ = ["GridBelow", "denoise", "edit", "invert", "perturb_and_reverse", "purify"]


@dataclass(frozen=True)
class GridBelow(Grid):
    """The times of another grid that lie below ``start``, and ``start`` before them.

    The other grid is made finer until as many of its times lie below ``start`` as there are steps, so its spacing is
    kept and no step is lost.

    Args:
        start: first time, in (0, 1].
        grid: chooses the times.
    """

    start: float
    grid: Grid = field(default=UniformLogSNR())

    def __post_init__(self) -> None:
        require(0 < self.start <= 1, "start", self.start, "a time in (0, 1]")

    def times(self, steps: int, process: Process) -> Tensor:
        def enough(number: int) -> bool:
            return bool(self.grid(number, process)[-steps] < self.start)

        high = steps
        while not enough(high):
            high *= 2
            require(high < 2**22, "start", self.start, f"a time with {steps} times of {self.grid} below it")
        low = high // 2 if high > steps else steps - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return torch.cat([torch.tensor([self.start], dtype=torch.float64), self.grid(high, process)[-steps:]])


@torch.no_grad()
def perturb_and_reverse(
    denoiser: Denoiser[Any],
    x0: State,
    t: float,
    sampler: Sampler,
    *,
    seed: int | None = None,
    noise: NoiseSource | None = None,
    condition: Mapping[str, Any] | None = None,
    mask: State | None = None,
    given: State | None = None,
    first: int = 0,
    progress: bool = False,
    callback: Callable[[SampleStep], None] | None = None,
) -> Any:
    """Noise clean states to the level of ``t`` and run the sampler from there.

    Args:
        denoiser: says what the clean data may be.
        x0: clean states, ``(B, *event)``, float32 or wider; int64 for categories; by name for a product, as what
            follows.
        t: how far to go, in (0, 1]; 0 would return ``x0``.
        sampler: all of its steps are taken below ``t``, on its grid (`GridBelow`).
        seed: makes sample ``i`` a function of ``x0[i]`` and ``(seed, first + i)`` alone, noise and sampler included.
        given: True where the data are known; they are not noised.
        noise, condition, mask, first, progress, callback: as for ``Sampler.sample``.

    Returns:
        Clean states, shape and dtype of ``x0``.

    Raises:
        ValueError: ``t`` out of range, or states that the sampler refuses.
    """
    require(0 < t <= 1, "t", t, "a time in (0, 1]")
    source = noise_source(seed, noise)
    process = denoiser.process
    shape = {name: part.shape for name, part in x0.items()} if isinstance(x0, Mapping) else x0.shape
    stream = ForkedStream.of(source.begin(batch_size(shape), first), len(getattr(process, "components", "x")))
    real = None if mask is None else process.expand_mask(mask)
    if isinstance(process, ProductProcess):
        process.check_names(x0, "x0")
        own, masks = process.streams(process.constrain(stream, real)), process.expand_mask(mask)
        x: Any = {
            name: _noised(part, x0[name], t, own[name], masks[name])  # type: ignore[index]
            for name, part in process.components.items()
        }
    else:
        x = _noised(process, x0, t, process.constrain(stream, real), real)
    x = x if given is None else restored(x, x0, process.expand_mask(given))
    return _below(sampler, t).sample(
        denoiser,
        shape,
        x=x,
        noise=BegunNoise(stream),  # the sampler goes on with the stream, since the same draws again would be correlated
        condition=condition,
        mask=mask,
        given=given,
        first=first,
        progress=progress,
        callback=callback,
    )


def _noised(process: Process, x0: Any, t: float, stream: NoiseStream, mask: Any) -> Tensor:
    """A draw of ``q(x_t | x_0)`` of one process."""
    if isinstance(process, Chain):
        process.check_data(x0, mask)
        return process.marginal(x0, t).sample(stream.uniform(x0))
    level = process.level(t)
    return level.alpha * x0 + level.sigma * stream.draw(x0)


def edit(
    denoiser: Denoiser[Any], x0: Tensor, strength: float = 0.5, sampler: Sampler | None = None, **run: Any
) -> Tensor:
    """Redraw what is finer than the noise at ``t = strength``: SDEdit (Meng et al. 2022, arXiv 2108.01073).

    Args:
        denoiser: of the kind of data that is wanted.
        x0: a guide, such as a sketch, ``(B, *event)``.
        strength: in (0, 1]; small keeps the guide, 1 forgets it. 0.3 to 0.6 in the paper.
        sampler: by default 50 steps of DDIM.
        run: as for `perturb_and_reverse`.
    """
    return perturb_and_reverse(denoiser, x0, strength, sampler or DDIM(50), **run)


def purify(denoiser: Denoiser, x0: Tensor, t: float = 0.1, sampler: Sampler | None = None, **run: Any) -> Tensor:
    """Wash out small perturbations of the data: DiffPure (Nie et al. 2022, arXiv 2205.07460), by the reverse SDE.

    Args:
        denoiser: of clean data.
        x0: perhaps perturbed data, ``(B, *event)``.
        t: enough noise to drown the perturbation, little enough to keep the content; 0.1 in the paper.
        sampler: by default 50 steps of Euler-Maruyama.
        run: as for `perturb_and_reverse`.
    """
    return perturb_and_reverse(denoiser, x0, t, sampler or EulerMaruyama(50), **run)


@torch.no_grad()
def denoise(
    denoiser: Denoiser,
    y: Tensor,
    std: float,
    sampler: Sampler | None = None,
    *,
    condition: Mapping[str, Any] | None = None,
    **run: Any,
) -> Tensor:
    """Remove white noise of known standard deviation from ``y = x_0 + std n``.

    ``alpha y`` is a state at the time where ``sigma / alpha = std``.  Without a sampler the answer is ``E[x_0 | y]``,
    the estimate of least squared error, in one evaluation; with a stochastic one a draw from ``p(x_0 | y)``.

    Args:
        denoiser: of clean data.
        y: noisy data, ``(B, *event)``, float32 or wider.
        std: of the noise, positive, within what the schedule covers.
        sampler: runs from there to the data.
        condition: for the denoiser.
        run: as for ``Sampler.sample``.

    Raises:
        ValueError: a ``std`` beyond the schedule.
    """
    process = denoiser.process
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    least, most = (-0.5 * process.schedule.log_snr(ends)).exp().tolist()
    require(least < std < most, "std", std, f"a number between {least:.4g} and {most:.4g}, which {process} covers")
    t = float(process.schedule.time(-2 * torch.tensor(std, dtype=torch.float64).log()).clamp(0, 1))
    x = float(process.level(t).alpha) * y
    if sampler is None:
        return denoiser(x, t, **(condition or {})).mean
    return _below(sampler, t).sample(denoiser, x.shape, x=x, condition=condition, **run)


@torch.no_grad()
def invert(
    denoiser: Denoiser,
    x0: Tensor,
    steps: int = 50,
    grid: Grid = UniformLogSNR(),  # noqa: B008 (frozen)
    *,
    solver: Solver = "heun",
    condition: Mapping[str, Any] | None = None,
) -> Tensor:
    """The state at the grid's first time whose solution of the probability-flow ODE ends in ``x0``, but for errors of
    the steps.

    A deterministic sampler finds back from it (DDIM inversion: Dhariwal and Nichol 2021, arXiv 2105.05233, appendix F;
    Song et al. 2021, 2010.02502, section 4.3).  The grid is walked upwards.  From clean data, where the ODE has no
    slope, the first step is ``alpha x_0``, the posterior mean being the data.

    Args:
        denoiser: as for sampling.
        x0: clean states, ``(B, *event)``, float32 or wider.
        steps: number of steps.
        grid: chooses the times.
        solver: "heun" (two evaluations a step) or "euler", which is DDIM.
        condition: for the denoiser.
    """
    require(solver in ("euler", "heun"), "solver", solver, "'euler' or 'heun'")
    process = denoiser.process
    times = grid(steps, process).flip(0).tolist()
    clean = process.level(times[0]).sigma == 0
    times = times[1:] if clean else times
    x = x0 * float(process.level(times[0]).alpha)
    for t, s in pairwise(times):
        x = ode_step(denoiser, x, t, s, solver, **(condition or {}))
    return x


def _below(sampler: Sampler, t: float) -> Sampler:
    return replace(sampler, grid=GridBelow(t, sampler.grid))
