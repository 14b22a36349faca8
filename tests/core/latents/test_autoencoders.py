"""Autoencoders: shapes, the divergence, what is refused, and the objective."""

import pytest
import torch
from torch import nn
from torch.distributions import Laplace, Normal, kl_divergence

from ornstein.core.latents import (
    AutoencoderObjective,
    KLAutoencoder,
    VQAutoencoder,
    kl_to_standard_normal,
)
from ornstein.core.process import Gaussian

SPACES = {1: (12,), 2: (8, 12), 3: (4, 8, 4)}


def kl(dims: int = 2, **options) -> KLAutoencoder:
    return KLAutoencoder(2, 3, dims, widths=(8, 8, 16), **options)


def vq(dims: int = 2, **options) -> VQAutoencoder:
    return VQAutoencoder(2, 12, 3, dims, widths=(8, 8, 16), **options)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("attention", [False, True])
def test_shapes_in_every_number_of_dimensions(dims, attention):
    x = torch.randn(3, 2, *SPACES[dims])
    coarse = tuple(size // 4 for size in SPACES[dims])
    autoencoder = kl(dims, attention=attention)
    belief = autoencoder.encode(x)
    assert belief.mean.shape == belief.std.shape == (3, 3, *coarse)
    assert (belief.std > 0).all()
    assert autoencoder.decode(belief.mean).shape == x.shape
    codes = vq(dims, attention=attention).encode(x)
    assert codes.shape == (3, *coarse)
    assert codes.dtype == torch.int64
    assert vq(dims, attention=attention).decode(codes).shape == x.shape


def test_divergence_is_torchs():
    mean, std = torch.randn(5, 2, 4, 4, dtype=torch.float64), torch.rand(5, 2, 4, 4, dtype=torch.float64) + 0.1
    expected = kl_divergence(Normal(mean, std), Normal(torch.zeros_like(mean), torch.ones_like(std)))
    torch.testing.assert_close(kl_to_standard_normal(Gaussian(mean, std)), expected.flatten(1).sum(1))
    assert kl_to_standard_normal(Gaussian(torch.zeros(1, 3), torch.ones(()))).item() == 0


def test_penalty_is_the_weighted_divergence_per_dimension():
    autoencoder, x = kl(kl_weight=0.25), torch.randn(4, 2, 8, 8)
    expected = 0.25 * kl_to_standard_normal(autoencoder.encode(x)) / 128
    torch.testing.assert_close(autoencoder(x).penalty, expected)


def test_reconstruction_decodes_a_draw_of_the_posterior():
    """The same generator gives the same draw; another gives another."""
    autoencoder, x = kl().eval(), torch.randn(4, 2, 8, 8)
    belief = autoencoder.encode(x)
    draw = belief.mean + belief.std * torch.randn(belief.mean.shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(autoencoder(x, torch.Generator().manual_seed(3)).data, autoencoder.decode(draw))
    other = autoencoder(x, torch.Generator().manual_seed(4)).data
    assert not torch.allclose(other, autoencoder.decode(draw))


@pytest.mark.parametrize("make", [kl, vq])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_batch_size_does_not_change_a_sample(make, dims):
    autoencoder, grid = make(dims, attention=True).eval(), (3, 2, 2)[:dims]
    for parameter in autoencoder.parameters():
        nn.init.normal_(parameter, std=0.1)
    with torch.inference_mode():
        z = torch.randn(8, 3, *grid) if make is kl else torch.randint(12, (8, *grid))
        whole = autoencoder.decode(z)
        for size in (1, 2, 3, 5):
            assert torch.equal(autoencoder.decode(z[2 : 2 + size]), whole[2 : 2 + size])


@pytest.mark.parametrize("make", [kl, vq])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 2, 8, 10), r"x has spatial sizes \(8, 10\): expected multiples of 4"),
        (torch.zeros(2, 3, 8, 8), "x must have 2 channels"),
        (torch.zeros(2, 2, 8), "x must have 4 axes"),
    ],
)
def test_data_of_another_shape_are_refused(make, x, message):
    with pytest.raises(ValueError, match=message):
        make().encode(x)


