"""`MoleculeDiffusion` on SELFIES: the contract, sizes, properties, both orders, and errors at the boundary."""

import numpy as np
import pytest
import torch
from molecule_models import SMILES

from ornstein.core import ClassifierFreeGuidance, PowerSchedule, SequentialSampler, UniformChain, conformance
from ornstein.core.config import from_config, to_config
from ornstein.core.nn import TokenTransformer
from ornstein.domains.molecules.data import MoleculeData, SelfiesFacts
from ornstein.domains.molecules.derivation import DerivationReader
from ornstein.domains.molecules.diffusion import MoleculeDiffusion
from ornstein.domains.molecules.pieces import expand_pieces, learn_pieces, merge_pieces
from ornstein.domains.molecules.rules import MoleculeRules
from ornstein.domains.molecules.selfies import SelfiesVocabulary
from ornstein.domains.molecules.selfies_representation import AnyOrderSelfies, SelfiesRepresentation

pytest.importorskip("rdkit")
pytest.importorskip("selfies")
from rdkit import Chem

ANY = "ornstein.domains.molecules.selfies_representation.AnyOrderSelfies"
TINY = {"timed": False, "width": 32, "depth": 2, "head_width": 16}


@pytest.fixture(scope="module")
def data():
    return MoleculeData(
        SMILES, representation="selfies", heldout=0, validation=0, batch_size=16, properties=["logP", "rings"],
        pieces=0,
    )  # fmt: skip


def small(data, representation="selfies"):
    torch.manual_seed(4)
    states, told = len(data.facts.vocabulary), len(data.facts.properties)
    reader = DerivationReader(data.facts.vocabulary, TINY["width"])
    more = {"lazy": True} if representation == ANY else {"causal": True, "sized": True, "reader": reader}
    network = TokenTransformer(states, properties=told, **TINY, **more)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return MoleculeDiffusion.for_data(data, representation=representation, network=network).eval()


@pytest.fixture(params=["selfies", ANY], ids=["fixed", "any"])
def model(request, data):
    return small(data, request.param)


CHECKS = [check for name, check in vars(conformance).items() if name.startswith("test_adapter_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_adapter_keeps_the_contract(check, model):
    check(model)


def test_the_default_parts_are_those_of_the_order(data):
    fixed = MoleculeDiffusion.for_data(data)
    other = MoleculeDiffusion.for_data(data, representation=ANY)
    assert type(fixed.form) is SelfiesRepresentation
    assert type(other.form) is AnyOrderSelfies
    assert fixed.network.causal
    assert not other.network.causal
    assert isinstance(fixed.sampler, SequentialSampler)
    assert other.sampler.steps == other.sizes.largest
    for one in (fixed, other):
        hidden = torch.full((1, 5), one.process.mask)
        believed = one.denoiser(hidden, 0.5).probs[0, 0]  # of a network that knows nothing yet
        torch.testing.assert_close(believed[:-1], torch.tensor(data.facts.marginals[1:]), atol=2e-5, rtol=0)
        again = from_config(to_config(one))
        assert to_config(again) == to_config(one)


def test_molecules_come_back(model, data):
    batch = next(iter(data.loader(1)))
    example = model.encode(batch)
    drawn = model.decode(example.state, example.mask.sum(1))
    assert drawn.validity == 1
    texts = model.encode(drawn.smiles)
    assert model.decode(texts.state, texts.mask.sum(1)).smiles == drawn.smiles
    assert sorted(example.condition) == sorted(
        ["properties", "properties_mask", *(["sizes"] if model.representation == "selfies" else [])]
    )


def test_every_sample_is_a_molecule_of_the_tokens_asked_for(model):
    drawn = model.generate(24, size=[1, 2, 3, 4, 5, 6] * 4, seed=0)
    assert set(drawn.reasons) <= {"", "no atoms"}  # a lone ring's number is no atom
    assert drawn.validity > 0.8
    sizes = model.sizes.sample(30, seed=1)
    assert len(model.generate(30, seed=1)) == 30
    assert int(sizes.max()) <= model.sizes.largest


def test_a_sample_depends_on_its_number_alone(model):
    together = model.generate(9, seed=5)
    assert model.generate(9, seed=5, batch_size=2).smiles == together.smiles
    assert model.generate(3, seed=5, first=4).smiles == together.smiles[4:7]


def test_properties_and_guidance_change_the_samples(model):
    plain = model.generate(12, size=8, seed=0).smiles
    asked = model.generate(12, size=8, properties={"logP": 3.0}, seed=0).smiles
    guided = model.generate(12, size=8, properties={"logP": 3.0}, guidance=4.0, seed=0).smiles
    assert len({tuple(plain), tuple(asked), tuple(guided)}) == 3
    some = model.generate(2, size=8, properties={"logP": [3.0, float("nan")]}, guidance=4.0, seed=0).smiles
    assert some[0] == guided[0]
    assert isinstance(ClassifierFreeGuidance(model.denoiser, 2.0), torch.nn.Module)


def test_a_model_learns_and_is_saved(data, tmp_path):
    for name in ("selfies", ANY):
        model = small(data, name)
        batch = next(iter(data.loader(1)))
        example = model.encode(batch)

        def loss(model=model, example=example):
            generator = torch.Generator().manual_seed(0)
            told = {"mask": example.mask, "generator": generator, **example.condition}
            return model.objective(model.denoiser, example.state, **told).mean().item()

        before = loss()
        run = model.fit(data, run=tmp_path / name, max_steps=60, lr=0.01, ema=None, sample_every=0, accelerator="cpu")
        assert run.finished
        assert loss() < 0.8 * before
        again = MoleculeDiffusion.from_pretrained(run.model)
        assert again.generate(4, seed=3).smiles == model.generate(4, seed=3).smiles


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.decorate("c1ccccc1", 2), ValueError, "graphs"),
        (lambda m: m.generate(2, size=0), ValueError, "whole numbers of tokens, 1 to"),
        (lambda m: m.generate(2, size=500), ValueError, "the largest of the data"),
        (lambda m: m.generate(2, properties={"logp": 1.0}), ValueError, "unknown property 'logp'.*logP"),
        (lambda m: m.encode(["CCO", "no SMILES"]), ValueError, "molecule 1: 'no SMILES' is no valid SMILES"),
        (lambda m: m.encode(["[Fe]"]), ValueError, r"molecule 0: the molecule has '\[Fe\]'"),
        (lambda m: m.encode([None]), ValueError, "molecule 0 is None"),
        (lambda m: m.encode([]), ValueError, "no molecules"),
        (lambda m: m.encode({"atoms": 1}), TypeError, "expected 'tokens' and 'mask'"),
        (lambda m: m.encode(3), TypeError, "expected a dict of a data module, or a list"),
    ],
)
def test_bad_input_is_refused(call, error, message, data):
    with pytest.raises(error, match=message):
        call(small(data))


