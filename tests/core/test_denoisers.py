"""Network denoisers and posteriors: preconditioning, the log-SNR contract, precision, shapes."""

import copy
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from ornstein.core import (
    SDE,
    CosineSchedule,
    Denoiser,
    EDMSchedule,
    EmpiricalDenoiser,
    FlowSchedule,
    GaussianDenoiser,
    GaussianPosterior,
    MixtureDenoiser,
    NetworkDenoiser,
    Prediction,
    Schedule,
    ShiftedSchedule,
    SubVPSchedule,
    TableSchedule,
    VESchedule,
    VPSchedule,
)
from ornstein.core.config import from_config, to_config
from ornstein.core.nn import MLP

SCHEDULES = [VPSchedule(), SubVPSchedule(), VESchedule(), EDMSchedule(), FlowSchedule(), CosineSchedule(),
             TableSchedule.linear(), ShiftedSchedule(VPSchedule(), 2.0)]  # fmt: skip
LOG_SNR = torch.linspace(-6, 8, 9, dtype=torch.float64)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


class Mixer(nn.Module):
    """A network in float64 that mixes state and noise level without any symmetry, and remembers what it was given."""

    def forward(self, x: Tensor, c: Tensor, **condition: Tensor) -> Tensor:
        self.x, self.c, self.condition = x, c, condition
        shift = sum((v.double().mean() for v in condition.values()), torch.zeros((), dtype=torch.float64))
        return (torch.sin(2 * x) + 0.3 * x.roll(1, 1) + c.reshape(-1, *[1] * (x.ndim - 1)) + shift).to(x.dtype)


class Perceptron(nn.Module):
    """One hidden layer, not zero at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 64), nn.Linear(64, 3)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.outer(torch.nn.functional.silu(self.inner(torch.cat([x, c[:, None].to(x.dtype)], 1))))


def closed_forms(process: SDE) -> list[Denoiser]:
    means = torch.tensor([[1.0, -1.0, 0.0], [0.0, 2.0, 1.0]], dtype=torch.float64)
    root = torch.tensor([[1.0, 0.2, 0.0], [0.0, 0.5, 0.3], [0.0, 0.0, 0.2]], dtype=torch.float64)
    return [
        GaussianDenoiser(process, means[0], root @ root.T),
        MixtureDenoiser(process, torch.tensor([0.3, 0.7]), means, torch.tensor([0.5, 0.9])),
        EmpiricalDenoiser(process, torch.cat([means, -means])),
    ]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: repr(s)[:40])
@pytest.mark.parametrize("index", range(3 + len(get_args(Prediction))))
def test_equal_log_snr_means_equal_answers_up_to_scale(schedule: Schedule, index: int) -> None:
    """The log-SNR contract: states that differ by the schedules' scale alone have one posterior."""

    def denoiser(process: SDE) -> Denoiser:
        if index < 3:
            return closed_forms(process)[index]
        return NetworkDenoiser(Mixer(), process, get_args(Prediction)[index - 3], sigma_data=0.6)

    y = torch.randn(len(LOG_SNR), 3, dtype=torch.float64)
    means, noises = [], []
    for one in (EDMSchedule(1000.0), schedule):
        t = one.time(LOG_SNR)
        noise_level = one.log_snr(t)
        close(noise_level, LOG_SNR, 1e-11)
        posterior = denoiser(SDE(one))(one.alpha(t)[:, None] * y, t)
        means.append(posterior.mean)
        noises.append(posterior.eps)
    # eps divides the error of the mean by the noise ratio.
    close(means[0], means[1], 1e-11)
    close(noises[0], noises[1], 1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: repr(s)[:40])
