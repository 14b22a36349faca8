"""Unmasking: orders, numbers, blocks and what is remembered, on a space that can be enumerated."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from categorical_problems import ABSORBING, CHAINS, distance, drawn, exact, floor, outcome, surprise, table, target
from torch import Tensor

from ornstein.core import ClassifierFreeGuidance, CosineSchedule, ProductSampler
from ornstein.core.chains import AbsorbingChain, CategoricalDenoiser, EnumeratedDenoiser
from ornstein.core.chains.posteriors import belief
from ornstein.core.grids import UniformTime
from ornstein.core.masking_schedules import PowerSchedule
from ornstein.core.products import IndependentDenoisers
from ornstein.core.samplers.categorical import CategoricalAncestral
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

ORDERS: list[UnmaskingOrder] = [
    RandomOrder(),
    LeftToRight(),
    ConfidentFirst(),
    MarginFirst(),
    SureFirst(),
    Blockwise(2),
    Blockwise(2, LeftToRight()),
    Blockwise(1, ConfidentFirst()),
]


def exact_order(positions: UnmaskingOrder) -> Tensor:
    """Distribution over the data of unmasking one position a step, by enumeration."""
    denoiser, out = exact(ABSORBING), torch.zeros(4, 4, 4, dtype=torch.float64)
    reached = {(4, 4, 4): 1.0}
    for step in range(3):
        following: dict[tuple[int, ...], float] = {}
        for state, mass in reached.items():
            x = torch.tensor([state])
            posterior = denoiser(x, 1 - step / 3)
            rank = positions.rank(posterior, torch.rand(x.shape, dtype=torch.float64))  # type: ignore[arg-type]
            best = int(torch.where(x == 4, rank, -torch.inf)[0].argmax())
            end = next(end for end in positions.ends(3) if best < end)
            chosen = [best] if not positions.random else [i for i in range(end) if state[i] == 4]
            for i in chosen:
                for v, p in enumerate(posterior.probs[0, i, :4].tolist()):
                    new = (*state[:i], v, *state[i + 1 :])
                    following[new] = following.get(new, 0.0) + mass * p / len(chosen)
        reached = following
    for state, mass in reached.items():
        out[state] = mass
    return out


@pytest.mark.parametrize("positions", ORDERS, ids=repr)
def test_any_order_one_position_a_step_has_the_joint_distribution(positions: UnmaskingOrder) -> None:
    torch.testing.assert_close(exact_order(positions), table(), rtol=0, atol=1e-8)
    torch.manual_seed(0)
    found = drawn(Unmasking(3, positions=positions), ABSORBING, 20_000)
    assert surprise(found, target(ABSORBING), 20_000) < 4


def test_fewer_steps_than_positions_are_worse_and_more_are_no_better() -> None:
    torch.manual_seed(0)
    errors = [distance(ABSORBING, drawn(Unmasking(steps), ABSORBING, 20_000)) for steps in (1, 2, 3, 7)]
    assert errors[0] > 2 * errors[1] > 4 * floor(20_000)
    assert max(errors[2:]) < 1.5 * floor(20_000)


def test_a_binomial_number_at_random_positions_is_the_ancestral_sampler() -> None:
    torch.manual_seed(0)
    expected = outcome(ABSORBING, 6, lambda denoiser, x, t, s: denoiser(x, t).reverse(s).probs)
    found = drawn(Unmasking(6, count="binomial"), ABSORBING, 20_000)
    assert surprise(found, expected, 20_000) < 4
    assert surprise(found, target(ABSORBING), 20_000) > 20


def hidden(sampler: Unmasking, shape: tuple[int, ...], **given: Any) -> list[Tensor]:
    """Where the mask is after each step, for a network that says nothing."""
    chain = AbsorbingChain(4, given.pop("schedule", PowerSchedule()))
    network = CategoricalDenoiser(lambda x, c, **_: torch.zeros(*x.shape, 5), chain)  # type: ignore[arg-type]
    seen: list[Tensor] = []
    sampler.sample(network, shape, seed=0, callback=lambda step: seen.append(step.x == 4), **given)
    return seen


@pytest.mark.parametrize("positions", ORDERS, ids=repr)
def test_as_many_are_shown_as_the_schedule_says(positions: UnmaskingOrder) -> None:
    for schedule in (PowerSchedule(), CosineSchedule(s=0.0)):
        chain = AbsorbingChain(4, schedule)
        for steps in (4, 12, 30):
            seen = hidden(Unmasking(steps, positions=positions), (5, 12), schedule=schedule)
            if len(positions.ends(12)) == 1:
                shares = [chain.level(s).sigma for s in UniformTime()(steps, chain).tolist()[1:]]
                assert [h.sum(1).tolist() for h in seen] == [5 * [round(12 * share)] for share in shares]
            assert not bool(seen[-1].any())


def test_the_binomial_number_has_its_mean_and_variance() -> None:
    seen = hidden(Unmasking(4, count="binomial"), (4000, 10))
    shown = 10 - seen[0].sum(1).double()  # Binomial(10, 1/4)
    assert float(shown.mean()) == pytest.approx(2.5, abs=4 * (10 * 3 / 16 / 4000) ** 0.5)
    assert float(shown.var()) == pytest.approx(10 * 3 / 16, rel=4 * (2 / 4000) ** 0.5)
    assert not bool(seen[-1].any())


def test_blocks_are_shown_one_after_the_other_in_even_shares_of_the_steps() -> None:
    for positions in (Blockwise(4), Blockwise(4, LeftToRight())):
        counts = [h.unflatten(1, (3, 4)).sum(2) for h in hidden(Unmasking(12, positions=positions), (6, 12))]
        for step, count in enumerate(counts):
            block, inside = divmod(step + 1, 4)
            expected = [0 if b < block else 4 - inside if b == block else 4 for b in range(3)]
            assert count.tolist() == 6 * [expected]
    # Fewer steps than blocks: neighbours together; more steps than positions: some show nothing.
    few = hidden(Unmasking(2, positions=Blockwise(4)), (6, 12))
    assert few[0].tolist() == 6 * [8 * [False] + 4 * [True]]
    many = hidden(Unmasking(30, positions=Blockwise(4)), (6, 12))
    assert not bool(many[9][:, :4].any())
    assert bool(many[9][:, 4:].all())
    # Blocks that are filled at the start take their steps and show nothing.
    x = torch.tensor([[1] * 4 + [4] * 8])
    filled = hidden(Unmasking(12, positions=Blockwise(4)), (1, 12), x=x)
    assert [int(h.sum()) for h in filled[:4]] == [8] * 4
    assert [int(h.sum()) for h in filled[4:]] == [7, 6, 5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("positions", "first"),
    [(LeftToRight(), 0), (ConfidentFirst(), 1), (MarginFirst(), 2), (SureFirst(), 3), (Blockwise(3, SureFirst()), 1)],
    ids=repr,
)
def test_orders_choose_by_what_they_are_called(positions: UnmaskingOrder, first: int) -> None:
    p = torch.tensor(
        [
            [0.40, 0.30, 0.20, 0.10],
            [0.53, 0.35, 0.07, 0.05],  # the likeliest category
            [0.50, 0.17, 0.17, 0.16],  # the widest margin
            [0.51, 0.48, 0.01, 0.00],  # the least entropy
        ]
    )
    logits = torch.cat([p, torch.zeros(4, 1)], 1).log()
    network = CategoricalDenoiser(lambda x, c: logits.expand(len(x), 4, 5), ABSORBING)  # type: ignore[arg-type]
    seen: list[Tensor] = []
    Unmasking(4, positions=positions).sample(network, (3, 4), callback=lambda step: seen.append(step.x != 4))
    assert (seen[0].nonzero()[:, 1] == first).all()


def test_given_positions_stay_and_padding_does_not_count() -> None:
    x = torch.tensor([[4, 2, 4]]).expand(20, 3)
    for positions in ORDERS:
        out = Unmasking(4, positions=positions).sample(exact(ABSORBING), (20, 3), x=x, seed=0)
        assert bool((out[:, 1] == 2).all())
        assert int(out.max()) < 4
        mask = torch.arange(12) < torch.tensor([[6], [12], [3]])
        seen = hidden(Unmasking(6, positions=positions), (3, 12), mask=mask)
        assert not bool((seen[0] & ~mask).any())
        if len(positions.ends(12)) == 1:
            assert seen[2].sum(1).tolist() == [3, 6, 2]  # half of the real ones, to even
        assert not bool(seen[-1].any())


def test_infilling_has_the_conditional_distribution() -> None:
    torch.manual_seed(0)
    x = torch.tensor([[4, 2, 4]]).expand(20_000, 3)
    out = Unmasking(2, positions=MarginFirst()).sample(exact(ABSORBING), (20_000, 3), x=x)
    found = torch.bincount(4 * out[:, 0] + out[:, 2], minlength=16).double() / 20_000
    true = table()[:, 2] / table()[:, 2].sum()
    assert surprise(found, true.flatten(), 20_000) < 4


# What is remembered.


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
        Unmasking(4, cache="unchanged").sample(exact(ABSORBING), (2, 3))


class Remembering(EnumeratedDenoiser):
    """The exact denoiser, told of a block's prefix once."""

    def __init__(self) -> None:
        super().__init__(ABSORBING, table())
        self.log: list[tuple[str, int]] = []
        self.masks: list[Tensor] = []

    def remember(self, x: Tensor, memory: Tensor | None = None, **condition: Any) -> Tensor:
        assert int(x.max()) < 4  # all of it is shown
        self.log.append(("remember", x.shape[1]))
        return x if memory is None else torch.cat([memory, x], 1)

    def forward(self, x_t, t, memory=None, mask=None, **condition):
        self.log.append(("ask", x_t.shape[1]))
        if mask is not None:
            self.masks.append(mask)
        whole = x_t if memory is None else torch.cat([memory, x_t], 1)
        logits = super().forward(whole, t).logits[:, -x_t.shape[1] :]
        return belief(x_t, self.process, self.process.level(t), logits)


