"""Uniqueness and novelty by hand; known molecules as hashes."""

import numpy as np
import pytest

Chem = pytest.importorskip("rdkit.Chem")

from ornstein.domains.molecules.judges.distinct import KnownMolecules, molecule_key, novelty, uniqueness  # noqa: E402


def mols(*smiles):
    return [None if text is None else Chem.MolFromSmiles(text) for text in smiles]


def test_uniqueness_counts_molecules_not_strings():
    found = mols("CCO", "OCC", None, "CCN", "CCN", "C")
    assert uniqueness(found) == pytest.approx(3 / 5)
    assert uniqueness(found, 3) == pytest.approx(2 / 3)  # of the first three valid ones
    with pytest.raises(ValueError, match="1 to 5"):
        uniqueness(found, 6)
    with pytest.raises(ValueError, match="none that is valid"):
        uniqueness([None])


def test_novelty_is_of_different_molecules():
    known = KnownMolecules.of(["OCC", "CCC", "C(C)C"])
    assert len(known) == 2
    assert novelty(mols("CCO", "CCO", "CCO", "CN", "CS", None), known) == pytest.approx(2 / 3)
    assert novelty(mols("C"), KnownMolecules.of([])) == 1


def test_canonical_smiles_are_taken_as_they_are_and_checked():
    smiles = [Chem.MolToSmiles(Chem.MolFromSmiles("C" * n + "O")) for n in range(1, 400)]
    fast, slow = KnownMolecules.of(iter(smiles), canonical=True), KnownMolecules.of(smiles)
    assert np.array_equal(fast.hashes, slow.hashes)
    assert fast.hashes.nbytes == 8 * len(smiles)
    with pytest.raises(ValueError, match="'OCC' is not canonical, 'CCO' is"):
        KnownMolecules.of(["CCO", "OCC"], canonical=True)
    with pytest.raises(TypeError, match="lists of SMILES"):
        KnownMolecules.of(mols("C"), canonical=True)


def test_keys_of_inchi_hold_charge_separated_forms_for_one():
    nitro = mols("CN(=O)=O", "C[N+](=O)[O-]")
    assert len({molecule_key(mol, "inchikey") for mol in nitro}) == 1
    tautomers = mols("Cc1c[nH]cn1", "Cc1cnc[nH]1")
    assert uniqueness(tautomers) == 1
    assert uniqueness(tautomers, key="inchikey") == 0.5
    known = KnownMolecules.of(["Cc1c[nH]cn1"], key="inchikey")
    assert novelty(tautomers, known) == 0


def test_what_is_no_molecule_is_named():
    with pytest.raises(ValueError, match=r"molecule 1 .* is no valid molecule \(valence 5 of C\)"):
        KnownMolecules.of(["C", "C(C)(C)(C)(C)C"])
    with pytest.raises(ValueError, match="sorted, each once"):
        KnownMolecules(np.array([2, 1], np.uint64))
    with pytest.raises(ValueError, match="smiles or inchikey"):
        molecule_key(mols("C")[0], "name")
