"""Several draws for one encoding: the same loss as without, one encoding, and nothing of the targets in it."""

import pytest
import torch
from torch import nn

from ornstein.core import SDE, CosineSchedule, DenoisingObjective, NetworkDenoiser, StratifiedTimes
from ornstein.core.config import from_config, to_config
from ornstein.core.nn import MLP
from ornstein.core.shared_encoding import SharedEncoding


class TwoParts(nn.Module):
    def __init__(self):
        super().__init__()
        self.reader, self.writer, self.calls = nn.Linear(6, 6), nn.Linear(12, 6), 0

    def encode(self, x, *, given, mask=None):
        self.calls += 1
        self.seen = x
        return self.reader(x * given)

    def forward(self, x, c, *, given, mask=None, context=None):
        context = self.encode(x, given=given, mask=mask) if context is None else context
        return self.writer(torch.cat([x, context], -1)) + c[:, None]


@pytest.fixture
def parts():
    torch.manual_seed(0)
    denoiser = NetworkDenoiser(TwoParts(), SDE(CosineSchedule()))
    x0 = torch.randn(5, 6)
    given, mask = torch.rand(5, 6) < 0.5, torch.rand(5, 6) < 0.9
    return denoiser, x0, given, mask


def loss(objective, parts, seed=3):
    denoiser, x0, given, mask = parts
    generator = torch.Generator().manual_seed(seed)
    return objective(denoiser, x0, given=given, mask=mask, generator=generator)


def test_one_draw_is_the_loss_itself(parts):
    torch.testing.assert_close(loss(SharedEncoding(DenoisingObjective(), 1), parts), loss(DenoisingObjective(), parts))


def test_draws_are_those_of_a_longer_batch_and_cost_one_encoding(parts):
    denoiser, x0, given, mask = parts
    shared = loss(SharedEncoding(DenoisingObjective(), 3), parts)
    assert denoiser.network.calls == 1
    long = (denoiser, x0.repeat(3, 1), given.repeat(3, 1), mask.repeat(3, 1))
    torch.testing.assert_close(shared, loss(DenoisingObjective(), long).view(3, 5).mean(0))


def test_times_that_are_spread_over_a_batch_are_spread_over_the_draws_of_a_sample(parts):
    denoiser, *_ = parts
    seen = []
    denoiser.network.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    loss(SharedEncoding(DenoisingObjective(times=StratifiedTimes()), 2), parts)
    t = denoiser.process.schedule.time(-8 * seen[0].double()).view(2, 5)
    torch.testing.assert_close((t[1] - t[0]).abs(), torch.full((5,), 0.5, dtype=torch.float64), atol=1e-5, rtol=0)


def test_the_encoding_sees_what_is_given_alone(parts):
    denoiser, x0, given, mask = parts
    loss(SharedEncoding(DenoisingObjective(), 2), parts)
    torch.testing.assert_close(denoiser.network.seen, x0 * (given & mask))


def test_gradients_reach_both_parts(parts):
    loss(SharedEncoding(DenoisingObjective(), 2), parts).mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in parts[0].parameters())


def test_errors_and_configuration(parts):
    with pytest.raises(TypeError, match=r"objective=.*expected an Objective"):
        SharedEncoding(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="draws=0: expected a whole number of at least 1"):
        SharedEncoding(DenoisingObjective(), 0)
    plain = NetworkDenoiser(MLP(6), SDE(CosineSchedule()))
    with pytest.raises(TypeError, match="no network with encode"):
        SharedEncoding(DenoisingObjective())(plain, parts[1])
    made = from_config(to_config(SharedEncoding(DenoisingObjective(), 7)))
    assert made.draws == 7
    assert isinstance(made.objective, DenoisingObjective)
