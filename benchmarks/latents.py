"""Digits through latent models: diffusion on the latents of an autoencoder, and an absorbing chain on its codes.

Both autoencoders (Rombach et al. 2022, arXiv 2112.10752; van den Oord et al. 2017, 1711.00937) halve the 8 x 8 pixels
along each axis:

* ``kl``: two Gaussian latents a position, sampled as the demonstration samples pixels (DPM-Solver++ 2M in 20 steps,
  guidance 1.2);
* ``vq``: one of 64 codes a position, an absorbing chain in 16 ancestral steps, without guidance.

Each has a U-Net of the demonstration's kind on the 4 x 4 grid, with one residual block less on its coarse level and
attention on both.  The demonstration's network on pixels is what their cost is held against: floating-point operations
of one evaluation for one sample.  Class agreement is the fraction of samples to which a support-vector machine on
pixels, trained on the training digits, gives the class that was asked for.

Figures, each the mean over seeds (of weights, training and sampling): ``NAME_agreement``, ``NAME_frechet`` on the
features of a small classifier (``floor_frechet`` is that of real digits), ``NAME_recall``; ``NAME_worst`` is the lowest
agreement of a seed; ``NAME_rebuilt`` the judge's accuracy on held-out digits after encoding and decoding
(``judge_accuracy`` before), ``NAME_error`` their root mean square error where pixels lie in [0, 1]; ``vq_perplexity``
the number of codes in use; ``NAME_cost_ratio`` the network's operations over those of the pixels' network, and
``NAME_decode_ratio`` the decoder's, which runs once a sample; ``NAME_cpu_seconds`` of training.
It passes if both agree in at least 93 % of the samples of each seed at no more than a quarter of the cost.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import parser, record, set_threads
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ornstein.core import (
    SDE,
    CosineSchedule,
    Denoiser,
    DenoisingObjective,
    DPMSolver,
    EDMWeighting,
    LogNormalTimes,
    NetworkDenoiser,
    Objective,
    Sampler,
)
from ornstein.core.adapter import Example
from ornstein.core.chains import AbsorbingChain, CategoricalDenoiser
from ornstein.core.chains.objectives import CategoricalBound
from ornstein.core.latents import (
    Autoencoder,
    AutoencoderObjective,
    CodeNetwork,
    CodeSpace,
    KLAutoencoder,
    LatentSpace,
    VQAutoencoder,
    fit_autoencoder,
)
from ornstein.core.masking_schedules import PowerSchedule
from ornstein.core.nn import UNet
from ornstein.core.samplers.categorical import CategoricalAncestral
from ornstein.core.training import EMA
from ornstein.domains.images import DigitsData, ImageDiffusion
from ornstein.domains.images.demo import GUIDANCE, digits_model
from ornstein.domains.images.grids import save_grid
from ornstein.domains.images.metrics import ImageJudge

GOAL, COST = 0.93, 0.25
GRID, CHANNELS, CODES = (4, 4), 2, 64


@dataclass(frozen=True)
class Settings:
    """Optimiser steps of the autoencoder and of the latent model, samples to judge, and seeds."""

    autoencoder: int = 500
    kl: int = 1500
    vq: int = 1500
    samples: int = 1000
    batch_size: int = 128
    seeds: tuple[int, ...] = (0, 1)


QUICK = Settings(autoencoder=30, kl=30, vq=30, samples=100, batch_size=32, seeds=(0,))


class LatentDigits(ImageDiffusion):
    """Digits whose states are their latents or codes.

    Args:
        space: to and from states.
        model: the denoiser of states.
        loss: how it is trained.
        method: how it is sampled.
        event: shape of a state.
    """

    def __init__(
        self,
        space: LatentSpace | CodeSpace,
        model: Denoiser[Any],
        loss: Objective,
        method: Sampler,
        event: tuple[int, ...],
    ) -> None:
        super().__init__(8, channels=1, classes=10, network=nn.Identity())
        self.space, self.model, self.loss, self.method, self.event = space, model, loss, method, event
        self.denoiser, self.objective, self.sampler = model, loss, method

    def encode(self, batch: Any) -> Example:
        example = super().encode(batch)
        return replace(example, state=self.space.encode(example.state))

    def decode(self, state: Any) -> Tensor:
        return super().decode(self.space.decode(state))

    def state_shape(self, num: int, condition: Any) -> tuple[int, ...]:
        return (num, *self.event)


def network(channels: int, out_channels: int | None = None) -> UNet:
    """The U-Net on the grid of latents."""
    return UNet(
        channels,
        out_channels=out_channels,
        classes=10,
        widths=(32, 64),
        depths=(1, 1),
        attention=(True, True),
        dropout=0.1,
    )


def kl_model(autoencoder: nn.Module, data: Tensor) -> LatentDigits:
    """Gaussian diffusion on latents of unit variance."""
    space = LatentSpace.measure(autoencoder, data, per_channel=True)
    denoiser = NetworkDenoiser(network(CHANNELS), SDE(CosineSchedule()))
    objective = DenoisingObjective(EDMWeighting(), LogNormalTimes())
    return LatentDigits(space, denoiser, objective, DPMSolver(20), (CHANNELS, *GRID))


def vq_model(autoencoder: nn.Module, data: Tensor) -> LatentDigits:
    """An absorbing chain on codes."""
    space = CodeSpace(autoencoder, GRID)
    chain = AbsorbingChain(CODES, PowerSchedule())
    states = CodeNetwork(network(16, chain.states), chain.states, GRID)
    denoiser = CategoricalDenoiser(states, chain)
    return LatentDigits(space, denoiser, CategoricalBound(), CategoricalAncestral(16), (space.length,))


def kl_autoencoder() -> Autoencoder:
    """The weight on the divergence is larger than the paper's, beside a likelihood whose scale is learned: it makes the
    latents smooth, at some sharpness.
    """
    return KLAutoencoder(1, CHANNELS, kl_weight=1e-2)


def vq_autoencoder() -> Autoencoder:
    """Codes of eight numbers."""
    return VQAutoencoder(1, CODES, 8)


KINDS: dict[str, tuple[Callable[[], Autoencoder], Callable[[nn.Module, Tensor], LatentDigits], float | None]] = {
    "kl": (kl_autoencoder, kl_model, GUIDANCE),
    "vq": (vq_autoencoder, vq_model, None),
}


def fitting(steps: int, seed: int, decay: float) -> dict[str, Any]:
    """Options of both trainings."""
    return {
        "max_steps": steps,
        "seed": seed,
        "ema": EMA(decay),
        "lr": 2e-3,
        "validate_every": steps,
        "checkpoint_every": steps,
        "accelerator": "cpu",
        "log_every_n_steps": max(1, steps // 5),
        "overwrite": True,
    }


def trained(name: str, data: DigitsData, settings: Settings, seed: int, run: Path) -> LatentDigits:
    """The latent model of a seed."""
    make, latent_model, _ = KINDS[name]
    torch.manual_seed(seed)
    pictures = data.parts[0].images * 2 - 1
    autoencoder = make()
    fit_autoencoder(
        autoencoder,
        pictures,
        objective=AutoencoderObjective("gaussian", 0.3, learn_scale=True),
        batch_size=settings.batch_size,
        run=run / f"{name}_autoencoder",
        **fitting(settings.autoencoder, seed, 0.99),
    )
    model = latent_model(autoencoder, pictures)
    model.fit(data, run=run / name, sample_every=0, **fitting(getattr(settings, name), seed, 0.998))
    return model


@torch.no_grad()
def judged(
    name: str, model: LatentDigits, judge: ImageJudge, settings: Settings, seed: int, run: Path
) -> dict[str, float]:
    """Measures of the samples and of what encoding and decoding leave of held-out digits."""
    labels = torch.arange(settings.samples) % 10
    images = model.sample(settings.samples, seed=seed, label=labels, guidance=KINDS[name][2], batch_size=250)
    measures = judge.evaluate(images, labels)
    heldout = judge.reference.heldout
    rebuilt = model.decode(model.encode({"image": heldout.images, "label": heldout.labels}).state)
    save_grid(images[:100], run / f"{name}_{seed}.png", columns=10)
    pairs = torch.stack([heldout.images[:50], rebuilt[:50]], 1).unflatten(0, (5, 10)).transpose(1, 2).flatten(0, 2)
    save_grid(pairs, run / f"{name}_{seed}_rebuilt.png", columns=10)
    figures = {
        f"{name}_agreement": measures["class_agreement"],
        f"{name}_frechet": measures["frechet"],
        f"{name}_recall": measures["recall"],
        f"{name}_rebuilt": judge.label_judge.agreement(rebuilt, heldout.labels),
        f"{name}_error": (rebuilt - heldout.images).square().mean().sqrt().item(),
        "floor_frechet": measures["floor_frechet"],
        "judge_accuracy": measures["judge_accuracy"],
    }
    if name == "vq":
        figures["vq_perplexity"] = model.space.autoencoder.perplexity
    print(f"seed {seed}  " + "  ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)
    return figures


@torch.no_grad()
def operations(module: nn.Module, *inputs: Tensor, **condition: Tensor) -> float:
    """Floating-point operations for one sample, attention counted as the matrix products that it is."""
    module.eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(*inputs, **condition)
    return counter.get_total_flops() / len(inputs[0])


def costs(name: str, model: LatentDigits) -> dict[str, float]:
    """The latent network's operations, and the decoder's, over those of the demonstration's network on pixels."""
    batch, c, label = 8, torch.zeros(8), torch.zeros(8, dtype=torch.int64)
    pixels = operations(digits_model().network, torch.zeros(batch, 1, 8, 8), c, label=label)
    state = model.space.encode(torch.zeros(batch, 1, 8, 8))
    latent = operations(model.denoiser.network, state, c, label=label)
    decoder = model.space.autoencoder.decoder
    decode = operations(decoder, torch.zeros(batch, decoder.inputs, *GRID))
    return {f"{name}_cost_ratio": latent / pixels, f"{name}_decode_ratio": decode / pixels}


