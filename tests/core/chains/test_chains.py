"""Chains of categories against explicit matrices and brute-force Bayes, on 4 categories at 3 positions."""

import pytest
import torch
from torch import Tensor

from ornstein.core import CosineSchedule, GeometricSchedule, PowerSchedule, TableSchedule
from ornstein.core.chains import (
    AbsorbingChain,
    CategoricalDenoiser,
    CategoricalPosterior,
    Chain,
    EnumeratedDenoiser,
    InterpolatingChain,
    MarginalChain,
    ScorePosterior,
    UniformChain,
)

PI = [0.4, 0.3, 0.2, 0.1]
CHAINS: list[InterpolatingChain] = [
    AbsorbingChain(4, PowerSchedule()),
    AbsorbingChain(5, CosineSchedule(), mask_index=4),
    UniformChain(4, CosineSchedule(s=0.0)),
    UniformChain(4, GeometricSchedule()),
    MarginalChain(PI, PowerSchedule(2.0)),
]
S, T = 0.3, 0.6


def table() -> Tensor:
    values = torch.rand(4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) ** 2
    return values / values.sum()


def share(chain: Chain, t: float) -> float:
    """``a(t)`` from the schedule alone."""
    log_snr = torch.sigmoid(chain.schedule.log_snr(torch.tensor([t, 0.0], dtype=torch.float64)))
    return float(log_snr[0] / log_snr[1])


def matrix(chain: Chain, s: float, t: float) -> Tensor:
    kept = share(chain, t) / share(chain, s)
    target = {AbsorbingChain: [0, 0, 0, 0, 1.0], UniformChain: [0.25] * 4, MarginalChain: PI}[type(chain)]
    pi = torch.tensor(target, dtype=torch.float64)
    return kept * torch.eye(len(pi), dtype=torch.float64) + (1 - kept) * pi.expand(len(pi), -1)


