"""The network of molecules in space: noisy positions, atoms and bonds in, a displacement and logits out."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ornstein.core.nn import NoiseEmbedding
from ornstein.core.nn.activations import silu
from ornstein.core.nn.checks import check_integers, check_noise_level
from ornstein.core.nn.linear import Linear, zero_init
from ornstein.core.schedules import require
from ornstein.domains.molecules.equivariant import EquivariantTrunk, unit
from ornstein.domains.molecules.pairs import as_matrix, as_pairs, num_pairs

__all__ = ["SpaceNetwork"]


class SpaceNetwork(nn.Module):
    """Equivariant network from molecules in space to a displacement of each atom, whose mean over the molecule is zero,
    and to logits of its category and of the bonds: ``{"positions": (B, N, 3), "atoms": (B, N, S), "bonds": (B, N (N -
    1) / 2, T)}``, the last with ``bonds`` alone.

    Displacements turn and reflect with the positions, logits do not change, and all move with a permutation of the
    atoms. At initialisation all is zero. On the CPU the result for a sample is the same bit for bit whatever the batch
    it comes in.

    Args:
        atoms: ``S``, states of an atom: its categories, and the mask where the chain has one.
        bonds: ``T``, states of a pair, likewise; 0 for molecules without bonds.
        properties: how many properties the network may be told.
        width, pairs, vectors, heads, basis, depth: as in `EquivariantTrunk`.

    Raises:
        ValueError: arguments or inputs that do not fit.

    Example:
        >>> network = SpaceNetwork(3, width=16, depth=1)
        >>> x = {"positions": torch.randn(2, 5, 3), "atoms": torch.zeros(2, 5, dtype=torch.int64)}
        >>> out = network(x, {"positions": torch.zeros(2), "atoms": torch.zeros(2)})
        >>> out["positions"].shape, out["atoms"].shape
        (torch.Size([2, 5, 3]), torch.Size([2, 5, 3]))
    """

    def __init__(
        self,
        atoms: int,
        bonds: int = 0,
        properties: int = 0,
        *,
        width: int = 128,
        pairs: int = 32,
        vectors: int = 16,
        heads: int = 8,
        basis: int = 16,
        depth: int = 5,
    ) -> None:
        super().__init__()
        check_integers(1, atoms=atoms)
        check_integers(0, bonds=bonds, properties=properties)
        self.atoms, self.bonds, self.properties = atoms, bonds, properties
        self.width, self.pairs, self.vectors, self.heads = width, pairs, vectors, heads
        self.basis, self.depth = basis, depth
        self.noise = NoiseEmbedding(width)
        self.told = Linear(2 * properties, width) if properties else None
        self.held = Linear(2, width, bias=False)
        self.trunk = EquivariantTrunk(
            atoms, bonds, width=width, pairs=pairs, vectors=vectors, heads=heads, basis=basis, depth=depth
        )
        self.leave_atoms = zero_init(Linear(width, atoms))
        self.ends = Linear(width, pairs, bias=False) if bonds else None
        self.join = Linear(pairs, pairs) if bonds else None
        self.leave_bonds = zero_init(Linear(pairs, bonds)) if bonds else None

    def forward(
        self,
        x: Mapping[str, Tensor],
        c: Mapping[str, Float[Tensor, "batch"]],
        *,
        mask: Mapping[str, Bool[Tensor, "batch n"]] | None = None,
        properties: Float[Tensor, "batch properties"] | None = None,
        properties_mask: Bool[Tensor, "batch properties"] | None = None,
        given: Mapping[str, Bool[Tensor, "batch n"]] | None = None,
    ) -> dict[str, Tensor]:
        """Evaluate the network.

        Args:
            x: noisy ``"positions"`` ``(B, N, 3)``, scaled to unit variance, ``"atoms"`` ``(B, N)`` and, with bonds,
                ``"bonds"`` ``(B, N (N - 1) / 2)``, int64; or weights of the categories, ``(..., S)``, which have a
                gradient.
            c: the noise levels -log_snr / 8, ``(B,)`` of each; that of the positions is used.
            mask: True where real, by name; that of the positions is used, and all is real without.
            properties: scaled; 0 where they are not told.
            properties_mask: True where they are told; all when not given.
            given: by name, True where ``"atoms"`` or ``"bonds"`` of a sample are known, all of them or none.
        """
        self._check(x, c, properties)
        positions = x["positions"]
        real = None if mask is None else mask["positions"]
        embedding = self.noise(c["positions"])
        if self.told is not None:
            embedding = embedding + self.told(self._asked(positions, properties, properties_mask))
        if given is not None:
            embedding = embedding + self.held(_known(given, positions))
        edges = as_matrix(_weights(x["bonds"], self.bonds, positions)) if self.bonds else None
        cloud = self.trunk(positions, _weights(x["atoms"], self.atoms, positions), silu(embedding), edges, real)
        keep = positions.new_ones(*positions.shape[:2], 1) if real is None else real.to(positions)[..., None]
        moved = (cloud.x - positions) * keep
        moved = (moved - moved.sum(1, keepdim=True) / keep.sum(1, keepdim=True).clamp(min=1)) * keep
        h = unit(cloud.h)
        out = {"positions": moved, "atoms": self.leave_atoms(h) * keep}
        if self.ends is not None and self.join is not None and self.leave_bonds is not None:
            ends = self.ends(h)
            both = cloud.p + cloud.p.transpose(1, 2) + ends[:, :, None] + ends[:, None]
            out["bonds"] = self.leave_bonds(silu(self.join(as_pairs(both))))
        return out

    def _asked(self, like: Tensor, properties: Tensor | None, known: Tensor | None) -> Tensor:
        if properties is None:
            return like.new_zeros(len(like), 2 * self.properties)
        told = torch.ones_like(properties) if known is None else known.to(properties)
        return torch.cat([properties * told, told], 1).to(like)

    def _check(self, x: Mapping[str, Tensor], c: Mapping[str, Tensor], properties: Any) -> None:
        positions = x["positions"]
        came = tuple(positions.shape)
        require(positions.ndim == 3 and positions.shape[2] == 3, "positions", came, "shape (B, N, 3)")
        wanted = {"atoms": (came[:2], self.atoms)}
        if self.bonds:
            wanted["bonds"] = ((came[0], num_pairs(came[1])), self.bonds)
        for name, (shape, states) in wanted.items():
            require(name in x, "x", list(x), f"{name!r} among them")
            shape = (*shape, states) if x[name].is_floating_point() else shape
            found = tuple(x[name].shape)
            require(found == shape, f"shape of {name}", found, f"{shape}, as positions are {came}")
        check_noise_level(c["positions"], len(positions))
        if properties is not None:
            expected = (len(positions), self.properties)
            require(tuple(properties.shape) == expected, "shape of properties", tuple(properties.shape), f"{expected}")


def _known(given: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """Whether atoms and bonds are known, ``(B, 2)``."""
    nothing = torch.zeros(len(like), dtype=torch.bool, device=like.device)
    return torch.stack([given[n].any(1) if n in given else nothing for n in ("atoms", "bonds")], 1).to(like)


def _weights(x: Tensor, states: int, like: Tensor) -> Tensor:
    """Categories as one-hot numbers; weights as they are."""
    return x.to(like) if x.is_floating_point() else nn.functional.one_hot(x, states).to(like)
