"""Imputation of series whose posterior is known: means, deviations and intervals beside the exact Gaussian's.

Three zero-mean Gaussian processes of variance 1 in windows of 24 steps: ``autoregression``, an AR(1) of coefficient
0.9; ``ornstein_uhlenbeck``, of correlation time 8 at irregular stamps; ``sines``, two waves of any phase with noise.
`TimeSeriesDiffusion` is fitted to 20,000 series of each in ``--steps`` steps, with its defaults but for dropout, which
so many series need not, and fills 64 others of which half of the entries were removed, drawing 400 samples. The exact
posterior of the hidden entries given the others is a Gaussian's: mean ``C_hk C_kk^-1 x_k`` and covariance ``C_hh - C_hk
C_kk^-1 C_kh``.

Figures of each process: ``mean`` is the root mean square distance of the means of samples to the exact ones over the
root mean square of the exact ones, the part that the number of samples explains taken off; ``mean_deviations`` the same
in exact deviations; ``deviation`` the mean ratio of deviations to the exact ones; ``held`` the mean probability that
the exact posterior gives to the samples' 90 % interval; ``seconds`` of fitting. It passes if means are within 5 %,
deviations within 5 % and 90 % intervals hold 87 to 93 %. ``--only`` runs one process; the others' record stays.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from common import RESULTS, parser, record, set_threads
from scipy.stats import norm

from ornstein.domains.timeseries import TimeSeriesDiffusion
from ornstein.domains.timeseries.network import SeriesTransformer

STEPS, SERIES, WINDOWS, SAMPLES = 24, 20_000, 64, 400
OPTIONS = {"checkpoint_every": 10**9, "log_every_n_steps": 100, "accelerator": "cpu"}


class Problem(NamedTuple):
    """A zero-mean Gaussian process: series to train on, test windows ``(B, L)`` at times ``(B, L)``, its covariance."""

    train: pd.DataFrame
    times: np.ndarray
    windows: np.ndarray
    covariance: Callable[[np.ndarray], np.ndarray]


def panel(windows: np.ndarray, times: np.ndarray) -> pd.DataFrame:
    """Windows as a panel of series."""
    count, length = windows.shape
    index = pd.MultiIndex.from_arrays(
        [np.repeat(np.arange(count), length), times.reshape(-1)], names=["unique_id", "ds"]
    )
    return pd.DataFrame({"x": windows.reshape(-1)}, index)


def draw(times: np.ndarray, covariance: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """One path a row of times."""
    lags = times[:, :, None] - times[:, None]
    factor = np.linalg.cholesky(covariance(lags) + 1e-9 * np.eye(times.shape[1]))
    return np.einsum("bij,bj->bi", factor, rng.normal(size=times.shape))


def autoregression(rng: np.random.Generator) -> Problem:
    """``x_t = 0.9 x_{t-1} + noise``, of variance 1."""

    def covariance(lag: np.ndarray) -> np.ndarray:
        return 0.9 ** np.abs(lag)

    times = np.broadcast_to(np.arange(float(STEPS)), (SERIES, STEPS))
    test = times[:WINDOWS]
    return Problem(panel(draw(times, covariance, rng), times), test, draw(test, covariance, rng), covariance)


def ornstein_uhlenbeck(rng: np.random.Generator) -> Problem:
    """Correlation ``exp(-lag / 8)`` at stamps that lie 0.1 or more apart, 1 on average."""

    def covariance(lag: np.ndarray) -> np.ndarray:
        return np.exp(-np.abs(lag) / 8)

    times = (0.1 + rng.exponential(0.9, (SERIES, STEPS))).cumsum(1)
    test = (0.1 + rng.exponential(0.9, (WINDOWS, STEPS))).cumsum(1)
    return Problem(panel(draw(times, covariance, rng), times), test, draw(test, covariance, rng), covariance)


def sines(rng: np.random.Generator) -> Problem:
    """Sines of periods 12 and 5 with Gaussian amplitudes and any phase, and noise of deviation 0.2."""

    def covariance(lag: np.ndarray) -> np.ndarray:
        waves = 0.72 * np.cos(2 * np.pi * lag / 12) + 0.24 * np.cos(2 * np.pi * lag / 5)
        return waves + 0.04 * (lag == 0)

    times = np.broadcast_to(np.arange(float(STEPS)), (SERIES, STEPS))
    test = times[:WINDOWS]
    return Problem(panel(draw(times, covariance, rng), times), test, draw(test, covariance, rng), covariance)


LONGER = {"sines": 15_000}  # whose means are a sum over all that is known
PROCESSES = {"autoregression": autoregression, "ornstein_uhlenbeck": ornstein_uhlenbeck, "sines": sines}


def errors(model: TimeSeriesDiffusion, problem: Problem, rng: np.random.Generator) -> dict[str, float]:
    """How far samples are from the exact posterior; see the module's text."""
    missing = rng.random(problem.windows.shape) < 0.5
    asked = panel(np.where(missing, np.nan, problem.windows), problem.times)
    drawn = model.sample(asked, SAMPLES, seed=0).to_numpy().reshape(SAMPLES, WINDOWS, STEPS)
    apart, size, ratio, held = [], [], [], []
    for window, times, hidden, samples in zip(problem.windows, problem.times, missing, np.moveaxis(drawn, 1, 0)):
        whole = problem.covariance(times[:, None] - times)
        gain = np.linalg.solve(whole[np.ix_(~hidden, ~hidden)], whole[np.ix_(~hidden, hidden)]).T
        mean = gain @ window[~hidden]
        deviation = np.sqrt(np.diag(whole[np.ix_(hidden, hidden)] - gain @ whole[np.ix_(~hidden, hidden)]))
        found = samples[:, hidden]
        spread = found.std(0, ddof=1)
        apart.append(np.square(found.mean(0) - mean) - spread**2 / SAMPLES)
        size.append(np.stack([np.square(mean), np.square(deviation)]))
        ratio.append(spread / deviation)
        lower, upper = (np.quantile(found, level, axis=0) for level in (0.05, 0.95))
        held.append(norm.cdf((upper - mean) / deviation) - norm.cdf((lower - mean) / deviation))
    square = max(0.0, float(np.concatenate(apart).mean()))
    means, variances = np.concatenate(size, axis=1).mean(1)
    return {
        "mean": (square / means) ** 0.5,
        "mean_deviations": (square / variances) ** 0.5,
        "deviation": float(np.concatenate(ratio).mean()),
        "held": float(np.concatenate(held).mean()),
    }


