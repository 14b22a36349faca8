"""Decompositions found from products: against `torch.linalg.svd`, closed forms, and methods through dense matrices."""

import gc
import math
import weakref

import pytest
import torch
from torch import Tensor

from ornstein.core import SDE, GaussianDenoiser, VPSchedule
from ornstein.core.inverse import (
    DDRM,
    AveragePool,
    Blur,
    DDNMPlus,
    Diagonal,
    FactorisedOperator,
    FunctionOperator,
    GaussianNoise,
    LinearFunctionOperator,
    LinearOperator,
    Mask,
    MatrixOperator,
    Measurement,
    UnequalNoise,
    factorisation,
    factorised,
)

SHAPE = (1, 6, 8)
DIM = 48


def masked_blur(seed: int = 0) -> LinearOperator:
    mask = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) < 0.6
    return Mask(mask) @ Blur.gaussian(SHAPE, 0.7)


def running_sums(rows: int = DIM) -> LinearOperator:
    return LinearFunctionOperator(lambda x: x.flatten(1).cumsum(1)[:, :rows], SHAPE)


OPERATORS = {"masked blur": masked_blur(), "running sums": running_sums(), "few of them": running_sums(20)}


def matrix(operator: LinearOperator) -> Tensor:
    return MatrixOperator.of(operator).matrix


@pytest.fixture
def never_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factorisation, "DENSE", 0)


