"""The kinds of text diffusion: what is noised, what the network predicts, how it is trained and sampled by default.

| kind | state | process | network predicts | after |
| --- | --- | --- | --- | --- |
| ``masked`` | tokens | `AbsorbingChain` | tokens under masks, without seeing time | MDLM 2406.07524, MD4 2406.04329 |
| ``uniform`` | tokens | `UniformChain` | tokens, from the other positions | UDLM 2412.10193 |
| ``score`` | tokens | `UniformChain` | ratios of probabilities | SEDD 2310.16834 |
| ``embedding`` | vectors | `SDE` | tokens behind noisy embeddings | Diffusion-LM 2205.14217, CDCD 2211.15089 |
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from ornstein.core import (
    SDE,
    AbsorbingChain,
    CategoricalAncestral,
    CategoricalBound,
    CategoricalDenoiser,
    Denoiser,
    DPMSolver,
    EmbeddedDenoiser,
    EmbeddedObjective,
    EmbeddingTable,
    GeometricSchedule,
    Objective,
    PartlyGiven,
    PowerSchedule,
    PowerTime,
    Process,
    Sampler,
    SqrtSchedule,
    UniformChain,
    Unmasking,
)
from ornstein.core.config import near
from ornstein.core.nn import TokenTransformer

__all__ = ["KINDS", "Kind", "Parts", "parts_of"]

Kind = Literal["masked", "uniform", "score", "embedding"]
KINDS: tuple[str, ...] = get_args(Kind)
# Which tokens there are is decided at low signal, where the steps are; much fresh noise takes back what was decided
# early. 20 such steps write as fluently as 200 of DDPM, and few of the ODE do not (benchmarks/text_steps.py).
EMBEDDING_SAMPLER = DPMSolver(20, eta=6.0, grid=PowerTime(0.4, start=-5.0))


@dataclass(frozen=True)
class Parts:
    """What a kind is made of, where the user gives nothing else."""

    denoiser: Denoiser[Any]
    objective: Objective
    sampler: Sampler


def parts_of(
    kind: Kind,
    size: int,
    attributes: dict[str, int],
    network: nn.Module | None,
    process: Process | None,
    dimensions: int,
) -> Parts:
    """Denoiser, objective and sampler of a kind.

    Args:
        kind: see the module's text.
        size: number of tokens.
        attributes: number of values of each attribute.
        network: a `TokenTransformer` when not given.
        process: the kind's own when not given.
        dimensions: of embeddings.

    Raises:
        ValueError: an unknown kind.
        TypeError: a process that is not of the kind.
    """
    if kind == "embedding":
        return _embedded(size, attributes, network, process, dimensions)
    sampler: Sampler
    if kind == "masked":
        process = AbsorbingChain(size, PowerSchedule()) if process is None else process
        prediction, timed, sampler = "x0", False, Unmasking(64)
    elif kind == "uniform":
        process = UniformChain(size, PowerSchedule()) if process is None else process
        prediction, timed, sampler = "rest", True, CategoricalAncestral(64)
    elif kind == "score":
        process = UniformChain(size, GeometricSchedule()) if process is None else process
        prediction, timed, sampler = "score", True, CategoricalAncestral(64)
    else:
        raise ValueError(f"kind={kind!r}{near(str(kind), KINDS)}: expected one of {', '.join(KINDS)}")
    expected = {"masked": (AbsorbingChain,), "uniform": (UniformChain,), "score": (UniformChain, AbsorbingChain)}[kind]
    if not isinstance(process, expected):
        names = " or ".join(cls.__name__ for cls in expected)
        raise TypeError(f"process={process!r}: a model of kind {kind!r} runs on {names}")
    masks = isinstance(process, AbsorbingChain)  # which tell what is known; others have to learn of it
    if network is None:
        network = TokenTransformer(
            process.states, attributes=attributes, timed=timed, marked=not masks, lazy=kind == "masked"
        )
    objective: Objective = CategoricalBound() if masks else PartlyGiven(CategoricalBound())
    return Parts(CategoricalDenoiser(network, process, prediction, timed), objective, sampler)


def _embedded(
    size: int, attributes: dict[str, int], network: nn.Module | None, process: Process | None, dimensions: int
) -> Parts:
    process = SDE(SqrtSchedule()) if process is None else process
    if not isinstance(process, SDE):
        raise TypeError(f"process={process!r}: a model of kind 'embedding' runs on an SDE")
    if network is None:
        network = TokenTransformer(dimensions, size, vectors=True, estimate=True, attributes=attributes, marked=True)
    table = EmbeddingTable(size, dimensions)
    denoiser = EmbeddedDenoiser(network, table, process, prediction="logits", self_conditioning=True)
    return Parts(denoiser, PartlyGiven(EmbeddedObjective.cdcd()), EMBEDDING_SAMPLER)
