"""MOSES' filters of molecules that no medicinal chemist would make (1811.12823, "Filters").

A molecule passes if it has no ring of eight atoms or more, no charged atom, no element but C, N, S, O, F, Cl, Br and H,
matches none of the 22 medicinal chemistry filters (MCF) and none of the 480 patterns of pan-assay interference (PAINS,
Baell and Holloway 2010), hydrogens explicit. The patterns are read from the data files of MOSES' wheel, whose code is
not loaded. All molecules of MOSES pass.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ornstein.domains.molecules.checking import chem
from ornstein.domains.molecules.moses import moses_file

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["FilterReport", "check_filters", "first_filter"]

ALLOWED = {"C", "N", "S", "O", "F", "Cl", "Br", "H"}
RING_LIMIT = 8
"""Rings of so many atoms or more are refused."""


@dataclass(frozen=True)
class FilterReport:
    """How many molecules pass.

    Attributes:
        n: number of molecules.
        passed: of them.
        reasons: of those that do not, with how often each was the first, most frequent first.
    """

    n: int
    passed: int
    reasons: dict[str, int]

    @property
    def fraction(self) -> float:
        """``passed / n``."""
        return self.passed / self.n


def check_filters(molecules: Sequence["Mol"]) -> FilterReport:
    """MOSES' filters on sanitised molecules.

    Raises:
        ImportError: MOSES' wheel is missing.
        ValueError: no molecules.
    """
    if not len(molecules):
        raise ValueError("molecules is empty: give at least one")
    found = [first_filter(mol) for mol in molecules]
    reasons = [reason for reason in found if reason]
    return FilterReport(len(found), len(found) - len(reasons), dict(Counter(reasons).most_common()))


def first_filter(mol: "Mol") -> str:
    """The first filter that a sanitised molecule does not pass; empty if it passes all.

    Raises:
        ImportError: MOSES' wheel is missing.
    """
    patterns = _patterns()
    if any(len(ring) >= RING_LIMIT for ring in mol.GetRingInfo().AtomRings()):
        return f"ring of {RING_LIMIT} or more"
    for atom in mol.GetAtoms():
        if atom.GetFormalCharge():
            return "charge"
        if atom.GetSymbol() not in ALLOWED:
            return f"element {atom.GetSymbol()}"
    whole = chem().AddHs(mol)
    return next((name for name, pattern in patterns if whole.HasSubstructMatch(pattern)), "")


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[str, Any]]:
    """Names and compiled patterns."""
    with moses_file("metrics/mcf.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["names"], row["smarts"]) for row in csv.DictReader(file)]
    with moses_file("metrics/wehi_pains.csv").open(newline="", encoding="utf-8") as file:
        rows += [(f"PAINS {name.strip('<>').removeprefix('regId=')}", smarts) for smarts, name in csv.reader(file)]
    return [(name, chem().MolFromSmarts(smarts.strip())) for name, smarts in rows]
