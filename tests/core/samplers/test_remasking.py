"""Remasking: what it keeps exactly, to what it converges, and its schedules."""

import itertools
import math

import pytest
import torch
from categorical_problems import ABSORBING, distance, drawn, exact, product, states, surprise, table, target
from torch import Tensor

from ornstein.core import CosineSchedule, ProductSampler
from ornstein.core.chains import AbsorbingChain, CategoricalDenoiser, EnumeratedDenoiser
from ornstein.core.grids import Times, UniformTime
from ornstein.core.masking_schedules import PowerSchedule
from ornstein.core.products import IndependentDenoisers
from ornstein.core.samplers.remasking import Remasking

STRATEGIES = [
    Remasking(8, eta=0.3),
    Remasking(8, eta=1.0),
    Remasking(8, strategy="cap", eta=0.2),
    Remasking(8, strategy="cap", eta=1.0),
    Remasking(8, eta=0.5, interval=(0.3, 0.8)),
    Remasking(8, strategy="cap", eta=0.4, held=3, at=0.4),
]


@pytest.mark.parametrize("sampler", STRATEGIES, ids=repr)
@pytest.mark.parametrize("schedule", [PowerSchedule(), PowerSchedule(3.0), CosineSchedule(s=0.0)], ids=repr)
def test_the_marginal_is_kept_exactly(sampler: Remasking, schedule: object) -> None:
    """``q(x_s | x_0)`` follows from ``q(x_t | x_0)`` by the kernel of the step, whatever sigma."""
    chain = AbsorbingChain(4, schedule)  # type: ignore[arg-type]
    times = sampler.route(chain)
    for (t, s), (show, sigma) in zip(itertools.pairwise(times.tolist()), sampler.plan(chain, times).tolist()):
        assert -1e-15 <= show <= 1 + 1e-15
        assert 0 <= sigma <= 1
        known = chain.level(t).alpha * (1 - sigma) + chain.level(t).sigma * show
        assert known == pytest.approx(chain.level(s).alpha, abs=1e-12)


def moved(sampler: Remasking) -> Tensor:
    """The exact distribution of samples over all states."""
    every, times = states(ABSORBING), sampler.route(ABSORBING)
    shown = exact(ABSORBING)(every, 0.5).probs  # time tells nothing under masks
    mask, masked = torch.nn.functional.one_hot(torch.tensor(4), 5), (every == 4)[..., None]
    now = product(ABSORBING.stationary.expand(1, 3, 5))[0]
    for show, sigma in sampler.plan(ABSORBING, times).tolist():
        kernel = torch.where(masked, show * shown + (1 - show) * mask, (1 - sigma) * shown + sigma * mask)
        now = now @ product(kernel)
    return now


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (lambda steps: Remasking(steps, eta=0.0), 1.0),
        (lambda steps: Remasking(steps, eta=2 / steps), 1.0),
        (lambda steps: Remasking(steps, strategy="cap", eta=2 / steps), 1.0),
        (lambda steps: Remasking(steps, eta=0.3), 0.5),
    ],
    ids=["ancestral", "rescale", "cap", "fixed"],
)
def test_it_converges_at_its_order(make, order: float) -> None:
    errors = [distance(ABSORBING, moved(make(steps))) for steps in (64, 128, 256)]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.06)


@pytest.mark.parametrize("sampler", STRATEGIES, ids=repr)
def test_samples_are_distributed_as_the_kernels_say(sampler: Remasking) -> None:
    torch.manual_seed(2)
    expected = moved(sampler)
    found = drawn(sampler, ABSORBING, 20_000)
    assert surprise(found, expected, 20_000) < 4
    assert surprise(found, target(ABSORBING), 20_000) > 20


def changes(sampler: Remasking) -> dict[float, int]:
    """How many positions each step masks again, by its start."""
    out: dict[float, int] = {}
    before = [torch.full((500, 3), 4)]

    def note(step) -> None:
        again = int(((before[-1] != 4) & (step.x == 4)).sum())
        out[round(step.t, 6)] = out.get(round(step.t, 6), 0) + again
        before.append(step.x.clone())

    sampler.sample(exact(ABSORBING), (500, 3), seed=0, callback=note)
    return out


