r"""Samplers against closed forms: order of convergence, and error against evaluations.

**Order.**  From noise ten times the data to a tenth of it, in steps of equal log-SNR; the slope of ``log2(error)``
over a doubling of the steps.  Deterministic methods: the largest error against the exact solution of the
probability-flow ODE, which a Gaussian has in closed form and a mixture by an adaptive solver of order 8 of another
package.  Stochastic methods: the error of the covariance on Gaussian data, which is exact, without Monte Carlo
(`exact_moments`).  Methods with error control: the error over the tolerance that was asked for.

**Moments in a limit.**  Restart, whose inner walks do not grow with its steps, annealed Langevin dynamics, which is
exact for many small steps alone, and the adaptive SDE solver have no order: a long run of each is held to an error of
the covariance, relative to its largest entry.  Of the solver it is measured on 20,000 draws, four standard errors of
which are within what it is allowed.

**Error against evaluations.**  Sliced Wasserstein-1 distance of the samples to draws of two mixtures (`ring_of_modes`,
`uneven_modes`) under DDPM's linear betas, on each sampler's default grid.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..closed_form import ClosedFormDenoiser, GaussianDenoiser
from ..denoisers import Denoiser, Posterior
from ..grids import UniformLogSNR
from ..noise import IndependentNoise
from ..samplers import (
    DDIM,
    DDPM,
    DEIS,
    LMS,
    PNDM,
    RK45,
    AdaptiveSDE,
    AnnealedLangevin,
    DPMSolver,
    DPMSolverAdaptive,
    DPMSolverSinglestep,
    EDMSampler,
    Euler,
    EulerMaruyama,
    Heun,
    PredictorCorrector,
    Restart,
    RestartInterval,
    RungeKutta,
    Sampler,
    SASolver,
    UniPC,
)
from ..schedule_transforms import TableSchedule
from ..schedules import CosineSchedule, EDMSchedule, Schedule, Time
from ..sdes import SDE
from ..testing import (
    anisotropic_gaussian,
    convergence_order,
    exact_moments,
    ring_of_modes,
    sampling_errors,
    three_modes,
    uneven_modes,
)

__all__ = ["BUDGETS", "CLAIMS", "Claim", "order_table", "quality_table", "within"]

Row = dict[str, Any]

MIDDLE = UniformLogSNR(-2 * math.log(10), 2 * math.log(10), clean=False)
LOW = UniformLogSNR(-2 * math.log(10), -2 * math.log(0.05), clean=False)
BUDGETS = (5, 10, 20, 50)
SHORT, MEDIUM, LONG = (80, 160), (160, 320), (320, 640)


@dataclass(frozen=True)
class Claim:
    """What is claimed of a sampler.

    Args:
        sampler: with the settings that the claim is about.
        order: of convergence; None for methods of error control and those of which the error itself is judged.
        steps: the two numbers of steps between which the slope is measured.
        tolerance: how far the measured order may be from the claimed one, or how large the relative error of the
            covariance may be.  Methods that reach their order from above or below over more steps than rounding leaves
            have a wider one.
    """

    sampler: Sampler
    order: int | None
    steps: tuple[int, int] = SHORT
    tolerance: float = 0.2


CLAIMS: dict[str, Claim] = {
    "ddim": Claim(DDIM(), 1),
    "euler": Claim(Euler(), 1),
    "euler_maruyama_ode": Claim(EulerMaruyama(eta=0.0), 1, LONG),
    "heun": Claim(Heun(), 2),
    "ralston": Claim(RungeKutta(method="ralston"), 2),
    "kutta3": Claim(RungeKutta(method="kutta3"), 3),
    "rk4": Claim(RungeKutta(method="rk4"), 4),
    "dpm_solver_2m": Claim(DPMSolver(), 2),
    "dpm_solver_3m": Claim(DPMSolver(order=3), 3, LONG),
    **{f"dpm_solver_{k}s": Claim(DPMSolverSinglestep(order=k), k) for k in (2, 3)},
    **{f"dpm_solver_{k}s_noise": Claim(DPMSolverSinglestep(order=k, predicts="eps"), k) for k in (2, 3)},
    **{f"deis_{k}": Claim(DEIS(order=k), k) for k in (2, 3)},
    "deis_4": Claim(DEIS(order=4), 4, LONG, 0.3),
    **{f"lms_{k}": Claim(LMS(order=k), k, MEDIUM) for k in (2, 3, 4)},
    **{f"unipc_{k}": Claim(UniPC(order=k), k + 1) for k in (1, 2)},
    "unipc_3": Claim(UniPC(order=3), 4, MEDIUM, 0.3),
    "unipc_2_noise": Claim(UniPC(order=2, predicts="eps"), 3, LONG),
    "unipc_3_noise": Claim(UniPC(order=3, predicts="eps"), 4, MEDIUM, 0.3),
    **{f"pndm_{k}": Claim(PNDM(order=k), 2, MEDIUM) for k in (2, 4)},
    "sa_solver_ode": Claim(SASolver(tau=0.0), 4, MEDIUM, 0.3),
    "ddpm": Claim(DDPM(), 1, MEDIUM),
    "ddpm_large": Claim(DDPM(variance="large"), 1, MEDIUM),
    "ddpm_optimal": Claim(DDPM(variance="optimal"), 1, MEDIUM),
    "ddim_eta_half": Claim(DDIM(eta=0.5), 1, MEDIUM),
    "euler_maruyama": Claim(EulerMaruyama(), 1, MEDIUM),
    "predictor": Claim(PredictorCorrector(corrections=0), 1, MEDIUM),
    "edm": Claim(EDMSampler(churn=10.0), 2, MEDIUM),
    "dpm_solver_2m_sde": Claim(DPMSolver(eta=1.0), 2, MEDIUM),
    "dpm_solver_3m_sde": Claim(DPMSolver(order=3, eta=1.0), 2, MEDIUM, 0.3),
    "sa_solver": Claim(SASolver(interval=(0.0, 1e9)), 2, MEDIUM, 0.3),
    "rk45": Claim(RK45(rtol=1e-4, atol=1e-4), None),
    "dpm_solver_adaptive": Claim(DPMSolverAdaptive(rtol=1e-4, atol=1e-4), None),
    "restart": Claim(Restart(200, intervals=(RestartInterval(0.2, 2.0, 3, 100),)), None, tolerance=1e-3),
    "annealed_langevin": Claim(AnnealedLangevin(50, corrections=30, eta=0.1), None, tolerance=0.05),
    "adaptive_sde": Claim(AdaptiveSDE(), None, tolerance=0.05),
}
"""Every sampler with what it is to show; each family's stochastic form is one of its own."""

