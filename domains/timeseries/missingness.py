r"""Patterns of what is missing, and the choice of targets in training: which observed entries are hidden.

With ``o`` what is observed and ``r`` what a pattern removes, always ``r <= o``: nothing is removed that is not there.

| pattern | removes | rate of the observed |
| --- | --- | --- |
| `Point` | entries, independently | ``rate`` |
| `Block` | runs of steps of one variable | ``rate`` |
| `Blackout` | runs of steps of all variables at once | ``rate`` |
| `SensorDropout` | whole variables of a window | ``rate`` |
| `ValueDependent` | entries, the likelier the higher (or lower) their value: missing not at random | ``rate`` |
| `Random` | entries, at a rate drawn for each window: CSDI's random strategy | ``(low + high) / 2`` |
| `Historical` | what is missing in another window: CSDI's historical strategy | as in the data |
| `Forecast` | the last steps of a window | ``horizon / length`` |
| `Mixture` | of each window as one of several patterns, by weight: CSDI's mix strategy and others | their mean |

A run of ``Block`` and ``Blackout`` starts at each step with probability ``q``, before the window too, and is
``a, a + 1, ... or b`` steps long, each alike. A step is in none with probability ``prod_j (1 - q P(length > j))``,
which gives ``q``; so the rate is the same at every step, in windows and in long series.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ornstein.core.config import near
from ornstein.core.schedules import require

__all__ = [
    "Blackout",
    "Block",
    "Forecast",
    "Historical",
    "Missingness",
    "Mixture",
    "Point",
    "Random",
    "SensorDropout",
    "ValueDependent",
    "strategy_of",
]

Observed = Bool[np.ndarray, "... steps variables"]
Values = Float[np.ndarray, "... steps variables"]


class Missingness(ABC):
    """A pattern of missing entries: a subclass gives ``draw``."""

    @abstractmethod
    def draw(self, observed: Observed, rng: np.random.Generator, values: Values | None = None) -> Observed:
        """What to remove of windows ``(..., L, K)``, each drawn by itself.

        Args:
            observed: True where there is a value.
            rng: the source of randomness.
            values: the values, for a pattern that depends on them; those not observed are not read.

        Returns:
            True where an entry is removed; nowhere else than in ``observed``.
        """


def _check_rate(rate: float) -> None:
    require(0 <= rate <= 1, "rate", rate, "a part between 0 and 1")


@dataclass(frozen=True)
class Point(Missingness):
    """Single entries, independently.

    Args:
        rate: probability of each.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def draw(self, observed: Observed, rng: np.random.Generator, values: Values | None = None) -> Observed:
        return observed & (rng.random(observed.shape) < self.rate)


def _check_runs(rate: float, shortest: int, longest: int) -> None:
    require(0 <= rate < 1, "rate", rate, "a part from 0 to below 1")
    require(1 <= shortest <= longest, "shortest", shortest, f"at least 1 step and at most longest={longest}")


def _runs(shape: tuple[int, ...], rate: float, shortest: int, longest: int, rng: np.random.Generator) -> np.ndarray:
    """True within runs along the last axis but one, at a constant rate; see the text of the module."""
    *lead, steps, columns = shape
    longer = np.clip((longest - np.arange(longest)) / (longest - shortest + 1), 0, 1)  # P(length > j)
    low, high = 0.0, 1.0
    for _ in range(60):
        start = (low + high) / 2
        low, high = (start, high) if np.prod(1 - start * longer) > 1 - rate else (low, start)
    begin = rng.random((*lead, steps + longest - 1, columns)) < high
    lengths = rng.integers(shortest, longest + 1, begin.shape)
    inside = np.zeros(shape, dtype=bool)
    for j in range(longest):
        shifted = slice(longest - 1 - j, longest - 1 - j + steps)
        inside |= begin[..., shifted, :] & (lengths[..., shifted, :] > j)
    return inside


