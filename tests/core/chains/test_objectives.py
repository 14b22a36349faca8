"""Losses on categories: expectations against the enumerated bound, masks, and what theory says is equal."""

import pytest
import torch
from torch import Tensor, nn

from ornstein.core import CosineSchedule, DiscreteTimes, StratifiedTimes, UniformTimes
from ornstein.core.chains import (
    AbsorbingChain,
    CategoricalDenoiser,
    Chain,
    EnumeratedDenoiser,
    MarginalChain,
    UniformChain,
)
from ornstein.core.chains.objectives import CategoricalBound, TokenCrossEntropy
from ornstein.core.likelihood.categorical import TokenBound
from ornstein.core.masking_schedules import PowerSchedule

CHAINS: list[Chain] = [
    AbsorbingChain(4, PowerSchedule()),
    AbsorbingChain(5, CosineSchedule(s=0.0), mask_index=0),
    UniformChain(4, CosineSchedule(s=0.0)),
    MarginalChain([0.4, 0.3, 0.2, 0.1], PowerSchedule(2.0)),
]


class Table(nn.Module):
    """A network without structure: logits of each position from the whole state and the noise level."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.states = states
        self.layer = nn.Linear(2 * states + 1, 2 * states, dtype=torch.float64)

    def forward(self, x: Tensor, c: Tensor, mask: Tensor | None = None) -> Tensor:
        inputs = torch.cat([nn.functional.one_hot(x, self.states).double().flatten(1), c[:, None].double()], 1)
        return self.layer(inputs).reshape(len(x), 2, self.states)


def data(chain: Chain, count: int = 4) -> Tensor:
    low = 1 if isinstance(chain, AbsorbingChain) and chain.mask == 0 else 0
    return torch.randint(low, low + 4, (count, 2))


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@pytest.mark.parametrize("steps", [None, 5])
def test_loss_is_the_bound_in_expectation(chain: Chain, steps: int | None) -> None:
    # With "x0" the bound of a wrong belief is infinite under uniform noise: it expects jumps in the last moments.
    torch.manual_seed(0)
    denoiser = CategoricalDenoiser(Table(chain.states), chain, "rest")
    x0 = data(chain, 2)
    exact = TokenBound(steps, exact=True).evaluate(denoiser, x0)
    draws = 40_000
    loss = CategoricalBound(steps)(denoiser, x0.repeat(draws, 1)).detach().reshape(draws, 2)
    expected = exact.diffusion / 2  # nats a position
    error = loss.std(0) / draws**0.5
    assert bool(((loss.mean(0) - expected).abs() < 4 * error).all())


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_hybrid_loss_adds_the_cross_entropy(chain: Chain) -> None:
    torch.manual_seed(0)
    denoiser, x0 = CategoricalDenoiser(Table(chain.states), chain), data(chain, 50)

    def loss(objective: CategoricalBound | TokenCrossEntropy) -> Tensor:
        return objective(denoiser, x0, generator=torch.Generator().manual_seed(1))

    times = DiscreteTimes(7)
    together = loss(CategoricalBound(7, cross_entropy=0.3, times=times))
    parts = loss(CategoricalBound(7, times=times)) + 0.3 * loss(TokenCrossEntropy(times=times))
    torch.testing.assert_close(together, parts)


@pytest.mark.parametrize("objective", [CategoricalBound(), CategoricalBound(4, 0.1), TokenCrossEntropy()])
@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_padding_neither_counts_nor_is_noised(chain: Chain, objective: CategoricalBound) -> None:
    torch.manual_seed(0)
    seen: list[Tensor] = []

    class Watch(Table):
        def forward(self, x: Tensor, c: Tensor, mask: Tensor | None = None) -> Tensor:
            seen.append(x)
            return super().forward(x, c)

    denoiser, x0 = CategoricalDenoiser(Watch(chain.states), chain), data(chain, 30)
    mask = torch.tensor([[True, False]]).expand(30, 2)
    other = torch.where(mask, x0, 77)  # whatever stands in the padding
    first, second = (objective(denoiser, x, mask=mask, generator=torch.Generator().manual_seed(0)) for x in (x0, other))
    assert torch.equal(first, second)
    assert bool((seen[0][:, 1] == 0).all())


def test_under_masks_score_entropy_is_the_weighted_cross_entropy() -> None:
    """Ratios a / (1 - a) p(x_0 | x_t) have the loss and the gradient of p (2310.16834, section 3.3)."""
    torch.manual_seed(0)
    chain = AbsorbingChain(4, PowerSchedule())
    network = Table(5)

    class Ratios(nn.Module):
        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            # c = -log_snr / 8 and log(a / (1 - a)) = log_snr.
            free = network(x, c).index_fill(-1, torch.tensor(4), -torch.inf).log_softmax(-1)
            return free - 8 * c.double()[:, None, None]

    x0 = torch.randint(0, 4, (200, 2))
    grads = []
    for denoiser in (CategoricalDenoiser(network, chain), CategoricalDenoiser(Ratios(), chain, "score")):
        network.zero_grad()
        loss = CategoricalBound(times=UniformTimes())(denoiser, x0, generator=torch.Generator().manual_seed(4))
        loss.mean().backward()
        grads.append((loss.detach(), network.layer.weight.grad.clone()))
    torch.testing.assert_close(grads[0][0], grads[1][0], rtol=1e-6, atol=1e-6)  # c is float32
    torch.testing.assert_close(grads[0][1], grads[1][1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@pytest.mark.parametrize("t", [0.0, 1e-12, 1e-6, 1 - 1e-6, 1 - 1e-12, 1.0])
def test_losses_are_finite_at_the_ends_of_time(chain: Chain, t: float) -> None:
    """For a network in float32 that is sure of nothing; with "x0" at the data, see `CategoricalBound`."""
    for prediction in ("x0", "rest", "score"):
        network = Table(chain.states).float()
        network.forward = lambda x, c, net=network: net.layer(  # type: ignore[method-assign]
            torch.cat([nn.functional.one_hot(x, chain.states).float().flatten(1), c[:, None]], 1)
        ).reshape(len(x), 2, chain.states)
        denoiser = CategoricalDenoiser(network, chain, prediction)  # type: ignore[arg-type]
        x0, times = data(chain, 64), torch.full((64,), t, dtype=torch.float64)
        for objective in (CategoricalBound(), CategoricalBound(5), TokenCrossEntropy()):
            if prediction == "score" and (isinstance(objective, TokenCrossEntropy) or objective.steps):
                continue  # a network's ratios need not lead back to any distribution of data
            network.zero_grad()
            corrupted = objective.corrupt(chain, x0, times, None, None)
            loss = objective.judge(denoiser(corrupted.x_t, times), corrupted, None)
            loss.mean().backward()
            assert bool(loss.isfinite().all()), (prediction, objective)
            assert bool(network.layer.weight.grad.isfinite().all()), (prediction, objective)


def test_even_times_lower_the_variance() -> None:
    chain = AbsorbingChain(4, PowerSchedule())
    denoiser = EnumeratedDenoiser(chain, torch.rand(4, 4, generator=torch.Generator().manual_seed(0)))
    x0 = torch.randint(0, 4, (64, 2), generator=torch.Generator().manual_seed(0))

    def spread(objective: CategoricalBound) -> float:
        return float(torch.stack([objective(denoiser, x0).mean() for _ in range(300)]).std())

    assert spread(CategoricalBound(times=StratifiedTimes())) < 0.9 * spread(CategoricalBound(times=UniformTimes()))


def test_masked_cross_entropy_counts_masks_alone() -> None:
    chain = AbsorbingChain(3, PowerSchedule())
    denoiser = CategoricalDenoiser(lambda x, c: torch.zeros(*x.shape, 4), chain)  # type: ignore[arg-type]
    loss = TokenCrossEntropy("masked")(denoiser, torch.randint(0, 3, (100, 6)))
    masked = loss > 0
    torch.testing.assert_close(loss[masked], torch.full_like(loss[masked], 3.0).log())
    uniform = EnumeratedDenoiser(UniformChain(3, PowerSchedule()), torch.ones(3, 3))
    with pytest.raises(TypeError, match="AbsorbingChain"):
        TokenCrossEntropy("masked")(uniform, torch.zeros(2, 2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("x0", "mask", "message"),
    [
        (torch.tensor([[0, 9]]), None, "holds the category 9"),
        (torch.tensor([[0, -1]]), None, "holds the category -1"),
        (torch.tensor([[0, 4]]), None, "holds the mask"),
        (torch.tensor([[0.0, 1.0]]), None, "int64"),
        (torch.tensor([[0, 1]]), torch.tensor([[True]]), "mask of shape"),
        (torch.tensor([[0, 1]]), torch.tensor([[1, 0]]), "mask of shape"),
    ],
)
def test_bad_data_say_what_was_expected(x0: Tensor, mask: Tensor | None, message: str) -> None:
    denoiser = EnumeratedDenoiser(CHAINS[0], torch.ones(4, 4))
    with pytest.raises(ValueError, match=message):
        CategoricalBound()(denoiser, x0, mask=mask)


def test_a_small_network_learns() -> None:
    torch.manual_seed(0)
    chain = AbsorbingChain(4, PowerSchedule())
    denoiser = CategoricalDenoiser(Table(5), chain, timed=False)
    x0 = torch.tensor([[0, 1], [2, 3]]).repeat(32, 1)
    optimiser = torch.optim.Adam(denoiser.parameters(), 0.05)
    for _ in range(150):
        optimiser.zero_grad()
        CategoricalBound()(denoiser, x0).mean().backward()
        optimiser.step()
    bound = TokenBound(exact=True).evaluate(denoiser, x0[:2])
    assert bound.per_token < 0.45  # the entropy is log(2) / 2 = 0.347 a position; at the start it is about 1.4
