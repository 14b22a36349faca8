"""The end-to-end loss: each term against its formula, presets, self-conditioning, masks, given positions, training."""

from typing import Any

import pytest
import torch
from embedded_problems import embeddings, exact, networked
from torch import Tensor, nn

from ornstein.core import (
    SDE,
    CosineSchedule,
    DenoisingObjective,
    DiscreteTimes,
    GaussianDenoiser,
    Process,
    TrainingTimes,
)
from ornstein.core.config import from_config, to_config
from ornstein.core.embedded import EmbeddedDenoiser, EmbeddedObjective, EmbeddingTable, SqrtSchedule
from ornstein.core.samplers import DDPM, DPMSolver
from ornstein.core.schedules import VPSchedule

TOKENS = torch.randint(4, (6, 3), generator=torch.Generator().manual_seed(2))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Fixed(TrainingTimes):
    """One time."""

    def __init__(self, t: float) -> None:
        super().__init__()
        self.t = t

    def draw(self, batch: int, process: Process, generator: Any = None) -> tuple[Tensor, float]:
        return torch.full((batch,), self.t, dtype=torch.float64), 1.0


@pytest.mark.parametrize("prediction", ["x0", "logits"])
def test_each_term_is_its_formula(prediction: str) -> None:
    """The noise is drawn again by the same generator: first the floor's, then that of ``t``."""
    denoiser, t, floor = networked(prediction, False, VPSchedule()), 0.4, 0.2
    clean = denoiser.table.embed(TOKENS)
    g = generator()
    x0 = clean + floor * torch.randn(clean.shape, dtype=torch.float64, generator=g)
    level = denoiser.process.level(t)
    x_t = level.alpha * x0 + level.sigma * torch.randn(clean.shape, dtype=torch.float64, generator=g)
    posterior, pick = denoiser(x_t, torch.full((6,), t, dtype=torch.float64)), TOKENS[..., None]
    terms = {
        "mse": (x0 - posterior.mean).square().mean((1, 2)),
        "prior": denoiser.process.level(1.0).alpha ** 2 * x0.square().mean((1, 2)),
        "rounding": -denoiser.table.logits(x0).gather(-1, pick)[..., 0].mean(1),
        "anchor": -posterior.logits.log_softmax(-1).gather(-1, pick)[..., 0].mean(1),
    }
    for name, expected in terms.items():
        weights = dict.fromkeys(terms, 0.0) | {name: 2.5}
        loss = EmbeddedObjective(**weights, floor=floor, times=Fixed(t))(denoiser, TOKENS, generator=generator())
        torch.testing.assert_close(loss, 2.5 * expected, msg=name)
    both = EmbeddedObjective(1.0, 0.5, 0.25, 2.0, floor=floor, times=Fixed(t))(denoiser, TOKENS, generator=generator())
    expected = terms["mse"] + 0.5 * terms["prior"] + 0.25 * terms["rounding"] + 2 * terms["anchor"]
    torch.testing.assert_close(both, expected)


def test_the_first_times_compare_with_the_embeddings_themselves() -> None:
    denoiser, clean = networked("x0", False), embeddings().embed(TOKENS)
    g = generator()
    x0 = clean + 0.2 * torch.randn(clean.shape, dtype=torch.float64, generator=g)
    level = denoiser.process.level(0.01)
    x_t = level.alpha * x0 + level.sigma * torch.randn(clean.shape, dtype=torch.float64, generator=g)
    mean = denoiser(x_t, 0.01).mean
    for first, target in ((0.01, clean), (0.009, x0)):
        objective = EmbeddedObjective(anchor=0.0, floor=0.2, first=first, times=Fixed(0.01))
        loss = objective(denoiser, TOKENS, generator=generator())
        torch.testing.assert_close(loss, (target - mean).square().mean((1, 2)))


def test_presets_are_the_papers() -> None:
    def weights(objective: EmbeddedObjective) -> tuple[float, ...]:
        return objective.mse, objective.prior, objective.rounding, objective.anchor

    assert weights(EmbeddedObjective.diffusion_lm()) == (1, 1, 1, 0)
    assert weights(EmbeddedObjective.cdcd()) == (0, 0, 0, 1)
    assert weights(EmbeddedObjective()) == (1, 0, 0, 1)
    floor = EmbeddedObjective.diffusion_lm()._floor(SDE(SqrtSchedule()))
    assert abs(floor - (0.01 / 0.99) ** 0.5) < 1e-4
    for objective in (EmbeddedObjective.diffusion_lm(), EmbeddedObjective(times=DiscreteTimes(10))):
        assert to_config(from_config(to_config(objective))) == to_config(objective)


