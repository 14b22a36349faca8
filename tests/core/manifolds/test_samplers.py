"""Geodesic samplers: orders of convergence, exact laws, seeds, counts, masks, and that points stay on the manifold."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from manifold_spaces import every_exact_space, every_space, mixture, points
from scipy.integrate import solve_ivp
from torch import Tensor

from ornstein.core import DDIM, SDE, CosineSchedule, Denoiser, GaussianDenoiser, Times, VESchedule
from ornstein.core.manifolds import (
    SO3,
    HeatMixtureDenoiser,
    Manifold,
    RiemannianDenoiser,
    RiemannianProcess,
    Sphere,
    Torus,
)
from ornstein.core.noise import SeededNoise
from ornstein.core.samplers.geodesic import GeodesicODE, GeodesicRandomWalk

SAMPLERS = [GeodesicODE(7), GeodesicODE(7, method="euler"), GeodesicRandomWalk(7), GeodesicRandomWalk(7, corrections=2)]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=["heun", "euler", "walk", "corrected"])


class Counting(Denoiser[RiemannianProcess]):
    """Counts its calls and remembers what it saw."""

    def __init__(self, denoiser: Denoiser[RiemannianProcess]) -> None:
        super().__init__(denoiser.process)
        self.denoiser, self.calls = denoiser, 0

    def forward(self, x_t: Tensor, t: Tensor | float, **condition: Tensor) -> object:
        self.calls, self.seen = self.calls + 1, x_t
        return self.denoiser(x_t, t, **condition)


def means(denoiser: HeatMixtureDenoiser) -> Tensor:
    """Of the data's coordinates, which are eigenfunctions of the Laplacian."""
    manifold = denoiser.process.manifold
    left = denoiser.weights * (-0.5 * manifold.kernel.gap * denoiser.variances).exp()
    return (left[:, None] * manifold.features(denoiser.centers)).sum(0)


def flow(denoiser: HeatMixtureDenoiser, x: Tensor, start: float, end: float) -> Tensor:
    """The probability-flow ODE in ``log s`` by scipy, in the space around the manifold."""
    process = denoiser.process

    def slope(log_s: float, y: object) -> object:
        t = float(process.schedule.time(-log_s))
        point = process.manifold.project(torch.as_tensor(y).reshape(x.shape))
        return (-0.5 * math.exp(log_s) * denoiser(point, t).score).flatten().numpy()

    span = [float(process.variance(t).log()) for t in (start, end)]
    solution = solve_ivp(slope, span, x.flatten().numpy(), method="DOP853", rtol=1e-8, atol=1e-8)
    return process.manifold.project(torch.from_numpy(solution.y[:, -1]).reshape(x.shape))


@every_exact_space
@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_ode_has_its_order_against_an_independent_solver(manifold: Manifold, event, method: str, order: int) -> None:
    denoiser = mixture(manifold, event)
    start, end = 0.95, 0.3
    x = points(manifold, (3, *event), 3)
    exact = flow(denoiser, x, start, end)
    assert manifold.distance(x, exact).max() > 0.5
    errors = []
    for steps in (12, 24, 48):
        grid = Times(tuple(torch.linspace(start, end, steps + 1, dtype=torch.float64).tolist()))
        sampler = GeodesicODE(steps, grid=grid, method=method)  # type: ignore[arg-type]
        assert sampler.order == order
        errors.append(float(manifold.distance(sampler.sample(denoiser, x.shape, x=x), exact).max()))
    rates = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert order - 0.25 < rates[-1] < order + 0.5, (errors, rates)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_random_walk_converges_at_order_one_on_the_circle(variance: str) -> None:
    """Its law is exact here: a step is a normal, wrapped, of known mean and variance, and densities on a fine circle
    are carried from step to step by matrices.  The last step, to the data, is left out: it may have no density.
    """
    process = RiemannianProcess(Torus(1), VESchedule(0.02, 5.0))
    denoiser = HeatMixtureDenoiser(process, [0.7, 0.3], torch.tensor([[0.5], [2.8]]), [0.15, 0.4])
    size = 160
    angle = torch.arange(size, dtype=torch.float64)[:, None] * (2 * math.pi / size) - math.pi
    truth = denoiser.log_prob(angle, 0.4).exp()
    far = []
    for steps in (12, 24, 48):
        times = torch.linspace(1.0, 0.4, steps + 1, dtype=torch.float64)
        density = torch.full((size,), 1 / (2 * math.pi), dtype=torch.float64)
        rows = GeodesicRandomWalk(steps, variance=variance).plan(process, times)  # type: ignore[arg-type]
        for t, (drift, noise, _) in zip(times.tolist(), rows.tolist()):
            mean = angle + drift * denoiser(angle, t).score
            distance = Torus(1).distance(mean, angle.T)
            step = Torus(1).kernel.log_density(distance, torch.tensor(noise**2, dtype=torch.float64)).exp()
            density = (density[:, None] * step).sum(0) * (2 * math.pi / size)
        assert float(density.sum()) * 2 * math.pi / size == pytest.approx(1, abs=1e-8)
        far.append(0.5 * float((density - truth).abs().sum()) * 2 * math.pi / size)
        if steps == 24:  # and the sampler's draws have that law
            sampler = GeodesicRandomWalk(steps, variance=variance, grid=Times(tuple(times.tolist())))  # type: ignore[arg-type]
            x = sampler.sample(denoiser, (20_000, 1), seed=0)
            for wave in (lambda x: x.cos(), lambda x: x.sin(), lambda x: (2 * x).cos(), lambda x: (2 * x).sin()):
                expected = float((density * wave(angle[:, 0])).sum()) * 2 * math.pi / size
                assert abs(float(wave(x).mean()) - expected) < 4 * float(wave(x).std()) / 20_000**0.5
    rates = [math.log2(a / b) for a, b in itertools.pairwise(far)]
    assert 0.8 < rates[-1] < 1.3, (far, rates)


