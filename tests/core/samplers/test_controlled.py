"""Plug-in control: fixed points, Adagrad, what it leaves alone, and the contract of samplers."""

import dataclasses
from typing import Any

import pytest
import torch
from embedded_problems import embeddings
from embedded_problems import exact as embedded
from torch import Tensor

import ornstein.core.conformance as conformance
from ornstein.core import (
    DDIM,
    DDPM,
    RK45,
    SDE,
    AnnealedLangevin,
    CosineSchedule,
    DPMSolver,
    Heun,
    PredictorCorrector,
    Restart,
    Sampler,
    UniformLogSNR,
    UniPC,
    Unmasking,
)
from ornstein.core.samplers import ControlledSampler
from ornstein.core.sdes import posterior_coefficients
from ornstein.core.testing import anisotropic_gaussian

DENOISER = anisotropic_gaussian(SDE(CosineSchedule()))
ROW = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
X = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
INNER = [DDPM(), DDIM(), Heun(), DPMSolver(), DPMSolver(order=3), UniPC(), PredictorCorrector(), AnnealedLangevin()]


def linear(x: Tensor, t: Any, **condition: Any) -> Tensor:
    return x @ ROW.to(x)


def coefficients(t: float, s: float) -> list[float]:
    times = torch.tensor([t, s], dtype=torch.float64)
    return [float(c) for c in posterior_coefficients(DENOISER.process.schedule, times[:1], times[1:])]


@pytest.mark.parametrize("inner", INNER, ids=lambda s: type(s).__name__)
def test_without_updates_it_is_the_sampler_itself(inner: Sampler) -> None:
    plain = dataclasses.replace(inner, steps=6, denoise=True)
    controlled = ControlledSampler(6, classifier=linear, sampler=inner, updates=0, denoise=True, grid=inner.grid)
    assert torch.equal(controlled.sample(DENOISER, X.shape, seed=1), plain.sample(DENOISER, X.shape, seed=1))
    late = dataclasses.replace(controlled, updates=3, until=1.0)
    assert torch.equal(late.sample(DENOISER, X.shape, seed=1), plain.sample(DENOISER, X.shape, seed=1))
    assert controlled.nfe(process=DENOISER.process) == plain.nfe(process=DENOISER.process)
    acting = dataclasses.replace(controlled, updates=3)
    assert not torch.allclose(acting.sample(DENOISER, X.shape, seed=1), plain.sample(DENOISER, X.shape, seed=1))


@pytest.mark.parametrize("fluency", [0.5, 2.0])
def test_many_updates_end_where_both_gradients_cancel(fluency: float) -> None:
    """``lambda (m - x) / g^2 + w = 0`` for ``p(x_s | x_t) = N(m, g^2)`` and ``log p(c | x) = w x``."""
    t, s = 0.7, 0.5
    a, b, g = coefficients(t, s)
    fixed = DENOISER(X, t).affine(a, b) + g**2 / fluency * ROW
    for inner in (DDPM(), DDIM(), DPMSolver()):
        sampler = ControlledSampler(classifier=linear, sampler=inner, updates=3000, rate=0.3, fluency=fluency)
        torch.testing.assert_close(sampler.step(DENOISER, X, t, s), fixed, rtol=0, atol=1e-6)


def test_updates_are_those_of_torchs_adagrad() -> None:
    t, s, fluency = 0.7, 0.5, 0.3
    a, b, g = coefficients(t, s)
    centre = DENOISER(X, t).affine(a, b)
    noise = torch.randn_like(X)
    x = (centre + g * noise).requires_grad_()
    optimiser = torch.optim.Adagrad([x], lr=0.2)
    for _ in range(4):
        optimiser.zero_grad()
        loss = -(linear(x, s).sum() - fluency * ((x - centre) ** 2).sum() / (2 * g**2))
        loss.backward()
        optimiser.step()
    sampler = ControlledSampler(classifier=linear, updates=4, rate=0.2, fluency=fluency)
    torch.testing.assert_close(sampler.step(DENOISER, X, t, s, noise=noise), x.detach(), rtol=1e-8, atol=1e-8)


def test_the_whole_run_moves_towards_what_is_wanted_and_fluency_holds_it_back() -> None:
    def score(**options: Any) -> float:
        sampler = ControlledSampler(20, classifier=linear, grid=UniformLogSNR(), **options)
        return float(linear(sampler.sample(DENOISER, (400, 3), seed=0), 0.0).mean())

    plain, free, held = score(updates=0), score(fluency=0.0), score(fluency=100.0)
    assert free > held > plain - 0.1
    assert free > plain + 1


