"""Bits per dimension and dequantisation."""

import math

import pytest
import torch

from ornstein.core import SeededNoise
from ornstein.core.likelihood import UniformDequantisation, bits_per_dim


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
def test_uniform_model_of_eight_bit_data_has_eight_bits(low: float, high: float) -> None:
    scale = UniformDequantisation(256, low, high)
    density = 1 / (256 * scale.width)  # uniform over all bins
    nats = -784 * math.log(density)
    assert scale.bits_per_dim(nats, 784) == pytest.approx(8, abs=1e-9)
    assert bits_per_dim(nats, 784, width=scale.width) == scale.bits_per_dim(nats, 784)


def test_bits_per_dim_of_a_batch_with_its_own_sizes() -> None:
    dims = torch.tensor([3.0, 5.0])
    torch.testing.assert_close(bits_per_dim(dims * math.log(2), dims), torch.ones(2))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantisation_is_undone_and_uniform_in_the_bin(levels: int) -> None:
    scale = UniformDequantisation(levels)
    integers = torch.randint(levels, (40, 500), generator=torch.Generator().manual_seed(0))
    x = scale.dequantise(integers, seed=1)
    assert torch.equal(scale.quantise(x), integers)
    u = ((x.double() - scale.centre(integers).double()) / scale.width + 0.5).flatten().sort().values
    uniform = torch.linspace(0, 1, len(u), dtype=torch.float64)
    # Kolmogorov's statistic at 1e-6.
    assert float((u - uniform).abs().max()) * len(u) ** 0.5 < 2.7
    assert scale.centre(torch.tensor([0, levels - 1])).tolist() == [-1, 1]


def test_dequantisation_of_a_sample_depends_on_its_seed_and_number() -> None:
    scale, integers = UniformDequantisation(16), torch.arange(16).reshape(4, 4)
    whole = scale.dequantise(integers, seed=5)
    assert torch.equal(whole[2:], scale.dequantise(integers[2:], seed=5, first=2))
    # The noise of the same seed, which a likelihood then draws, has nothing to do with it.
    many = torch.zeros(1000, 1, dtype=torch.int64)
    noise = SeededNoise(5).begin(1000, 0).draw(many.float())
    u = scale.dequantise(many, seed=5)
    assert abs(float(torch.corrcoef(torch.cat([u, noise], 1).T)[0, 1])) < 0.13  # four standard errors
    assert not torch.equal(whole, scale.dequantise(integers))


def test_probabilities_of_the_bins_sum_to_one_and_have_finite_gradients() -> None:
    scale = UniformDequantisation(256)
    places = scale.centre(torch.arange(256)).double()
    for mean, std in ((0.3, 0.2), (-1.2, 0.01), (0.999, 3.0), (5.0, 0.05)):
        centre = torch.tensor(mean, dtype=torch.float64, requires_grad=True)
        log_p = scale.log_prob(places, centre, std)
        torch.testing.assert_close(log_p.exp().sum(), torch.ones((), dtype=torch.float64), rtol=1e-9, atol=0)
        (slope,) = torch.autograd.grad(log_p.sum(), centre)
        assert slope.isfinite()
    # In the middle of a bin much narrower than the Gaussian it is density times width.
    expected = -0.5 * math.log(2 * math.pi * 9) - 0.5 * (places[100] / 3) ** 2 + math.log(scale.width)
    torch.testing.assert_close(scale.log_prob(places[100], torch.zeros(()).double(), 3.0), expected, rtol=1e-6, atol=0)


def test_refuses_what_is_out_of_range() -> None:
    with pytest.raises(ValueError, match="0 to 15"):
        UniformDequantisation(16).dequantise(torch.tensor([[16]]))
    with pytest.raises(ValueError, match="integer dtype"):
        UniformDequantisation(16).dequantise(torch.tensor([[1.0]]))
    with pytest.raises(ValueError, match="levels=1"):
        UniformDequantisation(1)
    with pytest.raises(ValueError, match="width=0"):
        bits_per_dim(1.0, 3, width=0)
