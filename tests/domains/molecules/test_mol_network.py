"""The networks of graphs: answers that move with the atoms, and know nothing of padding or company."""

import pytest
import torch

from ornstein.domains.molecules.network import GraphTransformer
from ornstein.domains.molecules.ordered_network import OrderedTransformer
from ornstein.domains.molecules.pairs import as_matrix, as_pairs, num_pairs, pair_mask
from ornstein.domains.molecules.sparse_network import BondMessages

KINDS = {"orders": (0, 1, 2, 3, 0), "valences": (4, 3, 2, 4), "charges": (0, 0, -1, 0), "weights": (1.0, 1.2, 1.3, 0.0)}


def awake(messages: bool = False, ordered: bool = False, **options) -> torch.nn.Module:
    """A small network whose weights make every input count."""
    torch.manual_seed(0)
    if ordered:
        small = {"width": 32, "pair_width": 16, "depth": 2, "head_width": 16, "places": 9}
        network = OrderedTransformer(**KINDS, **small | options)
    elif messages:
        pytest.importorskip("torch_geometric")
        network = BondMessages(**KINDS, **{"width": 32, "pair_width": 16, "depth": 2} | options)
    else:
        network = GraphTransformer(**KINDS, **{"width": 32, "pair_width": 16, "depth": 2, "head_width": 16} | options)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    if ordered:
        torch.nn.init.zeros_(network.enter_rows.weight[-1])
    return network.eval()