@pytest.mark.parametrize("count", ["even", "binomial"])
@pytest.mark.parametrize("inner", [RandomOrder(), ConfidentFirst(), LeftToRight()], ids=repr)
def test_a_prefix_is_read_once_a_block_and_changes_nothing(inner: UnmaskingOrder, count: str) -> None:
    denoiser, means = Remembering(), []
    plain = Unmasking(6, positions=Blockwise(1, inner), count=count)  # type: ignore[arg-type]
    cached = Unmasking(6, positions=Blockwise(1, inner), count=count, cache="prefix")  # type: ignore[arg-type]
    expected = plain.sample(denoiser, (40, 3), seed=1)
    denoiser.log.clear()
    found = cached.sample(denoiser, (40, 3), seed=1, callback=lambda step: means.append(step.mean))
    assert torch.equal(found, expected)
    asked = [[("ask", 3)] * 2, [("remember", 1)], [("ask", 2)] * 2, [("remember", 1)], [("ask", 1)] * 2]
    assert denoiser.log == [entry for part in asked for entry in part]
    assert all(mean.shape == (40, 3, 5) for mean in means)
    assert torch.equal(means[-1][:, :2].argmax(-1), found[:, :2])


def test_a_prefix_has_its_part_of_the_mask() -> None:
    denoiser = Remembering()
    mask = torch.tensor([[True, True, True], [True, True, False]])
    sampler = Unmasking(3, positions=Blockwise(1), cache="prefix")
    assert int(sampler.sample(denoiser, (2, 3), seed=0, mask=mask)[1, 2]) == 0
    assert [m.tolist() for m in denoiser.masks] == [mask[:, start:].tolist() for start in range(3)]
    with pytest.raises(ValueError, match="method remember"):
        sampler.sample(exact(ABSORBING), (2, 3))