@dataclass(frozen=True)
class Block(Missingness):
    """Runs of steps, in each variable by itself.

    Args:
        rate: expected part of the entries.
        shortest, longest: steps of a run, all lengths alike; runs may meet.
    """

    rate: float = 0.1
    shortest: int = 6
    longest: int = 24

    def __post_init__(self) -> None:
        _check_runs(self.rate, self.shortest, self.longest)

    def draw(self, observed: Observed, rng: np.random.Generator, values: Values | None = None) -> Observed:
        return observed & _runs(observed.shape, self.rate, self.shortest, self.longest, rng)


@dataclass(frozen=True)
class Blackout(Missingness):
    """Runs of steps in which all variables are missing.

    Args:
        rate: expected part of the steps.
        shortest, longest: steps of a run, all lengths alike; runs may meet.
    """

    rate: float = 0.1
    shortest: int = 6
    longest: int = 24

    def __post_init__(self) -> None:
        _check_runs(self.rate, self.shortest, self.longest)

    def draw(self, observed: Observed, rng: np.random.Generator, values: Values | None = None) -> Observed:
        return observed & _runs((*observed.shape[:-1], 1), self.rate, self.shortest, self.longest, rng)


@dataclass(frozen=True)
class SensorDropout(Missingness):
    """Whole variables of a window, each by itself; it may be all of them.

    Args:
        rate: probability of each.
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def draw(self, observed: Observed, rng: np.random.Generator, values: Values | None = None) -> Observed:
        return observed & (rng.random((*observed.shape[:-2], 1, observed.shape[-1])) < self.rate)


@dataclass(frozen=True)
class ValueDependent(Missingness):
    r"""Entries with probability ``1 / (1 + exp(-(a + slope z)))``, ``z`` the value in deviations from the mean.

    Mean and deviation are each variable's, of all that is given, and ``a`` is such that the mean probability is
    ``rate``: missing not at random, by the value itself. As ``slope`` grows it becomes a threshold, as of a sensor that
    saturates (the self-masking of not-MIWAE, Ipsen et al. 2021, 2006.12871).

    Args:
        rate: expected part of the observed entries of each variable.
        slope: how much likelier, in log-odds a deviation; below 0 it is low values that go.
    """

    rate: float = 0.1
    slope: float = 2.0

    def __post_init__(self) -> None:
        require(0 < self.rate < 1, "rate", self.rate, "a part between 0 and 1")
        require(np.isfinite(self.slope), "slope", self.slope, "a finite number")

    def draw(self, observed: Observed, rng: np.random.Generator, values: Values | None = None) -> Observed:
        """As of `Missingness`.

        Raises:
            ValueError: no ``values``.
        """
        if values is None:
            raise ValueError("ValueDependent removes by value and got none; give values= beside observed")
        chance = np.zeros(observed.shape)
        for k in range(observed.shape[-1]):
            there = observed[..., k]
            if there.any():
                chance[there, k] = self._chances(np.asarray(values[..., k][there], dtype=np.float64))
        return observed & (rng.random(observed.shape) < chance)

    def _chances(self, values: np.ndarray) -> np.ndarray:
        deviation = values.std()
        z = self.slope * (values - values.mean()) / (deviation if deviation > 0 else 1.0)
        low, high = -60.0 - np.abs(z).max(), 60.0 + np.abs(z).max()
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if _logistic(middle + z).mean() < self.rate else (low, middle)
        return _logistic(high + z)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


@dataclass(frozen=True)
class Random(Missingness):
    """Entries at a rate that is drawn evenly for each window: CSDI's random strategy (2107.03502, section 4.3).

    Of ``n`` observed entries of a window ``round(n u)`` are removed, ``u`` uniform between ``low`` and ``high``.

    Args:
        low, high: of the rate; both 1 removes all, as for a model that generates.
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        require(0 <= self.low <= self.high <= 1, "low", self.low, f"a part from 0 to high={self.high}, at most 1")

    def draw(self, observed: Observed, rng: np.random.Generator, values: Values | None = None) -> Observed:
        flat = observed.reshape(-1, observed.shape[-2] * observed.shape[-1])
        counts = np.rint(flat.sum(1) * rng.uniform(self.low, self.high, len(flat)))
        order = np.where(flat, rng.random(flat.shape), 2.0).argsort(axis=1)
        removed = np.zeros_like(flat)
        np.put_along_axis(removed, order, np.arange(flat.shape[1]) < counts[:, None], axis=1)
        return removed.reshape(observed.shape)


