"""The tokenizers: what comes back of a text, what is refused, and what a configuration keeps."""

import copy
import csv
import json
import pickle
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ornstein.core.config import from_config, to_config
from ornstein.domains.text.pretrained import SubwordTokenizer
from ornstein.domains.text.tokenizers import CharacterTokenizer
from ornstein.domains.text.words import WordTokenizer

WORLD = [
    "",
    "The Mill (less than £20-25) isn't family-friendly; it's 3.5 out of 5!",
    "中文，没有空格。日本語も。",
    "مَرحبا بِكُم في العالَم، نعم؟",
    "می\u200cخواهم",
    "हिन्दी में लिखा",
    "👩\u200d👩\u200d👧\u200d👦 ❤\ufe0f 🇩🇪🏳\ufe0f\u200d🌈",
    "nul \x00 bell \x07 escape \x1b[0m del \x7f",
    "## #### ▁ Ġ [UNK] <end> <unk> [SEP]",
    "e\u0301 is not é; \ufeff \ufffd \U0010ffff",
]
LONG = ["a" * 100_000, "中" * 100_000, "ab " * 33_333, "'" * 100_000, "1." * 50_000, " " * 100_000, "🎉" * 100_000]
TEXTS = [*WORLD, *LONG, "tabs\tand\r\nline\u2028ends\x0b "]

# No lone surrogates: those are refused, which has a test of its own.
text_of = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
punctuated = st.text("ab1.,'’-£ #()<unk>\n中\u0301", max_size=40)


@pytest.fixture(scope="module", params=["bpe", "wordpiece", "unigram"])
def subword(request) -> SubwordTokenizer:
    pytest.importorskip("tokenizers")
    return SubwordTokenizer.train(WORLD * 3 + ["the mill by the river is cheap"] * 5, request.param, size=600)


def bert() -> SubwordTokenizer:
    """WordPiece as BERT has it: small letters, accents stripped, unknown words, truncation to 8 ids in the file."""
    library = pytest.importorskip("tokenizers")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "mill", "is", "##s", "caf", "##e", ",", ".", "a", "##a"]
    made = library.BertWordPieceTokenizer({piece: i for i, piece in enumerate(pieces)})
    made.enable_truncation(8)
    made.enable_padding(length=20)
    return SubwordTokenizer(made.to_str())


def metaspace() -> SubwordTokenizer:
    library = pytest.importorskip("tokenizers")
    made = library.Tokenizer(library.models.Unigram([("<unk>", 0.0), ("▁", -2.0), ("▁the", -3.0), ("s", -4.0)], 0))
    made.pre_tokenizer, made.decoder = library.pre_tokenizers.Metaspace(), library.decoders.Metaspace()
    return SubwordTokenizer(made.to_str(), boundary_token="</s>")


def everyone() -> list:
    word = WordTokenizer.fit(["The mill, the river (and the sea)."], lower=True)
    return [CharacterTokenizer("abc"), CharacterTokenizer("a\nb\ud7ff", "\ufffd"), word, bert(), metaspace()]


# ---- what comes back ----


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_characters_come_back(text):
    tokenizer = CharacterTokenizer.fit([text, "x"])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == len(text)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_words_come_back_but_for_spaces(text):
    tokenizer = WordTokenizer.fit([text, "x"])
    assert tokenizer.normalise(text) == " ".join(text.split())


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_bytes_come_back_that_training_did_not_see(subword, text):
    ids = subword.encode(text)
    assert subword.decode(ids) == text
    assert subword.unknown not in ids
    assert subword.boundary not in ids


@settings(max_examples=200, deadline=None)
@given(text_of)
def test_any_text_comes_back(text):
    characters = CharacterTokenizer.fit([text, "x"])
    assert characters.decode(characters.encode(text)) == text
    words = WordTokenizer.fit([text, "x"])
    assert words.normalise(text) == " ".join(text.split())


