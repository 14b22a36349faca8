"""Properties of molecules by name: descriptors that RDKit computes, functions of the user's, and what came with them.

To the properties that are judged (``logP``, ``QED``, ``SA``, ``weight``, ``TPSA``) come counts:

| name | property |
| --- | --- |
| ``rings`` | rings of the smallest set |
| ``aromatic_rings`` | aromatic ones among them |
| ``heavy_atoms`` | atoms that are no hydrogen |
| ``donors``, ``acceptors`` | of hydrogen bonds |
| ``rotatable`` | rotatable bonds |
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ornstein.core.optional import need
from ornstein.domains.molecules.judges.properties import PROPERTIES

__all__ = ["DESCRIPTORS", "Properties", "property_sources"]

Properties = Sequence[str] | Mapping[str, Callable[[Any], float] | None]
"""Names of descriptors, or else of properties that came with the molecules; or by name a function of a molecule, and
None for what came with it, which so goes before a descriptor of that name."""


def _counted(name: str) -> Callable[[Any], float]:
    def count(mol: Any) -> float:
        return float(
            getattr(need("rdkit.Chem.rdMolDescriptors", to="compute descriptors", extra="molecules"), name)(mol)
        )

    return count


DESCRIPTORS: dict[str, Callable[[Any], float]] = {
    **PROPERTIES,
    "rings": _counted("CalcNumRings"),
    "aromatic_rings": _counted("CalcNumAromaticRings"),
    "heavy_atoms": _counted("CalcNumHeavyAtoms"),
    "donors": _counted("CalcNumHBD"),
    "acceptors": _counted("CalcNumHBA"),
    "rotatable": _counted("CalcNumRotatableBonds"),
}
"""Functions of a sanitised molecule, by name."""


def property_sources(properties: Properties) -> dict[str, Callable[[Any], float] | None]:
    """By name the function that a property is computed by, or None where it comes with the molecules.

    Raises:
        TypeError: one string, or neither function nor None.
    """
    if isinstance(properties, str):
        raise TypeError(f"properties={properties!r} is one string: expected a list of names; give [{properties!r}]")
    if not isinstance(properties, Mapping):
        return {name: DESCRIPTORS.get(name) for name in properties}
    for name, function in properties.items():
        if function is not None and not callable(function):
            raise TypeError(f"properties[{name!r}]={function!r}: expected a function of a molecule, or None")
    return dict(properties)
