"""Log-likelihood of pictures."""

import math

import pytest
import torch

from ornstein.core import ContinuousBound, UniformDequantisation, VariationalBound, bits_per_dim
from ornstein.domains.images import ImageDiffusion


@pytest.fixture(scope="module")
def model() -> ImageDiffusion:
    """Untrained: its v is zero, which is exact for standard normal states."""
    return ImageDiffusion(4, channels=1)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(256, (3, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_log_likelihood_is_that_of_the_levels(model: ImageDiffusion, images: torch.Tensor) -> None:
    found = model.log_likelihood(images, seed=0)
    x = images.double() / 127.5 - 1
    expected = (-0.5 * x**2 - 0.5 * math.log(2 * math.pi) + math.log(2 / 255)).flatten(1).sum(1)
    # Within a bin of width 2 / 255 the density varies by this much.
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=16 / 255 + 1e-3)
    bits = bits_per_dim(-found, 16)
    assert ((bits > 7) & (bits < 9.5)).all()


@pytest.mark.parametrize("likelihood", [VariationalBound(20), ContinuousBound(), None])
def test_log_likelihood_does_not_depend_on_the_batch(model: ImageDiffusion, images: torch.Tensor, likelihood) -> None:
    whole = model.log_likelihood(images, likelihood=likelihood, seed=1)
    parts = model.log_likelihood(images, likelihood=likelihood, seed=1, batch_size=1)
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-3)
    assert whole.shape == (3,)


def test_a_bound_of_the_levels_charges_a_model_that_does_not_know_them(
    model: ImageDiffusion, images: torch.Tensor
) -> None:
    """At the end, log-SNR 14, the noise is far below a level, and the smooth model has said nothing of the levels."""
    digits, high = (images.float() / 255 * 16).round() / 16, 14.0
    bound = ContinuousBound(64, 4, quantisation=UniformDequantisation(17), spacing="log_snr", high=high)
    found = model.log_likelihood(digits, likelihood=bound, levels=17, seed=0)
    x = digits.double() * 2 - 1
    density = (-0.5 * x**2 - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)
    expected = density - 8 * (high - 1 - math.log(2 * math.pi))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2.5)  # four standard errors
