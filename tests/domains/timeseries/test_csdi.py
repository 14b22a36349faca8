"""CSDI's network against a plain re-derivation, its published weights, and the authors' sampling."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ornstein.core import DDIM, DDPM, SDE, NetworkDenoiser, Times, UniformTime
from ornstein.core.config import from_config, to_config
from ornstein.core.noise import NoiseSource, NoiseStream
from ornstein.domains.timeseries.csdi import CSDI_TABLE, CSDINetwork
from ornstein.domains.timeseries.csdi_names import own_name, published_name
from ornstein.domains.timeseries.physionet import CSDIProtocol, read_physionet

SMALL: dict[str, Any] = {"layers": 2, "channels": 16, "time_features": 12, "variable_features": 4, "step_features": 10}


def small(variables: int = 5, **options: Any) -> CSDINetwork:
    """A small network whose every weight is random, the last layer's too."""
    network = CSDINetwork(variables, **(SMALL | options))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


def published_form(network: CSDINetwork) -> dict[str, Tensor]:
    """The weights as CSDI's code would have saved them: its names, and matrices of convolutions with a third axis."""
    convolutions = ("projection", "projection1", "projection2")
    state = {}
    for key, value in network.state_dict().items():
        name = published_name(key)
        layer = name.split(".")[-2]
        convolution = layer.endswith(convolutions) and "diffusion" not in name and value.dim() == 2
        state[name] = value[..., None] if convolution else value
    return state


def plain(state: dict[str, Tensor], x: Tensor, given: Tensor, step: Tensor, time: Tensor) -> Tensor:
    """CSDI's network written from its description, by torch's own layers, one entry after another in memory order."""
    batch, length, count = x.shape
    x, told = x.transpose(1, 2), given.transpose(1, 2).float()

    def layer(name: str, value: Tensor) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.conv1d(value, weight, bias) if weight.dim() == 3 else F.linear(value, weight, bias)

    variables = state["embed_layer.weight"]
    side_width = state["diffmodel.residual_layers.0.cond_projection.weight"].shape[1]
    features = side_width - variables.shape[1] - 1
    position = torch.zeros(batch, length, features)
    rate = 1 / 10000.0 ** (torch.arange(0, features, 2) / features)
    position[..., 0::2], position[..., 1::2] = torch.sin(time[..., None] * rate), torch.cos(time[..., None] * rate)
    side = torch.cat(
        [
            position[:, None].expand(-1, count, -1, -1),
            variables[None, :, None].expand(batch, -1, length, -1),
            told[..., None],
        ],
        -1,
    ).flatten(1, 2)
    width = state["diffmodel.diffusion_embedding.projection1.weight"].shape[1] // 2
    angles = step[:, None] * 10.0 ** (torch.arange(width) / (width - 1) * 4.0)
    embedding = torch.cat([angles.sin(), angles.cos()], 1)
    for number in (1, 2):
        embedding = F.silu(layer(f"diffmodel.diffusion_embedding.projection{number}", embedding))
    h = torch.stack([told * x, (1 - told) * x], 1).flatten(2)
    h = F.relu(layer("diffmodel.input_projection", h))
    skips = []
    while (block := f"diffmodel.residual_layers.{len(skips)}") + ".mid_projection.weight" in state:
        y = (h + layer(f"{block}.diffusion_projection", embedding)[..., None]).unflatten(2, (count, length))
        for axis, order in (("time", (3, 0, 2, 1)), ("feature", (2, 0, 3, 1))):
            prefix = f"{block}.{axis}_layer.layers.0."
            weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            channels, inner = y.shape[1], weights["linear1.weight"].shape[0]
            transformer = nn.TransformerEncoderLayer(channels, 8, inner, activation="gelu").eval()
            transformer.load_state_dict(weights)
            tokens = y.permute(order)
            back = tuple(order.index(place) for place in range(4))
            y = transformer(tokens.flatten(1, 2)).view(tokens.shape).permute(back)
        y = layer(f"{block}.mid_projection", y.flatten(2)) + layer(f"{block}.cond_projection", side.transpose(1, 2))
        gate, value = y.chunk(2, 1)
        residual, skip = layer(f"{block}.output_projection", torch.sigmoid(gate) * torch.tanh(value)).chunk(2, 1)
        h = (h + residual) / math.sqrt(2)
        skips.append(skip)
    y = layer("diffmodel.output_projection1", sum(skips) / math.sqrt(len(skips)))  # type: ignore[arg-type]
    return layer("diffmodel.output_projection2", F.relu(y)).view(batch, count, length).transpose(1, 2)


def level(step: Tensor) -> Tensor:
    """The noise level at which the network is told this step."""
    return (-CSDI_TABLE.log_snr((step.double() + 1) / 50) / 8).float()


