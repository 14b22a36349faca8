"""Gaussians with independent coordinates, and the shaping of coefficients."""

import pytest
import torch

from ornstein.core import Gaussian, Process
from ornstein.core.process import broadcast


def test_log_prob_is_that_of_torch() -> None:
    mean, std = torch.randn(4, 2, 3, dtype=torch.float64), 0.1 + torch.rand(4, 1, 1, dtype=torch.float64)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    expected = torch.distributions.Normal(mean, std.expand_as(mean)).log_prob(x).sum((1, 2))
    torch.testing.assert_close(Gaussian(mean, std).log_prob(x), expected, rtol=1e-13, atol=1e-13)


def test_samples_follow_the_generator_and_the_given_noise() -> None:
    gaussian = Gaussian(torch.ones(3, 2), torch.tensor(2.0))
    seeds = [gaussian.sample(generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(seeds[0], seeds[1])
    assert not torch.equal(seeds[0], seeds[2])
    noise = torch.randn(3, 2)
    assert torch.equal(gaussian.sample(noise), 1 + 2 * noise)
    assert gaussian.variance.item() == 4


def test_moments_of_samples() -> None:
    gaussian = Gaussian(torch.full((200_000, 1), 3.0), torch.tensor(0.5))
    x = gaussian.sample(generator=torch.Generator().manual_seed(0))
    assert x.mean().item() == pytest.approx(3.0, abs=4 * 0.5 / 200_000**0.5)
    assert x.std().item() == pytest.approx(0.5, abs=4 * 0.5 / 400_000**0.5)


def test_no_spread_is_certainty() -> None:
    mean = torch.randn(2, 3)
    assert torch.equal(Gaussian(mean, torch.tensor(0.0)).sample(), mean)


@pytest.mark.parametrize("shape", [(), (4,), (1,), (4, 1)])
def test_coefficients_multiply_states(shape: tuple[int, ...]) -> None:
    coefficient, x = torch.full(shape, 0.5, dtype=torch.float64), torch.ones(4, 2, 3)
    out = broadcast(coefficient, x) * x
    assert out.dtype == torch.float32
    assert torch.equal(out, 0.5 * x)


def test_a_process_must_know_its_three_distributions() -> None:
    with pytest.raises(TypeError, match="marginal"):
        Process()  # type: ignore[abstract]
