"""Multistep and singlestep samplers against diffusers, k-diffusion and azula, on one list of levels and one model.

The lists are short in log-SNR and end in noise: no step is so long that ours leaves a value out, and the peers'
formulas at clean data, which differ, are not in play.
"""

import importlib.util
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    SDE,
    Denoiser,
    DPMSolver,
    EDMSchedule,
    Heun,
    RungeKutta,
    Sampler,
    SampleStep,
    TableSchedule,
    Times,
    UniformLogSNR,
)
from ornstein.core.denoisers import GaussianPosterior
from ornstein.core.samplers import DEIS, LMS, PNDM, DPMSolverSinglestep, SASolver, UniPC
from ornstein.core.testing import three_modes

PROCESS = SDE(TableSchedule.linear())
TABLE = PROCESS.schedule.alpha(torch.arange(1, 1001, dtype=torch.float64) / 1000) ** 2  # alpha_bar of the indices
DENOISER = three_modes(PROCESS)
STEPS = 24
GRID = UniformLogSNR(-4.0, 4.0, clean=False)
RATIOS = (-0.5 * torch.linspace(-4.0, 4.0, STEPS + 1, dtype=torch.float64)).exp()  # sigma / alpha


def start() -> Tensor:
    return torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trajectory(sampler: Sampler, x: Tensor, denoiser: Denoiser = DENOISER) -> list[Tensor]:
    """The states after each step, starting from ``x``."""
    states: list[SampleStep] = []
    sampler.sample(denoiser, x.shape, x=x, callback=states.append)
    return [step.x for step in states]


def relative(ours: list[Tensor], theirs: list[Tensor]) -> float:
    assert len(ours) == len(theirs)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs))


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    return pytest.importorskip("diffusers", reason="comparison with diffusers: pip install 'ornstein[dev]'")


def with_ratios(scheduler: Any) -> Any:
    """Put our noise levels, in float64, in the place of the scheduler's own."""
    scheduler.set_timesteps(STEPS)
    scheduler.sigmas = RATIOS.clone()
    scheduler.timesteps = torch.arange(STEPS, 0, -1)
    scheduler.set_begin_index(0)
    return scheduler


def exact_eps(x: Tensor, ratio: float) -> Tensor:
    """The exact noise at a noise level, for a state at the variance-preserving scale."""
    t = float(PROCESS.schedule.time(-2 * math.log(ratio)))
    return DENOISER(x.double(), t).eps.to(x.dtype)


def run(scheduler: Any, x: Tensor) -> list[Tensor]:
    states = []
    for ratio, t in zip(RATIOS.tolist(), scheduler.timesteps):
        x = scheduler.step(exact_eps(x, ratio), t, x).prev_sample
        states.append(x)
    return states


@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis(diffusers: ModuleType, order: int) -> None:
    """In float64; in float32 their closed form of the third order cancels to errors above those of the method."""
    scheduler = with_ratios(diffusers.DEISMultistepScheduler(solver_order=order, lower_order_final=False))
    theirs = run(scheduler, start())
    ours = trajectory(DEIS(STEPS, order=order, start="low_order", grid=GRID), start())
    assert relative(ours, theirs) < 1e-11


