"""Beliefs about clean categories against tables of all states: divergences, ratios, ends and low precision."""

import pytest
import torch
from torch import Tensor

from ornstein.core import CosineSchedule
from ornstein.core.chains import (
    AbsorbingChain,
    CategoricalPosterior,
    Chain,
    EnumeratedDenoiser,
    MarginalChain,
    MaskedPosterior,
    RateChain,
    ScorePosterior,
    UniformChain,
)
from ornstein.core.masking_schedules import GeometricSchedule, PowerSchedule

PI = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
FLOW = torch.tensor([[0, 1, 2, 0], [1, 0, 3, 1], [2, 3, 0, 0], [0, 1, 0, 0]], dtype=torch.float64)
GENERATOR = 0.1 * (FLOW - FLOW.sum(1).diag()) / PI[:, None]

CHAINS: list[Chain] = [
    AbsorbingChain(4, PowerSchedule()),
    AbsorbingChain(5, CosineSchedule(s=0.0), mask_index=1),
    UniformChain(4, CosineSchedule(s=0.0)),
    MarginalChain(PI, PowerSchedule(2.0)),
    RateChain(GENERATOR, GeometricSchedule(0.05, 4.0)),
]
chains = pytest.mark.parametrize("chain", CHAINS, ids=repr)
masking = pytest.mark.parametrize("chain", CHAINS[:2], ids=repr)
S, T = 0.25, 0.625


def generator(chain: Chain) -> Tensor:
    """``R``, of which transition matrices are exponentials."""
    if isinstance(chain, RateChain):
        return GENERATOR
    pi = torch.full((4,), 0.25, dtype=torch.float64) if isinstance(chain, UniformChain) else PI
    if isinstance(chain, AbsorbingChain):
        pi = torch.eye(5, dtype=torch.float64)[chain.mask]
    return pi.expand(len(pi), -1) - torch.eye(len(pi), dtype=torch.float64)


def matrix(chain: Chain, s: float, t: float) -> Tensor:
    share = [torch.sigmoid(chain.schedule.log_snr(torch.tensor(u, dtype=torch.float64))) for u in (s, t)]
    return torch.linalg.matrix_exp((share[0] / share[1]).log() * generator(chain))


def table(chain: Chain) -> Tensor:
    """Probabilities of sequences over all states; none of those that hold a mask."""
    size = chain.states
    values = torch.rand(size, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) ** 2
    if isinstance(chain, AbsorbingChain):
        for axis in range(3):
            values.select(axis, chain.mask).zero_()
    return values / values.sum()


def pairs(chain: Chain, count: int = 12) -> tuple[Tensor, Tensor]:
    """Clean data and states that they lead to at ``T``."""
    draws = torch.Generator().manual_seed(1)
    every = torch.cartesian_prod(*[torch.arange(chain.states)] * 3)
    x0 = every[torch.multinomial(table(chain).flatten(), count, True, generator=draws)]
    return x0, chain.marginal(x0, T).sample(generator=draws)


def exact(chain: Chain, x: Tensor, t: float = T) -> CategoricalPosterior:
    return EnumeratedDenoiser(chain, table(chain))(x, t)


def belief(chain: Chain, x: Tensor) -> Tensor:
    """``p(x_0 | x_t)`` of each position, ``(B, 3, S)``, by summing the table."""
    whole, out = matrix(chain, 0.0, T), []
    for state in x:
        joint = torch.einsum("abc,a,b,c->abc", table(chain), *whole[:, state].T)
        each = torch.stack([joint.sum([a for a in range(3) if a != i]) for i in range(3)])
        out.append(each / joint.sum())
    return torch.stack(out)


