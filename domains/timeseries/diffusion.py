"""`TimeSeriesDiffusion`: series in, series with uncertainty out, with the conventions of scikit-learn."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ornstein.core import SDE, Objective, Prediction, Sampler
from ornstein.core.config import constructor_parameters
from ornstein.core.optional import need
from ornstein.core.training import EMA
from ornstein.core.training.data import DataModule
from ornstein.domains.timeseries.choosing import choose_sampler
from ornstein.domains.timeseries.data import SeriesData
from ornstein.domains.timeseries.facts import SeriesFacts
from ornstein.domains.timeseries.frames import as_panel
from ornstein.domains.timeseries.missingness import Missingness
from ornstein.domains.timeseries.panel import LABELS, Name, Panel
from ornstein.domains.timeseries.tasks import SeriesTasks

__all__ = ["TimeSeriesDiffusion"]

ENOUGH = 10  # series, or windows of a series, from which on some are kept for validation


def plain(data: Any) -> Any:
    """Array-likes as plain arrays, by scikit-learn's rules; all else as it is.

    Raises:
        TypeError, ValueError: sparse or complex arrays, no rows or columns, objects that are no numbers.
    """
    known = isinstance(data, str | Path | Panel) or type(data).__module__.split(".")[0] == "pandas"
    ragged = isinstance(data, list | tuple) and all(isinstance(part, np.ndarray) for part in data)
    if known or ragged:
        return data
    from sklearn.utils import check_array

    numeric = check_array(data, ensure_all_finite=False, ensure_2d=False, allow_nd=True)
    return np.asarray(numeric)


_base = need("sklearn.base", to="use models of time series", extra="timeseries")


class TimeSeriesDiffusion(SeriesTasks, _base.TransformerMixin, _base.BaseEstimator):  # type: ignore[name-defined]
    """Diffusion of windows of time series, conditional on what is known: imputation, forecasts, generation, anomalies.

    It is fitted to series with gaps, as they are, and fills those of others: ``fit``, ``impute`` (in pipelines
    ``transform``), ``sample``, ``quantile``, ``interval``, ``forecast``, ``generate``, ``detect_anomalies``. Forms of
    data are those of `as_panel`. States are windows scaled by mean and deviation of the training data; the network is a
    `SeriesTransformer` that predicts v on a cosine schedule.

    Args:
        window: steps of a window.
        facts: what the training data tell, for a model that is made without data; `fit` learns them when not given.
            A model that has them (as a loaded one has) keeps them and its weights when it is fitted further.
        network, process, prediction, objective, sampler: of the model, in the place of the default ones.
        variables, covariates, static, frequency, series, time: columns of the data; see `as_panel`.
        cycles: of the calendar; chosen by the stamps when not given.
        targets: what to hide in training: ``"random"``, ``"historical"``, ``"mix"`` or a `Missingness`, such as
            `Forecast` or a `Mixture`, nearest to what will be asked.
        stride: steps from one training window to the next, on average; ``window`` when not given.
        validation: part of the data that is kept for the validation loss and, where no sampler is given, for the choice
            of one (`choose_sampler`): of ten series or more some, else the end of each. Data without ten series or a
            series of ten windows keep nothing back.
        max_steps, batch_size, lr, optimizer: of training, at a rate that falls to 0; more are options of `fit`.
        ema: decay of the average of the weights that is kept; 0 keeps the last ones.
        seed: of weights, training and samples.
        run: folder of the training run, which an interrupted run continues from; a temporary one when not given.

    Raises:
        ImportError: scikit-learn is missing.
        ValueError: arguments out of range.

    Example:
        >>> import numpy as np
        >>> x = np.sin(np.arange(400) / 5)[:, None]
        >>> x[::7] = np.nan
        >>> model = TimeSeriesDiffusion(window=24, max_steps=5).fit(x)
        >>> filled = model.impute(x, n=4)
        >>> bool(np.isnan(filled).any()), bool((filled == x)[~np.isnan(x)].all())
        (False, True)
    """

    def __init__(
        self,
        window: int = 48,
        facts: SeriesFacts | None = None,
        network: nn.Module | None = None,
        process: SDE | None = None,
        prediction: Prediction = "v",
        objective: Objective | None = None,
        sampler: Sampler | None = None,
        variables: Sequence[Name] | None = None,
        covariates: Sequence[Name] | None = None,
        static: Any = (),
        frequency: str | float | None = None,
        series: Name = LABELS[0],
        time: Name = LABELS[1],
        cycles: Sequence[str] | None = None,
        targets: str | Missingness = "random",
        stride: int | None = None,
        validation: float = 0.1,
        max_steps: int = 1000,
        batch_size: int = 32,
        lr: float = 0.01,
        optimizer: str = "muon",
        ema: float = 0.99,
        seed: int = 0,
        run: str | Path | None = None,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__(window, facts, network, process, prediction, objective, sampler, seed)
        self._given = given
        self.variables, self.covariates, self.static = variables, covariates, static
        self.frequency, self.series, self.time, self.cycles = frequency, series, time, cycles
        self.targets, self.stride, self.validation = targets, stride, validation
        self.max_steps, self.batch_size, self.lr = max_steps, batch_size, lr
        self.optimizer, self.ema, self.run = optimizer, ema, run

    # The conventions of scikit-learn.

    def fit(self, data: Any, y: None = None, *, run: str | Path | None = None, **options: Any) -> Any:
        """Train on series, gaps included.

        Args:
            data: series in a form of `as_panel`, or a data module.
            y: not used; pipelines pass it.
            run: the run folder; the model's own when not given.
            options: ``overwrite``, fields of ``TrainingOptions`` and arguments of Lightning's ``Trainer``, which go
                before the model's own.

        Returns:
            The model itself; of a data module, the run.

        Raises:
            ValueError: data that cannot be understood, or too few of them.
        """
        module: Any = data if isinstance(data, DataModule) else self._module(plain(data))
        given = self._given["facts"]
        if given is None or self.facts is None:
            self.build(module.facts if given is None else given)
        told: dict[str, Any] = {"max_steps": self.max_steps, "lr": self.lr, "optimizer": self.optimizer}
        told |= {"schedule": "linear", "warmup": 0.02, "betas": (0.9, 0.98)}
        told |= {"ema": EMA(self.ema) if self.ema else None, "seed": self.seed, "sample_every": 0} | options
        folder = self.run if run is None else run
        if isinstance(data, DataModule):
            return super().fit(data, run=folder, **told)
        if folder is not None:
            super().fit(module, run=folder, **told)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                super().fit(module, run=Path(scratch) / "run", **told)
        kept = module.validation_dataset()
        if kept is not None and self._given["sampler"] is None:
            self.sampler, _ = choose_sampler(self, kept.all())
        names = self.known().names
        self.n_features_in_ = len(names)
        if all(isinstance(name, str) for name in names):
            self.feature_names_in_ = np.array(names, dtype=object)
        return self

    def _read(self, data: Any, options: dict[str, Any]) -> Panel:
        data = plain(data)
        count = len(self.known().variables) + len(self.known().covariates)
        if isinstance(data, np.ndarray) and data.ndim == 1 and count > 1:
            raise ValueError(f"X has one axis where {count} features are expected. Reshape your data to (T, {count})")
        if isinstance(data, np.ndarray) and data.ndim > 1 and data.shape[-1] != count:
            raise ValueError(
                f"X has {data.shape[-1]} features, but {type(self).__name__} is expecting {count} features as input"
            )
        return super()._read(data, options)

    def _module(self, data: Any) -> SeriesData:
        panel = as_panel(
            data,
            variables=self.variables,
            covariates=self.covariates,
            static=self.static,
            frequency=self.frequency,
            series=self.series,
            time=self.time,
        )
        many = len(panel) >= ENOUGH
        enough = many or max(map(len, panel.series)) >= ENOUGH * self.window
        return SeriesData(
            panel,
            heldout=0,
            validation=self.validation if enough else 0,
            split="series" if many else "time",
            length=self.window,
            stride=self.stride,
            targets=self.targets,
            cycles=self.cycles,
            batch_size=self.batch_size,
        )

    def transform(self, data: Any) -> Any:
        """`impute`, as a step of a pipeline."""
        return self.impute(data)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments as they were given."""
        return dict(self._given)

    def set_params(self, **params: Any) -> Any:
        """Change some arguments; the model is then as new, and knows nothing of data but what ``facts`` say.

        Raises:
            ValueError: an argument that there is not.
        """
        if unknown := [name for name in params if name not in self._given]:
            raise ValueError(
                f"unknown parameter {unknown[0]!r} of {type(self).__name__}: expected some of {', '.join(self._given)}"
            )
        if params:
            self.__init__(**{**self._given, **params})  # type: ignore[misc]
        return self

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the variables, which imputation does not change."""
        return np.array([str(name) for name in self.known().names], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return self.facts is not None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.non_deterministic = False
        return tags

    def __repr__(self) -> str:
        defaults = {name: parameter.default for name, parameter in constructor_parameters(type(self)).items()}
        changed = [f"{name}={value!r}" for name, value in self._given.items() if value is not defaults[name]]
        return f"{type(self).__name__}({', '.join(changed)})"
