"""Operators: adjoints, decompositions, pseudo-inverses, compositions, errors, and the noise of measurements."""

import math

import pytest
import torch
from scipy.ndimage import convolve
from torch import Tensor

from ornstein.core.inverse import (
    AveragePool,
    Blur,
    FourierMagnitude,
    FunctionOperator,
    GaussianNoise,
    LinearFunctionOperator,
    LinearOperator,
    Mask,
    MatrixOperator,
    Measurement,
    PoissonNoise,
    RandomProjection,
    SpectralOperator,
    Subsampling,
)

G = torch.Generator().manual_seed(0)
KEPT = torch.rand(2, 6, 5, generator=G) > 0.4

SPECTRAL: dict[str, SpectralOperator] = {
    "mask": Mask(KEPT),
    "mask_per_sample": Mask(torch.rand(3, 4, 5, generator=G) > 0.4, per_sample=True),
    "subsampling": Subsampling((2, 9, 7), 3, offset=1),
    "subsampling_of_series": Subsampling((11, 2), 2, dims=2),
    "pool": AveragePool((2, 8, 4), 4),
    "pool_of_series": AveragePool((5, 6), 3, dims=1),
    "pool_by_one": AveragePool((4,), 1, dims=1),
    "blur": Blur.gaussian((2, 8, 6), 0.7),
    "blur_uneven": Blur((3, 8, 8), torch.rand(3, 4, generator=G)),
    "blur_of_series": Blur((3, 8), torch.rand(5, generator=G)),
    "blur_that_erases": Blur((1, 4, 4), torch.full((2, 2), 0.25)),
    "wide_matrix": MatrixOperator(torch.randn(5, 12, generator=G), (3, 4)),
    "tall_matrix": MatrixOperator(torch.randn(12, 5, generator=G)),
    "projection": RandomProjection((1, 5, 5), 7),
}
LINEAR: dict[str, LinearOperator] = SPECTRAL | {
    "composition": Mask(KEPT) @ Blur.gaussian((2, 6, 5), 1.0),
    "function": LinearFunctionOperator(lambda x: x.cumsum(-1)[..., ::2], (3, 8)),
}


