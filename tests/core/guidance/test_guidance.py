"""Guided denoisers against closed forms: classifier, energy, autoguidance, dynamic thresholding."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ornstein.core import (
    DDIM,
    SDE,
    Autoguidance,
    ClassifierFreeGuidance,
    ClassifierGuidance,
    CosineSchedule,
    Denoiser,
    DynamicThresholding,
    EDMSchedule,
    EnergyGuidance,
    FixedCondition,
    FlowSchedule,
    GaussianDenoiser,
    GaussianPosterior,
    LabelClassifier,
    NetworkDenoiser,
    Posterior,
    Schedule,
    VESchedule,
)
from ornstein.core.config import from_config, to_config
from ornstein.core.nn import MLP
from ornstein.core.schedules import Time
from ornstein.core.testing import anisotropic_gaussian

SCHEDULES = [CosineSchedule(), FlowSchedule(), VESchedule(), EDMSchedule()]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
X = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TIMES = [0.05, 0.5, 0.9, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)]


class Counted(Denoiser):
    """Counts the calls of another denoiser."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner.process)
        self.inner, self.calls = inner, 0

    def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Posterior:
        self.calls += 1
        self.condition = condition
        return self.inner(x_t, t, **condition)


class Regressor:
    """The exact ``log p(y | x_t)`` of ``y = row x_0 + noise`` for Gaussian data."""

    def __init__(self, prior: GaussianDenoiser, noise: float = 0.3) -> None:
        self.prior, self.row, self.noise = prior, torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64), noise

    def __call__(self, x_t: Tensor, t: Time, y: Tensor, **condition: Any) -> Tensor:
        level = self.prior.process.level(t).like(x_t)
        values, vectors = self.prior.values, self.prior.vectors
        w = level.alpha**2 * values + level.sigma**2
        along = self.row @ vectors
        variance = (along**2 * values * level.sigma**2 / w).sum(-1) + self.noise**2
        return torch.distributions.Normal(self.prior(x_t, t).mean @ self.row, variance.sqrt()).log_prob(y)

    def conditioned(self, y: float) -> GaussianDenoiser:
        """The denoiser of ``p(x_0 | y)``."""
        gain = self.prior.covariance @ self.row / (self.row @ self.prior.covariance @ self.row + self.noise**2)
        mean = self.prior.mean + gain * (y - self.row @ self.prior.mean)
        covariance = self.prior.covariance - torch.outer(gain, self.row @ self.prior.covariance)
        return GaussianDenoiser(self.prior.process, mean, 0.5 * (covariance + covariance.T))


# Classifier guidance.


@each_schedule
@pytest.mark.parametrize("t", TIMES, ids=str)
def test_guided_by_the_exact_classifier_it_is_the_conditional_denoiser(schedule: Schedule, t: Time) -> None:
    prior = anisotropic_gaussian(SDE(schedule))
    classifier = Regressor(prior)
    y = torch.full((5,), 1.7, dtype=torch.float64)
    guided = ClassifierGuidance(prior, classifier)(X, t, y=y)
    exact = classifier.conditioned(1.7)(X, t)
    for name in ("mean", "score", "eps"):
        torch.testing.assert_close(getattr(guided, name), getattr(exact, name), rtol=1e-8, atol=1e-8)


def test_the_scale_multiplies_the_gradient_alone() -> None:
    prior = anisotropic_gaussian(SDE(CosineSchedule()))
    classifier, y = Regressor(prior), torch.zeros(5, dtype=torch.float64)
    plain = prior(X, 0.5).score
    once, thrice = (ClassifierGuidance(prior, classifier, scale)(X, 0.5, y=y).score for scale in (1.0, 3.0))
    torch.testing.assert_close(thrice - plain, 3 * (once - plain), rtol=1e-9, atol=1e-9)


def test_a_run_guided_by_a_classifier_samples_the_conditional_distribution() -> None:
    """Under the sampler's no_grad; the end of each path is that of the exact conditional denoiser."""
    prior = anisotropic_gaussian(SDE(CosineSchedule()))
    classifier, counted = Regressor(prior), Counted(prior)
    y = torch.full((5,), -1.0, dtype=torch.float64)
    guided = ClassifierGuidance(counted, classifier, reserved=("y",))
    out = DDIM(20).sample(guided, X.shape, x=X, condition={"y": y})
    torch.testing.assert_close(out, DDIM(20).sample(classifier.conditioned(-1.0), X.shape, x=X), rtol=1e-7, atol=1e-7)
    assert counted.calls == 20
    assert counted.condition == {}
    assert not out.requires_grad


def test_the_classifier_gets_the_gradient_and_the_denoiser_none() -> None:
    class Opaque(Denoiser):
        def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Posterior:
            return GaussianPosterior(x_t, self.process, self.process.level(t), x_t.detach().sign())

    inner = Opaque(SDE(CosineSchedule()))
    guided = ClassifierGuidance(inner, lambda x, t: -0.5 * (x**2).sum(1))(X, 0.5)
    level = inner.process.level(0.5)
    torch.testing.assert_close(guided.mean, X.sign() - level.sigma**2 / level.alpha * X)


