"""Size distributions: counts, draws, masks, probabilities, configuration, errors."""

import json
import math

import pytest
import torch

from ornstein.core import SeededNoise
from ornstein.core.config import from_config, to_config
from ornstein.core.sizes import SizeDistribution

SIZES = torch.tensor([3, 5, 5, 3, 3, 8])


def test_counts_of_sizes_and_of_masks_are_the_same() -> None:
    fitted = SizeDistribution.fit(SIZES)
    assert fitted.counts == (0.0, 0.0, 0.0, 3.0, 0.0, 2.0, 0.0, 0.0, 1.0)
    assert fitted.largest == 8
    shuffled = fitted.mask(SIZES, 12)[:, torch.randperm(12)]
    assert SizeDistribution.fit(shuffled) == fitted
    assert SizeDistribution.fit(SIZES.tolist()) == fitted


def test_probabilities() -> None:
    fitted = SizeDistribution.fit(SIZES)
    expected = torch.tensor([0.5, 1 / 3, 1 / 6], dtype=torch.float64).log()
    torch.testing.assert_close(fitted.log_prob(torch.tensor([3, 5, 8])), expected)
    assert fitted.log_prob(torch.tensor([0, 4, 9, 1000])).tolist() == [-math.inf] * 4
    smooth = SizeDistribution.fit(SIZES, smoothing=0.5)
    torch.testing.assert_close(smooth.log_prob(torch.tensor([4, 8])).exp() * 10, torch.tensor([0.5, 1.5]).double())
    assert smooth.probs.sum() == pytest.approx(1)
    assert smooth.probs[0] == 0


def test_draws_have_the_frequencies_of_the_data() -> None:
    fitted = SizeDistribution.fit(SIZES)
    for draws in (fitted.sample(30_000, seed=1), fitted.sample(30_000, generator=torch.Generator().manual_seed(1))):
        assert draws.dtype == torch.int64
        frequencies = torch.bincount(draws, minlength=9) / 30_000
        error = (fitted.probs * (1 - fitted.probs) / 30_000).sqrt()
        assert ((frequencies - fitted.probs).abs() <= 4.5 * error).all()


def test_a_size_depends_on_seed_and_number_alone() -> None:
    sizes = SizeDistribution(tuple(range(40)))
    together = sizes.sample(20, seed=7)
    assert torch.equal(together, torch.cat([sizes.sample(1, seed=7, first=i) for i in range(20)]))
    assert not torch.equal(together, sizes.sample(20, seed=8))


def test_sizes_are_not_made_of_the_draws_of_samples() -> None:
    sizes = SizeDistribution((1.0,) * 1000).sample(4000, seed=3).double()
    draws = SeededNoise(3).begin(4000, 0).uniform(torch.empty(4000, 1))[:, 0]
    assert abs(torch.corrcoef(torch.stack([sizes, draws]))[0, 1]) < 4.5 / 4000**0.5


def test_draws_stay_within_the_support() -> None:
    sizes = SizeDistribution((0.0, 2.0, 0.0, 1.0, 0.0))
    draws = sizes.sample(2000, seed=0)
    assert set(draws.tolist()) == {1, 3}


def test_masks() -> None:
    mask = SizeDistribution((0.0, 1.0, 1.0)).mask(torch.tensor([2, 0, 1]), 3)
    assert mask.tolist() == [[True, True, False], [False] * 3, [True, False, False]]
    with pytest.raises(ValueError, match="length=2"):
        SizeDistribution((0.0, 1.0, 1.0)).mask(torch.tensor([3]))


def test_configuration() -> None:
    fitted = SizeDistribution.fit(SIZES, smoothing=0.25)
    assert from_config(json.loads(json.dumps(to_config(fitted)))) == fitted


@pytest.mark.parametrize(
    "data", [torch.zeros(0, dtype=torch.int64), torch.tensor([1.5]), torch.tensor([-1]), torch.ones(2, 2), [True]]
)
def test_data_that_are_no_sizes_are_refused(data: object) -> None:
    with pytest.raises(ValueError, match="data of shape"):
        SizeDistribution.fit(data)  # type: ignore[arg-type]


def test_bad_settings_are_refused() -> None:
    for counts in ((), (0.0,), (-1.0, 2.0), (math.nan,), (math.inf,)):
        with pytest.raises(ValueError, match="counts"):
            SizeDistribution(counts)
    sizes = SizeDistribution((0.0, 1.0))
    with pytest.raises(ValueError, match="smoothing"):
        SizeDistribution.fit(SIZES, smoothing=-1.0)
    with pytest.raises(ValueError, match="num"):
        sizes.sample(0)
    with pytest.raises(ValueError, match="both given"):
        sizes.sample(1, seed=0, generator=torch.Generator())
    with pytest.raises(ValueError, match="sizes holds -1"):
        sizes.log_prob(torch.tensor([-1]))


def test_batches_of_like_sizes_hold_every_sample_once():
    from ornstein.core.sizes import size_batches

    sizes = torch.randint(0, 50, (37,), generator=torch.Generator().manual_seed(0))
    batches = list(size_batches(sizes, 5, 45 + 5))
    assert sorted(torch.cat([numbers for numbers, _ in batches]).tolist()) == list(range(37))
    for numbers, width in batches:
        assert len(numbers) <= 5
        assert (sizes[numbers] <= width).all()
        alone = [next(iter(size_batches(sizes[n : n + 1], 5, 50)))[1] for n in numbers.tolist()]
        assert alone == [width] * len(numbers)
