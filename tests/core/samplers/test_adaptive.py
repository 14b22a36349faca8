"""Methods with error control: RK45 on the probability-flow ODE, and the adaptive SDE solver."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    RK45,
    SDE,
    AdaptiveSDE,
    AdaptiveStep,
    CosineSchedule,
    DPMSolver,
    FlowSchedule,
    IndependentNoise,
    NetworkDenoiser,
    Schedule,
    SubVPSchedule,
    UniformLogSNR,
    UniformTime,
    VESchedule,
    VPSchedule,
    ZeroTerminalSNR,
)
from ornstein.core.testing import anisotropic_gaussian, three_modes

pytest.importorskip("torchdiffeq", reason="RK45 needs torchdiffeq")

MIDDLE = UniformLogSNR(-2 * math.log(10), 2 * math.log(10), clean=False)
SCHEDULES: list[Schedule] = [VPSchedule(), SubVPSchedule(), CosineSchedule(), VESchedule(0.002, 80.0), FlowSchedule()]


def steps_of(sampler: object, denoiser: object, x: Tensor) -> tuple[Tensor, list[AdaptiveStep], int]:
    """Samples, the steps that the callback saw, and the counted calls."""
    seen: list[AdaptiveStep] = []
    calls: list[int] = []
    handle = denoiser.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[attr-defined]
    out = sampler.sample(denoiser, x.shape, x=x, seed=0, callback=seen.append)  # type: ignore[attr-defined]
    handle.remove()
    return out, seen, len(calls)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_rk45_keeps_its_promise_on_a_gaussian(schedule: Schedule) -> None:
    """The error is at most ten times the tolerance and calls rise as it falls."""
    process = SDE(schedule)
    denoiser = anisotropic_gaussian(process)
    start, end = MIDDLE(1, process).tolist()
    x = denoiser.sample(16, start, generator=torch.Generator().manual_seed(1))
    exact, level = denoiser.flow(x, start, end), process.level(end)
    counts = []
    for tolerance in (1e-3, 1e-5, 1e-7):
        out, seen, calls = steps_of(RK45(grid=MIDDLE, rtol=tolerance, atol=tolerance), denoiser, x)
        size = math.hypot(level.alpha, level.sigma)
        assert float(((out - exact).abs() / (size + exact.abs())).max()) < 10 * tolerance
        assert seen[-1].evaluations == calls
        assert torch.equal(seen[-1].x, out)
        assert [s.index for s in seen] == list(range(len(seen)))
        assert seen[0].t == start
        assert seen[-1].s == pytest.approx(end, abs=1e-12)
        counts.append(calls)
    assert counts[0] < counts[1] < counts[2]


def test_rk45_keeps_its_promise_on_a_mixture_and_rejects() -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    x = denoiser.sample(32, MIDDLE(1, denoiser.process)[0].item(), generator=torch.Generator().manual_seed(2))
    exact = RK45(grid=MIDDLE, rtol=1e-11, atol=1e-11).sample(denoiser, x.shape, x=x)
    reference = DPMSolver(3000, order=3, grid=MIDDLE).sample(denoiser, x.shape, x=x)
    assert (exact - reference).abs().max() < 1e-7
    for tolerance in (1e-3, 1e-4, 1e-6):
        out, seen, calls = steps_of(RK45(grid=MIDDLE, rtol=tolerance, atol=tolerance), denoiser, x)
        assert (out - exact).abs().max() < 10 * tolerance * (1 + exact.abs().max())
        # One evaluation at the start and six a step, whatever becomes of it.
        assert calls == 1 + 6 * (len(seen) + int(seen[-1].rejected))
    assert int(seen[-1].rejected) > 0
    for step in seen[1:3]:
        torch.testing.assert_close(step.mean, denoiser(seen[step.index - 1].x, step.t).mean, rtol=1e-9, atol=1e-9)


def test_rk45_is_the_same_under_every_schedule() -> None:
    z, results = torch.randn(8, 2, dtype=torch.float64), []
    for schedule in (VPSchedule(), CosineSchedule(), FlowSchedule(), VESchedule(1e-4, 1e3)):
        process = SDE(schedule)
        start = process.level(UniformLogSNR(-8, 8)(20, process)[0])
        sampler = RK45(grid=UniformLogSNR(-8, 8, clean=False))
        out = sampler.sample(three_modes(process), z.shape, x=z * math.hypot(start.alpha, start.sigma))
        end = process.level(sampler.route(process)[-1])
        results.append(out / math.hypot(end.alpha, end.sigma))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", [RK45(), AdaptiveSDE(rtol=0.1, atol=0.05)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    "schedule", [FlowSchedule(), CosineSchedule(), ZeroTerminalSNR(VPSchedule())], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("grid", [UniformLogSNR(), UniformTime(), UniformTime(0.9, 0.1)], ids=str)
def test_singular_ends(grid: object, schedule: Schedule, sampler: object) -> None:
    """From pure noise and to clean data, with a network's prediction of v; calls are those reported."""
    process = SDE(schedule)
    denoiser = NetworkDenoiser(torch.nn.Identity(), process, "v")
    denoiser.network.forward = lambda x, c: torch.tanh(x)  # type: ignore[method-assign]
    for steps in (1, 5):
        run = replace(sampler, steps=steps, grid=grid)  # type: ignore[type-var]
        out, seen, calls = steps_of(run, denoiser, torch.randn(3, 2))
        assert out.isfinite().all()
        assert seen[-1].evaluations == calls
        assert seen[-1].s == pytest.approx(0.0 if not isinstance(grid, UniformTime) else grid.stop, abs=1e-9)


