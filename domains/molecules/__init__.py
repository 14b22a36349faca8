"""Molecules: graphs, sequences and positions of atoms, in and out of RDKit.

`MoleculeDiffusion` learns from molecules and draws new ones, `ConformerDiffusion` finds the shapes of given ones; a
`FunctionTarget` steers the former, and so does a `Target`, whose regressor `fit_regressor` trains; `MoleculeData`,
`NCIData`, `MOSESData`, `ConformerData` and `FragmentData` are data modules; `read_molecules` and `write_molecules` know
the files; judges are in `ornstein.domains.molecules.judges`. Names are loaded when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.domains.molecules.conformers import ConformerDiffusion
    from ornstein.domains.molecules.data import GraphData, MoleculeData, MoleculeReference, SelfiesFacts
    from ornstein.domains.molecules.descriptors import DESCRIPTORS
    from ornstein.domains.molecules.diffusion import MoleculeDiffusion
    from ornstein.domains.molecules.drawn import Generated
    from ornstein.domains.molecules.facts import MoleculeFacts
    from ornstein.domains.molecules.function_targets import FunctionTarget
    from ornstein.domains.molecules.network import GraphTransformer
    from ornstein.domains.molecules.optimising import Optimised
    from ornstein.domains.molecules.ordered_network import OrderedTransformer
    from ornstein.domains.molecules.perception import perceive_bonds
    from ornstein.domains.molecules.reading import MoleculeReader, read_molecules
    from ornstein.domains.molecules.regressors import PropertyRegressor, Target, fit_regressor
    from ornstein.domains.molecules.representations import REPRESENTATIONS, Representation
    from ornstein.domains.molecules.rules import MoleculeRules
    from ornstein.domains.molecules.scales import PropertyScale
    from ornstein.domains.molecules.selfies import SelfiesVocabulary
    from ornstein.domains.molecules.sources import FragmentData, MOSESData, NCIData
    from ornstein.domains.molecules.space import ConformerData, SpaceData
    from ornstein.domains.molecules.sparse_network import BondMessages
    from ornstein.domains.molecules.valence import ValenceConstraint
    from ornstein.domains.molecules.vocabulary import AtomKind, GraphForm, Vocabulary
    from ornstein.domains.molecules.writing import write_molecules

__all__ = [
    "DESCRIPTORS",
    "REPRESENTATIONS",
    "AtomKind",
    "BondMessages",
    "ConformerData",
    "ConformerDiffusion",
    "FragmentData",
    "FunctionTarget",
    "Generated",
    "GraphData",
    "GraphForm",
    "GraphTransformer",
    "MOSESData",
    "MoleculeData",
    "MoleculeDiffusion",
    "MoleculeFacts",
    "MoleculeReader",
    "MoleculeReference",
    "MoleculeRules",
    "NCIData",
    "Optimised",
    "OrderedTransformer",
    "PropertyRegressor",
    "PropertyScale",
    "Representation",
    "SelfiesFacts",
    "SelfiesVocabulary",
    "SpaceData",
    "Target",
    "ValenceConstraint",
    "Vocabulary",
    "fit_regressor",
    "perceive_bonds",
    "read_molecules",
    "write_molecules",
]

_PLACES = {
    "conformers": ("ConformerDiffusion",),
    "data": ("GraphData", "MoleculeData", "MoleculeReference", "SelfiesFacts"),
    "descriptors": ("DESCRIPTORS",),
    "diffusion": ("MoleculeDiffusion",),
    "drawn": ("Generated",),
    "facts": ("MoleculeFacts",),
    "function_targets": ("FunctionTarget",),
    "network": ("GraphTransformer",),
    "optimising": ("Optimised",),
    "ordered_network": ("OrderedTransformer",),
    "perception": ("perceive_bonds",),
    "reading": ("MoleculeReader", "read_molecules"),
    "regressors": ("PropertyRegressor", "Target", "fit_regressor"),
    "representations": ("REPRESENTATIONS", "Representation"),
    "rules": ("MoleculeRules",),
    "scales": ("PropertyScale",),
    "selfies": ("SelfiesVocabulary",),
    "sources": ("FragmentData", "MOSESData", "NCIData"),
    "space": ("ConformerData", "SpaceData"),
    "sparse_network": ("BondMessages",),
    "valence": ("ValenceConstraint",),
    "vocabulary": ("AtomKind", "GraphForm", "Vocabulary"),
    "writing": ("write_molecules",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
