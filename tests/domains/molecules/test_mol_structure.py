"""Structural features against networkx and closed forms."""

import math

import networkx
import pytest
import torch

from ornstein.domains.molecules.structure import cycle_counts, graph_distances, heat_kernels, smallest_rings


def random_graphs(count: int, nodes: int, share: float) -> list[networkx.Graph]:
    return [networkx.gnp_random_graph(nodes, share, seed=seed) for seed in range(count)]


def adjacencies(graphs) -> torch.Tensor:
    return torch.stack([torch.tensor(networkx.to_numpy_array(graph), dtype=torch.float32) for graph in graphs])


def test_cycles_are_those_that_networkx_finds():
    graphs = [*random_graphs(6, 8, 0.4), networkx.cycle_graph(8), networkx.complete_graph(8), networkx.star_graph(7)]
    each, whole = cycle_counts(adjacencies(graphs))
    for row, graph in enumerate(graphs):
        found = list(networkx.simple_cycles(graph, 6))
        assert whole[row].tolist() == [sum(len(c) == k for c in found) for k in (3, 4, 5, 6)]
        for node in graph.nodes:
            assert each[row, node].tolist() == [sum(len(c) == k and node in c for c in found) for k in (3, 4, 5)]


def test_distances_are_those_that_networkx_finds():
    graphs = random_graphs(6, 9, 0.2)
    found = graph_distances(adjacencies(graphs), 3)
    for row, graph in enumerate(graphs):
        known = dict(networkx.all_pairs_shortest_path_length(graph))
        for i in graph.nodes:
            for j in graph.nodes:
                assert found[row, i, j] == min(known[i].get(j, 4), 4)


def test_smallest_rings_are_those_that_networkx_finds():
    # As many atoms each, few bonds and many: of some more are looked at than there are.
    graphs = [*random_graphs(6, 9, 0.2), networkx.cycle_graph(9), networkx.complete_graph(9), networkx.empty_graph(9)]
    found = smallest_rings(adjacencies(graphs))
    for row, graph in enumerate(graphs):
        expected = torch.zeros(9, 9, dtype=torch.long)
        for i, j in graph.edges:
            without = graph.copy()
            without.remove_edge(i, j)
            if networkx.has_path(without, i, j):
                expected[i, j] = expected[j, i] = networkx.shortest_path_length(without, i, j) + 1
        assert torch.equal(found[row], expected)


def test_heat_kernels_are_exponentials_of_the_laplacian_and_know_no_padding():
    graph = networkx.gnp_random_graph(6, 0.4, seed=3)
    a = adjacencies([graph])
    padded = torch.nn.functional.pad(a, (0, 2, 0, 2), value=1.0)
    mask = torch.tensor([[True] * 6 + [False] * 2])
    kernels = heat_kernels(padded, mask, (0.5, 2.0))
    laplacian = torch.diag(a[0].sum(1)) - a[0]
    for number, tau in enumerate((0.5, 2.0)):
        torch.testing.assert_close(kernels[0, :6, :6, number], torch.matrix_exp(-tau * laplacian), rtol=0, atol=1e-5)
    assert (kernels[0, 6:] == 0).all()
    assert (kernels[0, :, 6:] == 0).all()


def test_heat_of_two_atoms_in_closed_form():
    kernel = heat_kernels(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), torch.ones(1, 2, dtype=torch.bool), (0.7,))
    stays = (1 + math.exp(-1.4)) / 2
    assert kernel[0, 0, 0, 0] == pytest.approx(stays, abs=1e-6)
    assert kernel[0, 0, 1, 0] == pytest.approx(1 - stays, abs=1e-6)
