r"""The stationary Gaussian conditional: the strongest baseline that fits in seconds, with exact means and variances.

A window ``x (L K,)`` is taken for Gaussian with the mean of the training data and a covariance that depends on the lag
alone, ``C[(i, k), (j, l)] = R_{kl}(i - j)``, where ``R_{kl}(h)`` is the mean of products over all pairs of training
entries ``h`` steps apart that are both observed. Averages over different pairs need not be positive definite, so
negative eigenvalues are set to 0, and a ridge ``r`` is added to all. Series drift: ``g`` is the variance of a level of
each variable that a window has for itself, ``C + g (1_L 1_L^T x I_K)`` (for large ``g`` ordinary kriging). Both are
chosen: with them hidden entries of validation windows are likeliest, given the rest.

With the precision ``P`` of all that, missing entries ``m`` given known ones ``o`` have covariance ``P_mm^{-1}`` and
mean ``mu_m - P_mm^{-1} P_mo (x_o - mu_o)``, and the known ones the log-density

    -(1/2) [ v^T P v - s^T P_mm^{-1} s + d_o log 2 pi - log det P + log det P_mm ],   v = x - mu (0 at m), s = P_mo v_o,

so that one inversion serves every pattern of missing entries, and windows that share a pattern share one factor.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from typing_extensions import Self

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.timeseries.judges._samples import Array, as_mask
from ornstein.domains.timeseries.judges.baselines import Posterior, ProbabilisticBaseline, as_windows, require_regular

__all__ = ["GaussianConditional"]

HELD_OUT = 0.2
"""Share of the training windows that choose the ridge where there are none for validation."""


@dataclass(frozen=True)
class GaussianConditional(ProbabilisticBaseline):
    """Condition a stationary Gaussian on what is known; see the module's text.

    Windows must be as long as those of training, and their steps regular.

    Args:
        ridges: ``r`` that `fit` chooses from, relative to the mean variance of the training data, all positive.
        levels: ``g`` that it chooses from, in the same units, none negative.
        ridge: the one that it chose.
        level: likewise.
        precision: ``(L K, L K)``, from `fit`.
    """

    name: ClassVar[str] = "Gaussian conditional"

    ridges: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    levels: tuple[float, ...] = (0.0, 1.0)
    ridge: float | None = field(default=None, kw_only=True, compare=False)
    level: float | None = field(default=None, kw_only=True, compare=False)
    precision: np.ndarray | None = field(default=None, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        require(bool(self.ridges) and min(self.ridges) > 0, "ridges", self.ridges, "positive numbers")
        require(bool(self.levels) and min(self.levels) >= 0, "levels", self.levels, "numbers of at least 0")

    def fit(
        self,
        train: Array,
        validation: Array | None = None,
        *,
        hidden: Array | None = None,
        time: Array | None = None,
    ) -> Self:
        """A copy that knows the covariance and the ridge.

        Args:
            train: ``(B, L, K)`` with NaN where a value is missing; more windows than a few.
            validation: ``(B', L, K)``, windows apart from those; without, the last fifth of ``train`` chooses.
            hidden: ``(B', L, K)`` bool, what of ``validation`` the ridge has to predict: hide what will be missing, as
                the last steps for forecasts. Without, each window hides what the next one misses; if that is nothing,
                the ridge is chosen by the likelihood of all that is known.
            time: ``(B, L)`` of ``train``, in steps; must be regular.

        Raises:
            TypeError, ValueError: see `as_windows`; irregular times, ``hidden`` without ``validation``, or a single
                window and none for validation.
        """
        fitted = super().fit(train, time=time)
        windows, times = as_windows(train, time, "train")
        require_regular(times, type(self).__name__)
        if validation is None:
            few = max(1, round(HELD_OUT * len(windows)))
            require(len(windows) > 1, "train", "one window", "more, or windows for validation")
            learned, held = windows[:-few], windows[-few:]
        else:
            learned, (held, _) = windows, as_windows(validation, name="validation")
            require(held.shape[1:] == windows.shape[1:], "shape of validation", held.shape, f"(B, {windows.shape[1:]})")
        require(hidden is None or validation is not None, "hidden", "a mask", "validation beside it")
        asked = _next_missing(held) if hidden is None else as_mask(hidden, held.shape, "hidden") & ~np.isnan(held)
        whole, rest = held - fitted.mean, np.where(asked, np.nan, held - fitted.mean)
        covariance, scale = _covariance(learned - fitted.mean)
        require(scale > 0, "train", "constant variables", "some that vary")
        found = []
        for level in self.levels:
            spectrum = _spectrum(covariance, level * scale, windows.shape[2])
            for ridge in self.ridges:
                model = _precision(*spectrum, ridge * scale)
                gain = _log_likelihood(whole, *model) - (_log_likelihood(rest, *model) if asked.any() else 0)
                found.append((gain, level, ridge))
        _, level, ridge = max(found)
        if validation is None:
            covariance, scale = _covariance(windows - fitted.mean)
        precision, _ = _precision(*_spectrum(covariance, level * scale, windows.shape[2]), ridge * scale)
        return replace(fitted, level=level, ridge=ridge, precision=precision)

    def _posteriors(self, windows: np.ndarray, times: np.ndarray) -> Iterator[Posterior]:
        require_regular(times, type(self).__name__)
        mean = self._fitted_mean(windows.shape[2])
        steps = len(self.precision) // len(mean)  # type: ignore[arg-type]
        require(windows.shape[1] == steps, "values", f"{windows.shape[1]} steps", f"{steps}, as in training")
        centre = np.tile(mean, steps)
        for rows, missing, known in _patterns(windows - mean):
            factor, shift = _conditional(self.precision, missing, known)  # type: ignore[arg-type]
            places = np.flatnonzero(missing)
            yield Posterior(rows, places, centre[places] - shift @ factor.T, factor)


def _next_missing(windows: np.ndarray) -> np.ndarray:
    """What each window has and the next misses."""
    return ~np.isnan(windows) & np.roll(np.isnan(windows), -1, axis=0)


def _covariance(windows: np.ndarray) -> tuple[np.ndarray, float]:
    """Lag covariance ``(L K, L K)`` of centred windows ``(B, L, K)``, and its mean variance."""
    _, steps, variables = windows.shape
    seen = ~np.isnan(windows)
    flat, count = np.where(seen, windows, 0).reshape(len(windows), -1), seen.reshape(len(windows), -1).astype(float)
    shape = (steps, variables, steps, variables)
    products, pairs = (flat.T @ flat).reshape(shape), (count.T @ count).reshape(shape)
    covariance = np.empty(shape)
    for lag in range(steps):
        early = np.arange(steps - lag)
        total = pairs[early + lag, :, early].sum(0)
        # Two variables that are never seen at this lag: nothing is known of them, so nothing is assumed.
        block = np.where(total > 0, products[early + lag, :, early].sum(0) / np.maximum(total, 1), 0)
        covariance[early + lag, :, early] = block
        covariance[early, :, early + lag] = block.T
    values, vectors = np.linalg.eigh(covariance.reshape(steps * variables, -1))
    values = np.maximum(values, 0)
    return (vectors * values) @ vectors.T, float(values.mean())


def _spectrum(covariance: np.ndarray, level: float, variables: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of the covariance with a level of its own in each variable."""
    steps = len(covariance) // variables
    values, vectors = np.linalg.eigh(covariance + level * np.kron(np.ones((steps, steps)), np.eye(variables)))
    return np.maximum(values, 0), vectors


def _precision(values: np.ndarray, vectors: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
    """Inverse of the covariance with the ridge, and the log of the inverse's determinant."""
    return (vectors / (values + ridge)) @ vectors.T, -float(np.log(values + ridge).sum())


def _patterns(centred: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Numbers ``(b,)`` of windows of one pattern, where they miss values ``(d,)``, and the windows with 0 there."""
    flat = centred.reshape(len(centred), -1)
    patterns, which = np.unique(np.isnan(flat), axis=0, return_inverse=True)
    for number, missing in enumerate(patterns):
        rows = np.flatnonzero(which.reshape(-1) == number)
        yield rows, missing, np.where(missing, 0, flat[rows])


def _conditional(precision: np.ndarray, missing: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``F (m, m)`` with ``F F^T = P_mm^{-1}``, and ``F^T P_mo v_o`` for each of the windows ``(b, m)``."""
    solve = need("scipy.linalg", to="condition a Gaussian", extra="timeseries").solve_triangular
    lower = np.linalg.cholesky(precision[np.ix_(missing, missing)])
    inverse = solve(lower, np.eye(len(lower)), lower=True)
    return inverse.T, known @ precision[:, missing] @ inverse.T


def _log_likelihood(centred: np.ndarray, precision: np.ndarray, log_det: float) -> float:
    """Of what is known of the windows, up to a constant that no ridge changes."""
    total = 0.0
    for _, missing, known in _patterns(centred):
        factor, shift = _conditional(precision, missing, known)
        quadratic = np.einsum("bi,ij,bj->b", known, precision, known) - np.square(shift).sum(1)
        normaliser = log_det + 2 * np.log(np.diag(factor)).sum()
        total += 0.5 * float((normaliser - quadratic).sum())
    return total
