"""Denoisers of embedded categories: what the network sees, what its answer means, and the exact posterior."""

import itertools
from typing import Any

import pytest
import torch
from embedded_problems import embeddings, exact, joint, networked
from torch import nn

from ornstein.core import SDE, CosineSchedule, EmpiricalDenoiser, FlowSchedule, Schedule, VESchedule
from ornstein.core.denoisers import self_conditioned
from ornstein.core.embedded import EmbeddedDenoiser, EmbeddedPosterior, SqrtSchedule
from ornstein.core.symmetric import CentredSDE

X = torch.randn(5, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SCHEDULES = [SqrtSchedule(), FlowSchedule(), VESchedule()]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
GIVEN = torch.tensor([[True, False, False]]).repeat(5, 1)


@each_schedule
@pytest.mark.parametrize("t", [0.05, 0.6, torch.linspace(0.1, 0.9, 5, dtype=torch.float64)], ids=str)
def test_the_enumerated_denoiser_is_that_of_the_weighted_sequences(schedule: Schedule, t: Any) -> None:
    """Against the sum over all sequences, written out."""
    denoiser, level = exact(schedule), SDE(schedule).level(t).like(X)
    e, posterior = embeddings().vectors, denoiser(X, t)
    sequences = torch.tensor(list(itertools.product(range(4), repeat=3)))
    alpha, sigma = (torch.as_tensor(v, dtype=torch.float64) for v in (level.alpha, level.sigma))
    far = (X[:, None] - alpha.reshape(-1, 1, 1, 1) * e[sequences]) ** 2
    log = joint().flatten().log() - 0.5 * far.sum((2, 3)) / sigma.reshape(-1, 1) ** 2
    weights = log.softmax(1)
    mean = torch.einsum("bk,knd->bnd", weights, e[sequences])
    torch.testing.assert_close(posterior.mean, mean)
    variance = torch.einsum("bk,bknd->bnd", weights, (e[sequences] - mean[:, None]) ** 2)
    torch.testing.assert_close(posterior.variance, variance)
    marginal = torch.einsum("bk,knw->bnw", weights, nn.functional.one_hot(sequences, 4).double())
    torch.testing.assert_close(posterior.logits.softmax(-1), marginal)
    assert torch.equal(posterior.tokens, marginal.argmax(-1))
    density = torch.logsumexp(log, 1) - 9 * (sigma.log().reshape(-1) + 0.9189385332046727)
    torch.testing.assert_close(denoiser.log_prob(X, t), density.expand(5))


def test_without_noise_the_data_are_certain() -> None:
    tokens = exact().sample(5, generator=torch.Generator().manual_seed(1))
    x = embeddings().embed(tokens)
    posterior = exact(CosineSchedule(s=0.0))(x, 0.0)
    assert torch.equal(posterior.tokens, tokens)
    torch.testing.assert_close(posterior.mean, x)


def test_given_positions_are_evidence() -> None:
    """The posterior of the rest is that of the table conditioned on them, the noise of ``t`` on the rest alone."""
    denoiser, tokens = exact(), torch.tensor([2, 0, 1, 3, 3])
    x = X.clone()
    x[:, 0] = embeddings().vectors[tokens]
    posterior = denoiser(x, 0.4, given=GIVEN)
    for i, first in enumerate(tokens.tolist()):
        rest = type(denoiser)(denoiser.process, embeddings(), joint()[first])
        torch.testing.assert_close(
            posterior.logits[i, 1:].softmax(-1), rest(x[i : i + 1, 1:], 0.4).logits[0].softmax(-1)
        )
    assert torch.equal(posterior.tokens[:, 0], tokens)
    torch.testing.assert_close(posterior.mean[:, 0], x[:, 0], rtol=0, atol=0)
    assert (posterior.variance[:, 0] == 0).all()


@pytest.mark.parametrize("prediction", ["x0", "logits"])
def test_the_networks_answer_means_what_it_says(prediction: str) -> None:
    denoiser = networked(prediction)
    posterior, table = denoiser(X, 0.5), denoiser.table
    call = denoiser.network.calls.pop()
    answer = denoiser.network(call["x"], call["c"], call["estimate"])
    assert (call["estimate"] == 0).all()
    if prediction == "x0":
        torch.testing.assert_close(posterior.mean, answer)
        torch.testing.assert_close(posterior.logits, table.logits(answer))
        assert torch.equal(posterior.tokens, table.round(answer))
        with pytest.raises(AttributeError, match="variance"):
            _ = posterior.variance
    else:
        torch.testing.assert_close(posterior.mean, table.expected(answer))
        assert torch.equal(posterior.tokens, answer.argmax(-1))
        torch.testing.assert_close(posterior.variance, table.spread(answer))
    tokens = torch.randint(4, (5, 3))
    log_prob = posterior.logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(posterior.log_prob(tokens), log_prob)


@pytest.mark.parametrize("prediction", ["x0", "logits"])
def test_given_positions_are_the_mean_and_their_categories_certain(prediction: str) -> None:
    denoiser, tokens = networked(prediction), torch.tensor([2, 0, 1, 3, 3])
    x = X.clone()
    x[:, 0] = denoiser.table.vectors[tokens]
    free, posterior = denoiser(x, 0.5), denoiser(x, 0.5, given=GIVEN)
    assert torch.equal(denoiser.network.calls[-1]["given"], GIVEN)
    assert torch.equal(posterior.mean[:, 0], x[:, 0])
    assert torch.equal(posterior.tokens[:, 0], tokens)
    torch.testing.assert_close(posterior.logits[:, 0], denoiser.table.logits(x[:, 0]))
    assert not torch.allclose(posterior.mean[:, 1:], free.mean[:, 1:])  # the network was told


@pytest.mark.parametrize("prediction", ["x0", "logits"])
def test_the_answer_depends_on_log_snr_alone(prediction: Any) -> None:
    """Given positions included, which are clean under every schedule."""
    log_snr = torch.linspace(-3, 4, 5, dtype=torch.float64)
    answers = []
    for schedule in (SqrtSchedule(), VESchedule(), FlowSchedule()):
        t = schedule.time(log_snr)
        level = SDE(schedule).level(t).like(X)
        noisy = X * (level.alpha**2 + level.sigma**2) ** 0.5
        x = torch.where(GIVEN[..., None], X, noisy)
        answers.append(networked(prediction, schedule=schedule)(x, t, given=GIVEN).mean)
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(answers[2], answers[0], rtol=1e-12, atol=1e-12)


def test_the_estimate_reaches_a_network_that_takes_it_and_no_other() -> None:
    estimate = torch.randn_like(X)
    taking, other = networked(self_conditioning=True), networked(self_conditioning=False)
    taking(X, 0.5, estimate=estimate)
    other(X, 0.5, estimate=estimate)
    assert torch.equal(taking.network.calls[-1]["estimate"], estimate)
    assert other.network.calls[-1]["estimate"] is None
    assert self_conditioned(taking)
    assert not self_conditioned(other)


def test_a_network_in_low_precision_leaves_the_posterior_in_the_states() -> None:
    denoiser = networked()
    denoiser.network.to(torch.bfloat16)
    posterior = denoiser(X.float(), 0.5)
    assert posterior.mean.dtype == torch.float32
    assert posterior.logits.dtype == torch.float32


def test_bad_arguments_are_refused() -> None:
    table, process = embeddings(), SDE(SqrtSchedule())
    with pytest.raises(ValueError, match="prediction='eps'"):
        EmbeddedDenoiser(nn.Identity(), table, process, "eps")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="EmbeddingTable"):
        EmbeddedDenoiser(nn.Identity(), nn.Embedding(3, 3), process)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="all of space"):
        EmbeddedDenoiser(nn.Identity(), table, CentredSDE(SqrtSchedule()))
    with pytest.raises(ValueError, match="network's answer"):
        EmbeddedDenoiser(lambda x, c: x, table, process)(X, 0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="x_t of shape"):
        networked()(X[..., :2], 0.5)
    with pytest.raises(ValueError, match="one of them"):
        EmbeddedPosterior(X, process, process.level(0.5), table)
    with pytest.raises(ValueError, match="probabilities"):
        type(exact())(process, table, torch.ones(3, 3))


def test_one_position_is_the_mixture_of_its_embeddings() -> None:
    """Against the core's denoiser of a finite data set."""
    table, process = embeddings(), SDE(FlowSchedule())
    ours = type(exact())(process, table, torch.ones(4))
    theirs = EmpiricalDenoiser(process, table.vectors)
    x = X[:, 0]
    torch.testing.assert_close(ours(x[:, None], 0.3).mean[:, 0], theirs(x, 0.3).mean)
    torch.testing.assert_close(ours.log_prob(x[:, None], 0.3), theirs.log_prob(x, 0.3))