@dataclass(frozen=True)
class Historical(Missingness):
    """What is missing in another window of those given: CSDI's historical strategy (2107.03502, section 4.3).

    ``r = o_i and not o_j``, with ``j`` any other window, all alike. A window that comes alone takes its own pattern,
    moved in time by a random number of steps, around its end.
    """

    def draw(self, observed: Observed, rng: np.random.Generator, values: Values | None = None) -> Observed:
        steps, variables = observed.shape[-2:]
        windows = observed.reshape(-1, steps, variables)
        if len(windows) > 1:
            other = windows[(np.arange(len(windows)) + rng.integers(1, len(windows), len(windows))) % len(windows)]
        else:
            other = np.roll(windows, int(rng.integers(1, max(steps, 2))), axis=1)
        return (windows & ~other).reshape(observed.shape)


@dataclass(frozen=True)
class Forecast(Missingness):
    """The last steps of a window, counted back from the last step at which anything is observed.

    Args:
        horizon: number of steps.
    """

    horizon: int = 24

    def __post_init__(self) -> None:
        require(self.horizon >= 1, "horizon", self.horizon, "at least 1 step")

    def draw(self, observed: Observed, rng: np.random.Generator, values: Values | None = None) -> Observed:
        steps = np.arange(observed.shape[-2])
        last = np.where(observed.any(-1), steps, -1).max(-1)
        return observed & (steps > last[..., None] - self.horizon)[..., None]


@dataclass(frozen=True)
class Mixture(Missingness):
    """Of each window as one of several patterns.

    Args:
        parts: the patterns.
        weights: how often each; alike when not given.
    """

    parts: tuple[Missingness, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require(len(self.parts) > 0, "parts", self.parts, "at least one pattern")
        if self.weights is not None:
            fits = len(self.weights) == len(self.parts) and min(self.weights) >= 0 and 0 < sum(self.weights) < np.inf
            require(fits, "weights", self.weights, f"{len(self.parts)} numbers of 0 or more, not all 0")

    def draw(self, observed: Observed, rng: np.random.Generator, values: Values | None = None) -> Observed:
        weights = np.array(self.weights or [1.0] * len(self.parts))
        chosen = rng.choice(len(self.parts), size=observed.shape[:-2], p=weights / weights.sum())
        # All are drawn of all windows, since a historical one takes another window whatever is chosen for that.
        drawn = np.stack([part.draw(observed, rng, values) for part in self.parts])
        return np.take_along_axis(drawn, np.asarray(chosen)[None, ..., None, None], axis=0)[0]


STRATEGIES: dict[str, Missingness] = {
    "random": Random(),
    "historical": Historical(),
    "mix": Mixture((Random(), Historical())),
}


def strategy_of(choice: str | Missingness) -> Missingness:
    """A pattern by CSDI's name of a strategy, ``"random"``, ``"historical"`` or ``"mix"`` of both; or the pattern.

    Raises:
        ValueError: another name.
    """
    if isinstance(choice, Missingness):
        return choice
    if choice not in STRATEGIES:
        known = ", ".join(map(repr, STRATEGIES))
        raise ValueError(f"targets={choice!r}: expected {known} or a Missingness{near(str(choice), STRATEGIES)}")
    return STRATEGIES[choice]


def parts_of(pattern: Missingness) -> Sequence[Any]:
    """A pattern, or those of a mixture and its mixtures."""
    if isinstance(pattern, Mixture):
        return [found for part in pattern.parts for found in parts_of(part)]
    return [pattern]
