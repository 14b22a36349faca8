"""Copied spans against a search of every substring."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ornstein.domains.text.judges.copying import copied_spans
from ornstein.domains.text.words import split_words as words


def brute_force(text, training) -> int:
    """The longest run of ``text``, a string or a row of words, that stands in one of ``training``."""
    runs = {tuple(row[i:j]) for row in training for i in range(len(row)) for j in range(i + 1, len(row) + 1)}
    return max(
        (j - i for i in range(len(text)) for j in range(i + 1, len(text) + 1) if tuple(text[i:j]) in runs), default=0
    )


@settings(max_examples=150, deadline=None)
@given(*(st.lists(st.text("ab .é😀", max_size=14), min_size=1, max_size=5) for _ in range(2)))
def test_spans_are_those_of_an_exhaustive_search(texts, training):
    found = copied_spans(texts, training)
    for number, text in enumerate(texts):
        assert found.characters[number] == brute_force(text, training)
        assert found.words[number] == brute_force(words(text), [words(row) for row in training])
        span = found.spans[number]
        assert len(span) == found.characters[number]
        assert span in text
        assert any(span in row for row in training)
        assert found.exact[number] == any(words(text) == words(row) for row in training)


def test_spans_by_hand():
    found = copied_spans(
        ["We say the cat sat on a mat", "the dog ran.", "nothing"],
        ["Now the cat sat on the log", "The dog  ran .", "the dog ran"],
    )
    assert found.words == (4, 3, 0)
    assert found.spans[0] == " the cat sat on "
    assert found.spans[1] == "the dog ran"
    assert found.shares == (0.5, 0.75, 0)
    assert found.exact == (False, False, False)


def test_spans_do_not_reach_from_one_training_text_into_the_next():
    assert copied_spans(["abcd"], ["ab", "cd"]).characters == (2,)
    assert copied_spans(["one two"], ["one", "two"]).words == (1,)


def test_copies_are_exact_but_for_spacing():
    found = copied_spans(["The dog ran.", "the dog ran.", "The dog"], ["The  dog ran ."])
    assert found.exact == (True, False, False)
    assert found.exact_rate == pytest.approx(1 / 3)
    assert found.shares[0] == 1


def test_summary():
    figures = copied_spans(["a b c", "x a b"], ["a b c", "q"]).summary()
    assert figures == {
        "copied_words": 2.5,
        "copied_words_max": 3,
        "copied_characters": 4,  # "a b c" and "a b"
        "copied_share": pytest.approx((1 + 2 / 3) / 2),
        "exact_copies": 0.5,
    }


def test_empty_texts_copy_nothing():
    found = copied_spans(["", "a"], ["b", ""])
    assert found.words == found.characters == (0, 0)
    assert found.exact == (True, False)


def test_a_million_characters_in_seconds():
    """Cost near linear: a passage of 1,000 characters is found in a million, and the random rest shares a few."""
    draw = random.Random(0)
    training = ["".join(draw.choices("abcdefgh ", k=1000)) for _ in range(1000)]
    planted = "".join(draw.choices("abcdefgh ", k=500)) + training[500][10:900] + "".join(draw.choices("xyz", k=300))
    start = time.process_time()
    found = copied_spans([planted, "".join(draw.choices("abcdefgh ", k=1000))], training)
    assert time.process_time() - start < 30
    assert 890 <= found.characters[0] < 900
    assert 5 < found.characters[1] < 15


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([], ["a"]), ValueError, "texts holds 0 texts"),
        ((["a"], []), ValueError, "training holds 0 texts"),
        ((["a"], [b"a"]), TypeError, r"training\[0\] must be a string, got bytes"),
    ],
)
def test_bad_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        copied_spans(*arguments)
