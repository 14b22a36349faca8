"""The callback that keeps averages of the weights and lends them to validation, pictures and the saved model."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from ornstein.core.training.ema import EMA, PowerEMA

__all__ = ["EMACallback"]


class EMACallback(Callback):
    """Averages the trainable parameters of ``module.adapter`` after each optimiser step, in float32 or wider.

    Buffers are not averaged. The averages are part of the training checkpoint, and resume bit for bit.

    Args:
        ema: which averages to keep.
        folder: where a ``PowerEMA`` with ``snapshot_every`` writes its snapshots.
    """

    def __init__(self, ema: EMA | PowerEMA, folder: str | Path | None = None) -> None:
        self.ema = ema
        self.folder = None if folder is None else Path(folder)
        self.updates = 0
        self._averages: list[dict[str, Tensor]] = []
        self._lent = ExitStack()

    @property
    def started(self) -> bool:
        """Whether there are averages."""
        return bool(self._averages)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the weights, or from what the checkpoint brought."""
        parameters = _trainable(pl_module)
        if not self._averages:
            self._averages = [{k: _wide(p).clone() for k, p in parameters.items()} for _ in range(self.ema.profiles)]
        for average in self._averages:
            if average.keys() != parameters.keys():
                raise ValueError("the averages in the checkpoint are of other parameters than the model's; start anew")
        self._averages = [
            {name: value.to(parameters[name].device) for name, value in average.items()} for average in self._averages
        ]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the step into the averages, when the batch made one (it does not while gradients are accumulated)."""
        if trainer.global_step == self.updates:
            return
        self.updates = trainer.global_step
        parameters = _trainable(pl_module)
        weights = [_wide(parameter) for parameter in parameters.values()]
        for average, decay in zip(self._averages, self.ema.decays(self.updates), strict=True):
            torch._foreach_lerp_(list(average.values()), weights, 1 - decay)
        every = getattr(self.ema, "snapshot_every", 0)
        if every and self.folder and trainer.is_global_zero and self.updates % every == 0:
            self._snapshot(self.folder / f"{self.updates:08d}.safetensors")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the averaged weights."""
        self._lent.enter_context(self.averaged(pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        self._lent.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the trained weights back if an exception ended a validation."""
        self._lent.close()

    @contextmanager
    def averaged(self, pl_module: LightningModule) -> Iterator[None]:
        """A block in which the model has the (first) averaged weights."""
        parameters: list[Tensor] = list(_trainable(pl_module).values())
        trained = [parameter.detach().clone() for parameter in parameters]
        self.copy_to(pl_module)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(parameters, trained)

    def copy_to(self, pl_module: LightningModule) -> None:
        """Give the model the (first) averaged weights for good."""
        with torch.no_grad():
            torch._foreach_copy_(list(_trainable(pl_module).values()), list(self._averages[0].values()))

    def state_dict(self) -> dict[str, Any]:
        """The averages and the number of steps in them."""
        return {"updates": self.updates, "averages": self._averages}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take averages from a checkpoint.

        Raises:
            ValueError: the checkpoint keeps another number of averages.
        """
        if len(state_dict["averages"]) != self.ema.profiles:
            raise ValueError(
                f"the checkpoint keeps {len(state_dict['averages'])} averages, ema={self.ema} needs {self.ema.profiles}"
            )
        self.updates = state_dict["updates"]
        # Copies: the tensors of the checkpoint may be shared with the model's own.
        self._averages = [
            {name: value.clone() for name, value in average.items()} for average in state_dict["averages"]
        ]

    def _snapshot(self, path: Path) -> None:
        from safetensors.torch import save_file

        assert isinstance(self.ema, PowerEMA)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"{i}.{name}": v.cpu() for i, average in enumerate(self._averages) for name, v in average.items()}
        widths = " ".join(repr(width) for width in self.ema.sigma_rels)
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, {"step": str(self.updates), "sigma_rels": widths})
        partial.replace(path)


def _trainable(pl_module: LightningModule) -> dict[str, nn.Parameter]:
    adapter = pl_module.adapter
    assert isinstance(adapter, nn.Module)
    return {name: parameter for name, parameter in adapter.named_parameters() if parameter.requires_grad}


def _wide(parameter: Tensor) -> Tensor:
    value = parameter.detach()
    return value if value.dtype in (torch.float32, torch.float64) else value.to(torch.float32)
