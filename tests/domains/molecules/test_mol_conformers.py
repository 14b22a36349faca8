"""Diffusion of torsions: the score's symmetries, likelihoods that are known, and conformers of molecules."""

import math

import numpy as np
import pytest
import torch

from ornstein.core import StratifiedTimes, VESchedule
from ornstein.core.config import from_config, to_config
from ornstein.core.likelihood import GeodesicLikelihood
from ornstein.core.manifolds import (
    HeatKernel,
    RiemannianDenoiser,
    RiemannianProcess,
    RiemannianScoreMatching,
    Sphere,
    Torus,
)
from ornstein.domains.molecules.conformers import ConformerDiffusion, default_torus, gather_conformers
from ornstein.domains.molecules.judges import check_geometry
from ornstein.domains.molecules.space import ConformerData
from ornstein.domains.molecules.torsion_network import TorsionNetwork
from ornstein.domains.molecules.torsions import Rotors, set_torsions
from ornstein.domains.molecules.vocabulary import GraphForm

pytest.importorskip("rdkit")
from rdkit import Chem

from ornstein.domains.molecules.geometry import embed, whole_molecule

SMILES = ["CCCC", "CC(=O)NC", "OCCO", "CC(C)N", "C1CC1CO", "c1ccoc1"]


@pytest.fixture(scope="module")
def data():
    return ConformerData([embed(Chem.MolFromSmiles(s), seed=2).mol for s in SMILES], heldout=0, validation=0)


@pytest.fixture(scope="module")
def small(data):
    """A model whose network answers something."""
    model = ConformerDiffusion.for_data(data, network=shaken(data))
    return model.eval()