def states(batch: int, atoms: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    x = {
        "atoms": torch.randint(4, (batch, atoms), generator=generator),
        "bonds": torch.randint(5, (batch, num_pairs(atoms)), generator=generator),
    }
    return x, {name: torch.linspace(-1, 1, batch) for name in x}


def close(found, expected):
    """Equal but for the rounding of float32, of numbers as large as the largest."""
    found, expected = found.detach(), expected.detach()
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


every = pytest.mark.parametrize(
    "options", [{"messages": True}, {}, {"heat": (0.5, 2.0)}, {"walks": 0, "cycles": False, "distances": False}]
)


@every
def test_answers_move_with_the_atoms(options):
    network, (x, c) = awake(**options), states(3, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    moved = {"atoms": x["atoms"][:, order], "bonds": as_pairs(as_matrix(x["bonds"])[:, order][:, :, order])}
    out, other = network(x, c), network(moved, c)
    close(out["atoms"][:, order], other["atoms"])
    bonds = as_pairs(as_matrix(out["bonds"])[:, order][:, :, order])
    close(bonds, other["bonds"])


@pytest.mark.parametrize(
    "options",
    [
        {"ordered": True},
        {"messages": True},
        {},
        {"heat": (0.5, 2.0)},
        {"walks": 0, "cycles": False, "distances": False},
    ],
)
def test_padding_changes_nothing(options):
    network, (x, c) = awake(**options), states(3, 5)
    out = network(x, c)
    real = torch.arange(8).expand(3, 8) < 5
    matrix = torch.zeros(3, 8, 8, dtype=torch.int64)
    matrix[:, :5, :5] = as_matrix(x["bonds"])
    wide = {"atoms": torch.nn.functional.pad(x["atoms"], (0, 3)), "bonds": as_pairs(matrix)}
    mask = {"atoms": real, "bonds": pair_mask(real)}
    padded = network(wide, c, mask=mask)
    close(padded["atoms"][:, :5], out["atoms"])
    close(as_matrix(padded["bonds"])[:, :5, :5], as_matrix(out["bonds"]))


def test_weights_of_categories_stand_for_categories_and_have_a_gradient():
    network, (x, c) = awake(), states(2, 5)
    soft = {name: torch.nn.functional.one_hot(v, n).float().requires_grad_() for (name, v), n in zip(x.items(), (4, 5))}
    out, other = network(x, c), network(soft, c)
    close(out["bonds"], other["bonds"])
    other["bonds"].square().sum().backward()
    assert all(value.grad is not None and bool((value.grad != 0).any()) for value in soft.values())


@pytest.mark.parametrize("kind", [{}, {"messages": True}, {"ordered": True}])
def test_noise_levels_and_properties_count_where_they_are_told(kind):
    network, (x, c) = awake(**kind, properties=2), states(2, 5)
    told = torch.tensor([[1.0, -1.0], [0.5, 0.5]])
    out = network(x, c, properties=told)["atoms"]
    later = {name: v + 1 for name, v in c.items()}
    assert not torch.allclose(out, network(x, later, properties=told)["atoms"])
    none = network(x, c)["atoms"]
    hidden = network(x, c, properties=told, properties_mask=torch.zeros(2, 2, dtype=torch.bool))["atoms"]
    assert torch.equal(none, hidden)
    assert not torch.allclose(out, none)
    untimed = awake(**kind, timed=False)
    assert torch.equal(untimed(x, c)["atoms"], untimed(x, later)["atoms"])


def test_what_does_not_fit_is_refused():
    network, (x, c) = awake(), states(2, 5)
    with pytest.raises(ValueError, match="bonds=\\(2, 9\\): expected 10 pairs of 5 atoms"):
        network({**x, "bonds": x["bonds"][:, :9]}, c)
    with pytest.raises(ValueError, match="properties=\\(2, 1\\)"):
        network(x, c, properties=torch.zeros(2, 1))
    with pytest.raises(ValueError, match="head_width"):
        GraphTransformer(**KINDS, width=48, head_width=32)
    with pytest.raises(ValueError, match="charges"):
        GraphTransformer(**{**KINDS, "charges": (0,)})


def test_ordered_atoms_are_told_their_places():
    """Two numberings of a graph have different answers; more atoms than places are taken."""
    network, (x, c) = awake(ordered=True), states(3, 7)
    back = torch.arange(6, -1, -1)
    moved = {"atoms": x["atoms"][:, back], "bonds": as_pairs(as_matrix(x["bonds"])[:, back][:, :, back])}
    out, other = network(x, c)["atoms"], network(moved, c)["atoms"][:, back]
    assert float((out - other).abs().max()) > 0.01 * float(out.abs().max())
    few, (x, c) = awake(ordered=True, places=3), states(1, 7)
    assert bool(few(x, c)["bonds"].isfinite().all())
    with pytest.raises(ValueError, match="head_width"):
        awake(ordered=True, head_width=24)
    with pytest.raises(ValueError, match="int64"):
        network({**states(3, 7)[0], "atoms": torch.rand(3, 7)}, states(3, 7)[1])


def test_what_stands_in_a_row_is_the_sum_over_its_pairs():
    network, (x, _) = awake(ordered=True), states(2, 5)
    matrix, places = as_matrix(x["bonds"]), torch.arange(5)
    both = torch.ones(2, 5, 5, dtype=torch.bool)
    both[1, :, 4] = both[1, 4] = False
    rows = network._rows(places - places[:, None] + 9, matrix, both)
    expected = torch.zeros(2, 5, 32)
    for b, i, j in both.nonzero().tolist():
        expected[b, i] += network.enter_rows.weight[(j - i + 9) * 5 + int(matrix[b, i, j])]
    close(rows, expected)


def test_messages_follow_bonds_alone():
    """An atom that no bond leads to changes another only by the mean over the molecule."""
    network = awake(messages=True)
    for around in network.around:
        torch.nn.init.zeros_(around.weight)
    torch.nn.init.zeros_(network.whole.weight)
    bonds = torch.tensor([[1, 0, 0, 0, 0, 0]])  # atoms 0 and 1
    first = network({"atoms": torch.tensor([[0, 1, 2, 0]]), "bonds": bonds}, level(1))["atoms"]
    other = network({"atoms": torch.tensor([[0, 1, 2, 1]]), "bonds": bonds}, level(1))["atoms"]
    torch.testing.assert_close(first[:, :3], other[:, :3])
    near = network({"atoms": torch.tensor([[0, 2, 2, 0]]), "bonds": bonds}, level(1))["atoms"]
    assert not torch.allclose(first[:, 0], near[:, 0])


def level(batch):
    return {"atoms": torch.zeros(batch), "bonds": torch.zeros(batch)}


def test_messages_take_categories_alone():
    network = awake(messages=True)
    with pytest.raises(ValueError, match="atoms="):
        network({"atoms": torch.zeros(1, 2, 4), "bonds": torch.zeros(1, 1, dtype=torch.int64)}, level(1))
