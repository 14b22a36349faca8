"""Free draws first: the distribution that a rule leaves of the data, and what is drawn again and what is not."""

import dataclasses
from collections.abc import Mapping

import pytest
import torch
from chain_products import MASKS, NOISE, both, joined, problem, split, variation
from torch import Tensor

from ornstein.core import (
    BrownianNoise,
    CategoricalAncestral,
    FreeFirst,
    ProductSampler,
    TiltedDraws,
    complete,
    perturb_and_reverse,
)
from ornstein.core.noise import IndependentNoise
from ornstein.core.samplers import DrawnStep, StateConstraint
from ornstein.core.samplers.constraints import redraw

SAMPLERS = {"a": CategoricalAncestral(), "b": CategoricalAncestral()}
SHAPE = {"a": (10_000, 2), "b": (10_000, 1)}


def noise() -> IndependentNoise:
    return IndependentNoise(torch.Generator().manual_seed(0))


@dataclasses.dataclass(frozen=True)
class NoTwoAlike(StateConstraint):
    """The first position of ``a`` and that of ``b`` differ; ``a`` goes first."""

    def keep(self, step: DrawnStep) -> dict[str, Tensor]:
        u, first = step.uniform("b"), step.after["a"][:, :1]
        wrong = (first == step.after["b"]) & step.free["b"]
        allowed = torch.ones(*wrong.shape, step.processes["b"].states, dtype=torch.bool).scatter(
            -1, first[..., None], False
        )
        return {
            "a": step.after["a"],
            "b": torch.where(wrong, redraw(step.kernels["b"].probs, allowed, u), step.after["b"]),
        }

    def allows(self, data: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> Tensor:
        return data["a"][:, 0] != data["b"][:, 0]


def restricted(table: Tensor) -> Tensor:
    left = table.clone()
    for v in range(3):
        left[v, :, v] = 0
    return left / left.sum()


@both
def test_what_is_left_is_the_data_within_the_set(chain):
    """From pure noise it is rejection, whatever the rule."""
    product, whole = problem(chain)
    sampler = FreeFirst(60, samplers=SAMPLERS, constraint=NoTwoAlike(), tries=12, back=1.0)
    drawn = sampler.sample(product, SHAPE, noise=noise())
    assert NoTwoAlike().allows(drawn, {}).all()
    assert variation(joined(drawn), restricted(whole.table)) < 0.03


def test_a_rule_in_each_of_many_steps_leads_elsewhere():
    product, whole = problem(NOISE)
    target = restricted(whole.table)
    each = ProductSampler(60, samplers=SAMPLERS, constraint=NoTwoAlike())
    far = variation(joined(each.sample(product, SHAPE, noise=noise())), target)
    near = joined(FreeFirst.of(each, tries=8, back=0.5).sample(product, SHAPE, noise=noise()))
    assert far > 0.08
    assert variation(near, target) < 0.4 * far


@both
def test_what_is_allowed_is_left_as_it_was_drawn(chain):
    product, _ = problem(chain)
    plain = ProductSampler(8, samplers=SAMPLERS)
    free = plain.sample(product, SHAPE, noise=noise())
    drawn = FreeFirst.of(dataclasses.replace(plain, constraint=NoTwoAlike())).sample(product, SHAPE, noise=noise())
    fine = NoTwoAlike().allows(free, {})
    assert 0.3 < fine.float().mean() < 0.9
    assert all(torch.equal(drawn[name][fine], free[name][fine]) for name in free)
    assert NoTwoAlike().allows(drawn, {}).all()


def test_samples_do_not_depend_on_their_batch():
    product, _ = problem(NOISE)
    sampler = FreeFirst(8, samplers=SAMPLERS, constraint=NoTwoAlike(), tries=2)
    many = sampler.sample(product, {"a": (64, 2), "b": (64, 1)}, seed=0)
    few = sampler.sample(product, {"a": (16, 2), "b": (16, 1)}, seed=0, first=32)
    assert all(torch.equal(few[name], many[name][32:48]) for name in few)


@both
def test_what_is_given_stays(chain):
    product, whole = problem(chain)
    known = split(torch.tensor([[0, 2, 0]]).expand(10_000, 3))
    given = split(torch.tensor([[False, True, False]]).expand(10_000, 3))
    sampler = FreeFirst(30, samplers=SAMPLERS, constraint=NoTwoAlike(), tries=8, back=1.0)
    drawn = joined(complete(product, known, given, sampler, noise=noise()))
    assert (drawn[:, 1] == 2).all()
    assert (drawn[:, 0] != drawn[:, 2]).all()
    if chain is MASKS:  # whose states tell what is given
        left = restricted(whole.table)
        left = torch.zeros_like(left).index_copy(1, torch.tensor([2]), left[:, 2:3])
        assert variation(drawn, left / left.sum()) < 0.03


def test_what_free_draws_do_not_reach_is_held_to_the_rule():
    @dataclasses.dataclass(frozen=True)
    class Never(NoTwoAlike):
        def allows(self, data, real):
            return torch.zeros(len(data["a"]), dtype=torch.bool)

    product, _ = problem(NOISE)
    drawn = FreeFirst(8, samplers=SAMPLERS, constraint=Never(), tries=2).sample(product, SHAPE, noise=noise())
    assert NoTwoAlike().allows(drawn, {}).all()


def test_a_tilt_stays_where_the_set_does_not():
    product, whole = problem(NOISE)
    tilt = TiltedDraws(lambda data, real: 1.5 * (data["a"][:, 1] == 1), candidates=16, within=NoTwoAlike())
    sampler = FreeFirst(30, samplers=SAMPLERS, constraint=tilt, tries=8, back=1.0)
    drawn = joined(sampler.sample(product, {"a": (4000, 2), "b": (4000, 1)}, noise=noise()))
    assert (drawn[:, 0] != drawn[:, 2]).all()
    tilted = restricted(whole.table)
    tilted[:, 1] *= torch.tensor(1.5).exp()
    assert variation(drawn, tilted / tilted.sum()) < variation(drawn, restricted(whole.table)) / 3


def test_a_run_that_begins_late_goes_back_no_further():
    """From little noise most positions stay, of samples that are drawn again too, and those that obey all do."""
    product, _ = problem(NOISE)
    data = split(torch.tensor([[0, 1, 0], [0, 2, 1]]).repeat(2000, 1))
    sampler = FreeFirst(20, samplers=SAMPLERS, constraint=NoTwoAlike(), tries=40)
    drawn = joined(perturb_and_reverse(product, data, 0.1, sampler, noise=noise()))
    assert (drawn[:, 0] != drawn[:, 2]).all()
    assert (drawn[:, 1] == joined(data)[:, 1]).float().mean() > 0.8
    loose = dataclasses.replace(sampler, constraint=None)
    free = joined(perturb_and_reverse(product, data, 0.1, loose, noise=noise()))
    fine = free[:, 0] != free[:, 2]
    assert torch.equal(drawn[fine], free[fine])


def test_without_a_constraint_it_is_a_product_sampler():
    product, _ = problem(NOISE)
    plain = ProductSampler(8, samplers=SAMPLERS)
    drawn, expected = (one.sample(product, SHAPE, noise=noise()) for one in (FreeFirst.of(plain), plain))
    assert all(torch.equal(drawn[name], expected[name]) for name in drawn)


def test_what_it_cannot_do_is_refused():
    class Silent(StateConstraint):
        def keep(self, step):
            return dict(step.after)

    product, _ = problem(NOISE)
    with pytest.raises(TypeError, match="Silent does not say which data it allows"):
        FreeFirst(8, samplers=SAMPLERS, constraint=Silent()).sample(product, SHAPE, noise=noise())
    with pytest.raises(TypeError, match="cannot be drawn again; expected SeededNoise"):
        FreeFirst(8, samplers=SAMPLERS, constraint=NoTwoAlike()).sample(product, SHAPE, noise=BrownianNoise(0))
    with pytest.raises(ValueError, match="seed and noise"):
        FreeFirst(8, samplers=SAMPLERS, constraint=NoTwoAlike()).sample(product, SHAPE, seed=0, noise=noise())
    for settings in ({"tries": 0}, {"back": 0.0}, {"back": 1.5}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            FreeFirst(8, samplers=SAMPLERS, **settings)