@every_exact_space
@pytest.mark.parametrize("sampler", [GeodesicRandomWalk(40), GeodesicODE(20)], ids=["walk", "ode"])
def test_samples_have_the_datas_means(manifold: Manifold, event, sampler) -> None:
    denoiser = mixture(manifold, event)
    features = manifold.features(sampler.sample(denoiser, (400, *event), seed=1))
    error = features.mean(0) - means(denoiser)
    assert (error.abs() < 4 * features.std(0) / 400**0.5 + 0.01).all()  # and a bias of order 1 / steps


@every_space
@every_sampler
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_samples_stay_on_the_manifold(manifold: Manifold, event, sampler, dtype: torch.dtype, most: float) -> None:
    denoiser = mixture(manifold, event)
    seen = []
    x = points(manifold, (16, *event), 0, dtype)
    out = sampler.sample(denoiser, x.shape, x=x, seed=0, callback=lambda step: seen.append(step))
    assert out.dtype == dtype
    assert len(seen) == 7
    for step in seen:
        assert manifold.residual(step.x).max() < most
        assert manifold.residual(step.mean).max() < 10 * most


@every_space
@every_sampler
def test_a_sample_depends_on_its_seed_and_number_alone(manifold: Manifold, event, sampler) -> None:
    denoiser = mixture(manifold, event, CosineSchedule())
    whole = sampler.sample(denoiser, (5, 2, *event), seed=3)
    alone = sampler.sample(denoiser, (1, 2, *event), seed=3, first=3)
    torch.testing.assert_close(whole[3:4], alone, rtol=0, atol=2e-6)
    assert not torch.equal(whole[3:4], sampler.sample(denoiser, (1, 2, *event), seed=4, first=3))
    assert torch.equal(whole, sampler.sample(denoiser, (5, 2, *event), noise=SeededNoise(3)))


@every_sampler
@pytest.mark.parametrize("schedule", [VESchedule(0.01, 5.0), CosineSchedule()], ids=["ve", "cosine"])
@pytest.mark.parametrize("denoise", [False, True])
def test_evaluations_are_as_declared(sampler, schedule, denoise: bool) -> None:
    denoiser = Counting(mixture(Sphere(2), (3,), schedule))
    sampler = replace(sampler, denoise=denoise)
    sampler.sample(denoiser, (2, 3), seed=0)
    assert denoiser.calls == sampler.nfe(process=denoiser.process)
    if isinstance(schedule, CosineSchedule) and not (isinstance(sampler, GeodesicODE) and sampler.order == 2):
        assert sampler.nfe() == denoiser.calls


