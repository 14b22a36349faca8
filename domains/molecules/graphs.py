"""Molecules as graphs of categories, many in memory, and back.

A molecule of ``n`` atoms is ``n`` categories of atoms and one category for each of its bonds. In memory they lie one
behind the other; a batch is dense, the state of the processes:

    {"atoms": (B, N), "bonds": (B, N (N - 1) / 2)},    pairs as in `pairs`, 0 where padded.
"""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.molecules.atoms import atoms_of, bonds_of
from ornstein.domains.molecules.building import build_molecule, sanitise
from ornstein.domains.molecules.pairs import num_atoms, num_pairs, pair_mask
from ornstein.domains.molecules.ragged import ragged, starts_of
from ornstein.domains.molecules.stereo import has_stereo, stereo_labels
from ornstein.domains.molecules.vocabulary import BASE_BONDS, BOND_ORDERS, AtomKind, GraphForm, Vocabulary

__all__ = ["GraphCollector", "Graphs", "collate", "decode_graphs", "encode_graph", "graph_of"]

BOND_NAMES = tuple(BOND_ORDERS)  # a bond's number before there is a vocabulary
NUMBERS = {name: number for number, name in enumerate(BOND_NAMES)}

Batch = dict[str, Any]


@lru_cache(maxsize=1)
def _rdkit() -> tuple[Any, dict[Any, str], dict[int, str]]:
    Chem = need("rdkit.Chem", to="read molecules", extra="molecules")
    names = {getattr(Chem.BondType, name.upper()): name for name in BOND_NAMES if name.isalpha() and name != "none"}
    table = Chem.GetPeriodicTable()
    return Chem, names, {number: table.GetElementSymbol(number) for number in range(1, 119)}


def graph_of(mol: Any, form: GraphForm = GraphForm()) -> tuple[list[AtomKind], list[tuple[int, int, str]]]:  # noqa: B008
    """The atoms of a molecule and its bonds: first atom, second atom, name.

    With stereo, the molecule is built again from its graph, so that nothing is lost that labels cannot hold. Atom map
    numbers and coordinates are not part of the graph.

    Args:
        mol: sanitised.
        form: how to write it; without stereo, all stereo is left out.

    Raises:
        ValueError: a bond of another kind, a dummy atom, stereo that labels cannot hold, or a molecule that RDKit has
            not sanitised.
    """
    Chem, names, symbols = _rdkit()
    if form.hydrogens == "explicit":
        mol = Chem.AddHs(mol, addCoords=True)
    elif mol.GetNumAtoms() > mol.GetNumHeavyAtoms():
        mol = Chem.Mol(mol)
        if not form.stereo:
            Chem.RemoveStereochemistry(mol)  # hydrogens that hold the geometry of a double bond would stay
        mol = Chem.RemoveHs(mol)
    original = mol = _numbered(mol) if form.ordered else Chem.Mol(mol)
    labels, sides = stereo_labels(mol) if form.stereo and has_stereo(mol) else (None, None)
    if not form.aromatic:
        mol = Chem.Mol(mol) if form.stereo else mol
        Chem.Kekulize(mol, clearAromaticFlags=True)
    atoms = atoms_of(mol)
    fixed = _fixed_hydrogens(mol, atoms) if form.hydrogens == "implicit" else {}
    kinds = []
    for i, atom in enumerate(atoms):
        if (symbol := symbols.get(atom.GetAtomicNum())) is None:
            raise ValueError("a dummy atom")
        parts = symbol, atom.GetFormalCharge(), fixed.get(i), atom.GetNumRadicalElectrons(), atom.GetIsotope()
        kinds.append(_kind(*parts, labels.get(i, "") if labels else ""))
    bonds = []
    for k, bond in enumerate(bonds_of(mol)):
        if (name := names.get(bond.GetBondType())) is None:
            raise ValueError(f"a bond of type {str(bond.GetBondType()).lower()}")
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        name = f"double {sides[k]}" if sides and k in sides else name
        bonds.append((i, j, name) if i < j else (j, i, name))
    if labels is not None:
        again = sanitise(build_molecule(kinds, bonds, form)).mol
        if again is None or Chem.MolToSmiles(again) != Chem.MolToSmiles(original):
            raise ValueError("stereo that labels R, S, E and Z do not hold")
    return kinds, bonds