def pair(operator: LinearOperator) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = (operator.shape, operator.measured)
    x, y = (torch.randn(3, *shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return x, y


def dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


@pytest.mark.parametrize("name", LINEAR)
def test_adjoint(name: str) -> None:
    operator = LINEAR[name]
    x, y = pair(operator)
    assert operator(x).shape == y.shape
    torch.testing.assert_close(dot(operator(x), y), dot(x, operator.adjoint(y)), rtol=1e-12, atol=1e-12)
    # The adjoint is the transposed Jacobian, which autograd knows.
    torch.testing.assert_close(operator.vjp(x, y), super(LinearOperator, operator).vjp(x, y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SPECTRAL)
def test_decomposition(name: str) -> None:
    operator = SPECTRAL[name]
    x, y = pair(operator)
    s = operator.singular_values
    c, rank = operator.vt(x), s.shape[-1]
    assert c.shape == (3, math.prod(operator.shape))
    assert rank == min(math.prod(operator.shape), math.prod(operator.measured))
    torch.testing.assert_close(operator.v(c), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(c.norm(dim=1), x.flatten(1).norm(dim=1), rtol=1e-12, atol=0)
    torch.testing.assert_close(operator.u(c[:, :rank] * s), operator(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(operator.ut(operator.u(c[:, :rank])), c[:, :rank], rtol=0, atol=1e-12)
    torch.testing.assert_close(SpectralOperator.adjoint(operator, y), operator.adjoint(y), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SPECTRAL)
def test_pseudo_inverse_has_the_four_properties_of_moore_and_penrose(name: str) -> None:
    operator = SPECTRAL[name]
    x, y = pair(operator)
    inverse = operator.pseudo_inverse
    torch.testing.assert_close(operator(inverse(operator(x))), operator(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(inverse(operator(inverse(y))), inverse(y), rtol=0, atol=1e-10)
    other_x, other_y = x.flip(0), y.flip(0)
    if name != "mask_per_sample":  # whose samples must not change places
        torch.testing.assert_close(
            dot(operator.project(x), other_x), dot(x, operator.project(other_x)), atol=1e-10, rtol=0
        )
        fit = operator(inverse(y))
        torch.testing.assert_close(dot(fit, other_y), dot(y, operator(inverse(other_y))), atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ["mask", "pool", "blur_uneven", "subsampling", "wide_matrix"])
def test_singular_values_are_those_of_the_matrix(name: str) -> None:
    operator = SPECTRAL[name]
    matrix = MatrixOperator.of(operator).matrix
    expected = torch.linalg.svdvals(matrix)
    torch.testing.assert_close(operator.singular_values.sort(descending=True).values, expected, rtol=0, atol=1e-10)


def test_blur_is_scipy_convolution_with_wrapped_edges() -> None:
    kernel = torch.rand(3, 5, generator=G, dtype=torch.float64)
    x = torch.randn(1, 1, 8, 6, generator=G, dtype=torch.float64)
    expected = torch.from_numpy(convolve(x[0, 0].numpy(), kernel.numpy(), mode="wrap"))
    torch.testing.assert_close(Blur((1, 8, 6), kernel)(x)[0, 0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(Blur.gaussian((1, 9, 9), 0.8)(torch.ones(1, 1, 9, 9)), torch.ones(1, 1, 9, 9))


def test_pool_subsampling_and_mask_do_what_they_say() -> None:
    x = torch.randn(2, 3, 8, 8, generator=G)
    torch.testing.assert_close(AveragePool((3, 8, 8), 4)(x), torch.nn.functional.avg_pool2d(x, 4))
    torch.testing.assert_close(Subsampling((3, 8, 8), 4, offset=1)(x), x[..., 1::4, 1::4])
    known = torch.rand(3, 8, 8, generator=G) > 0.5
    torch.testing.assert_close(Mask(known)(x), x * known)


def test_composition_applies_the_right_one_first() -> None:
    pool, blur = AveragePool((1, 8, 8), 2), Blur.gaussian((1, 8, 8), 1.0)
    x = torch.randn(2, 1, 8, 8, generator=G)
    torch.testing.assert_close((pool @ blur)(x), pool(blur(x)))
    matrix = MatrixOperator.of(pool @ blur)
    torch.testing.assert_close(matrix(x), pool(blur(x)))
    with pytest.raises(ValueError, match="outer takes"):
        blur @ pool
    with pytest.raises(NotImplementedError, match=r"factorised\(operator\)"):
        (pool @ blur).pseudo_inverse(pool(blur(x)))


def test_phase_retrieval_loses_what_it_should() -> None:
    operator = FourierMagnitude((1, 6, 6), 3)
    x = torch.rand(2, 1, 6, 6, generator=G, dtype=torch.float64) + 0.1
    y = operator(x)
    assert y.shape == (2, 1, 12, 12)
    torch.testing.assert_close(operator(-x), y)
    torch.testing.assert_close(operator(x.flip(-1, -2)), y)
    torch.testing.assert_close(y.square().sum((1, 2, 3)), x.square().sum((1, 2, 3)))  # Parseval
    v, u = (
        torch.randn(y.shape, generator=G, dtype=torch.float64),
        torch.randn(x.shape, generator=G, dtype=torch.float64),
    )
    slope = (operator(x + 1e-6 * u) - operator(x - 1e-6 * u)) / 2e-6
    torch.testing.assert_close(dot(operator.vjp(x, v), u), dot(v, slope), rtol=1e-6, atol=1e-6)
    assert operator.vjp(torch.zeros_like(x), v).isfinite().all()


def test_functions_tell_their_shape_and_whether_they_are_linear() -> None:
    assert FunctionOperator(lambda x: x[:, :2] ** 2, (4,)).measured == (2,)
    with pytest.raises(ValueError, match="not linear"):
        LinearFunctionOperator(lambda x: x + 1, (4,))
    with pytest.raises(ValueError, match="not linear"):
        LinearFunctionOperator(lambda x: x**2, (4,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mask(torch.ones(3)), "torch.bool"),
        (lambda: AveragePool((1, 6, 6), 4), "multiples of factor=4"),
        (lambda: AveragePool((6, 6), 2, dims=3), "dims=3"),
        (lambda: Subsampling((6,), 7, dims=1), "factor=7"),
        (lambda: Subsampling((6,), 2, dims=1, offset=2), "offset=2"),
        (lambda: Blur((1, 4, 4), torch.ones(5, 5)), r"kernel of shape \(5, 5\)"),
        (lambda: Blur.gaussian((1, 4, 4), 0.0), "std=0.0"),
        (lambda: MatrixOperator(torch.ones(3)), "two axes"),
        (lambda: MatrixOperator(torch.ones(3, 4), (5,)), "3 rows"),
        (lambda: FourierMagnitude((4, 4), -1), "padding=-1"),
        (lambda: GaussianNoise(-1.0), "std=-1.0"),
        (lambda: PoissonNoise(0.0), "gain=0.0"),
    ],
)
def test_errors_at_the_boundary(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_noise_has_the_moments_that_it_states() -> None:
    clean = torch.full((200_000, 1), 3.0)
    generator = torch.Generator().manual_seed(0)
    gaussian, poisson = GaussianNoise(0.5), PoissonNoise(4.0)
    for noise, variance in ((gaussian, 0.25), (poisson, 3.0 / 4)):
        y = noise.sample(clean, generator)
        assert abs(float(y.mean()) - 3) < 4 * (variance / len(y)) ** 0.5
        assert abs(float(y.var()) / variance - 1) < 0.02
    assert gaussian.variance(clean) == 0.25
    torch.testing.assert_close(poisson.variance(torch.tensor([3.0, 0.0])), torch.tensor([0.75, 1 / 16]))


def test_log_likelihoods_are_torchs_up_to_a_constant() -> None:
    y, means = torch.tensor([[1.5]]), torch.tensor([[0.5], [2.0]])
    gaussian = torch.distributions.Normal(means, 0.7).log_prob(y)[:, 0]
    poisson = torch.distributions.Poisson(2 * means).log_prob(2 * y)[:, 0]
    for noise, expected in ((GaussianNoise(0.7), gaussian), (PoissonNoise(2.0), poisson)):
        ours = noise.log_likelihood(y, means)
        torch.testing.assert_close(ours - ours[0], expected - expected[0])


def test_measurements_check_what_they_are_given() -> None:
    mask = Mask(torch.tensor([True, False, True]))
    measurement = Measurement(torch.tensor([[1.0, torch.nan, 3.0]]), mask)
    assert measurement.y.tolist() == [[1, 0, 3]]  # whatever stood outside of the mask
    with pytest.raises(ValueError, match="NaN"):
        Measurement(torch.tensor([[torch.nan, 0.0, 3.0]]), mask)
    with pytest.raises(ValueError, match=r"expected \(batch, \*\(3,\)\)"):
        Measurement(torch.ones(1, 2), mask)
    with pytest.raises(TypeError, match="expected an Operator"):
        Measurement(torch.ones(1, 3), torch.eye(3))
    with pytest.raises(ValueError, match=r"states of shape \(2, 4\)"):
        measurement.like(torch.ones(2, 4))
    several = Measurement(torch.ones(4, 3), mask)
    assert len(several[1:3].y) == 2
    assert measurement[1:3] is measurement
    with pytest.raises(ValueError, match="states of shape"):
        several.like(torch.ones(2, 3))
