"""Controls: what a text is asked to be, by classifiers that see it while it is still noise.

A `TextClassifier` is trained for one model on texts with labels of three kinds, of which the controls of Diffusion-LM
(Li et al. 2022, arXiv 2205.14217, section 4) are made; lengths and gaps are asked of the model itself.

| target | says | controls |
| --- | --- | --- |
| ``"text"`` | one label a text | semantic content, sentiment, topic |
| ``"tags"`` | a label a token | parts of speech |
| ``"spans"`` | a label for tokens ``i`` to ``j`` | syntax spans; all spans of a tree are a syntax tree |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ornstein.core import Denoiser
from ornstein.core.config import near
from ornstein.core.nn import Linear, TokenTransformer

__all__ = ["Control", "Label", "Labeller", "Target", "TextClassifier", "steering"]

Target = Literal["text", "tags", "spans"]
Label = str | Sequence[str | None] | Sequence[tuple[int, int, str]] | None
Labeller = Callable[[list[str]], Label]


class TextClassifier(nn.Module):
    """``log p(label | x_t)`` of noised texts; see the module's text.

    A transformer over the states that a text model's denoiser sees, with a linear map to the labels: of the mean over
    tokens, of each token, or of a span's first and last token.  Conditions are told to it and not to the denoiser.

    Args:
        model: a `TextDiffusion`, whose states it classifies.
        target: ``"text"``, ``"tags"`` or ``"spans"``.
        labels: the names of the labels.
        width, depth: of the transformer.

    Raises:
        ValueError: another target, or fewer than two labels.
    """

    def __init__(self, model: Any, target: Target, labels: Sequence[str], width: int = 96, depth: int = 2) -> None:
        super().__init__()
        if target not in get_args(Target):
            raise ValueError(
                f"target={target!r}{near(str(target), get_args(Target))}: expected 'text', 'tags' or 'spans'"
            )
        if len(labels) < 2 or len(set(labels)) != len(labels):
            raise ValueError(f"labels={labels!r}: expected at least two names that differ")
        self.target, self.labels = target, tuple(labels)
        self.width, self.depth = width, depth
        # Not a part of this module: the model is not trained with it.
        object.__setattr__(self, "model", model)
        self.embedded = hasattr(model.denoiser, "table")
        inputs = model.denoiser.table.dimensions if self.embedded else model.denoiser.process.states
        self.network = TokenTransformer(inputs, width, vectors=self.embedded, width=width, depth=depth)
        nn.init.normal_(self.network.leave.weight, std=width**-0.5)
        self.head = Linear(width * (1 + (target == "spans")), len(self.labels) + (target == "spans"))

    model: Any

    @property
    def denoiser(self) -> Denoiser[Any]:
        """The model's, whose states are classified."""
        return self.model.denoiser

    def logits(self, x_t: Tensor, t: Any, mask: Tensor | None = None) -> Tensor:
        """Logits of the labels: ``(B, L)`` for texts, ``(B, N, L)`` for tokens, and of the spans between two tokens
        ``(B, N, N, L + 1)``, the last for "no label".
        """
        if self.embedded or not x_t.is_floating_point():
            inputs, c = self.denoiser.inputs(x_t, t)  # type: ignore[operator]
        else:  # one-hot states, which have a gradient
            inputs, c = x_t, self.denoiser.inputs(x_t.argmax(-1), t)[1]  # type: ignore[operator]
        h = self.network(inputs, c, mask=mask)
        if self.target == "text":
            real = torch.ones(h.shape[:2], device=h.device) if mask is None else mask.to(h.dtype)
            h = (h * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        elif self.target == "spans":
            n = h.shape[1]
            h = torch.cat([h[:, :, None].expand(-1, -1, n, -1), h[:, None].expand(-1, n, -1, -1)], -1)
        return self.head(torch.relu(h))

    def forward(
        self, x_t: Tensor, t: Any, *, wanted: Tensor, mask: Tensor | None = None, **condition: Any
    ) -> Float[Tensor, "batch"]:
        """``log p(wanted | x_t)`` in nats, summed over tokens and spans, ``(B,)``.

        Args:
            x_t: states of the model; of tokens also one-hot.
            t: their time.
            wanted: labels by number, -1 for "any": ``(B,)``, ``(B, N)``, or spans ``(B, K, 3)`` of first token, last
                token and label, -1 behind the last of them.
            mask: True where the text is real.
            condition: what else is known to the denoiser, which does not count.
        """
        log_probs = self.logits(x_t, t, mask).log_softmax(-1)
        if self.target == "spans":
            first, last, label = (part.clamp(min=0) for part in wanted.unbind(-1))
            row = torch.arange(len(wanted), device=wanted.device)[:, None]
            found = log_probs[row, first, last, label]
            return torch.where(wanted[..., 2] >= 0, found, 0.0).sum(1)
        found = log_probs.gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
        found = torch.where(wanted >= 0, found, 0.0)
        return found if self.target == "text" else found.sum(1)

    def numbers(self, label: Label, width: int) -> Tensor:
        """A label of a text of ``width`` tokens as ``wanted`` takes it: ``()``, ``(width,)`` or ``(K, 3)``.

        Raises:
            ValueError: an unknown label, tags of another number than the tokens, or a span outside of the text.
        """
        if self.target == "text":
            return torch.tensor(self._number(label))
        if self.target == "tags":
            tags = [] if label is None else list(label)
            if len(tags) > width:
                raise ValueError(f"{len(tags)} tags for a text of {width} tokens: expected at most one a token")
            return torch.tensor([self._number(tag) for tag in tags] + [-1] * (width - len(tags)))
        spans: list[Any] = [] if label is None else list(label)
        for span in spans:
            if len(span) != 3 or not 0 <= int(span[0]) <= int(span[1]) < width:
                raise ValueError(f"span {span!r}: expected (first, last, label) within {width} tokens")
        rows = [(int(first), int(last), self._number(name)) for first, last, name in spans]
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)

    def _number(self, name: Any) -> int:
        if name is None:
            return -1
        if name not in self.labels:
            raise ValueError(f"label {name!r}{near(str(name), self.labels)}: expected one of {', '.join(self.labels)}")
        return self.labels.index(name)


