"""Molecules to files: SMILES, CSV, Parquet and SDF with coordinates in the plane or in space."""

import csv
import gzip
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.geometry import draw_flat, embed
from ornstein.domains.molecules.records import KINDS

__all__ = ["write_molecules"]

Coordinates = Literal["given", "2d", "3d"]


def write_molecules(
    path: str | Path,
    mols: Sequence[Any],
    *,
    names: Sequence[str] | None = None,
    properties: Mapping[str, Sequence[Any]] | None = None,
    coordinates: Coordinates = "given",
    seed: int = 0,
) -> Path:
    """Write molecules in the form that the suffix says, to be read by `read_molecules`; ``.gz`` behind it compresses.

    Args:
        path: ``.smi``, ``.csv``, ``.tsv``, ``.parquet`` or ``.sdf``.
        mols: RDKit molecules or SMILES.
        names: of each. A file of SMILES has them behind a tab, a table in the column ``name``.
        properties: by name, one of each molecule; None and NaN are left empty. A file of SMILES cannot hold any.
        coordinates: of SDF: ``"given"`` ones, or a drawing where a molecule has none; a drawing, ``"2d"``; in space,
            ``"3d"``: those given, or else by `embed`, with hydrogens.
        seed: of `embed`.

    Returns:
        The path.

    Raises:
        ValueError: another suffix, a molecule that is None, invalid or cannot be embedded, names or properties of
            another number, or text that the form cannot hold.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "found.smi"
        >>> write_molecules(file, ["OCC", "C"], names=["ethanol", "methane"]).read_text()
        'CCO\\tethanol\\nC\\tmethane\\n'
    """
    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    kind = KINDS.get("".join((suffixes[:-1] if zipped else suffixes)[-1:]))
    require(kind is not None, "path", str(path), f"one of the suffixes {', '.join(KINDS)}")
    require(coordinates in ("given", "2d", "3d"), "coordinates", coordinates, "'given', '2d' or '3d'")
    found = [_molecule(mol, number) for number, mol in enumerate(mols)]
    columns = {name: list(values) for name, values in (properties or {}).items()}
    for what, values in (("names", names), *columns.items()):
        if values is not None and len(values) != len(found):
            raise ValueError(f"{what} has {len(values)} entries for {len(found)} molecules; give one each")
    if kind == "smiles":
        if columns:
            raise ValueError(f"{path}: a file of SMILES holds no properties ({', '.join(columns)}); write .csv or .sdf")
        content = _smiles(found, names)
    elif kind == "sdf":
        content = _sdf(found, names, columns, coordinates, seed)
    else:
        table = _table(found, names, columns)
        if kind == "parquet":
            return _write_parquet(path, table)
        content = _csv(table, "," if kind == "csv" else "\t")
    data = content.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if zipped else data)
    return path


def _molecule(mol: Any, number: int) -> Any:
    Chem = need("rdkit.Chem", to="write molecules", extra="molecules")
    if isinstance(mol, str):
        if (found := Chem.MolFromSmiles(mol)) is None:
            raise ValueError(f"mols[{number}]={mol!r} is no valid SMILES; leave it out")
        return found
    if not isinstance(mol, Chem.Mol):
        raise ValueError(f"mols[{number}] is {mol!r}: expected an RDKit Mol or SMILES; leave out what was not built")
    return mol


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _smiles(mols: Sequence[Any], names: Sequence[str] | None) -> str:
    Chem = need("rdkit.Chem", to="write molecules", extra="molecules")
    lines = [Chem.MolToSmiles(mol) for mol in mols]
    if names is not None:
        if wrong := [name for name in names if len(name.splitlines()) > 1]:
            raise ValueError(f"name {wrong[0]!r} has several lines; give one")
        lines = [f"{smiles}\t{name}" if name else smiles for smiles, name in zip(lines, names)]
    return "".join(f"{line}\n" for line in lines)


def _table(mols: Sequence[Any], names: Sequence[str] | None, columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    Chem = need("rdkit.Chem", to="write molecules", extra="molecules")
    table: dict[str, list[Any]] = {"smiles": [Chem.MolToSmiles(mol) for mol in mols]}
    if names is not None:
        table["name"] = list(names)
    if taken := [name for name in columns if name in table]:
        raise ValueError(f"a property is called {taken[0]!r}, as a column of the file is; rename it")
    return {**table, **{name: [None if _absent(v) else v for v in values] for name, values in columns.items()}}


def _csv(table: Mapping[str, list[Any]], delimiter: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(["" if value is None else value for value in row] for row in zip(*table.values()))
    return text.getvalue()


def _write_parquet(path: Path, table: Mapping[str, list[Any]]) -> Path:
    pyarrow = need("pyarrow", to="write Parquet files", extra="molecules")
    need("pyarrow.parquet", to="write Parquet files", extra="molecules").write_table(pyarrow.table(dict(table)), path)
    return path


def _sdf(
    mols: Sequence[Any], names: Sequence[str] | None, columns: Mapping[str, list[Any]], coordinates: str, seed: int
) -> str:
    Chem = need("rdkit.Chem", to="write molecules", extra="molecules")
    if wrong := [name for name in columns if set("<>\n") & set(name)]:
        raise ValueError(f"property {wrong[0]!r}: SDF holds no names with '<', '>' or line ends; rename it")
    parts = []
    for number, mol in enumerate(mols):
        placed = Chem.Mol(_placed(mol, number, coordinates, seed))
        if names is not None:
            placed.SetProp("_Name", names[number])
        try:
            parts.append(Chem.MolToMolBlock(placed))
        except ValueError as error:
            raise ValueError(f"mols[{number}] cannot be written as a molblock ({error})") from error
        for name, values in columns.items():
            if not _absent(values[number]):
                parts.append(f">  <{name}>\n{_item(values[number], name, number)}\n\n")
        parts.append("$$$$\n")
    return "".join(parts)


def _item(value: Any, name: str, number: int) -> str:
    text = str(value)
    if any(not line.strip() or line.startswith(("$$$$", ">")) for line in text.split("\n")):
        raise ValueError(
            f"{name} of mols[{number}] is {text[:40]!r}: SDF holds no blank lines, '$$$$' or '>' in a value"
        )
    return text


def _placed(mol: Any, number: int, coordinates: str, seed: int) -> Any:
    """The molecule with the coordinates asked for."""
    given = mol.GetNumConformers() > 0
    if coordinates == "2d" or (coordinates == "given" and not given):
        return draw_flat(mol)
    if coordinates == "given" or (given and mol.GetConformer().Is3D()):
        return mol
    embedded = embed(mol, seed=seed)
    if embedded.mol is None:
        raise ValueError(f"mols[{number}] cannot be put in space: {embedded.reason}; give coordinates='2d'")
    return embedded.mol
