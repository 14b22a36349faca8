"""Training: batches, averages of the weights, checkpoints and run folders around Lightning's Trainer."""

from ornstein.core.training.averaging import EMACallback
from ornstein.core.training.callbacks import LastCheckpoint, Progress, SamplePictures
from ornstein.core.training.checkpoint import SafetensorsCheckpointIO, load_state, save_state
from ornstein.core.training.data import DataModule, StepSampler
from ornstein.core.training.ema import (
    EMA,
    PowerEMA,
    Reconstruction,
    gamma_of_width,
    profile_inner_product,
    reconstruct,
    width_of_gamma,
)
from ornstein.core.training.loggers import MetricsLogger
from ornstein.core.training.module import DiffusionModule
from ornstein.core.training.options import TrainingOptions, learning_rate_factor
from ornstein.core.training.run import Run, train

__all__ = [
    "EMA",
    "DataModule",
    "DiffusionModule",
    "EMACallback",
    "LastCheckpoint",
    "MetricsLogger",
    "PowerEMA",
    "Progress",
    "Reconstruction",
    "Run",
    "SafetensorsCheckpointIO",
    "SamplePictures",
    "StepSampler",
    "TrainingOptions",
    "gamma_of_width",
    "learning_rate_factor",
    "load_state",
    "profile_inner_product",
    "reconstruct",
    "save_state",
    "train",
    "width_of_gamma",
]
