"""The denoising loss: closed-form expectations, equality of its forms, singular ends, masks, precision, seeds."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from ornstein.core import (
    SDE,
    CosineSchedule,
    Denoiser,
    DenoisingObjective,
    DiscreteTimes,
    EDMSchedule,
    EDMWeighting,
    FlowSchedule,
    GaussianDenoiser,
    GaussianPosterior,
    ImportanceTimes,
    LikelihoodWeighting,
    LogDenoisingObjective,
    LogNormalTimes,
    MinSNRWeighting,
    NetworkDenoiser,
    Objective,
    Posterior,
    Prediction,
    Process,
    SigmoidSchedule,
    SigmoidWeighting,
    SNRWeighting,
    StratifiedTimes,
    SubVPSchedule,
    TableSchedule,
    TrainingTimes,
    UniformTimes,
    UniformWeighting,
    VESchedule,
    VPSchedule,
    Weighting,
    ZeroTerminalSNR,
)
from ornstein.core.config import from_config, to_config

WEIGHTINGS: list[Weighting] = [UniformWeighting("eps"), UniformWeighting("v"), SNRWeighting(), MinSNRWeighting(),
                               EDMWeighting(0.5), LikelihoodWeighting(), SigmoidWeighting()]  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Fixed(TrainingTimes):
    """One time."""

    def __init__(self, t: float) -> None:
        super().__init__()
        self.t = t

    def draw(self, batch: int, process: Process, generator: Any = None) -> tuple[Tensor, float]:
        return torch.full((batch,), self.t, dtype=torch.float64), 1.0


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor, c: Tensor, mask: Tensor | None = None, label: Tensor | None = None) -> Tensor:
        return self.layer(torch.tanh(x)) + c.reshape(-1, *[1] * (x.ndim - 1)).to(x.dtype)


class MeanOnly(Denoiser):
    """Answers with the mean of another denoiser and says nothing of its network."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner.process)
        self.inner = inner

    def forward(self, x_t: Tensor, t: Any, **condition: Any) -> Posterior:
        return GaussianPosterior(x_t, self.process, self.process.level(t), self.inner(x_t, t, **condition).mean)


@pytest.mark.parametrize("schedule", [VPSchedule(), SubVPSchedule(), EDMSchedule(10.0), FlowSchedule()], ids=repr)
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=repr)
def test_loss_of_the_exact_denoiser_is_its_expectation(schedule: Any, weighting: Weighting) -> None:
    """E loss = w(t) tr Cov[x_0 | x_t] / D, and for a Gaussian the covariance is that of the posterior."""
    values, t, batch = torch.tensor([1.5, 0.4, 0.05], dtype=torch.float64), 0.4, 40_000
    denoiser = GaussianDenoiser(SDE(schedule), torch.ones(3), values.diag())
    loss = DenoisingObjective(weighting, Fixed(t))(
        denoiser, denoiser.sample(batch, generator=generator()), generator=generator(1)
    )
    level = denoiser.process.level(torch.tensor([t], dtype=torch.float64))
    alpha, sigma = level.alpha.item(), level.sigma.item()
    variance = values * sigma**2 / (alpha**2 * values + sigma**2)
    expected = weighting.log_weight(schedule, level.t, level.log_snr).exp().item() * variance.mean().item()
    assert abs(loss.mean().item() - expected) < 4 * loss.std().item() / batch**0.5


def test_expected_loss_over_uniform_times() -> None:
    """For N(0, 1) the posterior variance is t^2 / ((1 - t)^2 + t^2), one over the weight SNR + 1 of v."""
    denoiser, batch = GaussianDenoiser(SDE(FlowSchedule()), torch.zeros(1), torch.eye(1)), 40_000
    x0 = torch.randn(batch, 1, dtype=torch.float64, generator=generator())
    for times in (UniformTimes(), StratifiedTimes()):
        loss = DenoisingObjective(UniformWeighting("v"), times)(denoiser, x0, generator=generator(1))
        assert abs(loss.mean().item() - 1) < 4 * loss.std().item() / batch**0.5


