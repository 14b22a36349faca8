"""`ClassifierObjective`: classifiers see data noised as their denoiser does."""

import pytest
import torch
from torch import nn

from ornstein.core import (
    SDE,
    AbsorbingChain,
    ClassifierObjective,
    CosineSchedule,
    EmbeddingTable,
    EnumeratedDenoiser,
    EnumeratedEmbeddedDenoiser,
    GaussianDenoiser,
    PowerSchedule,
    StratifiedTimes,
)


class Measure(nn.Module):
    """Answers with a measure of the states, and remembers the times."""

    def __init__(self, denoiser, measure):
        super().__init__()
        self.denoiser, self.measure = denoiser, measure

    def forward(self, x_t, t, mask=None, **condition):
        self.times, self.mask, self.condition = t, mask, condition
        return self.measure(x_t)


def test_categories_are_masked_for_as_long_as_time_has_passed():
    exact = EnumeratedDenoiser(AbsorbingChain(3, PowerSchedule()), torch.ones(3, 3))
    seen = Measure(exact, lambda x: (x == 3).double().mean(1))
    data = torch.randint(3, (5000, 2))
    loss = ClassifierObjective()(seen, data, generator=torch.Generator().manual_seed(0), wanted=data[:, 0])
    assert loss.shape == (5000,)
    # The share of masks is binomial about the time.
    assert abs((-loss - seen.times).mean()) < 4 * (1 / 12 / 5000) ** 0.5
    assert set(seen.condition) == {"wanted"}


@pytest.mark.parametrize("embedded", [True, False])
def test_points_are_noised_by_their_process(embedded):
    process = SDE(CosineSchedule())
    if embedded:
        table = EmbeddingTable(2, 4)
        denoiser, data = EnumeratedEmbeddedDenoiser(process, table, torch.ones(2, 2)), torch.randint(2, (4000, 2))
    else:
        denoiser, data = GaussianDenoiser(process, torch.zeros(2), torch.eye(2)), torch.ones(4000, 2)
    seen = Measure(denoiser, lambda x: x.square().flatten(1).mean(1))
    loss = ClassifierObjective(StratifiedTimes(0.3, 0.6))(seen, data, generator=torch.Generator().manual_seed(0))
    # Data and noise have a mean square of 1, and so has what is variance preserving of them.
    assert abs(-loss.mean() - 1) < 4 * float(loss.std()) / 4000**0.5
    assert float(seen.times.min()) >= 0.3
    assert float(seen.times.max()) <= 0.6


def test_padding_is_blank():
    exact = EnumeratedDenoiser(AbsorbingChain(3, PowerSchedule()), torch.ones(3, 3))
    seen = Measure(exact, lambda x: x[:, 1].double())
    mask = torch.tensor([[True, False]]).expand(50, 2)
    loss = ClassifierObjective()(seen, torch.full((50, 2), 2), mask=mask)
    assert loss.eq(0).all()
    assert seen.mask is mask
