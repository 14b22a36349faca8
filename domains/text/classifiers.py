"""Training of the classifiers that steer texts."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ornstein.core import ClassifierObjective
from ornstein.core.adapter import Example
from ornstein.core.training import DataModule, Run, train
from ornstein.domains.text.controls import Label, Labeller, Target, TextClassifier

__all__ = ["fit_classifier"]


class _Labelled(DataModule):
    """Texts with labels, in memory."""

    def __init__(self, tokens: Tensor, mask: Tensor, wanted: Tensor, batch_size: int) -> None:
        super().__init__(batch_size)
        self.tokens, self.mask, self.wanted = tokens, mask, wanted

    def train_dataset(self) -> Any:
        return _Rows(self)

    def reference(self) -> Tensor:
        """The tokens."""
        return self.tokens

    def collate(self, samples: Any) -> Any:
        """A batch comes whole."""
        return samples


class _Rows(Dataset[Any]):
    def __init__(self, data: _Labelled) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data.tokens)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        rows = torch.as_tensor(indices)
        mask = self.data.mask[rows]
        width = int(mask.sum(1).max())
        wanted = self.data.wanted[rows]
        return {
            "tokens": self.data.tokens[rows, :width] * mask[:, :width],
            "mask": mask[:, :width],
            "wanted": wanted[:, :width] if wanted.ndim == 2 else wanted,
        }


class _Training(nn.Module):
    """A classifier as training wants a model."""

    condition_dropout: Mapping[str, float] = {}

    def __init__(self, denoiser: TextClassifier) -> None:
        super().__init__()
        self.denoiser = denoiser

    def encode(self, batch: dict[str, Tensor]) -> Example:
        """Tokens, with what is wanted as a condition."""
        return Example(batch["tokens"], {"wanted": batch["wanted"]}, batch["mask"])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the weights."""
        from safetensors.torch import save_file

        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file(self.denoiser.state_dict(), Path(folder) / "model.safetensors")


def fit_classifier(
    model: Any,
    texts: Sequence[str],
    labels: Sequence[Label] | Labeller,
    *,
    target: Target = "text",
    run: str | Path = "runs/classifier",
    overwrite: bool = False,
    batch_size: int = 64,
    width: int = 96,
    depth: int = 2,
    **options: Any,
) -> tuple[TextClassifier, Run]:
    """Train a classifier of a model's noised texts.

    Args:
        model: a trained `TextDiffusion`; it is not changed.
        texts: to train on.
        labels: one a text; or a function that finds them, given the symbols of a text's tokens: a tagger for
            ``"tags"``, a parser for ``"spans"``.
        target: ``"text"``, ``"tags"`` or ``"spans"``.
        run: the run folder.
        overwrite: start anew, whatever the folder holds.
        batch_size: texts a step.
        width, depth: of the classifier.
        options: as for ``fit``.

    Returns:
        The classifier, in evaluation mode, and the run.

    Raises:
        ValueError: labels of another number than the texts, or that do not fit them.
    """
    tokens, mask = model.tokens(texts)
    sizes = mask.sum(1).tolist()
    if callable(labels):
        symbols = model.tokenizer.symbols
        found = [labels([symbols[i] for i in row[:size]]) for row, size in zip(tokens.tolist(), sizes)]
    else:
        found = list(labels)
    if len(found) != len(texts):
        raise ValueError(f"{len(found)} labels for {len(texts)} texts: expected one each")
    classifier = TextClassifier(model, target, _names(found, target), width, depth)
    each = [classifier.numbers(label, size) for label, size in zip(found, sizes)]
    if target == "spans":
        draw = random.Random(0)
        each = [_with_others(spans, size, len(classifier.labels), draw) for spans, size in zip(each, sizes)]
    wanted = (
        torch.stack(each) if target == "text" else nn.utils.rnn.pad_sequence(each, batch_first=True, padding_value=-1)
    )
    training: Any = _Training(classifier)
    training.objective = ClassifierObjective()
    done = train(
        training,
        _Labelled(tokens, mask, wanted, batch_size),
        run=run,
        objective=training.objective,
        overwrite=overwrite,
        sample_every=0,
        **options,
    )
    return classifier.eval(), done


def _with_others(spans: Tensor, size: int, none: int, draw: random.Random) -> Tensor:
    """Spans, and up to as many others of the text that have no label: a classifier has to tell them apart."""
    known = {(first, last) for first, last, _ in spans.tolist()}
    others = [(i, j) for i in range(size) for j in range(i, size) if (i, j) not in known]
    drawn = draw.sample(others, min(len(others), max(4, len(known))))
    return torch.cat([spans, torch.tensor([(i, j, none) for i, j in drawn], dtype=torch.int64).reshape(-1, 3)])


def _names(found: Sequence[Label], target: Target) -> list[str]:
    """All labels that occur, sorted."""
    if target == "text":
        return sorted({str(label) for label in found if label is not None})
    parts = [part for label in found if label is not None for part in label]
    return sorted({str(part if target == "tags" else part[2]) for part in parts if part is not None})
