"""The trigram of pocketsphinx: what it likes, what it does not know, and what happens without it."""

import math
import sys

import pytest

from ornstein.domains.text.judges.ngram import NgramModel
from ornstein.domains.text.judges.trigram import trigram_bits

ENGLISH = ["One of the best places to eat is near the river.", "I don't know what you want to do about it."]


def test_english_in_order_is_likelier_than_out_of_order():
    pytest.importorskip("pocketsphinx")
    good = trigram_bits(ENGLISH)
    bad = trigram_bits([" ".join(sorted(text.strip(".").split(), reverse=True)) for text in ENGLISH])
    assert 3 < good.bits_per_word < 6
    assert bad.bits_per_word > good.bits_per_word + 3
    assert good.unigram_entropy == pytest.approx(bad.unigram_entropy)
    assert good.unknown_rate == bad.unknown_rate == 0
    assert good.judge == "pocketsphinx trigram en-us.lm.bin"


def test_bits_are_those_of_the_model_word_by_word():
    """The library takes a word, then its context backwards: shown by a trigram that is common in one order alone."""
    sphinx = pytest.importorskip("pocketsphinx")
    log = sphinx.LogMath()
    model = sphinx.NGramModel(sphinx.Config(), log, f"{sphinx.get_model_path()}/en-us/en-us.lm.bin")

    def bits(*words: str) -> float:
        return -log.log_to_ln(model.prob(list(words))) / math.log(2)

    assert bits("the", "of", "one") < 2 < bits("one", "of", "the")
    wanted = bits("one", "<s>") + bits("of", "one", "<s>") + bits("the", "of", "one") + bits("</s>", "the", "of")
    assert trigram_bits(["One of, the!"]).bits_per_word == pytest.approx(wanted / 4)
    # an unknown word costs its price, and what follows is judged without it
    assert trigram_bits(["one qwzzx the"], unknown_bits=15).bits_per_word == pytest.approx(
        (bits("one", "<s>") + 15 + bits("the") + bits("</s>", "the")) / 4
    )


def test_unknown_words_are_priced_and_counted():
    pytest.importorskip("pocketsphinx")
    found = trigram_bits(["the pub costs 20"])
    assert found.unknown_rate == 0.25
    dearer = trigram_bits(["the pub costs 20"], unknown_bits=25)
    assert dearer.bits_per_word - found.bits_per_word == pytest.approx(5 / 5)  # four words and the end


def test_all_words_sum_to_about_one():
    sphinx = pytest.importorskip("pocketsphinx")
    with open(f"{sphinx.get_model_path()}/en-us/cmudict-en-us.dict") as file:
        words = {line.split()[0] for line in file if "(" not in line.split()[0]} | {"</s>"}
    log = sphinx.LogMath()
    model = sphinx.NGramModel(sphinx.Config(), log, f"{sphinx.get_model_path()}/en-us/en-us.lm.bin")
    total = sum(math.exp(log.log_to_ln(model.prob([word, "of", "one"]))) for word in words)
    assert total == pytest.approx(1, abs=0.01)


@pytest.fixture
def _without_pocketsphinx(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)


@pytest.mark.usefixtures("_without_pocketsphinx")
def test_without_the_library_the_caller_chooses():
    with pytest.raises(ImportError, match="pocketsphinx is needed to judge by its trigram: pip install pocketsphinx"):
        trigram_bits(ENGLISH)
    model = NgramModel(3).fit(ENGLISH)
    found = trigram_bits(ENGLISH, fallback=model)
    assert found == model.fluency(ENGLISH)
    assert found.judge == "Witten-Bell 3-gram of words"  # said, not silent


def test_bad_input_is_refused(tmp_path):
    pytest.importorskip("pocketsphinx")
    with pytest.raises(FileNotFoundError, match="give the file of one as model="):
        trigram_bits(ENGLISH, model=tmp_path / "none.lm")
    with pytest.raises(ValueError, match="texts holds no words"):
        trigram_bits(["..."])
    with pytest.raises(TypeError, match="texts must be a list of strings"):
        trigram_bits("one text")