@settings(max_examples=100, deadline=None)
@given(text_of)
def test_any_text_comes_back_from_bytes(subword, text):
    assert subword.decode(subword.encode(text)) == text


@settings(max_examples=300, deadline=None)
@given(st.lists(punctuated, max_size=3), punctuated, st.booleans(), st.integers(1, 2))
def test_normalised_texts_stay_as_they_are(texts, text, lower, min_count):
    words = WordTokenizer.fit([*texts, "a , a ,"], lower=lower, min_count=min_count)
    ids = words.encode(text)
    assert words.encode(words.decode(ids)) == ids
    characters = CharacterTokenizer.fit([*texts, "a"], unknown_symbol="\ufffd")
    assert len(characters.normalise(text)) == len(text)
    assert characters.encode(characters.normalise(text)) == characters.encode(text)


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_time_grows_no_faster_than_the_text(subword, text):
    def seconds(tokenizer, text):
        start = time.process_time()
        tokenizer.decode(tokenizer.encode(text))
        return time.process_time() - start

    for tokenizer in (CharacterTokenizer.fit([text]), WordTokenizer.fit([text, "x"]), subword):
        part = text[: len(text) // 10]
        short = min(seconds(tokenizer, part) for _ in range(3))
        # Ten times the text takes a hundred times as long where time is quadratic; below 0.3 s nobody would notice.
        assert seconds(tokenizer, text) < max(40 * short, 0.3)


def test_words_of_the_kind_in_e2e():
    text = "The Mill (near Café Rouge), £20-25: it's family-friendly, 3 out of 5."
    tokenizer = WordTokenizer.fit([text])
    expected = "The Mill ( ##near Café Rouge ##) ##, £20-25 ##: it's family-friendly 3 out of 5 ##."
    assert set(tokenizer.words) == set(expected.split())
    assert "".join(tokenizer.symbols[i] for i in tokenizer.encode(text)) == " " + text


def test_rare_words_are_unknown_and_joined_ones_lose_their_join_first():
    tokenizer = WordTokenizer.fit(["the mill , the mill the"], min_count=2)
    assert tokenizer.words == ("the", "mill")
    assert tokenizer.normalise("The mill") == "<unk> mill"
    comma = WordTokenizer(("the", ","))
    assert comma.decode(comma.encode("the,")) == "the ,"
    assert comma.encode("the <unk>") == [0, comma.unknown]
    assert WordTokenizer.fit(["b a c a b a"], max_words=2).words == ("a", "b")
    assert WordTokenizer.fit(["B b a"], lower=True).words == ("b", "a")


def test_all_descriptions_of_e2e_come_back(external_data):
    with (external_data("e2e_nlg") / "devset.csv").open(encoding="utf-8") as file:
        texts = [row["ref"] for row in csv.DictReader(file)]
    tokenizer = WordTokenizer.fit(texts)
    assert all(tokenizer.normalise(text) == " ".join(text.split()) for text in texts)
    assert 1000 < tokenizer.size < 1500


def test_subwords_of_a_file_are_neither_cut_nor_padded_nor_framed():
    tokenizer = bert()
    assert tokenizer.encode("the mill") == [4, 5]
    assert len(tokenizer.encode("the mill is " * 100)) == 300
    assert tokenizer.normalise("The Café, mills.") == "the cafe, mills."
    assert tokenizer.normalise("the zebra") == "the [UNK]"  # seen, not left out
    assert tokenizer.encode("a" * 101) == [tokenizer.unknown]  # BERT reads no word of more than 100 letters
    assert tokenizer.encode("[SEP]") != [tokenizer.boundary]
    assert tokenizer.boundary == tokenizer.separator == 3


def test_special_tokens_are_found_or_added():
    library = pytest.importorskip("tokenizers")
    made = library.Tokenizer(library.models.WordLevel({"a": 0, "[UNK]": 1}, "[UNK]")).to_str()
    with pytest.raises(ValueError, match="boundary_token="):
        SubwordTokenizer(made)
    tokenizer = SubwordTokenizer(made, "[E]", "[S]")
    assert (tokenizer.size, tokenizer.boundary, tokenizer.separator, tokenizer.unknown) == (4, 2, 3, 1)
    assert SubwordTokenizer(made, "[E]").separator == 2
    assert SubwordTokenizer(made, "a").size == 2
    assert metaspace().unknown == 0


# ---- ids ----


def test_ids_symbols_and_specials():
    for tokenizer in [*everyone(), SubwordTokenizer.train(["abc abc"], "bpe", 300)]:
        assert len(tokenizer.symbols) == tokenizer.size
        assert all(symbol.isprintable() and symbol for symbol in tokenizer.symbols)
        assert 0 <= tokenizer.boundary < tokenizer.size
        assert tokenizer.decode([tokenizer.boundary, tokenizer.separator]) == ""
        assert tokenizer.decode([]) == tokenizer.decode(torch.tensor([], dtype=torch.long)) == ""
        assert tokenizer.encode("") == []
        for wrong in (-1, tokenizer.size):
            with pytest.raises(ValueError, match=f"{wrong} at position 1"):
                tokenizer.decode([0, wrong])
    assert CharacterTokenizer("a\nb", "?").symbols == ("a", "\\n", "b", "?", "⏎")


def test_symbols_read_as_the_text(subword):
    text = "the mill by the river is cheap"
    shown = "".join(subword.symbols[i] for i in subword.encode(text))
    assert shown == text
    tokenizer = bert()
    assert "".join(tokenizer.symbols[i] for i in tokenizer.encode("the mills.")) == " the mills."
    spaced = metaspace()
    assert "".join(spaced.symbols[i] for i in spaced.encode("the s")) == " the s"


def test_arrays_and_tensors_decode_as_lists_do():
    tokenizer = CharacterTokenizer("abc")
    assert tokenizer.decode(np.array([0, 1], np.int16)) == tokenizer.decode(torch.tensor([0, 1])) == "ab"
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        tokenizer.decode(torch.tensor([[0, 1]]))
    with pytest.raises(TypeError, match="whole numbers"):
        tokenizer.decode([0.5])


def test_packed_rows_split_at_boundaries():
    tokenizer = CharacterTokenizer("abc")
    assert tokenizer.split([0, 1, 3, 3, 2]) == ["ab", "", "c"]
    assert tokenizer.split([]) == [""]


def test_batches_are_single_texts(subword):
    for tokenizer in [CharacterTokenizer("ab"), WordTokenizer(("a", "b")), subword]:
        texts = ["a", "", "b a"] if tokenizer.unknown is not None or tokenizer is subword else ["a", "", "ba"]
        assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


# ---- what is refused ----


def test_unknown_characters_are_refused_by_name_or_replaced():
    tokenizer = CharacterTokenizer("ab")
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\) at position 2.*unknown_symbol"):
        tokenizer.encode("abé")
    with pytest.raises(ValueError, match="text 1: text has 'c'"):
        tokenizer.encode_batch(["a", "c"])
    open_ = CharacterTokenizer("ab", "\ufffd")
    assert open_.encode("aéb\ufffd") == [0, 2, 1, 2]
    assert open_.normalise("aéb") == "a\ufffdb"


