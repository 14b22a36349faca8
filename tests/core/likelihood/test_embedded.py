"""The bound on embedded categories: against quadrature, the exact likelihood, given parts and padding."""

import math

import pytest
import torch
from embedded_problems import joint
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor

from ornstein.core import SDE, CosineSchedule, GaussianDenoiser, Schedule, VPSchedule
from ornstein.core.embedded import EmbeddingTable, EnumeratedEmbeddedDenoiser, SqrtSchedule
from ornstein.core.likelihood.embedded import EmbeddedBound

NODES, WEIGHTS = (torch.tensor(v) for v in hermegauss(80))
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def coin(schedule: Schedule, p: float = 0.3) -> EnumeratedEmbeddedDenoiser:
    """Two words of one dimension, at -1 and 1."""
    table = EmbeddingTable(2, 1).double().requires_grad_(False)
    with torch.no_grad():
        table.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    return EnumeratedEmbeddedDenoiser(SDE(schedule), table, torch.tensor([1 - p, p]))


def apart(schedule: Schedule | None = None) -> EnumeratedEmbeddedDenoiser:
    """Sequences of three categories, whose embeddings are the corners of a tetrahedron, dependent on one another."""
    table = EmbeddingTable(4, 3).double().requires_grad_(False)
    with torch.no_grad():
        table.weight.copy_(torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]))
    return EnumeratedEmbeddedDenoiser(SDE(schedule or SqrtSchedule()), table, joint())


def repeated(
    tokens: Tensor, truth: Tensor, given: Tensor | None = None, schedule: Schedule | None = None
) -> tuple[Tensor, Tensor]:
    """Mean of bound minus truth of each row over repetitions, and its error."""
    times = 200
    condition = {} if given is None else {"given": given.repeat(times, 1)}
    bound = EmbeddedBound(32, 2).evaluate(apart(schedule), tokens.repeat(times, 1), seed=0, condition=condition)
    nats = bound.nats.view(times, -1)
    # What the bound says of its own error is what repetition shows.
    own = bound.standard_error.view(times, -1).square().mean(0).sqrt()
    torch.testing.assert_close(own, nats.std(0), rtol=0.4, atol=0)
    return nats.mean(0) - truth, nats.std(0) / times**0.5


def by_quadrature(denoiser: EnumeratedEmbeddedDenoiser, word: int, floor: float, low: float) -> Tensor:
    """Prior, diffusion and rounding terms, integrated over the noise by Gauss and Hermite and over log-SNR by Simpson.

    With ``y = x / alpha = e + r z`` everything depends on the ratio ``r`` alone.
    """
    p, e = denoiser.probabilities, torch.tensor([-1.0, 1.0], dtype=torch.float64)
    high = -2 * math.log(floor)
    log_snr = torch.linspace(low, high, 2001, dtype=torch.float64)
    r = (-0.5 * log_snr).exp()[:, None]
    y = e[word] + r * NODES
    logits = p.log() - 0.5 * ((y[..., None] - e) / r[..., None]) ** 2
    mean = (logits.softmax(-1) * e).sum(-1)
    square = ((e[word] - mean) ** 2 / r**2 * WEIGHTS).sum(-1)  # of the noise
    simpson = torch.ones(2001, dtype=torch.float64)
    simpson[1:-1:2], simpson[2:-1:2] = 4, 2
    diffusion = 0.5 * (square * simpson).sum() * (high - low) / 2000 / 3
    y = e[word] + floor * NODES
    rounding = -(WEIGHTS * (-0.5 * ((y[:, None] - e) / floor) ** 2).log_softmax(-1)[:, word]).sum()
    return torch.stack([0.5 * torch.tensor(math.exp(low)), diffusion, rounding])


