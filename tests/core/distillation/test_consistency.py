"""Consistency models: the boundary, the exact function of Gaussian data, the papers' schedules, a toy that learns."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from ornstein.core import (
    SDE,
    AnnealedPairs,
    ConsistencyDenoiser,
    ConsistencyObjective,
    ConsistencySampler,
    CosineSchedule,
    Denoiser,
    EDMSchedule,
    FlowSchedule,
    GaussianDenoiser,
    GaussianPosterior,
    GridPairs,
    Heun,
    Karras,
    NetworkDenoiser,
    Posterior,
    Schedule,
    TimePairs,
    Times,
    UniformTime,
    VESchedule,
)
from ornstein.core.config import from_config, to_config
from ornstein.core.schedules import Time
from ornstein.core.testing import anisotropic_gaussian

SCHEDULES = [CosineSchedule(), FlowSchedule(), VESchedule(1e-4), EDMSchedule()]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Exact(Denoiser):
    """The consistency function of Gaussian data, in closed form, times a factor that can be learned."""

    def __init__(self, teacher: GaussianDenoiser, factor: float = 1.0) -> None:
        super().__init__(teacher.process)
        self.teacher = teacher
        self.factor = nn.Parameter(torch.tensor(factor, dtype=torch.float64))

    def forward(self, x_t: Tensor, t: Time, **condition: Tensor) -> Posterior:
        """``y + factor (end of the ODE - y)``, so that the boundary condition holds for every factor."""
        level = self.process.level(t)
        alpha = level.like(x_t).alpha
        end = torch.cat(
            [
                self.end(x, float(v))
                for x, v in zip(x_t.split(1), torch.as_tensor(t, dtype=torch.float64).expand(len(x_t)))
            ]
        )
        return GaussianPosterior(x_t, self.process, level, x_t / alpha + self.factor * (end - x_t / alpha))

    def end(self, x: Tensor, t: float) -> Tensor:
        """Each direction of ``y - mean`` times ``sqrt(l / (l + r^2))``: the flow of `GaussianDenoiser` to ``r = 0``."""
        level, teacher = self.process.level(t), self.teacher
        r = float(level.sigma) / float(level.alpha)
        factor = (teacher.values / (teacher.values + r * r)).sqrt()
        deviation = (x / level.alpha - teacher.mean) @ teacher.vectors
        return teacher.mean + (deviation * factor) @ teacher.vectors.T


def exact(schedule: Schedule, factor: float = 1.0) -> Exact:
    return Exact(anisotropic_gaussian(SDE(schedule)), factor)


def test_the_exact_function_is_the_flow_to_the_data() -> None:
    """Where the schedule reaches clean data, `GaussianDenoiser.flow` says the same."""
    student = exact(CosineSchedule())
    x = torch.randn(5, 3, dtype=torch.float64, generator=seeded())
    for t in (0.01, 0.3, 0.9):
        torch.testing.assert_close(student.end(x, t), student.teacher.flow(x, t, 0.0), rtol=1e-12, atol=1e-12)


# The boundary.


@each_schedule
@pytest.mark.parametrize("prediction", ["v", "flow", "edm", "eps", "score", "x0"])
def test_at_the_boundary_the_wrapped_function_is_the_state(schedule: Schedule, prediction: str) -> None:
    process = SDE(schedule)
    inner = NetworkDenoiser(lambda x, c: 3 + x, process, prediction, sigma_data=0.7)  # type: ignore[arg-type]
    for r_min in (0.002, 0.5):
        t = schedule.time(torch.tensor(-2 * math.log(r_min), dtype=torch.float64))
        x = torch.randn(4, 3, dtype=torch.float64, generator=seeded())
        for time in (float(t), t.expand(4)):
            out = ConsistencyDenoiser(inner, r_min, sigma_data=0.7)(x, time).mean
            torch.testing.assert_close(out, x / schedule.alpha(t), rtol=1e-8, atol=1e-8)


@each_schedule
@pytest.mark.parametrize("t", [0.35, 0.6, 0.95])
def test_the_wrapped_function_has_the_coefficients_of_song(schedule: Schedule, t: float) -> None:
    """With the network of EDM's preconditioning: ``c_skip y + c_out F``."""
    d, r_min, process = 0.5, 0.002, SDE(schedule)
    network = lambda x, c: torch.sin(3 * x)  # noqa: E731
    inner = NetworkDenoiser(network, process, "edm", sigma_data=d)  # type: ignore[arg-type]
    x = torch.randn(4, 3, dtype=torch.float64, generator=seeded())
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    r, y = sigma / alpha, x / alpha
    output = torch.sin(3 * y / math.sqrt(r * r + d * d))
    skip, out = d * d / ((r - r_min) ** 2 + d * d), d * (r - r_min) / math.sqrt(r * r + d * d)
    wrapped = ConsistencyDenoiser(inner, r_min, d)(x, t).mean
    torch.testing.assert_close(wrapped, skip * y + out * output, rtol=1e-9, atol=1e-9)


