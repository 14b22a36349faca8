r"""A network of atoms in space whose features turn with them: wide on atoms, narrow on pairs.

Atoms carry numbers `h_i` that no motion changes and vectors `v_i` that turn and reflect with the positions `x_i`; pairs
carry numbers `p_ij`. With `r_ij = x_i - x_j`, `d_ij = |r_ij|` and radial functions `rho` a layer is

    p_ij <- p_ij + U silu(A h_i + B h_j + W rho(d_ij) + E p_ij),
    h_i  <- h_i + O [sum_j w_ij V h_j, mean_j p_ij],                  w_ij = softmax_j (Q p_ij), a head each,
    v_i  <- v_i + mean_j (G p_ij) r_ij / (d_ij + 1) + sum_j w_ij S v_j,
    h_i  <- h_i + M silu(N [h_i, v_i . T v_i] + c),                   c the noise level and other conditions,
    x_i  <- x_i + v_i g(h_i).

What is added reads `h` by `unit`, `p` and `v` by `bounded`, so that no product of them grows from layer to layer:
without it the losses of single batches ran off after a thousand steps of training.

Positions move as in EGNN (Satorras et al. 2021, 2102.09844); scalar products of vectors tell of angles as in PaiNN
(Schuett et al. 2021, 2102.03150). EGNN sends each pair through matrices of the atoms' full width; here pairs have a
width of their own, a quarter of it, so that a layer costs `N^2 P^2 + N F^2` in place of `N^2 F^2`, and attention over
pairs' features (Jumper et al. 2021, 10.1038/s41586-021-03819-2) brings wide messages without wide pairs.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ornstein.core.nn.activations import silu
from ornstein.core.nn.checks import check_integers
from ornstein.core.nn.linear import Linear, zero_init
from ornstein.core.schedules import require

__all__ = ["Cloud", "EquivariantTrunk", "PairWiseBlock", "radial", "unit"]

REACH = 6.0  # where the last radial function stands, in units of the positions' deviation: farther pairs look alike


def radial(distance: Float[Tensor, "*pairs"], count: int) -> Float[Tensor, "*pairs count"]:
    """``log(1 + d^2)``, and ``count - 1`` Gaussians of the distance whose centres stand on ``[0, 6]``, denser at short
    distances, where bonds are, and as wide as their centres are apart.
    """
    steps = torch.linspace(0, 1, count - 1, dtype=distance.dtype, device=distance.device)
    centres = REACH * steps**1.5
    widths = torch.diff(centres, append=2 * centres[-1:] - centres[-2:-1])
    bumps = (-(((distance[..., None] - centres) / widths) ** 2)).exp()
    return torch.cat([(distance * distance).log1p()[..., None], bumps], -1)


def unit(h: Tensor) -> Tensor:
    """Numbers of unit root mean square along the last axis; the maps that follow hold the scales."""
    return h * (h.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


def bounded(x: Tensor, square: Tensor) -> Tensor:
    """``x / sqrt(1 + square)``: numbers of a mean square that is small stay as they are, others come to be one."""
    return x * (square + 1).rsqrt()


class Cloud(NamedTuple):
    """Atoms in space.

    Attributes:
        x: positions ``(B, N, 3)``.
        h: numbers of atoms ``(B, N, F)``.
        v: vectors of atoms ``(B, N, 3, C)``.
        p: numbers of pairs ``(B, N, N, P)``.
    """

    x: Tensor
    h: Tensor
    v: Tensor
    p: Tensor


class PairWiseBlock(nn.Module):
    """One layer of the module's text.

    Args:
        width: ``F``, of an atom's numbers.
        pairs: ``P``, of a pair's.
        vectors: ``C``, of an atom's vectors.
        heads: of attention; a divisor of ``width``.
        basis: radial functions.
        moves: whether positions move.
    """

    def __init__(self, width: int, pairs: int, vectors: int, heads: int, basis: int, moves: bool = True) -> None:
        super().__init__()
        self.width, self.pairs, self.vectors, self.heads = width, pairs, vectors, heads
        self.basis, self.moves = basis, moves
        self.source = Linear(width, pairs)
        self.target = Linear(width, pairs, bias=False)
        self.between = Linear(basis + pairs, pairs, bias=False)
        self.refine = Linear(pairs, pairs)
        self.look = Linear(pairs, heads)
        self.value = Linear(width, width)
        self.gather = zero_init(Linear(width + pairs, width))
        self.push = Linear(pairs, vectors)
        self.carry = Linear(vectors, heads * -(-vectors // heads), bias=False)
        self.turn = Linear(vectors, vectors, bias=False)
        self.condition = Linear(width, 2 * width)
        self.inner = Linear(width + vectors, 2 * width)
        self.outer = zero_init(Linear(2 * width, width))
        self.step = zero_init(Linear(width, vectors)) if moves else None

    def forward(self, cloud: Cloud, real: Tensor, weights: Tensor, embedding: Tensor) -> Cloud:
        """The layer's answer.

        Args:
            cloud: atoms; ``x``, ``h`` and ``v`` zero in the padding.
            real: ``(B, N, 1)``, 1 for atoms and 0 for padding.
            weights: ``(B, N, N, 1)``, 1 over the number of partners where ``i`` and ``j`` differ and are real, else 0.
            embedding: ``(B, width)``.
        """
        x, h, v, p = cloud
        lines = x[:, :, None] - x[:, None]
        distance = (lines.square().sum(-1) + 1e-8).sqrt()  # its slope at zero is zero
        known = torch.cat([radial(distance, self.basis), _numbers(p)], -1)
        normal = unit(h)
        z = self.source(normal)[:, :, None] + self.target(normal)[:, None] + self.between(known)
        p = p + self.refine(silu(z))
        read = _numbers(p)
        # Attention of each head over the partners; a lone atom has none and gathers nothing.
        scores = self.look(read).masked_fill(weights == 0, -torch.inf)
        top = scores.amax(2, keepdim=True).detach()
        share = (scores - top.masked_fill(top == -torch.inf, 0)).exp()
        share = share / share.sum(2, keepdim=True).clamp(min=1e-9)
        share = share.permute(0, 3, 1, 2)
        values = self.value(normal).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        seen = (share @ values).transpose(1, 2).flatten(2)
        h = h + self.gather(torch.cat([seen, (read * weights).sum(2)], -1)) * real
        way = lines / (distance + 1)[..., None]
        push = (self.push(read) * weights).transpose(2, 3)  # (B, N, C, N)
        v = v + (push @ way).transpose(2, 3) + self._carried(_arrows(v), share)
        arrows = _arrows(v)
        scalars = (arrows * self.turn(arrows)).sum(2)
        z = self.inner(torch.cat([unit(h), scalars], -1)) + self.condition(embedding)[:, None]
        h = h + self.outer(silu(z)) * real
        if self.step is not None:
            x = x + (arrows * self.step(unit(h))[:, :, None]).sum(-1) * real
        return Cloud(x, h, v, p)

    def _carried(self, v: Tensor, share: Tensor) -> Tensor:
        """Vectors of the partners, each head some of them."""
        values = self.carry(v).unflatten(-1, (self.heads, -1)).permute(0, 3, 1, 2, 4).flatten(3)
        return (share @ values).unflatten(-1, (3, -1)).permute(0, 2, 3, 1, 4).flatten(3)[..., : self.vectors]


def _numbers(p: Tensor) -> Tensor:
    """Pairs' numbers as a layer reads them."""
    return bounded(p, p.square().mean(-1, keepdim=True))


