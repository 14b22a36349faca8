"""`PartlyGiven`: what is given is not noised and does not count, and a model learns to complete it."""

import pytest
import torch

from ornstein.core import (
    DDIM,
    SDE,
    AbsorbingChain,
    CentredSDE,
    Denoiser,
    DenoisingObjective,
    EnumeratedDenoiser,
    FlowSchedule,
    GaussianPosterior,
    PartlyGiven,
    PartsGiven,
    PowerSchedule,
    ProductObjective,
    ProductPosterior,
    ProductProcess,
    ProductSampler,
    SeededNoise,
    TokenCrossEntropy,
    complete,
)
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


class Both(Denoiser):
    """Two numbers, the second the first and noise of variance 0.36: the exact posterior where the first is given."""

    def __init__(self, first):
        super().__init__(ProductProcess({"first": first, "second": SDE(FlowSchedule())}))
        self.seen = []

    def forward(self, x_t, t, **condition):
        self.seen.append(condition.get("given"))
        level = self.process.components["second"].level(t).like(x_t["second"])
        prior = x_t["first"].sum(1, keepdim=True)
        gain = level.alpha * 0.36 / (level.alpha**2 * 0.36 + level.sigma**2)
        mean = prior + gain * (x_t["second"] - level.alpha * prior)
        means = {"first": 0 * x_t["first"], "second": mean}
        return ProductPosterior({name: posterior(self.process, x_t, t, name, value) for name, value in means.items()})


def posterior(process, x_t, t, name, mean):
    part = process.components[name]
    return GaussianPosterior(x_t[name], part, part.level(t), mean)


def test_parts_are_given_whole_to_some_samples_and_do_not_count():
    denoiser = Both(SDE(FlowSchedule()))
    losses = ProductObjective({"first": DenoisingObjective(), "second": DenoisingObjective()})
    objective = PartsGiven(losses, ["first"], 0.3)
    x0 = {"first": torch.ones(4000, 2), "second": torch.ones(4000, 1)}
    total = objective(denoiser, x0, generator=torch.Generator().manual_seed(0))
    given = denoiser.seen[0]
    assert given.keys() == {"first"}
    rows = given["first"]
    assert rows.shape == (4000, 2)
    assert torch.equal(rows.any(1), rows.all(1))
    assert abs(rows.double().mean() - 0.3) < 4 * (0.21 / 4000) ** 0.5
    alone = losses.losses(denoiser, x0, generator=torch.Generator().manual_seed(0), given=given)
    assert (alone["first"][rows[:, 0]] == 0).all()
    assert (alone["first"][~rows[:, 0]] > 0).all()
    assert total.shape == (4000,)
    objective(denoiser, x0, given={"second": rows[:, :1]})
    assert denoiser.seen[-1].keys() == {"second"}


@pytest.mark.parametrize("first", [SDE(FlowSchedule()), CentredSDE(FlowSchedule())], ids=["plain", "centred"])
def test_a_part_is_drawn_given_the_other(first):
    """The other may live in a subspace, of which no single number could be given."""
    denoiser = Both(SDE(FlowSchedule()))
    denoiser.process = ProductProcess({"first": SDE(FlowSchedule()), "second": SDE(FlowSchedule()), "third": first})
    answer = denoiser.forward

    def forward(x_t, t, **condition):
        third = posterior(denoiser.process, x_t, t, "third", 0 * x_t["third"])
        return ProductPosterior({**answer(x_t, t), "third": third})

    denoiser.forward = forward
    num = 4000
    known = {"first": torch.full((num, 2), 1.5), "second": torch.zeros(num, 1), "third": torch.zeros(num, 3, 1)}
    sampler = ProductSampler(200, samplers=dict.fromkeys(known, DDIM()))
    drawn = complete(denoiser, known, {"first": torch.ones(num, 2, dtype=torch.bool)}, sampler, noise=SeededNoise(0))
    assert torch.equal(drawn["first"], known["first"])
    assert abs(drawn["second"].mean() - 3) < 4 * 0.6 / num**0.5
    assert abs(drawn["second"].std() - 0.6) < 0.6 * (4 / (2 * num) ** 0.5 + 0.02)  # 200 steps of first order


@pytest.mark.parametrize(
    ("parts", "probability", "match"), [([], 0.5, "parts"), ("first", 0.5, "parts"), (["first"], 0.0, "probability")]
)
def test_parts_that_are_none_are_refused(parts, probability, match):
    with pytest.raises(ValueError, match=match):
        PartsGiven(Watching(), parts, probability)


@pytest.mark.parametrize("parts", [["third"], ["first", "second"]])
def test_parts_that_the_data_have_not_or_all_of_them_are_refused(parts):
    with pytest.raises(ValueError, match="x0"):
        PartsGiven(Watching(), parts)(None, {"first": torch.zeros(2, 1), "second": torch.zeros(2, 1)})
