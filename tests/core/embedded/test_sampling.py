"""Sampling embedded categories: self-conditioning through samplers and guidance, clamping, guidance by gradients."""

from typing import Any

import pytest
import torch
from embedded_problems import embeddings, exact, joint, networked
from torch import Tensor

from ornstein.core import (
    DDIM,
    DDPM,
    RK45,
    SDE,
    AdaptiveSDE,
    Autoguidance,
    ClassifierFreeGuidance,
    ClassifierGuidance,
    Denoiser,
    DPMSolver,
    DPMSolverAdaptive,
    EnergyGuidance,
    FixedCondition,
    Heun,
    IndependentDenoisers,
    ProductSampler,
    Sampler,
    SampleStep,
    UniPC,
    VESchedule,
)
from ornstein.core.denoisers import self_conditioned
from ornstein.core.embedded import EmbeddedPosterior, EmbeddingTable, EnumeratedEmbeddedDenoiser, SqrtSchedule
from ornstein.core.guidance import ClampedDenoiser

SHAPE = (4, 3, 3)


class Remembered(Denoiser):
    """Answers with what another denoiser says, and remembers states, estimates and means."""

    def __init__(self, inner: Denoiser, self_conditioning: bool = True) -> None:
        super().__init__(inner.process)
        self.inner, self.self_conditioning = inner, self_conditioning
        self.calls: list[dict[str, Any]] = []

    def forward(self, x_t: Tensor, t: Any, **condition: Any) -> Any:
        answer = self.inner(x_t, t, **condition)
        self.calls.append({"x": x_t, "mean": answer.mean, **condition})
        return answer


# Self-conditioning.


@pytest.mark.parametrize(
    "sampler",
    [DDIM(5), DDPM(5), Heun(5), DPMSolver(5, order=2), DPMSolver(6, order=3, eta=1.0), UniPC(5),
     RK45(5, rtol=0.1, atol=0.1), AdaptiveSDE(5, rtol=1.0, atol=1.0), DPMSolverAdaptive(5, rtol=0.1),
     DDIM(4, denoise=True)],
    ids=lambda s: type(s).__name__,
)  # fmt: skip
def test_every_evaluation_is_told_the_mean_of_the_one_before(sampler: Sampler) -> None:
    denoiser = Remembered(exact())
    for _ in range(2):  # nothing stays from one run to the next
        denoiser.calls.clear()
        sampler.sample(denoiser, SHAPE, seed=0)
        assert len(denoiser.calls) > 4
        assert "estimate" not in denoiser.calls[0]
        for before, call in zip(denoiser.calls, denoiser.calls[1:]):
            # A method with error control may ask what has no answer about samples that are done.
            torch.testing.assert_close(call["estimate"], before["mean"], rtol=0, atol=0, equal_nan=True)
    quiet = Remembered(exact(), self_conditioning=False)
    sampler.sample(quiet, SHAPE, seed=0)
    assert all("estimate" not in call for call in quiet.calls)


def test_a_run_begins_with_the_estimate_that_is_given() -> None:
    denoiser, first = Remembered(exact()), torch.randn(SHAPE)
    DDIM(3).sample(denoiser, SHAPE, seed=0, condition={"estimate": first})
    assert torch.equal(denoiser.calls[0]["estimate"], first)
    assert torch.equal(denoiser.calls[1]["estimate"], denoiser.calls[0]["mean"])


def test_a_step_by_itself_takes_the_estimate_as_a_condition() -> None:
    denoiser, x = networked(), torch.randn(SHAPE, dtype=torch.float64)
    means = []
    DDIM(3).sample(denoiser, SHAPE, x=x, callback=lambda step: means.append((step.t, step.s, step.x, step.mean)))
    before = means[0]
    again = DDIM(3).step(denoiser, before[2], means[1][0], means[1][1], condition={"estimate": before[3]})
    torch.testing.assert_close(again, means[1][2])


def test_samples_of_a_self_conditioned_denoiser_do_not_depend_on_the_batch() -> None:
    denoiser = networked()
    together = DPMSolver(6).sample(denoiser, SHAPE, seed=3)
    apart = torch.cat([DPMSolver(6).sample(denoiser, (1, 3, 3), seed=3, first=i) for i in range(4)])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-5)


