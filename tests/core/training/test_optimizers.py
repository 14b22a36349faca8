"""Tests of the optimisers: Muon and AdamW as one."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from ornstein.core.nn import MLP, TokenTransformer
from ornstein.core.training import load_state, save_state
from ornstein.core.training.optimizers import MuonWithAdamW, adamw, hidden_matrices

ARGUMENTS = {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1}


def network() -> TokenTransformer:
    torch.manual_seed(0)
    made = TokenTransformer(11, width=32, depth=2, head_width=16)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made


def train(made: nn.Module, optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        x = torch.randint(11, (4, 6), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        made(x, torch.zeros(4)).square().mean().backward()
        optimizer.step()


def test_hidden_matrices_are_those_of_the_blocks():
    made = network()
    names = {id(p): name for name, p in made.named_parameters()}
    found = sorted(names[id(p)] for p in hidden_matrices(made))
    layers = ("inner", "out", "outer", "qkv")
    assert found == sorted(f"blocks.{i}.{layer}.weight" for i in range(2) for layer in layers)


def test_it_is_muon_inside_and_adamw_elsewhere():
    ours, theirs = network(), network()
    hidden = hidden_matrices(theirs)
    inside = {id(p) for p in hidden}
    muon = torch.optim.Muon(hidden, 0.01, 0.1, adjust_lr_fn="match_rms_adamw")
    rest = [p for p in theirs.parameters() if id(p) not in inside]
    decayed = [
        {"params": [p for p in rest if p.ndim > 1]},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0},
    ]
    adam = torch.optim.AdamW(decayed, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    optimizer = MuonWithAdamW(ours, **ARGUMENTS)
    for step in range(3):
        train(ours, optimizer, 1, step)
        for other in (muon, adam):
            other.zero_grad()
        train(theirs, adam, 1, step)
        muon.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_learning_rate_of_both_follows_its_schedule():
    optimizer = MuonWithAdamW(network(), **ARGUMENTS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.005] * 3
    optimizer.step()
    rates = [group["lr"] for part in (optimizer.muon, optimizer.adamw) for group in part.param_groups]
    assert rates == [0.005] * 3
    assert optimizer.state_dict()["muon"]["param_groups"][0]["lr"] == 0.005


def pictures(last: bool) -> nn.Sequential:
    """Convolutions in a block, their kernels with channels first in memory or last."""
    torch.manual_seed(1)
    made = nn.Sequential(nn.ModuleList([nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 4, 1)]))
    return made.to(memory_format=torch.channels_last if last else torch.contiguous_format)


def see(made: nn.Sequential, optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        for layer in made[0]:
            x = layer(x)
        x.square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("last", [False, True])
def test_a_kernel_is_the_matrix_that_multiplies_patches(last: bool):
    made, twin = pictures(last), pictures(False)
    flat = [nn.Parameter(layer.weight.detach().flatten(1).clone()) for layer in twin[0]]
    muon = torch.optim.Muon(flat, 0.01, 0.1, adjust_lr_fn="match_rms_adamw")
    before = [layer.weight.detach().clone() for layer in made[0]]
    optimizer = MuonWithAdamW(made, **ARGUMENTS)
    assert [p.shape for p in hidden_matrices(made)] == [(6, 4, 3, 3), (4, 6, 1, 1)]
    see(made, optimizer, 1)
    for layer, matrix in zip(made[0], flat, strict=True):
        matrix.grad = layer.weight.grad.flatten(1)
    muon.step()
    for layer, matrix, old in zip(made[0], flat, before, strict=True):
        moved, expected = layer.weight.detach() - old, matrix.detach().reshape(old.shape) - old
        # Newton and Schulz iterate in bfloat16, whose sums depend on the order of columns.
        assert (moved - expected).norm() < 0.01 * expected.norm()
    assert made[0][0].weight.is_contiguous() is not last


@pytest.mark.parametrize("last", [False, True])
def test_kernels_go_on_from_a_checkpoint_and_may_move(last: bool):
    whole = pictures(last)
    see(whole, MuonWithAdamW(whole, **ARGUMENTS), 4)
    first = pictures(last)
    optimizer = MuonWithAdamW(first, **ARGUMENTS)
    see(first, optimizer, 2)
    second = copy.deepcopy(first)
    resumed = MuonWithAdamW(second, **ARGUMENTS)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for parameter in second.parameters():
        parameter.data = parameter.data.clone()
    see(second, resumed, 2, first=2)
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_goes_on_from_a_checkpoint(tmp_path: Path):
    whole = network()
    train(whole, MuonWithAdamW(whole, **ARGUMENTS), 4)
    first = network()
    optimizer = MuonWithAdamW(first, **ARGUMENTS)
    train(first, optimizer, 2)
    save_state({"optimizer": optimizer.state_dict()}, tmp_path / "state.ckpt")
    second = copy.deepcopy(first)
    resumed = MuonWithAdamW(second, **ARGUMENTS)
    resumed.load_state_dict(load_state(tmp_path / "state.ckpt")["optimizer"])
    train(second, resumed, 2, first=2)
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="take 'adamw'"):
        MuonWithAdamW(nn.Linear(3, 4), **ARGUMENTS)
    assert hidden_matrices(MLP(2, width=16, depth=2))


def test_adamw_decays_matrices_only():
    groups = adamw(nn.Linear(3, 4).parameters(), **ARGUMENTS).param_groups
    assert [(group["weight_decay"], group["params"][0].ndim) for group in groups] == [(0.1, 2), (0.0, 1)]
