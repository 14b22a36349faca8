"""What a model of time series does: fill gaps, look ahead, make series up and find what does not fit."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from ornstein.core import Sampler
from ornstein.core.config import near
from ornstein.core.training.seeds import derive_seed
from ornstein.domains.timeseries.adapter import SeriesModel
from ornstein.domains.timeseries.completion import METHODS, Completion
from ornstein.domains.timeseries.facts import Scaled
from ornstein.domains.timeseries.judging import reference_of, report_of
from ornstein.domains.timeseries.missingness import Missingness, Point
from ornstein.domains.timeseries.panel import Panel

__all__ = ["SeriesTasks"]

Score = Literal["density", "deviation"]


class SeriesTasks(SeriesModel):
    """The tasks of `TimeSeriesDiffusion`.

    Data are taken in every form of `as_panel`, and results come in that form, in units of the data. What was observed
    comes back as it is. Options that all of them share:

    * ``n``: samples that results are made of.
    * ``seed``: makes sample ``i`` of series ``j`` a function of ``(seed, i, j)``; by default the model's own.
    * ``sampler``: the model's own when not given.
    * ``method``: how known values are told, one of `METHODS`; "conditional" tells them to the network.
    * ``batch_size``: windows that are evaluated at a time.
    * ``static``: a frame of the static columns, where the data do not hold them.
    * ``frequency``: put rows in where stamps are missing, and fill them too.
    """

    # What is missing.

    def impute(self, data: Any, *, n: int = 100, **options: Any) -> Any:
        """The data with the median of the samples where values were missing."""
        panel, found = self._completed(data, n, **options)
        return panel.restore([np.median(samples, axis=0) for samples in found])

    def sample(self, data: Any, n: int = 100, **options: Any) -> Any:  # type: ignore[override]  # of data, or a number
        """``n`` completions of the data: frames below one another by an index level ``sample``, arrays on a first axis.

        With a whole number in the place of data, that many windows that are made up; see `generate`.

        Args:
            data: the data.
            n: how many.
            options: of all tasks; ``horizon`` and ``future`` as in `forecast`.
        """
        if isinstance(data, int | np.integer) and not isinstance(data, bool):
            if data < 1:
                raise ValueError(f"num must be at least 1, got {data}")
            return self.generate(int(data), **options)
        panel, found = self._completed(data, n, **options)
        return panel.restore_samples(found)

    def quantile(self, data: Any, levels: Sequence[float] = (0.05, 0.5, 0.95), *, n: int = 100, **options: Any) -> Any:
        """Quantiles of the samples: columns ``(variable, level)``, arrays on a first axis.

        Args:
            data: the data.
            levels: in [0, 1].
            n, options: of all tasks; ``horizon`` and ``future`` as in `forecast`.
        """
        levels = _levels(levels, "levels")
        panel, found = self._completed(data, n, **options)
        return panel.restore_levels([np.quantile(samples, levels, axis=0) for samples in found], levels)

    def interval(self, data: Any, coverage: float | Sequence[float] = 0.9, *, n: int = 100, **options: Any) -> Any:
        """Central intervals that hold a value with probability ``coverage``: columns ``(variable, coverage, side)``.

        Args:
            data: the data.
            coverage: one or several, in (0, 1).
            n, options: of all tasks; ``horizon`` and ``future`` as in `forecast`.
        """
        wanted = _levels([coverage] if isinstance(coverage, float) else coverage, "coverage")
        labels = [(share, side) for share in wanted for side in ("lower", "upper")]
        levels = [0.5 + (share / 2 if side == "upper" else -share / 2) for share, side in labels]
        panel, found = self._completed(data, n, **options)
        rows = [np.quantile(samples, levels, axis=0) for samples in found]
        return panel.restore_levels(rows, labels, ("coverage", "side"))

    # What comes.

    def forecast(self, data: Any, horizon: int, *, future: Any = None, n: int = 100, **options: Any) -> Any:
        """The median of the rows that follow the data; `sample`, `quantile` and `interval` take ``horizon`` too.

        Args:
            data: the past, gaps included.
            horizon: rows to look ahead.
            future: the covariates of these rows, for a model that was trained with any; their stamps, if irregular.
            n, options: of all tasks.
        """
        return self.impute(data, n=n, horizon=horizon, future=future, **options)

    # What might have been.

    def generate(self, n: int, length: int | None = None, **options: Any) -> np.ndarray:
        """Series that the model makes up, ``(n, length, K)`` in units of the data.

        Where training stamps had cycles, each series starts on a day drawn from four years. For series of certain
        stamps, covariates or static values give `sample` a frame that has them and in which no value is observed.

        Args:
            n: how many.
            length: steps of each; a window by default. Longer ones are drawn in windows that overlap.
            options: of all tasks, but ``method``, ``static`` and ``frequency``.

        Raises:
            ValueError: a model that was trained with covariates or static columns.
        """
        length = self.window if length is None else length
        if n < 1 or length < 1:
            raise ValueError(f"n={n}, length={length}: expected at least 1 of each")
        first = int(options.pop("first", 0))
        if (guidance := options.pop("guidance", None)) is not None:
            raise ValueError(f"guidance={guidance!r}: a model of series has no classes to be guided to; leave it out")
        completion = self.completion(first=first, **options)
        with self.evaluating(), torch.no_grad():
            found = completion(self.blank(n, length, completion.seed, first), 1)
        return self.known().unscale(np.concatenate(found))

    # What does not fit.

    def detect_anomalies(
        self, data: Any, *, score: Score = "density", n: int = 50, folds: int = 5, block: int = 1, **options: Any
    ) -> Any:
        """How badly each value fits to all others: a score for each time step and variable, more is stranger.

        Each observed value is hidden once, in one of the ``folds``, and drawn ``n`` times from what is left. With mean
        ``m`` and deviation ``s`` of the samples,

            density:  (x - m)^2 / (2 s^2) + log s + log(2 pi) / 2,  the negative log of a Gaussian density, scaled units
            deviation:  |x - m| / s.

        Args:
            data: the data; values that are missing get NaN.
            score: which.
            n: samples of each value.
            folds: parts that are hidden in turn, at least 2; more hide less at a time, and cost more.
            block: steps of one variable that are hidden together, for anomalies that last.
            options: of all tasks.
        """
        if score not in get_args(Score):
            raise ValueError(f"score={score!r}{near(str(score), get_args(Score))}: expected 'density' or 'deviation'")
        if folds < 2 or block < 1:
            raise ValueError(f"folds={folds}, block={block}: expected at least 2 folds and blocks of at least 1 step")
        panel = self._read(data, options)
        facts, rng = self.known(), np.random.default_rng(derive_seed(self._seed(options), "folds"))
        whole = [facts.scale(one) for one in panel.series]
        part = [
            np.repeat(rng.integers(folds, size=(-(-len(one.values) // block), one.values.shape[1])), block, 0)
            for one in whole
        ]
        found = [np.full(one.values.shape, np.nan) for one in whole]
        completion = self.completion(**options)
        for fold in range(folds):
            hidden = [one.observed & (p[: len(one.values)] == fold) for one, p in zip(whole, part)]
            left = [_without(one, hide) for one, hide in zip(whole, hidden)]
            with self.evaluating(), torch.no_grad():
                drawn = completion(left, n)
            for out, one, hide, samples in zip(found, whole, hidden, drawn):
                mean, std = samples.mean(0), samples.std(0, ddof=1).clip(min=1e-6)
                z = (one.values - mean) / std
                value = np.abs(z) if score == "deviation" else 0.5 * z**2 + np.log(std) + 0.5 * np.log(2 * np.pi)
                out[hide] = value[hide]
        return panel.arrange(found)

    # How good it is.

    def judge(
        self,
        data: Any,
        removed: Missingness = Point(0.1),  # noqa: B008 (frozen)
        *,
        train: Any = None,
        period: int | None = None,
        report: str | Path | None = None,
        n: int = 100,
        **options: Any,
    ) -> dict[str, dict[str, float]]:
        """Hide entries of data, fill them, and compare with what they were; simple methods beside the model.

        Args:
            data: not those of training.
            removed: which entries to hide.
            train: what the simple methods learn from; what is left of ``data`` when not given.
            period: of the season in steps, for the seasonal one.
            report: write a page of HTML with figures there.
            n, options: of all tasks.

        Returns:
            Figures (`judge_imputation`, in units of the training data's deviations) by method, ``"model"`` first.
        """
        panel = self._read(data, options)
        seed = self._seed(options)
        learned = panel if train is None else self.known().read(train)
        reference = reference_of(self, panel, learned, removed, seed)
        if train is None:
            heldout = reference.heldout
            reference = replace(reference, train={**heldout, "observed": heldout["observed"] & ~heldout["target"]})
        return report_of(self, reference, n, period, report, **options)

    # What the tasks share.

    def _completed(
        self, data: Any, n: int, *, horizon: int | None = None, future: Any = None, **options: Any
    ) -> tuple[Panel, list[np.ndarray]]:
        """The panel to fill, and samples ``(n, T, K)`` of each of its series in units of the data."""
        panel = self._read(data, options)
        if horizon is None:
            if future is not None:
                raise ValueError("future without horizon: covariates of rows ahead are for forecasts; give horizon")
            return panel, self._draw(panel, n, **options)
        ahead = self.known().ahead(panel, horizon, future)
        past = max(self.window - horizon, self.window // 2)
        whole = [
            one.part(max(0, len(one) - past), len(one)).followed_by(new) for one, new in zip(panel.series, ahead.series)
        ]
        return ahead, [samples[:, -horizon:] for samples in self._draw_series(whole, n, **options)]

    def _read(self, data: Any, options: dict[str, Any]) -> Panel:
        """The data as a panel; the options of reading are taken out."""
        reading = {name: options.pop(name) for name in ("static", "frequency") if name in options}
        return self.known().read(data, **reading)

    def _draw(self, panel: Panel, n: int, **options: Any) -> list[np.ndarray]:
        return self._draw_series(panel.series, n, **options)

    @torch.no_grad()
    def _draw_series(self, series: Sequence[Any], n: int, **options: Any) -> list[np.ndarray]:
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"n={n!r}: expected a whole number of samples, at least 1")
        facts, completion = self.known(), self.completion(**options)
        with self.evaluating():
            return [facts.unscale(samples) for samples in completion([facts.scale(one) for one in series], int(n))]

    def completion(
        self,
        *,
        seed: int | None = None,
        sampler: Sampler | None = None,
        method: str = "conditional",
        scale: float = 4.0,
        batch_size: int | None = None,
        progress: bool = False,
        first: int = 0,
    ) -> Completion:
        if method not in METHODS:
            raise ValueError(f"method={method!r}{near(str(method), METHODS)}: expected one of {', '.join(METHODS)}")
        size = self.default_batch_size if batch_size is None else batch_size
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, got {size}")
        return Completion(
            self.denoiser, self.window, sampler or self.sampler, self.seed if seed is None else seed, size, method,
            scale, progress, first,
        )  # fmt: skip

    def _seed(self, options: dict[str, Any]) -> int:
        seed = options.get("seed")
        return self.seed if seed is None else int(seed)


def _without(one: Scaled, hidden: np.ndarray) -> Scaled:
    """A series with some values taken away."""
    return replace(one, values=np.where(hidden, 0, one.values).astype(np.float32), observed=one.observed & ~hidden)


def _levels(values: Sequence[float], name: str) -> list[float]:
    levels = [float(value) for value in values]
    if not levels or not all(0 <= level <= 1 for level in levels):
        raise ValueError(f"{name}={list(values)!r}: expected numbers between 0 and 1, at least one")
    return levels
