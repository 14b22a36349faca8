"""What `MedicalReconstruction` is made of: slices to states and back, and the prior that learns of them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ornstein.core import (
    SDE,
    CosineSchedule,
    DenoisingObjective,
    DPMSolver,
    LogDenoisingObjective,
    LogNormalTimes,
    NetworkDenoiser,
    Objective,
    Prediction,
    Sampler,
)
from ornstein.core.adapter import DomainAdapter, Example
from ornstein.core.gaussian_guess import GuessedNetwork
from ornstein.core.inverse import LinearOperator, Mask, Measurement, UnrolledNetwork
from ornstein.core.nn import Folded, Refiner, UNet
from ornstein.core.training.seeds import derive_seed, seeded
from ornstein.domains.medical.classical import FBP, Classical
from ornstein.domains.medical.physics import ParallelBeam, Projector, spread_angles
from ornstein.domains.medical.physics.counts import WATER
from ornstein.domains.medical.scale import Scale

__all__ = ["SliceModel", "default_network", "guessed_objective"]


def default_network(shape: tuple[int, int, int], more: int = 0) -> nn.Module:
    """A U-Net for slices ``(channels, rows, columns)``, sized for a few CPU cores, that is shown ``more`` channels.

    Sides are halved until at most 8 pixels are left, at most five times.  Widths double from level to level up to 128,
    from 32 for sides of up to 64 pixels and from 16 above, where the fine grids cost most; attention is on grids of at
    most 16 pixels.  A network that is shown more works on blocks of 2 x 2 pixels where even sides are above 64 pixels:
    the finest structure is in what it is shown.
    """
    channels, *sides = shape
    side = max(sides)
    if more and side > 64 and all(n % 2 == 0 for n in sides):
        widths, depths = (48, 96, 128, 128), (1, 1, 1, 2)
        inner = UNet(
            4 * (channels + more), out_channels=4 * channels, widths=widths, depths=depths, attention=[False] * 4
        )
        return Folded(inner)
    levels = 1 + max(0, min(5, math.ceil(math.log2(side / 8))))
    first = 32 if side <= 64 else 16
    return UNet(
        channels + more,
        out_channels=channels,
        widths=[min(first * 2**i, 128) for i in range(levels)],
        depths=[1 if side / 2**i > 32 else 2 for i in range(levels)],
        attention=[i > 0 and side / 2**i <= 16 for i in range(levels)],
    )


def guessed_objective(spread: float) -> LogDenoisingObjective:
    """Of errors by their ratio, since guesses of one scanner may be ten times as good as those of another; at all noise
    levels down to a tenth of the spread, but mostly far above it, where the posterior mean is learned.
    """
    return LogDenoisingObjective(LogNormalTimes(math.log(spread) + 2.3, 2.2), floor=spread / 100)


class SliceModel(DomainAdapter):
    """Diffusion of slices of one shape; `ornstein.domains.medical.MedicalReconstruction` reconstructs with it.

    Args:
        shape: ``(channels, rows, columns)``; one channel is a real picture, two are a complex one.
        window: ``(low, high)`` in units of the data, which the model sees as -1 and 1.
        units: of the data; ``"HU"`` for Hounsfield units.
        water: attenuation of water in 1/mm at the scan's energy, for Hounsfield units.
        network: maps ``(B, C, H, W)`` and noise levels ``(B,)`` to ``(B, C, H, W)``; `default_network` when not given.
        process: the forward process.
        prediction: what the network predicts.
        objective: the training loss.
        sampler: of slices without a measurement.
        seed: of the initial weights of the default network.
        guess: a classical method whose reconstruction the network is shown, so that it takes ``2 C`` channels
            (`GuessedNetwork`); None for a prior that knows of no measurement.
        spread: how far guesses are from the slices, about, root mean square in windows of width 2.
        residual: a classical method, linear in the measurement, such as filtered back-projection, for a network that
            works in steps and is shown what it makes of all that the answer so far leaves over (`UnrolledNetwork`).
            ``network`` is a `Refiner` then, of ``4 C`` channels.

    Raises:
        ValueError: a shape, window, attenuation or spread out of range.
    """

    from_data: ClassVar[tuple[str, ...]] = ("shape", "window", "units", "water", "guess", "residual")
    default_batch_size: ClassVar[int] = 16

    def __init__(
        self,
        shape: tuple[int, int, int],
        window: tuple[float, float] = (0.0, 1.0),
        units: str = "",
        water: float = WATER,
        network: nn.Module | None = None,
        process: SDE | None = None,
        prediction: Prediction = "v",
        objective: Objective | None = None,
        sampler: Sampler | None = None,
        seed: int = 0,
        guess: Classical | None = None,
        spread: float = 0.1,
        residual: Classical | None = None,
    ) -> None:
        super().__init__()
        if residual is not None and guess is None:
            raise ValueError(f"residual={residual!r} of no guess: give one, or leave residual out")
        if len(shape) != 3 or shape[0] not in (1, 2) or min(shape) < 1:
            raise ValueError(f"shape={shape!r}: expected (channels, rows, columns), 1 channel or 2 for complex slices")
        channels, rows, columns = (int(n) for n in shape)
        self.shape = (channels, rows, columns)
        self.scale = Scale((float(window[0]), float(window[1])), units, float(water))
        self.window, self.units, self.water = self.scale.window, units, self.scale.water
        self.prediction, self.seed = prediction, seed
        self.guess, self.spread, self.residual = guess, spread, residual
        if network is None:
            with seeded(derive_seed(seed, "initialisation")):
                if residual is not None:
                    network = Refiner(4 * channels, channels, factor=2 if rows % 2 == columns % 2 == 0 else 1)
                else:
                    network = default_network(self.shape, 0 if guess is None else channels)
        process = SDE(CosineSchedule()) if process is None else process
        shown: nn.Module = network
        if residual is not None:
            if not isinstance(network, Refiner):
                raise TypeError(f"network is a {type(network).__name__}: with a residual it must be a Refiner")
            shown = UnrolledNetwork(network, residual, spread, prediction)
        elif guess is not None:
            shown = GuessedNetwork(network, spread, prediction)
        self.denoiser = NetworkDenoiser(shown, process, prediction)
        if objective is None:
            objective = DenoisingObjective() if guess is None else guessed_objective(spread)
        self.objective = objective
        self.sampler = DPMSolver(20) if sampler is None else sampler
        self.eval()

    @property
    def network(self) -> nn.Module:
        """The network inside the denoiser, without what shows it a guess."""
        outer = self.denoiser.network
        return outer.network if isinstance(outer, (GuessedNetwork, UnrolledNetwork)) else outer

    @property
    def process(self) -> SDE:
        """The forward process of the denoiser."""
        return self.denoiser.process

    # Batches and states.

    def encode(self, batch: Any) -> Example:
        """Slices of a data module as the denoiser takes them.

        Args:
            batch: a dict with ``image`` ``(B, C, H, W)``, scaled so that the window is -1 to 1, as a `SliceData` gives
                it; with ``guess`` likewise, and ``seen``, the measurement of these states, as `ScanData` gives them,
                for a model that is shown them.

        Raises:
            TypeError: another kind of batch.
            ValueError: another shape, or values that are not finite.
        """
        if not isinstance(batch, Mapping) or not isinstance(batch.get("image"), Tensor):
            raise TypeError(
                f"the batch is of type {type(batch).__name__}: expected a dict with a tensor 'image', as a data module "
                "gives it"
            )
        state = batch["image"]
        if tuple(state.shape[1:]) != self.shape:
            raise ValueError(f"image of shape {tuple(state.shape)}: expected (batch, *{self.shape})")
        # On an accelerator the check would wait for the device at every step; data modules check what they read.
        if state.device.type == "cpu" and not bool(state.isfinite().all()):
            raise ValueError("image holds NaN or infinite numbers: mask or fill them in the data module")
        return Example(state.float(), self._shown(batch, tuple(state.shape)))

    def _shown(self, batch: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
        """What the network is shown of a batch of slices."""
        if self.guess is None:
            return {}
        guess, seen = batch.get("guess"), batch.get("seen")
        if not isinstance(guess, Tensor) or tuple(guess.shape) != shape:
            came = "none" if guess is None else f"one of shape {tuple(guess.shape)}"
            raise ValueError(f"the model is shown a guess, and the batch has {came}: train it on a ScanData")
        if self.residual is None:
            return {"guess": guess.float()}
        if not isinstance(seen, Measurement) or tuple(seen.operator.shape) != self.shape:
            came = "none" if seen is None else f"{seen!r}"
            raise ValueError(
                f"the model is shown residuals of a measurement 'seen', and the batch has {came}: train it on a "
                "ScanData with a residual"
            )
        return {"guess": guess.float(), "seen": seen}

    def decode(self, state: Any) -> Tensor:
        """Slices ``(N, C, H, W)`` in units of the data; nothing is cut off."""
        return self.scale.to_units(state.float())

    def state_shape(self, num: int, condition: Mapping[str, Tensor]) -> tuple[int, ...]:
        """``(num, C, H, W)``."""
        return (num, *self.shape)

    def prepare_condition(self, num: int, **condition: Any) -> dict[str, Any]:
        """None of a prior; of a model that is shown a guess ``guess``, ``(num, C, H, W)`` as `first_guess` gives it or
        one for all, and where it is shown residuals ``seen``, the measurement of states; without one, as in previews,
        nothing is left over.

        Raises:
            ValueError: another condition, or no guess where the model needs one.
        """
        known = () if self.guess is None else ("guess",) if self.residual is None else ("guess", "seen")
        if other := sorted(set(condition) - set(known)):
            raise ValueError(f"unknown condition {other[0]!r}: slices are drawn from the prior, or reconstructed")
        if self.guess is None:
            return {}
        shape, guess = self.shape, condition.get("guess")
        if not isinstance(guess, Tensor) or tuple(guess.shape) not in (shape, (1, *shape), (num, *shape)):
            came = "none" if guess is None else f"{tuple(getattr(guess, 'shape', ()))}"
            raise ValueError(f"guess: {came} came; expected {(num, *shape)}, or call reconstruct(measurement)")
        told: dict[str, Any] = {"guess": guess.float().expand(num, *shape)}
        return told if condition.get("seen") is None else {**told, "seen": condition["seen"]}

    def preview_condition(self, num: int) -> dict[str, Any]:
        """For a model that is shown a guess, one that says nothing: the middle of the window everywhere."""
        return {} if self.guess is None else {"guess": torch.zeros(num, *self.shape)}

    def example_batch(self, num: int) -> dict[str, Any]:
        """A batch of random slices, as a data module would give it, for the conformance suite."""
        generator = torch.Generator().manual_seed(0)
        parts = ("image",) if self.guess is None else ("image", "guess")
        batch: dict[str, Any] = {name: torch.randn(num, *self.shape, generator=generator) for name in parts}
        if self.residual is not None:
            operator: LinearOperator = Mask(torch.ones(self.shape, dtype=torch.bool))
            if isinstance(self.residual, FBP):
                operator = Projector(ParallelBeam(self.shape[1:], spread_angles(4)), self.shape[0])
            batch["seen"] = Measurement.simulate(batch["image"], operator, None, generator)
        return batch

    # Files, pictures and judges.

    def render(self, samples: Tensor, path: str | Path) -> None:
        """The slices side by side in the window (PNG); magnitudes of complex ones."""
        from ornstein.domains.medical.figures import slices_figure

        Path(path).write_bytes(slices_figure(samples, self.window))

    def write(self, samples: Tensor, directory: str | Path, *, first: int = 0) -> list[Path]:
        """Each slice as ``000000.npy`` and so on: float32 ``(C, H, W)`` in units of the data."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        paths = [Path(directory) / f"{first + i:06d}.npy" for i in range(len(samples))]
        for path, sample in zip(paths, samples):
            np.save(path, sample.cpu().numpy().astype(np.float32), allow_pickle=False)
        return paths
