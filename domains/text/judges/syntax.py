"""Whether the syntax of texts is what was asked for, by the user's own tagger or parser.

The three controls of Diffusion-LM (Li et al. 2022, 2205.14217, section 6.1 and appendix): tags word by word, one
labelled span, and whole trees by the F-measure of their labelled spans (Black et al. 1991, as evalb counts: brackets
over words, the tags of single words not among them).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from ornstein.core.schedules import require
from ornstein.domains.text.judges._texts import as_texts

__all__ = ["Parser", "Span", "Tagger", "span_occurs", "spans_of_tree", "tag_agreement", "tree_agreement"]

_TOKEN = re.compile(r"[()]|[^\s()]+")


class Span(NamedTuple):
    """A labelled span of words: the words ``start``, ..., ``end - 1``."""

    start: int
    end: int
    label: str


Tagger = Callable[[str], Sequence[str]]
"""From a text to the tags of its words."""

Parser = Callable[[str], Collection[Span]]
"""From a text to the labelled spans of its tree; `spans_of_tree` makes them of a bracketed one."""


def spans_of_tree(tree: str) -> list[Span]:
    """The labelled spans of a tree in brackets, ``(S (NP (DT the) (NN pub)) (VP (VBZ opens)))``, inner ones first.

    Words with their tags are leaves and give no span; neither does a bracket without a label around the whole tree.

    Raises:
        ValueError: brackets that do not match, an empty bracket, or text outside of them.
    """
    spans: list[Span] = []
    open_nodes: list[tuple[str, int, bool]] = []  # label, first word, whether a bracket is inside
    place, previous = 0, ""
    tokens = _TOKEN.findall(tree)
    for number, token in enumerate(tokens):
        if token == "(":
            if open_nodes:
                open_nodes[-1] = (*open_nodes[-1][:2], True)
            elif number:
                raise ValueError(f"tree={tree[:60]!r}: expected one tree, found a second")
            open_nodes.append(("", place, False))
        elif not open_nodes:
            raise ValueError(f"tree={tree[:60]!r}: expected brackets around {token!r}")
        elif token == ")":
            label, start, inner = open_nodes.pop()
            if place == start:
                raise ValueError(f"tree={tree[:60]!r}: expected words in each bracket, found none in {label!r}")
            if inner and label:
                spans.append(Span(start, place, label))
        elif previous == "(":
            open_nodes[-1] = (token, *open_nodes[-1][1:])
        else:
            place += 1
        previous = token
    if open_nodes or not tokens:
        raise ValueError(f"tree={tree[:60]!r}: expected a tree with as many closing as opening brackets")
    return spans


def tag_agreement(texts: Sequence[str], targets: Sequence[Sequence[str]], tagger: Tagger) -> list[float]:
    """Share of the places at which a text's tag is the one asked for, over the longer of the two rows of tags.

    Args:
        texts: what was written.
        targets: the tags asked for, one row a text.
        tagger: gives the tags of a text.

    Raises:
        TypeError: ``texts`` is no list of strings.
        ValueError: lists of different lengths, or a target without tags.
    """
    texts = _paired(texts, targets)
    shares = []
    for number, (text, target) in enumerate(zip(texts, targets)):
        require(len(target) > 0, f"targets[{number}]", target, "at least one tag")
        tags = list(tagger(text))
        shares.append(sum(a == b for a, b in zip(tags, target)) / max(len(tags), len(target)))
    return shares


def span_occurs(texts: Sequence[str], targets: Sequence[Span], parser: Parser) -> list[bool]:
    """Whether the parse of each text has the span asked for, label and ends alike.

    Raises:
        TypeError: ``texts`` is no list of strings.
        ValueError: lists of different lengths.
    """
    return [Span(*target) in {Span(*span) for span in parser(text)} for text, target in
            zip(_paired(texts, targets), targets)]  # fmt: skip


def tree_agreement(texts: Sequence[str], targets: Sequence[Collection[Span]], parser: Parser) -> list[float]:
    """F-measure of the labelled spans of each text's parse against those asked for, ``2 common / (parsed + asked)``.

    Spans that occur several times count as often. 1 for the same tree; 0 without a common span.

    Raises:
        TypeError: ``texts`` is no list of strings.
        ValueError: lists of different lengths, or a target without spans.
    """
    scores = []
    for number, (text, target) in enumerate(zip(_paired(texts, targets), targets)):
        require(len(target) > 0, f"targets[{number}]", target, "at least one span")
        found, wanted = (Counter(Span(*span) for span in spans) for spans in (parser(text), target))
        scores.append(2 * (found & wanted).total() / (found.total() + wanted.total()))
    return scores


def _paired(texts: Sequence[str], targets: Sequence[object]) -> list[str]:
    texts = as_texts(texts, "texts")
    require(len(targets) == len(texts), "targets", f"{len(targets)} targets", f"one for each of the {len(texts)} texts")
    return texts
