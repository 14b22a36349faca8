r"""A transformer over molecular graphs: atoms that look at each other, and pairs of atoms that carry their bonds.

States are dense, ``(B, N)`` atoms and ``(B, P)`` pairs ``i < j``, in any order of the atoms: an answer moves with them.
After Vignac et al. 2022 (DiGress, arXiv 2209.14734, appendix B): pairs weigh the atoms' attention, atoms change their
pairs, and features that such a network cannot compute are given to it.  With ``h`` the atoms, ``e`` the pairs and
``z = LN(e)``, a block is

.. math::

    h &\leftarrow h + W [\mathrm{softmax}(q k^T + b(z)) v, \; \textstyle\sum_j z_{ij}]
        + \mathrm{mlp}(\mathrm{LN}(h)) \\
    e_{ij} &\leftarrow e_{ij} + W_2 \, \mathrm{relu}^2(W_1 z_{ij} + A (h_i + h_j) + T (m m)_{ij})

where ``m`` are a few matrices read off the pairs, whose products are walks over two bonds (Maron et al. 2019, arXiv
1905.11136).  Pairs are kept as the upper triangle, and what is done with them are matrix products and one elementwise
pass each, which is what a processor is quick at.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ornstein.core.nn.activations import squared_relu
from ornstein.core.nn.checks import check_integers
from ornstein.core.nn.linear import Linear, zero_init
from ornstein.core.schedules import require
from ornstein.domains.molecules.graph_network import DISTANCE, GraphNetwork, categories, looked_up, normal
from ornstein.domains.molecules.pairs import as_matrix, num_pairs, pair_indices, pair_mask
from ornstein.domains.molecules.structure import cycle_counts, graph_distances, heat_kernels

__all__ = ["GraphBlock", "GraphTransformer"]

LARGEST_COUNT = 8.0  # cycles beyond which counts are not told apart


class GraphTransformer(GraphNetwork):
    """Transformer from graphs to logits of the categories of their atoms and pairs, ``{"atoms", "bonds"}``.

    Args:
        orders: bond order of each state of a pair; 0 for none and for a mask.
        valences: of each state of an atom, the most bond orders that it takes; of a mask, the most of any.
        charges: formal charge of each state of an atom.
        weights: molar mass of each state of an atom, in units of carbon's.
        properties: how many properties the network may be told.
        timed: whether the noise level counts; under masks it need not.
        cycles: give counts of cycles.
        distances: give distances along the bonds.
        heat: times of heat kernels that are given; none by default, since they cost an eigenvalue problem each call.
        width: numbers of an atom.
        pair_width: numbers of a pair.
        depth: number of blocks.
        head_width: of the attention; divides ``width``.
        walks: matrices of a block whose products are formed; 0 for none.
        mlp_ratio: hidden features of the atoms' two-layer network for each of theirs.
        pair_ratio: hidden features of the pairs' for each of theirs.

    Raises:
        ValueError: arguments that do not fit one another, or inputs that do not fit the network.

    Example:
        >>> network = GraphTransformer((0, 1, 2, 3), (4, 3, 2), (0, 0, 0), (1.0, 1.17, 1.33), depth=1)
        >>> atoms, bonds = torch.tensor([[0, 2, 1]]), torch.tensor([[1, 0, 0]])
        >>> out = network({"atoms": atoms, "bonds": bonds}, {"atoms": torch.zeros(1), "bonds": torch.zeros(1)})
        >>> out["atoms"].shape, out["bonds"].shape
        (torch.Size([1, 3, 3]), torch.Size([1, 3, 4]))
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
        cycles: bool = True,
        distances: bool = True,
        heat: Sequence[float] = (),
        width: int = 96,
        pair_width: int = 48,
        depth: int = 4,
        head_width: int = 32,
        walks: int = 8,
        mlp_ratio: float = 2.0,
        pair_ratio: float = 2.0,
    ) -> None:
        super().__init__(
            orders, valences, charges, weights, properties, timed, width, each=3 * cycles + len(heat), whole=4 * cycles
        )
        check_integers(1, width=width, pair_width=pair_width, depth=depth, head_width=head_width)
        check_integers(0, walks=walks)
        require(width % head_width == 0, "head_width", head_width, f"a divisor of width={width}")
        require(mlp_ratio > 0 and pair_ratio > 0, "mlp_ratio, pair_ratio", (mlp_ratio, pair_ratio), "positive numbers")
        self.cycles, self.distances, self.heat = cycles, distances, tuple(heat)
        self.pair_width, self.depth, self.head_width = pair_width, depth, head_width
        self.walks, self.mlp_ratio, self.pair_ratio = walks, mlp_ratio, pair_ratio

        self.enter_bonds = nn.Embedding(len(self.orders), pair_width)
        self.far = nn.Embedding(DISTANCE + 2, pair_width) if distances else None
        for table in (self.enter_bonds, self.far):
            if table is not None:
                nn.init.normal_(table.weight, std=0.5)
        self.enter_heat = Linear(len(self.heat), pair_width) if self.heat else None
        self.blocks = nn.ModuleList(
            GraphBlock(width, pair_width, head_width, walks, round(mlp_ratio * width), round(pair_ratio * pair_width))
            for _ in range(depth)
        )
        self.leave_atoms = zero_init(Linear(width, len(self.valences)))
        self.leave_ends = Linear(width, 2 * pair_width, bias=False)
        self.leave_pairs = Linear(pair_width, 2 * pair_width)
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
        """Evaluate the network.

        Args:
            x: states ``{"atoms": (B, N), "bonds": (B, P)}`` int64; or one-hot, or any weights of them, ``(B, N, S)``,
                which have a gradient.
            c: the noise levels -log_snr / 8, ``(B,)`` of each; the bonds' is used, if the network is ``timed``.
            mask: True where real, of the same names; all of it when not given.
            properties: scaled; 0 where they are not told.
            properties_mask: True where they are told; all when not given.
            given: what is known and not noised; shown states are all that is needed, so that it is not used.
        """
        h, e, _ = self.inside(x, c, mask, properties, properties_mask)
        incidence = _incidence(h.shape[1], h.device, h.dtype)
        h = normal(h)
        hidden = self.leave_pairs(normal(e)) + incidence @ self.leave_ends(h)
        return {"atoms": self.leave_atoms(h), "bonds": self.leave_bonds(squared_relu(hidden))}

    def inside(
        self,
        x: Mapping[str, Tensor],
        c: Mapping[str, Tensor],
        mask: Mapping[str, Tensor] | None,
        properties: Tensor | None,
        properties_mask: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the blocks make of a graph: its atoms ``(B, N, width)``, its pairs ``(B, P, pair_width)``, and where
        atoms are real.
        """
        self.check(x["atoms"], x["bonds"], c, properties, weighed=True)
        atoms, bonds = x["atoms"], categories(x["bonds"])
        real = torch.ones(atoms.shape[:2], dtype=torch.bool, device=atoms.device) if mask is None else mask["atoms"]
        pairs = pair_mask(real) if mask is None or mask.get("bonds") is None else mask["bonds"]
        orders = as_matrix(self._orders[bonds] * pairs)
        each, e, whole = self._structure(orders, real)
        h, told = self.entered(atoms, orders, real, c, properties, properties_mask, each, whole)
        h = h + told[:, None]
        e = looked_up(self.enter_bonds, x["bonds"]) + e
        for block in self.blocks:
            h, e = block(h, e, real, pairs)
        return h, e, real

    def _structure(self, orders: Tensor, real: Tensor) -> tuple[list[Tensor], Any, list[Tensor]]:
        """What is computed of bonds ``(B, N, N)``: for atoms, for pairs (0 for nothing) and for the whole."""
        each, e, whole = [], 0, []
        adjacency = (orders > 0).to(orders)
        rows, columns = pair_indices(orders.shape[1], orders.device)
        if self.cycles:
            counts, all_of_them = (count.clamp(max=LARGEST_COUNT) / 2 for count in cycle_counts(adjacency))
            each += list(counts.unbind(-1))
            whole.append(all_of_them)
        if self.far is not None:
            e = self.far(graph_distances(adjacency, DISTANCE)[:, rows, columns])
        if self.enter_heat is not None:
            kernels = heat_kernels(adjacency, real, self.heat)
            each += list(kernels.diagonal(dim1=1, dim2=2).unbind(1))
            e = e + self.enter_heat(kernels[:, rows, columns])
        return each, e, whole


class GraphBlock(nn.Module):
    """Attention of atoms weighed by their pairs, and two-layer networks of both; see the module's text.

    Args:
        width, pair_width: numbers of an atom and of a pair.
        head_width: of the attention.
        walks: matrices whose products are formed.
        hidden, pair_hidden: features of the two-layer networks.
    """

    def __init__(self, width: int, pair_width: int, head_width: int, walks: int, hidden: int, pair_hidden: int) -> None:
        super().__init__()
        self.heads, self.walks, self.pair_hidden = width // head_width, walks, pair_hidden
        self.qkv = Linear(width, 3 * width, bias=False)
        self.read = Linear(pair_width, self.heads + walks)
        self.out = zero_init(Linear(width + pair_width, width, bias=False))
        self.inner = Linear(width, hidden, bias=False)
        self.outer = zero_init(Linear(hidden, width, bias=False))
        self.ends = Linear(width, pair_hidden, bias=False)
        self.inner_pairs = Linear(pair_width + walks, pair_hidden)
        self.write = zero_init(Linear(pair_hidden, pair_width, bias=False))

    def forward(self, h: Tensor, e: Tensor, real: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Atoms ``(B, N, width)`` and pairs ``(B, P, pair_width)`` after the block; see the module's text."""
        n = h.shape[1]
        incidence, share = _incidence(n, h.device, h.dtype), real.sum(1).to(h.dtype)[:, None, None].rsqrt()
        z = normal(e).mul_(pairs[..., None])
        square = _square(self.read(z), n)
        query, key, value = self.qkv(normal(h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        with torch.autocast(h.device.type, enabled=False):
            bias = square[:, : self.heads].float().masked_fill(~real[:, None, None, :], -1e9)
            seen = nn.functional.scaled_dot_product_attention(
                normal(query).float(), normal(key).float(), value.float(), attn_mask=bias, scale=query.shape[-1] ** -0.5
            )
        around = incidence.t().expand(len(z), -1, -1) @ z * share
        h = h + self.out(torch.cat([seen.transpose(1, 2).flatten(2).to(h.dtype), around.to(h.dtype)], -1))
        h = h + self.outer(squared_relu(self.inner(normal(h))))
        if self.walks:
            both = square[:, self.heads :] * (real[:, None, :, None] & real[:, None, None, :])
            rows, columns = pair_indices(n, h.device)
            walks = (both @ both * share[..., None]).flatten(2).transpose(1, 2).index_select(1, rows * n + columns)
            z = torch.cat([z, walks.to(z.dtype)], -1)
        hidden = self.inner_pairs(z)
        hidden.baddbmm_(_incidence(n, h.device, hidden.dtype).expand(len(h), -1, -1), self.ends(h))
        return h, e + self.write(squared_relu(hidden))


@lru_cache(maxsize=64)
def _incidence(atoms: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``(P, N)``: ones at the two atoms of each pair. A product with it is quicker than an index, and so is its
    gradient.
    """
    rows, columns = pair_indices(atoms, device)
    out = torch.zeros(num_pairs(atoms), atoms, device=device, dtype=dtype)
    place = torch.arange(len(rows), device=device)
    out[place, rows] = 1
    out[place, columns] = 1
    return out


@lru_cache(maxsize=64)
def _places(atoms: int, device: torch.device) -> Tensor:
    """The pair of each entry of a square matrix ``(N^2,)``; the diagonal has one beyond the last."""
    rows, columns = pair_indices(atoms, device)
    out = torch.full((atoms, atoms), num_pairs(atoms), device=device)
    out[rows, columns] = out[columns, rows] = torch.arange(len(rows), device=device)
    return out.flatten()


def _square(pairs: Tensor, atoms: int) -> Tensor:
    """Symmetric matrices ``(B, C, N, N)`` of pairs ``(B, P, C)``, 0 on the diagonal."""
    padded = nn.functional.pad(pairs, (0, 0, 0, 1))
    whole = padded.index_select(1, _places(atoms, pairs.device)).unflatten(1, (atoms, atoms))
    return whole.permute(0, 3, 1, 2)
