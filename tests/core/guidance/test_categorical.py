"""Guidance of categories without classifiers: classifier-free, composition and autoguidance."""

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
    Labelled,
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

from ornstein.core import (
    SDE,
    Autoguidance,
    ClassifierFreeGuidance,
    CosineSchedule,
    Denoiser,
    FixedCondition,
    GaussianDenoiser,
    IndependentDenoisers,
    MixtureOfDenoisers,
    ProductOfDenoisers,
)
from ornstein.core.chains import (
    AbsorbingChain,
    CategoricalDenoiser,
    Chain,
    EnumeratedDenoiser,
    UniformChain,
)
from ornstein.core.chains.posteriors import belief
from ornstein.core.guidance.categorical import blended
from ornstein.core.guidance.categorical_classifier import CategoricalClassifierGuidance
from ornstein.core.masking_schedules import PowerSchedule
from ornstein.core.samplers.categorical import CategoricalAncestral, TauLeaping, reverse_rates
from ornstein.core.samplers.choices import TokenChoice
from ornstein.core.samplers.remasking import Remasking
from ornstein.core.samplers.unmasking import ConfidentFirst, Unmasking

# Classifier-free.


@pytest.mark.parametrize("scale", [-0.5, 0.4, 2.5])
@pytest.mark.parametrize("s", [0.0, 0.3])
@each_noise
def test_kernels_are_multiplied(chain: Chain, s: float, scale: float) -> None:
    x, t = reachable(chain), 0.6
    product = brute(given(chain, 1), x, s, t) ** scale * brute(anything(chain), x, s, t) ** (1 - scale)
    posterior = ClassifierFreeGuidance(Labelled(chain), scale)(x, t, **labels(x, 1))
    assert_close(posterior.reverse(s).probs, product / product.sum(-1, keepdim=True))
    assert_close(posterior.reverse(0.0).probs, posterior.probs)
    assert_close(posterior.mean, posterior.log_probs.exp())


@pytest.mark.parametrize("chain", [MASKS, MASK_FIRST], ids=repr)
def test_under_masks_beliefs_are_multiplied_and_the_share_stays(chain: AbsorbingChain) -> None:
    x, s, t, scale = reachable(chain), 0.3, 0.6, 2.5
    tables = TABLES if chain is MASKS else [torch.nn.functional.pad(p, (1, 0, 1, 0, 1, 0)) for p in TABLES]
    with_ = EnumeratedDenoiser(chain, tables[1])
    without = EnumeratedDenoiser(chain, WEIGHTS[0] * tables[0] + WEIGHTS[1] * tables[1])
    posterior = ProductOfDenoisers([with_], [scale], base=without)(x, t)
    p = brute(with_, x, 0.0, t) ** scale * brute(without, x, 0.0, t) ** (1 - scale)
    p = p.nan_to_num(0.0)
    p = p / p.sum(-1, keepdim=True)
    assert_close(posterior.probs, p)
    share = (0.6 - 0.3) / 0.6  # a(t) = 1 - t
    masked = (x == chain.mask)[..., None]
    hidden = torch.nn.functional.one_hot(torch.tensor(chain.mask), chain.states)
    assert_close(posterior.reverse(s).probs, torch.where(masked, share * p + (1 - share) * hidden, p))
    # Powers of the whole kernels would show another share, as the module's text says.
    whole = brute(with_, x, s, t) ** scale * brute(without, x, s, t) ** (1 - scale)
    shown = 1 - (whole / whole.sum(-1, keepdim=True))[..., chain.mask]
    z = (brute(with_, x, 0.0, t) ** scale * brute(without, x, 0.0, t) ** (1 - scale)).nan_to_num(0.0).sum(-1)
    assert_close(shown[masked[..., 0]], (share * z / (1 - share + share * z))[masked[..., 0]])
    assert bool((z[masked[..., 0]] > 1).all())


@each_chain
def test_scales_of_0_and_1_are_the_unconditional_and_the_conditional(chain: Chain) -> None:
    x, s, t = reachable(chain), 0.2, 0.7
    for scale, target in ((0.0, anything(chain)), (1.0, given(chain, 0))):
        posterior = ClassifierFreeGuidance(Labelled(chain), scale)(x, t, **labels(x, 0))
        assert_close(posterior.reverse(s).probs, target(x, t).reverse(s).probs)


