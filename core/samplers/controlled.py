r"""Plug-in control: after every step the state is moved towards what a classifier wants, and held to where it was
going.

After the step from ``t`` to ``s``, ``K`` times by Adagrad,

    x_s <- x_s + rate grad / sqrt(sum grad^2),      grad = grad [lambda log p(x_s | x_t) + log p(c | x_s)],

with ``p(x_s | x_t) = N(a x_t + b mean, g^2)``, DDPM's step.  Li et al. 2022 (Diffusion-LM, arXiv 2205.14217), section
5.1; Adagrad is that of Duchi et al. 2011, of each number by itself and anew in every step.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..process import Process
from ..schedules import require
from ..sdes import SDE, posterior_coefficients
from .ancestral import DDPM
from .base import Row, Run, Sampler

__all__ = ["ControlledSampler"]

_SMALL = 1e-10  # keeps Adagrad's quotient finite where no gradient was seen


@dataclass(frozen=True)
class ControlledSampler(Sampler):
    """Another sampler with plug-in control; see the module's text.

    Unlike guidance it changes the state and not what is believed, it needs no classifier at the noise of ``t``, and a
    strong pull (a small ``fluency``) leads away from likely data as far as it must.  Several controls are the sum of
    their log-probabilities; a negative one is a negation.  The step to clean data, which has no spread, is not
    controlled.

    Args:
        classifier: called as ``classifier(x_s, s, **condition)``, answers with ``log p(c | x_s)``, ``(B,)`` in nats, up
            to a constant; anything that autograd can follow, such as a `LabelClassifier`, or minus an energy.
        sampler: takes the steps; its own ``steps``, ``grid`` and ``denoise`` are not looked at.
        updates: ``K``, 0 or more; 3 in the paper.
        rate: Adagrad's learning rate, positive: the first update moves every number by so much.
        fluency: ``lambda``, at least 0; 0.01 in the paper.
        until: states at times below are left alone.
        reserved: names of conditions that the classifier alone is given.

    Raises:
        ValueError: for a sampler with error control or a walk of its own; in a run, for another shape than ``(B,)``
            from the classifier.
    """

    classifier: Callable[..., Tensor] = field(kw_only=True)
    sampler: Sampler = field(default=DDPM(), kw_only=True)
    updates: int = field(default=3, kw_only=True)
    rate: float = field(default=0.1, kw_only=True)
    fluency: float = field(default=0.01, kw_only=True)
    until: float = field(default=0.0, kw_only=True)
    reserved: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(callable(self.classifier), "classifier", self.classifier, "a function of a noisy state and its time")
        plain = isinstance(self.sampler, Sampler) and type(self.sampler).walk is Sampler.walk and self._gaussian
        require(plain, "sampler", self.sampler, "a sampler on an SDE with steps of its own, such as DDPM()")
        whole = isinstance(self.updates, int) and not isinstance(self.updates, bool) and self.updates >= 0
        require(whole, "updates", self.updates, "an integer of at least 0")
        require(0 < self.rate < float("inf"), "rate", self.rate, "a positive number")
        require(0 <= self.fluency < float("inf"), "fluency", self.fluency, "a number of at least 0")
        require(0 <= self.until <= 1, "until", self.until, "a time from 0 to 1")
        object.__setattr__(self, "reserved", tuple(self.reserved))

    @property
    def _gaussian(self) -> bool:
        return issubclass(SDE, self.sampler.moves)

    @property
    def _inner(self) -> Sampler:
        return replace(self.sampler, steps=self.steps, grid=self.grid, denoise=self.denoise)

    @property
    def order(self) -> int:  # type: ignore[override]
        """The wrapped sampler's, without control."""
        return self.sampler.order

    @property
    def needs_gradient(self) -> bool:  # type: ignore[override]
        """Whether the wrapped sampler's steps differentiate through the denoiser; control does not."""
        return self.sampler.needs_gradient

    @property
    def stochastic(self) -> bool:
        return self.sampler.stochastic

    def nfe(self, steps: int | None = None, process: SDE | None = None) -> int:
        return self._inner.nfe(steps, process)

    def check_process(self, process: Process) -> None:
        super().check_process(process)
        self.sampler.check_process(process)

    def route(self, process: SDE) -> Tensor:
        return self._inner.route(process)

    def plan(self, process: SDE, times: Tensor) -> Tensor:
        """The wrapped sampler's columns, and ``a, b, g`` of DDPM's step, with ``g = 0`` for a rise."""
        return torch.cat([self._inner.plan(process, times), _ancestral(process, times)], 1)

    def _single_plan(self, process: SDE, times: Tensor) -> Tensor:
        own = self._inner._single_plan(process, times)
        return torch.cat([own, _ancestral(process, times)[-len(own) :]], 1)

    def final(self, posterior: object) -> Tensor:
        return self.sampler.final(posterior)

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        run.reserved = self.reserved
        *own, a, b, g = row
        out = self._inner.advance(run, x, t, s, own)
        if self.updates == 0 or s < self.until or g == 0:
            return out
        return self._controlled(run, out, run.latest.affine(a, b), s, g)

    def _controlled(self, run: Run, x: Tensor, centre: Tensor, s: Tensor | float, g: Tensor | float) -> Tensor:
        """The state after the updates."""
        x, squares = run.held(x), torch.zeros_like(x)
        for _ in range(self.updates):
            pull = (self.fluency / g**2) * (centre - x)
            slope = run.still(self._slope(run, x, s) + pull)
            squares = squares + slope.square()
            x = x + self.rate * slope / (squares.sqrt() + _SMALL)
        return x

    def _slope(self, run: Run, x: Tensor, s: Tensor | float) -> Tensor:
        """Gradient of the classifier, also where gradients are off, as they are in a run."""
        told = {name: value for name, value in run.condition.items() if name != "estimate"}
        with torch.enable_grad():
            variable = x.detach().requires_grad_()
            value = self.classifier(variable, s, **told)
            if value.shape != (len(x),):
                raise ValueError(f"classifier returned shape {tuple(value.shape)}: expected one number a sample")
            (slope,) = torch.autograd.grad(value.sum(), variable)
        return slope


def _ancestral(process: SDE, times: Tensor) -> Tensor:
    t, s = times[:-1], times[1:]
    return torch.stack(posterior_coefficients(process.schedule, t, torch.minimum(t, s)), 1)
