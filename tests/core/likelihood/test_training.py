"""Objectives of likelihood: the bound under a learned schedule, and learned variances."""

import pytest
import torch
from torch import Tensor, nn

from ornstein.core import (
    DDPM,
    SDE,
    ContinuousBound,
    CosineSchedule,
    DenoisingObjective,
    DiscreteTimes,
    FlowSchedule,
    GaussianDenoiser,
    HybridObjective,
    ImportanceTimes,
    LearnedSchedule,
    LearnedVarianceDenoiser,
    LikelihoodTimes,
    LikelihoodWeighting,
    MixtureDenoiser,
    NetworkDenoiser,
    StratifiedTimes,
    UniformDequantisation,
    UniformTime,
    UniformTimes,
    VariationalBound,
    VariationalObjective,
    VESchedule,
    VPSchedule,
)
from ornstein.core.nn import MLP
from ornstein.core.testing import three_modes


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_objective_is_the_bound_in_nats_a_coordinate() -> None:
    schedule = LearnedSchedule(10.0, -6.0)
    denoiser = three_modes(SDE(schedule))
    x = three_modes(SDE(FlowSchedule())).sample(2000, generator=_generator())
    bound = ContinuousBound(16).evaluate(denoiser, x, seed=0).nats / 2
    losses = VariationalObjective()(denoiser, x, generator=_generator(1)).detach()
    error = float((losses - bound).std()) / 2000**0.5  # stratified times make it smaller still
    assert abs(float((losses - bound).mean())) < 4 * error
    levels = UniformDequantisation(8, -3.0, 3.0)
    grid = levels.centre(levels.quantise(x)).double()
    losses = VariationalObjective(quantisation=levels)(denoiser, grid, generator=_generator(1)).detach()
    expected = ContinuousBound(16, quantisation=levels).evaluate(denoiser, grid, seed=0).nats / 2
    assert abs(float((losses - expected).mean())) < 4 * float((losses - expected).std()) / 2000**0.5


def _spread(schedule: LearnedSchedule, x: Tensor) -> float:
    """Standard deviation of the bound's estimate with one independent time."""
    with torch.no_grad():
        losses = VariationalObjective(UniformTimes())(three_modes(SDE(schedule)), x, generator=_generator(99))
    return float(losses.std())


def test_learning_the_schedule_lowers_the_variance_and_the_ends_lower_the_bound() -> None:
    x = three_modes(SDE(FlowSchedule())).sample(2000, generator=_generator())
    schedule = LearnedSchedule(4.0, -1.0)
    likelihood = ContinuousBound(16, 2, high=30.0, low=-30.0)
    start = likelihood.evaluate(three_modes(SDE(schedule)), x, seed=0).nats.mean()
    optimiser = torch.optim.Adam(
        [{"params": schedule.ends(), "lr": 0.03}, {"params": schedule.shape(), "lr": 0.1}], betas=(0.9, 0.99)
    )
    objective, generator = VariationalObjective(), _generator(5)
    for _ in range(80):
        rows = torch.randint(len(x), (256,), generator=generator)
        optimiser.zero_grad()
        objective(three_modes(SDE(schedule)), x[rows], generator=generator).mean().backward()
        optimiser.step()
    assert likelihood.evaluate(three_modes(SDE(schedule)), x, seed=0).nats.mean() < start - 0.02
    ends = float(schedule.log_snr(0.0)), float(schedule.log_snr(1.0))
    assert ends[0] > 4.0
    assert ends[1] < -1.0
    # A wider range has a larger variance; the straight line between the same ends a still larger one.
    assert _spread(schedule, x) < 0.97 * _spread(LearnedSchedule(*ends), x)


