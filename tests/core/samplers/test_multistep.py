"""Multistep methods: orders, exactness on polynomials, equivalences, counts, seeds, few steps."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from sampling_problems import LOW, MIDDLE, SCHEDULES, Counting, gaussian_problem, mixture_problem
from torch import Tensor

from ornstein.core import (
    DDIM,
    SDE,
    CosineSchedule,
    Denoiser,
    DPMSolver,
    EDMSchedule,
    FlowSchedule,
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
from ornstein.core.denoisers import GaussianPosterior
from ornstein.core.samplers import DEIS, LMS, PNDM, SASolver, UniPC
from ornstein.core.samplers.exponential import lagrange_weights
from ornstein.core.samplers.multistep import Multistep
from ornstein.core.testing import (
    anisotropic_gaussian,
    convergence_order,
    exact_moments,
    sampling_errors,
    three_modes,
)

VARIABLES = ("log_rho", "rho", "t")


def label(value: object) -> str:
    if isinstance(value, Sampler):
        names = ("order", "variable", "bh", "predicts", "corrector", "corrector_order", "tau", "predictor", "start")
        settings = [str(v) for k, v in vars(value).items() if k in names]
        return "-".join([type(value).__name__, *settings])
    return type(value).__name__ if isinstance(value, Schedule) else str(value)


# Order of the error, its tolerance, and the run lengths at which it has settled.
SHORT, MEDIUM, LONG = (80, 160), (160, 320), (320, 640)
ORDERED: list[tuple[Sampler, int, float, tuple[int, int]]] = [
    *[(DEIS(order=k, variable=v), k, 0.15, SHORT) for k in (1, 2, 3) for v in ("log_rho", "t")],
    # Two terms of the error, of fourth and fifth order, are of one size at these steps; shorter ones meet rounding.
    (DEIS(order=4), 4, 0.3, LONG),
    (DEIS(order=4, variable="t"), 4, 0.15, MEDIUM),
    *[(LMS(order=k), k, 0.15, SHORT if k < 4 else MEDIUM) for k in (1, 2, 3, 4)],
    *[(UniPC(order=k, bh=bh, corrector=False), k, 0.15, SHORT) for k in (1, 2) for bh in ("bh1", "bh2")],
    (UniPC(order=3, corrector=False), 3, 0.25, LONG),  # falls to 3 from above
    *[(UniPC(order=k, predicts="eps", corrector=False), k, 0.15, SHORT) for k in (1, 2, 3)],
    *[(UniPC(order=k, bh=bh), k + 1, 0.15, SHORT) for k in (1, 2) for bh in ("bh1", "bh2")],
    *[(UniPC(order=k, bh=bh, predicts="eps"), k + 1, 0.15, MEDIUM) for k in (1, 2) for bh in ("bh1", "bh2")],
    (UniPC(order=3), 4, 0.2, MEDIUM),
    (UniPC(order=3, predicts="eps"), 4, 0.3, MEDIUM),  # climbs to 4 from below, as DEIS does
    (UniPC(order=1, predictor=DDIM()), 2, 0.15, SHORT),
    (UniPC(order=2, predictor=DPMSolver()), 3, 0.15, SHORT),
    (UniPC(order=3, predictor=DPMSolver(order=3)), 4, 0.2, MEDIUM),
    *[(SASolver(order=k, tau=0.0, corrector_order=0), k, 0.15, SHORT) for k in (1, 2)],
    (SASolver(order=3, tau=0.0, corrector_order=0), 3, 0.25, MEDIUM),
    (SASolver(order=1, tau=0.0, corrector_order=1), 2, 0.15, SHORT),
    (SASolver(order=2, tau=0.0, corrector_order=2), 3, 0.15, MEDIUM),
    (SASolver(order=3, tau=0.0, corrector_order=3), 4, 0.2, MEDIUM),
    (SASolver(order=3, tau=0.0, corrector_order=1), 2, 0.15, SHORT),  # the corrector has the last word
    (PNDM(order=1), 1, 0.15, SHORT),
    *[(PNDM(order=k), 2, 0.2, MEDIUM) for k in (2, 3, 4)],  # DDIM's transfer holds the order at 2
]


@pytest.fixture(scope="module")
def mixture() -> tuple[Denoiser, Tensor, Tensor]:
    return mixture_problem(CosineSchedule())


@pytest.mark.parametrize(("sampler", "order", "tolerance", "steps"), ORDERED, ids=label)
def test_order_on_a_mixture(
    sampler: Sampler, order: int, tolerance: float, steps: tuple[int, int], mixture: tuple[Denoiser, Tensor, Tensor]
) -> None:
    errors = sampling_errors(replace(sampler, grid=MIDDLE), *mixture, steps)
    assert errors[-1] > 1e-10  # above rounding
    assert convergence_order(errors) == pytest.approx(order, abs=tolerance)


@pytest.mark.parametrize("schedule", [VPSchedule(), EDMSchedule(), FlowSchedule()], ids=label)
@pytest.mark.parametrize(
    ("sampler", "order"),
    [
        (DEIS(order=2, variable="t"), 2),
        (DEIS(order=3, variable="t"), 3),
        (LMS(order=3), 3),
        (UniPC(order=2), 3),
        (SASolver(order=2, tau=0.0, corrector_order=2), 3),
        (PNDM(order=4), 2),
    ],
    ids=label,
)
def test_order_on_a_gaussian(sampler: Sampler, order: int, schedule: Schedule) -> None:
    """Under other schedules, which for polynomials in time and for PNDM is another method."""
    errors = sampling_errors(replace(sampler, grid=MIDDLE), *gaussian_problem(schedule), SHORT)
    assert convergence_order(errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("sampler", [DEIS(order=4), LMS(order=4), UniPC(order=3, corrector=False)], ids=label)
def test_high_order_needs_its_start(sampler: Multistep, mixture: tuple[Denoiser, Tensor, Tensor]) -> None:
    """A first step of order 1 leaves an error of second order, which no later step takes away."""
    low = replace(sampler, start="low_order", grid=MIDDLE)
    errors = sampling_errors(low, *mixture, MEDIUM)
    assert convergence_order(errors) == pytest.approx(2, abs=0.35)
    assert errors[-1] > 3 * sampling_errors(replace(low, start="runge_kutta"), *mixture, MEDIUM[1:])[0]


@pytest.mark.parametrize(("order", "corrector_order"), [(2, 0), (3, 0), (2, 2), (3, 3)])
@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_exact_moments_of_sa_solver(tau: float, order: int, corrector_order: int) -> None:
    """Second order in the covariance for all settings."""
    process = SDE(CosineSchedule())
    denoiser = anisotropic_gaussian(process)
    end = process.level(LOW(1, process)[-1])
    truth = end.alpha**2 * denoiser.covariance + end.sigma**2 * torch.eye(3, dtype=torch.float64)
    sampler = SASolver(order=order, corrector_order=corrector_order, tau=tau, interval=(0.0, 1e9), grid=LOW)
    errors = []
    for steps in (80, 160):
        mean, covariance = exact_moments(replace(sampler, steps=steps), denoiser)
        errors.append(float((covariance - truth).abs().max() / truth.abs().max()))
        assert (mean - end.alpha * denoiser.mean).abs().max() < 20 / steps**2
    assert convergence_order(errors) > 1.7
    assert errors[-1] < 5e-3


def _at(denoiser: Denoiser, sampler: Sampler, x: Tensor) -> Tensor:
    return sampler.sample(denoiser, x.shape, x=x, seed=1)


# Steps of half log-SNR below 1/2, so that no step is too long for its values.
CLOSE = UniformLogSNR(-4.0, 4.0, clean=False)
STOCHASTIC_ONE = {"tau": 1.0, "interval": (0.0, 1e9), "corrector_order": 0}
EQUAL: list[tuple[Sampler, Sampler]] = [
    (DEIS(12, order=1), DDIM(12)),
    (LMS(12, order=1), DDIM(12)),
    (PNDM(12, order=1), DDIM(12)),
    (UniPC(12, order=1, corrector=False), DDIM(12)),
    (UniPC(12, order=1, corrector=False, predicts="eps", bh="bh1"), DDIM(12)),
    (SASolver(12, order=1, tau=0.0, corrector_order=0), DDIM(12)),
    *[(DEIS(14, variable="rho", order=k), LMS(14, order=k)) for k in (2, 3, 4)],
    (UniPC(12, order=2, corrector=False), DPMSolver(12)),
    (UniPC(12, order=2, predictor=DPMSolver(12)), UniPC(12, order=2)),
    (UniPC(12, order=1, predictor=DDIM(12)), UniPC(12, order=1)),
    (SASolver(12, order=2, tau=0.0, corrector_order=0), DPMSolver(12, form="exact")),
    (SASolver(20, order=2, **STOCHASTIC_ONE, grid=CLOSE), DPMSolver(20, eta=1.0, form="exact", grid=CLOSE)),
    (SASolver(11, order=3, tau=0.0, corrector_order=0, grid=CLOSE), DPMSolver(11, order=3, grid=CLOSE)),
    (SASolver(24, order=3, tau=0.0, corrector_order=0, grid=CLOSE), DPMSolver(24, order=3, grid=CLOSE)),
    (SASolver(12, order=2, tau=1.0, interval=(50.0, 60.0), grid=CLOSE), SASolver(12, order=2, tau=0.0, grid=CLOSE)),
]


@pytest.mark.parametrize("schedule", SCHEDULES[::3], ids=label)
@pytest.mark.parametrize(("one", "other"), EQUAL, ids=label)
def test_methods_said_to_be_equal_are(one: Sampler, other: Sampler, schedule: Schedule) -> None:
    denoiser = three_modes(SDE(schedule))
    x = 3 * torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_at(denoiser, one, x), _at(denoiser, other, x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=label)
def test_third_order_step_is_dpm_solvers(schedule: Schedule) -> None:
    """UniP-3 and DPM-Solver++ 3M have one quadratic; they differ in the steps before it alone."""
    denoiser = three_modes(SDE(schedule))
    *past, t, s = UniformLogSNR(-1.0, 1.5, clean=False)(3, denoiser.process).tolist()
    x, *means = torch.randn(3, 8, 2, dtype=torch.float64)
    previous = list(zip(reversed(past), means))
    results = [m.step(denoiser, x, t, s, previous=previous) for m in (UniPC(order=3), DPMSolver(order=3))]
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("predicts", ["mean", "eps"])
def test_three_values_leave_no_choice_of_b(predicts: str) -> None:
    """With three values ``B(h)`` cancels: the forms differ in steps with two values alone."""
    process, nodes = SDE(CosineSchedule()), torch.tensor([[0.5, 0.55, 0.62]], dtype=torch.float64)
    t, s = nodes[:, 0], torch.tensor([0.46], dtype=torch.float64)
    one, two = (UniPC(order=3, bh=bh, predicts=predicts) for bh in ("bh1", "bh2"))  # type: ignore[arg-type]
    assert torch.equal(one.weights(process, t, s, nodes), two.weights(process, t, s, nodes))
    assert not torch.allclose(one.weights(process, t, s, nodes[:, :2]), two.weights(process, t, s, nodes[:, :2]))


@pytest.mark.parametrize("grid", [UniformLogSNR(-9.0, 9.0), UniformLogSNR(-30.0, 30.0)], ids=repr)
def test_long_steps_use_fewer_values(grid: UniformLogSNR) -> None:
    """Beyond 1/2 in half log-SNR the quadratic is left out; beyond 1 the noise is not corrected."""
    denoiser = three_modes(SDE(FlowSchedule()))
    x = 3 * torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    three, two = (UniPC(7, order=k, corrector=False, start="low_order", grid=grid) for k in (3, 2))
    assert torch.equal(_at(denoiser, three, x), _at(denoiser, two, x))
    corrected, plain = (UniPC(7, order=2, predicts="eps", corrector=c, grid=grid) for c in (True, False))
    assert torch.equal(_at(denoiser, corrected, x), _at(denoiser, plain, x))
    short = UniformLogSNR(-2.0, 2.0)
    assert not torch.equal(_at(denoiser, replace(three, grid=short), x), _at(denoiser, replace(two, grid=short), x))


SCALED: list[Sampler] = [
    DEIS(20),
    DEIS(20, order=4),
    LMS(20),
    UniPC(20, order=3),
    UniPC(20, order=2, predicts="eps"),
    SASolver(20),
    SASolver(20, tau=0.0),
]


@pytest.mark.parametrize("sampler", SCALED, ids=label)
def test_schedules_differ_by_scale_alone(sampler: Sampler) -> None:
    """The same noise levels under another schedule give the same samples."""
    z = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampler = replace(sampler, grid=UniformLogSNR(-8, 8))
    results = []
    for schedule in (VPSchedule(), CosineSchedule(), EDMSchedule(1e3), FlowSchedule(), SubVPSchedule()):
        process = SDE(schedule)
        level = process.level(sampler.grid(20, process)[0])
        results.append(_at(three_modes(process), sampler, z * level.sigma))
    for other in results[1:]:
        # Starting times are inverses of log-SNR; steep schedules lose a digit or two of it there.
        torch.testing.assert_close(other, results[0], rtol=1e-10, atol=1e-10)


ALL: list[Sampler] = [
    DEIS(),
    DEIS(order=4, variable="t"),
    LMS(),
    LMS(order=2, start="runge_kutta"),
    PNDM(),
    PNDM(order=2),
    PNDM(start="runge_kutta"),
    UniPC(),
    UniPC(order=3, start="runge_kutta"),
    UniPC(order=3, predicts="eps", bh="bh1"),
    UniPC(order=2, predictor=DPMSolver()),
    SASolver(),
    SASolver(order=2, corrector_order=0),
    SASolver(tau=0.0),
]
GRIDS = [
    (CosineSchedule(), UniformLogSNR()),
    (CosineSchedule(), UniformTime()),
    (FlowSchedule(), UniformTime(0.9, 0.1)),
    (VESchedule(0.01, 50.0), Karras()),
]


@pytest.mark.parametrize(("schedule", "grid"), GRIDS, ids=label)
@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_declared_number_of_evaluations(sampler: Sampler, grid: object, schedule: Schedule) -> None:
    for steps in (1, 2, 12):
        counted = Counting(three_modes(SDE(schedule)))
        sampler = replace(sampler, steps=steps, grid=grid)  # type: ignore[arg-type]
        sampler.sample(counted, (3, 2), seed=0)
        assert counted.calls == sampler.nfe(process=counted.process)
        if isinstance(grid, UniformLogSNR):
            assert counted.calls == sampler.nfe() == sampler.nfe(steps)


def _forward(x: Tensor, c: Tensor) -> Tensor:
    return torch.tanh(x) * (0.5 + c[:, None])


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule(), ZeroTerminalSNR(VPSchedule())], ids=label)
@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_zero_terminal_snr_is_finite_and_counted(sampler: Sampler, prediction: str, schedule: Schedule) -> None:
    counted = Counting(NetworkDenoiser(_forward, SDE(schedule), prediction))  # type: ignore[arg-type]
    for steps in (3, 12):
        counted.calls = 0
        sampler = replace(sampler, steps=steps, grid=UniformTime())
        assert sampler.sample(counted, (3, 2), seed=0).isfinite().all()
        assert counted.calls == sampler.nfe(process=counted.process)


@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_sample_depends_on_seed_and_number_alone(sampler: Sampler) -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    sampler = replace(sampler, steps=14)
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


@pytest.mark.parametrize(
    "sampler",
    [DEIS(order=k, variable=v, start="low_order") for k in (2, 4) for v in VARIABLES]
    + [LMS(start="low_order"), UniPC(order=2, corrector=False), UniPC(order=3, corrector=False, start="low_order")]
    + [UniPC(order=3, predicts="eps", corrector=False, start="low_order"), PNDM(order=1)]
    + [SASolver(order=3, corrector_order=0, tau=0.0, start="low_order")],
    ids=label,
)
def test_step_is_what_sample_repeats(sampler: Multistep) -> None:
    """Without a corrector and without single steps at the start, which are steps of another method."""
    denoiser = three_modes(SDE(CosineSchedule()))
    sampler = replace(sampler, steps=7)
    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    steps: list[SampleStep] = []
    sampler.sample(denoiser, x.shape, x=x, callback=steps.append)
    previous: list[tuple[float, Tensor]] = []
    for step in steps:
        here = denoiser(x, step.t)
        past = previous[: sampler.order - 1]
        previous.insert(0, (step.t, here.mean if sampler.predicts == "mean" else here.eps))
        x = sampler.step(denoiser, x, step.t, step.s, previous=past)
        torch.testing.assert_close(x, step.x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sampler", ALL, ids=label)
def test_few_evaluations_stay_near_the_data(sampler: Sampler) -> None:
    denoiser = three_modes(SDE(VPSchedule()))
    truth = denoiser.sample(4000, generator=torch.Generator().manual_seed(0)).pow(2).mean().sqrt()
    for steps in (2, 3, 5, 12):
        out = replace(sampler, steps=steps).sample(denoiser, (500, 2), seed=0)
        assert out.pow(2).mean().sqrt() < 1.5 * truth


@pytest.mark.parametrize("tau", [0.0, 0.7])
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("predicts", ["mean", "eps"])
def test_weights_are_the_integrals(predicts: str, variable: str, tau: float) -> None:
    """Against scipy's adaptive quadrature of each Lagrange polynomial with its kernel."""
    integrate = pytest.importorskip("scipy.integrate")
    if predicts == "eps" and tau > 0:
        return
    schedule = CosineSchedule()
    times = [0.9, 0.75, 0.7, 0.62, 0.3]
    *nodes, t, s = times
    nodes = [t, *reversed(nodes)]
    as_tensor = torch.tensor(times, dtype=torch.float64)
    weights = lagrange_weights(
        schedule, as_tensor[-2:-1], as_tensor[-1:], torch.tensor([nodes], dtype=torch.float64), predicts, variable, tau
    )[0]  # type: ignore[arg-type]

    def half(time: float) -> float:
        return 0.5 * float(schedule.log_snr(torch.tensor(time, dtype=torch.float64)))

    def place(at: float) -> float:
        if variable == "t":
            return float(schedule.time(torch.tensor(2 * at, dtype=torch.float64)))
        return at if variable == "log_rho" else math.exp(-at)

    def kernel(at: float) -> float:
        if predicts == "mean":
            pull = 1 + tau**2
            return float(schedule.alpha(as_tensor[-1])) * pull * math.exp(-pull * (half(s) - at))
        return -float(schedule.sigma(as_tensor[-1])) * math.exp(half(s) - at)

    known = [place(half(v)) for v in nodes]
    for j, weight in enumerate(weights.tolist()):

        def integrand(at: float, j: int = j) -> float:
            factors = [(place(at) - known[i]) / (known[j] - known[i]) for i in range(len(known)) if i != j]
            return kernel(at) * math.prod(factors)

        value = integrate.quad(integrand, half(t), half(s), epsabs=1e-14, epsrel=1e-13)[0]
        assert weight == pytest.approx(value, abs=1e-12, rel=1e-12)


