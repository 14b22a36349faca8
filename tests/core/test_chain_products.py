"""Guidance, perturbation, completion and constraints of products of chains: what one chain of all positions gives."""

import dataclasses
from typing import Any

import pytest
import torch
from chain_products import MASKS, NOISE, both, joined, problem, split, variation
from torch import Tensor

from ornstein.core import (
    SDE,
    CategoricalAncestral,
    CategoricalClassifierGuidance,
    ClassifierFreeGuidance,
    CosineSchedule,
    Denoiser,
    GaussianDenoiser,
    IndependentDenoisers,
    ProductSampler,
    SeededNoise,
    TauLeaping,
    Unmasking,
    complete,
    perturb_and_reverse,
)
from ornstein.core.samplers import DrawnStep, StateConstraint
from ornstein.core.samplers.constraints import redraw

UNMASK = ProductSampler(6, samplers={"a": Unmasking(), "b": Unmasking()})
# Short steps: two positions that show at once are drawn as if they were independent.
SLOW = ProductSampler(60, samplers={"a": CategoricalAncestral(), "b": CategoricalAncestral()})


class Tilted(Denoiser[Any]):
    """Another denoiser where the condition ``up`` is told."""

    def __init__(self, without: Denoiser[Any], with_: Denoiser[Any]) -> None:
        super().__init__(without.process)
        self.without, self.with_ = without, with_

    def forward(self, x_t: Any, t: Any, up: Tensor | None = None, **condition: Any) -> Any:
        return (self.without if up is None else self.with_)(x_t, t, **condition)


def states(chain, num=8):
    x = torch.randint(3, (num, 3), generator=torch.Generator().manual_seed(1))
    if chain is MASKS:
        x[:, ::2] = chain.mask
    return x


@both
def test_classifier_free_guidance_of_a_product_is_that_of_one_chain(chain):
    (product, whole), (tilted, tilted_whole) = problem(chain), problem(chain, seed=1)
    x, up = states(chain), torch.ones(8, 1)
    guided = ClassifierFreeGuidance(Tilted(product, tilted), 2.5)(split(x), 0.6, up=up)
    expected = ClassifierFreeGuidance(Tilted(whole, tilted_whole), 2.5)(x, 0.6, up=up)
    for name, part in split(expected.probs).items():
        torch.testing.assert_close(guided[name].probs, part)
        torch.testing.assert_close(guided[name].reverse(0.3).probs, split(expected.reverse(0.3).probs)[name])


def test_guidance_of_a_mixed_product_guides_each_component_its_own_way():
    gaussian = [GaussianDenoiser(SDE(CosineSchedule()), torch.full((2,), mean), torch.eye(2)) for mean in (0.0, 1.0)]
    chains = [problem(MASKS, seed)[1] for seed in (0, 1)]
    denoisers = [IndependentDenoisers({"x": g, "c": c}) for g, c in zip(gaussian, chains)]
    state = {"x": torch.randn(4, 2), "c": states(MASKS, 4)}
    guided = ClassifierFreeGuidance(Tilted(*denoisers), 3.0)(state, 0.5, up=torch.ones(4, 1))
    without, with_ = (one(state["x"], 0.5).mean for one in gaussian)
    torch.testing.assert_close(guided["x"].mean, without + 3 * (with_ - without))
    alone = ClassifierFreeGuidance(Tilted(*chains), 3.0)(state["c"], 0.5, up=torch.ones(4, 1))
    torch.testing.assert_close(guided["c"].probs, alone.probs)
    with pytest.raises(ValueError, match="rescale"):
        ClassifierFreeGuidance(denoisers[0], 3.0, rescale=0.5)


@both
@pytest.mark.parametrize("evaluation", ["exact", "first_order"])
def test_classifier_guidance_of_a_product_is_that_of_one_chain(chain, evaluation):
    product, whole = problem(chain)
    weights = torch.randn(3, chain.states, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def log_p(x, t, **condition):
        x = x if isinstance(x, Tensor) else joined(x)
        soft = x if x.is_floating_point() else torch.nn.functional.one_hot(x, chain.states).double()
        return torch.nn.functional.logsigmoid((soft * weights).sum((1, 2)))

    x = states(chain)
    expected = CategoricalClassifierGuidance(whole, log_p, 1.5, evaluation)(x, 0.6)
    guided = CategoricalClassifierGuidance(product, log_p, 1.5, evaluation)(split(x), 0.6)
    for name, part in split(expected.reverse(0.3).probs).items():
        torch.testing.assert_close(guided[name].reverse(0.3).probs, part)


def test_classifier_guidance_refuses_products_with_other_processes():
    gaussian = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2))
    mixed = IndependentDenoisers({"x": gaussian, "c": problem(MASKS)[1]})
    with pytest.raises(TypeError, match="a product of chains"):
        CategoricalClassifierGuidance(mixed, lambda x, t: x)


def test_perturb_and_reverse_keeps_the_distribution_of_a_product():
    product, whole = problem(MASKS)
    data = whole.sample(20_000, generator=torch.Generator().manual_seed(1))
    again = joined(perturb_and_reverse(product, split(data), 0.6, SLOW, seed=0))
    assert variation(again, whole.table) < 0.02
    kept = (again == data).double().mean()
    assert 0.5 < kept < 0.9
    # Noise and sampler of the second component do not draw the same numbers twice.
    some = perturb_and_reverse(product, {n: v[:5] for n, v in split(data).items()}, 0.6, SLOW, seed=0)
    assert torch.equal(joined(some), again[:5])


