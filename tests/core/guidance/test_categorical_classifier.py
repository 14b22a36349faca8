"""Guidance of categories by classifiers."""

import math
from typing import Any

import pytest
import torch
from guided_categories import (
    MASK_FIRST,
    MASKS,
    NOISE,
    TABLES,
    WEIGHTS,
    anything,
    assert_close,
    brute,
    classifier,
    each_chain,
    each_noise,
    given,
    labels,
    reachable,
)
from torch import Tensor

from ornstein.core.chains import (
    AbsorbingChain,
    CategoricalDenoiser,
    Chain,
    EnumeratedDenoiser,
)
from ornstein.core.guidance.categorical_classifier import CategoricalClassifierGuidance


@pytest.mark.parametrize("chain", [MASKS, MASK_FIRST], ids=repr)
def test_the_exact_classifier_gives_the_conditional_kernel_under_masks(chain: AbsorbingChain) -> None:
    tables = TABLES if chain is MASKS else [torch.nn.functional.pad(p, (1, 0, 1, 0, 1, 0)) for p in TABLES]
    experts = [EnumeratedDenoiser(chain, p) for p in tables]
    unconditional = EnumeratedDenoiser(chain, WEIGHTS[0] * tables[0] + WEIGHTS[1] * tables[1])
    x = reachable(chain)
    x = x[unconditional.log_prob(x, 0.6) > -torch.inf]

    def classify(x: Tensor, t: Any) -> Tensor:
        return torch.stack([e.log_prob(x, t) + w.log() for e, w in zip(experts, WEIGHTS)], 1).log_softmax(1)[:, 1]

    posterior = CategoricalClassifierGuidance(unconditional, classify, chunk=37)(x, 0.6)
    for s in (0.0, 0.05, 0.4, 0.6):
        assert_close(posterior.reverse(s).probs, brute(experts[1], x, s, 0.6))
    assert_close(posterior.ratios, experts[1](x, 0.6).ratios)
    assert_close(posterior.gain, torch.zeros_like(posterior.gain))


@each_noise
def test_the_exact_classifier_gives_the_conditional_kernel_in_the_limit(chain: Chain) -> None:
    """Its rates exactly, its kernels up to the square of the step."""
    x, t = reachable(chain), 0.5
    guided = CategoricalClassifierGuidance(anything(chain), classifier(chain), reserved=("label",))
    posterior = guided(x, t, **labels(x, 1))
    assert_close(posterior.ratios, given(chain, 1)(x, t).ratios)
    errors = [
        float((posterior.reverse(t - h).probs - brute(given(chain, 1), x, t - h, t)).abs().max()) for h in (0.02, 0.01)
    ]
    assert 1.8 < math.log2(errors[0] / errors[1]) < 2.2


@pytest.mark.parametrize("scale", [-1.0, 0.5, 3.0])
@each_chain
def test_classifier_guidance_is_the_product_of_kernel_and_classifier(chain: Chain, scale: float) -> None:
    """Every single change asked one by one, at any strength: under masks it moves the share as well."""
    x, s, t = reachable(chain)[::3], 0.25, 0.6
    classify = classifier(chain)
    product = brute(anything(chain), x, s, t)
    for i in range(3):
        for v in range(chain.states):
            changed = x.clone()
            changed[:, i] = v
            product[:, i, v] *= classify(changed, t, **labels(x, 0)).exp() ** scale
    product = product / product.sum(-1, keepdim=True)
    if chain is MASKS:
        product = torch.where((x == MASKS.mask)[..., None], product, torch.nn.functional.one_hot(x, 5).double())
    guided = CategoricalClassifierGuidance(anything(chain), classify, scale, reserved=("label",), chunk=100)
    posterior = guided(x, t, **labels(x, 0))
    assert_close(posterior.reverse(s).probs, product)
    # What it costs in a bound, over what remains possible.
    q = chain.posterior(x % 4, x, s, t).probs
    fits = (q.isfinite() & ((product > 0) | (q == 0))).all(-1)
    assert float(fits.double().mean()) > 0.9
    expected = (torch.special.xlogy(q, q) - torch.special.xlogy(q, product)).sum(-1)
    assert_close(posterior.step_divergence(x % 4, s)[fits], expected[fits])


