"""Input as it comes: salts, isotopes, radicals, metals, giants, nothing, nonsense, repeats, charges and broken files.

Through the data modules, each record is taken or refused by its number, with a count at the end; through the tasks,
what a model cannot hold is refused in one line.
"""

import warnings

import pytest
import torch
from molecule_models import SMILES, small

from ornstein.core.nn import TokenTransformer
from ornstein.domains.molecules.data import MoleculeData
from ornstein.domains.molecules.diffusion import MoleculeDiffusion
from ornstein.domains.molecules.rules import MoleculeRules
from ornstein.domains.molecules.space import ConformerData

pytest.importorskip("rdkit")
pytest.importorskip("selfies")
from rdkit import Chem

GIANT = "C" * 200
LINES = [
    "CCO", "[Na+].[Cl-]", "CC(=O)[O-].[Na+]", "[13CH4]", "C[CH2]", "C[Hg]C", "[Fe]", GIANT, "", "C1CC",
    "not a molecule", "CC(C)(C)(C)C", "OCC", "CCO", "C[N+](C)(C)C", "[O-]C(=O)C[NH3+]", "c1ccccc1", "*CC", "CCN", "C#N",
]  # fmt: skip
REFUSED = {
    2: "several fragments", 3: "several fragments", 4: "isotopes", 5: "radicals", 6: "metals", 7: "metals",
    8: "more than 100 heavy atoms", 9: "empty", 10: "SMILES syntax", 11: "SMILES syntax", 12: "valence 5 of C",
    13: "came before", 14: "came before", 18: "dummy atoms",
}  # fmt: skip
TAKEN = ["CCO", "C[N+](C)(C)C", "[NH3+]CC(=O)[O-]", "c1ccccc1", "CCN", "C#N"]
ALL = MoleculeRules(fragments="keep", isotopes="keep", radicals="keep", metals="keep", max_heavy_atoms=None)


def model_of(data):
    """A small model, of either representation."""
    if data.representation == "graph":
        return small(data)
    torch.manual_seed(0)
    network = TokenTransformer(
        len(data.facts.vocabulary), sized=True, causal=True, timed=False, width=32, depth=1, head_width=16
    )
    return MoleculeDiffusion.for_data(data, network=network).eval()


def read(source, **options):
    """A data module that keeps nothing back, its reports and the warnings on the way."""
    data = MoleculeData(source, heldout=0, validation=0, batch_size=4, **options)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        _ = data.facts
    return data, data.reports["molecules"], [str(one.message) for one in said if one.category is UserWarning]


@pytest.mark.parametrize("representation", ["graph", "selfies"])
def test_each_line_is_taken_or_named(representation, tmp_path):
    file = tmp_path / "some.smi"
    file.write_text("\n".join(LINES) + "\n")
    data, report, said = read(file, representation=representation)
    assert {one.number: one.reason for one in report.refused} == REFUSED
    assert data.train_dataset().smiles == TAKEN
    assert (report.total, report.taken, report.duplicates) == (20, 6, 2)
    assert len(said) == 1
    assert said[0].startswith("molecules: 14 of 20 lines are left out (")
    drawn = model_of(data).generate(3, seed=0)
    assert len(drawn) == 3


@pytest.mark.parametrize("representation", ["graph", "selfies"])
def test_what_the_rules_let_in_comes_back(representation):
    """Salts, isotopes, radicals, metals, giants and charges are held, or named where the representation has no room."""
    data, report, _ = read(LINES, representation=representation, rules=ALL)
    lost = {one.number - (report.unit == "line"): one.reason for one in report.refused}
    taken = [Chem.CanonSmiles(text) for number, text in enumerate(LINES) if number not in lost]
    assert data.train_dataset().smiles == taken
    assert {8, 9, 10, 11, 17} <= set(lost)
    if representation == "graph":
        assert set(lost) == {8, 9, 10, 11, 17}
    for start in range(0, len(taken), 4):
        batch = data.train_dataset().__getitems__(list(range(start, min(start + 4, len(taken)))))
        model = model_of(data)
        example = model.encode(batch)
        mask = example.mask["atoms"] if representation == "graph" else example.mask
        drawn = model.decode(example.state, mask.sum(1))
        assert [Chem.CanonSmiles(text) for text in drawn.smiles] == taken[start : start + 4]


