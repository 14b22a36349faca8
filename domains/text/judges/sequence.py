"""How close texts are to the texts that were wanted: BLEU, ROUGE and exact match, for one or several references.

BLEU is that of the whole set (Papineni et al. 2002) by sacrebleu (Post 2018, 1804.08771). ROUGE-1 and ROUGE-2 are the
F-measures of common words and pairs of words, ROUGE-L that of the longest common subsequence (Lin 2004), by
rouge-score, averaged over the texts; of several references the nearest counts, for each measure apart.
"""

import re
from collections.abc import Sequence

from ornstein.core.optional import need
from ornstein.domains.text.judges._texts import Units, as_texts, splitter

__all__ = ["sequence_scores"]

_ROUGE = ("rouge1", "rouge2", "rougeL")
_ROUGE_WORD = re.compile(r"[a-z0-9]")


class _Splitter:
    """Words of `splitter` without case, as rouge-score wants its tokenizers."""

    def __init__(self, units: Units) -> None:
        self.units, self._split = units, splitter(units)

    def tokenize(self, text: str) -> list[str]:
        return [unit for unit in self._split(text.casefold()) if not unit.isspace()]


def sequence_scores(
    hypotheses: Sequence[str],
    references: Sequence[str | Sequence[str]],
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    rouge_units: Units | None = None,
) -> dict[str, float]:
    """``bleu``, ``rouge1``, ``rouge2``, ``rougeL`` and ``exact_match``, each in [0, 1]; see the module's text.

    Args:
        hypotheses: what the model wrote.
        references: for each of them one text or several, any number of which may be wanted.
        tokenize: sacrebleu's name of a tokenizer for BLEU ("13a", "intl", "zh", "char").
        lowercase: BLEU and exact match without case. ROUGE has none.
        rouge_units: what ROUGE counts; None takes rouge-score's own words, which are runs of ``a-z`` and ``0-9``.

    Returns:
        ``bleu`` is sacrebleu's score over 100. ``exact_match`` is the share that equals a reference, white space aside.

    Raises:
        ImportError: sacrebleu or rouge-score is missing.
        TypeError: no lists of strings.
        ValueError: empty lists, lists of different lengths, a hypothesis without references, or references in which
            rouge-score finds no word.
    """
    hypotheses = as_texts(hypotheses, "hypotheses")
    wanted = _as_references(references, len(hypotheses))
    if rouge_units is None:
        _require_latin(wanted)
    bleu = need("sacrebleu.metrics", to="compute BLEU", extra="text").BLEU(tokenize=tokenize, lowercase=lowercase)
    most = max(map(len, wanted))
    streams = [[row[number] if number < len(row) else None for row in wanted] for number in range(most)]
    scorer = need("rouge_score.rouge_scorer", to="compute ROUGE", extra="text").RougeScorer(
        list(_ROUGE), tokenizer=None if rouge_units is None else _Splitter(rouge_units)
    )
    rouge = [scorer.score_multi(row, text) for text, row in zip(hypotheses, wanted)]
    exact = [_plain(text, lowercase) in {_plain(w, lowercase) for w in row} for text, row in zip(hypotheses, wanted)]
    return {
        "bleu": bleu.corpus_score(hypotheses, streams).score / 100,
        **{name: float(sum(score[name].fmeasure for score in rouge) / len(rouge)) for name in _ROUGE},
        "exact_match": sum(exact) / len(exact),
    }


def _as_references(references: Sequence[str | Sequence[str]], count: int) -> list[list[str]]:
    if isinstance(references, str | bytes) or not isinstance(references, Sequence):
        raise TypeError(f"references must be a list, got {type(references).__name__}")
    if len(references) != count:
        raise ValueError(f"{len(references)} references were given for {count} hypotheses: expected one entry each")
    return [
        [row] if isinstance(row, str) else as_texts(row, f"references[{number}]")
        for number, row in enumerate(references)
    ]


def _require_latin(wanted: list[list[str]]) -> None:
    for number, row in enumerate(wanted):
        for text in row:
            if text.strip() and not _ROUGE_WORD.search(text.lower()):
                raise ValueError(
                    f"references[{number}]={text[:40]!r} has no word of a-z and 0-9, all that rouge-score's own "
                    "words are made of: give rouge_units='word' or 'character'"
                )


def _plain(text: str, lowercase: bool) -> str:
    plain = " ".join(text.split())
    return plain.casefold() if lowercase else plain
