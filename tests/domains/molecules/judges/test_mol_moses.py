"""MOSES' figures: by hand, against scipy, and against the statistics that MOSES published."""

import csv
import gzip
import pickle
from collections import Counter
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from io import BytesIO

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.stats import wasserstein_distance

Chem = pytest.importorskip("rdkit.Chem")

from rdkit import DataStructs  # noqa: E402
from rdkit.Chem import rdFingerprintGenerator  # noqa: E402

from ornstein.domains.molecules import moses  # noqa: E402
from ornstein.domains.molecules.judges import _moses_files, similarity  # noqa: E402
from ornstein.domains.molecules.judges.filters import check_filters, first_filter  # noqa: E402
from ornstein.domains.molecules.judges.moses import moses_diversity, moses_floor, moses_scores  # noqa: E402
from ornstein.domains.molecules.judges.properties import (  # noqa: E402
    property_distances,
    property_values,
    sa_score,
)
from ornstein.domains.molecules.judges.reference import MosesReference, moses_reference  # noqa: E402

needs_moses = pytest.mark.skipif(find_spec("moses") is None, reason="no MOSES: pip install --no-deps molsets")

REAL = [
    "CC(=O)Oc1ccccc1C(=O)O", "CN1C=NC2=C1C(=O)N(C)C(=O)N2C", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "c1ccc2ccccc2c1", "CCO",
    "O=C(Nc1ccccc1)c1ccccc1", "O=C(Nc1ccccc1)c1ccccc1C", "CCN(CC)CC", "OCC1CCCCC1", "c1ccc(cc1)-c1ccccc1", "CCCCCC",
    "CC(=O)Nc1ccc(O)cc1",
]  # fmt: skip
MADE = ["CCO", "CCCO", "c1ccc(cc1)-c1ccccc1C", "O=C(Nc1ccccc1)c1ccccc1", "CCNC", "C"]


def mols(smiles):
    return [Chem.MolFromSmiles(text) for text in smiles]


@pytest.fixture(scope="module")
def made():
    return mols(MADE)


@pytest.fixture(scope="module")
def reference():
    return MosesReference.of(REAL, name="real")


def test_similarities_agree_with_rdkit(made, reference, monkeypatch):
    monkeypatch.setattr(similarity, "BLOCK", 2 * len(made))  # several blocks
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    a, b = ([generator.GetFingerprint(mol) for mol in side] for side in (made, mols(REAL)))
    table = np.array([DataStructs.BulkTanimotoSimilarity(one, b) for one in a])
    own = np.array([DataStructs.BulkTanimotoSimilarity(one, a) for one in a])
    prints = similarity.fingerprints(made)
    assert similarity.nearest_similarity(prints, reference.fingerprints) == pytest.approx(table.max(1).mean(), abs=1e-6)
    assert similarity.internal_diversity(prints) == pytest.approx(1 - own.mean(), abs=1e-6)
    second = 1 - np.sqrt((own**2).mean(1)).mean()
    assert similarity.internal_diversity(prints, 2) == pytest.approx(second, abs=1e-6)
    assert moses_diversity(made) == pytest.approx({"intdiv": 1 - own.mean(), "intdiv2": second}, abs=1e-6)
    np.fill_diagonal(own, 0)
    assert similarity.nearest_other(prints) == pytest.approx(own.max(1), abs=1e-6)


def test_scores_agree_with_scipy(made, reference):
    found = moses_scores(made, reference)
    assert set(found) == {
        "snn/real", "frag/real", "scaf/real", "w1_logP/real", "w1_QED/real", "w1_SA/real", "w1_weight/real",
    }  # fmt: skip
    for name, count in (("frag", similarity.count_fragments), ("scaf", similarity.count_scaffolds)):
        a, b = count(made), count(mols(REAL))
        keys = sorted(a | b)
        expected = 1 - cosine([a[key] for key in keys], [b[key] for key in keys])
        assert found[f"{name}/real"] == pytest.approx(expected, abs=1e-12)
    values, real = property_values(made), property_values(mols(REAL))
    for name in ("logP", "QED", "SA", "weight"):
        assert found[f"w1_{name}/real"] == pytest.approx(wasserstein_distance(values[name], real[name]), rel=1e-12)


def test_fragments_and_scaffolds_by_hand():
    assert similarity.count_fragments(mols(["CCOCC"])) == Counter({"[3*]O[3*]": 1, "[4*]CC": 2})
    scaffolds = similarity.count_scaffolds(mols(["CCc1ccccc1", "c1ccc(cc1)-c1ccccc1C", "CC", "C"]))
    assert scaffolds == Counter({"c1ccc(-c2ccccc2)cc1": 1})
    assert np.isnan(similarity.cosine_similarity({}, {"C": 1}))
    assert similarity.cosine_similarity({"a": 3, "b": 4}, {"b": 2}) == pytest.approx(0.8)


