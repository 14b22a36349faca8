"""Training an autoencoder, by a plain loop and in a run folder."""

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from ornstein.core.latents import AutoencoderObjective, KLAutoencoder, VQAutoencoder, fit_autoencoder
from ornstein.core.training import EMA, DataModule

OPTIONS = {"accelerator": "cpu", "lr": 5e-3, "ema": EMA(0.9), "log_every_n_steps": 10}


def smooth(num: int = 128) -> torch.Tensor:
    """Data with a structure to find: one wave each, of random phase and direction."""
    generator = torch.Generator().manual_seed(0)
    angle, phase = 2 * torch.pi * torch.rand(2, num, 1, 1, generator=generator)
    row = torch.arange(8.0)
    return torch.sin(0.6 * (row[:, None] * angle.cos() + row * angle.sin()) + phase)[:, None]


def made(kind: type) -> KLAutoencoder | VQAutoencoder:
    torch.manual_seed(0)
    return KLAutoencoder(1, 2, widths=(8, 16)) if kind is KLAutoencoder else VQAutoencoder(1, 32, 4, widths=(8, 16))


@torch.no_grad()
def error(autoencoder: nn.Module, x: torch.Tensor) -> float:
    z = autoencoder.encode(x)
    z = z if isinstance(z, torch.Tensor) else z.mean
    return (autoencoder.decode(z) - x).square().mean().item()


@pytest.mark.parametrize("kind", [KLAutoencoder, VQAutoencoder])
def test_a_plain_loop_lowers_the_loss(kind):
    autoencoder, x, objective = made(kind), smooth(), AutoencoderObjective("gaussian")
    optimiser = torch.optim.AdamW(autoencoder.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        loss = objective(autoencoder, x[step % 2 :: 2]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < losses[0] - 0.1
    assert error(autoencoder.eval(), x) < 0.4 * x.square().mean().item()


@pytest.mark.parametrize("kind", [KLAutoencoder, VQAutoencoder])
def test_fit_trains_and_saves(kind, tmp_path):
    autoencoder, x = made(kind), smooth()
    run = fit_autoencoder(autoencoder, x, batch_size=32, run=tmp_path / "run", max_steps=60, **OPTIONS)
    assert run.finished
    assert not autoencoder.training
    reached = error(autoencoder, x)
    assert reached < 0.4 * x.square().mean().item()
    assert error(kind.from_pretrained(run.model), x) == reached
    if kind is VQAutoencoder:
        assert autoencoder.perplexity > 8


def test_equal_seeds_give_equal_weights(tmp_path):
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        autoencoder = made(VQAutoencoder)
        fit_autoencoder(autoencoder, smooth(64), batch_size=16, run=tmp_path / name, max_steps=3, seed=seed, **OPTIONS)
        weights.append(autoencoder.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_a_learned_scale_is_trained_and_not_saved_with_the_model(tmp_path):
    objective = AutoencoderObjective("laplace", learn_scale=True)
    autoencoder = made(KLAutoencoder)
    run = fit_autoencoder(
        autoencoder, smooth(), objective=objective, batch_size=32, run=tmp_path, max_steps=20, **OPTIONS
    )
    assert objective.log_scale.item() < -0.02
    assert set(KLAutoencoder.from_pretrained(run.model).state_dict()) == set(autoencoder.state_dict())


class Fail(Callback):
    """Ends a run once it has made three steps."""

    def on_train_batch_end(self, trainer, *arguments):
        if trainer.global_step == 3:
            raise RuntimeError("a failure")


def test_an_interrupted_run_ends_with_the_weights_of_a_whole_one(tmp_path):
    def fit(folder, **further):
        autoencoder, objective = made(VQAutoencoder), AutoencoderObjective(learn_scale=True)
        options = OPTIONS | {"max_steps": 6, "checkpoint_every": 2, "batch_size": 16} | further
        fit_autoencoder(autoencoder, smooth(64), objective=objective, run=tmp_path / folder, **options)
        return autoencoder.state_dict() | objective.state_dict()

    whole = fit("whole")
    with pytest.raises(RuntimeError, match="a failure"):
        fit("parts", callbacks=[Fail()])
    continued = fit("parts")
    assert all(torch.equal(whole[name], continued[name]) for name in whole)


class Pairs(DataModule):
    """Batches of another form than states."""

    def train_dataset(self):
        return [{"wave": wave, "label": 0} for wave in smooth(64)]

    def reference(self):
        return None


def test_fit_takes_a_data_module_and_what_makes_states_of_its_batches(tmp_path):
    autoencoder = made(KLAutoencoder)
    before = error(autoencoder.eval(), smooth(64))
    fit_autoencoder(autoencoder, Pairs(16), states=lambda batch: batch["wave"], run=tmp_path, max_steps=20, **OPTIONS)
    assert error(autoencoder, smooth(64)) < 0.8 * before


def test_fit_refuses_bad_input(tmp_path):
    with pytest.raises(TypeError, match="autoencoder is Linear: expected an Autoencoder, such as KLAutoencoder"):
        fit_autoencoder(nn.Linear(2, 2), torch.zeros(4, 2), run=tmp_path)
    with pytest.raises(TypeError, match=r"data is list: expected a tensor \(N, \*event\) or a DataModule"):
        fit_autoencoder(made(KLAutoencoder), [1, 2], run=tmp_path)
    with pytest.raises(ValueError, match="unknown option 'max_step'"):
        fit_autoencoder(made(KLAutoencoder), smooth(8), run=tmp_path, max_step=3)
