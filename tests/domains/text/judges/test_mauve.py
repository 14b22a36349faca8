"""MAUVE: limits in closed form, the frontier against all mixtures, and what its default features can tell."""

import math
import random
from itertools import product

import numpy as np
import pytest
from scipy.integrate import quad

from ornstein.domains.text.judges.mauve import NgramFeatures, divergence_frontier, frontier_area, mauve_score

P = np.array([0.5, 0.3, 0.2, 0.0])
Q = np.array([0.1, 0.3, 0.4, 0.2])


def area(p: np.ndarray, q: np.ndarray, **options: float) -> float:
    return frontier_area(divergence_frontier(p, q, **options))


def divergence(p: np.ndarray, r: np.ndarray) -> float:
    return sum(a * math.log(a / b) if b > 0 else math.inf for a, b in zip(p, r) if a > 0)


def test_equal_histograms_give_one():
    assert area(P, P) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 2.0, 5.0])
def test_disjoint_histograms_give_the_known_limit(scale):
    limit = math.gamma(scale + 1) ** 2 / math.gamma(2 * scale + 1)
    assert area(np.array([0.3, 0.7, 0, 0]), np.array([0, 0, 0.5, 0.5]), scale=scale) == pytest.approx(limit, rel=1e-4)
    if scale == 5:
        assert limit == pytest.approx(1 / 252)


def test_the_area_is_that_of_an_adaptive_quadrature():
    """``int y dx`` over the mixtures, with the derivatives of the divergences in closed form."""
    p, q, c = P[:3] / P[:3].sum(), Q[:3] / Q[:3].sum(), 5.0

    def integrand(a: float) -> float:
        r = a * p + (1 - a) * q
        y, x = math.exp(-c * divergence(p, r)), math.exp(-c * divergence(q, r))
        return y * c * x * float(np.sum(-q * (p - q) / r))  # -dx/da = c x dKL(q | r)/da

    inner, _ = quad(integrand, 0, 1, epsabs=1e-12)
    flat = math.exp(-c * divergence(q, p))  # where a = 1, y = 1: a rectangle to the axis
    assert area(p, q) == pytest.approx(inner + flat, abs=1e-6)


def test_no_distribution_does_better_than_the_frontier():
    """The frontier is Pareto optimal: exp(-c KL) of any R at all lies on or below it."""
    curve = divergence_frontier(P, Q)
    assert (np.diff(curve[:, 0]) >= 0).all()
    assert (np.diff(curve[:, 1]) <= 0).all()
    assert curve[0].tolist() == [0, 1]
    assert curve[-1].tolist() == [1, 0]
    steps = 14
    for counts in product(range(1, steps), repeat=3):
        if sum(counts) < steps:
            r = np.array([*counts, steps - sum(counts)]) / steps
            x, y = math.exp(-5 * divergence(Q, r)), math.exp(-5 * divergence(P, r))
            assert y <= np.interp(x, *curve.T) + 1e-5
    for a in (0.1, 0.5, 0.8):
        r = a * P + (1 - a) * Q
        x, y = math.exp(-5 * divergence(Q, r)), math.exp(-5 * divergence(P, r))
        assert y == pytest.approx(np.interp(x, *curve.T), abs=1e-4)


def test_the_area_does_not_depend_on_which_is_which_or_on_the_order_of_cells():
    assert area(P, Q) == pytest.approx(area(Q, P), abs=1e-9)
    assert area(P, Q) == pytest.approx(area(P[::-1], Q[::-1]), abs=1e-12)
    assert area(P, Q) > area(P, Q, scale=10)


def test_few_points_overstate_the_area():
    """The published code has 25 points."""
    assert area(P, Q, points=25) == pytest.approx(area(P, Q), rel=0.05)


def sentences(seed: int, count: int, verbs: tuple[str, ...] = ("serves", "offers", "sells")) -> list[str]:
    draw = random.Random(seed)
    places, foods = ("pub", "restaurant", "bar", "inn"), ("fish", "pasta", "curry", "soup", "tea", "bread")
    return [
        f"The {draw.choice(places)} {draw.choice(verbs)} {draw.choice(foods)} and {draw.choice(foods)} by the river."
        for _ in range(count)
    ]


