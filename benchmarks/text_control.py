"""Control of E2E descriptions: attributes, lengths, gaps, and two attributes at once.

Trained on the development file by words, judged with the test file. Success is what the text says: an attribute's
value, or one of the phrases by which writers plainly say it (`E2E_PHRASES`), must occur. Fluency is bits a word under a
word 5-gram of the test file, divided by that of real test sentences; the test file is halved by restaurant
(`judge_texts`), since sentences about one restaurant know one another.

Words are drawn at temperature 0.75, which the entropy beside the fluency shows the price of.

Masked diffusion is asked by classifier-free guidance, embedding diffusion (trained without conditions) by classifiers
of noised texts, one an attribute, through `TextDiffusion.control`.

Figures: ``semantic_success`` over all values of all attributes (``semantic_worst`` is the worst value's,
``semantic_NAME`` an attribute's), ``length_success`` within two words, ``composed_success`` of two attributes of one
restaurant at once, ``fluency_ratio`` and ``unigram_entropy`` with ``real_unigram_entropy``, ``infill_ratio`` of the
bits of whole texts with a span filled in to the real ones; ``embedding_success`` and ``embedding_fluency_ratio`` for
the attributes that have classifiers; processor seconds of training and per text.
"""

import itertools
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import parser, record, set_threads

from ornstein.core import StratifiedTimes, TokenChoice, TokenCrossEntropy, Unmasking
from ornstein.core.nn import TokenTransformer
from ornstein.core.training import EMA
from ornstein.domains.text import Control, E2EData, TextDiffusion, fit_classifier
from ornstein.domains.text.judges import E2E_PHRASES, NgramModel, attribute_occurs, judge_texts, length_within
from ornstein.domains.text.sources import E2E_ATTRIBUTES

THEIRS = {ours: theirs for theirs, ours in E2E_ATTRIBUTES.items()}
STEERED = ("area", "food", "familyFriendly", "priceRange")
GUIDANCE, TEMPERATURE = 2.0, 0.75
OPTIONS = {"optimizer": "muon", "lr": 0.008, "schedule": "linear", "sample_every": 0, "accelerator": "cpu"}


def said(texts: list[str], attribute: str, value: str) -> list[bool]:
    """Whether each text says the value of the attribute."""
    return attribute_occurs(texts, [value] * len(texts), phrases=E2E_PHRASES.get(THEIRS[attribute]))


def fluency(texts: list[str], data: E2EData) -> dict[str, float]:
    """Bits a word beside real texts', with unigram entropies."""
    heldout = data.split.heldout
    figures = judge_texts(texts, heldout.texts, measures=("fluency",), groups=heldout.attributes["name"])
    return {name: figures[name] for name in ("bits_ratio", "unigram_entropy", "real_unigram_entropy")}


def masked(data: E2EData, steps: int, folder: Path) -> TextDiffusion:
    """The conditional model; the one of a run that is finished is taken as it is."""
    if (folder / "model").is_dir():
        return TextDiffusion.from_pretrained(folder / "model")
    torch.manual_seed(0)
    attributes = {name: len(values) for name, values in data.attributes.items()}
    network = TokenTransformer(
        data.tokenizer.size + 1, attributes=attributes, timed=False, lazy=True, width=192, depth=4, dropout=0.1
    )
    objective = TokenCrossEntropy(times=StratifiedTimes(0.1, 1.0))
    options = {"attribute_dropout": 0.3, "sampler": Unmasking(64, choice=TokenChoice(temperature=TEMPERATURE))}
    model = TextDiffusion.for_data(data, network=network, objective=objective, **options)
    model.fit(data, run=folder, max_steps=steps, ema=EMA(0.995), validate_every=steps, **OPTIONS)
    return model


def embedding(data: E2EData, steps: int, folder: Path) -> TextDiffusion:
    """The unconditional model of embeddings, likewise."""
    if (folder / "model").is_dir():
        return TextDiffusion.from_pretrained(folder / "model")
    torch.manual_seed(0)
    network = TokenTransformer(64, data.tokenizer.size, vectors=True, estimate=True, width=192, depth=4, dropout=0.1)
    model = TextDiffusion.for_data(data, kind="embedding", network=network, attributes={})
    model.fit(data, run=folder, max_steps=steps, ema=EMA(0.995), validate_every=steps, **OPTIONS)
    return model


def timed(name: str, make: Callable[..., TextDiffusion], data: E2EData, steps: int, folder: Path, figures: dict):
    """A model, with what its training took among the figures; that of a run that is finished is not known."""
    known, start = (folder / name / "model").is_dir(), time.process_time()
    model = make(data, steps, folder / name)
    if not known:
        figures[f"{name}_cpu_seconds"] = time.process_time() - start
    return model


def semantic(model: TextDiffusion, count: int) -> tuple[dict[str, float], list[str]]:
    """Success of each value, and all texts."""
    rates, texts = {}, []
    for name, values in model.attributes.items():
        for value in values:
            written = model.sample(count, seed=len(rates), guidance=GUIDANCE, **{name: value})
            rates[name, value] = sum(said(written, name, value)) / count
            texts += written
    figures = {"semantic_success": sum(rates.values()) / len(rates), "semantic_worst": min(rates.values())}
    for name in model.attributes:
        own = [rate for (attribute, _), rate in rates.items() if attribute == name]
        figures[f"semantic_{name}"] = sum(own) / len(own)
    return figures, texts