def test_without_a_least_noise_the_wrapper_changes_nothing_and_at_pure_noise_it_is_finite() -> None:
    inner = NetworkDenoiser(lambda x, c: 2 * x, SDE(CosineSchedule()))  # type: ignore[arg-type]
    x = torch.randn(4, 3, generator=seeded())
    assert torch.equal(ConsistencyDenoiser(inner, 0.0)(x, 0.4).mean, inner(x, 0.4).mean)
    for t in (1.0, torch.ones(4, dtype=torch.float64)):
        torch.testing.assert_close(ConsistencyDenoiser(inner)(x, t).mean, inner(x, t).mean)


def test_a_denoiser_without_the_boundary_is_refused() -> None:
    free = NetworkDenoiser(lambda x, c: x, SDE(CosineSchedule()), "x0")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prediction='x0'"):
        ConsistencyObjective(AnnealedPairs())(free, torch.randn(4, 2))
    assert ConsistencyObjective(AnnealedPairs())(ConsistencyDenoiser(free), torch.randn(4, 2)).isfinite().all()


# The loss.


@each_schedule
def test_distillation_of_the_exact_student_costs_the_error_of_the_ode_step(schedule: Schedule) -> None:
    """With the exact teacher: zero for the exact student but for the step's own error, which falls at Heun's order."""
    student = exact(schedule)
    x0 = student.teacher.sample(64, generator=seeded())
    losses = []
    for steps in (50, 100, 200):
        pairs = GridPairs(1, Karras(sigma_max=20.0, sigma_min=0.02, clean=False), steps, steps)
        objective = ConsistencyObjective(pairs, student.teacher, c=None, weighting="uniform")
        losses.append(float(objective(student, x0, generator=seeded()).mean().detach()))
    wrong = ConsistencyObjective(pairs, student.teacher, c=None, weighting="uniform")
    assert losses[-1] < 1e-9
    # The local error of Heun is of third order, its square of sixth; draws of pairs differ from run to run.
    assert losses[0] / losses[1] > 16
    assert losses[1] / losses[2] > 16
    assert float(wrong(exact(schedule, 0.9), x0, generator=seeded()).mean().detach()) > 100 * losses[-1]


