"""Runge-Kutta methods: orders, equivalences, counts, few steps, seeds."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    DDIM,
    SDE,
    CosineSchedule,
    EDMSampler,
    EDMSchedule,
    FlowSchedule,
    Heun,
    Karras,
    RungeKutta,
    Schedule,
    SubVPSchedule,
    Tableau,
    Times,
    UniformLogSNR,
    UniformTime,
    VESchedule,
    VPSchedule,
)
from ornstein.core.grids import PowerTime
from ornstein.core.samplers import DPMSolverSinglestep
from ornstein.core.samplers.runge_kutta import METHODS
from ornstein.core.testing import anisotropic_gaussian, convergence_order, sampling_errors, three_modes

MIDDLE = UniformLogSNR(-2 * math.log(10), 2 * math.log(10), clean=False)
SCHEDULES: list[Schedule] = [VPSchedule(), SubVPSchedule(), CosineSchedule(), VESchedule(0.002, 80.0), FlowSchedule()]
# Generic second-order family at node 0.4, which none of the named methods has.
OWN = Tableau(((0.4,),), (1 - 1.25, 1.25), 2)
NAMED = [*METHODS, OWN]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("form", ["data", "noise"])
@pytest.mark.parametrize("method", NAMED, ids=str)
def test_order_on_a_gaussian(method: object, form: str, schedule: Schedule) -> None:
    sampler = RungeKutta(method=method, form=form, grid=MIDDLE)  # type: ignore[arg-type]
    process = SDE(schedule)
    denoiser = anisotropic_gaussian(process)
    start, end = MIDDLE(1, process).tolist()
    x = denoiser.sample(32, start, generator=torch.Generator().manual_seed(1))
    errors = sampling_errors(sampler, denoiser, x, denoiser.flow(x, start, end), (40, 80))
    # Smooth data may do better than the order promises, never worse.
    assert convergence_order(errors) > sampler.order - 0.2


@pytest.fixture(scope="module")
def mixture() -> tuple[object, Tensor, Tensor]:
    """The mixture, a start, and the end by an independent high-order solver in log-noise."""
    integrate = pytest.importorskip("scipy.integrate")
    denoiser = three_modes(SDE(CosineSchedule()))
    x = denoiser.sample(16, MIDDLE(1, denoiser.process)[0].item(), generator=torch.Generator().manual_seed(2))
    start, end = (denoiser.process.level(t) for t in MIDDLE(1, denoiser.process).tolist())
    exploding = three_modes(SDE(EDMSchedule(1e3)))

    def slope(log_ratio: float, y: object) -> object:
        ratio = math.exp(log_ratio)
        state = torch.as_tensor(y, dtype=torch.float64).reshape(-1, 2)
        return (ratio * exploding(state, ratio / 1e3).eps).flatten().numpy()

    y = (x / start.alpha).flatten().numpy()
    span = [-0.5 * start.log_snr, -0.5 * end.log_snr]
    solution = integrate.solve_ivp(slope, span, y, method="DOP853", rtol=1e-12, atol=1e-12)
    return denoiser, x, end.alpha * torch.from_numpy(solution.y[:, -1]).reshape(-1, 2)


@pytest.mark.parametrize(
    "sampler",
    [*[RungeKutta(method=m) for m in METHODS], RungeKutta(method="rk4", form="noise"),
     RungeKutta(method="dpm2", form="noise")],
    ids=lambda s: f"{s.method}-{s.form}",
)  # fmt: skip
def test_order_on_a_mixture(sampler: RungeKutta, mixture: tuple[object, Tensor, Tensor]) -> None:
    errors = sampling_errors(replace(sampler, grid=MIDDLE), *mixture, (160, 320))  # type: ignore[arg-type]
    assert convergence_order(errors) == pytest.approx(sampler.order, abs=0.15 if sampler.order < 3 else 0.25)


def test_dpm2_has_the_published_errors() -> None:
    """Error of k-diffusion's DPM-2 on this fixture from noise 10 to 0.1 falls at order 2; its step by hand."""
    denoiser = three_modes(SDE(EDMSchedule(10.0)))
    x = 10 * torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grid = UniformLogSNR(-2 * math.log(10), 2 * math.log(10), clean=False)
    out = RungeKutta(10, method="dpm2", form="noise", bounded=False, grid=grid).sample(denoiser, x.shape, x=x)
    levels = torch.logspace(1, -1, 11, dtype=torch.float64).tolist()
    for high, low in pairwise(levels):
        middle = math.sqrt(high * low)
        slope = (x - denoiser(x, high / 10).mean) / high
        between = x + (middle - high) * slope
        x = x + (low - high) * (between - denoiser(between, middle / 10).mean) / middle
    torch.testing.assert_close(out, x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_dpm2_is_dpm_solver_2(schedule: Schedule) -> None:
    denoiser = three_modes(SDE(schedule))
    x = 3 * torch.randn(16, 2, dtype=torch.float64)
    one = RungeKutta(12, method="dpm2", form="noise", bounded=False).sample(denoiser, x.shape, x=x)
    other = DPMSolverSinglestep(12, order=2, predicts="eps", bounded=False).sample(denoiser, x.shape, x=x)
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_heun_of_edm_is_a_tableau() -> None:
    denoiser = three_modes(SDE(EDMSchedule()))
    x = 80 * torch.randn(16, 2, dtype=torch.float64)
    one = RungeKutta(12, method="heun2", form="noise", bounded=False, grid=Karras()).sample(denoiser, x.shape, x=x)
    other = Heun(12, bounded=False, grid=Karras()).sample(denoiser, x.shape, x=x)
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_too_few_steps_are_ddim_of_as_many_evaluations(schedule: Schedule) -> None:
    denoiser = three_modes(SDE(schedule))
    x = 3 * torch.randn(16, 2, dtype=torch.float64)
    if float(schedule.log_snr(0.0)) > 1e3:
        for few, many in ((RungeKutta(2, method="rk4"), DDIM(8)), (Heun(3), DDIM(6)), (EDMSampler(3), DDIM(6))):
            assert few.nfe() == few.nfe(process=denoiser.process) == many.steps
            torch.testing.assert_close(
                few.sample(denoiser, x.shape, x=x), many.sample(denoiser, x.shape, x=x), rtol=1e-9, atol=1e-9
            )
    out = RungeKutta(3).sample(denoiser, (500, 2), seed=0)
    assert out.pow(2).mean().sqrt() < 2 * denoiser.sample(4000).pow(2).mean().sqrt()


@pytest.mark.parametrize("form", ["data", "noise"])
@pytest.mark.parametrize("method", [*METHODS, "dpm2"])
def test_few_evaluations_stay_near_the_data(method: str, form: str) -> None:
    if method == "dpm2" and form == "data":
        return
    denoiser = three_modes(SDE(VPSchedule()))
    truth = denoiser.sample(4000, generator=torch.Generator().manual_seed(0)).pow(2).mean().sqrt()
    for steps in (1, 2, 3, 4, 5, 7, 10):
        sampler = RungeKutta(steps, method=method, form=form)  # type: ignore[arg-type]
        assert sampler.sample(denoiser, (500, 2), seed=0).pow(2).mean().sqrt() < 1.5 * truth


class Counted(torch.nn.Module):
    def __init__(self, denoiser: object) -> None:
        super().__init__()
        self.denoiser, self.calls = denoiser, 0
        self.process = denoiser.process  # type: ignore[attr-defined]

    def forward(self, x_t: Tensor, t: object, **condition: Tensor) -> object:
        self.calls += 1
        return self.denoiser(x_t, t, **condition)  # type: ignore[operator]


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("form", ["data", "noise"])
@pytest.mark.parametrize("steps", [1, 2, 3, 17])
@pytest.mark.parametrize(
    "grid", [UniformLogSNR(), PowerTime(), UniformTime(), UniformTime(0.9, 0.1), Karras()], ids=repr
)
def test_declared_number_of_evaluations(grid: object, steps: int, form: str, bounded: bool) -> None:
    counted = Counted(three_modes(SDE(CosineSchedule())))
    sampler = RungeKutta(steps, method="kutta3", form=form, bounded=bounded, grid=grid)  # type: ignore[arg-type]
    sampler.sample(counted, (4, 2), seed=0)  # type: ignore[arg-type]
    assert counted.calls == sampler.nfe(process=counted.process)
    if isinstance(grid, UniformLogSNR | PowerTime):
        assert counted.calls == sampler.nfe() == sampler.nfe(steps)


def test_step_from_pure_noise_keeps_the_order() -> None:
    """From alpha = 0 in even steps of time, against many steps."""
    denoiser = anisotropic_gaussian(SDE(FlowSchedule()))
    x = torch.randn(16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = denoiser.flow(x, 1.0, 0.2)
    sampler = RungeKutta(grid=UniformTime(1.0, 0.2))
    assert convergence_order(sampling_errors(sampler, denoiser, x, exact, (20, 40))) > 3.7


def test_step_is_what_sample_repeats() -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    x = torch.randn(8, 2, dtype=torch.float64)
    sampler = RungeKutta(6)
    out = sampler.sample(denoiser, x.shape, x=x)
    times = sampler.route(denoiser.process).tolist()
    for t, s in pairwise(times):
        x = sampler.step(denoiser, x, t, s)
    torch.testing.assert_close(x, out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RungeKutta(method="rk5"), "method='rk5': expected a Tableau or one of midpoint"),
        (lambda: RungeKutta(method="dpm2"), "form='data': expected 'noise'"),
        (lambda: Tableau(((0.5,),), (0.0, 1.0), 3), "order=3: expected at most 2"),
        (lambda: Tableau(((0.5, 0.1),), (0.0, 1.0), 2), "a=.*expected rows of 1 to 1 numbers"),
        (lambda: RungeKutta(4, grid=Times((1.0, 0.5))).route(SDE(FlowSchedule())), "steps=4"),
    ],
)
def test_impossible_options(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