QUALITY: dict[str, Sampler] = {
    "ddim": DDIM(),
    "ddpm": DDPM(),
    "ddpm_optimal": DDPM(variance="optimal"),
    "heun": Heun(),
    "midpoint": RungeKutta(method="midpoint"),
    "rk4": RungeKutta(method="rk4"),
    "edm": EDMSampler(),
    "euler_maruyama": EulerMaruyama(),
    "predictor_corrector": PredictorCorrector(),
    "restart": Restart(),
    "dpm_solver_2m": DPMSolver(),
    "dpm_solver_3m": DPMSolver(order=3),
    "dpm_solver_2m_sde": DPMSolver(eta=1.0),
    "dpm_solver_2s": DPMSolverSinglestep(),
    "deis_3": DEIS(),
    "lms_4": LMS(),
    "pndm_4": PNDM(),
    "unipc_2": UniPC(),
    "unipc_2_noise": UniPC(predicts="eps"),
    "sa_solver": SASolver(),
}
ADAPTIVE: dict[str, Sampler] = {
    "rk45": RK45(rtol=1e-3, atol=1e-3),
    "dpm_solver_adaptive": DPMSolverAdaptive(),
    "adaptive_sde": AdaptiveSDE(),
}


def within(sampler: Sampler, budget: int, process: SDE) -> Sampler | None:
    """The sampler with as many steps as a budget of evaluations allows; ``None`` where it allows no run."""
    if isinstance(sampler, DPMSolverSinglestep):
        return DPMSolverSinglestep.of_budget(budget, sampler.order, predicts=sampler.predicts)
    fits = (replace(sampler, steps=n) for n in range(budget, 0, -1))
    return next((one for one in fits if one.nfe(process=process) <= budget), None)


