"""All figures at once: each kind of bad samples is told by the figure that is for it."""

import random
import subprocess
import sys

import pytest

from ornstein.domains.text import judges
from ornstein.domains.text.judges.copying import copied_spans
from ornstein.domains.text.judges.mauve import mauve_score
from ornstein.domains.text.judges.ngram import NgramModel
from ornstein.domains.text.judges.report import judge_texts

PLACES, FOODS = ("pub", "restaurant", "bar", "inn"), ("fish", "pasta", "curry", "soup", "tea", "bread", "pie")


def sentences(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    ends = ("by the river.", "in the city centre.", "near the old station.", "at a low price.")
    return [
        f"The {draw.choice(PLACES)} serves {draw.choice(FOODS)} and {draw.choice(FOODS)} {draw.choice(ends)}"
        for _ in range(count)
    ]


REFERENCE, TRAINING = sentences(0, 200), sentences(1, 150)


def test_real_samples_are_at_the_floor_and_bad_ones_are_told():
    real = judge_texts(sentences(2, 100), REFERENCE, TRAINING)
    assert real["texts_compared"] == 100
    assert real["self_bleu"] == pytest.approx(real["real_self_bleu"], abs=0.1)
    assert real["unigram_entropy"] == pytest.approx(real["real_unigram_entropy"], abs=0.1)
    assert min(real["mauve"], real["real_mauve"]) > 0.6
    assert all(name in real for name in ("distinct_1", "distinct_2", "distinct_3", "repetition", "unknown_rate"))

    draw = random.Random(3)
    shuffled = judge_texts([" ".join(draw.sample(t.split(), len(t.split()))) for t in sentences(2, 100)], REFERENCE)
    assert shuffled["bits_ratio"] > 1.5
    assert shuffled["mauve"] < real["mauve"] - 0.1
    assert "copied_words" not in shuffled  # without training texts

    same = judge_texts([REFERENCE[0]] * 100, REFERENCE, measures=("fluency", "diversity", "mauve"))
    assert same["bits_ratio"] < 1.1  # fluent
    assert same["unigram_entropy"] < real["unigram_entropy"] - 1  # and dull
    assert same["self_bleu"] == pytest.approx(1)
    assert same["distinct_2"] < 0.5 * real["distinct_2"]
    assert same["mauve"] < 0.05

    copies = judge_texts(TRAINING[:100], REFERENCE, TRAINING, measures=("copying",))
    assert copies["exact_copies"] == copies["copied_share"] == 1
    assert copies["real_exact_copies"] < 0.5


def test_bits_of_new_real_texts_are_those_of_the_reference():
    """Two thousand sentences of about 17 bits, give or take 4 each: the ratio is 1 within 1 % (two errors)."""
    found = judge_texts(sentences(2, 2000), sentences(0, 2000), measures=["fluency"])
    assert found["bits_ratio"] == pytest.approx(1, abs=0.01)
    assert found["unigram_entropy"] == pytest.approx(found["real_unigram_entropy"], abs=0.02)


def test_figures_are_those_of_the_judges():
    samples, held = sentences(2, 60), sentences(3, 60)
    found = judge_texts(samples, REFERENCE[:60], TRAINING, heldout_texts=held)
    model = NgramModel(5).fit(REFERENCE[:60])
    assert found["bits_per_word"] == pytest.approx(model.bits_per_word(samples))
    assert found["real_bits_per_word"] == pytest.approx(model.bits_per_word(held))
    assert found["bits_ratio"] == pytest.approx(model.bits_per_word(samples) / model.bits_per_word(held))
    assert found["mauve"] == mauve_score(samples, REFERENCE[:60]).value
    assert found["real_mauve"] == mauve_score(held, REFERENCE[:60]).value
    assert found["copied_words"] == copied_spans(samples, TRAINING).summary()["copied_words"]
    assert found["real_exact_copies"] == copied_spans(held, TRAINING).exact_rate
    assert found == judge_texts(samples, REFERENCE[:60], TRAINING, heldout_texts=held)


def test_halves_keep_groups_together():
    """Each text has a twin: halves that part the twins know them, halves of whole groups do not."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=12)) for _ in range(40)]
    pairs = [text for text in texts for _ in range(2)]
    groups = [number for number in range(40) for _ in range(2)]
    apart = [*texts, *texts]  # twins far from each other: blocks part them, groups know them
    kept = judge_texts(texts, pairs, groups=groups, measures=["fluency"])
    by_group = judge_texts(texts, apart, groups=list(range(40)) * 2, measures=["fluency"])
    parted = judge_texts(texts, apart, measures=["fluency"])
    assert by_group["real_bits_per_word"] == pytest.approx(kept["real_bits_per_word"], rel=0.02)
    assert parted["real_bits_per_word"] < 0.9 * by_group["real_bits_per_word"]


def test_lower_case_on_request():
    loud = [text.upper() for text in sentences(2, 40)]
    assert judge_texts(loud, REFERENCE, measures=["fluency"])["unknown_rate"] > 0.5
    assert judge_texts(loud, REFERENCE, measures=["fluency"], lowercase=True)["unknown_rate"] == 0


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([], REFERENCE), {}, ValueError, "samples holds 0 texts: expected at least 2"),
        ((["a"] * 30, ["b"]), {}, ValueError, "reference_texts holds 1 texts"),
        ((["a"] * 19, REFERENCE), {}, ValueError, "19 samples: 'mauve' needs at least 20; give more"),
        ((["a"] * 30, REFERENCE[:30]), {}, ValueError, "15 real texts on the smaller side: 'mauve' needs at least 20"),
        ((["a b"] * 3, ["a", "b"]), {"measures": ["diversity"]}, ValueError, "1 real texts on the smaller side"),
        (("text", REFERENCE), {}, TypeError, "samples must be a list of strings, got str"),
        ((REFERENCE, [1, 2]), {}, TypeError, r"reference_texts\[0\] must be a string, got int"),
        ((REFERENCE, REFERENCE, [None]), {}, TypeError, r"training_texts\[0\] must be a string"),
        ((REFERENCE, REFERENCE), {"measures": ["taste"]}, ValueError, r"measures=\['taste'\]: expected some of"),
        ((REFERENCE, REFERENCE), {"measures": []}, ValueError, r"measures=\[\]"),
        ((REFERENCE, REFERENCE), {"groups": [1]}, ValueError, "groups='1 groups': expected one for each"),
        ((REFERENCE, REFERENCE), {"groups": [1] * 200}, ValueError, "at least two, to halve"),
        ((REFERENCE, REFERENCE), {"groups": [1], "heldout_texts": REFERENCE}, ValueError, "none beside heldout_texts"),
        ((["", ""], REFERENCE), {"measures": ["fluency"]}, ValueError, "texts holds no words"),
    ],
)
def test_bad_input_is_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        judge_texts(*arguments, **options)


def test_names_are_loaded_at_first_use():
    assert set(dir(judges)) == set(judges.__all__)
    for name in judges.__all__:
        assert getattr(judges, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        judges.nothing  # noqa: B018
    code = "import sys, ornstein.domains.text.judges.report; print({'sklearn', 'sacrebleu'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