def divergence(chain: Chain, x0: Tensor, x: Tensor, s: float) -> Tensor:
    """``KL(q(x_s | x_t, x_0) || p(x_s | x_t))`` by Bayes' rule for each position."""
    believed, out = belief(chain, x), torch.empty(x.shape, dtype=torch.float64)
    first, second, whole = matrix(chain, 0.0, s), matrix(chain, s, T), matrix(chain, 0.0, T)
    for n in range(len(x)):
        for i in range(3):
            y = int(x[n, i])
            possible = whole[:, y] > 0
            rows = (first * second[:, y])[possible] / whole[possible, y, None]
            q, p = first[x0[n, i]] * second[:, y] / whole[x0[n, i], y], believed[n, i, possible] @ rows
            some = q > 0
            out[n, i] = (q[some] * (q[some] / p[some]).log()).sum()
    return out


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@chains
def test_belief_of_the_table(chain: Chain) -> None:
    x0, x = pairs(chain)
    posterior = exact(chain, x)
    close(posterior.probs, belief(chain, x))
    close(posterior.mean, posterior.probs)
    close(posterior.log_prob(x0).exp(), belief(chain, x).gather(-1, x0[..., None]).squeeze(-1))


@chains
def test_step_divergence_by_brute_force(chain: Chain) -> None:
    x0, x = pairs(chain)
    close(exact(chain, x).step_divergence(x0, S), divergence(chain, x0, x, S))
    close(exact(chain, x).step_divergence(x0, 0.0), -exact(chain, x).log_prob(x0))


@chains
def test_moment_divergence_is_the_limit_of_steps(chain: Chain) -> None:
    x0, x = pairs(chain)
    coarse, fine = (divergence(chain, x0, x, T - h) / h for h in (2e-4, 1e-4))
    limit = 2 * fine - coarse  # the error of order h falls out
    torch.testing.assert_close(exact(chain, x).moment_divergence(x0), limit, rtol=1e-5, atol=1e-7)


def test_moment_divergence_under_masks_is_the_papers() -> None:
    """``-a' / (1 - a)`` times the surprise at masks, ``1 / t`` for ``a = 1 - t`` (2406.07524, eq. 10)."""
    chain = CHAINS[0]
    x0, x = pairs(chain)
    surprise = -belief(chain, x).gather(-1, x0[..., None]).squeeze(-1).log()
    close(exact(chain, x).moment_divergence(x0), surprise / T)


def test_moment_divergence_of_uniform_noise_is_the_papers() -> None:
    """The integrand of UDLM's bound (2412.10193, eq. 18), with ``x_theta`` the belief from the other positions."""
    chain = UniformChain(4, PowerSchedule())
    x0, x = pairs(chain)
    kept, pull = 1 - T, matrix(chain, 0.0, T)[:, x].permute(1, 2, 0)
    others = exact(chain, x).probs / pull
    others = others / others.sum(-1, keepdim=True)
    mixed = [4 * kept * one + 1 - kept for one in (torch.nn.functional.one_hot(x0, 4).double(), others)]
    bar, bar_theta = (m / m.gather(-1, x[..., None]) for m in mixed)
    of_data, of_belief = (m.gather(-1, x[..., None]).squeeze(-1) for m in mixed)
    # -N / x_i + N / x_theta_i + sum_j (x_j / x_i) log [(x_theta_i x_j) / (x_theta_j x_i)], times -a' / (N a)
    bracket = -4 / of_data + 4 / of_belief + (bar * (bar / bar_theta).log()).sum(-1)
    close(exact(chain, x).moment_divergence(x0), bracket / (4 * kept))


@chains
def test_ratios_lead_back_to_the_belief(chain: Chain) -> None:
    _, x = pairs(chain)
    posterior = exact(chain, x)
    back = ScorePosterior(x, chain, chain.level(T), posterior.ratios.log())
    known = torch.ones_like(x, dtype=torch.bool)
    if isinstance(chain, AbsorbingChain):
        known = x == chain.mask  # a shown position's ratio to the mask is not in the belief
        shown = back.probs[~known]
        close(shown, torch.nn.functional.one_hot(x[~known], chain.states).double())
    close(back.probs[known], posterior.probs[known])
    close(back.reverse(S).probs[known], posterior.reverse(S).probs[known])
    close(back.ratios[known], posterior.ratios[known])
    close(back.ratios.gather(-1, x[..., None]), torch.ones(*x.shape, 1, dtype=torch.float64), 0)


