"""Data modules of molecules: what is left out is named, batches are a function of seed and step."""

import numpy as np
import pytest
import torch

from ornstein.core.config import from_config, to_config
from ornstein.domains.molecules.building import sanitise
from ornstein.domains.molecules.data import GraphData, MoleculeData, SelfiesFacts
from ornstein.domains.molecules.descriptors import DESCRIPTORS, property_sources
from ornstein.domains.molecules.graphs import decode_graphs
from ornstein.domains.molecules.interop import dense_state, sparse_batch
from ornstein.domains.molecules.moses import moses_smiles
from ornstein.domains.molecules.rules import MoleculeRules
from ornstein.domains.molecules.selfies import SelfiesCollector, SelfiesVocabulary, selfies_of
from ornstein.domains.molecules.sources import MOSESData, NCIData
from ornstein.domains.molecules.vocabulary import GraphForm

pytest.importorskip("rdkit")
from rdkit import Chem

ALKANES = ["C" * n for n in range(1, 41)]


def needs_moses():
    from importlib.util import find_spec

    if find_spec("moses") is None:
        pytest.skip("MOSES is missing: pip install --no-deps molsets")


def decoded(batch, facts):
    mols = decode_graphs(batch, facts.vocabulary, batch["mask"])
    return [Chem.MolToSmiles(sanitise(mol).mol) for mol in mols]


def test_parts_share_no_molecule_and_lose_none():
    data = MoleculeData([*ALKANES, "CC", "OC"], heldout=0.25, validation=0.1, batch_size=4)
    with pytest.warns(UserWarning, match="molecules: 1 of 42 items are left out \\(1 came before\\)"):
        parts = [data.train_dataset(), data.heldout_dataset(), data.validation_dataset()]
    assert [len(part) for part in parts] == [27, 10, 4]
    together = [smiles for part in parts for smiles in part.smiles]
    assert sorted(together) == sorted([*ALKANES, "CO"])
    assert data.reports["molecules"].taken == 41
    assert data.reference().heldout == parts[1].smiles
    assert data.reference().train == parts[0].smiles
    for part in parts:
        batch = part.__getitems__(range(len(part)))
        assert decoded(batch, data.facts) == part.smiles


def test_batches_are_of_like_size_and_depend_on_the_step_alone():
    data = MoleculeData(ALKANES * 3, heldout=0, validation=0, batch_size=8, rules=MoleculeRules())
    whole = list(data.loader(30, seed=1))
    late = list(data.loader(30, seed=1, start=20))
    for a, b in zip(whole[20:], late, strict=True):
        assert torch.equal(a["atoms"], b["atoms"])
        assert torch.equal(a["mask"]["bonds"], b["mask"]["bonds"])
    waste = sum(int((~batch["mask"]["atoms"]).sum()) for batch in whole[:15])
    free = MoleculeData(ALKANES * 3, heldout=0, validation=0, batch_size=8, rules=MoleculeRules(), bucket=False)
    assert waste < 0.2 * sum(int((~batch["mask"]["atoms"]).sum()) for batch in free.loader(15, seed=1))
    seen = sorted(size for batch in whole[:15] for size in batch["mask"]["atoms"].sum(1).tolist())
    assert seen == sorted(3 * list(range(1, 41)))
    wide = MoleculeData(ALKANES, heldout=0, validation=0, batch_size=8, width_step=8)
    assert all(batch["atoms"].shape[1] % 8 == 0 for batch in wide.loader(10))