def test_parts_that_do_not_fit_are_refused(data):
    with pytest.raises(TypeError, match="expected SelfiesFacts"):
        MoleculeDiffusion.for_data(MoleculeData(SMILES, heldout=0, validation=0), representation="selfies")
    chain = UniformChain(len(data.facts.vocabulary) - 1, PowerSchedule())
    with pytest.raises(TypeError, match="expected an AbsorbingChain of SELFIES tokens"):
        MoleculeDiffusion.for_data(data, process=chain)
    both = TokenTransformer(len(data.facts.vocabulary), **TINY)
    with pytest.raises(ValueError, match="causal=True"):
        MoleculeDiffusion.for_data(data, network=both)


def test_tokens_are_the_vocabularys_less_one():
    facts = SelfiesFacts(SelfiesVocabulary(("[nop]", "[C]", "[O]")), (0.0, 1.0, 1.0), (0.0, 0.7, 0.3))
    form = SelfiesRepresentation(facts)
    assert form.process().categories == 2
    drawn = form.decode(torch.tensor([[0, 1], [1, 0]]), torch.tensor([2, 1]))
    assert [Chem.MolToSmiles(one.mol) for one in drawn] == ["CO", "O"]
    example = form.encode(
        {"tokens": torch.tensor([[1, 2], [2, 0]]), "mask": torch.tensor([[True, True], [True, False]])}
    )
    assert example.state.tolist() == [[0, 1], [1, 0]]
    for wrong in ([[0, 1]], [[1, 3]]):
        with pytest.raises(ValueError, match="expected 1 to 2"):
            form.encode({"tokens": torch.tensor(wrong), "mask": torch.ones(1, 2, dtype=torch.bool)})


def test_tokens_of_nothing_are_no_molecule():
    vocabulary = SelfiesVocabulary(("[nop]", "[C]", "[Ring1]"))
    form = SelfiesRepresentation(SelfiesFacts(vocabulary, (0.0, 1.0), (0.0, 0.5, 0.5)))
    (drawn,) = form.decode(torch.tensor([[1]]), torch.tensor([1]))
    assert drawn.mol is None
    assert drawn.reason == "no atoms"


def test_pieces_are_frequent_runs_and_change_no_molecule():
    smiles = [Chem.CanonSmiles("c1ccccc1" + "C" * n) for n in range(8)] + ["CCO", "CN"]
    options = {"representation": "selfies", "heldout": 0, "validation": 0, "rules": MoleculeRules()}
    plain = MoleculeData(smiles, pieces=0, **options)
    found = MoleculeData(smiles, pieces=30, **options)
    vocabulary = found.facts.vocabulary
    assert plain.facts.vocabulary.tokens == vocabulary.tokens
    assert vocabulary.pieces
    ring = ("[C]", "[=C]", "[C]", "[=C]", "[C]", "[=C]", "[Ring1][=Branch1]")
    assert any(run == ring for run in vocabulary.runs)
    assert found.train_dataset().rows.sizes.sum() < 0.5 * plain.train_dataset().rows.sizes.sum()
    for row, text in enumerate(found.train_dataset().smiles):
        numbers = found.train_dataset()[row]["tokens"]
        assert vocabulary.decode(numbers) == text
        assert vocabulary.encode(text).tolist() == numbers[numbers > 0].tolist()
    assert from_config(to_config(found.facts), SelfiesFacts) == found.facts
    with pytest.raises(ValueError, match="piece 3"):
        SelfiesVocabulary(("[nop]", "[C]", "[O]"), pieces=((0, 1),))
    with pytest.raises(ValueError, match="pieces"):
        MoleculeData(smiles, pieces=-1, **options)


def test_runs_of_equal_tokens_are_merged_from_the_left():
    tokens, starts = np.array([1, 1, 1, 1, 1, 2, 1, 1]), np.array([0, 5, 8])
    pieces = learn_pieces(tokens, starts, 3, 3, 2)
    assert pieces[0] == (1, 1)
    merged, begins = merge_pieces(tokens, starts, 3, pieces[:1])
    assert merged.tolist() == [3, 3, 1, 2, 3]
    assert begins.tolist() == [0, 3, 5]
    assert expand_pieces(3, ((1, 1), (3, 2)))[3:] == [(1, 1), (1, 1, 2)]
    assert learn_pieces(tokens, starts, 3, 3, 9) == ()
    with pytest.raises(ValueError, match="pieces"):
        learn_pieces(tokens, starts, 3, 4095, 2)