@each_chain
def test_one_doubled_call_says_what_two_do_and_times_may_differ(chain: Chain) -> None:
    x = reachable(chain)[5:45]
    t = torch.linspace(0.3, 0.9, len(x), dtype=torch.float64)
    doubled, apart = Labelled(chain), Labelled(chain)
    one = ClassifierFreeGuidance(doubled, 2.0)(x, t, **labels(x, 1))
    # A null condition of another shape cannot be stacked.
    null = {"label": torch.full((len(x),), -1), "other": torch.zeros(len(x))}
    two = ClassifierFreeGuidance(apart, 2.0, unconditional=null)(x, t, **labels(x, 1))
    assert doubled.sizes == [2 * len(x)]
    assert apart.sizes == [len(x)] * 2
    for s in (0.1, t / 2):
        for choice in (None, TokenChoice(temperature=0.5)):
            assert_close(one.reverse(s, choice).probs, two.reverse(s, choice).probs)
    assert_close(one.ratios, two.ratios)
    i = 7
    alone = ClassifierFreeGuidance(Labelled(chain), 2.0)(x[i : i + 1], float(t[i]), **labels(x[i : i + 1], 1))
    assert_close(one.reverse(0.1).probs[i], alone.reverse(0.1).probs[0])


@each_chain
def test_outside_of_the_interval_the_condition_alone_counts(chain: Chain) -> None:
    x = reachable(chain)[:3]
    guided = ClassifierFreeGuidance(Labelled(chain), 3.0, interval=(0.4, 0.6))
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    found = guided(x, t, **labels(x, 0)).reverse(0.1).probs
    assert_close(found[::2], given(chain, 0)(x, t).reverse(0.1).probs[::2])
    assert_close(found[1:2], guided(x[1:2], 0.5, **labels(x[1:2], 0)).reverse(0.1).probs)
    assert_close(guided(x, 0.2, **labels(x, 0)).probs, given(chain, 0)(x, 0.2).probs)


@each_noise
def test_ratios_are_the_limit_of_guided_kernels(chain: Chain) -> None:
    x, t, h = reachable(chain), 0.5, 1e-6
    for guided in (
        ClassifierFreeGuidance(Labelled(chain), 2.0),
        CategoricalClassifierGuidance(anything(chain), classifier(chain), 2.0, reserved=("label",)),
    ):
        posterior = guided(x, t, **labels(x, 1))
        rates = reverse_rates(posterior)
        kernel = posterior.reverse(t - h).probs / h
        others = torch.nn.functional.one_hot(x, chain.states) == 0
        torch.testing.assert_close(kernel[others], rates[others], rtol=1e-4, atol=1e-6)


def test_a_rescaled_mean_is_refused_on_chains() -> None:
    with pytest.raises(ValueError, match=r"rescale=0\.7"):
        ClassifierFreeGuidance(Labelled(MASKS), 2.0, rescale=0.7)


@each_chain
def test_a_choice_acts_on_the_guided_belief(chain: Chain) -> None:
    x, t = reachable(chain)[:60], 0.6
    choice = TokenChoice(temperature=0.7, top_k=2)
    for guided in (
        ClassifierFreeGuidance(Labelled(chain), 2.0),
        CategoricalClassifierGuidance(anything(chain), classifier(chain), 2.0, reserved=("label",)),
    ):
        posterior = guided(x, t, **labels(x, 1))
        assert_close(posterior.reverse(0.0, choice).probs, choice(posterior.log_probs).softmax(-1))
        assert_close(posterior.reverse(0.3, TokenChoice()).probs, posterior.reverse(0.3).probs)
        cold = posterior.reverse(0.0, TokenChoice(temperature=0)).probs
        assert_close(cold, torch.nn.functional.one_hot(posterior.log_probs.argmax(-1), chain.states))


