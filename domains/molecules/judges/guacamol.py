r"""GuacaMol's distribution learning benchmarks (Brown et al. 2019, 1811.09621), without its package.

For each of ten descriptors, with the reference's distribution `P` and that of the samples `Q`,

    KL = sum_i P_i log(P_i / Q_i),      score = mean over descriptors of exp(-KL),

where `P` and `Q` are Gaussian kernel densities at 1000 points between the extremes of both (four continuous descriptors
and the similarity to the nearest other molecule), or histograms of ten bins of the reference (five counts), 1e-10 added
to each. Molecules are compared without stereo, each kind once. `exp(-0.2 FCD)` is GuacaMol's score of FCD; the
package multiplies both by nothing, papers often by 100.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import chem
from ornstein.domains.molecules.judges.similarity import fingerprints, nearest_other

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["guacamol_divergences", "guacamol_fcd_score", "guacamol_score"]

CONTINUOUS = ("BertzCT", "MolLogP", "MolWt", "TPSA")
COUNTS = ("NumHAcceptors", "NumHDonors", "NumRotatableBonds", "NumAliphaticRings", "NumAromaticRings")
POINTS, BINS, FLOOR, BITS = 1000, 10, 1e-10, 4096


def guacamol_divergences(molecules: Sequence["Mol"], reference: Sequence["Mol"]) -> dict[str, float]:
    """KL divergence of each descriptor, by RDKit's names, and of ``"internal_similarity"``.

    Args:
        molecules: generated ones, sanitised, at least two different ones.
        reference: real ones; GuacaMol takes as many as were generated.

    Returns:
        Divergences in nats; infinite where one side has a single value that the other has not alone.

    Raises:
        ImportError: rdkit or scipy is missing.
        ValueError: fewer than two different molecules on one side.
    """
    made, real = _flat(molecules, "molecules"), _flat(reference, "reference")
    tools = need("rdkit.Chem.Descriptors", to="compute descriptors", extra="molecules")
    found = {}
    measures: list[tuple[tuple[str, ...], Callable[[np.ndarray, np.ndarray], float]]]
    measures = [(CONTINUOUS, _density_divergence), (COUNTS, _histogram_divergence)]
    for names, measure in measures:
        for name in names:
            p, q = (
                np.nan_to_num([float(getattr(tools, name)(mol)) for mol in side], posinf=0) for side in (real, made)
            )
            found[name] = measure(p, q)
    alike = [nearest_other(fingerprints(side, BITS)) for side in (real, made)]
    return found | {"internal_similarity": _density_divergence(*alike)}


def guacamol_score(divergences: Mapping[str, float]) -> float:
    """Mean of ``exp(-KL)``, 0 to 1, more is better."""
    require(len(divergences) > 0, "divergences", "none", "those of `guacamol_divergences`")
    return float(np.mean([math.exp(-value) for value in divergences.values()]))


def guacamol_fcd_score(fcd: float) -> float:
    """``exp(-0.2 FCD)``, 0 to 1, more is better."""
    return math.exp(-0.2 * fcd)


def _flat(molecules: Sequence["Mol"], name: str) -> list["Mol"]:
    """Different molecules without stereo, in the order of their SMILES."""
    kinds = sorted({chem().MolToSmiles(mol, isomericSmiles=False) for mol in molecules})
    require(len(kinds) > 1, name, f"{len(kinds)} different", "at least two different molecules")
    return [chem().MolFromSmiles(text) for text in kinds]


def _density_divergence(p: np.ndarray, q: np.ndarray) -> float:
    stats = need("scipy.stats", to="compute divergences", extra="molecules")
    ends = min(p.min(), q.min()), max(p.max(), q.max())
    if p.min() == p.max() or q.min() == q.max():  # a kernel density of one value has no width
        return 0.0 if ends[0] == ends[1] else math.inf
    points = np.linspace(*ends, POINTS)
    return float(stats.entropy(*(stats.gaussian_kde(side)(points) + FLOOR for side in (p, q))))


def _histogram_divergence(p: np.ndarray, q: np.ndarray) -> float:
    stats = need("scipy.stats", to="compute divergences", extra="molecules")
    real, edges = np.histogram(p, bins=BINS, density=True)
    inside = (q >= edges[0]) & (q <= edges[-1])
    if not inside.any():
        return math.inf
    made, _ = np.histogram(q, bins=edges, density=True)
    return float(stats.entropy(real + FLOOR, made + FLOOR))