def test_dense_batches_are_sparse_ones_of_torch_geometric():
    from torch_geometric.nn import GINEConv

    smiles = ["CCO", "C", "c1ccccc1C#N", "CC(=O)O"]
    data = MoleculeData(smiles, heldout=0, validation=0)
    batch = data.train_dataset().__getitems__([2, 1, 0, 3])
    sparse = sparse_batch({**batch, "positions": torch.randn(4, 8, 3)}, batch["mask"])
    assert sparse.num_graphs == 4
    assert sparse.ptr.tolist() == [0, 8, 9, 12, 16]
    assert sparse.pos.shape == (16, 3)
    assert sparse.num_edges == 2 * (8 + 2 + 3)
    assert sparse.is_undirected()
    one = sparse.batch == 3
    assert [data.facts.atoms[k] for k in sparse.x[one]] == ["C", "C", "O", "O"]
    for name, part in dense_state(sparse).items():
        same = {name: batch[name]} if name != "mask" else batch["mask"]
        assert all(torch.equal(part[key] if name == "mask" else part, value) for key, value in same.items())
    layer = GINEConv(torch.nn.Linear(4, 4), edge_dim=1)
    out = layer(torch.randn(16, 4), sparse.edge_index, sparse.edge_attr[:, None].float())
    assert out.shape == (16, 4)
    with pytest.raises(ValueError, match="at least 8 atoms"):
        dense_state(sparse, width=7)


def test_workers_change_nothing():
    batches = [
        list(MoleculeData(ALKANES, heldout=0, validation=0, batch_size=4, num_workers=workers).loader(3))
        for workers in (0, 1)
    ]
    for a, b in zip(*batches, strict=True):
        assert torch.equal(a["bonds"], b["bonds"])


def test_properties_are_computed_or_came_with_the_molecules():
    table = {"smiles": ["CCO", "CCN", "c1ccccc1", "CC"], "boiling": [78.4, None, 80.1, -88.6], "logP": [9.0, 9, 9, 9]}
    data = MoleculeData(table, heldout=0, validation=0, properties=["logP", "boiling", "rings"], batch_size=4)
    part, facts = data.train_dataset(), data.facts
    assert [scale.name for scale in facts.properties] == ["logP", "boiling", "rings"]
    benzene = part.smiles.index("c1ccccc1")
    assert part.properties["logP"][benzene] == pytest.approx(1.6866)
    assert part.properties["rings"][benzene] == 1
    boiling = np.array([78.4, 80.1, -88.6])
    assert facts.properties[1].mean == pytest.approx(boiling.mean())
    batch = next(iter(data.loader(1)))
    assert batch["properties"].dtype == torch.float32
    assert int((~batch["properties_mask"]).sum()) == 1
    assert not batch["properties"].isnan().any()
    known = batch["properties"][:, 1][batch["properties_mask"][:, 1]].double()
    np.testing.assert_allclose(sorted(known), sorted((boiling - boiling.mean()) / boiling.std()), rtol=1e-5)
    column = MoleculeData(table, heldout=0, validation=0, properties={"logP": None, "atoms": lambda m: m.GetNumAtoms()})
    assert column.train_dataset().properties["logP"].tolist() == [9, 9, 9, 9]
    assert column.train_dataset().properties["atoms"].tolist() == [3, 3, 6, 2]


def test_descriptors_are_rdkits():
    aspirin = Chem.MolFromSmiles("CC(=O)Oc1ccccc1C(=O)O")
    expected = {
        "logP": 1.3101, "QED": 0.5501, "weight": 180.159, "TPSA": 63.6, "rings": 1, "aromatic_rings": 1,
        "heavy_atoms": 13, "donors": 1, "acceptors": 3, "rotatable": 2,
    }  # fmt: skip
    for name, value in expected.items():
        assert DESCRIPTORS[name](aspirin) == pytest.approx(value, abs=1e-3), name
    assert 1 < DESCRIPTORS["SA"](aspirin) < 2
    with pytest.raises(TypeError, match="one string"):
        property_sources("logP")
    with pytest.raises(TypeError, match="a function of a molecule"):
        property_sources({"x": 3})