# What holds for all.


@pytest.mark.parametrize("count", ["even", "binomial"])
@pytest.mark.parametrize("positions", ORDERS, ids=repr)
def test_samples_are_data_do_not_depend_on_the_batch_and_cost_what_is_said(
    positions: UnmaskingOrder, count: str
) -> None:
    sampler = Unmasking(5, positions=positions, count=count)  # type: ignore[arg-type]
    steps: list[int] = []
    together = sampler.sample(exact(ABSORBING), (6, 3), seed=5, callback=lambda step: steps.append(step.index))
    assert len(steps) == sampler.nfe() == sampler.nfe(process=ABSORBING) == 5
    assert int(together.max()) < 4
    alone = torch.cat([sampler.sample(exact(ABSORBING), (1, 3), seed=5, first=i) for i in range(6)])
    assert torch.equal(together, alone)


def test_states_of_more_axes_and_networks_of_ratios_are_served() -> None:
    for prediction in ("x0", "score"):
        network = CategoricalDenoiser(lambda x, c: torch.zeros(*x.shape, 5), ABSORBING, prediction)  # type: ignore
        for positions in ORDERS:
            out = Unmasking(5, positions=positions).sample(network, (2, 4, 3), seed=0)
            assert out.shape == (2, 4, 3)
            assert int(out.max()) < 4