def shaken(data, scale=0.2):
    torch.manual_seed(0)
    facts = data.facts
    network = TorsionNetwork(len(facts.atoms), len(facts.bonds), width=16, pairs=8, vectors=4, heads=2, depth=2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return network


def batch_of(data):
    rows = data.train_dataset()
    return rows.__getitems__(list(range(len(rows))))


def close(a, b):
    return float((a - b).abs().max()) < 2e-5 * float(b.abs().max())


def score(model, batch, t=0.4):
    example = model.encode(batch)
    with torch.no_grad():
        return model.denoiser(example.state, t, mask=example.mask, **example.condition).score, example


def test_scores_are_pseudoscalars(small, data):
    batch = batch_of(data)
    plain, example = score(small, batch)
    assert float(plain.abs().max()) > 0.05
    assert not plain[~example.mask].any()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    turn = turn * torch.linalg.det(turn)
    moved, _ = score(small, {**batch, "positions": batch["positions"] @ turn.T + 2.0})
    assert close(moved, plain)
    mirrored, other = score(small, {**batch, "positions": batch["positions"] * torch.tensor([1.0, -1.0, 1.0])})
    assert torch.allclose(other.state, -example.state, atol=1e-5)
    assert close(mirrored, -plain)


def test_scores_do_not_depend_on_the_order_of_atoms_nor_on_where_angles_are_counted_from(small, data):
    mol = data.train_dataset().mols[1]
    order = np.random.default_rng(0).permutation(mol.GetNumAtoms()).tolist()
    shuffled = Chem.RenumberAtoms(mol, order)
    scores = []
    for one in (mol, shuffled):
        found, example = score(small, [one])
        ends = example.condition["ends"][0, :, 1:3].tolist()
        names = [tuple(sorted(order[i] for i in pair)) if one is shuffled else tuple(sorted(pair)) for pair in ends]
        scores.append(dict(zip(names, found[0].tolist())))
    assert scores[0].keys() == scores[1].keys()
    largest = max(map(abs, scores[0].values()))
    for pair, value in scores[0].items():
        assert abs(value - scores[1][pair]) < 2e-5 * largest


def test_the_local_structure_may_have_any_torsions(small, data):
    batch = batch_of(data)
    plain, example = score(small, batch)
    rotors = Rotors(example.condition["ends"], example.condition["sides"], example.mask)
    angles = torch.rand(example.state.shape, generator=torch.Generator().manual_seed(3)) * 6 - 3
    other = set_torsions(batch["positions"], rotors, angles.cos(), angles.sin())
    condition = {**example.condition, "positions": other}
    with torch.no_grad():
        found = small.denoiser(example.state, 0.4, mask=example.mask, **condition).score
    assert close(found, plain)


def test_a_sample_is_the_same_in_any_batch(small, data):
    batch = batch_of(data)
    whole, example = score(small, batch)
    for row in (0, 3):
        single = {name: value[row : row + 1] for name, value in example.condition.items()}
        mask = example.mask[row : row + 1]
        with torch.no_grad():
            alone = small.denoiser(example.state[row : row + 1], 0.4, mask=mask, **single).score
        assert torch.equal(alone[0], whole[row])


def test_an_untrained_model_is_uniform(data):
    model = ConformerDiffusion.for_data(data, network=TorsionNetwork(len(data.facts.atoms), 4, width=8, depth=1))
    example = model.encode(data.train_dataset().mols[:2])
    found = GeodesicLikelihood(1e-3, 1e-3).evaluate(
        model.denoiser, example.state, mask=example.mask, condition=example.condition
    )
    expected = -example.mask.sum(1) * math.log(2 * math.pi)
    assert torch.allclose(found.log_prob, expected.to(found.log_prob), atol=1e-4)


def test_the_likelihoods_of_all_angles_of_a_bond_sum_to_one(data):
    model = ConformerDiffusion.for_data(data, network=shaken(data)).eval()
    example = model.encode([embed(Chem.MolFromSmiles("CC1CC1"), seed=1).mol])
    assert example.mask.tolist() == [[True]]
    angles = torch.arange(24)[:, None] * (2 * math.pi / 24) - math.pi
    condition = {name: value.expand(24, *value.shape[1:]) for name, value in example.condition.items()}
    mask = example.mask.expand(24, 1)
    with torch.no_grad():  # so soft that 24 angles resolve the density
        steep = model.denoiser(angles, 0.7, mask=mask, **condition).score.abs().max()
        for parameter in model.network.outer.parameters():
            parameter *= 0.5 / steep
    found = GeodesicLikelihood(3e-3, 3e-3, high=4.0).evaluate(model.denoiser, angles, mask=mask, condition=condition)
    assert float(found.log_prob.exp().sum() * 2 * math.pi / 24) == pytest.approx(1, abs=0.01)
    assert float(found.log_prob.std()) > 0.01


def test_the_loss_is_the_kernels(small, data):
    example = small.encode(batch_of(data))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        loss = small.objective(
            small.denoiser, example.state, mask=example.mask, generator=generator, **example.condition
        )
        generator.manual_seed(0)
        t, _ = small.objective.times.draw(len(loss), small.process, generator)
        noise = torch.randn(example.state.shape, generator=generator)
        x_t = small.process.marginal(example.state, t).sample(noise) * example.mask
        found = small.denoiser(x_t, t, mask=example.mask, **example.condition).score
    s = small.process.variance(t)
    target = HeatKernel(Torus(), example.state, s).score(x_t)
    rms = Torus().kernel.rms(s)[:, None]
    square = (((found - target) / rms) ** 2 * example.mask).sum(1) / example.mask.sum(1).clamp(min=1)
    assert torch.allclose(loss, square.to(loss), rtol=1e-4)


def test_training_finds_the_minima_of_a_bond():
    """Butane's carbons prefer 180 and avoid 0 degrees; a model of few seconds knows."""
    butane = Chem.AddHs(Chem.MolFromSmiles("CCCC"))
    from rdkit.Chem import rdDistGeom

    rdDistGeom.EmbedMultipleConfs(butane, 32, randomSeed=1)
    data = ConformerData([butane], heldout=0, validation=0, batch_size=32)
    facts = data.facts
    network = TorsionNetwork(len(facts.atoms), len(facts.bonds), width=32, pairs=16, vectors=8, heads=2, depth=1)
    # Where noise is about as wide as the wells there is something to learn; at both ends the loss is 1 in any case.
    model = ConformerDiffusion.for_data(
        data, network=network, objective=RiemannianScoreMatching(StratifiedTimes(0.4, 0.8))
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    example = model.encode(data.train_dataset().__getitems__(list(range(32))))
    generator, losses = torch.Generator().manual_seed(0), []
    for _ in range(80):
        loss = model.objective(
            model.denoiser, example.state, mask=example.mask, generator=generator, **example.condition
        ).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-20:]) < 0.93 * np.mean(losses[:5])
    drawn = model.conformers("CCCC", 24, seed=3)
    sample = model.encode([Chem.Mol(drawn, confId=c.GetId()) for c in drawn.GetConformers()])
    middle = next(i for i, e in enumerate(sample.condition["ends"][0].tolist()) if e[1:3] == [1, 2])
    real = example.state[:, [e[1:3] for e in example.condition["ends"][0].tolist()].index([1, 2])]
    assert float((sample.state[:, middle].cos() > 0.85).float().mean()) < 0.2
    assert float((real.cos() > 0.85).float().mean()) < 0.05