def window(batch: int = 3, length: int = 7, count: int = 5) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, length, count), torch.rand(batch, length, count) < 0.3


@torch.no_grad()
def test_the_network_is_the_one_described(tmp_path: Path) -> None:
    state = published_form(small())
    torch.save(state, tmp_path / "model.pth")
    network = CSDINetwork.from_published(tmp_path / "model.pth")
    x, given = window()
    step, time = torch.tensor([0, 31, 49]), torch.rand(3, 7).cumsum(1)
    expected = plain(state, x, given, step, time)
    assert expected.std() > 0.1
    torch.testing.assert_close(network(x, level(step), given=given, time=time), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_published_weights_answer_as_in_the_plain_form(external_data) -> None:
    path = external_data("csdi_pretrained") / "model.pth"
    network = CSDINetwork.from_published(path)
    assert sum(p.numel() for p in network.parameters()) == 414_065
    assert not network.training
    state = torch.load(path, weights_only=True, map_location="cpu")
    assert len(state) == 139 == len(network.state_dict())
    x, given = window(3, 48, 35)
    step = torch.tensor([0, 20, 49])
    expected = plain(state, x, given, step, torch.arange(48.0).expand(3, -1))
    torch.testing.assert_close(network(x, level(step), given=given), expected, rtol=1e-5, atol=1e-5)


def test_names_are_told_both_ways() -> None:
    network = small()
    for key in network.state_dict():
        assert own_name(published_name(key)) == key
    with pytest.raises(ValueError, match=r"weight 'diffmodel.mid.weight'"):
        own_name("diffmodel.mid.weight")


class Trap:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("ran",))


def test_damaged_weights_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.pth"

    def refused(state: Any, message: str, **options: Any) -> None:
        torch.save(state, path)
        with pytest.raises(ValueError, match=message):
            CSDINetwork.from_published(path, **options)

    with pytest.raises(FileNotFoundError, match="no such file"):
        CSDINetwork.from_published(path)
    good = published_form(small())
    gate = "diffmodel.residual_layers.1.mid_projection.weight"
    refused({key: value for key, value in good.items() if key != gate}, f"holds no {gate}")
    refused({key: value for key, value in good.items() if key != "embed_layer.weight"}, "holds no embed_layer.weight")
    refused(good | {gate: good[gate][:, 1:]}, f"{gate} of shape .* expected")
    refused(good | {"embed_layer.bias": torch.zeros(3)}, r"holds embed_layer.bias, for which")
    refused(good | {"extra.weight": torch.zeros(3)}, "'extra.weight'")
    refused(good, "unconditional=False, not True", unconditional=True)
    refused([1, 2], "no tensors by name")
    refused({"a": Trap()}, "more than tensors")
    assert "ran" not in capsys.readouterr().out
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="no file of torch"):
        CSDINetwork.from_published(path)


def test_subnormal_weights_are_read_as_zero(tmp_path: Path) -> None:
    state = published_form(small())
    state["embed_layer.weight"][0] = 1e-40
    torch.save(state, tmp_path / "model.pth")
    assert (CSDINetwork.from_published(tmp_path / "model.pth").variable.weight[0] == 0).all()


