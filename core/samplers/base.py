r"""The engine of every sampler: time, noise, masks, progress, callbacks and history in one place.

A sampler is a frozen dataclass of settings.  It turns times into a plan (coefficients, float64 on the CPU, before the
loop) and says how one step follows from posteriors; the loop below owns the rest and nothing of a run outlives it.

Most methods move by a linear rule,

    x_s = a x_t + b_0 mean_t + b_1 mean_{previous} + ... + g z,

with the posterior means of this and earlier steps and standard normal ``z``; for these (`LinearSampler`) the
coefficients are all that has to be said.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..chains import Chain
from ..denoisers import Denoiser, self_conditioned
from ..grids import Grid, PowerTime
from ..noise import IndependentNoise, NoiseSource, NoiseStream, noise_source
from ..process import Process, State, batch_size, each
from ..schedules import VPSchedule, require
from ..sdes import SDE

__all__ = ["LinearSampler", "SampleStep", "Sampler"]

Row = Sequence[float | Tensor]

STANDARD = SDE(VPSchedule())
"""The process for which evaluations are counted where none is named."""


@dataclass(frozen=True)
class SampleStep:
    """What a callback sees after a step: its number, their count, the times, the new state and the posterior mean at
    ``t``.
    """

    index: int
    steps: int
    t: float
    s: float
    x: Any
    mean: Any


@dataclass
class Run:
    """What one run carries from step to step: the denoiser with its conditions, the noise and earlier values.

    ``given`` and ``start`` are where the state is known, shaped to choose among its numbers, and what it is there.
    """

    denoiser: Denoiser[Any]
    condition: dict[str, Any]
    noise: NoiseStream
    history: list[Any] = field(default_factory=list)
    latest: Any = None
    keep: Any = None
    callback: Callable[[SampleStep], None] | None = None
    progress: bool = False
    given: Any = None
    start: Any = None
    recalls: bool = False
    reserved: tuple[str, ...] = ()

    @property
    def mask(self) -> Any:
        """Where the state is real, boolean, or None for all of it."""
        return self.condition.get("mask")

    def posterior(self, x: Any, t: Tensor | float) -> Any:
        """Ask the denoiser, which sees what is given as it is; the first answer of a step is kept for the callback, and
        the mean of the last one for a denoiser that is self-conditioned.  ``reserved`` conditions are not passed on.
        """
        condition = self.condition
        if self.reserved:
            condition = {name: value for name, value in condition.items() if name not in self.reserved}
        answer = self.denoiser(self.restore(x), t, **condition)
        if self.latest is None:
            self.latest = answer
        if self.recalls:
            self.condition = self.condition | {"estimate": each(Tensor.detach, answer.mean)}
        return answer

    def restore(self, x: Any) -> Any:
        """The state with what is given put back."""
        return x if self.given is None else each(torch.where, self.given, self.start, x)

    def held(self, x: Any) -> Any:
        """The state with its padding blank and what is given put back."""
        return self.restore(x if self.keep is None else each(torch.mul, x, self.keep))

    def still(self, change: Any) -> Any:
        """A change of the state, none in the padding and where the state is given."""
        change = change if self.keep is None else each(torch.mul, change, self.keep)
        return change if self.given is None else each(lambda given, v: v.masked_fill(given, 0), self.given, change)

    def finish(self, index: int, steps: int, t: float, s: float, x: Any) -> Any:
        """End step ``index`` with state ``x`` at ``s``: blank what the mask leaves out, put back what is given, tell
        the callback.
        """
        x = self.held(x)
        if self.callback is not None and self.latest is not None:
            self.callback(SampleStep(index, steps, t, s, x, self.latest.mean))
        return x


@dataclass(frozen=True)
class Sampler(ABC):
    """Walks a time grid from noise to data.

    Args:
        steps: number of steps, at least 1.
        grid: chooses the times.
        denoise: replace the last state by its posterior mean, at the cost of one more evaluation: for schedules that
            keep some noise at ``t = 0``.
    """

    steps: int = 50
    grid: Grid = field(default=PowerTime(), kw_only=True)
    denoise: bool = field(default=False, kw_only=True)

    order: ClassVar[int] = 1
    """Order of convergence to the probability-flow ODE (deterministic) or of the moments (stochastic)."""
    needs_gradient: ClassVar[bool] = False
    """Whether steps differentiate through the denoiser."""
    moves: ClassVar[type[Process]] = SDE
    """The kind of process whose states it can move."""
    adaptive: ClassVar[bool] = False
    """Whether steps are chosen as the run goes, by an estimate of the error; then `nfe` raises ``TypeError``, and the
    callback's steps carry the count."""

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps={self.steps!r}: expected an integer of at least 1")
        if not isinstance(self.grid, Grid):
            raise TypeError(f"grid={self.grid!r}: expected a Grid, such as PowerTime()")

    @property
    def stochastic(self) -> bool:
        """Whether steps inject noise."""
        return False

    def nfe(self, steps: int | None = None, process: Any = None) -> int:
        """Number of evaluations of the denoiser in a run of ``steps`` steps (default: the sampler's own).

        Exact for grids that space noise levels and end in clean data; give the process to have it exact for any grid.
        """
        return (self.steps if steps is None else steps) + self.denoise

    def route(self, process: Any) -> Tensor:
        """The times of a run in their order, float64 on the CPU: the grid's.

        A method that goes back to more noise on its way (Restart, RePaint) returns a longer list that also rises;
        each pair of neighbours is a step.
        """
        return self.grid(self.steps, process)

    @abstractmethod
    def plan(self, process: Any, times: Tensor) -> Tensor:
        """Coefficients of each step of the times ``(M + 1,)``: ``(M, columns)``, float64."""

    @abstractmethod
    def advance(self, run: Run, x: Any, t: Tensor | float, s: Tensor | float, row: Row) -> Any:
        """The state at ``s`` from the state at ``t`` and this step's row of the plan."""

    @torch.no_grad()
    def sample(
        self,
        denoiser: Denoiser[Any],
        shape: Sequence[int] | Mapping[str, Sequence[int]],
        *,
        seed: int | None = None,
        noise: NoiseSource | None = None,
        x: State | None = None,
        condition: Mapping[str, Any] | None = None,
        mask: State | None = None,
        given: State | None = None,
        first: int = 0,
        progress: bool = False,
        callback: Callable[[SampleStep], None] | None = None,
    ) -> Any:
        """Draw samples of shape ``(B, *event)``.

        Args:
            denoiser: says what the clean data may be.
            shape: ``(B, *event)``; one by name for states of several parts, as all that follows.
            seed: makes sample ``i`` of the call a function of ``(seed, first + i)`` alone; the same as
                ``noise=SeededNoise(seed)``.
            noise: where draws come from; by default torch's global generator.
            x: state at the grid's first time to start from, shape ``shape``, float32 or wider (int64 for categories);
                by default a draw of the process's prior at that time.
            condition: tensors for the denoiser, by name.
            mask: ``(B, N)``, True where the first event axis is real, or the same for more axes, ``(B, N, M)``; the
                rest of the state stays zero.
            given: ``(B, N)``, or of more axes, True where ``x`` holds clean data that are known: they stay, and the
                denoiser is told by the condition ``given``.  What else is drawn is drawn given them as far as the
                denoiser heeds it (exactly under an `AbsorbingChain`, whose state tells).
            first: number of the first sample, for runs in parts.
            progress: show a bar.
            callback: called after each step with a `SampleStep`.

        Returns:
            States at the grid's last time, in the dtype and on the device of ``x`` (default: the denoiser's device
            and the process's dtype).

        Raises:
            TypeError: for a denoiser on a process of a kind that this sampler does not move.
            ValueError: for shapes that do not fit, a state with NaN, a seed together with a noise source, ``given``
                without ``x`` or in a process that lives in a subspace, or given data that are none.
        """
        process = denoiser.process
        self.check_process(process)
        clock, rows = self._planned(process)
        blank = process.blank(shape, _device(denoiser))
        real = None if mask is None else process.expand_mask(mask)
        keep, started = None if real is None else _keep(real, blank), x is not None
        stream = process.constrain(noise_source(seed, noise).begin(batch_size(shape), first), real)
        x = process.initial(blank, clock[0], stream) if x is None else _checked(x, blank, process)
        keep = keep if keep is None else each(lambda mask, x: mask.to(x), keep, x)
        x = x if keep is None else each(torch.mul, x, keep)
        told = {name: value for name, value in (("mask", mask), ("given", given)) if value is not None}
        run = Run(denoiser, dict(condition or {}) | told, stream)
        run.keep, run.callback, run.progress, run.recalls = keep, callback, progress, self_conditioned(denoiser)
        if given is not None:
            require(started, "given", "positions", "x with the clean data at them")
            run.given, run.start = _places(given, x, process), x
        x = self.walk(run, x, clock, rows)
        return run.held(self.final(run.posterior(x, clock[-1]))) if self.denoise else run.held(x)

    def check_process(self, process: Process) -> None:
        """Raise ``TypeError`` for a process of a kind that this sampler does not move."""
        if not isinstance(process, self.moves):
            raise TypeError(
                f"{type(self).__name__} moves states of {self.moves.__name__}, not of {type(process).__name__}: "
                "expected a sampler for this process"
            )

    def final(self, posterior: Any) -> Any:
        """The state that ``denoise=True`` ends in: the posterior's mean."""
        return posterior.mean

    def walk(self, run: Run, x: Any, clock: Sequence[float], rows: Sequence[Row]) -> Any:
        """The state at the last of the times ``clock`` from the state at the first; methods that choose their steps
        as they go (error control) replace it and report each accepted step by ``run.finish``.
        """
        for i in _progress(range(len(rows)), run.progress):
            run.latest = None
            x = run.finish(i, len(rows), clock[i], clock[i + 1], self.advance(run, x, clock[i], clock[i + 1], rows[i]))
        return x

    def step(
        self,
        denoiser: Denoiser[Any],
        x: Any,
        t: Tensor | float,
        s: Tensor | float,
        *,
        noise: Tensor | None = None,
        previous: Sequence[tuple[Tensor | float, Tensor]] = (),
        condition: Mapping[str, Any] | None = None,
    ) -> Any:
        """One step from time ``t`` to ``s``, differentiable and free of state; ``sample`` is this in a loop.

        Args:
            denoiser: as in `sample`.
            x: state at ``t``, ``(B, *event)``.
            t, s: times, floats or float64 tensors of no dimensions, ``s < t``.
            noise: standard normal, shape of ``x``; drawn from torch's generator when the step needs it and it is not
                given.
            previous: for multistep methods, times and posterior means of earlier steps, the latest first; the posterior
                noises instead for methods that follow the noise (``predicts="eps"``).  A step is not corrected.
            condition: tensors for the denoiser, by name; with ``given``, ``x`` stays as it is there.
        """
        clock = [torch.as_tensor(v, dtype=torch.float64) for v in (*(p[0] for p in reversed(previous)), t, s)]
        row = self._single_plan(denoiser.process, torch.stack(clock))[-1]
        condition = dict(condition or {})
        mask = None if condition.get("mask") is None else denoiser.process.expand_mask(condition["mask"])
        stream = IndependentNoise().begin(x.shape[0], 0) if noise is None else _Given(noise)
        stream = denoiser.process.constrain(stream, mask)
        run = Run(denoiser, condition, stream, [mean for _, mean in previous], recalls=self_conditioned(denoiser))
        if condition.get("given") is not None:
            run.given, run.start = _places(condition["given"], x, denoiser.process), x
        if torch.compiler.is_compiling():
            return run.restore(self.advance(run, x, clock[-2], clock[-1], row.unbind()))
        return run.restore(self.advance(run, x, float(t), float(s), row.tolist()))

    def _single_plan(self, process: Any, times: Tensor) -> Tensor:
        """The plan whose last row `step` takes."""
        return self.plan(process, times)

    def _planned(self, process: Process) -> tuple[list[float], list[Row]]:
        """Times and the rows of the plan; made once for a sampler and a process, which remembers them."""
        try:
            known = process.plans.get(self)
        except TypeError:  # settings that cannot be hashed, such as lists
            return self._make_plan(process)
        if known is None:
            if len(process.plans) >= 256:
                process.plans.clear()
            known = process.plans[self] = self._make_plan(process)
        return known

    def _make_plan(self, process: Process) -> tuple[list[float], list[Row]]:
        times = self.route(process)
        process.prepare(times)
        return times.tolist(), self.plan(process, times).tolist()


