"""Parts of the data given: training in which a model learns to complete what is known of a sample; completing it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .denoisers import Denoiser
from .noise import NoiseSource, NoiseStream
from .objectives import Objective, restored
from .process import State
from .samplers import Sampler
from .schedules import require

__all__ = ["PartlyGiven", "PartsGiven", "complete"]

START = 0x53544152  # of the draws of start states: others than those that samples of the same seed start from


class PartlyGiven(Objective):
    """Another objective, in which now and then some positions of a sample are given: not noised, and not judged.

    The denoiser is told by the condition ``given`` ``(B, N)``.  As a mask is drawn for training, so it may be asked for
    at sampling (`Sampler.sample`): infilling by a network that knows what is given (partial noising: Gong et al. 2022,
    arXiv 2210.08933; random spans: Strudel et al. 2022, 2211.04236, section 3).

    Of a sample that is chosen, a share that is drawn evenly from 0 to 1 is given, in ``spans`` runs of positions or
    fewer.  A condition ``given`` of the data themselves is left as it is.

    Args:
        objective: the loss.
        probability: with which a sample has something given.
        spans: runs of positions that are given, at most.
    """

    def __init__(self, objective: Objective, probability: float = 0.25, spans: int = 3) -> None:
        super().__init__()
        require(0 < probability <= 1, "probability", probability, "in (0, 1]")
        require(spans >= 1, "spans", spans, "at least 1")
        self.objective = objective
        self.probability = probability
        self.spans = spans

    def forward(
        self,
        denoiser: Denoiser[Any],
        x0: Any,
        *,
        mask: Any = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        if condition.get("given") is None:
            condition["given"] = self.draw(x0.shape[:2], generator).to(x0.device)
        return self.objective(denoiser, x0, mask=mask, generator=generator, **condition)

    def draw(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        """Where ``(B, N)`` is given, by chance; never all of a row."""
        batch, length = shape
        device = generator.device if generator is not None else None
        u = torch.rand(batch, 2 + 2 * self.spans, generator=generator, device=device)
        # Runs of random lengths that together cover about the share.
        starts, parts = u[:, 2 : 2 + self.spans], u[:, 2 + self.spans :]
        sizes = u[:, 1:2] * length * parts / parts.sum(1, keepdim=True)
        place = torch.arange(length, device=u.device)
        begin = (starts * (length - sizes)).round()
        inside = (place >= begin[..., None]) & (place < (begin + sizes.round())[..., None])
        given = inside.any(1) & (u[:, :1] < self.probability)
        return given & ~given.all(1, keepdim=True)


class PartsGiven(Objective):
    """Another objective of states of several parts, in which now and then some of the parts are given whole: not
    noised, and not judged.

    So one network learns to draw all parts together, and the others given these. UniDiffuser (Bao et al. 2023, arXiv
    2303.06555, section 3.2) gives each part a time of its own; here a part is given, at time 0, or at the time of all.
    The denoiser is told by the condition ``given``, a mask ``(B, N)`` of each such part by name, and asked likewise at
    sampling (`complete`). A condition ``given`` of the data themselves is left as it is.

    Args:
        objective: the loss, of states of several parts.
        parts: names of those that are given, all of them or none; others must be left to be drawn.
        probability: with which a sample has them given.

    Raises:
        ValueError: for no parts, or a probability that is none; by the call, for parts that the data have not, or no
            others.
    """

    def __init__(self, objective: Objective, parts: Sequence[str], probability: float = 0.25) -> None:
        super().__init__()
        require(0 < probability <= 1, "probability", probability, "in (0, 1]")
        require(not isinstance(parts, str) and len(parts) > 0, "parts", parts, "names of parts, at least one")
        self.objective = objective
        self.parts = tuple(parts)
        self.probability = probability

    def forward(
        self,
        denoiser: Denoiser[Any],
        x0: Mapping[str, Tensor],
        *,
        mask: Any = None,
        generator: torch.Generator | None = None,
        **condition: Any,
    ) -> Float[Tensor, "batch"]:
        if condition.get("given") is None:
            condition["given"] = self.draw(x0, generator)
        return self.objective(denoiser, x0, mask=mask, generator=generator, **condition)

    def draw(self, x0: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        """Where each part ``(B, N)`` is given, by chance."""
        names = list(x0) if isinstance(x0, Mapping) else type(x0).__name__
        known = isinstance(x0, Mapping) and set(self.parts) < x0.keys()
        require(known, "x0", names, f"parts of which some are {', '.join(self.parts)}, and others")
        batch = len(x0[self.parts[0]])
        rows = torch.rand(batch, generator=generator, device=None if generator is None else generator.device)
        chosen = (rows < self.probability)[:, None].to(x0[self.parts[0]].device)
        return {name: chosen.expand(x0[name].shape[:2]) for name in self.parts}


def complete(
    denoiser: Denoiser[Any],
    known: State,
    given: State,
    sampler: Sampler,
    *,
    noise: NoiseSource,
    mask: State | None = None,
    condition: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Any:
    """Samples that hold what is ``known`` where it is ``given``, the rest drawn by the sampler.

    Args:
        denoiser: is told by the condition ``given``.
        known: clean data ``(B, *event)``; what it holds elsewhere is not read. By name for states of several parts, as
            all that follows.
        given: boolean ``(B, N)``, or of more axes of the state.
        sampler: walks from noise to data.
        noise: where draws come from.
        mask: True where the state is real, as in `Sampler.sample`.
        condition: tensors for the denoiser, by name.
        progress: show a bar.
    """
    process = denoiser.process
    time = float(sampler.route(process)[0])
    shape = {name: part.shape for name, part in known.items()} if isinstance(known, Mapping) else known.shape
    some = next(iter(known.values())) if isinstance(known, Mapping) else known
    real = None if mask is None else process.expand_mask(mask)
    stream = process.constrain(_Apart(noise.begin(len(some), 0)), real)
    x = process.initial(process.blank(shape, some.device), time, stream)
    x = restored(x, known, process.expand_mask(given))
    return sampler.sample(
        denoiser, shape, noise=noise, x=x, given=given, mask=mask, condition=condition, progress=progress
    )


class _Apart(NoiseStream):
    """The streams of a run's start states, by part."""

    def __init__(self, stream: NoiseStream) -> None:
        self.stream, self.own = stream, stream.child(START)

    def draw(self, like: Tensor) -> Tensor:
        return self.own.draw(like)

    def step(self, like: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        return self.own.step(like, t, s)

    def uniform(self, like: Tensor) -> Tensor:
        return self.own.uniform(like)

    def child(self, number: int) -> NoiseStream:
        return self.own if number == 0 else self.stream.child(START + number)
