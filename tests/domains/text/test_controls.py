"""Controls: classifiers of noised texts, and what they do to samples."""

import numpy as np
import pytest
import torch

from ornstein.core.nn import TokenTransformer
from ornstein.domains.text import (
    CharacterTokenizer,
    Control,
    Pad,
    TextClassifier,
    TextData,
    TextDiffusion,
    fit_classifier,
)

TOKENIZER = CharacterTokenizer("ab")
TEXTS = [text for text in ("aaaa", "bbbb", "abab", "baba", "aabb", "bbaa") for _ in range(30)]
OPTIONS = {
    "lr": 0.02,
    "optimizer": "muon",
    "ema": None,
    "accelerator": "cpu",
    "overwrite": True,
    "validate_every": 10_000,
}


@pytest.fixture(scope="module", params=["masked", "embedding"])
def model(request, tmp_path_factory):
    torch.manual_seed(0)
    data = TextData(TEXTS, tokenizer=TOKENIZER, length=4, packing=Pad(), batch_size=32, holdout=0.1)
    shape = {"width": 32, "depth": 1, "head_width": 16}
    network = TokenTransformer(4, timed=False, **shape)
    if request.param == "embedding":
        network = TokenTransformer(8, 3, vectors=True, estimate=True, **shape)
    made = TextDiffusion.for_data(data, kind=request.param, network=network, dimensions=8)
    steps = 80 if request.param == "masked" else 300
    made.fit(data, run=tmp_path_factory.mktemp("run"), max_steps=steps, sample_every=0, **OPTIONS)
    return made


def test_a_label_of_the_text(model, tmp_path):
    first = [text[0] for text in TEXTS]
    classifier, _ = fit_classifier(model, TEXTS, first, run=tmp_path, max_steps=120, width=32, depth=1, **OPTIONS)
    assert classifier.labels == ("a", "b")

    def share(*controls):
        return np.mean(
            [text.startswith("b") for text in model.control(60, controls, exact=model.kind == "masked", seed=0)]
        )

    free = np.mean([text.startswith("b") for text in model.sample(60, seed=0)])
    assert 0.25 < free < 0.75
    assert share(Control(classifier, "b", 3.0)) > 0.85
    assert share(Control(classifier, "b", -3.0)) < 0.2
    if model.kind == "embedding":
        plugged = model.control(60, [Control(classifier, "b")], plug_in=True, fluency=0.001, seed=0)
        assert np.mean([text.startswith("b") for text in plugged]) > 0.8
    else:
        with pytest.raises(ValueError, match="plug_in=True for kind='masked'"):
            model.control(2, [Control(classifier, "b")], plug_in=True)


def test_tags_by_a_tagger(model, tmp_path):
    classifier, _ = fit_classifier(
        model, TEXTS, lambda pieces: [piece.upper() for piece in pieces], target="tags", run=tmp_path, max_steps=120,
        width=32, depth=1, **OPTIONS,
    )  # fmt: skip
    texts = model.control(
        60, [Control(classifier, [None, "A", None, "A"], 4.0)], length=4, exact=model.kind == "masked", seed=0
    )
    assert np.mean([text[1] == "a" and text[3] == "a" for text in texts if len(text) == 4]) > 0.8


def test_spans_by_a_parser(model, tmp_path):
    def runs(pieces):
        """Runs of one letter."""
        starts = [i for i, piece in enumerate(pieces) if i == 0 or pieces[i - 1] != piece]
        return [(i, j - 1, pieces[i]) for i, j in zip(starts, [*starts[1:], len(pieces)])]

    # The rate sinks to 0: where it stays, weights jump about to the end, and what they steer with them.
    options = {"target": "spans", "run": tmp_path, "max_steps": 800, "width": 32, "depth": 1, "schedule": "linear"}
    options |= OPTIONS
    classifier, _ = fit_classifier(model, TEXTS, runs, **options)
    control = Control(classifier, [(0, 1, "b"), (2, 3, "a")], 8.0)
    texts = model.control(60, [control], length=4, exact=model.kind == "masked", seed=0)
    assert np.mean([text == "bbaa" for text in texts]) > 0.7
    assert np.mean([text == "bbaa" for text in model.sample(60, length=4, seed=0)]) < 0.4


def test_bad_controls_are_refused(model):
    classifier = TextClassifier(model, "tags", ["A", "B"], width=32, depth=1)
    with pytest.raises(ValueError, match="controls is empty"):
        model.control(2, [])
    with pytest.raises(ValueError, match="length=None with tags"):
        model.control(2, [Control(classifier, ["A"])])
    with pytest.raises(ValueError, match=r"label 'C'.*expected one of A, B"):
        model.control(2, [Control(classifier, ["C"])], length=3)
    with pytest.raises(ValueError, match="4 tags for a text of 3 tokens"):
        model.control(2, [Control(classifier, ["A"] * 4)], length=3)
    with pytest.raises(ValueError, match="within 3 tokens"):
        TextClassifier(model, "spans", ["A", "B"]).numbers([(1, 3, "A")], 3)
    with pytest.raises(ValueError, match="target='text1'"):
        TextClassifier(model, "text1", ["A", "B"])
    with pytest.raises(ValueError, match="at least two names"):
        TextClassifier(model, "text", ["A", "A"])
    with pytest.raises(ValueError, match="1 labels for 2 texts"):
        fit_classifier(model, ["ab", "ba"], ["a"])


def test_a_classifier_of_spans_learns_what_is_none(model, tmp_path):
    """Of a span that no text has a label for, it says so."""
    options = {"target": "spans", "run": tmp_path, "max_steps": 100, "width": 32, "depth": 1} | OPTIONS
    labels = [[(0, 0, text[0])] for text in TEXTS]
    classifier, _ = fit_classifier(model, TEXTS, labels, **options)
    tokens, _ = model.tokens(["abab", "bbaa"])
    state = tokens if model.kind == "masked" else model.denoiser.table.embed(tokens)
    guess = classifier.logits(state, 0.1).argmax(-1)
    assert guess[:, 0, 0].tolist() == [0, 1]
    assert guess[:, 1, 3].tolist() == [2, 2]
