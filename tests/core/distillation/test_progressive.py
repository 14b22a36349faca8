"""Progressive distillation: the target against the equation it solves, the schedule of rounds, a toy that learns."""

import pytest
import torch
from torch import Tensor, nn

from ornstein.core import (
    DDIM,
    SDE,
    CosineSchedule,
    EDMSchedule,
    Euler,
    FlowSchedule,
    GaussianDenoiser,
    NetworkDenoiser,
    ProgressiveObjective,
    Schedule,
    TruncatedSNRWeighting,
    UniformTime,
    UniformWeighting,
    VESchedule,
)
from ornstein.core.distillation import halved
from ornstein.core.testing import three_modes

SCHEDULES = [CosineSchedule(), FlowSchedule(), VESchedule(), EDMSchedule()]


def rows(times: Tensor, first: int, batch: int) -> list[Tensor]:
    return [times[first + j].expand(batch).clone() for j in range(3)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("first", [0, 2, 6])
def test_one_step_with_the_target_ends_where_two_steps_of_the_teacher_do(schedule: Schedule, first: int) -> None:
    process = SDE(schedule)
    teacher, sampler = three_modes(process), DDIM(steps=8)
    times = sampler.grid(8, process)
    t, u, s = rows(times, first, 6)
    x_t = teacher.sample(6, t, generator=torch.Generator().manual_seed(0))
    target = ProgressiveObjective(teacher, sampler).target(x_t, t, u, s)
    two = sampler.step(teacher, sampler.step(teacher, x_t, t[0], u[0]), u[0], s[0])
    ratio = schedule.sigma(s[0]) / schedule.sigma(t[0])
    one = schedule.alpha(s[0]) * target + ratio * (x_t - schedule.alpha(t[0]) * target)
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


def test_from_pure_noise_the_target_is_finite() -> None:
    """On a schedule without signal at t = 1."""
    process = SDE(CosineSchedule())
    teacher, sampler = three_modes(process), DDIM(steps=4, grid=UniformTime())
    x_t = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    target = ProgressiveObjective(teacher, sampler).target(x_t, *rows(sampler.grid(4, process), 0, 5))
    two = DDIM(steps=2, grid=UniformTime(1.0, 0.5)).sample(teacher, x_t.shape, x=x_t)
    level = process.level(0.5)
    torch.testing.assert_close(level.alpha * target + level.sigma * x_t, two, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("weighting", [TruncatedSNRWeighting(), UniformWeighting("v")])
def test_the_loss_is_the_weighted_square_and_vanishes_for_the_exact_student(
    schedule: Schedule, weighting: TruncatedSNRWeighting | UniformWeighting
) -> None:
    """Data on one point: a DDIM step of any length is exact, so teacher and student agree."""
    process = SDE(schedule)
    point = GaussianDenoiser(process, [1.0, -2.0], [[0.0, 0.0], [0.0, 0.0]])
    objective = ProgressiveObjective(point, DDIM(steps=8), weighting)
    x0 = point.mean.expand(64, 2).clone()
    assert objective(point, x0, generator=torch.Generator().manual_seed(0)).max() < 1e-16
    other = GaussianDenoiser(process, [1.5, -2.0], [[0.0, 0.0], [0.0, 0.0]])
    loss = objective(other, x0, generator=torch.Generator().manual_seed(0))
    student = halved(DDIM(steps=8), process)
    snr = schedule.log_snr(student.grid(4, process)[:-1]).exp()
    weight = snr.clamp(min=1) if isinstance(weighting, TruncatedSNRWeighting) else 1 + snr
    allowed = weight * 0.5**2 / 2
    relative = (loss[:, None] / allowed - 1).abs().min(1).values
    assert relative.max() < 1e-6
    # Every time of the student was drawn.
    assert len(torch.unique((loss / loss.min()).round())) == len(torch.unique((weight / weight.min()).round()))


def test_for_a_student_of_one_step_the_target_is_the_end_of_two_and_not_of_one() -> None:
    process = SDE(FlowSchedule())
    teacher, sampler = three_modes(process), DDIM(steps=2, grid=UniformTime())
    t, u, s = rows(sampler.grid(2, process), 0, 500)
    x_t = torch.randn(500, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = ProgressiveObjective(teacher, sampler).target(x_t, t, u, s)
    two = sampler.sample(teacher, x_t.shape, x=x_t)
    one = DDIM(steps=1, grid=UniformTime()).sample(teacher, x_t.shape, x=x_t)
    torch.testing.assert_close(target, two, rtol=1e-10, atol=1e-10)
    assert (one - two).abs().max() > 0.5


def test_halving_keeps_every_second_time() -> None:
    process = SDE(CosineSchedule())
    for grid in (DDIM().grid, UniformTime()):
        sampler = DDIM(steps=16, grid=grid)
        times = sampler.grid(16, process)
        for stride in (2, 4, 8, 16):
            sampler = halved(sampler, process)
            assert sampler.steps == 16 // stride
            torch.testing.assert_close(sampler.grid(sampler.steps, process), times[::stride], rtol=0, atol=0)


def test_halving_refuses_what_cannot_be_halved() -> None:
    process = SDE(CosineSchedule())
    with pytest.raises(ValueError, match="steps=5"):
        halved(DDIM(steps=5), process)
    with pytest.raises(ValueError, match=r"eta=0\.5"):
        halved(DDIM(steps=4, eta=0.5), process)
    with pytest.raises(TypeError, match="Euler"):
        halved(Euler(steps=4), process)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="teacher="):
        ProgressiveObjective(nn.Linear(2, 2), DDIM(steps=4))  # type: ignore[arg-type]


class Small(nn.Module):
    """A perceptron that sees the state and the noise level."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(dim + 1, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, dim))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.body(torch.cat([x, c[:, None]], 1))


def test_padding_is_neither_counted_nor_noised() -> None:
    process = SDE(FlowSchedule())

    class Masked(GaussianDenoiser):
        def forward(self, x_t, t, mask=None, **condition):  # type: ignore[no-untyped-def]
            assert (x_t[~mask] == 0).all()
            return super().forward(x_t, t)

    teacher = Masked(process, torch.ones(3), torch.eye(3))
    mask = torch.tensor([[True, True, False]] * 4)
    objective = ProgressiveObjective(teacher, DDIM(steps=4))
    x0 = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    losses = [
        objective(teacher, x, mask=mask, generator=torch.Generator().manual_seed(0))
        for x in (x0, x0 + torch.tensor([0, 0, 9.0]))
    ]
    assert torch.equal(*losses)


def test_a_student_of_two_steps_follows_its_teacher_of_eight() -> None:
    """Two rounds on a Gaussian of the line, whose DDIM samples are known: the end of each path within 0.06."""
    process, generator = SDE(CosineSchedule()), torch.manual_seed(0)
    exact = GaussianDenoiser(process, [0.5], [[0.25]])
    student, teacher, sampler = NetworkDenoiser(Small(1), process), exact, DDIM(steps=8, grid=UniformTime())
    x = torch.linspace(-2, 2, 41)[:, None]
    wanted = sampler.sample(exact, x.shape, x=x)
    untrained = DDIM(steps=2, grid=UniformTime()).sample(exact, x.shape, x=x)
    for steps in (300, 200):
        objective = ProgressiveObjective(teacher, sampler)
        sampler = halved(sampler, process)
        optimiser = torch.optim.Adam(student.parameters(), lr=5e-3)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            loss = objective(student, exact.sample(128, generator=generator).float(), generator=generator).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            fall.step()
        teacher = student  # type: ignore[assignment]
    error = (sampler.sample(student, x.shape, x=x) - wanted).abs().max()
    assert error < 0.06
    assert (untrained - wanted).abs().max() > 0.2
    assert sampler.nfe() == 2
