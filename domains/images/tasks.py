"""What `ImageDiffusion` does with pictures that are given: edit, purify, inpaint, upscale, restore, weigh."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ornstein.core import (
    ClassifierFreeGuidance,
    ContinuousBound,
    Denoiser,
    Measurement,
    NoiseModel,
    ODELikelihood,
    Operator,
    Sampler,
    UniformDequantisation,
    VariationalBound,
    edit,
    posterior_sampler,
    purify,
)
from ornstein.core.adapter import DomainAdapter
from ornstein.domains.images.measurements import inpainting, of_states, upscaling

__all__ = ["ImageTasks"]


class ImageTasks(DomainAdapter):
    """The tasks of an adapter for pictures of one ``shape`` ``(C, H, W)``; each is a line around the core's method."""

    shape: tuple[int, int, int]

    @abstractmethod
    def _state(self, images: Any) -> Tensor:
        """States ``(N, C, H, W)`` of pictures, checked."""

    def edit(
        self,
        images: Tensor,
        strength: float = 0.5,
        *,
        sampler: Sampler | None = None,
        seed: int | None = None,
        guidance: float | None = None,
        batch_size: int | None = None,
        **condition: Any,
    ) -> Tensor:
        """Pictures redrawn as the model would: noise up to ``t = strength`` and back (`ornstein.core.edit`, SDEdit).

        With another ``label`` than the pictures' own they change class and keep their layout.

        Args:
            images: ``(N, C, H, W)``, ``uint8`` or in [0, 1].
            strength: in (0, 1]; small keeps the pictures, 1 forgets them.
            sampler: the model's own when not given; all of its steps are taken.
            seed: makes picture ``i`` a function of itself and ``(seed, i)`` alone; without one, a fresh one is drawn.
            guidance: as in ``sample``.
            batch_size: how many at a time; by default ``default_batch_size``.
            condition: as in ``sample``.

        Returns:
            Pictures ``(N, C, H, W)`` in [0, 1].
        """

        def redraw(denoiser: Denoiser, state: Tensor, **run: Any) -> Tensor:
            return edit(denoiser, state, strength, sampler or self.sampler, **run)

        return self.decode(self._by_batch(redraw, self._state(images), seed, guidance, batch_size, condition))

    def purify(
        self,
        images: Tensor,
        t: float = 0.1,
        *,
        sampler: Sampler | None = None,
        seed: int | None = None,
        guidance: float | None = None,
        batch_size: int | None = None,
        **condition: Any,
    ) -> Tensor:
        """Pictures without small perturbations, such as an attack on a classifier (`ornstein.core.purify`, DiffPure).

        Args:
            images: ``(N, C, H, W)``, ``uint8`` or in [0, 1].
            t: time up to which noise is added.
            sampler: 50 steps of Euler-Maruyama when not given.
            seed, guidance, batch_size, condition: as for ``edit``.

        Returns:
            Pictures ``(N, C, H, W)`` in [0, 1].
        """

        def redraw(denoiser: Denoiser, state: Tensor, **run: Any) -> Tensor:
            return purify(denoiser, state, t, sampler, **run)

        return self.decode(self._by_batch(redraw, self._state(images), seed, guidance, batch_size, condition))

    def inpaint(self, images: Tensor, known: Tensor, *, noise: float = 0.0, **options: Any) -> Tensor:
        """Pictures completed where they are not known.

        Args:
            images: ``(N, C, H, W)``, ``uint8`` or in [0, 1]; where they are not known anything may stand.
            known: boolean, True where pictures are known: ``(H, W)`` or ``(C, H, W)``, or ``(N, 1 or C, H, W)``.
            noise: standard deviation of the noise in the known part.
            options: as for ``restore``.

        Returns:
            Pictures ``(N, C, H, W)`` in [0, 1], a sample for each.
        """
        return self._solve(inpainting(images, known, self.shape, noise), **options)

    def upscale(self, images: Tensor, *, noise: float = 0.0, **options: Any) -> Tensor:
        """Pictures of the model's size from small ones, each of whose pixels is the mean of a square of pixels.

        Args:
            images: ``(N, C, H / k, W / k)``, ``uint8`` or in [0, 1].
            noise: standard deviation of their noise.
            options: as for ``restore``.
        """
        return self._solve(upscaling(images, self.shape, noise), **options)

    def restore(self, y: Tensor, operator: Operator, noise: NoiseModel | float = 0.0, **options: Any) -> Tensor:
        """Pictures that could have been measured as ``y = operator(pictures) + noise`` (`ornstein.core.inverse`).

        Args:
            y: ``(N, *operator.measured)``.
            operator: acts on pictures in [0, 1], such as ``Blur.gaussian(model.shape, 1.0)``.
            noise: its standard deviation, or a model such as ``PoissonNoise``, which needs ``method="dps"``.
            options: ``method``, a name from `ornstein.core.inverse.POSTERIOR_METHODS`, ``"mmps"`` by default;
                ``evaluations`` of the network at most, 50 by default; ``seed``, ``guidance``, ``batch_size`` and
                conditions as for ``edit``.
        """
        return self._solve(of_states(y, operator, noise), **options)

    def _solve(
        self,
        measurement: Measurement,
        *,
        method: str = "mmps",
        evaluations: int = 50,
        seed: int | None = None,
        guidance: float | None = None,
        batch_size: int | None = None,
        **condition: Any,
    ) -> Tensor:
        if method == "tds":
            raise ValueError("method='tds' draws a population for one measurement: use ornstein.core.TDS itself")
        if measurement.operator.shape != self.shape:
            raise ValueError(f"operator for pictures {measurement.operator.shape}: the model's are {self.shape}")
        measurement.operator.to(self.device)

        def draw(denoiser: Denoiser, y: Tensor, *, first: int, **run: Any) -> Tensor:
            part = measurement[first : first + len(y)]
            sampler, conditioned = posterior_sampler(method, denoiser, part, evaluations)
            return sampler.sample(conditioned, (len(y), *self.shape), first=first, **run)

        return self.decode(self._by_batch(draw, measurement.y, seed, guidance, batch_size, condition))

    def log_likelihood(
        self,
        images: Tensor,
        *,
        likelihood: ODELikelihood | VariationalBound | ContinuousBound | None = None,
        levels: int = 256,
        seed: int | None = None,
        batch_size: int | None = None,
        **condition: Any,
    ) -> Tensor:
        """Log-probability of pictures with this many levels of grey, in nats, ``(N,)``; `bits_per_dim` divides it.

        Pictures are dequantised (`UniformDequantisation`), which makes it a lower bound; a bound with ``quantisation``
        is asked for the probability of the levels themselves.

        Args:
            images: ``(N, C, H, W)``, ``uint8`` or in [0, 1]; rounded to the levels.
            likelihood: `ODELikelihood` when not given, or one of the bounds.
            levels: 256 for 8-bit pictures, 17 for the digits.
            seed, batch_size, condition: as for ``edit``.
        """
        scale, method = UniformDequantisation(levels), likelihood if likelihood is not None else ODELikelihood()

        def measure(denoiser: Denoiser, state: Tensor, *, seed: int, first: int, condition: Any) -> Tensor:
            levels = scale.quantise(state)
            of_levels = getattr(method, "quantisation", None) is not None
            x = scale.centre(levels) if of_levels else scale.dequantise(levels, seed=seed, first=first)
            found = method.evaluate(denoiser, x, seed=seed, first=first, condition=condition).log_prob
            return found if of_levels else found + x[0].numel() * scale.log_jacobian

        return self._by_batch(measure, self._state(images), seed, None, batch_size, condition)

    @torch.no_grad()
    def _by_batch(
        self,
        work: Callable[..., Tensor],
        state: Tensor,
        seed: int | None,
        guidance: float | None,
        batch_size: int | None,
        condition: Mapping[str, Any],
    ) -> Tensor:
        """What ``work(denoiser, state, seed=..., first=..., condition=...)`` makes of the states, on the CPU."""
        size = batch_size or self.default_batch_size
        seed = int(torch.randint(2**31, ()).item()) if seed is None else seed
        conditions = self.prepare_condition(len(state), **condition)
        denoiser: Denoiser = self.denoiser if guidance is None else ClassifierFreeGuidance(self.denoiser, guidance)
        with self.evaluating():
            parts = [
                work(
                    denoiser,
                    state[first : first + size].to(self.device),
                    seed=seed,
                    first=first,
                    condition={name: value[first : first + size].to(self.device) for name, value in conditions.items()},
                )
                for first in range(0, len(state), size)
            ]
        return torch.cat([part.cpu() for part in parts])