@pytest.mark.parametrize("word", [0, 1])
@pytest.mark.parametrize("floor", [0.15, 0.5])
def test_two_words_of_one_dimension_have_the_terms_of_quadrature(word: int, floor: float) -> None:
    denoiser = coin(VPSchedule())
    tokens = torch.full((400, 1), word)
    bound = EmbeddedBound(16, 4, floor=floor, spacing="log_snr").evaluate(denoiser, tokens, seed=0)
    low = max(-10.0, float(denoiser.process.schedule.log_snr(1.0)))
    expected = by_quadrature(denoiser, word, floor, low)
    for value, want in zip((bound.prior, bound.diffusion, bound.reconstruction), expected):
        error = value.std() / 20
        assert abs(value.mean() - want) < 4 * error + 1e-9
    truth = -denoiser.probabilities[word].log()
    error = bound.standard_error.square().sum().sqrt() / 400
    gap = bound.nats.mean() - truth
    assert gap > -4 * error
    # Rounding knows nothing of how frequent words are, which matters where they overlap.
    assert gap < 4 * error + (0.005 if floor == 0.15 else 0.05)


@pytest.mark.parametrize("schedule", [SqrtSchedule(), CosineSchedule()], ids=lambda s: type(s).__name__)
def test_the_bound_of_the_exact_denoiser_is_the_likelihood(schedule: Schedule) -> None:
    """Of three dependent positions, none of which the bound may take for independent."""
    tokens = torch.tensor([[0, 1, 2], [3, 3, 0], [2, 1, 1]])
    truth = -joint()[tuple(tokens.T)].log()
    gap, error = repeated(tokens, truth, schedule=schedule)
    assert error.max() < 0.25
    assert (gap.abs() < 4 * error).all()


def test_a_worse_denoiser_has_a_higher_bound() -> None:
    tokens = apart().sample(200, generator=torch.Generator().manual_seed(0))
    flat = EnumeratedEmbeddedDenoiser(apart().process, apart().table, torch.ones(4, 4, 4))
    right, wrong = (EmbeddedBound().evaluate(d, tokens, seed=0) for d in (apart(), flat))
    entropy = torch.special.entr(joint()).sum()
    error = (right.standard_error.square().sum() / 200**2 + right.nats.var() / 200).sqrt()
    assert abs(right.nats.mean() - entropy) < 4 * error
    assert abs(wrong.nats.mean() - 3 * math.log(4)) < 4 * wrong.nats.std() / 200**0.5


def test_given_positions_and_padding_do_not_count() -> None:
    tokens = torch.tensor([[0, 1, 2], [3, 1, 0]])
    given = torch.tensor([[False, True, False]]).repeat(2, 1)
    p = joint()[:, 1]
    truth = -(p[tokens[:, 0], tokens[:, 2]] / p.sum()).log()
    gap, error = repeated(tokens, truth, given)
    assert (gap.abs() < 4 * error).all()
    nothing = torch.ones(2, 3, dtype=torch.bool)
    assert (EmbeddedBound().evaluate(apart(), tokens, seed=0, condition={"given": nothing}).nats == 0).all()
    mask = torch.tensor([[True, False, False], [False, False, False]])
    padded = EmbeddedBound().evaluate(apart(), tokens, seed=0, mask=mask)
    assert padded.nats[1] == 0
    changed = EmbeddedBound().evaluate(apart(), torch.where(mask, tokens, 0), seed=0, mask=mask)
    torch.testing.assert_close(changed.nats, padded.nats)


def test_estimates_depend_on_seed_and_sample_alone() -> None:
    tokens = torch.tensor([[0, 1, 2], [3, 1, 0]])
    both = EmbeddedBound().evaluate(apart(), tokens, seed=3).nats
    alone = torch.cat([EmbeddedBound().evaluate(apart(), tokens[i : i + 1], seed=3, first=i).nats for i in (0, 1)])
    torch.testing.assert_close(both, alone)


def test_bad_arguments_are_refused() -> None:
    tokens = torch.tensor([[0, 1, 2]])
    with pytest.raises(ValueError, match="floor"):
        EmbeddedBound(floor=0.0)
    with pytest.raises(ValueError, match="strata"):
        EmbeddedBound(0)
    with pytest.raises(TypeError, match="EmbeddingTable"):
        EmbeddedBound().evaluate(GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2)), tokens)
