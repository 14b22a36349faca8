"""Operations whose gradients are our own agree with torch's, to every order and in every transform."""

import pytest
import torch

from ornstein.core.nn.activations import squared_relu
from ornstein.core.nn.attention import scaled_attention
from ornstein.core.nn.positions import axial_rotation, rotate

COS, SIN = (each.double() for each in axial_rotation((5,), 6))


def turned(x):
    """`rotate` as matrices of pairs: torch's own gradients."""
    first, second = x.chunk(2, dim=-1)
    pair = torch.complex(first, second) * torch.complex(COS, SIN)[:, None]
    return torch.cat([pair.real, pair.imag], dim=-1)


OURS = {"rotate": (lambda x: rotate(x, COS, SIN), turned), "squared_relu": (squared_relu, lambda x: x.relu().square())}


@pytest.fixture
def x():
    return torch.randn(2, 5, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("ours", "torchs"), OURS.values(), ids=OURS)
def test_values_and_gradients_of_two_orders_agree(ours, torchs, x):
    torch.testing.assert_close(ours(x), torchs(x), rtol=1e-14, atol=1e-14)
    x.requires_grad_()
    assert torch.autograd.gradcheck(ours, x)
    assert torch.autograd.gradgradcheck(ours, x)


@pytest.mark.parametrize(("ours", "torchs"), OURS.values(), ids=OURS)
def test_values_agree_where_gradients_are_off(ours, torchs, x):
    with torch.no_grad():
        expected = torchs(x)
        torch.testing.assert_close(ours(x), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("ours", "torchs"), OURS.values(), ids=OURS)
def test_forward_mode_and_batched_gradients_agree(ours, torchs, x):
    tangent = torch.randn_like(x)
    torch.testing.assert_close(torch.func.jvp(ours, (x,), (tangent,))[1], torch.func.jvp(torchs, (x,), (tangent,))[1])

    def sums(f):
        return torch.vmap(torch.func.grad(lambda row: f(row[None]).sin().sum()))(x)

    torch.testing.assert_close(sums(ours), sums(torchs))


def test_attention_in_half_precision_is_that_of_single():
    parts = torch.randn(3, 2, 4, 16, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(*parts)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(scaled_attention(*parts), expected, rtol=0, atol=0)
