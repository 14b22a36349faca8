"""Searches for grids, against brute force, closed forms and independent optimisation."""

import math
from itertools import combinations, pairwise

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from ornstein.core import (
    SDE,
    AlignYourSteps,
    BoundSearch,
    CosineSchedule,
    GaussianDenoiser,
    MixtureDenoiser,
    Sampler,
    SamplerSearch,
    SeededNoise,
    TableSchedule,
    Times,
    UniformLogSNR,
    UniformTime,
    VariationalBound,
    VPSchedule,
)
from ornstein.core.grid_search import ForwardErrors, forward_errors, resample, shortest_paths
from ornstein.core.grid_search.align import divergence_costs
from ornstein.core.grid_search.bound import bound_costs
from ornstein.core.grid_search.differentiable import run_from
from ornstein.core.samplers import DDIM, DPMSolver, Heun, Restart, UniPC
from ornstein.core.samplers.base import Row, Run

VALUES = torch.tensor([2.0, 0.3], dtype=torch.float64)  # variances of the Gaussian below
PROCESS = SDE(VPSchedule())
GAUSSIAN = GaussianDenoiser(PROCESS, torch.zeros(2), VALUES.diag())


class Branching(DDIM):
    """Steps otherwise when its coefficients are tensors."""

    def advance(self, run: Run, x: Tensor, t: Tensor | float, s: Tensor | float, row: Row) -> Tensor:
        return super().advance(run, x, t, s, row) * (1.5 if isinstance(row[0], Tensor) else 1.0)


def ring(process: SDE) -> MixtureDenoiser:
    """Eight modes of unequal weight on a circle."""
    angles = torch.arange(8) * math.pi / 4
    means = 1.2 * torch.stack([angles.cos(), angles.sin()], 1)
    return MixtureDenoiser(process, torch.tensor([1.0, 2.0] * 4), means, torch.full((8,), 0.08))


def exact_error(log_snr: Tensor) -> Tensor:
    """``E |x_0 - mean|^2 = sum l / (1 + l SNR)`` for the Gaussian."""
    return (VALUES / (1 + VALUES * log_snr.exp()[..., None])).sum(-1)


def exact_errors(resolution: int) -> ForwardErrors:
    times = UniformLogSNR(-8, 8, clean=False)(resolution, PROCESS)
    log_snr = PROCESS.schedule.log_snr(times)
    errors = exact_error(log_snr)
    return ForwardErrors(times, log_snr, errors, (errors[:, None] - errors).abs(), float(VALUES.sum()), 2)


def total(costs: Tensor, path: list[int]) -> float:
    return sum(float(costs[i, j]) for i, j in pairwise(path))


def test_cheapest_paths_are_those_of_brute_force() -> None:
    n = 8
    costs = torch.rand(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    paths = shortest_paths(costs)
    for steps in range(1, n):
        every = [[0, *inner, n - 1] for inner in combinations(range(1, n - 1), steps - 1)]
        best = min(every, key=lambda path: total(costs, path))
        assert paths.path(steps) == best
        assert float(paths.totals[steps - 1]) == pytest.approx(total(costs, best), abs=1e-12)


def test_cheapest_paths_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="expected \\(n, n\\)"):
        shortest_paths(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="none NaN"):
        shortest_paths(torch.full((3, 3), torch.nan))
    with pytest.raises(ValueError, match="longest=3: expected 1 to 2"):
        shortest_paths(torch.zeros(3, 3), 3)
    with pytest.raises(ValueError, match="steps=3: expected 1 to 2"):
        shortest_paths(torch.zeros(3, 3)).path(3)


def test_forward_errors_of_a_gaussian_are_those_of_the_closed_form() -> None:
    times = UniformLogSNR(-6, 6, clean=False)(8, PROCESS)
    x0 = GAUSSIAN.sample(4000, generator=torch.Generator().manual_seed(0))
    found = forward_errors(GAUSSIAN, x0, times, seed=1)
    exact = exact_error(found.log_snr)
    # Squares of Gaussians: a relative standard error of at most sqrt(2 / 4000) = 2.2 %.
    torch.testing.assert_close(found.errors, exact, rtol=0.09, atol=0.0)
    martingale = (exact[:, None] - exact).abs()
    torch.testing.assert_close(found.distances, martingale, rtol=0.09, atol=1e-9)
    assert found.prior == pytest.approx(0.5 * math.exp(-6) * 2.3, rel=0.09)


def test_forward_errors_start_from_pure_noise() -> None:
    process = SDE(CosineSchedule())  # alpha is zero at t = 1
    times = torch.tensor([1.0, 0.5], dtype=torch.float64)
    denoiser = GaussianDenoiser(process, torch.zeros(2), VALUES.diag())
    x0 = denoiser.sample(500, generator=torch.Generator().manual_seed(0))
    found = forward_errors(denoiser, x0, times)
    assert float(found.errors[0]) == pytest.approx(float((x0**2).sum(1).mean()), rel=1e-12)
    with pytest.raises(ValueError, match="expected times with noise"):
        forward_errors(denoiser, x0, torch.tensor([0.5, 0.0], dtype=torch.float64))