def test_variance_falls_during_training_between_fixed_ends() -> None:
    x = three_modes(SDE(FlowSchedule())).sample(4000, generator=_generator())
    schedule = LearnedSchedule(12.0, -8.0)
    optimiser = torch.optim.Adam(schedule.shape(), lr=0.1, betas=(0.9, 0.99))
    objective, generator, spreads = VariationalObjective(), _generator(5), [_spread(schedule, x)]
    ends = schedule.log_snr(torch.tensor([0.0, 1.0])).detach()
    for _ in range(3):
        for _ in range(40):
            rows = torch.randint(len(x), (256,), generator=generator)
            optimiser.zero_grad()
            objective(three_modes(SDE(schedule)), x[rows], generator=generator).mean().backward()
            optimiser.step()
        spreads.append(_spread(schedule, x))
    assert spreads[1] < 0.9 * spreads[0]
    assert spreads[3] < 1.02 * spreads[1]
    assert torch.equal(schedule.log_snr(torch.tensor([0.0, 1.0])), ends)


def test_shape_learns_from_the_second_moment() -> None:
    """Its gradient against finite differences of the second moment over a dense grid of times."""
    schedule = LearnedSchedule(5.0, -3.0, width=3)
    denoiser = GaussianDenoiser(SDE(schedule), torch.zeros(1), torch.ones(1, 1))

    def error_of_eps(log_snr: Tensor) -> Tensor:  # E|eps - eps_theta|^2 = alpha^2 of standard normal data under VP
        return torch.sigmoid(log_snr)

    t = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000

    def moment() -> float:
        with torch.no_grad():
            return float(((0.5 * -schedule.d_log_snr(t)) ** 2 * error_of_eps(schedule.log_snr(t)) ** 2).mean())

    rate = -schedule.d_log_snr(t).detach()
    size = (0.5 * rate * error_of_eps(schedule.log_snr(t))).detach() ** 2
    (size * schedule.rate_at(t) / rate).mean().backward()
    for parameter in schedule.shape():
        assert parameter.grad is not None
        flat, slope = parameter.data.view(-1), parameter.grad.view(-1)
        for i in range(len(flat)):
            old = float(flat[i])
            flat[i] = old + 1e-4
            above = moment()
            flat[i] = old - 1e-4
            below = moment()
            flat[i] = old
            assert float(slope[i]) == pytest.approx((above - below) / 2e-4, rel=2e-3, abs=1e-7)
    assert denoiser.process.schedule is schedule


def test_infinite_ends_are_refused() -> None:
    with pytest.raises(ValueError, match="infinite at an end"):
        VariationalObjective()(three_modes(SDE(CosineSchedule())), torch.zeros(2, 2))


@pytest.mark.parametrize("schedule", [VPSchedule(), FlowSchedule(), VESchedule(0.001, 50.0)])
def test_likelihood_times_are_unbiased_and_lower_the_variance(schedule) -> None:
    """The weighted loss at importance-sampled times is the bound's diffusion term, as at uniform times, with less
    spread.
    """
    denoiser = three_modes(SDE(schedule))
    x = three_modes(SDE(FlowSchedule())).sample(20_000, generator=_generator())
    objective = DenoisingObjective(LikelihoodWeighting(), LikelihoodTimes(low=-6.0, high=12.0))
    sampled = objective(denoiser, x, generator=_generator(1))
    reference = ContinuousBound(32, low=-6.0, high=12.0, spacing="log_snr").evaluate(denoiser, x[:4000], seed=0)
    difference = float(sampled.mean()) - float(reference.diffusion.mean()) / 2
    error = (float(sampled.var()) / len(x) + float(reference.diffusion.var()) / 4 / 4000) ** 0.5
    assert abs(difference) < 4 * error
    # Uniform times over the same range.
    start, end = (float(schedule.time(v)) for v in (12.0, -6.0))

    class Within(UniformTimes):
        def draw(self, batch: int, process: SDE, generator: torch.Generator | None = None):
            return start + (end - start) * super().draw(batch, process, generator)[0], end - start

    uniform = DenoisingObjective(LikelihoodWeighting(), Within())(denoiser, x, generator=_generator(2))
    assert abs(float(sampled.mean() - uniform.mean())) < 4 * ((sampled.var() + uniform.var()) / len(x)) ** 0.5
    assert sampled.std() < (1.1 if isinstance(schedule, VESchedule) else 0.8) * uniform.std()