def test_the_network_sees_unit_variance_and_its_noise_level(schedule: Schedule) -> None:
    network, d = Mixer(), 0.5
    denoiser = NetworkDenoiser(network, SDE(schedule), sigma_data=d)
    t = schedule.time(LOG_SNR[2:-2])
    x0, eps = d * torch.randn(5, 20_000, dtype=torch.float64), torch.randn(5, 20_000, dtype=torch.float64)
    denoiser(schedule.alpha(t)[:, None] * x0 + schedule.sigma(t)[:, None] * eps, t)
    assert ((network.x.var(1) - 1).abs() < 0.06).all()
    close(network.c.double(), -LOG_SNR[2:-2] / 8, 1e-6)
    assert network.c.dtype == torch.float32
    for one in t.tolist():
        denoiser(x0, one)
        assert network.c.shape == (5,)


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
@pytest.mark.parametrize("t", [0.3, torch.tensor([0.1, 0.9])])
def test_what_is_given_is_seen_as_clean_data(t: Any, sigma_data: float) -> None:
    seen = []
    network = lambda x, c, given: seen.append(x) or torch.zeros_like(x)  # noqa: E731
    denoiser = NetworkDenoiser(network, SDE(EDMSchedule()), sigma_data=sigma_data)
    x, given = torch.randn(2, 3, 4), torch.rand(2, 3) < 0.5
    denoiser(x, t, given=given)
    close(seen[0][given], x[given] / sigma_data)
    close(seen[0][~given], denoiser.inputs(x, t)[0][~given])


def test_preconditioning_is_karras_table_1() -> None:
    """c_in = 1 / sqrt(sigma^2 + d^2), c_noise = log(sigma) / 4, D = c_skip y + c_out F."""
    network, d, schedule = Mixer(), 0.5, EDMSchedule(80.0)
    x, t = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0.001, 0.01, 0.1, 0.9], dtype=torch.float64)
    sigma = (80 * t)[:, None]
    answer = NetworkDenoiser(network, SDE(schedule), "edm", d)(x, t).mean
    root = (sigma**2 + d**2).sqrt()
    close(network.x, x / root)
    close(network.c.double(), (80 * t).log() / 4, 1e-6)
    expected = d**2 / root**2 * x + sigma * d / root * network(x / root, network.c)
    close(answer, expected)


def test_noise_level_is_held_at_the_ends() -> None:
    network = Mixer()
    denoiser = NetworkDenoiser(network, SDE(FlowSchedule()), "v")
    for t, level in ((0.0, -2.5), (1.0, 2.5), (1e-300, -2.5)):
        assert denoiser(torch.randn(2, 3), t).mean.isfinite().all()
        assert network.c.tolist() == [level] * 2
        denoiser(torch.randn(2, 3), torch.full((2,), t))
        assert network.c.tolist() == [level] * 2


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: repr(s)[:40])
@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_one_time_and_many_give_one_answer(schedule: Schedule, prediction: Prediction) -> None:
    denoiser = NetworkDenoiser(Mixer(), SDE(schedule), prediction, 0.6)
    x = torch.randn(3, 3, dtype=torch.float64)
    expected = denoiser(x, 0.4)
    for t in (torch.tensor(0.4, dtype=torch.float64), torch.full((3,), 0.4, dtype=torch.float64)):
        posterior = denoiser(x, t)
        for name in ("mean", "eps", "score", "velocity"):
            close(getattr(posterior, name), getattr(expected, name), 1e-9)
    for a, b in ((0.0, 1.0), (1.0, 0.0), (1.0, -0.5), (0.3, 0.7)):
        close(expected.affine(a, b), a * x + b * expected.mean)
        close(expected.combine(a, b), a * expected.mean + b * expected.eps, 1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "t", [0.4, torch.tensor(0.4), torch.tensor([0.4] * 2), torch.tensor([0.4] * 2, dtype=torch.float64)]
)
def test_the_state_keeps_its_precision(dtype: torch.dtype, t: Any) -> None:
    for denoiser in (*closed_forms(SDE(CosineSchedule())), NetworkDenoiser(Mixer(), SDE(CosineSchedule()))):
        posterior = denoiser(torch.randn(2, 3, dtype=dtype), t)
        for name in ("mean", "eps", "score", "velocity"):
            assert getattr(posterior, name).dtype == dtype, name


