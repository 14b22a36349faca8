"""The same code on a GPU: samples agree with the CPU's, adapters train in mixed precision, networks compile.

These run where CUDA is there and skip elsewhere.
"""

import numpy as np
import pandas as pd
import pytest
import torch

from ornstein.core import (
    DDIM,
    DDPM,
    SDE,
    AbsorbingChain,
    CategoricalDenoiser,
    DPMSolver,
    MixtureDenoiser,
    PowerSchedule,
    UniPC,
    Unmasking,
    VPSchedule,
)
from ornstein.core.nn import DiT, TokenTransformer, UNet
from ornstein.domains.images import ArrayPictures, ImageDiffusion, PicturesData
from ornstein.domains.text import TextData, TextDiffusion
from ornstein.domains.timeseries import TimeSeriesDiffusion

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
GPU = torch.device("cuda")
MIXED = {"accelerator": "gpu", "devices": 1, "precision": "bf16-mixed", "sample_every": 0, "validate_every": 10**6}


def close(found, expected, tolerance=1e-4):
    torch.testing.assert_close(found.cpu(), expected.cpu(), rtol=tolerance, atol=tolerance)


SAMPLERS = [DDIM(12), DDPM(12), DPMSolver(12), UniPC(12)]


def awake(network):
    """A network with weights that make every input count."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_samples_of_a_seed_are_those_of_the_cpu(sampler):
    denoiser = MixtureDenoiser(SDE(VPSchedule()), [0.3, 0.7], [[2.0, 0.0], [-1.0, 1.0]], [0.3, 0.2])
    expected = sampler.sample(denoiser, (64, 2), seed=3)
    close(sampler.sample(denoiser.to(GPU), (64, 2), seed=3), expected, 1e-3)


def test_tokens_of_a_seed_are_mostly_those_of_the_cpu():
    """Single precision rounds otherwise on a GPU, which may turn a draw here and there."""
    network = awake(TokenTransformer(12, width=32, depth=2, head_width=16, timed=False, lazy=True))
    denoiser = CategoricalDenoiser(network, AbsorbingChain(11, PowerSchedule()))
    expected = Unmasking(16).sample(denoiser, (8, 16), seed=0)
    found = Unmasking(16).sample(denoiser.to(GPU), (8, 16), seed=0).cpu()
    assert float((found == expected).double().mean()) > 0.9


@pytest.mark.parametrize(
    "network",
    [UNet(1, widths=(16, 32), depths=(1, 1), attention=(False, True)), DiT(1, patch=2, width=32, depth=2)],
    ids=["unet", "dit"],
)
def test_networks_compile_in_half_precision(network):
    network = awake(network).to(GPU)
    x, c = torch.randn(4, 1, 8, 8, device=GPU), torch.randn(4, device=GPU)
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        expected = network(x, c)
        found = torch.compile(network, fullgraph=True)(x, c)
    assert float((found - expected).norm() / expected.norm()) < 0.03


def test_pictures_train_and_come_back(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8), dtype=np.uint8)
    data = PicturesData(ArrayPictures(images), batch_size=16)
    model = ImageDiffusion(8, channels=1, sampler=DDIM(4))
    model.fit(data, run=tmp_path, max_steps=4, **MIXED)
    assert model.to(GPU).sample(3, seed=0).shape == (3, 1, 8, 8)
    model.save_pretrained(tmp_path / "model")
    again = ImageDiffusion.from_pretrained(tmp_path / "model")
    close(again.sample(3, seed=0), model.sample(3, seed=0), 1e-2)


@pytest.mark.parametrize("kind", ["masked", "uniform", "score", "embedding"])
def test_texts_train_and_come_back(kind, tmp_path):
    data = TextData(["the sea and the sky " * 4] * 40, length=16, batch_size=16)
    model = TextDiffusion.for_data(data, kind=kind)
    model.fit(data, run=tmp_path, max_steps=4, **MIXED)
    assert len(model.to(GPU).sample(3, seed=0)) == 3
    assert np.isfinite(model.perplexity(["the sea and the s"[:16]]).bits_per_character)
    assert model.infill(["the [3] and"], seed=0)


def test_series_train_and_come_back(tmp_path):
    time = np.arange(240)
    frame = pd.DataFrame(
        {"a": np.sin(time / 4), "b": np.cos(time / 4)}, pd.date_range("2021-03-01", periods=240, freq="h")
    )
    frame.iloc[100:110, 0] = np.nan
    options = {key: value for key, value in MIXED.items() if key != "validate_every"}
    model = TimeSeriesDiffusion(window=24, max_steps=4, batch_size=8, sampler=DPMSolver(3)).fit(frame, **options)
    filled = model.impute(frame)
    assert not filled.isna().any(axis=None)
    pd.testing.assert_frame_equal(filled.iloc[110:], frame.iloc[110:])