def check(found: FactorisedOperator, rank: int, precision: float) -> None:
    """``U^T A = S V^T`` with orthonormal ``U`` and an orthogonal ``V``, of so many values."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(DIM, *SHAPE, generator=generator, dtype=torch.float64)
    s, c = found.singular_values.double(), found.vt(x)
    assert len(s) == rank
    torch.testing.assert_close(found.v(c), x, rtol=0, atol=precision)
    torch.testing.assert_close(c @ c.mT, x.flatten(1) @ x.flatten(1).mT, rtol=0, atol=60 * precision)
    torch.testing.assert_close(found.ut(found(x)), c[:, :rank] * s, rtol=0, atol=30 * precision)
    inner = torch.eye(rank, dtype=torch.float64)
    torch.testing.assert_close(found.ut(found.u(inner)), inner, rtol=0, atol=30 * precision)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_small_operator_has_the_decomposition_of_its_matrix(name: str) -> None:
    operator = OPERATORS[name]
    found, a = factorised(operator), matrix(operator)
    expected = torch.linalg.svdvals(a)
    expected = expected[expected > 1e-4 * expected[0]]
    assert isinstance(found, FactorisedOperator)
    check(found, len(expected), 1e-10)
    torch.testing.assert_close(found.singular_values, expected, rtol=1e-9, atol=0)
    y = torch.randn(3, *operator.measured, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    inverse = torch.linalg.pinv(a, rtol=1e-4)
    torch.testing.assert_close(found.pseudo_inverse(y).flatten(1), y.flatten(1) @ inverse.mT, rtol=0, atol=1e-7)
    torch.testing.assert_close(found(y.new_ones(1, *SHAPE)), operator(y.new_ones(1, *SHAPE)))
    assert found.rest < 1e-4


def test_running_sums_have_the_known_values() -> None:
    # Of the inverse of the first difference with one fixed end: 1 / (2 sin((2 k - 1) pi / (4 n + 2))).
    k = torch.arange(1, DIM + 1, dtype=torch.float64)
    expected = 0.5 / torch.sin((2 * k - 1) * math.pi / (4 * DIM + 2))
    torch.testing.assert_close(factorised(running_sums()).singular_values, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("rank", [5, 1000])
def test_a_large_operator_has_its_largest_values(name: str, rank: int, never_dense: None) -> None:
    operator = OPERATORS[name]
    expected = torch.linalg.svdvals(matrix(operator))
    found = factorised(operator, rank, iterations=8)
    count = min(rank, int((expected > 1e-4 * expected[0]).sum()))
    assert isinstance(found, FactorisedOperator)
    check(found, count, 1e-5 * max(1.0, float(expected[0])))  # columns in float32
    # Randomised spaces come from below, float32 arithmetic to 1e-6 of the largest.
    torch.testing.assert_close(found.singular_values.double(), expected[:count], rtol=0, atol=1e-3 * float(expected[0]))
    assert rank > 5 or found.rest == pytest.approx(float(expected[5]), rel=0.05)


def test_what_was_not_iterated_is_exact_for_what_it_kept(never_dense: None) -> None:
    found = factorised(running_sums(), 7, iterations=0, oversampling=0)
    assert isinstance(found, FactorisedOperator)
    check(found, 7, 1e-4)


def test_samplers_draw_through_it_as_through_the_matrix() -> None:
    operator = masked_blur()
    covariance = torch.eye(DIM).double() * 0.5 + 0.5
    prior = GaussianDenoiser(SDE(VPSchedule()), torch.zeros(DIM), covariance)
    y = operator(torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(3)))
    known = GaussianNoise(0.1)
    for build in (lambda m: DDRM(8, measurement=m), lambda m: DDNMPlus(8, measurement=m)):
        ours = build(Measurement(y, factorised(operator), known)).sample(prior, (5, *SHAPE), seed=0)
        dense = build(Measurement(y, MatrixOperator.of(operator), known)).sample(prior, (5, *SHAPE), seed=0)
        torch.testing.assert_close(ours, dense, rtol=0, atol=1e-4)


def test_what_the_rank_leaves_out_counts_as_unmeasured() -> None:
    operator, rank = running_sums(), 10
    found = factorised(operator, rank)
    expected = torch.linalg.svdvals(matrix(operator))
    assert found.singular_values.shape == (rank,)
    assert found.rest == pytest.approx(float(expected[rank]), rel=1e-9)
    x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    free = found.v(torch.nn.functional.pad(found.vt(x)[:, rank:], (rank, 0)))
    assert found.ut(found(free)).abs().max() < 1e-9
    assert found(free).abs().max() > 0.1  # A itself still sees it


def test_it_is_found_once_and_forgotten_with_its_operator(never_dense: None) -> None:
    calls = 0

    def function(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x.flatten(1).cumsum(1)

    operator = LinearFunctionOperator(function, SHAPE)
    factorised(operator, 4)
    before = calls
    factorised(operator, 4)
    assert calls == before
    factorised(operator, 5)
    assert calls > before
    gone = weakref.ref(operator)
    del operator
    gc.collect()
    assert gone() is None


def test_it_keeps_what_the_operator_does_not_measure_out() -> None:
    found = factorised(masked_blur())
    y = torch.full((1, *SHAPE), torch.nan)
    assert found.restrict(y).isnan().sum() < y.numel()


def test_operators_that_know_theirs_stay_and_others_are_refused() -> None:
    blur = Blur.gaussian(SHAPE, 1.0)
    assert factorised(blur) is blur
    each = Mask(torch.ones(2, *SHAPE, dtype=torch.bool), per_sample=True) @ blur
    for call, error, text in (
        (lambda: factorised(FunctionOperator(torch.square, SHAPE)), TypeError, "LinearOperator"),
        (lambda: factorised(masked_blur(), 0), ValueError, "rank=0"),
        (lambda: factorised(masked_blur(), oversampling=-1), ValueError, "oversampling=-1"),
        (lambda: factorised(masked_blur(), iterations=-1), ValueError, "iterations=-1"),
        (lambda: factorised(each), ValueError, "differs between samples"),
        (lambda: factorised(LinearFunctionOperator(lambda x: 0 * x, SHAPE)), ValueError, "measures nothing"),
        (lambda: FactorisedOperator(blur, torch.ones(2), torch.ones(3, 2), torch.ones(3, 2)), ValueError, "right"),
    ):
        with pytest.raises(error, match=text):
            call()
    assert isinstance(factorised(each.part(slice(0, 1))), FactorisedOperator)


def test_diagonal_weighs_and_whitens() -> None:
    weights = torch.tensor([[[1.0, -2.0], [0.0, 3.0]]])
    operator = Diagonal(weights)
    x = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(operator(x), weights * x)
    torch.testing.assert_close(operator.u(operator.vt(x) * operator.singular_values.float()), weights * x)
    torch.testing.assert_close(operator.ut(operator.u(operator.vt(x))), operator.vt(x))
    assert torch.equal(operator.pseudo_inverse(operator(x))[:, 1, 0], torch.zeros(3))
    each = Diagonal(torch.stack([weights[0], 2 * weights[0], 3 * weights[0]]))
    torch.testing.assert_close(each.part(slice(1, 2))(x[1:2]), each(x)[1:2])
    with pytest.raises(ValueError, match="weights"):
        Diagonal(torch.tensor([1.0]))

    pool = AveragePool((1, 4, 4), 2)
    variance = torch.rand(1, 1, 2, 2, generator=torch.Generator().manual_seed(6)) + 0.5
    seen = Measurement(torch.ones(1, 1, 2, 2), pool, UnequalNoise(variance))
    white = seen.whitened()
    picture = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(
        white.noise.log_likelihood(white.y, white.operator(picture)),
        seen.noise.log_likelihood(seen.y, pool(picture)),
    )
    alike = Measurement(torch.ones(1, 1, 2, 2), pool, GaussianNoise(0.3))
    assert alike.whitened() is alike