def measured(settings: Settings, run: Path) -> dict[str, float]:
    """Train and judge both kinds with every seed."""
    data = DigitsData(batch_size=settings.batch_size)
    judge = ImageJudge.train(data.reference())
    figures: dict[str, float] = {}
    for name in KINDS:
        rows = []
        for seed in settings.seeds:
            busy = time.process_time()
            model = trained(name, data, settings, seed, run)
            seconds = time.process_time() - busy
            rows.append(
                judged(name, model, judge, settings, seed, run) | costs(name, model) | {f"{name}_cpu_seconds": seconds}
            )
        figures |= {key: statistics.mean(row[key] for row in rows) for key in rows[0]}
        figures[f"{name}_worst"] = min(row[f"{name}_agreement"] for row in rows)
    return figures


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--run", help="folder for models and pictures (default: a temporary one)")
    given: argparse.Namespace = arguments.parse_args()
    set_threads(given.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    settings = QUICK if given.quick else Settings()
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(given.run or temporary)
        run.mkdir(parents=True, exist_ok=True)
        figures = measured(settings, run)
    passed = {f"{name}_agreement": figures[f"{name}_worst"] >= GOAL for name in KINDS}
    passed |= {f"{name}_cost_ratio": figures[f"{name}_cost_ratio"] <= COST for name in KINDS}
    if given.quick:  # figures of a training that short mean nothing
        passed = {"finished": True}
    return record("latents", figures, passed, seeds=settings.seeds, quick=given.quick, threads=given.threads)


if __name__ == "__main__":
    sys.exit(main())