def test_real_against_real_takes_out_exactly_what_was_drawn(reference):
    drawn, rest = reference.split(5, seed=1)
    left = MosesReference.of(rest.smiles, name="real")
    assert len(drawn) == 5
    assert sorted([Chem.MolToSmiles(mol) for mol in drawn] + list(rest.smiles)) == sorted(reference.smiles)
    assert (rest.fragments, rest.scaffolds) == (left.fragments, left.scaffolds)
    assert np.array_equal(rest.fingerprints, left.fingerprints)
    assert {name: list(values) for name, values in rest.properties.items()} == {
        name: list(values) for name, values in left.properties.items()
    }
    assert moses_floor(reference, 5, seed=1) == moses_scores(drawn, left)
    with pytest.raises(ValueError, match="1 to 6, half of real"):
        reference.split(7)


def test_properties_by_hand():
    values = property_values(mols(["C", "CCO"]), ("weight", "TPSA", "SA"))
    assert values["weight"] == pytest.approx([16.043, 46.069], abs=1e-3)
    assert values["TPSA"] == pytest.approx([0, 20.23])  # one hydroxyl
    assert values["SA"].tolist() == [sa_score(mol) for mol in mols(["C", "CCO"])]
    assert 1 <= values["SA"].min() <= values["SA"].max() <= 10
    assert property_distances({"x": np.array([0.0, 1.0])}, {"x": np.array([5.0]), "y": np.array([1.0])}) == {"x": 4.5}
    with pytest.raises(ValueError, match="names='size'"):
        property_values(mols(["C"]), ("size",))


@needs_moses
def test_filters_by_hand():
    reasons = {
        "CCO": "", "CC=O": "MCF7", "CC[N+](C)(C)C": "charge", "CCP": "element P", "C1CCCCCCC1": "ring of 8 or more",
        "CSSC": "MCF16", "O=C1C=CC(=O)C=C1": "PAINS quinone_A(370)",
    }  # fmt: skip
    assert {smiles: first_filter(mol) for smiles, mol in zip(reasons, mols(reasons))} == reasons
    report = check_filters(mols([*reasons, "CC=O"]))
    assert (report.n, report.passed, report.fraction) == (8, 1, 1 / 8)
    assert next(iter(report.reasons.items())) == ("MCF7", 2)
    with pytest.raises(ValueError, match="molecules is empty"):
        check_filters([])


@needs_moses
@pytest.mark.parametrize("split", ["Test", "TestSF"])
def test_published_statistics_are_reproduced(split):
    """Each molecule's fingerprint and properties, its fragments and its scaffold."""
    published = moses_reference(split)
    assert len(published) == {"Test": 176_074, "TestSF": 176_225}[split]
    rows = np.random.default_rng(0).choice(len(published), 60, replace=False)
    molecules = mols([published.smiles[row] for row in rows])
    assert np.array_equal(similarity.fingerprints(molecules), published.fingerprints[rows])
    for name, values in property_values(molecules).items():
        assert np.array_equal(values, published.properties[name][rows]), name
    assert similarity.count_fragments(molecules) <= published.fragments
    assert similarity.count_scaffolds(molecules) <= published.scaffolds
    assert check_filters(molecules).fraction == 1  # MOSES is made of what passes


@pytest.mark.slow
@needs_moses
def test_scores_against_moses_are_those_published_for_its_training_set():
    """MOSES' table gives its training molecules SNN 0.642 and 0.586, the scaffolds of the second test set are new."""
    smiles = []
    with gzip.open(moses.moses_file("dataset/data/train.csv.gz"), "rt") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if number % 3000 == 0:
                smiles.append(row["SMILES"])
    molecules = mols(smiles[:300])
    near, new = (moses_scores(molecules, moses_reference(split)) for split in ("Test", "TestSF"))
    assert near["snn/Test"] == pytest.approx(0.642, abs=0.02)
    assert new["snn/TestSF"] == pytest.approx(0.586, abs=0.02)
    assert new["scaf/TestSF"] == 0
    assert near["frag/Test"] > 0.99
    assert moses_diversity(molecules)["intdiv"] == pytest.approx(0.857, abs=0.01)


@needs_moses
def test_other_splits_are_refused():
    with pytest.raises(ValueError, match="Test or TestSF"):
        moses_reference("train")


def test_files_that_hold_more_than_data_are_refused():
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    for attack in (Evil(), [np.dtype("f8"), Evil()]):
        with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print"):
            _moses_files._Plain(BytesIO(pickle.dumps(attack))).load()
    plain = {"a": np.arange(3.0), "b": Counter("xx"), "c": [1.5, "y"]}
    old = pickle.dumps(plain, protocol=2).replace(b"numpy._core.", b"numpy.core.")
    found = _moses_files._Plain(BytesIO(old)).load()
    assert np.array_equal(found["a"], plain["a"])
    assert (found["b"], found["c"]) == (plain["b"], plain["c"])


def test_a_missing_wheel_names_the_way_to_get_it(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(moses, "distribution", missing)
    with pytest.raises(ImportError, match="pip install --no-deps molsets"):
        moses.moses_file("metrics/mcf.csv")