def test_what_a_factor_rules_out_stays_so_unless_nothing_is_left() -> None:
    ruled = torch.tensor([[[0.5, 0.5, 0.0]], [[1.0, 0.0, 0.0]]]).log()
    base = torch.tensor([[[0.0, 0.5, 0.5]], [[0.0, 0.5, 0.5]]]).log()
    found = blended([ruled, base], [2.0, -1.0]).softmax(-1)
    assert_close(found, torch.tensor([[[1.0, 0.0, 0.0]], [[1.0, 0.0, 0.0]]]))  # the base rules out, in a power of -1
    found = blended([ruled, base], [0.5, 0.5]).softmax(-1)
    assert found[0, 0].tolist() == [0.0, 1.0, 0.0]
    assert bool(found[1].isfinite().all())
    powers = torch.tensor([1.0, 0.0])
    found = blended([ruled, base], [powers, 1 - powers]).softmax(-1)  # one a sample, and 0 leaves a factor out
    assert_close(found, torch.stack([ruled[0], base[1]]).exp())


class Fixed(Denoiser[Chain]):
    """One belief everywhere."""

    def __init__(self, chain: Chain, logs: list[float]) -> None:
        super().__init__(chain)
        self.logs = torch.tensor(logs, dtype=torch.float64)

    def forward(self, x_t: Tensor, t: Any, **condition: Any) -> Any:
        logits = self.logs.expand(*x_t.shape, -1)
        return belief(x_t, self.process, self.process.level(t), logits)


@each_chain
def test_what_is_too_rare_to_be_known_is_not_made_likely(chain: Chain) -> None:
    """``p^2 / q`` of 1e-9 and 1e-18 is 1; the second counts as 1e-3 / S."""
    rest = chain.states - 4
    sure, surer = (Fixed(chain, [0.0, math.log(p), -1.0, -2.0] + [-torch.inf] * rest) for p in (1e-9, 1e-18))
    x = torch.full((1, 3), 3 if rest == 0 else chain.mask)
    posterior = Autoguidance(sure, surer, 2.0)(x, 1e-4)
    p, q = (belief.probs[0, 0, :4] for belief in (sure(x, 1e-4), surer(x, 1e-4)))
    expected = p**2 / q.clamp(min=1e-3 / chain.states)
    assert expected[1] < 1e-12
    if rest:  # under masks the powers act on beliefs
        assert_close(posterior.probs[0, 0, :4], expected / expected.sum())
    steps = CategoricalAncestral(50).sample(Autoguidance(sure, surer, 2.0), (200, 3), seed=0)
    assert not bool((steps == 1).any())
    product = ProductOfDenoisers([sure], [2.0], surer)(x, 1e-4)
    assert_close(product.probs, posterior.probs)


# Composition.


@each_noise
def test_products_multiply_kernels_with_powers_and_negation(chain: Chain) -> None:
    x, s, t = reachable(chain), 0.3, 0.6
    a, b, base = given(chain, 0), given(chain, 1), anything(chain)
    flat = EnumeratedDenoiser(chain, torch.ones(4, 4, 4))
    for common, chosen in ((base, base), (flat, None)):
        kernels = [brute(d, x, s, t) for d in (a, b, common)]
        product = kernels[0] ** 1.5 * kernels[1] ** -0.4 * kernels[2] ** (1 - 1.5 + 0.4)
        found = ProductOfDenoisers([a, b], [1.5, -0.4], base=chosen)(x, t).reverse(s).probs
        assert_close(found, product / product.sum(-1, keepdim=True))


def test_products_under_masks_multiply_beliefs() -> None:
    x, t = reachable(MASKS), 0.6
    product = brute(given(MASKS, 0), x, 0.0, t) * brute(given(MASKS, 1), x, 0.0, t)
    assert_close(
        ProductOfDenoisers([given(MASKS, 0), given(MASKS, 1)])(x, t).probs, product / product.sum(-1, keepdim=True)
    )


@each_chain
def test_a_mixture_is_exact(chain: Chain) -> None:
    x, s, t = reachable(chain), 0.3, 0.6
    parts = [given(chain, 0), given(chain, 1)]
    mixture = MixtureOfDenoisers(parts, WEIGHTS.tolist())(x, t)
    assert_close(mixture.reverse(s).probs, brute(anything(chain), x, s, t))
    told = MixtureOfDenoisers(parts, classifier=lambda x, t: torch.stack([p.log_prob(x, t) for p in parts], 1))
    half = EnumeratedDenoiser(chain, TABLES[0] + TABLES[1])
    assert_close(told(x, t).reverse(s).probs, brute(half, x, s, t))


