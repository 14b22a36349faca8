"""Stability: bonds by EDM's tables against its stepwise rule, and those of molecules by valences."""

import numpy as np
import pytest

Chem = pytest.importorskip("rdkit.Chem")

from rdkit.Chem import AllChem  # noqa: E402

from ornstein.domains.molecules.judges import stability  # noqa: E402
from ornstein.domains.molecules.judges.stability import (  # noqa: E402
    bond_stability,
    distance_orders,
    distance_stability,
)


def solid(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    AllChem.MMFFOptimizeMolecule(mol, maxIters=2000)
    return mol


@pytest.mark.parametrize(
    ("pair", "length", "order"),
    [
        ("CC", 1.20, 3),
        ("CC", 1.229, 3),
        ("CC", 1.231, 2),
        ("CC", 1.389, 2),
        ("CC", 1.391, 1),
        ("CC", 1.639, 1),
        ("CC", 1.641, 0),
        ("HH", 0.83, 1),
        ("HH", 0.85, 0),
        ("HC", 1.0, 1),
        ("CH", 0.2, 1),  # no double bond of hydrogen, however near
        ("OO", 1.25, 2),
        ("OF", 1.51, 1),
        ("BC", 1.5, 0),  # not in the tables
    ],
)
def test_order_of_a_pair(pair, length, order):
    found = distance_orders(list(pair), np.array([[0, 0, 0], [0, 0, length]]))
    assert found.tolist() == [[0, order], [order, 0]]


def test_tables_hold_each_pair_both_ways():
    assert [len(table) for table in stability._LENGTHS] == [117, 15, 6]
    for table in stability._LENGTHS:
        assert all(table[b, a] == length for (a, b), length in table.items())
    for pair in stability._LENGTHS[1]:  # a double bond is shorter than a single one, a triple one than both
        assert stability._LENGTHS[1][pair] < stability._LENGTHS[0].get(pair, np.inf)
    for pair in stability._LENGTHS[2]:
        assert stability._LENGTHS[2][pair] < stability._LENGTHS[1][pair]


def test_relaxed_molecules_are_stable_by_every_rule():
    molecules = [solid(smiles) for smiles in ("C", "CCO", "C#N", "CC(=O)N", "C1CC1", "CF", "O")]
    for found in (distance_stability(molecules), bond_stability(molecules), bond_stability(molecules, rule="midi")):
        assert (found.atom, found.molecule) == (1, 1)
        assert found.atoms == sum(mol.GetNumAtoms() for mol in molecules)


def test_a_stretched_bond_costs_its_two_atoms():
    mol = solid("C")
    mol.GetConformer().SetAtomPosition(1, [0.0, 0.0, 9.0])
    found = distance_stability([mol, None, solid("O")])
    assert (found.molecules, found.stable_molecules, found.atoms, found.stable_atoms) == (3, 1, 8, 6)
    assert (found.atom, found.molecule) == (6 / 8, 1 / 3)


def stable(smiles, rule="valence"):
    mol = Chem.MolFromSmiles(smiles, sanitize=False)
    mol.UpdatePropertyCache(strict=False)
    return bond_stability([mol], rule=rule).stable_atoms, mol.GetNumAtoms()


@pytest.mark.parametrize(
    ("smiles", "valence", "midi"),
    [
        ("[CH4]", 1, 1),
        ("[CH3]", 0, 1),  # MiDi lets C have three
        ("[NH4+]", 1, 1),
        ("[NH4]", 0, 0),
        ("[NH2+]", 0, 1),  # and N+ two
        ("[OH3+]", 1, 1),
        ("[OH-]", 1, 1),
        ("[SH4]", 1, 0),
        ("[SH6]", 1, 1),
        ("[Cl-]", 1, 0),
        ("[H+]", 1, 1),
        ("[CH3-]", 1, 1),
        ("[BH4-]", 1, 0),
        ("C", 0, 0),  # hydrogens are not written
        ("[U]", 1, 0),  # any number of bonds, for RDKit; unknown to MiDi
    ],
)
def test_valences_by_element_and_charge(smiles, valence, midi):
    assert stable(smiles) == (valence, 1)
    assert stable(smiles, "midi") == (midi, 1)


def test_aromatic_bonds():
    benzene = Chem.AddHs(Chem.MolFromSmiles("c1ccccc1"))
    assert bond_stability([benzene]).molecule == 1
    assert bond_stability([benzene], rule="midi").molecule == 1  # 1 + 1 + 1 of each C
    assert any(bond.GetIsAromatic() for bond in benzene.GetBonds())  # the molecule is left as it was
    assert stable("[cH]1[cH][cH][cH][cH]1") == (0, 5)  # no Kekulé form


def test_bad_input():
    with pytest.raises(ValueError, match="molecules='none'"):
        bond_stability([])
    with pytest.raises(ValueError, match="valence or midi"):
        bond_stability([None], rule="edm")
    with pytest.raises(ValueError, match=r"molecules\[0\]='no positions'"):
        distance_stability([Chem.MolFromSmiles("C")])
    assert distance_stability([None, Chem.Mol()]).atom == 0