def test_the_vocabulary_is_trainings_and_others_are_left_out_by_name():
    rare = ["CCI", "CCBr"]
    data = MoleculeData(ALKANES + rare, heldout=["CCC", "CF", "OC"], validation=0, min_count=2, smiles=None)
    with pytest.warns(UserWarning, match="not in the vocabulary"):
        assert data.facts.atoms == ("C",)
    report = data.reports["molecules"]
    assert [(refusal.number, refusal.text) for refusal in report.refused] == [(40, "CCI"), (41, "CCBr")]
    assert report.taken == len(data.train_dataset()) == 40
    assert data.heldout_dataset().smiles == ["CCC"]
    assert [refusal.number for refusal in data.reports["heldout"].refused] == [1, 2]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"representation": "smiles"}, ValueError, "'graph' or 'selfies'"),
        ({"heldout": 0.6, "validation": 0.5}, ValueError, "less than"),
        ({"heldout": 1.0}, ValueError, "heldout"),
        ({"min_count": 0}, ValueError, "min_count"),
        ({"width_step": 0}, ValueError, "width_step"),
        ({"form": GraphForm(stereo=True)}, ValueError, "rules drop it"),
        ({"rules": MoleculeRules(stereo="keep")}, ValueError, "form drops it"),
        ({"properties": "logP"}, TypeError, "one string"),
    ],
)
def test_options_are_judged(options, error, match):
    with pytest.raises(error, match=match):
        MoleculeData(ALKANES, **options)


@pytest.mark.parametrize(
    ("molecules", "options", "match"),
    [
        (["C(", ""], {}, "no molecule is left"),
        (ALKANES, {"properties": ["logp"]}, "did you mean 'logP'"),
        ({"smiles": ["C", "CC"], "a": ["x", "y"]}, {"properties": ["a"]}, "row 0: property 'a' is 'x'"),
        (ALKANES, {"min_count": 100}, "min_count"),
        (["C", "CC"], {"heldout": 0.1}, "give another part"),
    ],
)
def test_data_are_judged_when_read(molecules, options, match):
    with pytest.raises(ValueError, match=match):
        _ = MoleculeData(molecules, **options).facts
    with pytest.raises(ValueError, match="no part 'heldout'"):
        MoleculeData(ALKANES, heldout=0).heldout_dataset()


def test_stereo_is_learned_where_it_is_kept():
    smiles = ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "C/C=C/C", "C/C=C\\C", "CC"]
    options = {"rules": MoleculeRules(stereo="keep", duplicates="refuse"), "form": GraphForm(stereo=True)}
    data = MoleculeData(smiles, heldout=0, validation=0, **options)
    assert {"C@R", "C@S"} <= set(data.facts.atoms)
    assert {"double E", "double Z"} <= set(data.facts.bonds)
    part = data.train_dataset()
    assert decoded(part.__getitems__(range(5)), data.facts) == [Chem.CanonSmiles(s) for s in smiles]
    assert from_config(to_config(data.facts)) == data.facts


def test_nci_is_built_in():
    data = NCIData(batch_size=16)
    with pytest.warns(UserWarning, match="of 4999 lines are left out"):
        facts = data.facts
    report = data.reports["molecules"]
    assert report.taken + len(report.refused) == report.total == 4999
    mols = [Chem.MolFromSmiles(line.split()[0]) for line in data.source().read_text().splitlines() if line.split()]
    assert report.counts["several fragments"] == sum(len(Chem.GetMolFrags(mol)) > 1 for mol in mols if mol is not None)
    assert report.counts["metals"] > 50
    assert facts.largest == 30
    assert {"C", "N", "O", "N+", "O-", "S", "Cl"} <= set(facts.atoms)
    assert dict(zip(facts.atoms, facts.valences))["N+"] == 4
    assert (
        sum(len(part) for part in (data.train_dataset(), data.heldout_dataset(), data.validation_dataset()))
        == report.taken
    )
    batch = next(iter(data.loader(1)))
    kept = set(data.train_dataset().smiles)
    assert set(decoded(batch, facts)) <= kept
    assert to_config(from_config(to_config(data), GraphData)) == to_config(data)


