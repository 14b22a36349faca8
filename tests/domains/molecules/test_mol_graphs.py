"""Graphs of molecules are exactly invertible, whatever the order of the atoms."""

import csv
import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from ornstein.core.config import from_config, to_config
from ornstein.domains.molecules.building import build_molecule, sanitise
from ornstein.domains.molecules.facts import MoleculeFacts
from ornstein.domains.molecules.graphs import GraphCollector, collate, decode_graphs, encode_graph, graph_of
from ornstein.domains.molecules.moses import moses_file
from ornstein.domains.molecules.pairs import as_matrix, as_pairs, num_atoms, num_pairs, pair_indices, pair_mask
from ornstein.domains.molecules.scales import PropertyScale
from ornstein.domains.molecules.stereo import put_labels, stereo_labels
from ornstein.domains.molecules.vocabulary import AtomKind, GraphForm, Vocabulary

pytest.importorskip("rdkit")
from rdkit import Chem, RDConfig

FORMS = [
    GraphForm(),
    GraphForm(aromatic=True),
    GraphForm(hydrogens="explicit"),
    GraphForm(stereo=True),
    GraphForm(True, "explicit", True),
    GraphForm(ordered=True),
]

HARD = [
    "[NH4+]", "[CH3]", "[CH2]", "[2H]C([2H])O", "[13CH4]", "c1cc[nH]c1", "O=[PH](O)O", "C[SH](=O)=O", "[H][H]", "[H+]",
    "[Na+].[Cl-]", "C[N+](C)(C)CC(=O)[O-]", "[O-][n+]1ccccc1", "[C-]#[O+]", "[BH4-]", "C[Si](C)(C)C", "C#N", "[Cu+2]",
    "c1ccc2c(c1)[nH]c1ccccc12", "O=c1cc[nH]cc1", "[O]N1C(C)(C)CCCC1(C)C", "FS(F)(F)(F)(F)F", "[nH]1nnnc1", "N", "C",
]  # fmt: skip

STEREO = [
    "C[C@H]1CC[C@@H](C)CC1", "C[C@H]1CC[C@H](C)CC1", "F/C=C/F", "C/C=C\\C", "CC(=N\\O)/c1ccccc1", "C[S@](=O)c1ccccc1",
    "C[C@@H](O)[C@H](O)[C@@H](C)O", "C[C@@H](O)[C@@H](O)[C@H](C)O", "OC[C@H]1O[C@@H](O)[C@H](O)[C@@H](O)[C@@H]1O",
    "C[C@]12CC[C@H]3[C@@H](CCc4cc(O)ccc43)[C@@H]1CC[C@@H]2O", "C/C=C/C=C\\C", "[H]/N=C(/C)N", "F[C@](Cl)(Br)I",
    "C/C=C\\[C@@H](O)/C=C/C", "O[C@H]1[C@H](O)[C@@H](O)[C@@H](O)[C@H](O)[C@@H]1O", "C[P@](=O)(O)c1ccccc1",
]  # fmt: skip


def smiles_of(mol):
    return Chem.MolToSmiles(mol)


def flat(smiles):
    mol = Chem.MolFromSmiles(smiles)
    Chem.RemoveStereochemistry(mol)
    return smiles_of(Chem.RemoveHs(mol))


@pytest.mark.parametrize("smiles", ["Cc1ccc(CC(=O)N2CCOCC2)cc1", "c1ccc2c(c1)[nH]c1ccccc12", "C", "[Na+].[Cl-]"])
def test_ordered_graphs_do_not_depend_on_how_atoms_came(smiles):
    mol, form = Chem.MolFromSmiles(smiles), GraphForm(ordered=True)
    kinds, bonds = graph_of(mol, form)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(mol.GetNumAtoms()).tolist()
        again = graph_of(Chem.RenumberAtoms(mol, order), form)
        assert (again[0], sorted(again[1])) == (kinds, sorted(bonds))
    assert [kind.element for kind in kinds] == [
        atom.GetSymbol() for atom in Chem.MolFromSmiles(smiles_of(mol)).GetAtoms()
    ]


