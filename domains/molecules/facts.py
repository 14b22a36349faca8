"""What the training data tell a model of molecules once and for all: plain values, for its configuration."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ornstein.core.schedules import require
from ornstein.core.sizes import SizeDistribution
from ornstein.domains.molecules.graphs import Graphs
from ornstein.domains.molecules.scales import PropertyScale, Scaled
from ornstein.domains.molecules.vocabulary import Vocabulary

__all__ = ["MoleculeFacts"]


@dataclass(frozen=True)
class MoleculeFacts(Scaled):
    """Vocabulary, sizes, marginals, valences and scales of the training data.

    Args:
        vocabulary: the categories of atoms and bonds.
        sizes: how often molecules have ``0, 1, 2, ...`` atoms: `SizeDistribution.counts`.
        atom_marginals: part of each category among all atoms.
        bond_marginals: part of each category among all pairs of atoms of a molecule, ``none`` included.
        valences: the largest sum of bond orders that an atom of each category has in the graph; hydrogens that are no
            atoms of it do not count, and an aromatic bond counts one and a half.
        properties: scales of the properties.
        position_scale: root mean square of the coordinates of centred molecules, in ångström; None without any.

    Raises:
        ValueError: marginals or valences of another number than categories, marginals that do not sum to 1, or a scale
            of positions that is not positive.
    """

    vocabulary: Vocabulary
    sizes: tuple[float, ...]
    atom_marginals: tuple[float, ...]
    bond_marginals: tuple[float, ...]
    valences: tuple[float, ...]
    properties: tuple[PropertyScale, ...] = ()
    position_scale: float | None = None

    def __post_init__(self) -> None:
        SizeDistribution(self.sizes)  # judges them
        if self.position_scale is not None:
            require(self.position_scale > 0, "position_scale", self.position_scale, "a number above 0")
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
        cls,
        graphs: Graphs,
        vocabulary: Vocabulary,
        properties: Mapping[str, np.ndarray] | None = None,
        positions: np.ndarray | None = None,
    ) -> "MoleculeFacts":
        """The facts of molecules.

        Args:
            graphs: the training molecules.
            vocabulary: their categories.
            properties: by name ``(M,)``, NaN where missing.
            positions: of all atoms, ``(sum of n, 3)``, centred in each molecule.

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
            None if positions is None else float(np.sqrt(np.mean(np.square(positions, dtype=np.float64)))),
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
