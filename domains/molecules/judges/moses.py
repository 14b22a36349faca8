"""MOSES' figures of generated molecules (1811.12823), without its package; each name carries the set compared with.

MOSES' package can no longer be installed whole. Its definitions are written here, and its published statistics are
read from the data files of its wheel, whose fingerprints, fragments, scaffolds and properties they reproduce exactly.
Figures are of valid molecules: pass those of one kind of `check_validity`, and say which.

| figure | meaning | best |
| --- | --- | --- |
| ``fcd/Test`` | Fréchet ChemNet distance, see `fcd` | that of real molecules, as many |
| ``snn/Test`` | similarity to the nearest of the set | that of real molecules |
| ``frag/Test``, ``scaf/Test`` | cosine similarity of BRICS fragments, of scaffolds | 1; that of real molecules |
| ``w1_logP/Test``, also QED, SA, weight | Wasserstein-1 distance, in the property's unit | that of real molecules |
| ``intdiv``, ``intdiv2`` | internal diversity | that of real molecules |
| ``filters`` | share that passes MCF and PAINS, by `check_filters` | 1 |

The set is ``Test`` or ``TestSF`` (scaffolds that training lacks), or the name of a reference of your own. DiGress'
published scaffold similarity is one against ``TestSF``.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ornstein.core.schedules import require
from ornstein.domains.molecules.judges.fcd import ChemNetMoments, chemnet_moments, fcd_between
from ornstein.domains.molecules.judges.properties import property_distances, property_values
from ornstein.domains.molecules.judges.reference import MosesReference
from ornstein.domains.molecules.judges.similarity import (
    cosine_similarity,
    count_fragments,
    count_scaffolds,
    fingerprints,
    internal_diversity,
    nearest_similarity,
)

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["moses_diversity", "moses_floor", "moses_scores"]


def moses_scores(
    molecules: Sequence["Mol"], reference: MosesReference, *, fcd: bool = False, chemnet: ChemNetMoments | None = None
) -> dict[str, float]:
    """How generated molecules compare with a reference.

    Args:
        molecules: valid ones, sanitised.
        reference: `moses_reference`, or `MosesReference.of` a list.
        fcd: also the Fréchet ChemNet distance; a second for fifty molecules.
        chemnet: moments of the molecules, where they are known from another reference.

    Returns:
        By names of the table above, without the last two rows.

    Raises:
        ValueError: no molecules, or a distance of ChemNet to a reference without its moments.
    """
    require(len(molecules) > 0, "molecules", "none", "at least one valid molecule")
    name = reference.name
    figures = {
        f"snn/{name}": nearest_similarity(fingerprints(molecules), reference.fingerprints),
        f"frag/{name}": cosine_similarity(count_fragments(molecules), reference.fragments),
        f"scaf/{name}": cosine_similarity(count_scaffolds(molecules), reference.scaffolds),
    }
    values = property_values(molecules, tuple(reference.properties))
    figures |= {f"w1_{key}/{name}": far for key, far in property_distances(values, reference.properties).items()}
    if fcd:
        if reference.chemnet is None:
            raise ValueError(f"reference {name!r} has no moments of ChemNet: make it with chemnet=True")
        figures[f"fcd/{name}"] = fcd_between(chemnet or chemnet_moments(molecules), reference.chemnet)
    return figures


def moses_diversity(molecules: Sequence["Mol"]) -> dict[str, float]:
    """``intdiv`` and ``intdiv2``, which need no reference.

    Raises:
        ValueError: no molecules.
    """
    prints = fingerprints(molecules)
    return {"intdiv": internal_diversity(prints, 1), "intdiv2": internal_diversity(prints, 2)}


def moses_floor(reference: MosesReference, n: int, *, seed: int = 0, fcd: bool = False) -> dict[str, float]:
    """`moses_scores` of ``n`` real molecules, drawn from the reference, against all others of it.

    Args:
        reference: of at least ``2 n`` molecules.
        n: as many as were generated and are valid: every figure depends on it.
        seed: of the draw.
        fcd: as `moses_scores`.

    Raises:
        ValueError: a reference that is too small.
    """
    drawn, rest = reference.split(n, seed=seed)
    if not fcd:
        return moses_scores(drawn, rest)
    if reference.chemnet is None:
        raise ValueError(f"reference {reference.name!r} has no moments of ChemNet: make it with chemnet=True")
    moments = chemnet_moments(drawn)
    return moses_scores(drawn, replace(rest, chemnet=reference.chemnet.without(moments)), fcd=True, chemnet=moments)
