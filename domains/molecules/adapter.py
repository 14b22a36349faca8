"""What `MoleculeDiffusion` is made of: molecules to states and back, sizes, properties as conditions, files, judges."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ornstein.core import (
    ClassifierFreeGuidance,
    Objective,
    Process,
    Sampler,
    SeededNoise,
    SizeDistribution,
    StateConstraint,
    complete,
    size_batches,
)
from ornstein.core.adapter import DomainAdapter, Example
from ornstein.core.config import near
from ornstein.core.optional import need
from ornstein.core.training.seeds import derive_seed, seeded
from ornstein.domains.molecules.drawn import Generated
from ornstein.domains.molecules.representations import Drawn, representation_of

if TYPE_CHECKING:
    from ornstein.domains.molecules.data import MoleculeReference

__all__ = ["MoleculeModel", "fresh"]

SHOWN = 24  # molecules in a picture
PROPERTIES = "properties"


def fresh(seed: int | None) -> int:
    """The seed, or one that is drawn from torch's generator."""
    return int(torch.randint(2**31, ()).item()) if seed is None else seed


class MoleculeModel(DomainAdapter):
    """A model of molecules; what is particular to how they are written is its `Representation`'s.

    Args:
        facts: what the training data tell: `MoleculeFacts`, `SelfiesFacts`; needed, but that `for_data` and ``ornstein
            fit`` take it from the data.
        representation: a name of `REPRESENTATIONS`, or the import path of a `Representation`.
        network, process, objective, sampler: the representation's own when not given.
        property_dropout: part of the training molecules whose properties are hidden, all of them or each by itself, so
            that some may be asked for and guidance has something to guide from.
        seed: of the initial weights.

    Raises:
        TypeError: facts of another kind than the representation's, or a process of another kind.
        ValueError: an unknown representation, or ``property_dropout`` out of range.
    """

    from_data: ClassVar[tuple[str, ...]] = ("facts", "representation")
    default_batch_size: ClassVar[int] = 256

    def __init__(
        self,
        facts: Any,
        representation: str,
        network: nn.Module | None,
        process: Process | None,
        objective: Objective | None,
        sampler: Sampler | None,
        property_dropout: float,
        seed: int,
    ) -> None:
        super().__init__()
        if facts is None:
            raise TypeError(
                f"facts=None: expected those of a data module; {type(self).__name__}.for_data(data) takes them from it"
            )
        if not 0 <= property_dropout < 1:
            raise ValueError(f"property_dropout must lie in [0, 1), got {property_dropout}")
        self.form = representation_of(representation, facts)
        self.facts, self.representation = facts, representation
        self.property_dropout, self.seed = property_dropout, seed
        self.condition_dropout = {PROPERTIES: property_dropout}
        self.sizes = SizeDistribution(tuple(facts.sizes))
        process = self.form.process() if process is None else process
        if network is None:
            with seeded(derive_seed(seed, "initialisation")):
                network = self.form.network(process)
        self.denoiser = self.form.denoiser(network, process)
        self.objective = self.form.objective(process) if objective is None else objective
        self.sampler = self.form.sampler(process) if sampler is None else sampler

    @property
    def network(self) -> nn.Module:
        """The network inside the denoiser."""
        return self.denoiser.network

    @property
    def process(self) -> Process:
        """The forward process of the denoiser."""
        return self.denoiser.process

    @property
    def property_names(self) -> tuple[str, ...]:
        """Names of the properties that the model was told of."""
        return tuple(scale.name for scale in self.facts.properties)

    # Batches and states.

    def encode(self, batch: Any) -> Example:
        """Molecules as the denoiser takes them, with their properties as conditions.

        Args:
            batch: of a data module here; or a list of RDKit molecules or SMILES, without properties.

        Raises:
            TypeError: another kind of batch.
            ValueError: molecules that the model cannot hold.
        """
        if isinstance(batch, Sequence) and not isinstance(batch, str):
            batch = self.form.collate(batch)
        if not isinstance(batch, Mapping):
            raise TypeError(f"the batch is of type {type(batch).__name__}: expected a dict of a data module, or a list")
        example = self.form.encode(batch)
        told = dict(example.condition)
        if self.facts.properties and PROPERTIES in batch:
            table, known = batch[PROPERTIES], batch[f"{PROPERTIES}_mask"]
            expected = (len(table), len(self.facts.properties))
            if table.ndim != 2 or tuple(table.shape) != expected or known.shape != table.shape:
                raise ValueError(
                    f"properties of shape {tuple(table.shape)} with a mask {tuple(known.shape)}: expected {expected}, "
                    f"for {', '.join(self.property_names)}"
                )
            told |= {PROPERTIES: table, f"{PROPERTIES}_mask": known}
        return Example(example.state, told, example.mask)

    def decode(self, state: Any, sizes: Tensor | None = None) -> Generated:
        """States as molecules.

        Args:
            state: ``(N, ...)``, or by name.
            sizes: how much of each is real, ``(N,)``; all of it when not given.
        """
        state = {k: v.cpu() for k, v in state.items()} if isinstance(state, Mapping) else state.cpu()
        some = next(iter(state.values())) if isinstance(state, Mapping) else state
        sizes = torch.full((len(some),), some.shape[1]) if sizes is None else sizes.cpu()
        return Generated(tuple(self.form.decode(state, sizes)))

    def state_shape(self, num: int, condition: Mapping[str, Tensor]) -> Any:
        """The shape of ``num`` states as large as the largest molecule of the data."""
        return self.form.shape(num, self.sizes.largest)

    def example_batch(self, num: int) -> dict[str, Any]:
        """A batch of random states with all properties, as a data module would give it, for the conformance suite."""
        batch, count = self.form.example_batch(num), len(self.facts.properties)
        if not count:
            return batch
        table = torch.randn(num, count, generator=torch.Generator().manual_seed(1))
        return {**batch, PROPERTIES: table, f"{PROPERTIES}_mask": torch.ones(num, count, dtype=torch.bool)}

    # Conditions.

    def prepare_condition(self, num: int, **condition: Any) -> dict[str, Tensor]:
        """Properties in their units (NaN for any), and ``size``, one value or one a molecule.

        Raises:
            ValueError: an unknown property, or a size that the data do not have room for.
        """
        prepared = {}
        for name, value in super().prepare_condition(num, **condition).items():
            if name == "size":
                whole = not value.is_floating_point() and value.dtype != torch.bool
                if not whole or not 1 <= int(value.min()) <= int(value.max()) <= self.sizes.largest:
                    raise ValueError(
                        f"size={condition[name]!r}: expected whole numbers of {self.form.unit}, 1 to "
                        f"{self.sizes.largest}, the largest of the data"
                    )
                prepared[name] = value
            elif name not in self.property_names:
                known = ", ".join(self.property_names) or "none"
                raise ValueError(
                    f"unknown property {name!r}{near(name, self.property_names)}; the model was trained with {known}"
                )
            else:
                prepared[name] = value.double()
                if bool(prepared[name].isinf().any()):
                    raise ValueError(f"{name}={condition[name]!r}: expected finite numbers, or NaN for any")
        return prepared

    def drop_condition(self, condition: Mapping[str, Tensor], dropped: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``condition`` with all properties of some rows hidden, and of the others each by itself as often."""
        result = super().drop_condition(condition, dropped)
        known = result.get(f"{PROPERTIES}_mask")
        if known is not None and PROPERTIES in dropped and known.shape[1] > 1:
            kept = known & (torch.rand(known.shape, device=known.device) >= self.property_dropout)
            result |= {PROPERTIES: result[PROPERTIES] * kept, f"{PROPERTIES}_mask": kept}
        return result

    def preview_condition(self, num: int) -> dict[str, Any]:
        """Each property spread from one deviation below its mean to one above."""
        steps = np.linspace(-1, 1, num) if num > 1 else np.zeros(1)
        return {scale.name: (scale.mean + scale.deviation * steps).tolist() for scale in self.facts.properties}

    # Sampling.

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
        constraint: bool | StateConstraint | None = None,
        **condition: Any,
    ) -> Generated:
        """Draw ``num`` molecules; those of like sizes share a batch.

        Args:
            num, sampler, seed, batch_size, first, guidance, progress: as in `DomainAdapter.sample`.
            constraint: False to draw without, as a test of what the network knows; True for the representation's own,
                or another one; as the sampler has it when not given.
            condition: properties in their units by name, and ``size``, one or one a molecule; sizes are drawn from
                those of the data by default.
        """
        if num < 1:
            raise ValueError(f"num must be at least 1, got {num}")
        seed, asked = fresh(seed), self.prepare_condition(num, **condition)
        sizes = asked.pop("size", None)
        sizes = self.sizes.sample(num, seed=seed, first=first) if sizes is None else sizes
        denoiser = self.denoiser if guidance is None else ClassifierFreeGuidance(self.denoiser, guidance)
        drawn = self.draw(
            sizes, denoiser, asked, self.constrained(sampler, constraint), seed, batch_size, first, progress
        )
        told = {name: value.numpy() for name, value in asked.items()}
        return Generated(tuple(drawn), seed, first, told or None)

    def constrained(self, sampler: Any = None, constraint: bool | StateConstraint | None = None) -> Any:
        """A sampler, by default the model's own, with a constraint as ``sample`` takes it.

        Raises:
            ValueError: a constraint for a sampler that takes none.
        """
        sampler = self.sampler if sampler is None else sampler
        if constraint is None:
            return sampler
        if not hasattr(sampler, "constraint"):
            if constraint is False:
                return sampler
            raise ValueError(f"constraint={constraint!r}: {type(sampler).__name__} takes none; leave it out")
        chosen = self.form.constraint() if constraint is True else constraint or None
        return dataclasses.replace(sampler, constraint=chosen)

    def draw(
        self,
        sizes: Tensor,
        denoiser: Any,
        asked: Mapping[str, Tensor],
        sampler: Any = None,
        seed: int = 0,
        batch_size: int | None = None,
        first: int = 0,
        progress: bool = False,
        part: Any = None,
    ) -> list[Drawn]:
        """Molecules of these sizes ``(N,)`` by a denoiser, such as a guided one, and properties as `prepare_condition`
        gives them.

        Args:
            sizes, denoiser, asked, sampler, seed, batch_size, first, progress: as said.
            part: what all of them have, whose ``states(num, width)`` are states that hold it and where they are given.
        """
        told: dict[str, Tensor] = {}
        if asked:
            table, known = self.facts.scale(asked)
            told = {PROPERTIES: table, f"{PROPERTIES}_mask": known}

        def one_batch(numbers: Tensor, width: int) -> Any:
            condition = {name: value[numbers] for name, value in told.items()} | self.form.told(sizes[numbers])
            condition = {name: value.to(self.device) for name, value in condition.items()}
            options: dict[str, Any] = {
                "noise": SeededNoise(seed, tuple((numbers + first).tolist())),
                "condition": condition or None,
                "mask": on_device(self.form.mask(sizes[numbers], width), self.device),
                "progress": progress,
            }
            walk = sampler or self.sampler
            if part is None:
                return walk.sample(denoiser, self.form.shape(len(numbers), width), **options)
            state, given = (on_device(one, self.device) for one in part.states(len(numbers), width))
            return complete(denoiser, state, given, walk, **options)

        return self.by_size(sizes, one_batch, batch_size)

    @torch.no_grad()
    def by_size(self, sizes: Tensor, work: Callable[[Tensor, int], Any], batch_size: int | None = None) -> list[Drawn]:
        """Molecules of the states ``work(numbers, width)`` for those of these numbers, done by batches of like sizes.

        Args:
            sizes: of the molecules, ``(N,)``.
            work: answers with states padded to a width.
            batch_size: by default ``default_batch_size``.
        """
        size = self.default_batch_size if batch_size is None else batch_size
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, got {size}")
        rows: list[Any] = [None] * len(sizes)
        with self.evaluating():
            for numbers, width in size_batches(sizes, size, self.sizes.largest, self.form.size_step):
                found = self.decode(work(numbers, width), sizes[numbers])
                for number, row in zip(numbers.tolist(), found.drawn):
                    rows[number] = row
        return rows

    # Files, pictures and judges.

    def render(self, samples: Any, path: str | Path) -> None:
        """The molecules drawn on a grid (PNG), with the reason where one is invalid."""
        from ornstein.domains.molecules.judges.figures import molecule_grid

        shown = samples[:SHOWN]
        blank = need("rdkit.Chem", to="draw molecules", extra="molecules").Mol()
        mols = [one.mol or one.raw or blank for one in shown.drawn]
        Path(path).write_bytes(molecule_grid(mols, captions=shown.reasons))

    def write(self, samples: Generated, directory: str | Path, *, first: int = 0) -> list[Path]:
        """Each molecule as ``000000.smi`` and so on: its SMILES, and a word about it if it is invalid."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        paths = [Path(directory) / f"{first + i:06d}.smi" for i in range(len(samples))]
        for path, text, reason in zip(paths, samples.texts(), samples.reasons):
            path.write_text(f"{text}\tinvalid: {reason}\n" if reason else f"{text}\n", encoding="utf-8")
        return paths

    def pack(self, samples: Any) -> dict[str, np.ndarray]:
        """Molecules as an array of SMILES (`Generated.texts`)."""
        drawn = samples["samples"] if isinstance(samples, Mapping) else samples
        rest = {k: np.asarray(v) for k, v in samples.items() if k != "samples"} if isinstance(samples, Mapping) else {}
        return {"samples": np.array(drawn.texts(), dtype=np.str_), **rest}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """The molecules that ``pack`` stored."""
        drawn = Generated.of_texts([str(text) for text in arrays["samples"]])
        rest = {name: torch.from_numpy(value) for name, value in arrays.items() if name != "samples"}
        return {"samples": drawn, **rest} if rest else drawn

    def evaluate(self, samples: Any, reference: "MoleculeReference") -> dict[str, float]:
        """Figures of molecules against real ones (`judge_molecules`), and how well properties that were asked for are
        met: ``mae_<property>`` over the valid molecules, in the property's unit.

        Args:
            samples: molecules, or a dict of them as ``"samples"`` and the properties asked for.
            reference: the data module's ``reference()``.
        """
        from ornstein.domains.molecules.judging import judge_samples

        if isinstance(samples, Mapping):
            asked = {name: value for name, value in samples.items() if name != "samples"}
            return judge_samples(samples["samples"], asked, reference)
        return judge_samples(samples, dict(samples.asked or {}), reference)


def on_device(mask: Any, device: torch.device) -> Any:
    """A mask, or one by name, on a device."""
    return {name: one.to(device) for name, one in mask.items()} if isinstance(mask, Mapping) else mask.to(device)
