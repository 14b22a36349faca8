"""Tests of the energies that pull predictions towards observations."""

import pytest
import torch

from ornstein.core import DDPM, SDE, EnergyGuidance, GaussianDenoiser, ObservationEnergy, VPSchedule

SEEN = torch.tensor([True, False, True])
VALUES = torch.tensor([1.0, float("nan"), -2.0]).nan_to_num()


def test_mean_square_is_half_the_squared_error_of_what_was_seen():
    prediction = torch.tensor([[0.0, 9.0, 0.0], [1.0, -9.0, -2.0]])
    assert ObservationEnergy(VALUES, SEEN)(prediction).tolist() == [2.5, 0.0]


def test_the_slope_of_the_quantile_loss_is_its_level():
    prediction = torch.zeros(2, 3, requires_grad=True)
    levels = torch.tensor([0.2, 0.7])
    ObservationEnergy(VALUES, SEEN, "quantile", levels)(prediction).sum().backward()
    expected = torch.tensor([[-0.2, 0.0, 0.8], [-0.7, 0.0, 0.3]])
    torch.testing.assert_close(prediction.grad, expected)


def test_the_minimum_of_the_quantile_loss_is_the_quantile():
    draws = torch.randn(100_001, 1, generator=torch.Generator().manual_seed(0))
    grid = torch.linspace(-2, 2, 401)
    for level in (0.1, 0.5, 0.9):
        energy = [
            float(ObservationEnergy(draws, draws == draws, "quantile", torch.full((len(draws),), level))(
                torch.full_like(draws, float(point))
            ).mean())
            for point in grid
        ]  # fmt: skip
        assert abs(grid[energy.index(min(energy))] - draws.quantile(level)) <= 0.01 + 1e-6


def test_guided_samples_follow_the_posterior_of_a_gaussian():
    """The guided score is that of the posterior at low noise: the mean comes near, and unguided it does not."""
    place = torch.arange(6.0, dtype=torch.float64)
    covariance = 0.9 ** (place[:, None] - place).abs()
    prior = GaussianDenoiser(SDE(VPSchedule()), torch.zeros(6), covariance)
    seen = torch.tensor([True, False, False, False, False, True])
    values = torch.tensor([1.5, 0, 0, 0, 0, 0.5], dtype=torch.float64)
    weights = torch.linalg.solve(covariance[seen][:, seen], covariance[seen])
    exact = values[seen] @ weights
    guided = EnergyGuidance(prior, ObservationEnergy(values, seen), scale=25.0)
    x = DDPM(200).sample(guided, (2000, 6), seed=0)
    assert (x.mean(0) - exact).abs().max() < 0.2
    assert (DDPM(200).sample(prior, (2000, 6), seed=0).mean(0) - exact).abs().max() > 0.8


@pytest.mark.parametrize(
    "arguments",
    [
        (VALUES, SEEN.float()),
        (VALUES, SEEN[:2]),
        (VALUES, SEEN, "absolute"),
        (VALUES, SEEN, "quantile"),
        (VALUES, SEEN, "quantile", torch.tensor([0.0, 0.5])),
        (VALUES, SEEN, "mean_square", torch.tensor([0.5])),
    ],
)
def test_refusals(arguments):
    with pytest.raises(ValueError, match="expected"):
        ObservationEnergy(*arguments)
