"""Score-MRI and Song's replacement: exact where what is seen tells nothing of the rest, biased elsewhere."""

import pytest
import torch

from ornstein.core import SDE, GaussianDenoiser, IndependentNoise, PredictorCorrector, VESchedule, VPSchedule
from ornstein.core.inverse import (
    POSTERIOR_METHODS,
    GaussianNoise,
    LinearFunctionOperator,
    Mask,
    MatrixOperator,
    MeasuredReplacement,
    Measurement,
    PoissonNoise,
    ScoreMRI,
    UnequalNoise,
    least_norm,
    posterior_sampler,
    square_norm,
)

G = torch.Generator().manual_seed(0)
MATRIX = torch.randn(2, 6, generator=G, dtype=torch.float64)
MEAN = torch.tensor([0.5, -1.0, 0.3, 0.0, 1.0, -0.2], dtype=torch.float64)
SPREAD = torch.tensor([1.0, 0.6, 0.8, 1.2, 0.5, 0.9], dtype=torch.float64)
KINDS = [ScoreMRI, MeasuredReplacement]


def seen(std: float = 0.0) -> Measurement:
    y = torch.tensor([[1.0, -0.5, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    return Measurement(y, Mask(torch.arange(6) < 2), GaussianNoise(std))


@pytest.mark.parametrize("schedule", [VPSchedule(), VESchedule(0.002, 80.0)], ids=["vp", "ve"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_posterior_of_independent_coordinates_is_exact(kind, schedule) -> None:
    # What is seen is put in; what is not has the distribution of the prior.
    prior = GaussianDenoiser(SDE(schedule), MEAN, SPREAD.square().diag())
    sampler = kind(100, measurement=seen())
    x = sampler.sample(prior, (4096, 6), noise=IndependentNoise(torch.Generator().manual_seed(1))).double()
    # Song's last step is a prediction after the last replacement, at little noise.
    assert (x[:, :2] - seen().y[0, :2]).abs().max() < (1e-5 if kind is ScoreMRI else 0.1)
    hidden = x[:, 2:]
    assert ((hidden.mean(0) - MEAN[2:]).abs() / SPREAD[2:]).max() < 5 / 4096**0.5
    torch.testing.assert_close(hidden.std(0), SPREAD[2:], rtol=0.06, atol=0)
    correlation = torch.corrcoef(x[:, 2:].T) - torch.eye(4)
    assert correlation.abs().max() < 5 / 4096**0.5


def test_without_weight_songs_method_is_the_unconditional_sampler() -> None:
    prior = GaussianDenoiser(SDE(VPSchedule()), MEAN, SPREAD.square().diag())
    sampler = MeasuredReplacement(60, measurement=seen(), weight=0.0)
    x = sampler.sample(prior, (4096, 6), noise=IndependentNoise(torch.Generator().manual_seed(2))).double()
    plain = PredictorCorrector(60).sample(prior, (4096, 6), noise=IndependentNoise(torch.Generator().manual_seed(3)))
    assert (x.mean(0) - plain.double().mean(0)).abs().max() < 0.08
    torch.testing.assert_close(x.std(0), plain.double().std(0), rtol=0.06, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_on_correlated_data_they_come_near_and_are_not_exact(kind) -> None:
    root = torch.randn(6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64) / 6**0.5
    covariance = root @ root.T + 0.1 * torch.eye(6, dtype=torch.float64)
    prior = GaussianDenoiser(SDE(VPSchedule()), MEAN, covariance)
    measurement = Measurement.simulate(MEAN[None] + 1.0, MatrixOperator(MATRIX))
    gain = covariance @ MATRIX.T @ torch.linalg.inv(MATRIX @ covariance @ MATRIX.T)
    exact = MEAN + gain @ (measurement.y[0] - MATRIX @ MEAN)
    noise = IndependentNoise(torch.Generator().manual_seed(0))
    x = kind(200, measurement=measurement).sample(prior, (2048, 6), noise=noise).double()
    error, prior_error = (x.mean(0) - exact).norm(), (MEAN - exact).norm()
    assert error < 0.5 * prior_error
    # Song's measured part is exact up to the last prediction; a gradient step at a time comes near.
    misfit = (MATRIX @ x.mean(0) - measurement.y[0]).norm() / (measurement.y[0] - MATRIX @ MEAN).norm()
    assert misfit < 0.1


@pytest.mark.parametrize("name", ["score_mri", "measured_replacement"])
@pytest.mark.parametrize("evaluations", [1, 2, 9, 40])
def test_presets_keep_to_their_evaluations(name: str, evaluations: int) -> None:
    calls = 0

    class Counting(GaussianDenoiser):
        def forward(self, *args, **condition):
            nonlocal calls
            calls += 1
            return super().forward(*args, **condition)

    prior = Counting(SDE(VPSchedule()), MEAN, SPREAD.square().diag())
    sampler, denoiser = posterior_sampler(name, prior, seen(), evaluations)
    x = sampler.sample(denoiser, (3, 6), seed=7)
    assert calls == sampler.nfe(process=prior.process) <= evaluations
    assert evaluations < 9 or calls > 0.6 * evaluations
    torch.testing.assert_close(x[2:], sampler.sample(denoiser, (1, 6), seed=7, first=2), rtol=1e-5, atol=1e-6)
    assert name in POSTERIOR_METHODS


def test_least_norm_and_norm_without_a_decomposition() -> None:
    plain = MatrixOperator(MATRIX)
    blind = LinearFunctionOperator(lambda x: x @ MATRIX.T.to(x), (6,))
    y = torch.randn(5, 2, generator=G, dtype=torch.float64)
    expected = y @ torch.linalg.pinv(MATRIX).T
    for operator in (plain, blind):
        torch.testing.assert_close(least_norm(operator, y), expected, rtol=1e-8, atol=1e-10)
        assert square_norm(operator, 200) == pytest.approx(float(torch.linalg.svdvals(MATRIX)[0]) ** 2, rel=1e-5)


def test_errors_name_what_is_wrong() -> None:
    for build, name in (
        (lambda: ScoreMRI(5, measurement=seen(), weight=2.0), "weight"),
        (lambda: MeasuredReplacement(5, measurement=seen(), weight=1.5), "weight"),
        (lambda: MeasuredReplacement(5, measurement=seen(), iterations=0), "iterations"),
        (lambda: UnequalNoise(torch.zeros(1, 6)), "spread"),
        (lambda: UnequalNoise(torch.ones(6)), "spread"),
    ):
        with pytest.raises(ValueError, match=name):
            build()
    with pytest.raises(TypeError, match="measurement"):
        ScoreMRI(5, measurement=None)


def test_unequal_noise_has_its_variances_and_those_of_the_samples_asked_for() -> None:
    spread = torch.tensor([[0.04, 1.0, 4.0]])
    noise = UnequalNoise(spread)
    y = noise.sample(torch.zeros(20000, 3), torch.Generator().manual_seed(0))
    torch.testing.assert_close(y.var(0), spread[0], rtol=0.05, atol=0)
    shift = torch.tensor([[0.1, 0.2, 0.3]])
    expected = torch.distributions.Normal(torch.zeros(1, 3), spread.sqrt())
    difference = noise.log_likelihood(shift, torch.zeros(1, 3)) - noise.log_likelihood(0 * shift, torch.zeros(1, 3))
    reference = (expected.log_prob(shift) - expected.log_prob(torch.zeros(1, 3))).sum(1)
    torch.testing.assert_close(difference, reference)
    several = Measurement(torch.ones(4, 3), Mask(torch.ones(3) > 0), UnequalNoise(torch.arange(1.0, 13).reshape(4, 3)))
    assert torch.equal(several[1:3].variance, torch.arange(4.0, 10).reshape(2, 3))
    one = Measurement(torch.ones(4, 3), Mask(torch.ones(3) > 0), noise)
    assert torch.equal(one[1:3].variance, spread)
    assert PoissonNoise().part(slice(0, 1)) == PoissonNoise()