def test_a_run_is_told_its_conditions_and_keeps_reserved_ones_from_the_denoiser() -> None:
    told: list[dict[str, Any]] = []

    class Strict(type(DENOISER)):  # type: ignore[misc]
        def forward(self, x_t: Tensor, t: Any) -> Any:
            return super().forward(x_t, t)

    def classifier(x: Tensor, t: float, label: Tensor) -> Tensor:
        told.append({"t": t, "label": label})
        return -((x[:, 0] - label) ** 2)

    strict = Strict(DENOISER.process, DENOISER.mean, DENOISER.covariance)
    label = torch.tensor([2.0, 2.0, -2.0, -2.0])
    sampler = ControlledSampler(30, classifier=classifier, reserved=("label",), fluency=0.0, denoise=True)
    out = sampler.sample(strict, (4, 3), seed=0, condition={"label": label})
    assert (out[:2, 0].mean() - out[2:, 0].mean()) > 1
    assert all(torch.equal(call["label"], label) for call in told)
    assert len({call["t"] for call in told}) == 29  # all but the step to clean data
    until = dataclasses.replace(sampler, until=0.5)
    told.clear()
    until.sample(strict, (4, 3), seed=0, condition={"label": label})
    assert min(call["t"] for call in told) >= 0.5


def test_padding_and_given_positions_are_left_alone() -> None:
    sampler = ControlledSampler(8, classifier=lambda x, t, **c: x.square().sum((1, 2)), rate=0.5)
    x, mask = torch.randn(4, 3, 3), torch.tensor([[True, True, False]]).repeat(4, 1)
    given = torch.tensor([[False, True, False]]).repeat(4, 1)
    out = sampler.sample(embedded(), x.shape, x=x, mask=mask, given=given, seed=0)
    assert (out[:, 2] == 0).all()
    assert torch.equal(out[:, 1], x[:, 1])


def test_embedded_categories_are_controlled() -> None:
    """Towards a category in the first position, by the classifier of noisy states."""
    denoiser, table = embedded(), embeddings()

    def classifier(x: Tensor, t: Any) -> Tensor:
        return 3 * denoiser(x, t).logits.log_softmax(-1)[:, 0, 3]

    controlled = ControlledSampler(30, classifier=classifier, fluency=0.001, rate=0.1)
    share = [
        (table.round(sampler.sample(denoiser, (300, 3, 3), seed=0).double())[:, 0] == 3).double().mean()
        for sampler in (dataclasses.replace(controlled, updates=0), controlled)
    ]
    assert share[1] > 0.9 > share[0] + 0.2


@pytest.mark.parametrize("inner", [DDPM(), DPMSolver()], ids=lambda s: type(s).__name__)
def test_it_keeps_the_contract_of_samplers(inner: Sampler) -> None:
    sampler = ControlledSampler(classifier=lambda x, t, **c: x.sum(1), sampler=inner)
    conformance.test_sampler_depends_on_seed_and_sample_alone(sampler)
    conformance.test_sampler_is_stochastic_if_it_says_so(sampler)
    conformance.test_sampler_keeps_padding_zero_and_the_start_as_it_was(sampler)
    for grid in (UniformLogSNR(), inner.grid):
        conformance.test_sampler_calls_the_denoiser_as_often_as_it_declares(sampler, 5, grid)
    for schedule in (CosineSchedule(), CosineSchedule(s=0.0)):
        conformance.test_sampler_lands_on_data_of_one_point(sampler, schedule)
    assert sampler.order == inner.order
    assert ControlledSampler(classifier=linear).needs_gradient is False


def test_bad_arguments_are_refused() -> None:
    for inner in (RK45(), Restart(), Unmasking()):
        with pytest.raises(ValueError, match="sampler="):
            ControlledSampler(classifier=linear, sampler=inner)
    with pytest.raises(ValueError, match="updates"):
        ControlledSampler(classifier=linear, updates=-1)
    with pytest.raises(ValueError, match="rate"):
        ControlledSampler(classifier=linear, rate=0.0)
    with pytest.raises(ValueError, match="classifier="):
        ControlledSampler(classifier=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one number a sample"):
        ControlledSampler(4, classifier=lambda x, t: x).sample(DENOISER, X.shape)