def test_the_squared_error_of_the_exact_denoiser_is_the_posteriors_variance() -> None:
    """And its cross-entropy is the entropy of the posterior, in expectation."""
    denoiser, batch, t = exact(), 20_000, 0.3
    tokens = denoiser.sample(batch, generator=generator())
    level = denoiser.process.level(t)
    with torch.no_grad():
        e = denoiser.table.embed(tokens)
        posterior = denoiser(level.alpha * e + level.sigma * torch.randn(e.shape, dtype=torch.float64), t)
        p = posterior.logits.softmax(-1)
        expected = {"mse": posterior.variance.mean((1, 2)), "anchor": torch.special.entr(p).sum(-1).mean(1)}
        for name, value in expected.items():
            objective = EmbeddedObjective(**({"mse": 0.0, "anchor": 0.0} | {name: 1.0}), times=Fixed(t))
            loss = objective(denoiser, tokens, generator=generator(1))
            error = (loss.var() / batch + value.var() / batch).sqrt()
            assert abs(loss.mean() - value.mean()) < 4 * error


def test_padding_and_given_positions_neither_count_nor_are_given_noisy() -> None:
    denoiser = networked()
    mask = torch.tensor([[True, True, True], [True, True, False]]).repeat(3, 1)
    given = torch.tensor([[True, False, False]]).repeat(6, 1)
    objective = EmbeddedObjective(1.0, 1.0, 1.0, 1.0, floor=0.3, self_conditioning=0.0)
    loss = objective(denoiser, TOKENS, mask=mask, generator=generator(), given=given)
    call = denoiser.network.calls[-1]
    assert torch.equal(call["x"][:, 0], denoiser.table.embed(TOKENS)[:, 0])
    assert (call["x"][~mask] == 0).all()
    assert not torch.isclose(call["x"][:, 1], denoiser.table.embed(TOKENS)[:, 1]).any()
    # What the loss of one position is does not depend on what others count: their mean is that of the losses alone.
    parts = []
    for i in (1, 2):
        alone = given | (torch.arange(3) != i)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(denoiser, "forward", _answering(denoiser, call, given))
            parts.append(objective(denoiser, TOKENS, mask=mask, generator=generator(), given=alone))
    full = mask.all(1)
    torch.testing.assert_close(loss[full], (0.5 * (parts[0] + parts[1]))[full])
    torch.testing.assert_close(loss[~full], parts[0][~full])
    assert (parts[1][~full] == 0).all()


def _answering(denoiser: EmbeddedDenoiser, call: dict[str, Any], given: Tensor) -> Any:
    """A forward that answers as to another call: the state, and what it is told, are those of that call."""
    original = EmbeddedDenoiser.forward

    def forward(x_t: Tensor, t: Any, **condition: Any) -> Any:
        return original(denoiser, call["x"], t, given=given, mask=call["mask"])

    return forward


def test_an_estimate_is_given_with_the_probability_asked_for() -> None:
    denoiser = networked()
    for probability, low, high in ((0.0, 0, 0), (1.0, 60, 60), (0.5, 18, 42)):
        objective, g = EmbeddedObjective(self_conditioning=probability), generator()
        denoiser.network.calls.clear()
        for _ in range(60):
            objective(denoiser, TOKENS, generator=g).sum().backward()
        known = [bool((call["estimate"] != 0).any()) for call in denoiser.network.calls]
        assert low <= sum(known) <= high
        assert len(known) == 60 + sum(known)
    other = networked(self_conditioning=False)
    EmbeddedObjective(self_conditioning=1.0)(other, TOKENS)
    assert len(other.network.calls) == 1


def test_the_estimate_is_the_networks_own_answer() -> None:
    denoiser = networked()
    EmbeddedObjective(self_conditioning=1.0)(denoiser, TOKENS, generator=generator())
    first, second = denoiser.network.calls
    answer = denoiser.table.expected(denoiser.network(first["x"], first["c"]))
    torch.testing.assert_close(second["estimate"], answer.detach())
    assert torch.equal(first["x"], second["x"])
    assert not second["estimate"].requires_grad


def test_gradients_reach_network_and_embeddings_through_every_term() -> None:
    for name in ("mse", "prior", "rounding", "anchor"):
        denoiser = networked("x0", False, VPSchedule())
        denoiser.table = EmbeddingTable(4, 3, normalise=False).double()
        weights = {"mse": 0.0, "anchor": 0.0} | {name: 1.0}
        EmbeddedObjective(**weights, floor=0.1)(denoiser, TOKENS).sum().backward()
        grad = denoiser.table.weight.grad
        assert grad is not None
        assert grad.abs().max() > 0
        assert (denoiser.network.inner.weight.grad is not None) == (name in ("mse", "anchor"))


