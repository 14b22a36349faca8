"""A training run in a folder: what ``adapter.fit`` and ``ornstein fit`` both call.

RUN/config.yaml      the resolved configuration
RUN/versions.json    versions of what was used, and the machine
RUN/metrics.csv      the curves; RUN/tensorboard the same for TensorBoard
RUN/samples/         pictures on the way
RUN/checkpoints/     last.ckpt, the training state
RUN/ema/             snapshots, with PowerEMA(snapshot_every=...)
RUN/model/           the model with averaged weights, for from_pretrained
RUN/status.json      running, interrupted or finished, and the step
"""

import dataclasses
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from ornstein.core.config import near, to_config
from ornstein.core.objectives import Objective
from ornstein.core.training.averaging import EMACallback
from ornstein.core.training.callbacks import LastCheckpoint, Progress, SamplePictures
from ornstein.core.training.checkpoint import SafetensorsCheckpointIO, load_state, read_header
from ornstein.core.training.data import DataModule
from ornstein.core.training.folder import RunFolder, describe
from ornstein.core.training.loggers import MetricsLogger, tensorboard_logger
from ornstein.core.training.module import DiffusionModule
from ornstein.core.training.options import TrainingOptions
from ornstein.core.training.trainer import MANAGED, build_trainer, is_first_process, quiet, trainer_parameters

if TYPE_CHECKING:
    from ornstein.core.adapter import DomainAdapter

__all__ = ["Run", "train"]


@dataclass(frozen=True)
class Run:
    """What came of a call of ``train``.

    Attributes:
        folder: the run folder.
        step: optimiser steps taken in all.
        finished: whether the run reached its end.
    """

    folder: Path
    step: int
    finished: bool

    @property
    def model(self) -> Path:
        """The folder for ``from_pretrained``."""
        return self.folder / "model"


def train(
    adapter: "DomainAdapter",
    data: DataModule,
    *,
    run: str | Path | None = None,
    training: TrainingOptions | None = None,
    objective: Objective | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Run:
    """Train ``adapter`` on ``data`` in a run folder, and leave the averaged weights in it.

    A folder that holds an unfinished run of the same configuration is continued from its last checkpoint, and ends
    with the weights that an uninterrupted run would have had.

    Args:
        adapter: the model.
        data: the data module.
        run: the folder; by default ``runs/CLASS``.
        training: options of the optimisation; or give its fields among ``options``.
        objective: the loss of this run, if not the adapter's own; it may hold a teacher, and is not saved in the model.
        overwrite: delete what the folder holds and start anew.
        options: fields of ``TrainingOptions`` and arguments of Lightning's ``Trainer``.

    Raises:
        FileExistsError: the folder holds a finished run, or one of another configuration.
        ValueError: an unknown or impossible option, or a damaged checkpoint.
        KeyboardInterrupt: the user interrupted training, after the state was saved.
    """
    training, arguments = split_options(training, options)
    folder = RunFolder(Path(run) if run is not None else Path("runs") / type(adapter).__name__.lower())
    extra = {name: _as_list(arguments.pop(name, None)) for name in ("callbacks", "plugins", "logger")}
    ema = EMACallback(training.ema, folder.path / "ema") if training.ema is not None else None
    last = LastCheckpoint(folder.last, training.checkpoint_every)
    has_validation = data.validation_dataset() is not None
    with quiet():
        trainer = build_trainer(
            arguments,
            limit_val_batches=1.0 if has_validation else 0,
            max_epochs=-1,
            val_check_interval=training.validate_every * arguments.get("accumulate_grad_batches", 1),
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            callbacks=[*_callbacks(folder, training, ema), last, *extra["callbacks"]],
            plugins=[SafetensorsCheckpointIO(), *extra["plugins"]],
            logger=False,
        )
        # The other processes of a distributed run come to the same decision, whichever is here first.
        if is_first_process():
            config = {
                "adapter": to_config(adapter),
                "data": describe(data),  # may hold pictures or tables in memory
                "training": describe(dataclasses.asdict(training) | {"ema": training.ema}),
                "trainer": describe(arguments),
            } | ({} if objective is None else {"objective": describe(objective)})
            folder.prepare(config, overwrite=overwrite)
        resumed = folder.last if folder.last.exists() and not overwrite else None
        step = int(read_header(resumed)["global_step"]) if resumed else 0
        if is_first_process():
            folder.write_status("running", step)
            if resumed:
                print(f"continuing {folder.path} from step {step}", file=sys.stderr)
        trainer.loggers = [
            MetricsLogger(folder.path),
            *filter(None, [tensorboard_logger(folder.path, step)]),
            *extra["logger"],
        ]
        module = DiffusionModule(adapter.train(), training, objective)
        _fit(trainer, module, data, resumed)
    step = int(read_header(folder.last)["global_step"])
    finished = last.signal is None or step >= trainer.max_steps
    if ema is not None:
        if not ema.started:  # the training processes were spawned; theirs are in the checkpoint
            ema.load_state_dict(load_state(folder.last)["callbacks"][ema.state_key])
        ema.copy_to(module)
    adapter.cpu().eval()
    result = Run(folder.path, step, finished)
    if trainer.is_global_zero:
        adapter.save_pretrained(result.model)
        folder.write_status("finished" if finished else "interrupted", step)
    if not finished:
        if trainer.is_global_zero:
            print(f"interrupted at step {step}; the same call continues {folder.path}", file=sys.stderr)
        raise KeyboardInterrupt if last.signal == signal.SIGINT else SystemExit(128 + int(last.signal or 0))
    return result


def split_options(
    training: TrainingOptions | None, options: Mapping[str, Any]
) -> tuple[TrainingOptions, dict[str, Any]]:
    """Sort keyword options into those of ``TrainingOptions`` and those of the Trainer.

    Raises:
        ValueError: an option of neither, or one that the run decides itself.
    """
    fields = {field.name for field in dataclasses.fields(TrainingOptions)}
    known = trainer_parameters()
    for name in options:
        if name in MANAGED:
            raise ValueError(f"the Trainer's {name!r} is decided by the run; give max_steps for its length")
        if name not in fields and name not in known:
            raise ValueError(f"unknown option {name!r}{near(name, [*fields, *known])}")
    chosen = {name: value for name, value in options.items() if name in fields}
    rest = {name: value for name, value in options.items() if name not in fields}
    return dataclasses.replace(training or TrainingOptions(), **chosen), rest


def _callbacks(folder: RunFolder, training: TrainingOptions, ema: EMACallback | None) -> list[Callback]:
    callbacks: list[Callback] = [Progress()]
    if ema is not None:
        callbacks.append(ema)
    if training.sample_every:
        pictures = folder.path / "samples"
        callbacks.append(SamplePictures(pictures, training.sample_every, training.num_samples, training.seed, ema))
    return callbacks


def _as_list(value: Any) -> list[Any]:
    if value is None or value is False or value is True:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _fit(trainer: Any, module: DiffusionModule, data: DataModule, resumed: Path | None) -> None:
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resumed)
    except SystemExit as error:
        # Lightning turns an interrupt outside of the steps into an exit.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
