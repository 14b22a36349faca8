"""Tasks of models of graphs: what is given stays, what is asked for moves the samples, and errors at the boundary."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from molecule_models import SMILES, masks, molecule_data, small

from ornstein.domains.molecules import FunctionTarget, MoleculeData, MoleculeDiffusion
from ornstein.domains.molecules.graphs import encode_graph
from ornstein.domains.molecules.optimising import objective_of
from ornstein.domains.molecules.pairs import as_matrix
from ornstein.domains.molecules.regressors import PropertyRegressor, Target, fit_regressor
from ornstein.domains.molecules.scaffolds import held_places, known_part
from ornstein.domains.molecules.vocabulary import GraphForm

pytest.importorskip("rdkit")
from rdkit import Chem


@pytest.fixture(scope="module", params=["masks", "marginal"])
def model(request):
    data = molecule_data(heldout=0)
    return small(data, **({"process": masks(data.facts)} if request.param == "masks" else {}))


def test_models_of_ordered_graphs_keep_scaffolds_too():
    model = small(molecule_data(heldout=0, form=GraphForm(ordered=True)))
    part = known_part("*c1ccncc1", model.facts)
    (opened,) = part.open.nonzero()[:, 0].tolist()
    assert part.mol.GetAtomWithIdx(opened).GetSymbol() == "C"
    drawn = model.decorate("*c1ccncc1", 8, size=9, seed=0)
    assert all(mol.HasSubstructMatch(Chem.MolFromSmiles("c1ccncc1")) for mol in drawn)


def oxygens(mol) -> float:
    return sum(atom.GetSymbol() == "O" for atom in mol.GetAtoms())


def graph_matches(mol, part, facts):
    """Whether the first atoms of a molecule, and all pairs of them, are those of a part."""
    graph = encode_graph(part.mol, facts.vocabulary)
    n = len(part)
    for i in range(n):
        one, other = mol.GetAtomWithIdx(i), part.mol.GetAtomWithIdx(i)
        if (one.GetSymbol(), one.GetFormalCharge()) != (other.GetSymbol(), other.GetFormalCharge()):
            return False
        for j in range(i):
            bonded = mol.GetBondBetweenAtoms(i, j) is not None
            if bonded != bool(as_matrix(graph["bonds"][None])[0, i, j]):
                return False
    return True


@pytest.mark.parametrize("scaffold", ["c1ccccc1", "C[N+](C)(C)C", "OCCO", "CC(=O)[O-]"])
def test_scaffolds_stay_as_they_are(model, scaffold):
    part = known_part(scaffold, model.facts)
    drawn = model.decorate(scaffold, 20, seed=0)
    assert drawn.validity == 1
    query = Chem.MolFromSmiles(scaffold)
    for mol in drawn:
        assert mol.GetNumAtoms() > len(part)
        assert len(Chem.GetMolFrags(mol)) == 1
        assert mol.HasSubstructMatch(query)
        assert graph_matches(mol, part, model.facts)
    assert len(set(drawn.smiles)) > 10


def test_new_atoms_are_bonded_where_dummy_atoms_point(model):
    drawn = model.decorate("*c1ccncc1", 20, size=9, seed=0)
    part = known_part("*c1ccncc1", model.facts)
    (opened,) = part.open.nonzero()[:, 0].tolist()
    for mol in drawn:
        assert {b.GetBeginAtomIdx() for b in mol.GetBonds() if b.GetBeginAtomIdx() < 6 <= b.GetEndAtomIdx()} == {opened}
    # Pyrrole's nitrogen loses its hydrogen to a dummy atom; the ring must be read without it.
    assert Chem.MolToSmiles(known_part("*n1cccc1", model.facts).mol) == "c1cc[nH]c1"


def test_fragments_are_linked_by_new_atoms_alone(model):
    drawn = model.link(["*c1ccccc1", "*C(=O)O"], 20, size=12, seed=0)
    part = known_part("*c1ccccc1.*C(=O)O", model.facts)
    assert part.pieces == 2
    assert drawn.validity == 1
    for mol in drawn:
        assert len(Chem.GetMolFrags(mol)) == 1
        assert graph_matches(mol, part, model.facts)
        assert mol.GetNumAtoms() == 12


def test_a_part_holds_its_charges_and_its_pairs_without_a_bond(model):
    part = known_part("CC(=O)[O-]", model.facts)
    state, given = part.states(3, 6)
    assert [model.facts.atoms[i] for i in state["atoms"][0, :4].tolist()] == ["C", "C", "O", "O-"]
    matrix = as_matrix(given["bonds"].float())[0]
    assert (matrix[:4, :4] + torch.eye(4) == 1).all()
    assert not matrix[0, 4:].any()  # methyl has room
    assert matrix[1, 4:].all()  # the carbon of the acid has none
    assert given["atoms"].sum(1).tolist() == [4, 4, 4]


def test_molecules_are_made_better_and_what_is_held_stays(model):
    found = model.optimise("CCCCCCCO", oxygens, rounds=3, num=12, strength=0.5, seed=0)
    assert found.start == 1
    assert found.best == sorted(found.best)
    assert found.best[-1] > 1
    assert found.scores == sorted(found.scores, reverse=True)
    assert found.scores == [oxygens(mol) for mol in found.mols]
    assert {mol.GetNumAtoms() for mol in found.mols} == {8}
    again = model.optimise("CCCCCCCO", oxygens, rounds=3, num=12, strength=0.5, seed=0)
    assert [Chem.MolToSmiles(mol) for mol in again.mols] == [Chem.MolToSmiles(mol) for mol in found.mols]
    held = model.optimise("Cc1ccccc1", oxygens, rounds=2, num=12, strength=1.0, hold="c1ccccc1", seed=0)
    assert len(held.mols) > 1
    assert all(mol.HasSubstructMatch(Chem.MolFromSmiles("c1ccccc1")) for mol in held.mols)


def test_objectives():
    ethanol = Chem.MolFromSmiles("CCO")
    assert objective_of("heavy_atoms")(ethanol) == 3
    assert objective_of({"heavy_atoms": 5.0, "donors": 1.0})(ethanol) == -2
    assert objective_of(oxygens)(ethanol) == 1
    with pytest.raises(ValueError, match="no descriptor 'logp'"):
        objective_of("logp")
    with pytest.raises(TypeError, match="objective=3"):
        objective_of(3)


def test_a_regressor_learns_a_property_and_steers(model, tmp_path):
    regressor, run = fit_regressor(
        model, SMILES * 4, oxygens, run=tmp_path / "run", max_steps=60, lr=0.01, width=32, pair_width=16, depth=1,
        batch_size=16, accelerator="cpu", ema=None,
    )  # fmt: skip
    assert run.finished
    example = model.encode(["CCO", "CCCCCC", "OCCO"])
    centre, deviation = regressor.moments(example.state, 0.0, example.mask)
    believed = (centre * regressor.scale.deviation + regressor.scale.mean).tolist()
    assert believed[1] < believed[0] < believed[2]
    assert (deviation > 0).all()
    asked = {
        value: np.mean(
            [oxygens(mol) for mol in model.generate(40, size=6, targets=[Target(regressor, value, 4.0)], seed=0)]
        )
        for value in (0.0, 4.0)
    }
    assert asked[0.0] + 0.5 < asked[4.0]


def test_functions_steer_what_is_generated_and_what_is_decorated(model):
    sampler = dataclasses.replace(model.sampler, steps=8)

    def drawn(num, value, **options):
        targets = [FunctionTarget(oxygens, value, 0.3)]
        return model.generate(num, size=6, targets=targets, sampler=sampler, seed=0, **options)

    def mean_of(mols):
        return np.mean([oxygens(mol) for mol in mols])

    assert mean_of(drawn(20, 0.0).valid) + 1 < mean_of(drawn(20, 4.0).valid)
    assert drawn(4, 0.0, candidates=1).smiles == drawn(4, 4.0, candidates=1).smiles  # one candidate is no choice
    assert drawn(1, 4.0, first=3).smiles[0] == drawn(5, 4.0).smiles[3]
    targets = [FunctionTarget(oxygens, 3.0, 0.3), FunctionTarget("rings", 1.0, 0.3)]
    plain, grown = (
        model.decorate("*C1CCCCC1", 8, size=10, targets=some, sampler=sampler, seed=0).valid for some in ((), targets)
    )
    assert all(mol.HasSubstructMatch(Chem.MolFromSmiles("C1CCCCC1")) for mol in grown)
    assert abs(mean_of(grown) - 3) < abs(mean_of(plain) - 3)


def test_function_targets_are_gaussian_and_refuse_what_they_cannot_use(model):
    ethanol = Chem.MolFromSmiles("CCO")
    assert FunctionTarget("heavy_atoms", 5.0, 2.0).log_probability(ethanol) == -0.5
    assert FunctionTarget(lambda mol: math.nan, 5.0, 2.0).log_probability(ethanol) == -math.inf
    for arguments, message in (
        (("logp", 1.0, 0.1), "one of logP"),
        (("logP", math.nan, 0.1), "a finite number"),
        (("logP", 1.0, 0.0), "a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            FunctionTarget(*arguments)
    with pytest.raises(TypeError, match="Target or a FunctionTarget"):
        model.generate(2, targets=["logP"])
    with pytest.raises(ValueError, match="candidates=4: they are chosen among"):
        model.decorate("c1ccccc1", 1, candidates=4)
    texts = MoleculeData(SMILES, representation="selfies", heldout=0.2, validation=0)
    with pytest.raises(ValueError, match="asks for a model of graphs"):
        MoleculeDiffusion.for_data(texts).generate(2, targets=[FunctionTarget("logP", 1.0, 0.1)])


def test_a_regressor_is_a_normal_distribution(model):
    regressor = PropertyRegressor(model, fit_scale(), width=32, pair_width=16, depth=1).eval()
    example = model.encode(["CCO", "CC#N"])
    wanted = torch.tensor([0.3, -1.0])
    centre, deviation = regressor.moments(example.state, 0.5, example.mask)
    expected = torch.distributions.Normal(centre, deviation).log_prob(wanted)
    torch.testing.assert_close(regressor(example.state, 0.5, wanted=wanted, mask=example.mask), expected)


def fit_scale():
    from ornstein.domains.molecules.scales import PropertyScale

    return PropertyScale.fit("x", np.array([0.0, 1.0, 2.0]))


def test_what_cannot_be_is_refused_in_a_line(model, tmp_path):
    for given, message in (
        ("nonsense", "'nonsense' is no valid SMILES"),
        ("BrCC", "what is given cannot be held"),
        ("*C*C", "expected one single bond"),
        ("C*C", "dummy atom 1: expected one single bond"),
        ("FC(F)(F)F", "no atom of what is given has room"),
        ("*#N", "expected one single bond"),
    ):
        with pytest.raises(ValueError, match=message.replace("(", "\\(")):
            model.decorate(given, 1)
    with pytest.raises(ValueError, match="size=6: expected more atoms than the 6"):
        model.decorate("c1ccccc1", 1, size=6)
    with pytest.raises(ValueError, match="at least two; decorate takes one"):
        model.link("c1ccccc1", 1)
    with pytest.raises(ValueError, match="expected fewer"):
        model.decorate("C" * 40, 1)
    with pytest.raises(ValueError, match="guidance without properties"):
        model.decorate("CC", 1, guidance=2.0)
    with pytest.raises(ValueError, match="hold is c1ccccc1: expected a substructure of CCO"):
        model.optimise("CCO", "QED", hold="c1ccccc1")
    with pytest.raises(ValueError, match="rounds=0"):
        model.optimise("CCO", "QED", rounds=0)
    with pytest.raises(ValueError, match="1 values for 2 molecules"):
        fit_regressor(model, ["CCO", "CC"], [1.0], run=tmp_path)
    with pytest.raises(ValueError, match="elements and rings are a constraint"):
        model.generate(1, elements=["C"], constraint=False)


def test_places_of_a_substructure():
    places = held_places(Chem.MolFromSmiles("CCO"), Chem.MolFromSmiles("CO"), 3)
    assert places["atoms"].tolist() == [[False, True, True]]
    assert places["bonds"].tolist() == [[False, False, True]]