def test_conformers_keep_their_local_structure_and_repeat(small):
    drawn = small.conformers("OCCO", 4, seed=7)
    again = small.conformers("OCCO", 2, seed=7, first=2, batch_size=1)
    assert drawn.GetNumConformers() == 4
    assert drawn.GetNumAtoms() == 10
    for i in (0, 1):
        np.testing.assert_array_equal(again.GetConformer(i).GetPositions(), drawn.GetConformer(i + 2).GetPositions())
    local = small._local(whole_molecule("OCCO"), 7, 0).GetConformer().GetPositions()
    first = drawn.GetConformer(0).GetPositions()
    for bond in drawn.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        assert np.linalg.norm(first[i] - first[j]) == pytest.approx(np.linalg.norm(local[i] - local[j]), abs=1e-5)
    np.testing.assert_allclose(first.mean(0), 0, atol=1e-9)
    rigid = small.conformers("c1ccoc1", 2, seed=0)
    assert rigid.GetNumConformers() == 2
    relaxed = small.conformers("OCCO", 1, seed=7, relax=200)
    assert np.abs(relaxed.GetConformer().GetPositions() - first).max() > 1e-3


def test_conformers_with_a_clash_are_drawn_again_and_others_stay(small):
    def clear(drawn):
        single = [Chem.Mol(drawn, confId=conformer.GetId()) for conformer in drawn.GetConformers()]
        return [check_geometry(mol, ("no_clash",))["no_clash"] for mol in single]

    mol = "OCCOCCOCCOCCOCCO"  # long and limp
    as_drawn, again = (small.conformers(mol, 12, seed=3, redraws=redraws) for redraws in (0, 8))
    fine = clear(as_drawn)
    assert not all(fine)
    assert all(clear(again))
    for before, after, stays in zip(as_drawn.GetConformers(), again.GetConformers(), fine):
        assert np.array_equal(before.GetPositions(), after.GetPositions()) == stays
    number = fine.index(False)
    alone = small.conformers(mol, 1, seed=3, first=number)
    np.testing.assert_array_equal(alone.GetConformer().GetPositions(), again.GetConformer(number).GetPositions())


def test_conformers_that_clash_whatever_is_drawn_are_told(small, monkeypatch):
    monkeypatch.setattr("ornstein.domains.molecules.conformers._clashes", lambda mol, place: True)
    with pytest.warns(UserWarning, match="2 of 2 conformers clash after 3 redraws"):
        assert small.conformers("OCCO", 2, seed=0, redraws=3).GetNumConformers() == 2


