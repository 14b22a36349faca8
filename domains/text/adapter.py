"""What all text models share: strings to tokens and back, attributes as conditions, lengths, judges and files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ornstein.core import ClassifierFreeGuidance, SeededNoise, SizeDistribution, size_batches
from ornstein.core.adapter import DomainAdapter, Example
from ornstein.core.config import near
from ornstein.domains.text.figures import draw_texts
from ornstein.domains.text.packing import RESERVED
from ornstein.domains.text.tokenizers import Tokenizer

if TYPE_CHECKING:
    from ornstein.domains.text.data import TextReference

__all__ = ["TextModel", "fresh"]


def fresh(seed: int | None) -> int:
    """The seed, or one that is drawn from torch's generator."""
    return int(torch.randint(2**31, ()).item()) if seed is None else seed


class TextModel(DomainAdapter):
    """A model of texts of at most ``length`` tokens; a subclass gives denoiser, objective and sampler.

    Args:
        tokenizer: text to tokens and back; needed, but that `for_data` and ``ornstein fit`` take it from the data.
        length: tokens of the longest text.
        attributes: the values of each attribute of a text, by name, in the order of their numbers.
        lengths: how often a text has ``0, 1, 2, ...`` tokens (`SizeDistribution.counts`); always ``length`` by default.
        attribute_dropout: part of the training texts whose attribute is hidden, each attribute by itself, so that some
            may be asked for and guidance has something to guide from.

    Raises:
        ValueError: a length, lengths, attributes or ``attribute_dropout`` out of range.
    """

    tokenizer: Tokenizer
    from_data: ClassVar[tuple[str, ...]] = ("tokenizer", "length", "attributes", "lengths")

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        length: int = 128,
        attributes: Mapping[str, Sequence[str]] | None = None,
        lengths: tuple[float, ...] | None = None,
        attribute_dropout: float = 0.15,
    ) -> None:
        super().__init__()
        if not isinstance(tokenizer, Tokenizer):
            raise TypeError(
                f"tokenizer={tokenizer!r}: expected a Tokenizer, such as CharacterTokenizer.fit(texts); "
                f"{type(self).__name__}.for_data(data) takes the one of a data module"
            )
        if length < 1:
            raise ValueError(f"length must be at least 1 token, got {length}")
        if not 0 <= attribute_dropout < 1:
            raise ValueError(f"attribute_dropout must lie in [0, 1), got {attribute_dropout}")
        self.tokenizer, self.length = tokenizer, length
        self.attributes = {name: tuple(values) for name, values in (attributes or {}).items()}
        for name, values in self.attributes.items():
            if not values or len(set(values)) != len(values):
                raise ValueError(f"attribute {name!r} has values {values}: expected at least one, and none twice")
            if name in (*RESERVED, "length"):
                raise ValueError(f"an attribute is called {name!r}, which means something else here; rename it")
        self.lengths = None if lengths is None else tuple(lengths)
        self.sizes = SizeDistribution((*[0.0] * length, 1.0) if lengths is None else tuple(lengths))
        if self.sizes.largest > length:
            raise ValueError(f"lengths has texts of {self.sizes.largest} tokens: expected at most length={length}")
        self.attribute_dropout = attribute_dropout
        self.condition_dropout = dict.fromkeys(self.attributes, attribute_dropout)

    @property
    def attribute_sizes(self) -> dict[str, int]:
        """Number of values of each attribute."""
        return {name: len(values) for name, values in self.attributes.items()}

    # Texts and tokens.

    def encode(self, batch: Any) -> Example:
        """Tokens of a batch, with attributes and what else is known of them as conditions.

        Args:
            batch: of a data module here: a dict with ``"tokens"`` ``(B, N)`` int64, and perhaps ``"mask"``,
                ``"segments"``, ``"given"`` and attributes; or a list of strings.

        Raises:
            TypeError: another kind of batch.
            ValueError: tokens that the tokenizer does not have, texts that are too long, attributes out of range.
        """
        if isinstance(batch, Sequence) and not isinstance(batch, str):
            tokens, mask = self.tokens(batch)
            return Example(tokens.to(self.device), mask=None if bool(mask.all()) else mask.to(self.device))
        if not isinstance(batch, Mapping) or "tokens" not in batch:
            raise TypeError(f"the batch is of type {type(batch).__name__}: expected a dict with 'tokens', or strings")
        tokens = batch["tokens"]
        if tokens.device.type == "cpu" and tokens.numel():
            low, high = int(tokens.min()), int(tokens.max())
            if low < 0 or high >= self.tokenizer.size:
                raise ValueError(
                    f"tokens lie in [{low}, {high}]: expected 0 to {self.tokenizer.size - 1}; "
                    "train with the data's own tokenizer (for_data)"
                )
        if tokens.shape[1] > self.length:
            raise ValueError(f"texts of {tokens.shape[1]} tokens: the model takes at most length={self.length}")
        names = [name for name in ("segments", "given") if name in batch]
        condition = {name: batch[name] for name in [*names, *self.attributes] if name in batch}
        return Example(tokens, condition, batch.get("mask"))

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens ``(N, L)`` of texts, padded to the longest with the boundary, and the mask of what is real.

        Raises:
            ValueError: a text without tokens, or longer than the model takes.
        """
        ids = self.tokenizer.encode_batch(texts)
        for number, one in enumerate(ids):
            if not 1 <= len(one) <= self.length:
                raise ValueError(
                    f"text {number} has {len(one)} tokens: expected 1 to length={self.length}; split it or leave it out"
                )
        widest = max(map(len, ids), default=0)
        rows = [one + [self.tokenizer.boundary] * (widest - len(one)) for one in ids]
        tokens = torch.tensor(rows, dtype=torch.int64).reshape(len(ids), widest)
        return tokens, torch.arange(widest) < torch.tensor([len(one) for one in ids])[:, None]

    def decode(self, state: Any) -> list[str]:
        """Strings of tokens ``(N, L)``; a boundary within a text becomes the end of a line."""
        return ["\n".join(self.tokenizer.split(row)).rstrip("\n") for row in state.cpu()]

    # Conditions.

    def state_shape(self, num: int, condition: Mapping[str, Tensor]) -> tuple[int, ...]:
        """The shape of ``num`` states of ``length`` tokens."""
        return self.width_shape(num, self.length)

    def prepare_condition(self, num: int, **condition: Any) -> dict[str, Tensor]:
        """Attributes by value or number (one, or one a text; None or -1 for any), and ``length`` in tokens.

        Raises:
            ValueError: an unknown attribute or value, or a length that the model does not take.
        """
        prepared = {}
        for name, value in condition.items():
            if value is None:
                continue
            if name == "length":
                lengths = super().prepare_condition(num, length=value)["length"]
                if lengths.is_floating_point() or not 1 <= int(lengths.min()) <= int(lengths.max()) <= self.length:
                    raise ValueError(f"length={value!r}: expected whole numbers of tokens, 1 to {self.length}")
                prepared[name] = lengths
            elif name not in self.attributes:
                known = ", ".join(self.attributes) or "none"
                raise ValueError(f"unknown attribute {name!r}{near(name, self.attributes)}; the model has {known}")
            else:
                prepared |= super().prepare_condition(num, **{name: self._numbers(name, value)})
                wrong = prepared[name][(prepared[name] < -1) | (prepared[name] >= len(self.attributes[name]))]
                if len(wrong):
                    raise ValueError(
                        f"{name}={int(wrong[0])}: expected 0 to {len(self.attributes[name]) - 1}, or -1 for any"
                    )
        return prepared

    def _numbers(self, name: str, value: Any) -> Any:
        if isinstance(value, str):
            if value not in self.attributes[name]:
                values = self.attributes[name]
                raise ValueError(f"{name}={value!r}{near(value, values)}: expected one of {', '.join(values)}")
            return self.attributes[name].index(value)
        if isinstance(value, Sequence):
            return [-1 if one is None else self._numbers(name, one) for one in value]
        return value

    def example_batch(self, num: int) -> dict[str, Tensor]:
        """A batch of random tokens with all attributes, as a data module would give it, for the conformance suite."""
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(self.tokenizer.size, (num, self.length), generator=generator)
        numbers = {name: torch.arange(num) % size for name, size in self.attribute_sizes.items()}
        return {"tokens": tokens, **numbers}

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
        **condition: Any,
    ) -> list[str]:
        """Draw ``num`` texts; texts of like lengths share a batch.

        Args:
            num, sampler, seed, batch_size, first, guidance, progress: as in `DomainAdapter.sample`.
            condition: attributes, and ``length`` in tokens, one or one a text; drawn from those of the data by default.
        """
        if num < 1:
            raise ValueError(f"num must be at least 1, got {num}")
        attributes = self.prepare_condition(num, **condition)
        return self.draw(num, self.guided(guidance), attributes, sampler, seed, batch_size, first, progress)

    def draw(
        self,
        num: int,
        denoiser: Any,
        condition: Mapping[str, Tensor],
        sampler: Any = None,
        seed: int | None = None,
        batch_size: int | None = None,
        first: int = 0,
        progress: bool = False,
    ) -> list[str]:
        """Texts of a denoiser, such as a guided one, of conditions as `prepare_condition` gives them."""
        seed, attributes = fresh(seed), dict(condition)
        lengths = attributes.pop("length", None)
        lengths = self.sizes.sample(num, seed=seed, first=first) if lengths is None else lengths

        def one_batch(numbers: Tensor, width: int, told: dict[str, Tensor]) -> Tensor:
            size = lengths[numbers]
            mask = None if int(size.min()) == width else self.sizes.mask(size, width).to(self.device)
            return (sampler or self.sampler).sample(
                denoiser,
                self.width_shape(len(numbers), width),
                noise=SeededNoise(seed, tuple((numbers + first).tolist())),
                condition=told or None,
                mask=mask,
                progress=progress,
            )

        return self.texts(self.by_size(lengths, one_batch, attributes, batch_size), lengths)

    def width_shape(self, num: int, width: int) -> tuple[int, ...]:
        """The shape of ``num`` states of ``width`` tokens."""
        return (num, width)

    def guided(self, guidance: float | None) -> Any:
        """The denoiser, with classifier-free guidance of this scale if there is any."""
        return self.denoiser if guidance is None else ClassifierFreeGuidance(self.denoiser, guidance)

    @torch.no_grad()
    def by_size(
        self,
        lengths: Tensor,
        work: Callable[[Tensor, int, dict[str, Tensor]], Any],
        attributes: Mapping[str, Tensor],
        batch_size: int | None,
    ) -> list[Any]:
        """A row of ``work(numbers, width, attributes)`` for each text, done by batches of texts of like lengths.

        Args:
            lengths: of the texts, ``(N,)``.
            work: answers with a tensor ``(B, ...)`` for the texts of these numbers.
            attributes: of the texts, ``(N,)`` each.
            batch_size: by default ``default_batch_size``.
        """
        size = self.default_batch_size if batch_size is None else batch_size
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, got {size}")
        rows: list[Any] = [None] * len(lengths)
        with self.evaluating():
            for numbers, width in size_batches(lengths, size, self.length):
                told = {name: value[numbers].to(self.device) for name, value in attributes.items()}
                for number, row in zip(numbers.tolist(), work(numbers, width, told)):
                    rows[number] = row
        return rows

    def texts(self, rows: Sequence[Tensor], lengths: Tensor) -> list[str]:
        """Strings of rows of tokens, of which as many are real as ``lengths`` says."""
        padded = torch.full((len(rows), self.length), self.tokenizer.boundary)
        for i, (row, size) in enumerate(zip(rows, lengths.tolist())):
            padded[i, :size] = row[:size]
        return self.decode(padded)

    # Files, pictures and judges.

    def render(self, samples: Sequence[str], path: str | Path) -> None:
        """The texts as a picture (PNG), one below the other."""
        draw_texts(samples, path)

    def write(self, samples: Sequence[str], directory: str | Path, *, first: int = 0) -> list[Path]:
        """Each text as ``000000.txt`` and so on, UTF-8."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        paths = [Path(directory) / f"{first + i:06d}.txt" for i in range(len(samples))]
        for path, text in zip(paths, samples):
            path.write_text(text, encoding="utf-8", newline="")
        return paths

    def pack(self, samples: Any) -> dict[str, np.ndarray]:
        """Texts as an array of Unicode."""
        texts = samples["samples"] if isinstance(samples, Mapping) else samples
        rest = {k: np.asarray(v) for k, v in samples.items() if k != "samples"} if isinstance(samples, Mapping) else {}
        # NumPy drops zeros at the end of a string, so that a mark stands there.
        return {"samples": np.array([text + "\x03" for text in texts], dtype=np.str_), **rest}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """The texts that ``pack`` stored."""
        texts = [str(text)[:-1] for text in arrays["samples"]]
        rest = {name: torch.from_numpy(value) for name, value in arrays.items() if name != "samples"}
        return {"samples": texts, **rest} if rest else texts

    def preview_condition(self, num: int) -> dict[str, Any]:
        """The values of each attribute in turn."""
        return {name: [i % len(values) for i in range(num)] for name, values in self.attributes.items()}

    def evaluate(self, samples: Any, reference: "TextReference") -> dict[str, float]:
        """Measures of texts against real ones; see `ornstein.domains.text.judges.judge_texts`.

        Args:
            samples: texts, or a dict of them as ``"samples"`` and the attributes asked for.
            reference: the data module's ``reference()``.
        """
        from ornstein.domains.text.judges import judge_texts

        texts = samples["samples"] if isinstance(samples, Mapping) else samples
        return judge_texts(texts, reference.heldout, reference.train)
