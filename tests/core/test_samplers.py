"""Samplers against closed forms: orders of convergence, exact moments, limits, equivalences, counts, seeds."""

import math
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from sampling_problems import LOW, MIDDLE, SCHEDULES, Counting, gaussian_problem, mixture_problem
from torch import Tensor

from ornstein.core import (
    DDIM,
    DDPM,
    SDE,
    BrownianNoise,
    CosineSchedule,
    Denoiser,
    DPMSolver,
    EDMSampler,
    EDMSchedule,
    Euler,
    EulerMaruyama,
    FlowSchedule,
    GaussianDenoiser,
    Heun,
    IndependentNoise,
    Karras,
    NetworkDenoiser,
    Sampler,
    SampleStep,
    Schedule,
    SubVPSchedule,
    Times,
    UniformLogSNR,
    UniformTime,
    VESchedule,
    VPSchedule,
    ZeroTerminalSNR,
)
from ornstein.core.samplers.base import LinearSampler
from ornstein.core.testing import (
    anisotropic_gaussian,
    convergence_order,
    exact_moments,
    sampling_errors,
    three_modes,
)

DETERMINISTIC = [
    (DDIM(grid=MIDDLE), 1),
    (Euler(grid=MIDDLE), 1),
    (Heun(grid=MIDDLE), 2),
    (Heun(grid=MIDDLE, bounded=False), 2),
    (EDMSampler(grid=MIDDLE, churn=0.0), 2),
    (EulerMaruyama(grid=MIDDLE, eta=0.0), 1),
    (DPMSolver(grid=MIDDLE, order=1), 1),
    (DPMSolver(grid=MIDDLE, order=2), 2),
    (DPMSolver(grid=MIDDLE, order=2, form="exact"), 2),
    (DPMSolver(grid=MIDDLE, order=3), 3),
]
# Relative error of the covariance at 40 steps; ancestral sampling is one method under three names.
FROZEN = 0.12119
STOCHASTIC = [
    (DDPM(grid=LOW), 1, FROZEN),
    (DDPM(grid=LOW, variance="large"), 1, None),
    (DDIM(grid=LOW, eta=0.5), 1, None),
    (DDIM(grid=LOW, eta=1.0), 1, FROZEN),
    (EulerMaruyama(grid=LOW), 1, None),
    (EDMSampler(grid=LOW, churn=10.0), 2, None),
    (DPMSolver(grid=LOW, order=1, eta=1.0), 1, FROZEN),
    (DPMSolver(grid=LOW, order=2, eta=1.0), 2, None),
    (DPMSolver(grid=LOW, order=2, eta=1.0, form="exact"), 2, None),
    (DPMSolver(grid=LOW, order=3, eta=1.0), 2, None),
    (DPMSolver(grid=LOW, order=3, eta=1.0, form="released"), 2, None),
]


def label(value: object) -> str:
    if isinstance(value, Sampler):
        settings = [
            f"{k}={getattr(value, k)}" for k in ("eta", "order", "form", "variance", "churn") if k in vars(value)
        ]
        return "-".join([type(value).__name__, *settings])
    if isinstance(value, Schedule):
        inner = getattr(value, "schedule", None)
        return type(value).__name__ + (f"({type(inner).__name__})" if inner else "")
    return str(value)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
@pytest.mark.parametrize(("sampler", "order"), DETERMINISTIC, ids=label)
def test_order_on_a_gaussian(sampler: Sampler, order: int, schedule: Schedule) -> None:
    # Euler's method in time settles late where a schedule is steep in time.
    steps = (160, 320) if isinstance(sampler, EulerMaruyama) else (80, 160)
    errors = sampling_errors(sampler, *gaussian_problem(schedule), steps)
    assert convergence_order(errors) == pytest.approx(order, abs=0.15)


@pytest.fixture(scope="module")
def mixture() -> tuple[Denoiser, Tensor, Tensor]:
    return mixture_problem(CosineSchedule())


@pytest.mark.parametrize(("sampler", "order"), DETERMINISTIC, ids=label)
def test_order_on_a_mixture(sampler: Sampler, order: int, mixture: tuple[Denoiser, Tensor, Tensor]) -> None:
    errors = sampling_errors(sampler, *mixture, (320, 640))
    assert convergence_order(errors) == pytest.approx(order, abs=0.15)


