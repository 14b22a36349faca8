"""Judges of texts: they take lists of strings, and know nothing of the models that wrote them.

| question | judge |
| --- | --- |
| do they read like real texts? | `NgramModel`, `trigram_bits` |
| do they all say the same? | `unigram_entropy`, `distinct_n`, `self_bleu`, `repetition` |
| are they distributed as real texts are? | `mauve_score` |
| are they copies? | `copied_spans` |
| do they say, in the length asked for, around the text given? | `attribute_occurs`, `length_within`, `infill_intact` |
| are they built as asked for, by the user's tagger or parser? | `tag_agreement`, `span_occurs`, `tree_agreement` |
| how often do they do all that? | `control_success` |
| are they the texts that were wanted? | `sequence_scores` |

`judge_texts` gathers those that need nothing but texts, each beside the same figure of real texts. Names are loaded
when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.domains.text.judges.control import (
        Rate,
        control_success,
        infill_intact,
        length_within,
        wilson_interval,
    )
    from ornstein.domains.text.judges.copying import Copying, copied_spans
    from ornstein.domains.text.judges.diversity import distinct_n, repetition, self_bleu, unigram_entropy
    from ornstein.domains.text.judges.e2e_phrases import E2E_PHRASES
    from ornstein.domains.text.judges.mauve import (
        Mauve,
        NgramFeatures,
        divergence_frontier,
        frontier_area,
        mauve_score,
    )
    from ornstein.domains.text.judges.ngram import Fluency, Mark, NgramModel
    from ornstein.domains.text.judges.phrases import Phrases, attribute_occurs
    from ornstein.domains.text.judges.report import judge_texts
    from ornstein.domains.text.judges.sequence import sequence_scores
    from ornstein.domains.text.judges.syntax import (
        Span,
        span_occurs,
        spans_of_tree,
        tag_agreement,
        tree_agreement,
    )
    from ornstein.domains.text.judges.trigram import trigram_bits

__all__ = [
    "E2E_PHRASES",
    "Copying",
    "Fluency",
    "Mark",
    "Mauve",
    "NgramFeatures",
    "NgramModel",
    "Phrases",
    "Rate",
    "Span",
    "attribute_occurs",
    "control_success",
    "copied_spans",
    "distinct_n",
    "divergence_frontier",
    "frontier_area",
    "infill_intact",
    "judge_texts",
    "length_within",
    "mauve_score",
    "repetition",
    "self_bleu",
    "sequence_scores",
    "span_occurs",
    "spans_of_tree",
    "tag_agreement",
    "tree_agreement",
    "trigram_bits",
    "unigram_entropy",
    "wilson_interval",
]

_PLACES = {
    "control": ("Rate", "control_success", "infill_intact", "length_within", "wilson_interval"),
    "copying": ("Copying", "copied_spans"),
    "diversity": ("distinct_n", "repetition", "self_bleu", "unigram_entropy"),
    "e2e_phrases": ("E2E_PHRASES",),
    "mauve": ("Mauve", "NgramFeatures", "divergence_frontier", "frontier_area", "mauve_score"),
    "ngram": ("Fluency", "Mark", "NgramModel"),
    "phrases": ("Phrases", "attribute_occurs"),
    "report": ("judge_texts",),
    "sequence": ("sequence_scores",),
    "syntax": ("Span", "span_occurs", "spans_of_tree", "tag_agreement", "tree_agreement"),
    "trigram": ("trigram_bits",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
