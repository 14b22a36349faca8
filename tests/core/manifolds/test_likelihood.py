"""The likelihood on manifolds against exact mixtures."""

import math

import pytest
import torch
from manifold_spaces import every_exact_space, mixture, points, quadrature

from ornstein.core import SDE, CosineSchedule, GaussianDenoiser, VESchedule
from ornstein.core.likelihood.geodesic import GeodesicLikelihood
from ornstein.core.manifolds import SO3, HeatMixtureDenoiser, RiemannianDenoiser, RiemannianProcess, Sphere, Torus
from ornstein.core.nn import MLP


@every_exact_space
@pytest.mark.parametrize("schedule", [VESchedule(1e-4, 7.0), CosineSchedule()], ids=["ve", "cosine"])
def test_log_density_is_exact_on_every_manifold(manifold, event, schedule) -> None:
    denoiser = mixture(manifold, event, schedule)
    x = denoiser.sample(6, generator=torch.Generator().manual_seed(0))
    found = GeodesicLikelihood(1e-6, 1e-6).evaluate(denoiser, x)
    torch.testing.assert_close(found.log_prob, denoiser.log_prob(x), rtol=0, atol=1e-4)
    assert (found.standard_error == 0).all()
    assert found.prior_kl.max() < 1e-10
    assert found.nfe > 10
    manifold.check(found.latent)


@every_exact_space
def test_hutchinsons_estimate_is_unbiased_and_knows_its_error(manifold, event) -> None:
    denoiser = mixture(manifold, event)
    x = denoiser.sample(3, generator=torch.Generator().manual_seed(0))
    runs = 40
    likelihood = GeodesicLikelihood(1e-4, 1e-4, trace="hutchinson", probes=4)
    found = likelihood.evaluate(denoiser, x.repeat_interleave(runs, 0), seed=0)
    values, errors = found.log_prob.reshape(3, runs), found.standard_error.reshape(3, runs)
    spread = values.std(1)
    assert ((values.mean(1) - denoiser.log_prob(x)).abs() < 4 * spread / runs**0.5 + 1e-3).all()
    ratio = errors.square().mean(1).sqrt() / spread
    assert ((ratio > 0.6) & (ratio < 1.6)).all()
    again = likelihood.evaluate(denoiser, x.repeat_interleave(runs, 0)[7:9], seed=0, first=7)
    torch.testing.assert_close(again.log_prob, found.log_prob[7:9], rtol=0, atol=1e-2)
    single = GeodesicLikelihood(1e-3, 1e-3, trace="hutchinson", probes=1).evaluate(denoiser, x)
    assert single.standard_error.isnan().all()


def test_starting_late_costs_what_is_reported() -> None:
    denoiser = mixture(Sphere(2), (3,))
    x = denoiser.sample(6, generator=torch.Generator().manual_seed(0))
    late = GeodesicLikelihood(1e-7, 1e-7, high=5.0).evaluate(denoiser, x)
    error = late.log_prob - denoiser.log_prob(x)
    assert late.truncation.abs().max() > 5e-3
    assert (error - late.truncation).abs().max() < 0.15 * late.truncation.abs().max()


def test_a_prior_that_is_not_reached_is_reported() -> None:
    process = RiemannianProcess(Torus(1), VESchedule(1e-3, 3.0))  # 0.0001 nats are left
    denoiser = HeatMixtureDenoiser(process, [1.0], torch.zeros(1, 1), [0.1])
    x = torch.tensor([[0.2]], dtype=torch.float64)
    found = GeodesicLikelihood(1e-7, 1e-7).evaluate(denoiser, x)
    assert float(found.prior_kl) == pytest.approx(math.exp(-9), rel=0.01)
    assert abs(float(found.log_prob - denoiser.log_prob(x))) < 2 * math.exp(-4.5)
    assert abs(float(found.log_prob - denoiser.log_prob(x))) > 1e-4


def test_density_of_a_network_sums_to_one() -> None:
    torch.manual_seed(0)
    for manifold in (Sphere(2), Torus(2)):
        y, weight = quadrature(manifold, 16)
        network = MLP(manifold.features(y).shape[1], out_features=manifold.output_shape(y)[1], width=16, depth=1)
        torch.nn.init.normal_(network.leave.weight, std=0.05)
        denoiser = RiemannianDenoiser(network, RiemannianProcess(manifold, VESchedule(0.05, 5.0)))
        density = GeodesicLikelihood(1e-5, 1e-5).evaluate(denoiser, y).log_prob.exp()
        assert density.std() > 0.1 * density.mean()
        assert float((density * weight).sum()) == pytest.approx(1, abs=1e-3)


def test_padded_torsions_have_the_density_of_the_real_ones() -> None:
    whole = mixture(Torus(), (4,))
    part = HeatMixtureDenoiser(whole.process, [0.7, 0.3], whole.centers[:, :2], whole.variances)
    x = points(Torus(), (3, 4), 0)
    mask = torch.tensor([[True, True, False, False]] * 2 + [[True] * 4])
    likelihood = GeodesicLikelihood(1e-6, 1e-6)
    found = likelihood.evaluate(whole, x * mask, mask=mask)
    torch.testing.assert_close(found.log_prob[:2], part.log_prob(x[:2, :2]), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.log_prob[2:], whole.log_prob(x[2:]), rtol=0, atol=1e-4)
    assert (found.latent[~mask] == 0).all()


def test_bad_input_is_refused() -> None:
    denoiser = mixture(SO3(), (3, 3))
    x = points(SO3(), (2, 3, 3), 0)
    with pytest.raises(ValueError, match=r"x0 is .* off the manifold"):
        GeodesicLikelihood().evaluate(denoiser, 1.1 * x)
    with pytest.raises(ValueError, match="seed and noise"):
        GeodesicLikelihood(trace="hutchinson").evaluate(denoiser, x, seed=0, noise=object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="high=-4"):
        GeodesicLikelihood(high=-4.0).evaluate(denoiser, x)
    flat = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2))
    with pytest.raises(TypeError, match="expected one on a RiemannianProcess"):
        GeodesicLikelihood().evaluate(flat, torch.zeros(1, 2))  # type: ignore[arg-type]
    for bad in ({"rtol": 0.0}, {"atol": -1.0}, {"trace": "full"}, {"probes": 0}, {"high": math.inf}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            GeodesicLikelihood(**bad)  # type: ignore[arg-type]
