"""Lightning's Trainer as a run uses it: which of its arguments a user may give, and errors in one line."""

import inspect
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

__all__ = ["MANAGED", "build_trainer", "check_devices", "is_first_process", "quiet", "trainer_parameters"]

# What the run itself decides; each would break resuming, or the one long epoch, or the run folder.
MANAGED = frozenset(
    {
        *("barebones", "check_val_every_n_epoch", "default_root_dir", "enable_autolog_hparams", "enable_checkpointing"),
        *("enable_progress_bar", "fast_dev_run", "inference_mode", "limit_train_batches", "max_epochs", "min_epochs"),
        *(
            "min_steps",
            "model_registry",
            "num_sanity_val_steps",
            "overfit_batches",
            "reload_dataloaders_every_n_epochs",
        ),
        *(
            "use_distributed_sampler",
            "val_check_interval",
            "limit_predict_batches",
            "limit_test_batches",
            "limit_val_batches",
        ),
    }
)
DEFAULTS: dict[str, Any] = {
    "max_steps": 10_000,
    "accelerator": "auto",
    "devices": 1,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 50,
    "enable_model_summary": False,
}


def trainer_parameters() -> dict[str, inspect.Parameter]:
    """The arguments of Lightning's Trainer that a user may give."""
    parameters = inspect.signature(Trainer.__init__).parameters
    return {name: p for name, p in parameters.items() if name not in MANAGED | {"self"}}


def is_first_process() -> bool:
    """Whether this is the only process of the run, or the first of several."""
    return getattr(rank_zero_only, "rank", 0) == 0


def check_devices(accelerator: Any, devices: Any) -> None:
    """Refuse more processes than there are processors.

    Raises:
        ValueError: too many, or none.
    """
    try:
        wanted = int(devices) if isinstance(devices, (int, str)) else len(devices)
    except ValueError:  # "auto", or a list of indices as a string, which Lightning checks itself
        return
    if wanted == -1:
        return
    cuda = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
    if not cuda and accelerator not in ("auto", "cpu"):
        return
    there = (
        torch.cuda.device_count()
        if cuda
        else len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )
    if not 1 <= wanted <= there:
        kind = "GPUs" if cuda else "CPU cores, each of which can run one process"
        raise ValueError(f"devices={devices}: this machine has {there} {kind}; give a number from 1 to {there}")


def build_trainer(arguments: Mapping[str, Any], **managed: Any) -> Trainer:
    """A Trainer, with Lightning's complaints as one-line errors.

    Raises:
        ValueError: Lightning refuses the arguments.
    """
    arguments = {**DEFAULTS, **arguments}
    check_devices(arguments["accelerator"], arguments["devices"])
    if not isinstance(arguments["max_steps"], int) or arguments["max_steps"] < 1:
        raise ValueError(f"max_steps must be an integer of at least 1, got {arguments['max_steps']!r}")
    try:
        return Trainer(**arguments, **managed)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise ValueError("the trainer cannot be set up: " + " ".join(str(error).split())) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what Lightning tells of every run (devices found, tips, numbers of workers); its errors stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