def collected(smiles, form):
    collector = GraphCollector(form)
    for one in smiles:
        collector.add(Chem.MolFromSmiles(one))
    vocabulary = collector.vocabulary()
    graphs, left_out = collector.graphs(vocabulary)
    assert not left_out
    return vocabulary, graphs


def returned(vocabulary, graphs, size=128):
    """Canonical SMILES of all graphs, by way of padded batches."""
    found = []
    for start in range(0, len(graphs), size):
        batch = graphs.batch(np.arange(start, min(start + size, len(graphs))))
        for mol in decode_graphs(batch, vocabulary, batch["mask"]):
            checked = sanitise(mol)
            assert not checked.lost
            found.append(checked.reason or smiles_of(Chem.RemoveHs(checked.mol)))
    return found


def nci(count=None):
    lines = (Path(RDConfig.RDDataDir) / "NCI/first_5K.smi").read_text().splitlines()[:count]
    found = []
    for line in lines:
        mol = Chem.MolFromSmiles(line.split()[0])
        if (
            mol is not None
            and mol.GetNumAtoms()
            and not any(b.GetBondType() == Chem.BondType.DATIVE for b in mol.GetBonds())
        ):
            found.append(smiles_of(mol))
    return found


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_graphs_are_inverted_exactly(form):
    smiles = HARD + STEREO
    expected = [smiles_of(Chem.MolFromSmiles(s)) if form.stereo else flat(s) for s in smiles]
    assert returned(*collected(smiles, form), size=7) == expected


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_first_of_nci_are_inverted_exactly(form):
    smiles = nci(300)
    assert returned(*collected(smiles, form)) == smiles


@pytest.mark.slow
def test_all_of_nci_are_inverted_exactly():
    smiles = nci()
    assert len(smiles) == 4990
    for form in FORMS[:2] + FORMS[-1:]:
        assert returned(*collected(smiles, form)) == smiles


@pytest.mark.slow
@pytest.mark.skipif(find_spec("moses") is None, reason="no MOSES: pip install --no-deps molsets")
def test_the_first_of_moses_are_inverted_exactly():
    with gzip.open(moses_file("dataset/data/train.csv.gz"), "rt") as file:
        smiles = [row["SMILES"] for row, _ in zip(csv.DictReader(file), range(20_000))]
    assert returned(*collected(smiles, GraphForm())) == [smiles_of(Chem.MolFromSmiles(s)) for s in smiles]


@pytest.mark.parametrize("smiles", [*STEREO, "CC(C)(C)c1ccc(Cl)nc1", "C[N+](C)(C)CC(=O)[O-]"])
def test_atoms_may_come_in_any_order(smiles):
    mol, form = Chem.MolFromSmiles(smiles), GraphForm(aromatic=True, stereo=True)
    kinds, bonds = graph_of(mol, form)
    order = np.random.default_rng(0).permutation(mol.GetNumAtoms()).tolist()
    again, other = graph_of(Chem.RenumberAtoms(mol, order), form)
    assert again == [kinds[i] for i in order]
    place = {old: new for new, old in enumerate(order)}
    renamed = {(*sorted((place[i], place[j])), name) for i, j, name in bonds}
    assert set(other) == renamed
    assert smiles_of(sanitise(build_molecule(again, other, form)).mol) == smiles_of(mol)


def test_what_a_graph_cannot_hold_is_refused():
    form = GraphForm(stereo=True)
    with pytest.raises(ValueError, match="stereo that labels"):
        graph_of(Chem.MolFromSmiles("C[C@H]1CC2(C1)C[C@H](C)C2"), form)
    with pytest.raises(ValueError, match="dummy"):
        graph_of(Chem.MolFromSmiles("*CC"))
    with pytest.raises(ValueError, match="dative"):
        graph_of(Chem.MolFromSmiles("N->[Cu]"))
    vocabulary = Vocabulary(("C", "O"))
    with pytest.raises(ValueError, match="an atom 'N', which is not in the vocabulary"):
        encode_graph(Chem.MolFromSmiles("CN"), vocabulary)


