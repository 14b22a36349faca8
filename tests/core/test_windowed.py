"""Tests of denoisers of long sequences that are made of one of windows."""

from itertools import pairwise

import pytest
import torch

from ornstein.core import SDE, CosineSchedule, Denoiser, DPMSolver, GaussianDenoiser, GaussianPosterior
from ornstein.core.windowed import WindowedDenoiser, window_starts

PROCESS = SDE(CosineSchedule())


def walk(size: int, decay: float = 0.8) -> torch.Tensor:
    """Covariance of an autoregressive process of unit variance."""
    place = torch.arange(size, dtype=torch.float64)
    return decay ** (place[:, None] - place).abs()


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("length", "window", "stride"), [(10, 4, 4), (10, 4, 1), (4, 4, 2), (101, 24, 12)])
def test_starts_cover_everything_once_or_more(length, window, stride):
    starts = window_starts(length, window, stride)
    covered = {i for start in starts for i in range(start, start + window)}
    assert covered == set(range(length))
    assert all(b - a <= stride for a, b in pairwise(starts))


def test_one_window_is_the_denoiser_itself():
    short = GaussianDenoiser(PROCESS, torch.zeros(8), walk(8))
    x = draw(3, 8)
    torch.testing.assert_close(WindowedDenoiser(short, 8, [0])(x, 0.4).mean, short(x, 0.4).mean)


def test_exact_where_entries_are_independent():
    """Without dependence a window knows as much as the whole."""
    variance = torch.ones(4, dtype=torch.float64) * 2.0
    short = GaussianDenoiser(PROCESS, torch.ones(4), torch.diag(variance))
    whole = GaussianDenoiser(PROCESS, torch.ones(11), 2.0 * torch.eye(11))
    x = draw(5, 11)
    long = WindowedDenoiser(short, 4, window_starts(11, 4, 2))
    torch.testing.assert_close(long(x, 0.6).mean, whole(x, 0.6).mean)


def test_is_the_weighted_mean_of_its_windows():
    short = GaussianDenoiser(PROCESS, torch.zeros(4), walk(4))
    x, starts, weights = draw(2, 7), [0, 2, 3], torch.tensor([1.0, 2.0, 2.0, 1.0], dtype=torch.float64)
    total, count = torch.zeros(2, 7, dtype=torch.float64), torch.zeros(7, dtype=torch.float64)
    for start in starts:
        total[:, start : start + 4] += weights * short(x[:, start : start + 4], 0.5).mean
        count[start : start + 4] += weights
    for batch_size in (1, 4, 100):
        long = WindowedDenoiser(short, 4, starts, batch_size=batch_size)
        torch.testing.assert_close(long(x, 0.5).mean, total / count)


class Told(Denoiser):
    """Answers with what it is told."""

    def forward(self, x_t, t, *, level, given=None, common=None, **condition):
        mean = level[:, None].expand(x_t.shape).to(x_t)
        mean = mean if given is None else mean + 100 * given
        mean = mean if common is None else mean + common[:, None]
        return GaussianPosterior(x_t, self.process, self.process.level(t), mean)


def test_conditions_go_where_they_belong():
    given = torch.zeros(2, 8, dtype=torch.bool)
    given[1, 5] = True
    long = WindowedDenoiser(Told(PROCESS), 4, [0, 4], told={"level": torch.tensor([1.0, 2.0])}, batch_size=2)
    mean = long(draw(2, 8), torch.tensor([0.1, 0.9]), given=given, common=torch.tensor([0.0, 10.0])).mean
    expected = torch.tensor([[1.0] * 4 + [2.0] * 4, [11.0] * 4 + [12.0, 112.0, 12.0, 12.0]])
    torch.testing.assert_close(mean, expected.double())


def test_places_without_a_window_keep_the_state():
    long = WindowedDenoiser(GaussianDenoiser(PROCESS, torch.zeros(4), walk(4)), 4, [5])
    x = draw(2, 12)
    mean = long(x, 0.5).mean
    assert torch.equal(mean[:, :5], x[:, :5])
    assert torch.equal(mean[:, 9:], x[:, 9:])
    assert not torch.equal(mean[:, 5:9], x[:, 5:9])


def test_samples_have_no_seams():
    """Neighbours across a border are nearly as correlated as within a window; of windows apart they are not at all."""
    short = GaussianDenoiser(PROCESS, torch.zeros(16), walk(16, 0.9))
    long = WindowedDenoiser(short, 16, window_starts(32, 16, 8))
    x = DPMSolver(20).sample(long, (4000, 32), seed=0)
    step = (x[:, 1:] * x[:, :-1]).mean(0) / (x[:, 1:].square().mean(0) * x[:, :-1].square().mean(0)).sqrt()
    assert (step - 0.9).abs().max() < 0.08
    apart = WindowedDenoiser(short, 16, [0, 16])
    y = DPMSolver(20).sample(apart, (4000, 32), seed=0)
    assert (y[:, 15] * y[:, 16]).mean().abs() < 0.05


def test_refusals():
    short = GaussianDenoiser(PROCESS, torch.zeros(4), walk(4))
    with pytest.raises(ValueError, match="starts"):
        WindowedDenoiser(short, 4, [])
    with pytest.raises(ValueError, match="a state that holds all windows"):
        WindowedDenoiser(short, 4, [3])(draw(1, 6), 0.5)
    with pytest.raises(ValueError, match="one a window"):
        WindowedDenoiser(short, 4, [0], told={"a": torch.zeros(2)})
