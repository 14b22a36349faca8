"""Samplers of categories on a space that can be enumerated: 4 categories, 3 positions, an exact denoiser."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ornstein.core import CosineSchedule, FlowSchedule, SeededNoise
from ornstein.core.chains import AbsorbingChain, Chain, EnumeratedDenoiser, MarginalChain, UniformChain
from ornstein.core.chains.denoisers import CategoricalDenoiser
from ornstein.core.chains.posteriors import belief
from ornstein.core.grids import UniformTime
from ornstein.core.masking_schedules import PowerSchedule
from ornstein.core.samplers.base import Sampler
from ornstein.core.samplers.categorical import CategoricalAncestral, TauLeaping, leapt, reverse_rates
from ornstein.core.samplers.choices import TokenChoice
from ornstein.core.samplers.remasking import Remasking
from ornstein.core.samplers.unmasking import (
    Blockwise,
    ConfidentFirst,
    LeftToRight,
    MarginFirst,
    RandomOrder,
    SureFirst,
    Unmasking,
    UnmaskingOrder,
)

CHAINS: list[Chain] = [
    AbsorbingChain(4, PowerSchedule()),
    UniformChain(4, CosineSchedule(s=0.0)),
    MarginalChain([0.4, 0.3, 0.2, 0.1], PowerSchedule()),
]
ORDERS: list[UnmaskingOrder] = [
    RandomOrder(),
    LeftToRight(),
    ConfidentFirst(),
    MarginFirst(),
    SureFirst(),
    Blockwise(2),
    Blockwise(2, LeftToRight()),
]


def table() -> Tensor:
    values = torch.rand(4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) ** 6
    return values / values.sum()


def exact(chain: Chain) -> EnumeratedDenoiser:
    return EnumeratedDenoiser(chain, table())


class Tabled(EnumeratedDenoiser):
    """The exact denoiser for large batches: each state's posterior is computed once."""

    def forward(self, x_t, t, **condition):
        logits = super().forward(states(self.process), t).logits
        index = x_t @ torch.tensor([self.process.states**2, self.process.states, 1])
        return belief(x_t, self.process, self.process.level(t), logits[index])


def states(chain: Chain) -> Tensor:
    values = torch.arange(chain.states)
    return torch.cartesian_prod(values, values, values)


def product(probs: Tensor) -> Tensor:
    """Joint probabilities ``(M, S^3)`` of independent positions ``(M, 3, S)``."""
    a, b, c = probs.unbind(1)
    return (a[:, :, None, None] * b[:, None, :, None] * c[:, None, None, :]).flatten(1)


def outcome(chain: Chain, steps: int, kernel: Callable[[EnumeratedDenoiser, Tensor, float, float], Tensor]) -> Tensor:
    """The exact distribution of samples over all states, from the kernels of the steps."""
    denoiser, every = exact(chain), states(chain)
    now = product(chain.stationary.expand(1, 3, chain.states))[0]
    times = UniformTime()(steps, chain).tolist()
    for t, s in itertools.pairwise(times):
        now = now @ product(kernel(denoiser, every, t, s))
    return now


def distance(chain: Chain, found: Tensor) -> float:
    """Total variation from the target."""
    true = torch.zeros(chain.states, chain.states, chain.states, dtype=torch.float64)
    true[:4, :4, :4] = table()
    return 0.5 * float((found - true.flatten()).abs().sum())


def ancestral(denoiser: EnumeratedDenoiser, x: Tensor, t: float, s: float) -> Tensor:
    return denoiser(x, t).reverse(s).probs