def test_rare_categories_leave_their_molecules_out_by_name():
    collector = GraphCollector()
    for smiles in ("CCO", "CO", "CCN", "C", "CC[Se]C"):
        collector.add(Chem.MolFromSmiles(smiles))
    assert collector.counts() == {"C": 5, "O": 2, "N": 1, "Se": 1}
    vocabulary = collector.vocabulary(min_count=2)
    assert vocabulary.atoms == ("C", "O")
    graphs, left_out = collector.graphs(vocabulary)
    assert set(left_out) == {2, 4}
    assert "'N'" in left_out[2]
    assert returned(vocabulary, graphs) == ["CCO", "CO", "C"]
    with pytest.raises(ValueError, match="min_count"):
        collector.vocabulary(min_count=6)


def test_labels_without_a_centre_are_told():
    form = GraphForm(stereo=True)
    kinds = [AtomKind("C", label="R"), AtomKind("C"), AtomKind("O")]
    checked = sanitise(build_molecule(kinds, [(0, 1, "single"), (1, 2, "double E")], form))
    assert smiles_of(checked.mol) == "CC=O"
    assert checked.lost == ("atom 0: R", "bond 1: E")


def test_labels_are_put_back_on_every_stereoisomer():
    from rdkit.Chem.EnumerateStereoisomers import EnumerateStereoisomers

    seen = set()
    for isomer in EnumerateStereoisomers(Chem.MolFromSmiles("CC(O)C(O)C(C)OC=CC1CCC(Cl)CC1")):
        expected = smiles_of(isomer)
        atoms, bonds = stereo_labels(Chem.MolFromSmiles(expected))
        bare = Chem.MolFromSmiles(expected)
        Chem.RemoveStereochemistry(bare)
        assert put_labels(bare, atoms, bonds) == []
        assert smiles_of(bare) == expected
        seen.add(expected)
    assert len(seen) == 32


def test_a_molecule_that_makes_no_sense_is_built_and_refused():
    five = build_molecule([AtomKind("C")] * 6, [(0, i, "single") for i in range(1, 6)], GraphForm())
    assert five.GetNumAtoms() == 6
    checked = sanitise(five)
    assert checked.mol is None
    assert checked.reason == "valence 5 of C"
    ring = build_molecule(
        [AtomKind("C")] * 5, [(i, (i + 1) % 5, "aromatic") for i in range(5)], GraphForm(aromatic=True)
    )
    assert sanitise(ring).mol is None


def test_batches_are_padded_and_masked():
    vocabulary, graphs = collected(["C", "CO", "C=CC", "OC#N"], GraphForm())
    batch = graphs.batch([3, 0, 1], width=5)
    assert batch["atoms"].shape == (3, 5)
    assert batch["bonds"].shape == (3, 10)
    assert batch["mask"]["atoms"].sum(1).tolist() == [3, 1, 2]
    assert batch["mask"]["bonds"].sum(1).tolist() == [3, 0, 1]
    assert torch.equal(batch["mask"]["bonds"], pair_mask(batch["mask"]["atoms"]))
    for part in ("atoms", "bonds"):
        assert not batch[part][~batch["mask"][part]].any()
    triple = vocabulary.bonds.index("triple")
    rows, columns = pair_indices(5)
    [k] = (batch["bonds"][0] == triple).nonzero()[:, 0].tolist()
    assert (int(rows[k]), int(columns[k])) == (1, 2)
    singles = [encode_graph(Chem.MolFromSmiles(s), vocabulary) for s in ("OC#N", "C", "CO")]
    for name, part in collate(singles, width=5).items():
        if name == "mask":
            assert all(torch.equal(part[key], batch["mask"][key]) for key in part)
        else:
            assert torch.equal(part, batch[name])
    wide = [smiles_of(sanitise(m).mol) for m in decode_graphs(batch, vocabulary, batch["mask"]["atoms"])]
    assert wide == ["N#CO", "C", "CO"]
    with pytest.raises(ValueError, match="at least 3 atoms"):
        graphs.batch([3], width=2)
    with pytest.raises(ValueError, match="expected 0 to"):
        decode_graphs({"atoms": torch.full((1, 2), 9), "bonds": torch.zeros(1, 1)}, vocabulary)