class Fixed(TimePairs):
    """One pair of times."""

    def __init__(self, t: float, s: float) -> None:
        self.pair = t, s

    def draw(
        self, batch: int, process: SDE, step: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        t, s = (torch.full((batch,), v, dtype=torch.float64) for v in self.pair)
        return t, s


def test_the_gradient_of_distillation_vanishes_at_the_exact_student_alone() -> None:
    slopes = []
    for factor in (1.0, 0.9, 1.1):
        student = exact(CosineSchedule(), factor)
        x0 = student.teacher.sample(64, generator=seeded())
        objective = ConsistencyObjective(Fixed(0.6, 0.599), student.teacher, c=None, weighting="difference")
        objective(student, x0, generator=seeded()).mean().backward()
        assert student.factor.grad is not None
        slopes.append(float(student.factor.grad))
    assert abs(slopes[0]) < 1e-3 * min(abs(slopes[1]), abs(slopes[2]))
    assert slopes[1] < 0 < slopes[2]


def test_the_gradient_of_training_without_a_teacher_vanishes_on_average() -> None:
    """Consistency training's gradient is distillation's in the mean, as the two times draw together."""
    slopes, errors = [], []
    for factor in (1.0, 0.9):
        student = exact(FlowSchedule(), factor)
        x0 = student.teacher.sample(4000, generator=seeded())
        objective = ConsistencyObjective(Fixed(0.5, 0.499), c=None, weighting="difference")
        losses = objective(student, x0, generator=seeded(1))
        parts = [torch.autograd.grad(part.mean(), student.factor, retain_graph=True)[0] for part in losses.split(100)]
        slopes.append(float(torch.stack(parts).mean()))
        errors.append(float(torch.stack(parts).std()) / math.sqrt(len(parts)))
    assert abs(slopes[0]) < 4 * errors[0]
    assert abs(slopes[1]) > 8 * errors[1]


@pytest.mark.parametrize("c", [None, 0.0, 0.03])
@pytest.mark.parametrize("weighting", ["difference", "uniform"])
def test_the_loss_is_the_formula_of_the_paper(c: float | None, weighting: str) -> None:
    process, t, s = SDE(CosineSchedule()), 0.7, 0.4
    student = NetworkDenoiser(lambda x, c: torch.sin(x), process)  # type: ignore[arg-type]
    x0 = torch.randn(6, 2, 3, dtype=torch.float64, generator=seeded())
    eps = torch.randn(6, 2, 3, dtype=torch.float64, generator=seeded(1))
    loss = ConsistencyObjective(Fixed(t, s), c=c, weighting=weighting)(student, x0, generator=seeded(1))  # type: ignore[arg-type]
    high, low = process.level(t), process.level(s)
    ends = [student(level.alpha * x0 + level.sigma * eps, time).mean for level, time in ((high, t), (low, s))]
    norm = (ends[0] - ends[1]).flatten(1).norm(dim=1)
    root = math.sqrt(6)  # the metric over sqrt(D), with c sqrt(D) in the paper's place of c
    expected = norm**2 / 6 if c is None else ((norm**2 + (c * root) ** 2).sqrt() - c * root) / root
    if weighting == "difference":
        expected = expected / (high.sigma / high.alpha - low.sigma / low.alpha)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)


def test_the_target_has_no_gradient_and_at_zero_it_is_the_data() -> None:
    process = SDE(CosineSchedule())
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    x0 = torch.randn(6, 3, dtype=torch.float64, generator=seeded())
    calls: list[float] = []

    def network(x: Tensor, c: Tensor) -> Tensor:
        calls.append(float(c[0]))
        return scale * x

    student = NetworkDenoiser(network, process)  # type: ignore[arg-type]
    objective = ConsistencyObjective(Fixed(0.5, 0.0), c=None, weighting="uniform")
    loss = objective(student, x0, generator=seeded(1))
    assert len(calls) == 1
    level = process.level(0.5)
    x_t = level.alpha * x0 + level.sigma * torch.randn(6, 3, dtype=torch.float64, generator=seeded(1))
    torch.testing.assert_close(loss, ((student(x_t, 0.5).mean - x0) ** 2).mean(1))
    # With s above zero the slope is that of the answer alone.
    objective = ConsistencyObjective(Fixed(0.5, 0.3), c=None, weighting="uniform")
    (slope,) = torch.autograd.grad(objective(student, x0, generator=seeded(1)).sum(), scale)
    low = process.level(0.3)
    target = student(low.alpha * x0 + low.sigma * (x_t - level.alpha * x0) / level.sigma, 0.3).mean.detach()
    (expected,) = torch.autograd.grad(((student(x_t, 0.5).mean - target) ** 2).mean(1).sum(), scale)
    torch.testing.assert_close(slope, expected)


