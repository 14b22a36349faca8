"""Choosing among candidate texts: the one that the others agree with most."""

from collections.abc import Callable, Sequence

from ornstein.core.optional import need

__all__ = ["least_risk"]

Gain = Callable[[str, str], float]


def least_risk(candidates: Sequence[str], gain: Gain | None = None) -> str:
    r"""Minimum-Bayes-risk choice: ``argmax_c sum_{c' != c} gain(c, c')``, the first among equals.

    Kumar and Byrne 2004 (HLT-NAACL); for diffusion of texts Li et al. 2022 (arXiv 2205.14217), section 5.3.

    Args:
        candidates: drawn alike, at least one.
        gain: of a text when another is the truth; sacrebleu's sentence BLEU when not given.

    Raises:
        ImportError: sacrebleu is missing.
        ValueError: no candidates.

    >>> least_risk(["a b c d", "a b c e", "x y"], gain=lambda one, other: len({*one} & {*other}))
    'a b c d'
    """
    if not candidates:
        raise ValueError("candidates is empty: expected at least one text")
    if len(candidates) == 1:
        return candidates[0]
    if gain is None:
        bleu = need("sacrebleu", to="choose among candidates", extra="text").BLEU(effective_order=True)

        def gain(one: str, other: str) -> float:
            return bleu.sentence_score(one, [other]).score

    totals = [sum(gain(one, other) for j, other in enumerate(candidates) if j != i) for i, one in enumerate(candidates)]
    return candidates[totals.index(max(totals))]
