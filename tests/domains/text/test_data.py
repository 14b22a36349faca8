"""The data modules: splits, tokenizers learned, batches, what is counted, and the data sets at hand."""

import csv
import json
import random
import re

import pytest
import torch

from ornstein.core.config import from_config, to_config
from ornstein.core.sizes import SizeDistribution
from ornstein.domains.text.data import Split, TextReference, TokenData, TokenizerRecipe, split_texts
from ornstein.domains.text.packing import Pack, Pad
from ornstein.domains.text.reading import Texts
from ornstein.domains.text.sources import (
    E2EData,
    PydocData,
    ShakespeareData,
    TextData,
    WikiTextData,
    linearise,
    parse_meaning,
)
from ornstein.domains.text.tokenizers import CharacterTokenizer
from ornstein.domains.text.words import WordTokenizer

ANIMALS = {
    "text": [f"the {animal} is {size}" for animal in ("cat", "dog", "cow") for size in ("big", "small")] * 5,
    "size": ["big", "small"] * 15,
    "animal": ["cat", "cat", "dog", "dog", None, None] * 5,
}


def animals(**options) -> TextData:
    settings = {"tokenizer": "word", "length": 6, "packing": "pad", "attributes": ("size", "animal"), "batch_size": 8}
    return TextData(ANIMALS, **{**settings, **options})


# ---- splits ----


def test_documents_are_split_by_the_seed_and_kept_in_order():
    texts = Texts([str(i) for i in range(50)], attributes={"odd": [str(i % 2) for i in range(50)]})
    train, heldout = split_texts(texts, 0.2, seed=0)
    assert (len(train), len(heldout)) == (40, 10)
    assert sorted(train.texts + heldout.texts, key=int) == texts.texts
    assert heldout.texts == sorted(heldout.texts, key=int)
    assert heldout.attributes["odd"] == [str(int(text) % 2) for text in heldout.texts]
    assert split_texts(texts, 0.2, seed=0)[1] == heldout != split_texts(texts, 0.2, seed=1)[1]


def test_a_single_document_is_cut_at_its_end():
    train, heldout = split_texts(Texts(["0123456789"]), 0.3, 0)
    assert (train.texts, heldout.texts) == (["0123456"], ["789"])


@pytest.mark.parametrize(("texts", "holdout"), [(["a", "b"], 0.1), (["ab"], 0.1), (["a"] * 9, 0.0), (["a"] * 9, 1.0)])
def test_a_split_needs_two_sides(texts, holdout):
    with pytest.raises(ValueError, match="hold"):
        split_texts(Texts(texts), holdout, 0)


# ---- batches ----


def test_padded_batches_are_documents_with_their_attributes():
    data = animals()
    tokenizer = data.tokenizer
    assert data.attributes == {"size": ("big", "small"), "animal": ("cat", "dog")}
    batch = next(iter(data.loader(steps=1)))
    assert batch["tokens"].shape == batch["mask"].shape == (8, 6)
    assert batch["mask"].sum(1).tolist() == [4] * 8
    for tokens, mask, size, animal in zip(*(batch[name] for name in ("tokens", "mask", "size", "animal"))):
        words = tokenizer.decode(tokens[mask]).split()
        assert words[3] == ("big", "small")[size]
        assert words[1] == ("cat", "dog", "cow")[animal]  # -1, none, is the cow
    assert data.lengths == (0, 0, 0, 0, 27)
    assert SizeDistribution(data.lengths).largest == 4


def test_windows_are_pieces_of_the_text_and_change_with_the_step():
    letters = random.Random(0).choices("abcdefgh", k=2000)
    data = TextData(["".join(letters)], length=16, batch_size=32, holdout=0.25)
    train, heldout = data.reference().train[0], data.reference().heldout[0]
    assert (train + heldout, len(train)) == ("".join(letters), 1500)
    batches = [batch["tokens"] for batch in data.loader(steps=8, seed=1)]
    pieces = [data.tokenizer.decode(row) for batch in batches for row in batch]
    assert all(len(piece) == 16 and piece in train for piece in pieces)
    assert len({train.index(piece) % 16 for piece in pieces}) == 16
    resumed = next(iter(data.loader(steps=8, seed=1, start=5)))["tokens"]
    assert torch.equal(resumed, batches[5])
    # Held-out rows hold each character once.
    rows = data.heldout_dataset()
    assert "".join(data.tokenizer.decode(rows[i]["tokens"][rows[i]["mask"]]) for i in range(len(rows))) == heldout
    assert data.validation_dataset() is rows


