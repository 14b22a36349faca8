"""Whether texts say values: the matching rule, denials, and the phrases of the E2E challenge on real texts."""

import csv
import re
from collections import defaultdict

import pytest

from ornstein.domains.text.judges.e2e_phrases import E2E_PHRASES
from ornstein.domains.text.judges.phrases import Phrases, attribute_occurs


@pytest.mark.parametrize(
    ("text", "value", "says"),
    [
        ("The Punter is a PUB.", "pub", True),
        ("The Punter is public.", "pub", False),  # whole words
        ("A coffee-shop in town", "coffee shop", True),
        ("A coffee and a shop", "coffee shop", False),
        ("It costs £20-25 a head", "£20-25", True),
        ("It costs 20-25 a head", "£20-25", False),
        ("less than £20.", "less than £20", True),
        ("less than £200.", "less than £20", False),
        ("Brown’s Cambridge", "Browns Cambridge", True),
        ("near Cafe\u0301 Rouge", "Café Rouge", True),  # the accent apart, or not
        ("", "pub", False),
    ],
)
def test_matching_rule(text, value, says):
    assert attribute_occurs([text], [value]) == [says]


def test_each_text_has_its_own_value_and_phrases_may_stand_for_it():
    texts = ["A pub by the river", "A cafe", "A pub"]
    values = ["riverside", "coffee shop", "pub"]
    assert attribute_occurs(texts, values) == [False, False, True]
    assert attribute_occurs(
        texts, values, phrases={"riverside": ["by the river"], "coffee shop": Phrases(("cafe",))}
    ) == [
        True,
        True,
        True,
    ]


def test_denials_and_names():
    rule = Phrases(("cheap",), denied=("dear",), deniers=("not", "isn't"), aside=("Cheap Street",), window=2)

    def says(text: str) -> bool:
        return attribute_occurs([text], ["c"], phrases={"c": rule})[0]

    assert says("It is cheap.")
    assert not says("It is not cheap.")
    assert not says("It isn’t very cheap.")
    assert says("It is not far and cheap.")  # the denial is outside the window
    assert says("It is not dear.")
    assert not says("It is dear.")
    assert not says("It is in Cheap Street.")
    assert says("Cheap, in Cheap Street.")


def test_scripts_without_spaces_by_characters():
    assert attribute_occurs(["这家酒吧在河边"], ["河边"], units="character") == [True]
    assert attribute_occurs(["这家酒吧在河边"], ["河边"]) == [False]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It is family-friendly.", "yes"),
        ("A kid friendly pub", "yes"),
        ("Children are welcome.", "yes"),
        ("It is not family friendly.", "no"),
        ("A non-family-friendly pub", "no"),
        ("It isn't child-friendly", "no"),
        ("They do not allow children", "no"),
        ("Adults only!", "no"),
        ("Kids are not allowed", "no"),
        ("A pub near the river", None),
        ("A friendly family runs it", None),
    ],
)
def test_family_friendly(text, answer):
    rules = E2E_PHRASES["familyFriendly"]
    assert [value for value in ("yes", "no") if attribute_occurs([text], [value], phrases=rules)[0]] == (
        [answer] if answer else []
    )


def test_phrases_find_the_values_that_real_writers_meant(external_data):
    """Writers leave out about a tenth of the attributes: most that are there must be found, and hardly others."""
    texts: dict = defaultdict(list)
    with open(external_data("e2e_nlg") / "testset_w_refs.csv", encoding="utf-8-sig", newline="") as file:
        for row in list(csv.DictReader(file))[::4]:
            for name, value in re.findall(r"(\w[\w ]*)\[(.*?)\]", row["mr"]):
                texts[name, value].append(row["ref"])

    def rate(name: str, value: str, said: str) -> float:
        found = attribute_occurs(texts[name, value], [said] * len(texts[name, value]), phrases=E2E_PHRASES.get(name))
        return sum(found) / len(found)

    assert rate("familyFriendly", "yes", "yes") > 0.8
    assert rate("familyFriendly", "no", "no") > 0.7
    assert rate("familyFriendly", "yes", "no") < 0.05
    assert rate("familyFriendly", "no", "yes") < 0.1
    shops = [value for value in E2E_PHRASES["eatType"] if ("eatType", value) in texts]
    assert len(shops) >= 2
    for value in shops:
        assert rate("eatType", value, value) > 0.9
    for value in set(E2E_PHRASES["food"]) - {"Indian"}:
        if ("food", value) in texts:
            assert rate("food", value, "Indian") < 0.02  # "Raja Indian Cuisine" is a neighbour's name


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: attribute_occurs(["a"], []), ValueError, "values holds 0 texts"),
        (
            lambda: attribute_occurs(["a"], ["b", "c"]),
            ValueError,
            "values='2 values': expected one for each of the 1 texts",
        ),
        (lambda: attribute_occurs(["a"], ["!"]), ValueError, "phrase='!': expected at least one word"),
        (lambda: attribute_occurs("a", ["a"]), TypeError, "texts must be a list"),
        (lambda: Phrases(), ValueError, "at least one phrase"),
        (lambda: Phrases(("",)), ValueError, "phrases that are not empty"),
        (lambda: Phrases("pub"), TypeError, "accept='pub': expected a tuple of strings"),
        (lambda: Phrases(denied=("a",)), ValueError, "words that deny"),
        (lambda: Phrases(("a",), window=0), ValueError, "window=0"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
