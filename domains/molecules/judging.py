"""What `MoleculeDiffusion.evaluate` says of samples: the judges' figures in one dict, and how properties were met."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ornstein.domains.molecules.descriptors import DESCRIPTORS
from ornstein.domains.molecules.drawn import Generated

__all__ = ["judge_samples", "property_errors"]


def judge_samples(drawn: Generated, asked: Mapping[str, Any], reference: Any) -> dict[str, float]:
    """Figures by name; those with ``real_`` before the name are of real molecules that were held out.

    Args:
        drawn: molecules, as they were drawn.
        asked: properties that were asked for, by name, one each; NaN for any.
        reference: real ones, ``train`` and ``heldout``.
    """
    from ornstein.domains.molecules.judges import judge_molecules

    judged = judge_molecules(drawn.raw, reference.train, reference.heldout)
    found = {name: float(value) for name, value in judged.items() if isinstance(value, int | float)}
    found |= {f"real_{name}": float(value) for name, value in judged["floors"].items()}
    return found | {f"mae_{name}": error for name, error in property_errors(drawn, asked).items()}


def property_errors(mols: Sequence[Any], asked: Mapping[str, Any]) -> dict[str, float]:
    """Mean absolute errors of properties over the molecules that are valid and were asked for one, in its unit.

    Args:
        mols: sanitised, or None.
        asked: by name one value a molecule; of names that are none of `DESCRIPTORS` nothing can be said.
    """
    errors = {}
    for name, values in asked.items():
        if name not in DESCRIPTORS:
            continue
        wanted = np.asarray(values, dtype=np.float64)
        pairs = [(mol, value) for mol, value in zip(mols, wanted, strict=True) if mol is not None and value == value]
        if pairs:
            errors[name] = float(np.mean([abs(DESCRIPTORS[name](mol) - value) for mol, value in pairs]))
    return errors
