"""Values of any function of a molecule that are asked for, without training: `TiltedDraws` over the molecules drawn."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core.schedules import require
from ornstein.domains.molecules.descriptors import DESCRIPTORS
from ornstein.domains.molecules.graph_representation import GraphRepresentation

__all__ = ["FunctionTarget", "worth_of"]


@dataclass(frozen=True)
class FunctionTarget:
    """A value of a function of a molecule that is asked for: ``log p = -(f(molecule) - value)^2 / (2 deviation^2)``.

    In each step of sampling several molecules are drawn, and one is kept by this (`TiltedDraws`).

    Args:
        function: a descriptor's name, or a function of a sanitised RDKit molecule. In early steps molecules are in
            several pieces. One for which it is NaN is not kept as long as there are others.
        value: in the function's unit.
        deviation: how far from it is about as good, in the same unit.

    Raises:
        ValueError: an unknown descriptor, a value that is not finite, or a deviation that is not positive.

    Example:
        >>> FunctionTarget("logP", 2.5, 0.3).log_probability(None)
        -inf
    """

    function: str | Callable[[Any], float]
    value: float
    deviation: float

    def __post_init__(self) -> None:
        if isinstance(self.function, str):
            known = f"one of {', '.join(DESCRIPTORS)}, or a function"
            require(self.function in DESCRIPTORS, "function", self.function, known)
        require(math.isfinite(self.value), "value", self.value, "a finite number")
        fine = math.isfinite(self.deviation) and self.deviation > 0
        require(fine, "deviation", self.deviation, "a positive number")

    def measure(self, mol: Any) -> float:
        """The function of a sanitised molecule."""
        return float((DESCRIPTORS[self.function] if isinstance(self.function, str) else self.function)(mol))

    def log_probability(self, mol: Any) -> float:
        """Of a sanitised molecule, in nats up to a constant; minus infinity for None."""
        if mol is None:
            return -math.inf
        found = self.measure(mol)
        return -math.inf if math.isnan(found) else -0.5 * ((found - self.value) / self.deviation) ** 2


def worth_of(targets: Sequence[FunctionTarget], form: GraphRepresentation) -> Callable[..., Tensor]:
    """The sum of what graphs are worth by targets, for `TiltedDraws`."""

    def worth(data: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> Tensor:
        drawn = form.decode({name: value.cpu() for name, value in data.items()}, real["atoms"].sum(1).cpu())
        found = [sum(target.log_probability(one.mol) for target in targets) for one in drawn]
        return torch.tensor(found, dtype=torch.float64, device=real["atoms"].device)

    return worth
