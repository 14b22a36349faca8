"""Five kinds of validity: by hand, against DiGress' building of bond by bond, and with a reason for each refusal."""

import numpy as np
import pytest

Chem = pytest.importorskip("rdkit.Chem")

from rdkit import rdBase  # noqa: E402

from ornstein.domains.molecules.judges.validity import KINDS, Validity, check_validity  # noqa: E402

# What each kind says, in the order of KINDS: parse, largest_fragment, relaxed, uncorrected, strict.
CASES = {
    "CCO": "yyyyy",
    "CN(C)(C)C": "nnyyn",  # one bond too many on N
    "CO(C)C": "nnyyn",
    "CN(=O)=O": "yyyny",  # RDKit's cleaning knows nitro groups, GDSS does not clean
    "c1cccc1": "nnnyn",  # valences fine, no Kekulé form
    "C(C)(C)(C)(C)C": "nnnnn",
    "CCC.O": "yyyyn",  # debris
    "C.FF(F)": "nnnnn",
    "C[CH2]": "yyyyn",  # radical
    "[Na+].[Cl-]": "yyyyn",
    "C[N+](C)(C)C": "yyyyy",
    "C1CC": "nnnnn",
    "": "nnnnn",
    "CCO CCN": "nnnnn",  # not the first word alone
    "[13CH4]": "yyyyy",
    "C": "yyyyy",
}


@pytest.fixture(scope="module")
def found():
    return check_validity([*CASES, None])


def test_each_kind_by_hand(found):
    for place, kind in enumerate(KINDS):
        assert found[kind].counts == (*(marks[place] == "y" for marks in CASES.values()), False), kind


def test_reasons_are_counted_and_found_again(found):
    reasons = found["parse"].reasons
    assert reasons == {
        "SMILES syntax": 2, "valence 4 of N": 1, "valence 3 of O": 1, "no Kekulé structure": 1, "valence 5 of C": 1,
        "valence 2 of F": 1, "no atoms": 1, "not built": 1,
    }  # fmt: skip
    assert next(iter(reasons)) == "SMILES syntax"
    assert found["parse"].first["valence 5 of C"] == list(CASES).index("C(C)(C)(C)(C)C")
    assert found["strict"].reasons["several components"] == 2
    assert found["strict"].reasons["radical"] == 1
    assert all(sum(one.reasons.values()) == one.n - one.valid for one in found.values())
    assert found["parse"].fraction == pytest.approx(8 / 17)


def test_what_is_judged_further():
    found = check_validity(["CCC.O", "OCC", "c1cccc1", "CN(C)(C)C"])
    smiles = {kind: [None if mol is None else Chem.MolToSmiles(mol) for mol in found[kind].molecules] for kind in KINDS}
    assert smiles["parse"] == ["CCC.O", "CCO", None, None]
    assert smiles["largest_fragment"] == ["CCC", "CCO", None, None]
    assert smiles["relaxed"] == ["CCC", "CCO", None, "C[N+](C)(C)C"]
    assert smiles["uncorrected"] == ["CCC", "CCO", None, "C[N+](C)(C)C"]
    assert found["uncorrected"].counts == (True, True, True, True)  # one of them has no molecule


def test_molecules_are_judged_as_their_smiles_and_left_alone():
    mol = Chem.MolFromSmiles("CN(C)(C)C", sanitize=False)
    whole = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    found = check_validity([mol, whole])
    assert [one.counts for one in found.values()] == [(False, True)] * 2 + [(True, True)] * 2 + [(False, True)]
    assert found["parse"].molecules[1].GetNumAtoms() == 3
    assert mol.GetAtomWithIdx(1).GetFormalCharge() == 0
    assert whole.GetNumAtoms() == 9


def random_graphs(count, seed=0):
    """Random trees with extra bonds of random orders, many of them wrong."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        size = int(rng.integers(1, 8))
        atoms = rng.choice([6, 7, 8, 16, 9], size, p=[0.5, 0.2, 0.15, 0.1, 0.05])
        bonds = [(int(rng.integers(i)), i, int(rng.choice([1, 2, 3], p=[0.75, 0.2, 0.05]))) for i in range(1, size)]
        if size > 3 and rng.random() < 0.4:
            bonds.append((0, size - 1, 1))
        yield [int(atom) for atom in atoms], sorted({(a, b): (a, b, order) for a, b, order in bonds}.values())


def built(atoms, bonds, *, charged=False):
    """DiGress' and GDSS' construction: bond after bond, +1 where N, O or S is refused for one bond too many."""
    mol = Chem.RWMol()
    for atom in atoms:
        mol.AddAtom(Chem.Atom(atom))
    orders = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    for a, b, order in bonds:
        mol.AddBond(a, b, orders[order])
        if charged:
            try:
                Chem.SanitizeMol(mol, sanitizeOps=Chem.SanitizeFlags.SANITIZE_PROPERTIES)
            except Chem.AtomValenceException as error:
                atom = mol.GetAtomWithIdx(error.cause.GetAtomIdx())
                valence = sum(int(bond.GetBondTypeAsDouble()) for bond in atom.GetBonds())
                if valence - {7: 3, 8: 2, 16: 2}.get(atom.GetAtomicNum(), valence) == 1:
                    atom.SetFormalCharge(1)
    return mol


def passes(mol, operations=Chem.SanitizeFlags.SANITIZE_ALL):
    try:
        Chem.SanitizeMol(mol, sanitizeOps=operations)
    except ValueError:
        return False
    return True


def test_relaxed_and_uncorrected_agree_with_building_bond_by_bond():
    graphs = list(random_graphs(600))
    found = check_validity([built(*graph) for graph in graphs], ("largest_fragment", "relaxed", "uncorrected"))
    with rdBase.BlockLogs():
        plain = [passes(built(*graph)) for graph in graphs]
        relaxed = [passes(built(*graph, charged=True)) for graph in graphs]
        valences = Chem.SanitizeFlags.SANITIZE_PROPERTIES
        uncorrected = [passes(built(*graph, charged=True), valences) for graph in graphs]
    assert list(found["largest_fragment"].counts) == plain
    assert list(found["relaxed"].counts) == relaxed
    assert list(found["uncorrected"].counts) == uncorrected
    assert sum(plain) < sum(relaxed) < len(graphs)  # the rule mattered


def test_odd_molecules_are_judged_without_an_error():
    samples = ["C" * 400, "[U]", "[H][H]", "*CC", "[Fe+2]", "C(=O)([O-])[O-].[Ca+2]", "[2H]O[2H]", "N" * 3, "F[Xe]F"]
    found = check_validity(samples)
    assert found["parse"].valid == len(samples)
    assert isinstance(found["strict"], Validity)


@pytest.mark.parametrize(
    ("samples", "kinds", "error", "message"),
    [
        ([], KINDS, ValueError, "samples is empty"),
        ("CCO", KINDS, TypeError, "one string"),
        ([1], KINDS, TypeError, r"samples\[0\] is a int"),
        (["C"], ("loose",), ValueError, "kinds='loose'"),
    ],
)
def test_bad_input(samples, kinds, error, message):
    with pytest.raises(error, match=message):
        check_validity(samples, kinds)
