"""`MoleculeDiffusion`: diffusion of molecules, as graphs, sequences or in space, under one interface."""

from typing import Any

from torch import nn

from ornstein.core import Objective, Process, Sampler
from ornstein.domains.molecules.tasks import MoleculeTasks

__all__ = ["MoleculeDiffusion"]


class MoleculeDiffusion(MoleculeTasks):
    """Diffusion of molecules; `for_data` makes one for a data module.

    Args:
        facts, representation, network, process, objective, sampler, property_dropout, seed: as for `MoleculeModel`.

    Raises:
        TypeError: facts of another kind than the representation's, or a process of another kind.
        ValueError: an unknown representation, or ``property_dropout`` out of range.

    Example:
        >>> from ornstein.domains.molecules import MoleculeData
        >>> data = MoleculeData(["C" * n + "O" for n in range(1, 9)], heldout=0, validation=0)
        >>> model = MoleculeDiffusion.for_data(data)
        >>> drawn = model.generate(2, size=5, seed=0)
        >>> [mol.GetNumAtoms() for mol in drawn]
        [5, 5]
    """

    def __init__(
        self,
        facts: Any = None,
        representation: str = "graph",
        network: nn.Module | None = None,
        process: Process | None = None,
        objective: Objective | None = None,
        sampler: Sampler | None = None,
        property_dropout: float = 0.15,
        seed: int = 0,
    ) -> None:
        super().__init__(facts, representation, network, process, objective, sampler, property_dropout, seed)
