"""Sequence scores against hand counts and the libraries called directly."""

import pytest

from ornstein.domains.text.judges.sequence import sequence_scores

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")

HYPOTHESES = ["the cat sat on the mat", "a dog ran in the big park today"]
REFERENCES = [["the cat sat on a mat", "a cat sat on the mat"], "a dog ran in the small park today"]


def test_perfect_and_hopeless_texts():
    assert list(sequence_scores(HYPOTHESES, HYPOTHESES).values()) == pytest.approx([1] * 5)
    assert max(sequence_scores(HYPOTHESES, ["xx yy", "zz ww"]).values()) < 0.05


def test_bleu_with_as_many_references_as_there_are():
    import sacrebleu

    found = sequence_scores(HYPOTHESES, REFERENCES)["bleu"]
    wanted = sacrebleu.corpus_bleu(HYPOTHESES, [[REFERENCES[0][0], REFERENCES[1]], [REFERENCES[0][1], None]])
    assert found == pytest.approx(wanted.score / 100)
    # the second reference adds the pairs "on the" and "the mat" to three of the first five
    assert wanted.counts[:2] == [12, 10]
    assert found > sequence_scores(HYPOTHESES, [REFERENCES[0][0], REFERENCES[1]])["bleu"]


def test_rouge_by_hand_takes_the_nearest_reference():
    found = sequence_scores(["the cat sat"], [["the cat ran off", "the cat sat down"]])
    assert found["rouge1"] == pytest.approx(2 * 3 / (3 + 4))
    assert found["rouge2"] == pytest.approx(2 * 2 / (2 + 3))
    assert found["rougeL"] == pytest.approx(2 * 3 / (3 + 4))
    assert sequence_scores(["b a"], ["a b"])["rougeL"] == pytest.approx(0.5)
    assert sequence_scores(["b a"], ["a b"])["rouge1"] == 1


def test_exact_match_leaves_spacing_out_and_case_in():
    given, wanted = ["a  b ", "A b", "a"], [["x", "a b"], "a b", "b"]
    assert sequence_scores(given, wanted)["exact_match"] == pytest.approx(1 / 3)
    assert sequence_scores(given, wanted, lowercase=True)["exact_match"] == pytest.approx(2 / 3)


def test_scripts_that_rouge_does_not_read_are_refused_or_split():
    given, wanted = ["今天天气很好"], ["今天天气不好"]
    with pytest.raises(ValueError, match=r"references\[0\]='今天天气不好' has no word of a-z and 0-9.*rouge_units"):
        sequence_scores(given, wanted)
    found = sequence_scores(given, wanted, tokenize="zh", rouge_units="character")
    assert found["rouge1"] == pytest.approx(5 / 6)
    assert 0.3 < found["bleu"] < 1


def test_empty_texts_score_nothing():
    assert set(sequence_scores([""], ["a b c"]).values()) == {0.0}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([], []), ValueError, "hypotheses holds 0 texts"),
        ((["a"], []), ValueError, "0 references were given for 1 hypotheses"),
        ((["a"], [[]]), ValueError, r"references\[0\] holds 0 texts"),
        ((["a"], "a"), TypeError, "references must be a list, got str"),
        ((["a"], [[3]]), TypeError, r"references\[0\]\[0\] must be a string, got int"),
        ((["a"], [None]), TypeError, r"references\[0\] must be a list of strings, got NoneType"),
        (("a", ["a"]), TypeError, "hypotheses must be a list of strings"),
    ],
)
def test_bad_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        sequence_scores(*arguments)