def test_released_third_order_formulas_fall_to_second_order(mixture: tuple[Denoiser, Tensor, Tensor]) -> None:
    errors = sampling_errors(DPMSolver(grid=MIDDLE, order=3, form="released"), *mixture, (320, 640))
    assert 1.9 < convergence_order(errors) < 2.4


@pytest.mark.parametrize("schedule", [CosineSchedule(), EDMSchedule()], ids=label)
@pytest.mark.parametrize(("sampler", "order", "at_40"), STOCHASTIC, ids=label)
def test_exact_moments_of_stochastic_samplers(
    sampler: Sampler, order: int, at_40: float | None, schedule: Schedule
) -> None:
    process = SDE(schedule)
    denoiser = anisotropic_gaussian(process)
    end = process.level(LOW(1, process)[-1])
    truth = end.alpha**2 * denoiser.covariance + end.sigma**2 * torch.eye(3, dtype=torch.float64)
    errors = {}
    for steps in (80, 40, 160, 320):
        mean, covariance = exact_moments(replace(sampler, steps=steps), denoiser)
        errors[steps] = float((covariance - truth).abs().max() / truth.abs().max())
        # The mean moves by the deterministic part alone: exact for these samplers up to their order.
        assert (mean - end.alpha * denoiser.mean).abs().max() < 20 / steps**order
    assert convergence_order([errors[160], errors[320]]) == pytest.approx(order, abs=0.15)
    if at_40 is not None:
        assert errors[40] == pytest.approx(at_40, rel=0.01)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
