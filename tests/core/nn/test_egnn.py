"""The equivariant network: rotations, reflections, translations, permutations, padding, batches, errors."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.core.config import from_config, to_config
from ornstein.core.nn import EGNN

SETTINGS: list[dict[str, Any]] = [
    {},
    {"attention": False},
    {"features": 3, "edge_features": 2, "out_features": 4, "classes": 5},
]


def make(dtype: torch.dtype = torch.float32, **settings: Any) -> EGNN:
    """A network all of whose parameters take part."""
    network = EGNN(**({"width": 24, "depth": 3} | settings))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.to(dtype).eval()


def inputs(network: EGNN, batch: int, n: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    given = {"x": torch.randn(batch, n, network.dims), "c": 4 * torch.rand(batch) - 2}
    if network.features:
        given["features"] = torch.randn(batch, n, network.features)
    if network.edge_features:
        given["edges"] = torch.randn(batch, n, n, network.edge_features)
    given = {name: value.to(dtype) for name, value in given.items()}
    if network.classes:
        given["label"] = torch.randint(-1, network.classes, (batch,))
    return given | {"mask": torch.arange(n) < torch.tensor([n, n - 2, 1])[:batch, None]}


def both(answer: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return answer if isinstance(answer, tuple) else (answer, answer.new_zeros(()))


def close(a: Tensor, b: Tensor, dtype: torch.dtype) -> None:
    atol = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equivariance(settings: dict[str, Any], dtype: torch.dtype) -> None:
    network = make(dtype, **settings)
    given = inputs(network, 3, 7, dtype)
    step, answer = both(network(**given))
    assert step.abs().max() > 0.05
    q = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0].to(dtype)
    for isometry in (q, -q):  # of which one is a rotation and one a reflection
        moved = given["x"] @ isometry + torch.randn(3, 1, 3).to(dtype)
        turned = both(network(**given | {"x": moved}))
        close(turned[0], step @ isometry, dtype)
        close(turned[1], answer, dtype)
    perm = torch.randperm(7)
    permuted = {name: value[:, perm] for name, value in given.items() if name in ("x", "features", "mask")}
    if "edges" in given:
        permuted["edges"] = given["edges"][:, perm][:, :, perm]
    out = both(network(**given | permuted))
    close(out[0], step[:, perm], dtype)
    close(out[1], answer[:, perm] if answer.ndim else answer, dtype)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_padding_neither_counts_nor_moves(settings: dict[str, Any]) -> None:
    network = make(torch.float64, **settings)
    given = inputs(network, 2, 7, torch.float64)
    step, answer = both(network(**given))
    padding = ~given["mask"]
    assert (step[padding] == 0).all()
    close(step.sum(1), torch.zeros_like(step[:, 0]), torch.float64)
    junk = {"x": given["x"].masked_fill(padding[..., None], 50.0)}
    if "edges" in given:
        pairs = given["mask"][:, :, None] & given["mask"][:, None]
        junk["edges"] = given["edges"].masked_fill(~pairs[..., None], -9.0)
        junk["features"] = given["features"].masked_fill(padding[..., None], 9.0)
    for changed in (given | junk, {name: _cut(name, value) for name, value in given.items()}):
        n = changed["x"].shape[1]
        out = both(network(**changed))
        close(out[0][1], step[1, :n], torch.float64)
        close(out[1][1:], answer[1:, :n] if answer.ndim else answer, torch.float64) if answer.ndim else None


def _cut(name: str, value: Tensor) -> Tensor:
    """Without the padding of the second sample."""
    return value[:, :5, :5] if name == "edges" else value[:, :5] if name in ("x", "features", "mask") else value


def test_zero_at_initialisation_with_gradients_where_points_coincide() -> None:
    network = EGNN(width=8, depth=2, out_features=2)
    x = torch.zeros(2, 4, 3, requires_grad=True)
    step, answer = network(x, torch.zeros(2))
    assert (step == 0).all()
    assert (answer == 0).all()
    network = make(out_features=2)
    step, answer = network(x, torch.zeros(2))
    ((step + 1) * torch.randn_like(step)).sum().backward(retain_graph=True)
    answer.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_batch_size_does_not_change_a_sample(settings: dict[str, Any]) -> None:
    network = make(**settings)
    given = inputs(network, 3, 7)
    given = {name: torch.cat([value] * 11) for name, value in given.items()}
    given["x"] = torch.randn_like(given["x"])
    with torch.inference_mode():
        whole = both(network(**given))
        for size in (1, 2, 3, 17):
            part = both(network(**{name: value[7 : 7 + size] for name, value in given.items()}))
            assert torch.equal(part[0], whole[0][7 : 7 + size])
            assert not whole[1].ndim or torch.equal(part[1], whole[1][7 : 7 + size])


def test_every_input_counts() -> None:
    network = make(features=3, edge_features=2, out_features=4, classes=5)
    given = inputs(network, 1, 5)
    step, answer = network(**given)
    for name in ("c", "features", "edges"):
        other = network(**given | {name: given[name] + 0.1})
        assert not torch.allclose(other[0], step, atol=1e-5), name
        assert not torch.allclose(other[1], answer, atol=1e-5), name
    other = network(**given | {"label": (given["label"] + 2) % 5})
    assert not torch.allclose(other[0], step, atol=1e-5)


def test_it_learns_to_scale_a_cloud() -> None:
    torch.manual_seed(0)
    network, x = EGNN(width=16, depth=2), torch.randn(64, 5, 3)
    x = x - x.mean(1, keepdim=True)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        loss = (network(x, torch.zeros(64)) + x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": torch.zeros(2, 5, 2)}, "x must have shape"),
        ({"c": torch.zeros(3)}, "c must have shape"),
        ({"mask": torch.ones(2, 4, dtype=torch.bool)}, "mask must be boolean"),
        ({"mask": torch.ones(2, 5)}, "mask must be boolean"),
        ({"features": None}, "features was not given"),
        ({"features": torch.zeros(2, 5, 7)}, "features must have shape"),
        ({"edges": torch.zeros(2, 5, 5, 1)}, "edges was given to a network built for 0"),
        ({"label": torch.zeros(2, dtype=torch.int64)}, "label was given"),
    ],
)
def test_bad_input(wrong: dict[str, Any], message: str) -> None:
    network = make(features=3)
    given = {"x": torch.zeros(2, 5, 3), "c": torch.zeros(2), "features": torch.zeros(2, 5, 3)}
    network(**given)
    with pytest.raises(ValueError, match=message):
        network(**given | wrong)


def test_settings() -> None:
    with pytest.raises(ValueError, match="depth"):
        EGNN(depth=0)
    network = EGNN(2, features=3, edge_features=1, out_features=2, classes=4, width=8, depth=1, attention=False)
    rebuilt = from_config(json.loads(json.dumps(to_config(network))), nn.Module)
    assert to_config(rebuilt) == to_config(network)
    rebuilt.load_state_dict(network.state_dict())
