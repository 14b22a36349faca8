"""Forecasts of ETTh1, 24 hours ahead from 168, beside seasonal naive and the Gaussian conditional.

Rows 0-8639 of the seven hourly variables train, 8640-11519 validate and 11520-14399 test, scaled by mean and deviation
of the training rows. A test window is 168 known hours and 24 to forecast; windows lie 24 hours apart, so that each test
row is forecast once, the known hours of the first windows being the last of validation. Each method gives 100 samples.

Ours is `TimeSeriesDiffusion` on a panel in which each variable is a series of its own, so that one network of one
variable learns from all seven (Nie et al. 2022, arXiv 2211.14730, section 3.1); as for the other methods, only the
distributions of single entries are judged. It fits for some 300 processor seconds on one thread: the number of steps
follows from what a step costs, measured on 20 steps first. Network, batch and sampler were chosen on validation rows.
The Gaussian conditional, of all variables together, learns from every sixth training window and chooses its settings by
forecasts of validation windows, with and without a level of each window's own; the better of both counts.

Figures, in scaled units and with the suffix ``_original`` in those of the data: ``weighted_quantile_loss`` (gluonts'
nine levels, all variables together), the same of ``seasonal`` naive (period 24) and of ``gaussian``; in scaled units
``mae`` of medians, ``crps`` (and ``gaussian_crps``), ``coverage_50`` and ``coverage_90``; steps and processor seconds.
It passes if our quantile loss is, in both units, at most 0.8 of seasonal naive's and below the better Gaussian's.
"""

import argparse
import sys
import time

import numpy as np
import pandas as pd
from common import parser, record, set_threads, steps_within

from ornstein.core import (
    DenoisingObjective,
    DPMSolver,
    EDMWeighting,
    LogNormalTimes,
    PowerTime,
    SharedEncoding,
)
from ornstein.domains.timeseries import Forecast, SeriesTransformer, TimeSeriesDiffusion
from ornstein.domains.timeseries.judges import (
    GaussianConditional,
    Seasonal,
    crps,
    judge_imputation,
    weighted_quantile_loss,
)

PAST, AHEAD = 168, 24
WINDOW = PAST + AHEAD
ROWS = {"train": (0, 8640), "validation": (8640, 11_520), "test": (11_520, 14_400)}
OPTIONS = {"checkpoint_every": 10**9, "log_every_n_steps": 100, "accelerator": "cpu"}


def starts(part: str) -> range:
    """First rows of the windows whose last 24 rows lie in a part."""
    first, last = ROWS[part]
    return range(max(0, first - PAST), last - WINDOW + 1, 6 if part == "train" else AHEAD)


def windows(data: pd.DataFrame, part: str) -> np.ndarray:
    """Windows ``(B, 192, 7)``."""
    values = data.to_numpy()
    return np.stack([values[start : start + WINDOW] for start in starts(part)])


def series(parts: dict[str, pd.Series]) -> pd.DataFrame:
    """Series as a panel of one variable."""
    return pd.concat(parts, names=["unique_id", "ds"]).rename("y").to_frame()


def fit(train: pd.DataFrame, steps: int, seed: int) -> tuple[TimeSeriesDiffusion, float]:
    """A model trained for ``steps`` steps, and the processor seconds of that."""
    loss = DenoisingObjective(EDMWeighting(0.2), LogNormalTimes(-1.5, 1.4))
    model = TimeSeriesDiffusion(
        window=WINDOW,
        network=SeriesTransformer(1, calendar=4, width=64, depth=2, writer_width=32, dropout=0.2),
        objective=SharedEncoding(loss, draws=2),
        sampler=DPMSolver(5, grid=PowerTime(2.5, start=-8.0)),
        cycles=("day", "week"),
        targets=Forecast(AHEAD),
        validation=0.0,
        batch_size=48,
        max_steps=steps,
        seed=seed,
    )
    start = time.process_time()
    model.fit(train, **OPTIONS)
    return model, time.process_time() - start


