"""How close two sets of texts are as distributions: MAUVE, the area under a curve of divergences.

With ``P`` and ``Q`` histograms of real texts and samples over the same cells and ``R_a = a P + (1 - a) Q``,

    C(P, Q) = {(exp(-c KL(Q | R_a)), exp(-c KL(P | R_a))) : 0 <= a <= 1},     MAUVE = area under C in the unit square

(Pillutla et al. 2021, 2102.01454, equations 1 to 3). The first coordinate falls where samples are unlike all real
texts, the second where real texts are unlike all samples; ``c = 5`` as in the paper. Equal histograms give 1,
histograms without a common cell ``Gamma(c + 1)^2 / Gamma(2 c + 1)``, which is 1 / 252.

The cells are k-means clusters of features of both sets together, scaled to unit length and reduced to the principal
components that hold 90 % of their variance, about one cell for ten texts (section 3 and appendix of the paper). The
figure depends on the features, on the number of texts and on the number of cells: compare it only where these are
equal, and with the figure of real texts against real texts. What texts are about counts as much as how they are
written: sets with different names in them get nearly the least figure. Published figures are on features of GPT-2; the
features here that need no weights count n-grams, and their figure is named "MAUVE on n-gram features".
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.text.judges._texts import as_texts

__all__ = ["Features", "Mauve", "NgramFeatures", "divergence_frontier", "frontier_area", "mauve_score"]

Features = Callable[[list[str]], np.ndarray]
"""From ``N`` texts to ``(N, d)`` numbers."""

AT_LEAST = 20
"""Texts on either side: below, two cells would be as many as the rule of one for ten allows."""


class Mauve(NamedTuple):
    """A figure of `mauve_score` and what it rests on."""

    value: float
    """Area under the frontier, in (0, 1]: more is better."""
    cells: int
    """Clusters that the features were cut into."""
    features: str
    """Name of the figure, with its features."""


@dataclass(frozen=True)
class NgramFeatures:
    """Features of texts without a trained network: hashed counts of n-grams, reduced to their leading directions.

    Counts of words and of pairs of words, and of runs of 2 to 4 characters within words, each hashed into ``buckets``
    columns, damped to ``1 + log(count)`` and scaled to unit length, then projected on the leading singular vectors of
    the texts given (latent semantic analysis: Deerwester et al. 1990). They see spelling, vocabulary and neighbouring
    words, and neither meaning nor long-range order. Case is ignored. They are fitted to the texts of one call: features
    of two calls are not comparable.

    Attributes:
        dimensions: columns at most.
        buckets: columns of each kind of counts before the projection.
        seed: of the randomised singular value decomposition.

    Raises:
        ValueError: ``dimensions`` or ``buckets`` below 1.
    """

    dimensions: int = 128
    buckets: int = 1 << 16
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.dimensions >= 1, "dimensions", self.dimensions, "at least 1")
        require(self.buckets >= 1, "buckets", self.buckets, "at least 1")

    def __call__(self, texts: list[str]) -> np.ndarray:
        """``(N, d)`` features, ``d`` at most ``dimensions`` and the number of texts less one.

        Raises:
            ImportError: scikit-learn is missing.
            ValueError: fewer than two texts.
        """
        texts = as_texts(texts, "texts", at_least=2)
        sparse = need("scipy.sparse", to="count n-grams", extra="text")
        text = need("sklearn.feature_extraction.text", to="count n-grams", extra="text")
        decomposition = need("sklearn.decomposition", to="reduce features", extra="text")
        kinds: tuple[dict[str, Any], ...] = (
            {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\w+|[^\w\s]"},
            {"analyzer": "char_wb", "ngram_range": (2, 4)},
        )
        parts = []
        for kind in kinds:
            hashing = text.HashingVectorizer(n_features=self.buckets, alternate_sign=False, norm=None, **kind)
            parts.append(
                text.TfidfTransformer(use_idf=False, sublinear_tf=True).fit_transform(hashing.transform(texts))
            )
        counts = sparse.hstack(parts, format="csr")
        counts = counts[:, counts.getnnz(0) > 0]  # most buckets are empty, and each costs as much as a full one
        if not counts.shape[1]:
            return np.zeros((len(texts), 1))
        rank = min(self.dimensions, len(texts) - 1, counts.shape[1])
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)  # shares of a variance of zero, where all texts are alike
            return decomposition.TruncatedSVD(rank, random_state=self.seed).fit_transform(counts)


def mauve_score(
    samples: Sequence[str],
    reference: Sequence[str],
    *,
    features: Features | None = None,
    cells: int | None = None,
    scale: float = 5.0,
    variance: float = 0.9,
    restarts: int = 5,
    seed: int = 0,
) -> Mauve:
    """MAUVE of ``samples`` against ``reference``; see the module's text.

    Args:
        samples: at least 20 texts.
        reference: real texts, at least 20; best as many as samples.
        features: a function from texts to ``(N, d)`` numbers, called once with the reference and then the samples in
            one list; `NgramFeatures` if None.
        cells: number of clusters; a tenth of the smaller set, at least 2, if None. Never more than there are different
            features.
        scale: ``c``.
        variance: share of the variance that the principal components keep.
        restarts: of k-means; the best is kept.
        seed: of k-means.

    Raises:
        ImportError: scikit-learn is missing.
        TypeError: no lists of strings, or features that are no array of numbers.
        ValueError: too few texts, features of a wrong shape or with values that are not finite, or an option out of its
            range.
    """
    reference = as_texts(reference, "reference", at_least=AT_LEAST)
    samples = as_texts(samples, "samples", at_least=AT_LEAST)
    require(0 < variance < 1, "variance", variance, "a share between 0 and 1")
    require(restarts >= 1, "restarts", restarts, "at least 1")
    count = cells if cells is not None else max(2, round(min(len(samples), len(reference)) / 10))
    require(2 <= count <= len(samples) + len(reference), "cells", count, "at least 2 and at most the number of texts")
    extract = features if features is not None else NgramFeatures()
    rows = _checked(extract(reference + samples), len(reference) + len(samples))
    labels = _quantise(rows, count, variance, restarts, seed)
    p, q = (
        np.bincount(part, minlength=count) / len(part) for part in (labels[: len(reference)], labels[len(reference) :])
    )
    name = getattr(extract, "__name__", type(extract).__name__)
    return Mauve(
        frontier_area(divergence_frontier(p, q, scale=scale)),
        len(np.unique(labels)),
        "MAUVE on n-gram features" if isinstance(extract, NgramFeatures) else f"MAUVE on {name}",
    )


def divergence_frontier(p: np.ndarray, q: np.ndarray, *, scale: float = 5.0, points: int = 1001) -> np.ndarray:
    """The curve ``C(P, Q)`` from (0, 1) to (1, 0), at evenly spaced ``a`` from 1 to 0.

    The published code takes 25 points, whose chords overstate the area of far histograms by a few per cent.

    Args:
        p: shares of the real texts, ``(k,)``, which sum to 1.
        q: shares of the samples, likewise.
        scale: ``c``.
        points: values of ``a``.

    Returns:
        ``(points + 2, 2)``, the first column rising.

    Raises:
        ValueError: ``p`` and ``q`` are not two distributions over the same cells, or an option is out of range.
    """
    require(scale > 0, "scale", scale, "above 0")
    require(points >= 2, "points", points, "at least 2")
    p, q = (np.asarray(x, dtype=np.float64) for x in (p, q))
    for name, x in (("p", p), ("q", q)):
        if x.shape != p.shape or x.ndim != 1 or not (x >= 0).all() or not np.isclose(x.sum(), 1):
            raise ValueError(f"{name} has shape {x.shape} and sum {x.sum():.6g}: expected shares of equal shape (k,)")
    mix = np.linspace(1, 0, points)[:, None]
    mixed = mix * p + (1 - mix) * q
    curve = np.exp(-scale * np.stack([_divergence(q, mixed), _divergence(p, mixed)], 1))
    return np.vstack([(0, 1), curve, (1, 0)])


def frontier_area(frontier: np.ndarray) -> float:
    """Area under a curve ``(n, 2)`` whose first column rises, by trapezia."""
    x, y = frontier.T
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)


def _divergence(p: np.ndarray, r: np.ndarray) -> np.ndarray:
    """``KL(p | r)`` in nats for each row of ``r``; infinite where ``p`` has mass in a cell without any of ``r``."""
    held = p > 0
    with np.errstate(divide="ignore"):
        return np.maximum((p[held] * (np.log(p[held]) - np.log(r[:, held]))).sum(1), 0)


def _checked(features: Any, count: int) -> np.ndarray:
    """Features as finite float64 rows, one a text."""
    rows = np.asarray(features)
    if rows.dtype.kind not in "fiub":
        raise TypeError(f"features gave an array of dtype {rows.dtype}: expected real numbers of shape (N, d)")
    if rows.ndim != 2 or len(rows) != count or rows.shape[1] < 1:
        raise ValueError(f"features gave shape {rows.shape} for {count} texts: expected ({count}, d)")
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows)).any(1).sum())
        raise ValueError(f"features gave NaN or infinite values for {bad} of {count} texts: expected finite numbers")
    return rows.astype(np.float64)


def _quantise(rows: np.ndarray, cells: int, variance: float, restarts: int, seed: int) -> np.ndarray:
    """The cell of each row, ``(N,)``."""
    cluster = need("sklearn.cluster", to="quantise features", extra="text")
    decomposition = need("sklearn.decomposition", to="reduce features", extra="text")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(lengths > 0, lengths, 1)
    if np.ptp(rows, axis=0).max() < 1e-9:  # all alike: one cell, and no variance to keep a share of
        return np.zeros(len(rows), dtype=np.int64)
    rows = decomposition.PCA(variance, svd_solver="full").fit_transform(rows)
    different = len(np.unique(rows.round(9), axis=0))
    means = cluster.KMeans(min(cells, different), n_init=restarts, max_iter=500, random_state=seed)
    return means.fit_predict(rows)