def composed(model: TextDiffusion, data: E2EData, count: int) -> float:
    """Success of two attributes that one description has."""
    draw, facts = random.Random(0), data.split.train.attributes
    hits = 0
    chosen = []
    while len(chosen) < count:
        i = draw.randrange(len(data.split.train.texts))
        told = [(name, facts[name][i]) for name in model.attributes if facts[name][i] is not None]
        if len(told) >= 2:
            chosen.append(draw.sample(told, 2))
    for seed, pair in enumerate(chosen):
        text = model.sample(1, seed=seed, guidance=GUIDANCE, **dict(pair))
        hits += all(said(text, name, value)[0] for name, value in pair)
    return hits / count


def lengths(model: TextDiffusion, count: int) -> float:
    """Success of lengths in words, of what `WordTokenizer` takes for one, within two."""
    asked = [10 + i % 31 for i in range(count)]
    texts = model.sample(count, seed=5, length=asked)
    return sum(length_within(texts, asked, tolerance=2)) / count


def infilled(model: TextDiffusion, data: E2EData, count: int) -> float:
    """Bits of texts with four tokens filled in, over those of the real texts, under a model of other restaurants."""
    heldout = data.split.heldout
    names = sorted({name for name in heldout.attributes["name"] if name is not None})
    mine = set(names[::2])
    other = [text for text, name in zip(heldout.texts, heldout.attributes["name"]) if name not in mine]
    own = [text for text, name in zip(heldout.texts, heldout.attributes["name"]) if name in mine]
    judge, draw, real, templates = NgramModel(5).fit(other), random.Random(0), [], []
    tokenizer = data.tokenizer
    for text in draw.sample(own, len(own)):
        ids = tokenizer.encode(text)
        if not 12 <= len(ids) <= model.length or tokenizer.unknown in ids:
            continue
        start = draw.randrange(1, len(ids) - 5)
        templates.append([tokenizer.decode(ids[:start]), 4, tokenizer.decode(ids[start + 4 :])])
        real.append(tokenizer.decode(ids))
        if len(real) == count:
            break
    return judge.bits_per_word(model.infill(templates, seed=0)) / judge.bits_per_word(real)


def steered(model: TextDiffusion, data: E2EData, steps: int, count: int, folder: Path) -> tuple[float, list[str]]:
    """Success of classifier guidance over the values of some attributes, and the texts."""
    train, hits, texts = data.split.train, [], []
    for name in [name for name in STEERED if name in data.attributes]:
        labels = train.attributes[name]
        some = [i for i, label in enumerate(labels) if label is not None]
        options = {"run": folder / name, "max_steps": steps, "ema": None} | OPTIONS
        options.pop("sample_every")
        classifier, _ = fit_classifier(model, [train.texts[i] for i in some], [labels[i] for i in some], **options)
        for value in data.attributes[name]:
            written = model.control(count, [Control(classifier, value, 3.0)], seed=len(hits))
            hits.append(sum(said(written, name, value)) / count)
            texts += written
    return sum(hits) / len(hits), texts


def main() -> int:
    """Train both, ask, judge, print and record."""
    options = parser(__doc__)
    options.add_argument("--data", default="../shared/data/e2e_nlg", help="folder of the E2E files (%(default)s)")
    options.add_argument("--steps", type=int, default=3000, help="of training of each model (default: %(default)s)")
    options.add_argument("--run", help="folder for the models (default: a temporary one)")
    given = options.parse_args()
    set_threads(given.threads)
    steps, count = (8, 2) if given.quick else (given.steps, 20)
    few = {"attributes": ("name", "area", "food")} if given.quick else {}
    data = E2EData(given.data, batch_size=32, **few)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given.run or scratch)
        model = timed("masked", masked, data, steps, folder, figures)
        start = time.process_time()
        found, texts = semantic(model, count)
        figures |= found | {"guided_cpu_seconds_per_text": (time.process_time() - start) / len(texts)}
        judged = fluency(texts, data)
        figures |= {"fluency_ratio": judged.pop("bits_ratio"), **judged}
        figures["free_fluency_ratio"] = fluency(model.sample(20 * count, seed=9), data)["bits_ratio"]
        figures["length_success"] = lengths(model, 10 * count)
        figures["composed_success"] = composed(model, data, 5 * count)
        figures["infill_ratio"] = infilled(model, data, 10 * count)
        print(*texts[:: max(1, len(texts) // 12)], sep="\n", file=sys.stderr)
        other = timed("embedding", embedding, data, steps, folder, figures)
        figures["embedding_success"], texts = steered(other, data, max(4, steps // 10), count, folder)
        figures["embedding_fluency_ratio"] = fluency(texts, data)["bits_ratio"]
        print(*itertools.islice(texts, 0, None, max(1, len(texts) // 8)), sep="\n", file=sys.stderr)
    passed = {
        "semantic_success": figures["semantic_success"] >= 0.80,
        "length_success": figures["length_success"] >= 0.95,
        "composed_success": figures["composed_success"] >= 0.65,
        "fluency_ratio": figures["fluency_ratio"] <= 1.15,
        "infill_ratio": figures["infill_ratio"] <= 1.15,
    }
    return record("text_control", figures, passed, seeds=[0], quick=given.quick, threads=given.threads)


if __name__ == "__main__":
    sys.exit(main())
