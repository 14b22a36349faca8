"""Tilted draws against the conditional distribution that Bayes' rule gives, and what they refuse."""

from math import comb

import pytest
import torch
from chain_products import MASKS, NOISE, Split, both, joined, split, variation

from ornstein.core import (
    CategoricalAncestral,
    EnumeratedDenoiser,
    IndependentDenoisers,
    IndependentNoise,
    PowerSchedule,
    ProductSampler,
    SeededNoise,
    TiltedDraws,
    UniformChain,
    complete,
)
from ornstein.core.samplers import DrawnStep, StateConstraint

COUNT = 4000
SHAPE = {"a": (COUNT, 2), "b": (COUNT, 1)}
NOISY = 0.5 * (27 * 2 / (torch.pi * COUNT)) ** 0.5  # the most that total variation is on average by chance


def fast():
    """Draws of all samples at once; seeded ones are made sample by sample."""
    return IndependentNoise(torch.Generator().manual_seed(0))


def independent(chain):
    """Three positions that know nothing of each other, so that a step's draws are the belief itself."""
    parts = torch.rand(3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    table = torch.einsum("i,j,k->ijk", *parts)
    return Split(EnumeratedDenoiser(chain, table)), table / table.sum()


def likelihood():
    """``log p(y | x_0)`` of each of 27 data, which ties the positions together."""
    return 0.8 * torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def worth_by(table, seen=None):
    def worth(data, real):
        if seen is not None:
            seen.append(data)
        return table[tuple(joined(data).T)]

    return worth


def ancestral(steps, constraint):
    return ProductSampler(steps, samplers=dict.fromkeys("ab", CategoricalAncestral()), constraint=constraint)


@both
@pytest.mark.parametrize("steps", [1, 5])
def test_many_candidates_give_the_conditional_distribution(chain, steps):
    denoiser, table = independent(chain)
    logs = likelihood()
    expected = table * logs.exp()
    drawn = ancestral(steps, TiltedDraws(worth_by(logs), 32)).sample(denoiser, SHAPE, noise=fast())
    # What so many candidates leave is of the order of the variance of their worth over their number.
    assert variation(joined(drawn), expected / expected.sum()) < NOISY + 0.02
    assert variation(joined(drawn), table) > 0.15


@both
def test_one_candidate_leaves_the_distribution(chain):
    denoiser, table = independent(chain)
    drawn = ancestral(5, TiltedDraws(worth_by(likelihood()), 1)).sample(denoiser, SHAPE, noise=fast())
    assert variation(joined(drawn), table) < NOISY + 0.01


@pytest.mark.parametrize("candidates", [2, 5])
def test_a_few_candidates_have_the_distribution_of_resampling(candidates):
    # A coin with p(1) = 0.3, which is worth 4 and else 1: of K draws, j of them 1, one of these is kept with
    # probability 4 j / (4 j + K - j).
    coin = EnumeratedDenoiser(UniformChain(2, PowerSchedule()), torch.tensor([0.7, 0.3], dtype=torch.float64))
    tilted = TiltedDraws(lambda data, real: torch.tensor(4.0).log() * data["coin"][:, 0], candidates)
    sampler = ProductSampler(1, samplers={"coin": CategoricalAncestral()}, constraint=tilted)
    drawn = sampler.sample(IndependentDenoisers({"coin": coin}), {"coin": (40_000, 1)}, noise=fast())["coin"]
    k = candidates
    expected = sum(comb(k, j) * 0.3**j * 0.7 ** (k - j) * 4 * j / (3 * j + k) for j in range(k + 1))
    assert drawn.double().mean() == pytest.approx(expected, abs=4 * (0.25 / 40_000) ** 0.5)


@both
def test_what_cannot_be_is_rarely_kept_and_the_first_draw_where_nothing_can(chain):
    denoiser, table = independent(chain)
    logs = torch.zeros(3, 3, 3, dtype=torch.float64)
    logs[2] = -torch.inf
    drawn = joined(ancestral(6, TiltedDraws(worth_by(logs), 32)).sample(denoiser, SHAPE, noise=fast()))
    # A state close to data that cannot be leads to hardly any others, so that noise leaves some.
    assert (drawn[:, 0] == 2).double().mean() < (1e-3 if chain is MASKS else 0.2 * table[2].sum())
    nothing = torch.full((3, 3, 3), -torch.inf, dtype=torch.float64)
    drawn = joined(ancestral(6, TiltedDraws(worth_by(nothing), 4)).sample(denoiser, SHAPE, noise=fast()))
    assert variation(drawn, table) < NOISY + 0.01


class NoTwoInB(StateConstraint):
    """``b`` is not 2."""

    def keep(self, step: DrawnStep):
        b = step.after["b"]
        return {"a": step.after["a"], "b": torch.where((b == 2) & step.free["b"], 0, b)}


@both
def test_candidates_obey_a_constraint_and_worth_is_asked_about_data(chain):
    denoiser, _ = independent(chain)
    seen = []
    tilted = TiltedDraws(worth_by(likelihood(), seen), 3, NoTwoInB())
    drawn = ancestral(5, tilted).sample(denoiser, {"a": (50, 2), "b": (50, 1)}, seed=0)
    assert (drawn["b"] != 2).all()
    assert len(seen) == 15
    assert all(((joined(data) >= 0) & (joined(data) < 3)).all() and (data["b"] != 2).all() for data in seen)


@both
def test_a_sample_does_not_depend_on_its_batch(chain):
    denoiser, _ = independent(chain)
    sampler = ancestral(5, TiltedDraws(worth_by(likelihood()), 4))
    many, few = (sampler.sample(denoiser, {"a": (n, 2), "b": (n, 1)}, noise=SeededNoise(0)) for n in (40, 7))
    assert torch.equal(joined(many)[:7], joined(few))


@both
def test_what_is_given_stays(chain):
    denoiser, table = independent(chain)
    logs = likelihood()
    known = split(torch.tensor([[0, 2, 0]]).expand(COUNT, 3))
    given = split(torch.tensor([[False, True, False]]).expand(COUNT, 3))
    done = joined(complete(denoiser, known, given, ancestral(5, TiltedDraws(worth_by(logs), 32)), noise=fast()))
    assert (done[:, 1] == 2).all()
    expected = torch.zeros_like(table)
    expected[:, 2] = (table * logs.exp())[:, 2]
    assert variation(done, expected / expected.sum()) < NOISY + 0.02


def test_wrong_answers_are_refused():
    denoiser, _ = independent(NOISE)
    for answer, message in (
        (torch.zeros(4, 1), r"shape of worth=\(4, 1\)"),
        (torch.full((4,), torch.nan), "log-probabilities"),
        (torch.full((4,), torch.inf), "log-probabilities"),
    ):
        tilted = TiltedDraws(lambda data, real, answer=answer: answer, 2)
        with pytest.raises(ValueError, match=message):
            ancestral(3, tilted).sample(denoiser, {"a": (4, 2), "b": (4, 1)}, seed=0)
    with pytest.raises(ValueError, match="candidates"):
        TiltedDraws(worth_by(likelihood()), 0)
