"""Train an autoencoder as adapters are trained."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .autoencoder import Autoencoder
from .objective import AutoencoderObjective

if TYPE_CHECKING:
    from ..training import DataModule, Run

__all__ = ["fit_autoencoder"]


def fit_autoencoder(
    autoencoder: Autoencoder,
    data: "Tensor | DataModule",
    *,
    objective: AutoencoderObjective | None = None,
    states: Callable[[Any], Tensor] | None = None,
    batch_size: int = 64,
    run: str | Path = "runs/autoencoder",
    overwrite: bool = False,
    **options: Any,
) -> "Run":
    """Train ``autoencoder`` in a run folder, and leave the averaged weights in it, on the CPU and in evaluation mode.

    Everything that `DomainAdapter.fit` does holds here: the same seed gives the same weights, and an interrupted run is
    continued by the same call.

    Args:
        autoencoder: what is trained.
        data: all data ``(N, *event)``, or a data module.
        objective: the loss; `AutoencoderObjective` by default.
        states: makes data ``(B, *event)`` of a batch of the data module, such as ``lambda batch:
            adapter.encode(batch).state``; without it, batches are data.
        batch_size: samples a step, where ``data`` is a tensor.
        run: the folder; its ``model`` holds the autoencoder for ``from_pretrained``.
        overwrite: start anew, whatever the folder holds.
        options: fields of ``TrainingOptions`` (but ``sample_every``: there is nothing to sample) and arguments of
            Lightning's ``Trainer``, such as ``max_steps``.

    Raises:
        TypeError: an autoencoder, or data, of another kind.
        ValueError: an option that is unknown or out of range.
    """
    from ..training import DataModule, train
    from ._training import AutoencoderTraining, TensorData

    if not isinstance(autoencoder, Autoencoder):
        raise TypeError(f"autoencoder is {type(autoencoder).__name__}: expected an Autoencoder, such as KLAutoencoder")
    module = TensorData(data, batch_size) if isinstance(data, Tensor) else data
    if not isinstance(module, DataModule):
        raise TypeError(f"data is {type(data).__name__}: expected a tensor (N, *event) or a DataModule")
    model = AutoencoderTraining(autoencoder)
    # Not arguments of the model: they may be functions, which its configuration could not hold.
    model.objective = AutoencoderObjective() if objective is None else objective
    model.states = states
    return train(
        model,  # type: ignore[arg-type]  # no adapter, but all that training asks of one
        module,
        run=run,
        objective=model.objective,
        overwrite=overwrite,
        sample_every=0,
        **options,
    )