class Polynomial(Denoiser):
    """A posterior whose mean, or noise, is a polynomial in half log-SNR, in the noise ratio or in time, whatever the
    state.
    """

    def __init__(self, process: SDE, degree: int, predicts: str, variable: str) -> None:
        super().__init__(process)
        self.coefficients = torch.randn(degree + 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
        self.predicts, self.variable = predicts, variable

    def value(self, t: float) -> Tensor:
        half = 0.5 * float(self.process.level(t).log_snr)
        at = {"log_rho": half, "rho": math.exp(-half), "t": t}[self.variable]
        return sum((c * at**k for k, c in enumerate(self.coefficients)), torch.zeros(2, dtype=torch.float64))

    def forward(self, x_t: Tensor, t: float, **condition: Tensor) -> GaussianPosterior:
        level, value = self.process.level(t), self.value(t).expand_as(x_t)
        mean = value if self.predicts == "mean" else (x_t - level.sigma * value) / level.alpha
        return GaussianPosterior(x_t, self.process, level, mean)


@pytest.mark.parametrize(
    ("sampler", "variable"),
    [(DEIS(order=k, variable=v), v) for k in (1, 2, 3, 4) for v in VARIABLES]
    + [(LMS(order=k), "rho") for k in (2, 3, 4)]
    + [(UniPC(order=k, predicts=p), "log_rho") for k in (1, 3) for p in ("mean", "eps")]
    + [(SASolver(order=k, tau=0.0), "log_rho") for k in (1, 2, 3)],
    ids=label,
)
def test_polynomials_are_integrated_exactly(sampler: Multistep, variable: str) -> None:
    """A method of ``k`` values has no error where the value is a polynomial of degree ``k - 1``, on uneven steps."""
    integrate = pytest.importorskip("scipy.integrate")
    process = SDE(CosineSchedule())
    schedule = process.schedule
    denoiser = Polynomial(process, sampler.order - 1, sampler.predicts, variable)
    *past, t, s = [0.75, 0.7, 0.61, 0.54, 0.45][-sampler.order - 1 :]
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    out = sampler.step(denoiser, x, t, s, previous=[(v, denoiser.value(v)) for v in reversed(past)])
    start, end = process.level(t), process.level(s)
    low, high = 0.5 * float(start.log_snr), 0.5 * float(end.log_snr)

    def integrand(half: float) -> object:
        value = denoiser.value(float(schedule.time(torch.tensor(2 * half, dtype=torch.float64)))).numpy()
        return value * (math.exp(half - high) if sampler.predicts == "mean" else -math.exp(high - half))

    integral = torch.from_numpy(integrate.quad_vec(integrand, low, high, epsabs=1e-14, epsrel=1e-13)[0])
    if sampler.predicts == "mean":
        exact = end.sigma / start.sigma * x + end.alpha * integral
    else:
        exact = end.alpha / start.alpha * x + end.sigma * integral
    torch.testing.assert_close(out, exact, rtol=1e-11, atol=1e-11)
    if sampler.order > 1:  # one value fewer has an error
        lower = replace(sampler, order=sampler.order - 1)
        short = lower.step(denoiser, x, t, s, previous=[(v, denoiser.value(v)) for v in reversed(past[1:])])
        assert (short - exact).abs().max() > 1e-5


def test_sa_solver_is_stochastic_in_its_interval_alone() -> None:
    denoiser = three_modes(SDE(EDMSchedule()))
    x = 80 * torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen: list[list[SampleStep]] = [[], []]
    for steps, seed in zip(seen, (0, 1)):
        SASolver(20, grid=Karras()).sample(denoiser, x.shape, x=x, seed=seed, callback=steps.append)
    for one, other in zip(*seen):
        ratio = math.exp(-0.5 * float(denoiser.process.level(one.t).log_snr))
        assert torch.equal(one.x, other.x) == (ratio > 1.0)  # once parted, paths stay apart


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DEIS(order=5), "order=5: expected a number from 1 to 4"),
        (lambda: DEIS(variable="log"), "variable='log'"),
        (lambda: LMS(order=0), "order=0"),
        (lambda: UniPC(order=4), "order=4: expected a number from 1 to 3"),
        (lambda: UniPC(bh="bh3"), "bh='bh3'"),
        (lambda: UniPC(predicts="v"), "predicts='v'"),
        (lambda: UniPC(predictor=DDIM(eta=1.0)), "predictor=.*deterministic linear sampler"),
        (lambda: UniPC(predictor=DPMSolver(), predicts="eps"), "predicts='eps'"),
        (lambda: UniPC(5, order=1, predictor=DPMSolver()).nfe(process=SDE(FlowSchedule())), "order=1: expected 2"),
        (lambda: SASolver(corrector_order=4), "corrector_order=4"),
        (lambda: SASolver(tau=-1.0), r"tau=-1\.0"),
        (lambda: SASolver(interval=(1.0, 0.5)), "interval="),
        (lambda: DEIS(start="euler"), "start='euler'"),
    ],
)
def test_impossible_options(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_given_times() -> None:
    denoiser = three_modes(SDE(EDMSchedule()))
    times = Karras()(10, denoiser.process)
    x = 80 * torch.randn(5, 2, dtype=torch.float64)
    one = UniPC(10, grid=Karras())
    assert torch.equal(_at(denoiser, one, x), _at(denoiser, replace(one, grid=Times(tuple(times.tolist()))), x))
    assert all(a > b for a, b in pairwise(times.tolist()))
