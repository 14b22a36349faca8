"""`TextDiffusion` and `AutoregressiveText`: tokens, conditions, tasks, files, and errors at the boundary."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from ornstein.core import AbsorbingChain, DPMSolver, EnumeratedDenoiser, PowerSchedule, TokenBound
from ornstein.core.adapter import DomainAdapter
from ornstein.core.nn import TokenTransformer
from ornstein.domains.text import AutoregressiveText, CharacterTokenizer, Pad, TextData, TextDiffusion, WordTokenizer
from ornstein.domains.text.kinds import KINDS

TOKENIZER = CharacterTokenizer("abc ")
TOPICS = {"topic": ("sea", "sky")}


def awake(model):
    """The model with weights that make every input count."""
    torch.manual_seed(0)
    for parameter in model.denoiser.network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def small(kind="masked", **options):
    """A model of eight characters."""
    options = {"attributes": TOPICS, "length": 8, "dimensions": 4} | options
    size, names = TOKENIZER.size, {name: len(values) for name, values in options["attributes"].items()}
    shape = {"width": 32, "depth": 1, "head_width": 16, "attributes": names}
    if kind == "autoregressive":
        options.pop("dimensions")
        return awake(
            AutoregressiveText(TOKENIZER, network=TokenTransformer(size, causal=True, timed=False, **shape), **options)
        )
    if kind == "embedding":
        network = TokenTransformer(4, size, vectors=True, estimate=True, **shape)
    else:
        network = TokenTransformer(size + (kind == "masked"), timed=kind != "masked", **shape)
    return awake(TextDiffusion(TOKENIZER, kind=kind, network=network, **options))


every_kind = pytest.mark.parametrize("kind", [*KINDS, "autoregressive"])
diffusion_kinds = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_a_text_depends_on_its_seed_and_number_alone(kind):
    model = small(kind, lengths=(0.0, 1.0, 2.0, 0.0, 3.0, 4.0))
    whole = model.sample(7, seed=3, topic="sky")
    assert whole == model.sample(7, seed=3, topic="sky", batch_size=2)
    assert whole[4:6] == model.sample(2, seed=3, first=4, topic="sky")
    assert whole != model.sample(7, seed=4, topic="sky")
    assert {len(model.tokenizer.encode(text.replace("\n", ""))) for text in whole} <= {0, 1, 2, 3, 4, 5}


@every_kind
def test_attributes_and_guidance_change_the_texts(kind):
    model = small(kind)
    told = model.sample(6, seed=0, topic=["sea", "sky", None, 0, 1, -1])
    assert told[2:3] == model.sample(1, seed=0, first=2)
    assert model.sample(6, seed=0, topic="sea") != model.sample(6, seed=0, topic="sky")
    if kind != "autoregressive":
        assert model.sample(6, seed=0, topic="sea", guidance=30.0) != model.sample(6, seed=0, topic="sea")


@diffusion_kinds
def test_generate_gives_the_lengths_asked_for(kind):
    model = small(kind)
    asked = []
    model.texts = lambda rows, lengths: asked.extend(lengths.tolist()) or [""] * len(rows)
    model.generate(200, (3, 5), seed=0)
    assert set(asked) == {3, 4, 5}
    asked.clear()
    model.sample(5, seed=1, length=[1, 2, 3, 8, 5])
    assert asked == [1, 2, 3, 8, 5]


@diffusion_kinds
def test_watching_shows_the_texts_after_each_step(kind):
    model, shown = small(kind), []
    (text,) = model.generate(1, 4, seed=0, watch=lambda step, texts: shown.append(texts[0]))
    assert len(shown) == model.sampler.steps
    assert shown[-1].replace("⏎", "\n").startswith(text)
    if kind == "masked":
        assert shown[0].count("▯") >= 3


@diffusion_kinds
def test_infilling_keeps_what_is_given(kind):
    model = small(kind)
    texts = model.infill(["ab[2]ca", ["c", 3, "b"], "[...]abc", "[1]"], seed=0)
    assert texts == model.infill(["ab[2]ca", ["c", 3, "b"], "[...]abc", "[1]"], seed=0, batch_size=1)
    assert texts[0].startswith("ab")
    assert texts[0].endswith("ca")
    assert texts[1][0] == "c"
    assert texts[1].endswith("b")
    assert texts[2].endswith("abc")


@diffusion_kinds
def test_editing_keeps_more_of_a_text_the_less_it_is_noised(kind):
    model, texts = small(kind), ["abcabcab", "cc bb aa"] * 8

    def kept(strength):
        # An untrained network makes of fresh noise what it likes, so that embeddings go without.
        sampler = DPMSolver(20) if kind == "embedding" else None
        found = model.edit(texts, strength, sampler=sampler, seed=0)
        return np.mean([a == b for one, other in zip(found, texts, strict=True) for a, b in zip(one, other)])

    assert kept(0.05) > kept(1.0)
    assert model.edit(["ab", "abcabc"], 0.5, seed=0)[1:] == model.edit(["ab", "abcabc"], 0.5, seed=0, batch_size=1)[1:]


def test_sequence_to_sequence_answers_with_targets_alone():
    model = small("masked")
    texts = model.sequence_to_sequence(["ab", "c"], length=[3, 2], seed=0)
    assert [len(text) <= n for text, n in zip(texts, [3, 2], strict=True)] == [True, True]
    assert texts == model.sequence_to_sequence(["ab", "c"], length=[3, 2], seed=0, batch_size=1)
    with pytest.raises(ValueError, match="source 1 has 9 tokens"):
        model.sequence_to_sequence(["ab", "abcabcab"], length=1)


def test_sequence_to_sequence_learns_from_data_with_sources(tmp_path):
    """Sources in small letters, targets in capitals: held-out words are translated letter by letter."""
    letters = torch.randint(4, (400, 4), generator=torch.Generator().manual_seed(0)).tolist()
    sources = ["".join("abcd"[i] for i in row[: 2 + number % 3]) for number, row in enumerate(letters)]
    frame = {"text": [word.upper() for word in sources], "source": sources}
    data = TextData(frame, source="source", length=12, packing="pad", batch_size=64)
    torch.manual_seed(0)
    network = TokenTransformer(data.tokenizer.size + 1, width=64, depth=2, head_width=16, timed=False)
    model = TextDiffusion.for_data(data, network=network)
    options = {"optimizer": "muon", "lr": 0.01, "sample_every": 0, "validate_every": 1000, "ema": None}
    model.fit(data, run=tmp_path / "run", max_steps=120, accelerator="cpu", **options)
    heldout = data.split.heldout
    found = model.sequence_to_sequence(heldout.sources, length=[len(text) for text in heldout.texts], seed=0)
    right = sum(map(str.__eq__, found, heldout.texts))
    assert right >= 0.9 * len(found)


# Likelihood.


def test_probabilities_of_the_autoregressive_model_sum_to_one():
    model = small("autoregressive", attributes={})
    every = ["".join(TOKENIZER.characters[i] for i in row) for row in np.ndindex(4, 4)]
    weighed = model.perplexity(every)
    logits = model.denoiser(torch.tensor([[0, 0]]))
    ends = logits.softmax(-1)[0, 0, TOKENIZER.boundary]
    assert weighed.exact
    # What is missing is that a text starts with the boundary, or has it in the second place.
    first = (1 - model.denoiser(torch.tensor([[0, 0]])).softmax(-1)[0, 0, TOKENIZER.boundary]).item()
    second = [model.denoiser(torch.tensor([[i, 0]])).softmax(-1)[0, :, :] for i in range(4)]
    expected = sum(float(rows[0, i]) * (1 - float(rows[1, TOKENIZER.boundary])) for i, rows in enumerate(second))
    assert math.isclose(weighed.nats.neg().exp().sum().item(), expected, abs_tol=1e-5)
    assert 0 < float(ends) < 1
    assert expected < first


def test_the_bound_of_the_exact_model_is_the_entropy():
    table = torch.rand(5, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table[4] = table[:, 4] = table[:, :, 4] = 0  # no boundaries
    model = small("masked", length=3, attributes={})
    model.denoiser = EnumeratedDenoiser(AbsorbingChain(5, PowerSchedule()), table)
    data = model.denoiser.sample(400, generator=torch.Generator().manual_seed(1))
    texts = [TOKENIZER.decode(row) for row in data]
    exact = model.denoiser.log_prob(data).neg().double()
    for bound in (TokenBound(draws=64), TokenBound(64, draws=16)):
        found = model.perplexity(texts, bound=bound, seed=0)
        error = found.standard_error.square().sum().sqrt()
        assert not found.exact
        assert abs(float(found.nats.sum() - exact.sum())) < 4 * float(error) + (3.0 if bound.steps else 0.0)
    assert found.tokens == found.characters == 1200
    assert math.isclose(found.bits_per_character, found.bits_per_token)


@every_kind
def test_long_texts_are_weighed_in_parts_and_batches_do_not_matter(kind):
    model, texts = small(kind), ["abcabcabcab", "b", "cab cab"]
    one, two = (model.perplexity(texts, batch_size=size, topic="sea") for size in (1, 64))
    torch.testing.assert_close(one.nats, two.nats, atol=1e-4, rtol=1e-5)
    assert (one.tokens, one.words, one.characters) == (19, 4, 19)
    assert str(one).count("perplexity") == 1


# Data, training and files.


def data(**options) -> TextData:
    texts = ["ab" * n for n in (2, 3, 4)] * 20
    options = {"tokenizer": TOKENIZER, "length": 8, "packing": Pad(), "batch_size": 16, "holdout": 0.2} | options
    return TextData(texts, **options)


@every_kind
def test_for_data_asks_the_data(kind):
    made = data()
    if kind == "autoregressive":
        model = AutoregressiveText.for_data(made)
    else:
        model = TextDiffusion.for_data(made, kind=kind, dimensions=8)
    assert model.tokenizer == TOKENIZER
    assert model.sizes.largest == 8
    assert set(np.flatnonzero(model.lengths)) == {4, 6, 8}


@pytest.mark.parametrize("kind", ["masked", "uniform", "embedding", "autoregressive"])
def test_training_learns_the_alternation(kind, tmp_path):
    made = data()
    torch.manual_seed(0)
    shape = {"width": 32, "depth": 1, "head_width": 16}
    if kind == "autoregressive":
        network = TokenTransformer(5, causal=True, timed=False, **shape)
        model = AutoregressiveText.for_data(made, network=network)
    else:
        network = {
            "masked": TokenTransformer(6, timed=False, **shape),
            "uniform": TokenTransformer(5, **shape),
            "embedding": TokenTransformer(8, 5, vectors=True, estimate=True, **shape),
        }[kind]
        model = TextDiffusion.for_data(made, kind=kind, network=network, dimensions=8)
    before = model.perplexity(["abab"]).bits
    steps = 60 if kind in ("masked", "autoregressive") else 300
    options = {
        "max_steps": steps,
        "lr": 0.02,
        "optimizer": "muon",
        "sample_every": 0,
        "ema": None,
        "accelerator": "cpu",
    }
    model.fit(made, run=tmp_path, validate_every=10_000, **options)
    texts = model.sample(40, seed=0)
    right = np.mean([text in ("abab", "ababab", "abababab") for text in texts])
    assert right > 0.8, texts
    assert model.perplexity(["abab"]).bits < 0.5 * before


@every_kind
def test_saved_and_loaded_it_writes_the_same(kind, tmp_path):
    model = small(kind, lengths=(0.0, 1.0, 2.0))
    model.save_pretrained(tmp_path)
    again = DomainAdapter.from_pretrained(tmp_path)
    assert type(again) is type(model)
    assert again.attributes == {"topic": ("sea", "sky")}
    assert again.sample(3, seed=0, topic="sky") == model.sample(3, seed=0, topic="sky")


def test_texts_are_written_packed_and_drawn(tmp_path):
    model, texts = small(), ["a\nb $x$", "", "ü\x00"]
    assert model.unpack(dict(model.pack(texts))) == texts
    np.savez(tmp_path / "texts.npz", **model.pack({"samples": texts, "topic": [0, 1, 1]}))
    loaded = model.unpack(np.load(tmp_path / "texts.npz", allow_pickle=False))
    assert loaded["samples"] == texts
    assert loaded["topic"].tolist() == [0, 1, 1]
    paths = model.write(texts, tmp_path, first=4)
    assert [path.name for path in paths] == ["000004.txt", "000005.txt", "000006.txt"]
    assert [path.read_bytes().decode() for path in paths] == texts
    model.render(["long " * 200, *texts], tmp_path / "texts.png")
    assert (tmp_path / "texts.png").stat().st_size > 1000


def test_encode_takes_batches_and_strings():
    model = small()
    example = model.encode(["ab", "cab"])
    assert example.state.tolist() == [[0, 1, 4], [2, 0, 1]]
    assert example.mask.tolist() == [[True, True, False], [True, True, True]]
    batch = {
        "tokens": torch.zeros(2, 4, dtype=torch.int64),
        "topic": torch.tensor([0, -1]),
        "given": torch.ones(2, 4).bool(),
    }
    assert set(model.encode(batch).condition) == {"topic", "given"}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.sample(2, topc="sea"), ValueError, "unknown attribute 'topc'.*did you mean 'topic'"),
        (lambda m: m.sample(2, topic="see"), ValueError, "topic='see'.*did you mean 'sea'"),
        (lambda m: m.sample(2, topic=2), ValueError, "topic=2: expected 0 to 1"),
        (lambda m: m.sample(2, length=9), ValueError, "length=9: expected whole numbers of tokens, 1 to 8"),
        (lambda m: m.generate(2, (5, 3)), ValueError, "expected \\(low, high\\)"),
        (lambda m: m.infill(["abc"]), ValueError, "at least one gap"),
        (lambda m: m.infill(["[0]"]), ValueError, "at least one token"),
        (lambda m: m.infill("a[1]"), TypeError, "expected a list"),
        (lambda m: m.infill(["abcabc[...]bb"]), ValueError, "9 tokens with its gaps"),
        (lambda m: m.infill([["a", 1.5]]), TypeError, "a template has a part 1.5"),
        (lambda m: m.edit(["abcabcabc"]), ValueError, "text 0 has 9 tokens"),
        (lambda m: m.edit(["abx"]), ValueError, "text 0: text has 'x'"),
        (lambda m: m.perplexity([]), ValueError, "texts is empty"),
        (lambda m: m.perplexity(["a", ""]), ValueError, "text 1 has no tokens"),
        (lambda m: m.encode(3), TypeError, "batch is of type int"),
        (lambda m: m.encode({"tokens": torch.full((1, 3), 5)}), ValueError, "tokens lie in \\[5, 5\\]"),
        (lambda m: m.encode({"tokens": torch.zeros(1, 9).long()}), ValueError, "texts of 9 tokens"),
        (lambda m: TextDiffusion("abc"), TypeError, "expected a Tokenizer"),
        (lambda m: TextDiffusion(TOKENIZER, kind="mask"), ValueError, "did you mean 'masked'"),
        (lambda m: TextDiffusion(TOKENIZER, kind="uniform", process=m.process), TypeError, "runs on UniformChain"),
        (lambda m: TextDiffusion(TOKENIZER, attributes={"length": ("a",)}), ValueError, "'length'"),
        (lambda m: TextDiffusion(TOKENIZER, length=2, lengths=(0.0, 1.0, 1.0, 1.0)), ValueError, "texts of 3 tokens"),
    ],
)
def test_bad_input_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call(small())


def test_finding_the_domain_loads_nothing_heavy():
    code = "import sys, ornstein.domains.text as t; t.TextDiffusion; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"lightning", "transformers", "tokenizers", "pandas", "matplotlib", "sklearn"} & set(loaded)


def test_what_goes_on_after_a_gap_is_encoded_as_such():
    tokenizer = WordTokenizer.fit(["for food, go to it", "go to it"])
    model = TextDiffusion(tokenizer, length=8)
    (text,) = model.infill(["for [1], go to it"], seed=0)
    assert text.endswith(", go to it")
    with pytest.raises(ValueError, match="'dance for ' holds a word"):
        model.infill(["dance for [1]"])