@pytest.mark.parametrize("make", [kl, vq])
def test_data_that_are_not_finite_are_refused(make):
    x = torch.zeros(2, 2, 8, 8)
    x[1, 0, 3, 3] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        make()(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kl(4), "dims must be 1, 2 or 3"),
        (lambda: kl(kl_weight=-1.0), "kl_weight=-1.0: expected 0 or more"),
        (lambda: KLAutoencoder(1, 0), "latent_channels must be an integer of at least 1"),
        (lambda: KLAutoencoder(1, 2, widths=()), "widths is empty"),
        (lambda: KLAutoencoder(1, 2, widths=(8, 0)), r"widths\[1\] must be an integer"),
        (lambda: vq(commitment=-0.1), "commitment=-0.1: expected 0 or more"),
        (lambda: vq(decay=1.0), "decay=1.0: expected a number in"),
        (lambda: VQAutoencoder(1, 0, 2), "codes must be an integer of at least 1"),
        (lambda: AutoencoderObjective("poisson"), "likelihood='poisson': expected 'gaussian' or 'laplace'"),
        (lambda: AutoencoderObjective(scale=0.0), "scale=0.0: expected a positive number"),
    ],
)
def test_impossible_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.full((2, 2, 2), 12), "codes hold 12: expected 0 to 11"),
        (torch.full((2, 2, 2), -1), "codes hold -1: expected 0 to 11"),
        (torch.zeros(2, 2, 2), "codes are torch.float32: expected int64"),
        (torch.zeros(2, 4, dtype=torch.int64), r"codes of shape \(2, 4\): expected \(B, \*grid\) with 2 spatial axes"),
    ],
)
def test_codes_that_are_none_are_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        vq().decode(codes)


@pytest.mark.parametrize(("likelihood", "law"), [("gaussian", Normal), ("laplace", Laplace)])
def test_loss_is_minus_the_log_likelihood_and_the_penalty(likelihood, law):
    autoencoder, x = kl(kl_weight=0.1).eval(), torch.randn(4, 2, 8, 8)
    objective = AutoencoderObjective(likelihood, 0.3)
    loss = objective(autoencoder, x, generator=torch.Generator().manual_seed(0))
    data, penalty = autoencoder(x, torch.Generator().manual_seed(0))
    expected = -law(data, 0.3).log_prob(x).flatten(1).mean(1) + penalty
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("likelihood", "best"),
    [("gaussian", lambda e: e.square().mean().sqrt()), ("laplace", lambda e: e.abs().mean())],
)
def test_learned_scale_ends_at_the_size_of_the_error(likelihood, best):
    """The maximum-likelihood scale of a normal law is the root mean square, of Laplace's the mean absolute error."""
    objective = AutoencoderObjective(likelihood, learn_scale=True)
    x, data = torch.randn(2, 500)
    optimiser = torch.optim.LBFGS(objective.parameters(), max_iter=50)

    def closure():
        optimiser.zero_grad()
        loss = objective.surprise(x, data).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert objective.log_scale.exp().item() == pytest.approx(best(x - data).item(), rel=1e-4)
    assert not list(AutoencoderObjective(likelihood).parameters())


def test_extra_loss_is_added():
    autoencoder, x = kl().eval(), torch.randn(4, 2, 8, 8)

    def total(objective):
        return objective(autoencoder, x, generator=torch.Generator().manual_seed(0))

    def extra(x, data):
        return (x - data).flatten(1).sum(1)

    data = autoencoder(x, torch.Generator().manual_seed(0)).data
    difference = total(AutoencoderObjective(extra=extra)) - total(AutoencoderObjective())
    torch.testing.assert_close(difference, extra(x, data), rtol=1e-4, atol=1e-4)


def test_masks_and_conditions_are_refused():
    x = torch.zeros(2, 2, 8, 8)
    with pytest.raises(ValueError, match="mask was given: an autoencoder takes data alone"):
        AutoencoderObjective()(kl(), x, mask=torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="label was given: an autoencoder takes data alone"):
        AutoencoderObjective()(kl(), x, label=torch.zeros(2, dtype=torch.int64))


class Exact(KLAutoencoder):
    """``z ~ N(0, 1)``, ``x = 2 z + N(0, 0.5^2)``, with the exact posterior ``N(2 x / v, 0.5^2 / v)``, ``v = 4.25``."""

    def encode(self, x):
        return Gaussian(2 * x / 4.25, torch.full_like(x, 0.5 / 4.25**0.5))

    def decode(self, z):
        return 2 * z


def test_with_weight_one_and_the_exact_posterior_the_loss_is_the_negative_log_likelihood():
    autoencoder = Exact(1, 1, 1, widths=(4,), kl_weight=1.0)
    x = torch.tensor([[[-3.0, 0.5, 1.0]], [[0.1, 2.0, 4.0]]], dtype=torch.float64)
    exact = -Normal(0.0, 4.25**0.5).log_prob(x).flatten(1).mean(1)
    draws = x.repeat_interleave(20_000, dim=0)
    losses = AutoencoderObjective("gaussian", 0.5)(autoencoder, draws, generator=torch.Generator().manual_seed(0))
    each = losses.unflatten(0, (2, -1))
    error = each.std(1) / 20_000**0.5
    assert ((each.mean(1) - exact).abs() < 4 * error).all()
    assert (error < 0.01).all()
