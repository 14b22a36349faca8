"""All figures at once are those of the judges; floors, reasons, what is left out; the page and its pictures."""

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

Chem = pytest.importorskip("rdkit.Chem")

from rdkit.Chem import AllChem  # noqa: E402

from ornstein.domains.molecules import judges  # noqa: E402
from ornstein.domains.molecules.judges.distinct import KnownMolecules  # noqa: E402
from ornstein.domains.molecules.judges.fcd import chemnet_moments, fcd_between  # noqa: E402
from ornstein.domains.molecules.judges.figures import molecule_grid, property_histograms  # noqa: E402
from ornstein.domains.molecules.judges.guacamol import guacamol_divergences  # noqa: E402
from ornstein.domains.molecules.judges.moses import moses_diversity, moses_floor, moses_scores  # noqa: E402
from ornstein.domains.molecules.judges.nspdk import nspdk_mmd  # noqa: E402
from ornstein.domains.molecules.judges.page import molecule_report  # noqa: E402
from ornstein.domains.molecules.judges.reference import MosesReference  # noqa: E402
from ornstein.domains.molecules.judges.report import MEASURES, judge_molecules, score_rows  # noqa: E402

REAL = [f"{'C' * n}{tail}" for n in range(1, 7) for tail in ("O", "N", "c1ccccc1", "C(=O)Nc1ccccc1", "C1CCNCC1")]
MADE = ["CCO", "OCC", "CCCc1ccccc1", "CCCC(=O)Nc1ccccc1", "C1CCNCC1C", "CCCCS"]
SAMPLES = [*MADE, "CN(C)(C)C", None, "CC.O"]


@pytest.fixture(scope="module")
def reference():
    return MosesReference.of(REAL, name="real")


@pytest.fixture(scope="module")
def solids():
    made = []
    for smiles in ("CCO", "CC(=O)N", "C1CCCC1", "c1ccccc1", "CCC", "CO", "CCN", "CC=O"):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        assert AllChem.EmbedMolecule(mol, randomSeed=5) == 0
        AllChem.MMFFOptimizeMolecule(mol)
        made.append(mol)
    return made


def test_figures_are_those_of_the_judges(reference):
    measures = ("validity", "diversity", "moses", "guacamol", "nspdk")
    judged = judge_molecules(SAMPLES, REAL, reference, measures)
    valid = [Chem.MolFromSmiles(smiles) for smiles in [*MADE, "CC.O"]]
    assert (judged["n"], judged["n_valid"], judged["kind"]) == (9, 7, "parse")
    assert judged["validity/parse"] == pytest.approx(7 / 9)
    assert judged["validity/relaxed"] == pytest.approx(8 / 9)
    assert judged["validity/strict"] == pytest.approx(6 / 9)
    assert judged["unique"] == pytest.approx(6 / 7)  # CCO twice
    # Known are CCO, CCCc1ccccc1 and CCCC(=O)Nc1ccccc1.
    assert judged["novel"] == pytest.approx(3 / 6)
    assert judged["vun"] == pytest.approx(3 / 9)
    assert "unique@1000" not in judged
    expected = moses_scores(valid, reference) | moses_diversity(valid)
    assert {name: judged[name] for name in expected} == pytest.approx(expected, nan_ok=True)
    assert judged["floors"]["n/real"] == 7
    floor = moses_floor(reference, 7)
    assert {name: judged["floors"][name] for name in floor} == pytest.approx(floor, nan_ok=True)
    drawn, rest = reference.split(7)
    real = [Chem.MolFromSmiles(smiles) for smiles in rest.smiles[::3][:7]]
    assert judged["nspdk/real"] == pytest.approx(nspdk_mmd(valid, real))
    assert judged["floors"]["nspdk/real"] == pytest.approx(nspdk_mmd(drawn, real))
    assert judged["kl_MolLogP/real"] == pytest.approx(guacamol_divergences(valid, real)["MolLogP"])
    assert judged["reasons"]["parse"] == {"valence 4 of N": 1, "not built": 1}
    assert judged["left_out"] == {}
    json.dumps(judged)  # plain data


def test_the_kind_of_validity_decides_what_is_judged_further(reference):
    judged = judge_molecules(SAMPLES, None, reference, ("validity", "moses"), kind="relaxed", floors=False)
    assert (judged["kind"], judged["n_valid"]) == ("relaxed", 8)
    assert judged["floors"] == {}
    assert "novel" not in judged
    known = KnownMolecules.of(["C[N+](C)(C)C"])
    assert judge_molecules(["CN(C)(C)C", "C"], known, None, ("validity",), kind="relaxed")["novel"] == 0.5


def test_what_cannot_be_had_is_said_or_refused(reference, monkeypatch):
    judged = judge_molecules([None, "", "C"], reference=reference)
    assert judged["n_valid"] == 1
    assert {name: judged["left_out"][name] for name in ("diversity", "moses")} == dict.fromkeys(
        ("diversity", "moses"), "1 valid molecules of kind 'parse'"
    )
    assert judge_molecules(["C", "CC"])["left_out"]["moses"] == "no reference was given"
    with pytest.raises(ValueError, match="reference=None: expected real molecules, which 'moses' compares with"):
        judge_molecules(["C", "CC"], measures=("moses",))
    with pytest.raises(ValueError, match="measures='beauty'"):
        judge_molecules(["C"], measures=("beauty",))
    with pytest.raises(ValueError, match="kind='loose'"):
        judge_molecules(["C"], kind="loose")
    with pytest.raises(ValueError, match="names of references"):
        judge_molecules(["C", "CC"], reference=[reference, reference])
    monkeypatch.setattr("ornstein.domains.molecules.judges.report.find_spec", lambda name: None)
    assert "molsets" in judge_molecules(["C", "CC"])["left_out"]["filters"]