@dataclass(frozen=True)
class LinearSampler(Sampler):
    """A sampler whose step is a weighted sum of state, posterior means and noise; see the module's text.

    `plan` gives the columns ``a, b_0, ..., b_{order - 1}, g``.
    """

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        a, b, *older, g = row
        posterior = run.posterior(x, t)
        out = posterior.affine(a, b)
        for weight, mean in zip(older, run.history):
            if isinstance(weight, Tensor):
                out = out + weight * mean
            elif weight != 0:
                out.add_(mean, alpha=weight)
        if older:
            run.history = [posterior.mean, *run.history[: len(older) - 1]]
        if isinstance(g, Tensor):
            return out + g * run.noise.step(x, t, s) if self.stochastic else out
        return out.add_(run.noise.step(x, t, s), alpha=g) if g != 0 else out


class _Given(NoiseStream):
    """A stream of one tensor, for single steps."""

    def __init__(self, noise: Tensor) -> None:
        self.noise: Tensor | None = noise

    def draw(self, like: Tensor) -> Tensor:
        if self.noise is None:
            raise ValueError("noise: this method draws more than once a step; leave noise out, or call `sample`")
        noise, self.noise = self.noise, None
        return noise

    def step(self, like: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        return self.draw(like)

    def uniform(self, like: Tensor) -> Tensor:
        return self.draw(like)


def _device(denoiser: Denoiser[Any]) -> torch.device:
    tensors: Iterable[Tensor] = chain(denoiser.parameters(), denoiser.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def _checked(x: State, blank: State, process: Process) -> State:
    """The user's state, refused where its shape or values are not what the process holds."""

    def check(like: Tensor, given: Tensor) -> None:
        if tuple(given.shape) != tuple(like.shape):
            raise ValueError(f"x of shape {tuple(given.shape)}: expected shape={tuple(like.shape)}")

    if isinstance(blank, Mapping) and (not isinstance(x, Mapping) or x.keys() != blank.keys()):
        raise ValueError(
            f"x of {list(x) if isinstance(x, Mapping) else 'one tensor'}: expected a dict of {list(blank)}"
        )
    each(check, blank, x)
    process.check_state(x)
    return x


def _keep(mask: State, blank: State) -> State:
    """The mask, one for all parts of the state or one for each, shaped to multiply them."""

    def shaped(x: Tensor, mask: Tensor | None) -> Tensor:
        return torch.ones((), device=x.device) if mask is None else _shaped(mask, x, "mask")

    return each(shaped, blank, _by_part(mask, blank))


def _shaped(mask: Tensor, x: Tensor, name: str) -> Tensor:
    """A boolean tensor of the first axes of ``x``, in as many axes as ``x`` has."""
    axes = tuple(x.shape[: max(mask.ndim, 2)])
    if mask.dtype != torch.bool or tuple(mask.shape) != axes:
        raise ValueError(f"{name} of shape {tuple(mask.shape)}, {mask.dtype}: expected {axes}, torch.bool")
    return mask.to(x.device).reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))