def test_lone_surrogates_and_other_types_are_refused(subword):
    for tokenizer in [CharacterTokenizer("ab", "?"), WordTokenizer(("a",)), subword]:
        with pytest.raises(ValueError, match=r"lone surrogate U\+D83D at position 1"):
            tokenizer.encode("a\ud83d")
        with pytest.raises(ValueError, match=r"text 1: .*surrogate"):
            tokenizer.encode_batch(["a", "\udc00"])
        with pytest.raises(TypeError, match="int"):
            tokenizer.encode(3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="one string"):
            tokenizer.encode_batch("ab")
    with pytest.raises(ValueError, match="surrogate"):
        WordTokenizer.fit(["\ud800"])
    with pytest.raises(ValueError, match=r"text 0: .*surrogate"):
        SubwordTokenizer.train(["\ud800"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CharacterTokenizer(""), "empty"),
        (lambda: CharacterTokenizer("aba"), "'a' more than once"),
        (lambda: CharacterTokenizer("a\ud800"), "surrogate"),
        (lambda: CharacterTokenizer("ab", "a"), "unknown_symbol"),
        (lambda: CharacterTokenizer("ab", "??"), "unknown_symbol"),
        (lambda: CharacterTokenizer.fit(["", ""]), "no character"),
        (lambda: WordTokenizer(()), "empty"),
        (lambda: WordTokenizer(("a", "a")), "'a' more than once"),
        (lambda: WordTokenizer(("a b",)), "'a b'"),
        (lambda: WordTokenizer(("A",), lower=True), "'A'"),
        (lambda: WordTokenizer(("a.",)), "'a.'"),
        (lambda: WordTokenizer(("<unk>",)), "'<unk>'"),
        (lambda: WordTokenizer(("a",), unknown_symbol="un known"), "unknown_symbol"),
        (lambda: WordTokenizer.fit(["a b"], min_count=2), "no word is left of 2"),
        (lambda: SubwordTokenizer("{}"), "not the content"),
        (lambda: SubwordTokenizer.train(["a"], "bpee"), "did you mean 'bpe'"),  # type: ignore[arg-type]
        (lambda: SubwordTokenizer.train(["a"], "wordpiece", 300), "at least 520"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- configuration, files ----


def test_configurations_come_back():
    made = [*everyone(), *(SubwordTokenizer.train(["abc abc"], kind, 520) for kind in ("bpe", "wordpiece", "unigram"))]
    for tokenizer in made:
        stored = json.loads(json.dumps(to_config(tokenizer)))
        again = from_config(stored)
        assert again == tokenizer
        assert hash(again) == hash(tokenizer)
        assert again.size == tokenizer.size
        assert pickle.loads(pickle.dumps(tokenizer)) == copy.deepcopy(tokenizer) == tokenizer
    assert len(set(made)) == len(made)
    assert CharacterTokenizer("ab") != CharacterTokenizer("ba")


def test_flags_of_subwords_outlive_pickling():
    tokenizer = pickle.loads(pickle.dumps(bert()))
    assert len(tokenizer.encode("the mill is " * 100)) == 300
    assert tokenizer.encode("[SEP]") != [tokenizer.boundary]


def test_folders_of_models(tmp_path):
    pytest.importorskip("transformers")
    plain = bert()
    (tmp_path / "tokenizer.json").write_text(plain.json, encoding="utf-8")
    names = {"sep_token": {"content": "[SEP]"}, "eos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names), encoding="utf-8")
    read = SubwordTokenizer.from_pretrained(tmp_path)
    assert read.encode("the mills") == plain.encode("the mills")
    assert (read.boundary_token, read.separator_token) == ("[SEP]", "[SEP]")
    assert SubwordTokenizer.from_pretrained(tmp_path, boundary_token="[CLS]").boundary == 2
    (tmp_path / "tokenizer_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: not JSON"):
        SubwordTokenizer.from_pretrained(tmp_path)

    old = tmp_path / "old"  # a vocabulary alone, as models of 2018 have
    old.mkdir()
    (old / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nmill\n##s\n", encoding="utf-8")
    (old / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', encoding="utf-8")
    converted = SubwordTokenizer.from_pretrained(old, local_files_only=True)
    assert converted.encode("The mills") == [5, 6, 7]
    assert converted.boundary == 3
    with pytest.raises(ValueError, match="no tokenizer is found"):
        SubwordTokenizer.from_pretrained(tmp_path / "none", local_files_only=True)


def test_a_missing_library_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"ornstein\[text\]"):
        SubwordTokenizer.train(["a"])
