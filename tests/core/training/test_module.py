"""One training step: what it is made of, and that it depends on (seed, step, rank) alone."""

from types import SimpleNamespace
from typing import Any

import ornstein_toy as toy
import pytest
import torch
from torch import Tensor

from ornstein.core.training import DiffusionModule, TrainingOptions


class _Spy(torch.nn.Module):
    """An objective that records what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, Any]] = []

    def forward(self, denoiser: Any, x0: Tensor, *, mask: Any, generator: Any, **condition: Tensor) -> Tensor:
        draw = torch.rand(2, generator=generator)
        self.calls.append(
            {"x0": x0, "draw": draw, "dropout": torch.rand(2), "training": denoiser.training, **condition}
        )
        return x0.square().sum(1)


@pytest.fixture
def module() -> DiffusionModule:
    adapter = toy.ToyDiffusion(label_dropout=0.3)
    adapter.objective = _Spy()
    module = DiffusionModule(adapter, TrainingOptions())
    module._trainer = SimpleNamespace(global_step=0, log_every_n_steps=50, global_rank=0, max_steps=10)  # type: ignore[assignment]
    return module


def _step(module: DiffusionModule, number: int, rows: int = 6) -> tuple[Tensor, dict[str, Any]]:
    batch = (torch.arange(2.0 * rows).view(rows, 2), torch.arange(rows) % 2)
    module.on_train_batch_start(batch, number)
    loss = module.training_step(batch, number)
    return loss, module.adapter.objective.calls[-1]  # type: ignore[union-attr, index]


def test_loss_is_the_mean_over_the_batch_of_encoded_states(module: DiffusionModule) -> None:
    loss, call = _step(module, 0)
    assert torch.equal(call["x0"], torch.arange(12.0).view(6, 2) / 2)
    assert loss == call["x0"].square().sum(1).mean()


def test_randomness_depends_on_the_step_and_on_nothing_before_it(module: DiffusionModule) -> None:
    calls = [_step(module, step)[1] for step in (0, 1, 2)]
    torch.rand(17)
    again = _step(module, 1)[1]
    for name in ("draw", "dropout", "label"):
        assert torch.equal(again[name], calls[1][name])
    assert not torch.equal(calls[0]["draw"], calls[1]["draw"])
    assert not torch.equal(calls[0]["dropout"], calls[1]["dropout"])
    module._trainer.global_rank = 1  # type: ignore[union-attr, misc]
    assert not torch.equal(_step(module, 1)[1]["draw"], calls[1]["draw"])


def test_conditions_are_hidden_with_their_probability(module: DiffusionModule) -> None:
    labels = torch.cat([_step(module, step, 500)[1]["label"] for step in range(20)])
    share = (labels == -1).double().mean().item()
    assert share == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 10_000) ** 0.5)
    kept = labels.view(20, 500)
    expected = (torch.arange(500) % 2).expand(20, 500)
    assert torch.equal(kept[kept >= 0], expected[kept >= 0])


def test_validation_repeats_its_draws_and_hides_nothing(
    module: DiffusionModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = []
    monkeypatch.setattr(module, "log", lambda name, value, **options: logged.append((name, float(value))))
    batch = (torch.ones(50, 2), torch.arange(50) % 2)
    for _ in range(2):
        module.validation_step(batch, 3)
        torch.rand(5)
    first, second = module.adapter.objective.calls  # type: ignore[union-attr, misc]
    assert torch.equal(first["draw"], second["draw"])
    assert torch.equal(first["label"], batch[1])
    assert logged[0] == logged[1] == ("val_loss", 0.5)


def test_a_probability_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"condition_dropout\['label'\] must lie in \[0, 1\], got 1.5"):
        DiffusionModule(toy.ToyDiffusion(label_dropout=1.5), TrainingOptions())


def test_weight_decay_spares_biases(module: DiffusionModule) -> None:
    module.options = TrainingOptions(weight_decay=0.1, lr=3e-4, betas=(0.8, 0.95))
    optimizer = module.configure_optimizers()["optimizer"]
    decayed, spared = optimizer.param_groups
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in spared["params"]} == {1}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert decayed["initial_lr"] == 3e-4
    assert decayed["betas"] == (0.8, 0.95)
    assert sum(p.numel() for g in optimizer.param_groups for p in g["params"]) == sum(
        p.numel() for p in module.adapter.parameters()
    )
