"""Molecules in space: fragments, their geometries, and data modules that keep atoms and positions together."""

import numpy as np
import pytest
import torch

from ornstein.core.config import from_config, to_config
from ornstein.domains.molecules.building import sanitise
from ornstein.domains.molecules.fragments import cut_fragments
from ornstein.domains.molecules.geometry import draw_flat, embed
from ornstein.domains.molecules.graphs import decode_graphs
from ornstein.domains.molecules.sources import FragmentData, moses_smiles
from ornstein.domains.molecules.space import ConformerData, SpaceData
from ornstein.domains.molecules.vocabulary import GraphForm

pytest.importorskip("rdkit")
from rdkit import Chem

SMILES = ["CCO", "CC(=O)C", "c1ccoc1", "CCC", "C1CC1C", "CC(C)C", "C#CC", "COC", "OCCO", "CC=C"]


@pytest.fixture(scope="module")
def placed():
    return [embed(Chem.MolFromSmiles(smiles)).mol for smiles in SMILES]


def needs_moses():
    from importlib.util import find_spec

    if find_spec("moses") is None:
        pytest.skip("MOSES is missing: pip install --no-deps molsets")


def test_fragments_are_joined_pieces_with_hydrogens():
    ester = Chem.MolFromSmiles("CCOC(=O)c1ccccc1")
    expected = ["CCO", "CCOC=O", "O=C(O)c1ccccc1", "O=CO", "O=Cc1ccccc1", "c1ccccc1"]
    assert cut_fragments(ester) == expected
    assert cut_fragments(ester, 9, 1) == sorted([*expected, "C=O", "CC", "O"])
    assert cut_fragments(Chem.MolFromSmiles("C" * 12)) == []
    assert cut_fragments(Chem.MolFromSmiles("CCCO")) == ["CCCO"]
    nitrogen = cut_fragments(Chem.MolFromSmiles("c1ccccc1Cn1cccc1"))
    assert "c1cc[nH]c1" in nitrogen
    with pytest.raises(ValueError, match="1 to 9"):
        cut_fragments(ester, 9, 10)


def test_fragments_are_no_larger_than_asked_and_occur_in_their_molecule():
    needs_moses()
    for smiles in moses_smiles("train", 100):
        whole = Chem.MolFromSmiles(smiles)
        for fragment in cut_fragments(whole, 9, 3):
            mol = Chem.MolFromSmiles(fragment)
            assert 3 <= mol.GetNumAtoms() <= 9
            assert fragment == Chem.MolToSmiles(mol)
            assert whole.HasSubstructMatch(mol), (smiles, fragment)


def test_geometries_are_relaxed_and_repeat():
    first, again = (embed(Chem.MolFromSmiles("c1ccccc1"), seed=3) for _ in range(2))
    assert not first.reason
    positions = first.mol.GetConformer().GetPositions()
    np.testing.assert_array_equal(positions, again.mol.GetConformer().GetPositions())
    np.testing.assert_allclose(positions.mean(0), 0, atol=1e-6)
    lengths = [np.linalg.norm(positions[i] - positions[(i + 1) % 6]) for i in range(6)]
    np.testing.assert_allclose(lengths, 1.395, atol=0.01)
    assert first.mol.GetNumAtoms() == 12
    assert embed(Chem.MolFromSmiles("C[Hg]C")).reason == "atoms that MMFF94 does not know"
    assert not draw_flat(Chem.MolFromSmiles("CCO")).GetConformer().Is3D()


