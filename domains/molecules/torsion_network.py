r"""The network of torsions: what pulls at each bond that turns, told by the shape of the molecule alone.

Torsions are set in a local structure, a network of atoms and pairs sees the positions, and each bond `b c` that turns
answers with a pseudoscalar. With `z_j = e^(i theta_j)` for where atom `j` stands around the axis from `b` to `c`,

    s_bc = sum_k sum_m w_km Im(conj(A_km) D_km),    A_km = sum_(j beside b) a_km(p_bj) z_j^k,    D_km alike beside c,

over the atoms that hang on `b` and on `c`, for `k = 1, 2, 3`, with weights `w` of both atoms and their pair, alike for
`b c` and `c b`. The sums are those of `sin k (theta_d - theta_a)`, the forces of the cosine series that force fields
write torsions in. Motions of the molecule do not change them, a reflection turns their sign, and neither where angles
are counted from nor the order of atoms matters, as it must be for the score of a distribution of torsions (Jing et al.
2022, 2206.01729, section 3.4, which takes tensor products of spherical harmonics instead).
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ornstein.core.nn import NoiseEmbedding
from ornstein.core.nn.activations import silu
from ornstein.core.nn.checks import check_integers, check_noise_level
from ornstein.core.nn.linear import Linear, zero_init
from ornstein.core.schedules import require
from ornstein.domains.molecules.equivariant import EquivariantTrunk, unit
from ornstein.domains.molecules.pairs import as_matrix, num_pairs
from ornstein.domains.molecules.torsions import Rotors, set_torsions

__all__ = ["TorsionNetwork"]

SERIES = 3  # terms of the series: bonds of sp3 atoms have three minima


class TorsionNetwork(nn.Module):
    """Network from torsions to a number for each, ``(B, M)``; see the module's text. Zero at initialisation.

    Args:
        atoms, bonds: numbers of categories of atoms and bonds.
        scale: of positions, in ångström; they are divided by it.
        width, pairs, vectors, heads, basis, depth: as in `EquivariantTrunk`.

    Raises:
        ValueError: arguments or inputs that do not fit.
    """

    def __init__(
        self,
        atoms: int,
        bonds: int,
        scale: float = 1.5,
        *,
        width: int = 96,
        pairs: int = 32,
        vectors: int = 16,
        heads: int = 8,
        basis: int = 16,
        depth: int = 3,
    ) -> None:
        super().__init__()
        check_integers(1, atoms=atoms, bonds=bonds)
        require(0 < scale < float("inf"), "scale", scale, "a positive number of ångström")
        self.atoms, self.bonds, self.scale = atoms, bonds, scale
        self.width, self.pairs, self.vectors, self.heads = width, pairs, vectors, heads
        self.basis, self.depth = basis, depth
        self.noise = NoiseEmbedding(width)
        self.trunk = EquivariantTrunk(
            atoms, bonds, width=width, pairs=pairs, vectors=vectors, heads=heads, basis=basis, depth=depth, moves=False
        )
        self.around = Linear(pairs, SERIES * vectors)
        self.inner = Linear(2 * width + pairs, width)
        self.outer = zero_init(Linear(width, SERIES * vectors))

    def forward(
        self,
        x: Float[Tensor, "batch cosines_sines"],
        c: Float[Tensor, "batch"],
        *,
        positions: Float[Tensor, "batch n 3"],
        atoms: Int[Tensor, "batch n"],
        bonds: Int[Tensor, "batch pairs"],
        real: Bool[Tensor, "batch n"],
        ends: Int[Tensor, "batch rotors 4"],
        sides: Bool[Tensor, "batch rotors n"],
        mask: Bool[Tensor, "batch rotors"],
    ) -> Float[Tensor, "batch rotors"]:
        """Evaluate the network.

        Args:
            x: cosines of the torsions, then sines, ``(B, 2 M)``.
            c: the noise level ``(B,)``.
            positions: of a conformer with any torsions, in ångström: the local structure.
            atoms: categories ``(B, N)``.
            bonds: categories of pairs ``(B, N (N - 1) / 2)``.
            real: True for atoms, False for padding.
            ends, sides: of the bonds that turn; see `Rotors`.
            mask: True where there is one.
        """
        self._check(x, c, positions, atoms, bonds, ends, sides)
        cosines, sines = x.chunk(2, 1)
        placed = set_torsions(positions, Rotors(ends, sides, mask), cosines, sines) / self.scale
        edges = nn.functional.one_hot(as_matrix(bonds), self.bonds).to(placed)
        kinds = nn.functional.one_hot(atoms, self.atoms).to(placed)
        keep = real.to(placed)[..., None]
        placed = (placed - (placed * keep).sum(1, keepdim=True) / keep.sum(1, keepdim=True).clamp(min=1)) * keep
        cloud = self.trunk(placed, kinds, silu(self.noise(c)), edges, real)
        return self._pull(cloud, ends, sides, real) * mask

    def _pull(self, cloud: Any, ends: Tensor, sides: Tensor, real: Tensor) -> Tensor:
        """The pseudoscalars ``(B, M)``."""
        rows, b, c = torch.arange(len(ends), device=ends.device)[:, None], ends[..., 1], ends[..., 2]
        turns = _turns(cloud.x, ends)
        each = torch.arange(real.shape[1], device=ends.device)
        hang = real[:, None] & (each != b[..., None]) & (each != c[..., None])
        sums = []
        for atom, beside in ((b, hang & ~sides), (c, hang & sides)):
            weights = self.around(cloud.p[rows, atom]).unflatten(-1, (SERIES, -1)) * beside[..., None, None]
            sums.append([(weights * part[..., None]).sum(2) for part in turns])
        (a_cos, a_sin), (d_cos, d_sin) = sums
        pulls = (a_cos * d_sin - a_sin * d_cos).flatten(2)
        h = unit(cloud.h)
        pair = cloud.p[rows, b, c] + cloud.p[rows, c, b]
        both = torch.cat([h[rows, b] + h[rows, c], h[rows, b] * h[rows, c], pair], -1)
        return (self.outer(silu(self.inner(both))) * pulls).sum(-1)

    def _check(
        self, x: Tensor, c: Tensor, positions: Tensor, atoms: Tensor, bonds: Tensor, ends: Tensor, sides: Tensor
    ) -> None:
        batch, n, _ = positions.shape
        rotors = x.shape[1] // 2
        for name, value, shape in (
            ("x", x, (batch, 2 * rotors)),
            ("atoms", atoms, (batch, n)),
            ("bonds", bonds, (batch, num_pairs(n))),
            ("ends", ends, (batch, rotors, 4)),
            ("sides", sides, (batch, rotors, n)),
        ):
            require(tuple(value.shape) == shape, f"shape of {name}", tuple(value.shape), f"{shape}")
        check_noise_level(c, batch)


def _turns(x: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``(B, M, N, SERIES)`` of multiples of the angles at which atoms stand around bonds, seen from
    where ``a`` stands; less than unit for atoms close to the axis, which stand nowhere.
    """
    rows = torch.arange(len(ends), device=ends.device)[:, None]
    a, b, c = (x[rows, ends[..., k]] for k in range(3))
    axis = nn.functional.normalize(c - b, dim=-1, eps=1e-6)
    arm = x[:, None] - b[:, :, None]
    arm = arm - (arm * axis[:, :, None]).sum(-1, keepdim=True) * axis[:, :, None]
    first = a - b
    first = nn.functional.normalize(first - (first * axis).sum(-1, keepdim=True) * axis, dim=-1, eps=1e-6)
    second = torch.linalg.cross(axis, first)
    arm = arm / (arm.square().sum(-1, keepdim=True) + 1e-3).sqrt()
    cos, sin = (arm * first[:, :, None]).sum(-1), (arm * second[:, :, None]).sum(-1)
    cosines, sines = [cos], [sin]
    for _ in range(SERIES - 1):
        cosines.append(cosines[-1] * cos - sines[-1] * sin)
        sines.append(sines[-1] * cos + cosines[-2] * sin)
    return torch.stack(cosines, -1), torch.stack(sines, -1)
