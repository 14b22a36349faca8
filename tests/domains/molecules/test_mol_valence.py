"""Sampling within valences: joinable pieces, draws that obey, and distributions that are restricted and no more."""

import itertools

import networkx
import pytest
import torch

from ornstein.core import AbsorbingChain, CosineSchedule, MarginalChain, PowerSchedule, SeededNoise
from ornstein.core.chains.posteriors import belief
from ornstein.core.samplers.constraints import DrawnStep, Kernel
from ornstein.domains.molecules.joining import Pending, Pieces, outlook
from ornstein.domains.molecules.pairs import as_matrix, num_pairs, pair_indices
from ornstein.domains.molecules.valence import ValenceConstraint

ORDERS, VALENCES = (0.0, 1.0, 2.0, 3.0), (4.0, 3.0, 2.0, 1.0)
KEEP = ValenceConstraint(VALENCES, ORDERS)
LOOSE = ValenceConstraint(VALENCES, ORDERS, connected=False)
MASKS = {"atoms": AbsorbingChain(4, PowerSchedule()), "bonds": AbsorbingChain(4, PowerSchedule())}
NOISE = {
    "atoms": MarginalChain([0.4, 0.3, 0.2, 0.1], CosineSchedule(s=0.0)),
    "bonds": MarginalChain([0.7, 0.1, 0.1, 0.1], CosineSchedule(s=0.0)),
}


def step_of(before, after, t, s, chains=MASKS, logits=None, given=None, seed=0, real=None):
    """A step of samplers whose beliefs are these logits, flat ones by default."""
    real = {name: torch.ones_like(v, dtype=torch.bool) for name, v in before.items()} if real is None else real
    free = real if given is None else {name: real[name] & ~given[name] for name in real}
    kernels, last = {}, True
    for name, chain in chains.items():
        flat = torch.zeros(*before[name].shape, chain.states)
        answer = belief(before[name], chain, chain.level(t), flat if logits is None else logits[name])
        kernels[name] = Kernel(answer, s if isinstance(chain, AbsorbingChain) else 0.0)
        last = last and float(chain.level(s).alpha) == 1
    stream = SeededNoise(seed).begin(len(before["atoms"]), 0)
    streams = {name: stream.child(i) for i, name in enumerate(before)}
    return DrawnStep(t, s, before, dict(after), real, free, last, chains, kernels, streams)


def blank(batch, atoms, value=4):
    return {
        "atoms": torch.full((batch, atoms), value),
        "bonds": torch.full((batch, num_pairs(atoms)), value),
    }


def drawn_at_random(batch, atoms, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "atoms": torch.randint(4, (batch, atoms), generator=generator),
        "bonds": torch.randint(4, (batch, num_pairs(atoms)), generator=generator),
    }


def sums(bonds):
    return as_matrix(torch.tensor(ORDERS)[bonds]).sum(2)


def in_one_piece(bonds):
    graphs = [networkx.from_numpy_array(matrix.numpy()) for matrix in as_matrix((bonds > 0).float())]
    return [networkx.is_connected(graph) for graph in graphs]


def test_joinable_is_what_trying_all_ways_finds():
    """Against all choices of single bonds for the undecided pairs of four atoms; it may promise too much, never too
    little, and promises no more where all pairs are undecided.
    """
    n, generator = 4, torch.Generator().manual_seed(0)
    rows, columns = pair_indices(n)
    pairs = list(zip(rows.tolist(), columns.tolist()))
    for case in range(60):
        decided = torch.rand(len(pairs), generator=generator) < 0.3
        left = ~decided & (torch.rand(len(pairs), generator=generator) < (1.0 if case % 2 else 0.6))
        room = torch.randint(0, 3, (1, n), generator=generator).float()
        there = torch.ones(1, n, dtype=torch.bool)
        said = bool(outlook(as_matrix(decided.float()[None]), as_matrix(left[None]), room, there).joinable[0])
        graph = networkx.empty_graph(n)
        graph.add_edges_from(pair for pair, there in zip(pairs, decided) if there)
        found = False
        undecided = [pair for pair, there in zip(pairs, left) if there]
        for size in range(len(undecided) + 1):
            for chosen in itertools.combinations(undecided, size):
                used = [sum(a in pair for pair in chosen) for a in range(n)]
                if all(u <= r for u, r in zip(used, room[0].tolist())):
                    more = graph.copy()
                    more.add_edges_from(chosen)
                    found = found or networkx.is_connected(more)
        assert said or not found
        if case % 2:
            assert said == found


