"""The n-gram model against its formula by hand, a brute-force one, and nltk."""

import csv
import math
import time
from collections import Counter
from fractions import Fraction

import pytest

from ornstein.domains.text.judges.diversity import unigram_entropy
from ornstein.domains.text.judges.ngram import Mark, NgramModel

TEXTS = [
    "the cat sat on the mat",
    "the dog sat on the log",
    "a cat and a dog",
    "the the the",
    "on the mat the cat sat.",
]
JUDGED = ["the cat sat on the log", "a bird sat on the dog", "", "dog the on"]


def brute_force(texts: list[str], order: int, row: list, place: int, vocabulary: int) -> Fraction:
    """The recursion of the module's text, read off the padded texts each time."""
    rows = [[Mark.START] * (order - 1) + text.replace(".", " .").split() + [Mark.END] for text in texts]
    p = Fraction(1, vocabulary)
    for size in range(order):
        context = row[place - size : place]
        after = Counter(
            other[i] for other in rows for i in range(order - 1, len(other)) if other[i - size : i] == context
        )
        if after:
            p = (after[row[place]] + len(after) * p) / (after.total() + len(after))
    return p


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_bits_are_those_of_the_formula_in_exact_fractions(order):
    model = NgramModel(order).fit(TEXTS)
    for text in JUDGED:
        row = [Mark.START] * (order - 1) + text.split() + [Mark.END]
        bits = -sum(
            math.log2(brute_force(TEXTS, order, row, place, len(model.vocabulary)))
            for place in range(order - 1, len(row))
        )
        assert model.bits(text) == pytest.approx(bits, rel=1e-12)


def test_a_bigram_by_hand():
    """Counts of "a b" and "a": V = a, b, unknown, end; p(a) = (2 + 3/4) / (5 + 3), c(start) = 2, one follower."""
    model = NgramModel(2).fit(["a b", "a"])
    assert model.probability("a") == pytest.approx(2.75 / 8)
    assert model.probability("a", [Mark.START]) == pytest.approx((2 + 2.75 / 8) / 3)
    assert model.probability("b", ["a"]) == pytest.approx((1 + 2 * (1.75 / 8)) / 4)
    assert model.probability("never seen", ["a"]) == pytest.approx(2 * 0.75 / 8 / 4)


@pytest.mark.parametrize("units", ["word", "character"])
@pytest.mark.parametrize("min_count", [1, 2])
def test_probabilities_sum_to_one_after_any_context(units, min_count):
    model = NgramModel(4, units, min_count).fit(TEXTS)
    seen = [unit for unit in model.vocabulary if isinstance(unit, str)][:4]
    contexts = [[], [Mark.START] * 3, *([unit] for unit in seen), seen, ["never", "seen"], [Mark.UNKNOWN, seen[0]]]
    for context in contexts:
        distribution = model.distribution(context)
        assert sum(distribution.values()) == pytest.approx(1, abs=1e-12)
        assert min(distribution.values()) > 0
    assert set(model.vocabulary) >= {Mark.UNKNOWN, Mark.END}
    assert Mark.START not in model.vocabulary


def test_nltk_gives_the_same_probabilities():
    lm = pytest.importorskip("nltk.lm")
    smoothing = pytest.importorskip("nltk.lm.smoothing")
    order, texts = 3, TEXTS[:4]
    model = NgramModel(order).fit(texts)

    class ToUniform(smoothing.WittenBell):
        """nltk ends at the shares of words; ours lean on the uniform distribution."""

        def unigram_score(self, word):
            counts, size = self.counts.unigrams, len(model.vocabulary)
            return (counts[word] + len(counts) / size) / (counts.N() + len(counts))

    peer = lm.models.InterpolatedLanguageModel(ToUniform, order)
    rows = [["<s>"] * (order - 1) + text.split() + ["</s>"] for text in texts]
    runs = [[tuple(row[i - size : i + 1]) for i in range(order - 1, len(row)) for size in range(order)] for row in rows]
    peer.fit(runs, vocabulary_text=[word for row in rows for word in row])
    for row in [*rows, ["<s>", "<s>", "the", "mat", "sat", "</s>"]]:
        marks = [{"<s>": Mark.START, "</s>": Mark.END}.get(word, word) for word in row]
        for place in range(order - 1, len(row)):
            context = slice(place - order + 1, place)
            assert model.probability(marks[place], marks[context]) == pytest.approx(
                peer.score(row[place], row[context]), rel=1e-12
            )


