"""Molecules to torch_geometric's `Data` and back, in the features of its ``from_rdmol``; dense batches to sparse."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ornstein.core.optional import need
from ornstein.domains.molecules.pairs import num_pairs, pair_indices, pair_mask

if TYPE_CHECKING:
    from rdkit.Chem import Mol
    from torch_geometric.data import Batch, Data

__all__ = ["dense_state", "mol_of_data", "properties_of_data", "sparse_batch", "to_data"]

TO = {"to": "exchange molecules with torch_geometric", "extra": "molecules"}


def to_data(mol: "Mol", properties: Mapping[str, float] | None = None) -> "Data":
    """A molecule as torch_geometric's `Data`.

    Args:
        mol: sanitised.
        properties: by name.

    Returns:
        ``x`` ``(n, 9)``, ``edge_index`` and ``edge_attr`` ``(2 bonds, 3)`` as torch_geometric numbers them (see its
        ``utils.smiles``), ``smiles``, ``pos`` ``(n, 3)`` where the molecule has coordinates, and ``y`` ``(1, P)`` of
        the properties. The isotopes of atoms are in ``smiles`` alone.
    """
    data = need("torch_geometric.utils.smiles", **TO).from_rdmol(mol)
    data.smiles = need("rdkit.Chem", **TO).MolToSmiles(mol)
    if mol.GetNumConformers():
        data.pos = torch.tensor(mol.GetConformer().GetPositions(), dtype=torch.float32)
    if properties:
        data.y = torch.tensor([list(properties.values())], dtype=torch.float32)
    return data


def mol_of_data(data: "Data") -> "Mol":
    """The molecule of a `Data`: of its features if they are torch_geometric's, of its ``smiles`` otherwise.

    Features that are torch_geometric's keep the order of atoms, so that ``pos`` becomes coordinates. Stereo and
    isotopes are those of ``smiles``, where it is the same molecule. Other data (``z`` and one-hot bonds, such as QM9's)
    are read by ``smiles`` alone, without ``pos``, whose order is another.

    Raises:
        ValueError: neither is there, or the features make no molecule.
    """
    Chem = need("rdkit.Chem", **TO)
    smiles = getattr(data, "smiles", None)
    x, bonds = getattr(data, "x", None), getattr(data, "edge_attr", None)
    if x is None or bonds is None or x.ndim != 2 or x.shape[1] != 9 or bonds.shape[1:] != (3,):
        if not isinstance(smiles, str):
            raise ValueError("neither SMILES nor the features of torch_geometric's from_smiles")
        mol = Chem.MolFromSmiles(smiles)
        if mol is None:
            raise ValueError("invalid SMILES")
        return mol
    mol = _from_features(Chem, data)
    if isinstance(smiles, str) and (whole := Chem.MolFromSmiles(smiles)) is not None:
        order = whole.GetSubstructMatch(mol)
        if len(order) == whole.GetNumAtoms() == mol.GetNumAtoms():
            mol = Chem.RenumberAtoms(whole, list(order))
    if (pos := getattr(data, "pos", None)) is not None and tuple(pos.shape) == (mol.GetNumAtoms(), 3):
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.SetPositions(pos.detach().cpu().double().numpy())
        mol.AddConformer(conformer, assignId=True)
    return mol


def properties_of_data(data: "Data") -> dict[str, float | None]:
    """The entries of ``y``, called ``y``, or ``y0``, ``y1``, ... of several; None for NaN."""
    y = getattr(data, "y", None)
    if y is None:
        return {}
    values = torch.as_tensor(y).reshape(-1).tolist()
    names = ["y"] if len(values) == 1 else [f"y{i}" for i in range(len(values))]
    return {name: None if value != value else float(value) for name, value in zip(names, values)}


def sparse_batch(state: Mapping[str, Tensor], mask: Mapping[str, Tensor] | None = None) -> "Batch":
    """A dense batch of graphs as torch_geometric's `Batch`, for networks that pass messages along bonds alone.

    Args:
        state: ``{"atoms": (B, N), "bonds": (B, N (N - 1) / 2)}``, and ``"positions"`` ``(B, N, 3)`` where there are.
        mask: what is real, by name; all without one.

    Returns:
        ``x`` ``(sum of n,)`` int64, the categories of the real atoms; ``edge_index`` ``(2, E)`` of the bonds in both
        directions, and ``edge_attr`` ``(E,)``, their categories above 0; ``batch`` and ``ptr``; ``pos``.
    """
    atoms, bonds = state["atoms"], state["bonds"]
    real = torch.ones_like(atoms, dtype=torch.bool) if mask is None else mask["atoms"]
    numbers = (real.flatten().cumsum(0) - 1).view(real.shape)  # of each atom among all real ones
    rows, columns = pair_indices(atoms.shape[1], atoms.device)
    sample, pair = ((bonds > 0) & pair_mask(real)).nonzero(as_tuple=True)
    ends = torch.stack([numbers[sample, rows[pair]], numbers[sample, columns[pair]]])
    kinds = bonds[sample, pair]
    counts = real.sum(1)
    positions = {"pos": state["positions"][real]} if "positions" in state else {}
    return need("torch_geometric.data", **TO).Batch(
        x=atoms[real],
        edge_index=torch.cat([ends, ends.flip(0)], 1),
        edge_attr=torch.cat([kinds, kinds]),
        batch=torch.arange(len(atoms), device=atoms.device).repeat_interleave(counts),
        ptr=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        **positions,
    )


def dense_state(batch: "Batch", width: int | None = None) -> dict[str, Any]:
    """What `sparse_batch` was made of, ``{"atoms", "bonds", "mask"}``, with the real atoms first.

    Args:
        batch: categories as `sparse_batch` gives them; bonds in both directions or one.
        width: atoms to pad to; the largest graph's when not given.

    Raises:
        ValueError: a width that is too small.
    """
    sizes = batch.ptr.diff()
    width = int(sizes.max()) if width is None else width
    if width < int(sizes.max()):
        raise ValueError(f"width={width}: expected at least {int(sizes.max())} atoms")
    real = torch.arange(width, device=sizes.device) < sizes[:, None]
    atoms = torch.zeros(real.shape, dtype=torch.int64, device=sizes.device)
    atoms[real] = batch.x
    bonds = atoms.new_zeros(len(sizes), num_pairs(width))
    sample = batch.batch[batch.edge_index[0]]
    i, j = (batch.edge_index - batch.ptr[sample]).sort(0).values
    bonds[sample, i * width - i * (i + 1) // 2 + j - i - 1] = batch.edge_attr
    return {"atoms": atoms, "bonds": bonds, "mask": {"atoms": real, "bonds": pair_mask(real)}}


def _from_features(Chem: Any, data: "Data") -> "Mol":
    maps = need("torch_geometric.utils.smiles", **TO)
    mol = Chem.RWMol()
    try:
        for row in data.x.long().tolist():
            atom = Chem.Atom(maps.x_map["atomic_num"][row[0]])
            atom.SetFormalCharge(maps.x_map["formal_charge"][row[3]])
            atom.SetNoImplicit(True)
            atom.SetNumExplicitHs(maps.x_map["num_hs"][row[4]])
            atom.SetNumRadicalElectrons(maps.x_map["num_radical_electrons"][row[5]])
            atom.SetIsAromatic(maps.x_map["is_aromatic"][row[7]])
            mol.AddAtom(atom)
        for (i, j), (kind, *_) in zip(data.edge_index.t().tolist(), data.edge_attr.long().tolist()):
            if i < j:
                mol.AddBond(i, j, getattr(Chem.BondType, maps.e_map["bond_type"][kind]))
                mol.GetBondBetweenAtoms(i, j).SetIsAromatic(maps.e_map["bond_type"][kind] == "AROMATIC")
        Chem.SanitizeMol(mol)
    except (IndexError, RuntimeError, OverflowError, AttributeError) as error:
        raise ValueError(f"features that make no molecule ({' '.join(str(error).split())[:80]})") from error
    return mol.GetMol()
