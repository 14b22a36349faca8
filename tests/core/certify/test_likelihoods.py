"""The likelihoods' table holds what it should."""

import math

import pytest

from ornstein.core.certify.likelihoods import likelihood_table


@pytest.fixture(scope="module")
def table() -> dict[tuple[str, str], dict[str, float]]:
    return {(row["problem"], row["method"]): row for row in likelihood_table(samples=64)}


PROBLEMS = ["gaussian", "ill_conditioned", "three_modes"]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_exact_methods_are_within_their_promise(table, problem: str) -> None:
    assert table[problem, "ode_exact_1e-06"]["worst"] < 1e-4
    # Where directions differ a hundredfold in scale, the errors of more steps add up.
    assert table[problem, "ode_exact_0.0001"]["worst"] < (5e-2 if problem == "ill_conditioned" else 1e-2)
    for probe in ("rademacher", "gaussian"):
        row = table[problem, f"ode_{probe}"]
        assert abs(row["error"]) < 4 * row["standard_error"] + 1e-3


@pytest.mark.parametrize("problem", PROBLEMS)
def test_bounds_are_above_the_truth_and_ordered(table, problem: str) -> None:
    for steps in (10, 25, 50):
        small, large, optimal = (table[problem, f"bound_{steps}_{kind}"] for kind in ("small", "large", "optimal"))
        assert optimal["error"] < min(small["error"], large["error"])
        assert all(row["error"] > -4 * row["standard_error"] for row in (small, large, optimal))
        assert math.isnan(optimal["worst"])
    assert table[problem, "bound_50_optimal"]["error"] < table[problem, "bound_10_optimal"]["error"]
