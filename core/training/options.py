"""What a training run is told beside the model, the data and Lightning's Trainer."""

import math
from dataclasses import dataclass, field
from typing import Literal

from ornstein.core.training.ema import EMA, PowerEMA

__all__ = ["TrainingOptions", "learning_rate_factor"]


@dataclass(frozen=True)
class TrainingOptions:
    """Optimisation and what is recorded of it.

    Args:
        optimizer: "adamw" (Loshchilov and Hutter, 2019, arXiv 1711.05101), or "muon" for matrices and kernels inside
            of blocks and AdamW for the rest (`MuonWithAdamW`).
        lr: peak learning rate.
        betas: AdamW's decay rates of the first and second moment.
        weight_decay: applied to matrices and kernels, not to biases and norms.
        schedule: course of the learning rate after the warm-up, down to ``final_lr`` at the last step.
        warmup: linear warm-up; an integer counts steps, a number below 1 is a fraction of the run.
        final_lr: learning rate of the last step, as a fraction of ``lr``.
        ema: the average of the weights that validation, pictures and the saved model use; None for the last weights.
        seed: seed of the order of the data, of times, noise and dropout.
        sample_every: steps between pictures of samples; 0 for none.
        num_samples: samples in such a picture.
        checkpoint_every: steps between checkpoints; the last step always makes one.
        validate_every: steps between validation losses, when the data module has held-out data.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    warmup: int | float = 0.02
    final_lr: float = 0.0
    ema: EMA | PowerEMA | None = field(default_factory=EMA)
    seed: int = 0
    sample_every: int = 500
    num_samples: int = 16
    checkpoint_every: int = 500
    validate_every: int = 500

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be 'adamw' or 'muon', got {self.optimizer!r}")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), got {self.betas}")
        if self.schedule not in ("constant", "cosine", "linear"):
            raise ValueError(f"schedule must be 'constant', 'cosine' or 'linear', got {self.schedule!r}")
        if isinstance(self.warmup, float) and not (0 <= self.warmup < 1):
            raise ValueError(f"warmup must be an integer number of steps or a fraction in [0, 1), got {self.warmup}")
        if not 0 <= self.final_lr <= 1:
            raise ValueError(f"final_lr is a fraction of lr in [0, 1], got {self.final_lr}")
        for name in ("weight_decay", "warmup", "sample_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("num_samples", "checkpoint_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def warmup_steps(self, max_steps: int) -> int:
        """The warm-up in steps of a run of ``max_steps``."""
        return round(self.warmup * max_steps) if isinstance(self.warmup, float) else self.warmup


def learning_rate_factor(step: int, options: TrainingOptions, max_steps: int) -> float:
    """The learning rate of step ``step`` (from 0) as a fraction of the peak.

    With w warm-up steps it is ``(step + 1) / w`` below w, and from there with ``p = (step - w) / (max_steps - 1 - w)``,
    ``1`` (constant), ``1 - (1 - f) p`` (linear) or ``f + (1 - f) (1 + cos(pi p)) / 2`` (cosine); f is ``final_lr``.

    >>> options = TrainingOptions(schedule="linear", warmup=2)
    >>> [learning_rate_factor(step, options, 7) for step in range(7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    warmup = options.warmup_steps(max_steps)
    if step < warmup:
        return (step + 1) / warmup
    if options.schedule == "constant":
        return 1.0
    progress = min(max(step - warmup, 0) / max(max_steps - 1 - warmup, 1), 1.0)
    fall = progress if options.schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
    return 1.0 - (1.0 - options.final_lr) * fall
