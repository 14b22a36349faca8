"""Texts: diffusion of their tokens or of their embeddings, and the autoregressive model to compare with.

`TextDiffusion` generates, infills, edits, translates and weighs texts; `PydocData`, `TextData`, `E2EData`,
`ShakespeareData` and `WikiTextData` are data modules; `CharacterTokenizer`, `WordTokenizer` and `SubwordTokenizer` turn
texts to tokens; the judges are in `ornstein.domains.text.judges`. Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.domains.text.autoregressive import AutoregressiveText, LeftToRightSampler, NextTokenLoss
    from ornstein.domains.text.backbones import EncoderNetwork
    from ornstein.domains.text.classifiers import fit_classifier
    from ornstein.domains.text.controls import Control, TextClassifier
    from ornstein.domains.text.data import DataReport, Split, TextReference, TokenData, TokenizerRecipe
    from ornstein.domains.text.diffusion import TextDiffusion
    from ornstein.domains.text.figures import draw_texts
    from ornstein.domains.text.packing import Pack, Packing, Pad, TokenRows, TokenWindows, Windows
    from ornstein.domains.text.perplexity import Perplexity
    from ornstein.domains.text.pretrained import SubwordTokenizer
    from ornstein.domains.text.reading import Texts, read_texts
    from ornstein.domains.text.reranking import least_risk
    from ornstein.domains.text.sources import E2EData, PydocData, ShakespeareData, TextData, WikiTextData
    from ornstein.domains.text.tokenizers import CharacterTokenizer, Tokenizer
    from ornstein.domains.text.words import WordTokenizer

__all__ = [
    "AutoregressiveText",
    "CharacterTokenizer",
    "Control",
    "DataReport",
    "E2EData",
    "EncoderNetwork",
    "LeftToRightSampler",
    "NextTokenLoss",
    "Pack",
    "Packing",
    "Pad",
    "Perplexity",
    "PydocData",
    "ShakespeareData",
    "Split",
    "SubwordTokenizer",
    "TextClassifier",
    "TextData",
    "TextDiffusion",
    "TextReference",
    "Texts",
    "TokenData",
    "TokenRows",
    "TokenWindows",
    "Tokenizer",
    "TokenizerRecipe",
    "WikiTextData",
    "Windows",
    "WordTokenizer",
    "draw_texts",
    "fit_classifier",
    "least_risk",
    "read_texts",
]

_PLACES = {
    "autoregressive": ("AutoregressiveText", "LeftToRightSampler", "NextTokenLoss"),
    "backbones": ("EncoderNetwork",),
    "classifiers": ("fit_classifier",),
    "controls": ("Control", "TextClassifier"),
    "data": ("DataReport", "Split", "TextReference", "TokenData", "TokenizerRecipe"),
    "diffusion": ("TextDiffusion",),
    "figures": ("draw_texts",),
    "packing": ("Pack", "Packing", "Pad", "TokenRows", "TokenWindows", "Windows"),
    "perplexity": ("Perplexity",),
    "pretrained": ("SubwordTokenizer",),
    "reading": ("Texts", "read_texts"),
    "reranking": ("least_risk",),
    "sources": ("E2EData", "PydocData", "ShakespeareData", "TextData", "WikiTextData"),
    "tokenizers": ("CharacterTokenizer", "Tokenizer"),
    "words": ("WordTokenizer",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
