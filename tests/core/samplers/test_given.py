"""Known parts of a state: held by every sampler, told to the denoiser, and what is drawn is drawn given them."""

import dataclasses
from typing import Any

import pytest
import torch
from categorical_problems import ABSORBING, CHAINS, exact, table
from embedded_problems import embeddings, joint
from embedded_problems import exact as embedded
from torch import Tensor

from ornstein.core import (
    DDIM,
    DDPM,
    RK45,
    SDE,
    AdaptiveSDE,
    AnnealedLangevin,
    CategoricalAncestral,
    CategoricalBound,
    ContinuousBound,
    Denoiser,
    DenoisingObjective,
    DPMSolver,
    DPMSolverAdaptive,
    EDMSampler,
    EulerMaruyama,
    GaussianDenoiser,
    GaussianPosterior,
    Heun,
    PredictorCorrector,
    ProductSampler,
    Remasking,
    Restart,
    Sampler,
    SampleStep,
    TauLeaping,
    TokenBound,
    UniformChain,
    UniPC,
    Unmasking,
    VariationalBound,
    VESchedule,
)
from ornstein.core.chains import Chain
from ornstein.core.chains.posteriors import belief
from ornstein.core.products import IndependentDenoisers, ProductObjective
from ornstein.core.samplers.unmasking import Blockwise, LeftToRight
from ornstein.core.schedules import CosineSchedule
from ornstein.core.symmetric import CentredSDE

GIVEN = torch.tensor([[False, True, False]])


class Told(Denoiser[Any]):
    """Remembers what another denoiser is asked."""

    def __init__(self, inner: Denoiser[Any]) -> None:
        super().__init__(inner.process)
        self.inner = inner
        self.calls: list[dict[str, Any]] = []

    def forward(self, x_t: Any, t: Any, **condition: Any) -> Any:
        self.calls.append({"x": x_t, **condition})
        return self.inner(x_t, t, **condition)


def start(chain: Chain, num: int, category: int) -> Tensor:
    x = chain.prior((num, 3)).sample(generator=torch.Generator().manual_seed(0))
    x[:, 1] = category
    return x