def _arrows(v: Tensor) -> Tensor:
    """Vectors ``(B, N, 3, C)`` as a layer reads them: by the mean square of their lengths, which no motion changes."""
    return bounded(v, v.square().sum(2, keepdim=True).mean(-1, keepdim=True))


class EquivariantTrunk(nn.Module):
    """Layers of the module's text, from positions and one-hot or other numbers of atoms and pairs to a `Cloud`.

    Args:
        features: length of what is known of an atom.
        edge_features: length of what is known of a pair, such as its bond; 0 for nothing.
        width, pairs, vectors, heads, basis: as in `PairWiseBlock`.
        depth: layers.
        moves: whether positions move from layer to layer.

    Raises:
        ValueError: sizes below 1, or a width that the heads do not divide.
    """

    def __init__(
        self,
        features: int,
        edge_features: int = 0,
        *,
        width: int = 128,
        pairs: int = 32,
        vectors: int = 16,
        heads: int = 8,
        basis: int = 16,
        depth: int = 5,
        moves: bool = True,
    ) -> None:
        super().__init__()
        check_integers(1, features=features, width=width, pairs=pairs, vectors=vectors, heads=heads, depth=depth)
        check_integers(0, edge_features=edge_features)
        check_integers(3, basis=basis)
        require(width % heads == 0, "heads", heads, f"a divisor of width={width}")
        self.features, self.edge_features = features, edge_features
        self.width, self.pairs, self.vectors, self.heads = width, pairs, vectors, heads
        self.basis, self.depth, self.moves = basis, depth, moves
        self.enter = Linear(features, width)
        self.edge = Linear(edge_features, pairs, bias=False) if edge_features else None
        self.blocks = nn.ModuleList(PairWiseBlock(width, pairs, vectors, heads, basis, moves) for _ in range(depth))

    def forward(
        self,
        x: Float[Tensor, "batch n 3"],
        features: Float[Tensor, "batch n features"],
        embedding: Float[Tensor, "batch width"],
        edges: Float[Tensor, "batch n n edge_features"] | None = None,
        mask: Bool[Tensor, "batch n"] | None = None,
    ) -> Cloud:
        """Evaluate the layers; ``x``, ``h`` and ``v`` of the answer are zero in the padding.

        Args:
            x: positions, of about unit variance.
            features: of atoms.
            embedding: of the noise level and other conditions.
            edges: of pairs; None for a trunk without.
            mask: True where an atom is real; None for everywhere.
        """
        batch, n, _ = x.shape
        real = x.new_ones(batch, n, 1) if mask is None else mask.to(x)[..., None]
        apart = 1 - torch.eye(n, dtype=x.dtype, device=x.device)
        weights = real[:, :, None] * real[:, None] * apart[..., None]
        weights = weights / weights.sum(2, keepdim=True).clamp(min=1)
        pairs = x.new_zeros(batch, n, n, self.pairs)
        if self.edge is not None and edges is not None:
            pairs = self.edge(edges)
        cloud = Cloud(x * real, self.enter(features) * real, x.new_zeros(batch, n, 3, self.vectors), pairs)
        for block in self.blocks:
            cloud = block(cloud, real, weights, embedding)
        return cloud