def _label(x: Tensor, t: Any, label: Tensor) -> Tensor:
    return -(x - label[:, None, None]).square().sum((1, 2))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_classifier_free_guidance_tells_both_calls_the_guided_mean(scale: float) -> None:
    inner = Remembered(exact())
    guided = ClassifierFreeGuidance(inner, scale)
    assert self_conditioned(guided)
    steps: list[SampleStep] = []
    label = torch.tensor([0, 1, 2, 3])
    DDIM(3).sample(guided, SHAPE, seed=0, condition={"label": label}, callback=steps.append)
    for step, call in zip(steps, inner.calls[1:]):
        assert torch.equal(call["estimate"], step.mean if scale == 1 else torch.cat([step.mean, step.mean]))
        assert torch.equal(call["label"], label if scale == 1 else torch.cat([label, torch.full((4,), -1)]))


def test_classifier_guidance_passes_the_estimate_to_the_denoiser_alone() -> None:
    inner = Remembered(exact())
    guided = ClassifierGuidance(inner, _label, 0.3, reserved=("label",))  # which would refuse an estimate
    steps: list[SampleStep] = []
    DDPM(3).sample(guided, SHAPE, seed=0, condition={"label": torch.zeros(4)}, callback=steps.append)
    assert self_conditioned(guided)
    for step, call in zip(steps, inner.calls[1:]):
        assert torch.equal(call["estimate"], step.mean)
        assert "label" not in call


@pytest.mark.parametrize(
    "wrap",
    [
        lambda d: EnergyGuidance(d, lambda mean: mean.square().sum((1, 2))),
        lambda d: Autoguidance(d, exact()),
        lambda d: FixedCondition(d, {"label": 1}),
        ClampedDenoiser,
        lambda d: ClampedDenoiser(ClassifierFreeGuidance(FixedCondition(d, {"label": 1}), 1.0)),
    ],
)
def test_other_wrappers_pass_it_through(wrap: Any) -> None:
    inner = Remembered(exact())
    guided = wrap(inner)
    assert self_conditioned(guided)
    steps: list[SampleStep] = []
    condition = {"label": torch.zeros(4, dtype=torch.int64)}
    DDIM(3).sample(guided, SHAPE, seed=0, condition=condition, callback=steps.append)
    assert len(inner.calls) == 3
    for step, call in zip(steps, inner.calls[1:]):
        assert torch.equal(call["estimate"], step.mean)


def test_components_of_a_product_are_told_their_own() -> None:
    inner = Remembered(exact())
    both = IndependentDenoisers({"words": inner, "others": exact(VESchedule())})
    sampler = ProductSampler(4, samplers={"words": DPMSolver(), "others": DDIM()})
    shape = {"words": SHAPE, "others": SHAPE}
    sampler.sample(both, shape, seed=0)
    for before, call in zip(inner.calls, inner.calls[1:]):
        assert torch.equal(call["estimate"], before["mean"])


# Samples.


@pytest.mark.parametrize("sampler", [DDPM(60), DPMSolver(20)], ids=lambda s: type(s).__name__)
def test_rounded_samples_have_the_datas_distribution(sampler: Sampler) -> None:
    num = 2000
    x = sampler.sample(exact(), (num, 3, 3), seed=0)
    tokens = embeddings().round(x.double())
    counts = torch.zeros(4, 4, 4, dtype=torch.float64).index_put(
        tuple(tokens.unbind(1)), torch.ones(num, dtype=torch.float64), accumulate=True
    )
    p = joint()
    floor = ((p * (1 - p) / num).sqrt().sum() * 0.8).item() / 2  # expected total variation of as many draws
    assert 0.5 * (counts / num - p).abs().sum() < 2 * floor


# Clamping.


def test_clamping_moves_the_mean_to_the_nearest_embedding() -> None:
    denoiser, x = networked("x0"), torch.randn(SHAPE, dtype=torch.float64)
    free, table = denoiser(x, 0.5), embeddings()
    for t in (0.5, torch.full((4,), 0.5, dtype=torch.float64)):
        clamped = ClampedDenoiser(denoiser)(x, t)
        assert isinstance(clamped, EmbeddedPosterior)
        torch.testing.assert_close(clamped.mean, table.embed(free.tokens))
        assert torch.equal(clamped.tokens, free.tokens)
    mixed = ClampedDenoiser(denoiser, (0.0, 0.4))(x, torch.tensor([0.2, 0.4, 0.5, 0.9], dtype=torch.float64))
    at = denoiser(x, torch.tensor([0.2, 0.4, 0.5, 0.9], dtype=torch.float64))
    torch.testing.assert_close(mixed.mean[:2], table.embed(at.tokens)[:2])
    assert torch.equal(mixed.mean[2:], at.mean[2:])
    assert torch.equal(ClampedDenoiser(denoiser, (0.0, 0.4))(x, 0.5).mean, free.mean)
    given = torch.tensor([[True, False, False]]).repeat(4, 1)
    assert torch.equal(ClampedDenoiser(denoiser)(x, 0.5, given=given).mean[:, 0], x[:, 0])