@pytest.mark.parametrize("chains", [MASKS, NOISE], ids=["masks", "marginal"])
def test_the_last_step_obeys_valences_and_is_one_piece(chains):
    after = drawn_at_random(200, 7)
    before = blank(200, 7) if chains is MASKS else drawn_at_random(200, 7, seed=1)
    kept = KEEP.keep(step_of(before, after, 0.3, 0.0, chains))
    assert (sums(kept["bonds"]) <= torch.tensor(VALENCES)[kept["atoms"]]).all()
    # An answer may be impossible: too many atoms that take one bond.
    possible = torch.tensor(VALENCES)[kept["atoms"]].sum(1) >= 12
    assert all(there for there, fits in zip(in_one_piece(kept["bonds"]), possible) if fits)
    assert possible.float().mean() > 0.9
    loose = LOOSE.keep(step_of(before, after, 0.3, 0.0, chains))
    assert (sums(loose["bonds"]) <= torch.tensor(VALENCES)[loose["atoms"]]).all()


def test_steps_before_the_last_leave_room_for_one_piece():
    state, chain = blank(100, 8), MASKS["bonds"]
    generator = torch.Generator().manual_seed(3)
    times = torch.linspace(1, 0, 11).tolist()
    for t, s in itertools.pairwise(times):
        share = 1 - s / t
        after = {}
        for name, value in state.items():
            shows = (value == chain.mask) & (torch.rand(value.shape, generator=generator) < share)
            # Nearly no bonds: what is drawn freely falls into pieces.
            odds = torch.tensor([0.4, 0.3, 0.2, 0.1] if name == "atoms" else [0.9, 0.1, 0.0, 0.0])
            fresh = torch.multinomial(odds, value.numel(), replacement=True, generator=generator).view(value.shape)
            after[name] = torch.where(shows, fresh, value)
        state = KEEP.keep(step_of(state, after, t, s, seed=int(100 * t)))
    assert (sums(state["bonds"]) <= torch.tensor(VALENCES)[state["atoms"]]).all()
    assert sum(in_one_piece(state["bonds"])) >= 99


def test_what_obeys_is_left_as_it_was_drawn():
    before = blank(1, 4)
    ethanol = {"atoms": torch.tensor([[0, 0, 2, 0]]), "bonds": torch.tensor([[1, 0, 1, 1, 0, 0]])}
    kept = KEEP.keep(step_of(before, ethanol, 0.5, 0.0))
    assert all(torch.equal(kept[name], ethanol[name]) for name in kept)


def test_a_draw_is_made_from_the_restricted_distribution():
    """Two atoms that take one bond each, and a third: of the bonds drawn from given odds, those that are possible keep
    their odds among each other.
    """
    many = 40_000
    before = {"atoms": torch.tensor([[3, 0]]).expand(many, 2), "bonds": torch.full((many, 1), 4)}
    odds = torch.tensor([0.2, 0.3, 0.4, 0.1])
    after = {
        "atoms": before["atoms"],
        "bonds": torch.multinomial(odds, many, replacement=True, generator=torch.Generator().manual_seed(0))[:, None],
    }
    logits = {"atoms": torch.zeros(many, 2, 5), "bonds": torch.tensor([*odds.log(), 0.0]).expand(many, 1, 5)}
    kept = LOOSE.keep(step_of(before, after, 0.5, 0.0, logits=logits))["bonds"]
    share = (kept == 1).float().mean()
    assert (kept <= 1).all()
    assert share == pytest.approx(0.6, abs=4 * (0.24 / many) ** 0.5)


def test_what_is_given_and_what_is_padding_stays():
    before = blank(50, 6)
    before["atoms"][:, :3] = torch.tensor([0, 0, 3])
    fixed = as_matrix(before["bonds"])
    fixed[:, 0, 1] = fixed[:, 1, 0] = 2
    rows, columns = pair_indices(6)
    before["bonds"] = fixed[:, rows, columns]
    given = {"atoms": torch.arange(6).expand(50, 6) < 3, "bonds": (rows == 0) & (columns == 1)}
    given["bonds"] = given["bonds"].expand(50, -1)
    real = {"atoms": torch.arange(6).expand(50, 6) < 5, "bonds": (columns < 5).expand(50, -1)}
    drawn = drawn_at_random(50, 6)
    after = {n: torch.where(given[n] | ~real[n], before[n] * real[n], drawn[n]) for n in drawn}
    before = {n: v * real[n] for n, v in before.items()}
    kept = KEEP.keep(step_of(before, after, 0.5, 0.0, given=given, real=real))
    assert all(bool((kept[n] == before[n])[given[n] | ~real[n]].all()) for n in kept)
    within = kept["bonds"][real["bonds"]].reshape(50, -1)
    assert all(in_one_piece(within))


