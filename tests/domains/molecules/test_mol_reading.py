"""Each record is taken, or refused by its number with the reason; what is written is read back."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from ornstein.domains.molecules.data import MoleculeData
from ornstein.domains.molecules.interop import mol_of_data, to_data
from ornstein.domains.molecules.reading import MoleculeReader, read_molecules
from ornstein.domains.molecules.rules import MoleculeRules
from ornstein.domains.molecules.writing import write_molecules

pytest.importorskip("rdkit")
from rdkit import Chem, RDConfig

DRUGS = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "caffeine": "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "betaine": "C[N+](C)(C)CC(=O)[O-]",
    "alanine": "C[C@H](N)C(=O)O",
}

MIXED = """\
CCO ethanol
CC(C)(C)(C)C five bonds

[Na+].[Cl-]
[13CH4]
[CH3]
C[Hg]C
C1CC
*CC
c1cccc1
OCC again

C[N+](C)(C)C charged
"""


def refusals(report):
    return {refusal.number: refusal.reason for refusal in report.refused}


def test_every_line_is_taken_or_refused_by_number(tmp_path):
    file = tmp_path / "mixed.smi"
    file.write_text(MIXED + f"{'C' * 200} long\n")
    found = read_molecules(file)
    assert found.smiles == ["CCO", "CCO", "C[N+](C)(C)C"]
    assert found.names == ["ethanol", "again", "charged"]
    assert found.numbers == [1, 11, 13]
    assert refusals(found.report) == {
        2: "valence 5 of C",
        3: "empty",
        4: "several fragments",
        5: "isotopes",
        6: "radicals",
        7: "metals",
        8: "SMILES syntax",
        9: "dummy atoms",
        10: "no Kekulé structure",
        12: "empty",
        14: "more than 100 heavy atoms",
    }
    assert (found.report.total, found.report.taken, found.report.duplicates) == (14, 3, 1)
    assert found.report.counts["empty"] == 2
    text = str(found.report)
    assert text.startswith("14 lines: 3 molecules taken, 11 refused\n")
    assert "empty: 2 (lines 3, 12)" in text
    assert "came before: 1" in text


def test_what_is_asked_for_is_done_and_counted():
    smiles = [
        "[Na+].OC(=O)c1ccccc1",
        "[13CH3]O",
        "[2H]OC",
        "CC(=O)[O-]",
        "[CH3]",
        "C[C@H](F)Cl",
        "[CH3:7]O",
        "CCO",
        "OCC",
    ]
    rules = MoleculeRules(
        fragments="largest", isotopes="strip", radicals="keep", stereo="keep", charges="neutralise", duplicates="refuse"
    )
    found = read_molecules(smiles, rules)
    assert found.smiles == ["O=C(O)c1ccccc1", "CO", "CC(=O)O", "[CH3]", "C[C@H](F)Cl", "CCO"]
    assert refusals(found.report) == {2: "came before", 6: "came before", 8: "came before"}
    assert found.report.refused[0].detail == "item 1"
    assert found.report.changed == {
        "reduced to the largest fragment": 1,
        "stripped of isotopes": 1,
        "neutralised": 1,
    }
    assert read_molecules(["[CH3:7]O"]).report.changed == {"stripped of atom maps": 1}
    flat = read_molecules(["C[C@H](F)Cl", "F/C=C/F", "[H]/N=C(/C)N"])
    assert flat.smiles == ["CC(F)Cl", "FC=CF", "CC(=N)N"]
    assert flat.report.changed == {"stripped of stereo": 3}


@pytest.mark.parametrize(
    ("options", "smiles", "reason"),
    [
        ({"charges": "refuse"}, "C[N+](C)(C)C", "charges"),
        ({"stereo": "refuse"}, "F/C=C/F", "stereo"),
        ({"elements": ("C", "O")}, "CCN", "other elements"),
        ({"min_heavy_atoms": 3}, "CC", "less than 3 heavy atoms"),
        ({"max_heavy_atoms": 3}, "CCCC", "more than 3 heavy atoms"),
        ({"max_heavy_atoms": None}, "C" * 200, None),
        ({"fragments": "keep"}, "C.C", None),
        ({"isotopes": "keep"}, "[13CH4]", None),
        ({"metals": "keep"}, "C[Hg]C", None),
    ],
)
def test_rules(options, smiles, reason):
    report = read_molecules([smiles], MoleculeRules(**options)).report
    assert refusals(report) == ({0: reason} if reason else {})


@pytest.mark.parametrize(
    "options",
    [
        {"fragments": "biggest"},
        {"elements": ("C", "Xx")},
        {"max_heavy_atoms": 0},
        {"min_heavy_atoms": -1},
        {"stereo": "yes"},
    ],
)
def test_rules_are_judged(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MoleculeRules(**options)


def test_sdf_with_broken_records(tmp_path):
    blocks = [Chem.MolToMolBlock(Chem.MolFromSmiles(s)) for s in ("CCO", "CCN", "CCC")]
    five = Chem.MolFromSmiles("CC(C)(C)(C)C", sanitize=False)
    records = [
        f"{blocks[0]}>  <boiling>\n78.4\n\n>  <note>\ntwo\nlines\n\n$$$$\n",
        f"{blocks[1][:60]}\n$$$$\n",
        f"{Chem.MolToMolBlock(five, kekulize=False)}$$$$\n",
        "$$$$\n",
        f"{blocks[1]}$$$$\r\n".replace("\n", "\r\n"),
        blocks[2].replace("  3  2", "  9  2") + "$$$$\n",
        blocks[2],
    ]
    for name, data in (
        ("some.sdf", "".join(records).encode()),
        ("some.sdf.gz", gzip.compress("".join(records).encode())),
    ):
        file = tmp_path / name
        file.write_bytes(data)
        found = read_molecules(file)
        assert found.smiles == ["CCO", "CCN", "CCC"]
        assert found.numbers == [1, 5, 7]
        assert found.properties == {"boiling": [78.4, None, None], "note": ["two\nlines", None, None]}
        assert refusals(found.report) == {
            2: "no end of the molblock",
            3: "valence 5 of C",
            4: "empty",
            6: "unreadable molblock",
        }


def test_rdkits_own_sdf_is_read_with_its_properties():
    found = read_molecules(Path(RDConfig.RDDataDir) / "NCI/first_200.props.sdf")
    assert found.report.total == 200
    assert found.report.taken + len(found.report.refused) == 200
    assert found.report.taken > 150
    assert found.properties["AMW"][0] == pytest.approx(122.123, abs=0.01)


def test_tables(tmp_path):
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame({"ID": ["a", "b", "c"], "SMILES": ["CCO", None, "CC("], "logS": [1.5, 2.0, np.nan]})
    csv, parquet = tmp_path / "some.csv", tmp_path / "some.parquet"
    frame.to_csv(csv, index=False)
    frame.to_parquet(parquet)
    table = {name: frame[name].tolist() for name in frame}
    for source, numbers in (
        (csv, (3, 4)),
        (parquet, (1, 2)),
        (frame, (1, 2)),
        (pa.table(frame), (1, 2)),
        (table, (1, 2)),
    ):
        found = read_molecules(source, name="ID", properties=["logS"])
        assert (found.smiles, found.names, found.properties) == (["CCO"], ["a"], {"logS": [1.5]})
        assert refusals(found.report) == dict(zip(numbers, ("empty", "SMILES syntax")))
    with pytest.raises(ValueError, match="no molecule has the property 'logP'"):
        read_molecules(csv, properties=["logP"])
    with pytest.raises(ValueError, match=r"no column 'smile'.*SMILES"):
        read_molecules(csv, smiles="smile")
    with pytest.raises(ValueError, match="give smiles="):
        read_molecules({"structure": ["C"]})


def test_csv_rows_that_are_broken(tmp_path):
    file = tmp_path / "some.csv"
    file.write_bytes(b'smiles,logP\nCCO,1\nCC,2,3\n\n"C\nC",4\nC\xffC,5\nCCN,6\n')
    found = read_molecules(file)
    assert found.smiles == ["CCO", "CCN"]
    assert found.properties == {"logP": [1.0, 6.0]}
    assert refusals(found.report) == {3: "another number of fields", 4: "empty", 5: "SMILES syntax", 7: "not UTF-8"}
    assert found.numbers == [2, 8]


def test_lists_may_be_mixed():
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    mol.SetProp("boiling", "78.4")
    rough = Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False)
    found = read_molecules(
        ["CCN", mol, None, rough, 3, "", "CC C", to_data(Chem.MolFromSmiles("c1cc[nH]c1"), {"a": 2.0})]
    )
    assert found.smiles == ["CCN", "CCO", "c1cc[nH]c1"]
    assert found.properties == {"boiling": [None, 78.4, None], "y": [None, None, 2.0]}
    assert refusals(found.report) == {
        2: "no molecule", 3: "valence 5 of C", 4: "neither SMILES nor molecule", 5: "empty", 6: "SMILES syntax",
    }  # fmt: skip
    kept = read_molecules([mol], hydrogens="keep")
    assert kept[0].GetNumAtoms() == 9


@pytest.mark.parametrize("smiles", [*DRUGS.values(), "F/C=C/F", "[13CH3]O", "[CH3]", "c1cc[nH]c1", "O=[PH](O)O", "C"])
def test_data_of_torch_geometric_come_back(smiles):
    mol = Chem.MolFromSmiles(smiles)
    data = to_data(mol, {"logP": 1.0, "QED": 0.5})
    assert data.y.tolist() == [[1.0, 0.5]]
    assert Chem.MolToSmiles(mol_of_data(data)) == Chem.MolToSmiles(mol)
    del data.smiles
    plain = Chem.Mol(mol)
    Chem.RemoveStereochemistry(plain)
    for atom in plain.GetAtoms():
        atom.SetIsotope(0)
    again = mol_of_data(data)
    assert [a.GetAtomicNum() for a in again.GetAtoms()] == [a.GetAtomicNum() for a in mol.GetAtoms()]
    assert Chem.MolToSmiles(again) == Chem.MolToSmiles(plain)


def test_batches_and_positions_of_torch_geometric():
    from torch_geometric.data import Batch, Data

    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    from rdkit.Chem import AllChem

    AllChem.EmbedMolecule(mol, randomSeed=1)
    data = to_data(mol)
    assert data.pos.shape == (9, 3)
    again = mol_of_data(data)
    np.testing.assert_allclose(again.GetConformer().GetPositions(), mol.GetConformer().GetPositions(), atol=1e-5)
    assert [a.GetAtomicNum() for a in again.GetAtoms()] == [a.GetAtomicNum() for a in mol.GetAtoms()]
    found = read_molecules(Batch.from_data_list([to_data(Chem.MolFromSmiles(s)) for s in ("CC", "CO")]))
    assert found.smiles == ["CC", "CO"]
    like_qm9 = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3), smiles="C", y=torch.tensor([[1.0, np.nan]]))
    bare = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3))
    found = read_molecules([like_qm9, bare])
    assert found.properties == {"y0": [1.0], "y1": [None]}
    assert refusals(found.report) == {1: "no molecule in the data"}


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="SMILES themselves go in a list"):
        read_molecules("CCO")
    (tmp_path / "some.xyz").write_text("C")
    with pytest.raises(ValueError, match=r"suffix '.xyz'.*kind="):
        read_molecules(tmp_path / "some.xyz")
    assert read_molecules(tmp_path / "some.xyz", kind="smiles").smiles == ["C"]
    cut = tmp_path / "cut.smi.gz"
    cut.write_bytes(gzip.compress(b"CCO\n" * 1000)[:-12])
    with pytest.raises(ValueError, match="damaged or cut off"):
        read_molecules(cut)
    (tmp_path / "some.parquet").write_text("C")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_molecules(tmp_path / "some.parquet")
    with pytest.raises(IsADirectoryError, match="a folder; expected a file of molecules"):
        read_molecules(tmp_path)
    with pytest.raises(TypeError, match="give \\[Mol\\]"):
        read_molecules(Chem.MolFromSmiles("C"))
    with pytest.raises(TypeError, match="of type int"):
        read_molecules(3)
    with pytest.raises(ValueError, match="columns of tables"):
        read_molecules(["C"], smiles="smiles")


@pytest.mark.parametrize(
    ("name", "content", "unit"),
    [
        ("none.smi", b"", "line"),
        ("none.smi.gz", gzip.compress(b""), "line"),
        ("none.sdf", b"", "record"),
        ("header.csv", b"smiles,logP\n", "line"),
    ],
)
def test_files_without_records_are_refused(tmp_path, name, content, unit):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: no molecules, the file is empty; expected at least one {unit}"):
        read_molecules(tmp_path / name)
    with pytest.raises(ValueError, match="the file is empty"):
        _ = MoleculeData(tmp_path / name).facts


def test_headers_names_and_extensions(tmp_path):
    file = tmp_path / "some.smi"
    file.write_bytes(b"\xef\xbb\xbfsmiles name\r\nCCO  an alcohol \r\nCC\ttabbed name\r\nC |$_AV:x$| methane\r\n")
    found = read_molecules(file)
    assert found.smiles == ["CCO", "CC", "C"]
    assert found.names == ["an alcohol", "tabbed name", "methane"]
    assert found.report.total == 3


@pytest.mark.parametrize("suffix", [".smi", ".csv", ".tsv", ".parquet", ".sdf", ".smi.gz", ".sdf.gz", ".csv.gz"])
def test_what_is_written_is_read_back(tmp_path, suffix):
    properties = (
        {} if ".smi" in suffix else {"logP": [1.25, 0.1 + 0.2, float("nan"), -3.0], "note": ["a, b", 'q"', "x", None]}
    )
    file = write_molecules(tmp_path / f"some{suffix}", list(DRUGS.values()), names=list(DRUGS), properties=properties)
    table = {"name": "name"} if suffix.startswith((".csv", ".tsv", ".parquet")) else {}
    found = read_molecules(file, MoleculeRules(stereo="keep"), **table)
    assert found.smiles == [Chem.MolToSmiles(Chem.MolFromSmiles(s)) for s in DRUGS.values()]
    assert found.names == list(DRUGS)
    expected = {"logP": [1.25, 0.1 + 0.2, None, -3.0], "note": ["a, b", 'q"', "x", None]} if properties else {}
    assert found.properties == expected
    assert not found.report.refused


def test_coordinates_of_sdf(tmp_path):
    file = write_molecules(tmp_path / "flat.sdf", ["CCO"], coordinates="2d")
    mol = Chem.MolFromMolFile(str(file))
    assert not mol.GetConformer().Is3D()
    file = write_molecules(tmp_path / "deep.sdf", ["CCO"], coordinates="3d")
    [mol] = read_molecules(file, hydrogens="keep")
    assert mol.GetNumAtoms() == 9
    positions = mol.GetConformer().GetPositions()
    assert mol.GetConformer().Is3D()
    assert np.linalg.norm(positions[0] - positions[1]) == pytest.approx(1.52, abs=0.03)
    again = write_molecules(tmp_path / "given.sdf", [mol])
    [mol] = read_molecules(again, hydrogens="keep")
    np.testing.assert_allclose(mol.GetConformer().GetPositions(), positions, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "mols", "options", "match"),
    [
        ("a.xyz", ["C"], {}, "suffixes"),
        ("a.smi", ["C", None], {}, r"mols\[1\] is None"),
        ("a.smi", ["C("], {}, r"mols\[0\]='C\('"),
        ("a.smi", ["C"], {"names": []}, "0 entries for 1"),
        ("a.smi", ["C"], {"properties": {"a": [1]}}, "holds no properties"),
        ("a.smi", ["C"], {"names": ["a\nb"]}, "several lines"),
        ("a.csv", ["C"], {"properties": {"smiles": [1]}}, "rename it"),
        ("a.sdf", ["C"], {"properties": {"a>": [1]}}, "rename it"),
        ("a.sdf", ["C"], {"properties": {"a": ["x\n\ny"]}}, "blank lines"),
        ("a.sdf", ["C"], {"coordinates": "4d"}, "coordinates"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, mols, options, match):
    with pytest.raises(ValueError, match=match):
        write_molecules(tmp_path / name, mols, **options)
    assert not (tmp_path / name).exists()


def test_a_reader_does_not_hold_what_it_read():
    reader = MoleculeReader(iter(["C", "CC", "N"]))
    records = iter(reader)
    assert next(records).smiles == "C"
    assert reader.report.total == 1
    assert [record.smiles for record in records] == ["CC", "N"]
    assert reader.report.taken == 3