_kind = lru_cache(maxsize=4096)(AtomKind)


def _numbered(mol: Any) -> Any:
    """The molecule with its atoms in the order of its canonical SMILES."""
    Chem, *_ = _rdkit()
    Chem.MolToSmiles(mol)
    return Chem.RenumberAtoms(mol, list(mol.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"]))


def _fixed_hydrogens(mol: Any, atoms: Sequence[Any]) -> dict[int, int]:
    """The hydrogens on atoms that have others than RDKit would give them without being told, by atom."""
    told = [i for i, atom in enumerate(atoms) if atom.GetNoImplicit() or atom.GetNumExplicitHs()]
    if not told:
        return {}
    free = type(mol)(mol)
    for i in told:
        atom = free.GetAtomWithIdx(i)
        atom.SetNoImplicit(False)
        atom.SetNumExplicitHs(0)
    free.UpdatePropertyCache(strict=False)
    counts = {i: atoms[i].GetTotalNumHs() for i in told}
    return {i: n for i, n in counts.items() if free.GetAtomWithIdx(i).GetTotalNumHs() != n}


@dataclass(frozen=True, eq=False)
class Graphs:
    """Molecules as graphs, one behind the other.

    Attributes:
        atoms: ``(sum of n,)`` int16, categories.
        starts: ``(M + 1,)`` int64, where each molecule's atoms begin.
        ends: ``(sum of bonds, 2)`` int16, the atoms of each bond within its molecule, the smaller first.
        kinds: ``(sum of bonds,)`` int16, categories above 0.
        bond_starts: ``(M + 1,)`` int64, where each molecule's bonds begin.
    """

    atoms: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    kinds: np.ndarray
    bond_starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def sizes(self) -> np.ndarray:
        """``(M,)``, atoms of each molecule."""
        return np.diff(self.starts)

    def batch(self, indices: Sequence[int] | np.ndarray, width: int | None = None) -> Batch:
        """Some molecules as a dense batch ``{"atoms", "bonds", "mask": {"atoms", "bonds"}}``.

        Args:
            indices: which.
            width: atoms to pad to; the largest of them when not given.

        Raises:
            ValueError: a width that is too small.
        """
        rows, places, sizes = ragged(self.starts, indices)
        width = int(sizes.max(initial=1)) if width is None else width
        require(width >= sizes.max(initial=1), "width", width, f"at least {sizes.max(initial=1)} atoms")
        atoms = np.zeros((len(sizes), width), dtype=np.int64)
        mask = np.arange(width) < sizes[:, None]
        atoms[mask] = self.atoms[places]  # both are in the order of rows, then atoms
        rows, places, _ = ragged(self.bond_starts, indices)
        i, j = self.ends[places].T.astype(np.int64)
        bonds = np.zeros((len(sizes), num_pairs(width)), dtype=np.int64)
        bonds[rows, i * width - i * (i + 1) // 2 + j - i - 1] = self.kinds[places]
        real = torch.from_numpy(mask)
        return {
            "atoms": torch.from_numpy(atoms),
            "bonds": torch.from_numpy(bonds),
            "mask": {"atoms": real, "bonds": pair_mask(real)},
        }

    def subset(self, indices: Sequence[int] | np.ndarray) -> "Graphs":
        """Some molecules, in the order given."""
        _, atoms, sizes = ragged(self.starts, indices)
        _, bonds, counts = ragged(self.bond_starts, indices)
        return Graphs(self.atoms[atoms], starts_of(sizes), self.ends[bonds], self.kinds[bonds], starts_of(counts))


class GraphCollector:
    """Gathers molecules as graphs; the vocabulary is known when all are there.

    Args:
        form: how to write them.

    Example:
        >>> from rdkit import Chem
        >>> collector = GraphCollector()
        >>> for smiles in ("CCO", "C[N+](C)(C)C"):
        ...     collector.add(Chem.MolFromSmiles(smiles))
        >>> vocabulary = collector.vocabulary()
        >>> vocabulary.atoms
        ('C', 'N+', 'O')
        >>> collector.graphs(vocabulary)[0].sizes
        array([3, 5])
    """

    def __init__(self, form: GraphForm = GraphForm()) -> None:  # noqa: B008 (frozen)
        self.form = form
        self._numbers: dict[AtomKind, int] = {}
        self._atoms, self._ends, self._kinds = array("H"), array("H"), array("B")
        self._sizes, self._counts = array("Q"), array("Q")

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, mol: Any) -> None:
        """Add a molecule.

        Raises:
            ValueError: as `graph_of`.
        """
        kinds, bonds = graph_of(mol, self.form)
        numbers = self._numbers
        self._atoms.extend([numbers.setdefault(kind, len(numbers)) for kind in kinds])
        for i, j, name in bonds:
            self._ends.extend((i, j))
            self._kinds.append(NUMBERS[name])
        self._sizes.append(len(kinds))
        self._counts.append(len(bonds))

    def counts(self, rows: Sequence[int] | np.ndarray | None = None) -> Counter[str]:
        """How many molecules have atoms of each category; of those with the numbers ``rows``, or all."""
        raw = self._raw()
        raw = raw if rows is None else raw.subset(rows)
        kinds = max(len(self._numbers), 1)
        # One entry for each category that a molecule has.
        seen = np.unique(np.repeat(np.arange(len(raw)), raw.sizes) * kinds + raw.atoms) % kinds
        found = np.bincount(seen, minlength=kinds)
        return Counter({str(kind): n for kind, number in self._numbers.items() if (n := int(found[number]))})

    def vocabulary(self, min_count: int = 1, rows: Sequence[int] | np.ndarray | None = None) -> Vocabulary:
        """The categories of the molecules that were added, most frequent first.

        Args:
            min_count: how many molecules must have a category of atoms.
            rows: numbers of the molecules to learn from; all when not given.

        Raises:
            ValueError: no category is that frequent.
        """
        counts = self.counts(rows)
        atoms = tuple(name for name in sorted(counts, key=lambda n: (-counts[n], n)) if counts[name] >= min_count)
        if not atoms:
            raise ValueError(f"no atoms that {min_count} molecules have: expected some; give another min_count")
        raw = self._raw()
        kinds = raw.kinds if rows is None else raw.subset(rows).kinds
        seen = {BOND_NAMES[number] for number in np.unique(kinds)}
        bonds = tuple(name for name in BOND_NAMES if name in seen or name in BASE_BONDS)
        return Vocabulary(atoms, bonds, self.form)

    def _raw(self) -> Graphs:
        """All molecules, numbered as they came and not as in any vocabulary."""
        return Graphs(
            np.array(self._atoms, dtype=np.int32),
            starts_of(np.array(self._sizes, dtype=np.int64)),
            np.array(self._ends, dtype=np.int16).reshape(-1, 2),
            np.array(self._kinds, dtype=np.uint8),
            starts_of(np.array(self._counts, dtype=np.int64)),
        )

    def graphs(self, vocabulary: Vocabulary) -> tuple[Graphs, dict[int, str]]:
        """All molecules in the categories of a vocabulary, and those that it cannot hold: number and reason.

        Molecules are numbered from 0 as they were added; those left out are not among the graphs.
        """
        known = {kind: number for number, kind in enumerate(vocabulary.kinds)}
        atom_table = np.array([known.get(kind, -1) for kind in self._numbers], dtype=np.int16)
        bond_table = np.array(
            [vocabulary.bonds.index(name) if name in vocabulary.bonds else -1 for name in BOND_NAMES], dtype=np.int16
        )
        raw = self._raw()
        atoms = atom_table[raw.atoms] if len(raw.atoms) else np.zeros(0, dtype=np.int16)
        whole = replace(raw, atoms=atoms, kinds=bond_table[raw.kinds])
        names, left_out = list(self._numbers), {}
        for starts, values, name in (
            (whole.bond_starts, whole.kinds, lambda place: f"a bond '{BOND_NAMES[raw.kinds[place]]}'"),
            (whole.starts, whole.atoms, lambda place: f"an atom '{names[raw.atoms[place]]}'"),
        ):
            for place in np.flatnonzero(values < 0)[::-1]:
                row = int(np.searchsorted(starts, place, side="right")) - 1
                left_out[row] = f"{name(place)}, which is not in the vocabulary"
        if not left_out:
            return whole, {}
        kept = np.setdiff1d(np.arange(len(whole)), list(left_out))
        return whole.subset(kept), left_out


def encode_graph(mol: Any, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """One molecule in the categories of a vocabulary, ``{"atoms": (n,), "bonds": (n (n - 1) / 2,)}``, int64.

    Raises:
        ValueError: as `graph_of`, or a category that the vocabulary has not.
    """
    collector = GraphCollector(vocabulary.form)
    collector.add(mol)
    graphs, left_out = collector.graphs(vocabulary)
    if left_out:
        raise ValueError(f"the molecule has {left_out[0]} ({', '.join(vocabulary.atoms)})")
    batch = graphs.batch([0])
    return {"atoms": batch["atoms"][0], "bonds": batch["bonds"][0]}


def collate(graphs: Sequence[Mapping[str, Tensor]], width: int | None = None) -> Batch:
    """Single graphs, as `encode_graph` gives them, as a dense batch with masks; see `Graphs.batch`.

    Raises:
        ValueError: a width that is too small.
    """
    sizes = torch.tensor([len(graph["atoms"]) for graph in graphs])
    largest = int(sizes.max())
    width = largest if width is None else width
    require(width >= largest, "width", width, f"at least {largest} atoms")
    mask = torch.arange(width) < sizes[:, None]
    pairs = pair_mask(mask)
    atoms, bonds = torch.zeros(mask.shape, dtype=torch.int64), torch.zeros(pairs.shape, dtype=torch.int64)
    for row, graph in enumerate(graphs):
        atoms[row, mask[row]] = graph["atoms"]
        bonds[row, pairs[row]] = graph["bonds"]
    return {"atoms": atoms, "bonds": bonds, "mask": {"atoms": mask, "bonds": pairs}}


def decode_graphs(
    state: Mapping[str, Tensor], vocabulary: Vocabulary, mask: Mapping[str, Tensor] | Tensor | None = None
) -> list[Any]:
    """Dense states as molecules, as they are: not sanitised, which is for `sanitise`.

    Args:
        state: ``{"atoms": (B, N), "bonds": (B, N (N - 1) / 2)}``.
        vocabulary: what the categories mean.
        mask: by name, or of the atoms ``(B, N)``; what is real. All of it without one.

    Raises:
        ValueError: categories that are not in the vocabulary, or atoms and bonds of sizes that do not fit.
    """
    atoms, bonds = state["atoms"].cpu(), state["bonds"].cpu()
    if num_atoms(bonds.shape[1]) != atoms.shape[1] and atoms.shape[1] > 0:
        raise ValueError(f"{bonds.shape[1]} pairs of {atoms.shape[1]} atoms: expected {num_pairs(atoms.shape[1])}")
    for name, values, known in (("atoms", atoms, vocabulary.atoms), ("bonds", bonds, vocabulary.bonds)):
        if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < len(known):
            raise ValueError(f"{name} from {int(values.min())} to {int(values.max())}: expected 0 to {len(known) - 1}")
    real = mask["atoms"] if isinstance(mask, Mapping) else mask
    real = torch.ones_like(atoms, dtype=torch.bool) if real is None else real.cpu()
    bonds = bonds.masked_fill(~pair_mask(real), 0)
    rows, columns = np.triu_indices(atoms.shape[1], 1)
    places = (real.cumsum(1) - 1).numpy()
    found = []
    for row in range(len(atoms)):
        kinds = [vocabulary.kinds[number] for number in atoms[row, real[row]].tolist()]
        orders = bonds[row].numpy()
        some = np.flatnonzero(orders)
        names = [vocabulary.bonds[number] for number in orders[some].tolist()]
        i, j = places[row, rows[some]].tolist(), places[row, columns[some]].tolist()
        found.append(build_molecule(kinds, list(zip(i, j, names)), vocabulary.form))
    return found
