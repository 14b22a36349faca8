"""What networks predict: conversions, targets, limits and the gains that relate the losses (float64, to 1e-12)."""

import itertools
import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    SDE,
    CosineSchedule,
    EDMSchedule,
    FlowSchedule,
    LinearPosterior,
    MinSNRWeighting,
    Parameterisation,
    Prediction,
    SubVPSchedule,
    VESchedule,
    VPSchedule,
)

PREDICTIONS = get_args(Prediction)
SCHEDULES = [VPSchedule(), SubVPSchedule(), CosineSchedule(), VESchedule(), EDMSchedule(), FlowSchedule()]
T = torch.linspace(0.05, 0.95, 13, dtype=torch.float64)
X0 = torch.randn(13, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
EPS = torch.randn(13, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize(("first", "second"), list(itertools.product(PREDICTIONS, PREDICTIONS)))
def test_every_conversion_is_a_round_trip(schedule: object, first: Prediction, second: Prediction) -> None:
    """An arbitrary network output, read as one prediction, restated as the other, and back."""
    process = SDE(schedule)  # type: ignore[arg-type]
    level, x_t = process.level(T), X0
    shaped = level.like(x_t)
    one, other = (Parameterisation(p, 0.5) for p in (first, second))
    read = LinearPosterior(x_t, process, level, EPS, one)
    restated = LinearPosterior(x_t, process, level, other.target(read.mean, read.eps, shaped), other)
    back = one.target(restated.mean, restated.eps, shaped)
    # Conditioning: eps at noise ratio r carries errors of x0 divided by r, and the other way round.
    ratio = (shaped.sigma / shaped.alpha).clamp(min=1) * (shaped.alpha / shaped.sigma).clamp(min=1)
    assert ((back - EPS).abs() <= 1e-12 * (1 + ratio * ratio * 10)).all()
    assert ((restated.mean - read.mean).abs() <= 1e-12 * (1 + 10 * read.mean.abs() * ratio)).all()
    close(shaped.alpha * read.mean + shaped.sigma * read.eps, x_t, 1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_targets_are_what_linear_inverts(schedule: object, prediction: Prediction) -> None:
    process = SDE(schedule)  # type: ignore[arg-type]
    level = process.level(T)
    shaped = level.like(X0)
    x_t = shaped.alpha * X0 + shaped.sigma * EPS
    parameterisation = Parameterisation(prediction, 0.5)
    posterior = LinearPosterior(x_t, process, level, parameterisation.target(X0, EPS, shaped), parameterisation)
    close(posterior.mean, X0, 1e-9)
    close(posterior.eps, EPS, 1e-9)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_floats_and_tensors_agree(prediction: Prediction) -> None:
    process, parameterisation = SDE(SubVPSchedule()), Parameterisation(prediction, 0.7)
    one = parameterisation.linear(process.level(0.3))
    many = parameterisation.linear(process.level(torch.tensor([0.3], dtype=torch.float64)))
    for number, tensor in zip(one, many, strict=True):
        assert torch.as_tensor(tensor).item() == pytest.approx(number, rel=1e-13, abs=1e-15)


def test_the_tables_of_the_papers() -> None:
    """At alpha = 0.6, sigma = 0.8: Ho eq. 12, Salimans and Ho appendix D, Song eq. 7, Liu eq. 1."""
    level = SDE(FlowSchedule()).level(0.5)._replace(alpha=0.6, sigma=0.8)
    x0, eps = torch.tensor([2.0], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)
    x_t = 0.6 * x0 + 0.8 * eps
    expected = {"eps": -1.0, "x0": 2.0, "v": 0.6 * -1 - 0.8 * 2, "score": 1 / 0.8, "flow": -3.0}
    for prediction, value in expected.items():
        parameterisation = Parameterisation(prediction)  # type: ignore[arg-type]
        assert parameterisation.target(x0, eps, level).item() == pytest.approx(value)
        p, q, r, u = parameterisation.linear(level)
        assert (p * x_t + q * value).item() == pytest.approx(2.0)
        assert (r * x_t + u * value).item() == pytest.approx(-1.0)


@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 3.0])
def test_edm_is_karras_table_1(sigma_data: float) -> None:
    process, d = SDE(EDMSchedule(80.0)), sigma_data
    level = process.level(T)
    sigma = level.sigma
    p, q, _, _ = Parameterisation("edm", d).linear(level)
    close(p, d**2 / (sigma**2 + d**2))
    close(q, sigma * d / (sigma**2 + d**2).sqrt())
    # Eq. 8's training target of F: (y - c_skip (y + n)) / c_out.
    shaped = level.like(X0)
    noisy = X0 + shaped.sigma * EPS
    target = Parameterisation("edm", d).target(X0, EPS, shaped)
    close(target, (X0 - p[:, None] * noisy) / q[:, None], 1e-9)


def test_edm_at_unit_data_is_minus_v() -> None:
    for schedule in SCHEDULES:
        level = SDE(schedule).level(T)
        shaped = level.like(X0)
        close(Parameterisation("edm").target(X0, EPS, shaped), -Parameterisation("v").target(X0, EPS, shaped))
        edm, v = Parameterisation("edm").linear(level), Parameterisation("v").linear(level)
        for a, b, sign in zip(edm, v, (1, -1, 1, -1), strict=True):
            close(a, sign * b)


def test_flow_is_the_velocity_of_the_straight_path_and_v_of_the_trigonometric() -> None:
    for schedule, prediction, rate in ((FlowSchedule(), "flow", 1.0), (CosineSchedule(0.0), "v", math.pi / 2)):
        process = SDE(schedule)
        level = process.level(T)
        posterior = LinearPosterior(X0, process, level, EPS, Parameterisation(prediction))  # type: ignore[arg-type]
        close(posterior.velocity, rate * EPS, 1e-10)


# Singular ends.


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule()], ids=repr)
def test_limits_at_pure_noise(schedule: object) -> None:
    process = SDE(schedule)  # type: ignore[arg-type]
    level, x_t = process.level(1.0), EPS  # alpha = 0, sigma = 1
    for prediction in ("v", "flow", "edm", "x0"):
        parameterisation = Parameterisation(prediction, 0.5)  # type: ignore[arg-type]
        posterior = LinearPosterior(x_t, process, level, parameterisation.target(X0, EPS, level), parameterisation)
        close(posterior.mean, X0)
        close(posterior.eps, EPS)
        close(posterior.score, -EPS)
    for prediction in ("eps", "score"):
        parameterisation = Parameterisation(prediction)  # type: ignore[arg-type]
        posterior = LinearPosterior(x_t, process, level, parameterisation.target(X0, EPS, level), parameterisation)
        close(posterior.eps, EPS)
        with pytest.raises(ValueError, match=f"prediction='{prediction}' at alpha = 0"):
            _ = posterior.mean
        with pytest.raises(ValueError, match="alpha = 0"):
            posterior.affine(0.5, 0.5)


