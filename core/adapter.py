"""The contract of a domain: how its objects become states of a process, and the verbs that its users call.

An adapter is a ``torch.nn.Module`` that holds a denoiser, an objective and a sampler, and translates between domain
objects and states. Training, sampling, saving and loading are written once, here; a domain gives ``encode``,
``decode``, ``render``, ``evaluate`` and the shape of its states.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn

from ornstein.core.config import near
from ornstein.core.process import State
from ornstein.core.weights import CONFIG, WEIGHTS, load_model, save_model

if TYPE_CHECKING:
    from ornstein.core.training.run import Run

__all__ = ["DomainAdapter", "Example"]

Self = TypeVar("Self", bound="DomainAdapter")


@dataclass(frozen=True)
class Example:
    """A batch as the denoiser sees it.

    Attributes:
        state: the clean data, ``(B, *event)`` or a dict of such tensors.
        condition: what the network is told, by keyword, each ``(B, ...)``; an integer condition of -1 means "none".
        mask: boolean, True where the data is real, for data padded to a common size.
    """

    state: State
    condition: Mapping[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None


class DomainAdapter(nn.Module, ModelHubMixin, ABC, library_name="ornstein", tags=["diffusion"]):
    """A diffusion model of one domain.

    A subclass sets ``denoiser``, ``objective`` and ``sampler`` in its constructor, keeps every constructor argument
    under its own name (so that ``config.json`` can rebuild it) and gives the abstract methods. Parameters and buffers
    are everything that the checkpoint holds: statistics of the data (means, scales, vocabularies) belong in buffers.
    ``save_pretrained(folder)`` and ``push_to_hub(name)`` are huggingface_hub's and write ``model.safetensors``,
    ``config.json`` and a model card.

    Attributes:
        denoiser: the trained ``Denoiser``.
        objective: the training loss.
        sampler: the sampler that ``sample`` uses when none is given.
        condition_dropout: for each condition, the probability with which training hides it from the network, so that
            classifier-free guidance (Ho and Salimans, 2022, arXiv 2207.12598) has an unconditional model to guide from.
    """

    denoiser: Any
    objective: Any
    sampler: Any
    condition_dropout: Mapping[str, float]

    default_batch_size: ClassVar[int] = 64
    from_data: ClassVar[tuple[str, ...]] = ()
    """Constructor arguments that a data module knows under the same names, such as a vocabulary; see `for_data`."""

    def __init__(self) -> None:
        super().__init__()
        self.condition_dropout = {}

    # What a domain gives.

    @abstractmethod
    def encode(self, batch: Any) -> Example:
        """A batch of the data module as state, condition and mask, on the device of the batch."""

    @abstractmethod
    def decode(self, state: State) -> Any:
        """States ``(N, *event)`` as N domain objects."""

    @abstractmethod
    def state_shape(self, num: int, condition: Mapping[str, Tensor]) -> Any:
        """The shape ``(num, *event)`` of the states to sample, as the sampler takes it."""

    @abstractmethod
    def render(self, samples: Any, path: str | Path) -> None:
        """Write one picture of the samples to ``path`` (PNG), for logs and reports."""

    @abstractmethod
    def write(self, samples: Any, directory: str | Path, *, first: int = 0) -> list[Path]:
        """Write each sample as a file of its own, numbered from ``first``, and return the paths."""

    @abstractmethod
    def evaluate(self, samples: Any, reference: Any) -> dict[str, float]:
        """Measures of samples against data, by name.

        Args:
            samples: as ``sample`` gives them, or a mapping of these as ``"samples"`` and the conditions asked for.
            reference: as the data module's ``reference()`` gives it.
        """

    # What a domain may change.

    def prepare_condition(self, num: int, **condition: Any) -> dict[str, Tensor]:
        """The keyword conditions of ``sample`` as tensors with one row a sample.

        A single value serves all samples; a sequence or tensor must have ``num`` rows.
        """
        tensors = {}
        for name, value in condition.items():
            if value is None:
                continue
            try:
                tensor = torch.as_tensor(value)
            except (TypeError, ValueError, RuntimeError):
                raise ValueError(f"{name}={value!r}: expected a number, or one for each sample") from None
            tensor = tensor.expand(num) if tensor.ndim == 0 else tensor
            if len(tensor) != num:
                raise ValueError(f"{name} has {len(tensor)} rows for {num} samples; give one value, or one for each")
            tensors[name] = (
                tensor.to(torch.int64) if not tensor.is_floating_point() and tensor.dtype != torch.bool else tensor
            )
        return tensors

    def drop_condition(self, condition: Mapping[str, Tensor], dropped: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``condition`` with the rows where ``dropped[name]`` (boolean, ``(B,)``) is True hidden from the network.

        Integers become -1; numbers become 0, and their ``{name}_mask``, if there is one, False.
        """
        result = dict(condition)
        for name, rows in dropped.items():
            value = result[name]
            shaped = rows.view(-1, *[1] * (value.ndim - 1))
            if value.is_floating_point():
                result[name] = value.masked_fill(shaped, 0)
                if (mask := result.get(f"{name}_mask")) is not None:
                    result[f"{name}_mask"] = mask & ~rows.view(-1, *[1] * (mask.ndim - 1))
            else:
                result[name] = value.masked_fill(shaped, -1)
        return result

    def preview_condition(self, num: int) -> dict[str, Any]:
        """What to ask for where nobody says, in training's pictures and the commands; spread over classes, say."""
        return {}

    def pack(self, samples: Any) -> dict[str, np.ndarray]:
        """Samples as named arrays, the content of an ``.npz`` file; ``unpack`` reads them back."""
        if isinstance(samples, Mapping):
            return {name: np.asarray(value) for name, value in samples.items()}
        return {"samples": np.asarray(samples)}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """The samples that ``pack`` stored."""
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
        return tensors["samples"] if set(tensors) == {"samples"} else tensors

    @classmethod
    def demo(cls, run: str | Path, *, quick: bool = False, **options: Any) -> None:
        """Train, sample, judge and report on data that is at hand; ``ornstein demo NAME`` calls it.

        Raises:
            ValueError: the domain has no demonstration.
        """
        raise ValueError(f"{cls.__name__} has no demo; 'ornstein domains' lists what is installed")

    @classmethod
    def for_data(cls: type[Self], data: Any, **options: Any) -> Self:
        """The adapter for a data module: what it needs to know of the data (`from_data`) is asked of the module.

        Args:
            data: the data module.
            options: further constructor arguments; they go before what the data say.
        """
        known = {name: getattr(data, name) for name in cls.from_data if name not in options and hasattr(data, name)}
        return cls(**known, **options)

    # The verbs.

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        tensor = next(iter(self.parameters()), None)
        return tensor.device if tensor is not None else torch.device("cpu")

    def fit(self, data: Any, *, run: str | Path | None = None, overwrite: bool = False, **options: Any) -> "Run":
        """Train on a data module, in a run folder, and leave the EMA weights in this adapter.

        Args:
            data: a ``DataModule``.
            run: the run folder; by default ``runs/CLASS``. A folder with an unfinished run of the same configuration
                is continued.
            overwrite: start anew, whatever the folder holds.
            options: fields of ``TrainingOptions`` (``lr``, ``ema``, ``sample_every`` ...), arguments of Lightning's
                ``Trainer`` (``max_steps``, ``devices``, ``precision`` ...), and ``objective``, the loss of this run if
                it is not the adapter's own (distillation).

        Returns:
            The run: its folder, the steps taken and whether it is finished.
        """
        from ornstein.core.training.run import train

        return train(self, data, run=run, overwrite=overwrite, **options)

    @torch.no_grad()
    def sample(
        self,
        num: int,
        *,
        sampler: Any = None,
        seed: int | None = None,
        batch_size: int | None = None,
        first: int = 0,
        guidance: float | None = None,
        progress: bool = False,
        **condition: Any,
    ) -> Any:
        """Draw ``num`` domain objects.

        With a ``seed``, sample i depends on ``(seed, first + i)`` and its condition alone, whatever the batch size.

        Args:
            num: how many.
            sampler: a ``Sampler``; by default the adapter's own.
            seed: without one, a fresh one is drawn.
            batch_size: how many at a time; by default ``default_batch_size``.
            first: the number of the first sample.
            guidance: scale of classifier-free guidance; None samples the conditional model as it is.
            progress: show a bar.
            condition: what to ask for, one value for all samples or one a sample.
        """
        if num < 1:
            raise ValueError(f"num must be at least 1, got {num}")
        size = self.default_batch_size if batch_size is None else batch_size
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, got {size}")
        seed = int(torch.randint(2**31, ()).item()) if seed is None else seed
        conditions = self.prepare_condition(num, **condition)
        with self.evaluating():
            states = [
                self._sample_batch(sampler or self.sampler, stop - start, seed, first + start, guidance, progress, part)
                for start, stop, part in _batches(num, size, conditions)
            ]
        return self.decode(_concatenate(states))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """All modules in evaluation mode, and back as they were."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

    def _sample_batch(
        self,
        sampler: Any,
        num: int,
        seed: int,
        first: int,
        guidance: float | None,
        progress: bool,
        condition: dict[str, Tensor],
    ) -> State:
        denoiser = self.denoiser
        if guidance is not None:
            from ornstein.core.guidance import ClassifierFreeGuidance

            denoiser = ClassifierFreeGuidance(denoiser, guidance)
        condition = {name: value.to(self.device) for name, value in condition.items()}
        shape = self.state_shape(num, condition)
        return sampler.sample(denoiser, shape, seed=seed, first=first, condition=condition or None, progress=progress)

    # Checkpoints.

    def _save_pretrained(self, save_directory: Path) -> None:
        """What the mixin's ``save_pretrained`` and ``push_to_hub`` write beside the model card."""
        save_model(self, save_directory)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the mixin's reads config.json before anything can check it
        cls: type[Self],
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        map_location: str | torch.device = "cpu",
        trusted: Sequence[str] = (),
    ) -> Self:
        """The adapter saved in a folder, or in a repository of the Hugging Face Hub, in evaluation mode.

        Called on ``DomainAdapter`` it answers with whatever domain the folder holds.

        Args:
            source: the folder, or ``owner/name`` on the Hub, whose ``revision`` and ``token`` may be given.
            cache_dir: where downloads are kept.
            force_download: download again what is kept.
            local_files_only: do not ask the Hub.
            map_location: the device for the weights.
            trusted: top-level packages, beside ornstein and installed domains, whose classes the configuration may
                name; needed for a network of your own.

        Raises:
            FileNotFoundError: no such folder, or a file is missing from it.
            TypeError: the checkpoint is of another class.
            ValueError: the configuration or the weights are damaged, or do not fit each other.
        """
        download = {
            "revision": revision,
            "token": token,
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
        }
        config_file, weights_file = (_locate(str(source), name, download) for name in (CONFIG, WEIGHTS))
        return load_model(config_file, weights_file, cls, trusted).to(map_location).eval()


def _batches(num: int, size: int, conditions: Mapping[str, Tensor]) -> Iterator[tuple[int, int, dict[str, Tensor]]]:
    for start in range(0, num, size):
        stop = min(start + size, num)
        yield start, stop, {name: value[start:stop] for name, value in conditions.items()}


def _concatenate(states: Sequence[State]) -> State:
    head = states[0]
    if isinstance(head, Tensor):
        return torch.cat([state.cpu() for state in states])  # type: ignore[union-attr]
    return {name: torch.cat([state[name].cpu() for state in states]) for name in head}  # type: ignore[index]


def _locate(source: str, name: str, download: Mapping[str, Any]) -> Path:
    folder = Path(source)
    if folder.is_dir():
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}{near(name, _names(folder))}; give a folder made by save_pretrained"
            )
        return folder / name
    if folder.exists() or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise FileNotFoundError(f"no checkpoint folder {source!r}; give a folder made by save_pretrained")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(source, name, **download))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise FileNotFoundError(
            f"{source!r} is neither a folder nor a model on the Hub that can be reached: {reason}"
        ) from error


def _names(folder: Path) -> Iterable[str]:
    return [path.name for path in folder.iterdir()]
