"""Success of controls: rates with their intervals, lengths, and text given around gaps."""

import numpy as np
import pytest
from scipy.stats import binomtest

from ornstein.domains.text.judges.control import Rate, control_success, infill_intact, length_within, wilson_interval
from ornstein.domains.text.words import WordTokenizer


@pytest.mark.parametrize(("successes", "count"), [(0, 10), (10, 10), (3, 7), (81, 100), (1, 1), (500, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_intervals_are_those_of_scipy(successes, count, confidence):
    peer = binomtest(successes, count).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, count, confidence=confidence) == pytest.approx((peer.low, peer.high), abs=1e-12)


def test_success_of_one_and_of_several_controls():
    one = control_success([True, True, False, True])
    assert one == {"all": Rate(0.75, *wilson_interval(3, 4), 4)}
    both = control_success({"value": [True, True, False, True], "length": np.array([True, False, False, True])})
    assert {name: rate.rate for name, rate in both.items()} == {"value": 0.75, "length": 0.5, "all": 0.5}
    assert both["all"].low < 0.5 < both["all"].high


def test_length_within_a_tolerance():
    texts = ["one two three", "one two.", ""]
    assert length_within(texts, [5, 6, 2]) == [True, False, True]  # the full stop is a word
    assert length_within(texts, [3, 3, 0], tolerance=0) == [True, True, True]
    assert length_within(["abc"], [3], tolerance=0, units="character") == [True]


def test_lengths_are_those_of_the_word_tokenizer():
    texts = ["It's £20-25, near the city-centre (5 out of 5).", "今天 3.5 km!", "Cafe\u0301", ""]
    tokens = [len(WordTokenizer.fit(["a"]).encode_text(text)) for text in texts]
    assert tokens == [13, 5, 1, 0]
    assert length_within(texts, tokens, tolerance=0) == [True] * 4


@pytest.mark.parametrize(
    ("text", "template", "kept"),
    [
        ("The pub serves lunch by the river.", ["The pub", None, "by the river."], True),
        ("The pub by the river.", ["The pub", None, "by the river."], True),  # an empty gap
        ("The bar serves lunch by the river.", ["The pub", None, "by the river."], False),
        ("Yes: The pub serves lunch by the river.", ["The pub", None, "by the river."], False),  # not from the start
        ("The pub by the river. Yes.", ["The pub", None, "by the river."], False),  # nor to the end
        ("The pub serves lunch.", ["The pub", 2, "."], True),
        ("The pub serves good lunch.", ["The pub", 2, "."], False),
        ("a b a b c", [None, "a b", "c"], True),  # the first place of a piece may be the wrong one
        ("a x b y c", ["a", None, "b", 1, "c"], True),
        ("a b c", ["a", None, "c", None, "b", None], False),  # in order
        ("b of it", [None, "b", None], True),
        ("The pub", ["the pub"], False),
        ("The   pub .", ["The pub."], True),
        ("", [None], True),
        ("", ["a", None], False),
    ],
)
def test_given_text_stays(text, template, kept):
    assert infill_intact([text], [template]) == [kept]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: control_success([]), ValueError, "expected at least one text"),
        (lambda: control_success({}), ValueError, "expected at least one control"),
        (lambda: control_success([0.5]), TypeError, "hold 0.5 at 0: expected True or False"),
        (lambda: control_success({"a": [True], "b": []}), ValueError, "as many outcomes of each control"),
        (lambda: control_success({"all": [True]}), ValueError, "another name"),
        (lambda: wilson_interval(2, 1), ValueError, "successes=2: expected from 0 to 1"),
        (lambda: wilson_interval(0, 0), ValueError, "count=0"),
        (lambda: wilson_interval(0, 1, confidence=1.0), ValueError, "confidence=1.0"),
        (lambda: length_within(["a"], [1, 2]), ValueError, "targets='2 targets'"),
        (lambda: length_within(["a"], [1], tolerance=-1), ValueError, "tolerance=-1"),
        (lambda: length_within(["a"], [-1]), ValueError, "targets=-1"),
        (lambda: infill_intact(["a"], ["a"]), TypeError, r"templates\[0\]='a': expected a list"),
        (lambda: infill_intact(["a"], [[]]), ValueError, "at least one piece"),
        (lambda: infill_intact(["a"], [["a", 1.5]]), TypeError, "holds 1.5"),
        (lambda: infill_intact(["a"], [["a", -1]]), ValueError, "gaps of at least 0 words"),
        (lambda: infill_intact(["a"], []), ValueError, "templates='0 templates'"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