@pytest.mark.parametrize(
    "sampler",
    [
        DDPM(500),
        DDPM(500, variance="large"),
        DDIM(500, eta=1.0),
        EulerMaruyama(500),
        EDMSampler(500),
        DPMSolver(500, eta=1.0),
    ],
    ids=label,
)
def test_moments_within_monte_carlo_error(sampler: Sampler, schedule: Schedule) -> None:
    """500 steps on the default grid, from pure noise to clean data."""
    process, num = SDE(schedule), 2000
    denoiser = anisotropic_gaussian(process)
    start = process.level(sampler.grid(500, process)[0])
    noise = torch.randn(num, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x = start.alpha * denoiser.sample(num, generator=torch.Generator().manual_seed(4)) + start.sigma * noise
    out = sampler.sample(denoiser, x.shape, x=x, noise=IndependentNoise(torch.Generator().manual_seed(5)))
    std = denoiser.covariance.diag().sqrt()
    assert ((out.mean(0) - denoiser.mean).abs() < 4 * std / num**0.5).all()
    scatter = torch.cov(out.T) / std[:, None] / std
    truth = denoiser.covariance / std[:, None] / std
    # A sample covariance has the standard error sqrt((1 + rho^2) / n); the sampler's own error is below one percent.
    assert ((scatter - truth).abs() < 4 * ((1 + truth**2) / num).sqrt() + 0.01).all()


def test_one_step_from_noise_to_data_is_the_posterior_mean() -> None:
    denoiser = anisotropic_gaussian(SDE(CosineSchedule()))
    x = torch.randn(5, 3, dtype=torch.float64)
    grid = UniformTime()
    mean = denoiser(x, 1.0).mean
    for sampler in (DDPM(1, grid=grid), DDIM(1, grid=grid), Euler(1, grid=grid), Heun(1, grid=grid, bounded=False)):
        assert torch.equal(sampler.sample(denoiser, x.shape, x=x), mean)
    for sampler in (DPMSolver(1, grid=grid), DPMSolver(1, grid=grid, order=3), EulerMaruyama(1, grid=grid)):
        torch.testing.assert_close(sampler.sample(denoiser, x.shape, x=x), mean)


EQUAL_PAIRS = [
    (DDIM(12), Euler(12)),
    (DDIM(12), DPMSolver(12, order=1)),
    (DDPM(12), DDIM(12, eta=1.0)),
    (DDPM(12), DPMSolver(12, order=1, eta=1.0)),
    (Heun(12), EDMSampler(12, churn=0.0)),
    (DPMSolver(40, order=3, grid=MIDDLE), DPMSolver(40, order=3, form="exact", grid=MIDDLE)),
    (DPMSolver(12, order=2), DPMSolver(12, order=2, form="released")),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
@pytest.mark.parametrize(("one", "other"), EQUAL_PAIRS, ids=label)
def test_samplers_said_to_be_equal_are(one: Sampler, other: Sampler, schedule: Schedule) -> None:
    denoiser = three_modes(SDE(schedule))
    x = 3 * torch.randn(8, 2, dtype=torch.float64)
    first = one.sample(denoiser, x.shape, x=x, seed=1)
    second = other.sample(denoiser, x.shape, x=x, seed=1)
    torch.testing.assert_close(first, second, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "sampler",
    [DDIM(20), Heun(20), DPMSolver(20), DPMSolver(20, order=3), DDPM(20), DPMSolver(20, eta=1.0), EDMSampler(20)],
    ids=label,
)
def test_schedules_differ_by_scale_alone(sampler: Sampler) -> None:
    """The same noise levels under another schedule give the same samples, to 1e-12."""
    z = torch.randn(16, 2, dtype=torch.float64)
    results = []
    for schedule in (VPSchedule(), CosineSchedule(), EDMSchedule(1e3), FlowSchedule(), SubVPSchedule()):
        process = SDE(schedule)
        sampler = replace(sampler, grid=UniformLogSNR(-8, 8))
        level = process.level(sampler.grid(20, process)[0])
        results.append(sampler.sample(three_modes(process), z.shape, x=z * level.sigma, seed=1))
    for other in results[1:]:
        # Starting times are inverses of log-SNR; steep schedules lose a digit or two of it there.
        torch.testing.assert_close(other, results[0], rtol=1e-10, atol=1e-10)


ALL = [
    DDIM(),
    DDIM(eta=1.0),
    DDPM(),
    Euler(),
    Heun(),
    EDMSampler(),
    EulerMaruyama(),
    DPMSolver(),
    DPMSolver(order=3),
    DPMSolver(order=3, eta=1.0),
    Heun(denoise=True),
]


@pytest.mark.parametrize("sampler", ALL, ids=label)
@pytest.mark.parametrize("steps", [1, 2, 3, 17])
def test_declared_number_of_evaluations(sampler: Sampler, steps: int) -> None:
    denoiser = Counting(three_modes(SDE(CosineSchedule())))
    sampler = replace(sampler, steps=steps)
    sampler.sample(denoiser, (4, 2), seed=0)
    assert denoiser.calls == sampler.nfe() == sampler.nfe(steps) == sampler.nfe(steps, denoiser.process)


@pytest.mark.parametrize("sampler", ALL, ids=label)
@pytest.mark.parametrize(("schedule", "grid"), [(VESchedule(), UniformTime()), (CosineSchedule(), UniformTime())])
def test_number_of_evaluations_on_other_grids(sampler: Sampler, schedule: Schedule, grid: UniformTime) -> None:
    denoiser = Counting(three_modes(SDE(schedule)))
    sampler = replace(sampler, steps=9, grid=grid)
    sampler.sample(denoiser, (4, 2), seed=0)
    assert denoiser.calls == sampler.nfe(process=denoiser.process)


@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_sample_depends_on_seed_and_number_alone(sampler: Sampler) -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    sampler = replace(sampler, steps=6)
    together = sampler.sample(denoiser, (5, 2), seed=3)
    alone = torch.cat([sampler.sample(denoiser, (1, 2), seed=3, first=i) for i in range(5)])
    # Bits may differ where matrix products of other sizes round differently; the draws are the same.
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(together, sampler.sample(denoiser, (5, 2), seed=4), atol=1e-2)


@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_samplers_hold_nothing_of_a_run(sampler: Sampler) -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    sampler = replace(sampler, steps=6)
    expected = [sampler.sample(denoiser, (3, 2), seed=i) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda i: sampler.sample(denoiser, (3, 2), seed=i), range(4)))
    assert all(torch.equal(a, b) for a, b in zip(expected, again))


@pytest.mark.parametrize("sampler", [DDPM(1), EulerMaruyama(1), DPMSolver(1, eta=1.0)], ids=label)
def test_brownian_noise_makes_step_counts_comparable(sampler: Sampler) -> None:
    """Under one Brownian path the samples of 32 and 64 steps are close; under independent draws they are not."""
    denoiser = three_modes(SDE(VPSchedule()))
    grid = UniformTime(1.0, 0.05)

    def gap(noise: object) -> float:
        runs = [replace(sampler, steps=n, grid=grid).sample(denoiser, (24, 2), noise=noise) for n in (32, 64)]
        return float((runs[0] - runs[1]).pow(2).mean().sqrt())

    assert gap(BrownianNoise(0, depth=12)) < 0.35 * gap(IndependentNoise(torch.Generator().manual_seed(0)))


def test_strong_order_of_euler_maruyama() -> None:
    """Pathwise error under a Brownian path falls at order 1, since the noise is additive."""
    denoiser = anisotropic_gaussian(SDE(VPSchedule()))
    x = denoiser.sample(48, 1.0, generator=torch.Generator().manual_seed(0))
    runs = [
        EulerMaruyama(n, grid=UniformTime(1.0, 0.1)).sample(denoiser, x.shape, x=x, noise=BrownianNoise(1, depth=12))
        for n in (32, 64, 128)
    ]
    gaps = [float((a - b).pow(2).mean().sqrt()) for a, b in pairwise(runs)]
    assert math.log2(gaps[-2] / gaps[-1]) == pytest.approx(1.0, abs=0.3)


def _forward(x: Tensor, c: Tensor) -> Tensor:
    return torch.tanh(x) * (0.5 + c[:, None])


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule(), ZeroTerminalSNR(VPSchedule())], ids=label)
@pytest.mark.parametrize("prediction", ["x0", "v", "flow", "edm"])
@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_zero_terminal_snr_is_finite(sampler: Sampler, prediction: str, schedule: Schedule) -> None:
    denoiser = NetworkDenoiser(_forward, SDE(schedule), prediction)  # type: ignore[arg-type]
    out = replace(sampler, steps=5, grid=UniformTime()).sample(denoiser, (3, 2), seed=0)
    assert out.isfinite().all()