def test_moses_is_read_from_all_over_the_file():
    needs_moses()
    data = MOSESData(count=300, heldout_count=100, validation=0.1, batch_size=32)
    assert data.facts.atoms[:3] == ("C", "N", "O")
    assert len(data.train_dataset()) == 270
    assert len(data.heldout_dataset()) == 100
    assert not data.reports["molecules"].refused
    spread = list(moses_smiles("train", 1000, spread=True))
    assert len(spread) == 1000
    assert len(set(spread)) == 1000
    every = list(moses_smiles("test"))
    few = list(moses_smiles("test", 7, spread=True))
    places = [every.index(text) for text in few]
    assert places == [-(-(k + 1) * len(every) // 7) - 1 for k in range(7)]
    assert list(moses_smiles("test", len(every) + 5, spread=True)) == every
    assert next(moses_smiles("train")) == "CCCS(=O)c1ccc2[nH]c(=NC(=O)OC)[nH]c2c1"
    expected = dict(zip(("none", "single", "double", "triple"), (0.89, 0.08, 0.03, 0)))
    for name, value in zip(data.facts.bonds, data.facts.bond_marginals):
        assert value == pytest.approx(expected[name], abs=0.01)
    small = list(moses_smiles("train", 20, 16))
    assert all(Chem.MolFromSmiles(s).GetNumAtoms() <= 16 for s in small)
    some = [s for s in moses_smiles("test", 300) if Chem.MolFromSmiles(s).GetNumAtoms() <= 18]
    assert list(moses_smiles("test", len(some), 18)) == some
    with pytest.raises(ValueError, match="'train' or 'test'"):
        moses_smiles("valid")


def test_sequences_go_the_same_way():
    smiles = [*ALKANES[:20], "C=CO", "CC#N", "c1ccccc1", "C[N+](C)(C)C"]
    options = {"heldout": 0, "validation": 0, "representation": "selfies", "batch_size": 4}
    data = MoleculeData([*smiles, "FI(F)(F)(F)F"], **options)
    with pytest.warns(UserWarning, match="1 SELFIES do not hold it"):
        facts = data.facts
    assert isinstance(facts, SelfiesFacts)
    assert facts.vocabulary.tokens[:2] == ("[nop]", "[C]")
    assert sum(facts.marginals) == pytest.approx(1)
    assert facts.marginals[0] == 0
    batch = data.train_dataset().__getitems__(range(len(smiles)))
    assert batch["tokens"].shape == batch["mask"].shape
    assert not batch["tokens"][~batch["mask"]].any()
    assert facts.vocabulary.decode_batch(batch["tokens"], batch["mask"]) == [Chem.CanonSmiles(s) for s in smiles]
    assert facts.vocabulary.decode_batch(batch["tokens"]) == [Chem.CanonSmiles(s) for s in smiles]
    assert sum(n * count for n, count in enumerate(facts.sizes)) == int(batch["mask"].sum())
    assert from_config(to_config(facts), SelfiesFacts) == facts


def test_selfies_lose_nothing_of_moses():
    needs_moses()
    collector, smiles = SelfiesCollector(), list(moses_smiles("train", 300))
    for one in smiles:
        collector.add(one)  # compares what comes back
    vocabulary = collector.vocabulary()
    sequences, left_out = collector.sequences(vocabulary)
    assert not left_out
    batch = sequences.batch(range(300), width=60)
    assert vocabulary.decode_batch(batch["tokens"], batch["mask"]) == [Chem.CanonSmiles(s) for s in smiles]


def test_any_tokens_make_a_molecule():
    vocabulary = SelfiesVocabulary(("[nop]", "[C]", "[=C]", "[O]", "[Ring1]", "[=Branch1]", "[N+1]"))
    rows = torch.randint(0, 7, (50, 20))
    assert all(Chem.MolFromSmiles(smiles) is not None for smiles in vocabulary.decode_batch(rows) if smiles)
    assert vocabulary.decode([0, 0]) == ""
    assert vocabulary.encode("C=C").tolist() == [1, 2]
    for wrong, match in ((("[C]",), "first"), (("[nop]", "[C]", "[C]"), "twice"), (("[nop]", "C"), "SELFIES tokens")):
        with pytest.raises(ValueError, match=match):
            SelfiesVocabulary(wrong)
    with pytest.raises(ValueError, match="not in the vocabulary"):
        vocabulary.encode("CS")
    with pytest.raises(ValueError, match="expected 0 to 6"):
        vocabulary.decode([7])
    with pytest.raises(ValueError, match="no valid SMILES"):
        selfies_of("C(")
    assert selfies_of("CCO") == ["[C]", "[C]", "[O]"]