def test_bound_of_a_grid_is_the_discrete_bound() -> None:
    x0 = GAUSSIAN.sample(2000, generator=torch.Generator().manual_seed(0))
    grid, nats = BoundSearch(40).search(GAUSSIAN, x0, 6, seed=1)
    assert grid.values[-1] == 0
    bound = VariationalBound(6, grid=grid, draws=2).evaluate(GAUSSIAN, x0, seed=2)
    # The same data; the noise of the terms is what differs.
    error = float(bound.nats.std()) / len(x0) ** 0.5
    assert nats == pytest.approx(float(bound.nats.mean()), abs=4 * error)
    assert nats > -float(GAUSSIAN.log_prob(x0).mean())


def test_bounds_fall_with_steps_and_beat_even_spacing() -> None:
    x0 = GAUSSIAN.sample(500, generator=torch.Generator().manual_seed(0))
    found = BoundSearch(60).search_all(GAUSSIAN, x0, 20, seed=1)
    bounds = [nats for _, nats in found]
    assert all(a > b for a, b in pairwise(bounds))
    assert [len(grid.values) for grid, _ in found] == list(range(2, 22))
    even = VariationalBound(10, grid=UniformLogSNR()).evaluate(GAUSSIAN, x0, seed=1).nats.mean()
    assert bounds[9] < float(even) - 0.1


def test_best_bound_of_a_gaussian_is_that_of_an_independent_optimisation() -> None:
    errors = exact_errors(800)
    steps, low, high = 4, -8.0, 8.0
    paths = shortest_paths(bound_costs(errors, clean=False), steps)
    found = errors.log_snr[paths.path(steps)]

    def bound(inner: list[float]) -> float:
        levels = torch.tensor([low, *inner, high], dtype=torch.float64)
        return float(0.5 * (levels.exp().diff() * exact_error(levels[:-1])).sum())

    # Starting points on all sides, so that no local optimum decides.
    starts = [[-4.0, 0.0, 4.0], [0.0, 2.0, 6.0], [2.0, 4.0, 6.0]]
    results = [minimize(bound, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}) for start in starts]
    best = min(results, key=lambda result: result.fun)
    assert float(paths.totals[-1]) == pytest.approx(best.fun, rel=1e-4)
    spacing = (high - low) / 800
    assert found[1:-1].tolist() == pytest.approx(best.x.tolist(), abs=2 * spacing)


@pytest.mark.parametrize("clean", [False, True])
def test_divergence_is_the_bound_less_its_limit_for_an_exact_denoiser(clean: bool) -> None:
    errors = exact_errors(300)
    bound, divergence = bound_costs(errors, clean), divergence_costs(errors, clean)
    snr = errors.log_snr.exp()
    limit = 0.5 * float(torch.trapezoid(errors.errors, snr)) + (float(errors.decoder[-1]) if clean else 0.0)
    end = len(bound) - 1
    for path in ([0, end], [0, 50, 100, 260, end], [0, 140, 141, 200, end]):
        assert total(divergence, path) == pytest.approx(total(bound, path) - limit, rel=1e-9)
    for steps in (3, 10):
        assert shortest_paths(bound, 10).path(steps) == shortest_paths(divergence, 10).path(steps)


def test_descent_of_align_your_steps_approaches_the_optimum_and_doubles() -> None:
    costs = divergence_costs(exact_errors(400), clean=True)
    local = AlignYourSteps(400, optimum="local")
    for steps in (5, 10, 20, 40):
        even = torch.linspace(0, 401 - 1, steps + 1).round().long().tolist()
        path, found = local.solve(costs, steps)
        best_path, best = AlignYourSteps(400).solve(costs, steps)
        assert len(path) == len(best_path) == steps + 1
        assert all(a < b for a, b in pairwise(path))
        assert (path[0], path[-1]) == (0, 401)
        assert found == pytest.approx(total(costs, path), rel=1e-12)
        assert best <= found < min(1.6 * best, total(costs, [*even[:-1], 401]))


def test_align_your_steps_finds_the_grid_of_the_bound() -> None:
    x0 = GAUSSIAN.sample(2000, generator=torch.Generator().manual_seed(0))
    aligned, _ = AlignYourSteps(60).search(GAUSSIAN, x0, 5, seed=1)
    bound, _ = BoundSearch(60).search(GAUSSIAN, x0, 5, seed=1)
    log_snr = [PROCESS.schedule.log_snr(torch.tensor(grid.values[:-1]).double()) for grid in (aligned, bound)]
    torch.testing.assert_close(*log_snr, rtol=0.0, atol=3 * 20 / 60)  # Monte-Carlo noise moves a time by a place or two
    with pytest.raises(ValueError, match="half of resolution=60"):
        AlignYourSteps(60).search(GAUSSIAN, x0, 31)


