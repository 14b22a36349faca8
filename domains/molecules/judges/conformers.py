r"""Coverage and matching of conformers (Xu et al. 2021, 2102.10240; precision as in GeoMol, 2106.07802).

With the root mean square distance `d(g, r)` of heavy atoms after the best rotation, shift and renaming of atoms that
the molecule's symmetry allows, generated conformers `G` of a molecule and reference conformers `R`:

    COV-R = |{r : min_g d(g, r) <= delta}| / |R|,      MAT-R = mean_r min_g d(g, r),

and COV-P, MAT-P with both exchanged. Recall asks whether every real shape was found, precision whether every generated
shape is real. Both depend on how many conformers there are: papers generate twice as many as the reference has. `delta`
is 0.5 Å for molecules of nine heavy atoms and 1.25 Å for drugs in the papers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import chem

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["ConformerScore", "conformer_distances", "conformer_score", "judge_conformers"]


@dataclass(frozen=True)
class ConformerScore:
    """Coverage and matching of one molecule.

    Attributes:
        coverage_recall: COV-R, 0 to 1, more is better.
        matching_recall: MAT-R in Å, less is better.
        coverage_precision: COV-P, 0 to 1.
        matching_precision: MAT-P in Å.
        generated: number of generated conformers.
        reference: number of reference conformers.
    """

    coverage_recall: float
    matching_recall: float
    coverage_precision: float
    matching_precision: float
    generated: int
    reference: int


def conformer_distances(generated: "Mol", reference: "Mol") -> np.ndarray:
    """Distance of each pair of conformers in Å, symmetry allowed for, ``(generated, reference)``.

    Both are the same molecule, its atoms in any order; hydrogens are left out.

    Raises:
        ImportError: rdkit is missing.
        ValueError: different molecules, or one without conformers.
    """
    align = need("rdkit.Chem.rdMolAlign", to="compare conformers", extra="molecules")
    made, real = (chem().RemoveHs(mol) for mol in (generated, reference))
    names = [chem().MolToSmiles(mol, isomericSmiles=False) for mol in (made, real)]
    require(names[0] == names[1], "generated", names[0], f"conformers of the reference's molecule, {names[1]}")
    for mol, name in ((made, "generated"), (real, "reference")):
        require(mol.GetNumConformers() > 0, name, "no conformers", "at least one")
    ids = [[conformer.GetId() for conformer in mol.GetConformers()] for mol in (made, real)]
    return np.array([[align.GetBestRMS(made, real, i, j) for j in ids[1]] for i in ids[0]])


def conformer_score(generated: "Mol", reference: "Mol", *, threshold: float = 0.75) -> ConformerScore:
    """Coverage and matching of one molecule.

    Args:
        generated: with its conformers.
        reference: the same molecule with real ones.
        threshold: ``delta`` in Å.

    Raises:
        ValueError: as `conformer_distances`, or a threshold that is not positive.
    """
    require(threshold > 0, "threshold", threshold, "more than 0 Å")
    apart = conformer_distances(generated, reference)
    nearest_made, nearest_real = apart.min(0), apart.min(1)
    return ConformerScore(
        float((nearest_made <= threshold).mean()),
        float(nearest_made.mean()),
        float((nearest_real <= threshold).mean()),
        float(nearest_real.mean()),
        *apart.shape,
    )


def judge_conformers(pairs: Iterable[tuple["Mol | None", "Mol"]], *, threshold: float = 0.75) -> dict[str, float]:
    """Mean and median over molecules of their coverage and matching.

    Args:
        pairs: generated and reference conformers of each molecule; None where nothing was generated, which covers
            nothing and has no matching.
        threshold: ``delta`` in Å.

    Returns:
        ``n``, ``without`` (molecules for which nothing was generated), and ``cov_r``, ``mat_r``, ``cov_p``,
        ``mat_p`` with ``.._median`` each; matching in Å over the molecules that have one, NaN where none has.

    Raises:
        ValueError: no pairs, or as `conformer_score`.
    """
    scores = [None if made is None else conformer_score(made, real, threshold=threshold) for made, real in pairs]
    require(len(scores) > 0, "pairs", "none", "at least one molecule")
    columns = {
        "cov_r": [0.0 if score is None else score.coverage_recall for score in scores],
        "mat_r": [score.matching_recall for score in scores if score is not None],
        "cov_p": [0.0 if score is None else score.coverage_precision for score in scores],
        "mat_p": [score.matching_precision for score in scores if score is not None],
    }
    figures = {"n": float(len(scores)), "without": float(sum(score is None for score in scores))}
    for name, values in columns.items():
        figures[name] = float(np.mean(values)) if values else float("nan")
        figures[f"{name}_median"] = float(np.median(values)) if values else float("nan")
    return figures