def test_a_step_by_itself_and_a_component_of_a_product_are_served() -> None:
    sampler = Unmasking(6, positions=ConfidentFirst())
    x = torch.full((7, 3), 4)
    out = Unmasking(1, positions=Blockwise(2)).step(exact(ABSORBING), x, 1.0, 1 / 3)
    assert (out != 4).sum(1).tolist() == [2] * 7
    both = IndependentDenoisers({"a": exact(ABSORBING), "b": exact(CHAINS[1])})
    pair = ProductSampler(6, samplers={"a": sampler, "b": CategoricalAncestral()}, grid=UniformTime())
    found = pair.sample(both, {"a": (7, 3), "b": (7, 3)}, seed=3)
    assert torch.equal(found["a"], sampler.sample(exact(ABSORBING), (7, 3), seed=3))
    blocks = ProductSampler(6, samplers={"a": Unmasking(6, positions=Blockwise(2)), "b": CategoricalAncestral()})
    with pytest.raises(ValueError, match="run of their own"):
        blocks.sample(both, {"a": (7, 3), "b": (7, 3)}, seed=3)


def test_guided_beliefs_are_unmasked() -> None:
    """``p_c^2 / p_u`` of one position, drawn in any number of steps."""
    conditional, plain = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0.4, 0.3, 0.2, 0.1])

    def network(x: Tensor, c: Tensor, label: Tensor) -> Tensor:
        p = torch.where(label[:, None] < 0, plain, conditional)
        return torch.cat([p, torch.zeros(len(x), 1)], 1).log()[:, None]

    guided = ClassifierFreeGuidance(CategoricalDenoiser(network, ABSORBING), 2.0)  # type: ignore[arg-type]
    label = torch.zeros(20_000, dtype=torch.int64)
    torch.manual_seed(0)
    out = Unmasking(3, positions=MarginFirst()).sample(guided, (20_000, 1), condition={"label": label})
    expected = (conditional**2 / plain).double()
    found = torch.bincount(out[:, 0], minlength=4).double() / 20_000
    assert surprise(found, expected / expected.sum(), 20_000) < 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blockwise(0), "size=0"),
        (lambda: Blockwise(2, Blockwise(1)), "inner="),
        (lambda: Unmasking(4, cache="all"), "cache='all'"),  # type: ignore[arg-type]
        (lambda: Unmasking(4, count="odd"), "count='odd'"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_say_what_was_expected(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(TypeError, match="expected an UnmaskingOrder"):
        Unmasking(4, positions="left")  # type: ignore[arg-type]