def test_a_guided_denoiser_can_be_differentiated() -> None:
    """As methods that go through the denoiser do; against finite differences."""
    prior = anisotropic_gaussian(SDE(CosineSchedule()))
    y = torch.zeros(5, dtype=torch.float64)
    for guided in (
        ClassifierGuidance(prior, Regressor(prior)),
        EnergyGuidance(prior, lambda mean: (mean**4).sum(1)),
    ):
        condition = {"y": y} if isinstance(guided, ClassifierGuidance) else {}
        assert torch.autograd.gradcheck(lambda x: guided(x, 0.5, **condition).mean, X.clone().requires_grad_())  # noqa: B023


def test_a_label_classifier_is_the_log_softmax_of_its_network() -> None:
    torch.manual_seed(0)
    weights, process = torch.randn(3, 4), SDE(VESchedule())
    network = nn.Linear(3, 4, bias=False)
    with torch.no_grad():
        network.weight.copy_(weights.T)
    seen: list[Tensor] = []

    class Wrapped(nn.Module):
        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            seen.append(c)
            return network(x)

    label = torch.tensor([0, 3, 2, 1, -1])
    value = LabelClassifier(Wrapped(), process)(X.float(), 0.4, label)
    sigma = float(process.level(0.4).sigma)
    scaled = X.float() / math.sqrt(sigma**2 + 1)
    expected = torch.log_softmax(scaled @ weights, 1)[torch.arange(5), label] * (label >= 0)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(seen[0], torch.full((5,), math.log(sigma) / 4))


# Energy guidance.


@each_schedule
@pytest.mark.parametrize("t", TIMES, ids=str)
def test_energy_guidance_is_the_gradient_through_the_denoiser(schedule: Schedule, t: Time) -> None:
    """For Gaussian data and ``E = k |x_0 - a|^2 / 2`` the gradient is ``k J^T (mean - a)`` with the known Jacobian."""
    prior = anisotropic_gaussian(SDE(schedule))
    a, k = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64), 0.7
    guided = EnergyGuidance(prior, lambda mean: 0.5 * k * ((mean - a) ** 2).sum(1), scale=1.5)(X, t)
    level = prior.process.level(t).like(X)
    gain = level.alpha * prior.values / (level.alpha**2 * prior.values + level.sigma**2)
    mean = prior(X, t).mean
    slope = k * (((mean - a) @ prior.vectors) * gain) @ prior.vectors.T
    torch.testing.assert_close(guided.mean, mean - 1.5 * level.sigma**2 / level.alpha * slope, rtol=1e-9, atol=1e-9)


def test_a_run_guided_by_an_energy_moves_towards_low_energy_and_calls_once_a_step() -> None:
    prior = anisotropic_gaussian(SDE(FlowSchedule()))
    counted = Counted(prior)
    a = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    guided = EnergyGuidance(counted, lambda mean: 2 * ((mean - a) ** 2).sum(1))
    out = DDIM(25).sample(guided, (200, 3), seed=0)
    plain = DDIM(25).sample(prior, (200, 3), seed=0)
    assert counted.calls == 25
    assert ((out - a) ** 2).sum(1).mean() < 0.6 * ((plain - a) ** 2).sum(1).mean()
    assert not out.requires_grad


def test_energy_guidance_acts_in_its_interval() -> None:
    prior = anisotropic_gaussian(SDE(FlowSchedule()))
    guided = EnergyGuidance(prior, lambda mean: (mean**2).sum(1), interval=(0.2, 0.6))
    assert torch.equal(guided(X, 0.9).mean, prior(X, 0.9).mean)
    t = torch.tensor([0.1, 0.2, 0.4, 0.6, 0.7], dtype=torch.float64)
    moved = (guided(X, t).mean != prior(X, t).mean).any(1)
    assert moved.tolist() == [False, True, True, True, False]


def test_gradients_say_when_they_cannot_steer() -> None:
    prior = anisotropic_gaussian(SDE(CosineSchedule()))
    with pytest.raises(ValueError, match="alpha = 0"):
        EnergyGuidance(prior, lambda mean: (mean**2).sum(1))(X, 1.0)
    with pytest.raises(ValueError, match=r"alpha = 0"):
        ClassifierGuidance(prior, lambda x, t: (x**2).sum(1))(X, 1.0)
    with pytest.raises(ValueError, match=r"energy returned shape \(\)"):
        EnergyGuidance(prior, lambda mean: (mean**2).sum())(X, 0.5)
    with pytest.raises(ValueError, match=r"classifier returned shape \(5, 3\)"):
        ClassifierGuidance(prior, lambda x, t: x**2)(X, 0.5)


# Autoguidance.