def test_networks_are_sampled_to_clean_data() -> None:
    process = RiemannianProcess(Sphere(2), CosineSchedule())

    class Pull(torch.nn.Module):
        """Nearly the score of a point's heat kernel at unit size: towards the pole."""

        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            s = (8 * c).exp()[:, None]
            return torch.tensor([0.0, 0.0, 1.0]) / s.sqrt().clamp(max=1.0)

    for sampler in (GeodesicODE(40), GeodesicRandomWalk(80), GeodesicODE(40, denoise=True)):
        x = sampler.sample(RiemannianDenoiser(Pull(), process), (50, 3), seed=0)
        assert x.isfinite().all()
        assert (x[:, 2] > 0.99).float().mean() > 0.9


@every_sampler
def test_padding_is_blank_and_changes_nothing(sampler) -> None:
    """Torsions of three molecules with 2, 4 and 3 of them, and sets of rotations."""
    for manifold, event, shape in ((Torus(), (4,), (3, 4)), (SO3(), (4, 3, 3), (3, 4, 3, 3))):
        whole = mixture(manifold, event)
        mask = torch.arange(4)[None] < torch.tensor([[2], [4], [3]])
        counting = Counting(whole)
        x = sampler.sample(counting, shape, seed=0, mask=mask)
        assert (x[~mask] == 0).all()
        assert (counting.seen[~mask] == 0).all()
        manifold.check(x, mask=mask)
        full = sampler.sample(whole, (1, *shape[1:]), seed=0, first=1)
        torch.testing.assert_close(x[1:2], full, rtol=0, atol=2e-6)


def test_corrections_bring_few_steps_nearer_to_the_truth() -> None:
    denoiser = mixture(Torus(1), (1,))
    far = []
    for corrections, r in ((0, 0.16), (8, 0.5)):
        x = GeodesicRandomWalk(8, corrections=corrections, r=r).sample(denoiser, (4000, 1), seed=1)
        features = Torus(1).features(x)
        far.append(float((features.mean(0) - means(denoiser)).norm()))
    assert far[1] < 0.6 * far[0]


def test_a_step_is_the_loops_and_takes_noise() -> None:
    denoiser = mixture(SO3(), (3, 3))
    x, z = points(SO3(), (2, 3, 3), 0), torch.randn(2, 3, 3, dtype=torch.float64)
    sampler = GeodesicRandomWalk(1, grid=Times((0.8, 0.5)))
    one = sampler.step(denoiser, x, 0.8, 0.5, noise=z)
    assert not torch.equal(one, sampler.step(denoiser, x, 0.8, 0.5, noise=-z))
    ode = GeodesicODE(1, grid=Times((0.8, 0.5)))
    torch.testing.assert_close(ode.step(denoiser, x, 0.8, 0.5), ode.sample(denoiser, x.shape, x=x))


def test_bad_starts_options_and_processes_are_refused() -> None:
    denoiser = mixture(Sphere(2), (3,))
    sampler = GeodesicODE(3)
    for x, message in (
        (torch.ones(2, 3), "x is .* off the manifold"),
        (torch.full((2, 3), math.nan), "x holds NaN"),
        (torch.ones(2, 3, dtype=torch.float16), "x of dtype torch.float16"),
        (torch.ones(3, 3), r"x of shape \(3, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            sampler.sample(denoiser, (2, 3), x=x)
    blank = torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match="x is 1 off the manifold"):
        sampler.sample(denoiser, (1, 2, 3), x=blank)
    with pytest.raises(ValueError, match=r"mask of shape \(1, 3\)"):
        sampler.sample(denoiser, (1, 2, 3), mask=torch.ones(1, 3, dtype=torch.bool))
    flat = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(3), torch.eye(3))
    with pytest.raises(TypeError, match="GeodesicODE moves states of RiemannianProcess, not of SDE"):
        sampler.sample(flat, (2, 3))
    with pytest.raises(TypeError, match="DDIM moves states of SDE"):
        DDIM(3).sample(denoiser, (2, 3))  # type: ignore[arg-type]
    for make in (
        lambda: GeodesicODE(method="rk4"),  # type: ignore[arg-type]
        lambda: GeodesicRandomWalk(variance="none"),  # type: ignore[arg-type]
        lambda: GeodesicRandomWalk(corrections=-1),
        lambda: GeodesicRandomWalk(r=0.0),
    ):
        with pytest.raises(ValueError, match="expected"):
            make()
