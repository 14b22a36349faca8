"""`TextDiffusion`: diffusion of tokens or of their embeddings, under one interface."""

from collections.abc import Mapping, Sequence

from torch import nn

from ornstein.core import Objective, Process, Sampler
from ornstein.domains.text.kinds import Kind, parts_of
from ornstein.domains.text.tasks import TextTasks
from ornstein.domains.text.tokenizers import Tokenizer

__all__ = ["TextDiffusion"]


class TextDiffusion(TextTasks):
    """Diffusion of texts: of their tokens, masked or exchanged, or of their embeddings; see `Kind`.

    Args:
        tokenizer, length, attributes, lengths, attribute_dropout: as for `TextModel`; `for_data` asks a data module.
        kind: "masked", "uniform", "score" or "embedding".
        network: as `CategoricalDenoiser` or `EmbeddedDenoiser` calls it; a `TokenTransformer` when not given.
        process: a chain of the tokens, or an SDE of the embeddings; the kind's own when not given.
        objective: the training loss.
        sampler: what ``sample`` and the tasks use when they are told nothing else.
        dimensions: length of an embedding, for "embedding".

    Raises:
        ValueError: an unknown kind, or arguments out of range.
        TypeError: a process that is not of the kind.

    Example:
        >>> from ornstein.domains.text import CharacterTokenizer
        >>> model = TextDiffusion(CharacterTokenizer("abc "), length=8)
        >>> len(model.sample(2, seed=0))
        2
        >>> model.infill(["ab[1]"], seed=0)[0].startswith("ab")
        True
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        length: int = 128,
        kind: Kind = "masked",
        attributes: Mapping[str, Sequence[str]] | None = None,
        lengths: tuple[float, ...] | None = None,
        network: nn.Module | None = None,
        process: Process | None = None,
        objective: Objective | None = None,
        sampler: Sampler | None = None,
        dimensions: int = 64,
        attribute_dropout: float = 0.15,
    ) -> None:
        super().__init__(tokenizer, length, attributes, lengths, attribute_dropout)
        parts = parts_of(kind, self.tokenizer.size, self.attribute_sizes, network, process, dimensions)
        self.kind, self.dimensions = kind, dimensions
        self.denoiser = parts.denoiser
        self.objective = parts.objective if objective is None else objective
        self.sampler = parts.sampler if sampler is None else sampler

    @property
    def network(self) -> nn.Module:
        """The network inside the denoiser."""
        return self.denoiser.network

    @property
    def process(self) -> Process:
        """The forward process of the denoiser."""
        return self.denoiser.process
