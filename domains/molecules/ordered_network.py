r"""A transformer over the atoms of a molecule that are numbered in a known order (`GraphForm`, ``ordered``).

In the order of a canonical SMILES an atom is mostly bonded to the one before it, rings close a few steps back, and of
the two Kekulé forms of a ring one is meant.  A network that is told the places has not to find out which of the many
numberings a noisy graph belongs to, and pairs need no numbers of their own between blocks, which are most of the cost
of a `GraphTransformer`.  Atoms start from what stands in their row of pairs; attention is biased by how many places,
and how many bonds, lie between two atoms and by the state of their pair; along bonds there are messages, of each kind
its own.  With ``h`` the atoms, ``s`` the states of pairs and ``A_k`` the bonds of kind ``k``,

.. math::

    h_i &= a_i + p_i + \textstyle\sum_j R[j - i, s_{ij}] \\
    h &\leftarrow h + W [\mathrm{softmax}(q k^T + b[j - i] + b[s_{ij}] + b[d_{ij}]) v, \; A_1 W_1 h, \; A_2 W_2 h,
        \dots] + \mathrm{mlp}(\mathrm{LN}(h)) \\
    e_{ij} &= L h_i + R h_j + c[j - i] + c[s_{ij}] + c[d_{ij}], \quad i < j

and a residual layer and a map of ``e`` give the logits of a pair.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ornstein.core.nn.activations import squared_relu
from ornstein.core.nn.checks import check_integers
from ornstein.core.nn.linear import Linear, zero_init
from ornstein.core.schedules import require
from ornstein.domains.molecules.graph_network import DISTANCE, GraphNetwork, normal
from ornstein.domains.molecules.pairs import as_matrix, pair_indices
from ornstein.domains.molecules.structure import graph_distances

__all__ = ["OrderedBlock", "OrderedTransformer"]

SHARE = 4  # numbers of an atom for each of those that a kind of bond carries


class OrderedTransformer(GraphNetwork):
    """Transformer from graphs of ordered atoms to logits of their atoms and pairs, ``{"atoms", "bonds"}``.

    Args:
        orders, valences, charges, weights, properties, timed: as for `GraphTransformer`.
        places: atoms whose places are told apart, and the longest steps between two that are.
        width: numbers of an atom.
        pair_width: numbers of a pair, at the end.
        depth: number of blocks.
        head_width: of the attention; divides ``width``.
        mlp_ratio: hidden features of the two-layer network for each number of an atom.

    Raises:
        ValueError: arguments that do not fit one another, or inputs that do not fit the network.

    Example:
        >>> network = OrderedTransformer((0, 1, 2, 3), (4, 3, 2), (0, 0, 0), (1.0, 1.17, 1.33), depth=1)
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
        places: int = 32,
        width: int = 128,
        pair_width: int = 96,
        depth: int = 6,
        head_width: int = 32,
        mlp_ratio: float = 3.0,
    ) -> None:
        super().__init__(orders, valences, charges, weights, properties, timed, width)
        check_integers(1, places=places, width=width, pair_width=pair_width, depth=depth, head_width=head_width)
        require(width % head_width == 0, "head_width", head_width, f"a divisor of width={width}")
        require(mlp_ratio > 0, "mlp_ratio", mlp_ratio, "a positive number")
        self.places, self.pair_width, self.depth, self.head_width = places, pair_width, depth, head_width
        self.mlp_ratio = mlp_ratio
        states, heads = len(self.orders), width // head_width
        self.kinds = [state for state, order in enumerate(self.orders) if order > 0]

        self.enter_places = nn.Embedding(places, width)
        # The last stands for the padding, and is 0.
        self.enter_rows = nn.Embedding((2 * places + 1) * states + 1, width, padding_idx=(2 * places + 1) * states)
        self.bias_steps = nn.Embedding(2 * places + 1, heads * depth)
        self.bias_states = nn.Embedding(states, heads * depth)
        self.bias_far = nn.Embedding(DISTANCE + 2, heads * depth)
        self.pair_steps = nn.Embedding(places + 1, pair_width)
        self.pair_states = nn.Embedding(states, pair_width)
        self.pair_far = nn.Embedding(DISTANCE + 2, pair_width)
        tables = {
            0.5: (self.enter_places, self.pair_steps, self.pair_states, self.pair_far),
            0.3: (self.bias_steps, self.bias_states, self.bias_far),
            0.1: (self.enter_rows,),  # of which each atom adds up one for each other
        }
        for std, some in tables.items():
            for table in some:
                nn.init.normal_(table.weight, std=std)
        with torch.no_grad():
            self.enter_rows.weight[-1] = 0
        self.blocks = nn.ModuleList(
            OrderedBlock(width, head_width, len(self.kinds) + 1, round(mlp_ratio * width)) for _ in range(depth)
        )
        self.leave_atoms = zero_init(Linear(width, len(self.valences)))
        self.leave_ends = Linear(width, 2 * pair_width, bias=False)
        self.pair_blocks = nn.ModuleList([Linear(pair_width, pair_width)])
        self.leave_bonds = zero_init(Linear(pair_width, states))

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
        both = real[:, :, None] & real[:, None, :]
        states = as_matrix(bonds)
        orders = self._orders[states] * both
        far = graph_distances((orders > 0).to(orders), DISTANCE)
        place = torch.arange(atoms.shape[1], device=atoms.device)
        steps = (place - place[:, None]).clamp(-self.places, self.places) + self.places

        h, told = self.entered(atoms, orders, real, c, properties, properties_mask)
        h = h + told[:, None] + self.enter_places(place.clamp(max=self.places - 1)) + self._rows(steps, states, both)
        bias = self.bias_steps(steps) + self.bias_states(states) + self.bias_far(far)
        bias = bias.permute(0, 3, 1, 2).float().masked_fill(~real[:, None, None, :], -1e9)
        bonded = self._bonded(orders, states)
        for block, part in zip(self.blocks, bias.chunk(self.depth, 1)):
            h = block(h, part, bonded)
        h = normal(h)
        rows, columns = pair_indices(atoms.shape[1], atoms.device)
        first, second = self.leave_ends(h).chunk(2, -1)
        e = first.index_select(1, rows) + second.index_select(1, columns) + self.pair_states(bonds)
        e = e + self.pair_steps(steps[rows, columns] - self.places) + self.pair_far(far[:, rows, columns])
        for layer in self.pair_blocks:
            e = e + layer(squared_relu(normal(e)))
        return {"atoms": self.leave_atoms(h), "bonds": self.leave_bonds(squared_relu(normal(e)))}

    def _rows(self, steps: Tensor, states: Tensor, both: Tensor) -> Tensor:
        """What stands in each atom's row of pairs, ``(B, N, width)``."""
        blank = len(self.enter_rows.weight) - 1
        number = torch.where(both, steps * len(self.orders) + states, blank).flatten(0, 1)
        rows = nn.functional.embedding_bag(number, self.enter_rows.weight, mode="sum", padding_idx=blank)
        return rows.unflatten(0, states.shape[:2])

    def _bonded(self, orders: Tensor, states: Tensor) -> Tensor:
        """Bonds of each kind, and the mean over all neighbours, ``(B, kinds + 1, N, N)``."""
        there = (orders > 0).to(orders)
        mean = there / (1 + there.sum(2, keepdim=True))
        return torch.stack([*(there * (states == kind) for kind in self.kinds), mean], 1)