def test_workers_give_the_same_batches():
    data, others = animals(num_workers=0), animals(num_workers=2)
    for one, two in zip(data.loader(3), others.loader(3)):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_packed_batches():
    data = animals(packing=Pack(segments=True, rest="drop"), attributes=(), length=10)
    batch = next(iter(data.loader(1)))
    assert set(batch) == {"tokens", "segments"}
    boundary = data.tokenizer.boundary
    assert ((batch["tokens"] == boundary).sum(1) >= 1).all()
    total = 27 * 4 + 26
    assert (data.report().rows, data.report().dropped) == divmod(total, 10)
    assert "mask" in data.heldout_dataset()[0]


def test_sequence_to_sequence_batches():
    rows = {"text": ["b a", "c", "a a a"], "src": ["a b", "c c", "a"]}
    data = TextData(rows, rows, tokenizer="word", length=6, packing="pad", source="src")
    item = data.train_dataset()[0]
    assert data.tokenizer.decode(item["tokens"][item["given"]]) == "a b"
    assert data.tokenizer.decode(item["tokens"][item["mask"] & ~item["given"]]) == "b a"
    assert data.lengths == (0, 1, 1, 1)
    assert data.reference().train_sources == ["a b", "c c", "a"]
    with pytest.raises(ValueError, match="a source belongs to one document"):
        TextData(rows, source="src", holdout=0.5).train_dataset()


def test_what_is_unknown_unseen_or_left_out_is_counted():
    train = {"text": ["red fox", "", "red hen"], "kind": ["f", "f", "h"]}
    heldout = {"text": ["blue fox", "red cow"], "kind": ["f", "c"]}
    data = TextData(train, heldout, tokenizer="word", length=4, packing="pad", attributes=["kind"], missing="skip")
    report, judged = data.report(), data.report("heldout")
    assert (report.documents, report.tokens, report.unknown, report.unseen) == (2, 4, 0, {})
    assert report.left_out == {"rows without text": 1}
    assert (judged.unknown, judged.unseen, judged.left_out) == (2, {"kind": 1}, {})
    assert [int(data.heldout_dataset()[i]["kind"]) for i in range(2)] == [0, -1]
    with pytest.raises(ValueError, match="no part 'validation'"):
        data.report("validation")


# ---- tokenizers ----


def test_tokenizers_are_learned_from_training_texts_alone_but_for_characters():
    train, heldout = ["ab ab cd"], ["ef"]
    words = TextData(train, heldout, tokenizer="word", length=2)
    assert words.tokenizer == WordTokenizer(("ab", "cd"))
    assert TextData(train, heldout, length=2).tokenizer == CharacterTokenizer(" abcdef")
    small = TextData(["ab ab AB cd"], heldout, TokenizerRecipe("word", size=1, lower=True), length=2)
    assert small.tokenizer == WordTokenizer(("ab",), lower=True)
    own = CharacterTokenizer("abcd ")
    with pytest.raises(ValueError, match="heldout text 0: text has 'e'"):
        TextData(train, heldout, own, length=2).heldout_dataset()
    many = TextData(["a"] * 3000 + ["é"], ["a"], CharacterTokenizer("a"), length=2)
    with pytest.raises(ValueError, match="train text 3000: "):
        many.train_dataset()


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_subword_tokenizers_are_trained_on_the_spot(kind):
    pytest.importorskip("tokenizers")
    data = TextData(ANIMALS["text"], tokenizer=TokenizerRecipe(kind, size=600), length=8)
    batch = next(iter(data.loader(1)))["tokens"]
    joined = " ".join(data.reference().train)
    for row in batch:
        for piece in data.tokenizer.split(row):
            assert piece in joined
    assert data.tokenizer.size <= 600


def test_an_iteration_reads_and_encodes_once():
    class Counted(TokenData):
        calls = 0

        def texts(self) -> Split:
            Counted.calls += 1
            return Split(Texts(["abc" * 50]), Texts(["abc"]))

    data = Counted(length=4)
    assert data.train_dataset() is data.train_dataset()
    assert (len(data.validation_dataset()), data.tokenizer.size, data.report().tokens) == (1, 4, 150)
    assert Counted.calls == 1