def test_answer_and_target_share_their_dropout() -> None:
    """At nearly equal times the two calls agree only if the same units are dropped."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 50), nn.Dropout(0.5), nn.Linear(50, 3))
    student = NetworkDenoiser(lambda x, c: network(x), SDE(CosineSchedule()))  # type: ignore[arg-type]
    objective = ConsistencyObjective(Fixed(0.5, 0.5 - 1e-7), c=None, weighting="uniform")
    x0 = torch.randn(20, 3, generator=seeded())
    assert objective(student, x0, generator=seeded()).max() < 1e-8
    one, other = (student(x0, 0.5).mean for _ in range(2))
    assert (one - other).abs().max() > 1e-2


@pytest.mark.parametrize("taught", [True, False])
def test_padding_neither_counts_nor_is_noised(taught: bool) -> None:
    """What stands in the padding changes nothing, and the loss is that of the real part alone."""
    process, mask = SDE(FlowSchedule()), torch.tensor([[True, True, False]] * 5)

    class Masked(GaussianDenoiser):
        def forward(self, x_t: Tensor, t: Time, mask: Tensor | None = None, **condition: Tensor) -> GaussianPosterior:
            assert mask is not None
            assert (x_t[~mask] == 0).all()
            return super().forward(x_t, t)

    student, teacher = (Masked(process, torch.full((3,), m), torch.eye(3)) for m in (0.0, 1.0))
    objective = ConsistencyObjective(Fixed(0.7, 0.4), teacher if taught else None)
    x0 = torch.randn(5, 3, dtype=torch.float64, generator=seeded())
    padded = x0 + torch.tensor([0.0, 0.0, 9.0])
    losses = [objective(student, x, mask=mask, generator=seeded(1)) for x in (x0, padded)]
    assert torch.equal(*losses)
    assert (losses[0] > 0).all()


# The schedules of the papers.


def test_the_number_of_intervals_doubles_as_in_improved_training() -> None:
    pairs = GridPairs(length=800, first=10, last=1280)
    assert [pairs.intervals(step) for step in (0, 99, 100, 250, 700, 5000)] == [10, 10, 20, 40, 1280, 1280]
    assert GridPairs(1, first=18, last=18).intervals(10**6) == 18


def test_the_number_of_intervals_grows_by_the_root_as_in_consistency_training() -> None:
    pairs = GridPairs(length=1000, first=2, last=150, growth="sqrt")
    for step in (0, 1, 250, 999, 1000, 4000):
        k = min(step, 1000)
        n = math.ceil(math.sqrt(k / 1000 * (151**2 - 4) + 4) - 1) + 1
        assert pairs.intervals(step) == max(n - 1, 1)


def test_pairs_are_drawn_as_often_as_the_normal_law_says() -> None:
    process = SDE(EDMSchedule())
    pairs = GridPairs(1, first=8, last=8, mean=-0.5, std=1.5)
    times = pairs.grid(8, process)
    assert float(pairs.probabilities(process, times).sum()) == pytest.approx(1.0)
    t, s = pairs.draw(40_000, process, 0, seeded())
    log_r = -0.5 * process.schedule.log_snr(times)
    normal = torch.distributions.Normal(-0.5, 1.5)
    inside = normal.cdf(log_r[:-1].clamp(-50, 50)) - normal.cdf(log_r[1:].clamp(-50, 50))
    expected = inside / inside.sum()
    counts = torch.stack([(t == time).double().mean() for time in times[:-1]])
    assert ((counts - expected).abs() < 4 * (expected * (1 - expected) / 40_000).sqrt() + 1e-9).all()
    assert all(time in times[1:] for time in s[:100])
    even, _ = GridPairs(1, first=4, last=4, std=None).draw(1000, process, 0, seeded())
    assert len(even.unique()) == 4


@each_schedule
def test_easy_tuning_narrows_the_pair_stage_by_stage(schedule: Schedule) -> None:
    process, pairs = SDE(schedule), AnnealedPairs(stage=100, q=2.0, k=8.0, b=1.0, std=1.0)
    for step in (0, 99, 100, 350, 900):
        t, s = pairs.draw(300, process, step, seeded())
        assert ((s < t) & (s >= 0)).all()
        r_t, r_s = ((-0.5 * schedule.log_snr(time)).exp() for time in (t, s))
        n = 1 + 8 / (1 + r_t.exp())
        expected = (1 - n / 2 ** (step // 100 + 1)).clamp(min=0)
        clean = expected * r_t <= (-0.5 * schedule.log_snr(torch.zeros(1, dtype=torch.float64))).exp()
        assert (s[clean] == 0).all()
        torch.testing.assert_close((r_s / r_t)[~clean], expected[~clean], rtol=1e-6, atol=1e-9)
    assert (pairs.draw(300, process, 0, seeded())[1] == 0).any()


def test_the_curriculum_goes_on_where_a_checkpoint_left_it() -> None:
    student = NetworkDenoiser(lambda x, c: x, SDE(CosineSchedule()))  # type: ignore[arg-type]
    objective = ConsistencyObjective(AnnealedPairs(stage=2))
    for _ in range(5):
        objective(student, torch.randn(4, 2), generator=seeded())
    objective.eval()
    objective(student, torch.randn(4, 2), generator=seeded())
    assert int(objective.taken) == 5
    resumed = ConsistencyObjective(AnnealedPairs(stage=2))
    resumed.load_state_dict(objective.state_dict())
    x0 = torch.randn(64, 2, generator=seeded())
    fresh = ConsistencyObjective(AnnealedPairs(stage=2))
    losses = [one(student, x0, generator=seeded()) for one in (objective, resumed, fresh)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_the_teacher_is_a_frozen_copy_in_evaluation_mode() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    teacher = NetworkDenoiser(network, SDE(CosineSchedule()))
    objective = ConsistencyObjective(AnnealedPairs(), teacher).train()
    assert objective.teacher is not None
    assert not any(module.training for module in objective.teacher.modules())
    assert not any(parameter.requires_grad for parameter in objective.parameters())
    before = copy.deepcopy(objective.teacher.state_dict())
    with torch.no_grad():
        network[0].weight.zero_()
    assert torch.equal(before["network.0.weight"], objective.teacher.state_dict()["network.0.weight"])
    assert teacher.training


def test_teacher_and_student_are_of_one_schedule() -> None:
    objective = ConsistencyObjective(AnnealedPairs(), exact(CosineSchedule()).teacher)
    objective(exact(CosineSchedule()), torch.zeros(2, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="expected one schedule"):
        objective(exact(FlowSchedule()), torch.zeros(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("settings", [GridPairs(7), AnnealedPairs(9, q=4.0), ConsistencySampler(3, r_min=0.01)])
def test_settings_come_back_from_their_configuration(settings: object) -> None:
    assert from_config(to_config(settings)) == settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GridPairs(0), "length=0"),
        (lambda: GridPairs(first=5, last=4), "last=4"),
        (lambda: GridPairs(std=0.0), "std="),
        (lambda: GridPairs(growth="cubic"), "growth="),
        (lambda: AnnealedPairs(q=1.0), "q="),
        (lambda: AnnealedPairs(stage=0), "stage="),
        (lambda: ConsistencyObjective(AnnealedPairs(), c=-1.0), "c="),
        (lambda: ConsistencyObjective(AnnealedPairs(), solver="rk4"), "solver="),
        (lambda: ConsistencyObjective(AnnealedPairs(), weighting="snr"), "weighting="),
        (lambda: ConsistencySampler(2, r_min=-1.0), "r_min="),
        (lambda: ConsistencyDenoiser(exact(CosineSchedule()), r_min=-1.0), "r_min="),
    ],
)
def test_bad_arguments_are_named(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()


# Sampling.


@each_schedule
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_exact_function_samples_the_data_in_any_number_of_steps(schedule: Schedule, steps: int) -> None:
    """Mean and covariance of 4,000 samples within four standard errors; from one start, one step is the ODE's end."""
    student = exact(schedule)
    sampler = ConsistencySampler(steps)
    assert sampler.nfe(process=student.process) == steps
    out = sampler.sample(student, (4000, 3), seed=0, x=None).double()
    teacher = student.teacher
    start = student.process.level(sampler.grid(steps, student.process)[0])
    # The prior forgets the data, which at r = 80 shifts a mean by alpha mean / sigma standard deviations.
    forgotten = float(start.alpha / start.sigma) * teacher.mean.abs().max()
    error = (out.mean(0) - teacher.mean).abs() / teacher.covariance.diagonal().sqrt()
    assert error.max() < 4 / math.sqrt(4000) + forgotten
    standard = (out - teacher.mean) @ teacher.vectors / teacher.values.sqrt()
    assert (standard.T @ standard / 4000 - torch.eye(3, dtype=torch.float64)).abs().max() < 4 * math.sqrt(2 / 4000)


