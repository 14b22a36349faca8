"""Judges of time series: they take arrays, and know nothing of the models that made them.

| question | judge |
| --- | --- |
| how far are points off? | `mae`, `rmse`, `mre` |
| how good are distributions of single entries? | `crps`, `csdi_crps`, `weighted_quantile_loss`, `crps_sum` |
| how good are joint samples? | `energy_score`, `variogram_score` |
| are probabilities right? | `intervals`, `pit`, `calibration_curve` |
| how do errors grow with the gap? | `scores_by_gap` |
| is there anything in it, beside simple rules? | `default_baselines`, `predict_baselines` |
| are generated windows like real ones? | `judge_generation` and what it gathers |

`judge_imputation` gathers the scores of samples, of forecasts too. Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.domains.timeseries.judges.baselines import (
        Baseline,
        KNearest,
        LastValue,
        Linear,
        Posterior,
        ProbabilisticBaseline,
        Seasonal,
        TrainingMean,
    )
    from ornstein.domains.timeseries.judges.calibration import (
        Calibration,
        Interval,
        calibration_curve,
        intervals,
        pit,
    )
    from ornstein.domains.timeseries.judges.gaps import GapScore, gap_lengths, scores_by_gap
    from ornstein.domains.timeseries.judges.gaussian import GaussianConditional
    from ornstein.domains.timeseries.judges.gaussian_process import GaussianProcess, Kernel
    from ornstein.domains.timeseries.judges.generation import (
        discriminative_score,
        linear_predictive_score,
        moment_differences,
        predictive_score,
    )
    from ornstein.domains.timeseries.judges.joint import energy_score, variogram_score
    from ornstein.domains.timeseries.judges.report import (
        default_baselines,
        judge_generation,
        judge_imputation,
        predict_baselines,
        score_rows,
        score_text,
    )
    from ornstein.domains.timeseries.judges.scores import (
        CSDI_LEVELS,
        GLUONTS_LEVELS,
        crps,
        crps_sum,
        csdi_crps,
        mae,
        mre,
        quantile_loss,
        rmse,
        weighted_quantile_loss,
    )

__all__ = [
    "CSDI_LEVELS",
    "GLUONTS_LEVELS",
    "Baseline",
    "Calibration",
    "GapScore",
    "GaussianConditional",
    "GaussianProcess",
    "Interval",
    "KNearest",
    "Kernel",
    "LastValue",
    "Linear",
    "Posterior",
    "ProbabilisticBaseline",
    "Seasonal",
    "TrainingMean",
    "calibration_curve",
    "crps",
    "crps_sum",
    "csdi_crps",
    "default_baselines",
    "discriminative_score",
    "energy_score",
    "gap_lengths",
    "intervals",
    "judge_generation",
    "judge_imputation",
    "linear_predictive_score",
    "mae",
    "moment_differences",
    "mre",
    "pit",
    "predict_baselines",
    "predictive_score",
    "quantile_loss",
    "rmse",
    "score_rows",
    "score_text",
    "scores_by_gap",
    "variogram_score",
    "weighted_quantile_loss",
]

_PLACES = {
    "baselines": (
        "Baseline",
        "KNearest",
        "LastValue",
        "Linear",
        "Posterior",
        "ProbabilisticBaseline",
        "Seasonal",
        "TrainingMean",
    ),
    "calibration": ("Calibration", "Interval", "calibration_curve", "intervals", "pit"),
    "gaps": ("GapScore", "gap_lengths", "scores_by_gap"),
    "gaussian": ("GaussianConditional",),
    "gaussian_process": ("GaussianProcess", "Kernel"),
    "generation": ("discriminative_score", "linear_predictive_score", "moment_differences", "predictive_score"),
    "joint": ("energy_score", "variogram_score"),
    "report": (
        "default_baselines",
        "judge_generation",
        "judge_imputation",
        "predict_baselines",
        "score_rows",
        "score_text",
    ),
    "scores": (
        "CSDI_LEVELS",
        "GLUONTS_LEVELS",
        "crps",
        "crps_sum",
        "csdi_crps",
        "mae",
        "mre",
        "quantile_loss",
        "rmse",
        "weighted_quantile_loss",
    ),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