@masking
def test_masks_know_what_the_general_form_derives(chain: Chain) -> None:
    x0, x = pairs(chain)
    special = exact(chain, x)
    assert isinstance(special, MaskedPosterior)
    general = CategoricalPosterior(x, chain, chain.level(T), special.log_probs)
    assert torch.equal(special.masked, x == chain.mask)  # type: ignore[attr-defined]
    for s in (0.0, S, T, torch.linspace(0.0, T, len(x), dtype=torch.float64)):
        close(special.reverse(s).probs, general.reverse(s).probs)
        close(special.step_divergence(x0, s), general.step_divergence(x0, s))
    close(special.moment_divergence(x0), general.moment_divergence(x0))

    def choice(logits: Tensor) -> Tensor:
        return logits / 0.7

    close(special.reverse(S, choice).probs, general.reverse(S, choice).probs)


@masking
def test_draws_that_show_masks_have_their_probabilities(chain: Chain) -> None:
    _, x = pairs(chain)
    x = x[(x == chain.mask).sum(1).argmax()][None]  # type: ignore[attr-defined]
    reverse, draws = exact(chain, x).reverse(S), 40_000
    many = exact(chain, x.expand(draws, -1)).reverse(S)
    u = torch.rand(draws, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = torch.nn.functional.one_hot(many.sample(u), chain.states).double().mean(0)
    p = reverse.probs[0]
    assert bool(((found - p).abs() <= 5 * (p * (1 - p) / draws).sqrt() + 1e-12).all())


@chains
def test_no_step_changes_nothing(chain: Chain) -> None:
    for t in (1e-3, T, 1.0):
        x = chain.noise(torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
        same = float(str(t))  # another object of the same value
        close(exact(chain, x, t).reverse(same).probs, torch.nn.functional.one_hot(x, chain.states).double())


@chains
@pytest.mark.parametrize("t", [1e-6, T, 0.999, 1.0])
def test_networks_in_low_precision_give_distributions(chain: Chain, t: float) -> None:
    draws = torch.Generator().manual_seed(0)
    x = chain.noise(torch.rand(6, 3, dtype=torch.float64, generator=draws))
    output = 3 * torch.randn(6, 3, chain.states, generator=draws)
    level = chain.level(t)
    kind = MaskedPosterior if isinstance(chain, AbsorbingChain) else CategoricalPosterior
    for posterior in (kind(x, chain, level, output), ScorePosterior(x, chain, level, output)):
        if isinstance(posterior, ScorePosterior) and float(level.alpha) == 0:
            with pytest.raises(ValueError, match="forgotten"):
                _ = posterior.probs
            continue
        for probs in (posterior.probs, posterior.reverse(0.5 * t).probs):
            assert bool((probs >= 0).all())
            close(probs.sum(-1), torch.ones(6, 3, dtype=probs.dtype), 1e-5)
        if isinstance(chain, AbsorbingChain):
            assert not bool(posterior.probs[..., chain.mask].any())
            assert not bool(posterior.reverse(0.0).probs[..., chain.mask].any())


@pytest.mark.parametrize("t", [0.8, 0.9, 0.95, 1.0])
def test_ratios_led_back_beyond_the_range_of_float32_stay_distributions(t: float) -> None:
    """Where the inverse grows by ``a^-9`` what is left is rounding, but no NaN."""
    chain = RateChain(9 * GENERATOR, GeometricSchedule())
    draws = torch.Generator().manual_seed(0)
    x, output = torch.randint(0, 4, (6, 3), generator=draws), torch.randn(6, 3, 4, generator=draws)
    probs = ScorePosterior(x, chain, chain.level(t), output).probs
    assert bool((probs >= 0).all())
    close(probs.sum(-1), torch.ones(6, 3), 1e-5)
