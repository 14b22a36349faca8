"""`MoleculeDiffusion` on graphs: the contract, sizes, properties, constraints, files, and errors at the boundary."""

import numpy as np
import pytest
import torch
from molecule_models import masks, molecule_data, small

from ornstein.core import FreeFirst, PowerSchedule, conformance
from ornstein.core.chains import AbsorbingChain
from ornstein.core.config import from_config, to_config
from ornstein.domains.molecules.diffusion import MoleculeDiffusion
from ornstein.domains.molecules.drawn import Generated
from ornstein.domains.molecules.graph_representation import GraphRepresentation
from ornstein.domains.molecules.representations import REPRESENTATIONS, representation_of
from ornstein.domains.molecules.vocabulary import GraphForm

pytest.importorskip("rdkit")
from rdkit import Chem


@pytest.fixture(scope="module")
def data():
    return molecule_data(properties=["logP", "rings"])


@pytest.fixture(params=["masks", "marginal", "ordered"])
def model(request, data):
    if request.param == "ordered":
        return small(molecule_data(properties=["logP", "rings"], form=GraphForm(ordered=True)))
    return small(data, **({"process": masks(data.facts)} if request.param == "masks" else {}))


CHECKS = [check for name, check in vars(conformance).items() if name.startswith("test_adapter_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_adapter_keeps_the_contract(check, model):
    check(model)


def test_samples_have_the_sizes_asked_for_and_are_molecules(model):
    drawn = model.generate(6, size=[1, 2, 3, 4, 5, 6], seed=0)
    assert [mol.GetNumAtoms() for mol in drawn] == [1, 2, 3, 4, 5, 6]
    assert drawn.validity == 1
    assert all(len(Chem.GetMolFrags(mol)) == 1 for mol in drawn)
    assert drawn.seed == 0
    assert drawn[1:3].smiles == drawn.smiles[1:3]
    assert drawn[4:].first == 4


def test_free_draws_that_obey_are_left_and_the_others_drawn_again(model):
    free = model.generate(40, size=[1, 2] * 10 + [7] * 20, seed=0, constraint=False)
    drawn = model.generate(40, size=[1, 2] * 10 + [7] * 20, seed=0, sampler=FreeFirst.of(model.sampler))
    whole = [mol is not None and "." not in smiles for mol, smiles in zip(free, free.smiles)]
    assert drawn.validity == 1
    assert not any("." in smiles for smiles in drawn.smiles)
    assert 0 < sum(whole) < 40
    assert [s for s, fine in zip(drawn.smiles, whole) if fine] == [s for s, fine in zip(free.smiles, whole) if fine]


def test_without_constraint_samples_may_be_none_and_say_why(model):
    drawn = model.generate(40, size=[1, 2] * 10 + [7] * 20, seed=0, constraint=False)
    assert 0 < drawn.validity < 1
    assert all(bool(reason) == (mol is None) for mol, reason in zip(drawn, drawn.reasons))
    assert any(reason.startswith("valence") for reason in drawn.reasons)
    again = Generated.of_texts(drawn.texts())
    assert again.smiles == drawn.smiles


def test_sizes_of_the_data_are_drawn(model):
    sizes = [raw.GetNumAtoms() for raw in model.generate(30, seed=1).raw]
    known = {size for size, count in enumerate(model.facts.sizes) if count}
    assert set(sizes) <= known
    assert len(set(sizes)) > 2


def test_elements_and_rings_may_be_asked_for(model):
    rules = model.form.constraint(elements=["C", "O"], rings=[6])
    drawn = model.generate(20, size=7, seed=0, constraint=rules)
    assert {atom.GetSymbol() for mol in drawn for atom in mol.GetAtoms()} <= {"C", "O"}
    assert {len(ring) for mol in drawn for ring in mol.GetRingInfo().AtomRings()} <= {6}
    with pytest.raises(ValueError, match="elements hold 'Xx'"):
        model.form.constraint(elements=["Xx"])


def test_properties_and_guidance_change_the_samples(model):
    plain = model.generate(6, size=6, seed=0)
    assert plain.smiles != model.generate(6, size=6, properties={"logP": 3.0}, seed=0).smiles
    asked = model.generate(6, size=6, properties={"logP": [3.0] * 5 + [float("nan")]}, guidance=4.0, seed=0)
    assert asked.asked is not None
    assert asked.asked["logP"][:5].tolist() == [3.0] * 5
    assert asked.smiles[:5] != model.generate(6, size=6, properties={"logP": 3.0}, seed=0).smiles[:5]
    alone = model.generate(1, size=6, properties={"logP": 3.0}, guidance=4.0, seed=0)
    assert alone.smiles == asked.smiles[:1]


def test_a_model_of_graphs_learns(data, tmp_path):
    model = MoleculeDiffusion.for_data(data, network=small(data).network, seed=1, property_dropout=0.1)
    batch = next(iter(data.loader(1)))
    example = model.encode(batch)

    def loss():
        generator = torch.Generator().manual_seed(0)
        told = {"mask": example.mask, "generator": generator, **example.condition}
        return float(model.objective(model.denoiser, example.state, **told).mean())

    before = loss()
    run = model.fit(data, run=tmp_path / "run", max_steps=30, lr=0.01, ema=None, sample_every=0, accelerator="cpu")
    assert run.finished
    assert loss() < 0.7 * before
    again = MoleculeDiffusion.from_pretrained(tmp_path / "run" / "model")
    assert again.generate(2, seed=3).smiles == model.generate(2, seed=3).smiles


def test_figures_of_samples(data):
    drawn = Generated.of_texts(["CCO", "c1ccccc1", "CCO", "CC(C)(C)(C)C", "CCCl"])
    figures = small(data).evaluate({"samples": drawn, "logP": [0.0, 1.0, 0.0, 0.0, float("nan")]}, data.reference())
    assert figures["validity/parse"] == pytest.approx(0.8)
    assert figures["unique"] == pytest.approx(0.75)
    known = [
        Chem.Crippen.MolLogP(Chem.MolFromSmiles(s)) - v for s, v in (("CCO", 0.0), ("c1ccccc1", 1.0), ("CCO", 0.0))
    ]
    assert figures["mae_logP"] == pytest.approx(np.mean(np.abs(known)))


def test_molecules_are_encoded_from_smiles_too(model):
    example = model.encode(["CCO", Chem.MolFromSmiles("CC#N")])
    drawn = model.decode(example.state, example.mask["atoms"].sum(1))
    assert drawn.smiles == ["CCO", "CC#N"]
    with pytest.raises(ValueError, match=r"molecule 1: .*not in the vocabulary"):
        model.encode(["CCO", "CCBr"])
    with pytest.raises(ValueError, match="molecule 0 is 'nonsense'"):
        model.encode(["nonsense"])


def test_pictures_and_files(model, tmp_path):
    drawn = model.generate(3, size=5, seed=0, constraint=False)
    model.render(drawn, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    paths = model.write(drawn, tmp_path / "mols", first=7)
    assert [path.name for path in paths] == ["000007.smi", "000008.smi", "000009.smi"]
    lines = [path.read_text().rstrip("\n").split("\t") for path in paths]
    assert [line[0] for line in lines] == drawn.texts()
    assert [len(line) == 2 for line in lines] == [bool(reason) for reason in drawn.reasons]


def test_what_does_not_fit_is_refused_in_a_line(model, data):
    with pytest.raises(ValueError, match="unknown property 'logp' \\(did you mean 'logP'\\?\\)"):
        model.generate(1, properties={"logp": 1.0})
    with pytest.raises(ValueError, match="size=99: expected whole numbers of atoms, 1 to"):
        model.generate(1, size=99)
    with pytest.raises(ValueError, match="guidance without properties"):
        model.generate(1, guidance=2.0)
    with pytest.raises(TypeError, match="facts=None: expected those of a data module"):
        MoleculeDiffusion()
    with pytest.raises(ValueError, match="representation='grapf' \\(did you mean 'graph'\\?\\)"):
        MoleculeDiffusion(data.facts, representation="grapf")
    with pytest.raises(TypeError, match="expected MoleculeFacts"):
        MoleculeDiffusion({"sizes": (1.0,)})
    with pytest.raises(TypeError, match="expected a ProductProcess of two chains"):
        MoleculeDiffusion(data.facts, process=AbsorbingChain(4, PowerSchedule()))
    with pytest.raises(TypeError, match="the batch is of type int"):
        model.encode(3)


def test_the_representation_of_a_name(data):
    assert type(representation_of("graph", data.facts)) is GraphRepresentation
    assert type(representation_of(REPRESENTATIONS["graph"], data.facts)) is GraphRepresentation
    with pytest.raises(ValueError, match="expected the import path of a Representation"):
        representation_of("ornstein.domains.molecules.facts.MoleculeFacts", data.facts)


def test_a_model_is_rebuilt_from_its_configuration_with_its_constraint(model):
    rebuilt = from_config(to_config(model))
    assert rebuilt.sampler.constraint == model.sampler.constraint
    assert rebuilt.facts == model.facts