def test_resampling_interpolates_log_snr() -> None:
    coarse, fine = (Times(tuple(UniformLogSNR()(n, PROCESS).tolist())) for n in (6, 11))
    # Five intervals between finite levels become ten; the step to clean data stays.
    assert resample(coarse, 11, PROCESS).values == pytest.approx(fine.values, abs=1e-12)
    assert resample(fine, 6, PROCESS).values == pytest.approx(coarse.values, abs=1e-12)
    pure = SDE(CosineSchedule())
    ends = resample(Times((1.0, 0.7, 0.3, 0.0)), 5, pure).values
    assert (ends[0], ends[1], ends[4], ends[5]) == (1.0, 0.7, 0.3, 0.0)
    with pytest.raises(ValueError, match="steps=2"):
        resample(Times((1.0, 0.7, 0.3, 0.0)), 2, pure)


@pytest.mark.parametrize(
    "sampler", [DDIM(4), DPMSolver(4), UniPC(4, corrector=False), Heun(4), DDIM(4, eta=1.0)], ids=str
)
def test_runs_differentiate_to_their_levels(sampler: Sampler) -> None:
    process = SDE(TableSchedule.linear())
    denoiser = ring(process)
    noise = SeededNoise(3)
    x = noise.begin(32, 0).draw(torch.empty(32, 2, dtype=torch.float64))

    def run(levels: Tensor, with_grad: bool) -> Tensor:
        times = torch.cat([levels.new_ones(1), process.schedule.time(levels.detach()), levels.new_zeros(1)])
        own = type(sampler)(**{**vars(sampler), "grid": Times(tuple(times.tolist()))})
        if with_grad:
            return run_from(own, denoiser, x, levels, noise.begin(32, 0), {})
        return own.sample(denoiser, x.shape, x=x, noise=noise)

    levels = torch.tensor([-3.3, 0.4, 2.9], dtype=torch.float64, requires_grad=True)
    out = run(levels, True)
    torch.testing.assert_close(out.detach(), run(levels, False), rtol=1e-9, atol=1e-9)
    weights = torch.randn(32, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * out).sum(), [levels])
    for i in range(3):
        h = torch.zeros(3, dtype=torch.float64)
        h[i] = 1e-5
        ends = [float((weights * run((levels + side * h).detach(), False)).sum()) for side in (1, -1)]
        assert float(gradient[i]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("criterion", "method"),
    [("distribution", "gradient"), ("trajectory", "coordinate"), ("distribution", "coordinate")],
)
def test_a_tuned_grid_halves_the_error_of_even_log_snr(criterion: str, method: str) -> None:
    denoiser = ring(SDE(TableSchedule.linear()))
    search = SamplerSearch(criterion, method, iterations=30 if method == "gradient" else 8)  # type: ignore[arg-type]
    tuned = search.search(denoiser, DPMSolver(5, grid=UniformLogSNR()), (200, 2), seed=1)
    assert tuned.after < 0.5 * tuned.before
    data = denoiser.sample(2000, generator=torch.Generator().manual_seed(0))
    errors = [
        SamplerSearch().distance(denoiser, sampler, (2000, 2), data=data, seed=7)
        for sampler in (DPMSolver(5, grid=UniformLogSNR()), DPMSolver(5, grid=tuned.grid))
    ]
    assert errors[1] < 0.6 * errors[0]  # the fluctuation of data and samples is in both


def test_searches_are_seeded_and_leave_the_global_generator_alone() -> None:
    denoiser = ring(SDE(CosineSchedule()))
    search = SamplerSearch(method="gradient", iterations=3)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, again, other = (search.search(denoiser, DDIM(3), (40, 2), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first == again
    assert first.grid != other.grid
    assert first.grid.values[0] == DDIM(3).grid(3, denoiser.process)[0]


def test_data_of_another_number_and_stochastic_samplers_can_be_compared() -> None:
    denoiser = ring(SDE(CosineSchedule()))
    data = denoiser.sample(177, generator=torch.Generator().manual_seed(0))
    for sampler, known in ((DDIM(4, eta=1.0, grid=UniformTime()), None), (DPMSolver(4, grid=UniformTime()), data)):
        tuned = SamplerSearch(iterations=10).search(denoiser, sampler, (200, 2), data=known)
        assert tuned.after < 0.95 * tuned.before
    assert tuned.grid.values[0] == 1.0  # pure noise, where log-SNR is infinite, stays the start
    # As many ranks of sorted data as there are samples: the distance of a set to itself is zero.
    assert float(SamplerSearch()._comparison(data, 0)(data)) == 0.0


@pytest.mark.parametrize(
    ("search", "sampler", "message"),
    [
        (SamplerSearch("trajectory"), DDIM(4, eta=1.0), "a deterministic one, or criterion='distribution'"),
        (SamplerSearch(), DDIM(1), "at least 2 steps"),
        (SamplerSearch(), Restart(5), "walks its grid once"),
        (SamplerSearch(method="gradient"), Branching(5), "expected 'coordinate', its steps branch on coefficients"),
    ],
)
def test_searches_say_what_is_wrong(search: SamplerSearch, sampler: Sampler, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search.search(ring(SDE(VPSchedule())), sampler, (4, 2))


@pytest.mark.parametrize("settings", [{"criterion": "mmd"}, {"method": "random"}, {"iterations": 0}, {"lr": 0.0}])
def test_settings_are_checked(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        SamplerSearch(**settings)  # type: ignore[arg-type]
