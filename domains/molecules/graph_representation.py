"""Molecules as graphs of categories: a product of two chains, of atoms and of the pairs between them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.core import (
    AbsorbingChain,
    CategoricalAncestral,
    CategoricalDenoiser,
    Chain,
    CosineSchedule,
    MarginalChain,
    Process,
    ProductNetworkDenoiser,
    ProductObjective,
    ProductProcess,
    ProductSampler,
    StratifiedTimes,
    TokenCrossEntropy,
    Unmasking,
)
from ornstein.core.adapter import Example
from ornstein.core.optional import need
from ornstein.domains.molecules.building import sanitise
from ornstein.domains.molecules.facts import MoleculeFacts
from ornstein.domains.molecules.graphs import collate, decode_graphs, encode_graph
from ornstein.domains.molecules.network import GraphTransformer
from ornstein.domains.molecules.ordered_network import OrderedTransformer
from ornstein.domains.molecules.pairs import num_pairs, pair_mask
from ornstein.domains.molecules.representations import Drawn, Representation
from ornstein.domains.molecules.valence import ValenceConstraint

__all__ = ["GraphRepresentation"]

CARBON = 12.011
RAREST = 1e-6  # least frequency of a category in the noise
PARTS = ("atoms", "bonds")


class GraphRepresentation(Representation):
    """States ``{"atoms": (B, N), "bonds": (B, N (N - 1) / 2)}`` of categories; see the module `graphs`.

    By default each category is replaced now and then by one that is drawn from the data's frequencies
    (`MarginalChain`), as in Vignac et al. 2022 (DiGress, arXiv 2209.14734). A product of `AbsorbingChain` serves as
    well: its masks say what is known, so that what is given to `decorate` and `link` is given exactly.
    """

    facts_type = MoleculeFacts
    facts: MoleculeFacts

    def process(self) -> ProductProcess:
        return ProductProcess(
            {
                "atoms": MarginalChain(_positive(self.facts.atom_marginals), CosineSchedule()),
                "bonds": MarginalChain(_positive(self.facts.bond_marginals), CosineSchedule()),
            }
        )

    def network_options(self, process: Process) -> dict[str, Any]:
        """What networks of graphs are told of the states of a process."""
        chains = _chains(process)
        kinds = self.facts.vocabulary.kinds
        table = need("rdkit.Chem", to="weigh atoms", extra="molecules").GetPeriodicTable()
        weights = [table.GetAtomicWeight(kind.element) / CARBON for kind in kinds]
        more = {name: chain.states - len(names) for (name, chain), names in zip(chains.items(), self._names)}  # masks
        return {
            "orders": (*self.facts.vocabulary.orders, *[0.0] * more["bonds"]),
            "valences": (*self.facts.valences, *[max(self.facts.valences)] * more["atoms"]),
            "charges": (*self.facts.vocabulary.charges, *[0] * more["atoms"]),
            "weights": (*weights, *[0.0] * more["atoms"]),
            "properties": len(self.facts.properties),
            "timed": not all(isinstance(chain, AbsorbingChain) for chain in chains.values()),
        }

    @property
    def _names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.facts.atoms, self.facts.bonds

    def network(self, process: Process) -> GraphTransformer | OrderedTransformer:
        facts, options = self.facts, self.network_options(process)
        ordered = facts.vocabulary.form.ordered
        network = OrderedTransformer(**options, places=facts.largest) if ordered else GraphTransformer(**options)
        with torch.no_grad():  # a network that knows nothing answers with the frequencies of the data
            for layer, shares in (
                (network.leave_atoms, facts.atom_marginals),
                (network.leave_bonds, facts.bond_marginals),
            ):
                layer.bias[: len(shares)] = torch.tensor(shares).clamp(min=1e-6).log()
        return network

    def denoiser(self, network: nn.Module, process: Process) -> ProductNetworkDenoiser:
        return ProductNetworkDenoiser(
            network, {name: CategoricalDenoiser(None, chain, "rest") for name, chain in _chains(process).items()}
        )

    def objective(self, process: Process) -> ProductObjective:
        losses = {name: TokenCrossEntropy() for name in PARTS}
        return ProductObjective(losses, {"bonds": 5.0}, StratifiedTimes())

    def sampler(self, process: Process) -> ProductSampler:
        samplers = {
            name: Unmasking() if isinstance(chain, AbsorbingChain) else CategoricalAncestral()
            for name, chain in _chains(process).items()
        }
        return ProductSampler(40, samplers=samplers, constraint=self.constraint())

    def constraint(
        self, elements: Sequence[str] | None = None, rings: Sequence[int] | None = None
    ) -> ValenceConstraint:
        atoms = None
        if elements is not None:
            known = self.facts.vocabulary.elements
            if lost := [symbol for symbol in elements if symbol not in known]:
                raise ValueError(f"elements hold {lost[0]!r}: expected some of {', '.join(dict.fromkeys(known))}")
            atoms = tuple(number for number, symbol in enumerate(known) if symbol in elements)
        return ValenceConstraint(
            self.facts.valences, self.facts.vocabulary.orders, True, atoms, None if rings is None else tuple(rings)
        )

    def collate(self, mols: Sequence[Any]) -> dict[str, Any]:
        return collate(self.graphs_of(mols)[1])

    def graphs_of(self, mols: Sequence[Any]) -> tuple[list[Any], list[dict[str, Tensor]]]:
        """Molecules, read where they are SMILES, and their graphs (`encode_graph`).

        Raises:
            ValueError: one that is invalid or that the facts cannot hold, by its number; or none at all.
        """
        Chem = need("rdkit.Chem", to="read molecules", extra="molecules")
        found, graphs = [], []
        for number, mol in enumerate(mols):
            read = Chem.MolFromSmiles(mol) if isinstance(mol, str) else mol
            if read is None:
                raise ValueError(f"molecule {number} is {mol!r}: expected valid SMILES, or an RDKit molecule")
            if not read.GetNumAtoms():
                raise ValueError(f"molecule {number} has no atoms: expected at least one")
            try:
                graphs.append(encode_graph(read, self.facts.vocabulary))
            except ValueError as error:
                raise ValueError(f"molecule {number}: {error}") from error
            found.append(read)
        if not graphs:
            raise ValueError("no molecules: expected at least one")
        return found, graphs

    def encode(self, batch: Mapping[str, Any]) -> Example:
        if not all(name in batch for name in (*PARTS, "mask")):
            raise TypeError(f"the batch holds {', '.join(batch)}: expected 'atoms', 'bonds' and 'mask'")
        return Example({name: batch[name] for name in PARTS}, {}, {name: batch["mask"][name] for name in PARTS})  # type: ignore[arg-type]

    def shape(self, num: int, width: int) -> dict[str, tuple[int, ...]]:
        return {"atoms": (num, width), "bonds": (num, num_pairs(width))}

    def mask(self, sizes: Tensor, width: int) -> dict[str, Tensor]:
        real = torch.arange(width, device=sizes.device) < sizes[:, None]
        return {"atoms": real, "bonds": pair_mask(real)}

    def decode(self, state: Any, sizes: Tensor) -> list[Drawn]:
        real = torch.arange(state["atoms"].shape[1]) < sizes[:, None]
        raws = decode_graphs(state, self.facts.vocabulary, real)
        return [Drawn(raw, *sanitise(raw)[:2]) for raw in raws]

    def example_batch(self, num: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(0)
        sizes = torch.randint(1, self.facts.largest + 1, (num,), generator=generator)
        mask = self.mask(sizes, self.facts.largest)
        drawn = {
            name: torch.randint(count, mask[name].shape, generator=generator) * mask[name]
            for name, count in zip(PARTS, (len(self.facts.atoms), len(self.facts.bonds)))
        }
        return {**drawn, "mask": mask}


def _positive(shares: Sequence[float]) -> tuple[float, ...]:
    """Frequencies, none of them 0: a category that the data have not may not be one that noise cannot reach."""
    raised = [max(share, RAREST) for share in shares]
    return tuple(share / sum(raised) for share in raised)


def _chains(process: Process) -> dict[str, Chain]:
    """The chains of a product of atoms and bonds.

    Raises:
        TypeError: another process.
    """
    parts = getattr(process, "components", {})
    if tuple(parts) != PARTS or not all(isinstance(chain, Chain) for chain in parts.values()):
        raise TypeError(f"process={process!r}: expected a ProductProcess of two chains, 'atoms' and 'bonds'")
    return parts
