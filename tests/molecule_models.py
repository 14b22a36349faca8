"""A small model of graphs whose weights make every input count, for the tests of its tasks."""

import torch

from ornstein.core import AbsorbingChain, PowerSchedule, ProductProcess
from ornstein.domains.molecules.data import MoleculeData
from ornstein.domains.molecules.diffusion import MoleculeDiffusion
from ornstein.domains.molecules.graph_representation import GraphRepresentation
from ornstein.domains.molecules.network import GraphTransformer
from ornstein.domains.molecules.ordered_network import OrderedTransformer

SMILES = [
    "CCO", "CCN", "C1CCCCC1", "c1ccccc1", "CC(=O)O", "CC#N", "C[N+](C)(C)C", "CC(=O)[O-]", "OCCO", "NCC(=O)O",
    "CS(C)(=O)=O", "c1ccncc1", "CC(C)C", "C=CC=C", "FC(F)F", "ClCCl", "CCCCCCO", "Cc1ccccc1", "OC1CCCCC1", "CCOCCN",
    "CC(C)CCCO", "CCCCCCCCCCCC", "CCCCc1ccccc1CCO",
]  # fmt: skip


def molecule_data(**options) -> MoleculeData:
    """The molecules above."""
    return MoleculeData(SMILES, **{"heldout": 0.2, "validation": 0, "batch_size": 4} | options)


def masks(facts) -> ProductProcess:
    """Masking of atoms and bonds."""
    counts = {"atoms": len(facts.atoms), "bonds": len(facts.bonds)}
    return ProductProcess({name: AbsorbingChain(count, PowerSchedule()) for name, count in counts.items()})


def small(data, **options) -> MoleculeDiffusion:
    """The model of a data module."""
    process = options.get("process") or GraphRepresentation(data.facts).process()
    told = GraphRepresentation(data.facts).network_options(process)
    sizes = {"width": 32, "pair_width": 16, "depth": 1, "head_width": 16}
    ordered = data.facts.vocabulary.form.ordered
    network = OrderedTransformer(**told, **sizes, places=12) if ordered else GraphTransformer(**told, **sizes)
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    if ordered:
        torch.nn.init.zeros_(network.enter_rows.weight[-1])
    for layer in (network.leave_atoms, network.leave_bonds):
        layer.weight.data *= 0.3  # or some categories are never drawn
    return MoleculeDiffusion.for_data(data, network=network, **options).eval()
