"""`ImageDiffusion`: pictures to states and back, with labels as conditions."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.core import (
    SDE,
    ClassifierFreeGuidance,
    CosineSchedule,
    DenoisingObjective,
    DPMSolver,
    NetworkDenoiser,
    Objective,
    Prediction,
    Sampler,
    SampleStep,
)
from ornstein.core.adapter import Example
from ornstein.core.nn import UNet
from ornstein.domains.images.grids import save_grid
from ornstein.domains.images.pictures import image_size, to_pil
from ornstein.domains.images.tasks import ImageTasks

__all__ = ["ImageDiffusion", "default_network"]


def default_network(size: int | tuple[int, int], channels: int = 3, classes: int = 0, dropout: float = 0.0) -> UNet:
    """A U-Net for pictures of this size: halved until 4 to 7 pixels are left, attention on grids of at most 8 pixels.

    Widths double from level to level up to 256, from 64 for pictures of up to 16 pixels and from 32 above, where the
    fine grids cost most.
    """
    side = min(image_size(size))
    levels = max(1, min(6, int(math.log2(side / 4)) + 1)) if side >= 4 else 1
    first = 64 if side <= 16 else 32
    return UNet(
        channels,
        classes=classes,
        widths=[min(first * 2**i, 256) for i in range(levels)],
        depths=[1 if i == 0 and levels > 1 else 2 for i in range(levels)],
        attention=[side / 2**i <= 8 and (i > 0 or levels == 1) for i in range(levels)],
        dropout=dropout,
    )


class ImageDiffusion(ImageTasks):
    """Diffusion of pictures of one size, with class labels or without.

    States are pictures mapped from [0, 1] to [-1, 1]. By default a U-Net predicts v on a cosine schedule (Salimans and
    Ho 2022, 2202.00512), trained with DDPM's simple loss and sampled with DPM-Solver++ 2M in 20 steps.

    Args:
        size: side of the pictures, or ``(height, width)``.
        channels: 1 for grey, 3 for RGB, or any other number.
        classes: number of classes or their names; 0 for pictures without labels.
        network: maps ``(B, C, H, W)``, noise levels ``(B,)`` and ``label`` ``(B,)`` to ``(B, C, H, W)``;
            `default_network` when not given.
        process: the forward process.
        prediction: what the network predicts: ``"v"``, ``"eps"``, ``"x0"``, ``"score"``, ``"flow"`` or ``"edm"``.
        objective: the training loss.
        sampler: what ``sample`` uses when it is told nothing else.
        label_dropout: part of the training pictures whose label is hidden, so that ``guidance`` has something to guide
            from.

    Raises:
        ValueError: a size, number of channels, classes or ``label_dropout`` out of range.

    Example:
        >>> model = ImageDiffusion(size=8, channels=1, classes=10)
        >>> model.sample(3, seed=0, label=[1, 2, 3], sampler=DPMSolver(4)).shape
        torch.Size([3, 1, 8, 8])
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        channels: int = 3,
        classes: int | tuple[str, ...] = 0,
        network: nn.Module | None = None,
        process: SDE | None = None,
        prediction: Prediction = "v",
        objective: Objective | None = None,
        sampler: Sampler | None = None,
        label_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        height, width = image_size(size)
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
        if (isinstance(classes, int) and classes < 0) or len(set(names)) != len(names):
            raise ValueError(f"classes={classes!r}: expected a number of classes, or names that differ")
        if not 0 <= label_dropout < 1:
            raise ValueError(f"label_dropout must lie in [0, 1), got {label_dropout}")
        self.size = size if isinstance(size, int) else (height, width)
        self.channels = channels
        self.classes = classes if isinstance(classes, int) else names
        self.class_names = names
        self.shape = (channels, height, width)
        self.prediction = prediction
        self.label_dropout = label_dropout
        process = SDE(CosineSchedule()) if process is None else process
        network = default_network(size, channels, len(names)) if network is None else network
        self.denoiser = NetworkDenoiser(network, process, prediction)
        self.objective = DenoisingObjective() if objective is None else objective
        self.sampler = DPMSolver(20) if sampler is None else sampler
        self.condition_dropout = {"label": label_dropout} if names else {}

    @property
    def network(self) -> nn.Module:
        """The network inside the denoiser."""
        return self.denoiser.network

    @property
    def process(self) -> SDE:
        """The forward process of the denoiser."""
        return self.denoiser.process

    def encode(self, batch: Any) -> Example:
        """Pictures and labels as the denoiser takes them.

        Args:
            batch: a dict with ``"image"`` and ``"label"``, a pair, or pictures alone: ``(B, C, H, W)``, ``uint8`` or in
                [0, 1]. Labels are passed over by a model without classes.

        Raises:
            TypeError: another kind of batch or dtype.
            ValueError: another shape, values outside [0, 1] or NaN, labels missing or out of range.
        """
        images, labels = _unpack(batch)
        state = self._state(images)
        if not self.class_names:
            return Example(state)
        if labels is None:
            raise ValueError(
                f"the model has {len(self.class_names)} classes but the batch has no labels; give classes=0 or labels"
            )
        return Example(state, {"label": self._labels(labels, len(images)).to(state.device)})

    def _state(self, images: Any) -> Tensor:
        if not isinstance(images, Tensor) or not (images.dtype == torch.uint8 or images.is_floating_point()):
            kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise TypeError(f"images are {kind}: expected a tensor, uint8 or floating point in [0, 1]")
        if images.ndim != 4 or tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                f"images have shape {tuple(images.shape)} where the model takes (batch, *{self.shape}); "
                "give size= and channels= to the model, or size= and resize= to the data"
            )
        if images.dtype == torch.uint8:
            return images.float() / 127.5 - 1
        # On an accelerator the comparison would wait for the device at every step; data sets check what they hold.
        if images.device.type == "cpu" and not (images.min() >= 0 and images.max() <= 1):
            raise ValueError(f"images lie in [{images.min():.4g}, {images.max():.4g}], or hold NaN: expected [0, 1]")
        return images.float() * 2 - 1

    def _labels(self, labels: Any, count: int) -> Tensor:
        labels = torch.as_tensor(labels)
        if labels.is_floating_point() or labels.dtype == torch.bool or labels.shape != (count,):
            raise ValueError(
                f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}: expected {count} whole numbers"
            )
        if labels.device.type == "cpu" and count and not (labels.min() >= -1 and labels.max() < len(self.class_names)):
            wrong = labels[(labels < -1) | (labels >= len(self.class_names))][0]
            raise ValueError(
                f"label {int(wrong)} is out of range: expected 0 to {len(self.class_names) - 1}, or -1 for none"
            )
        return labels.to(torch.int64)

    def decode(self, state: Tensor | dict[str, Tensor]) -> Tensor:
        """Pictures ``(N, C, H, W)`` in [0, 1] from states; what lies outside [-1, 1] is cut off."""
        if not isinstance(state, Tensor):
            raise TypeError(f"a state of pictures is a tensor, got {type(state).__name__}")
        return ((state.float() + 1) / 2).clamp(0, 1)

    def state_shape(self, num: int, condition: Mapping[str, Tensor]) -> tuple[int, ...]:
        """``(num, C, H, W)``."""
        return (num, *self.shape)

    def prepare_condition(self, num: int, **condition: Any) -> dict[str, Tensor]:
        """The condition ``label``: a class number or name, or one for each sample; -1 for none.

        Raises:
            ValueError: another condition, an unknown class, or a model without classes.
        """
        label = condition.pop("label", None)
        if condition:
            raise ValueError(f"unknown condition {min(condition)!r}: pictures are conditioned by 'label'")
        if label is None:
            return {}
        if not self.class_names:
            raise ValueError("label was given but the model has no classes; leave it out")
        tensors = super().prepare_condition(num, label=self._numbers(label))
        return {"label": self._labels(tensors["label"], num)}

    def _numbers(self, label: Any) -> Any:
        """Class names as numbers."""
        if isinstance(label, str):
            if label not in self.class_names:
                raise ValueError(f"label {label!r} is no class of the model: {', '.join(self.class_names)}")
            return self.class_names.index(label)
        if isinstance(label, Sequence):
            return [self._numbers(one) for one in label]
        return label

    def preview_condition(self, num: int) -> dict[str, Any]:
        """All classes in turn."""
        return {"label": torch.arange(num) % len(self.class_names)} if self.class_names else {}

    @torch.no_grad()
    def reverse_process(
        self,
        num: int,
        *,
        seed: int = 0,
        sampler: Sampler | None = None,
        guidance: float | None = None,
        **condition: Any,
    ) -> tuple[Tensor, Tensor]:
        """The states on the way from noise to pictures, and what the denoiser believes at each.

        Args:
            num: pictures.
            seed: as in ``sample``, which with the same arguments returns the last state.
            sampler: the model's own when not given.
            guidance: as in ``sample``.
            condition: as in ``sample``.

        Returns:
            ``(steps, num, C, H, W)`` states, each over ``sqrt(alpha^2 + sigma^2)``, and as many posterior means; both
            in [0, 1].
        """
        states: list[Tensor] = []
        means: list[Tensor] = []

        def keep(step: SampleStep) -> None:
            level = self.process.level(step.s)
            states.append((step.x / math.hypot(float(level.alpha), float(level.sigma))).cpu())
            means.append(step.mean.cpu())

        self.eval()
        denoiser = self.denoiser if guidance is None else ClassifierFreeGuidance(self.denoiser, guidance)
        labels = {name: value.to(self.device) for name, value in self.prepare_condition(num, **condition).items()}
        (sampler or self.sampler).sample(
            denoiser, self.state_shape(num, labels), seed=seed, condition=labels, callback=keep
        )
        return self.decode(torch.stack(states)), self.decode(torch.stack(means))

    def render(self, samples: Tensor, path: str | Path) -> None:
        """A grid of the pictures as PNG; ten a row for ten classes, about a square otherwise."""
        count = len(self.class_names)
        save_grid(samples, path, columns=count if 1 < count <= 16 and len(samples) % count == 0 else None)

    def write(self, samples: Tensor, directory: str | Path, *, first: int = 0) -> list[Path]:
        """Each picture as ``000000.png`` and so on, 8 bits a channel."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        paths = []
        for i, sample in enumerate(samples):
            paths.append(Path(directory) / f"{first + i:06d}.png")
            to_pil(sample.permute(1, 2, 0).numpy()).save(paths[-1])
        return paths

    @classmethod
    def demo(cls, run: str | Path, *, quick: bool = False, **options: Any) -> None:
        """Handwritten digits from training to report; see `ornstein.domains.images.demo`.

        Args:
            run: the folder to write to.
            quick: a run of seconds, whose figures mean nothing.
            options: fields of ``Settings``.
        """
        from dataclasses import replace

        from ornstein.domains.images.demo import QUICK, Settings, run_demo

        run_demo(run, replace(QUICK if quick else Settings(), **options), quick=quick)

    def evaluate(self, samples: Any, reference: Any) -> dict[str, float]:
        """Measures of samples against real pictures; see `ornstein.domains.images.metrics.evaluate`.

        Args:
            samples: ``(N, C, H, W)`` in [0, 1], or a dict of these as ``"samples"`` and the labels asked for as
                ``"label"``.
            reference: the data module's ``reference()``.
        """
        from ornstein.domains.images.metrics import evaluate

        images, labels = (samples["samples"], samples.get("label")) if isinstance(samples, Mapping) else (samples, None)
        return evaluate(images, reference, labels=labels)


def _unpack(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        if "image" not in batch:
            raise ValueError(f"the batch has {', '.join(map(str, batch))} but no 'image'")
        return batch["image"], batch.get("label")
    if isinstance(batch, tuple | list) and len(batch) in (1, 2):
        return batch[0], batch[1] if len(batch) == 2 else None
    if isinstance(batch, Tensor):
        return batch, None
    raise TypeError(
        f"the batch is of type {type(batch).__name__}: expected a dict, a pair (images, labels) or a tensor"
    )
