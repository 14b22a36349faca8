"""What a model has to beat: mean, last value, straight line, season, neighbours. All impute and forecast.

A baseline is a frozen dataclass of settings. ``fit`` returns a copy that has learned from training windows; ``impute``
fills NaN and leaves all else as it came, bit for bit. To forecast is to impute: the future is a block of NaN at the end
of a window, in which `LastValue` is the naive and `Seasonal` the seasonal naive forecast.

Windows are ``(B, L, K)`` or ``(L, K)``, of ``L`` steps and ``K`` variables; ``time (B, L)`` or ``(L,)`` is in steps,
0, 1, 2 ... when not given. Where a rule has nothing to go by, as in a window with no value of a variable, the mean of
the training data stands in.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from typing_extensions import Self

from ornstein.core.optional import need
from ornstein.core.schedules import require
from ornstein.domains.timeseries.judges._samples import Array, as_array

__all__ = [
    "Baseline",
    "KNearest",
    "LastValue",
    "Linear",
    "Posterior",
    "ProbabilisticBaseline",
    "Seasonal",
    "TrainingMean",
    "as_windows",
]


def as_windows(values: Array, time: Array | None = None, name: str = "values") -> tuple[np.ndarray, np.ndarray]:
    """Windows ``(B, L, K)`` and times ``(B, L)`` in float64; one window ``(L, K)`` becomes a batch of one.

    Raises:
        TypeError: no arrays of numbers.
        ValueError: other shapes, infinite values, or times that do not rise.
    """
    windows = as_array(values, name).astype(np.float64)
    require(windows.ndim in (2, 3) and windows.size > 0, f"shape of {name}", windows.shape, "(B, L, K) or (L, K)")
    windows = windows.reshape(-1, *windows.shape[-2:])
    require(not np.isinf(windows).any(), name, "infinite values", "numbers, and NaN where one is missing")
    if time is None:
        return windows, np.broadcast_to(np.arange(windows.shape[1], dtype=np.float64), windows.shape[:2])
    times = as_array(time, "time").astype(np.float64)
    require(
        times.shape[-1:] == windows.shape[1:2] and times.size in (windows.shape[1], windows[..., 0].size),
        "shape of time",
        times.shape,
        f"{windows.shape[:2]} or {windows.shape[1:2]}, a time a step",
    )
    require(bool((np.diff(times) > 0).all()), "time", "stamps that do not rise", "later times after earlier ones")
    return windows, np.broadcast_to(times.reshape(-1, windows.shape[1]), windows.shape[:2])


@dataclass(frozen=True)
class Baseline(ABC):
    """A rule that fills windows; see the module's text.

    Args:
        mean: ``(K,)`` of the training data, from `fit`.
    """

    name: ClassVar[str]

    mean: np.ndarray | None = field(default=None, kw_only=True, repr=False, compare=False)

    def fit(
        self,
        train: Array,
        validation: Array | None = None,
        *,
        hidden: Array | None = None,
        time: Array | None = None,
    ) -> Self:
        """A copy that has learned.

        Args:
            train: ``(B, L, K)`` with NaN where a value is missing.
            validation: ``(B', L, K)``, windows apart from those, for rules that choose a setting by them.
            hidden: ``(B', L, K)`` bool, what such a rule is to predict of ``validation`` from the rest.
            time: ``(B, L)`` of ``train``, in steps.

        Raises:
            TypeError, ValueError: see `as_windows`; a variable without any value.
        """
        windows, _ = as_windows(train, time, "train")
        empty = np.isnan(windows).all((0, 1))
        require(not empty.any(), "train", f"no value of variable {np.flatnonzero(empty)}", "one of each variable")
        return replace(self, mean=np.nanmean(windows, (0, 1)))

    def impute(self, values: Array, *, time: Array | None = None) -> np.ndarray:
        """``values`` with NaN filled, in their shape, as float64.

        Args:
            values: ``(B, L, K)`` or ``(L, K)`` with NaN where a value is wanted.
            time: ``(B, L)`` or ``(L,)``, in steps.

        Raises:
            TypeError, ValueError: see `as_windows`; a window that the rule cannot fill before `fit`.
        """
        windows, times = as_windows(values, time)
        filled = self._fill(windows, times)
        left = np.isnan(filled)
        if left.any():
            filled = np.where(left, self._fitted_mean(windows.shape[2]), filled)
        return np.where(np.isnan(windows), filled, windows).reshape(np.shape(values))

    @abstractmethod
    def _fill(self, windows: np.ndarray, times: np.ndarray) -> np.ndarray:
        """``(B, L, K)`` filled as far as the rule goes."""

    def _fitted_mean(self, variables: int) -> np.ndarray:
        if self.mean is None:
            raise ValueError(f"{type(self).__name__} has not seen training data, and needs its mean: call fit first")
        require(len(self.mean) == variables, "values", f"{variables} variables", f"{len(self.mean)}, as in training")
        return self.mean


@dataclass(frozen=True)
class TrainingMean(Baseline):
    """The mean of each variable in the training data."""

    name: ClassVar[str] = "mean"

    def _fill(self, windows: np.ndarray, times: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self._fitted_mean(windows.shape[2]), windows.shape)


@dataclass(frozen=True)
class LastValue(Baseline):
    """The last value before (LOCF); before the first, the first."""

    name: ClassVar[str] = "last value"

    def _fill(self, windows: np.ndarray, times: np.ndarray) -> np.ndarray:
        before, after = _take(windows, _before(windows)), _take(windows, _after(windows))
        return np.where(np.isnan(before), after, before)


@dataclass(frozen=True)
class Linear(Baseline):
    """The straight line in elapsed time between the values before and after; outside of them, the nearest."""

    name: ClassVar[str] = "linear"

    def _fill(self, windows: np.ndarray, times: np.ndarray) -> np.ndarray:
        clock = np.broadcast_to(times[..., None], windows.shape)
        earlier, later = _before(windows), _after(windows)
        before, after = _take(windows, earlier), _take(windows, later)
        start, end = _take(clock, earlier), _take(clock, later)
        part = np.where(end > start, (clock - start) / np.where(end > start, end - start, 1), 0)
        line = before + part * (after - before)
        return np.where(np.isnan(before), after, np.where(np.isnan(after), before, line))


@dataclass(frozen=True)
class Seasonal(Baseline):
    """The mean of the nearest values whole periods before and after; the one where there is but one, else the line.

    Steps are counted, so the stamps must be regular.

    Args:
        period: in steps.
    """

    name: ClassVar[str] = "seasonal"

    period: int = 24

    def __post_init__(self) -> None:
        require(self.period >= 1, "period", self.period, "at least one step")

    def _fill(self, windows: np.ndarray, times: np.ndarray) -> np.ndarray:
        require_regular(times, type(self).__name__)
        filled = Linear()._fill(windows, times)
        for phase in range(min(self.period, windows.shape[1])):
            part = windows[:, phase :: self.period]
            before, after = _take(part, _before(part)), _take(part, _after(part))
            both = np.where(np.isnan(before), after, np.where(np.isnan(after), before, (before + after) / 2))
            filled[:, phase :: self.period] = np.where(np.isnan(both), filled[:, phase :: self.period], both)
        return filled


@dataclass(frozen=True)
class KNearest(Baseline):
    """The mean of the nearest training windows, weighted by ``1 / distance``, by scikit-learn's ``KNNImputer``.

    Windows less their own mean of each variable are compared as vectors ``(L K,)`` over the entries that both have;
    neighbours are those that have the entry that is wanted. All windows must be as long as those of training.

    Args:
        neighbours: how many.
        imputer: the fitted ``KNNImputer``, from `fit`.
    """

    name: ClassVar[str] = "k nearest neighbours"

    neighbours: int = 5
    imputer: Any = field(default=None, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        require(self.neighbours >= 1, "neighbours", self.neighbours, "at least 1")

    def fit(
        self,
        train: Array,
        validation: Array | None = None,
        *,
        hidden: Array | None = None,
        time: Array | None = None,
    ) -> Self:
        fitted = super().fit(train, time=time)
        tools = need("sklearn.impute", to="fill by nearest neighbours", extra="timeseries")
        windows, _ = as_windows(train, time, "train")
        windows = windows - _levels(windows, fitted._fitted_mean(windows.shape[2]))
        imputer = tools.KNNImputer(n_neighbors=self.neighbours, weights="distance", keep_empty_features=True)
        return replace(fitted, imputer=imputer.fit(windows.reshape(len(windows), -1)))

    def _fill(self, windows: np.ndarray, times: np.ndarray) -> np.ndarray:
        levels = _levels(windows, self._fitted_mean(windows.shape[2]))
        rows, known = (windows - levels).reshape(len(windows), -1), self.imputer.n_features_in_
        steps = known // windows.shape[2]
        require(rows.shape[1] == known, "values", f"{windows.shape[1]} steps", f"{steps}, as in training")
        return levels + self.imputer.transform(rows).reshape(windows.shape)


class Posterior(NamedTuple):
    """The Gaussian of the entries ``places (m,)`` of the flattened windows ``rows (b,)``.

    Attributes:
        rows: numbers of windows.
        places: numbers ``l K + k`` of entries.
        mean: ``(b, m)``.
        factor: ``(m, m)``, the covariance is ``factor @ factor.T``.
    """

    rows: np.ndarray
    places: np.ndarray
    mean: np.ndarray
    factor: np.ndarray


@dataclass(frozen=True)
class ProbabilisticBaseline(Baseline):
    """A baseline whose answer is a Gaussian of all that is missing: `moments` are exact, `sample` draws jointly."""

    @abstractmethod
    def _posteriors(self, windows: np.ndarray, times: np.ndarray) -> Iterator[Posterior]:
        """Independent Gaussians that together hold each missing entry once."""

    def _fill(self, windows: np.ndarray, times: np.ndarray) -> np.ndarray:
        return self._moments(windows, times)[0]

    def moments(self, values: Array, *, time: Array | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each entry given all that is known, in the shape of ``values``; variance 0 if known.

        Args:
            values: ``(B, L, K)`` or ``(L, K)`` with NaN where a value is wanted.
            time: ``(B, L)`` or ``(L,)``, in steps.

        Raises:
            TypeError, ValueError: see `as_windows`; before `fit`.
        """
        mean, variance = self._moments(*as_windows(values, time))
        return mean.reshape(np.shape(values)), variance.reshape(np.shape(values))

    def _moments(self, windows: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._fitted_mean(windows.shape[2])
        mean, variance = windows.reshape(len(windows), -1).copy(), np.zeros((len(windows), windows[0].size))
        for rows, places, centre, factor in self._posteriors(windows, times):
            mean[np.ix_(rows, places)] = centre
            variance[np.ix_(rows, places)] = np.square(factor).sum(1)
        return mean.reshape(windows.shape), variance.reshape(windows.shape)

    def sample(self, values: Array, n: int, *, time: Array | None = None, seed: int = 0) -> np.ndarray:
        """``n`` joint draws ``(n, ...)`` of ``values`` with NaN filled, float64; what is known is the same in all.

        Args:
            values: ``(B, L, K)`` or ``(L, K)`` with NaN where a value is wanted.
            n: at least 1.
            time: ``(B, L)`` or ``(L,)``, in steps.
            seed: of the draws.

        Raises:
            TypeError, ValueError: see `as_windows`; before `fit`.
        """
        require(n >= 1, "n", n, "at least 1")
        windows, times = as_windows(values, time)
        self._fitted_mean(windows.shape[2])
        rng = np.random.default_rng(seed)
        drawn = np.repeat(windows.reshape(1, len(windows), -1), n, 0)
        for rows, places, centre, factor in self._posteriors(windows, times):
            noise = rng.standard_normal((n, len(rows), len(places)))
            drawn[:, rows[:, None], places] = centre + noise @ factor.T
        return drawn.reshape(n, *np.shape(values))


def require_regular(times: np.ndarray, what: str) -> None:
    """Refuse times that are not one step apart."""
    even = np.allclose(np.diff(times), 1, atol=1e-3)
    require(even, "time", "irregular stamps", f"one step between neighbours: {what} counts steps, take GaussianProcess")


def _levels(windows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Mean ``(B, 1, K)`` of each variable in each window; that of training where it has no value."""
    count = (~np.isnan(windows)).sum(1, keepdims=True)
    return np.where(count > 0, np.nansum(windows, 1, keepdims=True) / np.maximum(count, 1), mean)


def _before(windows: np.ndarray) -> np.ndarray:
    """Number of the last step up to each that has a value; -1 if none has."""
    steps = np.arange(windows.shape[1])[:, None]
    return np.maximum.accumulate(np.where(np.isnan(windows), -1, steps), axis=1)


def _after(windows: np.ndarray) -> np.ndarray:
    """Number of the first step from each that has a value; -1 if none has."""
    back = _before(windows[:, ::-1])[:, ::-1]
    return np.where(back < 0, -1, windows.shape[1] - 1 - back)


def _take(x: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The values at steps, NaN at -1."""
    return np.where(steps < 0, np.nan, np.take_along_axis(x, np.maximum(steps, 0), axis=1))