def leaping(denoiser: EnumeratedDenoiser, x: Tensor, t: float, s: float) -> Tensor:
    posterior, chain = denoiser(x, t), denoiser.process
    if chain.level(t).alpha == 0 or chain.level(s).alpha == 1:
        return posterior.reverse(s).probs
    return leapt(x, reverse_rates(posterior), t - s).probs


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@pytest.mark.parametrize("kernel", [ancestral, leaping], ids=["ancestral", "leaping"])
def test_distribution_of_samples_converges_at_order_one(chain: Chain, kernel: Callable[..., Tensor]) -> None:
    errors = [distance(chain, outcome(chain, steps, kernel)) for steps in (32, 64, 128)]
    for coarse, fine in itertools.pairwise(errors):  # uniform noise comes down to order one from above
        assert 0.9 < math.log2(coarse / fine) < 1.3
    assert errors[-1] < 0.01


def drawn(sampler: Sampler, chain: Chain, num: int) -> Tensor:
    """Frequencies of all states among samples."""
    x = sampler.sample(Tabled(chain, table()), (num, 3))
    index = x @ torch.tensor([chain.states**2, chain.states, 1])
    return torch.bincount(index, minlength=chain.states**3).double() / num


def floor(chain: Chain, num: int) -> float:
    """Total variation that as many draws of the target itself have in expectation."""
    p = table().flatten()
    return 0.5 * float((2 / math.pi * p * (1 - p) / num).sqrt().sum())


SAMPLERS: list[tuple[Sampler, Chain]] = [
    *[(CategoricalAncestral(512), chain) for chain in CHAINS],
    *[(TauLeaping(512), chain) for chain in CHAINS],
    *[(TauLeaping(256, corrections=1), chain) for chain in CHAINS],
    (Remasking(512), CHAINS[0]),
    (Remasking(512, strategy="cap", eta=0.005), CHAINS[0]),
    (Unmasking(512), CHAINS[0]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "chain"), SAMPLERS, ids=lambda v: repr(v)[:60])
def test_many_samples_have_the_target_distribution(sampler: Sampler, chain: Chain) -> None:
    torch.manual_seed(1)
    assert floor(chain, 100_000) < 0.007
    assert distance(chain, drawn(sampler, chain, 100_000)) < 0.01


def test_remasking_converges_to_the_target() -> None:
    """The exact distribution of samples, from the kernel of the module's text."""
    chain = CHAINS[0]
    assert isinstance(chain, AbsorbingChain)

    def kernel(denoiser: EnumeratedDenoiser, x: Tensor, t: float, s: float) -> Tensor:
        before, after = chain.level(t).alpha, chain.level(s).alpha
        sigma = min(0.05, (1 - after) / before) if before > 0 else 0.0
        show = (after - (1 - sigma) * before) / (1 - before)
        shown = denoiser(x, t).probs
        mask = torch.nn.functional.one_hot(torch.tensor(4), 5)
        masked = (x == 4)[..., None]
        return torch.where(masked, show * shown + (1 - show) * mask, (1 - sigma) * shown + sigma * mask)

    errors = [distance(chain, outcome(chain, steps, kernel)) for steps in (32, 64, 128)]
    assert errors[0] > errors[1] > errors[2]
    torch.manual_seed(2)
    found = drawn(Remasking(32, strategy="cap", eta=0.05), chain, 40_000)
    error = 0.5 * float((found - outcome(chain, 32, kernel)).abs().sum())
    assert error < 1.5 * floor(chain, 40_000)


@pytest.mark.parametrize("strategy", ["cap", "rescale"])
def test_remasking_keeps_the_share_of_masks(strategy: str) -> None:
    chain = AbsorbingChain(4, PowerSchedule())
    denoiser = EnumeratedDenoiser(chain, torch.full((4,), 0.25))
    shares: list[tuple[float, float]] = []
    Remasking(8, strategy=strategy, eta=0.3).sample(  # type: ignore[arg-type]
        denoiser, (40_000, 1), callback=lambda step: shares.append((step.s, float((step.x == 4).double().mean())))
    )
    for s, share in shares:
        assert share == pytest.approx(chain.level(s).sigma, abs=5 * (0.25 / 40_000) ** 0.5)