def test_the_rate_of_the_bound_is_the_limit_of_steps_under_a_classifier() -> None:
    x, h = torch.tensor([[4, 1, 4], [4, 4, 4]]), 1e-6
    x0 = torch.tensor([[2, 1, 0], [3, 3, 1]])
    guided = CategoricalClassifierGuidance(anything(MASKS), classifier(MASKS), 2.0, reserved=("label",))
    posterior = guided(x, 0.5, **labels(x, 0))
    torch.testing.assert_close(
        posterior.step_divergence(x0, 0.5 - h) / h, posterior.moment_divergence(x0), rtol=1e-4, atol=1e-6
    )


@each_chain
def test_first_order_is_exact_for_a_classifier_linear_in_one_hot_states(chain: Chain) -> None:
    weight = torch.randn(3, chain.states, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def linear(x: Tensor, t: Any, label: Tensor) -> Tensor:
        one_hot = torch.nn.functional.one_hot(x, chain.states).double() if x.dtype == torch.int64 else x
        return (one_hot * weight).sum((1, 2)) * (label + 1.0)

    x = reachable(chain)[::2]
    posteriors = []
    for evaluation in ("exact", "first_order"):
        guided = CategoricalClassifierGuidance(anything(chain), linear, 1.5, evaluation, reserved=("label",))
        with torch.no_grad():
            posteriors.append(guided(x, 0.6, **labels(x, 1)))
    for s in (0.0, 0.3):
        assert_close(posteriors[0].reverse(s).probs, posteriors[1].reverse(s).probs)
    assert_close(posteriors[0].ratios, posteriors[1].ratios, 1e-8)


def test_the_classifier_is_asked_about_masked_positions_alone_with_their_own_conditions() -> None:
    asked: list[Tensor] = []

    def classify(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        asked.append(torch.cat([x, label[:, None], (10 * t).round().long()[:, None]], 1))
        return torch.zeros(len(x), dtype=torch.float64)

    guided = CategoricalClassifierGuidance(anything(MASKS), classify, 2.0, reserved=("label",), chunk=3)
    x, t = torch.tensor([[0, 4, 1], [2, 3, 1]]), torch.tensor([0.3, 0.6], dtype=torch.float64)
    posterior = guided(x, t, label=torch.tensor([7, 8]))
    assert [len(rows) for rows in asked] == [2, 3, 1]
    assert asked[0].tolist() == [[0, 4, 1, 7, 3], [2, 3, 1, 8, 6]]
    assert sorted(torch.cat(asked[1:]).tolist()) == [[0, v, 1, 7, 3] for v in range(4)]
    assert_close(posterior.reverse(0.1).probs, anything(MASKS)(x, t).reverse(0.1).probs)


@pytest.mark.parametrize("evaluation", ["exact", "first_order"])
def test_padding_is_not_asked_about(evaluation: str) -> None:
    chain = NOISE[0]
    sizes = []

    def classify(x: Tensor, t: Any, mask: Tensor) -> Tensor:
        sizes.append(len(x))
        x = torch.nn.functional.one_hot(x, 4).double() if x.dtype == torch.int64 else x
        return (x[..., 2] * mask).sum(1)

    network = even(chain)
    guided = CategoricalClassifierGuidance(network, classify, 1.0, evaluation)  # type: ignore[arg-type]
    x, mask = torch.tensor([[0, 1, 0]]), torch.tensor([[True, True, False]])
    posterior = guided(x, 0.5, mask=mask)
    assert sum(sizes) == (1 + 2 * 3 if evaluation == "exact" else 1)
    plain = network(x, 0.5).reverse(0.2).probs[0].double()
    expected = plain * torch.tensor([1.0, 1.0, math.e, 1.0])
    assert_close(posterior.reverse(0.2).probs[0, :2], (expected / expected.sum(-1, keepdim=True))[:2], 1e-6)
    assert_close(posterior.reverse(0.2).probs[0, 2], plain[2], 1e-6)


def even(chain: Chain) -> CategoricalDenoiser:
    """A network that knows nothing."""
    return CategoricalDenoiser(lambda x, c, mask=None: torch.zeros(*x.shape, chain.states), chain)  # type: ignore[arg-type]