def test_steps_are_read_back_from_levels_and_mixed_between() -> None:
    embedding = small().step
    steps = torch.arange(50)
    assert torch.equal(embedding.index(level(steps)), steps.double())
    assert embedding.index(torch.tensor([-2.5, 2.5])).tolist() == [0, 49]
    between = (-CSDI_TABLE.log_snr(torch.tensor([20.25 / 50], dtype=torch.float64)) / 8).float()
    torch.testing.assert_close(embedding.index(between), torch.tensor([19.25]).double(), rtol=1e-5, atol=0)
    rows = 0.75 * embedding.rows[19] + 0.25 * embedding.rows[20]
    expected = F.silu(embedding.outer(F.silu(embedding.inner(rows))))
    torch.testing.assert_close(embedding(between)[0], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_one_encoding_serves_all_samples_and_steps() -> None:
    network = small(calendar=2)
    x, given = window(4)
    time, calendar = torch.rand(1, 7).cumsum(1), torch.randn(1, 7, 2)
    context = network.encode(x[:1], time=time, calendar=calendar)
    for step in (3, 40):
        c = level(torch.full((4,), step))
        told = {"time": time.expand(4, -1), "calendar": calendar.expand(4, -1, -1)}
        expected = network(x, c, given=given, **told)
        assert torch.equal(network(x, c, given=given, context=context), expected)
        assert torch.equal(network(x, c, given=given, context=context.expand(4, -1, -1)), expected)


@torch.no_grad()
def test_windows_answer_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    network = small()
    x, given = window(5)
    mask = torch.ones_like(given)
    mask[1, 4:] = False
    c = level(torch.tensor([1, 2, 3, 4, 5]))
    together = network(x, c, given=given, mask=mask)
    monkeypatch.setattr("ornstein.domains.timeseries.csdi.CACHED", 2 * 7 * 5 * 16)  # two windows at a time
    assert torch.equal(network(x, c, given=given, mask=mask), together)
    for i in range(5):
        alone = network(x[i : i + 1], c[i : i + 1], given=given[i : i + 1], mask=mask[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-6)  # to the bit without padding
        assert torch.equal(network(x[i : i + 1], c[i : i + 1])[0], network(x, c)[i])
    assert network(x[:0], c[:0], given=given[:0]).shape == (0, 7, 5)


@torch.no_grad()
def test_padding_is_seen_by_no_step() -> None:
    network = small()
    x, given = window()
    c = level(torch.tensor([7, 8, 9]))
    mask = torch.ones_like(given)
    mask[:, 5:] = False
    short = network(x[:, :5], c, given=given[:, :5])
    torch.testing.assert_close(network(x, c, given=given, mask=mask)[:, :5], short, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(x, c, given=given)[:, :5], short, atol=1e-3)
    # an entry that alone is not real changes nothing
    mask = torch.ones_like(given)
    mask[0, 2, 3] = False
    assert torch.equal(network(x, c, given=given, mask=mask), network(x, c, given=given))


@torch.no_grad()
def test_what_is_known_beside_the_series_counts() -> None:
    network = small(calendar=2, covariates=3, static=1)
    x, given = window()
    c = level(torch.tensor([7, 8, 9]))
    told = {"calendar": torch.randn(3, 7, 2), "covariates": torch.randn(3, 7, 3), "static": torch.randn(3, 1)}
    first = network(x, c, given=given, **told)
    for name, value in told.items():
        changed = value.clone()
        changed[0] += 1
        second = network(x, c, given=given, **(told | {name: changed}))
        assert not torch.allclose(second[0], first[0], atol=1e-3)
        assert torch.equal(second[1:], first[1:])
        with pytest.raises(ValueError, match=f"built with {name}=., but none came"):
            network(x, c, given=given, **{key: other for key, other in told.items() if key != name})
        with pytest.raises(ValueError, match=f"{name} must have shape"):
            network(x, c, given=given, **(told | {name: value[..., :0]}))
    with pytest.raises(ValueError, match="built with static=0, but static of shape"):
        small()(x, c, given=given, static=told["static"])


def test_inputs_that_do_not_fit_are_refused() -> None:
    network = small()
    x, given = window()
    c = level(torch.tensor([7, 8, 9]))
    for arguments, message in (
        ({"x": x[..., :3]}, r"x must have shape \(batch, time, 5\), got \(3, 7, 3\)"),
        ({"given": given.float()}, "given must be boolean"),
        ({"mask": given[:, :3]}, "mask must be boolean of shape"),
        ({"time": torch.zeros(3, 6)}, "time must have shape"),
        ({"context": torch.zeros(2, 7, 64)}, "context must have shape"),
        ({"c": c[:2]}, "c must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            network(**({"x": x, "c": c, "given": given} | arguments))
    for options, message in (
        ({"heads": 3}, "heads must divide channels=16"),
        ({"time_features": 5}, "time_features must be even"),
        ({"dropout": 1.0}, "dropout"),
        ({"layers": 0}, "layers"),
    ):
        with pytest.raises(ValueError, match=message):
            small(**options)


@torch.no_grad()
def test_an_unconditional_network_is_not_told(tmp_path: Path) -> None:
    network = small(unconditional=True)
    x, given = window()
    c = level(torch.tensor([7, 8, 9]))
    with pytest.raises(ValueError, match="unconditional network"):
        network(x, c, given=given)
    torch.save(published_form(network), tmp_path / "model.pth")
    again = CSDINetwork.from_published(tmp_path / "model.pth", unconditional=True)
    torch.testing.assert_close(again(x, c), network(x, c), rtol=1e-5, atol=1e-6)
    assert again.input.weight.shape == (16, 1)
    assert again.blocks[0].side.weight.shape[1] == 12 + 4


@torch.no_grad()
def test_nothing_given_is_a_case_like_any_other() -> None:
    network = small()
    x, given = window()
    c = level(torch.tensor([7, 8, 9]))
    torch.testing.assert_close(network(x, c), network(x, c, given=torch.zeros_like(given)), rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_weight_and_dropout_is_of_training() -> None:
    network = small(calendar=1, static=2)
    x, given = window()
    told = {"calendar": torch.randn(3, 7, 1), "static": torch.randn(3, 2)}
    c = level(torch.tensor([7, 8, 9]))
    with torch.no_grad():
        still = network(x, c, given=given, **told)
    torch.testing.assert_close(network(x, c, given=given, **told).detach(), still, rtol=1e-5, atol=1e-6)
    network.train()
    assert not torch.allclose(network(x, c, given=given, **told).detach(), still, atol=1e-3)
    network(x, c, given=given, **told).square().sum().backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # Of the last block's output only the half that goes to the network's output counts.
    assert dead == []
    assert not network.blocks[-1].out.weight.grad[:16].any()


@torch.no_grad()
def test_low_precision_is_near() -> None:
    network = small()
    x, given = window()
    c = level(torch.tensor([7, 8, 9]))
    exact = network(x, c, given=given)
    near = network.bfloat16()(x.bfloat16(), c, given=given).float()
    assert near.dtype == torch.float32
    assert (near - exact).square().mean().sqrt() < 0.05 * exact.std()


def test_the_network_is_rebuilt_from_its_configuration() -> None:
    network = CSDINetwork(5, 1, **SMALL, unconditional=True)
    again = from_config(to_config(network))
    assert to_config(again) == to_config(network)
    assert again.table == CSDI_TABLE
    assert [p.shape for p in again.parameters()] == [p.shape for p in network.parameters()]


class Recorded(NoiseSource):
    """Fixed draws, one a step."""

    def __init__(self, draws: list[Tensor]) -> None:
        self.draws = draws

    def begin(self, batch: int, first: int) -> NoiseStream:
        return _Recorded(iter(self.draws))


class _Recorded(NoiseStream):
    def __init__(self, draws: Any) -> None:
        self.draws = draws

    def draw(self, like: Tensor) -> Tensor:
        return next(self.draws)

    def step(self, like: Tensor, t: Any, s: Any) -> Tensor:
        return next(self.draws)


@torch.no_grad()
def test_fifty_steps_are_the_authors_updates() -> None:
    """x <- (x - beta / sqrt(1 - abar) eps) / sqrt(1 - beta) + sigma z, sigma^2 = (1 - abar_prev) / (1 - abar) beta."""
    network = small()
    x0, given = window(2, 6)
    noise = [torch.randn(2, 6, 5) for _ in range(50)]
    beta = np.linspace(0.0001**0.5, 0.5**0.5, 50) ** 2
    abar = np.cumprod(1 - beta)
    x = torch.randn(2, 6, 5)
    start = torch.where(given, x0, x)
    denoiser = NetworkDenoiser(network, SDE(CSDI_TABLE), prediction="eps")
    states: list[Tensor] = []
    final = DDPM(50, grid=UniformTime()).sample(
        denoiser, x.shape, x=start, given=given, noise=Recorded(noise), callback=lambda step: states.append(step.x)
    )
    assert len(states) == 50
    for step, z in zip(range(49, -1, -1), noise):
        seen = torch.where(given, x0, x)
        eps = network(seen, level(torch.full((2,), step)), given=given)
        x = (x - beta[step] / (1 - abar[step]) ** 0.5 * eps) / (1 - beta[step]) ** 0.5
        if step:
            x = x + ((1 - abar[step - 1]) / (1 - abar[step]) * beta[step]) ** 0.5 * z
        # noise grows 1 / sqrt(1 - beta) times a step, and rounding with it
        torch.testing.assert_close(states[49 - step][~given], x[~given], rtol=1e-4, atol=1e-4)
    assert torch.equal(final[given], x0[given])


@pytest.mark.slow
@torch.no_grad()
def test_the_published_weights_impute_real_patients(external_data) -> None:
    """Nine steps of DDIM for two patients: closer than the variables' means by half (the paper's MAE is 0.217)."""
    data = CSDIProtocol(read_physionet(external_data("physionet2012") / "set-a.tar.xz"))
    network = CSDINetwork.from_published(external_data("csdi_pretrained") / "model.pth")
    denoiser = NetworkDenoiser(network, SDE(CSDI_TABLE), prediction="eps")
    sampler = DDIM(9, grid=Times((*((step + 1) / 50 for step in (49, 38, 28, 19, 12, 7, 3, 1, 0)), 0.0)))
    errors, sizes = [], []
    for patient in data.test[[1, 4]]:
        given = torch.from_numpy(data.given[patient]).expand(4, -1, -1)
        x = torch.where(given, torch.from_numpy(data.values[patient]), torch.randn(4, 48, 35))
        samples = sampler.sample(denoiser, x.shape, x=x, given=given, seed=0)
        truth = torch.from_numpy(data.values[patient])[data.target[patient]]
        errors.append((samples[:, data.target[patient]].median(0).values - truth).abs())
        sizes.append(truth.abs())
    assert torch.cat(errors).mean() < 0.5 * torch.cat(sizes).mean()