def exact_order(positions: UnmaskingOrder) -> Tensor:
    """Distribution over the data of unmasking one position a step in a deterministic order, by enumeration."""
    chain = CHAINS[0]
    denoiser, out = exact(chain), torch.zeros(4, 4, 4, dtype=torch.float64)
    open_ = {(4, 4, 4): 1.0}
    for step in range(3):
        following: dict[tuple[int, ...], float] = {}
        for state, mass in open_.items():
            x = torch.tensor([state])
            belief = denoiser(x, 1 - step / 3)
            u = torch.rand(x.shape, dtype=torch.float64)
            rank = torch.where(x == 4, positions.rank(belief, u), -torch.inf)[0]
            chosen = [int(rank.argmax())] if not positions.random else [i for i in range(3) if state[i] == 4]
            for i in chosen:
                for v, p in enumerate(belief.probs[0, i, :4].tolist()):
                    new = (*state[:i], v, *state[i + 1 :])
                    following[new] = following.get(new, 0.0) + mass * p / len(chosen)
        open_ = following
    for state, mass in open_.items():
        out[state] = mass
    return out


@pytest.mark.parametrize("positions", ORDERS, ids=repr)
def test_any_order_one_position_a_step_has_the_joint_distribution(positions: UnmaskingOrder) -> None:
    torch.testing.assert_close(exact_order(positions), table(), rtol=0, atol=1e-8)
    torch.manual_seed(0)
    found = drawn(Unmasking(3, positions=positions), CHAINS[0], 20_000)
    assert distance(CHAINS[0], found) < 1.6 * floor(CHAINS[0], 20_000)


@pytest.mark.parametrize("positions", ORDERS, ids=repr)
def test_orders_show_what_they_should(positions: UnmaskingOrder) -> None:
    hidden: list[Tensor] = []
    Unmasking(3, positions=positions).sample(
        exact(CHAINS[0]), (50, 3), seed=0, callback=lambda step: hidden.append(step.x == 4)
    )
    assert [int(h.sum(1).min()) for h in hidden] == [int(h.sum(1).max()) for h in hidden] == [2, 1, 0]
    if positions == LeftToRight():
        assert hidden[0][:, 1:].all()
    if isinstance(positions, Blockwise):
        assert hidden[1][:, 2].all()  # the second block waits for the first


EVERY: list[tuple[Sampler, Chain]] = [
    *[(CategoricalAncestral(5), chain) for chain in CHAINS],
    *[(TauLeaping(5, corrections=2), chain) for chain in CHAINS],
    (Remasking(5, confidence=True, eta=0.5), CHAINS[0]),
    (Remasking(5, held=3, at=0.4), CHAINS[0]),
    *[(Unmasking(5, positions=order), CHAINS[0]) for order in ORDERS],
    (CategoricalAncestral(5, denoise=True, grid=UniformTime(stop=0.2)), CHAINS[0]),
]