def test_samples_are_written_packed_and_judged(small, data, tmp_path):
    samples = small.sample(3, seed=1, **small.preview_condition(3))
    assert [mol.GetNumConformers() for mol in samples] == [1, 1, 1]
    unpacked = small.unpack(small.pack(samples))
    np.testing.assert_allclose(
        unpacked[2].GetConformer().GetPositions(), samples[2].GetConformer().GetPositions(), atol=1e-4
    )
    paths = small.write(samples, tmp_path, first=4)
    assert [path.name for path in paths] == ["000004.sdf", "000005.sdf", "000006.sdf"]
    assert sum(mol is not None for mol in Chem.SDMolSupplier(str(paths[0]), removeHs=False)) == 1
    small.render(samples, tmp_path / "torsions.png")
    assert (tmp_path / "torsions.png").stat().st_size > 1000
    reference = [mol for mol in data.train_dataset().mols if mol.GetNumAtoms() == 10]
    figures = small.evaluate(small.sample(4, mol="OCCO", seed=0), reference)
    assert figures["n"] == 1
    assert 0 <= figures["cov_r"] <= 1
    with pytest.raises(ValueError, match="no molecule of the reference"):
        small.evaluate(samples, reference)
    gathered = gather_conformers(
        [*samples, Chem.RenumberAtoms(samples[0], list(range(samples[0].GetNumAtoms()))[::-1])]
    )
    [one] = gathered.values()
    assert one.GetNumConformers() == 4
    np.testing.assert_allclose(one.GetConformer(3).GetPositions(), one.GetConformer(0).GetPositions(), atol=1e-9)


def test_models_are_rebuilt_from_their_configuration(small, tmp_path):
    again = from_config(to_config(small), ConformerDiffusion)
    assert to_config(again) == to_config(small)
    small.save_pretrained(tmp_path)
    loaded = ConformerDiffusion.from_pretrained(tmp_path)
    positions = [model.conformers("CCCC", 1, seed=2).GetConformer().GetPositions() for model in (small, loaded)]
    np.testing.assert_array_equal(*positions)


def test_molecules_that_cannot_be_placed_are_refused(small, data):
    for mol, word in (("C(", "parse"), ("CCBr", "Br"), (3, "int"), ("", "parse")):
        with pytest.raises(ValueError, match=word):
            small.conformers(mol, 1)
    for options in ({"num": 0}, {"num": 1, "relax": -1}, {"num": 1, "batch_size": 0}):
        with pytest.raises(ValueError, match="at least"):
            small.conformers("CCCC", **options)
    with pytest.raises(ValueError, match="no mol"):
        small.sample(1)
    with pytest.raises(ValueError, match="guidance"):
        small.sample(1, mol="CCCC", guidance=2.0)
    with pytest.raises(TypeError, match="expected 'positions'"):
        small.encode("CCCC")
    with pytest.raises(ValueError, match="molecule 0"):
        small.encode([Chem.MolFromSmiles("CCCC")])
    with pytest.raises(TypeError, match="facts=None"):
        ConformerDiffusion()
    with pytest.raises(TypeError, match="Torus"):
        ConformerDiffusion(data.facts, process=RiemannianProcess(Sphere(2), VESchedule(0.01, 5.0)))
    example = small.encode([data.train_dataset().mols[0]])
    condition = {**example.condition, "ends": example.condition["ends"][:, :0]}
    with pytest.raises(ValueError, match="shape of ends"):
        small.denoiser(example.state, 0.5, mask=example.mask, **condition)


def test_heavy_atoms_alone_have_conformers_too():
    mols = [embed(Chem.MolFromSmiles(s)).mol for s in ("CCCO", "CCCC")]
    data = ConformerData(mols, heldout=0, validation=0, form=GraphForm())
    model = ConformerDiffusion.for_data(data)
    drawn = model.conformers("CCCO", 2, seed=0)
    assert drawn.GetNumAtoms() == 4
    with pytest.raises(ValueError, match="relax"):
        model.conformers("CCCO", 1, relax=5)


def test_the_default_process_ends_in_uniform_angles():
    process = default_torus()
    assert isinstance(RiemannianDenoiser(None, process).process.manifold, Torus)
    assert float(process.variance(1.0)) == pytest.approx(math.pi**2)