def test_a_bfloat16_network_costs_little_under_a_float32_state() -> None:
    torch.manual_seed(0)
    network = Perceptron()
    exact = NetworkDenoiser(network, SDE(CosineSchedule()))
    low = NetworkDenoiser(copy.deepcopy(network).bfloat16(), SDE(CosineSchedule()))
    x = torch.randn(64, 3)
    a, b = exact(x, 0.5).mean, low(x, 0.5).mean
    assert b.dtype == torch.float32
    assert 1e-6 < (a - b).abs().max() < 0.05
    with torch.autocast("cpu", torch.bfloat16):
        c = exact(x, 0.5).mean
    assert c.dtype == torch.float32
    assert (a - c).abs().max() < 0.05


def test_networks_with_integer_weights_or_none_take_the_dtype_of_the_state() -> None:
    class Quantised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, dtype=torch.int8), requires_grad=False)

        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            self.dtype = x.dtype
            return x * self.weight

    network = Quantised()
    assert NetworkDenoiser(network, SDE(CosineSchedule()))(torch.randn(2, 3), 0.5).mean.dtype == torch.float32
    assert network.dtype == torch.float32


def test_conditions_reach_the_network_by_name() -> None:
    network = Mixer()
    label = torch.tensor([3, -1])
    NetworkDenoiser(network, SDE(CosineSchedule()))(torch.randn(2, 3), 0.5, label=label)
    assert torch.equal(network.condition["label"], label)


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_gradients_flow_to_state_and_weights(prediction: Prediction) -> None:
    network = Perceptron()
    x = torch.randn(4, 3, requires_grad=True)
    denoiser = NetworkDenoiser(network, SDE(CosineSchedule()), prediction)
    posterior = denoiser(x, torch.rand(4))
    (posterior.mean.sum() + posterior.eps.sum()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_a_posterior_without_variance_says_so() -> None:
    process = SDE(CosineSchedule())
    x = torch.randn(2, 3)
    posterior = NetworkDenoiser(Mixer(), process)(x, 0.5)
    with pytest.raises(AttributeError, match="LinearPosterior holds no variance"):
        _ = posterior.variance
    level = process.level(0.5)
    with pytest.raises(AttributeError, match="no variance"):
        _ = GaussianPosterior(x, process, level, x).variance
    assert GaussianPosterior(x, process, level, x, torch.tensor(2.0)).variance == 2


def test_eps_and_score_of_clean_data_are_refused() -> None:
    process, x = SDE(CosineSchedule()), torch.randn(2, 3)
    posterior = GaussianPosterior(x, process, process.level(0.0), x)
    with pytest.raises(ValueError, match="eps at sigma = 0"):
        _ = posterior.eps
    with pytest.raises(ValueError, match="sigma = 0"):
        _ = posterior.score
    close(posterior.affine(0.5, 0.5), x, 1e-6)


def test_results_are_new_tensors() -> None:
    process, x = SDE(CosineSchedule()), torch.randn(2, 3)
    for posterior in (
        NetworkDenoiser(Mixer(), process)(x, 0.5),
        GaussianPosterior(x, process, process.level(0.5), x + 1),
    ):
        kept, mean = x.clone(), posterior.mean.clone()
        for a, b in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5)):
            posterior.affine(a, b).add_(100)
            posterior.combine(a, b).add_(100)
        assert torch.equal(x, kept)
        assert torch.equal(posterior.mean, mean)


def test_configuration_round_trip() -> None:
    denoiser = NetworkDenoiser(MLP(3), SDE(ShiftedSchedule(VPSchedule(), 2.0)), "edm", 0.5)
    rebuilt = from_config(to_config(denoiser), Denoiser)
    assert to_config(rebuilt) == to_config(denoiser)
    rebuilt.load_state_dict(denoiser.state_dict())
    x = torch.randn(2, 3)
    assert torch.equal(rebuilt(x, 0.3).mean, denoiser(x, 0.3).mean)


def test_a_denoiser_needs_a_process() -> None:
    with pytest.raises(TypeError, match="expected a forward process"):
        NetworkDenoiser(Mixer(), CosineSchedule())  # type: ignore[arg-type]