def test_eps_at_zero_snr_is_refused_with_the_mend() -> None:
    denoiser = NetworkDenoiser(_forward, SDE(CosineSchedule()), "eps")
    with pytest.raises(ValueError, match=r"alpha = 0.*predict v, x0 or flow"):
        DDIM(5, grid=UniformTime()).sample(denoiser, (3, 2))
    assert DDIM(5).sample(denoiser, (3, 2)).isfinite().all()


def test_mask_keeps_padding_at_zero_and_out_of_the_rest() -> None:
    class Neighbours(Denoiser):
        def forward(self, x_t: Tensor, t: Tensor | float, *, mask: Tensor, **condition: Tensor) -> object:
            assert (x_t[~mask] == 0).all()
            return NetworkDenoiser(lambda x, c: x + x.mean(1, keepdim=True), self.process, "x0")(x_t, t)

    mask = torch.tensor([[True, True, False], [True, True, True]])
    sampler = EulerMaruyama(4)
    out = sampler.sample(Neighbours(SDE(CosineSchedule())), (2, 3, 2), seed=0, mask=mask)
    assert (out[0, 2] == 0).all()
    assert (out[1] != 0).all()


def test_callback_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[SampleStep] = []
    denoiser = three_modes(SDE(CosineSchedule()))
    x = torch.randn(3, 2, dtype=torch.float64)
    out = DDIM(4).sample(denoiser, (3, 2), x=x, callback=seen.append, progress=True)
    assert [s.index for s in seen] == [0, 1, 2, 3]
    assert seen[-1].s == 0.0
    assert torch.equal(seen[-1].x, out)
    torch.testing.assert_close(seen[0].mean, denoiser(x, seen[0].t).mean)
    assert "sampling" in capsys.readouterr().err