def test_perturb_and_reverse_holds_what_is_given():
    product, whole = problem(NOISE)
    data = whole.sample(2000, generator=torch.Generator().manual_seed(1))
    given = split(torch.tensor([[False, True, False]]).expand(2000, 3))
    sampler = ProductSampler(20, samplers={"a": CategoricalAncestral(), "b": CategoricalAncestral()})
    again = joined(perturb_and_reverse(product, split(data), 0.9, sampler, seed=0, given=given))
    assert torch.equal(again[:, 1], data[:, 1])
    assert (again[:, 0] != data[:, 0]).any()


def test_a_product_is_completed_as_its_conditional_distribution_says():
    product, whole = problem(MASKS)
    known = split(torch.tensor([[0, 2, 0]]).expand(20_000, 3))
    given = split(torch.tensor([[False, True, False]]).expand(20_000, 3))
    done = joined(complete(product, known, given, SLOW, noise=SeededNoise(0)))
    expected = torch.zeros_like(whole.table)
    expected[:, 2] = whole.table[:, 2]
    assert variation(done, expected / expected.sum()) < 0.02


@dataclasses.dataclass(frozen=True)
class NotBothTwo(StateConstraint):
    """The first position of ``a`` and that of ``b`` are not both 2; ``a`` goes first."""

    seen: list[Any] = dataclasses.field(default_factory=list)

    def keep(self, step: DrawnStep) -> dict[str, Tensor]:
        self.seen.append((step.last, step.free["a"].clone(), step.real["a"].clone()))
        u = step.uniform("b")
        wrong = (step.after["a"][:, :1] == 2) & (step.after["b"] == 2) & step.free["b"]
        allowed = torch.tensor([True, True, False, False])[: step.processes["b"].states].expand(*wrong.shape, -1)
        again = redraw(step.kernels["b"].probs, allowed, u)
        return {"a": step.after["a"], "b": torch.where(wrong, again, step.after["b"])}


@both
def test_a_constraint_keeps_states_within_a_set(chain):
    product, _ = problem(chain)
    samplers = {n: Unmasking() if chain is MASKS else CategoricalAncestral() for n in ("a", "b")}
    rule = NotBothTwo()
    sampler = ProductSampler(6, samplers=samplers, constraint=rule)
    shape = {"a": (4000, 2), "b": (4000, 1)}
    drawn = sampler.sample(product, shape, seed=0)
    assert not ((drawn["a"][:, :1] == 2) & (drawn["b"] == 2)).any()
    assert [last for last, *_ in rule.seen] == [False] * 5 + [True]
    plain = dataclasses.replace(sampler, constraint=None).sample(product, shape, seed=0)
    assert ((plain["a"][:, :1] == 2) & (plain["b"] == 2)).any()
    few = sampler.sample(product, {"a": (3, 2), "b": (3, 1)}, seed=0)
    assert all(torch.equal(few[name], drawn[name][:3]) for name in few)


class Anything(StateConstraint):
    """Keeps what was drawn."""

    def keep(self, step: DrawnStep) -> dict[str, Tensor]:
        return dict(step.after)


@both
def test_a_constraint_that_allows_everything_leaves_the_distribution_as_it_is(chain):
    product, whole = problem(chain)
    drawn = dataclasses.replace(SLOW, constraint=Anything()).sample(
        product, {"a": (20_000, 2), "b": (20_000, 1)}, seed=0
    )
    assert variation(joined(drawn), whole.table) < 0.02


def test_a_constraint_asks_for_ancestral_steps_of_chains_without_masks():
    product, _ = problem(NOISE)
    sampler = ProductSampler(6, samplers={"a": TauLeaping(), "b": CategoricalAncestral()}, constraint=Anything())
    with pytest.raises(ValueError, match=r"samplers\['a'\] is a TauLeaping"):
        sampler.sample(product, {"a": (4, 2), "b": (4, 1)}, seed=0)


def test_a_constraint_knows_what_is_given_and_what_is_real():
    product, _ = problem(MASKS)
    rule = NotBothTwo()
    sampler = dataclasses.replace(UNMASK, constraint=rule)
    known = {"a": torch.tensor([[2, 0]]), "b": torch.tensor([[2]])}
    given = {"a": torch.tensor([[True, False]]), "b": torch.tensor([[True]])}
    mask = {"a": torch.tensor([[True, False]]), "b": torch.tensor([[True]])}
    done = complete(product, known, given, sampler, noise=SeededNoise(0), mask=mask)
    assert (done["a"].tolist(), done["b"].tolist()) == ([[2, 0]], [[2]])
    _, free, real = rule.seen[-1]
    assert free.tolist() == [[False, False]]
    assert real.tolist() == [[True, False]]


def test_a_restricted_draw_has_the_restricted_distribution():
    probs = torch.tensor([0.1, 0.2, 0.7]).expand(20_000, 3)
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = redraw(probs, torch.tensor([True, True, False]).expand(20_000, 3), u)
    share = (drawn == 1).double().mean()
    assert (drawn < 2).all()
    assert share == pytest.approx(2 / 3, abs=4 * (2 / 9 / 20_000) ** 0.5)
    nothing = redraw(torch.tensor([[0.0, 1.0]]), torch.tensor([[True, False]]), torch.tensor([0.5]).double())
    assert nothing.tolist() == [0]


def test_what_is_no_constraint_is_refused():
    with pytest.raises(TypeError, match="expected a StateConstraint"):
        ProductSampler(samplers={"a": Unmasking()}, constraint=3)  # type: ignore[arg-type]
