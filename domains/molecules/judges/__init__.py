"""Judges of molecules: they take RDKit molecules or SMILES, and know nothing of the models that made them.

| question | judge |
| --- | --- |
| do samples make sense, by whose definition? | `check_validity`, five kinds with reasons |
| are they different, and not copies? | `uniqueness`, `novelty` against `KnownMolecules` |
| would a chemist make them? | `check_filters`, `sa_score` |
| are they like real ones? | `moses_scores`, `moses_diversity`, `fcd_between`, `guacamol_divergences`, `nspdk_mmd` |
| are bonds and positions right? | `bond_stability`, `distance_stability`, `geometry_distances`, `check_geometries` |
| are the shapes of a molecule found? | `judge_conformers` |

`judge_molecules` gathers them beside figures of real molecules, `molecule_report` makes a page of it. Names are loaded
when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.domains.molecules.judges.conformers import (
        ConformerScore,
        conformer_distances,
        conformer_score,
        judge_conformers,
    )
    from ornstein.domains.molecules.judges.distinct import KnownMolecules, molecule_key, novelty, uniqueness
    from ornstein.domains.molecules.judges.fcd import (
        ChemNetMoments,
        chemnet_activations,
        chemnet_moments,
        fcd_between,
    )
    from ornstein.domains.molecules.judges.figures import molecule_grid, property_histograms
    from ornstein.domains.molecules.judges.filters import FilterReport, check_filters, first_filter
    from ornstein.domains.molecules.judges.geometry import (
        GeometryDistance,
        bond_angles,
        bond_lengths,
        geometry_distances,
        torsions,
    )
    from ornstein.domains.molecules.judges.guacamol import guacamol_divergences, guacamol_fcd_score, guacamol_score
    from ornstein.domains.molecules.judges.moses import moses_diversity, moses_floor, moses_scores
    from ornstein.domains.molecules.judges.nspdk import nspdk_features, nspdk_kernel, nspdk_mmd
    from ornstein.domains.molecules.judges.page import molecule_report
    from ornstein.domains.molecules.judges.posebusters import (
        CHECKS,
        GeometryReport,
        check_geometries,
        check_geometry,
        energy_ratio,
    )
    from ornstein.domains.molecules.judges.properties import (
        PROPERTIES,
        property_distances,
        property_values,
        sa_score,
    )
    from ornstein.domains.molecules.judges.reference import MosesReference, moses_reference
    from ornstein.domains.molecules.judges.report import MEASURES, judge_molecules, score_rows
    from ornstein.domains.molecules.judges.similarity import (
        cosine_similarity,
        count_fragments,
        count_scaffolds,
        fingerprints,
        internal_diversity,
        nearest_other,
        nearest_similarity,
    )
    from ornstein.domains.molecules.judges.stability import (
        Stability,
        bond_stability,
        distance_orders,
        distance_stability,
    )
    from ornstein.domains.molecules.judges.validity import KINDS, Validity, check_validity

__all__ = [
    "CHECKS",
    "KINDS",
    "MEASURES",
    "PROPERTIES",
    "ChemNetMoments",
    "ConformerScore",
    "FilterReport",
    "GeometryDistance",
    "GeometryReport",
    "KnownMolecules",
    "MosesReference",
    "Stability",
    "Validity",
    "bond_angles",
    "bond_lengths",
    "bond_stability",
    "check_filters",
    "check_geometries",
    "check_geometry",
    "check_validity",
    "chemnet_activations",
    "chemnet_moments",
    "conformer_distances",
    "conformer_score",
    "cosine_similarity",
    "count_fragments",
    "count_scaffolds",
    "distance_orders",
    "distance_stability",
    "energy_ratio",
    "fcd_between",
    "fingerprints",
    "first_filter",
    "geometry_distances",
    "guacamol_divergences",
    "guacamol_fcd_score",
    "guacamol_score",
    "internal_diversity",
    "judge_conformers",
    "judge_molecules",
    "molecule_grid",
    "molecule_key",
    "molecule_report",
    "moses_diversity",
    "moses_floor",
    "moses_reference",
    "moses_scores",
    "nearest_other",
    "nearest_similarity",
    "novelty",
    "nspdk_features",
    "nspdk_kernel",
    "nspdk_mmd",
    "property_distances",
    "property_histograms",
    "property_values",
    "sa_score",
    "score_rows",
    "torsions",
    "uniqueness",
]

_PLACES = {
    "conformers": ("ConformerScore", "conformer_distances", "conformer_score", "judge_conformers"),
    "fcd": ("ChemNetMoments", "chemnet_activations", "chemnet_moments", "fcd_between"),
    "figures": ("molecule_grid", "property_histograms"),
    "filters": ("FilterReport", "check_filters", "first_filter"),
    "geometry": ("GeometryDistance", "bond_angles", "bond_lengths", "geometry_distances", "torsions"),
    "guacamol": ("guacamol_divergences", "guacamol_fcd_score", "guacamol_score"),
    "moses": ("moses_diversity", "moses_floor", "moses_scores"),
    "distinct": ("KnownMolecules", "molecule_key", "novelty", "uniqueness"),
    "nspdk": ("nspdk_features", "nspdk_kernel", "nspdk_mmd"),
    "page": ("molecule_report",),
    "posebusters": ("CHECKS", "GeometryReport", "check_geometries", "check_geometry", "energy_ratio"),
    "properties": ("PROPERTIES", "property_distances", "property_values", "sa_score"),
    "reference": ("MosesReference", "moses_reference"),
    "report": ("MEASURES", "judge_molecules", "score_rows"),
    "similarity": (
        "cosine_similarity",
        "count_fragments",
        "count_scaffolds",
        "fingerprints",
        "internal_diversity",
        "nearest_other",
        "nearest_similarity",
    ),
    "stability": ("Stability", "bond_stability", "distance_orders", "distance_stability"),
    "validity": ("KINDS", "Validity", "check_validity"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
