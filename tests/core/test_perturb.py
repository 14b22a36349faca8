"""Perturb and reverse against the closed form on Gaussian data; presets, inversion, and the grid below a time."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    DDIM,
    DDPM,
    SDE,
    CosineSchedule,
    Denoiser,
    EDMSchedule,
    EulerMaruyama,
    FlowSchedule,
    GaussianDenoiser,
    GridBelow,
    Heun,
    Karras,
    NoiseSource,
    Posterior,
    Schedule,
    Times,
    UniformLogSNR,
    UniformTime,
    VESchedule,
    denoise,
    edit,
    invert,
    perturb_and_reverse,
    purify,
)
from ornstein.core.noise import NoiseStream
from ornstein.core.schedules import Time
from ornstein.core.testing import anisotropic_gaussian, three_modes

SCHEDULES = [CosineSchedule(), FlowSchedule(), VESchedule(1e-3), EDMSchedule()]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)


@dataclass(frozen=True)
class UnitNoise(NoiseSource):
    """Draw ``j`` is zero but for rows ``1 + dim j ...``, which hold the identity: all coefficients in one run."""

    dim: int

    def begin(self, batch: int, first: int) -> NoiseStream:
        return UnitStream(self.dim)


@dataclass
class UnitStream(NoiseStream):
    dim: int
    drawn: int = field(default=0)

    def draw(self, like: Tensor) -> Tensor:
        z = torch.zeros_like(like)
        at = 1 + self.dim * self.drawn
        z[at : at + self.dim] = torch.eye(self.dim, dtype=like.dtype)
        self.drawn += 1
        return z

    def step(self, like: Tensor, t: Any, s: Any) -> Tensor:
        return self.draw(like)


def moments(run: Any, x0: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """Exact mean and covariance of what ``run`` makes of ``x0``, for a denoiser that is affine."""
    rows = x0.expand(1 + len(x0) * draws, -1).clone()
    out = run(rows, noise=UnitNoise(len(x0)))
    deviations = out[1:] - out[0]
    return out[0], deviations.T @ deviations


def time_of(process: SDE, ratio: float) -> float:
    return float(process.schedule.time(-2 * torch.tensor(ratio, dtype=torch.float64).log()))


@each_schedule
@pytest.mark.parametrize("ratio", [0.3, 2.0])
def test_by_the_ode_mean_and_covariance_are_those_of_the_flow(schedule: Schedule, ratio: float) -> None:
    """``x_hat = m + U f U^T (alpha (x_0 - m) + sigma z)`` with ``f = sqrt(l / w)``, the flow from ``t*`` to 0."""
    denoiser = anisotropic_gaussian(SDE(schedule))
    t, x0 = time_of(denoiser.process, ratio), torch.tensor([1.0, 0.5, -2.0], dtype=torch.float64)
    sampler = Heun(60, grid=Karras(sigma_min=0.002))
    mean, covariance = moments(lambda x, noise: perturb_and_reverse(denoiser, x, t, sampler, noise=noise), x0, 1)
    level, values, vectors = denoiser.process.level(t), denoiser.values, denoiser.vectors
    f = (values / (level.alpha**2 * values + level.sigma**2)).sqrt()
    expected = denoiser.mean + (((x0 - denoiser.mean) @ vectors) * f * level.alpha) @ vectors.T
    torch.testing.assert_close(mean, expected, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(covariance, (vectors * f**2 * level.sigma**2) @ vectors.T, rtol=2e-3, atol=2e-3)


@each_schedule
@pytest.mark.parametrize("ratio", [0.3, 2.0])
def test_by_the_sde_they_are_those_of_the_posterior(schedule: Schedule, ratio: float) -> None:
    """``x_hat`` is a draw from ``p(x_0 | x_{t*})``: gain ``g = alpha l / w``, the posterior's covariance added."""
    denoiser = anisotropic_gaussian(SDE(schedule))
    t, x0 = time_of(denoiser.process, ratio), torch.tensor([1.0, 0.5, -2.0], dtype=torch.float64)
    sampler = DDPM(200)
    mean, covariance = moments(lambda x, noise: perturb_and_reverse(denoiser, x, t, sampler, noise=noise), x0, 201)
    level, values, vectors = denoiser.process.level(t), denoiser.values, denoiser.vectors
    w = level.alpha**2 * values + level.sigma**2
    g = level.alpha * values / w
    expected = denoiser.mean + (((x0 - denoiser.mean) @ vectors) * g * level.alpha) @ vectors.T
    torch.testing.assert_close(mean, expected, rtol=0.01, atol=0.01)
    total = values * level.sigma**2 / w + g**2 * level.sigma**2
    torch.testing.assert_close(covariance, (vectors * total) @ vectors.T, rtol=0.02, atol=0.01)


