"""A network's answer about a Gaussian guess: exact under the guess, EDM's preconditioning, every prediction."""

from typing import get_args

import pytest
import torch
from torch import nn

from ornstein.core import SDE, EDMSchedule, GaussianDenoiser, NetworkDenoiser, Prediction, VPSchedule
from ornstein.core.gaussian_guess import GaussianGuess, GuessedNetwork
from ornstein.core.parameterisations import Parameterisation


class Silent(nn.Module):
    """Says nothing about the guess N(mean, std^2)."""

    def __init__(self, mean, std, prediction):
        super().__init__()
        self.mean, self.std, self.prediction = mean, std, prediction

    def forward(self, x, c):
        guess = GaussianGuess(self.mean.expand_as(x), self.std.expand_as(x), c)
        u = guess.standardise(x)
        return guess.predict(u, torch.zeros_like(u), self.prediction)


@pytest.mark.parametrize("prediction", get_args(Prediction))
@pytest.mark.parametrize("schedule", [VPSchedule(), EDMSchedule()])
def test_silence_is_the_exact_posterior_of_the_guess(prediction, schedule):
    mean, std = torch.tensor([1.0, -2.0, 0.3]).double(), torch.tensor([0.1, 0.5, 2.0]).double()
    process = SDE(schedule)
    exact = GaussianDenoiser(process, mean, torch.diag(std**2))
    ours = NetworkDenoiser(Silent(mean, std, prediction), process, prediction=prediction)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in schedule.time(torch.tensor([6.0, 0.0, -4.0], dtype=torch.float64)).tolist():
        # The noise level reaches networks in float32.
        torch.testing.assert_close(ours(x, t).mean, exact(x, t).mean, rtol=2e-5, atol=2e-5)


def test_without_mean_it_is_the_preconditioning_of_edm():
    c = torch.tensor([0.3, -0.8]).double()
    x, answer = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(1)).double()
    guess = GaussianGuess(torch.zeros(2, 5).double(), torch.full((2, 5), 0.4).double(), c)
    linear = Parameterisation("edm", 0.4).linear(guess.level)
    u = guess.standardise(x)
    torch.testing.assert_close(guess.data(u, answer), linear.p * x + linear.q * answer)
    torch.testing.assert_close(guess.noise(u, answer), linear.r * x + linear.u * answer)


def test_data_and_noise_make_the_state():
    c = torch.linspace(-2.5, 2.5, 11).double()
    x, mean, answer = torch.randn(3, 11, 4, generator=torch.Generator().manual_seed(2)).double()
    guess = GaussianGuess(mean, mean.exp(), c)
    u = guess.standardise(x)
    made = guess.level.alpha * guess.data(u, answer) + guess.level.sigma * guess.noise(u, answer)
    torch.testing.assert_close(made, x)


class Shown(nn.Module):
    """Says nothing, and remembers what it saw."""

    def forward(self, x, c):
        self.seen = x
        return torch.zeros_like(x[:, :3])


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_a_silent_network_believes_the_guess_that_it_is_shown(prediction):
    process, mean = SDE(VPSchedule()), torch.tensor([1.0, -2.0, 0.3]).double()
    network = GuessedNetwork(Shown(), 0.2, prediction)
    ours = NetworkDenoiser(network, process, prediction=prediction)
    near = GaussianDenoiser(process, mean, 0.04 * torch.eye(3).double())
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).double()
    for t in (0.05, 0.5, 0.95):
        found = ours(x, t, guess=mean.expand(2, 3)).mean
        torch.testing.assert_close(found, near(x, t).mean, rtol=2e-5, atol=2e-5)
    assert torch.equal(network.network.seen[:, 3:], mean.expand(2, 3))


def test_guesses_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="spread"):
        GuessedNetwork(Shown(), 0.0)
    for guess in (None, torch.zeros(2, 4)):
        with pytest.raises(ValueError, match="guess"):
            GuessedNetwork(Shown(), 0.1)(torch.zeros(2, 3), torch.zeros(2), guess=guess)
