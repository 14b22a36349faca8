"""Networks compile as one graph, once."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from ornstein.core.nn import MLP, DiT, UNet

CASES = {
    "unet": lambda: UNet(
        1, classes=4, context_width=6, widths=(8, 16), depths=(1, 1), attention=(False, True), head_width=8
    ),
    "unet-3d": lambda: UNet(
        1, 3, classes=4, context_width=6, widths=(8,), depths=(1,), attention=(True,), head_width=8
    ),
    "dit": lambda: DiT(1, classes=4, context_width=6, width=16, depth=1, head_width=8),
    "dit-1d": lambda: DiT(1, 1, classes=4, context_width=6, width=16, depth=1, head_width=8),
    "mlp": lambda: MLP(1, classes=4, width=16, depth=1),
}


def arguments(network: torch.nn.Module, batch: int) -> tuple[tuple, dict]:
    dims = getattr(network, "dims", 0)
    x = torch.randn(batch, 1, *(7,) * dims)
    condition = {"label": torch.tensor([-1, 3, 0, 1])[:batch]}
    if dims:
        condition |= {"context": torch.randn(batch, 3, 6), "context_mask": torch.rand(batch, 3) > 0.5}
    return (x, torch.randn(batch)), condition


@pytest.mark.parametrize("name", CASES)
def test_one_graph_compiled_once_that_agrees_forward_and_backward(name):
    torch.compiler.reset()
    network = CASES[name]().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(network, backend=counter, fullgraph=True)
    for _ in range(2):
        positional, condition = arguments(network, 4)
        results = []
        for function in (network, compiled):
            network.zero_grad()
            out = function(*positional, **condition)
            out.square().sum().backward()
            results.append([out.detach(), *(parameter.grad.clone() for parameter in network.parameters())])
        torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-4)
    assert counter.frame_count == 1