def test_data_of_the_distribution_keep_it() -> None:
    """Each coordinate's first two moments over 4,000 points of a mixture, within four standard errors."""
    denoiser = three_modes(SDE(CosineSchedule()))
    x0 = denoiser.sample(4000, generator=torch.Generator().manual_seed(0))
    for sampler in (Heun(15), DDPM(100)):
        out = perturb_and_reverse(denoiser, x0, 0.6, sampler, seed=0)
        assert (out - x0).abs().mean() > 0.2
        for power in (1, 2):
            spread = (x0**power).std(0) + (out**power).std(0)
            assert ((out**power).mean(0) - (x0**power).mean(0)).abs().max() < (4 * spread / 4000**0.5).max()


def test_a_sample_depends_on_its_state_and_seed_alone_and_its_draws_differ() -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    x0 = denoiser.sample(6, generator=torch.Generator().manual_seed(0)).float()
    together = perturb_and_reverse(denoiser, x0, 0.5, DDPM(4), seed=3)
    apart = torch.cat([perturb_and_reverse(denoiser, x0[i : i + 1], 0.5, DDPM(4), seed=3, first=i) for i in range(6)])
    torch.testing.assert_close(together, apart)
    assert together.dtype == torch.float32
    drawn: list[Tensor] = []

    class Keeping(NoiseSource):
        def begin(self, batch: int, first: int) -> NoiseStream:
            class Stream(NoiseStream):
                def draw(self, like: Tensor) -> Tensor:
                    drawn.append(torch.randn(like.shape, dtype=like.dtype))
                    return drawn[-1]

                def step(self, like: Tensor, t: Any, s: Any) -> Tensor:
                    return self.draw(like)

            assert not drawn  # one stream serves the perturbation and the run
            return Stream()

    perturb_and_reverse(denoiser, x0, 0.5, DDPM(3), noise=Keeping())
    assert len(drawn) == 3  # the last step adds none


class Seen(Denoiser):
    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner.process)
        self.inner, self.times, self.conditions = inner, list[float](), list[dict[str, Any]]()

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Posterior:
        self.times.append(float(t))
        self.conditions.append(condition)
        return self.inner(x_t, t)


def test_all_steps_are_taken_below_the_time_with_condition_and_mask() -> None:
    seen = Seen(GaussianDenoiser(SDE(FlowSchedule()), torch.ones(3), torch.eye(3)))
    mask = torch.tensor([[True, True, False]] * 2)
    label = torch.tensor([1, 2])
    out = perturb_and_reverse(seen, torch.ones(2, 3), 0.4, DDIM(7), seed=0, condition={"label": label}, mask=mask)
    assert len(seen.times) == 7
    assert seen.times[0] == 0.4
    assert all(a > b for a, b in zip(seen.times, seen.times[1:]))
    assert (out[:, 2] == 0).all()
    assert torch.equal(seen.conditions[0]["label"], label)


# The grid.


@each_schedule
@pytest.mark.parametrize("grid", [UniformLogSNR(), UniformTime(), Karras()], ids=lambda g: type(g).__name__)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_the_grid_below_a_time_has_the_spacing_of_the_grid(schedule: Schedule, grid: Any, steps: int) -> None:
    process = SDE(schedule)
    for ratio in (1.0, 10.0):
        start = time_of(process, ratio)
        times = GridBelow(start, grid)(steps, process)
        assert times[0] == start
        # The rest is the end of some finer grid, of which no further time would fit.
        finer = next(n for n in range(steps, 5000) if torch.equal(grid(n, process)[-steps:], times[1:]))
        assert finer == steps or grid(finer - 1, process)[-steps] >= start
    assert torch.equal(GridBelow(1.0, UniformTime())(4, process), UniformTime()(4, process))


def test_a_grid_without_times_below_is_refused() -> None:
    process = SDE(FlowSchedule())
    with pytest.raises(ValueError, match=r"start=0\.05"):
        GridBelow(0.05, UniformTime(1.0, 0.1))(3, process)
    with pytest.raises(ValueError, match="steps"):
        GridBelow(0.3, Times((1.0, 0.5, 0.0)))(2, process)
    with pytest.raises(ValueError, match="start="):
        GridBelow(0.0)


# Presets.