def test_a_list_is_a_reference():
    judged = judge_molecules(MADE, reference=REAL, measures=("moses",))
    assert (
        judged["snn/reference"]
        == moses_scores([Chem.MolFromSmiles(x) for x in MADE], MosesReference.of(REAL))["snn/reference"]
    )


def test_positions_are_judged_as_they_are(solids):
    measures = ("stability", "geometry", "checks")
    judged = judge_molecules([*solids, None], reference=solids, measures=measures)
    assert judged["atom_stability/valence"] == 1
    assert judged["molecule_stability/valence"] == judged["molecule_stability/midi"] == pytest.approx(8 / 9)
    assert judged["molecule_stability/edm"] == pytest.approx(7 / 9)  # benzene's bonds are too long for double ones
    assert judged["w1_bond_length"] == judged["w1_torsion"] == pytest.approx(0, abs=1e-12)
    assert judged["floors"]["w1_bond_angle"] > 0
    assert judged["checks"] == pytest.approx(8 / 9)
    assert judged["reasons"]["checks"] == {"sanitised": 1}
    with pytest.raises(TypeError, match=r"samples\[0\] is a SMILES"):
        judge_molecules(["C"], measures=("checks",))
    with pytest.raises(ValueError, match=r"samples\[0\]='no positions'"):
        judge_molecules([Chem.MolFromSmiles("C")], measures=("checks",))
    with pytest.raises(ValueError, match="a list of molecules with conformers"):
        judge_molecules(solids, reference=REAL, measures=("geometry",))
    flat = judge_molecules([Chem.AddHs(Chem.MolFromSmiles("CC"))], measures=("stability",))
    assert flat["atom_stability/valence"] == 1
    assert "atom_stability/edm" not in flat


@pytest.mark.skipif(find_spec("fcd_torch") is None, reason="no fcd-torch")
def test_fcd_with_its_floor(reference):
    with pytest.raises(ValueError, match="no moments of ChemNet"):
        judge_molecules(["CC", "CCC"], reference=reference, measures=("fcd",), floors=False)
    judged = judge_molecules(MADE, reference=REAL, measures=("fcd",))
    molecules, real = ([Chem.MolFromSmiles(smiles) for smiles in side] for side in (MADE, REAL))
    assert judged["fcd/reference"] == pytest.approx(fcd_between(chemnet_moments(molecules), chemnet_moments(real)))
    drawn, rest = MosesReference.of(REAL, name="reference").split(len(MADE))
    others = [Chem.MolFromSmiles(smiles) for smiles in rest.smiles]
    floor = fcd_between(chemnet_moments(drawn), chemnet_moments(others))
    assert judged["floors"]["fcd/reference"] == pytest.approx(floor, rel=1e-6)
    assert judged["fcd_score/reference"] == pytest.approx(math.exp(-0.2 * judged["fcd/reference"]))


def test_rows_show_the_floor_beside(reference):
    rows = score_rows(judge_molecules(SAMPLES, REAL, reference, ("validity", "moses")))
    assert ["n", "9", ""] in rows
    assert ["validity/parse", "0.7778", ""] in rows
    assert all(len(row) == 3 for row in rows)
    assert next(row for row in rows if row[0] == "snn/real")[2] != ""


def test_page(tmp_path, reference):
    judged = judge_molecules(SAMPLES, REAL, reference, ("validity", "moses"))
    path = molecule_report(SAMPLES, judged, tmp_path / "page.html", reference=reference, title="A <run>")
    text = path.read_text(encoding="utf-8")
    assert "A &lt;run&gt;" in text
    assert text.count("data:image/png;base64") == 2
    for words in ("valence 4 of N: 1", "several components: 1", "largest_fragment", "snn/real"):
        assert words in text
    with pytest.raises(ValueError, match="samples=2: expected the 9"):
        molecule_report(["C", "C"], judged, tmp_path / "other.html")
    none = judge_molecules([None, "x("])
    empty = molecule_report([None, "x("], none, tmp_path / "empty.html").read_text(encoding="utf-8")
    assert "data:image" not in empty
    assert "Left out" in empty


def png_size(content):
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def test_pictures(solids):
    odd = [Chem.MolFromSmiles(smiles) for smiles in ("C", "[Na+].[Cl-]", "C" * 150, "[H][H]", "[U]")]
    assert png_size(molecule_grid([*odd, *solids], columns=4, size=(100, 80))) == (400, 320)
    assert png_size(molecule_grid(odd[:1], captions=["one"], size=(100, 80))) == (100, 80)
    assert len(molecule_grid([odd[0]] * 60, size=(40, 40))) > 0
    assert solids[0].GetNumConformers() == 1  # nothing is changed
    values = {name: np.random.default_rng(0).standard_normal(50) for name in ("logP", "QED", "mine")}
    assert png_size(property_histograms(values, {"logP": np.zeros(3)}))[0] > 400
    with pytest.raises(ValueError, match="one a molecule"):
        molecule_grid(odd, captions=["one"])
    with pytest.raises(ValueError, match="molecules='none'"):
        molecule_grid([])
    with pytest.raises(ValueError, match="at least one property"):
        property_histograms({})


def test_names_are_loaded_when_used():
    assert sorted(judges.__all__) == dir(judges)
    for name in judges.__all__:
        assert not isinstance(getattr(judges, name), ModuleType)  # which a module of the same name would be
    with pytest.raises(AttributeError, match="nothing"):
        judges.nothing  # noqa: B018
    assert set(MEASURES) > {"validity", "moses"}
    code = (
        "import sys; from ornstein.domains.molecules.judges.report import judge_molecules; "
        "assert not {'rdkit', 'matplotlib', 'scipy', 'fcd_torch'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
