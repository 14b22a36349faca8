"""Training times: distributions, variance, and importance sampling that leaves the expected loss alone."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from ornstein.core import (
    SDE,
    CosineSchedule,
    DiscreteTimes,
    EDMSchedule,
    ImportanceTimes,
    LogNormalTimes,
    Schedule,
    StratifiedTimes,
    SubVPSchedule,
    TableSchedule,
    UniformTimes,
    VPSchedule,
)

PROCESS = SDE(CosineSchedule())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_uniform_times_are_uniform() -> None:
    times, factor = UniformTimes().draw(5000, PROCESS, generator())
    assert factor == 1.0
    assert stats.kstest(times.numpy(), "uniform").pvalue > 1e-3


def test_stratified_times_fill_every_stratum_and_are_uniform_alone() -> None:
    times, factor = StratifiedTimes().draw(64, PROCESS, generator())
    assert factor == 1.0
    assert sorted((times * 64).long().tolist()) == list(range(64))
    firsts = torch.stack([StratifiedTimes().draw(3, PROCESS, generator(s))[0] for s in range(2000)])
    for column in firsts.T:
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-3


def test_stratified_times_lower_the_variance_of_the_loss() -> None:
    def spread(times: object) -> float:
        means = [times.draw(16, PROCESS, generator(s))[0].square().mean() for s in range(300)]  # type: ignore[attr-defined]
        return torch.stack(means).var().item()

    assert spread(StratifiedTimes()) < 0.1 * spread(UniformTimes())


def test_discrete_times_hit_every_entry_of_the_table_and_the_last() -> None:
    times, _ = DiscreteTimes(10).draw(10_000, PROCESS, generator())
    index = TableSchedule.linear(10).index(times)
    torch.testing.assert_close(index, index.round(), rtol=0, atol=1e-12)
    counts = torch.bincount(index.round().long(), minlength=10)
    assert len(counts) == 10
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert times.max() == 1


@pytest.mark.parametrize("schedule", [EDMSchedule(1e4), CosineSchedule(), SubVPSchedule()], ids=repr)
def test_log_normal_noise_levels_are_karras_table_1(schedule: Schedule) -> None:
    times, factor = LogNormalTimes(-1.2, 1.2).draw(5000, SDE(schedule), generator())
    assert factor == 1.0
    log_ratio = (-0.5 * schedule.log_snr(times)).numpy()
    assert stats.kstest(log_ratio, stats.norm(-1.2, 1.2).cdf).pvalue > 1e-3


def test_log_normal_times_stay_within_the_schedule() -> None:
    times, _ = LogNormalTimes(10.0, 3.0).draw(100, SDE(VPSchedule()), generator())
    assert times.isfinite().all()
    assert (times == 1).any()
    assert (times <= 1).all()


@pytest.mark.parametrize(
    "times", [UniformTimes(), StratifiedTimes(), DiscreteTimes(), LogNormalTimes(), ImportanceTimes()], ids=repr
)
def test_draws_follow_their_generator_and_leave_the_global_one(times: object) -> None:
    state = torch.get_rng_state()
    a, b = (times.draw(5, PROCESS, generator(3))[0] for _ in range(2))  # type: ignore[attr-defined]
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    c = times.draw(5, PROCESS)[0]  # type: ignore[attr-defined]
    torch.manual_seed(5)
    assert torch.equal(c, times.draw(5, PROCESS)[0])  # type: ignore[attr-defined]


# Importance sampling.


def loss(t: Tensor) -> Tensor:
    return 0.05 + 4 * (t - 0.3).clamp(min=0) ** 2


def trained(bins: int = 8, history: int = 10, uniform: float = 0.001) -> ImportanceTimes:
    times = ImportanceTimes(bins, history, uniform)
    grid = torch.linspace(0, 1, 4000, dtype=torch.float64)[torch.randperm(4000, generator=generator())]
    times.update(grid, loss(grid))
    return times


def test_importance_times_are_uniform_until_every_bin_has_its_history() -> None:
    times = ImportanceTimes(4, 3)
    seen = torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64)
    for _ in range(2):
        times.update(seen, 100 * seen)
    torch.testing.assert_close(times.probabilities(), torch.full((4,), 0.25, dtype=torch.float64))
    _, factor = times.draw(10, PROCESS, generator())
    torch.testing.assert_close(factor, torch.ones(10, dtype=torch.float64))
    times.update(seen, 100 * seen)
    assert times.probabilities()[0] < 0.1


def test_importance_probabilities_are_nichol_eq_18() -> None:
    times = ImportanceTimes(2, 3, 0.1)
    for values in ([1.0, 30.0], [9.0, 40.0], [2.0, 10.0], [3.0, 20.0]):  # the first row is forgotten
        times.update(torch.tensor([0.2, 0.7]), torch.tensor(values))
    root = torch.tensor([(81 + 4 + 9) / 3, (1600 + 100 + 400) / 3], dtype=torch.float64).sqrt()
    expected = 0.9 * root / root.sum() + 0.05
    torch.testing.assert_close(times.probabilities(), expected, rtol=1e-12, atol=0)


def test_importance_draws_have_their_probabilities() -> None:
    times = trained()
    draws, factor = times.draw(20_000, PROCESS, generator(1))
    p = times.probabilities()
    counts = torch.bincount((draws * 8).long(), minlength=8)
    assert stats.chisquare(counts.numpy(), (20_000 * p / p.sum()).numpy()).pvalue > 1e-3
    torch.testing.assert_close(factor, 1 / (8 * p[(draws * 8).long()]), rtol=1e-12, atol=0)


def test_importance_sampling_is_unbiased_and_lowers_the_variance() -> None:
    """The expected corrected loss is the expectation under uniform times, int_0^1 loss."""
    exact = 0.05 + 4 * 0.7**3 / 3
    for times in (trained(), trained(uniform=0.5), ImportanceTimes(8)):
        draws, factor = times.draw(100_000, PROCESS, generator(2))
        corrected = loss(draws) * factor
        error = corrected.std() / 100_000**0.5
        assert abs(corrected.mean().item() - exact) < 4 * error
    plain = loss(UniformTimes().draw(100_000, PROCESS, generator(2))[0]).std()
    draws, factor = trained().draw(100_000, PROCESS, generator(2))
    assert (loss(draws) * factor).std() < 0.5 * plain


def test_importance_times_survive_what_is_no_loss() -> None:
    times = trained()
    before = times.probabilities().clone()
    times.update(torch.tensor([0.1, 0.6, 0.9]), torch.tensor([math.inf, math.nan, -math.inf]))
    assert torch.equal(times.probabilities(), before)
    zero = ImportanceTimes(2, 1)
    zero.update(torch.tensor([0.2, 0.8]), torch.zeros(2))
    torch.testing.assert_close(zero.probabilities(), torch.full((2,), 0.5, dtype=torch.float64))


def test_importance_times_take_the_ends_and_are_saved() -> None:
    times = ImportanceTimes(3, 1)
    times.update(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([1.0, 2.0, 3.0], requires_grad=True))
    assert times.counts.tolist() == [1, 1, 1]
    loaded = ImportanceTimes(3, 1)
    loaded.load_state_dict(times.state_dict())
    assert torch.equal(loaded.probabilities(), times.probabilities())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiscreteTimes(0), "steps=0"),
        (lambda: LogNormalTimes(std=0.0), r"std=0\.0"),
        (lambda: ImportanceTimes(bins=0), "bins=0"),
        (lambda: ImportanceTimes(history=0), "history=0"),
        (lambda: ImportanceTimes(uniform=0.0), r"uniform=0\.0"),
    ],
)
def test_bad_arguments_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_stratified_times_of_an_interval():
    from ornstein.core import PowerSchedule
    from ornstein.core.chains import AbsorbingChain

    chain = AbsorbingChain(3, PowerSchedule())
    times, factor = StratifiedTimes(0.2, 0.6).draw(8, chain, torch.Generator().manual_seed(0))
    assert factor == 1.0
    cells = ((times.sort().values - 0.2) / 0.4 * 8).floor()
    assert torch.equal(cells, torch.arange(8, dtype=torch.float64))
    with pytest.raises(ValueError, match="low, high"):
        StratifiedTimes(0.6, 0.2)
