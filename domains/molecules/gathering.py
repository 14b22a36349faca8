"""A source of molecules to arrays, once: graphs or sequences, SMILES and properties, and what was left out."""

import math
from array import array
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from ornstein.core.config import near
from ornstein.domains.molecules.descriptors import DESCRIPTORS
from ornstein.domains.molecules.graphs import GraphCollector, Graphs
from ornstein.domains.molecules.reading import MoleculeReader, Record
from ornstein.domains.molecules.rules import MoleculeRules
from ornstein.domains.molecules.selfies import SelfiesCollector, SelfiesVocabulary, Sequences
from ornstein.domains.molecules.vocabulary import GraphForm, Vocabulary

__all__ = ["Gathered", "Representation", "Rows", "value_of"]

Representation = Literal["graph", "selfies"]
Rows = Graphs | Sequences


class Gathered:
    """The molecules of a source.

    Args:
        source: see `records`.
        rules: which molecules to take.
        representation: ``"graph"`` or ``"selfies"``.
        form: of graphs.
        properties: by name a function of a molecule, or None for what came with it.
        smiles: column of SMILES in tables.
        pieces: of SELFIES, see `SelfiesCollector`.

    Attributes:
        smiles: canonical, of each molecule.
        numbers: of their records in the source.
        properties: by name ``(M,)`` float64, NaN where a molecule has none.
        report: what was refused.

    Raises:
        ValueError: a property that no molecule has, or that is text; or no molecule at all.
    """

    def __init__(
        self,
        source: Any,
        rules: MoleculeRules,
        representation: Representation,
        form: GraphForm,
        properties: Mapping[str, Callable[[Any], float] | None],
        smiles: str | None,
        pieces: int = 0,
    ) -> None:
        reader = MoleculeReader(source, rules, smiles=smiles)
        self.report = reader.report
        self._collector = GraphCollector(form) if representation == "graph" else SelfiesCollector(pieces)
        self.smiles: list[str] = []
        numbers, values = array("q"), {name: array("d") for name in properties}
        came: set[str] = set()
        for record in reader:
            try:
                self._collector.add(record.mol)
            except ValueError as error:
                self._refuse(record.number, str(error), record.smiles)
                continue
            self.smiles.append(record.smiles)
            numbers.append(record.number)
            came.update(record.properties)
            for name, function in properties.items():
                values[name].append(value_of(record, name, function, self.report.unit))
        self.numbers = np.array(numbers, dtype=np.int64)
        self.properties = {name: np.array(column, dtype=np.float64) for name, column in values.items()}
        if not self.smiles:
            raise ValueError(f"no molecule is left; {' '.join(str(self.report).split())[:300]}")
        for name, function in properties.items():
            if function is None and name not in came:
                known = [*came, *DESCRIPTORS]
                raise ValueError(f"no molecule has the property {name!r}{near(name, known)}; known are {sorted(known)}")

    def __len__(self) -> int:
        return len(self.smiles)

    def vocabulary(self, min_count: int, rows: np.ndarray) -> Vocabulary | SelfiesVocabulary:
        """The categories or tokens of the molecules with the numbers ``rows``."""
        return self._collector.vocabulary(min_count, rows)

    def rows(self, vocabulary: Any) -> tuple[Rows, np.ndarray]:
        """All molecules that a vocabulary can hold, and their numbers; the others are noted as refused."""
        rows: Rows
        if isinstance(self._collector, GraphCollector):
            rows, left_out = self._collector.graphs(vocabulary)
        else:
            rows, left_out = self._collector.sequences(vocabulary)
        for row in sorted(left_out):
            self._refuse(int(self.numbers[row]), left_out[row], self.smiles[row])
        return rows, np.setdiff1d(np.arange(len(self)), list(left_out))

    def _refuse(self, number: int, reason: str, text: str) -> None:
        self.report.taken -= 1
        self.report.refuse(number, reason, text=text)


def value_of(record: Record, name: str, function: Callable[[Any], float] | None, unit: str) -> float:
    value = record.properties.get(name) if function is None else function(record.mol)
    if value is None:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{unit} {record.number}: property {name!r} is {value!r}: expected a number") from None