def test_a_condition_can_be_fixed() -> None:
    x = reachable(MASKS)
    guided = ProductOfDenoisers([FixedCondition(Labelled(MASKS), {"label": 1})], [2.0], base=Labelled(MASKS))
    assert_close(guided(x, 0.6).probs, ClassifierFreeGuidance(Labelled(MASKS), 2.0)(x, 0.6, **labels(x, 1)).probs)


# What must hold of all.


@pytest.mark.parametrize("scale", [0.5, 2.0, 5.0])
def test_shown_positions_stay_certain(scale: float) -> None:
    x = reachable(MASKS)
    shown = x != MASKS.mask
    one_hot = torch.nn.functional.one_hot(x, MASKS.states).double()
    for guided in (
        ClassifierFreeGuidance(Labelled(MASKS), scale),
        CategoricalClassifierGuidance(anything(MASKS), classifier(MASKS), scale, reserved=("label",)),
        ProductOfDenoisers([given(MASKS, 0), given(MASKS, 1)], [scale, -0.5]),
    ):
        posterior = guided(x, 0.5, **labels(x, 0))
        for probs in (posterior.probs, posterior.reverse(0.2).probs):
            assert_close(probs[shown], one_hot[shown], 0.0)
        u = torch.rand(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        assert torch.equal(posterior.reverse(0.2).sample(u)[shown], x[shown])
        assert not bool((posterior.reverse(0.0).sample(u) == MASKS.mask).any())


@each_chain
def test_draws_have_the_kernels_frequencies(chain: Chain) -> None:
    """Evenly spaced uniform numbers, so that frequencies are right up to one draw a category."""
    num = 2000
    x = torch.tensor([[MASKS.mask if chain is MASKS else 0, 1, 2]]).expand(num, 3)
    u = ((torch.arange(num, dtype=torch.float64) + 0.5) / num)[:, None].expand(num, 3)
    for guided in (
        ClassifierFreeGuidance(Labelled(chain), 2.0),
        CategoricalClassifierGuidance(anything(chain), classifier(chain), 2.0, reserved=("label",)),
    ):
        kernel = guided(x, 0.6, **labels(x, 1)).reverse(0.3)
        counts = torch.nn.functional.one_hot(kernel.sample(u), chain.states).sum(0)
        assert float((counts / num - kernel.probs[0]).abs().max()) < 2 / num


@pytest.mark.parametrize(
    "sampler",
    [
        CategoricalAncestral(8),
        CategoricalAncestral(8, choice=TokenChoice(top_p=0.9)),
        TauLeaping(8, corrections=1),
        Unmasking(3, positions=ConfidentFirst()),
        Remasking(8, eta=0.2),
    ],
    ids=lambda s: type(s).__name__,
)
@each_chain
def test_every_sampler_takes_guided_denoisers(chain: Chain, sampler: Any) -> None:
    if chain is not MASKS and not isinstance(sampler, CategoricalAncestral | TauLeaping):
        with pytest.raises(TypeError, match="moves states of AbsorbingChain"):
            sampler.check_process(chain)
        return
    condition = {"label": torch.ones(64, dtype=torch.int64)}
    for guided in (
        ClassifierFreeGuidance(Labelled(chain), 2.0),
        CategoricalClassifierGuidance(anything(chain), classifier(chain), 2.0, reserved=("label",)),
    ):
        x = sampler.sample(guided, (64, 3), seed=0, condition=condition)
        assert x.dtype == torch.int64
        assert int(x.max()) < 4
        # Guided samples are likelier under their class than under the other.
        assert float((given(chain, 1).log_prob(x) - given(chain, 0).log_prob(x)).mean()) > 0


def test_a_network_of_ratios_can_be_guided() -> None:
    chain = NOISE[0]
    exact = [given(chain, 1), anything(chain)]

    def ratios(k: int) -> CategoricalDenoiser:
        network = lambda x, c: exact[k](x, 0.6).ratios.log()  # noqa: E731
        return CategoricalDenoiser(network, chain, "score")  # type: ignore[arg-type]

    x = reachable(chain)
    found = ProductOfDenoisers([ratios(0)], [2.0], base=ratios(1))(x, 0.6)
    true = ProductOfDenoisers([exact[0]], [2.0], base=exact[1])(x, 0.6)
    assert_close(found.reverse(0.3).probs, true.reverse(0.3).probs, 1e-8)
    assert_close(found.ratios, true.ratios, 1e-8)


def test_bad_input_is_refused() -> None:
    uniform, other = UniformChain(4, PowerSchedule()), UniformChain(4, CosineSchedule())
    for pair in ([given(MASKS, 0), given(uniform, 0)], [given(uniform, 0), given(other, 0)]):
        with pytest.raises(ValueError, match="expected one chain"):
            ProductOfDenoisers(pair)
        with pytest.raises(ValueError, match="expected one chain"):
            MixtureOfDenoisers(pair)
    ProductOfDenoisers([given(uniform, 0), given(UniformChain(4, PowerSchedule()), 1)])
    with pytest.raises(ValueError, match="evaluation='taylor': expected 'exact' or 'first_order'"):
        CategoricalClassifierGuidance(given(MASKS, 0), classifier(MASKS), evaluation="taylor")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="chunk=0"):
        CategoricalClassifierGuidance(given(MASKS, 0), classifier(MASKS), chunk=0)
    with pytest.raises(TypeError, match="ClassifierGuidance serves an SDE"):
        CategoricalClassifierGuidance(
            GaussianDenoiser(SDE(CosineSchedule()), [0.0], [[1.0]]),  # type: ignore[arg-type]
            classifier(MASKS),
        )
    for evaluation in ("exact", "first_order"):
        guided = CategoricalClassifierGuidance(given(MASKS, 0), lambda x, t: x.double()[:, :1], 1.0, evaluation)
        with pytest.raises(ValueError, match="expected one number a sample"):
            guided(reachable(MASKS), 0.5)
    with pytest.raises(ValueError, match="guidance without a condition"):
        ClassifierFreeGuidance(Labelled(MASKS), 2.0)(reachable(MASKS), 0.5)


