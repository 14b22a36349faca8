"""The ODE likelihood against closed forms (F5 of the reference tests)."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from ornstein.core import (
    SDE,
    ClosedFormDenoiser,
    CosineSchedule,
    FlowSchedule,
    GaussianDenoiser,
    NetworkDenoiser,
    Schedule,
    SubVPSchedule,
    VESchedule,
)
from ornstein.core.likelihood import ODELikelihood
from ornstein.core.testing import anisotropic_gaussian, three_modes

PROBLEMS = [anisotropic_gaussian, three_modes]


def _data(denoiser: ClosedFormDenoiser, num: int = 8) -> torch.Tensor:
    return _clean(denoiser).sample(num, generator=torch.Generator().manual_seed(0))


def _clean(denoiser: ClosedFormDenoiser) -> ClosedFormDenoiser:
    """The same data under a process that reaches them."""
    return {GaussianDenoiser: anisotropic_gaussian}.get(type(denoiser), three_modes)(SDE(FlowSchedule()))


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize(("tolerance", "most"), [(1e-4, 1e-2), (1e-6, 1e-4)])
def test_log_density_is_exact_within_a_hundred_tolerances(problem, tolerance: float, most: float) -> None:
    denoiser = problem(SDE(CosineSchedule()))
    x = _data(denoiser)
    found = ODELikelihood(tolerance, tolerance, trace="exact", prior="exact").evaluate(denoiser, x)
    torch.testing.assert_close(found.log_prob, denoiser.log_prob(x), rtol=0, atol=most)
    assert (found.standard_error == 0).all()
    assert (found.prior_kl == 0).all()


@pytest.mark.parametrize("schedule", [VESchedule(1e-3, 80.0), FlowSchedule(), SubVPSchedule()])
def test_log_density_is_that_of_the_data_under_every_schedule(schedule: Schedule) -> None:
    denoiser = three_modes(SDE(schedule))
    x = _data(denoiser)
    found = ODELikelihood(1e-6, 1e-6, trace="exact", prior="exact").evaluate(denoiser, x)
    torch.testing.assert_close(found.log_prob, _clean(denoiser).log_prob(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
def test_hutchinson_is_unbiased_and_knows_its_error(problem, probe: str) -> None:
    denoiser = problem(SDE(CosineSchedule()))
    x = _data(denoiser, 6)
    likelihood = ODELikelihood(1e-5, 1e-5, probes=4, probe=probe, prior="exact")  # type: ignore[arg-type]
    found = likelihood.evaluate(denoiser, x.repeat(128, 1), seed=0)  # 512 probes a point
    runs, errors = found.log_prob.reshape(128, 6), found.standard_error.reshape(128, 6)
    spread = runs.std(0)
    assert (spread > 1e-2).all()
    assert ((runs.mean(0) - denoiser.log_prob(x)).abs() < 4 * spread / 128**0.5 + 1e-3).all()
    # The mean of 128 estimates of a variance, each of three degrees of freedom and heavy tails.
    ratio = errors.square().mean(0).sqrt() / spread
    assert ((ratio > 0.7) & (ratio < 1.4)).all()


def test_the_prior_and_the_start_cost_what_is_reported() -> None:
    """Under VE with little noise at the end, and with much left at the start."""
    denoiser = anisotropic_gaussian(SDE(VESchedule(0.02, 80.0)))
    x = _data(denoiser, 4000)
    exact = _clean(denoiser).log_prob(x)
    truncated = ODELikelihood(1e-7, 1e-7, trace="exact", prior="exact").evaluate(denoiser, x[:20])
    # The first order leaves the second, r^4.
    rest = truncated.log_prob - truncated.truncation - exact[:20]
    assert truncated.truncation.abs().max() > 1e-3
    assert rest.abs().max() < 0.1 * truncated.truncation.abs().max()
    small = dataclasses.replace(VESchedule(), sigma_min=1e-4, sigma_max=10.0)
    normal = ODELikelihood(1e-5, 1e-5, trace="exact").evaluate(anisotropic_gaussian(SDE(small)), x)
    values, mean_square = torch.tensor([1.5, 0.4, 0.05]).double(), 0.5**2 + 1 + 0.3**2
    ratio = values / 100
    gap = 0.5 * (ratio - torch.log1p(ratio)).sum() + 0.5 * mean_square / 100  # KL(p_T || prior)
    found = exact - normal.log_prob
    assert abs(found.mean() - gap) < 4 * found.std() / len(x) ** 0.5
    assert normal.prior_kl.mean() > gap


def test_round_trip_returns_to_the_data() -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    trip = ODELikelihood(1e-7, 1e-7, trace="exact").round_trip(denoiser, _data(denoiser))
    assert trip.state.max() < 1e-5
    assert trip.log_prob.max() < 1e-5
    coarse = ODELikelihood(1e-3, 1e-3, trace="exact").round_trip(denoiser, _data(denoiser))
    assert coarse.state.max() > trip.state.max()
    assert coarse.nfe < trip.nfe


class _Affine(nn.Module):
    """The noise prediction that is exact for ``N(0, S)`` under a variance-preserving process."""

    def __init__(self, covariance: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("covariance", covariance)
        self.calls = 0

    def forward(self, x: torch.Tensor, c: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        self.calls += 1
        log_snr = (-8 * c[0]).double()
        alpha2, sigma2 = log_snr.sigmoid(), (-log_snr).sigmoid()
        w = alpha2 * self.covariance + sigma2 * torch.eye(len(self.covariance)).double()
        eps = sigma2.sqrt() * torch.linalg.solve(w, x.flatten(1).double().T).T
        return eps.reshape(x.shape).to(x.dtype) + (0 if shift is None else shift)


def _network() -> tuple[NetworkDenoiser, GaussianDenoiser]:
    covariance = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.5, 0.6, 0.1, 0.0], [0.0, 0.1, 0.3, 0.0], [0.0, 0.0, 0.0, 0.2]])
    process = SDE(CosineSchedule())
    denoiser = NetworkDenoiser(_Affine(covariance.double()), process, prediction="eps")
    return denoiser, GaussianDenoiser(process, torch.zeros(4), covariance.double())


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_a_network_in_float32_has_its_likelihood(trace: str) -> None:
    denoiser, exact = _network()
    x = exact.sample(5, generator=torch.Generator().manual_seed(0)).float().reshape(5, 2, 2)
    likelihood = ODELikelihood(1e-4, 1e-4, trace=trace, probes=64)  # type: ignore[arg-type]
    found = likelihood.evaluate(denoiser, x, seed=0)
    assert found.log_prob.dtype == found.latent.dtype == torch.float32
    assert found.latent.shape == x.shape
    assert found.nfe == denoiser.network.calls
    off = (found.log_prob - exact.log_prob(x.flatten(1))).abs()
    assert (off < 5e-3 + 4 * found.standard_error).all()


def test_probes_depend_on_seed_and_sample_alone() -> None:
    denoiser, exact = _network()
    x = exact.sample(4, generator=torch.Generator().manual_seed(0))
    likelihood = ODELikelihood(1e-7, 1e-7, probes=2)
    whole = likelihood.evaluate(denoiser, x, seed=3)
    part = likelihood.evaluate(denoiser, x[2:], seed=3, first=2)
    torch.testing.assert_close(whole.log_prob[2:], part.log_prob, rtol=0, atol=1e-5)
    other = likelihood.evaluate(denoiser, x, seed=4)
    assert (whole.log_prob - other.log_prob).abs().max() > 1e-2


class _Padded(nn.Module):
    """As `_Affine` for independent coordinates; asserts that padding is zero."""

    def forward(self, x: torch.Tensor, c: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        assert (x[~mask] == 0).all()
        log_snr = (-8 * c[0]).double()
        w = 0.5 * log_snr.sigmoid() + (-log_snr).sigmoid()
        return ((-log_snr).sigmoid().sqrt() / w).to(x) * x


def test_padding_has_no_density() -> None:
    denoiser = NetworkDenoiser(_Padded(), SDE(CosineSchedule()), prediction="eps")
    x = torch.randn(2, 3, 2, dtype=torch.float64)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    found = ODELikelihood(1e-6, 1e-6, trace="exact").evaluate(denoiser, x, mask=mask)
    normal = -(x**2) - 0.5 * math.log(math.pi)  # N(0, 1/2)
    expected = (normal.sum(2) * mask).sum(1)
    torch.testing.assert_close(found.log_prob, expected, rtol=0, atol=1e-4)
    assert (found.latent[~mask] == 0).all()


def test_refuses_what_it_cannot_do() -> None:
    denoiser, _ = _network()
    with pytest.raises(ValueError, match="closed-form"):
        ODELikelihood(prior="exact").evaluate(denoiser, torch.zeros(1, 4))
    with pytest.raises(ValueError, match="trace='none'"):
        ODELikelihood(trace="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one"):
        ODELikelihood().evaluate(denoiser, torch.zeros(1, 4), seed=0, noise=object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="within the schedule's"):
        ODELikelihood(low=12.0).evaluate(NetworkDenoiser(denoiser.network, SDE(VESchedule())), torch.zeros(1, 4))