def test_known_data_are_refused_by_losses_that_would_noise_them() -> None:
    from ornstein.core import VariationalObjective
    from ornstein.core.learned_schedule import LearnedSchedule

    denoiser = GaussianDenoiser(SDE(LearnedSchedule()), torch.zeros(2), torch.eye(2))
    with pytest.raises(ValueError, match="given"):
        VariationalObjective()(denoiser, torch.zeros(1, 2), given=torch.ones(1, 2, dtype=torch.bool))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="positive weight"):
        EmbeddedObjective(0.0, anchor=0.0)
    with pytest.raises(ValueError, match="rounding=-1"):
        EmbeddedObjective(rounding=-1.0)
    with pytest.raises(ValueError, match="self_conditioning"):
        EmbeddedObjective(self_conditioning=1.5)
    with pytest.raises(ValueError, match="tokens"):
        EmbeddedObjective()(networked(), TOKENS.float())
    with pytest.raises(TypeError, match="EmbeddingTable"):
        EmbeddedObjective()(GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(2), torch.eye(2)), TOKENS)
    with pytest.raises(ValueError, match="given of shape"):
        EmbeddedObjective()(networked(), TOKENS, given=torch.ones(6, 2, dtype=torch.bool))


def test_states_on_an_sde_keep_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain denoising loss: the given part adds nothing, and the denoiser sees it without noise."""
    prior = GaussianDenoiser(SDE(CosineSchedule()), torch.zeros(4), torch.eye(4))
    seen: list[Tensor] = []
    original = GaussianDenoiser.forward
    monkeypatch.setattr(
        GaussianDenoiser, "forward", lambda self, x, t, **c: (seen.append(x), original(self, x, t, **c))[1]
    )
    x0, given = torch.randn(3, 4, dtype=torch.float64), torch.tensor([[True, False, False, True]]).repeat(3, 1)
    loss = DenoisingObjective(times=Fixed(0.5))(prior, x0, generator=generator(), given=given)
    assert torch.equal(seen[0][given], x0[given])
    posterior, level = prior(seen[0], 0.5), prior.process.level(0.5)
    eps = (seen[0] - level.alpha * x0) / level.sigma
    torch.testing.assert_close(loss, (eps - posterior.eps).square()[~given].reshape(3, 2).mean(1))


@pytest.mark.parametrize("kind", ["difformer", "diffusion_lm", "cdcd"])
def test_a_small_model_learns_which_category_follows_which(kind: str) -> None:
    """Sequences that step around a circle of 5 categories, one up or two, so that 2 of 5 pairs are right by chance."""
    torch.manual_seed(0)

    class Convolutions(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.inner = nn.Conv1d(2 * inputs + 1, 64, 5, padding=2)
            self.middle = nn.Conv1d(64, 64, 5, padding=2)
            self.outer = nn.Conv1d(64, outputs, 1)

        def forward(self, x: Tensor, c: Tensor, estimate: Tensor) -> Tensor:
            level = c[:, None, None].expand(-1, 1, x.shape[1]).to(x)
            h = torch.cat([x.mT, estimate.mT, level], 1)
            for layer in (self.inner, self.middle):
                h = nn.functional.silu(layer(h))
            return self.outer(h).mT

    def data(num: int) -> Tensor:
        steps = torch.randint(1, 3, (num, 8))
        return steps.cumsum(1).add(torch.randint(5, (num, 1))) % 5

    prediction: Any = "logits" if kind == "cdcd" else "x0"
    table = EmbeddingTable(5, 8, normalise=kind != "diffusion_lm")
    network = Convolutions(8, 5 if kind == "cdcd" else 8)
    denoiser = EmbeddedDenoiser(network, table, SDE(SqrtSchedule()), prediction, self_conditioning=True)
    objective = EmbeddedObjective() if kind == "difformer" else getattr(EmbeddedObjective, kind)()
    optimiser = torch.optim.Adam([*network.parameters(), *table.parameters()], 3e-3)
    losses = []
    for _ in range(200):
        loss = objective(denoiser, data(128)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.7 * sum(losses[:20])
    for sampler in (DDPM(60), DPMSolver(15)):
        tokens = table.round(sampler.sample(denoiser, (200, 8, 8), seed=0))
        step = (tokens[:, 1:] - tokens[:, :-1]) % 5
        right = ((step == 1) | (step == 2)).double().mean()
        assert right > 0.75
        assert tokens.flatten().bincount(minlength=5).min() > 100
