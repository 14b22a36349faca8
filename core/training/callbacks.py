"""Callbacks of a run: checkpoints and a clean stop, pictures of samples, progress."""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar

from ornstein.core.training.averaging import EMACallback
from ornstein.core.training.options import learning_rate_factor

__all__ = ["LastCheckpoint", "Progress", "SamplePictures"]


class LastCheckpoint(Checkpoint):
    """Keeps the newest training state in one file, and ends the run cleanly on SIGINT and SIGTERM.

    On a signal the step at hand is finished, a checkpoint is written and training stops; a second signal is handled as
    if this callback were not there.

    Args:
        path: the file.
        every: steps between checkpoints; the last step and an interruption always make one.
    """

    def __init__(self, path: str | Path, every: int) -> None:
        self.path = Path(path)
        self.every = every
        self.signal: int | None = None
        self._saved = -1
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for signals (in the main thread, where Python allows it)."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time, or when a signal came to any process."""
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not stepped:
            return
        stop = self.signal is not None
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            trainer.should_stop = True
            self.signal = self.signal or signal.SIGINT
        step = trainer.global_step
        if stop or step % self.every == 0 or step >= trainer.max_steps:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what another callback ended early, and stop listening."""
        if self._saved != trainer.global_step:
            self._save(trainer)
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop listening."""
        self._restore()

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved = trainer.global_step

    def _handle(self, number: int, frame: Any) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class SamplePictures(Callback):
    """Draws samples with fixed seeds every so often, as ``FOLDER/STEP.png`` and in TensorBoard.

    Args:
        folder: where the pictures go.
        every: steps between pictures; the last step makes one too.
        num: how many samples a picture holds.
        seed: seed of the samples, the same in every picture.
        ema: the callback whose averaged weights are used, or None for the trained weights.
    """

    def __init__(self, folder: str | Path, every: int, num: int, seed: int, ema: EMACallback | None) -> None:
        self.folder, self.every, self.num, self.seed, self.ema = Path(folder), every, num, seed, ema

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw when it is time."""
        step = trainer.global_step
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and trainer.is_global_zero and (step % self.every == 0 or step >= trainer.max_steps):
            if self.ema is None:
                self._draw(trainer, pl_module, step)
            else:
                with self.ema.averaged(pl_module):
                    self._draw(trainer, pl_module, step)

    def _draw(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        adapter: Any = pl_module.adapter
        path = self.folder / f"{step:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng():
            samples = adapter.sample(self.num, seed=self.seed, **adapter.preview_condition(self.num))
        adapter.render(samples, path)
        for logger in trainer.loggers:
            if (add_image := getattr(getattr(logger, "experiment", None), "add_image", None)) is not None:
                add_image("samples", _read_picture(path), step, dataformats="HWC")


def _read_picture(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


class Progress(ProgressBar):
    """One bar over the whole run with the smoothed loss and samples a second; a line now and then where no terminal is.

    Both numbers also go to the loggers.

    Args:
        lines: about how many lines a run prints when the output is no terminal.
        clock: seconds, for tests.
    """

    def __init__(self, lines: int = 20, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self.lines, self.clock = lines, clock
        self._enabled = True
        self._bar: Any = None
        self._rate: float | None = None
        self._since: tuple[float, int] | None = None

    def disable(self) -> None:
        """Show nothing (Lightning disables the bars of all processes but the first)."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at the step where the run stands."""
        self._since = (self.clock(), trainer.global_step)
        if self._enabled and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=trainer.max_steps, initial=trainer.global_step, unit="step", dynamic_ncols=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure, log and show."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step, last = trainer.global_step, trainer.global_step >= trainer.max_steps
        if step % trainer.log_every_n_steps == 0 or last:  # type: ignore[attr-defined]
            self._log(trainer, pl_module, step)
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
        elif self._enabled and (last or step % max(trainer.max_steps // self.lines, 1) == 0):
            loss, rate = float(pl_module.smooth_loss), self._rate  # type: ignore[arg-type]
            speed = f", {rate:,.0f} samples/s" if rate else ""
            print(f"step {step}/{trainer.max_steps}: loss {loss:.4f}{speed}", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self._close()

    def _log(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        loss = float(pl_module.smooth_loss)  # type: ignore[arg-type]
        if not math.isfinite(loss):
            raise ValueError(f"the loss is {loss} at step {step}; lower training.lr or trainer.gradient_clip_val")
        assert self._since is not None
        now, (then, before) = self.clock(), self._since
        batch_size = getattr(trainer.datamodule, "batch_size", 1)  # type: ignore[attr-defined]
        samples = (step - before) * batch_size * trainer.world_size * trainer.accumulate_grad_batches
        self._rate = samples / max(now - then, 1e-9)
        self._since = (now, step)
        options: Any = pl_module.options
        # The optimiser already holds the rate of the next step.
        lr = options.lr * learning_rate_factor(step - 1, options, trainer.max_steps)
        figures = {"smooth_loss": loss, "samples_per_second": self._rate, "lr": lr}
        for logger in trainer.loggers:
            logger.log_metrics(figures, step - 1)
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4f}, {self._rate:,.0f} samples/s")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