@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_step_is_what_sample_repeats(sampler: Sampler) -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    # Short steps, in which every method draws as often as it says.
    sampler = replace(sampler, steps=5, denoise=False, grid=UniformLogSNR(-3, 3))
    x = torch.randn(3, 2, dtype=torch.float64)
    draws: list[Tensor] = []

    class Recorded(IndependentNoise):
        def begin(self, batch: int, first: int) -> object:
            stream = super().begin(batch, first)
            draw = stream.draw
            stream.draw = lambda like: draws.append(draw(like)) or draws[-1]
            return stream

    steps: list[SampleStep] = []
    out = sampler.sample(denoiser, x.shape, x=x, noise=Recorded(), callback=steps.append)
    previous: list[tuple[float, Tensor]] = []
    for step in steps:
        noise = draws.pop(0) if sampler.stochastic and draws else None
        past = previous[: getattr(sampler, "order", 1) - 1]
        previous.insert(0, (step.t, step.mean))
        x = sampler.step(denoiser, x, step.t, step.s, noise=noise, previous=past)
        torch.testing.assert_close(x, step.x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(x, out, rtol=1e-12, atol=1e-12)


def test_step_is_differentiable() -> None:
    scale = torch.nn.Linear(2, 2)
    denoiser = NetworkDenoiser(_Ignores(scale), SDE(CosineSchedule()))
    x = torch.randn(3, 2, requires_grad=True)
    DPMSolver().step(denoiser, x, 0.8, 0.4).square().sum().backward()
    assert x.grad is not None
    assert scale.weight.grad is not None


class _Ignores(torch.nn.Module):
    """A network that does not look at the noise level."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.inner(x)


COMPILED = """
import torch
from ornstein.core import *

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)
    def forward(self, x, c):
        return self.inner(x)

denoiser = NetworkDenoiser(Network(), SDE(VPSchedule()))
x, noise = torch.randn(3, 2), torch.randn(3, 2)
times = torch.tensor([0.9, 0.7, 0.5], dtype=torch.float64)
multistep = (DEIS(), LMS(), PNDM(), UniPC(), UniPC(predicts="eps"), SASolver())
for sampler in (DDIM(), DDPM(), Heun(), DPMSolver(), DPMSolverSinglestep(), DPMSolverSinglestep(order=3), *multistep):
    def step(x, t, s, noise):
        return sampler.step(denoiser, x, t, s, noise=noise)
    with torch.no_grad():
        torch.compiler.reset()
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
        compiled(x, times[0], times[1], noise)
        with torch.compiler.set_stance("fail_on_recompile"):
            again = compiled(x, times[1], times[2], noise)
        torch.testing.assert_close(again, step(x, times[1], times[2], noise), rtol=1e-6, atol=1e-6)
print("compiled")
"""


@pytest.mark.slow
def test_step_compiles_whole_and_once() -> None:
    """In a process of its own, without the run-time check of shapes, which dynamo cannot trace."""
    run = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "compiled", run.stderr[-2000:]


@pytest.mark.parametrize(
    "sampler",
    [
        DDIM(),
        DDPM(),
        Heun(),
        EDMSampler(),
        EulerMaruyama(),
        DPMSolver(),
        DPMSolver(eta=1.0),
        DPMSolver(order=3),
    ],
    ids=label,
)
def test_few_evaluations_stay_near_the_data(sampler: Sampler) -> None:
    """At two to ten steps nothing blows up, where Heun's published form leaves the data by a factor of ten."""
    denoiser = three_modes(SDE(VPSchedule()))
    truth = denoiser.sample(4000, generator=torch.Generator().manual_seed(0)).pow(2).mean().sqrt()

    def size(sampler: Sampler, steps: int) -> float:
        out = replace(sampler, steps=steps).sample(denoiser, (500, 2), seed=0)
        return float(out.pow(2).mean().sqrt() / truth)

    assert max(size(sampler, steps) for steps in (2, 3, 4, 5, 7, 10)) < 2
    assert size(Heun(bounded=False, grid=UniformLogSNR()), 3) > 10