def test_one_step_equals_the_ode() -> None:
    student = exact(CosineSchedule())
    sampler = ConsistencySampler(1)
    x = torch.randn(5, 3, dtype=torch.float64, generator=seeded())
    t = float(sampler.grid(1, student.process)[0])
    out = sampler.sample(student, x.shape, x=x)
    torch.testing.assert_close(out, student.teacher.flow(x, t, 0.0), rtol=1e-10, atol=1e-10)
    fine = Heun(2000, grid=UniformTime(t, 0.0)).sample(student.teacher, x.shape, x=x)
    torch.testing.assert_close(out, fine, rtol=1e-3, atol=1e-3)


def test_between_jumps_the_noise_is_that_of_algorithm_1() -> None:
    process = SDE(VESchedule(0.01, 50.0))
    middle = float(process.schedule.time(-2 * math.log(0.8)))
    for r_min in (0.0, 0.3):
        seen: list[Tensor] = []

        class Zero(Denoiser):
            def forward(self, x_t: Tensor, t: Time, **condition: Tensor) -> Posterior:
                seen.append(x_t)  # noqa: B023 (used within the turn)
                return GaussianPosterior(x_t, process, process.level(t), torch.zeros_like(x_t))

        sampler = ConsistencySampler(2, grid=Times((1.0, middle, 0.0)), r_min=r_min)
        out = sampler.sample(Zero(process), (4000, 2), seed=0)
        assert float(seen[1].std()) == pytest.approx(math.sqrt(0.8**2 - r_min**2), rel=0.04)
        assert (out == 0).all()


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.body(torch.cat([x, c[:, None]], 1))