def test_bits_per_word_perplexity_and_ends():
    model = NgramModel(3).fit(TEXTS)
    words = sum(len(text.split()) for text in JUDGED) + len(JUDGED)  # each end is a unit
    assert model.bits_per_word(JUDGED) == pytest.approx(sum(map(model.bits, JUDGED)) / words)
    assert model.perplexity(JUDGED) == pytest.approx(2 ** model.bits_per_word(JUDGED))
    assert model.bits("") == pytest.approx(-math.log2(model.probability(Mark.END, [Mark.START] * 2)))


def test_long_unigrams_reach_the_entropy_of_their_source():
    """A text of n words from a source costs its entropy, the vocabulary being small beside n."""
    text = "a b a c " * 5000
    model = NgramModel(1).fit([text])
    assert model.bits_per_word([text]) == pytest.approx(unigram_entropy([text]), abs=2e-3)
    assert NgramModel(3).fit([text]).bits_per_word([text]) < 0.01  # and nothing where the next word is known


def test_unknown_units_are_one_class_and_counted():
    model = NgramModel(2, min_count=2).fit(["x y", "x z", "x y"])  # z is seen once
    assert set(model.vocabulary) == {"x", "y", Mark.UNKNOWN, Mark.END}
    assert model.probability("z", ["x"]) == model.probability(Mark.UNKNOWN, ["x"]) == model.probability("qq", ["x"])
    assert model.probability("z", ["x"]) > NgramModel(2).fit(["x y", "x y"]).probability("z", ["x"])
    assert model.unknown_rate(["x z", "y y"]) == 0.25
    assert model.unknown_rate([""]) == 0


def test_words_do_not_depend_on_how_a_tokenizer_joined_them():
    model = NgramModel(3).fit(["It's near the city-centre, by the pub."])
    assert model.bits("It's near the city-centre , by the pub .") == model.bits(
        "It's near the city-centre, by the pub."
    )


def test_text_that_spells_marks_is_text():
    model = NgramModel(2, str.split).fit(["a </s> <s> Mark.END"])
    assert {"</s>", "<s>", "Mark.END", Mark.END} <= set(model.vocabulary)
    assert sum(model.distribution(["</s>"]).values()) == pytest.approx(1)


def test_fluency_has_entropy_beside_it():
    model = NgramModel(2).fit(TEXTS)
    dull, varied = model.fluency(["the the the"] * 5), model.fluency(JUDGED)
    assert dull.unigram_entropy == 0
    assert varied.unigram_entropy == unigram_entropy(JUDGED)
    assert varied.bits_per_word == model.bits_per_word(JUDGED)
    assert varied.judge == "Witten-Bell 2-gram of words"


def test_a_second_fit_forgets_the_first():
    again = NgramModel(3).fit(["other words"]).fit(TEXTS)
    assert again.bits_per_word(JUDGED) == NgramModel(3).fit(TEXTS).bits_per_word(JUDGED)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NgramModel(0), ValueError, "order=0: expected a whole number of at least 1"),
        (lambda: NgramModel(2, min_count=0), ValueError, "min_count=0"),
        (lambda: NgramModel(2, "syllable"), ValueError, "units='syllable': expected 'word', 'character' or a function"),
        (lambda: NgramModel().fit([]), ValueError, "texts holds 0 texts: expected at least 1"),
        (lambda: NgramModel().fit("one text"), TypeError, "texts must be a list of strings, got str"),
        (lambda: NgramModel().fit(["a", 3]), TypeError, r"texts\[1\] must be a string, got int"),
        (lambda: NgramModel().bits("a"), ValueError, "call fit"),
        (lambda: NgramModel().fit(["a"]).bits(None), TypeError, r"text\[0\] must be a string, got NoneType"),
        (lambda: NgramModel().fit(["a"]).probability(Mark.START), ValueError, "a start never does"),
        (lambda: NgramModel().fit(["a"]).bits_per_word([]), ValueError, "texts holds 0 texts"),
        (lambda: NgramModel().fit(["a"]).fluency([" "]), ValueError, "texts holds no words"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_thousands_of_real_sentences_in_seconds(external_data):
    with open(external_data("e2e_nlg") / "testset_w_refs.csv", encoding="utf-8-sig", newline="") as file:
        texts = [row["ref"] for row in csv.DictReader(file)]
    start = time.process_time()
    model = NgramModel(5).fit(texts[:2300])
    seen, new = model.bits_per_word(texts[:2300]), model.bits_per_word(texts[2400:])
    assert time.process_time() - start < 10
    assert seen < 2 < new < 6  # bits a word; known sentences cost little