@pytest.mark.parametrize("grid", [UniformTime(), UniformLogSNR()], ids=repr)
def test_reverse_sde_without_noise_draws_none(grid: UniformTime) -> None:
    """From pure noise and over long steps as well."""
    denoiser, x = three_modes(SDE(FlowSchedule())), torch.randn(4, 2, dtype=torch.float64)
    runs = [EulerMaruyama(5, eta=0.0, grid=grid).sample(denoiser, x.shape, x=x, seed=seed) for seed in (0, 1)]
    assert torch.equal(*runs)


@pytest.mark.parametrize("steps", [0, -1, 2.5, True])
@pytest.mark.parametrize("kind", [DDIM, DDPM, Euler, Heun, EDMSampler, EulerMaruyama, DPMSolver])
def test_impossible_steps(kind: type[Sampler], steps: object) -> None:
    with pytest.raises(ValueError, match=r"steps=.*expected an integer of at least 1"):
        kind(steps)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DDIM(eta=1.5), "eta=1.5"),
        (lambda: DDPM(variance="medium"), "variance='medium'.*'small' or 'large'"),
        (lambda: DPMSolver(order=4), "order=4"),
        (lambda: DPMSolver(form="best"), "form='best'"),
        (lambda: EDMSampler(churn=-1), "churn=-1"),
        (lambda: EulerMaruyama(eta=-0.1), "eta=-0.1"),
    ],
)
def test_impossible_options(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(2, 3)}, r"x of shape \(2, 3\): expected shape=\(4, 2\)"),
        ({"x": torch.zeros(4, 2, dtype=torch.bfloat16)}, "expected float32 or float64"),
        ({"x": torch.full((4, 2), math.nan)}, "NaN"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 0, "noise": IndependentNoise()}, "expected one"),
        ({"mask": torch.ones(4, 3, dtype=torch.bool)}, r"mask of shape \(4, 3\)"),
        ({"mask": torch.ones(4, 2)}, "torch.bool"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DDIM(3).sample(three_modes(SDE(CosineSchedule())), (4, 2), **arguments)  # type: ignore[arg-type]


def test_state_keeps_its_precision_under_a_low_precision_network() -> None:
    network = _Ignores(torch.nn.Linear(2, 2)).to(torch.bfloat16)
    denoiser = NetworkDenoiser(network, SDE(CosineSchedule()))
    assert DPMSolver(4).sample(denoiser, (3, 2), seed=0).dtype == torch.float32


def test_a_new_linear_method_is_its_coefficients() -> None:
    """The extension point that CONTRIBUTING describes: a plan is all that a linear method says."""

    class MeanOnly(LinearSampler):
        def plan(self, process: SDE, times: Tensor) -> Tensor:
            alpha = process.schedule.alpha(times[1:])
            return torch.stack([torch.zeros_like(alpha), alpha, torch.zeros_like(alpha)], 1)

    process = SDE(VESchedule())
    point = GaussianDenoiser(process, torch.tensor([1.0, 2.0]), 1e-12 * torch.eye(2))
    out = MeanOnly(3).sample(point, (4, 2), seed=0)
    torch.testing.assert_close(out, torch.tensor([1.0, 2.0]).expand(4, 2), rtol=1e-5, atol=1e-5)


def test_given_times_and_karras() -> None:
    denoiser = three_modes(SDE(EDMSchedule()))
    times = Karras()(10, denoiser.process)
    x = 80 * torch.randn(5, 2, dtype=torch.float64)
    one = Heun(10, grid=Karras()).sample(denoiser, x.shape, x=x)
    assert torch.equal(one, Heun(10, grid=Times(tuple(times.tolist()))).sample(denoiser, x.shape, x=x))


def _orders(samplers: Sequence[Sampler]) -> set[int]:
    return {sampler.order for sampler in samplers}


def test_declared_orders_are_those_tested() -> None:
    for sampler, order in DETERMINISTIC:
        assert sampler.order == order
    assert _orders([s for s, _ in DETERMINISTIC]) == {1, 2, 3}
    assert [DDIM().stochastic, DDIM(eta=0.1).stochastic, DDPM().stochastic, DPMSolver(eta=1.0).stochastic] == [
        False,
        True,
        True,
        True,
    ]
