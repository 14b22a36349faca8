"""On the CPU a sample's result is the same bit for bit at any batch size, so that seeds can be per sample."""

import pytest
import torch
from torch import nn

from ornstein.core.nn import MLP, DiT, Linear, Pointwise, UNet
from ornstein.core.nn.activations import GELU, sigmoid, silu

NETWORKS = {
    "unet-1d": (lambda: UNet(2, 1, classes=4, context_width=6, widths=(16, 32, 64)), (2, 21)),
    "unet-2d": (lambda: UNet(1, 2, classes=4, context_width=6, widths=(16, 32, 64)), (1, 14, 14)),
    "unet-3d": (
        lambda: UNet(1, 3, classes=4, context_width=6, widths=(8, 16), depths=(1, 1), attention=(False, True)),
        (1, 4, 5, 6),
    ),
    "dit-1d": (lambda: DiT(2, 1, classes=4, context_width=6, patch=4, width=64, depth=2), (2, 10)),
    "dit-2d": (lambda: DiT(1, 2, classes=4, context_width=6, patch=2, width=64, depth=2), (1, 8, 8)),
    "dit-3d": (lambda: DiT(1, 3, classes=4, context_width=6, patch=2, width=64, depth=2), (1, 4, 5, 6)),
    "mlp": (lambda: MLP(2, classes=4, width=64, depth=2), (2,)),
}


@pytest.fixture(params=[1, 2], ids=["one-thread", "two-threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", NETWORKS)
def test_batch_size_does_not_change_a_sample(name, threads):
    torch.manual_seed(0)
    make, event = NETWORKS[name]
    network = make().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, c = torch.randn(64, *event), 4 * torch.rand(64) - 2
    condition = {"label": torch.randint(-1, 4, (64,))}
    if name != "mlp":
        condition |= {"context": torch.randn(64, 3, 6), "context_mask": torch.rand(64, 3) > 0.3}
    with torch.inference_mode():
        whole = network(x, c, **condition)
        for size in (1, 2, 3, 5, 15, 16, 17):
            part = slice(7, 7 + size)
            alone = network(x[part], c[part], **{key: value[part] for key, value in condition.items()})
            assert torch.equal(alone, whole[part]), f"batch of {size} differs from the batch of 64"


def test_linear_is_torch_linear_in_any_shape():
    torch.manual_seed(0)
    layer = Linear(6, 5)
    for shape in [(6,), (0, 6), (1, 6), (3, 6), (2, 3, 6), (40, 6)]:
        x = torch.randn(shape)
        torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("inputs", [10, 33, 64])
@pytest.mark.parametrize("outputs", [1, 2, 3, 10, 11])
def test_linear_of_few_outputs_does_not_depend_on_the_batch(inputs, outputs, threads):
    torch.manual_seed(0)
    layer, x = Linear(inputs, outputs), torch.randn(64, 7, 7, inputs)
    with torch.inference_mode():
        whole = layer(x)
        torch.testing.assert_close(whole, nn.functional.linear(x, layer.weight, layer.bias))
        for size in (1, 2, 3, 5, 17, 31):
            assert torch.equal(layer(x[7 : 7 + size]), whole[7 : 7 + size])


@pytest.mark.parametrize(("inputs", "outputs"), [(10, 10), (33, 5), (64, 64), (7, 20)])
def test_a_row_of_linear_does_not_depend_on_its_place(inputs, outputs):
    layer, row, answers = Linear(inputs, outputs), torch.randn(inputs), set()
    with torch.inference_mode():
        for rows in (1, 5, 16, 23, 64):
            for place in range(rows):
                x = torch.randn(rows, inputs)
                x[place] = row
                answers.add(tuple(layer(x)[place].tolist()))
    assert len(answers) == 1


@pytest.mark.parametrize("outputs", [1, 5])
def test_linear_gradients(outputs):
    layer = Linear(6, outputs).double()
    assert torch.autograd.gradcheck(layer, torch.randn(3, 6, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_pointwise_is_a_convolution_of_size_one(dims):
    torch.manual_seed(0)
    layer = Pointwise(4, 5)
    x = torch.randn(2, 4, *(3, 6, 5)[:dims])
    kernel = layer.weight.reshape(5, 4, *(1,) * dims)
    expected = getattr(nn.functional, f"conv{dims}d")(x, kernel, layer.bias)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [(silu, nn.functional.silu), (sigmoid, torch.sigmoid), (GELU(), nn.GELU(approximate="tanh"))],
    ids=["silu", "sigmoid", "gelu"],
)
def test_activations_are_torchs_and_do_not_depend_on_the_batch(ours, torchs, threads):
    torch.manual_seed(0)
    x = 4 * torch.randn(64, 16, 2101)  # no multiple of any vector's length, and shared out to threads
    whole = ours(x)
    torch.testing.assert_close(whole, torchs(x), rtol=1e-6, atol=1e-6)
    for size in (1, 3, 5, 11, 27):
        assert torch.equal(ours(x[7 : 7 + size]), whole[7 : 7 + size])
    x = x[:2, :, :5].double().requires_grad_()
    assert torch.autograd.gradcheck(ours, x)
