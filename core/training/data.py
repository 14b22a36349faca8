"""Data modules whose batches are a function of (seed, step, rank), so that training resumes at any step.

The samples of all steps and ranks form one endless stream: a permutation of the data set, then another, and so on.
Batch ``step`` of ``rank`` takes ``batch_size`` consecutive places of it,

    place = (step * world_size + rank) * batch_size + j,   epoch, k = divmod(place, n),   index = permutation_epoch[k].

So every sample comes once an epoch over all ranks, the tail of an epoch shares a batch with the head of the next, and
nothing is dropped. Lightning sees one long epoch of as many batches as the run has.

Where samples differ in size, the permutation may be arranged so that those of a batch are of like size and need little
padding: of each ``POOL`` batches of the permutation the samples are sorted by size and cut into batches anew, and these
come in random order. A sample is still equally likely in each batch of an epoch.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence, Sized
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from ornstein.core.training.seeds import derive_seed, seeded

__all__ = ["DataModule", "Draw", "StepSampler"]

POOL = 64  # batches among which samples are sorted by size: more pad less, and mix less


class Draw(NamedTuple):
    """What the data set is asked for: the indices of one batch and the seed of its augmentations."""

    indices: list[int]
    seed: int


class StepSampler(Sampler[Draw]):
    """The batches ``start, start + 1, ..., steps - 1`` of one rank.

    Args:
        length: number of samples in the data set.
        batch_size: samples a batch and rank.
        steps: number of batches of the whole run, which is ``len`` of the sampler wherever it starts.
        seed: seed of the permutations and of the augmentations.
        start: the first batch to give.
        rank: the number of this process, of ``world_size``.
        world_size: number of processes.
        sizes: of all samples, ``(length,)``, to have samples of like size in a batch; None for no such order.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        steps: int,
        *,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        sizes: Sequence[int] | None = None,
    ) -> None:
        if length < 1:
            raise ValueError("the training data set is empty; it must hold at least one sample")
        if sizes is not None and len(sizes) != length:
            raise ValueError(f"sizes of {len(sizes)} samples, and the training data set holds {length}; give each one")
        self.length, self.batch_size, self.steps = length, batch_size, steps
        self.seed, self.start, self.rank, self.world_size = seed, start, rank, world_size
        self.sizes = None if sizes is None else torch.as_tensor(sizes)
        self._permutations: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Draw]:
        for step in range(self.start, self.steps):
            yield self.batch(step)

    def batch(self, step: int) -> Draw:
        """The indices and the seed of batch number ``step``."""
        first = (step * self.world_size + self.rank) * self.batch_size
        places = (divmod(place, self.length) for place in range(first, first + self.batch_size))
        indices = [self._permutation(epoch)[k] for epoch, k in places]
        return Draw(indices, derive_seed(self.seed, "augmentation", step, self.rank))

    def _permutation(self, epoch: int) -> list[int]:
        if epoch not in self._permutations:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "permutation", epoch))
            for old in [known for known in self._permutations if known < epoch - 1]:
                del self._permutations[old]
            order = torch.randperm(self.length, generator=generator)
            self._permutations[epoch] = self._by_size(order, epoch, generator).tolist()
        return self._permutations[epoch]

    def _by_size(self, order: torch.Tensor, epoch: int, generator: torch.Generator) -> torch.Tensor:
        """A permutation arranged so that the samples of a batch are of like size."""
        if self.sizes is None:
            return order
        # The first places still belong to a batch that the epoch before began; at the end there may be half a batch.
        head = min(-epoch * self.length % self.batch_size, self.length)
        batches = (self.length - head) // self.batch_size
        body = order[head : head + batches * self.batch_size]
        pool = torch.arange(len(body)) // (POOL * self.batch_size)
        body = body[self.sizes[body].argsort(stable=True)]
        places = torch.empty_like(order)
        places[order] = torch.arange(self.length)
        body = body[pool[places[body] - head].argsort(stable=True)].view(batches, self.batch_size)
        body = body[torch.randperm(batches, generator=generator)].flatten()
        return torch.cat([order[:head], body, order[head + len(body) :]])


class _Drawn(Dataset[Any]):
    """A data set that answers a ``Draw``, with the global generators seeded for it in whatever worker this is."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitems__(self, draw: Draw) -> list[Any]:
        with seeded(draw.seed):
            if hasattr(self.dataset, "__getitems__"):
                return self.dataset.__getitems__(draw.indices)
            return [self.dataset[index] for index in draw.indices]


class _ResumableLoader(DataLoader[Any]):
    """A loader whose position is the step in its sampler; tells Lightning that there is no other state to keep."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class DataModule(LightningDataModule):
    """Training data of a domain; a subclass gives ``train_dataset`` and ``reference``.

    Args:
        batch_size: samples a step and process.
        num_workers: processes that load data beside each training process; 0 loads in the process itself. The batches
            are the same with any number.
    """

    def __init__(self, batch_size: int = 64, num_workers: int = 0) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, got {num_workers}")
        self.batch_size = batch_size
        self.num_workers = num_workers

    @abstractmethod
    def train_dataset(self) -> Any:
        """The data to train on: an object with ``len`` and indices."""

    @abstractmethod
    def reference(self) -> Any:
        """Data that training does not see, in the form that the adapter's ``evaluate`` compares samples with."""

    def validation_dataset(self) -> Any | None:
        """Held-out data for the validation loss, or None for no such loss."""
        return None

    def train_sizes(self) -> Sequence[int] | None:
        """The size of each training sample, for batches of samples of like size; None where all are alike."""
        return None

    def collate(self, samples: list[Any]) -> Any:
        """One batch of a list of samples; torch's ``default_collate`` unless a domain pads or packs."""
        return default_collate(samples)

    def loader(
        self, steps: int, *, seed: int = 0, start: int = 0, rank: int = 0, world_size: int = 1
    ) -> DataLoader[Any]:
        """The training batches ``start .. steps - 1`` of one rank; see ``StepSampler``."""
        dataset = self.train_dataset()
        sampler = StepSampler(
            len(dataset),
            self.batch_size,
            steps,
            seed=seed,
            start=start,
            rank=rank,
            world_size=world_size,
            sizes=self.train_sizes(),
        )
        # torch types a batch as a list; its fetcher hands on whatever the sampler gives.
        batches: Any = sampler
        return _ResumableLoader(_Drawn(dataset), batch_sampler=batches, **self._loader_options())

    def train_dataloader(self) -> DataLoader[Any]:
        """The loader that Lightning asks for, from the step at which the run stands."""
        trainer, module = self._running()
        return self.loader(
            trainer.max_steps * trainer.accumulate_grad_batches,
            seed=module.options.seed,
            # Restored from the checkpoint before Lightning asks for the loader; 0 in a fresh run.
            start=trainer.fit_loop.epoch_loop.batch_progress.total.ready,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """The held-out data in fixed order, each rank its share."""
        dataset = self.validation_dataset()
        if not isinstance(dataset, Sized) or len(dataset) == 0:
            raise ValueError(
                f"{type(self).__name__}.validation_dataset() holds no samples; return None for no validation"
            )
        trainer, _ = self._running()
        own = list(range(trainer.global_rank, len(dataset), trainer.world_size))
        return DataLoader(dataset, batch_size=self.batch_size, sampler=own, **self._loader_options())  # type: ignore[arg-type]

    def _loader_options(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "collate_fn": self.collate,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }

    def _running(self) -> tuple[Any, Any]:
        if self.trainer is None:
            raise RuntimeError("the data module is not in training; call loader(...) for batches outside of it")
        return self.trainer, self.trainer.lightning_module