def ours(data: pd.DataFrame, given: argparse.Namespace, seconds: float) -> tuple[np.ndarray, dict[str, float]]:
    """Samples ``(n, B, 24, 7)`` of scaled data, and what they cost."""
    first, last = ROWS["train"]
    train = series({name: data[name].iloc[first:last] for name in data})
    steps = steps_within(seconds, lambda n: fit(train, n, given.seed)[1])
    model, spent = fit(train, steps, given.seed)
    chosen = starts(given.part)
    past = series({f"{start} {name}": data[name].iloc[start : start + PAST] for start in chosen for name in data})
    start = time.process_time()
    drawn = model.sample(past, given.samples, horizon=AHEAD, seed=given.seed).to_numpy()
    sampled = time.process_time() - start
    samples = drawn.reshape(given.samples, len(chosen), data.shape[1], AHEAD).swapaxes(2, 3)
    size = sum(parameter.numel() for parameter in model.parameters())
    return samples, {"steps": steps, "fit_seconds": spent, "sample_seconds": sampled, "parameters": size}


def gaussians(data: pd.DataFrame, given: argparse.Namespace) -> list[np.ndarray]:
    """Samples of the Gaussian conditional with a level of each window's own, if validation wants one, and without."""
    held, asked = windows(data, "validation"), windows(data, given.part)
    hidden = np.zeros(held.shape, dtype=bool)
    hidden[:, PAST:] = True
    asked[:, PAST:] = np.nan
    fitted = [
        model.fit(windows(data, "train"), held, hidden=hidden)
        for model in (GaussianConditional(), GaussianConditional(levels=(0.0,)))
    ]
    return [model.sample(asked, given.samples, seed=given.seed)[:, :, PAST:] for model in fitted]


def main() -> int:
    """Fit and judge all, print and record."""
    options = parser(__doc__)
    options.add_argument("--csv", default="../shared/data/ett/ETTh1.csv", help="the data (default: %(default)s)")
    options.add_argument("--seconds", type=float, default=300.0, help="processor time of fitting (%(default)s)")
    options.add_argument("--samples", type=int, default=100, help="of a window (default: %(default)s)")
    options.add_argument("--part", choices=["validation", "test"], default="test", help="to judge by (%(default)s)")
    options.add_argument("--seed", type=int, default=0, help="of training and samples (default: %(default)s)")
    given = options.parse_args()
    set_threads(given.threads)
    if given.quick:
        given.seconds, given.samples = 10.0, 10
    raw = pd.read_csv(given.csv, parse_dates=["date"], index_col="date")
    train = raw.iloc[slice(*ROWS["train"])]
    mean, deviation = train.mean().to_numpy(), train.std(ddof=0).to_numpy()
    data = (raw - mean) / deviation
    truth = windows(data, given.part)[:, PAST:]

    def losses(name: str, samples: np.ndarray) -> dict[str, float]:
        return {
            name: weighted_quantile_loss(samples, truth),
            f"{name}_original": weighted_quantile_loss(samples * deviation + mean, truth * deviation + mean),
        }

    asked = windows(data, given.part)
    asked[:, PAST:] = np.nan
    naive = Seasonal(AHEAD).fit(windows(data, "train")).impute(asked)[None, :, PAST:]
    figures = losses("seasonal", naive)
    others = gaussians(data, given)
    for samples in others:
        found = losses("gaussian", samples) | {"gaussian_crps": crps(samples, truth)}
        figures |= {key: min(value, figures.get(key, np.inf)) for key, value in found.items()}
    samples, costs = ours(data, given, given.seconds)
    scores = judge_imputation(samples, truth, joint=False)
    figures |= losses("weighted_quantile_loss", samples) | costs
    figures |= {name: scores[name] for name in ("mae", "crps", "coverage_50", "coverage_90")}
    passed = {}
    for unit in ("", "_original"):
        figures[f"seasonal_ratio{unit}"] = figures[f"weighted_quantile_loss{unit}"] / figures[f"seasonal{unit}"]
        passed[f"seasonal{unit}"] = figures[f"seasonal_ratio{unit}"] <= 0.8
        passed[f"gaussian{unit}"] = figures[f"weighted_quantile_loss{unit}"] < figures[f"gaussian{unit}"]
    quick = given.quick or given.part != "test"
    return record("forecast_series", figures, passed, seeds=[given.seed], quick=quick, threads=given.threads)


if __name__ == "__main__":
    sys.exit(main())
