"""A sampler of several components: one method each, stepped together from one evaluation of the denoiser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..chains import AbsorbingChain, Categorical, Chain
from ..denoisers import Denoiser, self_conditioned
from ..grids import Times
from ..noise import IndependentNoise
from ..process import Process
from ..products import ProductProcess
from ..products.process import check_parts, check_same
from .base import Row, Run, Sampler, _Given, _places
from .categorical import CategoricalAncestral
from .constraints import DrawnStep, Kernel, StateConstraint

__all__ = ["ProductSampler"]


@dataclass(frozen=True)
class ProductSampler(Sampler):
    r"""Steps every component by its own method on one clock; the denoiser is asked once a step, about all of them.

    Each component has coefficients by its own schedule and, for methods of several steps, a history of its own.  The
    noise of the first component is what it would be alone, so that a product of one equals that component's sampler.
    With independent data and a denoiser that knows them to be so, each component is sampled as it would be alone; else
    the orders of the methods hold jointly, the step of each component being a function of all of them at ``t``.

    Args:
        samplers: by component, each of one evaluation a step, such as `DDPM`, `DDIM`, `DPMSolver` of order 2 or a
            `Multistep` with ``start="low_order"``.  Their own steps, grids and ``denoise`` are not used.
        constraint: keeps what is drawn of components that are chains within a set of states; none by default.
        steps, grid: of the common clock; a grid that spaces noise levels spaces the first component's.
        denoise: as for `Sampler`, for all components.

    Raises:
        ValueError: for no samplers; by `sample`, for other components than the process's, and for a sampler that
            evaluates the denoiser more than once a step.
    """

    samplers: Mapping[str, Sampler] = field(kw_only=True)
    constraint: StateConstraint | None = field(default=None, kw_only=True)

    moves: ClassVar[type[Process]] = ProductProcess

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parts(self.samplers, Sampler, "samplers")
        if self.constraint is not None and not isinstance(self.constraint, StateConstraint):
            raise TypeError(f"constraint={self.constraint!r}: expected a StateConstraint, or None")

    @property
    def order(self) -> int:  # type: ignore[override]
        """The lowest of the components'."""
        return min(sampler.order for sampler in self.samplers.values())

    @property
    def needs_gradient(self) -> bool:  # type: ignore[override]
        """Whether any component's steps differentiate through the denoiser."""
        return any(sampler.needs_gradient for sampler in self.samplers.values())

    @property
    def stochastic(self) -> bool:
        return any(sampler.stochastic for sampler in self.samplers.values())

    def check_process(self, process: Process) -> None:
        super().check_process(process)
        assert isinstance(process, ProductProcess)
        check_same(self.samplers, process.components, "samplers")
        for name, part in process.components.items():
            self.samplers[name].check_process(part)
            if self.constraint is not None and _noisy(part) and type(self.samplers[name]) is not CategoricalAncestral:
                raise ValueError(
                    f"samplers[{name!r}] is a {type(self.samplers[name]).__name__}: under a constraint, chains without "
                    "masks step by draws of data; expected CategoricalAncestral"
                )

    def route(self, process: ProductProcess) -> Tensor:
        times = super().route(process)
        for name, part in process.components.items():
            self._check_calls(name, self._on_clock(name, times), part)
        return times

    def _on_clock(self, name: str, times: Tensor) -> Sampler:
        """A component's sampler with the steps of the common clock."""
        return replace(self.samplers[name], steps=len(times) - 1, grid=Times(tuple(times.tolist())), denoise=False)

    def _check_calls(self, name: str, sampler: Sampler, process: Process) -> None:
        calls = None if sampler.adaptive else sampler.nfe(process=process)
        if calls != sampler.steps:
            many = "as often as it sees fit" if calls is None else f"{calls} times in {sampler.steps} steps"
            raise ValueError(
                f"samplers[{name!r}]: {type(sampler).__name__} evaluates the denoiser {many}; components share one "
                "evaluation a step: expected such a method, as DDIM or DPMSolver(order=2), or start='low_order'"
            )

    def _make_plan(self, process: Process) -> tuple[list[float], list[Row]]:
        assert isinstance(process, ProductProcess)
        times = self.route(process)
        process.prepare(times)
        plans = [self._on_clock(name, times).plan(part, times).tolist() for name, part in process.components.items()]
        return times.tolist(), list(zip(*plans))

    def plan(self, process: ProductProcess, times: Tensor) -> Tensor:
        """The columns of all components' plans, side by side in the order of the process."""
        return torch.cat([self._on_clock(n, times).plan(p, times) for n, p in process.components.items()], 1)

    def advance(self, run: Run, x: Any, t: Tensor | float, s: Tensor | float, row: Row) -> Any:
        process: ProductProcess = run.denoiser.process
        if not run.history:
            run.history = self._parts(run, process)
        answer = run.posterior(x, t)
        out = {}
        for part, columns in zip(run.history, row):
            part.answer, part.at = answer[part.name], x[part.name]
            if self.constraint is None or not part.noisy:  # else it is drawn with the constraint
                out[part.name] = part.sampler.advance(part, part.at, t, s, columns)
        return out if self.constraint is None else {**out, **self._constrained(self.constraint, run, x, out, t, s)}

    def _constrained(
        self,
        constraint: StateConstraint,
        run: Run,
        x: Any,
        out: dict[str, Tensor],
        t: Tensor | float,
        s: Tensor | float,
    ) -> dict[str, Tensor]:
        """The components that are chains, as the constraint keeps them; see `constraints`."""
        parts = [part for part in run.history if isinstance(part.denoiser.process, Chain)]
        last = all(float(part.denoiser.process.level(s).alpha) == 1 for part in parts)
        real, free, after, kernels = {}, {}, {}, {}
        for part in parts:
            name, before = part.name, x[part.name]
            everywhere = torch.ones_like(before, dtype=torch.bool)
            real[name] = everywhere if part.keep is None else everywhere & (part.keep != 0)
            free[name] = real[name] if run.given is None else real[name] & ~run.given[name]
            kernels[name] = Kernel(part.answer, 0.0 if part.noisy else s, getattr(part.sampler, "choice", None))
            moved = Categorical(kernels[name].probs).sample(part.noise.uniform(before)) if part.noisy else out[name]
            after[name] = torch.where(free[name], moved, before)
        kept = constraint.keep(
            DrawnStep(
                t,
                s,
                {part.name: x[part.name] for part in parts},
                after,
                real,
                free,
                last,
                {part.name: part.denoiser.process for part in parts},
                kernels,
                {part.name: part.noise for part in parts},
            )
        )
        for part in parts:
            if part.noisy and not last:
                name, before = part.name, x[part.name]
                noised = part.denoiser.process.posterior(kept[name], before, s, t)
                kept[name] = torch.where(free[name], noised.sample(part.noise.uniform(before)), before)
        return kept

    def _parts(self, run: Run, process: ProductProcess) -> list["_Part"]:
        """The runs of the components within a run."""
        masks = process.expand_mask(run.mask)
        streams = process.streams(run.noise)
        parts = []
        for name, component in process.components.items():
            condition = {} if masks[name] is None else {"mask": masks[name]}
            part = _Part(_Component(component), condition, streams[name])  # type: ignore[arg-type]
            part.keep = None if run.keep is None else run.keep[name]
            part.name, part.sampler = name, replace(self.samplers[name], steps=self.steps, denoise=False)
            parts.append(part)
        return parts

    def final(self, posterior: Any) -> Any:
        return {name: sampler.final(posterior[name]) for name, sampler in self.samplers.items()}

    def step(
        self,
        denoiser: Denoiser[Any],
        x: Mapping[str, Tensor],
        t: Tensor | float,
        s: Tensor | float,
        *,
        noise: Mapping[str, Tensor] | None = None,  # type: ignore[override]
        previous: Sequence[tuple[Tensor | float, Mapping[str, Tensor]]] = (),  # type: ignore[override]
        condition: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """One step of all components; arguments as for `Sampler.step`, with a dict for each state."""
        process = denoiser.process
        self.check_process(process)
        run = Run(denoiser, dict(condition or {}), IndependentNoise().begin(len(next(iter(x.values()))), 0))
        run.recalls = self_conditioned(denoiser)
        if run.condition.get("given") is not None:
            run.given, run.start = _places(run.condition["given"], x, process), x
        masks = process.expand_mask(run.mask)
        run.noise = process.constrain(run.noise, masks)
        run.history = self._parts(run, process)
        times = torch.tensor([*(float(p[0]) for p in reversed(previous)), float(t), float(s)], dtype=torch.float64)
        rows = []
        for part in run.history:
            component = process.components[part.name]
            part.history = [mean[part.name] for _, mean in previous]
            if noise is not None:
                part.noise = component.constrain(_Given(noise[part.name]), masks[part.name])
            rows.append(part.sampler._single_plan(component, times)[-1].tolist())
        return run.restore(self.advance(run, x, float(t), float(s), rows))


def _noisy(process: Process) -> bool:
    """Whether it is a chain whose states are noise, and not data as far as they show any."""
    return isinstance(process, Chain) and not isinstance(process, AbsorbingChain)


@dataclass
class _Component:
    """What a component's sampler may ask of a denoiser beside posteriors."""

    process: Process


@dataclass
class _Part(Run):
    """The run of a component: it answers with the component's part of the common posterior."""

    name: str = ""
    sampler: Any = None
    answer: Any = None
    at: Any = None

    @property
    def noisy(self) -> bool:
        return _noisy(self.denoiser.process)

    def posterior(self, x: Any, t: Tensor | float) -> Any:
        if x is not self.at:
            raise ValueError(
                f"samplers[{self.name!r}]: {type(self.sampler).__name__} evaluates the denoiser at a state of its own; "
                "components share one evaluation a step: expected a method that asks at the start of a step alone"
            )
        return self.answer
