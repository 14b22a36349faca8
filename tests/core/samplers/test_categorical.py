"""Samplers of categories on a space that can be enumerated; `test_remasking` and `test_unmasking` have the others."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from categorical_problems import (
    ABSORBING,
    CHAINS,
    Kernel,
    distance,
    drawn,
    exact,
    floor,
    outcome,
    product,
    states,
    surprise,
    table,
    target,
)
from torch import Tensor

from ornstein.core import SDE, FlowSchedule, GaussianDenoiser, SeededNoise
from ornstein.core.chains import (
    AbsorbingChain,
    Chain,
    DiscretisedGaussianChain,
    EnumeratedDenoiser,
    ScorePosterior,
    UniformChain,
)
from ornstein.core.grids import UniformTime
from ornstein.core.masking_schedules import GeometricSchedule, PowerSchedule
from ornstein.core.samplers.base import Sampler
from ornstein.core.samplers.categorical import CategoricalAncestral, TauLeaping, leapt, reverse_rates
from ornstein.core.samplers.choices import TokenChoice
from ornstein.core.samplers.remasking import Remasking
from ornstein.core.samplers.unmasking import Unmasking


def ancestral(denoiser: EnumeratedDenoiser, x: Tensor, t: float, s: float) -> Tensor:
    return denoiser(x, t).reverse(s).probs


def leaping(denoiser: EnumeratedDenoiser, x: Tensor, t: float, s: float) -> Tensor:
    posterior, chain = denoiser(x, t), denoiser.process
    if chain.level(t).alpha == 0 or chain.level(s).alpha == 1:
        return posterior.reverse(s).probs
    return leapt(x, reverse_rates(posterior), t - s).probs


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@pytest.mark.parametrize("kernel", [ancestral, leaping], ids=["ancestral", "leaping"])
def test_distribution_of_samples_converges_at_order_one(chain: Chain, kernel: Kernel) -> None:
    errors = [distance(chain, outcome(chain, steps, kernel)) for steps in (32, 64, 128)]
    for coarse, fine in itertools.pairwise(errors):  # uniform noise comes down to order one from above
        assert 0.9 < math.log2(coarse / fine) < 1.3
    assert errors[-1] < 0.01


def test_chains_of_matrices_are_sampled_in_their_own_steps() -> None:
    chain = DiscretisedGaussianChain(4, torch.linspace(0.02, 0.3, 128).tolist())
    errors = [distance(chain, outcome(chain, steps, ancestral)) for steps in (32, 64, 128)]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(1, abs=0.1)
    torch.manual_seed(0)
    found = drawn(CategoricalAncestral(8), chain, 20_000)
    assert surprise(found, outcome(chain, 8, ancestral), 20_000) < 4
    with pytest.raises(ValueError, match="no rates"):
        TauLeaping(8).sample(exact(chain), (2, 3))


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@pytest.mark.parametrize(
    ("sampler", "kernel"),
    [(CategoricalAncestral(8), ancestral), (TauLeaping(8), leaping)],
    ids=["ancestral", "leaping"],
)
def test_samples_are_distributed_as_the_kernels_say(sampler: Sampler, kernel: Kernel, chain: Chain) -> None:
    torch.manual_seed(0)
    found = drawn(sampler, chain, 20_000)
    assert surprise(found, outcome(chain, 8, kernel), 20_000) < 4
    assert surprise(found, target(chain), 20_000) > 20


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_corrections_leave_the_marginal_and_mend_a_wrong_one(chain: Chain) -> None:
    """Rates both ways have ``p_s`` as their stationary distribution: to second order in the size of the step."""
    s, denoiser, every = 0.4, exact(chain), states(chain)
    posterior = denoiser(every, s)
    rates = reverse_rates(posterior)
    rates = rates + chain.rates_from(every, s, rates.dtype)
    true = denoiser.log_prob(every, s).exp()

    def after(p: Tensor, h: float) -> Tensor:
        return p @ product(leapt(every, rates, h).probs)

    errors = [float((after(true, h) - true).abs().sum()) for h in (0.02, 0.01)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)
    wrong = torch.full_like(true, 1 / len(true)) * (true > 0)
    wrong = wrong / wrong.sum()
    assert float((after(wrong, 0.1) - true).abs().sum()) < 0.95 * float((wrong - true).abs().sum())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "chain"),
    [
        (CategoricalAncestral(512), ABSORBING),
        (CategoricalAncestral(512), CHAINS[1]),
        (TauLeaping(512), CHAINS[2]),
        (Remasking(512), ABSORBING),
        (Remasking(512, strategy="cap", eta=0.005), ABSORBING),
        (Unmasking(512), ABSORBING),
        (Unmasking(512, count="binomial"), ABSORBING),
    ],
    ids=lambda v: repr(v)[:60],
)
def test_many_samples_have_the_target_distribution(sampler: Sampler, chain: Chain) -> None:
    torch.manual_seed(1)
    assert floor(100_000) < 0.007
    assert distance(chain, drawn(sampler, chain, 100_000)) < 0.01


# The analytic sampler: networks that predict ratios.


def transition(chain: Chain, s: float, t: float) -> Tensor:
    """``Q_{s,t}`` as a matrix."""
    return chain.push(torch.eye(chain.states, dtype=torch.float64), s, t)


@pytest.mark.parametrize("s", [0.0, 0.3, 0.59])
@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_the_kernel_of_consistent_ratios_is_the_ancestral_one(chain: Chain, s: float) -> None:
    posterior = exact(chain)(states(chain), 0.6)
    ratios = ScorePosterior(posterior.x_t, chain, posterior.level, posterior.ratios.log())
    possible = posterior.x_t if chain is not ABSORBING else torch.full((1, 3), 4)
    where = (posterior.x_t[:, None] == possible).all(-1).any(1)  # to the mask, ratios are known
    torch.testing.assert_close(ratios.reverse(s).probs[where], posterior.reverse(s).probs[where], rtol=0, atol=1e-10)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_the_kernel_of_a_networks_ratios_is_the_papers(chain: Chain) -> None:
    """Lou et al. 2024, eq. 19, with dense matrices; another than what follows from the belief about the data."""
    t, s = 0.6, 0.5
    x = torch.tensor([[chain.states - 1, chain.states - 1]])
    log_ratios = torch.randn(1, 2, chain.states, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    posterior = ScorePosterior(x, chain, chain.level(t), log_ratios)
    score = log_ratios.exp()
    score[..., -1] = 1.0
    step = transition(chain, s, t)
    weights = (score @ torch.linalg.inv(step) * step[:, -1]).clamp(min=0)
    found = posterior.reverse(s).probs
    torch.testing.assert_close(found, weights / weights.sum(-1, keepdim=True), rtol=0, atol=1e-12)
    unchanged = posterior.reverse(s, lambda logits: logits).probs  # a choice acts on the belief about the data
    assert float((found - unchanged).abs().max()) > 1e-3


def test_ratios_lead_to_the_target_from_noise_that_is_all_but_complete() -> None:
    chain = UniformChain(4, GeometricSchedule(1e-4, 20.0))

    class Scored(EnumeratedDenoiser):
        def forward(self, x_t, t, **condition):
            posterior = super().forward(x_t, t)
            return ScorePosterior(x_t, chain, posterior.level, posterior.ratios.float().log())

    torch.manual_seed(0)
    x = CategoricalAncestral(64).sample(Scored(chain, table()), (4000, 3))
    found = torch.bincount(x @ torch.tensor([16, 4, 1]), minlength=64) / len(x)
    assert 0.5 * float((found - table().flatten()).abs().sum()) < 0.02 + 1.3 * floor(4000)


# What holds for all.

EVERY: list[tuple[Sampler, Chain]] = [
    *[(CategoricalAncestral(5), chain) for chain in CHAINS],
    *[(TauLeaping(5, corrections=2), chain) for chain in CHAINS],
    (TauLeaping(5, choice=TokenChoice(0.5)), ABSORBING),
    (CategoricalAncestral(5, denoise=True, grid=UniformTime(stop=0.2)), ABSORBING),
    (TauLeaping(5, corrections=1, denoise=True, grid=UniformTime(stop=0.2)), CHAINS[1]),
]


class Counted(EnumeratedDenoiser):
    calls = 0

    def forward(self, x_t, t, **condition):
        self.calls += 1
        return super().forward(x_t, t, **condition)


@pytest.mark.parametrize(("sampler", "chain"), EVERY, ids=lambda v: repr(v)[:70])
def test_samples_are_data_do_not_depend_on_the_batch_and_cost_what_is_said(sampler: Sampler, chain: Chain) -> None:
    counted = Counted(chain, table())
    together = sampler.sample(counted, (6, 3), seed=5)
    assert counted.calls == sampler.nfe(process=chain)
    assert together.dtype == torch.int64
    assert int(together.max()) < 4
    alone = torch.cat([sampler.sample(exact(chain), (1, 3), seed=5, first=i) for i in range(6)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, sampler.sample(exact(chain), (6, 3), noise=SeededNoise(6)))


@pytest.mark.parametrize("sampler", [CategoricalAncestral(4), TauLeaping(4)], ids=["ancestral", "leaping"])
def test_given_positions_stay_and_padding_is_blank(sampler: Sampler) -> None:
    x = torch.tensor([[4, 2, 4]]).expand(20, 3)
    out = sampler.sample(exact(ABSORBING), (20, 3), x=x, seed=0)
    assert bool((out[:, 1] == 2).all())
    mask = torch.tensor([[True, True, False]]).expand(20, 3)
    seen: list[Tensor] = []
    out = sampler.sample(
        exact(ABSORBING), (20, 3), mask=mask, seed=0, callback=lambda step: seen.append(step.x[:, 2].clone())
    )
    assert bool((torch.stack(seen) == 0).all())
    assert int(out[:, :2].max()) < 4


def test_padding_stays_blank_when_the_last_state_is_denoised() -> None:
    chain = UniformChain(4, PowerSchedule())
    denoiser = EnumeratedDenoiser(chain, torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(0)))
    mask = torch.tensor([[True, False, False]]).expand(8, 3)
    sampler = CategoricalAncestral(4, denoise=True, grid=UniformTime(stop=0.3))
    out = sampler.sample(denoiser, (8, 3), mask=mask, seed=0)
    assert bool((out[:, 1:] == 0).all())


def test_token_choice_against_brute_force() -> None:
    logits = torch.randn(50, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = (logits / 0.7).softmax(-1)
    for k, q in ((None, 1.0), (3, 1.0), (None, 0.6), (4, 0.8)):
        found = TokenChoice(0.7, k, q)(logits).softmax(-1)
        for row, expected in zip(found, p):
            order = expected.argsort(descending=True)[:k]
            kept = expected[order] / expected[order].sum()
            count = int(((kept.cumsum(0) - kept) < q).sum())
            true = torch.zeros(9, dtype=torch.float64)
            true[order[:count]] = expected[order[:count]] / expected[order[:count]].sum()
            torch.testing.assert_close(row, true)
    assert (TokenChoice(0.0)(logits).softmax(-1).argmax(-1) == logits.argmax(-1)).all()


@pytest.mark.parametrize(
    "sampler",
    [CategoricalAncestral(8), TauLeaping(8, corrections=1), Remasking(8), Unmasking(1)],
    ids=["ancestral", "leaping", "remasking", "unmasking"],
)
def test_choice_is_used_by_all_samplers(sampler: Sampler) -> None:
    one = EnumeratedDenoiser(AbsorbingChain(3, PowerSchedule()), torch.tensor([0.2, 0.5, 0.3]))
    greedy = replace(sampler, choice=TokenChoice(top_k=1))  # type: ignore[call-arg]
    assert bool((greedy.sample(one, (50, 1), seed=0) == 1).all())
    assert len(sampler.sample(one, (50, 1), seed=0).unique()) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenChoice(-1.0), "temperature=-1.0"),
        (lambda: TokenChoice(top_k=0), "top_k=0"),
        (lambda: TokenChoice(top_p=0.0), "top_p=0.0"),
        (lambda: TauLeaping(4, corrections=-1), "corrections=-1"),
        (lambda: TauLeaping(4, size=0.0), "size=0.0"),
    ],
)
def test_bad_arguments_say_what_was_expected(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_samplers_refuse_other_processes_and_states() -> None:
    gaussian = GaussianDenoiser(SDE(FlowSchedule()), torch.zeros(3), torch.eye(3))
    with pytest.raises(TypeError, match="moves states of Chain"):
        CategoricalAncestral(4).sample(gaussian, (2, 3))
    with pytest.raises(TypeError, match="moves states of AbsorbingChain"):
        Unmasking(4).sample(exact(CHAINS[1]), (2, 3))
    with pytest.raises(ValueError, match="holds the category 7"):
        CategoricalAncestral(4).sample(exact(ABSORBING), (1, 3), x=torch.tensor([[0, 7, 1]]))
    with pytest.raises(ValueError, match="int64"):
        CategoricalAncestral(4).sample(exact(ABSORBING), (1, 3), x=torch.zeros(1, 3))