class OrderedBlock(nn.Module):
    """Attention that is biased, messages along the bonds, and a two-layer network; see the module's text.

    Args:
        width: numbers of an atom.
        head_width: of the attention.
        kinds: of bonds, each of which carries a share of the width.
        hidden: features of the two-layer network.
    """

    def __init__(self, width: int, head_width: int, kinds: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.kinds = width // head_width, kinds
        carried = kinds * max(1, width // SHARE)
        self.qkv = Linear(width, 3 * width, bias=False)
        self.say = Linear(width, carried, bias=False)
        self.out = zero_init(Linear(width + carried, width, bias=False))
        self.inner = Linear(width, hidden, bias=False)
        self.outer = zero_init(Linear(hidden, width, bias=False))

    def forward(self, h: Tensor, bias: Tensor, bonded: Tensor) -> Tensor:
        """Atoms ``(B, N, width)`` after the block, with biases ``(B, heads, N, N)`` and bonds ``(B, kinds, N, N)``."""
        z = normal(h)
        query, key, value = self.qkv(z).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        said = self.say(z).unflatten(-1, (self.kinds, -1)).transpose(1, 2)
        with torch.autocast(h.device.type, enabled=False):
            seen = nn.functional.scaled_dot_product_attention(
                normal(query).float(), normal(key).float(), value.float(), attn_mask=bias, scale=query.shape[-1] ** -0.5
            )
            heard = bonded @ said.float()
        both = torch.cat([seen.transpose(1, 2).flatten(2), heard.transpose(1, 2).flatten(2)], -1)
        h = h + self.out(both.to(h.dtype))
        return h + self.outer(squared_relu(self.inner(normal(h))))
