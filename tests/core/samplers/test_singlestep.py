"""DPM-Solver singlestep: orders, exactness, equivalences, budgets, counts, seeds."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from sampling_problems import MIDDLE, SCHEDULES, Counting, gaussian_problem, mixture_problem
from torch import Tensor

from ornstein.core import (
    DDIM,
    SDE,
    CosineSchedule,
    Denoiser,
    EDMSchedule,
    FlowSchedule,
    Karras,
    NetworkDenoiser,
    Schedule,
    SubVPSchedule,
    Times,
    UniformLogSNR,
    UniformTime,
    VESchedule,
    VPSchedule,
    ZeroTerminalSNR,
)
from ornstein.core.denoisers import GaussianPosterior
from ornstein.core.samplers import DPMSolverSinglestep
from ornstein.core.samplers.long_steps import divide
from ornstein.core.testing import convergence_order, sampling_errors, three_modes

ALL = [DPMSolverSinglestep(order=k, predicts=p) for k in (1, 2, 3) for p in ("mean", "eps")]  # type: ignore[arg-type]


def label(value: object) -> str:
    if isinstance(value, DPMSolverSinglestep):
        return f"{value.order}-{value.predicts}"
    return type(value).__name__ if isinstance(value, Schedule) else str(value)


@pytest.fixture(scope="module")
def mixture() -> tuple[Denoiser, Tensor, Tensor]:
    return mixture_problem(CosineSchedule())


@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_order_on_a_mixture(sampler: DPMSolverSinglestep, mixture: tuple[Denoiser, Tensor, Tensor]) -> None:
    errors = sampling_errors(replace(sampler, grid=MIDDLE), *mixture, (80, 160))
    assert convergence_order(errors) == pytest.approx(sampler.order, abs=0.15)


@pytest.mark.parametrize("schedule", [VPSchedule(), EDMSchedule(), FlowSchedule()], ids=label)
@pytest.mark.parametrize("sampler", ALL[2:], ids=label)
def test_order_on_a_gaussian(sampler: DPMSolverSinglestep, schedule: Schedule) -> None:
    errors = sampling_errors(replace(sampler, grid=MIDDLE), *gaussian_problem(schedule), (40, 80))
    assert convergence_order(errors) == pytest.approx(sampler.order, abs=0.15)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
@pytest.mark.parametrize("predicts", ["mean", "eps"])
def test_first_order_is_ddim(predicts: str, schedule: Schedule) -> None:
    denoiser = three_modes(SDE(schedule))
    x = 3 * torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one = DPMSolverSinglestep(12, order=1, predicts=predicts).sample(denoiser, x.shape, x=x)  # type: ignore[arg-type]
    torch.testing.assert_close(one, DDIM(12).sample(denoiser, x.shape, x=x), rtol=1e-11, atol=1e-11)


class Linear(Denoiser):
    """A posterior whose mean, or noise, is linear in half log-SNR, whatever the state."""

    def __init__(self, process: SDE, predicts: str) -> None:
        super().__init__(process)
        self.predicts = predicts

    def forward(self, x_t: Tensor, t: float, **condition: Tensor) -> GaussianPosterior:
        level = self.process.level(t)
        value = torch.tensor([0.4, -1.0], dtype=torch.float64) + 0.5 * level.log_snr
        value = value.expand_as(x_t)
        mean = value if self.predicts == "mean" else (x_t - level.sigma * value) / level.alpha
        return GaussianPosterior(x_t, self.process, level, mean)


@pytest.mark.parametrize("predicts", ["mean", "eps"])
def test_third_order_integrates_slopes_exactly(predicts: str) -> None:
    """``int e^(l - l_s) (c + l) dl`` by parts; order 2, which takes the middle, has an error."""
    process = SDE(CosineSchedule())
    denoiser, t, s = Linear(process, predicts), 0.7, 0.5
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    start, end = process.level(t), process.level(s)
    low, high = 0.5 * float(start.log_snr), 0.5 * float(end.log_snr)
    c = torch.tensor([0.4, -1.0], dtype=torch.float64)
    if predicts == "mean":
        integral = (c + high - 1) - (c + low - 1) * math.exp(low - high)
        exact = end.sigma / start.sigma * x + end.alpha * integral
    else:
        integral = (c + high + 1) - (c + low + 1) * math.exp(high - low)
        exact = end.alpha / start.alpha * x + end.sigma * integral
    third, second = (
        DPMSolverSinglestep(order=k, predicts=predicts).step(denoiser, x, t, s)  # type: ignore[arg-type]
        for k in (3, 2)
    )
    torch.testing.assert_close(third, exact, rtol=1e-12, atol=1e-12)
    assert (second - exact).abs().max() > 1e-3


def test_third_order_has_its_nodes_at_thirds() -> None:
    denoiser = Linear(SDE(CosineSchedule()), "mean")
    asked: list[float] = []
    denoiser.register_forward_pre_hook(
        lambda module, inputs: asked.append(float(module.process.level(inputs[1]).log_snr))
    )
    DPMSolverSinglestep(order=3).step(denoiser, torch.zeros(2, 2, dtype=torch.float64), 0.7, 0.5)
    start, end = (float(denoiser.process.level(t).log_snr) for t in (0.7, 0.5))
    assert asked == pytest.approx([start, start + (end - start) / 3, start + 2 * (end - start) / 3], abs=1e-11)


@pytest.mark.parametrize("sampler", ALL[2:], ids=label)
def test_schedules_differ_by_scale_alone(sampler: DPMSolverSinglestep) -> None:
    z = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampler = replace(sampler, steps=10, grid=UniformLogSNR(-8, 8))
    results = []
    for schedule in (VPSchedule(), CosineSchedule(), EDMSchedule(1e3), FlowSchedule(), SubVPSchedule()):
        process = SDE(schedule)
        level = process.level(sampler.grid(10, process)[0])
        results.append(sampler.sample(three_modes(process), z.shape, x=z * level.sigma))
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-10, atol=1e-10)


GRIDS = [
    (CosineSchedule(), UniformLogSNR()),
    (CosineSchedule(), UniformTime()),
    (FlowSchedule(), UniformTime(0.9, 0.1)),
    (VESchedule(0.01, 50.0), Karras()),
]


@pytest.mark.parametrize(("schedule", "grid"), GRIDS, ids=label)
@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_declared_number_of_evaluations(sampler: DPMSolverSinglestep, grid: object, schedule: Schedule) -> None:
    for steps in (1, 2, 3, 7):
        counted = Counting(three_modes(SDE(schedule)))
        sampler = replace(sampler, steps=steps, grid=grid)  # type: ignore[arg-type]
        sampler.sample(counted, (3, 2), seed=0)
        assert counted.calls == sampler.nfe(process=counted.process)
        if isinstance(grid, UniformLogSNR):
            assert counted.calls == sampler.nfe() == sampler.nfe(steps)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("evaluations", [1, 2, 3, 4, 8, 9, 10])
def test_budget_is_spent(evaluations: int, order: int) -> None:
    counted = Counting(three_modes(SDE(CosineSchedule())))
    sampler = DPMSolverSinglestep.of_budget(evaluations, order, predicts="eps")
    sampler.sample(counted, (3, 2), seed=0)
    assert counted.calls == evaluations == sampler.nfe() == sampler.nfe(process=counted.process)
    assert sampler.predicts == "eps"


def _forward(x: Tensor, c: Tensor) -> Tensor:
    return torch.tanh(x) * (0.5 + c[:, None])


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule(), ZeroTerminalSNR(VPSchedule())], ids=label)
@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_zero_terminal_snr_is_finite_and_counted(
    sampler: DPMSolverSinglestep, prediction: str, schedule: Schedule
) -> None:
    counted = Counting(NetworkDenoiser(_forward, SDE(schedule), prediction))  # type: ignore[arg-type]
    sampler = replace(sampler, steps=5, grid=UniformTime())
    assert sampler.sample(counted, (3, 2), seed=0).isfinite().all()
    assert counted.calls == sampler.nfe(process=counted.process)


@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_sample_depends_on_seed_and_number_alone(sampler: DPMSolverSinglestep) -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    sampler = replace(sampler, steps=5)
    together = sampler.sample(denoiser, (5, 2), seed=3)
    alone = torch.cat([sampler.sample(denoiser, (1, 2), seed=3, first=i) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(together, sampler.sample(denoiser, (5, 2), seed=4), atol=1e-2)


@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_step_is_what_sample_repeats(sampler: DPMSolverSinglestep) -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    sampler = replace(sampler, steps=5)
    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = sampler.sample(denoiser, x.shape, x=x)
    for t, s in pairwise(sampler.route(denoiser.process).tolist()):
        x = sampler.step(denoiser, x, t, s)
    torch.testing.assert_close(x, out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_few_evaluations_stay_near_the_data(sampler: DPMSolverSinglestep) -> None:
    denoiser = three_modes(SDE(VPSchedule()))
    truth = denoiser.sample(4000, generator=torch.Generator().manual_seed(0)).pow(2).mean().sqrt()
    for steps in (1, 2, 3, 5, 8):
        out = replace(sampler, steps=steps).sample(denoiser, (500, 2), seed=0)
        assert out.pow(2).mean().sqrt() < 1.5 * truth


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPMSolverSinglestep(order=4), "order=4: expected 1, 2 or 3"),
        (lambda: DPMSolverSinglestep(predicts="v"), "predicts='v': expected 'mean' or 'eps'"),  # type: ignore[arg-type]
        (lambda: DPMSolverSinglestep(3, orders=(1, 2)), r"orders=\(1, 2\): expected one order"),
        (lambda: DPMSolverSinglestep(2, orders=(1, 4)), r"orders=\(1, 4\)"),
        (lambda: DPMSolverSinglestep.of_budget(0), "evaluations=0"),
    ],
)
def test_impossible_options(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule()], ids=label)
@pytest.mark.parametrize("order", [2, 3])
def test_long_steps_of_the_noise_form_are_those_of_ddim(order: int, schedule: Schedule) -> None:
    """Two steps of 10 in log-SNR, at the evaluations of the published method, which leaves the data there."""
    process = SDE(schedule)
    denoiser, x = (
        three_modes(process),
        torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    )
    sampler = DPMSolverSinglestep(3, order=order, predicts="eps", grid=UniformLogSNR())
    times = sampler.route(process)
    inner = divide(process, times[:-2], times[1:-1], order)
    walk = torch.cat([torch.cat([times[:-2, None], inner], 1).flatten(), times[-2:]])
    ddim = DDIM(len(walk) - 1, grid=Times(tuple(walk.tolist()))).sample(denoiser, x.shape, x=x)
    out = sampler.sample(denoiser, x.shape, x=x)
    torch.testing.assert_close(out, ddim, rtol=1e-9, atol=1e-9)
    published = replace(sampler, bounded=False)
    assert sampler.nfe(process=process) == published.nfe(process=process) == 2 * order + 1
    assert published.sample(denoiser, x.shape, x=x).abs().max() > 1.3 * out.abs().max()
