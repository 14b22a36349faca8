"""Properties of molecules that their distributions are compared in, and the distance of two such distributions.

| name | property | unit |
| --- | --- | --- |
| ``logP`` | Crippen's octanol-water partition coefficient (Wildman and Crippen 1999) | decades |
| ``QED`` | quantitative estimate of drug-likeness (Bickerton et al. 2012) | 0 to 1 |
| ``SA`` | synthetic accessibility (Ertl and Schuffenhauer 2009) | 1 easy to 10 hard |
| ``weight`` | average molar mass | g/mol |
| ``TPSA`` | topological polar surface area (Ertl et al. 2000) | Å² |
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ornstein.core.evaluation import wasserstein_1d
from ornstein.core.optional import need
from ornstein.core.schedules import require

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["PROPERTIES", "property_distances", "property_values", "sa_score"]


def sa_score(mol: "Mol") -> float:
    """Synthetic accessibility, 1 (easy) to 10 (hard), by the script in rdkit's Contrib.

    Raises:
        ImportError: this rdkit came without Contrib.
    """
    return float(_sascorer().calculateScore(mol))


def _log_p(mol: "Mol") -> float:
    return float(need("rdkit.Chem.Crippen", to="compute logP", extra="molecules").MolLogP(mol))


def _qed(mol: "Mol") -> float:
    return float(need("rdkit.Chem.QED", to="compute QED", extra="molecules").qed(mol))


def _weight(mol: "Mol") -> float:
    return float(need("rdkit.Chem.Descriptors", to="compute weights", extra="molecules").MolWt(mol))


def _tpsa(mol: "Mol") -> float:
    return float(need("rdkit.Chem.rdMolDescriptors", to="compute TPSA", extra="molecules").CalcTPSA(mol))


PROPERTIES: dict[str, Callable[["Mol"], float]] = {
    "logP": _log_p,
    "QED": _qed,
    "SA": sa_score,
    "weight": _weight,
    "TPSA": _tpsa,
}
"""Functions of a sanitised molecule, by name."""

MOSES_PROPERTIES = ("logP", "QED", "SA", "weight")
"""Those that MOSES compares."""


def property_values(molecules: Sequence["Mol"], names: Sequence[str] = MOSES_PROPERTIES) -> dict[str, np.ndarray]:
    """Each property of each molecule, ``(n,)`` float64 by name.

    Args:
        molecules: sanitised ones.
        names: some of `PROPERTIES`.

    Raises:
        ValueError: an unknown name.
    """
    for name in names:
        require(name in PROPERTIES, "names", name, f"some of {', '.join(PROPERTIES)}")
    return {name: np.array([PROPERTIES[name](mol) for mol in molecules], float) for name in names}


def property_distances(values: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Wasserstein-1 distance of each property that both have, in its unit (MOSES 1811.12823).

    Args:
        values: ``(n,)`` by name, from `property_values`.
        reference: ``(m,)`` by name.

    Raises:
        ValueError: no values.
    """
    shared = [name for name in values if name in reference]
    return {name: float(wasserstein_1d(values[name][:, None], reference[name][:, None])) for name in shared}


@lru_cache(maxsize=1)
def _sascorer() -> Any:
    config = need("rdkit.RDConfig", to="compute synthetic accessibility", extra="molecules")
    path = Path(config.RDContribDir) / "SA_Score" / "sascorer.py"
    if not path.is_file():
        raise ImportError(f"SA_Score is missing from this rdkit (no {path}): pip's rdkit has it: pip install rdkit")
    spec = importlib.util.spec_from_file_location("ornstein_sascorer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