class _Fixed(nn.Module):
    """The exact mean of standard normal data, and a learnable interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return torch.cat([0 * x + self.bias, self.v * torch.ones_like(x)], 1)


def test_hybrid_loss_is_the_denoising_loss_plus_the_bounds_step() -> None:
    denoiser = LearnedVarianceDenoiser(_Fixed(), SDE(CosineSchedule()), prediction="v")
    x = torch.randn(20_000, 2, generator=_generator())
    steps = 10
    hybrid = HybridObjective(1.0, steps, times=DiscreteTimes(steps))(denoiser, x, generator=_generator(1))
    simple = DenoisingObjective(times=DiscreteTimes(steps))(denoiser, x, generator=_generator(1))
    bound = VariationalBound(steps, grid=UniformTime(), variance="learned").evaluate(denoiser, x, seed=0)
    expected = float((bound.diffusion + bound.reconstruction).mean()) / 2
    found = hybrid - simple
    assert abs(float(found.mean()) - expected) < 4 * float(found.std()) / len(x) ** 0.5 + 1e-3


def test_bound_trains_the_variance_alone() -> None:
    """Standard normal data have the large variance; the mean's parameters get the denoising loss's gradient only."""
    denoiser = LearnedVarianceDenoiser(_Fixed(), SDE(CosineSchedule()), prediction="v")
    x = torch.randn(512, 2, generator=_generator())
    hybrid = HybridObjective(1.0, 20)(denoiser, x, generator=_generator(1)).mean()
    simple = DenoisingObjective(times=_Rounded(20))(denoiser, x, generator=_generator(1)).mean()
    ours, theirs = (torch.autograd.grad(loss, denoiser.network.bias)[0] for loss in (hybrid, simple))
    torch.testing.assert_close(ours, theirs)
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=0.05)
    objective, generator = HybridObjective(0.1, 20), _generator(2)
    for _ in range(150):
        optimiser.zero_grad()
        objective(denoiser, torch.randn(128, 2, generator=generator), generator=generator).mean().backward()
        optimiser.step()
    assert 0.85 < float(denoiser.network.v) < 1.15


class _Rounded(UniformTimes):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def draw(self, batch: int, process: SDE, generator: torch.Generator | None = None):
        return (super().draw(batch, process, generator)[0] * self.steps).ceil() / self.steps, 1.0


def test_a_network_learns_variances_end_to_end() -> None:
    """On three narrow modes, where at some times the small variance is right and at others the large one."""
    means = torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.0]])
    exact = MixtureDenoiser(SDE(CosineSchedule()), torch.ones(3), means, torch.full((3,), 0.05))
    x = exact.sample(4000, generator=_generator()).float()
    torch.manual_seed(0)
    denoiser = LearnedVarianceDenoiser(MLP(2, out_features=4, width=32, depth=2), SDE(CosineSchedule()), sigma_data=1.0)
    objective = HybridObjective(0.1, 20, times=ImportanceTimes(bins=20)).train()
    optimiser, generator = torch.optim.Adam(denoiser.parameters(), lr=3e-3), _generator(1)
    for _ in range(300):
        rows = torch.randint(len(x), (256,), generator=generator)
        optimiser.zero_grad()
        objective(denoiser, x[rows], generator=generator).mean().backward()
        optimiser.step()
    assert (objective.times.counts > 0).all()
    bounds = {}
    for kind in ("small", "large", "learned"):  # with the same noise
        likelihood = VariationalBound(20, grid=UniformTime(), variance=kind, draws=1)  # type: ignore[arg-type]
        bounds[kind] = float(likelihood.evaluate(denoiser, x[:1000], seed=0).nats.mean())
    assert bounds["learned"] < min(bounds["small"], bounds["large"]) - 0.01
    assert DDPM(10, variance="learned").sample(denoiser, (4, 2), seed=0).isfinite().all()


def test_hybrid_needs_a_learned_variance() -> None:
    denoiser = NetworkDenoiser(MLP(2, width=8, depth=1), SDE(CosineSchedule()))
    with pytest.raises(AttributeError, match="LearnedVarianceDenoiser"):
        HybridObjective()(denoiser, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="vlb_weight=-1"):
        HybridObjective(-1)
    assert isinstance(VariationalObjective().times, StratifiedTimes)