def every(chain: Chain) -> Tensor:
    return torch.cartesian_prod(*[torch.arange(chain.states)] * 3)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_products_with_the_transition_matrix(chain: InterpolatingChain) -> None:
    q, x = matrix(chain, S, T), torch.arange(chain.states)[None]
    v = torch.rand(2, 3, chain.states, dtype=torch.float64)
    close(chain.push(v, S, T), v @ q)
    close(chain.unpush(v @ q, S, T), v)
    close(chain.pull(x, S, T, torch.float64)[0], q.T)
    close(chain.row(x, S, T, torch.float64)[0], q)
    close(matrix(chain, 0.0, S) @ q, matrix(chain, 0.0, T))  # they compose
    per_sample = torch.tensor([T, 0.4], dtype=torch.float64)
    close(chain.push(v, S, per_sample)[1], v[1] @ matrix(chain, S, 0.4))
    close(chain.pull(x.expand(2, -1), S, per_sample, torch.float64)[1], matrix(chain, S, 0.4).T)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_rates_are_the_derivative_of_the_matrix(chain: InterpolatingChain) -> None:
    h, x = 1e-6, torch.arange(chain.states)[None]
    rates = (matrix(chain, T, T + h) - torch.eye(chain.states, dtype=torch.float64)) / h
    rates.fill_diagonal_(0)
    torch.testing.assert_close(chain.rates(x, T, torch.float64)[0], rates.T, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(chain.rates_from(x, T, torch.float64)[0], rates, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_marginals_and_posteriors_are_those_of_the_matrices(chain: InterpolatingChain) -> None:
    x0 = torch.randint(0, 4, (7, 3))
    xt = chain.marginal(x0, T).sample(generator=torch.Generator().manual_seed(0))
    q = matrix(chain, 0.0, T)
    close(chain.marginal(x0, T).probs, q[x0])
    close(chain.marginal(x0, T).log_prob(xt), q[x0, xt].log())
    joint = matrix(chain, 0.0, S)[x0] * matrix(chain, S, T)[:, xt].permute(1, 2, 0)
    close(chain.posterior(x0, xt, S, T).probs, joint / joint.sum(-1, keepdim=True))
    with pytest.raises(ValueError, match="towards the data"):
        chain.posterior(x0, xt, T, S)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_draws_of_the_marginal_have_its_frequencies(chain: InterpolatingChain) -> None:
    x0 = torch.arange(4).expand(50_000, 4)
    times = torch.where(torch.arange(50_000) % 2 == 0, S, T)
    x = chain.marginal(x0, times).sample(generator=torch.Generator().manual_seed(1))
    for start, t in ((0, S), (1, T)):
        found = torch.nn.functional.one_hot(x[start::2], chain.states).double().mean(0)
        assert float((found - matrix(chain, 0.0, t)[:4]).abs().max()) < 5 * (0.25 / 25_000) ** 0.5


def truth(chain: Chain, x: Tensor) -> tuple[Tensor, Tensor]:
    """Reverse kernel of each position and ratios, from ``p_s`` and ``p_t`` of all states."""
    states, size = every(chain), chain.states
    p = {}
    for t in (S, T):
        q = matrix(chain, 0.0, t)[:4]
        p[t] = torch.einsum("abc,ai,bj,ck->ijk", table(), q, q, q).flatten()
    step, kernels, ratios = matrix(chain, S, T), [], torch.empty(len(x), 3, size, dtype=torch.float64)
    index = torch.tensor([size * size, size, 1])
    for n, state in enumerate(x):
        weight = p[S] * torch.stack([step[states[:, i], state[i]] for i in range(3)]).prod(0)
        weight = weight / weight.sum()
        kernels.append(
            torch.stack([torch.zeros(size, dtype=torch.float64).scatter_add(0, states[:, i], weight) for i in range(3)])
        )
        for i in range(3):
            changed = state.repeat(size, 1)
            changed[:, i] = torch.arange(size)
            ratios[n, i] = p[T][changed @ index] / p[T][state @ index]
    return torch.stack(kernels), ratios


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_what_follows_from_the_exact_belief(chain: InterpolatingChain) -> None:
    x = every(chain)[torch.randperm(chain.states**3, generator=torch.Generator().manual_seed(0))[:12]]
    posterior = EnumeratedDenoiser(chain, table())(x, T)
    kernel, ratios = truth(chain, x)
    close(posterior.reverse(S).probs, kernel)
    known = chain.rates(x, T, torch.float64) > 0
    close(posterior.ratios[known], ratios[known])
    # Back from the ratios, and by the forms that know nothing of masks.
    close(ScorePosterior(x, chain, chain.level(T), ratios.log()).probs, posterior.probs)
    plain = CategoricalPosterior(x, chain, chain.level(T), posterior.log_probs)
    x0 = torch.where(x < 4, x, 1) if isinstance(chain, AbsorbingChain) else torch.randint(0, 4, x.shape)
    close(plain.step_divergence(x0, S), posterior.step_divergence(x0, S))
    close(plain.moment_divergence(x0), posterior.moment_divergence(x0), 1e-9)
    h = 1e-6
    rate = posterior.step_divergence(x0, T - h) / h
    torch.testing.assert_close(rate, posterior.moment_divergence(x0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_three_predictions_mean_one_posterior(chain: InterpolatingChain) -> None:
    x = every(chain)[5:40:3]
    exact = EnumeratedDenoiser(chain, table())(x, T)
    _, ratios = truth(chain, x)
    pull = chain.pull(x, 0.0, T, torch.float64)
    rest = torch.where(pull > 0, exact.probs / pull, 1.0).log()  # p(x_0 | rest), up to a constant
    for prediction, output in (("x0", exact.log_probs), ("rest", rest), ("score", ratios.log())):
        denoiser = CategoricalDenoiser(lambda x, c, output=output: output, chain, prediction)  # type: ignore[arg-type]
        close(denoiser(x, T).probs, exact.probs)
        close(denoiser(x, T).reverse(S).probs, exact.reverse(S).probs)


def test_uniform_and_absorbing_chains_are_d3pms_at_grid_times() -> None:
    """Products of the per-step matrices of 2107.03006, appendix A.2.1 and A.2.2."""
    betas = [0.1, 0.2, 0.35, 0.5]
    alpha_bar = torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0)
    schedule = TableSchedule(tuple(betas))
    for chain, target in ((UniformChain(4, schedule), [0.25] * 4), (AbsorbingChain(4, schedule), [0, 0, 0, 0, 1.0])):
        pi, whole = torch.tensor(target, dtype=torch.float64), torch.eye(chain.states, dtype=torch.float64)
        x = torch.arange(chain.states)[None]
        for i, beta in enumerate(betas):
            whole = whole @ ((1 - beta) * torch.eye(len(pi), dtype=torch.float64) + beta * pi.expand(len(pi), -1))
            t = torch.tensor((i + 1) / 4, dtype=torch.float64)
            close(torch.sigmoid(schedule.log_snr(t)), alpha_bar[i], 1e-12)
            close(chain.row(x, 0.0, float(t), torch.float64)[0], whole, 1e-12)
            close(chain.pull(x, 0.0, float(t), torch.float64)[0], whole.T, 1e-12)


def test_marginal_chain_keeps_the_frequencies() -> None:
    chain = MarginalChain(PI, PowerSchedule())
    close(chain.push(torch.tensor([[PI]], dtype=torch.float64), 0.0, T), torch.tensor([[PI]], dtype=torch.float64))
    data = torch.tensor([[0, 0, 1], [2, 0, 9]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found = MarginalChain.of(data, 4, PowerSchedule(), mask)
    close(found.stationary, torch.tensor([3, 1, 1, 1], dtype=torch.float64) / 6)  # category 3 counts as once seen
    close(MarginalChain.of(data[0], 2, PowerSchedule()).stationary, torch.tensor([2, 1], dtype=torch.float64) / 3)
    for bad, where, message in (
        (data, None, "category 9"),
        (-data, mask, "category -"),
        (data.double(), mask, "float64"),
        (data, mask[0], "mask of shape"),
        (data, mask.long(), "mask of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            MarginalChain.of(bad, 4, PowerSchedule(), where)


def test_large_vocabularies_need_no_matrix() -> None:
    """A matrix of 100,000 x 100,000 would take 80 GB."""
    even = torch.full((100_000,), 1e-5)
    chains: list[Chain] = [UniformChain(100_000, PowerSchedule()), AbsorbingChain(100_000, PowerSchedule())]
    for chain in [*chains, MarginalChain(even, PowerSchedule())]:
        x0 = torch.randint(0, 100_000, (1, 4))
        xt = chain.marginal(x0, T).sample()
        denoiser = CategoricalDenoiser(lambda x, c, s=chain.states: torch.zeros(*x.shape, s), chain)  # type: ignore[arg-type]
        assert denoiser(xt, T).reverse(S).sample(torch.rand(1, 4, dtype=torch.float64)).shape == (1, 4)
        assert bool((denoiser(xt, T).step_divergence(x0, S) >= 0).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniformChain(1, PowerSchedule()), "categories=1"),
        (lambda: AbsorbingChain(4, PowerSchedule(), mask_index=4), "mask_index=4"),
        (lambda: MarginalChain([0.5, 0.6], PowerSchedule()), "sum to 1"),
        (lambda: MarginalChain([1.0, 0.0], PowerSchedule()), "positive"),
        (lambda: MarginalChain([0.5, float("nan")], PowerSchedule()), "positive"),
        (lambda: AbsorbingChain(1, PowerSchedule(), mask_index=0), "categories=1"),
        (lambda: EnumeratedDenoiser(CHAINS[2], torch.ones(5, 5)), "table of shape"),
        (lambda: EnumeratedDenoiser(CHAINS[2], -torch.ones(4, 4)), "expected probabilities"),
        (lambda: EnumeratedDenoiser(CHAINS[2], torch.full((4, 4), torch.nan)), "expected probabilities"),
        (lambda: CHAINS[0].unpush(torch.ones(1, 1, 5), 0.0, 1.0), "forgotten"),
        (lambda: CategoricalDenoiser(None, CHAINS[0], "eps"), "prediction='eps'"),  # type: ignore[arg-type]
        (
            lambda: CategoricalDenoiser(lambda x, c: torch.zeros(1, 3, 4), CHAINS[0])(torch.zeros(1, 3).long(), T),  # type: ignore[arg-type]
            "network's answer of shape",
        ),
    ],
)
def test_bad_arguments_say_what_was_expected(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


MASK = torch.tensor([[True, True, False]])


@pytest.mark.parametrize(
    ("x", "mask", "message"),
    [
        ([[0, 1, 9]], None, "category 9: expected 0 to 4"),
        ([[0, -1, 1]], MASK, "category -1"),
        ([[0.0, 1.0, 2.0]], None, "argmax"),
        ([0, 1, 2], None, r"shape \(3,\)"),
        ([[0, 1, 2]], MASK[:, :2], r"mask of shape \(1, 2\)"),
        ([[0, 1, 2]], MASK.expand(2, 3), r"mask of shape \(2, 3\)"),
        ([[0, 1, 2]], MASK.long(), "torch.int64"),
        ([[0, 4, 1]], MASK, "holds the mask, category 4"),
    ],
)
def test_data_that_are_none_are_refused(x: list, mask: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CHAINS[0].check_data(torch.tensor(x), mask)


def test_data_are_taken_with_anything_at_padding() -> None:
    for value in (9, -1, 4):
        CHAINS[0].check_data(torch.tensor([[0, 1, value]]), MASK)
    CHAINS[0].check_state(torch.tensor([[0, 4, 1]]))
    CHAINS[1].check_data(torch.zeros(0, 3, dtype=torch.int64))


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_no_time_changes_nothing_even_after_the_end(chain: InterpolatingChain) -> None:
    v = torch.rand(2, 3, chain.states, dtype=torch.float64)
    last = torch.ones(2, dtype=torch.float64)
    for s, t in ((1.0, float("1.00")), (last, last.clone()), (0.0, -0.0), (T, T)):
        close(chain.push(v, s, t), v)
        close(chain.unpush(v, s, t), v)


def test_a_chain_is_asked_of_the_denoiser() -> None:
    from ornstein.core import SDE

    with pytest.raises(TypeError, match="expected a Chain"):
        CategoricalDenoiser(None, SDE(PowerSchedule()))  # type: ignore[arg-type]