def _by_part(mask: State, x: State) -> State:
    """A mask for each part of a state, where it was one for all."""
    return dict.fromkeys(x, mask) if isinstance(x, Mapping) and not isinstance(mask, Mapping) else mask


def _places(given: Any, x: Any, process: Process) -> Any:
    """Where the state is given, shaped to choose among its numbers, refused where it holds no data of the process.

    Raises:
        ValueError: for a mask of another shape or dtype, or a process whose states cannot be changed number by number.
    """

    def shaped(x: Tensor, given: Tensor | None) -> Tensor:
        return torch.zeros((), dtype=torch.bool, device=x.device) if given is None else _shaped(given, x, "given")

    given = process.expand_mask(given)
    for name, part in getattr(process, "components", {"": process}).items():
        held = given.get(name) if isinstance(given, Mapping) else given
        if held is not None and not getattr(part, "whole", True):
            raise ValueError(f"given on {part}: single numbers of a state in a subspace cannot be held")
    places = each(shaped, x, _by_part(given, x))
    if isinstance(process, Chain):
        process.check_data(x, given)
    return places


def _progress(steps: range, show: bool) -> Iterable[int]:
    if not show:
        return steps
    from tqdm.auto import tqdm

    return tqdm(steps, desc="sampling", unit="step")
