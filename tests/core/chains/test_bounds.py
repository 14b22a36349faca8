"""Bounds on the likelihood of categories against brute force, on 4 categories at 3 positions."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein.core import BrownianNoise, CosineSchedule, SeededNoise
from ornstein.core.chains import AbsorbingChain, Chain, EnumeratedDenoiser, MarginalChain, UniformChain
from ornstein.core.likelihood.categorical import TokenBound, enumerated_log_prob
from ornstein.core.likelihood.events import stream_of
from ornstein.core.masking_schedules import PowerSchedule

CHAINS: list[Chain] = [
    AbsorbingChain(4, PowerSchedule()),
    UniformChain(4, CosineSchedule(s=0.0)),
    MarginalChain([0.4, 0.3, 0.2, 0.1], PowerSchedule()),
]


def table() -> Tensor:
    values = torch.rand(4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) ** 2
    return values / values.sum()


X0 = torch.tensor([[0, 1, 2], [3, 3, 0]])


def matrix(chain: Chain, s: float, t: float) -> Tensor:
    """``Q_{s,t}`` ``(S, S)``, row by row from the definition of the chain."""
    kept = chain.level(t).alpha / chain.level(s).alpha
    return kept * torch.eye(chain.states, dtype=torch.float64) + (1 - kept) * chain.stationary.expand(chain.states, -1)


def kernel(chain: Chain, denoiser: EnumeratedDenoiser, x: Tensor, t: float, s: float) -> Tensor:
    """``p(x_s | x_t)`` of one state ``(3, S)``: the mixture of posteriors over the exact belief, by Bayes' rule."""
    whole, first, second = (matrix(chain, *pair) for pair in ((0.0, t), (0.0, s), (s, t)))
    likely = [whole[:4, v] for v in x.tolist()]
    joint = table() * likely[0][:, None, None] * likely[1][None, :, None] * likely[2][None, None, :]
    out = []
    for i in range(3):
        belief = joint.sum([a for a in range(3) if a != i])
        belief = belief / belief.sum()
        rows = first[:4] * second[:, x[i]]  # q(x_s, x_t | x_0)
        out.append(belief @ (rows / rows.sum(1, keepdim=True).clamp(min=1e-300)))
    return torch.stack(out)


def brute_force(chain: Chain, steps: int, x0: Tensor) -> float:
    """All terms of the bound in steps, summed over all noised states."""
    denoiser, total = EnumeratedDenoiser(chain, table()), 0.0
    times = [1 - i / steps for i in range(steps)] + [0.0]
    for t, s in itertools.pairwise(times):
        whole, first, second = (matrix(chain, *pair) for pair in ((0.0, t), (0.0, s), (s, t)))
        for state in itertools.product(range(chain.states), repeat=3):
            weight = math.prod(float(whole[x0[i], state[i]]) for i in range(3))
            if weight == 0:
                continue
            p = kernel(chain, denoiser, torch.tensor(state), t, s)
            for i in range(3):
                q = first[x0[i]] * second[:, state[i]]
                q = q / q.sum()
                some = q > 0
                total += weight * float((q[some] * (q[some] / p[i][some]).log()).sum())
    return total


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_bound_in_steps_equals_brute_force(chain: Chain) -> None:
    denoiser = EnumeratedDenoiser(chain, table())
    found = TokenBound(3, exact=True).evaluate(denoiser, X0)
    expected = torch.tensor([brute_force(chain, 3, x0) for x0 in X0], dtype=torch.float64)
    torch.testing.assert_close(found.diffusion, expected, rtol=0, atol=1e-8)
    assert float(found.prior.abs().max()) < 1e-12
    assert bool((found.standard_error == 0).all())


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_continuous_bound_is_tight_with_the_exact_denoiser(chain: Chain) -> None:
    """In continuous time one position jumps at once, so that the model's paths are those of the chain, ``log q(path |
    x_0) / p(path) = -log p(x_0)``.
    """
    denoiser = EnumeratedDenoiser(chain, table())
    found = TokenBound(exact=True).evaluate(denoiser, X0)
    torch.testing.assert_close(found.nats, -denoiser.log_prob(X0), rtol=0, atol=1e-8)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_bounds_in_steps_lie_above_the_likelihood_and_tend_to_the_continuous_one(chain: Chain) -> None:
    denoiser = EnumeratedDenoiser(chain, table())
    continuous, entropy = -denoiser.log_prob(X0), float(-torch.special.xlogy(table(), table()).sum())
    gaps = []
    for steps in (4, 16, 64):
        bound = TokenBound(steps, exact=True).evaluate(denoiser, X0).nats
        every = -enumerated_log_prob(denoiser, _every(), steps)
        assert float((-every).exp().sum()) == pytest.approx(1, abs=1e-12)
        assert bool((bound >= every[X0 @ torch.tensor([16, 4, 1])] - 1e-10).all())
        assert float(table().flatten() @ every) >= entropy - 1e-12  # Gibbs
        gaps.append(float((bound - continuous).abs().max()))
    assert gaps[0] > gaps[1] > gaps[2]
    if gaps[1] > 1e-9:  # of order one in the step; under masks there is no gap, both being the chain rule
        assert 3 < gaps[1] / gaps[2] < 5


def _every() -> Tensor:
    return torch.cartesian_prod(*[torch.arange(4)] * 3)