def order_table(names: Sequence[str] | None = None, *, report: Callable[[Row], None] | None = None) -> list[Row]:
    """One row a claim and problem: ``sampler``, ``problem``, ``expected``, ``measured``, ``order_error`` (for methods
    with error control the error over the tolerance instead), ``tolerance`` and ``passed``.

    Args:
        names: keys of `CLAIMS`; all by default.
        report: called with each row once it is known.
    """
    gaussian, mixture = _gaussian(), _mixture()
    rows: list[Row] = []
    for name in CLAIMS if names is None else names:
        claim = CLAIMS[name]
        for row in _measure(name, claim, gaussian, mixture):
            rows.append(row)
            if report is not None:
                report(row)
    return rows


Problem = tuple[ClosedFormDenoiser, Tensor, Tensor]


def _measure(name: str, claim: Claim, gaussian: Problem, mixture: Problem) -> list[Row]:
    if claim.order is None and claim.sampler.stochastic:
        return [_limit_row(name, claim, label, schedule) for label, schedule in _SCHEDULES.items()]
    if claim.sampler.stochastic:
        return [_moments_row(name, claim, label, schedule) for label, schedule in _SCHEDULES.items()]
    rows = []
    for label, problem in (("gaussian", gaussian), ("mixture", mixture)):
        sampler = replace(claim.sampler, grid=MIDDLE)
        if sampler.adaptive:
            denoiser, x, exact = problem
            out = sampler.sample(denoiser, x.shape, x=x)
            share = float((out - exact).abs().max() / exact.abs().max()) / sampler.rtol  # type: ignore[attr-defined]
            rows.append({"sampler": name, "problem": label, "error_over_tolerance": share, "passed": share <= 10})
            continue
        measured = convergence_order(sampling_errors(sampler, *problem, claim.steps))
        rows.append(_order_row(name, label, claim, measured))
    return rows


def _order_row(name: str, problem: str, claim: Claim, measured: float) -> Row:
    assert claim.order is not None
    error = abs(measured - claim.order)
    return {
        "sampler": name,
        "problem": problem,
        "expected": claim.order,
        "measured": measured,
        "order_error": error,
        "tolerance": claim.tolerance,
        "passed": error <= claim.tolerance,
    }


_SCHEDULES: dict[str, Schedule] = {"moments_cosine": CosineSchedule(), "moments_edm": EDMSchedule()}


def _problem_of_moments(schedule: Schedule) -> tuple[GaussianDenoiser, Tensor]:
    """Gaussian data, and the covariance at the end of `LOW`."""
    process = SDE(schedule)
    denoiser = anisotropic_gaussian(process)
    end = process.level(float(LOW(1, process)[-1]))
    return denoiser, end.alpha**2 * denoiser.covariance + end.sigma**2 * torch.eye(3, dtype=torch.float64)


def _limit_row(name: str, claim: Claim, label: str, schedule: Schedule) -> Row:
    denoiser, truth = _problem_of_moments(schedule)
    sampler = replace(claim.sampler, grid=LOW)
    if sampler.adaptive:
        x = denoiser.sample(20_000, float(LOW(1, denoiser.process)[0]), generator=torch.Generator().manual_seed(3))
        covariance = sampler.sample(denoiser, x.shape, x=x, seed=4).T.cov()
    else:
        covariance = exact_moments(sampler, denoiser)[1]
    share = float((covariance - truth).abs().max() / truth.abs().max()) / claim.tolerance
    return {"sampler": name, "problem": label, "error_over_tolerance": share, "passed": share <= 1}


