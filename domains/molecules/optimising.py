"""Molecules made better step by step: perturbed, reversed, judged, and the best of them perturbed again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ornstein.core.config import near
from ornstein.domains.molecules.descriptors import DESCRIPTORS

__all__ = ["Objective", "Optimised", "objective_of"]

Objective = str | Callable[[Any], float] | Mapping[str, float]
"""What is to be high: a descriptor's name, a function of a molecule; or values of descriptors that are to be met."""


@dataclass(frozen=True, eq=False)
class Optimised:
    """The best molecules that were found.

    Attributes:
        mols: sanitised, the best first, each once.
        scores: of each, higher is better.
        start: the score of the molecule that was given.
        best: the best score so far after each round, that of the start first.
        judged: how many molecules were judged.
    """

    mols: list[Any]
    scores: list[float]
    start: float
    best: list[float] = field(default_factory=list)
    judged: int = 0


def objective_of(objective: Objective) -> Callable[[Any], float]:
    """The score of a molecule, higher is better: of values to be met, minus the sum of the distances from them.

    Raises:
        ValueError: an unknown descriptor.
        TypeError: neither a name, a function nor values.
    """
    if callable(objective):
        return objective
    names = [objective] if isinstance(objective, str) else list(objective) if isinstance(objective, Mapping) else None
    if not names:
        raise TypeError(f"objective={objective!r}: expected a descriptor, a function of a molecule, or {{'logP': 2.0}}")
    if lost := [name for name in names if name not in DESCRIPTORS]:
        known = ", ".join(DESCRIPTORS)
        raise ValueError(f"no descriptor {lost[0]!r}{near(lost[0], DESCRIPTORS)}; there are {known}")
    if isinstance(objective, str):
        return DESCRIPTORS[objective]
    wanted = dict(objective)
    return lambda mol: -sum(abs(DESCRIPTORS[name](mol) - value) for name, value in wanted.items())