def test_continuous_bound_of_masks_is_the_mean_over_all_orders() -> None:
    """ARDM (Hoogeboom et al. 2022, 2110.02037): the chain rule in a random order; exact conditionals give the joint."""
    chain = CHAINS[0]
    denoiser = EnumeratedDenoiser(chain, table())
    bound = TokenBound(exact=True).evaluate(denoiser, X0).nats
    expected = []
    for x0 in X0:
        total = 0.0
        for order in itertools.permutations(range(3)):
            known = torch.full((1, 3), 4)
            for i in order:
                total -= float(denoiser(known, 0.5).log_probs[0, i, x0[i]]) / 6
                known[0, i] = x0[i]
        expected.append(total)
    torch.testing.assert_close(bound, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-8)
    torch.testing.assert_close(bound, -denoiser.log_prob(X0), rtol=0, atol=1e-8)


def test_left_to_right_is_the_chain_rule() -> None:
    denoiser = EnumeratedDenoiser(CHAINS[0], table())
    total, known = torch.zeros(2, dtype=torch.float64), torch.full((2, 3), 4)
    for i in range(3):
        total += denoiser(known, 0.5).log_probs[:, i].gather(-1, X0[:, i : i + 1]).squeeze(1)
        known[:, i] = X0[:, i]
    torch.testing.assert_close(total, denoiser.log_prob(X0), rtol=0, atol=1e-8)


@pytest.mark.parametrize("steps", [None, 6])
@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_drawn_bound_agrees_within_its_error(chain: Chain, steps: int | None) -> None:
    denoiser = EnumeratedDenoiser(chain, table())
    exact = TokenBound(steps, exact=True).evaluate(denoiser, X0)
    drawn = TokenBound(steps, draws=400).evaluate(denoiser, X0, seed=0)
    assert bool(((drawn.nats - exact.nats).abs() < 4 * drawn.standard_error).all())
    assert drawn.per_token == pytest.approx(exact.per_token, abs=4 * drawn.per_token_error)
    assert drawn.bits_per_token == pytest.approx(drawn.per_token / math.log(2))
    assert torch.equal(drawn.nats, TokenBound(steps, draws=400).evaluate(denoiser, X0, seed=0).nats)


def test_draws_belong_to_a_sample_and_are_not_those_that_made_it() -> None:
    denoiser, bound = EnumeratedDenoiser(CHAINS[1], table()), TokenBound(draws=3)
    whole = bound.evaluate(denoiser, X0, seed=5).nats
    assert torch.equal(whole[1:], bound.evaluate(denoiser, X0[1:], noise=SeededNoise(5), first=1).nats)
    like = torch.empty(2, 3)
    for own, sampled in (
        (stream_of(5, None, 2, 0), SeededNoise(5)),
        (stream_of(None, BrownianNoise(5), 2, 0), BrownianNoise(5)),
    ):
        assert not torch.isin(own.uniform(like), sampled.begin(2, 0).uniform(like)).any()


def test_gauss_legendre_resolves_the_integral() -> None:
    """Against another rule, of many more nodes."""
    chain = CHAINS[1]
    denoiser = EnumeratedDenoiser(chain, table())
    found = TokenBound(exact=True).evaluate(denoiser, X0[:1]).diffusion
    nodes, weights = np.polynomial.legendre.leggauss(300)
    every = _every()
    total = 0.0
    for u, w in zip(0.5 * (nodes + 1), 0.5 * weights):
        t, w = u**3, 3 * u**2 * w
        weight = chain.marginal(X0[:1].expand_as(every), float(t)).log_prob(every).sum(1).exp()
        total += w * float(weight @ denoiser(every, float(t)).moment_divergence(X0[:1].expand_as(every)).sum(1))
    assert float(found) == pytest.approx(total, abs=1e-8)


def test_padding_is_left_out() -> None:
    chain = CHAINS[0]
    denoiser = EnumeratedDenoiser(chain, table())
    mask = torch.tensor([[True, True, False]])
    x0 = torch.tensor([[1, 2, 0]])

    class Two(EnumeratedDenoiser):  # conditions on the padding's 0 being no data: the marginal of the real positions
        def forward(self, x_t, t, **condition):
            return super().forward(torch.where(condition["mask"], x_t, 4), t)

    found = TokenBound(exact=True).evaluate(Two(chain, table()), x0, mask=mask)
    assert int(found.tokens) == 2
    expected = -table().sum(2)[1, 2].log()
    assert float(found.nats) == pytest.approx(float(expected), abs=1e-8)
    assert denoiser.table.shape == (4, 4, 4)


def test_large_spaces_and_bad_arguments_are_refused() -> None:
    chain = AbsorbingChain(50, PowerSchedule())
    denoiser = EnumeratedDenoiser(chain, torch.ones(50, 50))
    with pytest.raises(ValueError, match="estimate the bound by draws"):
        TokenBound(exact=True).evaluate(denoiser, torch.zeros(1, 9, dtype=torch.int64))
    with pytest.raises(ValueError, match="draws=0"):
        TokenBound(draws=0)
    with pytest.raises(ValueError, match="expected one"):
        TokenBound().evaluate(denoiser, torch.zeros(1, 2, dtype=torch.int64), seed=0, noise=SeededNoise(0))