# Autoguidance.


@each_chain
def test_autoguidance_is_classifier_free_guidance_away_from_the_weaker(chain: Chain) -> None:
    better, weaker = given(chain, 0), anything(chain)
    x, t = reachable(chain), 0.6
    guided = Autoguidance(better, weaker, 2.0)(x, t)
    same = ClassifierFreeGuidance(Labelled(chain), 2.0)(x, t, **labels(x, 0))
    possible = better.log_prob(x, t) > -torch.inf
    for s in (0.0, 0.3):
        assert_close(guided.reverse(s).probs[possible], same.reverse(s).probs[possible])
    assert torch.equal(Autoguidance(better, weaker, 1.0)(x, t).log_probs, better(x, t).log_probs)
    apart = Autoguidance(better, weaker, 2.0, (0.0, 0.5))(x, torch.linspace(0.4, 0.6, len(x), dtype=torch.float64))
    late = torch.linspace(0.4, 0.6, len(x)) > 0.5
    plain = better(x, torch.linspace(0.4, 0.6, len(x), dtype=torch.float64))
    assert_close(apart.reverse(0.3).probs[late & possible], plain.reverse(0.3).probs[late & possible])


def test_autoguidance_of_products_guides_each_part() -> None:
    chain, process = NOISE[0], SDE(CosineSchedule())
    mean, weak = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    parts = [
        {"kind": expert, "place": GaussianDenoiser(process, m, torch.eye(2, dtype=torch.float64))}
        for expert, m in ((given(chain, 0), mean), (anything(chain), weak))
    ]
    pair = [IndependentDenoisers(part) for part in parts]
    x = {"kind": reachable(chain)[:5], "place": torch.randn(5, 2, dtype=torch.float64)}
    guided = Autoguidance(*pair, 1.7)(x, 0.5)
    for name in x:
        alone = Autoguidance(parts[0][name], parts[1][name], 1.7)(x[name], 0.5)
        assert_close(guided[name].mean, alone.mean)
    other = IndependentDenoisers({**parts[1], "kind": given(NOISE[1], 0)})
    with pytest.raises(ValueError, match="one chain for all"):
        Autoguidance(pair[0], other)
    with pytest.raises(ValueError, match="one product for all"):
        Autoguidance(pair[0], parts[0]["place"])