@dataclass(frozen=True)
class Control:
    """A label that is asked for, by a classifier.

    Args:
        classifier: trained for the model.
        label: a name for ``"text"``; names of the tokens from the first on, None for any, for ``"tags"``; ``(first,
            last, label)`` of spans for ``"spans"``.
        weight: strength, in multiples of the classifier's log-probability; negative to keep away from the label.
    """

    classifier: TextClassifier
    label: Label
    weight: float = 1.0


def steering(controls: Sequence[Control], width: int) -> Callable[..., Tensor]:
    """``sum of weight log p(label | x_t)`` of controls, for guidance of states of ``width`` tokens.

    A negative weight adds ``|weight| log (1 - p)``: the complement, where Liu et al. 2022 (arXiv 2206.01714, section
    3.2) have a quotient, which is not bounded.
    """
    wanted = [control.classifier.numbers(control.label, width) for control in controls]

    def log_probability(x_t: Tensor, t: Any, mask: Tensor | None = None, **condition: Any) -> Tensor:
        total = torch.zeros(len(x_t), device=x_t.device)
        for control, one in zip(controls, wanted):
            if control.classifier.target == "tags":  # states are padded
                one = nn.functional.pad(one, (0, x_t.shape[1] - len(one)), value=-1)
            rows = one.to(x_t.device).expand(len(x_t), *one.shape)
            value = control.classifier(x_t, t, wanted=rows, mask=mask)
            if control.weight < 0:
                value = torch.log(-torch.expm1(value.clamp(max=-1e-6)))
            total = total + abs(control.weight) * value
        return total

    return log_probability