def test_elements_and_rings_are_those_asked_for():
    rules = ValenceConstraint(VALENCES, ORDERS, atoms=(0, 2), rings=(5,))
    kept = rules.keep(step_of(blank(100, 8), drawn_at_random(100, 8), 0.5, 0.0))
    assert set(kept["atoms"].unique().tolist()) <= {0, 2}
    for matrix in as_matrix((kept["bonds"] > 0).float()):
        cycles = networkx.minimum_cycle_basis(networkx.from_numpy_array(matrix.numpy()))
        assert {len(cycle) for cycle in cycles} <= {5}


@pytest.mark.parametrize("seed", range(4))
def test_what_is_allowed_is_what_the_rules_say(seed):
    generator = torch.Generator().manual_seed(seed)
    state = drawn_at_random(300, 7, seed)
    state["bonds"] = state["bonds"] * (torch.rand(300, num_pairs(7), generator=generator) < 0.35)
    sizes = torch.randint(2, 8 - 3 * (seed % 2 == 0), (300,), generator=generator)  # many are in pieces
    rows, columns = pair_indices(7)
    real = {"atoms": torch.arange(7) < sizes[:, None]}
    real["bonds"] = real["atoms"][:, rows] & real["atoms"][:, columns]
    rules = ValenceConstraint(VALENCES, ORDERS, connected=seed % 2 == 0, atoms=(0, 1, 2), rings=(3, 4, 6))
    expected = []
    for number, size in enumerate(sizes.tolist()):
        bonds = as_matrix(torch.tensor(ORDERS)[state["bonds"][number : number + 1]])[0, :size, :size]
        atoms = state["atoms"][number, :size]
        graph = networkx.from_numpy_array((bonds > 0).numpy())
        within = bool((bonds.sum(1) <= torch.tensor(VALENCES)[atoms]).all())
        expected.append(within and bool((atoms < 3).all()) and smallest_are(graph, {3, 4, 6}))
        expected[-1] &= not rules.connected or networkx.is_connected(graph)
    assert rules.allows(state, real).tolist() == expected
    assert 5 < sum(expected) < 290


def smallest_are(graph, sizes):
    """Whether the smallest ring of each bond that is in one is of these sizes."""
    for i, j in list(graph.edges):
        graph.remove_edge(i, j)
        if networkx.has_path(graph, i, j) and networkx.shortest_path_length(graph, i, j) + 1 not in sizes:
            return False
        graph.add_edge(i, j)
    return True


def test_draws_of_one_sample_do_not_depend_on_the_others():
    before, after = blank(6, 7), drawn_at_random(6, 7)
    whole = KEEP.keep(step_of(before, after, 0.5, 0.0))
    alone = KEEP.keep(step_of({n: v[:1] for n, v in before.items()}, {n: v[:1] for n, v in after.items()}, 0.5, 0.0))
    assert all(torch.equal(whole[name][:1], alone[name]) for name in whole)


def test_pieces_refuse_what_would_leave_two():
    """Four atoms that take one bond each cannot be one piece; three with one in the middle can."""
    pairs = [(0, 1), (0, 2), (1, 2)]
    pieces = Pieces([], pairs, {0: 1.0, 1: 2.0, 2: 1.0})
    assert pieces.plan is not None
    asked = []

    def again(categories):
        asked.append(list(categories))
        return categories[0]

    # A bond between the ends would leave the middle alone.
    assert pieces.draw_pair(Pending((0, 2), 1, range(4), again), ORDERS) == 0
    assert asked == [[0]]
    assert pieces.draw_pair(Pending((0, 1), 0, range(4), again), ORDERS) == 1
    assert pieces.draw_pair(Pending((1, 2), 2, range(4), again), ORDERS) == 1
    assert Pieces([], pairs, dict.fromkeys(range(3), 1.0)).plan is None


def test_rules_that_are_none_are_refused():
    with pytest.raises(ValueError, match="atoms=\\(4,\\): expected some of the numbers 0 to 3"):
        ValenceConstraint(VALENCES, ORDERS, atoms=(4,))
    with pytest.raises(ValueError, match="rings=\\(2,\\)"):
        ValenceConstraint(VALENCES, ORDERS, rings=(2,))