@pytest.mark.parametrize(("sampler", "chain"), EVERY, ids=lambda v: repr(v)[:70])
def test_samples_are_data_do_not_depend_on_the_batch_and_cost_what_is_said(sampler: Sampler, chain: Chain) -> None:
    class Counted(EnumeratedDenoiser):
        calls = 0

        def forward(self, x_t, t, **condition):
            Counted.calls += 1
            return super().forward(x_t, t, **condition)

    together = sampler.sample(Counted(chain, table()), (6, 3), seed=5)
    assert Counted.calls == sampler.nfe(process=chain) == sampler.nfe()
    assert together.dtype == torch.int64
    assert int(together.max()) < 4
    alone = torch.cat([sampler.sample(exact(chain), (1, 3), seed=5, first=i) for i in range(6)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, sampler.sample(exact(chain), (6, 3), noise=SeededNoise(6)))


@pytest.mark.parametrize("sampler", [CategoricalAncestral(4), Unmasking(4), Remasking(4, confidence=True)], ids=repr)
def test_given_positions_stay_and_padding_does_not_count(sampler: Sampler) -> None:
    chain = CHAINS[0]
    x = torch.tensor([[4, 2, 4]]).expand(20, 3)
    out = sampler.sample(exact(chain), (20, 3), x=x, seed=0)
    assert bool((out[:, 1] == 2).all())
    mask = torch.tensor([[True, True, False]]).expand(20, 3)
    seen: list[Tensor] = []
    out = sampler.sample(
        exact(chain), (20, 3), mask=mask, seed=0, callback=lambda step: seen.append(step.x[:, 2].clone())
    )
    assert bool((torch.stack(seen) == 0).all())
    assert int(out[:, :2].max()) < 4


def test_unchanged_states_are_not_asked_again() -> None:
    chain, calls = AbsorbingChain(3, PowerSchedule()), []

    def network(x: Tensor, c: Tensor) -> Tensor:
        calls.append(len(x))
        return torch.zeros(*x.shape, 4)

    blind = CategoricalDenoiser(network, chain, timed=False)  # type: ignore[arg-type]
    plain = Unmasking(64).sample(blind, (2, 4), seed=0)
    assert len(calls) == 64
    calls.clear()
    cached = Unmasking(64, cache="unchanged").sample(blind, (2, 4), seed=0)
    assert torch.equal(plain, cached)
    assert len(calls) <= 5  # after each step that shows something
    with pytest.raises(ValueError, match="timed=False"):
        Unmasking(4, cache="unchanged").sample(exact(CHAINS[0]), (2, 3))


def test_token_choice_against_brute_force() -> None:
    logits = torch.randn(50, 9, dtype=torch.float64)
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


def test_choice_is_used_by_samplers() -> None:
    greedy = CategoricalAncestral(8, choice=TokenChoice(top_k=1))
    chain = AbsorbingChain(3, PowerSchedule())
    one = EnumeratedDenoiser(chain, torch.tensor([0.2, 0.5, 0.3]))
    assert bool((greedy.sample(one, (50, 1), seed=0) == 1).all())
    assert bool((Unmasking(1, choice=TokenChoice(0.0)).sample(one, (50, 1), seed=0) == 1).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenChoice(-1.0), "temperature=-1.0"),
        (lambda: TokenChoice(top_k=0), "top_k=0"),
        (lambda: TokenChoice(top_p=0.0), "top_p=0.0"),
        (lambda: TauLeaping(4, corrections=-1), "corrections=-1"),
        (lambda: TauLeaping(4, size=0.0), "size=0.0"),
        (lambda: Remasking(4, eta=1.5), "eta=1.5"),
        (lambda: Remasking(4, strategy="max"), "strategy='max'"),
        (lambda: Remasking(4, at=1.0), "at=1.0"),
        (lambda: Blockwise(0), "size=0"),
        (lambda: Unmasking(4, cache="all"), "cache='all'"),
        (lambda: Remasking(1, held=1).sample(exact(CHAINS[0]), (1, 3)), "at least 2 steps"),
    ],
)
def test_bad_arguments_say_what_was_expected(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()


def test_samplers_refuse_other_processes_and_states() -> None:
    from ornstein.core import SDE, GaussianDenoiser

    gaussian = GaussianDenoiser(SDE(FlowSchedule()), torch.zeros(3), torch.eye(3))
    with pytest.raises(TypeError, match="moves states of Chain"):
        CategoricalAncestral(4).sample(gaussian, (2, 3))
    with pytest.raises(TypeError, match="moves states of AbsorbingChain"):
        Unmasking(4).sample(exact(CHAINS[1]), (2, 3))
    with pytest.raises(ValueError, match="holds the category 7"):
        CategoricalAncestral(4).sample(exact(CHAINS[0]), (1, 3), x=torch.tensor([[0, 7, 1]]))
    with pytest.raises(ValueError, match="int64"):
        CategoricalAncestral(4).sample(exact(CHAINS[0]), (1, 3), x=torch.zeros(1, 3))