def test_pairs_are_the_upper_triangle():
    matrix = torch.arange(25).reshape(1, 5, 5)
    matrix = matrix + matrix.mT
    matrix[0].fill_diagonal_(7)
    assert torch.equal(as_matrix(as_pairs(matrix), diagonal=7), matrix)
    i, j = pair_indices(5)
    assert torch.equal(i * 5 - i * (i + 1) // 2 + j - i - 1, torch.arange(10))
    assert [num_atoms(num_pairs(n)) for n in range(1, 300)] == list(range(1, 300))
    with pytest.raises(ValueError, match="4 pairs"):
        num_atoms(4)


@pytest.mark.parametrize("name", ["C", "N+", "O-", "13C", "SH1", "Fe+3", "CH3-2^1@R", "HH0+", "2H", "Cl@s"])
def test_names_of_atoms_are_read_back(name):
    assert str(AtomKind.parse(name)) == name


@pytest.mark.parametrize("name", ["c", "", "N++", "C@X", "CH", "C "])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="expected a name"):
        AtomKind.parse(name)


def test_vocabularies_are_judged():
    for wrong, match in (
        ({"atoms": ("C", "C")}, "twice"),
        ({"atoms": ()}, "at least one"),
        ({"atoms": ("C@R",)}, "GraphForm\\(stereo=True\\)"),
        ({"atoms": ("C",), "bonds": ("single", "none")}, "'none' first"),
        ({"atoms": ("C",), "bonds": ("none", "aromatic")}, "GraphForm\\(aromatic=True\\)"),
        ({"atoms": ("C",), "bonds": ("none", "singel")}, "did you mean 'single'"),
    ):
        with pytest.raises(ValueError, match=match):
            Vocabulary(**wrong)
    with pytest.raises(ValueError, match="did you mean 'Cl'"):
        Vocabulary(("C", "Cl")).numbers(["Cll"])


def test_facts_are_those_of_the_data():
    smiles = ["CCO", "C=O", "CS(=O)(=O)N", "C"]
    vocabulary, graphs = collected(smiles, GraphForm())
    facts = MoleculeFacts.fit(graphs, vocabulary, {"logP": np.array([1.0, 3.0, np.nan, 5.0])})
    assert facts.sizes == (0, 1, 1, 1, 0, 1)
    parts = dict(zip(facts.atoms, facts.atom_marginals))
    assert parts == pytest.approx({"C": 5 / 11, "O": 4 / 11, "N": 1 / 11, "S": 1 / 11})
    pairs = 3 + 1 + 10
    expected = {"none": (pairs - 7) / pairs, "single": 4 / pairs, "double": 3 / pairs, "triple": 0}
    assert dict(zip(facts.bonds, facts.bond_marginals)) == pytest.approx(expected)
    assert dict(zip(facts.atoms, facts.valences)) == {"C": 2, "O": 2, "N": 1, "S": 6}
    assert facts.largest == 5
    assert facts.properties == (PropertyScale("logP", 3.0, np.sqrt(8 / 3), 1.0, 5.0),)
    scaled, known = facts.scale({"logP": [3.0, np.nan]})
    assert scaled.tolist() == [[0.0], [0.0]]
    assert known.tolist() == [[True], [False]]
    assert facts.unscale(torch.tensor([[1.0]]))["logP"].item() == pytest.approx(3 + np.sqrt(8 / 3))
    with pytest.raises(ValueError, match="did you mean 'logP'"):
        facts.scale({"logp": [1.0]})
    assert from_config(to_config(facts), MoleculeFacts) == facts


def test_facts_of_single_atoms_have_no_bonds():
    vocabulary, graphs = collected(["C", "O"], GraphForm())
    facts = MoleculeFacts.fit(graphs, vocabulary)
    assert facts.bond_marginals == (1, 0, 0, 0)
    assert facts.valences == (0, 0)