@pytest.mark.parametrize("method", ["distillation", "training", "easy"])
def test_a_small_network_learns_the_consistency_function_of_a_gaussian(method: str) -> None:
    """In the plane, from noise of ratio 80: the distance to the end of the ODE, of which 1 is that of the mean."""
    process, generator = SDE(CosineSchedule()), torch.manual_seed(0)
    teacher = GaussianDenoiser(process, [0.6, -0.4], [[0.5, 0.2], [0.2, 0.3]])
    student, steps = NetworkDenoiser(Small(), process), 200
    objective = {
        "distillation": ConsistencyObjective(
            GridPairs(1, first=18, last=18, mean=0.0), teacher, c=None, weighting="uniform"
        ),
        "training": ConsistencyObjective(GridPairs(steps, first=4, last=64, mean=0.0)),
        "easy": ConsistencyObjective(AnnealedPairs(steps // 5, mean=0.0)),
    }[method]
    optimiser = torch.optim.Adam(student.parameters(), lr=6e-3)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        x0 = teacher.sample(128, generator=generator).float()
        loss = objective(student, x0, generator=generator).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        fall.step()
    x = torch.randn(2000, 2, generator=seeded(5))
    sampler = ConsistencySampler(1)
    t = float(sampler.grid(1, process)[0])
    ends = teacher.flow(x, t, 0.0)
    error = (sampler.sample(student, x.shape, x=x) - ends).square().mean().sqrt()
    spread = (teacher.mean.float() - ends).square().mean().sqrt()  # of a student that answers the mean
    assert error < 0.45 * spread
