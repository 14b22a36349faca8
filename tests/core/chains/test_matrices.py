"""Chains of any matrices and of any rates: products and exponentials of matrices, Bayes' rule, the papers' forms."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein.core import CosineSchedule, TableSchedule, UniformTime
from ornstein.core.chains import (
    AbsorbingChain,
    CategoricalBound,
    CategoricalDenoiser,
    Chain,
    DiscretisedGaussianChain,
    EnumeratedDenoiser,
    InterpolatingChain,
    MarginalChain,
    MatrixChain,
    RateChain,
    ScorePosterior,
    UniformChain,
)
from ornstein.core.config import from_config, to_config
from ornstein.core.likelihood.categorical import TokenBound, enumerated_log_prob
from ornstein.core.masking_schedules import GeometricSchedule, PowerSchedule
from ornstein.core.samplers.categorical import CategoricalAncestral, TauLeaping

BETAS = (0.1, 0.2, 0.35, 0.5)


def generator(states: int = 4, seed: int = 0) -> Tensor:
    """A reversible generator: symmetric flows over an uneven distribution."""
    draws = torch.Generator().manual_seed(seed)
    flow = torch.rand(states, states, dtype=torch.float64, generator=draws) ** 2
    pi = torch.rand(states, dtype=torch.float64, generator=draws) + 0.2
    rates = (0.2 * (flow + flow.T) / pi[:, None]).fill_diagonal_(0.0)
    return rates - rates.sum(1).diag()


def stochastic(steps: int = 4, states: int = 4, seed: int = 0) -> Tensor:
    """Matrices without any symmetry, each of which mostly stays."""
    draws = torch.Generator().manual_seed(seed)
    other = torch.rand(steps, states, states, dtype=torch.float64, generator=draws)
    return 0.7 * torch.eye(states, dtype=torch.float64) + 0.3 * other / other.sum(2, keepdim=True)


CHAINS: list[Chain] = [
    RateChain(generator(), GeometricSchedule(0.01, 3.0)),
    MatrixChain(stochastic()),
    DiscretisedGaussianChain(4, [0.05, 0.1, 0.2, 0.4]),
]


def matrix(chain: Chain, s: float, t: float) -> Tensor:
    """``Q_{s,t}`` from the definition."""
    if isinstance(chain, MatrixChain):
        out = torch.eye(chain.states, dtype=torch.float64)
        for i in range(round(s * 4), round(t * 4)):
            out = out @ chain.matrices[i]
        return out
    assert isinstance(chain, RateChain)
    tau = -math.log(chain.level(t).alpha / chain.level(s).alpha)
    return torch.linalg.matrix_exp(tau * torch.as_tensor(chain.rate_matrix))


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def table() -> Tensor:
    values = torch.rand(4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) ** 2
    return values / values.sum()


X0 = torch.tensor([[0, 1, 2], [3, 3, 0]])
EVERY = torch.cartesian_prod(*[torch.arange(4)] * 3)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_products_with_the_transition_matrix(chain: Chain) -> None:
    x, v = torch.arange(4).expand(3, 4), torch.rand(3, 2, 4, dtype=torch.float64)
    for s, t in ((0.0, 0.5), (0.25, 0.5), (0.25, 1.0), (0.5, 0.5)):
        q = matrix(chain, s, t)
        close(chain.push(v, s, t), v @ q)
        close(chain.unpush(v @ q, s, t), v)
        close(chain.pull(x, s, t, torch.float64)[0], q.T)
        close(chain.row(x, s, t, torch.float64)[0], q)
        close(chain.marginal(x, t).probs[0], matrix(chain, 0.0, t))
        assert chain.pull(x, s, t, torch.float32).dtype == torch.float32
    first, last = torch.tensor([0.0, 0.25, 0.25]).double(), torch.tensor([0.5, 0.5, 1.0]).double()
    for i, q in enumerate(matrix(chain, float(s), float(t)) for s, t in zip(first, last)):
        close(chain.push(v, first, last)[i], v[i] @ q)
        close(chain.unpush(v, first, last)[i] @ q, v[i])
        close(chain.pull(x, first, last, torch.float64)[i], q.T)
        close(chain.row(x, first, last, torch.float64)[i], q)
    close(chain.stationary @ matrix(chain, 0.0, 1.0), chain.stationary)
    assert float(chain.stationary.sum()) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_posteriors_and_reverse_kernels_are_bayes_rule(chain: Chain) -> None:
    s, t = 0.25, 0.75
    first, second, whole = matrix(chain, 0.0, s), matrix(chain, s, t), matrix(chain, 0.0, t)
    x = EVERY[::5]
    joint = first[X0[:1].expand_as(x)] * second[:, x].permute(1, 2, 0)
    close(chain.posterior(X0[:1].expand_as(x), x, s, t).probs, joint / joint.sum(-1, keepdim=True))
    p = {u: torch.einsum("abc,ai,bj,ck->ijk", table(), *[matrix(chain, 0.0, u)] * 3).flatten() for u in (s, t)}
    posterior = EnumeratedDenoiser(chain, table())(x, t)
    index = torch.tensor([16, 4, 1])
    for n, state in enumerate(x):
        path = p[s] * second[EVERY, state].prod(1)
        for i in range(3):
            expected = torch.zeros(4, dtype=torch.float64).scatter_add(0, EVERY[:, i], path / path.sum())
            close(posterior.reverse(s).probs[n, i], expected)
            changed = state.repeat(4, 1)
            changed[:, i] = torch.arange(4)
            close(posterior.ratios[n, i], p[t][changed @ index] / p[t][state @ index])
    back = ScorePosterior(x, chain, chain.level(t), posterior.ratios.log())
    close(back.probs, posterior.probs)
    close(back.reverse(s).probs, posterior.reverse(s).probs)
    rest = (posterior.probs / whole[:, x].permute(1, 2, 0)).log()
    outputs = {"x0": posterior.log_probs, "rest": rest, "score": posterior.ratios.log()}
    for prediction, output in outputs.items():
        denoiser = CategoricalDenoiser(lambda x, c, output=output: output, chain, prediction)  # type: ignore[arg-type]
        close(denoiser(x, t).probs, posterior.probs)


def brute_force(chain: Chain, x0: Tensor) -> float:
    """All terms of the bound in four steps, over all noised states."""
    total = 0.0
    for j in range(1, 5):
        s, t = (j - 1) / 4, j / 4
        first, second, whole = matrix(chain, 0.0, s), matrix(chain, s, t), matrix(chain, 0.0, t)
        for state in EVERY:
            weight = float(whole[x0, state].prod())
            joint = torch.einsum("abc,a,b,c->abc", table(), *whole[:, state].T)
            for i in range(3):
                belief = joint.sum([a for a in range(3) if a != i])
                rows = first * second[:, state[i]]
                rows = rows / rows.sum(1, keepdim=True)
                q, p = rows[x0[i]], (belief / belief.sum()) @ rows
                some = q > 0
                total += weight * float((q[some] * (q[some] / p[some]).log()).sum())
    return total


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_bound_in_steps_equals_brute_force_and_lies_above_the_likelihood(chain: Chain) -> None:
    denoiser = EnumeratedDenoiser(chain, table())
    found = TokenBound(4, exact=True).evaluate(denoiser, X0)
    close(found.diffusion, torch.tensor([brute_force(chain, x0) for x0 in X0], dtype=torch.float64), 1e-8)
    q = matrix(chain, 0.0, 1.0)[X0]
    close(found.prior, (q * (q / chain.stationary).log()).sum((1, 2)), 1e-10)
    assert bool((found.nats >= -enumerated_log_prob(denoiser, X0, 4)).all())
    # The loss is the bound in expectation.
    loss = CategoricalBound(4)(denoiser, X0.repeat(20_000, 1)).reshape(-1, 2)
    assert bool(((loss.mean(0) - found.diffusion / 3).abs() < 4 * loss.std(0) / 20_000**0.5).all())


def test_continuous_bound_of_rates_equals_brute_force() -> None:
    """The score entropy of the true ratios, from the marginals of all states, by a rule of its own; and theory."""
    chain = CHAINS[0]
    assert isinstance(chain, RateChain)
    denoiser, generator = EnumeratedDenoiser(chain, table()), torch.as_tensor(chain.rate_matrix)
    found = TokenBound(exact=True).evaluate(denoiser, X0)
    expected = torch.zeros(2, dtype=torch.float64)
    nodes, weights = np.polynomial.legendre.leggauss(80)
    for u, du in zip(0.5 * (nodes + 1), 0.5 * weights):
        t, w = u**3, 3 * u**2 * du  # the integrand behaves like t log t at the data
        q, noise = matrix(chain, 0.0, t), chain.schedule.noise(float(t)) * math.log(300)  # n' = n log(high / low)
        p = torch.einsum("abc,ai,bj,ck->ijk", table(), q, q, q)
        for n, x0 in enumerate(X0):
            likely = torch.einsum("i,j,k->ijk", *q[x0])
            for i in range(3):
                of, given = p.movedim(i, -1), likely.movedim(i, -1)
                r_p, r_q = (v[..., None, :] / v[..., None] for v in (of, given))  # [..., x, y]
                loss = r_p - r_q * r_p.log() + r_q * (r_q.log() - 1)
                rates = (generator.T * noise).fill_diagonal_(0.0)
                expected[n] += w * float((given[..., None] * rates * loss).sum())
    close(found.diffusion, expected, 1e-8)
    # With the exact denoiser all that it costs beyond -log p(x_0) is the prior, E log p_1(x_1) / pi(x_1) given x_0.
    q = matrix(chain, 0.0, 1.0)
    ratio = torch.einsum("abc,ai,bj,ck->ijk", table(), q, q, q) / torch.einsum("i,j,k->ijk", *[chain.stationary] * 3)
    gap = torch.stack([(torch.einsum("i,j,k->ijk", *q[x0]) * ratio.log()).sum() for x0 in X0])
    close(found.nats, gap - denoiser.log_prob(X0), 1e-8)


def test_bounds_in_steps_tend_to_the_continuous_one() -> None:
    denoiser = EnumeratedDenoiser(CHAINS[0], table())
    limit = float(TokenBound(exact=True).evaluate(denoiser, X0[:1]).nats)
    gaps = [abs(float(TokenBound(n, exact=True).evaluate(denoiser, X0[:1]).nats) - limit) for n in (4, 16, 64)]
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]


@pytest.mark.parametrize(
    "chain",
    [
        UniformChain(4, TableSchedule(BETAS)),
        AbsorbingChain(3, TableSchedule(BETAS)),
        MarginalChain([0.4, 0.3, 0.2, 0.1], TableSchedule(BETAS)),
    ],
    ids=repr,
)
def test_chains_of_one_draw_are_special_cases(chain: InterpolatingChain) -> None:
    eye = torch.eye(4, dtype=torch.float64)
    pi = chain.stationary.expand(4, -1)
    steps = MatrixChain(torch.stack([(1 - b) * eye + b * pi for b in BETAS]))
    x = torch.arange(4)[None]
    for i in range(5):
        close(steps.row(x, 0.0, i / 4, torch.float64), chain.row(x, 0.0, i / 4, torch.float64))
        assert steps.level(i / 4).alpha == pytest.approx(chain.level(i / 4).alpha, abs=1e-12)
    close(steps.stationary, chain.stationary)
    if not isinstance(chain, AbsorbingChain):
        rates = RateChain(pi - eye, chain.schedule)
        for t in (1e-9, 0.1, 0.6, 1.0):
            close(rates.row(x, 0.0, t, torch.float64), chain.row(x, 0.0, t, torch.float64), 1e-14)
            close(rates.rates(x, t, torch.float64), chain.rates(x, t, torch.float64), 1e-12)
            close(rates.rates_from(x, t, torch.float64), chain.rates_from(x, t, torch.float64), 1e-12)


def test_rates_are_those_of_the_matrix() -> None:
    chain, x, h = CHAINS[0], torch.arange(4)[None], 1e-6
    assert isinstance(chain, RateChain)
    expected = (matrix(chain, 0.4, 0.4 + h) - matrix(chain, 0.4, 0.4)) / h
    expected.fill_diagonal_(0.0)
    torch.testing.assert_close(chain.rates(x, 0.4, torch.float64)[0], expected.T, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(chain.rates_from(x, 0.4, torch.float64)[0], expected, rtol=1e-4, atol=1e-6)
    # Detailed balance gives the second from the first.
    close(Chain.rates_from(chain, x, 0.4, torch.float64), chain.rates_from(x, 0.4, torch.float64))


def test_small_probabilities_keep_their_digits() -> None:
    """Along a line of states, ``exp(tau R)[0, d] = (tau^d / d!) prod R[i, i + 1]`` to first order in ``tau``."""
    line = torch.diag(torch.ones(6, dtype=torch.float64), 1)
    rates = line + line.T
    chain = RateChain(rates - rates.sum(1).diag(), PowerSchedule())
    t = 1e-5
    row = chain.row(torch.tensor([[0]]), 0.0, t, torch.float64)[0, 0]
    for d in range(1, 5):
        assert float(row[d]) == pytest.approx(t**d / math.factorial(d), rel=1e-3)
    close(
        chain.row(torch.tensor([[0]]), 0.0, 1.0, torch.float64)[0, 0],
        torch.full((7,), 1 / 7, dtype=torch.float64),
        1e-14,
    )
    assert bool((chain.row(torch.tensor([[0]]), 0.0, torch.tensor([1.0, 0.3]), torch.float64) > 0).all())


def test_neighbours_of_an_embedding_are_d3pms() -> None:
    embeddings = torch.tensor([[0.0], [1.0], [3.0], [6.0], [10.0]])
    chain = RateChain.neighbours(embeddings, 2, CosineSchedule())
    near = {(1, 0), (2, 0), (0, 1), (2, 1), (1, 2), (0, 2), (3, 2), (2, 3), (4, 3), (1, 3), (3, 4), (2, 4)}
    # The second neighbour of 2 is either of 0 and 3, at distance 3, and that of 3 is 2 and then 4.
    g = torch.zeros(5, 5, dtype=torch.float64)
    distance = (embeddings - embeddings.T).abs().fill_diagonal_(torch.inf)
    for y in range(5):
        for x in distance[y].topk(2, largest=False).indices.tolist():
            assert (x, y) in near
            g[x, y] = 1
    expected = (g + g.T) / 4
    close(torch.as_tensor(chain.rate_matrix), expected - expected.sum(1).diag())
    close(chain.stationary, torch.full((5,), 0.2, dtype=torch.float64))
    x0 = torch.zeros(1, 1, dtype=torch.int64)
    assert chain.marginal(x0, 0.3).probs.argsort(descending=True).flatten().tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="larger k"):
        RateChain.neighbours(torch.tensor([[0.0], [0.1], [5.0], [5.1]]), 1, CosineSchedule())
    with pytest.raises(ValueError, match="k=5"):
        RateChain.neighbours(embeddings, 5, CosineSchedule())
    with pytest.raises(ValueError, match="finite vectors"):
        RateChain.neighbours(torch.full((3, 2), torch.nan), 1, CosineSchedule())


def test_discretised_gaussian_is_the_papers() -> None:
    states, betas = 7, [0.02, 0.3]
    chain = DiscretisedGaussianChain(states, betas)
    for found, beta in zip(chain.matrices, betas):
        norm = sum(math.exp(-4 * n**2 / ((states - 1) ** 2 * beta)) for n in range(-(states - 1), states))
        expected = torch.zeros(states, states, dtype=torch.float64)
        for x in range(states):
            for y in range(states):
                if x != y:
                    expected[x, y] = math.exp(-4 * (x - y) ** 2 / ((states - 1) ** 2 * beta)) / norm
            expected[x, x] = 1 - expected[x].sum()
        close(found, expected, 1e-14)
    close(chain.stationary, torch.full((states,), 1 / states, dtype=torch.float64))


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_ancestral_samples_have_the_enumerated_distribution(chain: Chain) -> None:
    denoiser = EnumeratedDenoiser(chain, table())
    expected = enumerated_log_prob(denoiser, EVERY, 4).exp()
    assert float(expected.sum()) == pytest.approx(1, abs=1e-12)
    x = CategoricalAncestral(4).sample(denoiser, (10_000, 3), seed=0)
    counts = torch.bincount(x @ torch.tensor([16, 4, 1]), minlength=64).double()
    chi = float(((counts - 10_000 * expected) ** 2 / (10_000 * expected)).sum())
    assert chi < 63 + 5 * (2 * 63) ** 0.5


def test_tau_leaping_moves_along_rates() -> None:
    denoiser = EnumeratedDenoiser(RateChain(generator(), GeometricSchedule(0.001, 8.0)), table())
    x = TauLeaping(30, corrections=1).sample(denoiser, (3000, 3), seed=0)
    found = torch.bincount(x @ torch.tensor([16, 4, 1]), minlength=64) / 3000
    assert 0.5 * float((found - table().flatten()).abs().sum()) < 0.1  # 0.05 is what as many draws of the truth have
    with pytest.raises(ValueError, match="has no rates"):
        TauLeaping(4).sample(EnumeratedDenoiser(CHAINS[1], table()), (2, 3))


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_networks_get_finite_gradients(chain: Chain) -> None:
    torch.manual_seed(0)
    for prediction in ("x0", "rest"):
        layer = torch.nn.Linear(4, 4)
        denoiser = CategoricalDenoiser(
            lambda x, c, layer=layer: layer(torch.nn.functional.one_hot(x, 4).float()),  # type: ignore[arg-type]
            chain,
            prediction,  # type: ignore[arg-type]
        )
        x0 = torch.randint(0, 4, (256, 3))
        for objective in [CategoricalBound(4, 0.01)] + [CategoricalBound()] * isinstance(chain, RateChain):
            loss = objective(denoiser, x0)
            assert bool(loss.isfinite().all())
            layer.zero_grad()
            loss.mean().backward()
            assert layer.weight.grad is not None
            assert bool(layer.weight.grad.isfinite().all())


def test_impossible_data_have_no_share_in_a_step() -> None:
    """Where a step cannot lead from some data to the state, what a network believes about these does not count."""
    band = torch.tensor([[0.8, 0.2, 0.0], [0.2, 0.6, 0.2], [0.0, 0.2, 0.8]], dtype=torch.float64)
    chain = MatrixChain(band.expand(3, -1, -1))
    logits = torch.tensor([[[0.3, -0.2, 4.0]]], requires_grad=True)
    denoiser = CategoricalDenoiser(lambda x, c: logits, chain)  # type: ignore[arg-type]
    posterior = denoiser(torch.tensor([[0]]), 1 / 3)  # 2 leads to 0 in two steps at least
    expected = logits[0, 0, :2].softmax(0)
    close(posterior.reverse(0.0).probs[0, 0, :2], expected, 1e-6)
    loss = posterior.step_divergence(torch.tensor([[1]]), 0.0)
    close(loss.float(), -expected[1].log().reshape(1, 1), 1e-6)
    loss.sum().backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("chain", [RateChain(generator().tolist(), PowerSchedule()), *CHAINS[1:]], ids=repr)
def test_chains_survive_configuration(chain: Chain) -> None:
    rebuilt = from_config(json.loads(json.dumps(to_config(chain))), Chain)
    close(rebuilt.row(X0, 0.0, 0.5, torch.float64), chain.row(X0, 0.0, 0.5, torch.float64), 1e-15)


def test_times_between_steps_are_refused() -> None:
    chain = CHAINS[1]
    denoiser = EnumeratedDenoiser(chain, table())
    with pytest.raises(ValueError, match=r"t=0\.3: expected multiples of 1 / 4"):
        chain.marginal(X0, 0.3)
    with pytest.raises(ValueError, match="multiples of 1 / 4"):
        CategoricalAncestral(3).sample(denoiser, (1, 3))
    assert CategoricalAncestral(2, grid=UniformTime()).sample(denoiser, (1, 3)).shape == (1, 3)
    with pytest.raises(ValueError, match="has no rates"):
        denoiser(X0, 0.5).moment_divergence(X0)
    with pytest.raises(ValueError, match="has no rates"):
        chain.rate(0.5)


def _with(matrix: Tensor, x: int, y: int, value: float) -> Tensor:
    matrix = matrix.clone()
    matrix[..., x, y] = value
    return matrix


CYCLE = torch.tensor([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [1.0, 0.0, -1.0]])
LOOP = torch.tensor([[-3.0, 2.0, 1.0], [1.0, -3.0, 2.0], [2.0, 1.0, -3.0]])
APART = torch.block_diag(torch.tensor([[-1.0, 1.0], [1.0, -1.0]]), torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
MASKS = torch.tensor([[-1.0, 0.0, 1.0], [0.0, -1.0, 1.0], [0.0, 0.0, 0.0]])
FAINT = torch.tensor([[-1.0, 1.0, 0.0], [1.0, -1.0 - 1e-14, 1e-14], [0.0, 1e-14, -1e-14]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (torch.zeros(2, 3), r"shape \(2, 3\)"),
        (_with(generator(), 0, 1, -0.1), r"rate_matrix\[0, 1\]=-0.1: expected rates of at least 0"),
        (_with(generator(), 2, 2, 1.0), "row 2 sums to"),
        (_with(generator(), 1, 1, torch.nan), "NaN"),
        (CYCLE, "none back"),
        (LOOP, "around a cycle"),
        (APART, "never reached"),
        (MASKS, "AbsorbingChain"),
        (FAINT, "singular"),
    ],
)
def test_rates_that_are_none_are_refused(rates: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateChain(rates, PowerSchedule())


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        (stochastic()[0], r"shape \(4, 4\)"),
        (stochastic()[:1], r"shape \(1, 4, 4\)"),
        (_with(stochastic(), 0, 0, -0.1), "negative"),
        (_with(stochastic(), 0, 0, torch.nan), "NaN"),
        (_with(stochastic(), 1, 1, 2.0), r"matrices\[0\]: a row sums to"),
        (torch.eye(3).expand(4, 3, 3), "no single distribution"),
        (torch.eye(3).roll(1, 0).expand(4, 3, 3), "no single distribution"),
    ],
)
def test_matrices_that_are_none_are_refused(matrices: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatrixChain(matrices)


def test_forgotten_data_cannot_be_led_back() -> None:
    v = torch.rand(1, 1, 3, dtype=torch.float64)
    steps = MatrixChain(torch.full((2, 3, 3), 1 / 3))
    with pytest.raises(ValueError, match="singular"):
        steps.unpush(v, 0.0, 1.0)
    with pytest.raises(ValueError, match="forgotten"):
        RateChain(generator(3), PowerSchedule()).unpush(v, 0.0, 1.0)
    for bad in ([0.1], [0.1, -0.1], [0.1, torch.inf]):
        with pytest.raises(ValueError, match="betas"):
            DiscretisedGaussianChain(4, bad)
    with pytest.raises(ValueError, match="categories=1"):
        DiscretisedGaussianChain(1, [0.1, 0.2])


def test_level_of_a_chain_that_forgets_long_before_its_end() -> None:
    """Traces resolve shares to rounding; below, the level still falls and its times come back."""
    steps, eye = 1000, torch.eye(4, dtype=torch.float64)
    chain = MatrixChain((0.9 * eye + 0.025).expand(steps, -1, -1))
    levels = [chain.level(i / steps) for i in range(1, steps + 1)]
    assert all(later.alpha < level.alpha for level, later in itertools.pairwise(levels))
    for i in (1, 100, 200):
        assert levels[i - 1].alpha == pytest.approx(0.9**i, rel=1e-4)
    assert levels[-1].alpha == pytest.approx(1e-12, rel=1e-6)
    for i in (1, 200, 500, 1000):
        assert float(chain.schedule.time(levels[i - 1].log_snr)) == pytest.approx(i / steps, abs=1e-5)
    assert float(chain.left(torch.zeros(1, 1, dtype=torch.int64))) == pytest.approx(0, abs=1e-12)
