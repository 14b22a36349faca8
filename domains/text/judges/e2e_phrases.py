"""How texts of the E2E challenge say their attributes (Novikova, Dusek and Rieser 2017, 1706.09254).

Writers saw pictures of the attributes and put them in their own words, so the value itself stands in few texts: "less
than £20" in four of ten, and "yes" for ``familyFriendly`` in none. `E2E_PHRASES` lists what else is a plain statement
of the same value. Names have no entry; they occur as they are.
"""

from ornstein.domains.text.judges.phrases import Phrases

__all__ = ["E2E_PHRASES"]

_WHO = ("family", "families", "kid", "kids", "child", "childs", "children", "childrens")
_MANY = ("families", "kids", "children")
_COMPANY = (
    *("kid", "child", "family", *_MANY, "all families", "all ages", "young children", "the kids", "the children"),
    *("the family", "your family", "your kids", "your children", "the whole family", "the entire family"),
    *("all the family",),
)
_TAKES = (
    *("for", "to", "with", "bring", "welcome", "welcomes", "welcoming", "allow", "allows", "allowing", "permit"),
    *("accept", "accepts", "cater to", "caters to"),
)
_OPEN = ("are welcome", "are welcomed", "are allowed", "are permitted", "are accepted", "permitted", "accepted")
_CLOSED = (
    *("not allowed", "not welcome", "not permitted", "are not allowed", "are not welcome", "are not permitted"),
    *("arent allowed", "arent welcome", "are prohibited", "should not"),
)
_PLACES = ("restaurant", "pub", "coffee shop", "atmosphere", "environment", "establishment")
_NOT = (
    *("not", "no", "non", "never", "without", "nor", "neither", "isnt", "arent", "wasnt", "doesnt", "dont", "cant"),
    *("cannot", "wont", "un", "unfriendly", "unsuitable", "lacks", "discourages", "prohibits", "prohibited"),
)
_WELCOMING = (
    *(f"{who} {how}" for who in _WHO for how in ("friendly", "oriented", "welcome", "welcomed", "allowed")),
    *(f"{who} {how}" for who in _MANY for how in (*_OPEN, "will be welcome", "can come", "in mind")),
    *(f"{how} {who}" for who in _COMPANY for how in _TAKES),
    *("familyfriendly", "kidfriendly", "childfriendly", "family place", "family venue"),
    *(f"family {place}" for place in _PLACES),
)
_ADULT = (
    *("adults only", "adult only", "only adults", "only for adults", "for adults", "adult oriented"),
    *(f"adult {place}" for place in _PLACES),
    *(f"{who} unfriendly" for who in ("family", "kid", "kids", "child", "children")),
    *(f"no {who}" for who in _MANY),
    *(f"{who} {how}" for who in _MANY for how in _CLOSED),
)


def _stars(digit: str, word: str) -> Phrases:
    return Phrases(
        (
            *(f"{digit} {how}" for how in ("out of 5", "of 5", "5", "star", "stars", "out of five")),
            *(f"{word} {how}" for how in ("out of five", "of five", "out of 5", "star", "stars")),
        )
    )


E2E_PHRASES: dict[str, dict[str, Phrases]] = {
    "familyFriendly": {
        "yes": Phrases(_WELCOMING, deniers=_NOT),
        "no": Phrases(_ADULT, denied=_WELCOMING, deniers=_NOT),
    },
    "area": {
        "city centre": Phrases(
            ("city centre", "city center", "centre of the city", "center of the city", "centre of town",
             "center of town", "town centre", "town center", "centre of Cambridge", "city's centre")
        ),
        "riverside": Phrases(("riverside", "river", "riverbank", "river side", "waterside")),
    },
    "customer rating": {
        "1 out of 5": _stars("1", "one"),
        "3 out of 5": _stars("3", "three"),
        "5 out of 5": _stars("5", "five"),
        "low": Phrases(("low", "lowly", "poor", "poorly", "bad", "badly")),
        "average": Phrases(("average", "averagely", "mediocre", "okay", "decent")),
        "high": Phrases(("high", "highly", "excellent", "great")),
    },
    "priceRange": {
        "cheap": Phrases(("cheap", "cheaply", "inexpensive", "low cost", "low price", "low priced", "low prices")),
        "moderate": Phrases(
            ("moderate", "moderately", "average price", "average priced", "average prices", "mid range", "mid priced",
             "medium price", "medium priced", "reasonable", "reasonably")
        ),
        "high": Phrases(("high", "highly priced", "higher", "expensive", "pricey", "costly")),
        "less than £20": Phrases(
            ("less than £20", "under £20", "below £20", "up to £20", "less than 20", "under 20", "cheaper than £20",
             "less £20", "lower than £20")
        ),
        "£20-25": Phrases(
            ("£20 25", "£20 £25", "£20 to £25", "£20 to 25", "£20 and £25", "£20 and 25", "20 25", "20 to 25", "£25")
        ),
        "more than £30": Phrases(
            ("more than £30", "over £30", "above £30", "upwards of £30", "£30 or more", "£30 and up", "£30 and above",
             "more than 30", "over 30", "exceeding £30", "higher than £30", "starting at £30")
        ),
    },
    "eatType": {
        "coffee shop": Phrases(("coffee shop", "coffee shops", "coffee house", "coffeeshop", "coffee place")),
        "pub": Phrases(("pub", "pubs")),
        "restaurant": Phrases(("restaurant", "restaurants")),
    },
    "food": {
        "English": Phrases(("English", "British")),
        "Fast food": Phrases(("fast food", "fast foods", "fastfood")),
        "Chinese": Phrases(("Chinese",)),
        "French": Phrases(("French",)),
        "Indian": Phrases(("Indian",), aside=("Raja Indian Cuisine", "Raja Indian")),
        "Italian": Phrases(("Italian",)),
        "Japanese": Phrases(("Japanese", "sushi")),
    },
}  # fmt: skip
"""Phrases by attribute and value, as in ``attribute_occurs(texts, values, phrases=E2E_PHRASES["familyFriendly"])``."""