def test_default_features_tell_real_texts_from_others():
    reference = sentences(0, 300)
    real = mauve_score(sentences(1, 300), reference)
    assert real.value > 0.8
    assert real.cells == 30
    assert real.features == "MAUVE on n-gram features"
    narrow = mauve_score(sentences(2, 300, verbs=("sells",)), reference)
    mixed = [
        " ".join(random.Random(n).sample(text.split(), len(text.split()))) for n, text in enumerate(sentences(3, 300))
    ]
    foreign = mauve_score(["Quite another matter altogether: weather and politics."] * 300, reference)
    assert narrow.value < real.value - 0.05
    assert mauve_score(mixed, reference).value < real.value - 0.05
    assert foreign.value == pytest.approx(1 / 252, rel=0.01)
    assert mauve_score(sentences(1, 300), reference) == real  # the same again


def test_features_of_the_callers_choice():
    """One-hot features with a cell each: the histograms are known, so the figure is."""
    reference, samples = list("aaabbbbbcc" * 4), list("aabbbccccc" * 4)

    def letters(texts: list[str]) -> np.ndarray:
        return np.array([[text == letter for letter in "abc"] for text in texts], dtype=float)

    found = mauve_score(samples, reference, features=letters, cells=3, variance=0.999)
    assert found.cells == 3
    assert found.features == "MAUVE on letters"
    assert found.value == pytest.approx(area(np.array([0.3, 0.5, 0.2]), np.array([0.2, 0.3, 0.5])), abs=1e-12)


def test_texts_that_are_all_alike():
    assert mauve_score(["same"] * 20, ["same"] * 30).value == pytest.approx(1)
    assert mauve_score([""] * 20, [""] * 30).value == pytest.approx(1)
    two = mauve_score(["one text"] * 40, ["another one"] * 40)  # fewer different texts than cells
    assert two.cells == 2
    assert two.value == pytest.approx(1 / 252, rel=1e-3)


def test_ngram_features_have_the_promised_shape():
    assert NgramFeatures(8)(sentences(0, 30)).shape == (30, 8)
    assert NgramFeatures(64)(["ab", "cd", "ef"]).shape == (3, 2)
    np.testing.assert_array_equal(NgramFeatures()(sentences(0, 30)), NgramFeatures()(sentences(0, 30)))


TWENTY = [f"text {n}" for n in range(20)]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mauve_score(TWENTY[:19], TWENTY), ValueError, "samples holds 19 texts: expected at least 20"),
        (lambda: mauve_score(TWENTY, []), ValueError, "reference holds 0 texts"),
        (lambda: mauve_score(TWENTY, "text"), TypeError, "reference must be a list of strings"),
        (lambda: mauve_score(TWENTY, TWENTY, cells=1), ValueError, "cells=1"),
        (lambda: mauve_score(TWENTY, TWENTY, variance=1.0), ValueError, "variance=1.0"),
        (lambda: mauve_score(TWENTY, TWENTY, restarts=0), ValueError, "restarts=0"),
        (lambda: mauve_score(TWENTY, TWENTY, scale=0.0), ValueError, "scale=0.0"),
        (
            lambda: mauve_score(TWENTY, TWENTY, features=lambda texts: np.full((len(texts), 2), np.nan)),
            ValueError,
            "features gave NaN or infinite values for 40 of 40 texts",
        ),
        (
            lambda: mauve_score(TWENTY, TWENTY, features=lambda texts: np.zeros((3, 2))),
            ValueError,
            r"features gave shape \(3, 2\) for 40 texts: expected \(40, d\)",
        ),
        (
            lambda: mauve_score(TWENTY, TWENTY, features=lambda texts: texts),
            TypeError,
            "features gave an array of dtype",
        ),
        (lambda: divergence_frontier(P, Q[:2]), ValueError, "q has shape"),
        (lambda: divergence_frontier(P, 2 * Q), ValueError, "q has shape .* and sum 2"),
        (lambda: divergence_frontier(P, Q, points=1), ValueError, "points=1"),
        (lambda: NgramFeatures(0), ValueError, "dimensions=0"),
        (lambda: NgramFeatures()(["one"]), ValueError, "texts holds 1 texts"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
