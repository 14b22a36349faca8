"""`PartlyGiven`: what is given is not noised and does not count, and a model learns to complete it."""

import pytest
import torch

from ornstein.core import AbsorbingChain, EnumeratedDenoiser, PartlyGiven, PowerSchedule, TokenCrossEntropy
from ornstein.core.objectives import Objective


class Watching(Objective):
    """Remembers what it was called with."""

    def forward(self, denoiser, x0, *, mask=None, generator=None, **condition):
        self.seen = condition
        return torch.zeros(len(x0))


def test_runs_cover_the_share_that_was_drawn():
    given = PartlyGiven(Watching(), probability=0.5, spans=2).draw(
        torch.Size((4000, 50)), torch.Generator().manual_seed(0)
    )
    some = given.any(1)
    assert abs(some.double().mean() - 0.5) < 0.04  # a few shares round to nothing
    assert not given.all(1).any()
    edges = given.int().diff(dim=1).eq(1).sum(1) + given[:, 0]
    assert int(edges.max()) <= 2
    share = given[some].double().mean(1)
    assert 0.3 < share.mean() < 0.5  # a half, less where runs overlap
    assert share.max() > 0.9


def test_what_is_given_is_shown_and_does_not_count():
    table = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0))
    exact = EnumeratedDenoiser(AbsorbingChain(3, PowerSchedule()), table)
    data = exact.sample(30_000, generator=torch.Generator().manual_seed(1))
    given = torch.tensor([True, False, True]).expand(len(data), 3)
    loss = TokenCrossEntropy()(exact, data, generator=torch.Generator().manual_seed(2), given=given)
    # The one free position is masked half of the time, and then predicted from both of its neighbours.
    joint = exact.table
    conditional = joint / joint.sum(1, keepdim=True)
    expected = 0.5 * -(joint * conditional.log()).sum()
    assert abs(loss.mean() - expected) < 4 * loss.std() / len(data) ** 0.5


def test_data_that_are_given_stay_given():
    inner, given = Watching(), torch.tensor([[True, False]])
    objective = PartlyGiven(inner, probability=1.0)
    objective(None, torch.zeros(1, 2, dtype=torch.int64), given=given)
    assert inner.seen["given"] is given
    objective(None, torch.zeros(5, 20, dtype=torch.int64))
    assert inner.seen["given"].shape == (5, 20)


@pytest.mark.parametrize("options", [{"probability": 0.0}, {"probability": 1.5}, {"spans": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PartlyGiven(Watching(), **options)
