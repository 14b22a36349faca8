"""Molecules of files and objects, with their properties, and a report that names each record that was refused."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.checking import quiet, sanitised
from ornstein.domains.molecules.interop import mol_of_data, properties_of_data
from ornstein.domains.molecules.records import Kind, RawRecord, raw_records
from ornstein.domains.molecules.rules import MoleculeRules

__all__ = ["MoleculeReader", "Molecules", "ReadingReport", "Record", "Refusal", "read_molecules"]

SHOWN = 5  # numbers of records that a report shows for each reason


class Record(NamedTuple):
    """A molecule that was read.

    Attributes:
        number: of its record in the source.
        mol: sanitised.
        smiles: canonical.
        name: empty for none.
        properties: that came with it; text or numbers, None where empty.
    """

    number: int
    mol: Any
    smiles: str
    name: str
    properties: dict[str, Any]


class Refusal(NamedTuple):
    """A record that was not taken.

    Attributes:
        number: of the record in its source.
        reason: why, the same for like ones.
        detail: what is special to this one.
        text: the record's beginning.
    """

    number: int
    reason: str
    detail: str = ""
    text: str = ""


@dataclass
class ReadingReport:
    """What became of the records of a source.

    Attributes:
        unit: what a record is: ``line``, ``record``, ``row`` or ``item``.
        total: records, ``taken + len(refused)``.
        taken: molecules.
        refused: each record that was not taken.
        duplicates: records whose molecule had come before, taken or refused.
        changed: how many molecules were changed, by what was done.
    """

    unit: str
    total: int = 0
    taken: int = 0
    refused: list[Refusal] = field(default_factory=list)
    duplicates: int = 0
    changed: Counter[str] = field(default_factory=Counter)

    @property
    def counts(self) -> dict[str, int]:
        """How many records were refused, by reason, most frequent first."""
        return dict(Counter(refusal.reason for refusal in self.refused).most_common())

    def refuse(self, number: int, reason: str, detail: str = "", text: str = "") -> None:
        """Note a record that is not taken."""
        self.refused.append(Refusal(number, reason, detail, text))

    def __str__(self) -> str:
        lines = [f"{self.total} {self.unit}s: {self.taken} molecules taken, {len(self.refused)} refused"]
        for reason, count in self.counts.items():
            which = [str(refusal.number) for refusal in self.refused if refusal.reason == reason]
            more = ", ..." if count > SHOWN else ""
            plural = "s" if count > 1 else ""
            lines.append(f"  {reason}: {count} ({self.unit}{plural} {', '.join(which[:SHOWN])}{more})")
        lines += [f"  {change}: {count} (taken)" for change, count in self.changed.items()]
        if self.duplicates:
            lines.append(f"  came before: {self.duplicates}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Molecules:
    """Molecules in memory, with what came with them.

    Attributes:
        mols: sanitised RDKit molecules.
        smiles: canonical, of each.
        names: of each, empty for none.
        numbers: of their records in the source.
        properties: by name, one of each molecule; None where it has none.
        report: what was refused.
    """

    mols: list[Any]
    smiles: list[str]
    names: list[str]
    numbers: list[int]
    properties: dict[str, list[Any]]
    report: ReadingReport

    def __len__(self) -> int:
        return len(self.mols)

    def __getitem__(self, index: int) -> Any:
        return self.mols[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.mols)


class MoleculeReader:
    """Reads molecules one by one, so that they need not all be in memory; ``report`` fills meanwhile.

    Args:
        source: a file, a list or a table; see `records`.
        rules: which molecules to take.
        kind, smiles, name: as in `raw_records`.
        hydrogens: of molblocks and molecules given: ``"remove"`` those that need not be atoms, or ``"keep"``.

    Raises:
        FileNotFoundError, TypeError, ValueError: as `raw_records`.

    Example:
        >>> reader = MoleculeReader(["CCO", "C[Na]", "C(", "OCC"])
        >>> [record.smiles for record in reader]
        ['CCO', 'CCO']
        >>> print(reader.report)
        4 items: 2 molecules taken, 2 refused
          metals: 1 (item 1)
          SMILES syntax: 1 (item 2)
          came before: 1
    """

    def __init__(
        self,
        source: Any,
        rules: MoleculeRules = MoleculeRules(),  # noqa: B008 (frozen)
        *,
        kind: Kind | None = None,
        smiles: str | None = None,
        name: str | None = None,
        hydrogens: Literal["remove", "keep"] = "remove",
    ) -> None:
        require(hydrogens in ("remove", "keep"), "hydrogens", hydrogens, "'remove' or 'keep'")
        self.rules, self.hydrogens = rules, hydrogens
        self._records, unit, self._form = raw_records(source, kind=kind, smiles=smiles, name=name)
        self._first: dict[str, int] = {}
        self.report = ReadingReport(unit)

    def __iter__(self) -> Iterator[Record]:
        """The molecules that are taken. To be gone through once."""
        Chem = need("rdkit.Chem", to="read molecules", extra="molecules")
        report = self.report
        with quiet():
            for raw in self._records:
                report.total += 1
                text = raw.content[:80] if isinstance(raw.content, str) and self._form != "molblock" else raw.name[:80]
                mol, reason, detail = self._molecule(Chem, raw)
                if mol is None:
                    report.refuse(raw.number, reason, detail, text)
                    continue
                admitted = self.rules.admit(mol)
                if admitted.mol is None:
                    report.refuse(raw.number, admitted.reason, admitted.detail, text)
                    continue
                smiles = Chem.MolToSmiles(admitted.mol)
                first = self._first.setdefault(smiles, raw.number)
                if first != raw.number:
                    report.duplicates += 1
                    if self.rules.duplicates == "refuse":
                        report.refuse(raw.number, "came before", f"{report.unit} {first}", text)
                        continue
                report.taken += 1
                report.changed.update(admitted.changes)
                properties = dict(raw.properties) if raw.properties else {}
                if self._form == "object" and hasattr(raw.content, "edge_index"):
                    properties = properties_of_data(raw.content)
                elif self._form == "object" and isinstance(raw.content, Chem.Mol):
                    properties = {key: admitted.mol.GetProp(key) for key in admitted.mol.GetPropNames()}
                name = raw.name or (admitted.mol.GetProp("_Name") if admitted.mol.HasProp("_Name") else "")
                yield Record(raw.number, admitted.mol, smiles, name, properties)

    def _molecule(self, Chem: Any, raw: RawRecord) -> tuple[Any, str, str]:
        """The sanitised molecule of a record, or None, the reason and its figures."""
        content = raw.content
        if raw.problem:
            return None, raw.problem, raw.detail
        if self._form == "molblock":
            keep = self.hydrogens == "keep"
            if (mol := Chem.MolFromMolBlock(content, removeHs=not keep)) is not None:
                return mol, "", ""
            rough = Chem.MolFromMolBlock(content, sanitize=False, removeHs=False)
            return None, "unreadable molblock" if rough is None else sanitised(rough)[1], ""
        if isinstance(content, str):
            if not content.strip():
                return None, "empty", ""
            if len(content.split()) > 1 and " |" not in content:
                return None, "SMILES syntax", "a space"
            if (mol := Chem.MolFromSmiles(content)) is not None:
                return mol, "", ""
            rough = Chem.MolFromSmiles(content, sanitize=False)
            return None, "SMILES syntax" if rough is None else sanitised(rough)[1], ""
        if content is None:
            return None, "no molecule", ""
        return self._given(Chem, content)

    def _given(self, Chem: Any, content: Any) -> tuple[Any, str, str]:
        """A sanitised copy of a molecule that was given as an object."""
        if hasattr(content, "edge_index"):
            try:
                return mol_of_data(content), "", ""
            except ValueError as error:
                return None, "no molecule in the data", " ".join(str(error).split())
        if not isinstance(content, Chem.Mol):
            return None, "neither SMILES nor molecule", type(content).__name__
        mol, reason = sanitised(content)
        if mol is not None and self.hydrogens == "remove" and mol.GetNumAtoms() > mol.GetNumHeavyAtoms():
            mol = Chem.RemoveHs(mol)
        return mol, reason, ""


def read_molecules(
    source: Any,
    rules: MoleculeRules = MoleculeRules(),  # noqa: B008 (frozen)
    *,
    kind: Kind | None = None,
    smiles: str | None = None,
    name: str | None = None,
    hydrogens: Literal["remove", "keep"] = "remove",
    properties: Sequence[str] | None = None,
) -> Molecules:
    """The molecules of a source, all in memory.

    Args:
        source, rules, kind, smiles, name, hydrogens: as in `MoleculeReader`.
        properties: names of those to keep; all when not given.

    Raises:
        FileNotFoundError, TypeError, ValueError: as `raw_records`; or a property that no molecule has.

    Example:
        >>> found = read_molecules({"smiles": ["CCO", "CC.O"], "boiling": [78.4, None]})
        >>> found.smiles, found.properties
        (['CCO'], {'boiling': [78.4]})
        >>> found.report.refused
        [Refusal(number=1, reason='several fragments', detail='2, such as in salts', text='CC.O')]
    """
    reader = MoleculeReader(source, rules, kind=kind, smiles=smiles, name=name, hydrogens=hydrogens)
    records = list(reader)
    found = list(dict.fromkeys(key for record in records for key in record.properties))
    if lost := [key for key in properties or () if key not in found]:
        raise ValueError(f"no molecule has the property {lost[0]!r}; there are {', '.join(found) or 'none'}")
    return Molecules(
        [record.mol for record in records],
        [record.smiles for record in records],
        [record.name for record in records],
        [record.number for record in records],
        {
            key: [_number(record.properties.get(key)) for record in records]
            for key in (found if properties is None else properties)
        },
        reader.report,
    )


def _number(value: Any) -> Any:
    """Text as a number where it is one."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
