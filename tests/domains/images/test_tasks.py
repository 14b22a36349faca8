"""Inpainting, upscaling, restoring: data consistency, the right operator, reproducibility, errors at the boundary."""

import pytest
import torch

from ornstein.core import MMPS, Blur, DPMSolver, FourierMagnitude, GaussianDenoiser, Mask, MatrixOperator, PoissonNoise
from ornstein.core.nn import UNet
from ornstein.domains.images import ImageDiffusion
from ornstein.domains.images.measurements import inpainting, of_states

G = torch.Generator().manual_seed(0)
IMAGES = torch.rand(3, 1, 8, 8, generator=G)
HALF = torch.arange(8).lt(4)[:, None].expand(8, 8)


@pytest.fixture
def model() -> ImageDiffusion:
    torch.manual_seed(0)
    network = UNet(1, classes=2, widths=(8,), depths=(1,), attention=(False,))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return ImageDiffusion(8, channels=1, classes=2, network=network)


@pytest.fixture
def gaussian_model(model) -> ImageDiffusion:
    """A model whose denoiser is exact for pictures of smooth noise about mid-grey."""
    side = torch.arange(8, dtype=torch.float64)
    points = torch.cartesian_prod(side, side)
    covariance = 0.1 * (-torch.cdist(points, points) / 4).exp()
    model.denoiser = GaussianDenoiser(model.process, torch.zeros(64), covariance)
    return model


@pytest.mark.parametrize("method", ["ddnm", "ddrm", "repaint"])
@pytest.mark.parametrize("known", [HALF, HALF[None], HALF.expand(3, 1, 8, 8)])
def test_inpainting_keeps_what_is_known(model, method, known) -> None:
    hidden = torch.where(HALF, IMAGES, torch.nan)
    out = model.inpaint(hidden, known, method=method, evaluations=12, seed=0, label=[0, 1, 0])
    assert out.shape == IMAGES.shape
    torch.testing.assert_close((out * HALF), IMAGES * HALF, rtol=0, atol=1e-5)
    assert out.isfinite().all()
    assert out[..., 4:, :].std() > 0.01


def test_each_picture_may_have_its_own_mask(model) -> None:
    known = torch.rand(3, 1, 8, 8, generator=G) > 0.5
    together = model.inpaint(IMAGES, known, method="ddrm", evaluations=5, seed=1, batch_size=2)
    torch.testing.assert_close(together[known], IMAGES[known], rtol=0, atol=1e-5)
    torch.testing.assert_close(
        model.inpaint(IMAGES, known, method="ddrm", evaluations=5, seed=1), together, rtol=0, atol=1e-5
    )


def test_upscaling_and_restoring_fit_what_was_measured(gaussian_model) -> None:
    smooth = 0.5 + 0.5 * gaussian_model.denoiser.sample(3, generator=G).float().reshape(3, 1, 8, 8)
    small = torch.nn.functional.avg_pool2d(smooth, 4)
    large = gaussian_model.upscale(small, seed=0)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(large, 4), small, rtol=0, atol=0.02)
    blur = Blur.gaussian((1, 8, 8), 0.6)
    sharp = gaussian_model.restore(blur(smooth), blur, 0.01, seed=0)
    assert (blur(sharp) - blur(smooth)).square().mean().sqrt() < 0.015
    assert (sharp - smooth).square().mean() < 0.5 * (gaussian_model.upscale(small, seed=0) - smooth).square().mean()


def test_inpainting_a_gaussian_is_the_exact_conditional_on_average(gaussian_model) -> None:
    prior, keep = gaussian_model.denoiser, HALF.reshape(-1)
    state = prior.sample(1, generator=G)[0]
    gain = prior.covariance[:, keep] @ torch.linalg.inv(prior.covariance[keep][:, keep])
    expected = (gain @ state[keep] + 1) / 2
    images = ((state + 1) / 2).float().clamp(0, 1).reshape(1, 1, 8, 8).expand(400, 1, 8, 8)
    assert ((images > 0) & (images < 1)).all()
    measurement = inpainting(images[:1], HALF, (1, 8, 8), 0.01)
    x = DPMSolver(30).sample(MMPS(prior, measurement, iterations=32, solver="cg"), (400, 1, 8, 8), seed=0)
    assert ((x.mean(0).flatten() + 1) / 2 - expected).abs().max() < 0.04


def test_measurements_of_pictures_are_measurements_of_states() -> None:
    matrix = MatrixOperator(torch.randn(5, 64, generator=G), (1, 8, 8))
    found = of_states(matrix(IMAGES), matrix, 0.1)
    torch.testing.assert_close(found.y, matrix(2 * IMAGES - 1), rtol=0, atol=1e-4)
    assert found.noise.std == pytest.approx(0.2)
    for operator, noise in ((FourierMagnitude((1, 8, 8), 2), 0.0), (Mask(HALF[None]), PoissonNoise(20.0))):
        found = of_states(operator(IMAGES), operator, noise)
        torch.testing.assert_close(found.operator(2 * IMAGES - 1), operator(IMAGES))


def test_counts_and_magnitudes_are_restored_by_dps(gaussian_model) -> None:
    smooth = (0.5 + 0.5 * gaussian_model.denoiser.sample(2, generator=G).float()).clamp(0, 1).reshape(2, 1, 8, 8)
    mask = Mask(torch.ones(1, 8, 8, dtype=torch.bool))
    counts = PoissonNoise(200.0).sample(smooth, G)
    out = gaussian_model.restore(counts, mask, PoissonNoise(200.0), method="dps", seed=0)
    assert (out - smooth).abs().mean() < 0.5 * (gaussian_model.sample(2, seed=0) - smooth).abs().mean()
    with pytest.raises(TypeError, match="needs a linear operator"):
        gaussian_model.restore(counts, mask, PoissonNoise(200.0))


def test_errors_say_what_was_expected(model) -> None:
    with pytest.raises(TypeError, match="boolean tensor"):
        model.inpaint(IMAGES, HALF.float())
    with pytest.raises(ValueError, match=r"known of shape \(5, 5\)"):
        model.inpaint(IMAGES, torch.ones(5, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"images of shape \(3, 1, 4, 4\)"):
        model.inpaint(IMAGES[..., :4, :4], HALF)
    with pytest.raises(ValueError, match="whole number k"):
        model.upscale(IMAGES[..., :3, :3])
    with pytest.raises(ValueError, match="whole number k"):
        model.upscale(IMAGES)
    with pytest.raises(ValueError, match=r"the model's are \(1, 8, 8\)"):
        model.restore(torch.rand(1, 3, 8, 8), Blur.gaussian((3, 8, 8), 1.0))
    with pytest.raises(ValueError, match="method='magic'"):
        model.inpaint(IMAGES, HALF, method="magic")
    with pytest.raises(ValueError, match=r"ornstein\.core\.TDS"):
        model.inpaint(IMAGES, HALF, method="tds")
