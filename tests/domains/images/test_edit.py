"""`ImageDiffusion.edit` and ``purify``: the core's operations on pictures, batch by batch."""

import pytest
import torch

from ornstein.core import DDIM, EulerMaruyama, edit, purify
from ornstein.core.nn import UNet
from ornstein.domains.images import ImageDiffusion


@pytest.fixture(scope="module")
def model() -> ImageDiffusion:
    torch.manual_seed(0)
    network = UNet(1, classes=3, widths=(16,), depths=(1,), attention=(False,), dropout=0.5)
    with torch.no_grad():  # a fresh network answers zero, whatever it is asked
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return ImageDiffusion(8, channels=1, classes=3, network=network, sampler=DDIM(4)).train()


IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_editing_is_the_cores_edit_in_any_batches(model: ImageDiffusion) -> None:
    label = torch.tensor([0, 1, 2, 0, 1])
    edited = model.edit(IMAGES, 0.6, seed=3, label=label)
    assert model.training
    assert model.network.training
    model.eval()
    state = edit(model.denoiser, IMAGES * 2 - 1, 0.6, DDIM(4), seed=3, condition={"label": label})
    torch.testing.assert_close(edited, model.decode(state))
    for size in (1, 2):
        torch.testing.assert_close(model.edit(IMAGES, 0.6, seed=3, label=label, batch_size=size), edited)
    assert not torch.equal(model.edit(IMAGES, 0.6, seed=3, label=2), edited)
    assert not torch.equal(model.edit(IMAGES, 0.6, seed=3, label=label, guidance=3.0), edited)
    eight_bit = (IMAGES * 255).round().to(torch.uint8)
    assert (model.edit(eight_bit, 0.01, seed=0) - IMAGES).abs().mean() < 0.1


def test_purifying_is_the_cores_purify(model: ImageDiffusion) -> None:
    purified = model.purify(IMAGES, 0.2, sampler=EulerMaruyama(5), seed=1)
    model.eval()
    state = purify(model.denoiser, IMAGES * 2 - 1, 0.2, EulerMaruyama(5), seed=1)
    torch.testing.assert_close(purified, model.decode(state))


def test_editing_says_what_is_wrong(model: ImageDiffusion) -> None:
    with pytest.raises(ValueError, match=r"t=1\.5"):
        model.edit(IMAGES, 1.5)
    with pytest.raises(ValueError, match="images have shape"):
        model.edit(IMAGES[:, :, :4])
    with pytest.raises(ValueError, match="unknown condition 'colour'"):
        model.edit(IMAGES, colour=1)
