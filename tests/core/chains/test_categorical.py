"""Draws of categories: right frequencies, no impossible ones, and the tails of large vocabularies."""

import torch

from ornstein.core.chains import Categorical
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
