"""Tags, spans and trees by toy taggers and parsers, and trees read from brackets."""

import pytest

from ornstein.domains.text.judges.syntax import Span, span_occurs, spans_of_tree, tag_agreement, tree_agreement

TREE = "(S (NP (DT the) (NN cat)) (VP (VBD sat) (PP (IN on) (NP (DT the) (NN mat)))))"
SPANS = [Span(0, 2, "NP"), Span(4, 6, "NP"), Span(3, 6, "PP"), Span(2, 6, "VP"), Span(0, 6, "S")]


def tagger(text: str) -> list[str]:
    return ["D" if word in ("a", "the") else "N" for word in text.split()]


def parser(text: str) -> list[Span]:
    return SPANS if text == "the cat sat on the mat" else [Span(0, len(text.split()), "S")]


def test_trees_in_brackets():
    assert spans_of_tree(TREE) == SPANS
    assert spans_of_tree(f"( {TREE} )") == SPANS  # the empty root of the Penn Treebank
    assert spans_of_tree("(S\n  (NP (NN x))\n)") == [Span(0, 1, "NP"), Span(0, 1, "S")]
    assert spans_of_tree("(NN x)") == []


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("", "as many closing as opening"),
        ("(S (NP (NN x))", "as many closing as opening"),
        ("(S (NN x)))", "expected brackets around '\\)'"),
        ("S x", "expected brackets around 'S'"),
        ("(S ())", "expected words in each bracket"),
        ("(S (NN x)) (S (NN y))", "found a second"),
    ],
)
def test_broken_trees_are_refused(tree, message):
    with pytest.raises(ValueError, match=message):
        spans_of_tree(tree)


def test_tags_place_by_place():
    found = tag_agreement(["the cat", "cat the", "the cat sat", ""], [["D", "N"]] * 4, tagger)
    assert found == [1, 0, pytest.approx(2 / 3), 0]


def test_spans_and_trees():
    texts = ["the cat sat on the mat", "dogs ran"]
    assert span_occurs(texts, [(3, 6, "PP"), (0, 1, "NP")], parser) == [True, False]
    assert span_occurs(texts, [(3, 6, "NP"), (0, 2, "S")], parser) == [False, True]
    assert tree_agreement(texts, [SPANS, SPANS], parser) == [1, 0]
    # four of the five spans of the parse among the four asked for
    assert tree_agreement(texts[:1], [SPANS[:4]], parser) == [pytest.approx(2 * 4 / (5 + 4))]
    twice = [Span(0, 2, "S"), Span(0, 2, "S")]
    assert tree_agreement(texts[1:], [twice], parser) == [pytest.approx(2 / 3)]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: tag_agreement(["a"], [], tagger),
            ValueError,
            "targets='0 targets': expected one for each of the 1 texts",
        ),
        (lambda: tag_agreement(["a"], [[]], tagger), ValueError, r"targets\[0\]=\[\]: expected at least one tag"),
        (lambda: tree_agreement(["a"], [[]], parser), ValueError, "expected at least one span"),
        (lambda: span_occurs("a", [(0, 1, "S")], parser), TypeError, "texts must be a list of strings"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
