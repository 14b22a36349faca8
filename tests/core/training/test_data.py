"""Batches are a function of (seed, step, rank): each sample once an epoch, from any start, with any workers."""

from collections import Counter

import ornstein_toy as toy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ornstein.core.training import DataModule, StepSampler

SIZES = {"length": st.integers(1, 30), "batch_size": st.integers(1, 12), "world_size": st.integers(1, 3)}


def _stream(length: int, batch_size: int, world_size: int, steps: int, seed: int = 0) -> list[int]:
    """The samples of all ranks, in the order of their places."""
    ranks = [
        StepSampler(length, batch_size, steps, seed=seed, rank=r, world_size=world_size) for r in range(world_size)
    ]
    return [index for step in range(steps) for sampler in ranks for index in sampler.batch(step).indices]


@given(**SIZES)
def test_each_epoch_holds_every_sample_once_over_all_ranks(length: int, batch_size: int, world_size: int) -> None:
    steps = -(-3 * length // (batch_size * world_size))
    stream = _stream(length, batch_size, world_size, steps)
    for epoch in range(3):
        assert Counter(stream[epoch * length : (epoch + 1) * length]) == Counter(range(length))


@given(**SIZES, start=st.integers(0, 20), seed=st.integers(0, 2**40))
def test_any_start_continues_the_same_stream(
    length: int, batch_size: int, world_size: int, start: int, seed: int
) -> None:
    whole = StepSampler(length, batch_size, 20, seed=seed, rank=world_size - 1, world_size=world_size)
    late = StepSampler(length, batch_size, 20, seed=seed, start=start, rank=world_size - 1, world_size=world_size)
    assert list(late) == list(whole)[start:]
    assert len(late) == len(whole) == 20
    assert all(len(draw.indices) == batch_size for draw in whole)


@given(length=st.integers(8, 30), split=st.sampled_from([1, 2, 4]))
def test_more_processes_share_the_stream_of_one(length: int, split: int) -> None:
    assert _stream(length, 8, 1, 6) == _stream(length, 8 // split, split, 6)


@given(**SIZES, seed=st.integers(0, 9))
def test_samples_of_like_size_are_still_each_one_once(length: int, batch_size: int, world_size: int, seed: int) -> None:
    sizes = [(7 * i) % 5 for i in range(length)]
    steps = -(-3 * length // (batch_size * world_size))
    ranks = [
        StepSampler(length, batch_size, steps, seed=seed, rank=r, world_size=world_size, sizes=sizes)
        for r in range(world_size)
    ]
    stream = [index for step in range(steps) for sampler in ranks for index in sampler.batch(step).indices]
    for epoch in range(3):
        assert Counter(stream[epoch * length : (epoch + 1) * length]) == Counter(range(length))


def test_samples_of_like_size_share_a_batch() -> None:
    sizes = torch.randint(1, 50, (1003,), generator=torch.Generator().manual_seed(0)).tolist()
    sampler = StepSampler(1003, 8, 500, seed=0, sizes=sizes)
    batches = [[sizes[i] for i in draw.indices] for draw in sampler]
    waste = sum(8 * max(batch) - sum(batch) for batch in batches) / sum(map(sum, batches))
    assert waste < 0.05  # 0.8 without the order, of which batches on the seam of two epochs keep their part
    means = torch.tensor([sum(batch) / 8 for batch in batches])
    late, early = means[1:] - means.mean(), means[:-1] - means.mean()
    assert abs(float((late * early).mean() / means.var())) < 0.1  # in no order of their sizes
    with pytest.raises(ValueError, match="sizes of 2 samples"):
        StepSampler(3, 1, 1, seed=0, sizes=[1, 2])


def test_orders_differ_between_epochs_and_seeds() -> None:
    first, second = _stream(20, 20, 1, 1), _stream(20, 20, 1, 2)[20:]
    assert first != second
    assert first != _stream(20, 20, 1, 1, seed=1)
    assert sorted(first) == sorted(second)


def _batches(data: DataModule, **options: int) -> list[torch.Tensor]:
    return [points for points, _ in data.loader(6, **options)]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_and_start_change_no_batch_nor_its_augmentation(workers: int) -> None:
    alone = _batches(toy.ToyData(size=20))
    helped = _batches(toy.ToyData(size=20, num_workers=workers), start=2)
    assert len(alone) == 6
    assert all(torch.equal(a, b) for a, b in zip(alone[2:], helped, strict=True))
    plain = _batches(toy.ToyData(size=20, jitter=False))
    assert not torch.equal(plain[0], alone[0])


def test_augmentation_leaves_the_global_generators_as_they_were() -> None:
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    loader = iter(toy.ToyData().loader(2))
    state = torch.get_rng_state()
    next(loader)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be 0 or more"),
    ],
)
def test_impossible_loaders(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy.ToyData(**options)  # type: ignore[arg-type]


def test_an_empty_data_set() -> None:
    with pytest.raises(ValueError, match="training data set is empty"):
        toy.ToyData(size=0).loader(3)
    with pytest.raises(RuntimeError, match="not in training"):
        toy.ToyData().train_dataloader()
