r"""Maximum mean discrepancy of sets of molecules under the neighbourhood subgraph pairwise distance kernel (NSPDK).

Costa and De Grave (2010) describe a graph by pairs of neighbourhoods: `(N_r(u), N_r(v), r, d)` for atoms `u`, `v` at
distance `d`, where `N_r` is what lies within `r` bonds. GDSS (2202.02514) judges molecules by the features of EDeN with
`r, d <= 4`:

* a neighbourhood is known by the sorted labels at each distance from its centre, atoms and bonds in turn; a label is
  the element and the number of bonds of an atom, or the order of a bond (aromatic: 1);
* beside each pair, in both orders, the neighbourhood `N_r(v)` at its far end counts alone;
* counts `c` of each `(r, d)` are scaled to length one, then all of a molecule together: `phi`.

The kernel is `k(G, H) = <phi(G), phi(H)>`, so that the squared discrepancy, all pairs counted, is

    MMD^2 = mean k(G, G') + mean k(H, H') - 2 mean k(G, H) = |mean phi(G) - mean phi(H)|^2,

between 0 and 2. EDeN hashes features into 16 bits, where some collide; here none do. The squared discrepancy of real
molecules to real ones is about `2 (1 - k) / n` with the mean kernel `k` of different molecules: print it beside.
"""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import chem

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["nspdk_features", "nspdk_kernel", "nspdk_mmd"]

Key = tuple[Hashable, ...]


def nspdk_mmd(molecules: Sequence["Mol"], reference: Sequence["Mol"], *, radius: int = 4, distance: int = 4) -> float:
    """Squared discrepancy of two sets, 0 (equal) to 2; a second for a few hundred molecules.

    Args:
        molecules: generated ones.
        reference: real ones.
        radius: of neighbourhoods in bonds, at most.
        distance: of the centres of two of them in bonds, at most.

    Raises:
        ImportError: rdkit or scipy is missing.
        ValueError: no molecules on one side, one without atoms, or a negative radius or distance.
    """
    columns: dict[Key, int] = {}
    sides = [nspdk_features(side, radius=radius, distance=distance, columns=columns) for side in (molecules, reference)]
    means = [np.zeros(len(columns)) for _ in sides]
    for mean, side in zip(means, sides):
        mean[: side.shape[1]] = np.asarray(side.mean(0)).ravel()
    return float(np.square(means[0] - means[1]).sum())


def nspdk_kernel(molecules: Sequence["Mol"], *, radius: int = 4, distance: int = 4) -> np.ndarray:
    """Kernel of each pair, ``(n, n)`` in [0, 1] with ones on the diagonal.

    Raises:
        ImportError, ValueError: as `nspdk_mmd`.
    """
    features = nspdk_features(molecules, radius=radius, distance=distance)
    return np.asarray((features @ features.T).todense())


def nspdk_features(
    molecules: Sequence["Mol"], *, radius: int = 4, distance: int = 4, columns: dict[Key, int] | None = None
) -> Any:
    """Features of unit length, a sparse matrix of scipy ``(n, F)``.

    Args:
        molecules: at least one.
        radius: see `nspdk_mmd`.
        distance: see `nspdk_mmd`.
        columns: the column of each feature, filled here; give one dict for several sets, so that columns agree.

    Raises:
        ImportError, ValueError: as `nspdk_mmd`.
    """
    require(len(molecules) > 0, "molecules", "none", "at least one")
    require(radius >= 0 and distance >= 0, "radius and distance", (radius, distance), "both at least 0")
    sparse = need("scipy.sparse", to="compute kernels of graphs", extra="molecules")
    columns = {} if columns is None else columns
    rows, places, values = [], [], []
    for number, mol in enumerate(molecules):
        require(mol.GetNumAtoms() > 0, f"molecules[{number}]", "no atoms", "at least one atom")
        for feature, value in _weights(mol, radius, distance).items():
            rows.append(number)
            places.append(columns.setdefault(feature, len(columns)))
            values.append(value)
    return sparse.csr_matrix((values, (rows, places)), shape=(len(molecules), len(columns)))


def _weights(mol: "Mol", radius: int, distance: int) -> dict[Key, float]:
    """``phi`` of one molecule."""
    apart = chem().GetDistanceMatrix(mol).astype(int)
    around = [_neighbourhoods(mol, apart[atom], radius) for atom in range(len(apart))]
    counts: defaultdict[tuple[int, int], Counter[Key]] = defaultdict(Counter)
    for u, v in itertools.product(range(len(apart)), repeat=2):
        if apart[u, v] <= distance:
            for r in range(min(len(around[u]), len(around[v]))):
                group = counts[r, int(apart[u, v])]
                first, second = sorted((around[u][r], around[v][r]))
                group[(first, second, r, int(apart[u, v]))] += 1
                group[(around[v][r], r, int(apart[u, v]))] += 1
    scale = 1 / math.sqrt(len(counts))  # each group has length one
    return {
        feature: scale * count / math.sqrt(sum(other**2 for other in group.values()))
        for group in counts.values()
        for feature, count in group.items()
    }


def _neighbourhoods(mol: "Mol", apart: np.ndarray, radius: int) -> list[str]:
    """What lies within 0, 1 ... bonds of one atom, up to ``radius`` or to the end of the molecule.

    Args:
        mol: the molecule.
        apart: bonds between that atom and each other.
        radius: the largest.
    """
    reached = min(radius, int(apart[apart < len(apart)].max()))
    atoms: list[list[str]] = [[] for _ in range(reached + 1)]
    bonds: list[list[str]] = [[] for _ in range(reached + 1)]
    for atom, far in zip(mol.GetAtoms(), apart):
        if far <= reached:
            atoms[far].append(f"{atom.GetSymbol()}{atom.GetDegree()}")
    for bond in mol.GetBonds():
        near = min(apart[bond.GetBeginAtomIdx()], apart[bond.GetEndAtomIdx()])
        if near < reached:
            bonds[near + 1].append(str(int(bond.GetBondTypeAsDouble())))
    found, text = [], ""
    for of_bonds, of_atoms in zip(bonds, atoms):
        text += f"{','.join(sorted(of_bonds))};{','.join(sorted(of_atoms))}|"
        found.append(text)
    return found