# ---- configuration and errors ----


def test_configurations_hold_the_learned_tokenizer_and_values(tmp_path):
    path = tmp_path / "animals.jsonl"
    rows = [dict(zip(ANIMALS, values)) for values in zip(*ANIMALS.values())]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    made = TextData(str(path), tokenizer="word", length=6, packing=Pad(fill=True), attributes=("size",), split_seed=3)
    config = json.loads(json.dumps(to_config(made)))
    again = from_config(config, TokenData)
    assert to_config(again) == config
    assert again.tokenizer == made.tokenizer
    assert again.packing == made.packing
    assert torch.equal(again.train_dataset().tokens, made.train_dataset().tokens)
    path.write_text("\n".join(map(json.dumps, rows[:4])), encoding="utf-8")
    assert from_config(config).attributes == {"size": ("big", "small")}
    plain = {
        "class_path": "ornstein.domains.text.sources.TextData",
        "init_args": {"data": str(path), "tokenizer": "bpe"},
    }
    assert from_config(plain).packing == "windows"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tokenizer": "words"}, ValueError, "did you mean 'word'"),
        ({"packing": "padded"}, ValueError, "did you mean 'pad'"),
        ({"packing": "windows"}, ValueError, r"attributes \(size, animal\) belong to one; give packing='pad'"),
        ({"length": 0}, ValueError, "length must be at least 1"),
        ({"attributes": "size"}, TypeError, r"give \['size'\]"),
        ({"attributes": ["mask"]}, ValueError, "rename the column"),
        ({"batch_size": 0}, ValueError, "batch_size"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        animals(**options)


def test_wrong_recipes_and_columns():
    with pytest.raises(ValueError, match="options of 'word', not of 'bpe'"):
        TokenizerRecipe("bpe", lower=True)
    with pytest.raises(ValueError, match="size is no option of the kind 'character'"):
        TokenizerRecipe("character", size=5)
    with pytest.raises(ValueError, match=r"no column 'sizes'.*did you mean 'size'"):
        animals(attributes=["sizes"]).train_dataset()
    with pytest.raises(ValueError, match=r"document 0 has 4 tokens, more than length=3, as 27 of 27 do"):
        animals(length=3).train_dataset()
    with pytest.raises(ValueError, match="less than a window of length=128"):
        TextData(["abc", "abd"], holdout=0.5).train_dataset()


# ---- data sets ----


def test_topics_of_python():
    data = PydocData(batch_size=4)
    reference = data.reference()
    assert isinstance(reference, TextReference)
    assert 60 < len(reference.train) < 120
    assert len(reference.heldout) == round(0.1 * (len(reference.train) + len(reference.heldout)))
    assert not set(reference.train) & set(reference.heldout)
    assert data.tokenizer.normalise(reference.train[0]) == reference.train[0]
    batch = next(iter(data.loader(1)))
    assert batch["tokens"].shape == (4, 128)
    stream = data.tokenizer.decode(data.train_dataset().stream)
    assert stream == "".join(reference.train)


def test_meaning_representations():
    text = "name[The Eagle], eatType[coffee shop], customer rating[5 out of 5], near[Café Rouge]"
    facts = parse_meaning(text)
    assert facts == {
        "name": "The Eagle",
        "eatType": "coffee shop",
        "customer rating": "5 out of 5",
        "near": "Café Rouge",
    }
    assert linearise(facts).startswith("name: The Eagle, eatType: coffee shop, customer")
    for wrong, message in [
        ("name[a], name[b]", "twice"),
        ("nam[a]", "did you mean 'name'"),
        ("name[a] food[b]", "expected 'name"),
        ("name[a", "expected 'name"),
        ("", "expected 'name"),
    ]:
        with pytest.raises(ValueError, match=message):
            parse_meaning(wrong)


def test_attributes_of_e2e_that_the_text_does_not_say_are_left_out(external_data):
    folder = str(external_data("e2e_nlg"))
    told, stated = (E2EData(folder, stated=flag).split.train.attributes for flag in (False, True))
    texts = E2EData(folder).split.train.texts
    for name in told:
        pairs = list(zip(told[name], stated[name], strict=True))
        assert all(after in (before, None) for before, after in pairs)
        assert any(after is not None for _, after in pairs)
    left_out = [i for i, value in enumerate(stated["familyFriendly"]) if value is None and told["familyFriendly"][i]]
    assert 0 < len(left_out) < 0.5 * len(texts)
    assert not any("family friendly" in texts[i].lower() for i in left_out if told["familyFriendly"][i] == "yes")


def test_descriptions_of_e2e(external_data):
    folder = str(external_data("e2e_nlg"))
    data = E2EData(folder, batch_size=16, stated=False)
    with open(f"{folder}/devset.csv", encoding="utf-8") as file:
        raw = list(csv.DictReader(file))
    assert data.report().documents == len(raw) == 4672
    assert data.report("heldout").documents == 4693
    assert data.report().unknown == 0
    sizes = {name: len(values) for name, values in data.attributes.items()}
    assert sizes == {
        "name": 20, "eatType": 1, "food": 2, "priceRange": 6, "customer_rating": 6, "area": 2, "familyFriendly": 2,
        "near": 10,
    }  # fmt: skip
    rows = data.train_dataset()
    for i in random.Random(0).sample(range(len(raw)), 50):
        item = rows[i]
        assert data.tokenizer.decode(item["tokens"][item["mask"]]) == " ".join(raw[i]["ref"].split())
        for ours, values in data.attributes.items():
            found = re.search(rf"{ours.replace('_', ' ')}\[(.*?)\]", raw[i]["mr"])
            assert int(item[ours]) == (values.index(found[1]) if found else -1)
    unseen = data.report("heldout").unseen
    assert set(unseen) == {"name", "eatType", "food", "near"}
    assert int((data.heldout_dataset().conditions["food"] == -1).sum()) >= unseen["food"] > 0


def test_e2e_as_sequence_to_sequence(external_data):
    folder = str(external_data("e2e_nlg"))
    with pytest.raises(ValueError, match="with its source, more than length=96"):
        E2EData(folder, sequence_to_sequence=True).train_dataset()
    data = E2EData(folder, sequence_to_sequence=True, length=128, attributes=())
    item = data.train_dataset()[0]
    assert data.tokenizer.decode(item["tokens"][item["given"]]) == data.reference().train_sources[0]
    assert set(item) == {"tokens", "mask", "given"}
    with pytest.raises(ValueError, match="did you mean 'priceRange'"):
        E2EData(folder, attributes=["pricerange"])
    with pytest.raises(ValueError, match="part='test'"):
        E2EData(folder, part="test")
    with pytest.raises(FileNotFoundError, match=r"trainset\.csv"):
        E2EData(folder, part="train").train_dataset()


def test_tiny_shakespeare(external_data):
    data = ShakespeareData(str(external_data("tinyshakespeare") / "input.txt"))
    train, heldout, validation = data.split
    total = len(train.texts[0] + validation.texts[0] + heldout.texts[0])
    assert total == 1_115_394
    assert len(train.texts[0]) == int(0.9 * total)
    assert len(heldout.texts[0]) == total - int(0.95 * total)
    assert len(data.tokenizer.characters) == 65
    assert data.heldout_dataset() is not data.validation_dataset()
    assert int(data.heldout_dataset().sizes().sum()) == len(heldout.texts[0])
    assert (data.report("validation").tokens, data.report().unknown) == (len(validation.texts[0]), 0)


def test_wikitext(external_data):
    folder = external_data("wikitext2")
    data = WikiTextData(str(folder))
    reference = data.reference()
    assert (len(reference.train), len(reference.heldout)) == (60, 62)
    assert "".join(reference.train) == (folder / "valid.txt").read_text(encoding="utf-8")
    assert all(re.match(r"\s*= [^=]", text) for text in reference.train)
    # Words are parted by spaces there already, so cutting finds most of them: <unk> and @-@ among them.
    words = sum(len(text.split()) for text in reference.train)
    assert words <= data.report().tokens < 1.1 * words
    assert data.report().unknown == sum(text.count("<unk>") for text in reference.train)
    with pytest.raises(FileNotFoundError, match="neither"):
        WikiTextData(str(folder), part="train").train_dataset()
