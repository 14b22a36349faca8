"""One training step of any domain, as Lightning sees it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from ornstein.core.objectives import Objective
from ornstein.core.training.optimizers import MuonWithAdamW, adamw
from ornstein.core.training.options import TrainingOptions, learning_rate_factor
from ornstein.core.training.seeds import derive_seed, seed_global_state

if TYPE_CHECKING:
    from ornstein.core.adapter import DomainAdapter

__all__ = ["DiffusionModule"]


class DiffusionModule(LightningModule):
    """Trains an adapter's denoiser with its objective.

    Each step starts by seeding every generator from (seed, batch, rank): order of the data, times, noise, hidden
    conditions and dropout of a step do not depend on the steps before it, so a resumed run equals an uninterrupted one.

    Args:
        adapter: the model; its ``encode``, ``denoiser``, ``objective`` and ``condition_dropout`` are used.
        options: learning rate and the like.
        objective: the loss, if not the adapter's own. It is part of the training state and not of the model.
    """

    def __init__(self, adapter: "DomainAdapter", options: TrainingOptions, objective: Objective | None = None) -> None:
        super().__init__()
        for name, probability in adapter.condition_dropout.items():
            if not 0 <= probability <= 1:
                raise ValueError(f"condition_dropout[{name!r}] must lie in [0, 1], got {probability}")
        self.adapter = adapter
        self.options = options
        self.objective = objective
        self.smooth_loss: Tensor | None = None
        self._generator: torch.Generator | None = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed this step; ``batch_idx`` counts all batches of the run, which Lightning sees as one epoch."""
        seed_global_state(derive_seed(self.options.seed, "step", batch_idx, self.global_rank))
        self._generator = self._seeded_generator("noise", batch_idx)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The mean loss of a batch."""
        losses = self._losses(batch, self._generator, train=True)
        loss = losses.mean()
        value = loss.detach()
        # A tensor on the device: reading it every step would wait for the device.
        self.smooth_loss = value.clone() if self.smooth_loss is None else self.smooth_loss.lerp(value, 0.02)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.trainer.global_step + 1) % every == 0:  # other steps are not written anyway
            self.log("loss", value, batch_size=len(losses))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """The loss on held-out data, each time at the same times and with the same noise, for a smooth curve."""
        losses = self._losses(batch, self._seeded_generator("validation", batch_idx), train=False)
        self.log("val_loss", losses.mean(), batch_size=len(losses), sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the smoothed loss, so that its curve goes on where it was."""
        checkpoint["smooth_loss"] = self.smooth_loss

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the smoothed loss up again."""
        smooth_loss = checkpoint["smooth_loss"]
        self.smooth_loss = None if smooth_loss is None else smooth_loss.to(self.device)

    def configure_optimizers(self) -> Any:
        """The optimiser of the options, and the schedule of the learning rate by step."""
        options = self.options
        given = (options.lr, options.betas, options.weight_decay)
        optimizer: torch.optim.Optimizer
        if options.optimizer == "muon":
            optimizer = MuonWithAdamW(self.adapter, *given)
        else:
            optimizer = adamw((p for p in self.adapter.parameters() if p.requires_grad), *given)
        max_steps = self.trainer.max_steps
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, options, max_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _seeded_generator(self, purpose: str, batch_idx: int) -> torch.Generator:
        seed = derive_seed(self.options.seed, purpose, batch_idx, self.global_rank)
        return torch.Generator(self.device).manual_seed(seed)

    def _losses(self, batch: Any, generator: torch.Generator | None, *, train: bool) -> Tensor:
        adapter = self.adapter
        example = adapter.encode(batch)
        condition: Mapping[str, Tensor] = example.condition
        if train and adapter.condition_dropout:
            condition = adapter.drop_condition(condition, self._dropped(condition, generator))
        objective = adapter.objective if self.objective is None else self.objective
        return objective(adapter.denoiser, example.state, mask=example.mask, generator=generator, **condition)

    def _dropped(self, condition: Mapping[str, Tensor], generator: torch.Generator | None) -> dict[str, Tensor]:
        dropped = {}
        for name, probability in self.adapter.condition_dropout.items():
            if name in condition and probability > 0:
                device = condition[name].device
                uniform = torch.rand(len(condition[name]), generator=generator, device=device)
                dropped[name] = uniform < probability
        return dropped
