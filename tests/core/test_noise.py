"""Noise sources: streams per sample, Brownian paths, independence of batch, order and grid."""

import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ornstein.core import BrownianNoise, IndependentNoise, NoiseSource, SeededNoise

SEEDED = [SeededNoise(7), BrownianNoise(7, depth=12)]


def run(source: NoiseSource, batch: int, first: int, event: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    """Two draws and two steps."""
    stream, like = source.begin(batch, first), torch.empty(batch, *event, dtype=dtype)
    return [stream.draw(like), stream.step(like, 1.0, 0.6), stream.draw(like), stream.step(like, 0.6, 0.55)]


@pytest.mark.parametrize("source", SEEDED, ids=repr)
@pytest.mark.parametrize("event", [(1,), (3,), (4,), (7, 7), (256,), (3, 5, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_is_the_same_bits_in_any_batch(
    source: NoiseSource, event: tuple[int, ...], dtype: torch.dtype
) -> None:
    together = run(source, 4, 0, event, dtype)
    apart = [run(source, 1, i, event, dtype) for i in range(4)]
    parts = [run(source, 3, 0, event, dtype), run(source, 1, 3, event, dtype)]
    for k, draw in enumerate(together):
        assert draw.dtype == dtype
        assert torch.equal(draw, torch.cat([one[k] for one in apart]))
        assert torch.equal(draw, torch.cat([part[k] for part in parts]))


@pytest.mark.parametrize("source", SEEDED, ids=repr)
def test_draws_are_float32_whatever_the_state(source: NoiseSource) -> None:
    narrow, wide = (run(source, 2, 0, (9,), dtype)[0] for dtype in (torch.float32, torch.float64))
    assert torch.equal(narrow.double(), wide)


@pytest.mark.parametrize("kind", [SeededNoise, BrownianNoise])
def test_streams_of_seeds_and_samples_differ(kind: type) -> None:
    draws = [
        draw
        for seed, first in itertools.product((0, 1, 2**32, 2**63 - 1), (0, 1, 2**32))
        for draw in run(kind(seed), 1, first, (64,), torch.float32)[:2]
    ]
    for a, b in itertools.combinations(draws, 2):
        assert not torch.equal(a, b)
        assert abs(np.corrcoef(a.flatten(), b.flatten())[0, 1]) < 0.6


def test_seed_and_number_do_not_mix() -> None:
    """Sample 1 of seed 0 is not sample 0 of seed 1, as it would be with a key of seed + number."""
    a, b = (run(SeededNoise(seed), 1, first, (64,), torch.float32)[0] for seed, first in ((0, 1), (1, 0)))
    assert not torch.equal(a, b)


@pytest.mark.parametrize(
    "source", [IndependentNoise(torch.Generator().manual_seed(3)), *SEEDED], ids=lambda s: type(s).__name__
)
def test_draws_are_standard_normal(source: NoiseSource) -> None:
    for draw in run(source, 40, 0, (500,), torch.float64):
        assert stats.kstest(draw.flatten().numpy(), "norm").pvalue > 1e-3
        # And independent between samples and between coordinates.
        assert np.abs(np.corrcoef(draw.numpy()) - np.eye(40)).max() < 0.25


@pytest.mark.parametrize("source", SEEDED, ids=repr)
def test_draws_of_a_run_are_independent_of_one_another(source: NoiseSource) -> None:
    draws = torch.stack([d.flatten() for d in run(source, 40, 0, (500,), torch.float64)]).numpy()
    assert np.abs(np.corrcoef(draws) - np.eye(4)).max() < 0.03


def path(source: BrownianNoise, times: list[float], event: tuple[int, ...] = (5,)) -> Tensor:
    """W(t) - W(0) at the times, from the increments of one stream, ``(len(times), 2, *event)``."""
    stream, like = source.begin(2, 0), torch.empty(2, *event, dtype=torch.float64)
    return torch.stack([stream.step(like, t, 0.0) * t**0.5 for t in times])


def test_brownian_increments_add_up() -> None:
    source, like = BrownianNoise(3), torch.empty(2, 5, dtype=torch.float64)
    generator = np.random.default_rng(0)
    for _ in range(20):
        a, b, c = sorted(generator.random(3))
        stream = source.begin(2, 0)
        whole = stream.step(like, c, a) * (c - a) ** 0.5
        parts = stream.step(like, c, b) * (c - b) ** 0.5 + stream.step(like, b, a) * (b - a) ** 0.5
        torch.testing.assert_close(whole, parts, rtol=0, atol=1e-12)


def test_twenty_and_forty_steps_see_the_same_path() -> None:
    fine, coarse = (
        [(t, s) for t, s in itertools.pairwise(torch.linspace(1, 0, n + 1, dtype=torch.float64).tolist())]
        for n in (40, 20)
    )
    like = torch.empty(2, 5, dtype=torch.float64)
    streams = [BrownianNoise(5).begin(2, 0) for _ in range(2)]
    small = torch.stack([streams[0].step(like, t, s) * (t - s) ** 0.5 for t, s in fine])
    large = torch.stack([streams[1].step(like, t, s) * (t - s) ** 0.5 for t, s in coarse])
    torch.testing.assert_close(small[0::2] + small[1::2], large, rtol=0, atol=1e-12)


def test_brownian_values_do_not_depend_on_the_order_of_questions() -> None:
    times = [0.9, 0.1, 0.37, 1.0, 0.10001, 0.5, 0.75]
    forward, backward = path(BrownianNoise(1), times), path(BrownianNoise(1), times[::-1]).flip(0)
    assert torch.equal(forward, backward)
    alone = torch.cat([path(BrownianNoise(1), [t]) for t in times])
    assert torch.equal(forward, alone)


def test_brownian_covariance_is_the_lesser_time() -> None:
    times = [0.2, 0.3, 0.77, 1.0]
    w = path(BrownianNoise(8, depth=10), times, (20_000,)).flatten(1)
    covariance = w @ w.T / w.shape[1]
    expected = torch.minimum(*torch.meshgrid(*[torch.tensor(times, dtype=torch.float64)] * 2, indexing="ij"))
    torch.testing.assert_close(covariance, expected, rtol=0, atol=4 * 2**0.5 / w.shape[1] ** 0.5)


def test_brownian_increments_are_normal_at_every_scale() -> None:
    like = torch.empty(20, 200, dtype=torch.float64)
    stream = BrownianNoise(2).begin(20, 0)
    for t, s in ((1.0, 0.0), (0.5, 0.25), (0.314159, 0.314), (0.001, 0.0)):
        assert stats.kstest(stream.step(like, t, s).flatten().numpy(), "norm").pvalue > 1e-3


def test_the_start_and_churn_are_independent_of_the_path() -> None:
    like = torch.empty(1, 4000, dtype=torch.float64)
    stream = BrownianNoise(4).begin(1, 0)
    start, churn, whole = stream.draw(like), stream.draw(like), stream.step(like, 1.0, 0.0)
    correlation = np.corrcoef(torch.cat([start, churn, whole]).numpy())
    assert np.abs(correlation - np.eye(3)).max() < 0.07


def test_one_source_serves_many_runs_and_threads_alike() -> None:
    for source in SEEDED:
        expected = run(source, 2, 0, (9,), torch.float32)
        with ThreadPoolExecutor(4) as pool:
            for draws in pool.map(lambda _, s=source: run(s, 2, 0, (9,), torch.float32), range(8)):
                assert all(torch.equal(a, b) for a, b in zip(draws, expected, strict=True))
        assert pickle.loads(pickle.dumps(source)) == source


def test_seeded_draws_leave_the_global_generators_alone() -> None:
    torch.manual_seed(1)
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for source in SEEDED:
        run(source, 2, 0, (9,), torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == legacy).all()  # noqa: NPY002


def test_independent_draws_follow_their_generator() -> None:
    a, b = (run(IndependentNoise(torch.Generator().manual_seed(3)), 2, 0, (9,), torch.float32) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(a, b, strict=True))
    torch.manual_seed(0)
    first = run(IndependentNoise(), 2, 0, (9,), torch.float32)
    torch.manual_seed(0)
    assert torch.equal(first[0], torch.randn(2, 9))


@pytest.mark.parametrize("kind", [SeededNoise, BrownianNoise])
@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "1", None])
def test_bad_seeds(kind: type, seed: object) -> None:
    with pytest.raises(ValueError, match="seed="):
        kind(seed)


@pytest.mark.parametrize("source", SEEDED, ids=repr)
def test_samples_are_numbered_from_zero(source: NoiseSource) -> None:
    with pytest.raises(ValueError, match="first=-1"):
        source.begin(2, -1)


@pytest.mark.parametrize("depth", [0, 41])
def test_bad_depth(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth={depth}"):
        BrownianNoise(0, depth)


def test_numbered_samples_have_the_draws_of_their_numbers():
    like = torch.empty(3, 4)
    some, all_ = SeededNoise(5, (7, 0, 2)).begin(3, 0), SeededNoise(5).begin(8, 0)
    whole = torch.empty(8, 4)
    assert torch.equal(some.draw(like), all_.draw(whole)[[7, 0, 2]])
    assert torch.equal(some.uniform(like), all_.uniform(whole)[[7, 0, 2]])
    with pytest.raises(ValueError, match="numbers of 3 samples"):
        SeededNoise(5, (7, 0, 2)).begin(3, 1)
    with pytest.raises(ValueError, match="numbers hold -1"):
        SeededNoise(5, (-1,))