@pytest.mark.parametrize("representation", ["graph", "selfies"])
def test_what_a_model_does_not_know_is_refused_by_its_tasks(representation):
    data, _, _ = read(SMILES, representation=representation)
    model = model_of(data)
    for text in ("[Na+].[Cl-]", "[13CH4]", "C[Hg]C", "[Fe]", "C1CC", "CC(C)(C)(C)C", "Br"):
        with pytest.raises(ValueError, match="molecule 1") as said:
            model.encode(["CC", text])
        assert "\n" not in str(said.value)
    for nothing in ([], [None]):
        with pytest.raises((ValueError, TypeError)) as said:
            model.encode(nothing)
        assert "\n" not in str(said.value)


def test_scaffolds_that_cannot_be_are_refused_in_a_line():
    data, _, _ = read(SMILES)
    model = model_of(data)
    for text in ("[Na+].[Cl-]", "[13CH4]", "C[Hg]C", "[Fe]", "C1CC", "CC(C)(C)(C)C", "Br", GIANT, "", "not a molecule"):
        for task in (lambda given: model.decorate(given, 1), lambda given: model.link([given, "CC"], 1)):
            with pytest.raises(ValueError, match=r"\w") as said:
                task(text)
            assert "\n" not in str(said.value)
            assert len(str(said.value)) < 400
    for text in ("C1CC", "C[Hg]C", "", "not a molecule"):
        with pytest.raises(ValueError, match=r"\w") as said:
            model.optimise(text, "QED", rounds=1, num=2)
        assert "\n" not in str(said.value)


def test_sources_without_a_molecule_say_why(tmp_path):
    for name, content in (("empty.smi", ""), ("lines.smi", "\n\n"), ("bad.smi", "C1CC\n[Na+].[Cl-]\n"), ("no.sdf", "")):
        file = tmp_path / name
        file.write_text(content)
        for representation in ("graph", "selfies"):
            data = MoleculeData(file, heldout=0, validation=0, representation=representation)
            with pytest.raises(ValueError, match="molecule") as said:
                _ = data.facts
            assert "\n" not in str(said.value)


def test_broken_records_of_sdf_are_named(tmp_path):
    blocks = {text: Chem.MolToMolBlock(Chem.MolFromSmiles(text)) for text in ("CCO", "CCN", "c1ccccc1")}
    file = tmp_path / "some.sdf"
    broken = blocks["CCN"][:60]
    file.write_text(f"{blocks['CCO']}$$$$\n{broken}\n$$$$\n$$$$\n{blocks['CCO']}$$$$\n{blocks['c1ccccc1']}$$$$\n")
    expected = {2: "no end of the molblock", 3: "empty", 4: "came before"}
    for representation in ("graph", "selfies"):
        data, report, said = read(file, representation=representation)
        assert {one.number: one.reason for one in report.refused} == expected
        assert data.train_dataset().smiles == ["CCO", "c1ccccc1"]
        assert len(said) == 1
        assert "3 of 5 records are left out" in said[0]


def test_broken_records_in_space_are_named(tmp_path):
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    block, flat = Chem.MolToMolBlock(mol), Chem.MolToMolBlock(Chem.MolFromSmiles("CCN"))
    file = tmp_path / "some.sdf"
    file.write_text(f"{block}$$$$\n{block[:80]}\n$$$$\n{flat}$$$$\n")
    data = ConformerData(file, heldout=0, validation=0, batch_size=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(data.train_dataset()) == 1
    report = data.report
    assert [one.number for one in report.refused] == [2, 3]
    assert all(one.reason for one in report.refused)