def _moments_row(name: str, claim: Claim, label: str, schedule: Schedule) -> Row:
    denoiser, truth = _problem_of_moments(schedule)
    errors = []
    for steps in claim.steps:
        _, covariance = exact_moments(replace(claim.sampler, steps=steps, grid=LOW), denoiser)
        errors.append(float((covariance - truth).abs().max()))
    return _order_row(name, label, claim, convergence_order(errors))


def _gaussian() -> Problem:
    denoiser = anisotropic_gaussian(SDE(CosineSchedule()))
    start, end = MIDDLE(1, denoiser.process).tolist()
    x = denoiser.sample(32, start, generator=torch.Generator().manual_seed(1))
    return denoiser, x, denoiser.flow(x, start, end)


def _mixture() -> Problem:
    """The exact end by Dormand and Prince's method of order 8 on ``dy / d log r = r eps``."""
    from torchdiffeq import odeint

    process = SDE(CosineSchedule())
    denoiser = three_modes(process)
    start, end = (process.level(t) for t in MIDDLE(1, process).tolist())
    x = denoiser.sample(16, float(start.t), generator=torch.Generator().manual_seed(2))
    exact = three_modes(SDE(EDMSchedule(1e3)))

    def slope(log_ratio: Tensor, y: Tensor) -> Tensor:
        ratio = math.exp(float(log_ratio))
        return ratio * exact(y, ratio / 1e3).eps

    span = torch.tensor([-0.5 * start.log_snr, -0.5 * end.log_snr], dtype=torch.float64)
    y = odeint(slope, x / start.alpha, span, rtol=1e-13, atol=1e-14, method="dopri8")[-1]
    return denoiser, x, end.alpha * y


def quality_table(
    *, samples: int = 10_000, budgets: tuple[int, ...] = BUDGETS, report: Callable[[Row], None] | None = None
) -> list[Row]:
    """One row a mixture, sampler and budget: ``mixture``, ``sampler``, ``budget`` (None for methods with error
    control), ``nfe`` and ``distance``.

    Args:
        samples: of each run, and draws of the mixture.
        budgets: evaluations.
        report: called with each row once it is known.
    """
    rows: list[Row] = []
    process = SDE(TableSchedule.linear())
    for mixture, make in {"ring": ring_of_modes, "uneven": uneven_modes}.items():
        denoiser = make(process)
        compare = _Sliced(denoiser.sample(samples, generator=torch.Generator().manual_seed(11)))
        runs = [(name, b, within(one, b, process)) for name, one in QUALITY.items() for b in budgets]
        for name, budget, sampler in [*runs, *((name, None, one) for name, one in ADAPTIVE.items())]:
            if sampler is None:
                continue
            counted, generator = _Counting(denoiser), torch.Generator().manual_seed(5)
            out = sampler.sample(counted, (samples, 2), noise=IndependentNoise(generator))
            row = {
                "mixture": mixture,
                "sampler": name,
                "budget": budget,
                "nfe": counted.calls,
                "distance": compare(out),
            }
            row["declared"] = counted.calls if sampler.adaptive else sampler.nfe(process=process)
            rows.append(row)
            if report is not None:
                report(row)
    return rows


class _Counting(Denoiser):
    """Counts its calls."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.process)
        self.denoiser, self.calls = denoiser, 0

    def forward(self, x_t: Tensor, t: Time, **condition: Tensor) -> Posterior:
        self.calls += 1
        return self.denoiser(x_t, t, **condition)


class _Sliced:
    """Sliced Wasserstein-1 distance in the plane to fixed draws, over 64 even directions."""

    def __init__(self, draws: Tensor) -> None:
        angles = torch.arange(64, dtype=torch.float64) * (math.pi / 64)
        self.directions = torch.stack([angles.cos(), angles.sin()])
        self.sorted = (draws.double() @ self.directions).sort(0).values

    def __call__(self, x: Tensor) -> float:
        return float(((x.double() @ self.directions).sort(0).values - self.sorted).abs().mean())
