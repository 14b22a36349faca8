"""Draws of categories: right frequencies, no impossible ones, and the tails of large vocabularies."""

import pytest
import torch

from ornstein.core import PowerSchedule
from ornstein.core.chains import AbsorbingChain, Categorical, Chain, MarginalChain, UniformChain
from ornstein.core.chains.categorical import draw


def test_draws_invert_the_distribution_function() -> None:
    weights = torch.tensor([0.0, 2.0, 0.0, 1.0, 1.0, 0.0])
    u = torch.tensor([0.0, 0.25, 0.4999, 0.5, 0.74, 0.75, 1 - 2**-53], dtype=torch.float64)
    assert draw(weights.expand(7, 6), u).tolist() == [1, 1, 1, 3, 3, 4, 4]


def test_long_rows_agree_with_short_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(300, 5000, dtype=torch.float64, generator=generator) ** 8
    weights[:, ::3] = 0
    u = torch.rand(300, dtype=torch.float64, generator=generator)
    found = draw(weights, u)
    expected = torch.searchsorted(weights.cumsum(1), (u * weights.sum(1))[:, None], right=True).squeeze(1)
    assert torch.equal(found, expected)
    assert bool((weights.gather(1, found[:, None]) > 0).all())


@pytest.mark.parametrize("count", [1, 2, 255, 1023, 1024, 1025, 1280, 1281])
def test_rows_of_any_length_invert_at_every_category(count: int) -> None:
    """A number just within each category's part of the unit interval gives this category."""
    weights = 1.0 + torch.arange(count, dtype=torch.float64) % 3
    ends = weights.cumsum(0) / weights.sum()
    expected = torch.arange(count)
    assert torch.equal(draw(weights.expand(count, -1), ends - 1e-9), expected)
    assert torch.equal(draw(weights.expand(count, -1), ends - weights / weights.sum() + 1e-9), expected)


@pytest.mark.parametrize("count", [4, 1024, 5000])
def test_the_largest_number_does_not_reach_trailing_zeros(count: int) -> None:
    weights = torch.rand(500, count, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) + 0.01
    weights[:, -1 - count // 3 :] = 0
    u = torch.full((500,), 1 - 2**-53, dtype=torch.float64)
    assert bool((draw(weights, u) == count - 2 - count // 3).all())


def test_no_category_of_weight_zero_at_the_ends() -> None:
    weights = torch.zeros(1, 3000)
    weights[0, 1717] = 1e-30
    for u in (0.0, 0.5, 1 - 2**-53):
        assert int(draw(weights, torch.tensor([u], dtype=torch.float64))) == 1717


def test_rare_categories_are_drawn() -> None:
    """A probability of 1e-9 lies below what float32 uniform numbers can reach."""
    weights = torch.tensor([1.0, 1e-9])
    u = 1 - torch.rand(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e-9
    assert bool((draw(weights.expand(1000, 2), u) == 1).float().mean() > 0.99)
    weights = torch.cat([torch.full((4999,), 1 / 4999, dtype=torch.float64), torch.tensor([1e-9]).double()])
    assert bool((draw(weights.expand(1000, -1), u) == 4999).float().mean() > 0.99)


def test_frequencies_fit() -> None:
    probs = torch.rand(2000, generator=torch.Generator().manual_seed(1)).double()
    probs = probs / probs.sum()
    x = Categorical(probs.expand(20_000, 1, 2000)).sample(generator=torch.Generator().manual_seed(2))
    counts = torch.bincount(x.flatten(), minlength=2000).double()
    chi = float(((counts - 20_000 * probs) ** 2 / (20_000 * probs)).sum())
    assert abs(chi - 1999) < 5 * (2 * 1999) ** 0.5


def test_log_prob_is_that_of_the_category() -> None:
    probs = torch.tensor([[[0.2, 0.8], [1.0, 0.0]]])
    found = Categorical(probs).log_prob(torch.tensor([[1, 0]]))
    torch.testing.assert_close(found, torch.tensor([[0.8, 1.0]]).log())


@pytest.mark.parametrize(
    "chain",
    [
        UniformChain(3, PowerSchedule()),
        AbsorbingChain(3, PowerSchedule()),
        MarginalChain([0.7, 0.2, 0.1], PowerSchedule()),
    ],
    ids=repr,
)
def test_what_a_chain_keeps_is_drawn_as_its_row_says(chain: Chain) -> None:
    """One number decides whether a category stays and what else it becomes: numbers on a fine grid count exactly."""
    count, x0 = 100_000, torch.tensor([[0, 1, 2]])
    u = ((torch.arange(count, dtype=torch.float64) + 0.5) / count)[:, None].expand(-1, 3)
    for t in (0.0, 0.3, 1.0):
        marginal = chain.marginal(x0.expand(count, -1), t)
        found = torch.nn.functional.one_hot(marginal.sample(u), chain.states).double().mean(0)
        expected = chain.row(x0, 0.0, t, torch.float64)[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=2 / count)
        torch.testing.assert_close(chain.marginal(x0, t).probs[0], expected, rtol=0, atol=1e-15)


def test_the_same_generator_draws_the_same() -> None:
    marginal = UniformChain(50, PowerSchedule()).marginal(torch.zeros(8, 20, dtype=torch.int64), 0.7)
    one, same, other = (marginal.sample(generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
