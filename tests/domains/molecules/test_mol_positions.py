"""Molecules in space: the equivariant network, perceived bonds, and representations that models plug into."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ornstein.core import (
    SDE,
    CosineSchedule,
    MarginalChain,
    PowerSchedule,
    ProductProcess,
    SizeDistribution,
)
from ornstein.domains.molecules.data import MoleculeData
from ornstein.domains.molecules.diffusion import MoleculeDiffusion
from ornstein.domains.molecules.equivariant import EquivariantTrunk, radial
from ornstein.domains.molecules.judges import bond_stability, distance_stability
from ornstein.domains.molecules.perception import perceive_bonds
from ornstein.domains.molecules.space import ConformerData
from ornstein.domains.molecules.space_network import SpaceNetwork
from ornstein.domains.molecules.space_representation import PositionsRepresentation, SpaceRepresentation
from ornstein.domains.molecules.vocabulary import GraphForm

pytest.importorskip("rdkit")
from rdkit import Chem

from ornstein.domains.molecules.geometry import embed

SMILES = ["CCO", "CC(=O)N", "c1ccoc1", "C#N", "CS(C)(=O)=O", "FC(F)Cl"]
BOTH = pytest.mark.parametrize("kind", [PositionsRepresentation, SpaceRepresentation])


@pytest.fixture(scope="module")
def data():
    return ConformerData([embed(Chem.MolFromSmiles(s), seed=2).mol for s in SMILES], heldout=0, validation=0)


def batch_of(data):
    rows = data.train_dataset()
    return rows.__getitems__(list(range(len(rows))))


def shaken(*args, **sizes):
    torch.manual_seed(0)
    network = SpaceNetwork(*args, **({"width": 16, "pairs": 8, "vectors": 4, "heads": 2, "depth": 2} | sizes)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def inputs(bonds=True, properties=0):
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(6) < torch.tensor([6, 3, 1])[:, None]
    x = {
        "positions": torch.randn(3, 6, 3, generator=generator) * mask[..., None],
        "atoms": torch.randint(4, (3, 6), generator=generator) * mask,
    }
    if bonds:
        x["bonds"] = torch.randint(3, (3, 15), generator=generator)
    c = dict.fromkeys(x, torch.tensor([-1.0, 0.1, 0.9]))
    return x, c, {name: mask for name in x if name != "bonds"}


def matrix(pairs, n=6):
    full = pairs.new_zeros(len(pairs), n, n, *pairs.shape[2:])
    i, j = torch.triu_indices(n, n, 1)
    full[:, i, j] = full[:, j, i] = pairs
    return full


@torch.no_grad()
def test_displacements_turn_and_logits_stay():
    network = shaken(4, 3)
    x, c, mask = inputs()
    out = network(x, c, mask=mask)
    assert float(out["positions"].abs().max()) > 0.1
    for sign in (1, -1):
        turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(4)))[0] * sign
        moved = network(
            {**x, "positions": (x["positions"] @ turn.T + 1.5) * mask["positions"][..., None]}, c, mask=mask
        )
        for name, expected in (("positions", out["positions"] @ turn.T), ("atoms", out["atoms"])):
            assert float((moved[name] - expected).abs().max()) < 1e-5 * float(expected.abs().max()) + 1e-6, name
        assert torch.allclose(moved["bonds"][:1], out["bonds"][:1], atol=1e-4)


@torch.no_grad()
def test_atoms_may_come_in_any_order():
    network = shaken(4, 3)
    x, c, _ = inputs()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    i, j = torch.triu_indices(6, 6, 1)
    mixed = {"positions": x["positions"][:, order], "atoms": x["atoms"][:, order]}
    mixed["bonds"] = matrix(x["bonds"])[:, order][:, :, order][:, i, j]
    out, other = network(x, c), network(mixed, c)
    assert torch.allclose(other["positions"], out["positions"][:, order], atol=1e-5)
    assert torch.allclose(other["atoms"], out["atoms"][:, order], atol=1e-5)
    assert torch.allclose(matrix(other["bonds"]), matrix(out["bonds"])[:, order][:, :, order], atol=1e-5)


@torch.no_grad()
def test_padding_is_not_seen_and_a_sample_is_the_same_in_any_batch():
    network = shaken(4, 0, 2)
    x, c, mask = inputs(bonds=False)
    told = {"properties": torch.randn(3, 2), "properties_mask": torch.tensor([[True, False]] * 3)}
    out = network(x, c, mask=mask, **told)
    assert not out["positions"][~mask["positions"]].any()
    assert not out["atoms"][~mask["positions"]].any()
    assert float(out["positions"].sum(1).abs().max()) < 1e-5
    assert not out["positions"][2].any()  # one atom stays
    small = network(
        {name: value[1:2, :3] for name, value in x.items()},
        {name: value[1:2] for name, value in c.items()},
        **{name: value[1:2] for name, value in told.items()},
    )
    assert torch.allclose(small["positions"], out["positions"][1:2, :3], atol=1e-5)
    for row in range(3):
        one = slice(row, row + 1)
        alone = network(
            {k: v[one] for k, v in x.items()}, {k: v[one] for k, v in c.items()},
            mask={k: v[one] for k, v in mask.items()}, **{k: v[one] for k, v in told.items()},
        )  # fmt: skip
        assert all(torch.equal(alone[name][0], out[name][row]) for name in out)
    hidden = network(x, c, mask=mask, properties=torch.randn(3, 2), properties_mask=torch.zeros(3, 2, dtype=torch.bool))
    assert torch.equal(hidden["atoms"], network(x, c, mask=mask)["atoms"])
    assert not torch.equal(hidden["atoms"], out["atoms"])


def test_weights_in_the_place_of_categories_have_a_gradient():
    network = shaken(4, 3)
    x, c, mask = inputs()
    soft = {**x, "atoms": torch.nn.functional.one_hot(x["atoms"], 4).float().requires_grad_()}
    out = network(soft, c, mask=mask)
    assert torch.allclose(out["atoms"], network(x, c, mask=mask)["atoms"], atol=1e-6)
    out["positions"].square().sum().backward()
    assert float(soft["atoms"].grad.abs().sum()) > 0


@torch.no_grad()
@pytest.mark.parametrize("size", [1.0, 1e3])
def test_atoms_move_no_farther_than_the_last_matrices_of_layers_allow(size):
    # Vectors are read with lengths of a mean square of at most one, numbers of atoms of one: |v g| <= |v| |g(h)|.
    network = shaken(4, 3, depth=4)
    for block in network.trunk.blocks:
        for layer in (block.push, block.carry, block.turn, block.refine, block.outer):
            layer.weight.mul_(size)
    x, _, mask = inputs()
    features = torch.nn.functional.one_hot(x["atoms"], 4).float()
    edges = matrix(torch.nn.functional.one_hot(x["bonds"], 3).float())
    moved = network.trunk(x["positions"], features, torch.ones(3, 16), edges, mask["positions"]).x - x["positions"]
    most = 0.0
    for block in network.trunk.blocks:
        reach = torch.linalg.matrix_norm(block.step.weight, 2) * block.width**0.5 + block.step.bias.norm()
        most += float(block.vectors**0.5 * reach)
    assert 0 < float(moved.norm(dim=-1).max()) <= most


def test_radial_functions_tell_near_distances_apart():
    basis = radial(torch.tensor([0.0, 0.75, 0.85, 5.9, 20.0]), 16)
    assert basis.shape == (5, 16)
    assert basis[0, 0] == 0
    assert float((basis[1, 1:] - basis[2, 1:]).abs().max()) > 0.1
    assert not basis[4, 1:].gt(1e-3).any()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"atoms": 0}, "atoms"),
        ({"bonds": -1}, "bonds"),
        ({"heads": 3}, "heads"),
        ({"basis": 2}, "basis"),
        ({"depth": 0}, "depth"),
    ],
)
def test_sizes_of_the_network_are_judged(arguments, word):
    with pytest.raises(ValueError, match=word):
        SpaceNetwork(**({"atoms": 3, "width": 16} | arguments))


def test_inputs_of_the_network_are_judged():
    network = shaken(4, 3)
    x, c, _ = inputs()
    for name, value in (
        ("positions", x["positions"][..., :2]),
        ("atoms", x["atoms"][:, :2]),
        ("bonds", x["bonds"][:, :2]),
    ):
        with pytest.raises(ValueError, match=name):
            network({**x, name: value}, c)
    with pytest.raises(ValueError, match="'bonds' among them"):
        network({name: x[name] for name in ("positions", "atoms")}, c)
    with pytest.raises(ValueError, match="properties"):
        network(x, c, properties=torch.zeros(3, 1))
    with pytest.raises(ValueError, match="c must"):
        network(x, {**c, "positions": torch.zeros(2)})
    assert EquivariantTrunk(2, width=8, heads=2, depth=1).enter.in_features == 2


# Bonds of atoms in space.

CASES = [
    *SMILES,
    "Cc1sccc1C=O",
    "NC(=O)c1ccncc1",
    "C[N+](=O)[O-]",
    "CC#CC=C",
    "O=C=O",
    "CP(=O)(O)O",
    "[NH4+]",
    "CN=[N+]=[N-]",
]


@pytest.mark.parametrize("smiles", CASES)
def test_bonds_are_those_of_the_molecule(smiles):
    mol = embed(Chem.MolFromSmiles(smiles), seed=3).mol
    kinds = [
        f"{a.GetSymbol()}{'+' if a.GetFormalCharge() > 0 else '-' if a.GetFormalCharge() < 0 else ''}"
        for a in mol.GetAtoms()
    ]
    found = perceive_bonds(kinds, mol.GetConformer().GetPositions())
    assert found.reason == ""
    assert Chem.MolToSmiles(Chem.RemoveHs(found.mol)) == Chem.MolToSmiles(Chem.RemoveHs(mol))
    np.testing.assert_allclose(found.mol.GetConformer().GetPositions(), mol.GetConformer().GetPositions())
    assert bond_stability([found.raw]).molecule == 1


def test_what_has_no_valence_is_named_and_the_rest_is_built():
    mol = embed(Chem.MolFromSmiles("CC(=O)N"), seed=3).mol
    symbols, places = [a.GetSymbol() for a in mol.GetAtoms()], mol.GetConformer().GetPositions()
    lost = symbols.index("H")
    keep = [i for i in range(len(symbols)) if i != lost]
    found = perceive_bonds([symbols[i] for i in keep], places[keep])
    assert found.mol is None
    assert found.reason == "no valence of C"
    stable = bond_stability([found.raw])
    assert (stable.atoms, stable.stable_atoms) == (8, 7)
    far = perceive_bonds(["C", "H"], [[0, 0, 0], [9.0, 0, 0]])
    assert far.reason == "no valence of C, H"
    assert far.raw.GetNumBonds() == 0
    for places, word in (([[0, 0, 0]], "shape"), ([[0, 0, 0], [np.nan, 0, 0]], "NaN")):
        with pytest.raises(ValueError, match=word):
            perceive_bonds(["C", "H"], places)


def test_edms_tables_call_real_molecules_unstable_where_perception_does_not():
    mols = [embed(Chem.MolFromSmiles(s), seed=1).mol for s in ("CS(C)(=O)=O", "Cc1sccc1C=O")]
    found = [perceive_bonds([a.GetSymbol() for a in m.GetAtoms()], m.GetConformer().GetPositions()).raw for m in mols]
    assert bond_stability(found).molecule == 1
    assert distance_stability(mols).molecule == 0


# Representations.


@BOTH
def test_states_are_the_molecules(data, kind):
    form, batch = kind(data.facts), batch_of(data)
    example = form.encode(batch)
    assert tuple(example.state) == form.parts == tuple(form.process().components)
    spread = example.state["positions"][example.mask["positions"]]
    assert float(spread.square().mean()) == pytest.approx(1, abs=1e-5)
    sizes = batch["mask"]["atoms"].sum(1)
    drawn = form.decode(example.state, sizes)
    for one, mol in zip(drawn, data.train_dataset().mols, strict=True):
        assert one.reason == ""
        assert Chem.MolToSmiles(Chem.RemoveHs(one.mol)) == Chem.MolToSmiles(Chem.RemoveHs(mol))
        places = [torch.from_numpy(m.GetConformer().GetPositions()) for m in (one.mol, mol)]
        assert torch.allclose(*(torch.cdist(p, p) for p in places), atol=1e-4)
    again = form.collate([one.mol for one in drawn])
    assert torch.equal(again["atoms"], batch["atoms"])
    assert torch.allclose(again["positions"], batch["positions"], atol=1e-4)
    shape = form.shape(2, 7)
    assert shape["positions"] == (2, 7, 3)
    masks = form.mask(torch.tensor([7, 2]), 7)
    assert masks.keys() == shape.keys()
    assert all(tuple(masks[name].shape) == shape[name][:2] for name in shape)


@BOTH
def test_models_are_made_trained_and_sampled(data, kind):
    form = kind(data.facts)
    process = form.process()
    default = form.network(process)
    zero = default(form.encode(batch_of(data)).state, dict.fromkeys(form.parts, torch.zeros(len(SMILES))))
    marginals = torch.tensor(data.facts.atom_marginals)
    assert torch.allclose(zero["atoms"][0, 0].softmax(-1), marginals, atol=1e-3)
    states = [process.components[name].states for name in form.parts[1:]]
    network = SpaceNetwork(*states, width=32, pairs=16, vectors=8, heads=2, depth=2)
    denoiser, objective = form.denoiser(network, process), form.objective(process)
    example = form.encode(batch_of(data))
    optimizer, generator, losses = torch.optim.Adam(network.parameters(), lr=5e-3), torch.Generator().manual_seed(0), []
    for _ in range(40):
        loss = objective(denoiser, example.state, mask=example.mask, generator=generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-8:]) < 0.85 * np.mean(losses[:4])
    sampler = type(form.sampler(process))(6, samplers=form.sampler(process).samplers, grid=form.sampler(process).grid)
    sizes = torch.tensor([5, 8])
    state = sampler.sample(denoiser.eval(), form.shape(2, 8), seed=0, mask=form.mask(sizes, 8))
    assert float(state["positions"].sum(1).abs().max()) < 1e-4
    assert not state["positions"][0, 5:].any()
    drawn = form.decode(state, sizes)
    assert [one.raw.GetNumAtoms() for one in drawn] == [5, 8]
    assert all(one.raw.GetNumConformers() == 1 for one in drawn)


@BOTH
def test_example_batches_are_batches(data, kind):
    form = kind(data.facts)
    example = form.encode(form.example_batch(3))
    process = form.process()
    for name, part in process.components.items():
        mask = None if example.mask is None else part.expand_mask(example.mask[name])
        part.check_data(example.state[name], mask)
    SizeDistribution(data.facts.sizes)


@BOTH
def test_what_does_not_fit_is_refused(data, kind):
    form = kind(data.facts)
    flat = ConformerData([embed(Chem.MolFromSmiles("CCO")).mol], heldout=0, validation=0, form=GraphForm())
    with pytest.raises(ValueError, match="implicit hydrogens"):
        kind(flat.facts)
    with pytest.raises(ValueError, match="scale of positions"):
        kind(replace(data.facts, position_scale=None))
    with pytest.raises(TypeError, match="facts=3"):
        kind(3)
    chain = MarginalChain([0.5, 0.5], PowerSchedule())
    for process in (chain, ProductProcess({"positions": SDE(CosineSchedule()), "atoms": chain, "bonds": chain})):
        with pytest.raises(TypeError, match="expected a ProductProcess of positions, atoms"):
            form.network(process)
    with pytest.raises(TypeError, match="'positions', 'atoms'"):
        form.encode({"atoms": torch.zeros(1, 2)})
    ethanol = Chem.MolFromSmiles("CCO")
    placed = embed(ethanol).mol
    for mols, word in (
        ([placed, ethanol], "molecule 1: expected"),
        ([Chem.RemoveHs(placed)], "molecule 0 has hydrogens"),
        ([embed(Chem.MolFromSmiles("CBr")).mol], "molecule 0: the molecule has an atom 'Br'"),
        ([], "no molecules"),
    ):
        with pytest.raises(ValueError, match=word):
            form.collate(mols)


def test_the_network_is_told_what_is_given():
    network, (x, c, mask) = shaken(4, 3), inputs()
    plain = network(x, c, mask=mask)
    nothing = {"atoms": torch.zeros(3, 6, dtype=torch.bool)}
    assert torch.equal(network(x, c, mask=mask, given=nothing)["atoms"], plain["atoms"])
    atoms = {"atoms": torch.tensor([True, False, False])[:, None].expand(3, 6)}
    told = network(x, c, mask=mask, given=atoms)["positions"]
    assert not torch.allclose(told[0], plain["positions"][0])
    torch.testing.assert_close(told[1:], plain["positions"][1:])


def test_conformers_keep_atoms_and_bonds_and_learn_their_lengths():
    mols = [embed(Chem.MolFromSmiles(s), seed=1).mol for s in 3 * ("C", "O", "N", "CO")]
    data = ConformerData(mols, heldout=0, validation=0, batch_size=32)
    torch.manual_seed(0)
    sizes = {"width": 32, "pairs": 16, "vectors": 8, "heads": 2, "depth": 2}
    model = MoleculeDiffusion.for_data(data, representation="space", network=SpaceNetwork(*facts_sizes(data), **sizes))
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=1e-2), torch.Generator().manual_seed(0)
    example = model.encode(batch_of(data))
    for _ in range(250):
        loss = model.objective(model.denoiser, example.state, mask=example.mask, generator=generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = model.eval().conformers("O", 20, seed=0)
    assert [atom.GetSymbol() for atom in drawn.GetAtoms()] == ["O", "H", "H"]
    places = torch.tensor(np.stack([one.GetPositions() for one in drawn.GetConformers()]))
    assert places.shape == (20, 3, 3)
    assert float(places.mean(1).abs().max()) < 1e-4
    lengths = (places[:, 1:] - places[:, :1]).norm(dim=-1)
    assert abs(float(lengths.median()) - 0.97) < 0.15  # ångström; it would be 1.4 were nothing learned
    again = model.conformers("O", 3, seed=0, first=5)
    np.testing.assert_allclose(again.GetConformer(0).GetPositions(), places[5], atol=1e-3)
    relaxed = model.conformers("O", 3, seed=0, relax=200).GetConformers()
    found = [np.linalg.norm(one.GetPositions()[1:] - one.GetPositions()[0], axis=1) for one in relaxed]
    np.testing.assert_allclose(found, 0.969, atol=0.005)  # the force field's


def test_conformers_that_cannot_be_drawn_are_refused(data):
    model = MoleculeDiffusion.for_data(data, representation="space", network=shaken(*facts_sizes(data)))
    with pytest.raises(ValueError, match="at most"):
        model.conformers("CCCCCCCCCC", 1)
    with pytest.raises(ValueError, match="the molecule has"):
        model.conformers("CP", 1)
    with pytest.raises(ValueError, match="parse"):
        model.conformers("C(", 1)
    with pytest.raises(ValueError, match="num"):
        model.conformers("CCO", 0)
    flat = MoleculeDiffusion.for_data(MoleculeData(["CCO", "CCN", "CCC"], heldout=0, validation=0))
    with pytest.raises(ValueError, match="space"):
        flat.conformers("CCO", 1)


def facts_sizes(data):
    return len(data.facts.atoms), len(data.facts.bonds)