def test_clamped_samples_are_embeddings_and_compose_with_guidance() -> None:
    denoiser, table = exact(), embeddings()
    guided = ClampedDenoiser(ClassifierGuidance(denoiser, _label, 0.1, reserved=("label",)), (0.0, 0.5))
    x = DDPM(20, denoise=True).sample(guided, SHAPE, seed=0, condition={"label": torch.zeros(4)})
    torch.testing.assert_close(x.double(), table.embed(table.round(x.double())), rtol=0, atol=1e-5)
    outside = ClassifierGuidance(ClampedDenoiser(denoiser), _label, 0.1, reserved=("label",))
    assert DPMSolver(10).sample(outside, SHAPE, seed=0, condition={"label": torch.zeros(4)}).isfinite().all()
    with pytest.raises(ValueError, match="interval"):
        ClampedDenoiser(denoiser, (0.5, 0.5))


def test_the_gradient_of_a_clamped_mean_is_that_of_the_mean_before() -> None:
    denoiser, x = networked("x0"), torch.randn(SHAPE, dtype=torch.float64)
    slopes = []
    for one in (denoiser, ClampedDenoiser(denoiser)):
        variable = x.clone().requires_grad_()
        slopes.append(torch.autograd.grad(one(variable, 0.5).mean.sum(), variable)[0])
    torch.testing.assert_close(*slopes)


# Guidance by gradients.


def test_the_exact_classifier_guides_to_the_conditional_distribution() -> None:
    """``log p(first category = 2 | x_t)`` by enumeration; the guided mean is the conditional denoiser's."""
    denoiser, x = exact(), torch.randn(SHAPE, dtype=torch.float64)

    def classifier(x: Tensor, t: Any) -> Tensor:
        return denoiser(x, t).logits.log_softmax(-1)[:, 0, 2]

    chosen = torch.zeros(4, 4, 4, dtype=torch.float64)
    chosen[2] = joint()[2]
    conditional = EnumeratedEmbeddedDenoiser(denoiser.process, embeddings(), chosen)
    for t in (0.2, torch.tensor([0.1, 0.4, 0.7, 0.9], dtype=torch.float64)):
        guided = ClassifierGuidance(denoiser, classifier)(x, t)
        torch.testing.assert_close(guided.mean, conditional(x, t).mean, rtol=1e-7, atol=1e-7)
    out = DDIM(30).sample(ClassifierGuidance(denoiser, classifier), SHAPE, x=x[:4])
    assert (embeddings().round(out)[:, 0] == 2).all()


@pytest.mark.parametrize("prediction", ["x0", "logits"])
def test_an_energy_guides_through_the_network_to_finite_differences(prediction: str) -> None:
    denoiser, x, t = networked(prediction), torch.randn(1, 3, 3, dtype=torch.float64), 0.5
    target = torch.randn(3, 3, dtype=torch.float64)

    def energy(mean: Tensor) -> Tensor:
        return (mean - target).square().sum((1, 2))

    level, h = denoiser.process.level(t), 1e-5
    guided = EnergyGuidance(denoiser, energy, 0.7)(x, t).mean
    slope = torch.zeros_like(x)
    for i in range(9):
        unit = torch.zeros(9, dtype=torch.float64).index_fill(0, torch.tensor(i), h).reshape(1, 3, 3)
        slope.view(-1)[i] = (energy(denoiser(x + unit, t).mean) - energy(denoiser(x - unit, t).mean))[0] / (2 * h)
    expected = denoiser(x, t).mean - 0.7 * level.sigma**2 / level.alpha * slope
    torch.testing.assert_close(guided, expected, rtol=1e-6, atol=1e-6)


def test_optimal_variances_come_from_the_logits() -> None:
    """A single sequence of one category each: no variance, and the sample is that point at any number of steps."""
    table = EmbeddingTable(4, 3).double().requires_grad_(False)
    point = torch.zeros(4, 4)
    point[1, 3] = 1
    denoiser = EnumeratedEmbeddedDenoiser(SDE(SqrtSchedule()), table, point)
    out = DDPM(3, variance="optimal", denoise=True).sample(denoiser, (2, 2, 3), seed=0)
    torch.testing.assert_close(out.double(), table.embed(torch.tensor([[1, 3], [1, 3]])), rtol=0, atol=1e-6)
