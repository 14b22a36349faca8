"""What text models do beyond sampling: fill gaps, edit, translate, weigh, and choose among candidates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.core import (
    CategoricalClassifierGuidance,
    ClassifierGuidance,
    ControlledSampler,
    Denoiser,
    EmbeddedBound,
    EmbeddedDenoiser,
    IndependentNoise,
    Sampler,
    SampleStep,
    SeededNoise,
    TokenBound,
    complete,
    perturb_and_reverse,
)
from ornstein.core.guidance.categorical_classifier import Evaluation
from ornstein.domains.text.adapter import TextModel, fresh
from ornstein.domains.text.controls import Control, steering
from ornstein.domains.text.perplexity import Condition, Perplexity, weigh
from ornstein.domains.text.reranking import least_risk
from ornstein.domains.text.templates import Filled, Template, fill_lengths, parse_template

__all__ = ["TextTasks"]

GAPS = 0x47415053  # of the draws of lengths: others than those that samples of the same seed are made of


class TextTasks(TextModel):
    """The tasks of `TextDiffusion`; each is a few lines around the core's methods."""

    kind: str

    # Generation.

    def generate(
        self,
        num: int,
        length: int | tuple[int, int] | None = None,
        *,
        watch: Callable[[int, list[str]], None] | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> list[str]:
        """Texts of a length, or of lengths between two numbers of tokens.

        Args:
            num: how many.
            length: tokens; by default as long as those of the data.
            watch: called after each step with its number and the texts as they stand, ``▯`` where nothing is decided;
                for each batch of texts of like lengths.
            seed: as in ``sample``.
            options: as for ``sample``: ``sampler``, ``guidance``, ``batch_size``, attributes.
        """
        seed = fresh(seed)
        lengths: Any = length
        if isinstance(length, tuple):
            low, high = length
            if not 1 <= low <= high <= self.length:
                raise ValueError(f"length={length}: expected (low, high) with 1 <= low <= high <= {self.length}")
            u = SeededNoise(seed).begin(num, 0).child(GAPS).uniform(torch.empty(num, 1))[:, 0]
            lengths = low + (u * (high - low + 1)).long()
        if watch is not None:
            options |= {"sampler": _Watched(options.get("sampler") or self.sampler, self, watch), "batch_size": num}
        return self.sample(num, seed=seed, length=lengths, **options)

    def width_shape(self, num: int, width: int) -> tuple[int, ...]:
        """``(num, width)``, or ``(num, width, D)`` for embeddings."""
        return (num, width, self.denoiser.table.dimensions) if self._embedded else (num, width)

    def texts(self, rows: Sequence[Tensor], lengths: Tensor) -> list[str]:
        """Strings of rows of a state, of which as many are real as ``lengths`` says."""
        return super().texts([self._as_tokens(row) for row in rows], lengths)

    def control(
        self,
        num: int,
        controls: Sequence[Control],
        length: int | None = None,
        *,
        exact: bool = False,
        plug_in: bool = False,
        updates: int = 3,
        rate: float = 0.1,
        fluency: float = 0.01,
        sampler: Sampler | None = None,
        seed: int | None = None,
        batch_size: int | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Texts that classifiers agree with; several controls are asked for at once, negative ones avoided.

        Tokens are steered by `CategoricalClassifierGuidance`, to first order or ``exact``, embeddings by
        `ClassifierGuidance`, or with ``plug_in`` by Diffusion-LM's updates (`ControlledSampler`).

        Args:
            num: how many.
            controls: see `Control`; trained for this model by `fit_classifier`.
            length: tokens; needed for tags and spans, which name tokens by their place.
            exact: for tokens, ask the classifier about every token in every free place, and not by one gradient, which
                knows little of what a token in the place of a mask would change.
            plug_in: for embeddings, change the states and not what is believed.
            updates, rate, fluency: of ``plug_in``.
            sampler, seed, batch_size, attributes: as in ``sample``.

        Raises:
            ValueError: no controls, labels that do not fit, tags or spans without a length, ``plug_in`` for tokens,
                ``exact`` for embeddings.
        """
        if not controls:
            raise ValueError("controls is empty: expected at least one Control; sample and generate do without")
        placed = [control for control in controls if control.classifier.target != "text"]
        if placed and length is None:
            raise ValueError(
                f"length=None with {placed[0].classifier.target}: they name tokens by their place; give it"
            )
        if exact if self._embedded else plug_in:
            name, moves = ("exact", "asks about tokens") if self._embedded else ("plug_in", "moves embeddings")
            raise ValueError(f"{name}=True for kind={self.kind!r}: it {moves}; leave it out")
        classifier = steering(controls, self.length if length is None else length)
        chosen, denoiser = sampler or self.sampler, self.denoiser
        if plug_in:
            chosen = ControlledSampler(
                chosen.steps, classifier=classifier, sampler=chosen, grid=chosen.grid, updates=updates, rate=rate,
                fluency=fluency,
            )  # fmt: skip
        elif self._embedded:
            denoiser = ClassifierGuidance(denoiser, classifier)
        else:
            evaluation: Evaluation = "exact" if exact else "first_order"
            denoiser = CategoricalClassifierGuidance(denoiser, classifier, evaluation=evaluation)
        condition = self.prepare_condition(num, length=length, **attributes)
        return self.draw(num, denoiser, condition, chosen, seed, batch_size)

    # Gaps.

    def infill(
        self,
        templates: Sequence[Template],
        *,
        candidates: int = 1,
        sampler: Sampler | None = None,
        seed: int | None = None,
        guidance: float | None = None,
        batch_size: int | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Texts completed in their gaps; what is given stays as it is.

        A gap of any length is given one by drawing the length of the whole text from those of the data. With several
        ``candidates``, each of lengths of its own, the one of least risk is chosen (`least_risk`).

        Args:
            templates: texts with gaps, ``"The [1] serves [...] food"``, or lists of their parts.
            candidates: texts a template to choose from.
            sampler: the model's own when not given.
            seed: makes text ``i`` a function of ``(seed, i)`` and its template.
            guidance, batch_size, attributes: as in ``sample``.

        Raises:
            ValueError: a template without gaps, or too long.
        """
        parsed = [parse_template(template) for template in _listed(templates, "templates")]
        seed = fresh(seed)
        many = [parts for parts in parsed for _ in range(_several(candidates))]
        numbers = SeededNoise(seed).begin(len(many), 0).child(GAPS).uniform(torch.empty(len(many), 2)).tolist()
        weights = self.sizes.counts
        filled = [
            fill_lengths(parts, self.tokenizer, weights, self.length, (u, v)) for parts, (u, v) in zip(many, numbers)
        ]
        attributes = _repeated(self.prepare_condition(len(parsed), **attributes), candidates)
        rows = self._complete(filled, sampler, seed, guidance, batch_size, attributes)
        texts = self.texts(rows, torch.tensor([len(one.tokens) for one in filled]))
        return [least_risk(texts[i : i + candidates]) for i in range(0, len(texts), candidates)]

    def sequence_to_sequence(
        self,
        sources: Sequence[str],
        *,
        length: int | Sequence[int] | None = None,
        candidates: int = 1,
        sampler: Sampler | None = None,
        seed: int | None = None,
        guidance: float | None = None,
        batch_size: int | None = None,
        **attributes: Any,
    ) -> list[str]:
        """The target of each source, for a model trained on data with sources (DiffuSeq: Gong et al. 2022, 2210.08933).

        Args:
            sources: texts.
            length: tokens of the targets, one or one a source; drawn from those of the data by default.
            candidates: targets a source, of which the one of least Bayes risk is taken (`least_risk`).
            sampler, seed, guidance, batch_size, attributes: as for ``infill``.

        Raises:
            ValueError: a source that leaves no room for its target.
        """
        heads = [[*ids, self.tokenizer.separator] for ids in self.tokenizer.encode_batch(_listed(sources, "sources"))]
        seed = fresh(seed)
        heads = [head for head in heads for _ in range(_several(candidates))]
        if length is None:
            sizes = self.sizes.sample(len(heads), seed=seed).tolist()
        else:
            sizes = [length] * len(heads) if isinstance(length, int) else [n for n in length for _ in range(candidates)]
        filled = []
        for number, (head, size) in enumerate(zip(heads, sizes, strict=True)):
            room = self.length - len(head)
            if room < 1 or (length is not None and size > room):
                raise ValueError(
                    f"source {number // candidates} has {len(head)} tokens with its separator: the model takes "
                    f"length={self.length} with the target"
                )
            size = max(1, min(size, room))
            whole = torch.tensor(head + [0] * size)
            filled.append(Filled(whole, torch.arange(len(whole)) < len(head)))
        attributes = _repeated(self.prepare_condition(len(sources), **attributes), candidates)
        rows = self._complete(filled, sampler, seed, guidance, batch_size, attributes)
        targets = [row[len(head) : len(one.tokens)] for row, head, one in zip(rows, heads, filled)]
        texts = self.texts(targets, torch.tensor(list(map(len, targets))))
        return [least_risk(texts[i : i + candidates]) for i in range(0, len(texts), candidates)]

    def _complete(
        self,
        filled: Sequence[Filled],
        sampler: Sampler | None,
        seed: int,
        guidance: float | None,
        batch_size: int | None,
        attributes: Mapping[str, Tensor],
    ) -> list[Tensor]:
        """States of each text with what is not given drawn by the model."""
        sampler = sampler or self.sampler

        def draw(numbers: Tensor, width: int, told: dict[str, Tensor]) -> Tensor:
            some = [filled[number] for number in numbers.tolist()]
            tokens, given, mask = (part.to(self.device) for part in _stacked(some, width))
            return complete(
                self.guided(guidance),
                self.denoiser.table.embed(tokens) if self._embedded else tokens,
                given,
                sampler,
                noise=SeededNoise(seed, tuple(numbers.tolist())),
                mask=_real(mask),
                condition=told,
            )

        return self.by_size(torch.tensor([len(one.tokens) for one in filled]), draw, attributes, batch_size)

    # Texts that are there.

    @torch.no_grad()
    def edit(
        self,
        texts: Sequence[str],
        strength: float = 0.5,
        *,
        sampler: Sampler | None = None,
        seed: int | None = None,
        guidance: float | None = None,
        batch_size: int | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Texts of the same lengths, noised up to ``t = strength`` and redrawn (`ornstein.core.perturb_and_reverse`).

        With attributes that the texts do not have, and guidance, they are changed to have them.

        Args:
            texts: each of at most ``length`` tokens.
            strength: in (0, 1]: under masks, the share of tokens that are drawn anew.
            sampler: the model's own when not given; all of its steps are taken.
            seed, guidance, batch_size, attributes: as for ``infill``.
        """
        seed = fresh(seed)
        tokens, mask = self.tokens(texts)
        lengths = mask.sum(1)

        def redraw(numbers: Tensor, width: int, told: dict[str, Tensor]) -> Tensor:
            rows = [Filled(tokens[number, : lengths[number]], mask[number, : lengths[number]]) for number in numbers]
            some, _, real = (part.to(self.device) for part in _stacked(rows, width))
            return perturb_and_reverse(
                self.guided(guidance),
                self.denoiser.table.embed(some) if self._embedded else some,
                strength,
                sampler or self.sampler,
                noise=SeededNoise(seed, tuple(numbers.tolist())),
                mask=_real(real),
                condition=told,
            )

        drawn = self.by_size(lengths, redraw, self.prepare_condition(len(texts), **attributes), batch_size)
        return self.texts(drawn, lengths)

    def perplexity(
        self,
        texts: Sequence[str],
        *,
        bound: TokenBound | EmbeddedBound | None = None,
        seed: int | None = 0,
        batch_size: int | None = None,
        **attributes: Any,
    ) -> Perplexity:
        """How surprising texts are: an upper bound, with its Monte-Carlo error; see `Perplexity`.

        A text of more than ``length`` tokens is cut into parts of ``length``, each of which is weighed by itself.

        Args:
            texts: of at least a token each.
            bound: `TokenBound(draws=32)`, or `EmbeddedBound(floor=0.25)` for embeddings.
            seed: of the draws.
            batch_size: parts at a time.
            attributes: as in ``sample``, told to the model.
        """
        method = bound or (EmbeddedBound(floor=0.25) if self._embedded else TokenBound(draws=32))

        def nats(numbers: Tensor, tokens: Tensor, mask: Tensor | None, told: Condition) -> tuple[Tensor, Tensor]:
            noise = IndependentNoise() if seed is None else SeededNoise(seed, tuple(numbers.tolist()))
            found = method.evaluate(self.denoiser, tokens, mask=mask, noise=noise, condition=told)
            return found.nats, found.standard_error

        return weigh(self, nats, texts, batch_size, exact=False, **attributes)

    # What the tasks share.

    @property
    def _embedded(self) -> bool:
        return isinstance(self.denoiser, EmbeddedDenoiser)

    def _as_tokens(self, state: Tensor) -> Tensor:
        return self.denoiser.table.round(state) if state.is_floating_point() else state

    def words_so_far(self, step: SampleStep, mask: Tensor | None) -> list[str]:
        """The texts as they stand after a step, ``▯`` for what is not decided."""
        tokens = self._as_tokens(step.x).cpu()
        sizes = [tokens.shape[1]] * len(tokens) if mask is None else mask.sum(1).tolist()
        symbols = (*self.tokenizer.symbols, "▯")
        return ["".join(symbols[token] for token in row[:size]) for row, size in zip(tokens.tolist(), sizes)]


@dataclass(frozen=True)
class _Watched:
    """A sampler that shows its texts after each step."""

    sampler: Sampler
    model: TextTasks
    watch: Callable[[int, list[str]], None]

    def sample(self, denoiser: Denoiser[Any], shape: Any, *, mask: Tensor | None = None, **run: Any) -> Any:
        def show(step: SampleStep) -> None:
            self.watch(step.index, self.model.words_so_far(step, mask))

        return self.sampler.sample(denoiser, shape, **run, mask=mask, callback=show)


def _listed(values: Sequence[Any], name: str) -> Sequence[Any]:
    if isinstance(values, str) or not len(values):
        raise TypeError(f"{name}={values!r}: expected a list of at least one")
    return values


def _several(candidates: int) -> int:
    if candidates < 1:
        raise ValueError(f"candidates must be at least 1, got {candidates}")
    return candidates


def _repeated(condition: Mapping[str, Tensor], times: int) -> dict[str, Tensor]:
    return {name: value.repeat_interleave(times) for name, value in condition.items()}


def _stacked(rows: Sequence[Filled], width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, what is given and what is real, ``(B, width)`` each; the padding counts as given."""
    tokens, given, mask = (torch.zeros(len(rows), width, dtype=kind) for kind in (torch.int64, torch.bool, torch.bool))
    for i, row in enumerate(rows):
        size = len(row.tokens)
        tokens[i, :size], given[i, :size], mask[i, :size] = row.tokens, row.given, True
    return tokens, given | ~mask, mask


def _real(mask: Tensor) -> Tensor | None:
    return None if bool(mask.all()) else mask
