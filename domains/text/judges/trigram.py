"""How likely English texts are under the trigram that comes with pocketsphinx: a judge that saw none of the data.

The model is the recogniser's ``en-us.lm.bin``, about 72,500 lower-case words without digits or punctuation. Texts are
read as it expects: lower case, hyphens taken apart, punctuation left out; a run of digits is a word, and unknown.
Each word is judged after the two before it, the first after the mark of the start, and the mark of the end after the
last. The model gives unknown words no probability at all; each costs a stated number of bits instead, and what follows
one is judged by the words after it alone.
"""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ornstein.core.optional import need
from ornstein.domains.text.judges._texts import as_texts
from ornstein.domains.text.judges.diversity import unigram_entropy
from ornstein.domains.text.judges.ngram import Fluency, NgramModel

__all__ = ["trigram_bits"]

_SPOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def trigram_bits(
    texts: Sequence[str],
    *,
    fallback: NgramModel | None = None,
    unknown_bits: float = 20.0,
    model: str | os.PathLike[str] | None = None,
) -> Fluency:
    """Bits per word of English texts under pocketsphinx's trigram, ends counted; see the module's text.

    Args:
        texts: what to judge.
        fallback: a fitted model that judges instead where pocketsphinx is not installed; the result names the judge.
            Without one the missing library is an error.
        unknown_bits: the price of a word that the model does not know. Its rarest words cost about 20 alone.
        model: another n-gram file than the one that comes with pocketsphinx.

    Raises:
        ImportError: pocketsphinx is not installed, and there is no ``fallback``.
        OSError: the file of the model is not there.
        TypeError: ``texts`` is no list of strings.
        ValueError: no texts, or no words in them.
    """
    texts = as_texts(texts, "texts")
    try:
        sphinx = need("pocketsphinx", to="judge by its trigram", install="pip install pocketsphinx")
    except ImportError:
        if fallback is None:
            raise
        return fallback.fluency(texts)
    path = Path(model) if model is not None else Path(sphinx.get_model_path()) / "en-us" / "en-us.lm.bin"
    if not path.is_file():
        raise FileNotFoundError(f"no n-gram model at {path}: give the file of one as model=")
    entropy = unigram_entropy(texts, units=_spoken)
    log = sphinx.LogMath()
    judge = sphinx.NGramModel(sphinx.Config(), log, str(path))
    bits = counted = unknown = 0.0
    for text in texts:
        row = _spoken(text)
        known = [judge.prob([word]) > log.get_zero() for word in row]
        unknown += len(row) - sum(known)
        counted += len(row) + 1
        bits += unknown_bits * (len(row) - sum(known)) + _known_bits(judge, log, row, known)
    words = counted - len(texts)
    return Fluency(bits / counted, entropy, unknown / words, f"pocketsphinx trigram {path.name}")


def _spoken(text: str) -> list[str]:
    return _SPOKEN.findall(text.lower().replace("’", "'"))


def _known_bits(judge: Any, log: Any, row: list[str], known: list[bool]) -> float:
    """Bits of the known words of one text and of its end; pocketsphinx takes a word, then its context backwards."""
    bits = 0.0
    context: list[str] = ["<s>"]
    for word, is_known in [*zip(row, known), ("</s>", True)]:
        if is_known:
            bits -= log.log_to_ln(judge.prob([word, *context])) / math.log(2)
        context = [word, *context][:2] if is_known else []
    return bits