def main() -> int:
    """Fit and judge each process, print and record."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, help="of training (default: 3000, for the sines 15000)")
    options.add_argument("--only", choices=list(PROCESSES), help="one process")
    options.add_argument("--seed", type=int, default=0, help="of data, training and samples (default: %(default)s)")
    given = options.parse_args()
    set_threads(given.threads)
    figures: dict[str, float] = {}
    passed: dict[str, bool] = {}
    for name, make in PROCESSES.items():
        if given.only not in (None, name):
            continue
        steps = 20 if given.quick else given.steps or LONGER.get(name, 3000)
        rng = np.random.default_rng(given.seed)
        problem = make(rng)
        start = time.process_time()
        torch.manual_seed(given.seed)
        network = SeriesTransformer(1, dropout=0.0)
        model = TimeSeriesDiffusion(STEPS, network=network, max_steps=steps, batch_size=64, seed=given.seed)
        model.fit(problem.train, **OPTIONS)
        found = errors(model, problem, rng) | {"steps": steps, "seconds": time.process_time() - start}
        print(name, {key: round(value, 4) for key, value in found.items()}, file=sys.stderr, flush=True)
        figures |= {f"{name}_{key}": value for key, value in found.items()}
        passed |= {
            f"{name}_mean": bool(found["mean"] <= 0.05),
            f"{name}_deviation": bool(abs(found["deviation"] - 1) <= 0.05),
            f"{name}_held": bool(0.87 <= found["held"] <= 0.93),
        }
    if given.only and (before := RESULTS / "known_posteriors.json").exists():
        old = json.loads(before.read_text())
        figures, passed = old["figures"] | figures, old["passed"] | passed
    return record("known_posteriors", figures, passed, seeds=[given.seed], quick=given.quick, threads=given.threads)


if __name__ == "__main__":
    sys.exit(main())