def test_switch_and_loop_mask_again_where_they_should() -> None:
    switch = changes(Remasking(10, eta=1.0, interval=(0.35, 0.75)))
    assert all((count > 0) == (0.35 <= t <= 0.75) for t, count in switch.items())
    loop = changes(Remasking(10, eta=1.0, held=5, at=0.42))
    assert [t for t, count in loop.items() if count] == [0.42]
    assert Remasking(10, held=5, at=0.42).route(ABSORBING).tolist().count(0.42) == 6


def test_confidence_shares_sigma_out_by_what_was_drawn() -> None:
    """Both positions shown in the first step: each is masked with ``sigma softmax(-psi)``."""
    likely = torch.tensor([0.9, 0.1], dtype=torch.float64)
    denoiser = EnumeratedDenoiser(AbsorbingChain(2, PowerSchedule()), torch.outer(likely, likely))
    seen: list[Tensor] = []
    sampler = Remasking(3, eta=1.0, confidence=True, grid=Times((1.0, 0.5, 0.4, 0.0)))
    sampler.sample(denoiser, (40_000, 2), seed=0, callback=lambda step: seen.append(step.x.clone()))
    sigma = 0.4 / 0.5
    for pair in ([0, 0], [0, 1], [1, 0]):
        both = (seen[0] == torch.tensor(pair)).all(1)
        share = sigma * (-likely[pair]).softmax(0)
        found = (seen[1][both] == 2).double().mean(0)
        tolerance = 4 * (share * (1 - share) / int(both.sum())).sqrt()
        assert bool(((found - share).abs() < tolerance).all())


@pytest.mark.parametrize(
    "sampler", [Remasking(5, confidence=True, eta=0.5), Remasking(5, held=3, at=0.4)], ids=["confidence", "loop"]
)
def test_samples_are_data_do_not_depend_on_the_batch_and_cost_what_is_said(sampler: Remasking) -> None:
    steps: list[int] = []
    together = sampler.sample(exact(ABSORBING), (6, 3), seed=5, callback=lambda step: steps.append(step.index))
    assert len(steps) == sampler.nfe() == sampler.nfe(process=ABSORBING)
    assert int(together.max()) < 4
    alone = torch.cat([sampler.sample(exact(ABSORBING), (1, 3), seed=5, first=i) for i in range(6)])
    assert torch.equal(together, alone)


def test_given_positions_stay_by_confidence_and_padding_is_blank() -> None:
    sampler = Remasking(6, confidence=True, eta=1.0)
    x = torch.tensor([[4, 2, 4]]).expand(50, 3)
    assert bool((sampler.sample(exact(ABSORBING), (50, 3), x=x, seed=0)[:, 1] == 2).all())
    mask = torch.tensor([[True, True, False]]).expand(50, 3)
    out = sampler.sample(exact(ABSORBING), (50, 3), mask=mask, seed=0)
    assert bool((out[:, 2] == 0).all())
    assert int(out.max()) < 4


def test_networks_of_ratios_and_products_are_served() -> None:
    network = CategoricalDenoiser(lambda x, c: torch.zeros(*x.shape, 5), ABSORBING, "score")  # type: ignore[arg-type]
    assert int(Remasking(4).sample(network, (20, 3), seed=0).max()) < 4
    both = IndependentDenoisers({"a": exact(ABSORBING), "b": exact(ABSORBING)})
    sampler = Remasking(6, confidence=True, eta=0.5)
    pair = ProductSampler(6, samplers={"a": sampler, "b": sampler}, grid=UniformTime())
    found = pair.sample(both, {"a": (7, 3), "b": (7, 3)}, seed=3)
    assert torch.equal(found["a"], sampler.sample(exact(ABSORBING), (7, 3), seed=3))
    assert int(found["b"].max()) < 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Remasking(4, eta=1.5), "eta=1.5"),
        (lambda: Remasking(4, strategy="max"), "strategy='max'"),  # type: ignore[arg-type]
        (lambda: Remasking(4, at=1.0), "at=1.0"),
        (lambda: Remasking(4, held=-1), "held=-1"),
        (lambda: Remasking(4, interval=(0.5, 0.5)), "interval="),
        (lambda: Remasking(4, held=2, interval=(0.2, 0.5)), "interval="),
        (lambda: Remasking(1, held=1).sample(EnumeratedDenoiser(ABSORBING, table()), (1, 3)), "at least 2 steps"),
    ],
)
def test_bad_arguments_say_what_was_expected(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