@pytest.mark.parametrize("chain", CHAINS[:2], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("category", [0, 2])
def test_the_exact_denoiser_draws_the_conditional_distribution(chain: Chain, category: int) -> None:
    """On masks, whose state tells what is known, and on uniform noise, where the condition does."""
    num, steps = 8_000, 3 if chain is ABSORBING else 30
    sampler: Sampler = Unmasking(3, positions=LeftToRight()) if chain is ABSORBING else CategoricalAncestral(steps)
    x = start(chain, num, category)
    out = sampler.sample(exact(chain), (num, 3), x=x, given=GIVEN.expand(num, 3), seed=1)
    assert (out[:, 1] == category).all()
    p = table()[:, category]
    p = p / p.sum()
    counts = torch.zeros(4, 4, dtype=torch.float64).index_put(
        (out[:, 0], out[:, 2]), torch.ones(num, dtype=torch.float64), accumulate=True
    )
    chance = 0.8 * (p * (1 - p) / num).sqrt().sum() / 2
    bias = 0.0 if chain is ABSORBING else 0.01  # positions move at once, an error of order 1 in the step
    assert 0.5 * (counts / num - p).abs().sum() < 2.5 * chance + bias


@pytest.mark.parametrize(
    "sampler",
    [CategoricalAncestral(4), TauLeaping(4, corrections=1), Unmasking(3), Unmasking(4, positions=Blockwise(2)),
     Remasking(4, eta=0.9), Remasking(4, eta=0.9, confidence=True), CategoricalAncestral(4, denoise=True)],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("chain", CHAINS[:2], ids=lambda c: type(c).__name__)
def test_every_sampler_of_categories_holds_what_is_given(sampler: Sampler, chain: Chain) -> None:
    if not isinstance(chain, sampler.moves):
        pytest.skip("moves masks alone")
    steps: list[SampleStep] = []
    denoiser, x = Told(exact(chain)), start(chain, 50, 3)
    out = sampler.sample(denoiser, (50, 3), x=x, given=GIVEN.expand(50, 3), seed=0, callback=steps.append)
    assert (out[:, 1] == 3).all()
    assert all((step.x[:, 1] == 3).all() for step in steps)
    assert all((call["x"][:, 1] == 3).all() for call in denoiser.calls)
    assert all(torch.equal(call["given"], GIVEN.expand(50, 3)) for call in denoiser.calls)
    assert (out[:, 0] != out[0, 0]).any()


def test_a_denoiser_that_reads_what_is_done_is_told_of_each_part() -> None:
    class Reading(Told):
        def remember(self, x: Tensor, memory: Tensor | None = None, **condition: Any) -> Tensor:
            whole = x if memory is None else torch.cat([memory, x], 1)
            assert torch.equal(condition["given"], GIVEN.expand(50, 3)[:, whole.shape[1] - x.shape[1] : whole.shape[1]])
            return whole

        def forward(self, x_t: Tensor, t: Any, memory: Tensor | None = None, **condition: Any) -> Any:
            assert condition["given"].shape == x_t.shape
            whole = x_t if memory is None else torch.cat([memory, x_t], 1)
            logits = self.inner(whole, t).logits[:, whole.shape[1] - x_t.shape[1] :]
            return belief(x_t, self.process, self.process.level(t), logits)

    sampler, x = Unmasking(3, positions=Blockwise(1), cache="prefix"), start(ABSORBING, 50, 3)
    out = sampler.sample(Reading(exact(ABSORBING)), (50, 3), x=x, given=GIVEN.expand(50, 3), seed=0)
    plain = dataclasses.replace(sampler, cache="none")
    assert torch.equal(out, plain.sample(exact(ABSORBING), (50, 3), x=x, given=GIVEN.expand(50, 3), seed=0))


@pytest.mark.parametrize(
    "sampler",
    [DDPM(5), DDIM(5), Heun(5), DPMSolver(5), DPMSolver(5, order=3), UniPC(5), EDMSampler(5), EulerMaruyama(5),
     PredictorCorrector(5), AnnealedLangevin(5), Restart(8), RK45(5, rtol=0.01, atol=0.01),
     AdaptiveSDE(5, rtol=0.2, atol=0.2), DPMSolverAdaptive(5), DDIM(4, denoise=True)],
    ids=lambda s: type(s).__name__,
)  # fmt: skip
def test_every_gaussian_sampler_holds_what_is_given(sampler: Sampler) -> None:
    """At each evaluation, in each state that a callback sees and at the end, with padding beside it."""
    denoiser, x = Told(embedded(CosineSchedule())), torch.randn(6, 3, 3)
    given, mask = GIVEN.repeat(6, 1), torch.tensor([[True, True, False]]).repeat(6, 1)
    steps: list[SampleStep] = []
    out = sampler.sample(denoiser, x.shape, x=x, given=given, mask=mask, seed=0, callback=steps.append)
    assert torch.equal(out[:, 1], x[:, 1])
    assert (out[:, 2] == 0).all()
    assert all(torch.equal(call["x"][:, 1], x[:, 1]) for call in denoiser.calls)
    assert all(torch.equal(step.x[:, 1], x[:, 1]) for step in steps)
    assert not torch.isclose(out[:, 0], x[:, 0]).any()


@pytest.mark.parametrize("sampler", [DDPM(60), DPMSolver(20)], ids=lambda s: type(s).__name__)
def test_embedded_categories_are_drawn_given_others(sampler: Sampler) -> None:
    num, vectors = 2000, embeddings().vectors.float()
    x = torch.randn(num, 3, 3)
    x[:, 1] = vectors[2]
    tokens = embeddings().round(
        sampler.sample(embedded(), (num, 3, 3), x=x, given=GIVEN.expand(num, 3), seed=0).double()
    )
    p = joint()[:, 2]
    p = p / p.sum()
    counts = torch.zeros(4, 4, dtype=torch.float64).index_put(
        (tokens[:, 0], tokens[:, 2]), torch.ones(num, dtype=torch.float64), accumulate=True
    )
    assert (tokens[:, 1] == 2).all()
    assert 0.5 * (counts / num - p).abs().sum() < 0.8 * (p * (1 - p) / num).sqrt().sum()


def test_single_steps_hold_it_as_a_condition() -> None:
    x = torch.randn(6, 3, 3, dtype=torch.float64)
    condition = {"given": GIVEN.repeat(6, 1)}
    means: list[SampleStep] = []
    run = DDIM(4).sample(embedded(), x.shape, x=x, given=condition["given"], callback=means.append)
    for step in means:
        x = DDIM(4).step(embedded(), x, step.t, step.s, condition=condition)
        torch.testing.assert_close(x, step.x)
    torch.testing.assert_close(x, run)


def test_parts_of_a_product_are_held_by_name() -> None:
    both = IndependentDenoisers({"a": embedded(VESchedule()), "b": exact(ABSORBING)})
    sampler = ProductSampler(4, samplers={"a": DPMSolver(), "b": CategoricalAncestral()})
    x = {"a": torch.randn(5, 3, 3), "b": start(ABSORBING, 5, 2)}
    shape = {name: value.shape for name, value in x.items()}
    out = sampler.sample(both, shape, x=x, given={"b": GIVEN.repeat(5, 1)}, seed=0)
    assert (out["b"][:, 1] == 2).all()
    assert not torch.isclose(out["a"], x["a"]).any()
    out = sampler.sample(both, shape, x=x, given=GIVEN.repeat(5, 1), seed=0)
    assert torch.equal(out["a"][:, 1], x["a"][:, 1])


def test_what_cannot_be_held_is_refused() -> None:
    denoiser, x, given = embedded(), torch.randn(2, 3, 3), GIVEN.repeat(2, 1)
    with pytest.raises(ValueError, match="expected x with the clean data"):
        DDIM(2).sample(denoiser, x.shape, given=given)
    with pytest.raises(ValueError, match=r"given of shape \(2, 2\)"):
        DDIM(2).sample(denoiser, x.shape, x=x, given=given[:, :2])
    with pytest.raises(ValueError, match="holds the mask"):
        Unmasking(2).sample(exact(ABSORBING), (2, 3), x=torch.full((2, 3), 4), given=given)
    centred = GaussianDenoiser(CentredSDE(CosineSchedule()), torch.zeros(9), torch.eye(9))
    with pytest.raises(ValueError, match="subspace"):
        DDIM(2).sample(centred, x.shape, x=x - x.mean(1, keepdim=True), given=given)


# Losses and bounds.


@pytest.mark.parametrize("chain", CHAINS[:2], ids=lambda c: type(c).__name__)
def test_losses_of_categories_noise_and_count_the_rest_alone(chain: Chain) -> None:
    """With the exact denoiser the expected bound is the surprise of the rest given what is known."""
    num = 40_000
    x0 = torch.tensor([[1, 2, 0]]).expand(num, 3)
    denoiser, given = Told(exact(chain)), GIVEN.expand(num, 3)
    loss = CategoricalBound()(denoiser, x0, given=given, generator=torch.Generator().manual_seed(0))
    assert (denoiser.calls[0]["x"][:, 1] == 2).all()
    assert (denoiser.calls[0]["x"][:, 0] != 1).any()
    p = table()[:, 2]
    surprise = -(p[1, 0] / p.sum()).log()
    error = loss.std() / num**0.5
    assert abs(2 * loss.mean() - surprise) < 8 * error  # a mean over two positions; of twice the error, four


@pytest.mark.parametrize("chain", CHAINS[:2], ids=lambda c: type(c).__name__)
def test_the_bound_given_a_part_is_the_conditional_likelihood(chain: Chain) -> None:
    x0 = torch.tensor([[1, 2, 0], [3, 2, 3]])
    denoiser = exact(chain)
    bound = TokenBound(exact=True).evaluate(denoiser, x0, condition={"given": GIVEN.repeat(2, 1)})
    p = table()[:, 2]
    expected = -(p[x0[:, 0], x0[:, 2]] / p.sum()).log()
    torch.testing.assert_close(bound.nats, expected, rtol=2e-4, atol=2e-4)
    assert bound.tokens.tolist() == [2, 2]
    drawn = TokenBound(draws=400).evaluate(denoiser, x0, seed=0, condition={"given": GIVEN.repeat(2, 1)})
    assert ((drawn.nats - expected).abs() < 4 * drawn.standard_error).all()


def test_products_noise_the_rest_of_each_part() -> None:
    both = Told(IndependentDenoisers({"a": embedded(VESchedule()), "b": exact(UniformChain(4, CosineSchedule()))}))
    objective = ProductObjective({"a": DenoisingObjective(), "b": CategoricalBound()})
    x0 = {"a": torch.randn(50, 3, 3, dtype=torch.float64), "b": torch.randint(4, (50, 3))}
    given = {"b": GIVEN.repeat(50, 1)}
    losses = objective.losses(both, x0, given=given)
    x_t = both.calls[0]["x"]
    assert torch.equal(x_t["b"][:, 1], x0["b"][:, 1])
    assert not torch.isclose(x_t["a"], x0["a"]).any()
    assert all(loss.isfinite().all() for loss in losses.values())
    everything = {"a": GIVEN.repeat(50, 1), "b": torch.ones(50, 3, dtype=torch.bool)}
    assert (objective.losses(both, x0, given=everything)["b"] == 0).all()


def test_the_bound_of_densities_given_a_part_is_the_conditional_density() -> None:
    """Two numbers of unit variance and covariance 0.8, the first known: the other is N(0.8 x, 0.36)."""

    class Conditional(Denoiser):
        """``x_0`` of the second number given the first, which is the state."""

        def forward(self, x_t: Tensor, t: Any, given: Tensor, **condition: Any) -> Any:
            level = self.process.level(t).like(x_t)
            prior = 0.8 * x_t[:, :1]
            gain = level.alpha * 0.36 / (level.alpha**2 * 0.36 + level.sigma**2)
            mean = prior + gain * (x_t[:, 1:] - level.alpha * prior)
            return GaussianPosterior(x_t, self.process, self.process.level(t), torch.cat([x_t[:, :1], mean], 1))

    x0 = torch.tensor([[1.0, 0.5], [-0.3, 0.4]], dtype=torch.float64)
    given = torch.tensor([[True, False]]).repeat(2, 1)
    denoiser, told = Conditional(SDE(CosineSchedule())), {"condition": {"given": given}}
    density = torch.distributions.Normal(0.8 * x0[:, 0], 0.6).log_prob(x0[:, 1])
    bound = ContinuousBound(64, 60, spacing="log_snr").evaluate(denoiser, x0, seed=0, **told)
    assert bound.standard_error.max() < 0.3
    assert ((bound.nats + density).abs() < 4 * bound.standard_error + 0.02).all()
    # In steps it is above by an error of order 1.
    bounds = [VariationalBound(steps, draws=8).evaluate(denoiser, x0, seed=0, **told) for steps in (50, 200)]
    gaps = [bound.nats + density for bound in bounds]
    assert (gaps[0] > 4 * bounds[0].standard_error).all()
    assert (gaps[1] < 0.4 * gaps[0] + 4 * bounds[1].standard_error).all()
