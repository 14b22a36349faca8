"""What networks of graphs share: tables of the categories, what atoms and whole molecules are told, and checks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ornstein.core.nn import NoiseEmbedding
from ornstein.core.nn.checks import check_integers, check_noise_level
from ornstein.core.nn.linear import Linear
from ornstein.core.schedules import require
from ornstein.domains.molecules.pairs import num_pairs

__all__ = ["DISTANCE", "GraphNetwork", "categories", "looked_up", "normal"]

DISTANCE = 7  # bonds up to which distances are told apart: a pair closes a ring of one more
SUMS = 7  # sums of bond orders that are told apart, from 0


class GraphNetwork(nn.Module):
    """Base of networks from graphs of categories to logits of their atoms and pairs.

    Args:
        orders, valences, charges, weights, properties, timed: as for `GraphTransformer`.
        width: numbers of an atom.
        each: how many further features of an atom `entered` is given.
        whole: how many further features of a molecule.

    Raises:
        ValueError: arguments that do not fit one another.
    """

    _atoms: Tensor
    _orders: Tensor

    def __init__(
        self,
        orders: Sequence[float],
        valences: Sequence[float],
        charges: Sequence[int],
        weights: Sequence[float],
        properties: int,
        timed: bool,
        width: int,
        each: int = 0,
        whole: int = 0,
    ) -> None:
        super().__init__()
        check_integers(0, properties=properties)
        for name, values in (("charges", charges), ("weights", weights)):
            require(len(values) == len(valences), name, values, f"{len(valences)} numbers, one for each of valences")
        self.orders, self.valences, self.charges, self.weights = map(tuple, (orders, valences, charges, weights))
        self.properties, self.timed, self.width = properties, timed, width
        tables = torch.tensor([self.valences, self.charges, self.weights], dtype=torch.float32).t()
        self.register_buffer("_atoms", tables, persistent=False)
        self.register_buffer("_orders", torch.tensor(self.orders, dtype=torch.float32), persistent=False)
        self.enter_atoms = nn.Embedding(len(self.valences), width)
        self.sums = nn.Embedding(SUMS + 1, width)
        for table in (self.enter_atoms, self.sums):
            nn.init.normal_(table.weight, std=0.5)  # as large as a norm leaves them, or they are learned late
        self.enter_features = Linear(2 + each, width)
        self.noise = NoiseEmbedding(width) if timed else None
        self.whole = Linear(len(self.valences) + 2 + whole + 2 * properties, width)

    def entered(
        self,
        atoms: Tensor,
        orders: Tensor,
        real: Tensor,
        c: Mapping[str, Tensor],
        properties: Tensor | None,
        known: Tensor | None,
        each: Sequence[Tensor] = (),
        whole: Sequence[Tensor] = (),
    ) -> tuple[Tensor, Tensor]:
        """Atoms by themselves ``(B, N, width)``, and what all of a molecule are told ``(B, width)``.

        Args:
            atoms: categories ``(B, N)``, or weights of them ``(B, N, S)``.
            orders: of bonds ``(B, N, N)``, 0 where there is none.
            real: where atoms are, ``(B, N)``.
            c, properties, known: noise levels, properties and which of them are told, as the network is given them.
            each: further features of atoms, ``(B, N)`` each.
            whole: further features of molecules, ``(B, any)`` each.
        """
        shown, atoms = looked_up(self.enter_atoms, atoms), categories(atoms)
        kinds, sums = self._atoms[atoms] * real[..., None], orders.sum(2)
        features = torch.stack([(kinds[..., 0] - sums) / 4, kinds[..., 1], *each], -1)
        h = shown + self.sums(sums.round().long().clamp(max=SUMS)) + self.enter_features(features)
        counts = torch.zeros(len(atoms), len(self.valences), device=atoms.device).scatter_add_(1, atoms, real.float())
        size = real.sum(1, keepdim=True).to(h)
        told = [counts / 8, size / 16, kinds[..., 2].sum(1, keepdim=True) / 16, *whole]
        if self.properties:
            value = h.new_zeros(len(atoms), self.properties) if properties is None else properties.to(h)
            there = torch.zeros_like(value) if properties is None else torch.ones_like(value)
            there = there if known is None or properties is None else known.to(h)
            told += [value * there, there]
        shared = self.whole(torch.cat(told, 1))
        return h, shared if self.noise is None else shared + self.noise(c["bonds"])

    def check(
        self,
        atoms: Tensor,
        bonds: Tensor,
        c: Mapping[str, Tensor],
        properties: Tensor | None,
        weighed: bool = False,
    ) -> None:
        """Refuse states, noise levels and properties that do not fit; ``weighed``: weights of categories do.

        Raises:
            ValueError: one does not.
        """
        for name, value, states in (("atoms", atoms, len(self.valences)), ("bonds", bonds, len(self.orders))):
            if weighed and value.is_floating_point():
                fits = value.ndim == 3 and value.shape[2] == states
            else:
                fits = value.ndim == 2 and not value.is_floating_point()
            expected = "(B, n) int64" + (f", or weights (B, n, {states})" if weighed else "")
            require(fits, name, f"{tuple(value.shape)} {value.dtype}", expected)
        pairs = num_pairs(atoms.shape[1])
        require(bonds.shape[1] == pairs, "bonds", tuple(bonds.shape), f"{pairs} pairs of {atoms.shape[1]} atoms")
        if self.timed:
            check_noise_level(c["bonds"], len(atoms))
        if properties is not None:
            shape = (len(atoms), self.properties)
            require(tuple(properties.shape) == shape, "properties", tuple(properties.shape), f"shape {shape}")


def categories(x: Tensor) -> Tensor:
    """Categories, of weights of them the likeliest."""
    return x.argmax(-1) if x.is_floating_point() else x


def looked_up(table: nn.Embedding, x: Tensor) -> Tensor:
    """Rows of a table, by categories or weighed by weights of them."""
    return x @ table.weight if x.is_floating_point() else table(x)


def normal(x: Tensor) -> Tensor:
    """Layer norm without weights, which the maps that follow contain."""
    return nn.functional.layer_norm(x, x.shape[-1:])