@pytest.mark.parametrize("corrector", [False, True])
@pytest.mark.parametrize("bh", ["bh1", "bh2"])
@pytest.mark.parametrize("predicts", ["mean", "eps"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc(diffusers: ModuleType, order: int, predicts: Any, bh: Any, corrector: bool) -> None:
    scheduler = with_ratios(
        diffusers.UniPCMultistepScheduler(
            solver_order=order,
            solver_type=bh,
            predict_x0=predicts == "mean",
            lower_order_final=False,
            disable_corrector=[] if corrector else list(range(STEPS)),
        )
    )
    theirs = run(scheduler, start())
    settings = {"predicts": predicts, "bh": bh, "corrector": corrector, "start": "low_order"}
    assert relative(trajectory(UniPC(STEPS, order=order, grid=GRID, **settings), start()), theirs) < 1e-11


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lms(diffusers: ModuleType, order: int) -> None:
    scheduler = with_ratios(diffusers.LMSDiscreteScheduler())
    scheduler.is_scale_input_called = True
    levels = (1 + RATIOS**2).rsqrt().tolist()
    exploding, theirs = start() / levels[0], []
    for level, there, ratio, t in zip(levels, levels[1:], RATIOS.tolist(), scheduler.timesteps):
        exploding = scheduler.step(exact_eps(exploding * level, ratio), t, exploding, order=order).prev_sample
        theirs.append(exploding * there)
    ours = trajectory(LMS(STEPS, order=order, start="low_order", grid=GRID), start())
    assert relative(ours, theirs) < 1e-11


@pytest.mark.parametrize("predicts", ["mean", "eps"])
def test_singlestep(diffusers: ModuleType, predicts: Any) -> None:
    """Order 2, of which they take each half as a step.  At order 3 their middle stage is another."""
    kind = "dpmsolver++" if predicts == "mean" else "dpmsolver"
    scheduler = with_ratios(
        diffusers.DPMSolverSinglestepScheduler(
            solver_order=2, algorithm_type=kind, lower_order_final=False, final_sigmas_type="sigma_min"
        )
    )
    theirs = run(scheduler, start())[1::2]
    ours = trajectory(DPMSolverSinglestep(STEPS // 2, order=2, predicts=predicts, grid=GRID), start())
    assert relative(ours, theirs) < 1e-11


@pytest.mark.parametrize("skip", [True, False])
def test_pndm(diffusers: ModuleType, skip: bool) -> None:
    """By indices; the last step, to clean data, is left out."""
    steps, stride = 20, 50
    scheduler = diffusers.PNDMScheduler(beta_schedule="linear", skip_prk_steps=skip, set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    scheduler.alphas_cumprod = TABLE.clone()
    x, ends = start(), {}
    for i in scheduler.timesteps.tolist():
        ratio = math.sqrt(1 / float(TABLE[i]) - 1)
        x = scheduler.step(exact_eps(x, ratio), i, x).prev_sample
        ends[i] = x  # the latest state after an evaluation at this index
    indices = [stride * k for k in reversed(range(steps))]
    grid = Times((*[(i + 1) / 1000 for i in indices], 0.0))
    ours = trajectory(PNDM(steps, start="low_order" if skip else "runge_kutta", grid=grid), start())
    # Their start evaluates a step's end before the step is done: it is done at the last evaluation there.
    first = 1 if skip else 3
    theirs = [ends[i] for i in indices]
    assert relative(ours[first:-1], theirs[first:-1]) < 1e-11


@pytest.mark.parametrize("tau", [0.0, 0.6, 1.0])
def test_sa_solver(diffusers: ModuleType, tau: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of three values from their state, with their history; at two values they change the integral."""
    scheduler = with_ratios(
        diffusers.SASolverScheduler(
            predictor_order=3,
            corrector_order=4,
            tau_func=lambda t: torch.tensor(tau, dtype=torch.float64),
            lower_order_final=False,
        )
    )
    draws: list[Tensor] = []

    def draw(shape: Any, **settings: Any) -> Tensor:
        draws.append(torch.randn(shape, generator=torch.Generator().manual_seed(len(draws)), dtype=torch.float64))
        return draws[-1]

    monkeypatch.setattr("diffusers.schedulers.scheduling_sasolver.randn_tensor", draw)
    ours = SASolver(order=3, corrector_order=0, tau=tau, interval=(0.0, 1e9))
    times = GRID(STEPS, PROCESS).tolist()
    x, means = start(), []
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(exact_eps(x, float(RATIOS[i])), t, x).prev_sample
        means.append(scheduler.model_outputs[-1])
        if i >= 2:
            previous = [(times[i - j], means[i - j]) for j in (1, 2)]
            denoiser = _Known(PROCESS, means[i])
            step = ours.step(denoiser, scheduler.last_sample, times[i], times[i + 1], noise=draws[i], previous=previous)
            assert relative([step], [x]) < 1e-11


class _Known(Denoiser):
    """A denoiser that answers with one mean."""

    def __init__(self, process: SDE, mean: Tensor) -> None:
        super().__init__(process)
        self.mean = mean

    def forward(self, x_t: Tensor, t: Tensor | float, **condition: Tensor) -> object:
        return GaussianPosterior(x_t, self.process, self.process.level(t), self.mean)


# k-diffusion and azula, at the variance-exploding scale

EXPLODING = SDE(EDMSchedule(80.0))
MODEL = three_modes(EXPLODING)


def of_noise(x: Tensor, sigma: Tensor) -> Tensor:
    return MODEL(x, float(sigma.flatten()[0]) / 80.0).mean


@pytest.fixture(scope="module")
def k_diffusion() -> Iterator[ModuleType]:
    """The module ``sampling`` alone: the package's own import asks for clip, wandb and others that it does not need."""
    found = importlib.util.find_spec("k_diffusion")
    if found is None or not found.submodule_search_locations:
        pytest.skip("comparison with k-diffusion: pip install --no-deps k-diffusion")
    package = ModuleType("k_diffusion")
    package.__path__ = list(found.submodule_search_locations)
    package.__spec__ = ModuleSpec("k_diffusion", None, is_package=True)
    helpers = ModuleType("k_diffusion.utils")
    helpers.append_dims = lambda x, dims: x.reshape(*x.shape, *[1] * (dims - x.ndim))  # type: ignore[attr-defined]
    stubs = {"k_diffusion": package, "k_diffusion.utils": helpers}
    if importlib.util.find_spec("torchsde") is None:  # which its stochastic samplers alone use
        stubs["torchsde"] = ModuleType("torchsde")
    package.utils = helpers  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stubs.items():
            patch.setitem(sys.modules, name, module)
        module = importlib.import_module("k_diffusion.sampling")
        patch.delitem(sys.modules, "k_diffusion.sampling")
        yield module


K_PAIRS: list[tuple[str, dict[str, Any], Sampler]] = [
    *[("sample_lms", {"order": k}, LMS(20, order=k, start="low_order")) for k in (1, 2, 3, 4)],
    ("sample_dpmpp_2m", {}, DPMSolver(20)),
    ("sample_dpmpp_2m", {}, UniPC(20, order=2, corrector=False)),
    ("sample_dpm_2", {}, RungeKutta(20, method="dpm2", form="noise", bounded=False)),
    ("sample_dpm_2", {}, DPMSolverSinglestep(20, order=2, predicts="eps")),
    ("sample_heun", {}, Heun(20, bounded=False)),
]


@pytest.mark.parametrize(("name", "settings", "sampler"), K_PAIRS, ids=lambda v: v if isinstance(v, str) else "")
def test_k_diffusion(k_diffusion: ModuleType, name: str, settings: dict[str, Any], sampler: Sampler) -> None:
    """From noise 10 over Karras' levels.  To clean data their LMS extrapolates the noise; ours takes DDIM's step."""
    sigmas = k_diffusion.get_sigmas_karras(20, 0.05, 10.0).double()
    x = 10 * start()
    theirs: list[Tensor] = []
    end = getattr(k_diffusion, name)(
        of_noise, x, sigmas, disable=True, callback=lambda state: theirs.append(state["x"]), **settings
    )
    grid = Times(tuple((sigmas / 80.0).tolist()))
    ours = trajectory(replace(sampler, grid=grid), x, MODEL)
    theirs = theirs[1:] if name == "sample_lms" else [*theirs[1:], end]
    assert relative(ours[: len(theirs)], theirs) < 1e-11


@pytest.mark.parametrize(
    ("name", "order", "sampler"),
    [
        *[("zEABSampler", k, DEIS(30, order=k, start="low_order")) for k in (1, 2, 3, 4)],
        ("xEABSampler", 2, DPMSolver(30, form="exact")),
        ("xEABSampler", 2, SASolver(30, order=2, tau=0.0, corrector_order=0)),
        ("xEABSampler", 3, SASolver(30, order=3, tau=0.0, corrector_order=0, start="low_order")),
    ],
)
def test_azula(name: str, order: int, sampler: Sampler) -> None:
    azula = pytest.importorskip("azula.sample", reason="comparison with azula: pip install azula")
    noise = importlib.import_module("azula.noise")
    denoise = importlib.import_module("azula.denoise")
    schedule = noise.VESchedule(math.exp(-2.0), math.exp(2.0))

    class Exact(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x: Tensor, t: Tensor) -> Any:
            return denoise.DiracPosterior(of_noise(x, schedule.sigma(t)))

    x = math.exp(2.0) * start()
    theirs = getattr(azula, name)(Exact(), order=order, steps=30, silent=True, dtype=torch.float64)(x)
    ours = replace(sampler, grid=UniformLogSNR(-4.0, 4.0, clean=False)).sample(MODEL, x.shape, x=x)
    assert relative([ours], [theirs]) < 1e-11
