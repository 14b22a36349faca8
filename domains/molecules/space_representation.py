"""Molecules in space: positions of atoms and their categories, with the bonds between them or without.

With bonds, after MiDi (Vignac et al. 2023, 2302.09048), the network sees which atoms are bonded and draws the bonds
with the rest; without, after EDM (Hoogeboom et al. 2022, 2203.17003), they are perceived from distances
(`perceive_bonds`). Positions are Gaussian in the subspace of zero centre of mass, in units of the data's root mean
square; categories are chains. Hydrogens are atoms as all others, since valences are judged by them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ornstein.core import (
    DDPM,
    CategoricalAncestral,
    CategoricalDenoiser,
    CentredSDE,
    Chain,
    CosineSchedule,
    DenoisingObjective,
    EDMWeighting,
    LogNormalTimes,
    MarginalChain,
    NetworkDenoiser,
    Objective,
    PartsGiven,
    PowerSchedule,
    PowerTime,
    Process,
    ProductNetworkDenoiser,
    ProductObjective,
    ProductProcess,
    ProductSampler,
    TokenCrossEntropy,
)
from ornstein.core.adapter import Example
from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.building import sanitise
from ornstein.domains.molecules.facts import MoleculeFacts
from ornstein.domains.molecules.graphs import collate, decode_graphs, encode_graph
from ornstein.domains.molecules.pairs import num_pairs, pair_mask
from ornstein.domains.molecules.perception import perceive_bonds
from ornstein.domains.molecules.representations import Drawn, Representation
from ornstein.domains.molecules.space_network import SpaceNetwork

__all__ = ["PositionsRepresentation", "SpaceRepresentation"]

POWERS = {"atoms": 0.5, "bonds": 0.7}
"""Of the chains' schedules: half of the atoms are forgotten by the time that positions have moved by 0.4 Å, and a third
of the bonds, as in MiDi, so that positions are decided first and what they imply after."""
WEIGHTS = {"atoms": 0.5, "bonds": 3.0}
"""Of the losses, beside that of the positions; most pairs have no bond and are easy."""
FOLDED = 0.2  # part of the training molecules whose atoms and bonds are given, for `MoleculeDiffusion.conformers`
RARE = 1e-4  # part of a category that is hardly in the data; a chain has no place for none


@dataclass(frozen=True, eq=False)
class KnownGraph:
    """Atoms and bonds of a molecule, given.

    Attributes:
        atoms: ``(n,)``, categories.
        bonds: ``(n (n - 1) / 2,)``, categories.
    """

    atoms: Tensor
    bonds: Tensor

    def states(self, num: int, width: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """``num`` states of ``width`` atoms that hold it, positions at zero, and where they are given."""
        batch = collate([{"atoms": self.atoms, "bonds": self.bonds}], width)
        state = {"positions": torch.zeros(1, width, 3), "atoms": batch["atoms"], "bonds": batch["bonds"]}
        given = {name: torch.ones_like(state[name], dtype=torch.bool) for name in ("atoms", "bonds")}
        return (
            {name: value.expand(num, *value.shape[1:]) for name, value in state.items()},
            {name: value.expand(num, -1) for name, value in given.items()},
        )


class PositionsRepresentation(Representation):
    """States ``{"positions": (B, N, 3), "atoms": (B, N)}``; bonds are perceived from distances.

    Raises:
        TypeError: facts of another kind.
        ValueError: facts of molecules without positions, or without hydrogens.
    """

    facts_type = MoleculeFacts
    facts: MoleculeFacts
    size_step = 4
    parts: ClassVar[tuple[str, ...]] = ("positions", "atoms")

    def __init__(self, facts: Any) -> None:
        super().__init__(facts)
        if facts.position_scale is None:
            raise ValueError("facts know no scale of positions: expected those of molecules in space (ConformerData)")
        if facts.vocabulary.form.hydrogens != "explicit":
            raise ValueError("facts have implicit hydrogens; give the data form=GraphForm(hydrogens='explicit')")

    @property
    def scale(self) -> float:
        """Å of a unit of the state."""
        assert self.facts.position_scale is not None
        return self.facts.position_scale

    def process(self) -> ProductProcess:
        marginals = {"atoms": self.facts.atom_marginals, "bonds": self.facts.bond_marginals}
        chains = {
            name: MarginalChain(_positive(marginals[name]), PowerSchedule(POWERS[name])) for name in self.parts[1:]
        }
        return ProductProcess({"positions": CentredSDE(CosineSchedule()), **chains})

    def network(self, process: Process) -> SpaceNetwork:
        parts = self._components(process)
        states = {name: parts[name].states for name in self.parts[1:]}
        network = SpaceNetwork(**states, properties=len(self.facts.properties))
        known = {"atoms": self.facts.atom_marginals, "bonds": self.facts.bond_marginals}
        with torch.no_grad():  # a network that knows nothing answers with the frequencies of the data
            for name in self.parts[1:]:
                layer = getattr(network, f"leave_{name}")
                layer.bias[: len(known[name])] = torch.tensor(_positive(known[name])).log()
        return network

    def denoiser(self, network: nn.Module, process: Process) -> ProductNetworkDenoiser:
        parts = self._components(process)
        heads: dict[str, Any] = {name: CategoricalDenoiser(None, parts[name]) for name in self.parts[1:]}
        return ProductNetworkDenoiser(network, {"positions": NetworkDenoiser(None, parts["positions"]), **heads})

    def objective(self, process: Process) -> Objective:
        losses: dict[str, Any] = {name: TokenCrossEntropy() for name in self.parts[1:]}
        losses["positions"] = DenoisingObjective(EDMWeighting(1.0))
        weights = {name: WEIGHTS[name] for name in self.parts[1:]}
        return ProductObjective(losses, weights, LogNormalTimes(-1.2, 1.4))

    def sampler(self, process: Process) -> ProductSampler:
        samplers: dict[str, Any] = dict.fromkeys(self.parts[1:], CategoricalAncestral())
        return ProductSampler(100, samplers={"positions": DDPM(), **samplers}, grid=PowerTime(1.5, start=-9.0))

    def collate(self, mols: Sequence[Any]) -> dict[str, Any]:
        Chem = need("rdkit.Chem", to="read molecules in space", extra="molecules")
        graphs, places = [], []
        for number, mol in enumerate(mols):
            if not isinstance(mol, Chem.Mol) or not mol.GetNumConformers() or not mol.GetConformer().Is3D():
                raise ValueError(f"molecule {number}: expected an RDKit molecule with a conformer in space")
            if Chem.AddHs(mol).GetNumAtoms() != mol.GetNumAtoms():
                raise ValueError(
                    f"molecule {number} has hydrogens without coordinates; give Chem.AddHs(mol, addCoords=True)"
                )
            try:
                graphs.append(encode_graph(mol, self.facts.vocabulary))
            except ValueError as error:
                raise ValueError(f"molecule {number}: {error}") from error
            place = torch.from_numpy(mol.GetConformer().GetPositions()).float()
            places.append(place - place.mean(0))
        if not graphs:
            raise ValueError("no molecules: expected at least one")
        batch = collate(graphs)
        batch["mask"]["positions"] = real = batch["mask"]["atoms"]
        batch["positions"] = torch.zeros(*real.shape, 3)
        batch["positions"][real] = torch.cat(places)
        return batch

    def encode(self, batch: Mapping[str, Any]) -> Example:
        if not all(name in batch for name in (*self.parts, "mask")):
            names = ", ".join(map(repr, (*self.parts, "mask")))
            raise TypeError(f"the batch holds {', '.join(batch)}: expected {names}, as ConformerData gives them")
        state = {name: batch[name] for name in self.parts}
        state["positions"] = state["positions"] / self.scale
        return Example(state, {}, {name: batch["mask"][name] for name in self.parts})  # type: ignore[arg-type]

    def shape(self, num: int, width: int) -> dict[str, tuple[int, ...]]:
        shapes = {"positions": (num, width, 3), "atoms": (num, width), "bonds": (num, num_pairs(width))}
        return {name: shapes[name] for name in self.parts}

    def mask(self, sizes: Tensor, width: int) -> dict[str, Tensor]:
        real = torch.arange(width, device=sizes.device) < sizes[:, None]
        return {name: pair_mask(real) if name == "bonds" else real for name in self.parts}

    def decode(self, state: Any, sizes: Tensor) -> list[Drawn]:
        kinds = self.facts.vocabulary.kinds
        drawn = []
        for atoms, places, size in zip(
            state["atoms"].tolist(), state["positions"].double() * self.scale, sizes.tolist()
        ):
            drawn.append(Drawn(*perceive_bonds([kinds[k] for k in atoms[:size]], places[:size].numpy())))
        return drawn

    def example_batch(self, num: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(0)
        sizes = torch.randint(2, max(3, self.facts.largest + 1), (num,), generator=generator)
        mask = self.mask(sizes, int(sizes.max()))
        counts = {"atoms": len(self.facts.atoms), "bonds": len(self.facts.bonds)}
        batch: dict[str, Any] = {
            name: torch.randint(counts[name], mask[name].shape, generator=generator) * mask[name]
            for name in self.parts[1:]
        }
        places = self.scale * torch.randn(*mask["positions"].shape, 3, generator=generator)
        real = mask["positions"][..., None]
        places = (places - (places * real).sum(1, keepdim=True) / sizes[:, None, None]) * real
        return {**batch, "positions": places, "mask": mask}

    def _components(self, process: Process) -> dict[str, Any]:
        """The parts of a process.

        Raises:
            TypeError: a process of other parts.
        """
        parts = getattr(process, "components", {})
        fine = tuple(parts) == self.parts and isinstance(parts["positions"], CentredSDE)
        if not fine or not all(isinstance(parts[name], Chain) for name in self.parts[1:]):
            raise TypeError(
                f"process={process!r}: expected a ProductProcess of {', '.join(self.parts)}: a CentredSDE and chains"
            )
        return parts


class SpaceRepresentation(PositionsRepresentation):
    """States ``{"positions": (B, N, 3), "atoms": (B, N), "bonds": (B, N (N - 1) / 2)}``; bonds are drawn with the rest.

    Raises:
        TypeError, ValueError: as `PositionsRepresentation`.
    """

    parts = ("positions", "atoms", "bonds")

    def objective(self, process: Process) -> PartsGiven:
        return PartsGiven(super().objective(process), self.parts[1:], FOLDED)

    def known(self, mol: Any) -> KnownGraph:
        """A molecule whose atoms and bonds are given; the positions are left to be drawn.

        Raises:
            ValueError: atoms or bonds that the facts do not know, or more atoms than those of the largest molecule.
        """
        graph = encode_graph(mol, self.facts.vocabulary)
        require(
            len(graph["atoms"]) <= self.facts.largest, "atoms of mol", len(graph["atoms"]),
            f"at most the {self.facts.largest} of the largest molecule of the data",
        )  # fmt: skip
        return KnownGraph(graph["atoms"], graph["bonds"])

    def decode(self, state: Any, sizes: Tensor) -> list[Drawn]:
        Chem = need("rdkit.Chem", to="build molecules", extra="molecules")
        real = torch.arange(state["atoms"].shape[1]) < sizes[:, None]
        raws = decode_graphs(state, self.facts.vocabulary, real)
        for raw, places, size in zip(raws, state["positions"].double() * self.scale, sizes.tolist()):
            conformer = Chem.Conformer(size)
            conformer.Set3D(True)
            conformer.SetPositions(places[:size].numpy())
            raw.AddConformer(conformer, assignId=True)
        return [Drawn(raw, *sanitise(raw)[:2]) for raw in raws]


def _positive(marginals: Sequence[float]) -> list[float]:
    """Parts of categories, none of them zero."""
    raised = [max(part, RARE) for part in marginals]
    return [part / sum(raised) for part in raised]
