"""Masks in a fixed order: the chain rule, on a space that can be enumerated and with a network."""

import pytest
import torch
from categorical_problems import ABSORBING, distance, drawn, floor, number, surprise, table, target
from categorical_problems import Tabled as Whole
from torch import Tensor, nn

from ornstein.core import AbsorbingChain, ClassifierFreeGuidance, PowerSchedule, UniformChain
from ornstein.core.chains.denoisers import CategoricalDenoiser
from ornstein.core.chains.sequential import SequentialBound, SequentialDenoiser
from ornstein.core.nn import TokenTransformer
from ornstein.core.samplers.categorical import CategoricalAncestral
from ornstein.core.samplers.sequential import SequentialSampler
from ornstein.core.samplers.unmasking import Blockwise, LeftToRight, MarginFirst, Unmasking

MASK = ABSORBING.mask
ONE_BY_ONE = Unmasking(3, positions=Blockwise(1))
READING = Unmasking(3, positions=Blockwise(1), cache="prefix")


class Tabled(nn.Module):
    """The exact conditionals of the table; it sees what stands before."""

    causal = True

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def forward(self, x: Tensor, c: None) -> Tensor:
        assert bool((x[:, 0] == MASK).all())
        self.read += x.shape[1]
        out = torch.zeros(*x.shape, 5, dtype=torch.float64)
        for i in range(x.shape[1]):
            before = x[:, 1 : i + 1]
            joint = table().sum(list(range(i + 1, 3))) if i < 2 else table()
            known = before.clamp(max=3)  # behind a hidden position whatever comes out does not count
            out[:, i, :4] = joint[tuple(known.t())].log() if i else joint.log()
        return out

    def remember(self, x: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        whole = x if memory is None else torch.cat([memory, x], 1)
        self.read += x.shape[1] - whole.shape[1]  # only what is new counts
        return self(whole, None)[:, -x.shape[1] :], whole


def transformer(**options) -> TokenTransformer:
    torch.manual_seed(0)
    made = TokenTransformer(6, timed=False, causal=True, width=32, depth=2, **options).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def test_samples_follow_the_exact_conditionals():
    num = 20_000
    denoiser = SequentialDenoiser(Tabled(), ABSORBING)
    x = READING.sample(denoiser, (num, 3), seed=0)
    found = torch.bincount(number(x, ABSORBING), minlength=125).double() / num
    assert distance(ABSORBING, found) < 1.2 * floor(num)
    assert surprise(found, target(ABSORBING), num) < 4
    assert surprise(drawn(Unmasking(3, positions=LeftToRight()), ABSORBING, num), target(ABSORBING), num) < 4


def test_what_is_remembered_changes_nothing_and_each_position_is_read_once():
    denoiser = SequentialDenoiser(Tabled(), ABSORBING)
    plain = ONE_BY_ONE.sample(denoiser, (40, 3), seed=1)
    assert denoiser.network.read == 9
    denoiser.network.read = 0
    assert torch.equal(READING.sample(denoiser, (40, 3), seed=1), plain)
    assert denoiser.network.read == 3 + 2 + 1  # at first all, then the boundary with the first, then the second
    assert torch.equal(Unmasking(7, positions=LeftToRight()).sample(denoiser, (40, 3), seed=1)[:, :1], plain[:, :1])


def test_the_bound_is_the_likelihood():
    denoiser, bound = SequentialDenoiser(Tabled(), ABSORBING), SequentialBound()
    x = torch.cartesian_prod(*[torch.arange(4)] * 3)
    torch.testing.assert_close(3 * bound(denoiser, x), -table().flatten().log())
    mask = torch.tensor([[True, True, False]]).expand(64, 3)
    torch.testing.assert_close(2 * bound(denoiser, x * mask, mask=mask), -table().sum(2)[x[:, 0], x[:, 1]].log())
    given = torch.tensor([[True, False, False]]).expand(64, 3)
    expected = -(table().flatten() / table().sum((1, 2))[x[:, 0]]).log()
    torch.testing.assert_close(2 * bound(denoiser, x, given=given), expected)


def test_one_position_after_the_other_follows_the_exact_conditionals():
    denoiser, num = SequentialDenoiser(Tabled(), ABSORBING), 20_000
    x = SequentialSampler().sample(denoiser, (num, 3), seed=0)
    assert denoiser.network.read == 3  # each position once
    found = torch.bincount(number(x, ABSORBING), minlength=125).double() / num
    assert surprise(found, target(ABSORBING), num) < 4
    assert torch.equal(SequentialSampler().sample(denoiser, (2, 3), seed=0, first=5), x[5:7])
    states: list[Tensor] = []
    SequentialSampler(2).sample(denoiser, (4, 3), seed=0, callback=lambda step: states.append(step.x))
    assert [bool((x == MASK).any()) for x in states] == [True, False]
    assert bool((states[0] == states[1])[:, :2].all())
    start = torch.tensor([[2, MASK, MASK]]).expand(num, 3)
    x = SequentialSampler(2).sample(denoiser, (num, 3), x=start, seed=3)
    found = torch.bincount(4 * x[:, 1] + x[:, 2], minlength=16).double() / num
    assert bool((x[:, 0] == 2).all())
    assert surprise(found, (table()[2] / table()[2].sum()).flatten(), num) < 4


def test_denoisers_that_do_not_remember_are_asked_for_all():
    num = 20_000
    x = SequentialSampler(2).sample(Whole(ABSORBING, table()), (num, 3), seed=0)
    found = torch.bincount(number(x, ABSORBING), minlength=125).double() / num
    assert surprise(found, target(ABSORBING), num) < 4
    with pytest.raises(TypeError, match="once for each position"):
        SequentialSampler().nfe()


def test_a_start_that_is_given_stays_and_is_heeded():
    denoiser, num = SequentialDenoiser(Tabled(), ABSORBING), 20_000
    start = torch.tensor([[2, MASK, MASK]]).expand(num, 3)
    x = READING.sample(denoiser, (num, 3), x=start, seed=3)
    assert bool((x[:, 0] == 2).all())
    found = torch.bincount(4 * x[:, 1] + x[:, 2], minlength=16).double() / num
    assert surprise(found, (table()[2] / table()[2].sum()).flatten(), num) < 4


def test_a_network_draws_alike_with_memory_and_in_any_company():
    sizes = torch.tensor([7, 4, 6])
    mask = torch.arange(7) < sizes[:, None]
    denoiser = SequentialDenoiser(transformer(sized=True, properties=2), AbsorbingChain(5, PowerSchedule()))
    told = {"sizes": sizes, "properties": torch.randn(3, 2), "properties_mask": torch.rand(3, 2) < 0.5}
    plain, reading = (Unmasking(7, positions=Blockwise(1), cache=cache) for cache in ("none", "prefix"))
    x = reading.sample(denoiser, (3, 7), seed=0, mask=mask, condition=told)
    assert torch.equal(plain.sample(denoiser, (3, 7), seed=0, mask=mask, condition=told), x)
    assert int(x.max()) < 5
    assert bool((x[~mask] == 0).all())
    for sampler in (SequentialSampler(), SequentialSampler(3)):
        assert sampler.sample(denoiser, (3, 7), seed=0, mask=mask, condition=told).shape == (3, 7)
    alone = reading.sample(
        denoiser, (1, 7), seed=0, first=1, mask=mask[1:2], condition={name: value[1:2] for name, value in told.items()}
    )
    assert torch.equal(alone[0], x[1])
    loss = SequentialBound()(denoiser, x, mask=mask, **told)
    assert loss.shape == (3,)
    shorter = SequentialBound()(denoiser, x[1:2, :4], **{name: value[1:2] for name, value in told.items()})
    torch.testing.assert_close(loss[1:2], shorter, atol=1e-5, rtol=0)


def test_guidance_reads_what_is_done_once():
    denoiser = SequentialDenoiser(transformer(properties=1), AbsorbingChain(5, PowerSchedule()))
    told = {"properties": torch.full((8, 1), 2.0)}
    reading = Unmasking(6, positions=Blockwise(1), cache="prefix")
    for scale in (1.0, 3.0):
        guided = ClassifierFreeGuidance(denoiser, scale)
        x = reading.sample(guided, (8, 6), seed=0, condition=told)
        assert torch.equal(Unmasking(6, positions=Blockwise(1)).sample(guided, (8, 6), seed=0, condition=told), x)
        assert int(SequentialSampler().sample(guided, (8, 6), seed=0, condition=told).max()) < 5
    assert not torch.equal(x, reading.sample(denoiser, (8, 6), seed=0, condition=told))
    plain = ClassifierFreeGuidance(
        CategoricalDenoiser(transformer(), AbsorbingChain(5, PowerSchedule()), timed=False), 2.0
    )
    with pytest.raises(ValueError, match="method remember"):
        reading.sample(plain, (8, 6), seed=0, condition=told)


def test_other_orders_and_gaps_are_refused():
    denoiser = SequentialDenoiser(Tabled(), ABSORBING)
    for sampler in (
        Unmasking(3, positions=MarginFirst()),
        Unmasking(2, positions=LeftToRight()),
        CategoricalAncestral(2),
    ):
        with pytest.raises(ValueError, match=r"take SequentialSampler\(\)"):
            sampler.sample(denoiser, (20, 3), seed=0)
    gap = torch.tensor([[MASK, 1, MASK]])
    with pytest.raises(ValueError, match="shows a token behind a hidden one"):
        ONE_BY_ONE.sample(denoiser, (1, 3), x=gap, seed=0)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="causal=True"):
        SequentialDenoiser(TokenTransformer(5, width=32, depth=1), ABSORBING)
    with pytest.raises(TypeError, match="expected an AbsorbingChain"):
        SequentialDenoiser(transformer(), UniformChain(6, PowerSchedule()))
    with pytest.raises(TypeError, match="expected a SequentialDenoiser"):
        SequentialBound()(CategoricalDenoiser(Tabled(), ABSORBING), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="network's answer of shape"):
        SequentialDenoiser(transformer(), ABSORBING).next_logits(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="category"):
        SequentialBound()(SequentialDenoiser(Tabled(), ABSORBING), torch.full((2, 3), MASK))
