r"""Similarity of sets of molecules, by MOSES' definitions (1811.12823, section 3).

With the Tanimoto coefficient `T(x, y)` of Morgan fingerprints (radius 2, 1024 bits), generated `G` and reference `R`:

    SNN = mean_{x in G} max_{y in R} T(x, y),      IntDiv_p = 1 - mean_{x in G} (mean_{y in G} T(x, y)^p)^{1/p},

and with counts `g`, `r` of BRICS fragments (Degen et al. 2008), or of Bemis-Murcko scaffolds of at least two rings,

    Frag, Scaf = <g, r> / (|g| |r|).

For `p = 2` the paper writes the root outside of both means; MOSES' code, whose figures are published, writes it inside.
The mean over `y` counts `x` itself, which lowers the diversity by up to `1 / |G|`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import chem

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = [
    "cosine_similarity",
    "count_fragments",
    "count_scaffolds",
    "fingerprints",
    "internal_diversity",
    "nearest_other",
    "nearest_similarity",
]

BLOCK = 2**22
"""Similarities that are computed at a time."""


def fingerprints(molecules: Sequence["Mol"], bits: int = 1024) -> np.ndarray:
    """Morgan fingerprints of radius 2, packed: ``(n, bits / 8)`` uint8, the lowest bit first.

    Raises:
        ValueError: bits that do not fill bytes.
    """
    require(bits > 0 and bits % 8 == 0, "bits", bits, "a multiple of 8")
    tools = need("rdkit.Chem.rdFingerprintGenerator", to="compute fingerprints", extra="molecules")
    generator = tools.GetMorganGenerator(radius=2, fpSize=bits)
    rows = [np.packbits(generator.GetFingerprintAsNumPy(mol), bitorder="little") for mol in molecules]
    return np.array(rows, np.uint8).reshape(len(rows), bits // 8)


def nearest_similarity(prints: np.ndarray, reference: np.ndarray) -> float:
    """SNN: mean similarity to the nearest of the reference, 0 to 1.

    Args:
        prints: ``(n, 128)`` uint8, from `fingerprints`.
        reference: ``(m, 128)`` uint8.

    Raises:
        ValueError: no molecules on one side.
    """
    _check_any(prints, reference)
    best = np.zeros(len(prints))
    for similar in _tanimoto(prints, reference):
        best = np.maximum(best, similar.max(1))
    return float(best.mean())


def nearest_other(prints: np.ndarray) -> np.ndarray:
    """Similarity of each of a set to the nearest other one, ``(n,)``; 0 where there is no other.

    Raises:
        ValueError: no molecules.
    """
    _check_any(prints)
    found, start = np.zeros(len(prints)), 0
    for similar in _tanimoto(prints, prints):
        own = np.arange(start, start + similar.shape[1])
        similar[own, own - start] = 0
        found, start = np.maximum(found, similar.max(1)), start + similar.shape[1]
    return found


def internal_diversity(prints: np.ndarray, p: int = 1) -> float:
    """IntDiv_p of fingerprints ``(n, 128)`` uint8, 0 (all alike) to 1.

    Raises:
        ValueError: no molecules, or ``p < 1``.
    """
    _check_any(prints)
    require(p >= 1, "p", p, "at least 1")
    total = np.zeros(len(prints))
    for similar in _tanimoto(prints, prints):
        total += (similar**p).sum(1, dtype=float)
    return float(1 - ((total / len(prints)) ** (1 / p)).mean())


def count_fragments(molecules: Sequence["Mol"]) -> Counter[str]:
    """BRICS fragments of all molecules, as SMILES with their attachment points."""
    counts: Counter[str] = Counter()
    for mol in molecules:
        counts.update(chem().MolToSmiles(chem().FragmentOnBRICSBonds(mol)).split("."))
    return counts


def count_scaffolds(molecules: Sequence["Mol"], *, min_rings: int = 2) -> Counter[str]:
    """Bemis-Murcko scaffolds of at least ``min_rings`` rings, as SMILES; molecules without one are left out."""
    tools = need("rdkit.Chem.Scaffolds.MurckoScaffold", to="find scaffolds", extra="molecules")
    counts: Counter[str] = Counter()
    for mol in molecules:
        scaffold = tools.GetScaffoldForMol(mol)
        if scaffold.GetNumAtoms() and scaffold.GetRingInfo().NumRings() >= min_rings:
            counts[chem().MolToSmiles(scaffold)] += 1
    return counts


def cosine_similarity(counts: Mapping[str, int], reference: Mapping[str, int]) -> float:
    """``<g, r> / (|g| |r|)`` of counts, 0 to 1; NaN where one side has none, as in MOSES."""
    if not counts or not reference:
        return float("nan")
    overlap = sum(count * reference.get(name, 0) for name, count in counts.items())
    lengths = (sum(count**2 for count in side.values()) ** 0.5 for side in (counts, reference))
    return float(overlap / np.prod(list(lengths)))


def _tanimoto(prints: np.ndarray, reference: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks ``(n, b)`` float32 of the similarities of all ``n`` to the reference.

    Counts of bits are sums of ones, which float32 holds exactly.
    """
    rows = np.unpackbits(prints, axis=1, bitorder="little").astype(np.float32)
    sizes = rows.sum(1, keepdims=True)
    step = max(1, BLOCK // len(prints))
    for start in range(0, len(reference), step):
        block = np.unpackbits(reference[start : start + step], axis=1, bitorder="little").astype(np.float32)
        shared = rows @ block.T
        union = sizes + block.sum(1) - shared
        # Two molecules without any bit are alike, as in MOSES.
        yield np.divide(shared, union, out=np.ones_like(shared), where=union > 0)


def _check_any(*sides: np.ndarray) -> None:
    for side in sides:
        fits = side.ndim == 2 and side.shape[1] == sides[0].shape[1] and side.dtype == np.uint8
        require(fits, "fingerprints", f"{side.dtype} {side.shape}", "uint8 (n, bytes), as many bytes on both sides")
        require(len(side) > 0, "fingerprints", "no molecules", "at least one")