def test_editing_and_purifying_are_presets() -> None:
    denoiser = three_modes(SDE(CosineSchedule()))
    x0 = denoiser.sample(5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(edit(denoiser, x0, 0.4, seed=1), perturb_and_reverse(denoiser, x0, 0.4, DDIM(50), seed=1))
    sampler = EulerMaruyama(50)
    assert torch.equal(purify(denoiser, x0, seed=1), perturb_and_reverse(denoiser, x0, 0.1, sampler, seed=1))
    near, far = (float((edit(denoiser, x0, strength, seed=1) - x0).abs().mean()) for strength in (0.05, 0.9))
    assert near < 0.2 < far


def test_purification_takes_a_perturbation_away() -> None:
    """A point off the data's line comes back to it; one on it stays there."""
    denoiser = GaussianDenoiser(SDE(CosineSchedule()), [0.0, 0.0], [[1.0, 0.0], [0.0, 1e-4]])
    x0 = torch.tensor([[0.7, 0.3]], dtype=torch.float64).expand(400, 2)
    out = purify(denoiser, x0, 0.3, seed=0)
    assert out[:, 1].abs().mean() < 0.02
    assert abs(float(out[:, 0].mean()) - 0.7) < 0.25


@each_schedule
def test_denoising_is_the_posterior_mean_or_a_draw(schedule: Schedule) -> None:
    denoiser = anisotropic_gaussian(SDE(schedule))
    y, std = torch.tensor([1.0, 0.5, -2.0], dtype=torch.float64), 0.6
    gain = denoiser.covariance @ torch.linalg.inv(denoiser.covariance + std**2 * torch.eye(3, dtype=torch.float64))
    mean = denoiser.mean + gain @ (y - denoiser.mean)
    torch.testing.assert_close(denoise(denoiser, y[None], std)[0], mean, rtol=1e-9, atol=1e-9)
    drawn, covariance = moments(lambda x, noise: denoise(denoiser, x, std, DDPM(200), noise=noise), y, 200)
    torch.testing.assert_close(drawn, mean, rtol=0.01, atol=0.01)
    torch.testing.assert_close(covariance, denoiser.covariance - gain @ denoiser.covariance, rtol=0.02, atol=0.01)


def test_denoising_refuses_noise_that_the_schedule_has_not() -> None:
    denoiser = anisotropic_gaussian(SDE(VESchedule(0.01, 50.0)))
    for std in (0.001, 60.0, -1.0):
        with pytest.raises(ValueError, match=r"between 0\.01 and 50"):
            denoise(denoiser, torch.zeros(1, 3), std)


# Inversion.


@each_schedule
def test_inversion_follows_the_flow_upwards_and_sampling_comes_back(schedule: Schedule) -> None:
    denoiser = anisotropic_gaussian(SDE(schedule))
    x0 = denoiser.sample(8, generator=torch.Generator().manual_seed(0))
    grid = UniformLogSNR(-6.0, 12.0)
    errors = []
    for steps in (50, 100):
        start = invert(denoiser, x0, steps, grid)
        clean = torch.equal(grid(1, denoiser.process)[-1], torch.zeros((), dtype=torch.float64))
        exact = denoiser.flow(x0 * denoiser.process.level(0.0).alpha, 0.0, float(grid(steps, denoiser.process)[0]))
        errors.append(float((start - exact).abs().max() / exact.abs().max()))
        assert (Heun(steps, grid=grid).sample(denoiser, x0.shape, x=start) - x0).abs().max() < (0.05 if clean else 0.2)
    assert errors[1] < max(0.35 * errors[0], 1e-4)
    first_order = invert(denoiser, x0, 100, grid, solver="euler")
    assert (first_order - exact).abs().max() / exact.abs().max() < 0.2


def test_inversion_asks_for_a_solver_that_it_knows() -> None:
    with pytest.raises(ValueError, match="solver='rk4'"):
        invert(three_modes(SDE(CosineSchedule())), torch.zeros(2, 2), solver="rk4")  # type: ignore[arg-type]


@pytest.mark.parametrize("t", [0.0, 1.5, -0.1])
def test_times_out_of_range_are_named(t: float) -> None:
    with pytest.raises(ValueError, match=f"t={t}"):
        perturb_and_reverse(three_modes(SDE(CosineSchedule())), torch.zeros(2, 2), t, DDIM(5))
    with pytest.raises(ValueError, match="seed and noise"):
        perturb_and_reverse(
            three_modes(SDE(CosineSchedule())), torch.zeros(2, 2), 0.5, DDIM(5), seed=0, noise=UnitNoise(2)
        )


def test_categories_are_masked_up_to_t_and_drawn_again():
    """The exact denoiser keeps the distribution of its own data, whatever the time."""
    from ornstein.core.chains import AbsorbingChain, EnumeratedDenoiser
    from ornstein.core.masking_schedules import PowerSchedule
    from ornstein.core.perturb import perturb_and_reverse
    from ornstein.core.samplers import Unmasking

    table = torch.rand(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = EnumeratedDenoiser(AbsorbingChain(3, PowerSchedule()), table)
    data = exact.sample(20_000, generator=torch.Generator().manual_seed(1))
    again = perturb_and_reverse(exact, data, 0.5, Unmasking(2), seed=0)
    kept = (again == data).double().mean()
    # A position is masked half of the time, and drawn as it was with a probability below 1.
    assert 0.5 < kept < 0.9
    found = torch.bincount(again @ torch.tensor([3, 1]), minlength=9) / len(again)
    assert 0.5 * (found - exact.table.flatten()).abs().sum() < 0.015
