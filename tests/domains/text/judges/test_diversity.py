"""Diversity against closed forms and sacrebleu's own scores."""

import math

import pytest

from ornstein.domains.text.judges.diversity import distinct_n, repetition, self_bleu, unigram_entropy


def test_entropy_of_known_distributions():
    assert unigram_entropy(["a b c d", "d c b a"]) == pytest.approx(2)
    assert unigram_entropy(["a a a a"]) == 0
    assert unigram_entropy(["a a b", "a c"]) == pytest.approx(-(0.6 * math.log2(0.6) + 0.4 * math.log2(0.2)))
    assert unigram_entropy(["ab", "cd"], units="character") == pytest.approx(2)


def test_entropy_per_text_tells_repetition_within_texts():
    texts = ["a a a a", "b b b b", "c c d d", ""]
    assert unigram_entropy(texts) > 1.5
    assert unigram_entropy(texts, per_text=True) == pytest.approx(1 / 3)


def test_distinct_counts_ngrams_within_texts():
    texts = ["a b a b", "b a"]
    assert distinct_n(texts, 1) == pytest.approx(2 / 6)
    assert distinct_n(texts, 2) == pytest.approx(2 / 4)  # ab, ba, ab; ba
    assert distinct_n(texts, 3) == 1
    assert distinct_n(["a b c d"], 2) == 1


def test_repetition_is_within_a_text():
    assert repetition(["a b c a b c"], 3) == pytest.approx(1 / 4)
    assert repetition(["a b c", "a b c"], 3) == 0
    assert repetition(["a a a a", "a b", "a"], 2) == pytest.approx((2 / 3 + 0) / 2)  # the third has no pair


def test_self_bleu_of_equal_and_of_different_texts():
    assert self_bleu(["the cat sat on the mat"] * 4) == pytest.approx(1)
    assert self_bleu(["a b c d e", "f g h i j", "k l m n o"]) < 0.2
    mixed = ["the cat sat on the mat", "the cat sat on the log", "a dog ran in the park"]
    assert 0.2 < self_bleu(mixed) < 1


def test_self_bleu_is_the_mean_of_sentence_scores():
    sacrebleu = pytest.importorskip("sacrebleu")
    texts = ["the cat sat on the mat", "the cat sat on the log today", "a dog ran in the big park"]
    scores = [
        sacrebleu.sentence_bleu(text, [other for other in texts if other != text], use_effective_order=True).score
        for text in texts
    ]
    assert self_bleu(texts) == pytest.approx(sum(scores) / 300)


def test_self_bleu_draws_by_seed():
    texts = [f"text {n} has word {n * n} and {n % 7} more" for n in range(60)]
    assert self_bleu(texts, size=10, seed=1) == self_bleu(texts, size=10, seed=1)
    assert self_bleu(texts, size=10, seed=1) != self_bleu(texts, size=10, seed=2)
    assert self_bleu(texts, size=60) == self_bleu(texts, size=1000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unigram_entropy([]), "texts holds 0 texts"),
        (lambda: unigram_entropy(["", " "]), "texts holds no words: all 2 texts are empty"),
        (lambda: distinct_n(["a b"], 0), "n=0"),
        (lambda: distinct_n(["a b", "c"], 3), "no text has 3 words"),
        (lambda: repetition(["a b"], 3), "no text has 3 words"),
        (lambda: self_bleu(["a"]), "texts holds 1 texts: expected at least 2"),
        (lambda: self_bleu(["a", "b"], size=1), "size=1"),
        (lambda: self_bleu(["a", "b"], 0), "n=0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    with pytest.raises(TypeError, match="texts must be a list of strings"):
        unigram_entropy("text")
