"""What every network promises: shapes, conditioning, gradients, configuration, errors."""

import inspect
import json

import pytest
import torch
from torch import nn

from ornstein.core.nn import MLP, DiT, UNet


def make_unet(dims=2, channels=2, **options):
    settings = {"widths": (8, 16), "depths": (1, 2), "attention": (False, True), "head_width": 8} | options
    return UNet(channels, dims, **settings)


def make_dit(dims=2, channels=2, **options):
    settings = {"patch": 2, "width": 24, "depth": 2, "head_width": 12} | options
    return DiT(channels, dims, **settings)


def make_mlp(**options):
    return MLP(3, **({"width": 16, "depth": 2} | options))


GRID_NETWORKS = [make_unet, make_dit]
SIZES = {1: [(1,), (8,), (13,)], 2: [(1, 1), (28, 28), (25, 25), (7, 12)], 3: [(4, 4, 4), (3, 5, 6)]}
GRID_CASES = [(dims, size) for dims, sizes in SIZES.items() for size in sizes]


def perturb(network: nn.Module, scale: float = 0.1) -> nn.Module:
    """Move every parameter, so that what is zero at initialisation takes part."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def inputs(batch: int, *event: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, *event, generator=generator), 4 * torch.rand(batch, generator=generator) - 2


@pytest.mark.parametrize("make", GRID_NETWORKS)
@pytest.mark.parametrize(("dims", "size"), GRID_CASES)
def test_output_has_the_shape_of_the_input_and_starts_at_zero(make, dims, size):
    x, c = inputs(2, 2, *size)
    network = make(dims)
    assert torch.equal(network(x, c), torch.zeros_like(x))
    out = perturb(network)(x, c)
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert out.std() > 0


@pytest.mark.parametrize("make", GRID_NETWORKS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_out_channels(make, dims):
    x, c = inputs(2, 2, *(5,) * dims)
    assert make(dims, out_channels=3)(x, c).shape == (2, 3, *(5,) * dims)


def test_mlp_shapes():
    x, c = inputs(4, 3)
    assert torch.equal(make_mlp()(x, c), torch.zeros_like(x))
    assert make_mlp(out_features=5)(x, c).shape == (4, 5)


@pytest.mark.parametrize("make", [*GRID_NETWORKS, make_mlp])
def test_each_condition_changes_the_output_of_its_own_sample_alone(make):
    network = perturb(make(classes=4))
    x, c = inputs(3, 2, 6, 6) if make is not make_mlp else inputs(3, 3)
    label = torch.tensor([0, 1, -1])
    before = network(x, c, label=label)
    for changed in (
        network(x, torch.where(torch.arange(3) == 1, c + 0.05, c), label=label),
        network(x, c, label=torch.tensor([0, 3, -1])),
        network(torch.where((torch.arange(3) == 1).view(3, *(1,) * (x.dim() - 1)), -x, x), c, label=label),
    ):
        assert torch.equal(changed[[0, 2]], before[[0, 2]])
        assert (changed[1] - before[1]).abs().max() > 1e-3


@pytest.mark.parametrize("make", [*GRID_NETWORKS, make_mlp])
def test_label_minus_one_is_no_label(make):
    network = perturb(make(classes=4))
    x, c = inputs(3, 2, 6, 6) if make is not make_mlp else inputs(3, 3)
    assert torch.equal(network(x, c), network(x, c, label=torch.full((3,), -1)))
    assert not torch.equal(network(x, c), network(x, c, label=torch.tensor([0, 1, 2])))


@pytest.mark.parametrize("make", GRID_NETWORKS)
def test_context_changes_the_output_and_padding_does_not(make):
    network = perturb(make(context_width=5), 0.3)
    x, c = inputs(2, 2, 6, 6)
    context = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1))
    full = network(x, c, context=context)
    assert (full - network(x, c)).abs().max() > 1e-3
    mask = torch.ones(2, 3, dtype=torch.bool)
    torch.testing.assert_close(network(x, c, context=context, context_mask=mask), full)
    padded = torch.cat([context, torch.full((2, 4, 5), 7.0)], dim=1)
    masked = network(x, c, context=padded, context_mask=torch.arange(7).expand(2, -1) < 3)
    torch.testing.assert_close(masked, full, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", GRID_NETWORKS)
def test_a_context_that_is_masked_throughout_is_no_context(make):
    network = perturb(make(context_width=5), 0.3)
    x, c = inputs(2, 2, 6, 6)
    nothing = network(x, c, context=torch.randn(2, 3, 5), context_mask=torch.zeros(2, 3, dtype=torch.bool))
    torch.testing.assert_close(nothing, network(x, c), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [*GRID_NETWORKS, make_mlp])
def test_a_gradient_reaches_every_parameter(make):
    with_context = {} if make is make_mlp else {"context_width": 5}
    network = perturb(make(classes=4, **with_context)).train()
    x, c = inputs(3, 2, 6, 6) if make is not make_mlp else inputs(3, 3)
    condition = {"context": torch.randn(3, 3, 5)} if with_context else {}
    network(x, c, label=torch.tensor([0, -1, 2]), **condition).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


@pytest.mark.parametrize("make", GRID_NETWORKS)
@pytest.mark.parametrize("dims", [1, 2])
def test_training_begins(make, dims):
    """Zero-initialised outputs must not stop the descent: the loss on one batch falls within a few steps."""
    torch.manual_seed(0)
    network = make(dims)
    x, c = inputs(4, 2, *(6,) * dims)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = (network(x, c) - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("make", [*GRID_NETWORKS, make_mlp])
def test_dropout_acts_in_training_alone(make):
    network = perturb(make(dropout=0.5))
    x, c = inputs(3, 2, 6, 6) if make is not make_mlp else inputs(3, 3)
    assert torch.equal(network(x, c), network(x, c))
    network.train()
    assert not torch.equal(network(x, c), network(x, c))


@pytest.mark.parametrize("make", GRID_NETWORKS)
def test_checkpointing_gives_the_same_loss_and_gradients(make):
    plain, frugal = (perturb(make(classes=4, context_width=5, gradient_checkpointing=flag)) for flag in (False, True))
    frugal.load_state_dict(plain.state_dict())
    x, c = inputs(2, 2, 6, 6)
    outputs = []
    for network in (plain, frugal):
        out = network.train()(x, c, label=torch.tensor([1, -1]), context=torch.ones(2, 2, 5))
        out.square().sum().backward()
        outputs.append(out.detach())
    torch.testing.assert_close(outputs[0], outputs[1])
    for one, other in zip(plain.parameters(), frugal.parameters()):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("make", GRID_NETWORKS)
def test_checkpointing_stores_fewer_activations(make):
    def stored(network: nn.Module) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            network(*inputs(8, 2, 12, 12))
        return sum(sizes)

    assert stored(make(gradient_checkpointing=True)) < 0.6 * stored(make())


@pytest.mark.parametrize("make", GRID_NETWORKS)
@pytest.mark.parametrize("dims", [2, 3])
def test_the_result_has_the_memory_format_of_the_input(make, dims):
    memory_format = {2: torch.channels_last, 3: torch.channels_last_3d}[dims]
    network = perturb(make(dims))
    x, c = inputs(2, 2, *(5,) * dims)
    plain, last = network(x, c), network(x.contiguous(memory_format=memory_format), c)
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=memory_format)
    assert torch.equal(plain, last)


@pytest.mark.parametrize("make", [*GRID_NETWORKS, make_mlp])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(make, dtype):
    network = perturb(make(classes=4))
    x, c = inputs(2, 2, 6, 6) if make is not make_mlp else inputs(2, 3)
    label = torch.tensor([1, -1])
    single = network(x, c, label=label)
    other = network.to(dtype)(x.to(dtype), c, label=label)
    assert other.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float64 else 0.1
    assert (other.float() - single).norm() < tolerance * single.norm()


@pytest.mark.parametrize("make", [*GRID_NETWORKS, make_mlp])
def test_autocast(make):
    network = perturb(make(classes=4))
    x, c = inputs(2, 2, 6, 6) if make is not make_mlp else inputs(2, 3)
    single = network(x, c)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network(x, c)
    assert (mixed.float() - single).norm() < 0.1 * single.norm()


@pytest.mark.parametrize("make", [*GRID_NETWORKS, make_mlp])
def test_an_empty_batch(make):
    x, c = inputs(0, 2, 6, 6) if make is not make_mlp else inputs(0, 3)
    assert make()(x, c).shape == x.shape


@pytest.mark.parametrize("network", [make_unet(classes=3), make_dit(classes=3), make_mlp(classes=3)])
def test_constructor_arguments_are_attributes_that_json_can_hold(network):
    arguments = {name: getattr(network, name) for name in inspect.signature(type(network)).parameters}
    again = type(network)(**json.loads(json.dumps(arguments)))
    assert {name: getattr(again, name) for name in arguments} == arguments
    again.load_state_dict(network.state_dict())


@pytest.mark.parametrize("make", GRID_NETWORKS)
def test_bad_inputs(make):
    network = make(classes=4, context_width=5)
    x, c = inputs(2, 2, 6, 6)
    context = torch.zeros(2, 3, 5)
    cases = [
        ("x must have 2 channels .* got 3", (torch.zeros(2, 3, 6, 6), c), {}),
        ("x must have 4 axes", (torch.zeros(2, 2, 6), c), {}),
        ("x must have at least one point", (torch.zeros(2, 2, 0, 6), c), {}),
        (r"c must have shape \(2,\)", (x, c[:1]), {}),
        ("c must be floating-point", (x, torch.zeros(2, dtype=torch.int64)), {}),
        (r"label must lie in \[-1, 3\].* got 4", (x, c), {"label": torch.tensor([0, 4])}),
        (r"label must lie in \[-1, 3\].* got -2", (x, c), {"label": torch.tensor([0, -2])}),
        ("label must be int64", (x, c), {"label": torch.zeros(2)}),
        (r"label must have shape \(2,\)", (x, c), {"label": torch.zeros(3, dtype=torch.int64)}),
        (r"context must have shape \(2, length, 5\), got \(2, 3, 6\)", (x, c), {"context": torch.zeros(2, 3, 6)}),
        (
            r"context_mask must have shape \(2, 3\)",
            (x, c),
            {"context": context, "context_mask": torch.ones(2, 4) > 0},
        ),
        ("context_mask must be boolean", (x, c), {"context": context, "context_mask": torch.ones(2, 3)}),
        ("context_mask was given without context", (x, c), {"context_mask": torch.ones(2, 3) > 0}),
    ]
    for message, arguments, condition in cases:
        with pytest.raises(ValueError, match=message) as error:
            network(*arguments, **condition)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="label was given to a network without classes"):
        make()(x, c, label=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="context was given to a network without cross-attention"):
        make()(x, c, context=context)


def test_bad_inputs_of_the_mlp():
    x, c = inputs(2, 3)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 3\), got \(2, 4\)"):
        make_mlp()(torch.zeros(2, 4), c)
    with pytest.raises(ValueError, match="context was given to a network without cross-attention"):
        make_mlp()(x, c, context=torch.zeros(2, 3, 5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UNet(1, 4), "dims must be 1, 2 or 3"),
        (lambda: UNet(0), "channels must be an integer of at least 1, got 0"),
        (lambda: UNet(1, widths=(8, 16)), "same number of levels"),
        (lambda: UNet(1, widths=(), depths=(), attention=()), "at least one"),
        (lambda: UNet(1, depths=(1, 0, 1)), r"depths\[1\] must be an integer"),
        (lambda: UNet(1, dropout=1.0), r"dropout must lie in \[0, 1\)"),
        (lambda: UNet(1, head_width=48), "head_width must divide"),
        (lambda: UNet(1, classes=-1), "classes must be an integer of at least 0"),
        (lambda: UNet(1, context_width=-1), "context_width must be an integer of at least 0"),
        (lambda: DiT(1, patch=0), "patch must be an integer of at least 1"),
        (lambda: DiT(1, width=100, head_width=48), "head_width must divide"),
        (lambda: DiT(1, 3, width=32, head_width=4), "at least 6"),
        (lambda: DiT(1, mlp_ratio=0.0), "mlp_ratio must be positive"),
        (lambda: MLP(2, depth=0), "depth must be an integer"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
