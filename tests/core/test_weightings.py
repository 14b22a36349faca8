"""Weights against the papers' formulas, in terms of the error of what each paper's network predicts."""

import math

import pytest
import torch
from torch import Tensor

from ornstein.core import (
    CosineSchedule,
    EDMSchedule,
    EDMWeighting,
    FlowSchedule,
    LikelihoodWeighting,
    MinSNRWeighting,
    Parameterisation,
    SigmoidSchedule,
    SigmoidWeighting,
    SNRWeighting,
    TruncatedSNRWeighting,
    UniformWeighting,
    VESchedule,
    VPSchedule,
    Weighting,
)

T = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)


def weight(weighting: Weighting, schedule: object, of: str = "x0", t: Tensor = T) -> Tensor:
    """The weight on the squared error of a prediction."""
    log_snr = schedule.log_snr(t)  # type: ignore[attr-defined]
    log_weight = weighting.log_weight(schedule, t, log_snr)  # type: ignore[arg-type]
    return (log_weight + Parameterisation(of).log_gain(log_snr)).exp()  # type: ignore[arg-type]


def close(actual: Tensor, expected: Tensor | float) -> None:
    torch.testing.assert_close(
        actual, torch.as_tensor(expected, dtype=torch.float64).expand_as(actual), rtol=1e-11, atol=0
    )


@pytest.mark.parametrize("of", ["eps", "x0", "v", "score", "flow", "edm"])
@pytest.mark.parametrize("schedule", [VPSchedule(), FlowSchedule(), EDMSchedule()], ids=repr)
def test_uniform_is_one_on_what_it_names(of: str, schedule: object) -> None:
    close(weight(UniformWeighting(of), schedule, of), 1.0)  # type: ignore[arg-type]


def test_snr_weightings_are_those_of_salimans_and_hang() -> None:
    schedule = VPSchedule()
    snr = schedule.log_snr(T).exp()
    close(weight(SNRWeighting(), schedule), snr)
    close(weight(SNRWeighting(), schedule, "eps"), 1.0)
    close(weight(TruncatedSNRWeighting(), schedule), snr.clamp(min=1))
    close(weight(MinSNRWeighting(5.0), schedule), snr.clamp(max=5))
    close(weight(MinSNRWeighting(5.0), schedule, "eps"), (5 / snr).clamp(max=1))
    close(weight(MinSNRWeighting(5.0), schedule, "v"), snr.clamp(max=5) / (snr + 1))
    # Salimans and Ho: equal weight on v is SNR + 1 on x0.
    close(weight(UniformWeighting("v"), schedule), snr + 1)


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_edm_is_karras_table_1(sigma_data: float) -> None:
    schedule = EDMSchedule(80.0)
    sigma = 80 * T
    close(weight(EDMWeighting(sigma_data), schedule), (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2)
    close(weight(EDMWeighting(sigma_data), schedule), weight(UniformWeighting("edm", sigma_data), schedule))


@pytest.mark.parametrize("schedule", [VPSchedule(), CosineSchedule(), VESchedule(), FlowSchedule()], ids=repr)
def test_likelihood_is_half_the_fall_of_snr_and_song_g_squared(schedule: object) -> None:
    t = T.clone().requires_grad_()
    snr = schedule.log_snr(t).exp()  # type: ignore[attr-defined]
    (slope,) = torch.autograd.grad(snr.sum(), t)
    actual = weight(LikelihoodWeighting(), schedule)
    torch.testing.assert_close(actual, -0.5 * slope, rtol=1e-9, atol=0)
    # Kingma and Gao: on eps, in log-SNR, the weight is 1: -dlogSNR/dt / 2.
    on_eps = weight(LikelihoodWeighting(), schedule, "eps")
    torch.testing.assert_close(on_eps, -0.5 * schedule.d_log_snr(T), rtol=1e-11, atol=0)  # type: ignore[attr-defined]


def test_sigmoid_is_kingma_and_gao() -> None:
    schedule = FlowSchedule()
    factor = weight(SigmoidWeighting(1.5), schedule) / weight(LikelihoodWeighting(), schedule)
    close(factor, torch.sigmoid(1.5 - schedule.log_snr(T)))


@pytest.mark.parametrize("weighting", [LikelihoodWeighting(), SigmoidWeighting()], ids=repr)
def test_the_rate_of_snr_is_regular_at_zero_snr(weighting: Weighting) -> None:
    """dSNR/dt has a limit at t = 1: 0 for cosine, and -alpha alpha' > 0 where alpha^2 falls linearly (sigmoid)."""
    one = torch.ones(1, dtype=torch.float64)
    for schedule in (CosineSchedule(), FlowSchedule(), SigmoidSchedule()):
        at_end = weight(weighting, schedule, "v", one)
        before = weight(weighting, schedule, "v", one - 1e-9)
        assert at_end.isfinite()
        torch.testing.assert_close(at_end, before, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniformWeighting("epsilon"), "prediction='epsilon'"),  # type: ignore[arg-type]
        (lambda: UniformWeighting("edm", -1.0), r"sigma_data=-1\.0"),
        (lambda: MinSNRWeighting(0.0), r"gamma=0\.0"),
        (lambda: MinSNRWeighting(math.nan), "gamma=nan"),
        (lambda: EDMWeighting(math.inf), "sigma_data=inf"),
    ],
)
def test_bad_arguments_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