def test_rk45_leaves_padding_zero() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    denoiser = NetworkDenoiser(torch.nn.Identity(), SDE(CosineSchedule()), "v")
    denoiser.network.forward = lambda x, c, mask: torch.tanh(x + 1)  # type: ignore[method-assign]
    for sampler in (RK45(), AdaptiveSDE(rtol=0.1, atol=0.05)):
        out = sampler.sample(denoiser, (2, 3, 2), seed=0, mask=mask)
        assert (out[0, 2] == 0).all()
        assert (out[1] != 0).all()


@pytest.mark.parametrize("schedule", [VPSchedule(), VESchedule(0.002, 80.0), FlowSchedule()], ids=repr)
@pytest.mark.parametrize("extrapolate", [True, False])
def test_adaptive_sde_has_the_moments_of_the_data(schedule: Schedule, extrapolate: bool) -> None:
    process, num = SDE(schedule), 2000
    denoiser = anisotropic_gaussian(process)
    sampler = AdaptiveSDE(rtol=0.05, atol=0.02, extrapolate=extrapolate)
    start = process.level(sampler.route(process)[0])
    x = start.alpha * denoiser.sample(num, generator=torch.Generator().manual_seed(4))
    x = x + start.sigma * torch.randn(num, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    out = sampler.sample(denoiser, x.shape, x=x, noise=IndependentNoise(torch.Generator().manual_seed(5)))
    std = denoiser.covariance.diag().sqrt()
    assert ((out.mean(0) - denoiser.mean).abs() < 4 * std / num**0.5 + 0.02).all()
    scatter = torch.cov(out.T) / std[:, None] / std
    truth = denoiser.covariance / std[:, None] / std
    # A sample covariance has the standard error sqrt((1 + rho^2) / n); at this tolerance the bias is some percent.
    assert ((scatter - truth).abs() < 4 * ((1 + truth**2) / num).sqrt() + 0.04).all()


def test_adaptive_sde_is_algorithm_one() -> None:
    """One sample and its steps by hand, with every proposal accepted: the formulas on the variance-preserving scale."""
    process = SDE(VPSchedule())
    denoiser = anisotropic_gaussian(process)
    draws: list[Tensor] = []

    class Recorded(IndependentNoise):
        def begin(self, batch: int, first: int) -> object:
            stream = super().begin(batch, first)
            draw = stream.draw
            stream.draw = lambda like: draws.append(draw(like)) or draws[-1]  # type: ignore[method-assign, func-returns-value]
            return stream

    x = torch.randn(1, 3, dtype=torch.float64)
    grid, theta, power, rtol, atol = UniformLogSNR(-2, 2, clean=False), 0.9, 0.9, 2.0, 2.0
    sampler = AdaptiveSDE(8, rtol=rtol, atol=atol, grid=grid, safety=theta, power=power)
    out = sampler.sample(denoiser, x.shape, x=x, noise=Recorded())

    def slope(y: Tensor, log_snr: float) -> tuple[Tensor, float]:
        sigma = 1 / math.sqrt(1 + math.exp(log_snr))
        score = denoiser(y, float(process.schedule.time(log_snr))).score
        return 0.5 * sigma**2 * y + sigma**2 * score, sigma

    now, h, previous = -2.0, 0.5, x
    for z in draws:
        drift, sigma = slope(x, now)
        first = x + h * drift + math.sqrt(h) * sigma * z
        drift, sigma = slope(first, now + h)
        second = 0.5 * (first + x + h * drift + math.sqrt(h) * sigma * z)
        allowed = torch.maximum(torch.full_like(x, atol), rtol * torch.maximum(first.abs(), previous.abs()))
        error = float((((first - second) / allowed) ** 2).mean().sqrt())
        assert error <= 1
        x, previous, now = second, first, now + h
        h = min(2 - now, theta * h * error**-power)
    assert now == pytest.approx(2, abs=1e-9)
    torch.testing.assert_close(out, x, rtol=1e-9, atol=1e-9)


def test_adaptive_sde_samples_are_independent_of_the_batch_and_choose_their_own_steps() -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    sampler = AdaptiveSDE(rtol=0.05, atol=0.02)
    together = sampler.sample(denoiser, (5, 2), seed=3)
    alone = torch.cat([sampler.sample(denoiser, (1, 2), seed=3, first=i) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    _, seen, calls = steps_of(sampler, denoiser, torch.randn(5, 2))
    rejected = torch.as_tensor(seen[-1].rejected)
    assert rejected.shape == (5,)
    assert len(set(rejected.tolist())) > 1
    fine = steps_of(replace(sampler, rtol=0.01, atol=0.005), denoiser, torch.randn(5, 2))[2]
    assert fine > 1.5 * calls


@pytest.mark.parametrize("sampler", [RK45(), AdaptiveSDE()], ids=lambda s: type(s).__name__)
def test_nfe_is_known_after_a_run_alone(sampler: object) -> None:
    assert sampler.adaptive  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="chooses its steps by their error"):
        sampler.nfe()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RK45(rtol=0.0), r"rtol=0\.0"),
        (lambda: RK45(atol=-1.0), r"atol=-1\.0"),
        (lambda: AdaptiveSDE(safety=1.5), r"safety=1\.5"),
        (lambda: AdaptiveSDE(power=0.2), r"power=0\.2"),
        (lambda: AdaptiveSDE(rtol=0.0), r"rtol=0\.0"),
    ],
)
def test_impossible_options(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
