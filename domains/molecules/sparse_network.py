r"""A network that passes messages along the bonds of a graph alone, on torch_geometric's sparse batches.

Atoms hear of their neighbours by `GINEConv` (Hu et al. 2020, arXiv 1905.12265; Xu et al. 2019, 1810.00826),

.. math::

    h_i \leftarrow h_i + \mathrm{mlp}\Big(h_i + \sum_{j \sim i} \mathrm{relu}(h_j + b_{ij})\Big),

and of all others by the mean over the molecule; a pair is judged by its two atoms, its own state and how far they are
from each other along the bonds.  It costs less than `GraphTransformer`, above all for large molecules, and knows less:
no atom looks at another that no bond leads to.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ornstein.core.nn.activations import squared_relu
from ornstein.core.nn.checks import check_integers
from ornstein.core.nn.linear import Linear, zero_init
from ornstein.core.optional import need
from ornstein.domains.molecules.graph_network import DISTANCE, GraphNetwork
from ornstein.domains.molecules.interop import sparse_batch
from ornstein.domains.molecules.pairs import as_matrix, pair_indices, pair_mask
from ornstein.domains.molecules.structure import graph_distances

__all__ = ["BondMessages"]


class BondMessages(GraphNetwork):
    """Message passing from graphs to logits of the categories of their atoms and pairs, ``{"atoms", "bonds"}``.

    Args:
        orders, valences, charges, weights, properties, timed: as for `GraphTransformer`.
        width: numbers of an atom.
        pair_width: numbers of a pair.
        depth: rounds of messages.

    Raises:
        ImportError: torch_geometric is missing.
        ValueError: arguments that do not fit one another, or inputs that do not fit the network.

    Example:
        >>> network = BondMessages((0, 1, 2, 3), (4, 3, 2), (0, 0, 0), (1.0, 1.17, 1.33), depth=2)
        >>> atoms, bonds = torch.tensor([[0, 2, 1]]), torch.tensor([[1, 0, 0]])
        >>> out = network({"atoms": atoms, "bonds": bonds}, {"atoms": torch.zeros(1), "bonds": torch.zeros(1)})
        >>> out["bonds"].shape
        torch.Size([1, 3, 4])
    """

    def __init__(
        self,
        orders: Sequence[float],
        valences: Sequence[float],
        charges: Sequence[int],
        weights: Sequence[float],
        properties: int = 0,
        *,
        timed: bool = True,
        width: int = 128,
        pair_width: int = 64,
        depth: int = 6,
    ) -> None:
        super().__init__(orders, valences, charges, weights, properties, timed, width)
        check_integers(1, width=width, pair_width=pair_width, depth=depth)
        self.pair_width, self.depth = pair_width, depth
        conv = need("torch_geometric.nn", to="pass messages along bonds", extra="molecules").GINEConv
        self.enter_bonds = nn.Embedding(len(self.orders), width)
        self.far = nn.Embedding(DISTANCE + 2, 2 * pair_width)
        self.pair = nn.Embedding(len(self.orders), 2 * pair_width)
        for table in (self.enter_bonds, self.far, self.pair):
            nn.init.normal_(table.weight, std=0.5)
        self.rounds = nn.ModuleList(
            conv(nn.Sequential(Linear(width, 2 * width), nn.ReLU(), zero_init(Linear(2 * width, width))))
            for _ in range(depth)
        )
        self.around = nn.ModuleList(Linear(width, width, bias=False) for _ in range(depth))
        self.leave_atoms = zero_init(Linear(width, len(self.valences)))
        self.leave_ends = Linear(width, 4 * pair_width, bias=False)
        self.leave_pairs = Linear(2 * pair_width, 2 * pair_width)
        self.leave_bonds = zero_init(Linear(2 * pair_width, len(self.orders)))

    def forward(
        self,
        x: Mapping[str, Tensor],
        c: Mapping[str, Float[Tensor, "batch"]],
        *,
        mask: Mapping[str, Bool[Tensor, "batch n"]] | None = None,
        properties: Float[Tensor, "batch properties"] | None = None,
        properties_mask: Bool[Tensor, "batch properties"] | None = None,
        given: Any = None,
    ) -> dict[str, Tensor]:
        """Evaluate the network; arguments as for `GraphTransformer`, with states of categories alone."""
        atoms, bonds = x["atoms"], x["bonds"]
        self.check(atoms, bonds, c, properties)
        real = torch.ones_like(atoms, dtype=torch.bool) if mask is None else mask["atoms"]
        pairs = pair_mask(real)
        orders = as_matrix(self._orders[bonds] * pairs)
        # Messages follow bonds that are there; masks, whose order is 0, are none.
        shown = torch.where(self._orders[bonds] > 0, bonds, 0)
        batch = sparse_batch({"atoms": atoms, "bonds": shown}, {"atoms": real})
        h, told = self.entered(atoms, orders, real, c, properties, properties_mask)
        h, edges = h[real], self.enter_bonds(batch.edge_attr)
        counts = real.sum(1).to(h.dtype)[:, None]
        for conv, around in zip(self.rounds, self.around):
            mean = h.new_zeros(len(atoms), self.width).index_add(0, batch.batch, h) / counts
            normal = nn.functional.layer_norm(h + (around(mean) + told)[batch.batch], (self.width,))
            h = h + conv(normal, batch.edge_index, edges)
        h = h.new_zeros(*atoms.shape, self.width).masked_scatter(
            real[..., None], nn.functional.layer_norm(h, h.shape[-1:])
        )
        rows, columns = pair_indices(atoms.shape[1], atoms.device)
        ends, others = self.leave_ends(h).chunk(2, -1)
        hidden = ends[:, rows] + ends[:, columns] + others[:, rows] * others[:, columns]
        far = graph_distances((orders > 0).to(orders), DISTANCE)[:, rows, columns]
        hidden = hidden + self.far(far) + self.pair(bonds)
        hidden = squared_relu(self.leave_pairs(squared_relu(hidden)))
        return {"atoms": self.leave_atoms(h), "bonds": self.leave_bonds(hidden)}