def test_atoms_and_positions_stay_together(placed):
    data = ConformerData(placed, heldout=0.2, validation=0.1, batch_size=4, properties=["heavy_atoms"])
    facts = data.facts
    parts = [data.train_dataset(), data.heldout_dataset(), data.validation_dataset()]
    assert [len(part) for part in parts] == [7, 2, 1]
    assert facts.atoms[:2] == ("C", "H")
    batch = next(iter(data.loader(1)))
    real = batch["mask"]["positions"]
    assert torch.equal(real, batch["mask"]["atoms"])
    assert not batch["positions"][~real].any()
    np.testing.assert_allclose(batch["positions"].sum(1), 0, atol=1e-4)
    part = parts[0]
    batch = part.__getitems__(range(len(part)))
    for row, (mol, built) in enumerate(
        zip(part.mols, decode_graphs(batch, facts.vocabulary, batch["mask"]), strict=True)
    ):
        assert Chem.MolToSmiles(sanitise(built).mol) == Chem.MolToSmiles(mol)
        inside = batch["positions"][row, batch["mask"]["atoms"][row]].double()
        given = torch.from_numpy(mol.GetConformer().GetPositions())
        assert torch.allclose(torch.cdist(inside, inside), torch.cdist(given, given), atol=1e-4)
        symbols = [facts.atoms[k] for k in batch["atoms"][row, batch["mask"]["atoms"][row]]]
        assert symbols == [atom.GetSymbol() for atom in mol.GetAtoms()]
    spread = np.concatenate(
        [m.GetConformer().GetPositions() - m.GetConformer().GetPositions().mean(0) for m in part.mols]
    )
    assert facts.position_scale == pytest.approx(np.sqrt((spread**2).mean()), rel=1e-5)
    assert part.properties["heavy_atoms"].tolist() == [mol.GetNumHeavyAtoms() for mol in part.mols]
    assert batch["properties"].shape == (7, 1)
    assert [Chem.MolToSmiles(m) for m in data.reference().heldout] == [Chem.MolToSmiles(m) for m in parts[1].mols]
    assert from_config(to_config(facts)) == facts


def test_conformers_of_a_molecule_stay_in_one_part(placed):
    twice = [Chem.Mol(mol) for mol in placed for _ in range(2)]
    two = Chem.Mol(placed[0])
    two.AddConformer(two.GetConformer(), assignId=True)
    data = ConformerData([*twice, two], heldout=0.3, validation=0)
    train, heldout = (
        {Chem.MolToSmiles(m) for m in part.mols} for part in (data.train_dataset(), data.heldout_dataset())
    )
    assert not train & heldout
    assert len(data.train_dataset()) + len(data.heldout_dataset()) == 22


def test_what_has_no_place_is_refused_by_number(placed):
    bare = Chem.RemoveHs(placed[0])
    data = ConformerData([placed[0], Chem.MolFromSmiles("CC"), bare, placed[3]], heldout=0, validation=0)
    with pytest.warns(UserWarning, match="2 of 4 items are left out"):
        report = data.report
    assert [(refusal.number, refusal.reason) for refusal in report.refused] == [
        (1, "no coordinates in space"),
        (2, "hydrogens without coordinates"),
    ]
    assert report.taken == 2
    heavy = ConformerData([placed[0], bare], heldout=0, validation=0, form=GraphForm())
    assert heavy.train_dataset().graphs.sizes.tolist() == [3, 3]
    with pytest.raises(ValueError, match="no molecule with a place"):
        _ = ConformerData(["CCO"], heldout=0, validation=0).facts


def test_fragments_of_moses_are_kept_in_a_file(tmp_path):
    needs_moses()
    file = str(tmp_path / "fragments.sdf")
    options = {"count": 20, "max_heavy_atoms": 6, "heldout": 0.2, "validation": 0, "properties": ["energy", "logP"]}
    fresh = FragmentData(**options, file=file)
    parts = [fresh.train_dataset(), fresh.heldout_dataset()]
    again = FragmentData(**options, file=file)
    assert again.facts == fresh.facts
    np.testing.assert_array_equal(again.train_dataset().positions, parts[0].positions)
    assert fresh.report.total == len(parts[0]) + len(parts[1]) > 10
    assert max(mol.GetNumHeavyAtoms() for part in parts for mol in part.mols) == 6
    with pytest.raises(ValueError, match="was made by 'count=20"):
        _ = FragmentData(**{**options, "count": 21}, file=file).facts
    assert to_config(from_config(to_config(fresh), SpaceData)) == to_config(fresh)


@pytest.mark.parametrize(
    "options", [{"count": 0}, {"min_heavy_atoms": 10}, {"min_molecules": 0}, {"heldout": 1}, {"width_step": 0}]
)
def test_options_are_judged(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FragmentData(**options)
