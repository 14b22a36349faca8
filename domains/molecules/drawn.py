"""What a model draws: molecules, why others are none, and what it takes to draw one of them again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np

from ornstein.core.optional import need
from ornstein.domains.molecules.building import sanitise
from ornstein.domains.molecules.representations import Drawn

__all__ = ["Generated"]

NOTHING = "not built"


@dataclass(frozen=True, eq=False)
class Generated(Sequence[Any]):
    """Molecules as a model drew them; a sequence of RDKit molecules, None where one is invalid.

    Attributes:
        drawn: of each, as it was drawn, sanitised if that is possible, and why if not.
        seed: of the call; molecule ``i`` is drawn again by ``first + i`` of it.
        first: number of the first.
        asked: what was asked for, by name ``(N,)``, in the units of the properties.
    """

    drawn: tuple[Drawn, ...]
    seed: int | None = None
    first: int = 0
    asked: Mapping[str, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.drawn)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> "Generated": ...
    def __getitem__(self, index: int | slice) -> Any:
        if not isinstance(index, slice):
            return self.drawn[index].mol
        start, _, step = index.indices(len(self))
        if step != 1:
            raise ValueError(f"a slice in steps of {step}: expected 1, since numbers of samples are consecutive")
        asked = None if self.asked is None else {name: value[index] for name, value in self.asked.items()}
        return Generated(self.drawn[index], self.seed, self.first + start, asked)

    def __iter__(self) -> Iterator[Any]:
        return (one.mol for one in self.drawn)

    @cached_property
    def valid(self) -> list[Any]:
        """The molecules that RDKit accepts, those of several fragments among them."""
        return [one.mol for one in self.drawn if one.mol is not None]

    @property
    def raw(self) -> list[Any]:
        """All molecules as they were drawn, not sanitised; what the judges are to see."""
        return [one.raw for one in self.drawn]

    @cached_property
    def smiles(self) -> list[str | None]:
        """Canonical SMILES of each; None where it is invalid."""
        write = need("rdkit.Chem", to="write SMILES", extra="molecules").MolToSmiles
        return [None if one.mol is None else write(one.mol) for one in self.drawn]

    @property
    def reasons(self) -> list[str]:
        """Why each is invalid; empty where it is valid."""
        return [one.reason for one in self.drawn]

    @property
    def validity(self) -> float:
        """Part of the molecules that RDKit accepts; `check_validity` has four other definitions."""
        return len(self.valid) / len(self)

    def texts(self) -> list[str]:
        """Each as SMILES that are not canonical, of invalid ones too; with coordinates as CXSMILES where there are."""
        Chem = need("rdkit.Chem", to="write SMILES", extra="molecules")
        found = []
        for one in self.drawn:
            mol = one.raw if one.mol is None else one.mol
            if mol is None:
                found.append("")
            elif mol.GetNumConformers():
                found.append(Chem.MolToCXSmiles(mol))
            else:
                found.append(Chem.MolToSmiles(mol))
        return found

    @classmethod
    def of_texts(cls, texts: Sequence[str], nothing: str = NOTHING) -> "Generated":
        """What `texts` wrote, without seed; ``nothing`` is the reason given where a text is empty or cannot be read."""
        Chem = need("rdkit.Chem", to="read SMILES", extra="molecules")
        rules = Chem.SmilesParserParams()
        rules.sanitize = rules.removeHs = False
        drawn = []
        for text in texts:
            raw = Chem.MolFromSmiles(text, rules) if text else None
            if raw is None:
                drawn.append(Drawn(None, None, nothing))
                continue
            raw.UpdatePropertyCache(strict=False)
            checked = sanitise(raw)
            drawn.append(Drawn(raw, checked.mol, checked.reason))
        return cls(tuple(drawn))
