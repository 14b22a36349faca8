import pytest
import torch
from torch import nn

from ornstein.core.nn import UNet
from ornstein.core.nn.folded import Folded


class Probe(nn.Module):
    """Answers what it sees, and remembers the condition."""

    def forward(self, x, c, **condition):
        self.seen, self.condition = x, condition
        return x


def test_blocks_become_channels_and_pixels_again():
    x, probe = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6), Probe()
    assert torch.equal(Folded(probe)(x, torch.zeros(2), label=torch.ones(2)), x)
    assert probe.seen.shape == (2, 12, 2, 3)
    assert torch.equal(probe.seen[:, 4:8].flatten(2)[0, :, 4], x[0, 1, 2:4, 2:4].flatten())
    assert torch.equal(probe.condition["label"], torch.ones(2))


def test_it_trains_and_starts_at_zero():
    network = Folded(UNet(8, out_channels=4, widths=(8,), depths=(1,), attention=(False,)))
    out = network(torch.randn(2, 2, 8, 8), torch.zeros(2))
    assert out.shape == (2, 1, 8, 8)
    assert not out.any()
    (out - 1).square().mean().backward()
    assert network.network.leave.bias.grad.abs().min() > 0


def test_a_sample_does_not_depend_on_its_batch():
    network = Folded(UNet(4, widths=(8, 16), depths=(1, 1), attention=(False, False))).eval()
    nn.init.normal_(network.network.leave.weight)
    x, c = torch.randn(5, 1, 16, 16), torch.randn(5)
    with torch.no_grad():
        assert torch.equal(network(x, c)[:1], network(x[:1], c[:1]))


def test_other_sides_are_refused():
    with pytest.raises(ValueError, match="multiples of 2"):
        Folded(Probe())(torch.zeros(1, 1, 5, 4), torch.zeros(1))
    with pytest.raises(ValueError, match="factor"):
        Folded(Probe(), 0)
