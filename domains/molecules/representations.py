"""How molecules are written for a model: what each representation gives to `MoleculeDiffusion`, and their names.

| name | state | process |
| --- | --- | --- |
| ``"graph"`` | categories of atoms and of all pairs, `GraphRepresentation` | a product of two chains |
| ``"selfies"`` | SELFIES tokens, `SelfiesRepresentation` | a chain |
| ``"space"`` | positions, atoms and bonds, `SpaceRepresentation` | a product of a centred SDE and two chains |
| ``"positions"`` | positions and atoms, `PositionsRepresentation` | a product of a centred SDE and a chain |

A representation knows the facts of its data and nothing of a run. A further one is a subclass of `Representation`, by
its import path.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from ornstein.core import Denoiser, Objective, Process, Sampler, StateConstraint
from ornstein.core.adapter import Example
from ornstein.core.config import near, resolve_class

__all__ = ["REPRESENTATIONS", "Drawn", "Representation", "representation_of"]

REPRESENTATIONS = {
    "graph": "ornstein.domains.molecules.graph_representation.GraphRepresentation",
    "selfies": "ornstein.domains.molecules.selfies_representation.SelfiesRepresentation",
    "space": "ornstein.domains.molecules.space_representation.SpaceRepresentation",
    "positions": "ornstein.domains.molecules.space_representation.PositionsRepresentation",
}
"""Import paths by name."""


class Drawn(NamedTuple):
    """What a state says.

    Attributes:
        raw: the RDKit molecule as it was drawn, not sanitised; None if there is none.
        mol: sanitised; None if RDKit refuses it.
        reason: why there is no ``mol``, in one line; empty if there is.
    """

    raw: Any
    mol: Any
    reason: str = ""


class Representation(ABC):
    """Molecules as states of a process, for data of these facts.

    Args:
        facts: what the training data tell, `facts_type`.

    Raises:
        TypeError: facts of another kind.
    """

    facts_type: ClassVar[type]
    unit: ClassVar[str] = "atoms"
    """What the size of a molecule counts."""
    size_step: ClassVar[int] = 1
    """Distance of the widths to which samples are padded: few widths are few shapes, and more padding."""

    def __init__(self, facts: Any) -> None:
        if not isinstance(facts, self.facts_type):
            raise TypeError(
                f"facts={facts!r}: expected {self.facts_type.__name__}, as a data module of this representation has "
                "them (for_data)"
            )
        self.facts = facts

    # The parts of a model that a user does not give.

    @abstractmethod
    def process(self) -> Process:
        """The forward process of the states."""

    @abstractmethod
    def network(self, process: Process) -> nn.Module:
        """A network for states of this process, which may be another than `process` gives. It takes the conditions
        ``properties`` ``(B, P)`` and ``properties_mask`` where the facts have properties.
        """

    @abstractmethod
    def denoiser(self, network: nn.Module, process: Process) -> Denoiser[Any]:
        """What the network's answer means.

        Raises:
            TypeError: a process of another kind.
        """

    @abstractmethod
    def objective(self, process: Process) -> Objective:
        """The training loss."""

    @abstractmethod
    def sampler(self, process: Process) -> Sampler:
        """What samples are drawn by."""

    def constraint(
        self, elements: Sequence[str] | None = None, rings: Sequence[int] | None = None
    ) -> StateConstraint | None:
        """What keeps samples to molecules that can be; None where the representation needs none.

        Args:
            elements: the only ones that are drawn, by symbol; all of the data when not given.
            rings: sizes of rings that may be closed; all when not given.

        Raises:
            ValueError: options that the representation has not, or elements that the data have not.
        """
        if elements is not None or rings is not None:
            raise ValueError(f"elements and rings: {type(self).__name__} cannot see to them; expected None")
        return None

    # States.

    @abstractmethod
    def collate(self, mols: Sequence[Any]) -> dict[str, Any]:
        """RDKit molecules as a batch of the data module, without properties.

        Raises:
            ValueError: a molecule that the facts cannot hold, by its number.
        """

    @abstractmethod
    def encode(self, batch: Mapping[str, Any]) -> Example:
        """State and mask of a batch of the data module, and conditions other than properties.

        Raises:
            TypeError: a batch of another kind.
            ValueError: states that are none.
        """

    @abstractmethod
    def shape(self, num: int, width: int) -> Any:
        """The shape of ``num`` states padded to a size, as samplers take it."""

    @abstractmethod
    def mask(self, sizes: Tensor, width: int) -> Any:
        """Where states of these sizes ``(B,)`` are real, in the form of the batches' masks."""

    def told(self, sizes: Tensor) -> dict[str, Tensor]:
        """Conditions that say how large states ``(B,)`` are, for a network that does not see it in their mask."""
        return {}

    @abstractmethod
    def decode(self, state: Any, sizes: Tensor) -> list[Drawn]:
        """States as molecules.

        Args:
            state: padded, on the CPU.
            sizes: how much of each is real, ``(B,)``.
        """

    @abstractmethod
    def example_batch(self, num: int) -> dict[str, Any]:
        """A batch of random states, as a data module would give it, for the conformance suite."""


def representation_of(name: str, facts: Any) -> Representation:
    """The representation of this name or import path, for data of these facts.

    Raises:
        ValueError: an unknown name, or a path that leads to none.
        TypeError: facts of another kind.
    """
    if not isinstance(name, str) or (name not in REPRESENTATIONS and "." not in name):
        known = ", ".join(map(repr, REPRESENTATIONS))
        raise ValueError(
            f"representation={name!r}{near(str(name), REPRESENTATIONS)}: expected one of {known}, or the import path "
            "of a Representation"
        )
    kind = resolve_class(REPRESENTATIONS.get(name, name))
    if not issubclass(kind, Representation):
        raise ValueError(f"representation={name!r}: expected the import path of a Representation")
    return kind(facts)