@pytest.mark.parametrize("prediction", get_args(Prediction))
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=repr)
@pytest.mark.parametrize("schedule", [VPSchedule(), SubVPSchedule(), VESchedule(), FlowSchedule()], ids=repr)
def test_loss_in_network_space_is_the_loss_in_data_space(
    prediction: Prediction, weighting: Weighting, schedule: Any
) -> None:
    torch.manual_seed(1)
    denoiser = NetworkDenoiser(Network().double(), SDE(schedule), prediction, 0.5)
    x0 = torch.randn(64, 5, 3, dtype=torch.float64)
    objective = DenoisingObjective(weighting)
    network_space = objective(denoiser, x0, generator=generator())
    data_space = objective(MeanOnly(denoiser), x0, generator=generator())
    torch.testing.assert_close(network_space, data_space, rtol=1e-7, atol=1e-10)


def test_ddpm_simple_loss_is_the_plain_error_of_eps() -> None:
    torch.manual_seed(0)
    denoiser = NetworkDenoiser(Network().double(), SDE(TableSchedule.linear()), "eps")
    x0 = torch.randn(6, 3, dtype=torch.float64)
    loss = DenoisingObjective(UniformWeighting("eps"), DiscreteTimes(1000))(denoiser, x0, generator=generator(4))
    draws = generator(4)
    t = ((torch.rand(6, dtype=torch.float64, generator=draws) * 1000).floor() + 1) / 1000
    eps = torch.randn(6, 3, dtype=torch.float64, generator=draws)
    bars = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[(t * 1000).round().long() - 1]
    noisy = bars.sqrt()[:, None] * x0 + (1 - bars).sqrt()[:, None] * eps
    output = denoiser.network(noisy, -(bars / (1 - bars)).log().clamp(-20, 20).float() / 8)
    torch.testing.assert_close(loss, ((output - eps) ** 2).mean(1), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "schedule", [CosineSchedule(), FlowSchedule(), SigmoidSchedule(), ZeroTerminalSNR(VPSchedule()),
                 ZeroTerminalSNR(TableSchedule.linear()), TableSchedule((0.1, 0.5, 1.0))], ids=lambda s: repr(s)[:40],
)  # fmt: skip
@pytest.mark.parametrize("prediction", ["v", "x0", "flow", "edm", "eps"])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=repr)
def test_zero_terminal_snr_trains_without_infinity(schedule: Any, prediction: Prediction, weighting: Weighting) -> None:
    """At pure noise itself, the last of the discrete times: loss and gradients are finite."""
    denoiser = NetworkDenoiser(Network(), SDE(schedule), prediction)
    loss = DenoisingObjective(weighting, DiscreteTimes(1))(denoiser, torch.randn(8, 3), generator=generator())
    assert loss.isfinite().all()
    loss.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in denoiser.parameters())
    if isinstance(weighting, UniformWeighting) and weighting.of == prediction:
        assert (loss > 0).all()


@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "flow", "edm"])
def test_clean_data_train_without_infinity(prediction: Prediction) -> None:
    """A time of exactly zero is drawn with probability 2^-53, and at most has the weight of the bound on log-SNR."""
    denoiser = NetworkDenoiser(Network(), SDE(FlowSchedule()), prediction)
    loss = DenoisingObjective(UniformWeighting("v"), Fixed(0.0))(denoiser, torch.randn(8, 3), generator=generator())
    assert loss.isfinite().all()


# Masks.


class Sees(Denoiser):
    """Answers zero and remembers the state."""

    def forward(self, x_t: Tensor, t: Any, **condition: Any) -> Posterior:
        self.x_t, self.condition = x_t, condition
        return GaussianPosterior(x_t, self.process, self.process.level(t), torch.zeros_like(x_t))