def test_autoguidance_goes_beyond_the_better_denoiser() -> None:
    process = SDE(CosineSchedule())
    better, weaker = anisotropic_gaussian(process), GaussianDenoiser(process, torch.zeros(3), torch.eye(3))
    for t in TIMES:
        guided = Autoguidance(better, weaker, 2.5)(X, t)
        for name in ("mean", "eps", "score"):
            a, b = (getattr(one(X, t), name) for one in (better, weaker))
            torch.testing.assert_close(getattr(guided, name), b + 2.5 * (a - b), rtol=1e-10, atol=1e-10)
    inner = Counted(weaker)
    assert torch.equal(Autoguidance(better, inner, 1.0)(X, 0.5).mean, better(X, 0.5).mean)
    assert torch.equal(Autoguidance(better, inner, 2.0, (0.1, 0.3))(X, 0.5).mean, better(X, 0.5).mean)
    assert inner.calls == 0
    t = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    part = Autoguidance(better, weaker, 2.0, (0.3, 0.7))(X, t).mean
    assert ((part != better(X, t).mean).any(1)).tolist() == [False, True, True, True, False]


def test_autoguidance_gives_both_the_conditions_and_refuses_two_schedules() -> None:
    process = SDE(CosineSchedule())
    pair = [Counted(anisotropic_gaussian(process)) for _ in range(2)]
    label = torch.zeros(5, dtype=torch.int64)
    Autoguidance(*pair)(X, 0.5, label=label)
    assert all(one.condition["label"] is label for one in pair)
    same = anisotropic_gaussian(SDE(CosineSchedule()))
    Autoguidance(pair[0], same)
    with pytest.raises(ValueError, match="expected one schedule"):
        Autoguidance(pair[0], anisotropic_gaussian(SDE(FlowSchedule())))


# Dynamic thresholding.


@pytest.mark.parametrize("quantile", [0.5, 0.995, 1.0])
@pytest.mark.parametrize("bound", [1.0, 0.7])
def test_dynamic_thresholding_is_imagens(quantile: float, bound: float) -> None:
    class Far(Denoiser):
        def forward(self, x_t: Tensor, t: Time, **condition: Any) -> Posterior:
            return GaussianPosterior(x_t, self.process, self.process.level(t), x_t)

    x = torch.randn(6, 3, 20, dtype=torch.float64) * torch.tensor([0.1, 0.5, 1, 2, 4, 8]).reshape(-1, 1, 1)
    mean = DynamicThresholding(Far(SDE(CosineSchedule())), quantile, bound)(x, 0.5).mean
    for row, out in zip(x.numpy(), mean.numpy()):
        size = max(float(np.quantile(np.abs(row), quantile)), bound)
        np.testing.assert_allclose(out, np.clip(row, -size, size) * bound / size, rtol=1e-12)
    assert mean.abs().max() <= bound + 1e-12
    inside = x[0] if x[0].abs().max() <= bound else x[0] * 0
    assert torch.equal(
        DynamicThresholding(Far(SDE(CosineSchedule())), quantile, bound)(inside[None], 0.5).mean[0], inside
    )


# Configurations.


def network_denoiser() -> NetworkDenoiser:
    torch.manual_seed(0)
    return NetworkDenoiser(MLP(3, width=8, depth=1, classes=4), SDE(CosineSchedule()))


def test_guided_denoisers_come_back_from_their_configuration() -> None:
    denoiser = network_denoiser()
    for guided in (
        ClassifierFreeGuidance(denoiser, 3.0, unconditional={"label": torch.tensor([3])}),
        FixedCondition(denoiser, {"label": 2}),
        Autoguidance(FixedCondition(denoiser, {"label": torch.arange(5) % 4}), network_denoiser(), 2.0, (0.1, 0.9)),
        DynamicThresholding(denoiser, 0.9, 2.0),
        ClassifierGuidance(denoiser, LabelClassifier(MLP(3, width=8, depth=1), denoiser.process), reserved=("label",)),
    ):
        again = from_config(json.loads(json.dumps(to_config(guided))), Denoiser)
        assert to_config(again) == to_config(guided)
        again.load_state_dict(guided.state_dict())
        label = torch.tensor([0, 1, 2, 0, 1])
        x = X.float()
        torch.testing.assert_close(again(x, 0.5, label=label).mean, guided(x, 0.5, label=label).mean)


def test_a_negative_condition_of_one_row_serves_all_samples() -> None:
    denoiser, label = network_denoiser(), torch.tensor([0, 1, 2, 0, 1])
    for negative in (torch.tensor(3), torch.tensor([3]), torch.full((5,), 3)):
        guided = ClassifierFreeGuidance(denoiser, 2.0, unconditional={"label": negative})
        with_, without = (denoiser(X.float(), 0.5, label=one).mean for one in (label, torch.full((5,), 3)))
        torch.testing.assert_close(guided(X.float(), 0.5, label=label).mean, 2 * with_ - without, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: EnergyGuidance(d, lambda x: x, interval=(0.5, 0.5)), "interval="),
        (lambda d: Autoguidance(d, d, interval=(0.5, 1.5)), "interval="),
        (lambda d: DynamicThresholding(d, 0.0), r"quantile=0\.0"),
        (lambda d: DynamicThresholding(d, bound=-1.0), r"bound=-1\.0"),
    ],
)
def test_bad_arguments_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(anisotropic_gaussian(SDE(CosineSchedule())))