@pytest.mark.parametrize("schedule", [CosineSchedule(), FlowSchedule(), EDMSchedule()], ids=repr)
def test_limits_at_clean_data(schedule: object) -> None:
    process = SDE(schedule)  # type: ignore[arg-type]
    level = process.level(0.0)  # alpha = 1, sigma = 0
    for prediction in ("eps", "v", "flow", "edm", "x0"):
        parameterisation = Parameterisation(prediction, 0.5)  # type: ignore[arg-type]
        posterior = LinearPosterior(X0, process, level, parameterisation.target(X0, EPS, level), parameterisation)
        close(posterior.mean, X0)
        with pytest.raises(ValueError, match="score at sigma = 0"):
            _ = posterior.score
        if prediction == "x0":
            with pytest.raises(ValueError, match="prediction='x0' at sigma = 0"):
                _ = posterior.eps
            close(posterior.combine(1.0, 0.0), X0)
        else:
            close(posterior.eps, EPS)
    with pytest.raises(ValueError, match="score's scale is infinite"):
        Parameterisation("score").target(X0, EPS, level)
    close(LinearPosterior(X0, process, level, EPS, Parameterisation("score")).mean, X0)


# Gains: F6 of the reference tests.


def errors(process: SDE, prediction: Prediction, sigma_data: float = 0.5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Squared errors per sample of F, x0 and eps of a random network output, and log-SNR."""
    level = process.level(T)
    shaped = level.like(X0)
    x_t = shaped.alpha * X0 + shaped.sigma * EPS
    output = torch.randn(X0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    parameterisation = Parameterisation(prediction, sigma_data)
    posterior = LinearPosterior(x_t, process, level, output, parameterisation)
    target = parameterisation.target(X0, EPS, shaped)
    pairs = ((output, target), (posterior.mean, X0), (posterior.eps, EPS))
    f, x0, eps = (((a - b) ** 2).sum(1) for a, b in pairs)
    return f, x0, eps, torch.as_tensor(level.log_snr)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 2.0])
def test_the_gain_is_the_ratio_of_squared_errors(schedule: object, prediction: Prediction, sigma_data: float) -> None:
    f, x0, eps, log_snr = errors(SDE(schedule), prediction, sigma_data)  # type: ignore[arg-type]
    close(x0 / f, Parameterisation(prediction, sigma_data).log_gain(log_snr).exp(), 1e-9)
    close(eps / x0, log_snr.exp(), 1e-9)


def test_gains_are_the_identities_of_the_papers() -> None:
    log_snr = torch.linspace(-30, 30, 61, dtype=torch.float64)
    snr = log_snr.exp()

    def gain(prediction: Prediction, sigma_data: float = 1.0) -> Tensor:
        return Parameterisation(prediction, sigma_data).log_gain(log_snr).exp()

    close(gain("eps"), 1 / snr)
    close(gain("v"), 1 / (1 + snr))
    close(gain("x0"), torch.ones_like(snr))
    close(gain("flow"), 1 / (1 + snr.sqrt()) ** 2)
    variance = 1 / snr  # sigma^2 at alpha = 1
    for d in (0.3, 1.0, 2.5):
        close(gain("edm", d), variance * d**2 / (variance + d**2))


def test_velocity_loss_is_the_rate_of_log_snr_times_the_data_loss() -> None:
    """FM velocity loss = x0 loss (alpha d lambda / dt)^2, lambda = log(alpha / sigma), derivatives by autograd."""
    for schedule in (FlowSchedule(), CosineSchedule(0.0), VPSchedule(), VESchedule()):
        process = SDE(schedule)
        level = process.level(T)
        shaped = level.like(X0)
        x_t = shaped.alpha * X0 + shaped.sigma * EPS
        posterior = LinearPosterior(x_t, process, level, 0.3 * X0 - EPS, Parameterisation("v"))
        t = T.clone().requires_grad_()
        alpha, sigma = schedule.alpha(t) + 0 * t, schedule.sigma(t)
        d_alpha, d_sigma, rate = (
            torch.autograd.grad(value.sum(), t, retain_graph=True)[0]
            for value in (alpha, sigma, alpha.log() - sigma.log())
        )
        truth = d_alpha[:, None] * X0 + d_sigma[:, None] * EPS
        velocity_loss = ((posterior.velocity - truth) ** 2).sum(1)
        data_loss = ((posterior.mean - X0) ** 2).sum(1)
        close(velocity_loss, data_loss * (alpha.detach() * rate) ** 2, 1e-9)
        if isinstance(schedule, FlowSchedule):
            close(velocity_loss, data_loss / T**2, 1e-9)


def test_min_snr_is_one_weight_for_eps_x0_and_v() -> None:
    """Hang et al.: min(SNR, 5) divided by SNR for eps, 1 for x0, SNR + 1 for v."""
    process = SDE(VPSchedule())
    log_snr = process.schedule.log_snr(T)
    snr = log_snr.exp()
    weight = MinSNRWeighting(5.0).log_weight(process.schedule, T, log_snr).exp()
    close(weight, snr.clamp(max=5))
    for prediction, divisor in (("eps", snr), ("x0", 1.0), ("v", snr + 1)):
        f, x0, _, _ = errors(process, prediction)  # type: ignore[arg-type]
        close(weight * x0, snr.clamp(max=5) / divisor * f, 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_gains_are_finite_at_infinite_log_snr(prediction: Prediction, dtype: torch.dtype) -> None:
    log_snr = torch.tensor([-math.inf, -60.0, 0.0, 60.0, math.inf], dtype=dtype)
    gain = Parameterisation(prediction, 0.5).log_gain(log_snr)
    assert gain.dtype == dtype
    assert gain.isfinite().all()
    reference = Parameterisation(prediction, 0.5).log_gain(log_snr.double())
    torch.testing.assert_close(gain.double(), reference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "", None, 1])
def test_unknown_predictions_are_named(prediction: object) -> None:
    with pytest.raises(ValueError, match="expected one of eps, x0, v, score, flow, edm"):
        Parameterisation(prediction)  # type: ignore[arg-type]


@pytest.mark.parametrize("sigma_data", [0.0, -1.0, math.inf, math.nan])
def test_sigma_data_is_positive(sigma_data: float) -> None:
    with pytest.raises(ValueError, match="sigma_data="):
        Parameterisation("edm", sigma_data)