def test_the_log_likelihood_is_that_of_the_best_variance_and_counts_ratios() -> None:
    process, x0 = SDE(CosineSchedule()), torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    exact = GaussianDenoiser(process, torch.zeros(50), torch.eye(50))
    draw = torch.Generator().manual_seed
    squares = DenoisingObjective(UniformWeighting("x0"))(exact, x0, generator=draw(1))
    found = LogDenoisingObjective(floor=1e-6)(exact, x0, generator=draw(1))
    torch.testing.assert_close(found, 0.5 * squares.log(), rtol=1e-4, atol=1e-4)
    for loss, square in zip(found, squares):  # -log N(x0; mean, v) / D less constants, at its least
        v = square * torch.linspace(0.5, 2, 301)
        torch.testing.assert_close(loss, (0.5 * (v.log() + square / v)).min() - 0.5, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="floor"):
        LogDenoisingObjective(floor=0.0)


def test_padding_neither_counts_nor_is_noised() -> None:
    denoiser, objective = Sees(SDE(FlowSchedule())), DenoisingObjective(UniformWeighting("x0"))
    mask = torch.tensor([[True, True, False], [True, False, False]])
    x0 = torch.randn(2, 3, 4) * mask[..., None]
    loss = objective(denoiser, x0, mask=mask, generator=generator())
    assert (denoiser.x_t[~mask] == 0).all()
    assert (denoiser.x_t[mask] != x0[mask]).any()
    assert torch.equal(denoiser.condition["mask"], mask)
    expected = torch.stack([(x0[0, :2] ** 2).mean(), (x0[1, :1] ** 2).mean()])
    torch.testing.assert_close(loss, expected)
    # What stands in the padding changes nothing.
    torch.testing.assert_close(
        objective(denoiser, x0 + 9.0 * ~mask[..., None], mask=mask, generator=generator()), expected
    )
    assert objective(denoiser, x0, mask=torch.zeros_like(mask)).tolist() == [0, 0]


def test_a_full_mask_is_no_mask() -> None:
    denoiser = NetworkDenoiser(Network(), SDE(FlowSchedule()))
    x0 = torch.randn(4, 2, 3)
    a = DenoisingObjective()(denoiser, x0, generator=generator())
    b = DenoisingObjective()(denoiser, x0, mask=torch.ones(4, 2, dtype=torch.bool), generator=generator())
    torch.testing.assert_close(a, b)


# Precision and seeds.


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_a_bfloat16_network_under_a_float32_state(prediction: Prediction) -> None:
    torch.manual_seed(0)
    network, x0 = Network(), torch.randn(256, 3)
    objective = DenoisingObjective(UniformWeighting(prediction))
    exact = objective(NetworkDenoiser(network, SDE(CosineSchedule()), prediction), x0, generator=generator())
    low = NetworkDenoiser(network.bfloat16(), SDE(CosineSchedule()), prediction)
    loss = objective(low, x0, generator=generator())
    assert loss.dtype == torch.float32
    assert abs(loss.mean() / exact.mean() - 1) < 0.02
    loss.mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.bfloat16 for p in low.parameters())


@pytest.mark.parametrize(
    "times", [UniformTimes(), StratifiedTimes(), DiscreteTimes(), LogNormalTimes(), ImportanceTimes()]
)
def test_one_seed_gives_one_loss(times: TrainingTimes) -> None:
    denoiser, x0 = NetworkDenoiser(Network(), SDE(CosineSchedule())), torch.randn(5, 3)
    objective = DenoisingObjective(times=times).eval()
    a, b, c = (objective(denoiser, x0, generator=generator(s)) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    torch.manual_seed(3)
    d = objective(denoiser, x0)
    torch.manual_seed(3)
    assert torch.equal(d, objective(denoiser, x0))


def test_float32_and_float64_data_have_the_same_loss_in_distribution_and_dtype() -> None:
    denoiser = GaussianDenoiser(SDE(FlowSchedule()), torch.zeros(3), torch.eye(3))
    for dtype in (torch.float32, torch.float64):
        assert DenoisingObjective()(denoiser, torch.randn(4, 3, dtype=dtype)).dtype == dtype


def test_conditions_reach_the_denoiser() -> None:
    denoiser, label = Sees(SDE(FlowSchedule())), torch.tensor([1, 2])
    DenoisingObjective()(denoiser, torch.randn(2, 3), label=label)
    assert torch.equal(denoiser.condition["label"], label)
    assert "mask" not in denoiser.condition


@pytest.mark.parametrize("times", [UniformTimes(), LogNormalTimes(), ImportanceTimes()])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=repr)
def test_the_loss_stays_on_the_device_of_the_data(times: TrainingTimes, weighting: Weighting) -> None:
    """On the meta device, which refuses to be mixed with others and needs no hardware."""
    denoiser = NetworkDenoiser(Network(), SDE(TableSchedule.linear(10))).to("meta")
    x0, mask = torch.empty(4, 2, 3, device="meta"), torch.ones(4, 2, dtype=torch.bool, device="meta")
    objective = DenoisingObjective(weighting, times).eval()
    assert objective(denoiser, x0, mask=mask).device == x0.device
    assert objective(denoiser, x0).shape == (4,)


