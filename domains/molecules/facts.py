"""What the training data tell a model of molecules once and for all: plain values, for its configuration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ornstein.core.config import near
from ornstein.core.schedules import require
from ornstein.core.sizes import SizeDistribution
from ornstein.domains.molecules.graphs import Graphs
from ornstein.domains.molecules.vocabulary import Vocabulary

__all__ = ["MoleculeFacts", "PropertyScale"]


@dataclass(frozen=True)
class PropertyScale:
    """How a property is scaled: ``(value - mean) / deviation``.

    Args:
        name: of the property.
        mean, deviation: of the training data, in the property's unit.
        low, high: least and largest value there.

    Raises:
        ValueError: a deviation that is not positive, or numbers that are not finite.
    """

    name: str
    mean: float
    deviation: float
    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = (self.mean, self.deviation, self.low, self.high)
        require(all(map(math.isfinite, numbers)), f"scale of {self.name!r}", numbers, "finite numbers")
        require(self.deviation > 0, "deviation", self.deviation, "a number above 0")

    @classmethod
    def fit(cls, name: str, values: np.ndarray) -> "PropertyScale":
        """The scale of values ``(M,)``, NaN where missing; a property that does not vary has deviation 1.

        Raises:
            ValueError: no molecule has a value, or one is infinite.
        """
        known = values[~np.isnan(values)]
        if not len(known):
            raise ValueError(f"property {name!r} has no value in the training data; leave it out")
        if not np.isfinite(known).all():
            raise ValueError(f"property {name!r} has an infinite value; mend or leave it out")
        deviation = float(known.std())
        return cls(name, float(known.mean()), deviation or 1.0, float(known.min()), float(known.max()))


@dataclass(frozen=True)
class MoleculeFacts:
    """Vocabulary, sizes, marginals, valences and scales of the training data.

    Args:
        vocabulary: the categories of atoms and bonds.
        sizes: how often molecules have ``0, 1, 2, ...`` atoms: `SizeDistribution.counts`.
        atom_marginals: part of each category among all atoms.
        bond_marginals: part of each category among all pairs of atoms of a molecule, ``none`` included.
        valences: the largest sum of bond orders that an atom of each category has in the graph; hydrogens that are no
            atoms of it do not count, and an aromatic bond counts one and a half.
        properties: scales of the properties.

    Raises:
        ValueError: marginals or valences of another number than categories, or marginals that do not sum to 1.
    """

    vocabulary: Vocabulary
    sizes: tuple[float, ...]
    atom_marginals: tuple[float, ...]
    bond_marginals: tuple[float, ...]
    valences: tuple[float, ...]
    properties: tuple[PropertyScale, ...] = ()

    def __post_init__(self) -> None:
        SizeDistribution(self.sizes)  # judges them
        for name, values, known in (
            ("atom_marginals", self.atom_marginals, self.atoms),
            ("valences", self.valences, self.atoms),
            ("bond_marginals", self.bond_marginals, self.bonds),
        ):
            require(len(values) == len(known), name, values, f"{len(known)} numbers, one for each of {known}")
            if name != "valences":
                fine = min(values) >= 0 and abs(sum(values) - 1) < 1e-6
                require(fine, name, values, "numbers of at least 0 that sum to 1")

    @classmethod
    def fit(
        cls, graphs: Graphs, vocabulary: Vocabulary, properties: Mapping[str, np.ndarray] | None = None
    ) -> "MoleculeFacts":
        """The facts of molecules.

        Args:
            graphs: the training molecules.
            vocabulary: their categories.
            properties: by name ``(M,)``, NaN where missing.

        Raises:
            ValueError: no molecules, or a property without a finite value.
        """
        if not len(graphs):
            raise ValueError("there are no molecules to learn from: expected at least one")
        sizes = graphs.sizes
        atoms = np.bincount(graphs.atoms, minlength=len(vocabulary.atoms))
        bonds = np.bincount(graphs.kinds, minlength=len(vocabulary.bonds)).astype(np.float64)
        pairs = int((sizes * (sizes - 1) // 2).sum())
        # A molecule of one atom has no pairs; all of them together must have some marginal.
        bonds[0] = max(pairs - len(graphs.kinds), 1 if pairs == 0 else 0)
        rows = np.repeat(graphs.starts[:-1], np.diff(graphs.bond_starts))
        orders = np.array(vocabulary.orders)[graphs.kinds]
        sums = np.zeros(len(graphs.atoms))
        for side in (0, 1):
            np.add.at(sums, rows + graphs.ends[:, side], orders)
        valences = np.zeros(len(vocabulary.atoms))
        np.maximum.at(valences, graphs.atoms, sums)
        return cls(
            vocabulary,
            SizeDistribution.fit(torch.from_numpy(sizes)).counts,
            tuple((atoms / atoms.sum()).tolist()),
            tuple((bonds / bonds.sum()).tolist()),
            tuple(valences.tolist()),
            tuple(PropertyScale.fit(name, np.asarray(values)) for name, values in (properties or {}).items()),
        )

    @property
    def atoms(self) -> tuple[str, ...]:
        """Names of the categories of atoms."""
        return self.vocabulary.atoms

    @property
    def bonds(self) -> tuple[str, ...]:
        """Names of the categories of bonds."""
        return self.vocabulary.bonds

    @property
    def largest(self) -> int:
        """Atoms of the largest molecule."""
        return SizeDistribution(self.sizes).largest

    @property
    def property_names(self) -> tuple[str, ...]:
        """Names of the properties."""
        return tuple(scale.name for scale in self.properties)

    def scale(self, values: Mapping[str, Sequence[float] | np.ndarray | Tensor]) -> tuple[Tensor, Tensor]:
        """Properties as a network sees them.

        Args:
            values: by name ``(B,)`` in their units, NaN where unknown; of some of the properties.

        Returns:
            Scaled values ``(B, P)`` float32, 0 where unknown, and ``(B, P)``, True where known.

        Raises:
            ValueError: a property that the training data had not, or values of different numbers.
        """
        if lost := [name for name in values if name not in self.property_names]:
            known = ", ".join(self.property_names) or "none"
            raise ValueError(f"no property {lost[0]!r}{near(lost[0], self.property_names)}; there are {known}")
        given = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in values.items()}
        if len({tuple(value.shape) for value in given.values()}) > 1 or any(v.ndim != 1 for v in given.values()):
            shapes = {name: tuple(value.shape) for name, value in given.items()}
            raise ValueError(f"properties of shapes {shapes}: expected (B,) each, the same B")
        count = len(next(iter(given.values()))) if given else 0
        nothing = torch.full((count,), math.nan, dtype=torch.float64)
        columns = [(given.get(scale.name, nothing) - scale.mean) / scale.deviation for scale in self.properties]
        table = torch.stack(columns, 1) if columns else torch.zeros(count, 0)
        known_mask = ~table.isnan()
        return table.nan_to_num(0.0).float(), known_mask

    def unscale(self, table: Tensor) -> dict[str, Tensor]:
        """Scaled properties ``(B, P)`` in their units, by name ``(B,)`` float64."""
        return {
            scale.name: column.double() * scale.deviation + scale.mean
            for scale, column in zip(self.properties, table.unbind(1))
        }