# Importance sampling.


def test_importance_learns_in_training_only_and_leaves_the_expected_loss() -> None:
    denoiser = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2))
    weighting = UniformWeighting("x0")

    def draw(objective: DenoisingObjective, seed: int, batch: int) -> Tensor:
        x0 = torch.randn(batch, 2, dtype=torch.float64, generator=generator(seed))
        return objective(denoiser, x0, generator=generator(seed + 1))

    times = ImportanceTimes(bins=10, history=10)
    importance = DenoisingObjective(weighting, times)
    importance.eval()
    draw(importance, 0, 4000)
    assert not times.counts.any()
    importance.train()
    draw(importance, 0, 4000)
    assert (times.counts > 10).all()
    p = times.probabilities()
    assert p[-1] > 5 * p[0]  # the posterior variance is sin^2, so that the data's end hardly counts
    importance.eval()
    a, b = draw(importance, 5, 60_000), draw(DenoisingObjective(weighting), 7, 60_000)
    error = (a.var() / len(a) + b.var() / len(b)).sqrt()
    assert abs(a.mean() - b.mean()) < 4 * error
    assert a.var() < b.var()


def test_importance_learns_the_loss_before_its_own_correction() -> None:
    denoiser = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2))
    times = ImportanceTimes(bins=2, history=1)
    times.update(torch.tensor([0.2, 0.8]), torch.tensor([1.0, 30.0]))
    objective = DenoisingObjective(UniformWeighting("x0"), times)
    probabilities = times.probabilities()
    loss = objective(denoiser, torch.randn(1, 2, dtype=torch.float64), generator=generator(0))
    k = int(times.counts.argmax())
    torch.testing.assert_close(loss[0], times.losses[k, 0] / (2 * probabilities[k]))


# Errors and configuration.


@pytest.mark.parametrize(
    ("x0", "mask", "message"),
    [
        (torch.randn(3), None, r"x0 of shape \(3,\)"),
        (torch.ones(2, 3, dtype=torch.int64), None, "torch.int64: expected"),
        (torch.randn(2, 3, dtype=torch.bfloat16), None, "float32 or float64"),
        (torch.tensor([[1.0, float("nan")]]), None, "NaN"),
        (torch.tensor([[1.0, float("inf")]]), None, "infinite"),
        (torch.randn(2, 3), torch.ones(2, 2, dtype=torch.bool), r"mask of shape \(2, 2\)"),
        (torch.randn(2, 3), torch.ones(2, 3), "float32: expected"),
    ],
)
def test_bad_data_are_named_in_one_line(x0: Tensor, mask: Tensor | None, message: str) -> None:
    denoiser = Sees(SDE(FlowSchedule()))
    with pytest.raises(ValueError, match=message) as caught:
        DenoisingObjective()(denoiser, x0, mask=mask)
    assert "\n" not in str(caught.value)


def test_wrong_parts_are_named() -> None:
    with pytest.raises(TypeError, match="weighting='snr': expected a Weighting"):
        DenoisingObjective("snr")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="times=3: expected TrainingTimes"):
        DenoisingObjective(times=3)  # type: ignore[arg-type]


def test_configuration_round_trip() -> None:
    for objective in (DenoisingObjective(), DenoisingObjective(MinSNRWeighting(3.0), ImportanceTimes(7, 2, 0.1))):
        assert to_config(from_config(to_config(objective), Objective)) == to_config(objective)
